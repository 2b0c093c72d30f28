//! Asking one source for one unit: the permit, the budget, the note of what was asked.

use std::time::{Duration, Instant};

use super::lane::Gate;
use super::{Action, AskReason, FetchPlan};
use crate::breaker::Urgency;
use crate::demand::Want;
use crate::source::SourceKey;

/// Sources of which nothing is known start one after the other, so far apart: the one to be asked first may have
/// delivered all before the others are troubled.
const STAGGER: Duration = Duration::from_millis(150);
/// The third and all after it start together.
const STAGGERED: u32 = 2;

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Yes,
    /// The source may not be asked now.
    NotThere,
    /// The unit may not be asked for now.
    NotYet,
}

impl FetchPlan {
    /// Works out who may be asked now.
    pub(super) fn open_lanes(&mut self, now: Instant, wants: &[Want]) {
        let mut order: Vec<_> = self.lanes.iter().map(|(key, lane)| (lane.spec.rank, *key)).collect();
        order.sort_unstable();
        let began = self.began.unwrap_or(now);
        let mut before = 0;
        for (_, key) in order {
            let gate = self.gate_of(now, key);
            let start = began + STAGGER * before;
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            // Nobody waits for those that have nothing to give.
            if gate == Gate::Open && wants.iter().any(|want| lane.serves(now, want.unit)) {
                before = (before + 1).min(STAGGERED);
            }
            let early = now < start && gate == Gate::Open && !lane.estimate.is_known();
            lane.gate = if early { Gate::Shut(Some(start)) } else { gate };
        }
    }

    fn gate_of(&self, now: Instant, key: SourceKey) -> Gate {
        let Some(lane) = self.lanes.get(&key) else { return Gate::Shut(None) };
        if !self.options.policy.allows(lane.spec.network) || lane.overdue {
            return Gate::Shut(None);
        }
        if let Some(until) = lane.rest().filter(|until| now < *until) {
            return Gate::Shut(Some(until));
        }
        let idle = lane.in_flight.is_empty();
        match self.options.breakers.peek(now, &lane.spec.breaker, Urgency::NobodyElse) {
            Ok(false) if lane.rest().is_none() => Gate::Open,
            Ok(_) if idle => Gate::Trial,
            Ok(_) => Gate::Shut(None),
            Err(refusal) => Gate::Shut(Some(refusal.retry_at)),
        }
    }

    /// Asks a source for a unit, if its breaker and the budget allow it.
    pub(super) fn ask(&mut self, now: Instant, key: SourceKey, want: &Want, why: AskReason) -> Asked {
        let len = self.units.len_of(want.unit);
        let urgency = match why {
            AskReason::Striped | AskReason::Probe | AskReason::Explore | AskReason::Retry => Urgency::Relaxed,
            AskReason::Urgent | AskReason::Hedge => Urgency::Urgent,
            AskReason::NobodyElse => Urgency::NobodyElse,
        };
        let hedge = why == AskReason::Hedge;
        let Some(progress) = self.progress.get_mut(&want.unit) else { return Asked::NotYet };
        let Some(lane) = self.lanes.get_mut(&key) else { return Asked::NotThere };
        let permit = match self.options.breakers.try_acquire(now, &lane.spec.breaker, urgency) {
            Ok(permit) => permit,
            Err(refusal) => {
                lane.gate = Gate::Shut(Some(refusal.retry_at));
                return Asked::NotThere;
            }
        };
        let retry = progress.retries && !hedge;
        if retry && let Err(at) = self.options.budget.try_retry(now) {
            progress.not_before = Some(at);
            return Asked::NotYet;
        }
        // Who is asked because another was overdue or has left delivers no more than was to come before.
        if !retry && !hedge && progress.first_asked.is_none() {
            self.options.budget.earn(len);
        }
        if !hedge {
            progress.retries = false;
        }
        progress.hedged |= hedge;
        progress.asked.push(key);
        progress.first_asked.get_or_insert(now);
        lane.ask(now, want.unit, len, hedge, permit);
        if lane.gate == Gate::Trial {
            lane.gate = Gate::Shut(None);
        }
        if hedge {
            self.attribution.hedged(key);
        }
        self.asked += 1;
        let why = if retry && why != AskReason::NobodyElse { AskReason::Retry } else { why };
        self.actions.push_back(Action::Ask { source: key, unit: want.unit, why, deadline: want.deadline() });
        Asked::Yes
    }

    /// Whether a unit is to be asked for now.
    pub(super) fn is_pending(&self, now: Instant, want: &Want) -> bool {
        let Some(progress) = self.progress.get(&want.unit) else { return false };
        let due = progress.not_before.is_none_or(|at| now >= at);
        progress.asked.is_empty() && !progress.given_up && due
    }
}
