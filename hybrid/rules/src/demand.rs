//! What is wanted, in order: the readers' wishes, merged by unit.
//!
//! A reader wants the bytes from its position on, each when it will come to it at its own pace. Its window reaches as
//! far as its buffer shall, grows with what it has read, and never passes the end of its range. A unit that several
//! readers want is wanted once, for the earliest of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::units::{Unit, Units};

/// Readers of one content at most.
pub const MAX_READERS: usize = 4096;
/// Units in the list of wants at most.
pub const MAX_WANTS: usize = 1024;
/// Units that one reader adds to it.
const MAX_WANTS_OF_ONE: usize = 256;
/// A unit wanted within this time is urgent.
const URGENT_HORIZON: Duration = Duration::from_millis(1500);
/// Fetched before the reader has read anything, in bytes: enough for every source that starts to have something to do.
const FIRST_WINDOW: u64 = 1024 * 1024;
/// Most bytes fetched ahead of one reader.
const MAX_WINDOW: u64 = 64 * 1024 * 1024;
/// Fewest bytes fetched ahead of a reader that goes on reading.
const MIN_WINDOW: u64 = 512 * 1024;
/// And fewest units, so that there is one for every source though units are long.
const MIN_UNITS_AHEAD: u64 = 8;
/// Shortest span that is a sample of a reader's pace.
const MIN_SAMPLE: Duration = Duration::from_millis(100);
/// A reader that has waited within this time has nothing in hand.
const HAND_TO_MOUTH: Duration = Duration::from_secs(2);

/// A reader of one content: an opaque number that its owner chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ReaderKey(pub u64);

/// What is known of a reader at its start.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReaderOptions {
    /// How much of the reader's time is fetched ahead of it.
    pub buffer: Duration,
    /// Bytes a second that it will take; measured when nothing is said.
    pub rate: Option<f64>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { buffer: Duration::from_secs(12), rate: None }
    }
}

/// One wanted unit. Orders by who should be served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Want {
    when: When,
    pub(crate) unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// A reader has been waiting for it since then.
    Since(Instant),
    /// A reader will come to it then.
    By(Instant),
    /// A reader of unknown pace is so many units away.
    Ahead(u32),
}

impl Want {
    pub(crate) fn is_urgent(&self, now: Instant) -> bool {
        self.waiting_since().is_some() || self.deadline().is_some_and(|at| at < now + URGENT_HORIZON)
    }

    /// Since when a reader waits for it, if one does.
    pub(crate) const fn waiting_since(&self) -> Option<Instant> {
        match self.when {
            When::Since(since) => Some(since),
            When::By(_) | When::Ahead(_) => None,
        }
    }

    /// When a reader comes to it; `None` when one waits already, or its pace is unknown.
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        match self.when {
            When::By(deadline) => Some(deadline),
            When::Since(_) | When::Ahead(_) => None,
        }
    }

    /// Whether nobody comes to it for so long.
    pub(crate) fn can_wait(&self, now: Instant, span: Duration) -> bool {
        match self.when {
            When::Since(_) => false,
            When::By(deadline) => deadline >= now + span,
            When::Ahead(units) => units >= 2,
        }
    }
}

#[derive(Debug)]
struct Reader {
    options: ReaderOptions,
    /// What it still wants; `start` is its position.
    rest: Range<u64>,
    read: u64,
    /// How far it was fetched for already: a window that shrank and grew again would withdraw and repeat requests.
    reached: u64,
    blocked_since: Option<Instant>,
    last_blocked: Option<Instant>,
    /// Bytes a second that it takes when they are there.
    rate: Option<f64>,
    /// Bytes a second that it has taken, the time in which it waited for us included.
    pace: Option<f64>,
    sample_from: Instant,
    sample_bytes: u64,
    sample_blocked: Duration,
    /// When it had read all that it then wanted.
    ended_at: Option<Instant>,
}

