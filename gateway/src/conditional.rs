//! What a request's conditions say about a representation that never changes (RFC 9110 §13).
//!
//! Everything below `/bt/{infohash}` is named by a hash of its bytes, so it has an entity tag and no modification
//! date. `If-Modified-Since` and `If-Unmodified-Since` are therefore ignored, as §13.1.3 and §13.1.4 demand where no
//! date is available, and an `If-Range` with a date never matches (§13.1.5).

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE};

/// How a request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Answer it, with its `Range`.
    Proceed,
    /// Answer it as if it had no `Range`: its `If-Range` names another representation.
    ProceedWhole,
    /// The client has it already: 304.
    NotModified,
    /// The client wants another representation only: 412.
    Failed,
}

/// An entity tag (RFC 9110 §8.8.3), borrowed from a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tag<'a> {
    weak: bool,
    /// With its quotes.
    opaque: &'a str,
}

/// Evaluates the conditions of a GET or HEAD in the order of RFC 9110 §13.2.2. `etag` is the current entity tag as it
/// is sent, with quotes and, if weak, `W/`.
#[must_use]
pub fn evaluate(headers: &HeaderMap, etag: &str) -> Condition {
    let Some((current, _)) = Tag::split(etag) else { return Condition::Proceed };
    if headers.contains_key(IF_MATCH) && !any(headers, IF_MATCH, |tag| tag.strong_eq(current)) {
        return Condition::Failed;
    }
    if any(headers, IF_NONE_MATCH, |tag| tag.weak_eq(current)) {
        return Condition::NotModified;
    }
    match headers.get(IF_RANGE).map(|value| value.to_str().ok().and_then(Tag::split)) {
        Some(Some((tag, rest))) if rest.trim().is_empty() && tag.strong_eq(current) => Condition::Proceed,
        Some(_) => Condition::ProceedWhole,
        None => Condition::Proceed,
    }
}

/// Whether some tag in the lists of all headers `name` passes `test`, or one of them is `*`.
fn any(headers: &HeaderMap, name: HeaderName, test: impl Fn(Tag<'_>) -> bool) -> bool {
    let mut values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.any(|value| value.trim() == "*" || Tag::list(value).any(&test))
}

impl<'a> Tag<'a> {
    /// Reads one tag and gives what follows it.
    fn split(text: &'a str) -> Option<(Self, &'a str)> {
        let text = text.trim_start();
        let (weak, quoted) = match text.strip_prefix("W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let close = quoted.strip_prefix('"')?.find('"')? + 2;
        let (opaque, rest) = quoted.split_at(close);
        Some((Self { weak, opaque }, rest))
    }

    /// Reads a comma-separated list; stops at the first thing that is no tag.
    fn list(mut text: &'a str) -> impl Iterator<Item = Self> {
        std::iter::from_fn(move || {
            let (tag, rest) = Self::split(text.trim_start_matches([',', ' ', '\t']))?;
            text = rest;
            Some(tag)
        })
    }

    fn strong_eq(self, other: Self) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    fn weak_eq(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: &str = "\"bt1-08ad-0\"";

    fn with(rows: &[(HeaderName, &str)]) -> Condition {
        let mut headers = HeaderMap::new();
        for (name, value) in rows {
            headers.append(name, value.parse().unwrap());
        }
        evaluate(&headers, ETAG)
    }

    #[test]
    fn if_none_match_compares_weakly_over_lists_lines_and_the_star() {
        for value in [ETAG, "W/\"bt1-08ad-0\"", "*", "\"a\", \"bt1-08ad-0\"", "\"a,b\",W/\"bt1-08ad-0\" , \"c\""] {
            assert_eq!(with(&[(IF_NONE_MATCH, value)]), Condition::NotModified, "{value}");
        }
        assert_eq!(with(&[(IF_NONE_MATCH, "\"a\""), (IF_NONE_MATCH, ETAG)]), Condition::NotModified);
        for value in ["\"a\"", "", "bt1-08ad-0", "\"bt1-08ad-0", "\"a\" junk \"bt1-08ad-0\""] {
            assert_eq!(with(&[(IF_NONE_MATCH, value)]), Condition::Proceed, "{value}");
        }
    }

    #[test]
    fn if_match_compares_strongly_and_comes_first() {
        assert_eq!(with(&[(IF_MATCH, ETAG)]), Condition::Proceed);
        assert_eq!(with(&[(IF_MATCH, "*")]), Condition::Proceed);
        assert_eq!(with(&[(IF_MATCH, "W/\"bt1-08ad-0\"")]), Condition::Failed);
        assert_eq!(with(&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, ETAG)]), Condition::Failed);
    }

    #[test]
    fn if_range_lets_the_range_stand_only_for_the_very_same_tag() {
        assert_eq!(with(&[(IF_RANGE, ETAG)]), Condition::Proceed);
        for value in ["\"a\"", "W/\"bt1-08ad-0\"", "Wed, 21 Oct 2015 07:28:00 GMT", "", "\"bt1-08ad-0\" x"] {
            assert_eq!(with(&[(IF_RANGE, value)]), Condition::ProceedWhole, "{value}");
        }
    }

    #[test]
    fn dates_say_nothing_about_what_never_changes() {
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(with(&[(http::header::IF_MODIFIED_SINCE, date)]), Condition::Proceed);
        assert_eq!(with(&[(http::header::IF_UNMODIFIED_SINCE, date)]), Condition::Proceed);
    }

    proptest! {
        #[test]
        fn no_header_panics(value in "[ -~]{0,60}") {
            for name in [IF_MATCH, IF_NONE_MATCH, IF_RANGE] {
                with(&[(name, &value)]);
            }
        }
    }
}
