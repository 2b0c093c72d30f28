//! What is known of each source: how it has served, whether it rests, whom to ask first. Rules over time that is given.
//!
//! A source that fails three times in a row, or once sends bytes that are not the block's, rests for a while that grows
//! with every time and is never quite the same, and is tried with one request before it is trusted again. That a source
//! has not a block is no failure, and neither is silence: nobody can tell a slow source from a block that nobody has.

mod history;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use swarmgate_content::FailureClass;

pub use history::SourceStats;
use history::Standing;

/// Failures in a row after which a source rests.
const FAILURES_TO_REST: u32 = 3;
/// The first rest after failures.
const FAILURE_REST: Duration = Duration::from_secs(1);
/// The longest rest after failures.
const MAX_FAILURE_REST: Duration = Duration::from_secs(60);
/// The first rest after bytes that were not the block's.
const CORRUPTION_REST: Duration = Duration::from_secs(30);
/// The longest rest after bytes that were not the block's.
const MAX_CORRUPTION_REST: Duration = Duration::from_secs(600);
/// Corruption that lies so far back is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(1800);
/// How long the one request may take that tries a source after its rest, before another one is let through.
const PROBE: Duration = Duration::from_secs(5);
/// When to look again at a source that is being tried.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What a source is thought to take before it has delivered anything.
const UNKNOWN_LATENCY: Duration = Duration::from_millis(150);
/// A source is late after its mean time and so many mean deviations, within these bounds.
const LATE_DEVIATIONS: u32 = 4;
const LATE: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(2);

/// What is known of all sources, by their place in the list.
#[derive(Debug)]
pub(crate) struct Standings {
    sources: Vec<Standing>,
    /// Makes rests uneven, so that not all come back at once.
    rng: StdRng,
}

impl Standings {
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        Self { sources: (0..count).map(|_| Standing::default()).collect(), rng: StdRng::seed_from_u64(seed) }
    }

    /// All sources, the one to ask first at the head: those that are at work before those that rest, then by the time
    /// they take, then in the order of the list. Times of one power of two count as the same.
    pub(crate) fn order(&self, now: Instant) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|index| {
            let source = &self.sources[*index];
            let rests = source.rest_until.is_some_and(|until| now < until);
            let millis = source.mean.unwrap_or(UNKNOWN_LATENCY).as_millis().max(1);
            (rests, millis.ilog2(), *index)
        });
        order
    }

    /// Whether a source may be asked now; else when to look again.
    pub(crate) fn admit(&mut self, index: usize, now: Instant) -> Result<(), Instant> {
        let source = &mut self.sources[index];
        let Some(until) = source.rest_until else { return Ok(()) };
        if now < until {
            return Err(until);
        }
        match source.probed_at {
            Some(probed) if now < probed + PROBE => Err(now + LOOK_AGAIN),
            Some(_) | None => {
                source.probed_at = Some(now);
                Ok(())
            }
        }
    }

    /// How long to wait for a source before another one is asked too.
    pub(crate) fn late_after(&self, index: usize) -> Duration {
        let source = &self.sources[index];
        let usual = source.mean.map_or(UNKNOWN_LATENCY * 2, |mean| mean + source.deviation * LATE_DEVIATIONS);
        usual.clamp(*LATE.start(), *LATE.end())
    }

    pub(crate) fn asked(&mut self, index: usize, now: Instant) {
        let source = &mut self.sources[index];
        source.stats.requests += 1;
        source.running += 1;
        source.busy_since.get_or_insert(now);
    }

    pub(crate) fn delivered(&mut self, index: usize, now: Instant, took: Duration, bytes: u64) {
        let source = &mut self.sources[index];
        source.ended(now);
        source.stats.delivered += 1;
        source.stats.bytes += bytes;
        source.busy_bytes += bytes;
        source.learn(took);
        source.failures_in_row = 0;
        source.rests = 0;
        source.rest_until = None;
        source.probed_at = None;
    }

    pub(crate) fn failed(&mut self, index: usize, now: Instant, class: FailureClass) {
        let source = &mut self.sources[index];
        source.ended(now);
        match class {
            FailureClass::Neutral | FailureClass::Local => {
                source.stats.absent += u64::from(class == FailureClass::Neutral);
                // It answered, so it is at work again.
                if source.probed_at.take().is_some() {
                    source.rest_until = None;
                }
            }
            FailureClass::Source => {
                source.stats.failures += 1;
                source.failures_in_row += 1;
                let probing = source.probed_at.take().is_some();
                if source.failures_in_row >= FAILURES_TO_REST || probing {
                    let rest = grown(FAILURE_REST, source.rests, MAX_FAILURE_REST);
                    source.rests += 1;
                    self.rest(index, now, rest);
                }
            }
            FailureClass::Corruption => {
                source.stats.failures += 1;
                source.stats.corrupt += 1;
                if source.corrupt_at.is_some_and(|before| now >= before + FORGIVEN_AFTER) {
                    source.corrupt_rests = 0;
                }
                source.corrupt_at = Some(now);
                source.probed_at = None;
                let rest = grown(CORRUPTION_REST, source.corrupt_rests, MAX_CORRUPTION_REST);
                source.corrupt_rests += 1;
                self.rest(index, now, rest);
            }
        }
    }

    /// A request was withdrawn: somebody else was faster, or nobody wants it any more.
    pub(crate) fn withdrawn(&mut self, index: usize, now: Instant, took: Duration) {
        let source = &mut self.sources[index];
        source.ended(now);
        source.stats.withdrawn += 1;
        // It would have taken at least so long; how much longer says more about the block than about the source.
        let took = took.min(*LATE.end());
        if source.mean.is_none_or(|mean| took > mean) {
            source.learn(took);
        }
    }

    pub(crate) fn stats(&self, now: Instant) -> Vec<SourceStats> {
        self.sources.iter().map(|source| source.stats_at(now)).collect()
    }

    fn rest(&mut self, index: usize, now: Instant, rest: Duration) {
        let uneven = rest.mul_f64(self.rng.random_range(0.75..1.25));
        let source = &mut self.sources[index];
        let until = now + uneven;
        source.rest_until = Some(source.rest_until.map_or(until, |before| before.max(until)));
    }
}

