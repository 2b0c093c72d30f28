//! How much of a DAG is sent: `dag-scope` and `entity-bytes` (trustless gateway specification).

use std::fmt;
use std::str::FromStr;

use swarmgate_content::ByteRange;

/// What is sent of what a path ends at, after the blocks of the way there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Its first block.
    Block,
    /// What is needed to read the file, or these bytes of it, or to list the directory. Of anything else, its block.
    Entity(Option<EntityBytes>),
    /// All that is below it.
    All,
}

/// A text is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseScopeError {
    /// Not one of three words.
    #[error("dag-scope is block, entity or all")]
    Scope,
    /// Not two numbers.
    #[error("entity-bytes is FROM:TO, two whole numbers of which the second may be *")]
    Bytes,
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        match text {
            "block" => Ok(Self::Block),
            "entity" => Ok(Self::Entity(None)),
            "all" => Ok(Self::All),
            _ => Err(ParseScopeError::Scope),
        }
    }
}

/// `entity-bytes`: from one byte to another, that one included. Negative numbers count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    from: i64,
    to: Option<i64>,
}

impl EntityBytes {
    /// These bytes; an end behind what 63 bits count is the entity's end. `None` when they begin behind it.
    #[must_use]
    pub fn of(range: ByteRange) -> Option<Self> {
        let place = |at: u64| i64::try_from(at).ok();
        Some(Self { from: place(range.start())?, to: place(range.end() - 1) })
    }

    /// The range of a file of that length; `None` when it has none of these bytes.
    #[must_use]
    pub fn within(self, len: u64) -> Option<ByteRange> {
        let place = |at: i64| match u64::try_from(at) {
            Ok(at) => Some(at),
            Err(_) => len.checked_sub(at.unsigned_abs()),
        };
        let from = place(self.from).unwrap_or(0);
        let end = match self.to {
            None => len,
            Some(to) => place(to)?.saturating_add(1).min(len),
        };
        ByteRange::new(from, end)
    }
}

impl Scope {
    /// Its word, the value of `dag-scope`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Entity(_) => "entity",
            Self::All => "all",
        }
    }
}

impl fmt::Display for EntityBytes {
    /// Prints the value of `entity-bytes`: `0:1023`, `-5:*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(to) => write!(f, "{}:{to}", self.from),
            None => write!(f, "{}:*", self.from),
        }
    }
}

impl FromStr for EntityBytes {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let (from, to) = text.split_once(':').ok_or(ParseScopeError::Bytes)?;
        let number = |text: &str| text.parse().map_err(|_| ParseScopeError::Bytes);
        Ok(Self { from: number(from)?, to: if to == "*" { None } else { Some(number(to)?) } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_entity_count_from_both_ends() {
        for (text, len, expected) in [
            ("0:*", 10, Some((0, 10))),
            ("0:0", 10, Some((0, 1))),
            ("3:5", 10, Some((3, 6))),
            ("3:500", 10, Some((3, 10))),
            ("-4:*", 10, Some((6, 10))),
            ("-40:*", 10, Some((0, 10))),
            ("-4:-2", 10, Some((6, 9))),
            ("499:-1000", 3000, Some((499, 2001))),
            ("5:4", 10, None),
            ("10:*", 10, None),
            ("0:-11", 10, None),
            ("0:*", 0, None),
            ("-9223372036854775808:9223372036854775807", 10, Some((0, 10))),
        ] {
            let range = text.parse::<EntityBytes>().unwrap().within(len);
            assert_eq!(range.map(|range| (range.start(), range.end())), expected, "{text} of {len}");
            assert_eq!(text.parse::<EntityBytes>().unwrap().to_string(), text);
        }
        let range = ByteRange::new(3, 6).unwrap();
        assert_eq!(EntityBytes::of(range), "3:5".parse().ok());
        assert_eq!(EntityBytes::of(ByteRange::new(3, u64::MAX).unwrap()), "3:*".parse().ok());
        assert_eq!(EntityBytes::of(ByteRange::new(1 << 63, u64::MAX).unwrap()), None);
        for bad in ["", "1", ":", "*:1", "1:", "a:b", "1:2:3", "1.5:2"] {
            assert_eq!(bad.parse::<EntityBytes>(), Err(ParseScopeError::Bytes), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_one_of_three_words() {
        for word in ["block", "entity", "all"] {
            assert_eq!(word.parse::<Scope>().unwrap().word(), word);
        }
        assert_eq!("Block".parse::<Scope>(), Err(ParseScopeError::Scope));
    }
}
