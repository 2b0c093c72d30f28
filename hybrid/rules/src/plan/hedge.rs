//! Asking a second source for what a reader is about to need and the first one is late with.

use std::time::{Duration, Instant};

use super::lane::{Gate, Lane};
use super::{AskReason, FetchPlan};
use crate::demand::Want;
use crate::estimate::Likely;
use crate::source::{Domain, SourceKey};

/// A source that nothing is known of is late after so long, unless bytes are coming in.
const STRANGER_LATE: Duration = Duration::from_millis(400);
/// When to ask again for leave that was not given.
const ASK_AGAIN: Duration = Duration::from_millis(100);

impl FetchPlan {
    /// Hedges what is urgent and late, once for each time that it was asked for.
    pub(super) fn hedge(&mut self, now: Instant, wants: &[Want]) {
        for want in wants.iter().filter(|want| want.is_urgent(now)) {
            let Some((first, late_at)) = self.asked_once(now, want) else { continue };
            if now < late_at {
                self.look_at(now, late_at, "a unit may be late");
                continue;
            }
            let Some(second) = self.second_source(now, want, first) else { continue };
            let len = self.units.len_of(want.unit);
            let Some(lane) = self.lanes.get_mut(&first) else { continue };
            if self.options.budget.try_hedge(len, self.options.policy.hedge_share()) {
                lane.estimate.on_late();
                self.ask(now, second, want, AskReason::Hedge);
            } else if lane.overdue {
                // Nothing shows that it is at work: what may not be asked of two is taken from it, and asked of another.
                self.give_up_on(now, first);
            } else {
                lane.put_off(want.unit, now + ASK_AGAIN);
                self.look_at(now, now + ASK_AGAIN, "a unit is late");
            }
        }
    }

    /// Who was asked for a unit, if it is one source and no other was, and when it is late.
    fn asked_once(&self, now: Instant, want: &Want) -> Option<(SourceKey, Instant)> {
        let progress = self.progress.get(&want.unit).filter(|progress| !progress.hedged)?;
        let [first] = progress.asked[..] else { return None };
        let lane = self.lanes.get(&first)?;
        let flight = lane.in_flight.iter().find(|flight| flight.unit == want.unit)?;
        let shows_nothing = !lane.estimate.is_known() && lane.last_progress.is_none_or(|at| at <= flight.asked_at);
        let late_at = match (lane.overdue, shows_nothing) {
            (true, _) => flight.late_at.min(now),
            (false, true) => flight.late_at.min(flight.asked_at + STRANGER_LATE),
            (false, false) => flight.late_at,
        };
        Some((first, late_at.max(flight.put_off_until.unwrap_or(late_at))))
    }

    /// The source that would deliver a unit soonest, of those that do not fail together with the first.
    fn second_source(&self, now: Instant, want: &Want, first: SourceKey) -> Option<SourceKey> {
        let len = self.units.len_of(want.unit);
        let domain: Domain = self.lanes.get(&first)?.spec.domain;
        let able = |lane: &Lane| {
            lane.gate == Gate::Open
                && lane.spec.domain != domain
                && lane.serves(now, want.unit)
                && lane.within_bulkhead(len)
        };
        let able = self.lanes.iter().filter(|(key, lane)| able(lane) && self.may_begin(**key));
        let soonest = able.min_by_key(|(key, lane)| {
            let stranger = !lane.estimate.is_known();
            (stranger, lane.estimate.completion(lane.queue(now), len, Likely::Nearly), **key)
        });
        soonest.map(|(key, _)| *key)
    }
}
