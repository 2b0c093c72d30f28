//! How much to ask of one peer at a time.
//!
//! The depth is the bandwidth-delay product plus a queue: enough blocks outstanding that the peer never idles, few
//! enough that a seek does not wait behind them. A peer of unknown rate starts with a short queue that grows by one
//! block for each block it delivers, until its replies wait longer than the queue is meant to be.

use std::time::{Duration, Instant};

use crate::wire::BLOCK_LEN;

/// Blocks asked of a peer that has not answered yet.
const INITIAL_BLOCKS: f64 = 16.0;
/// Fewest blocks kept outstanding at a working peer: one on the wire, one behind it.
const MIN_BLOCKS: f64 = 2.0;
/// Most blocks outstanding at one peer: 8 MiB, a gigabit at 64 ms.
pub(crate) const MAX_BLOCKS: u32 = 512;
/// What a peer is taken to deliver until it has been measured, in bytes a second.
const PRIOR_RATE: f64 = 256.0 * 1024.0;
/// What a round trip is taken to be until it has been measured.
const PRIOR_RTT: Duration = Duration::from_millis(50);
/// Over how long the rate is averaged.
const RATE_MEMORY: f64 = 0.7;
/// Longest pause between deliveries that is taken for a peer's habit.
const MAX_PAUSE: Duration = Duration::from_millis(1000);
/// Over how long a peer's pauses are forgotten, in seconds.
const PAUSE_MEMORY: f64 = 8.0;
/// How long after its longest pause, and a quarter of that, a peer is overdue.
const OVERDUE_SLACK: Duration = Duration::from_millis(150);
/// Shortest span that is a rate sample.
const MIN_SAMPLE: Duration = Duration::from_millis(40);

