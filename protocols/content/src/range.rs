//! A non-empty half-open interval of bytes.

use std::fmt;

use serde::Serialize;

/// A non-empty half-open byte interval `start..end` within one file or one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Makes `start..end`, or `None` when that is empty or inverted.
    #[must_use]
    pub const fn new(start: u64, end: u64) -> Option<Self> {
        if start < end { Some(Self { start, end }) } else { None }
    }

    /// All of something `len` bytes long, or `None` when it is empty.
    #[must_use]
    pub const fn full(len: u64) -> Option<Self> {
        Self::new(0, len)
    }

    /// The first byte's offset.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// One past the last byte's offset.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// How many bytes; never zero.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// The part that lies in `start..end` too, or `None` when they do not meet.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// The same range moved up by `by` bytes, or `None` on overflow.
    #[must_use]
    pub fn shift(&self, by: u64) -> Option<Self> {
        Self::new(self.start.checked_add(by)?, self.end.checked_add(by)?)
    }
}

impl fmt::Display for ByteRange {
    /// Prints the closed interval that HTTP uses: `0-1023`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end - 1)
    }
}
