//! What a source has shown: how fast it delivers verified bytes, how late beyond that, and how often later than thought.
//!
//! Goodput counts time in which the source had something to deliver, from one delivery to the next. Latency is what a
//! unit took beyond the queue before it, so that a source which is kept busy is not thought slow to answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::source::Prior;

/// What a source is thought to be before anything was seen of any.
const NOBODY_KNOWS: Prior = Prior { goodput: 2e6, latency: Duration::from_millis(100) };
/// Latencies remembered.
const MAX_SAMPLES: usize = 64;
/// Shortest span that is a sample of goodput.
const MIN_SPAN: Duration = Duration::from_millis(60);
/// After this many seconds a sample of goodput weighs a third of what it weighed.
const MEMORY: f64 = 3.0;
/// What comes so much later than usual is not late yet.
const MIN_SLACK: Duration = Duration::from_millis(50);
/// A late unit counts for about so many.
const LATE_MEMORY: f64 = 16.0;

/// The bytes at `rate` take so long; never more than an hour.
pub(crate) fn span(bytes: u64, rate: f64) -> Duration {
    Duration::from_secs_f64((bytes as f64 / rate.max(1.0)).min(3600.0))
}

/// Which latency to reckon with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Likely {
    /// Half of all units come sooner.
    Half,
    /// Nineteen of twenty come sooner.
    Nearly,
}

/// What one source has shown.
#[derive(Debug)]
pub(crate) struct Estimate {
    prior: Prior,
    rate: Option<f64>,
    sample_bytes: u64,
    sample_span: Duration,
    /// Samples from one delivery to the next, which know the rate better than one from asking to delivery.
    gaps: u32,
    last_delivery: Option<Instant>,
    latencies: VecDeque<Duration>,
    half: Duration,
    nearly: Duration,
    /// From asking the idle source to its delivery, and of how many bytes.
    idle: Option<(Duration, u64)>,
    late_share: f64,
}

impl Estimate {
    pub(crate) fn new(prior: Option<Prior>) -> Self {
        let mut estimate = Self {
            prior: NOBODY_KNOWS,
            rate: None,
            sample_bytes: 0,
            sample_span: Duration::ZERO,
            gaps: 0,
            last_delivery: None,
            latencies: VecDeque::new(),
            half: Duration::ZERO,
            nearly: Duration::ZERO,
            idle: None,
            late_share: 0.0,
        };
        estimate.assume(prior.unwrap_or(NOBODY_KNOWS));
        if let Some(prior) = prior {
            estimate.rate = Some(prior.goodput.max(1.0));
        }
        estimate
    }

    /// What to believe until the source has shown something.
    pub(crate) fn assume(&mut self, prior: Prior) {
        self.prior = prior;
        if self.latencies.is_empty() {
            self.half = prior.latency;
            self.nearly = prior.latency * 3 + MIN_SLACK;
        }
    }

    /// What it says of those that have shown nothing; `None` while it has shown nothing itself.
    pub(crate) fn as_prior(&self) -> Option<Prior> {
        let latency = self.half.max(NOBODY_KNOWS.latency / 2);
        self.rate.map(|goodput| Prior { goodput, latency })
    }

    /// Whether it delivered anything, now or in an earlier reading.
    pub(crate) const fn is_known(&self) -> bool {
        self.rate.is_some()
    }

