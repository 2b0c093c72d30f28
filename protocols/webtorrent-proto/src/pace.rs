//! How often somebody may do something: so many a second, and a burst after a rest.

use std::time::{Duration, Instant};

/// A bucket of tokens, one for each message, which fills by itself. Going on when it is empty makes a debt, so that who
/// stops for a moment is forgiven and who never stops is told apart.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    /// How long one token takes to come.
    spacing: Duration,
    /// How long all of them take.
    capacity: Duration,
    /// When the bucket will be full; later than a capacity from now is debt.
    full_at: Instant,
}

/// What became of a wish for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// There was one.
    Granted,
    /// There was none.
    Refused,
    /// There was none, and the debt has grown as large as the bucket.
    Abused,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that gains `per_second` a second; both are at least 1.
    #[must_use]
    pub fn new(now: Instant, per_second: u32, burst: u32) -> Self {
        let spacing = Duration::from_secs(1) / per_second.max(1);
        Self { spacing, capacity: spacing * burst.max(1), full_at: now }
    }

    /// Asks for a token.
    pub fn take(&mut self, now: Instant) -> Taken {
        let full_at = self.full_at.max(now) + self.spacing;
        let missing = full_at - now;
        if missing > self.capacity * 2 {
            return Taken::Abused;
        }
        self.full_at = full_at;
        if missing > self.capacity { Taken::Refused } else { Taken::Granted }
    }

    /// When the next wish would be granted: a moment that is past, if it would be now.
    #[must_use]
    pub fn ready_at(&self) -> Instant {
        let lead = self.capacity.saturating_sub(self.spacing);
        self.full_at.checked_sub(lead).unwrap_or(self.full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{secs, start};
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_granted_then_one_by_one() {
        let now = start();
        let mut bucket = TokenBucket::new(now, 10, 40);
        assert!((0..40).all(|_| bucket.take(now) == Taken::Granted));
        assert_eq!(bucket.take(now), Taken::Refused);
        assert_eq!(bucket.take(now + Duration::from_millis(199)), Taken::Refused, "the first refusal is paid off too");
        assert_eq!(bucket.take(now + Duration::from_millis(300)), Taken::Granted);
        assert!((0..40).all(|_| bucket.take(now + secs(60)) == Taken::Granted));
    }

    #[test]
    fn who_never_stops_is_told_apart() {
        let now = start();
        let mut bucket = TokenBucket::new(now, 10, 40);
        let taken: Vec<_> = (0..81).map(|_| bucket.take(now)).collect();
        assert_eq!(taken[80], Taken::Abused);
        assert!(taken[..80].iter().all(|taken| *taken != Taken::Abused));
    }

    proptest! {
        /// Whatever the gaps: never more granted in a stretch of time than a burst and what the rate gives, and a wish at
        /// the moment that was named is granted.
        #[test]
        fn the_rate_holds(gaps in proptest::collection::vec(0..400u64, 1..200)) {
            let begin = start();
            let (mut now, mut granted) = (begin, 0_u32);
            let mut bucket = TokenBucket::new(now, 10, 5);
            for gap in gaps {
                now += Duration::from_millis(gap);
                let ready = bucket.ready_at() <= now;
                let taken = bucket.take(now);
                prop_assert_eq!(ready, taken == Taken::Granted);
                granted += u32::from(taken == Taken::Granted);
                prop_assert!(f64::from(granted) <= 5.0 + (now - begin).as_secs_f64() * 10.0);
            }
        }
    }
}