fn grown(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(standings: &mut Standings, index: usize, now: Instant, class: FailureClass) {
        standings.asked(index, now);
        standings.failed(index, now, class);
    }

    #[test]
    fn the_faster_is_asked_first_and_strangers_by_their_place() {
        let now = Instant::now();
        let mut standings = Standings::new(3, 1);
        assert_eq!(standings.order(now), [0, 1, 2]);
        for (index, millis) in [(0, 900), (2, 20)] {
            standings.asked(index, now);
            standings.delivered(index, now, Duration::from_millis(millis), 1);
        }
        assert_eq!(standings.order(now), [2, 1, 0]);
    }

    #[test]
    fn three_failures_in_a_row_bring_a_rest_that_grows_and_one_request_ends_it() {
        let mut now = Instant::now();
        let mut standings = Standings::new(2, 1);
        fail(&mut standings, 0, now, FailureClass::Source);
        fail(&mut standings, 0, now, FailureClass::Source);
        assert_eq!(standings.admit(0, now), Ok(()));
        fail(&mut standings, 0, now, FailureClass::Source);
        let first = standings.admit(0, now).unwrap_err() - now;
        assert!((FAILURE_REST * 3 / 4..=FAILURE_REST * 5 / 4).contains(&first), "{first:?}");
        assert_eq!(standings.order(now), [1, 0]);

        now += first;
        assert_eq!(standings.admit(0, now), Ok(()), "one request tries it");
        assert!(standings.admit(0, now).is_err(), "and no second one");
        fail(&mut standings, 0, now, FailureClass::Source);
        let second = standings.admit(0, now).unwrap_err() - now;
        assert!(second > first, "{second:?} after {first:?}");

        now += second;
        assert_eq!(standings.admit(0, now), Ok(()));
        standings.asked(0, now);
        standings.delivered(0, now, Duration::from_millis(10), 1);
        assert_eq!((standings.admit(0, now), standings.admit(0, now)), (Ok(()), Ok(())));
    }

    #[test]
    fn one_corrupt_block_brings_a_long_rest_at_once() {
        let now = Instant::now();
        let mut standings = Standings::new(1, 7);
        fail(&mut standings, 0, now, FailureClass::Corruption);
        let rest = standings.admit(0, now).unwrap_err() - now;
        assert!(rest >= CORRUPTION_REST * 3 / 4, "{rest:?}");
        assert_eq!(standings.stats(now)[0].corrupt, 1);
    }

    #[test]
    fn a_missing_block_and_silence_are_nobodys_fault() {
        let now = Instant::now();
        let mut standings = Standings::new(1, 7);
        for _ in 0..100 {
            fail(&mut standings, 0, now, FailureClass::Neutral);
            standings.asked(0, now);
            standings.withdrawn(0, now, Duration::from_secs(1));
        }
        assert_eq!(standings.admit(0, now), Ok(()));
        let stats = standings.stats(now)[0];
        assert_eq!((stats.requests, stats.absent, stats.failures, stats.withdrawn), (200, 100, 0, 100));
    }

    #[test]
    fn goodput_counts_the_time_in_which_anything_was_asked() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut standings = Standings::new(1, 7);
        standings.asked(0, at(0));
        standings.asked(0, at(0));
        standings.delivered(0, at(500), Duration::from_millis(500), 1000);
        standings.delivered(0, at(1000), Duration::from_millis(1000), 1000);
        assert_eq!(standings.stats(at(60_000))[0].goodput, 2000, "a minute of idleness does not count");
    }
}
