//! Who is asked for what: units are dealt out in the order in which they are wanted, each to where it would be complete
//! first behind all that was dealt out before.
//!
//! What is dealt to a source that has no room is not asked of anybody: it will be, when that source has room, since it
//! still delivers sooner than the others would. That is what makes all sources finish together.

use std::time::{Duration, Instant};

use super::ask::Asked;
use super::lane::{Gate, Lane};
use super::{AskReason, FetchPlan};
use crate::demand::Want;
use crate::estimate::Likely;
use crate::source::SourceKey;

/// How long the queue at a source may be while nobody waits.
const QUEUE_TARGET: Duration = Duration::from_millis(1000);
/// How long it may be while a reader waits, or has nothing in hand, or while the others may have to do what a source
/// in doubt holds: whatever is queued now comes before that.
const SHORT_QUEUE_TARGET: Duration = Duration::from_millis(400);
/// Sources that have delivered nothing yet and are at work at the same time.
const MAX_STRANGERS: usize = 3;

/// A source and what was dealt to it.
#[derive(Debug)]
struct Line {
    key: SourceKey,
    /// Bytes before the next unit, those that were only dealt included.
    queue: u64,
    full: bool,
    busy: bool,
    stranger: bool,
}

/// How good a source is for a unit; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
struct Score {
    misses: bool,
    seconds: f64,
    rank: u32,
}

impl FetchPlan {
    /// Deals out what is wanted.
    pub(super) fn deal(&mut self, now: Instant, wants: &[Want]) {
        let doubt = self.lanes.values().any(|lane| lane.is_in_doubt(now));
        let short = doubt || self.demand.lives_from_hand_to_mouth(now);
        let target = if short { SHORT_QUEUE_TARGET } else { QUEUE_TARGET };
        // Who is in doubt gets no more until it has delivered.
        let is_open = |lane: &Lane| lane.gate == Gate::Open && !lane.is_in_doubt(now);
        let open = self.lanes.iter().filter(|(_, lane)| is_open(lane));
        let line = |(key, lane): (&SourceKey, &Lane)| Line {
            key: *key,
            queue: lane.queue(now),
            full: false,
            busy: is_busy(lane),
            stranger: !lane.estimate.is_known(),
        };
        let mut lines: Vec<_> = open.map(line).collect();
        let elsewhere = self.lanes.values().filter(|lane| !is_open(lane) && is_busy(lane)).count();
        let mut trials = self.lanes.values().any(|lane| lane.gate == Gate::Trial);
        for want in wants {
            if lines.iter().all(|line| line.full) && !trials {
                break;
            }
            if !self.is_pending(now, want) {
                continue;
            }
            match self.best_line(now, want, &lines, elsewhere) {
                Some(place) => self.deal_to(now, want, &mut lines[place], target),
                None if trials => trials = self.try_nobody_else(now, want),
                None => {}
            }
        }
    }

    fn deal_to(&mut self, now: Instant, want: &Want, line: &mut Line, target: Duration) {
        let len = self.units.len_of(want.unit);
        let has_room = !line.full && self.lanes.get(&line.key).is_some_and(|lane| lane.has_room(len, target));
        let why = if want.is_urgent(now) { AskReason::Urgent } else { AskReason::Striped };
        if !has_room {
            line.full = true;
        } else {
            match self.ask(now, line.key, want, why) {
                Asked::Yes => line.busy = true,
                Asked::NotThere => line.full = true,
                Asked::NotYet => return,
            }
        }
        line.queue = line.queue.saturating_add(len);
    }

    /// Asks a source that is to be tried, since nobody else could be asked. Tells whether there are more of them.
    fn try_nobody_else(&mut self, now: Instant, want: &Want) -> bool {
        let trial = |lane: &Lane| lane.gate == Gate::Trial;
        // Who is only busy is somebody else.
        let others = self.lanes.values().any(|lane| lane.gate == Gate::Open && lane.serves(now, want.unit));
        let able = self.lanes.iter().find(|(_, lane)| trial(lane) && lane.serves(now, want.unit));
        let key = able.map(|(key, _)| *key).filter(|_| !others);
        if let Some(key) = key {
            self.ask(now, key, want, AskReason::NobodyElse);
        }
        self.lanes.values().any(trial)
    }

    /// The line that is best for a unit, of those that serve it, when so many sources are busy that have no line.
    fn best_line(&self, now: Instant, want: &Want, lines: &[Line], elsewhere: usize) -> Option<usize> {
        let busy = lines.iter().filter(|line| line.busy).count() + elsewhere;
        let strangers = lines.iter().filter(|line| line.busy && line.stranger).count();
        let crowded = busy >= self.options.policy.max_sources.max(1);
        let mut best: [Option<(Score, usize)>; 2] = [None, None];
        for (place, line) in lines.iter().enumerate() {
            if !line.busy && (crowded || line.stranger && strangers >= MAX_STRANGERS) {
                continue;
            }
            let Some(lane) = self.lanes.get(&line.key).filter(|lane| lane.serves(now, want.unit)) else { continue };
            let score = self.score(now, want, lane, line.queue);
            // A reader that waits is no place for experiments. To ask again who was silent is one too.
            let class = usize::from((line.stranger || lane.was_silent()) && want.is_urgent(now));
            if best[class].is_none_or(|(least, _)| score < least) {
                best[class] = Some((score, place));
            }
        }
        let [known, stranger] = best;
        known.or(stranger).map(|(_, place)| place)
    }

    /// How good a source is for a unit: soonest by the policy's weights and costs if it is in time for the reader, else
    /// the least likely to be much too late.
    fn score(&self, now: Instant, want: &Want, lane: &Lane, queue: u64) -> Score {
        let (len, rank) = (self.units.len_of(want.unit), lane.spec.rank);
        let nearly = lane.estimate.completion(queue, len, Likely::Nearly);
        let misses = want.waiting_since().is_some() || want.deadline().is_some_and(|deadline| now + nearly > deadline);
        if misses {
            let seconds = nearly.as_secs_f64() * (1.0 + lane.estimate.late_share());
            return Score { misses, seconds, rank };
        }
        let policy = &self.options.policy;
        let half = lane.estimate.completion(queue, len, Likely::Half).as_secs_f64();
        let seconds = half / policy.weight(lane.spec.network) + policy.cost(lane.spec.network).as_secs_f64();
        Score { misses, seconds, rank }
    }

    /// Whether one more source may be asked, beside those that are.
    pub(super) fn may_begin(&self, key: SourceKey) -> bool {
        let busy = self.lanes.iter().filter(|(other, lane)| **other != key && is_busy(lane)).count();
        busy < self.options.policy.max_sources.max(1)
    }
}

fn is_busy(lane: &Lane) -> bool {
    !lane.in_flight.is_empty() && !lane.overdue
}