    /// Verified bytes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.rate.unwrap_or(self.prior.goodput).max(1.0)
    }

    pub(crate) const fn latency(&self, likely: Likely) -> Duration {
        match likely {
            Likely::Half => self.half,
            Likely::Nearly => self.nearly,
        }
    }

    /// How long until `len` more bytes would be there, behind `queue` bytes.
    pub(crate) fn completion(&self, queue: u64, len: u64, likely: Likely) -> Duration {
        span(queue.saturating_add(len), self.rate()) + self.latency(likely)
    }

    /// How often of late it was later than nineteen of twenty should be, from 0 to 1.
    pub(crate) const fn late_share(&self) -> f64 {
        self.late_share
    }

    /// The bytes that keep it busy, when its queue shall be `target` long.
    pub(crate) fn depth(&self, target: Duration) -> f64 {
        // The transfer of the first unit is in it too: while the rate is not known, nobody can tell it from the latency,
        // and to think the path too short would keep it from ever being filled.
        let path = self.idle.map_or(self.prior.latency, |(took, _)| took);
        self.rate() * (path + target).as_secs_f64()
    }

    /// Notes that a unit was delivered that was asked for at `asked`, behind `queue` bytes, and late after `late_at`.
    pub(crate) fn on_delivered(&mut self, now: Instant, len: u64, asked: Instant, queue: u64, late_at: Instant) {
        let took = now.saturating_duration_since(asked);
        self.sample(now, len, asked, took);
        let late = if now > late_at { 1.0 } else { 0.0 };
        self.late_share += (late - self.late_share) / LATE_MEMORY;
        let latency = took.saturating_sub(span(queue.saturating_add(len), self.rate()));
        if queue == 0 {
            self.idle = Some(self.idle.map_or((took, len), |(mean, _)| (mean * 7 / 8 + took / 8, len)));
        }
        if self.latencies.len() == MAX_SAMPLES {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        self.half = sorted[sorted.len() / 2];
        let nearly = sorted[(sorted.len() * 19 / 20).min(sorted.len() - 1)];
        // A few samples do not know what is rare.
        let few = if sorted.len() < 8 { self.half / 2 } else { Duration::ZERO };
        self.nearly = nearly.max(self.half + MIN_SLACK) + few;
    }

    /// Notes that a unit was late, though it has not come yet, or never will.
    pub(crate) fn on_late(&mut self) {
        self.late_share += (1.0 - self.late_share) / LATE_MEMORY;
    }

    fn sample(&mut self, now: Instant, len: u64, asked: Instant, took: Duration) {
        let busy_since = self.last_delivery.replace(now).filter(|before| *before >= asked);
        let busy = match busy_since {
            Some(before) => now.saturating_duration_since(before),
            // It was idle, so some of the time went by before the first byte.
            None => {
                let latency = self.idle.map(|(took, len)| took.saturating_sub(span(len, self.rate())));
                took.saturating_sub(latency.unwrap_or_default()).max(took / 4)
            }
        };
        self.sample_bytes += len;
        self.sample_span += busy;
        if self.sample_span < MIN_SPAN && self.rate.is_some() {
            return;
        }
        let seconds = self.sample_span.as_secs_f64().max(1e-4);
        let sample = self.sample_bytes as f64 / seconds;
        self.gaps = self.gaps.saturating_add(u32::from(busy_since.is_some()));
        let gaps = f64::from(self.gaps);
        let weight = 1.0 - (-seconds / MEMORY).exp();
        let weight = if busy_since.is_some() { weight.max(1.0 / gaps) } else { weight };
        self.rate = Some(self.rate.map_or(sample, |rate| rate + (sample - rate) * weight));
        self.sample_bytes = 0;
        self.sample_span = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const LEN: u64 = 256 * 1024;

    /// Units through a link of `rate` and `latency`, so many outstanding at a time.
    fn through(rate: f64, latency: Duration, depth: usize, units: usize) -> (Estimate, Instant) {
        let (mut now, mut estimate) = (start(), Estimate::new(None));
        let (mut free, mut queue) = (now, VecDeque::new());
        for _ in 0..units {
            while queue.len() < depth {
                let ahead = queue.len() as u64 * LEN;
                let late_at = now + estimate.completion(ahead, LEN, Likely::Nearly);
                free = free.max(now + latency) + span(LEN, rate);
                queue.push_back((now, ahead, late_at, free));
            }
            let (asked, ahead, late_at, arrives) = queue.pop_front().unwrap();
            now = arrives;
            estimate.on_delivered(now, LEN, asked, ahead, late_at);
        }
        (estimate, now)
    }

    #[test]
    fn goodput_is_found_by_a_full_pipeline_and_by_one_unit_at_a_time() {
        for (rate, depth) in [(0.5e6, 1), (0.5e6, 8), (5e6, 1), (5e6, 8), (50e6, 16)] {
            let (estimate, _) = through(rate, Duration::from_millis(40), depth, 100);
            let found = estimate.rate() / rate;
            assert!((0.5..1.6).contains(&found), "{found:.2} of {rate} at {depth}");
        }
    }

    #[test]
    fn a_queue_is_no_latency() {
        let (estimate, _) = through(1e6, Duration::from_millis(10), 16, 100);
        assert!(estimate.latency(Likely::Half) < Duration::from_millis(400), "{:?}", estimate.latency(Likely::Half));
    }

    #[test]
    fn what_takes_longer_than_usual_is_late_and_is_remembered() {
        let (mut estimate, now) = through(5e6, Duration::from_millis(20), 1, 50);
        assert!(estimate.late_share() < 0.1);
        let late_at = now + estimate.completion(0, LEN, Likely::Nearly);
        for _ in 0..8 {
            estimate.on_delivered(late_at + Duration::from_secs(1), LEN, now, 0, late_at);
        }
        assert!(estimate.late_share() > 0.3 && estimate.latency(Likely::Nearly) > Duration::from_millis(900));
    }

    #[test]
    fn what_was_known_before_is_believed_until_something_is_seen() {
        let prior = Prior { goodput: 9e6, latency: Duration::from_millis(5) };
        let known = Estimate::new(Some(prior));
        assert!(known.is_known() && (known.rate() - 9e6).abs() < 1.0);
        let mut stranger = Estimate::new(None);
        stranger.assume(prior);
        assert!(!stranger.is_known() && (stranger.rate() - 9e6).abs() < 1.0);
    }
}
