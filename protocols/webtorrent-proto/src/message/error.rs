//! Why a message could not be read: what is wrong, and where. Nothing of the message itself is quoted, because it may
//! hold a session description.

use std::borrow::Cow;

use swarmgate_content::InfoHash;

use super::MAX_MESSAGE_BYTES;

/// A message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct MessageError {
    /// The torrent concerned, when that much could be read.
    pub infohash: Option<InfoHash>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The message is longer than any that is read.
    #[error("a message of {0} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLong(usize),
    /// The message is no JSON object.
    #[error("not a JSON object: line {line}, column {column}")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A field that must be there is missing or null.
    #[error("`{0}` is missing")]
    Missing(Place),
    /// A field is of the wrong kind.
    #[error("`{place}` is not {expected}")]
    Kind {
        /// Which field.
        place: Place,
        /// What it should be.
        expected: &'static str,
    },
    /// A field has a value that this protocol does not know.
    #[error("`{place}` is none of {known}")]
    Unknown {
        /// Which field.
        place: Place,
        /// What it may be.
        known: &'static str,
    },
    /// Too many or too much of something.
    #[error("`{place}` has {is} {unit}, more than {max}")]
    TooMany {
        /// Which field.
        place: Place,
        /// How much it has.
        is: usize,
        /// How much it may have.
        max: usize,
        /// Of what.
        unit: &'static str,
    },
}

/// Where in a message: a field's name, with the index of each list on the way, such as `offers[2].offer.sdp`.
pub type Place = Cow<'static, str>;

impl Problem {
    /// Whether its sender cannot be a client at all.
    #[must_use]
    pub const fn is_garbage(&self) -> bool {
        match self {
            Self::TooLong(_) | Self::NotJson { .. } => true,
            Self::Missing(_) | Self::Kind { .. } | Self::Unknown { .. } | Self::TooMany { .. } => false,
        }
    }
}

impl From<Problem> for MessageError {
    fn from(problem: Problem) -> Self {
        Self { infohash: None, problem }
    }
}

impl From<&serde_json::Error> for Problem {
    fn from(error: &serde_json::Error) -> Self {
        Self::NotJson { line: error.line(), column: error.column() }
    }
}
