//! `GET /items`: all of them, or those that are asked for, in an order and page by page.
//!
//! A cursor names the last item of a page by what the list is sorted by and by its infohash, not by a number: an item that
//! comes or goes between two pages neither repeats another nor hides one. What a list is sorted by may change meanwhile,
//! as rates do; then an item moves.

use axum::extract::State;
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::json;
use swarmgate_bittorrent::is_label;
use swarmgate_content::InfoHash;

use super::items::parameter;
use super::shapes::{Items, SortWord};
use crate::catalogue::ItemStatus;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Items in one page, at most.
const MAX_LIMIT: usize = 1000;
/// Longest text that is looked for, in bytes.
const MAX_TEXT_BYTES: usize = 256;
/// Longest cursor read, in bytes: those made here have less than a thousand.
const MAX_CURSOR_BYTES: usize = 2048;
/// Letters of a name that decide its place; of two that begin alike, the infohash does.
const NAME_LETTERS: usize = 64;
/// The states that items have.
const STATES: [&str; 5] = ["resolving", "active", "queued", "paused", "idle"];

/// What an item's place is by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum By {
    #[default]
    Infohash,
    Name,
    Size,
    Have,
    Peers,
    DownloadRate,
    UploadRate,
}

/// An item's place among others that are sorted by the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Place(u64, String, String);

/// What a client asks for.
#[derive(Debug, Default, PartialEq)]
struct ListQuery {
    states: Option<Vec<String>>,
    text: Option<String>,
    label: Option<String>,
    by: By,
    descending: bool,
    limit: Option<usize>,
    behind: Option<Place>,
}

/// Lists items: all of them, or those in some states, with some text in their names or with a label, in an order, page by
/// page.
///
/// # Errors
/// 400 for a parameter that cannot be read.
#[utoipa::path(
    get,
    path = "/api/v1/items",
    tag = "items",
    params(
        ("state" = Option<String>, Query, description = "Only those in one of these states, with commas between them: resolving, active, queued, paused, idle"),
        ("q" = Option<String>, Query, description = "Only those with this text in their names, in small or capital letters, or whose infohash begins with it; 256 bytes at most"),
        ("label" = Option<String>, Query, description = "Only those that bear this label, letter by letter; 1 to 64 bytes"),
        ("sort" = Option<SortWord>, Query, description = "The order; with a minus, the greatest first"),
        ("limit" = Option<u32>, Query, description = "How many in one answer, from 1 to 1000; all of them if this is absent"),
        ("cursor" = Option<String>, Query, description = "Where to go on: `next` of the answer before, with the same order"),
    ),
    responses(
        (status = OK, description = "The items, in a fixed order", body = Items),
        (status = BAD_REQUEST, description = "A parameter cannot be read"),
    ),
)]
pub async fn list(State(state): State<GatewayState>, uri: Uri) -> Result<Response, Problem> {
    let query = std::future::ready(ListQuery::parse(&uri)).await?;
    let (items, next) = query.select(state.catalogue.items());
    let mut document = json!({ "items": items });
    if let Some(next) = next {
        document["next"] = json!(next);
    }
    Ok(super::json(StatusCode::OK, &document))
}

