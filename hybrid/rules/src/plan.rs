//! Decides which unit is asked of which source, when a second one is asked, and when there is nobody left to ask.
//!
//! A unit of the content is in exactly one of: had, asked of one source, asked of two, pending, given up. Readers pull
//! units forward: first what one waits for, then by deadline. Each goes to where it would be complete first, behind
//! what is queued there already; one whose deadline is near goes to the source least likely to miss it. So all sources
//! are busy and finish together, and a slow one is left out when it would only delay.
//!
//! Nothing waits for a source that has fallen silent: what stands behind its first unit is given to others at once, the
//! first one is asked of a second source as soon as it is urgent, and in the end it is taken away too. What is asked
//! twice is bounded by the [`Budget`], who is asked at all by the [`Breakers`].
//!
//! Whoever owns a plan tells it what happens, then calls [`FetchPlan::schedule`] and does what
//! [`FetchPlan::poll_action`] says until it says nothing, and calls again at [`FetchPlan::poll_timeout`].

mod ask;
mod deal;
mod explore;
mod hedge;
mod lane;
mod silence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use swarmgate_content::FailureClass;

use self::lane::Lane;
use crate::attribution::{Attribution, Reading};
use crate::breaker::Breakers;
use crate::budget::Budget;
use crate::classify::{Verdict, verdict};
use crate::demand::{Demand, ReaderKey, ReaderOptions, Want, units_of};
use crate::policy::Policy;
use crate::source::{Holdings, Network, Prior, SourceKey, SourceSpec};
use crate::units::{Unit, Units};

/// Sources of one content at a time.
pub const MAX_SOURCES: usize = 256;
/// A source that has not a unit is not asked for it again for so long.
const ABSENCE_REST: Duration = Duration::from_secs(5);
/// A source that sent wrong bytes is not asked for the same unit again for so long.
const CORRUPTION_REST: Duration = Duration::from_secs(60);
/// A source that failed is not asked for the same unit again for so long, doubled every time.
const FAILURE_REST: Duration = Duration::from_millis(200);
/// When this machine could not take a unit, it is asked for again after so long.
const LOCAL_REST: Duration = Duration::from_secs(1);
/// Failures after which a unit that a reader waits for is given up.
const MAX_FAILURES: u32 = 16;

/// What a plan stands on, beside the content.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// What the operator wants of the sources.
    pub policy: Arc<Policy>,
    /// Who may be asked.
    pub breakers: Breakers,
    /// What may be asked twice.
    pub budget: Budget,
    /// How long a reader may wait for a unit that nobody is delivering.
    pub patience: Duration,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask this source for this unit.
    Ask {
        /// Whom.
        source: SourceKey,
        /// For what.
        unit: Unit,
        /// Why it is asked.
        why: AskReason,
        /// When a reader comes to it, as far as that is known.
        deadline: Option<Instant>,
    },
    /// Withdraw what this source was asked for.
    Cancel {
        /// From whom.
        source: SourceKey,
        /// What.
        unit: Unit,
        /// Why.
        why: CancelReason,
    },
    /// Tell the readers that wait for this unit that it will not come.
    GiveUp {
        /// What.
        unit: Unit,
        /// Why.
        why: GiveUpReason,
    },
}

/// Why a source is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AskReason {
    /// It would deliver the unit first.
    Striped,
    /// It is least likely to deliver it too late.
    Urgent,
    /// Another source, which was asked before, is late.
    Hedge,
    /// Another source, which was asked before, has failed.
    Retry,
    /// Its breaker lets a call through to try it.
    Probe,
    /// It was not asked for long, and may have become better.
    Explore,
    /// Nobody else can be asked.
    NobodyElse,
}

/// Why a request is withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CancelReason {
    /// The source is overdue, and others can deliver what stands behind its first unit.
    Overdue,
    /// The source has been silent for too long.
    Silent,
    /// Another source was faster, or the unit is there by other means.
    Had,
    /// No reader wants it any more.
    Unwanted,
}

/// Why a unit is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GiveUpReason {
    /// No source that may be asked has it.
    NobodyHasIt,
    /// Every source that was asked has failed, too often.
    Failed,
    /// A reader has waited too long.
    TooLate,
}

/// What became of a delivered unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is new.
    Useful,
    /// It was there already.
    Wasted,
}

/// What an operator sees of a source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceStatus {
    /// The source.
    pub source: SourceKey,
    /// Its name.
    pub name: Arc<str>,
    /// By what it delivers.
    pub network: Network,
    /// Verified bytes a second; `None` until it has delivered.
    pub goodput: Option<f64>,
    /// Milliseconds beyond the queue, for half of its units and for nineteen of twenty.
    pub latency_ms: [u64; 2],
    /// Units that it is asked for.
    pub in_flight_units: usize,
    /// Their bytes.
    pub in_flight_bytes: u64,
    /// Whether its next unit should have been here.
    pub overdue: bool,
}