/// What is known of one peer's speed, and what is outstanding at it.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    outstanding_bytes: u64,
    outstanding_blocks: u32,
    max_blocks: u32,
    /// Bytes a second while it had something to do.
    rate: Option<f64>,
    min_rtt: Option<Duration>,
    /// The longest of late that it took for the next block to come, while some were outstanding: a peer under a rate limit
    /// sends in bursts, and what is asked of it has to last from one to the next.
    pause: Duration,
    last_arrival: Option<Instant>,
    /// Since when something has been outstanding.
    busy_from: Option<Instant>,
    /// Mean distance between expected and actual delivery, in seconds.
    deviation: f64,
    /// Slow start: the present depth in blocks, until a queue was seen.
    growing: Option<f64>,
    sample_from: Option<Instant>,
    sample_bytes: u64,
    /// See [`Pipeline::completion`]: asked of every peer for every block, and changed only by what happens at this one.
    completion: Duration,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        let mut pipeline = Self {
            outstanding_bytes: 0,
            outstanding_blocks: 0,
            max_blocks: MAX_BLOCKS,
            rate: None,
            min_rtt: None,
            pause: Duration::ZERO,
            last_arrival: None,
            busy_from: None,
            deviation: 0.05,
            growing: Some(INITIAL_BLOCKS),
            sample_from: None,
            sample_bytes: 0,
            completion: Duration::ZERO,
        };
        pipeline.work_out_completion();
        pipeline
    }

    /// Obeys the peer's `reqq` (BEP 10): requests it is willing to queue.
    pub(crate) fn set_max_blocks(&mut self, reqq: u32) {
        self.max_blocks = reqq.clamp(1, MAX_BLOCKS);
    }

    pub(crate) fn rate(&self) -> f64 {
        self.rate.unwrap_or(PRIOR_RATE).max(1.0)
    }

    /// The measured rate in bytes a second; `None` until there is a sample.
    pub(crate) const fn measured_rate(&self) -> Option<f64> {
        self.rate
    }

    fn rtt(&self) -> Duration {
        self.min_rtt.unwrap_or(PRIOR_RTT)
    }

    /// How long it may be before anything comes: a round trip, or a pause.
    fn delay(&self) -> Duration {
        self.rtt().max(self.pause)
    }

    /// How long from now until one more block would have arrived.
    pub(crate) const fn completion(&self) -> Duration {
        self.completion
    }

    /// To be called after every change of what is outstanding, of the rate or of the delay.
    fn work_out_completion(&mut self) {
        let queue = (self.outstanding_bytes + u64::from(BLOCK_LEN)) as f64 / self.rate();
        self.completion = self.delay() + Duration::from_secs_f64(queue.min(3600.0));
    }

    /// How long it may take from one block to the next, when it works as it has so far; `None` until it was measured.
    pub(crate) fn longest_pause(&self) -> Option<Duration> {
        let block = Duration::from_secs_f64((f64::from(BLOCK_LEN) / self.rate?.max(1.0)).min(60.0));
        Some(self.delay().max(block).mul_f64(1.25) + OVERDUE_SLACK)
    }

    /// How late a block may be before it counts as late.
    pub(crate) fn slack(&self) -> Duration {
        Duration::from_secs_f64((4.0 * self.deviation).clamp(0.1, 5.0))
    }

    /// How many more blocks may be asked for, when the queue at the peer shall be `target` long.
    pub(crate) fn room(&self, target: Duration) -> u32 {
        let depth = match self.growing {
            Some(blocks) => blocks,
            None => self.rate() * (self.delay() + target).as_secs_f64() / f64::from(BLOCK_LEN),
        };
        #[expect(clippy::cast_possible_truncation, reason = "clamped to MAX_BLOCKS first")]
        let depth = depth.clamp(MIN_BLOCKS, f64::from(MAX_BLOCKS)) as u32;
        depth.min(self.max_blocks).saturating_sub(self.outstanding_blocks)
    }

    /// Notes that a block was asked for.
    pub(crate) fn on_request(&mut self, now: Instant, len: u32) {
        if self.outstanding_blocks == 0 {
            self.busy_from = Some(now);
            self.sample_from = Some(now);
            self.sample_bytes = 0;
        }
        self.outstanding_blocks += 1;
        self.outstanding_bytes += u64::from(len);
        self.work_out_completion();
    }

    /// Notes that a block is no longer expected: cancelled, rejected or lost.
    pub(crate) fn on_withdrawn(&mut self, len: u32) {
        self.outstanding_blocks = self.outstanding_blocks.saturating_sub(1);
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(u64::from(len));
        self.work_out_completion();
    }

    /// Notes that a block that was asked for at `sent` and expected at `expected` has arrived.
    pub(crate) fn on_block(&mut self, now: Instant, len: u32, sent: Instant, expected: Instant, target: Duration) {
        self.on_withdrawn(len);
        let latency = now.saturating_duration_since(sent);
        let min_rtt = self.min_rtt.map_or(latency, |rtt| rtt.min(latency));
        self.min_rtt = Some(min_rtt);
        let late = now.saturating_duration_since(expected).max(expected.saturating_duration_since(now));
        self.deviation += (late.as_secs_f64().min(5.0) - self.deviation) / 8.0;
        self.note_pause(now);
        self.sample(now, len);
        if let Some(depth) = &mut self.growing {
            *depth = (*depth + 1.0).min(f64::from(MAX_BLOCKS));
            if latency > min_rtt.max(self.pause) + target {
                self.growing = None;
            }
        }
        self.work_out_completion();
    }

    /// Notes that a block arrived that is not wanted any more.
    pub(crate) const fn on_unneeded(&mut self, now: Instant) {
        self.last_arrival = Some(now);
    }

    fn note_pause(&mut self, now: Instant) {
        // What was idle did not pause.
        let from = self.last_arrival.replace(now).max(self.busy_from);
        let Some(from) = from else { return };
        let pause = now.saturating_duration_since(from);
        let remembered = self.pause.mul_f64((-pause.as_secs_f64() / PAUSE_MEMORY).exp());
        self.pause = pause.max(remembered).min(MAX_PAUSE);
    }

    /// Averages the rate over time, weighing each sample by its length, so that bursts do not count more than pauses.
    fn sample(&mut self, now: Instant, len: u32) {
        self.sample_bytes += u64::from(len);
        let Some(from) = self.sample_from else { return };
        let span = now.saturating_duration_since(from);
        if span < MIN_SAMPLE {
            return;
        }
        let sample = self.sample_bytes as f64 / span.as_secs_f64();
        let weight = 1.0 - (-span.as_secs_f64() / RATE_MEMORY).exp();
        self.rate = Some(self.rate.map_or(sample, |rate| rate + (sample - rate) * weight));
        self.sample_from = Some(now);
        self.sample_bytes = 0;
    }

    /// Notes that the peer has gone silent: it will be believed slow until it delivers again.
    pub(crate) fn on_silence(&mut self) {
        self.rate = Some(self.rate().min(PRIOR_RTT.as_secs_f64() * PRIOR_RATE) / 4.0);
        self.growing = None;
        self.work_out_completion();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(1000);

    /// A link that delivers `rate` bytes a second after `rtt`, first in, first out. Returns the depth reached.
    fn run_link(rate: f64, rtt: Duration, secs: u64) -> (Pipeline, f64) {
        let start = crate::testing::start();
        let (mut now, mut pipeline, mut queue) = (start, Pipeline::new(), std::collections::VecDeque::new());
        let (mut link_free, mut delivered) = (start, 0_u64);
        let step = Duration::from_millis(1);
        while now < start + Duration::from_secs(secs) {
            while queue.front().is_some_and(|(_, _, arrives)| *arrives <= now) {
                let (sent, expected, _) = queue.pop_front().unwrap();
                pipeline.on_block(now, BLOCK_LEN, sent, expected, TARGET);
                delivered += u64::from(BLOCK_LEN);
            }
            for _ in 0..pipeline.room(TARGET) {
                let expected = now + pipeline.completion();
                pipeline.on_request(now, BLOCK_LEN);
                link_free = link_free.max(now + rtt) + Duration::from_secs_f64(f64::from(BLOCK_LEN) / rate);
                queue.push_back((now, expected, link_free));
            }
            now += step;
        }
        let secs = now.duration_since(start).as_secs_f64();
        (pipeline, delivered as f64 / secs / rate)
    }

    #[test]
    fn a_long_fat_path_is_filled() {
        // 100 Mbit/s at 200 ms: 150 blocks must be in flight.
        let (_, share) = run_link(12.5e6, Duration::from_millis(200), 20);
        assert!(share > 0.9, "reached only {share:.2} of the link");
    }

    #[test]
    fn a_slow_peer_gets_a_queue_of_about_the_target() {
        let (pipeline, share) = run_link(512.0 * 1024.0, Duration::from_millis(5), 20);
        let queued = pipeline.outstanding_bytes as f64 / (512.0 * 1024.0);
        assert!(share > 0.95, "reached only {share:.2} of the link");
        assert!((0.8..1.5).contains(&queued), "{queued:.2} s are queued");
    }

    #[test]
    fn a_peers_own_limit_on_requests_is_obeyed() {
        let mut pipeline = Pipeline::new();
        pipeline.set_max_blocks(5);
        assert_eq!(pipeline.room(TARGET), 5);
    }
}
