//! What of the list of requests is asked for: `GET /pins` with its parameters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use swarmgate_content::Cid;

use super::MAX_NAME_CHARS;
use crate::api::items::parameter;
use crate::error::{Problem, ProblemKind};
use crate::pinning::requests::Request;

/// Requests in one answer, at most.
const MAX_LIMIT: usize = 1000;
/// The same where nobody says how many.
const LIMIT: usize = 10;
/// CIDs that may be asked for at once.
const MAX_CIDS: usize = 10;

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It waits for its turn.
    Queued,
    /// Its DAG is being fetched.
    Pinning,
    /// All of it is here, and stays.
    Pinned,
    /// Nobody delivered it when it was asked for last, or it was let go.
    Failed,
}

impl Status {
    const ALL: [Self; 4] = [Self::Queued, Self::Pinning, Self::Pinned, Self::Failed];

    /// Its word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pinning => "pinning",
            Self::Pinned => "pinned",
            Self::Failed => "failed",
        }
    }

    fn parse(word: &str) -> Result<Self, Problem> {
        let words = || Self::ALL.map(Self::word).join(", ");
        let found = Self::ALL.into_iter().find(|status| status.word() == word);
        found.ok_or_else(|| bad(format!("status is one of {}, or several with commas between them", words())))
    }
}

/// How a name is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matching {
    any_case: bool,
    part: bool,
}

impl Matching {
    fn parse(word: &str) -> Result<Self, Problem> {
        let (any_case, part) = match word {
            "exact" => (false, false),
            "iexact" => (true, false),
            "partial" => (false, true),
            "ipartial" => (true, true),
            _ => return Err(bad("match is exact, iexact, partial or ipartial")),
        };
        Ok(Self { any_case, part })
    }

    fn matches(self, name: &str, wanted: &str) -> bool {
        if self.any_case {
            let strict = Self { any_case: false, ..self };
            return strict.matches(&name.to_lowercase(), &wanted.to_lowercase());
        }
        if self.part { name.contains(wanted) } else { name == wanted }
    }
}

/// What a client asks for.
#[derive(Debug, PartialEq)]
pub(super) struct Filter {
    cids: Option<Vec<Cid>>,
    name: Option<(Matching, String)>,
    statuses: Vec<Status>,
    before: Option<SystemTime>,
    after: Option<SystemTime>,
    meta: BTreeMap<String, String>,
    limit: usize,
}

impl Filter {
    /// Reads the query of a URL.
    ///
    /// # Errors
    /// 400 for a parameter that cannot be read.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Problem> {
        let cids = parameter(uri, "cid")?.map(|text| cids(&text)).transpose()?;
        let matching = Matching::parse(parameter(uri, "match")?.as_deref().unwrap_or("exact"))?;
        let name = parameter(uri, "name")?;
        if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME_CHARS) {
            return Err(bad(format!("name has at most {MAX_NAME_CHARS} characters")));
        }
        let statuses = match parameter(uri, "status")? {
            Some(words) => words.split(',').map(Status::parse).collect::<Result<Vec<_>, _>>()?,
            None => vec![Status::Pinned],
        };
        let meta = parameter(uri, "meta")?.map(|text| serde_json::from_str::<BTreeMap<_, _>>(&text)).transpose();
        let limit = match parameter(uri, "limit")?.map(|text| text.parse::<usize>()) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(bad(format!("limit is a number from 1 to {MAX_LIMIT}"))),
        };
        Ok(Self {
            cids,
            name: name.filter(|name| !name.is_empty()).map(|name| (matching, name)),
            statuses,
            before: moment(uri, "before")?,
            after: moment(uri, "after")?,
            meta: meta.map_err(|_| bad("meta is a JSON object whose values are text"))?.unwrap_or_default(),
            limit,
        })
    }

    /// How many of these requests are asked for, and the first of them, as many as fit into an answer.
    pub(super) fn select(
        &self,
        requests: Vec<Arc<Request>>,
        status: impl Fn(&Request) -> Status,
    ) -> (usize, Vec<Arc<Request>>) {
        let is_asked_for = |request: &Arc<Request>| self.matches(request) && self.statuses.contains(&status(request));
        let mut found: Vec<_> = requests.into_iter().filter(is_asked_for).collect();
        let count = found.len();
        found.truncate(self.limit);
        (count, found)
    }

    fn matches(&self, request: &Request) -> bool {
        let is_cid = |cids: &Vec<Cid>| cids.iter().any(|cid| is_same(cid, &request.root));
        let name = request.wish.name.as_deref();
        self.cids.as_ref().is_none_or(is_cid)
            && self.name.as_ref().is_none_or(|(how, wanted)| name.is_some_and(|name| how.matches(name, wanted)))
            && self.before.is_none_or(|before| request.created < before)
            && self.after.is_none_or(|after| request.created > after)
            && self.meta.iter().all(|(key, value)| request.wish.meta.get(key) == Some(value))
    }
}

