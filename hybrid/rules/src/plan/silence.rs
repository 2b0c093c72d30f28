//! Sources that should have delivered and have not: what is taken from them, and when to look again.

use std::time::{Duration, Instant};

use super::lane::{Gate, Lane};
use super::{Action, CancelReason, FetchPlan};
use crate::classify::Verdict;
use crate::demand::Want;
use crate::source::SourceKey;
use crate::units::Unit;

/// A unit is looked at when its reader is so near; see the demand's horizon.
const NEAR: Duration = Duration::from_millis(1500);
/// But not more often than so.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What was taken from a source is asked of another after so long.
const TAKEN: Duration = Duration::from_millis(1);

impl FetchPlan {
    /// Takes from overdue sources all but the first unit, if others have it, and from silent ones that too.
    pub(super) fn mind_silence(&mut self, now: Instant) {
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        for key in keys {
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let late = |at: Option<Instant>| at.is_some_and(|at| now >= at);
            let (overdue, silent, long_silent) =
                (late(lane.overdue_at()), late(lane.silent_at(false)), late(lane.silent_at(true)));
            let first = lane.in_flight.first().map(|flight| flight.unit);
            if overdue && !lane.overdue {
                lane.overdue = true;
                lane.estimate.on_late();
            }
            lane.overdue &= overdue;
            let replaced = silent && first.is_some_and(|unit| self.others_serve(now, key, unit));
            if replaced || long_silent {
                self.give_up_on(now, key);
            } else if overdue {
                self.take_what_others_have(now, key);
            }
        }
    }

    /// Takes from a source what it has not begun, as far as others can deliver it.
    fn take_what_others_have(&mut self, now: Instant, key: SourceKey) {
        let Some(lane) = self.lanes.get(&key) else { return };
        let queued: Vec<_> = lane.in_flight.iter().skip(1).map(|flight| flight.unit).collect();
        for unit in queued {
            if self.others_serve(now, key, unit) {
                self.cancel(key, unit, CancelReason::Overdue);
            }
        }
    }

    /// Whether somebody else at work has a unit.
    fn others_serve(&self, now: Instant, key: SourceKey, unit: Unit) -> bool {
        let able = |lane: &Lane| {
            let works = !lane.overdue && lane.rest().is_none() && !matches!(lane.gate, Gate::Shut(Some(_)));
            works && lane.could_serve(&self.options.policy, unit) && lane.serves(now, unit)
        };
        self.lanes.iter().any(|(other, lane)| *other != key && able(lane))
    }

    /// Takes a unit from those that are overdue with it, when there is somebody who was not asked. Tells whether that is
    /// so: a reader is not told that it will not come before all have had their turn.
    pub(super) fn take_for_another(&mut self, now: Instant, unit: Unit) -> bool {
        let asked = self.progress.get(&unit).map(|progress| progress.asked.clone()).unwrap_or_default();
        let untried = |(key, lane): (&SourceKey, &Lane)| {
            !asked.contains(key) && !lane.overdue && lane.gate == Gate::Open && lane.serves(now, unit)
        };
        if asked.is_empty() || !self.lanes.iter().any(untried) {
            return false;
        }
        asked.into_iter().for_each(|key| self.give_up_on(now, key));
        self.look_at(now, now + TAKEN, "a unit was taken from those that are late with it");
        true
    }

    /// Takes all from a silent source. Its first unit has failed; the rest was never begun.
    pub(super) fn give_up_on(&mut self, now: Instant, key: SourceKey) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.fall_silent(now);
        let units: Vec<_> = lane.in_flight.iter().map(|flight| flight.unit).collect();
        for (place, unit) in units.into_iter().enumerate() {
            let flight = self.lanes.get_mut(&key).and_then(|lane| lane.take(unit));
            if let Some(flight) = flight.filter(|_| place == 0) {
                flight.permit.report(now, Verdict::Failure);
                if let Some(progress) = self.progress.get_mut(&unit) {
                    progress.failures += 1;
                    progress.retries = progress.asked.len() < 2;
                }
            }
            self.release(key, unit);
            self.actions.push_back(Action::Cancel { source: key, unit, why: CancelReason::Silent });
        }
    }

    /// Notes when to look again.
    pub(super) fn note_looks(&mut self, now: Instant, wants: &[Want]) {
        let pending: Vec<_> = wants.iter().filter(|want| self.is_unasked(want)).collect();
        let mut looks: Vec<(Instant, &'static str)> = Vec::new();
        for (key, lane) in &self.lanes {
            let ats = [lane.overdue_at(), lane.silent_at(false), lane.silent_at(true)];
            looks.extend(ats.into_iter().flatten().map(|at| (at, "a source may have fallen silent")));
            if let Gate::Shut(Some(at)) = lane.gate {
                looks.push((at, "a source may be asked again"));
            }
            if pending.is_empty() {
                continue;
            }
            looks.extend(self.forgotten_at(*key).map(|at| (at, "a source was not asked for long")));
            let rests = pending.iter().filter_map(|want| lane.rests_until(want.unit)).filter(|at| *at > now).min();
            looks.extend(rests.map(|at| (at, "a unit has rested")));
        }
        let not_before = |want: &&Want| self.progress.get(&want.unit).and_then(|progress| progress.not_before);
        looks.extend(pending.iter().filter_map(not_before).map(|at| (at, "a unit may be asked for again")));
        let near = wants.iter().filter_map(Want::deadline).map(|at| at.checked_sub(NEAR).unwrap_or(at));
        // A reader that stands still comes no nearer, however often one looks.
        let near = near.filter(|at| *at > now).min().map(|at| at.max(now + LOOK_AGAIN));
        looks.extend(near.map(|at| (at, "a unit becomes urgent")));
        looks.into_iter().for_each(|(at, why)| self.look_at(now, at, why));
    }

    fn is_unasked(&self, want: &Want) -> bool {
        self.progress.get(&want.unit).is_some_and(|progress| progress.asked.is_empty() && !progress.given_up)
    }
}
