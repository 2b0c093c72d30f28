//! Which files of a content: numbers and ranges with commas, as BEP 53 writes them in a magnet's `so=`.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// 1024 entries. A list that long was made by a program, which can leave it out and delete afterwards.
const MAX_ENTRIES: usize = 1024;

/// A set of file numbers, counted from 0. Reads `0,2,4-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<RangeInclusive<usize>>);

/// Why a text is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSelectionError {
    /// An entry is neither a number nor a range.
    #[error("`{0}` is neither a file number nor a range of them; write the list as 0,2,4-7")]
    Entry(String),
    /// A range runs backwards.
    #[error("the range `{0}` ends before it starts")]
    Backwards(String),
    /// Too many entries.
    #[error("has more than {MAX_ENTRIES} entries")]
    TooLong,
}

impl Selection {
    /// Whether the file of this number is among them.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        self.0.iter().any(|range| range.contains(&index))
    }

    /// The number, where it is the only one.
    #[must_use]
    pub fn single(&self) -> Option<usize> {
        let [only] = self.0.as_slice() else { return None };
        (only.start() == only.end()).then_some(*only.start())
    }

    /// The largest number named, to tell a file that is not there.
    #[must_use]
    pub fn largest(&self) -> Option<usize> {
        self.0.iter().map(|range| *range.end()).max()
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, range) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Selection {
    type Err = ParseSelectionError;

    fn from_str(text: &str) -> Result<Self, ParseSelectionError> {
        if text.split(',').count() > MAX_ENTRIES {
            return Err(ParseSelectionError::TooLong);
        }
        text.split(',').map(str::trim).map(entry).collect::<Result<_, _>>().map(Self)
    }
}

fn entry(text: &str) -> Result<RangeInclusive<usize>, ParseSelectionError> {
    let number = |digits: &str| digits.parse::<usize>().map_err(|_| ParseSelectionError::Entry(text.to_owned()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first)?..=number(last)?;
    if range.is_empty() { Err(ParseSelectionError::Backwards(text.to_owned())) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_ranges_select_their_files() {
        let selection: Selection = "0,2,4-7".parse().unwrap();
        let selected: Vec<usize> = (0..10).filter(|index| selection.contains(*index)).collect();
        assert_eq!(selected, [0, 2, 4, 5, 6, 7]);
        assert_eq!((selection.largest(), selection.single()), (Some(7), None));
        assert_eq!(selection.to_string(), "0,2,4-7");
        assert_eq!("3-3".parse::<Selection>().unwrap().single(), Some(3));
    }

    #[test]
    fn what_is_no_list_says_which_part() {
        for text in ["", "a", "1,,2", "1-", "-1", "1-2-3", "99999999999999999999"] {
            assert!(matches!(text.parse::<Selection>(), Err(ParseSelectionError::Entry(_))), "{text}");
        }
        assert_eq!("3-1".parse::<Selection>(), Err(ParseSelectionError::Backwards("3-1".to_owned())));
        assert_eq!("1,".repeat(MAX_ENTRIES).parse::<Selection>(), Err(ParseSelectionError::TooLong));
    }
}
