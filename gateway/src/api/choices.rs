//! What is chosen of an item as it is added or changed: which of its files are fetched and held while it is pinned, when it
//! is uploaded, when it has its turn, and the labels that it bears.

use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Deserializer};
use swarmgate_bittorrent::{MAX_LABEL_BYTES, MAX_LABELS, Priority, UploadPolicy, is_label};
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_content::InfoHash;
use utoipa::ToSchema;

use super::items::{bad_body, parameter};
use super::shapes::{PolicyWord, PriorityWord};
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Largest number that every program reads as it was written.
const MAX_POLICY_SECS: u64 = (1 << 53) - 1;

/// What `POST /items` takes as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddRequest {
    /// A magnet link, an infohash, or the URL of a `.torrent`.
    uri: String,
    /// True: all of it is fetched, and held in the cache. False: it is forgotten when idle. It stays, and what is read of it
    /// is cached, if this is absent.
    pin: Option<bool>,
    /// The files that are fetched and held while it is pinned, by their numbers, as `0,2,4-7`; null for all. What a magnet
    /// says (`so=`), if this is absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, required = false, example = "0,2,4-7")]
    select: Option<Option<String>>,
    /// Words to find it by: at most 16, each of 1 to 64 bytes without control characters.
    #[schema(max_items = 16)]
    labels: Option<Vec<String>>,
    /// Seconds to wait for its files to be known before this is answered, `deadlines.max_wait` at most. It is answered at once
    /// if this is absent or 0.
    wait: Option<u32>,
    /// Whether it is uploaded: true is the `upload_policy` `forever`, false is `off`.
    seed: Option<bool>,
    /// When to upload it: `off`, `while-active`, `ratio`, `forever`, or null to go by the configuration, as also if this is
    /// absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PolicyWord>, required = false)]
    upload_policy: Option<Option<String>>,
    /// With `ratio`: how much of what was downloaded.
    #[schema(minimum = 0)]
    ratio: Option<f64>,
    /// With `ratio`: for how long after the last reader at most, in seconds; 2^53 - 1 at most.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    max_secs: Option<u64>,
    /// Whether it has a place before others that nobody reads, or after them; `normal` if this is null or absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PriorityWord>, required = false)]
    priority: Option<Option<String>>,
}

/// What `PATCH /items/{id}` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// When to upload it: `off`, `while-active`, `ratio`, `forever`, or null to go by the configuration. As it was, if this is
    /// absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PolicyWord>, required = false)]
    upload_policy: Option<Option<String>>,
    /// With `ratio`: how much of what was downloaded.
    #[schema(minimum = 0)]
    ratio: Option<f64>,
    /// With `ratio`: for how long after the last reader at most, in seconds; 2^53 - 1 at most.
    #[schema(maximum = 9_007_199_254_740_991_u64)]
    max_secs: Option<u64>,
    /// Whether it has a place before others that nobody reads, or after them; null is `normal`. As it was, if this is absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<PriorityWord>, required = false)]
    priority: Option<Option<String>>,
    /// The files that are fetched and held while it is pinned, by their numbers, as `0,2,4-7`; null for all. As it was, if
    /// this is absent.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, required = false, example = "0,2,4-7")]
    select: Option<Option<String>>,
    /// Words to find it by, in place of those that it has: at most 16, each of 1 to 64 bytes without control characters; null
    /// for none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Vec<String>>, required = false, max_items = 16)]
    labels: Option<Option<Vec<String>>>,
}

/// Which files, where that is said; `Some(None)`: all.
type Choice = Option<Option<Selection>>;

/// When it is uploaded, where that is said; `Some(None)`: as the configuration says.
type Policy = Option<Option<UploadPolicy>>;

/// What is said of an item as it is added or changed.
#[derive(Default)]
pub(super) struct Wishes {
    pin: Option<bool>,
    pub(super) select: Choice,
    policy: Policy,
    priority: Option<Priority>,
    labels: Option<Vec<String>>,
    /// How long the client wants to wait for the files.
    pub(super) wait: Duration,
}

impl AddRequest {
    /// The URI, and what is wished besides.
    ///
    /// # Errors
    /// 400 for what cannot be read, and for a `seed` that is not what `upload_policy` says.
    pub(super) fn read(self) -> Result<(String, Wishes), Problem> {
        let own = policy(self.upload_policy.as_ref().map(Option::as_deref), self.ratio, self.max_secs)?;
        let seeds = self.seed.map(|seed| Some(if seed { UploadPolicy::Forever } else { UploadPolicy::Off }));
        if own.is_some() && seeds.is_some() && own != seeds {
            return Err(bad_body("seed is upload_policy forever or off in short, and they differ: send one of them"));
        }
        let wishes = Wishes {
            pin: self.pin,
            select: choice(self.select)?,
            policy: own.or(seeds),
            priority: priority(self.priority.as_ref().map(Option::as_deref))?,
            labels: self.labels.map(labels).transpose()?,
            wait: Duration::from_secs(self.wait.unwrap_or_default().into()),
        };
        Ok((self.uri, wishes))
    }
}

