//! How long to wait before a socket is opened again. One socket to a tracker is shared by all torrents, so this is a type
//! apart from [`crate::signaller`].

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The longest first pause; each failure doubles it.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause of all.
pub const MAX_PAUSE: Duration = Duration::from_secs(300);

/// Growing pauses, each by chance between half of its length and all of it, so that the clients of a tracker that comes
/// back do not come back at once.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    random: StdRng,
}

impl Backoff {
    /// No failure so far. `seed` decides the chances.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { failures: 0, random: StdRng::seed_from_u64(seed) }
    }

    /// It failed: how long to wait before the next attempt.
    pub fn failed(&mut self) -> Duration {
        let longest = (FIRST_PAUSE * 2_u32.pow(self.failures.min(16))).min(MAX_PAUSE);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(self.random.random_range(0.5..=1.0))
    }

    /// It worked, which is to say that the other side has spoken: an open socket alone may close at once.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last worked.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_anew() {
        let mut backoff = Backoff::new(1);
        let pauses: Vec<f64> = (0..40).map(|_| backoff.failed().as_secs_f64()).collect();
        for (pause, longest) in pauses.iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]) {
            assert!((longest / 2.0..=longest).contains(pause), "{pauses:?}");
        }
        assert!(pauses[9..].iter().all(|pause| (150.0..=300.0).contains(pause)), "{pauses:?}");
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST_PAUSE);
    }

    #[test]
    fn two_clients_do_not_come_back_together() {
        let pause = |seed| Backoff::new(seed).failed();
        assert_ne!(pause(1), pause(2));
        assert_eq!(pause(1), pause(1), "a seed replays");
    }
}