impl ListQuery {
    fn parse(uri: &Uri) -> Result<Self, Problem> {
        let states = parameter(uri, "state")?.map(|words| words.split(',').map(str::to_owned).collect::<Vec<_>>());
        if let Some(word) = states.iter().flatten().find(|word| !STATES.contains(&word.as_str())) {
            return Err(bad(format!("`{word}` is no state; those are {}", STATES.join(", "))));
        }
        let text = parameter(uri, "q")?.map(|text| text.to_lowercase());
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT_BYTES) {
            return Err(bad(format!("q has at most {MAX_TEXT_BYTES} bytes")));
        }
        let label = parameter(uri, "label")?;
        if label.as_ref().is_some_and(|label| !is_label(label)) {
            return Err(bad("label has between 1 and 64 bytes, and no control characters".to_owned()));
        }
        let (by, descending) = match parameter(uri, "sort")?.as_deref() {
            None => (By::default(), false),
            Some(sort) => match sort.strip_prefix('-') {
                Some(word) => (By::parse(word)?, true),
                None => (By::parse(sort)?, false),
            },
        };
        let limit = match parameter(uri, "limit")?.map(|text| text.parse::<usize>()) {
            None => None,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => Some(limit),
            Some(_) => return Err(bad(format!("limit is a number from 1 to {MAX_LIMIT}"))),
        };
        let sort = sort_word(by, descending);
        let behind = parameter(uri, "cursor")?.map(|text| Cursor::read(&text, &sort)).transpose()?;
        Ok(Self { states, text, label, by, descending, limit, behind })
    }

    /// The items that are asked for, and where to go on, where there are more.
    fn select(&self, items: Vec<ItemStatus>) -> (Vec<ItemStatus>, Option<String>) {
        let mut found: Vec<(Place, ItemStatus)> = items
            .into_iter()
            .filter(|item| self.matches(item))
            .map(|item| (self.by.place(&item), item))
            .filter(|(place, _)| self.behind.as_ref().is_none_or(|behind| self.is_behind(place, behind)))
            .collect();
        if self.descending {
            found.sort_by(|(one, _), (other, _)| other.cmp(one));
        } else {
            found.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let mut next = None;
        if let Some(limit) = self.limit.filter(|limit| found.len() > *limit) {
            found.truncate(limit);
            next = found
                .last()
                .map(|(place, _)| Cursor { sort: sort_word(self.by, self.descending), place: place.clone() }.to_text());
        }
        (found.into_iter().map(|(_, item)| item).collect(), next)
    }

    fn matches(&self, item: &ItemStatus) -> bool {
        let in_state = self.states.as_ref().is_none_or(|states| states.iter().any(|state| state == item.state));
        let has_text = self.text.as_ref().is_none_or(|text| {
            let named = item.name.as_ref().is_some_and(|name| name.to_lowercase().contains(text.as_str()));
            named || item.infohash.to_string().starts_with(text.as_str())
        });
        let is_labelled = self.label.as_ref().is_none_or(|label| item.labels.contains(label));
        in_state && has_text && is_labelled
    }

    fn is_behind(&self, place: &Place, behind: &Place) -> bool {
        if self.descending { place < behind } else { place > behind }
    }
}

/// An order as it is asked for.
fn sort_word(by: By, descending: bool) -> String {
    format!("{}{}", if descending { "-" } else { "" }, by.word())
}

impl By {
    const ALL: [Self; 7] =
        [Self::Infohash, Self::Name, Self::Size, Self::Have, Self::Peers, Self::DownloadRate, Self::UploadRate];

    const fn word(self) -> &'static str {
        match self {
            Self::Infohash => "infohash",
            Self::Name => "name",
            Self::Size => "size",
            Self::Have => "have",
            Self::Peers => "peers",
            Self::DownloadRate => "download-rate",
            Self::UploadRate => "upload-rate",
        }
    }

    fn parse(word: &str) -> Result<Self, Problem> {
        let words = || Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|by| by.word() == word);
        found.ok_or_else(|| {
            bad(format!("items are sorted by {}, with a minus in front for the greatest first", words()))
        })
    }

    fn place(self, item: &ItemStatus) -> Place {
        let (number, text) = match self {
            Self::Infohash => (0, String::new()),
            Self::Name => {
                let name = item.name.as_deref().unwrap_or_default().to_lowercase();
                (0, name.chars().take(NAME_LETTERS).collect())
            }
            Self::Size => (item.total_len.unwrap_or_default(), String::new()),
            Self::Have => (item.have_bytes, String::new()),
            Self::Peers => (item.peers as u64, String::new()),
            Self::DownloadRate => (item.download_rate, String::new()),
            Self::UploadRate => (item.upload_rate, String::new()),
        };
        Place(number, text, item.infohash.to_string())
    }
}

/// Where a page ended.
#[derive(Debug, Serialize, Deserialize)]
struct Cursor {
    sort: String,
    place: Place,
}

impl Cursor {
    fn to_text(&self) -> String {
        // Numbers and texts always have a spelling in JSON.
        BASE64URL_NOPAD.encode(&serde_json::to_vec(self).unwrap_or_default())
    }

