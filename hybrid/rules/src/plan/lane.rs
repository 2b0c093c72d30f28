//! One source as the plan sees it: what it is asked for, what it has shown, whether it may be asked now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use swarmgate_content::FailureClass;

use super::SourceStatus;
use crate::breaker::Permit;
use crate::estimate::{Estimate, Likely, span};
use crate::policy::Policy;
use crate::source::{Holdings, Prior, SourceKey, SourceSpec};
use crate::units::Unit;

/// Units that rest at one source, of which those go first that rest the least.
const MAX_RESTING: usize = 1024;
/// A source that has delivered nothing yet is asked for so many units at a time.
const STRANGER_UNITS: usize = 2;
/// A source is always asked for the next unit before the last has come.
const LEAST_UNITS: usize = 2;
/// What a source may take beyond all it usually takes, before it is overdue.
const OVERDUE_SLACK: Duration = Duration::from_millis(250);
/// A source is never overdue sooner.
const LEAST_OVERDUE: Duration = Duration::from_millis(400);
/// The slack, and the least, while others deliver: then it is not this machine that has no time.
const OVERTAKEN_SLACK: Duration = Duration::from_millis(100);
/// See above.
const LEAST_OVERTAKEN: Duration = Duration::from_millis(200);
/// So many units of others show that.
const OVERTAKEN: u32 = 8;
/// And always after so long.
const MOST_OVERDUE: Duration = Duration::from_secs(20);
/// How long a source may be overdue before its last unit is taken from it too.
const LEAST_SILENCE: Duration = Duration::from_secs(1);
/// And at most.
const MOST_SILENCE: Duration = Duration::from_secs(10);
/// The same when nobody else has it: better late than never.
const SILENCE_OF_THE_LAST: Duration = Duration::from_secs(30);
/// How long a source is left alone after it was silent, doubled every time.
const SILENCE_REST: Duration = Duration::from_secs(1);
/// And at most.
const MAX_SILENCE_REST: Duration = Duration::from_secs(30);

/// A unit that a source is asked for.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) unit: Unit,
    pub(super) len: u64,
    pub(super) asked_at: Instant,
    /// Bytes that were queued before it.
    queue: u64,
    pub(super) late_at: Instant,
    /// A second source is not asked before, since there was no leave for it.
    pub(super) put_off_until: Option<Instant>,
    pub(super) hedge: bool,
    pub(super) permit: Permit,
}

/// Whether a source may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// For all that it has.
    Open,
    /// For one unit that nobody waits for, to try it: its breaker is half open, or it was silent.
    Trial,
    /// Not before this time, or, when there is none, not before something happens.
    Shut(Option<Instant>),
}

/// One source.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) spec: SourceSpec,
    pub(super) holdings: Holdings,
    pub(super) estimate: Estimate,
    /// In the order of asking.
    pub(super) in_flight: Vec<Flight>,
    pub(super) in_flight_bytes: u64,
    pub(super) last_progress: Option<Instant>,
    /// Units that others delivered since then.
    overtaken: u32,
    pub(super) overdue: bool,
    silences: u32,
    rest_until: Option<Instant>,
    resting: BTreeMap<Unit, Instant>,
    /// The next unit of a source that cannot start in the middle.
    cursor: u32,
    pub(super) gate: Gate,
    pub(super) asked_at: Option<Instant>,
}

impl Lane {
    pub(super) fn new(spec: SourceSpec, holdings: Holdings, strangers: Option<Prior>) -> Self {
        let mut estimate = Estimate::new(spec.prior);
        if let (None, Some(prior)) = (spec.prior, strangers) {
            estimate.assume(prior);
        }
        Self {
            spec,
            holdings,
            estimate,
            in_flight: Vec::new(),
            in_flight_bytes: 0,
            last_progress: None,
            overtaken: 0,
            overdue: false,
            silences: 0,
            rest_until: None,
            resting: BTreeMap::new(),
            cursor: 0,
            gate: Gate::Shut(None),
            asked_at: None,
        }
    }

    // --- whether it may be asked -------------------------------------------------------------------------------

    /// Whether it has a unit and can deliver it, now or later.
    pub(super) fn could_serve(&self, policy: &Policy, unit: Unit) -> bool {
        policy.allows(self.spec.network) && self.has(unit)
    }

    fn has(&self, unit: Unit) -> bool {
        self.holdings.has(unit) && (self.spec.can_range || self.cursor == unit.0)
    }

