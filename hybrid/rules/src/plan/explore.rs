//! Trying sources that would not be asked otherwise: those whose breaker is half open, those that were silent, and those
//! that were slow once and may have become fast.
//!
//! They get one unit at a time, the last of those that are wanted, and only when its reader is far from it: whatever
//! becomes of it, there is time to ask somebody else. But when a reader stands still, who is at work is too slow, and
//! there is no time to win by leaving out who may be back.

use std::time::{Duration, Instant};

use super::ask::Asked;
use super::lane::{Gate, Lane};
use super::{AskReason, FetchPlan};
use crate::demand::Want;
use crate::source::SourceKey;

/// A unit is for trying when its reader is so far from it.
const FAR: Duration = Duration::from_secs(3);
/// Or when so many are pending before it.
const BACKLOG: usize = 4;
/// A source that was not asked for so long is tried, though others are faster.
const FORGOTTEN: Duration = Duration::from_secs(10);
/// Of so many requests one may be to such a source.
const EXPLORED: u64 = 20;

impl FetchPlan {
    /// Gives those that are to be tried one unit each.
    pub(super) fn explore(&mut self, now: Instant, wants: &[Want]) {
        let keys: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| self.is_to_be_tried(now, lane)).map(|it| *it.0).collect();
        if keys.is_empty() {
            return;
        }
        let mut pending: Vec<_> = wants.iter().filter(|want| self.is_pending(now, want)).collect();
        let starving = self.demand.lives_from_hand_to_mouth(now);
        for key in keys {
            let backlog = pending.len() > BACKLOG;
            let Some(lane) = self.lanes.get(&key).filter(|_| self.may_begin(key)) else { continue };
            let far = |want: &Want| !want.is_urgent(now) && (backlog || want.can_wait(now, FAR));
            let fit = |want: &Want| far(want) || starving && want.waiting_since().is_none();
            let place = pending.iter().rposition(|want| lane.serves(now, want.unit) && fit(want));
            let Some(place) = place else { continue };
            let why = if lane.gate == Gate::Trial { AskReason::Probe } else { AskReason::Explore };
            let want = pending.remove(place);
            if self.ask(now, key, want, why) == Asked::Yes && why == AskReason::Explore {
                self.explored += 1;
            }
        }
    }

    fn is_to_be_tried(&self, now: Instant, lane: &Lane) -> bool {
        match lane.gate {
            Gate::Trial => true,
            Gate::Open => self.is_forgotten(now, lane) && self.explored * EXPLORED <= self.asked,
            Gate::Shut(_) => false,
        }
    }

    fn is_forgotten(&self, now: Instant, lane: &Lane) -> bool {
        let idle = lane.in_flight.is_empty() && lane.estimate.is_known();
        let long = |at: Instant| now.saturating_duration_since(at) >= FORGOTTEN;
        idle && lane.asked_at.or(self.began).is_some_and(long) && self.others_at_work(lane)
    }

    fn others_at_work(&self, lane: &Lane) -> bool {
        self.lanes.values().any(|other| !std::ptr::eq(other, lane) && !other.in_flight.is_empty())
    }

    /// When a source that is not asked will be one to try, while something is pending.
    pub(super) fn forgotten_at(&self, key: SourceKey) -> Option<Instant> {
        let lane = self.lanes.get(&key).filter(|lane| lane.gate == Gate::Open && lane.in_flight.is_empty())?;
        Some(lane.asked_at.or(self.began)? + FORGOTTEN)
    }
}