impl Reader {
    /// The bytes to fetch now, for units of about `unit_len`.
    fn window(&mut self, unit_len: u64) -> Range<u64> {
        let ahead = if self.read == 0 { FIRST_WINDOW } else { self.ahead(unit_len) };
        self.reached = self.reached.max(self.rest.start.saturating_add(ahead)).min(self.rest.end);
        self.rest.start..self.reached
    }

    fn ahead(&self, unit_len: u64) -> u64 {
        let least = unit_len.saturating_mul(MIN_UNITS_AHEAD).clamp(MIN_WINDOW, MAX_WINDOW);
        #[expect(clippy::cast_possible_truncation, reason = "clamped, and rates are positive")]
        let buffer = |rate: f64| (rate * self.options.buffer.as_secs_f64()).clamp(0.0, MAX_WINDOW as f64) as u64;
        let consumed = self.rate.map_or(MIN_WINDOW, buffer);
        self.read.saturating_mul(2).min(consumed).clamp(least, MAX_WINDOW)
    }

    fn deadline(&self, now: Instant, offset: u64) -> Option<Instant> {
        let distance = offset.saturating_sub(self.rest.start) as f64;
        // Whoever takes all that comes will not come to a byte sooner than it can be had; a little sooner, to be safe.
        let pace = self.pace.map_or(f64::INFINITY, |pace| pace * 1.25).max(self.options.rate.unwrap_or(0.0));
        let rate = self.rate?.min(pace).max(1.0);
        Some(now + Duration::from_secs_f64((distance / rate).min(3600.0)))
    }

    /// Notes how far it has read; tells how long it has stood still before, if it did in the middle of reading.
    fn advance(&mut self, now: Instant, position: u64) -> Option<Duration> {
        let stood_still = self.blocked_since.filter(|_| self.read > 0 && position > self.rest.start);
        let stood_still = stood_still.map(|since| now.saturating_duration_since(since));
        let position = position.clamp(self.rest.start, self.rest.end);
        let bytes = position - self.rest.start;
        if bytes > 0 {
            self.set_blocked(now, false);
        }
        self.rest.start = position;
        self.read += bytes;
        self.sample_bytes += bytes;
        if self.rest.is_empty() {
            self.ended_at.get_or_insert(now);
        }
        let span = now.saturating_duration_since(self.sample_from);
        if span < MIN_SAMPLE {
            return stood_still;
        }
        // Time spent waiting for us says nothing of how fast the reader is.
        let busy = span.saturating_sub(self.sample_blocked).max(Duration::from_millis(1));
        let mean = |before: Option<f64>, span: Duration| {
            let sample = self.sample_bytes as f64 / span.as_secs_f64();
            Some(before.map_or(sample, |before| before + (sample - before) * 0.3))
        };
        (self.rate, self.pace) = (mean(self.rate, busy), mean(self.pace, span));
        self.sample_from = now;
        self.sample_bytes = 0;
        self.sample_blocked = Duration::ZERO;
        stood_still
    }

    fn set_blocked(&mut self, now: Instant, blocked: bool) {
        // Until its range went on it could read nothing, which says nothing of how fast it is.
        if let Some(since) = self.ended_at.take_if(|_| !self.rest.is_empty()) {
            self.sample_blocked += now.saturating_duration_since(since.max(self.sample_from));
        }
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
}

/// The readers of one content.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    readers: BTreeMap<ReaderKey, Reader>,
}

impl Demand {
    /// A reader wants `range`, in order, the first byte now. Tells whether there was room for it.
    pub(crate) fn open(&mut self, now: Instant, key: ReaderKey, range: Range<u64>, options: ReaderOptions) -> bool {
        if self.readers.len() >= MAX_READERS && !self.readers.contains_key(&key) {
            return false;
        }
        let range = range.start.min(range.end)..range.end;
        let rate = options.rate.filter(|rate| rate.is_finite() && *rate > 0.0);
        let options = ReaderOptions { rate, ..options };
        let reader = Reader {
            options,
            reached: range.start,
            rest: range,
            read: 0,
            blocked_since: None,
            last_blocked: None,
            rate: options.rate,
            pace: None,
            sample_from: now,
            sample_bytes: 0,
            sample_blocked: Duration::ZERO,
            ended_at: None,
        };
        self.readers.insert(key, reader);
        true
    }