    /// Whether it has a unit and can deliver it now.
    pub(super) fn serves(&self, now: Instant, unit: Unit) -> bool {
        self.has(unit) && self.resting.get(&unit).is_none_or(|until| now >= *until)
    }

    /// When it may be asked for a unit that rests there.
    pub(super) fn rests_until(&self, unit: Unit) -> Option<Instant> {
        self.resting.get(&unit).copied().filter(|_| self.has(unit))
    }

    /// Whether it was silent, and until when it is left alone.
    pub(super) const fn rest(&self) -> Option<Instant> {
        self.rest_until
    }

    /// Whether it may be asked for so many bytes more, when its queue shall be `target` long.
    pub(super) fn has_room(&self, len: u64, target: Duration) -> bool {
        let units = self.in_flight.len();
        let stranger = !self.estimate.is_known() && units >= STRANGER_UNITS;
        let shallow = units < LEAST_UNITS || self.in_flight_bytes as f64 + (len as f64) <= self.estimate.depth(target);
        self.within_bulkhead(len) && !stranger && shallow
    }

    /// Whether its own bounds allow so many bytes more.
    pub(super) fn within_bulkhead(&self, len: u64) -> bool {
        let bytes = self.in_flight_bytes.saturating_add(len) <= self.spec.max_in_flight_bytes;
        self.in_flight.is_empty() || bytes && self.in_flight.len() < self.spec.max_in_flight_units as usize
    }

    /// Bytes that stand before the next unit.
    pub(super) fn queue(&self, now: Instant) -> u64 {
        let Some(first) = self.in_flight.first() else { return 0 };
        // Some of the first unit has come already, if the source is at work.
        let since = self.last_progress.map_or(first.asked_at, |at| at.max(first.asked_at));
        let worked = now.saturating_duration_since(since).saturating_sub(self.estimate.latency(Likely::Half));
        let come = span(first.len, self.estimate.rate());
        let share = if come.is_zero() { 1.0 } else { (worked.as_secs_f64() / come.as_secs_f64()).min(1.0) };
        #[expect(clippy::cast_possible_truncation, reason = "a share of a number that fits")]
        let come = (first.len as f64 * share) as u64;
        self.in_flight_bytes.saturating_sub(come)
    }

    // --- what happens to it ------------------------------------------------------------------------------------

    pub(super) fn ask(&mut self, now: Instant, unit: Unit, len: u64, hedge: bool, permit: Permit) {
        let queue = self.queue(now);
        let transfer = span(queue.saturating_add(len), self.estimate.rate());
        // The longer the queue, the less exactly its end is known.
        let late_at = now + self.estimate.completion(queue, len, Likely::Nearly) + transfer / 8;
        if self.in_flight.is_empty() {
            self.progressed(now);
        }
        self.in_flight_bytes += len;
        let flight = Flight { unit, len, asked_at: now, queue, late_at, put_off_until: None, hedge, permit };
        self.in_flight.push(flight);
        self.asked_at = Some(now);
        self.cursor = unit.0 + 1;
    }

    /// Notes that a second source is not asked for a unit before this time.
    pub(super) fn put_off(&mut self, unit: Unit, until: Instant) {
        let flight = self.in_flight.iter_mut().find(|flight| flight.unit == unit);
        flight.into_iter().for_each(|flight| flight.put_off_until = Some(until));
    }

    /// Takes a request from it.
    pub(super) fn take(&mut self, unit: Unit) -> Option<Flight> {
        let flight = self.remove(unit)?;
        // What was to follow in the same stream will not come.
        self.cursor = 0;
        Some(flight)
    }

    fn remove(&mut self, unit: Unit) -> Option<Flight> {
        let place = self.in_flight.iter().position(|flight| flight.unit == unit)?;
        let flight = self.in_flight.remove(place);
        self.in_flight_bytes -= flight.len;
        self.overdue &= !self.in_flight.is_empty();
        Some(flight)
    }

    /// Something came of it, or nothing could have yet.
    pub(super) const fn progressed(&mut self, now: Instant) {
        self.last_progress = Some(now);
        self.overtaken = 0;
    }

    /// Another source has delivered a unit.
    pub(super) const fn overtake(&mut self) {
        self.overtaken = self.overtaken.saturating_add(1);
    }