/// What was done for a unit that is wanted and not there.
#[derive(Debug, Default)]
struct Progress {
    asked: Vec<SourceKey>,
    /// When anybody was first asked for it.
    first_asked: Option<Instant>,
    hedged: bool,
    failures: u32,
    /// Whether the next request for it is a retry, which has its own budget.
    retries: bool,
    not_before: Option<Instant>,
    given_up: bool,
}

/// See the module's head.
#[derive(Debug)]
pub struct FetchPlan {
    units: Units,
    have: Vec<bool>,
    demand: Demand,
    progress: BTreeMap<Unit, Progress>,
    lanes: BTreeMap<SourceKey, Lane>,
    options: PlanOptions,
    attribution: Attribution,
    /// What the first unit that was delivered says of strangers.
    prior: Option<Prior>,
    /// When something was first wanted.
    began: Option<Instant>,
    /// Whether no more sources are to be expected.
    settled: bool,
    asked: u64,
    explored: u64,
    actions: VecDeque<Action>,
    look: Option<(Instant, &'static str)>,
}

impl FetchPlan {
    /// Makes the plan of a content of which nothing is had.
    #[must_use]
    pub fn new(units: Units, options: PlanOptions) -> Self {
        Self {
            have: vec![false; units.count() as usize],
            units,
            demand: Demand::default(),
            progress: BTreeMap::new(),
            lanes: BTreeMap::new(),
            options,
            attribution: Attribution::default(),
            prior: None,
            began: None,
            settled: false,
            asked: 0,
            explored: 0,
            actions: VecDeque::new(),
            look: None,
        }
    }

    /// How the content is cut.
    #[must_use]
    pub const fn units(&self) -> &Units {
        &self.units
    }

    /// Whether a unit is had.
    #[must_use]
    pub fn has(&self, unit: Unit) -> bool {
        self.have.get(unit.0 as usize).copied().unwrap_or(false)
    }

    /// Who delivered what.
    #[must_use]
    pub const fn attribution(&self) -> &Attribution {
        &self.attribution
    }

    /// What an operator sees of the sources.
    #[must_use]
    pub fn status(&self) -> Vec<SourceStatus> {
        self.lanes.iter().map(|(key, lane)| lane.status(*key)).collect()
    }

    // --- readers -----------------------------------------------------------------------------------------------

    /// A reader wants the bytes `range`, in order, the first one now. Tells whether there was room for one more.
    pub fn open_reader(&mut self, now: Instant, key: ReaderKey, range: Range<u64>, options: ReaderOptions) -> bool {
        let range = range.start..range.end.min(self.units.total_len());
        let opened = self.demand.open(now, key, range, options);
        if opened {
            self.attribution.open(now, key);
            self.hope_again();
        }
        opened
    }

    /// A reader's range now ends at the byte `end`, never before what it was, nor after the last unit: for contents of which
    /// it becomes known while they are read what the next units are. Tells whether there is such a reader.
    pub fn extend_reader(&mut self, key: ReaderKey, end: u64) -> bool {
        self.demand.extend(key, end.min(self.units.total_len()))
    }

    /// A reader has read up to `position`.
    pub fn advance_reader(&mut self, now: Instant, key: ReaderKey, position: u64) {
        if let Some(span) = self.demand.advance(now, key, position) {
            self.attribution.stood_still(key, span);
        }
    }

    /// A reader was handed so many bytes of a unit: for the ledger alone. It may be quicker than who tells that the unit
    /// has come; then they are of whom the unit was asked, the first if it was asked of two.
    pub fn handed(&mut self, now: Instant, key: ReaderKey, unit: Unit, bytes: u64) {
        let asked = self.progress.get(&unit).and_then(|progress| progress.asked.first().copied());
        let asked = asked.and_then(|source| Some((source, self.attribution.network_of(source)?)));
        self.attribution.handed(now, key, unit, bytes, asked);
    }

    /// A reader is gone: what only it wanted is not wanted any more. Returns what it was handed.
    pub fn close_reader(&mut self, key: ReaderKey) -> Option<Reading> {
        self.demand.close(key);
        self.attribution.close(key)
    }

    // --- units -------------------------------------------------------------------------------------------------

    /// A unit is there by other means: it was in the cache, or came for somebody else.
    pub fn mark_had(&mut self, unit: Unit) {
        self.had(unit);
    }

    /// A unit is not there any more.
    pub fn mark_lost(&mut self, unit: Unit) {
        if let Some(had) = self.have.get_mut(unit.0 as usize) {
            *had = false;
            self.attribution.forgot(unit);
        }
    }