/// Whether two CIDs, of whatever version, name one block and say the same of it.
fn is_same(one: &Cid, other: &Cid) -> bool {
    one.codec() == other.codec() && one.hash() == other.hash()
}

fn cids(text: &str) -> Result<Vec<Cid>, Problem> {
    let texts: Vec<_> = text.split(',').take(MAX_CIDS + 1).collect();
    let read = texts.iter().map(|text| text.parse::<Cid>()).collect::<Result<Vec<_>, _>>();
    let read = read.ok().filter(|cids| cids.len() <= MAX_CIDS);
    read.ok_or_else(|| bad(format!("cid is a CID, or up to {MAX_CIDS} with commas between them")))
}

fn moment(uri: &Uri, name: &str) -> Result<Option<SystemTime>, Problem> {
    let Some(text) = parameter(uri, name)? else { return Ok(None) };
    let bad = || bad(format!("{name} is a time as in RFC 3339, like 2026-01-31T12:00:00.123Z"));
    rfc3339(&text).map(Some).ok_or_else(bad)
}

/// Reads a time of RFC 3339, with `Z` or with an offset from UTC.
fn rfc3339(text: &str) -> Option<SystemTime> {
    let text = text.to_ascii_uppercase();
    if text.ends_with('Z') {
        return humantime::parse_rfc3339(&text).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (ahead, hours) = match offset.split_at_checked(1)? {
        ("+", hours) => (true, hours),
        ("-", hours) => (false, hours),
        _ => return None,
    };
    let (hours, minutes) = hours.split_once(':')?;
    let number = |text: &str, end: u64| {
        let is_plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_plain && *number < end)
    };
    let offset = Duration::from_secs(number(hours, 24)? * 3600 + number(minutes, 60)? * 60);
    if ahead { local.checked_sub(offset) } else { local.checked_add(offset) }
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadQuery, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    fn uri(query: &str) -> Uri {
        format!("/api/v1/pins?{query}").parse().unwrap()
    }

    fn filter(query: &str) -> Result<Filter, Problem> {
        Filter::parse(&uri(query))
    }

    #[test]
    fn without_a_word_ten_that_are_pinned_are_asked_for() {
        let filter = filter("").unwrap();
        assert_eq!((filter.limit, &filter.statuses[..]), (10, &[Status::Pinned][..]));
        assert!(filter.cids.is_none() && filter.name.is_none() && filter.meta.is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let eleven = [CID; 11].join(",");
        for query in [
            "cid=nocid",
            "cid=",
            &format!("cid={CID},"),
            &format!("cid={eleven}"),
            "match=like",
            "status=",
            "status=pinned,lost",
            "limit=0",
            "limit=1001",
            "limit=ten",
            "before=yesterday",
            "after=2026-01-31",
            "after=2026-01-31T12:00:00%2B1:00",
            "after=%C3%A4%C3%A4%C3%A4%C3%A4",
            "meta=app",
            "meta=%7B%22a%22:1%7D",
            "limit=1&limit=1",
            &format!("name={}", "x".repeat(256)),
        ] {
            assert_eq!(filter(query).unwrap_err().kind(), ProblemKind::BadQuery, "{query}");
        }
    }

    #[test]
    fn names_are_compared_in_four_ways() {
        let matches = |how: &str, name: &str, wanted: &str| Matching::parse(how).unwrap().matches(name, wanted);
        assert!(
            matches("exact", "Film", "Film") && !matches("exact", "Film", "film") && !matches("exact", "Film", "il")
        );
        assert!(matches("iexact", "Film", "fILM") && !matches("iexact", "Film", "il"));
        assert!(matches("partial", "Film", "il") && !matches("partial", "Film", "IL"));
        assert!(matches("ipartial", "Film", "IL") && !matches("ipartial", "Film", "x"));
    }

    #[test]
    fn times_may_have_an_offset() {
        let noon = rfc3339("2026-01-31T12:00:00Z").unwrap();
        for same in ["2026-01-31T12:00:00.000Z", "2026-01-31T13:30:00+01:30", "2026-01-31t09:00:00-03:00"] {
            assert_eq!(rfc3339(same), Some(noon), "{same}");
        }
        assert_eq!(rfc3339("2026-01-31T12:00:00.001Z"), Some(noon + Duration::from_millis(1)));
        for bad in ["2026-01-31T12:00:00", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60", "+01:00", ""] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn both_versions_of_a_cid_are_one() {
        let v1: Cid = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi".parse().unwrap();
        let v0 = Cid::new_v0(*v1.hash()).unwrap();
        assert!(is_same(&v0, &v1) && !is_same(&v1, &CID.parse().unwrap()));
    }
}