impl ChangeRequest {
    /// What is to be otherwise.
    ///
    /// # Errors
    /// 400 for what cannot be read.
    pub(super) fn read(self) -> Result<Wishes, Problem> {
        Ok(Wishes {
            select: choice(self.select)?,
            policy: policy(self.upload_policy.as_ref().map(Option::as_deref), self.ratio, self.max_secs)?,
            priority: priority(self.priority.as_ref().map(Option::as_deref))?,
            labels: self.labels.map(|given| labels(given.unwrap_or_default())).transpose()?,
            ..Wishes::default()
        })
    }
}

impl Wishes {
    /// What a URL says.
    ///
    /// # Errors
    /// 400 for a parameter that cannot be read.
    pub(super) fn of_query(uri: &Uri) -> Result<Self, Problem> {
        let select = parameter(uri, "select")?.map(|text| selection(&text, ProblemKind::BadQuery)).transpose()?;
        Ok(Self { pin: pin(uri)?, select: select.map(Some), ..Self::default() })
    }

    /// Whether the item stays when idle.
    pub(super) fn stay(&self) -> bool {
        self.pin.unwrap_or(true)
    }

    /// Does as they say with an item. Nothing of the rest is done when the selection is refused.
    ///
    /// # Errors
    /// 422 for a selection of none of its files, 507 when the cache is too small for what is pinned.
    pub(super) async fn grant(self, state: &GatewayState, id: &InfoHash) -> Result<(), Problem> {
        if let Some(select) = self.select {
            state.catalogue.set_selection(id, select).await?;
        }
        if let Some(policy) = self.policy {
            state.catalogue.set_upload_policy(id, policy).await;
        }
        if let Some(priority) = self.priority {
            state.catalogue.set_priority(id, priority).await;
        }
        if let Some(labels) = self.labels {
            state.catalogue.set_labels(id, labels).await;
        }
        if self.pin == Some(true) {
            state.catalogue.set_pinned(id, true).await?;
        }
        Ok(())
    }
}

/// Reads a member that is there, null included: by RFC 7396 null is not the same as nothing.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// Reads file numbers and ranges of them, as `0,2,4-7` (BEP 53).
///
/// # Errors
/// A problem of this kind, with what is wrong.
fn selection(text: &str, kind: ProblemKind) -> Result<Selection, Problem> {
    text.parse::<Selection>().map_err(|error| Problem::new(kind, format!("select: {error}; write the list as 0,2,4-7")))
}

/// Which files a body of JSON says.
///
/// # Errors
/// 400 for what cannot be read.
fn choice(select: Option<Option<String>>) -> Result<Choice, Problem> {
    let read = |text: Option<String>| text.map(|text| selection(&text, ProblemKind::BadBody)).transpose();
    select.map(read).transpose()
}

/// When to upload, as a body says it.
///
/// # Errors
/// 400 for another word, and for numbers that no policy has.
fn policy(word: Option<Option<&str>>, ratio: Option<f64>, max_secs: Option<u64>) -> Result<Policy, Problem> {
    if max_secs.is_some_and(|seconds| seconds > MAX_POLICY_SECS) {
        return Err(bad_body(format!("max_secs is at most {MAX_POLICY_SECS}")));
    }
    if ratio.is_some_and(|ratio| !ratio.is_finite() || ratio < 0.0) {
        return Err(bad_body("ratio is a number of at least 0"));
    }
    let Some(word) = word else { return Ok(None) };
    let policy = match word {
        None => None,
        Some("off") => Some(UploadPolicy::Off),
        Some("while-active") => Some(UploadPolicy::WhileActive),
        Some("forever") => Some(UploadPolicy::Forever),
        Some("ratio") => {
            let (ratio, max_secs) = (ratio.unwrap_or(1.0), max_secs.unwrap_or(u64::MAX));
            Some(UploadPolicy::Ratio { ratio, max_secs })
        }
        Some(_) => return Err(bad_body("upload_policy is off, while-active, ratio, forever or null")),
    };
    Ok(Some(policy))
}

