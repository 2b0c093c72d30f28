//! What the tests of this crate share.

use std::time::Instant;

/// Some moment for a story to begin at.
#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