    /// A unit came from a source and was verified.
    pub fn on_delivered(&mut self, now: Instant, key: SourceKey, unit: Unit) -> Delivery {
        let len = self.units.len_of(unit);
        let flight = self.lanes.get_mut(&key).and_then(|lane| lane.on_delivered(now, unit));
        let lane = self.lanes.get(&key);
        let network = lane.map(|lane| lane.spec.network).or_else(|| self.attribution.network_of(key));
        let (took, hedge) = match flight {
            Some(flight) => {
                let took = now.saturating_duration_since(flight.asked_at);
                let hedge = flight.hedge;
                flight.permit.report(now, Verdict::Success);
                (took, hedge)
            }
            None => (Duration::ZERO, false),
        };
        self.lanes.iter_mut().filter(|(other, _)| **other != key).for_each(|(_, lane)| lane.overtake());
        self.teach_strangers(key);
        self.release(key, unit);
        let new = len > 0 && !self.has(unit);
        match network {
            Some(network) if new => self.attribution.delivered(unit, (key, network), len, took, hedge),
            Some(network) => self.attribution.wasted((key, network), len, false),
            None => {}
        }
        if !new {
            return Delivery::Wasted;
        }
        if let Some(at) = self.progress.get(&unit).and_then(|progress| progress.first_asked) {
            self.attribution.came_after(now.saturating_duration_since(at));
        }
        self.had(unit);
        Delivery::Useful
    }

    /// A source failed to deliver a unit.
    pub fn on_failed(&mut self, now: Instant, key: SourceKey, unit: Unit, class: FailureClass) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let Some(flight) = lane.on_failed(now, unit, class) else { return };
        let network = lane.spec.network;
        flight.permit.report(now, verdict(class));
        if class == FailureClass::Corruption {
            self.attribution.wasted((key, network), flight.len, true);
        }
        self.release(key, unit);
        let Some(progress) = self.progress.get_mut(&unit) else { return };
        let rest = match class {
            FailureClass::Neutral => ABSENCE_REST,
            FailureClass::Local => {
                progress.not_before = Some(now + LOCAL_REST);
                return;
            }
            FailureClass::Source => FAILURE_REST.saturating_mul(1 << progress.failures.min(8)),
            FailureClass::Corruption => CORRUPTION_REST,
        };
        if class != FailureClass::Neutral {
            progress.failures += 1;
            progress.retries = true;
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.rest_from(now, unit, rest);
        }
    }

