//! How much to ask of one peer at a time, and how soon it would deliver.
//!
//! The budget is in bytes: what the peer delivers in a round trip and [`QUEUE_TARGET`], so that it never idles and
//! little stands in the way of what is wanted next. A peer of unknown rate begins with [`START_BUDGET`], which grows by
//! what it delivers until its replies wait longer than the queue is meant to be.

use std::time::{Duration, Instant};

/// Bytes asked of a peer that has not delivered yet: two of the usual blocks.
const START_BUDGET: f64 = 512.0 * 1024.0;
/// How long the queue at a peer may be.
const QUEUE_TARGET: Duration = Duration::from_millis(500);
/// What a peer is taken to deliver until it has been measured, in bytes a second.
const PRIOR_RATE: f64 = 512.0 * 1024.0;
/// What a round trip is taken to be until it has been measured.
const PRIOR_RTT: Duration = Duration::from_millis(100);
/// Over how long the rate is averaged, in seconds.
const RATE_MEMORY: f64 = 0.7;
/// Shortest span that is a rate sample.
const MIN_SAMPLE: Duration = Duration::from_millis(40);
/// Fewest bytes that are a rate sample: what a small block takes is the way there and back, and says nothing of the rate.
const MIN_SAMPLE_BYTES: u64 = 64 << 10;
/// Blocks asked of one peer at a time, however small: Kubo remembers 1 024 wants of a peer.
const MAX_BLOCKS: usize = 512;
/// Peers put blocks into messages of up to this size, of which nothing is seen before the whole has come.
const MESSAGE_BYTES: f64 = 512.0 * 1024.0;
/// A re-request comes after about two round trips, within these bounds.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// A peer that owes something may be silent for this long at most.
const MAX_PATIENCE: Duration = Duration::from_secs(15);

/// What is known of one peer's speed, and what is outstanding at it.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    max_budget: f64,
    outstanding_bytes: u64,
    outstanding: usize,
    /// Bytes of blocks that it has delivered, all told.
    delivered: u64,
    rate: Option<f64>,
    rtt: Option<Duration>,
    /// Slow start: the present budget, until a queue was seen.
    growing: Option<f64>,
    sample_from: Option<Instant>,
    sample_bytes: u64,
}

impl Flow {
    pub(super) const fn new(max_budget_bytes: u64) -> Self {
        Self {
            max_budget: max_budget_bytes as f64,
            outstanding_bytes: 0,
            outstanding: 0,
            delivered: 0,
            rate: None,
            rtt: None,
            growing: Some(START_BUDGET),
            sample_from: None,
            sample_bytes: 0,
        }
    }

    pub(super) fn rate(&self) -> f64 {
        self.rate.unwrap_or(PRIOR_RATE).max(1024.0)
    }

    pub(super) fn rtt(&self) -> Duration {
        self.rtt.unwrap_or(PRIOR_RTT)
    }

