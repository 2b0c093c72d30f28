//! Waiting with a deadline: the one place where a story polls.

use std::time::{Duration, Instant};

/// How often a condition is looked at: short beside anything a story waits for, long beside the look itself.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Polls `look` until it returns something; panics with `what` when `within` has passed.
pub async fn until<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < within, "waited {within:?} for {what}");
        tokio::time::sleep(POLL_EVERY).await;
    }
}

/// Polls until it is so, and says whether it came about in time; for what is told of better than by a panic here.
pub async fn comes_true(within: Duration, mut look: impl AsyncFnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if look().await {
            return true;
        }
        if started.elapsed() >= within {
            return false;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_with_the_first_answer() {
        let mut looks = 0;
        let found = until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            (looks == 3).then_some("here")
        });
        assert_eq!(found.await, "here");
    }

    #[tokio::test]
    #[should_panic(expected = "for a thing that never comes")]
    async fn a_deadline_names_what_did_not_come() {
        until("a thing that never comes", Duration::from_millis(30), async || None::<()>).await;
    }
}
