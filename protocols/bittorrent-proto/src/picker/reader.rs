//! One reader's cursor: where it is, how fast it goes, how far ahead of it to fetch.
//!
//! Before the first read there is no read-ahead but the little that starts a stream. Then the window grows with what
//! was read without a jump, bounded by what the reader consumes in [`AHEAD`], and never passes the range's end.

use std::ops::Range;
use std::time::{Duration, Instant};

/// Fetched before the reader has read anything, in bytes: enough for a player to see what it opened.
const FIRST_WINDOW: u64 = 128 * 1024;
/// Most bytes fetched ahead of one reader.
const MAX_WINDOW: u64 = 32 * 1024 * 1024;
/// Fewest bytes fetched ahead of a reader that goes on reading.
const MIN_WINDOW: u64 = 512 * 1024;
/// How much of a reader's time its window covers.
const AHEAD: Duration = Duration::from_secs(12);
/// Shortest span that is a rate sample.
const MIN_SAMPLE: Duration = Duration::from_millis(100);
/// A reader that has waited within this time has nothing in hand.
const HAND_TO_MOUTH: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Reader {
    /// What it still wants; `start` is its position.
    rest: Range<u64>,
    read: u64,
    /// How far it was fetched for already: a window that shrank and grew again would withdraw and repeat requests.
    reached: u64,
    /// Since when it has been waiting for the byte at its position.
    pub(crate) blocked_since: Option<Instant>,
    /// When it last began or ended to wait.
    last_blocked: Option<Instant>,
    /// Bytes a second it takes when they are there.
    rate: Option<f64>,
    sample_from: Instant,
    sample_bytes: u64,
    sample_blocked: Duration,
}

impl Reader {
    pub(crate) const fn new(now: Instant, range: Range<u64>) -> Self {
        Self {
            reached: range.start,
            rest: range,
            read: 0,
            blocked_since: None,
            last_blocked: None,
            rate: None,
            sample_from: now,
            sample_bytes: 0,
            sample_blocked: Duration::ZERO,
        }
    }

    pub(crate) const fn position(&self) -> u64 {
        self.rest.start
    }

    /// The bytes to fetch now: from its position to the end of its window, which is at most `limit` long.
    pub(crate) fn window(&mut self, limit: u64) -> Range<u64> {
        let ahead = if self.read == 0 { FIRST_WINDOW } else { self.ahead() }.min(limit.max(FIRST_WINDOW));
        self.reached = self.reached.max(self.rest.start.saturating_add(ahead)).min(self.rest.end);
        self.rest.start..self.reached
    }

    fn ahead(&self) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "clamped, and rates are positive")]
        let consumed = self.rate.map_or(MIN_WINDOW, |rate| (rate * AHEAD.as_secs_f64()).min(MAX_WINDOW as f64) as u64);
        (2 * self.read).min(consumed).clamp(MIN_WINDOW, MAX_WINDOW)
    }

    /// When the reader will want the byte at `offset`; `None` while its rate is unknown.
    pub(crate) fn deadline(&self, now: Instant, offset: u64) -> Option<Instant> {
        let distance = offset.saturating_sub(self.rest.start) as f64;
        self.rate.map(|rate| now + Duration::from_secs_f64((distance / rate.max(1.0)).min(3600.0)))
    }

    /// Notes that the reader has read up to `position`.
    pub(crate) fn advance(&mut self, now: Instant, position: u64) {
        let position = position.clamp(self.rest.start, self.rest.end);
        let bytes = position - self.rest.start;
        self.rest.start = position;
        self.read += bytes;
        self.sample_bytes += bytes;
        let span = now.saturating_duration_since(self.sample_from);
        if span < MIN_SAMPLE {
            return;
        }
        // Time spent waiting for us says nothing of how fast the reader is.
        let busy = span.saturating_sub(self.sample_blocked).max(Duration::from_millis(1));
        let sample = self.sample_bytes as f64 / busy.as_secs_f64();
        self.rate = Some(self.rate.map_or(sample, |rate| rate + (sample - rate) * 0.3));
        self.sample_from = now;
        self.sample_bytes = 0;
        self.sample_blocked = Duration::ZERO;
    }

    /// Notes whether the byte at its position is missing.
    pub(crate) fn set_blocked(&mut self, now: Instant, blocked: bool) {
        match (self.blocked_since, blocked && !self.rest.is_empty()) {
            (None, true) => {
                self.blocked_since = Some(now);
                self.last_blocked = Some(now);
            }
            (Some(since), false) => {
                self.last_blocked = Some(now);
                self.sample_blocked += now.saturating_duration_since(since.max(self.sample_from));
                self.blocked_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Whether it waits, or did not long ago: who takes all that comes waits again and again, for a moment each.
    pub(crate) fn lives_from_hand_to_mouth(&self, now: Instant) -> bool {
        self.blocked_since.is_some() || self.last_blocked.is_some_and(|at| now < at + HAND_TO_MOUTH)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn nothing_is_read_ahead_before_the_first_read_and_nothing_past_the_end() {
        let now = crate::testing::start();
        assert_eq!(Reader::new(now, 5 * MIB..900 * MIB).window(u64::MAX), 5 * MIB..5 * MIB + FIRST_WINDOW);
        assert_eq!(Reader::new(now, 5 * MIB..5 * MIB + 7).window(u64::MAX), 5 * MIB..5 * MIB + 7);
    }

    #[test]
    fn the_window_grows_with_contiguous_reading() {
        let mut now = crate::testing::start();
        let mut reader = Reader::new(now, 0..900 * MIB);
        let mut last = 0;
        for step in 1..=64 {
            now += Duration::from_millis(100);
            reader.advance(now, step * MIB);
            let ahead = reader.window(u64::MAX).end - reader.position();
            assert!(ahead >= last && ahead <= MAX_WINDOW);
            last = ahead;
        }
        assert_eq!(last, MAX_WINDOW);
    }

    #[test]
    fn the_window_never_falls_back() {
        let mut now = crate::testing::start();
        let mut reader = Reader::new(now, 0..900 * MIB);
        let mut reached = 0;
        for step in 1..=50 {
            now += Duration::from_millis(if step < 20 { 100 } else { 3000 });
            reader.advance(now, step * MIB);
            let end = reader.window(u64::MAX).end;
            assert!(end >= reached, "fell back from {reached} to {end}");
            reached = end;
        }
    }

    #[test]
    fn a_reader_of_one_kib_a_second_gets_the_smallest_window() {
        let mut now = crate::testing::start();
        let mut reader = Reader::new(now, 0..900 * MIB);
        for step in 1..600 {
            now += Duration::from_secs(1);
            reader.advance(now, step * 1024);
        }
        assert_eq!(reader.window(u64::MAX).end - reader.position(), MIN_WINDOW);
    }

    #[test]
    fn time_spent_waiting_for_us_does_not_make_a_reader_slow() {
        let mut now = crate::testing::start();
        let mut reader = Reader::new(now, 0..900 * MIB);
        for step in 1..=10 {
            reader.set_blocked(now, true);
            now += Duration::from_millis(900);
            reader.set_blocked(now, false);
            now += Duration::from_millis(100);
            reader.advance(now, step * MIB);
        }
        let wanted = reader.deadline(now, 20 * MIB).unwrap() - now;
        assert!((0.8..1.2).contains(&wanted.as_secs_f64()), "10 MiB at 10 MiB/s, not {wanted:?}");
    }
}