    /// A reader has read up to `position`. Tells how long it stood still before, if it did in the middle of reading.
    pub(crate) fn advance(&mut self, now: Instant, key: ReaderKey, position: u64) -> Option<Duration> {
        self.readers.get_mut(&key)?.advance(now, position)
    }

    /// A reader's range now ends at `end`, if it ended sooner. Tells whether there is such a reader.
    pub(crate) fn extend(&mut self, key: ReaderKey, end: u64) -> bool {
        let Some(reader) = self.readers.get_mut(&key) else { return false };
        reader.rest.end = reader.rest.end.max(end);
        true
    }

    pub(crate) fn close(&mut self, key: ReaderKey) {
        self.readers.remove(&key);
    }

    /// Whether a reader waits, or did not long ago: who takes all that comes waits again and again, for a moment each.
    pub(crate) fn lives_from_hand_to_mouth(&self, now: Instant) -> bool {
        let mouth = |reader: &Reader| {
            reader.blocked_since.is_some() || reader.last_blocked.is_some_and(|at| now < at + HAND_TO_MOUTH)
        };
        self.readers.values().any(mouth)
    }

    /// All that is wanted and not there, what is wanted first at the head.
    pub(crate) fn wants(&mut self, now: Instant, units: &Units, has: impl Fn(Unit) -> bool) -> Vec<Want> {
        let mut best: BTreeMap<Unit, When> = BTreeMap::new();
        for reader in self.readers.values_mut() {
            let head = units.at(reader.rest.start).filter(|_| !reader.rest.is_empty());
            reader.set_blocked(now, head.is_some_and(|head| !has(head)));
            let Some(head) = head else { continue };
            let window = reader.window(units.len_of(head));
            for (distance, unit) in (0..).zip(units.touching(&window)).take(MAX_WANTS_OF_ONE) {
                if has(unit) {
                    continue;
                }
                let start = units.range(unit).map_or(0, |range| range.start());
                let when = match (reader.blocked_since.filter(|_| unit == head), reader.deadline(now, start)) {
                    (Some(since), _) => When::Since(since),
                    (None, Some(deadline)) => When::By(deadline),
                    (None, None) => When::Ahead(distance),
                };
                best.entry(unit).and_modify(|best| *best = when.min(*best)).or_insert(when);
            }
        }
        let mut wants: Vec<_> = best.into_iter().map(|(unit, when)| Want { when, unit }).collect();
        wants.sort_unstable();
        wants.truncate(MAX_WANTS);
        wants
    }
}