    pub(super) fn on_delivered(&mut self, now: Instant, unit: Unit) -> Option<Flight> {
        self.progressed(now);
        self.overdue = false;
        self.silences = 0;
        self.rest_until = None;
        let flight = self.remove(unit)?;
        self.estimate.on_delivered(now, flight.len, flight.asked_at, flight.queue, flight.late_at);
        Some(flight)
    }

    pub(super) fn on_failed(&mut self, now: Instant, unit: Unit, class: FailureClass) -> Option<Flight> {
        let flight = self.take(unit)?;
        match class {
            FailureClass::Neutral | FailureClass::Local | FailureClass::Corruption => {
                // It answered.
                self.progressed(now);
                self.overdue = false;
                self.rest_until = None;
            }
            FailureClass::Source => {}
        }
        Some(flight)
    }

    /// Lets a unit rest here.
    pub(super) fn rest_from(&mut self, now: Instant, unit: Unit, span: Duration) {
        self.resting.retain(|_, until| now < *until);
        if self.resting.len() >= MAX_RESTING
            && let Some(first) = self.resting.iter().min_by_key(|(_, until)| **until).map(|(unit, _)| *unit)
        {
            self.resting.remove(&first);
        }
        self.resting.insert(unit, now + span);
    }

    /// It was silent for too long: it is left alone for a while, then tried.
    pub(super) fn fall_silent(&mut self, now: Instant) {
        let rest = SILENCE_REST.saturating_mul(1 << self.silences.min(16)).min(MAX_SILENCE_REST);
        self.silences = self.silences.saturating_add(1);
        self.rest_until = Some(now + rest);
    }

    // --- when it is late ---------------------------------------------------------------------------------------

    /// What it takes for one unit when all goes well.
    fn usual(&self, first: &Flight) -> Duration {
        self.estimate.latency(Likely::Nearly) + span(first.len, self.estimate.rate()) * 2
    }

    fn patience(&self, first: &Flight) -> Duration {
        // What has become slow would never deliver, if it were left no more time than it once needed.
        let (slack, least) = match self.overtaken {
            0..OVERTAKEN => (OVERDUE_SLACK, LEAST_OVERDUE),
            OVERTAKEN.. => (OVERTAKEN_SLACK, LEAST_OVERTAKEN),
        };
        let grown = (self.usual(first) + slack).saturating_mul(1 << self.silences.saturating_sub(1).min(8));
        grown.clamp(least, MOST_OVERDUE)
    }

    /// Since when it shows nothing, though it is asked for this.
    fn quiet_since(&self, first: &Flight) -> Instant {
        self.last_progress.map_or(first.asked_at, |at| at.max(first.asked_at))
    }

    /// Whether it was silent and has delivered nothing since.
    pub(super) const fn was_silent(&self) -> bool {
        self.silences > 0
    }

    /// Whether its next unit should have been here, though it is too early to take anything from it.
    pub(super) fn is_in_doubt(&self, now: Instant) -> bool {
        let late = |first| now >= self.quiet_since(first) + self.usual(first);
        !self.overdue && self.in_flight.first().is_some_and(late)
    }

    /// When its next unit should have been here, beyond all doubt; `None` when it is asked for nothing.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let first = self.in_flight.first()?;
        Some(self.quiet_since(first) + self.patience(first))
    }

    /// When it has been silent for too long, with others to take its place or without; `None` when it is asked for
    /// nothing.
    pub(super) fn silent_at(&self, alone: bool) -> Option<Instant> {
        let first = self.in_flight.first()?;
        if alone {
            return Some(self.overdue_at()? + SILENCE_OF_THE_LAST);
        }
        // One that is being tried is to show that it works.
        let trial = self.rest_until.is_some() || first.permit.is_probe();
        let more = if trial { Duration::ZERO } else { (self.patience(first) * 2).clamp(LEAST_SILENCE, MOST_SILENCE) };
        Some(self.overdue_at()? + more)
    }

    pub(super) fn status(&self, source: SourceKey) -> SourceStatus {
        let millis = |likely| u64::try_from(self.estimate.latency(likely).as_millis()).unwrap_or(u64::MAX);
        SourceStatus {
            source,
            name: self.spec.name.clone(),
            network: self.spec.network,
            goodput: self.estimate.is_known().then(|| self.estimate.rate()),
            latency_ms: [millis(Likely::Half), millis(Likely::Nearly)],
            in_flight_units: self.in_flight.len(),
            in_flight_bytes: self.in_flight_bytes,
            overdue: self.overdue,
        }
    }
}
