//! Which files of a torrent to get: by number ([`Selection`]), or by a pattern that their paths have.

use std::str::FromStr;

use swarmgate_content::ContentMeta;

use super::Selection;
use super::ls::printable;
use super::selection::ParseSelectionError;

/// 1024 letters. Matching takes as many steps as a path and a pattern have letters, multiplied.
const MAX_PATTERN_CHARS: usize = 1024;

/// Some of the files. Reads `0,2,4-7` or `*.mkv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// By number.
    Numbers(Selection),
    /// By a pattern, in which `*` stands for any letters, slashes too, and `?` for one. A path has it, or its last part.
    Pattern(String),
}

/// Why a text picks no files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePickError {
    /// It is no list, and has nothing of a pattern.
    #[error("{0}, or a pattern as '*.mkv'")]
    List(#[from] ParseSelectionError),
    /// It is too long for a pattern.
    #[error("a pattern has at most {MAX_PATTERN_CHARS} letters")]
    TooLong,
}

impl Pick {
    /// The numbers of the files that are picked, in order; padding is none.
    #[must_use]
    pub fn of(&self, meta: &ContentMeta) -> Vec<usize> {
        let files = meta.files.iter().enumerate().filter(|(_, file)| !file.padding);
        files.filter(|(index, file)| self.has(*index, &file.joined_path())).map(|(index, _)| index).collect()
    }

    /// Whether a file of this number and path is picked.
    #[must_use]
    pub fn has(&self, index: usize, path: &str) -> bool {
        match self {
            Self::Numbers(numbers) => numbers.contains(index),
            Self::Pattern(pattern) => {
                let pattern: Vec<char> = pattern.chars().collect();
                let has = |text: &str| matches(&pattern, &text.chars().collect::<Vec<_>>());
                has(path) || path.rsplit('/').next().is_some_and(has)
            }
        }
    }

    /// Why nothing is picked of a torrent, where nothing is.
    #[must_use]
    pub fn nothing(pick: Option<&Self>, meta: &ContentMeta) -> String {
        let files = meta.files.iter().filter(|file| !file.padding).count();
        let why = match pick {
            None => "the magnet selects none".to_owned(),
            Some(Self::Numbers(numbers)) => format!("none has a number of {numbers}"),
            Some(Self::Pattern(pattern)) => format!("none has the pattern {}", printable(pattern)),
        };
        format!("of the torrent's {files} files {why}; `swarmgate ls` lists them")
    }
}

impl FromStr for Pick {
    type Err = ParsePickError;

    fn from_str(text: &str) -> Result<Self, ParsePickError> {
        if !text.contains(['*', '?']) {
            return Ok(Self::Numbers(text.parse()?));
        }
        if text.chars().count() > MAX_PATTERN_CHARS {
            return Err(ParsePickError::TooLong);
        }
        Ok(Self::Pattern(text.to_owned()))
    }
}

/// Whether a text has a pattern. What the last `*` stands for grows by a letter whenever what follows it does not fit; an
/// earlier one never has to be looked at again.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut at, mut letter, mut star) = (0, 0, None);
    while letter < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, letter));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == text[letter] => {
                at += 1;
                letter += 1;
            }
            Some(_) | None => {
                let Some((place, stood_for)) = star else { return false };
                star = Some((place, stood_for + 1));
                at = place + 1;
                letter = stood_for + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meta;

    fn has(pattern: &str, text: &str) -> bool {
        matches(&pattern.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
    }

    #[test]
    fn a_pattern_is_had_by_what_it_stands_for_and_by_nothing_else() {
        for (pattern, text, expected) in [
            ("*.mkv", "film.mkv", true),
            ("*.mkv", "film.mkv.txt", false),
            ("s0?e*.mkv", "s01e02.mkv", true),
            ("s0?e*.mkv", "s0e02.mkv", false),
            ("*", "", true),
            ("?", "", false),
            ("**a*b", "xxaxxab", true),
            ("*ab*ab", "ab", false),
            ("*aab", "aaaaaab", true),
            ("f?lm", "fïlm", true),
        ] {
            assert_eq!(has(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!has(&"*a".repeat(500), &"a".repeat(499)), "and it ends");
    }

    #[test]
    fn files_are_picked_by_number_or_by_pattern() {
        let meta = meta(&[("a.mkv", 5), (".pad/1", 3), ("more/b.mkv", 7), ("more/b.srt", 1)]);
        let picked = |text: &str| text.parse::<Pick>().unwrap().of(&meta);
        assert_eq!(picked("0-2"), [0, 2]);
        assert_eq!(picked("*.mkv"), [0, 2]);
        assert_eq!(picked("more/*"), [2, 3]);
        assert_eq!(picked("b.?*"), [2, 3]);
        assert_eq!(picked("*.avi"), [0_usize; 0]);
        for (text, why) in [("*.avi", "none has the pattern *.avi"), ("1,7", "none has a number of 1,7")] {
            assert_eq!(picked(text), [0_usize; 0]);
            let pick = text.parse().unwrap();
            let said = format!("of the torrent's 3 files {why}; `swarmgate ls` lists them");
            assert_eq!(Pick::nothing(Some(&pick), &meta), said);
        }
        let error = "b".parse::<Pick>().unwrap_err().to_string();
        assert!(error.contains("0,2,4-7, or a pattern as '*.mkv'"), "{error}");
        assert_eq!("*".repeat(1025).parse::<Pick>(), Err(ParsePickError::TooLong));
    }
}