/// The units of a list of wants.
pub(crate) fn units_of(wants: &[Want]) -> BTreeSet<Unit> {
    wants.iter().map(|want| want.unit).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::start;

    const KIB: u64 = 1024;

    fn units() -> Units {
        Units::equal(6400 * KIB, 64 * KIB).unwrap()
    }

    fn numbers(wants: &[Want]) -> Vec<u32> {
        wants.iter().map(|want| want.unit.0).collect()
    }

    #[test]
    fn who_waits_comes_first_then_the_earlier_deadline() {
        let now = start();
        let mut demand = Demand::default();
        let paced = |rate| ReaderOptions { rate: Some(rate), ..ReaderOptions::default() };
        demand.open(now, ReaderKey(1), 0..6400 * KIB, paced(64.0 * 1024.0));
        demand.open(now, ReaderKey(2), 640 * KIB..6400 * KIB, paced(1024.0 * 1024.0));
        let wants = demand.wants(now, &units(), |unit| unit == Unit(0));
        assert_eq!(numbers(&wants)[..3], [10, 11, 12], "the second waits, and is faster");
        assert!(wants[0].waiting_since().is_some() && wants[1].is_urgent(now));
    }

    #[test]
    fn a_unit_that_two_want_is_wanted_once_for_the_earlier() {
        let now = start();
        let mut demand = Demand::default();
        for (key, rate) in [(1, 64.0 * 1024.0), (2, 640.0 * 1024.0)] {
            let options = ReaderOptions { rate: Some(rate), ..ReaderOptions::default() };
            demand.open(now, ReaderKey(key), 0..6400 * KIB, options);
        }
        let wants = demand.wants(now, &units(), |unit| unit == Unit(0));
        assert_eq!(numbers(&wants), (1..16).collect::<Vec<_>>());
        assert_eq!(wants[0].deadline(), Some(now + Duration::from_millis(100)));
        demand.close(ReaderKey(2));
        assert_eq!(
            demand.wants(now, &units(), |unit| unit == Unit(0))[0].deadline(),
            Some(now + Duration::from_secs(1))
        );
        demand.close(ReaderKey(1));
        assert!(demand.wants(now, &units(), |_| false).is_empty());
    }

    #[test]
    fn the_window_grows_with_reading_to_the_buffer_and_never_falls_back() {
        let mut now = start();
        let mut demand = Demand::default();
        let units = Units::equal(1 << 30, 256 * KIB).unwrap();
        demand.open(now, ReaderKey(1), 0..1 << 30, ReaderOptions { buffer: Duration::from_secs(5), rate: None });
        assert_eq!(numbers(&demand.wants(now, &units, |_| false)), [0, 1, 2, 3], "little ahead before the first read");
        let mut reached = 0;
        for step in 1..100_u32 {
            // As fast as 1 MiB a second at first, then ten times slower.
            now += Duration::from_millis(if step < 50 { 1000 } else { 10_000 });
            demand.advance(now, ReaderKey(1), u64::from(step) << 20);
            let end = numbers(&demand.wants(now, &units, |unit| unit.0 == 4 * step)).into_iter().max().unwrap();
            assert!(end >= reached, "fell back from {reached} to {end}");
            reached = end;
            if step == 49 {
                assert!((18..=22).contains(&(end + 1 - 4 * 49)), "5 s ahead of unit 196 is not {end}");
            }
        }
    }

    /// Where a reader begins, for how long, how far it has read (in KiB), and how fast it is.
    fn reader() -> impl Strategy<Value = (u64, u64, u64, Option<f64>)> {
        (0_u64..6400, 1_u64..6400, 0_u64..6400, proptest::option::of(1.0_f64..1e7))
    }

    proptest! {
        #[test]
        fn wants_are_bounded_sorted_missing_and_within_ranges(
            readers in proptest::collection::vec(reader(), 0..20),
            had in proptest::collection::btree_set(0_u32..100, 0..100),
        ) {
            let mut now = start();
            let mut demand = Demand::default();
            let has = |unit: Unit| had.contains(&unit.0);
            for (key, (from, len, read, rate)) in (0..).zip(&readers) {
                let options = ReaderOptions { rate: *rate, ..ReaderOptions::default() };
                prop_assert!(demand.open(now, ReaderKey(key), from * KIB..(from + len) * KIB, options));
                now += Duration::from_millis(150);
                demand.advance(now, ReaderKey(key), (from + read) * KIB);
            }
            let wants = demand.wants(now, &units(), has);
            prop_assert!(wants.is_sorted() && wants.len() <= MAX_WANTS);
            prop_assert_eq!(units_of(&wants).len(), wants.len());
            for want in &wants {
                let range = units().range(want.unit).unwrap();
                prop_assert!(!has(want.unit));
                let wanted = readers.iter().any(|(from, len, read, _)| {
                    (from + read.min(len)) * KIB < range.end() && range.start() < (from + len) * KIB
                });
                prop_assert!(wanted, "nobody wants {:?}", want.unit);
            }
        }
    }
}
