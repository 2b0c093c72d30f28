//! Which files of a torrent are meant (BEP 53): `0,2,4-7`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use crate::metainfo::MAX_FILES;

/// Ranges in one selection; more are an error, as a part would be the wrong files.
pub const MAX_SELECTED_RANGES: usize = 1000;

/// A non-empty set of file numbers, kept as sorted ranges that neither meet nor touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<RangeInclusive<u32>>);

/// Why a text is not a selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Nothing is selected.
    #[error("it selects nothing")]
    Empty,
    /// A part is neither a number nor a range.
    #[error("\"{0}\" is neither a file number nor a range of them")]
    Part(String),
    /// A range runs backwards.
    #[error("the range {first}-{last} runs backwards")]
    Backwards {
        /// Its first number.
        first: u32,
        /// Its last number.
        last: u32,
    },
    /// A number past every torrent's end.
    #[error("file {index} is past the {max} files that a torrent may have")]
    TooLarge {
        /// The number.
        index: u32,
        /// The limit.
        max: usize,
    },
    /// Too many parts.
    #[error("it has over {max} parts")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

impl Selection {
    /// Whether file `index` is selected.
    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        let after = self.0.partition_point(|range| *range.start() <= index);
        after.checked_sub(1).is_some_and(|at| self.0[at].contains(&index))
    }

    /// The file numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().cloned().flatten()
    }

    /// The file, when it is only one.
    #[must_use]
    pub fn single(&self) -> Option<u32> {
        let [only] = &self.0[..] else { return None };
        (only.start() == only.end()).then(|| *only.start())
    }

    /// Sorts ranges and joins those that meet or touch.
    fn normal(mut ranges: Vec<RangeInclusive<u32>>) -> Self {
        ranges.sort_unstable_by_key(|range| *range.start());
        let mut normal: Vec<RangeInclusive<u32>> = Vec::new();
        for range in ranges {
            match normal.last_mut() {
                Some(last) if *range.start() <= last.end() + 1 => *last = *last.start()..=*last.end().max(range.end()),
                _ => normal.push(range),
            }
        }
        Self(normal)
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        if text.trim().is_empty() {
            return Err(SelectionError::Empty);
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            if ranges.len() == MAX_SELECTED_RANGES {
                return Err(SelectionError::TooMany { max: MAX_SELECTED_RANGES });
            }
            ranges.push(self::part(part.trim())?);
        }
        Ok(Self::normal(ranges))
    }
}

fn part(part: &str) -> Result<RangeInclusive<u32>, SelectionError> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten();
        number.ok_or_else(|| SelectionError::Part(part.chars().take(20).collect::<String>().escape_debug().to_string()))
    };
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(SelectionError::Backwards { first, last });
    }
    if last as usize >= MAX_FILES {
        return Err(SelectionError::TooLarge { index: last, max: MAX_FILES });
    }
    Ok(first..=last)
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn parts_join_and_sort() {
        let selection: Selection = "7, 4-5,0,6,5-6".parse().unwrap();
        assert_eq!(selection.to_string(), "0,4-7");
        assert_eq!(selection.iter().collect::<Vec<_>>(), [0, 4, 5, 6, 7]);
        assert!(selection.contains(6) && !selection.contains(3) && !selection.contains(8));
        assert_eq!((selection.single(), "3".parse::<Selection>().unwrap().single()), (None, Some(3)));
    }

    #[test]
    fn what_is_no_selection_says_why() {
        for (text, message) in [
            ("", "it selects nothing"),
            ("1,,2", "\"\" is neither a file number nor a range of them"),
            ("+1", "\"+1\" is neither a file number nor a range of them"),
            ("1-2-3", "\"1-2-3\" is neither a file number nor a range of them"),
            ("5-4", "the range 5-4 runs backwards"),
            ("0-1000000", "file 1000000 is past the 1000000 files that a torrent may have"),
            ("99999999999", "\"99999999999\" is neither a file number nor a range of them"),
        ] {
            assert_eq!(text.parse::<Selection>().unwrap_err().to_string(), message);
        }
        assert!(matches!(vec!["1"; 1001].join(",").parse::<Selection>(), Err(SelectionError::TooMany { .. })));
    }

    proptest! {
        #[test]
        fn a_selection_is_the_set_of_its_parts(parts in proptest::collection::vec((0..60u32, 0..5u32), 1..12)) {
            let text = parts.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect::<Vec<_>>().join(",");
            let want: BTreeSet<u32> = parts.iter().flat_map(|(first, more)| *first..=first + more).collect();
            let selection: Selection = text.parse().unwrap();
            prop_assert_eq!(selection.iter().collect::<BTreeSet<_>>(), want.clone());
            prop_assert!((0..80).all(|n| selection.contains(n) == want.contains(&n)));
            prop_assert_eq!(selection.to_string().parse::<Selection>().unwrap(), selection);
        }
    }
}
