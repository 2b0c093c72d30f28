//! How long things took, told apart to an eighth: counts by length, which cost the same whatever is counted.

use std::time::Duration;

/// Lengths that are told apart within each doubling; one that is told is at most so much of itself too long.
const STEPS: u64 = 8;
/// The longest that is told apart from longer ones, in milliseconds: seventeen minutes.
const LONGEST: u64 = (1 << 20) - 1;
/// One for each millisecond up to the first doubling, and its share of each of the doublings up to the longest.
const COUNTS: usize = 144;

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latencies {
    counts: [u64; COUNTS],
    total: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { counts: [0; COUNTS], total: 0 }
    }
}

impl Latencies {
    /// How many were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The length that this share of them, from 0 to 1, does not exceed; `None` when nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        #[expect(clippy::cast_possible_truncation, reason = "a share of a number that fits")]
        let rank = ((self.total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        place.map(|place| Duration::from_millis(longest_at(place as u64)))
    }

    pub(crate) fn count(&mut self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(LONGEST).min(LONGEST);
        self.counts[place_of(millis)] += 1;
        self.total += 1;
    }
}

fn place_of(millis: u64) -> usize {
    let doublings = millis.max(1).ilog2().saturating_sub(STEPS.ilog2());
    let place = u64::from(doublings) * STEPS + (millis >> doublings);
    usize::try_from(place).unwrap_or(COUNTS).min(COUNTS - 1)
}

/// The longest that is counted in a place.
const fn longest_at(place: u64) -> u64 {
    let doublings = (place / STEPS).saturating_sub(1);
    ((place - doublings * STEPS + 1) << doublings) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_nothing_nothing_is_told() {
        assert_eq!(Latencies::default().quantile(0.99), None);
    }

    #[test]
    fn one_of_a_hundred_is_beyond_the_ninety_nine() {
        let mut latencies = Latencies::default();
        (0..99).for_each(|_| latencies.count(Duration::from_millis(7)));
        latencies.count(Duration::from_secs(40));
        assert_eq!(latencies.quantile(0.99), Some(Duration::from_millis(7)));
        assert!(latencies.quantile(1.0) >= Some(Duration::from_secs(40)));
    }

    proptest! {
        #[test]
        fn what_is_told_is_no_shorter_and_an_eighth_longer_at_most(
            millis in proptest::collection::vec(0_u64..=LONGEST, 1..200), share in 0.0_f64..=1.0
        ) {
            let mut latencies = Latencies::default();
            millis.iter().for_each(|millis| latencies.count(Duration::from_millis(*millis)));
            let mut sorted = millis;
            sorted.sort_unstable();
            let rank = (sorted.len() as f64 * share).ceil().max(1.0);
            let exact = sorted.iter().zip(1..).find(|(_, number)| f64::from(*number) >= rank).map(|it| *it.0).unwrap();
            let told = u64::try_from(latencies.quantile(share).unwrap().as_millis()).unwrap();
            prop_assert!(told >= exact && told <= exact + exact / STEPS, "{told} instead of {exact}");
        }
    }
}
