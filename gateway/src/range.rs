//! Which bytes a `Range` header asks for: a pure function of the header and the file's length (RFC 9110 §14).
//!
//! The parser is ours rather than `http-range-header`'s: that one refuses a header in which one range of several
//! lies past the end, or in which ranges overlap, while RFC 9110 §14.1.2 wants the first dropped and §15.3.7.2 lets
//! the second be merged. A header that is malformed or in another unit is ignored, which §14.2 allows; the answer
//! is then the whole file.

use swarmgate_content::ByteRange;

/// Most parts of one multipart answer, after merging. Players and download managers ask for 2 to 4; a client
/// that wants more asks for a seek each.
pub const MAX_PARTS: usize = 8;

/// Most ranges that are read from one header. RFC 9110 §17.15 names many small ranges as an attack.
pub const MAX_RANGES: usize = 128;

/// Largest file, in bytes, that is sent whole to a client who asked for too many parts of it: 1 GiB. Above that the
/// surprise would cost the client more than the error does.
pub const MAX_UNASKED_BYTES: u64 = 1 << 30;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The whole file, as 200.
    Full,
    /// One part, as 206.
    Partial(ByteRange),
    /// Two to [`MAX_PARTS`] parts in ascending order, none touching another, as 206 with `multipart/byteranges`.
    Multi(Vec<ByteRange>),
    /// None of the ranges meets the file: 416.
    Unsatisfiable {
        /// The file's length in bytes.
        len: u64,
    },
    /// More than [`MAX_PARTS`] parts of a file too large to be sent whole instead: 416 with its own problem type.
    TooManyRanges {
        /// How many parts remained after merging.
        parts: usize,
        /// The file's length in bytes.
        len: u64,
    },
}

/// One range as written: RFC 9110 §14.1.1 `int-range` or `suffix-range`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-` or `first-last`; `last` is inclusive.
    From { first: u64, last: Option<u64> },
    /// `-count`: the last `count` bytes.
    Last(u64),
}

/// Chooses the bytes to send of a file `len` bytes long.
///
/// An empty file has no byte to select, and clients that add a range to every request mean all of it: always
/// [`Selection::Full`].
#[must_use]
pub fn select(header: Option<&str>, len: u64) -> Selection {
    let Some(specs) = header.and_then(parse) else { return Selection::Full };
    if len == 0 {
        return Selection::Full;
    }
    let Specs::Few(specs) = specs else {
        return whole_or_refuse(MAX_RANGES + 1, len);
    };
    let parts = coalesce(specs.iter().filter_map(|spec| spec.within(len)).collect());
    match parts.as_slice() {
        [] => Selection::Unsatisfiable { len },
        [one] => Selection::Partial(*one),
        many if many.len() > MAX_PARTS => whole_or_refuse(many.len(), len),
        _ => Selection::Multi(parts),
    }
}

const fn whole_or_refuse(parts: usize, len: u64) -> Selection {
    if len > MAX_UNASKED_BYTES { Selection::TooManyRanges { parts, len } } else { Selection::Full }
}

enum Specs {
    Few(Vec<Spec>),
    TooMany,
}

/// Reads `bytes=…`, or `None` for another unit or a malformed set.
fn parse(header: &str) -> Option<Specs> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    // Empty list elements are allowed (RFC 9110 §5.6.1.2).
    for text in set.split(',').map(|text| text.trim_matches([' ', '\t'])).filter(|text| !text.is_empty()) {
        let spec = Spec::parse(text)?;
        if specs.len() == MAX_RANGES {
            return Some(Specs::TooMany);
        }
        specs.push(spec);
    }
    (!specs.is_empty()).then_some(Specs::Few(specs))
}

impl Spec {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('-')? {
            ("", count) => number(count).map(Self::Last),
            (first, "") => number(first).map(|first| Self::From { first, last: None }),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                // "An int-range is invalid if the last-pos value is present and less than first-pos" (§14.1.1).
                (first <= last).then_some(Self::From { first, last: Some(last) })
            }
        }
    }

    /// The bytes meant of a file of `len`, or `None` when there are none.
    fn within(self, len: u64) -> Option<ByteRange> {
        match self {
            Self::From { first, last } => {
                ByteRange::new(first, last.map_or(len, |last| len.min(last.saturating_add(1))))
            }
            Self::Last(count) => ByteRange::new(len.saturating_sub(count), len),
        }
    }
}