/// A priority as a body says it; null is the usual one.
///
/// # Errors
/// 400 for another word.
fn priority(word: Option<Option<&str>>) -> Result<Option<Priority>, Problem> {
    match word {
        None => Ok(None),
        Some(None) => Ok(Some(Priority::default())),
        Some(Some(word)) => match Priority::of_word(word) {
            Some(priority) => Ok(Some(priority)),
            None => Err(bad_body("priority is high, normal, low or null")),
        },
    }
}

/// The labels of a request, each once, in its order.
///
/// # Errors
/// 400 for too many, and for one that is empty, too long, or has control characters.
fn labels(given: Vec<String>) -> Result<Vec<String>, Problem> {
    if given.len() > MAX_LABELS {
        return Err(bad_body(format!("labels has at most {MAX_LABELS}")));
    }
    if let Some(at) = given.iter().position(|label| !is_label(label)) {
        return Err(bad_body(format!(
            "labels[{at}] has between 1 and {MAX_LABEL_BYTES} bytes, and no control characters"
        )));
    }
    let mut labels: Vec<String> = Vec::new();
    for label in given {
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(labels)
}

fn pin(uri: &Uri) -> Result<Option<bool>, Problem> {
    match parameter(uri, "pin")?.as_deref() {
        None => Ok(None),
        Some("true" | "1" | "") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(_) => Err(Problem::new(ProblemKind::BadQuery, "pin is true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Body {
        #[serde(default, deserialize_with = "present")]
        select: Option<Option<String>>,
    }

    #[test]
    fn nothing_and_null_are_told_apart() {
        let read = |text: &str| serde_json::from_str::<Body>(text).map(|body| body.select);
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(read(r#"{"select": null}"#).unwrap(), Some(None));
        assert_eq!(read(r#"{"select": "1"}"#).unwrap(), Some(Some("1".to_owned())));
        assert!(read(r#"{"select": 1}"#).is_err());
    }

    #[test]
    fn a_seed_is_a_policy_in_short_and_may_not_be_another() {
        let read = |rest: &str| {
            let body: AddRequest = serde_json::from_str(&format!(r#"{{"uri": "x"{rest}}}"#)).unwrap();
            body.read().map(|(_, wishes)| wishes.policy).map_err(|problem| problem.kind())
        };
        let (forever, off) = (Ok(Some(Some(UploadPolicy::Forever))), Ok(Some(Some(UploadPolicy::Off))));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(r#", "seed": true"#), forever);
        assert_eq!(read(r#", "seed": false"#), off);
        assert_eq!(read(r#", "seed": true, "upload_policy": "forever""#), forever);
        assert_eq!(read(r#", "upload_policy": null"#), Ok(Some(None)));
        let ratio = UploadPolicy::Ratio { ratio: 2.0, max_secs: 60 };
        assert_eq!(read(r#", "upload_policy": "ratio", "ratio": 2, "max_secs": 60"#), Ok(Some(Some(ratio))));
        for differs in [
            r#", "seed": true, "upload_policy": "off""#,
            r#", "seed": true, "upload_policy": null"#,
            r#", "seed": false, "upload_policy": "ratio""#,
            r#", "upload_policy": "sometimes""#,
            r#", "upload_policy": "ratio", "ratio": -1"#,
        ] {
            assert_eq!(read(differs), Err(ProblemKind::BadBody), "{differs}");
        }
    }

    #[test]
    fn a_priority_is_one_of_three_words_and_null_is_the_usual_one() {
        let read = |word| priority(word).map_err(|problem| problem.kind());
        assert_eq!((read(None), read(Some(None))), (Ok(None), Ok(Some(Priority::Normal))));
        assert_eq!(read(Some(Some("high"))), Ok(Some(Priority::High)));
        assert_eq!(read(Some(Some("urgent"))), Err(ProblemKind::BadBody));
    }

    #[test]
    fn labels_are_few_short_and_each_there_once() {
        let given = |labels: &[&str]| super::labels(labels.iter().map(|label| (*label).to_owned()).collect());
        assert_eq!(given(&["b", "a", "b"]).unwrap(), ["b", "a"]);
        assert!(given(&[]).unwrap().is_empty());
        for refused in [&["a"; 17][..], &[""], &["a\tb"], &["x".repeat(65).as_str()]] {
            assert_eq!(given(refused).unwrap_err().kind(), ProblemKind::BadBody, "{refused:?}");
        }
    }

    #[test]
    fn a_selection_that_cannot_be_read_says_what_is_wrong() {
        assert_eq!(selection("4-7,0", ProblemKind::BadBody).unwrap().to_string(), "0,4-7");
        for text in ["", "x", "3-1", "0,,1"] {
            assert_eq!(selection(text, ProblemKind::BadQuery).unwrap_err().kind(), ProblemKind::BadQuery, "{text}");
        }
    }
}
