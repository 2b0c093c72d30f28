//! Waiting for a moment that may never come.

use std::time::Instant;

/// Sleeps until `deadline`, or for ever when there is none.
pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