    /// A unit came by other means while a source was asked for it: that is over, and says nothing of the source.
    pub fn on_elsewhere(&mut self, key: SourceKey, unit: Unit) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            drop(lane.take(unit));
        }
        self.release(key, unit);
    }

    /// Bytes of a source are coming in, though no unit is complete yet: it is not silent.
    pub fn on_progress(&mut self, now: Instant, key: SourceKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.progressed(now);
        }
    }

    /// So many bytes came of a unit that was withdrawn before it was complete: for the ledger alone.
    pub fn on_wasted(&mut self, key: SourceKey, bytes: u64) {
        if let Some(network) = self.attribution.network_of(key) {
            self.attribution.wasted((key, network), bytes, false);
        }
    }

    // --- sources -----------------------------------------------------------------------------------------------

    /// A source has come, or one that was known has come back. Tells whether there was room for one more.
    pub fn join(&mut self, key: SourceKey, spec: SourceSpec, holdings: Holdings) -> bool {
        if self.lanes.len() >= MAX_SOURCES && !self.lanes.contains_key(&key) {
            return false;
        }
        self.leave(key);
        self.attribution.joined(key, &spec.name, spec.network);
        self.lanes.insert(key, Lane::new(spec, holdings, self.prior));
        self.hope_again();
        true
    }

    /// A source is gone: what it was asked for is pending again, and nobody is blamed.
    pub fn leave(&mut self, key: SourceKey) {
        let Some(lane) = self.lanes.remove(&key) else { return };
        for flight in lane.in_flight {
            self.release(key, flight.unit);
        }
    }

    /// A source has one unit more, or less.
    pub fn source_has(&mut self, key: SourceKey, unit: Unit, has: bool) {
        let count = self.units.count();
        let Some(lane) = self.lanes.get_mut(&key).filter(|_| unit.0 < count) else { return };
        lane.holdings.set(unit, has);
        if has && self.progress.get(&unit).is_some_and(|progress| progress.given_up) {
            self.hope_again();
        }
    }

    /// Whether no more sources are to be expected: then what nobody has is given up at once.
    pub fn set_settled(&mut self, settled: bool) {
        self.settled = settled;
    }

    /// Takes another policy. What is in flight goes on; what is asked from now on is asked under the new one.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.options.policy = policy;
        self.hope_again();
    }

    // --- decisions ---------------------------------------------------------------------------------------------

    /// Decides what is to be done, as things are now.
    pub fn schedule(&mut self, now: Instant) {
        self.look = None;
        let have = &self.have;
        let has = |unit: Unit| have.get(unit.0 as usize).copied().unwrap_or(false);
        let wants = self.demand.wants(now, &self.units, has);
        self.withdraw_unwanted(&wants);
        if wants.is_empty() {
            return;
        }
        for want in &wants {
            self.progress.entry(want.unit).or_default();
        }
        self.began.get_or_insert(now);
        self.mind_silence(now);
        self.open_lanes(now, &wants);
        self.hedge(now, &wants);
        self.explore(now, &wants);
        self.deal(now, &wants);
        self.give_up(now, &wants);
        self.note_looks(now, &wants);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::schedule`] must run again though nothing happened, and why.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.look
    }

    // --- bookkeeping -------------------------------------------------------------------------------------------

    /// Ends all work on a unit, since it is there.
    fn had(&mut self, unit: Unit) {
        if let Some(had) = self.have.get_mut(unit.0 as usize) {
            *had = true;
        }
        let asked = self.progress.remove(&unit).map(|progress| progress.asked);
        asked.into_iter().flatten().for_each(|key| self.cancel(key, unit, CancelReason::Had));
    }

    /// Withdraws what nobody wants any more.
    fn withdraw_unwanted(&mut self, wants: &[Want]) {
        let wanted = units_of(wants);
        let unwanted: Vec<_> = self.progress.keys().filter(|unit| !wanted.contains(unit)).copied().collect();
        for unit in unwanted {
            let asked = self.progress.remove(&unit).map(|progress| progress.asked);
            asked.into_iter().flatten().for_each(|key| self.cancel(key, unit, CancelReason::Unwanted));
        }
    }

    /// Takes a request back, blaming nobody.
    fn cancel(&mut self, key: SourceKey, unit: Unit, why: CancelReason) {
        if let Some(lane) = self.lanes.get_mut(&key)
            && lane.take(unit).is_some()
        {
            self.actions.push_back(Action::Cancel { source: key, unit, why });
        }
        self.release(key, unit);
    }

    /// A source is not at work on a unit any more.
    fn release(&mut self, key: SourceKey, unit: Unit) {
        if let Some(progress) = self.progress.get_mut(&unit) {
            progress.asked.retain(|other| *other != key);
            progress.hedged &= !progress.asked.is_empty();
        }
    }

    /// The first delivery says what may be expected of those who have delivered nothing.
    fn teach_strangers(&mut self, key: SourceKey) {
        if self.prior.is_some() {
            return;
        }
        self.prior = self.lanes.get(&key).and_then(|lane| lane.estimate.as_prior());
        let Some(prior) = self.prior else { return };
        self.lanes.values_mut().filter(|lane| !lane.estimate.is_known()).for_each(|lane| lane.estimate.assume(prior));
    }

    /// What was given up may come after all.
    fn hope_again(&mut self) {
        for progress in self.progress.values_mut().filter(|progress| progress.given_up) {
            progress.given_up = false;
            progress.failures = 0;
        }
    }

    /// Gives up what a reader waits for and nobody will deliver.
    fn give_up(&mut self, now: Instant, wants: &[Want]) {
        for want in wants {
            let Some(since) = want.waiting_since() else { continue };
            let late_at = since + self.options.patience;
            let nobody = !self.lanes.values().any(|lane| lane.could_serve(&self.options.policy, want.unit));
            let Some(progress) = self.progress.get_mut(&want.unit) else { continue };
            let at_work = |key: &SourceKey| self.lanes.get(key).is_some_and(|lane| !lane.overdue);
            if progress.given_up || progress.asked.iter().any(at_work) {
                continue;
            }
            let why = match (nobody, now >= late_at) {
                (true, late) if late || self.settled => GiveUpReason::NobodyHasIt,
                _ if progress.failures >= MAX_FAILURES => GiveUpReason::Failed,
                (false, true) => GiveUpReason::TooLate,
                _ => {
                    self.look_at(now, late_at, "a reader may have waited for too long");
                    continue;
                }
            };
            if why == GiveUpReason::TooLate && self.take_for_another(now, want.unit) {
                continue;
            }
            if let Some(progress) = self.progress.get_mut(&want.unit) {
                progress.given_up = true;
            }
            self.actions.push_back(Action::GiveUp { unit: want.unit, why });
        }
    }

    /// Looks again at this time, unless something comes first. A time that has passed is one at which all was done.
    fn look_at(&mut self, now: Instant, at: Instant, why: &'static str) {
        if at > now && self.look.is_none_or(|(before, _)| at < before) {
            self.look = Some((at, why));
        }
    }
}
