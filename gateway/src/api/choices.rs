//! What is chosen of an item as it is added or changed: which of its files are fetched and held while it is pinned, and the
//! labels that it bears.

use http::Uri;
use serde::{Deserialize, Deserializer};
use swarmgate_bittorrent::{MAX_LABEL_BYTES, MAX_LABELS, is_label};
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_content::InfoHash;

use super::items::{bad_body, parameter};
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Which files, where that is said; `Some(None)`: all.
pub(super) type Choice = Option<Option<Selection>>;

/// What is said of an item as it is added.
pub(super) struct Wishes {
    pin: Option<bool>,
    pub(super) select: Choice,
    labels: Option<Vec<String>>,
}

impl Wishes {
    /// What a URL says.
    ///
    /// # Errors
    /// 400 for a parameter that cannot be read.
    pub(super) fn of_query(uri: &Uri) -> Result<Self, Problem> {
        let select = parameter(uri, "select")?.map(|text| selection(&text, ProblemKind::BadQuery)).transpose()?;
        Ok(Self { pin: pin(uri)?, select: select.map(Some), labels: None })
    }

    /// What a body of JSON says.
    ///
    /// # Errors
    /// 400 for what cannot be read.
    pub(super) fn of_body(
        pin: Option<bool>,
        select: Option<Option<String>>,
        given: Option<Vec<String>>,
    ) -> Result<Self, Problem> {
        Ok(Self { pin, select: choice(select)?, labels: given.map(labels).transpose()? })
    }

    /// Whether the item stays when idle.
    pub(super) fn stay(&self) -> bool {
        self.pin.unwrap_or(true)
    }

    /// Does as they say with an item that was added just now.
    ///
    /// # Errors
    /// 422 for a selection of none of its files, 507 when the cache is too small for what is pinned.
    pub(super) async fn grant(self, state: &GatewayState, id: &InfoHash) -> Result<(), Problem> {
        if let Some(select) = self.select {
            state.catalogue.set_selection(id, select).await?;
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
pub(super) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
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
pub(super) fn choice(select: Option<Option<String>>) -> Result<Choice, Problem> {
    let read = |text: Option<String>| text.map(|text| selection(&text, ProblemKind::BadBody)).transpose();
    select.map(read).transpose()
}

/// The labels of a request, each once, in its order.
///
/// # Errors
/// 400 for too many, and for one that is empty, too long, or has control characters.
pub(super) fn labels(given: Vec<String>) -> Result<Vec<String>, Problem> {
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
