//! What may be asked twice: one budget for retries and hedges, so that breaker, retry and hedge cannot multiply.
//!
//! First requests earn, what is asked again spends. Retries are counted in requests, hedges in bytes, and a request is
//! one or the other: what was asked again because its source failed is a retry, what was asked of a second source while
//! the first is at work is a hedge, and neither earns anything. Of what is long past little is kept, so that an hour of
//! calm does not pay for a storm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

/// What may be asked again, beside what is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetOptions {
    /// Retries per first request, from 0 to 1.
    pub retry_share: f64,
    /// Retries that need not have been earned, so that a reading which fails at its start can go on.
    pub free_retries: u32,
    /// One more retry is free whenever this time has passed: where everything fails nothing is earned, and yet it must
    /// go on.
    pub free_retry_every: Duration,
    /// Hedges that need not have been earned: the first unit of the first reading may be late too.
    pub free_hedges: u32,
    /// First requests remembered; then what was counted is halved.
    pub memory_requests: u32,
}

impl Default for BudgetOptions {
    fn default() -> Self {
        Self {
            retry_share: 0.10,
            free_retries: 8,
            free_retry_every: Duration::from_millis(500),
            free_hedges: 2,
            memory_requests: 4096,
        }
    }
}

/// The budget. Cheap to clone; the clones are one budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Mutex<Accounts>>);

#[derive(Debug)]
struct Accounts {
    options: BudgetOptions,
    /// What is remembered of first requests, retries and hedges.
    requests: f64,
    bytes: f64,
    retries: f64,
    hedged_bytes: f64,
    free_hedges: u32,
    free_retry_at: Option<Instant>,
    status: BudgetStatus,
}

/// What was asked, and what was asked again, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BudgetStatus {
    /// First requests.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Retries.
    pub retries: u64,
    /// Retries that were put off because too much had been retried.
    pub retries_refused: u64,
    /// Hedges.
    pub hedges: u64,
    /// Their bytes.
    pub hedged_bytes: u64,
    /// Hedges that were not made because too much had been hedged.
    pub hedges_refused: u64,
}

impl Budget {
    /// Makes a budget of which nothing is spent.
    #[must_use]
    pub fn new(options: BudgetOptions) -> Self {
        Self(Arc::new(Mutex::new(Accounts {
            options,
            requests: 0.0,
            bytes: 0.0,
            retries: 0.0,
            hedged_bytes: 0.0,
            free_hedges: options.free_hedges,
            free_retry_at: None,
            status: BudgetStatus::default(),
        })))
    }

    /// Notes a first request of so many bytes.
    pub fn earn(&self, bytes: u64) {
        let mut accounts = self.0.lock();
        accounts.status.requests += 1;
        accounts.status.bytes += bytes;
        accounts.requests += 1.0;
        accounts.bytes += bytes as f64;
        if accounts.requests > f64::from(accounts.options.memory_requests.max(1)) {
            accounts.requests /= 2.0;
            accounts.bytes /= 2.0;
            accounts.retries /= 2.0;
            accounts.hedged_bytes /= 2.0;
        }
    }

    /// Takes leave for a retry.
    ///
    /// # Errors
    /// When too much was retried: the time after which one is free again.
    pub fn try_retry(&self, now: Instant) -> Result<(), Instant> {
        let mut accounts = self.0.lock();
        let options = accounts.options;
        let earned = options.retry_share * accounts.requests + f64::from(options.free_retries);
        let free_at = *accounts.free_retry_at.get_or_insert(now + options.free_retry_every);
        if accounts.retries + 1.0 <= earned {
            accounts.retries += 1.0;
        } else if now < free_at {
            accounts.status.retries_refused += 1;
            return Err(free_at);
        } else {
            accounts.free_retry_at = Some(now + options.free_retry_every);
        }
        accounts.status.retries += 1;
        Ok(())
    }

    /// Takes leave for a hedge of so many bytes, when hedges may be `share` of all bytes; tells whether it is given.
    #[must_use]
    pub fn try_hedge(&self, bytes: u64, share: f64) -> bool {
        let mut accounts = self.0.lock();
        let earned = accounts.hedged_bytes + bytes as f64 <= share * accounts.bytes;
        if earned {
            accounts.hedged_bytes += bytes as f64;
        } else if accounts.free_hedges > 0 && share > 0.0 {
            accounts.free_hedges -= 1;
        } else {
            accounts.status.hedges_refused += 1;
            return false;
        }
        accounts.status.hedges += 1;
        accounts.status.hedged_bytes += bytes;
        true
    }

    /// What was asked, and what was asked again.
    #[must_use]
    pub fn status(&self) -> BudgetStatus {
        self.0.lock().status
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::start;

    #[test]
    fn where_everything_fails_two_retries_a_second_are_left() {
        let begin = start();
        let budget = Budget::new(BudgetOptions::default());
        budget.earn(1);
        let minute = (0..6000).filter(|tick| budget.try_retry(begin + Duration::from_millis(tick * 10)).is_ok());
        assert!((120..=130).contains(&minute.count()));
    }

    #[test]
    fn a_share_of_nothing_allows_no_hedge_at_all() {
        let budget = Budget::new(BudgetOptions::default());
        (0..1000).for_each(|_| budget.earn(1000));
        assert!(!budget.try_hedge(1, 0.0));
        assert!(budget.try_hedge(1, 0.01));
    }

    #[test]
    fn calm_does_not_pay_for_a_storm() {
        let now = start();
        let budget = Budget::new(BudgetOptions::default());
        (0..1_000_000).for_each(|_| budget.earn(1));
        let retries = (0..100_000).filter(|_| budget.try_retry(now).is_ok()).count();
        assert!(retries <= 420, "{retries} at once after a million requests");
    }

    proptest! {
        #[test]
        fn no_more_is_asked_again_than_its_share(
            asked in proptest::collection::vec((0_u8..3, 1_u64..1000), 1..2000), share in 0.0_f64..0.05
        ) {
            let now = start();
            let options = BudgetOptions::default();
            let budget = Budget::new(options);
            for (what, bytes) in asked {
                match what {
                    0 => budget.earn(bytes),
                    1 => {
                        let _leave = budget.try_retry(now);
                    }
                    _ => {
                        let _leave = budget.try_hedge(bytes, share);
                    }
                }
                let status = budget.status();
                prop_assert!(status.retries as f64 <= 0.1 * status.requests as f64 + f64::from(options.free_retries));
                // Two hedges are free.
                prop_assert!(status.hedged_bytes as f64 <= share * status.bytes as f64 + 2.0 * 1000.0);
            }
        }
    }
}