    fn read(text: &str, sort: &str) -> Result<Place, Problem> {
        let bytes = Some(text).filter(|text| text.len() <= MAX_CURSOR_BYTES);
        let bytes = bytes.and_then(|text| BASE64URL_NOPAD.decode(text.as_bytes()).ok());
        let cursor: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let cursor = cursor.filter(|cursor| cursor.place.2.parse::<InfoHash>().is_ok());
        let cursor = cursor.ok_or_else(|| bad("the cursor is none that an answer gave".to_owned()))?;
        if cursor.sort == sort {
            Ok(cursor.place)
        } else {
            Err(bad(format!("the cursor is of a list that is sorted by `{}`", cursor.sort)))
        }
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::item;

    fn named(byte: u8, name: &str, size: u64) -> ItemStatus {
        let known = item(InfoHash::new([byte; 20]), true, true);
        ItemStatus { name: Some(name.to_owned()), total_len: Some(size), ..known }
    }

    fn some() -> Vec<ItemStatus> {
        let names = [("Beta", 3), ("alpha", 1), ("gamma", 2), ("ALPHA two", 2), ("delta", 9)];
        (1..).zip(names).map(|(byte, (name, size))| named(byte, name, size)).collect()
    }

    fn uri(text: &str) -> Uri {
        format!("/api/v1/items?{text}").parse().unwrap()
    }

    fn query(text: &str) -> Result<ListQuery, Problem> {
        ListQuery::parse(&uri(text))
    }

    fn sorted(sort: &str) -> String {
        if sort.is_empty() { String::new() } else { format!("&sort={sort}") }
    }

    fn names(items: &[ItemStatus]) -> Vec<&str> {
        items.iter().filter_map(|item| item.name.as_deref()).collect()
    }

    #[test]
    fn an_order_is_by_what_is_named_and_by_infohash_among_equals() {
        for (sort, order) in [
            ("", ["Beta", "alpha", "gamma", "ALPHA two", "delta"]),
            ("infohash", ["Beta", "alpha", "gamma", "ALPHA two", "delta"]),
            ("name", ["alpha", "ALPHA two", "Beta", "delta", "gamma"]),
            ("-name", ["gamma", "delta", "Beta", "ALPHA two", "alpha"]),
            ("size", ["alpha", "gamma", "ALPHA two", "Beta", "delta"]),
            ("-size", ["delta", "Beta", "ALPHA two", "gamma", "alpha"]),
        ] {
            let (items, next) = query(&sorted(sort)).unwrap().select(some());
            assert_eq!((names(&items), next), (order.to_vec(), None), "{sort}");
        }
    }

    #[test]
    fn pages_are_the_whole_list_in_parts_whatever_comes_and_goes_between_them() {
        for sort in ["", "name", "-name", "-size", "peers"] {
            let (whole, _) = query(&sorted(sort)).unwrap().select(some());
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let (page, next) = query(&format!("limit=2{}{cursor}", sorted(sort))).unwrap().select(some());
                assert!(page.len() <= 2);
                seen.extend(page);
                let Some(next) = next else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen, whole, "{sort}");
        }
        let (page, next) = query("limit=2").unwrap().select(some());
        let mut rest = some();
        rest.retain(|item| !page.contains(item));
        rest.push(named(200, "late", 1));
        let (others, _) = query(&format!("limit=9&cursor={}", next.unwrap())).unwrap().select(rest);
        assert_eq!(names(&others), ["gamma", "ALPHA two", "delta", "late"], "those that are gone hide nobody");
    }

    #[test]
    fn states_texts_and_labels_narrow_a_list() {
        let mut items = some();
        items[0].state = "active";
        items[4].state = "queued";
        items[1].labels = vec!["linux iso".to_owned(), "new".to_owned()];
        items[3].labels = vec!["new".to_owned()];
        let found = |text: &str| {
            let (items, _) = query(text).unwrap().select(items.clone());
            items.iter().filter_map(|item| item.name.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("state=active,queued"), "Beta delta");
        assert_eq!(found("q=ALPHA"), "alpha ALPHA two");
        assert_eq!(found("q=0303"), "gamma");
        assert_eq!(found("q=alpha&state=queued"), "");
        assert_eq!(found("label=new"), "alpha ALPHA two");
        assert_eq!((found("label=linux+iso&q=alpha"), found("label=New")), ("alpha".to_owned(), String::new()));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let other = query("limit=1").unwrap().select(some()).1.unwrap();
        for text in [
            "state=",
            "state=lost",
            "sort=age",
            "sort=",
            "sort=-",
            "limit=0",
            "limit=1001",
            "limit=-1",
            "limit=x",
            "cursor=x",
            "label=",
            "label=a%0Ab",
            &format!("label={}", "x".repeat(65)),
            "cursor=",
            "limit=1&limit=1",
            &format!("q={}", "x".repeat(257)),
            &format!("sort=name&cursor={other}"),
        ] {
            assert_eq!(query(text).unwrap_err().kind(), ProblemKind::BadQuery, "{text}");
        }
        assert_eq!(query("anything=else").unwrap(), ListQuery::default());
    }
}