    pub(super) const fn measured_rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) const fn outstanding_bytes(&self) -> u64 {
        self.outstanding_bytes
    }

    /// How long from now until a block of `len` would have arrived.
    pub(super) fn completion(&self, len: u64) -> Duration {
        self.rtt() + self.span(self.outstanding_bytes + len)
    }

    /// How long this many bytes take.
    pub(super) fn span(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64((bytes as f64 / self.rate()).min(3600.0))
    }

    pub(super) fn budget(&self) -> f64 {
        let depth = self.growing.unwrap_or_else(|| self.rate() * (self.rtt() + QUEUE_TARGET).as_secs_f64());
        depth.min(self.max_budget)
    }

    /// Whether a block of `len` may be asked for now. One always may of a peer that owes nothing.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let fits = (self.outstanding_bytes + len) as f64 <= self.budget();
        self.outstanding == 0 || fits && self.outstanding < MAX_BLOCKS
    }

    /// After how long without an answer to ask again.
    pub(super) fn retry_after(&self) -> Duration {
        (2 * self.rtt()).clamp(RETRY[0], RETRY[1])
    }

    /// How long it may be silent while it owes something.
    pub(super) fn patience(&self) -> Duration {
        let message = Duration::from_secs_f64(MESSAGE_BYTES / self.rate());
        (self.retry_after() + message).min(MAX_PATIENCE)
    }

    pub(super) fn on_request(&mut self, now: Instant, len: u64) {
        if self.outstanding == 0 {
            self.sample_from = Some(now);
            self.sample_bytes = 0;
        }
        self.outstanding += 1;
        self.outstanding_bytes += len;
    }

    /// A block of estimated length `len` is no longer expected.
    pub(super) const fn on_withdrawn(&mut self, len: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outstanding_bytes = self.outstanding_bytes.saturating_sub(len);
    }

    /// Bytes of a block came, asked for or not.
    pub(super) fn on_bytes(&mut self, now: Instant, len: u64) {
        self.delivered += len;
        self.sample_bytes += len;
        let Some(from) = self.sample_from else { return };
        let span = now.saturating_duration_since(from);
        if span < MIN_SAMPLE || self.sample_bytes < MIN_SAMPLE_BYTES {
            return;
        }
        let sample = self.sample_bytes as f64 / span.as_secs_f64();
        let weight = 1.0 - (-span.as_secs_f64() / RATE_MEMORY).exp();
        self.rate = Some(self.rate.map_or(sample, |rate| rate + (sample - rate) * weight));
        self.sample_from = Some(now);
        self.sample_bytes = 0;
    }

    /// A block came this long after it was asked for.
    pub(super) fn on_block(&mut self, latency: Duration, len: u64) {
        let rtt = self.on_reply(latency);
        if let Some(budget) = &mut self.growing {
            *budget = (*budget + len as f64).min(self.max_budget);
            if latency > rtt + QUEUE_TARGET && self.rate.is_some() {
                self.growing = None;
            }
        }
    }

    /// An answer came this long after its question. The least counts, and is forgotten slowly: paths change.
    pub(super) fn on_reply(&mut self, latency: Duration) -> Duration {
        let rtt = self.rtt.map_or(latency, |rtt| latency.min(rtt + latency.saturating_sub(rtt) / 256));
        self.rtt = Some(rtt);
        rtt
    }

    /// It has gone silent: it gets one block at a time, until it delivers again.
    pub(super) fn on_silence(&mut self) {
        self.rate = Some(self.rate() / 4.0);
        self.growing = Some(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const BLOCK: u64 = 256 << 10;

    /// A link that delivers `rate` bytes a second after `rtt`, first in, first out. Returns the share of it used.
    fn run_link(rate: f64, rtt: Duration) -> (Flow, f64) {
        let start = crate::testing::start();
        let (mut now, mut flow, mut queue) = (start, Flow::new(4 << 20), VecDeque::new());
        let (mut link_free, end) = (start, start + Duration::from_secs(20));
        while now < end {
            while queue.front().is_some_and(|(_, arrives)| *arrives <= now) {
                let (sent, _): (Instant, Instant) = queue.pop_front().unwrap();
                flow.on_withdrawn(BLOCK);
                flow.on_bytes(now, BLOCK);
                flow.on_block(now - sent, BLOCK);
            }
            while flow.has_room(BLOCK) {
                flow.on_request(now, BLOCK);
                link_free = link_free.max(now + rtt) + Duration::from_secs_f64(BLOCK as f64 / rate);
                queue.push_back((now, link_free));
            }
            now += Duration::from_millis(1);
        }
        let share = flow.delivered() as f64 / 20.0 / rate;
        (flow, share)
    }

    #[test]
    fn a_long_fat_path_is_filled() {
        let (_, share) = run_link(12.5e6, Duration::from_millis(100));
        assert!(share > 0.9, "reached only {share:.2} of 100 Mbit/s at 100 ms");
    }

    #[test]
    fn a_slow_peer_gets_a_short_queue() {
        let (flow, share) = run_link(1e6, Duration::from_millis(20));
        assert!(share > 0.9, "reached only {share:.2} of the link");
        assert!(flow.budget() < 1.2e6, "{} bytes are queued at 1 MB/s", flow.budget());
    }

    #[test]
    fn a_silent_peer_gets_one_block_until_it_delivers() {
        let mut flow = Flow::new(2 << 20);
        flow.on_silence();
        assert!(flow.has_room(BLOCK));
        flow.on_request(crate::testing::start(), BLOCK);
        assert!(!flow.has_room(1));
    }
}
