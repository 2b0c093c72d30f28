//! The `Accept` header, the most wanted media range first (RFC 9110 §12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

use crate::routes::ipfs::ask::Format;

/// Most media ranges that are read; browsers send about ten.
const MAX_MEDIA_RANGES: usize = 64;

/// One element of the header.
#[derive(Debug)]
pub(super) struct MediaRange {
    /// Type and subtype, in lower case.
    pub(super) essence: String,
    /// Its parameters but `q`, names in lower case.
    pub(super) parameters: Vec<(String, String)>,
    /// How much it is wanted, in thousandths.
    pub(super) quality: u16,
}

impl MediaRange {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut parameters, mut quality) = (Vec::new(), 1000);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"'));
            if name == "q" {
                quality = thousandths(value);
            } else {
                parameters.push((name, value.to_owned()));
            }
        }
        Self { essence, parameters, quality }
    }

    /// What is accepted, the most wanted first, else in the order of the header.
    pub(super) fn all(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges: Vec<_> =
            values.flat_map(|value| value.split(',')).take(MAX_MEDIA_RANGES).map(Self::parse).collect();
        ranges.retain(|range| range.quality > 0);
        ranges.sort_by_key(|range| std::cmp::Reverse(range.quality));
        ranges
    }

    /// Whether it is `*/*`.
    pub(super) fn is_any(&self) -> bool {
        self.essence == "*/*"
    }

    /// The format that it names, if any of ours.
    pub(super) fn format(&self) -> Option<Format> {
        Format::by_media_type(&self.essence)
    }

    /// The value of one of its parameters.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }
}

fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<3}");
    let read = |digits: &str| digits.parse::<u16>().unwrap_or(0);
    (read(whole).min(1) * 1000 + read(fraction.get(..3).unwrap_or_default())).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_come_by_how_much_they_are_wanted_then_in_their_order() {
        let value = "a/a;q=0.5, b/b;x=\"1\", c/c;q=0, D/d;q=0.501;y=2, e/e";
        let headers = [(ACCEPT, value.parse().unwrap())].into_iter().collect();
        let ranges = MediaRange::all(&headers);
        let order: Vec<_> = ranges.iter().map(|range| (range.essence.as_str(), range.quality)).collect();
        assert_eq!(order, [("b/b", 1000), ("e/e", 1000), ("d/d", 501), ("a/a", 500)]);
        assert_eq!((ranges[0].parameter("x"), ranges[2].parameter("y")), (Some("1"), Some("2")));
    }
}