/// Reads digits; a number too large for `u64` is as far past the end as the largest one.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// Sorts, and merges ranges that overlap or touch.
fn coalesce(mut ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    ranges.sort_unstable_by_key(|range| (range.start(), range.end()));
    let mut merged: Vec<ByteRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                *last = ByteRange::new(last.start(), last.end().max(range.end())).unwrap_or(*last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).unwrap()
    }

    fn one(start: u64, end: u64) -> Selection {
        Selection::Partial(range(start, end))
    }

    #[test]
    fn each_form_of_a_single_range_selects_what_the_rfc_says() {
        for (header, len, expected) in [
            ("bytes=0-0", 10, one(0, 1)),
            ("bytes=2-5", 10, one(2, 6)),
            ("bytes=5-", 10, one(5, 10)),
            ("bytes=-3", 10, one(7, 10)),
            ("bytes=-30", 10, one(0, 10)),
            ("bytes=0-999", 10, one(0, 10)),
            ("bytes=9-9", 10, one(9, 10)),
            ("Bytes=1-2", 10, one(1, 3)),
            ("bytes= 1-2 ", 10, one(1, 3)),
            ("bytes=0-99999999999999999999999", 10, one(0, 10)),
            ("bytes=10-", 10, Selection::Unsatisfiable { len: 10 }),
            ("bytes=10-20", 10, Selection::Unsatisfiable { len: 10 }),
            ("bytes=-0", 10, Selection::Unsatisfiable { len: 10 }),
            ("bytes=99999999999999999999999-", 10, Selection::Unsatisfiable { len: 10 }),
        ] {
            assert_eq!(select(Some(header), len), expected, "{header} of {len}");
        }
    }

    #[test]
    fn no_header_another_unit_and_nonsense_mean_the_whole_file() {
        assert_eq!(select(None, 10), Selection::Full);
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "items=0-1",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=1",
            "bytes=-",
            "bytes=--1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=0x1-2",
            "bytes=1-2,x",
            "bytes=٣-٤",
            "bytes 0-1",
        ] {
            assert_eq!(select(Some(header), 10), Selection::Full, "{header}");
        }
    }

    #[test]
    fn an_empty_file_is_always_sent_whole() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1", "bytes=5-9"] {
            assert_eq!(select(Some(header), 0), Selection::Full, "{header}");
        }
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one_and_those_past_the_end_go() {
        assert_eq!(select(Some("bytes=0-1, 2-3"), 10), one(0, 4));
        assert_eq!(select(Some("bytes=4-7,0-5"), 10), one(0, 8));
        assert_eq!(select(Some("bytes=0-0,50-60,,-1"), 10), Selection::Multi(vec![range(0, 1), range(9, 10)]));
        assert_eq!(select(Some("bytes=0-,-5"), 10), one(0, 10));
    }

    #[test]
    fn nine_parts_mean_the_whole_of_a_small_file_and_a_refusal_of_a_large_one() {
        let header = |parts: u64| {
            let parts: Vec<_> = (0..parts).map(|part| format!("{0}-{0}", part * 2)).collect();
            format!("bytes={}", parts.join(","))
        };
        assert!(matches!(select(Some(&header(8)), 100), Selection::Multi(parts) if parts.len() == 8));
        assert_eq!(select(Some(&header(9)), 100), Selection::Full);
        assert_eq!(select(Some(&header(9)), MAX_UNASKED_BYTES), Selection::Full);
        let large = MAX_UNASKED_BYTES + 1;
        assert_eq!(select(Some(&header(9)), large), Selection::TooManyRanges { parts: 9, len: large });
        assert!(matches!(select(Some(&header(5000)), large), Selection::TooManyRanges { .. }));
    }

    /// The same rules, byte by byte: which of `len` bytes does the header name?
    fn model(specs: &[Spec], len: u64) -> Vec<bool> {
        let names = |at: u64, spec: &Spec| match *spec {
            Spec::From { first, last } => at >= first && last.is_none_or(|last| at <= last),
            Spec::Last(count) => at + count >= len,
        };
        (0..len).map(|at| specs.iter().any(|spec| names(at, spec))).collect()
    }

    fn spec() -> impl Strategy<Value = Spec> {
        prop_oneof![
            (0u64..60, proptest::option::of(0u64..60))
                .prop_map(|(first, more)| Spec::From { first, last: more.map(|more| first + more) }),
            (0u64..60).prop_map(Spec::Last),
        ]
    }

    fn print(specs: &[Spec]) -> String {
        let print = |spec: &Spec| match *spec {
            Spec::From { first, last: None } => format!("{first}-"),
            Spec::From { first, last: Some(last) } => format!("{first}-{last}"),
            Spec::Last(count) => format!("-{count}"),
        };
        format!("bytes={}", specs.iter().map(print).collect::<Vec<_>>().join(", "))
    }

    proptest! {
        #[test]
        fn exactly_the_bytes_named_are_selected(specs in proptest::collection::vec(spec(), 1..12), len in 1u64..50) {
            let expected = model(&specs, len);
            let runs = expected.iter().fold((0, false), |(runs, was), now| (runs + usize::from(*now && !was), *now)).0;
            let parts = match select(Some(&print(&specs)), len) {
                Selection::Full => { prop_assert!(runs > MAX_PARTS); return Ok(()) }
                Selection::Partial(part) => vec![part],
                Selection::Multi(parts) => parts,
                Selection::Unsatisfiable { len: said } => { prop_assert_eq!(said, len); vec![] }
                Selection::TooManyRanges { .. } => { prop_assert!(false, "small files are sent whole"); vec![] }
            };
            prop_assert_eq!(parts.len(), runs);
            let selected: Vec<bool> = (0..len).map(|at| parts.iter().any(|p| p.start() <= at && at < p.end())).collect();
            prop_assert_eq!(selected, expected);
            prop_assert!(parts.windows(2).all(|pair| pair[0].end() < pair[1].start()), "ascending, apart");
        }

        #[test]
        fn no_header_makes_it_panic_or_leave_the_file(header in "(bytes=)?[-0-9, ]{0,40}", len: u64) {
            match select(Some(&header), len) {
                Selection::Partial(part) => prop_assert!(part.end() <= len),
                Selection::Multi(parts) => prop_assert!(parts.iter().all(|part| part.end() <= len)),
                Selection::Full | Selection::Unsatisfiable { .. } | Selection::TooManyRanges { .. } => {}
            }
        }
    }
}
