//! What is done again and again, and when: announces before peers forget them, items before nodes do.
//!
//! A job is waiting or running. The one due longest runs first, and no more than [`MAX_RUNNING`] run at a time, so that
//! ten thousand announces after a start are a stream and not a storm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::random::Random;

/// Jobs that run at a time. Each asks 4 nodes at a time in each family.
pub(super) const MAX_RUNNING: usize = 16;
/// The first pause after a job that reached nobody; doubled with each.
const FIRST_RETRY: Duration = Duration::from_secs(15);

/// A job of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(u64);

/// See the module's head.
#[derive(Debug)]
pub(super) struct Schedule<T> {
    jobs: BTreeMap<JobId, Job<T>>,
    waiting: BTreeSet<(Instant, JobId)>,
    next: u64,
}

#[derive(Debug)]
struct Job<T> {
    what: T,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Running,
}

impl<T> Default for Schedule<T> {
    fn default() -> Self {
        Self { jobs: BTreeMap::new(), waiting: BTreeSet::new(), next: 0 }
    }
}

impl<T> Schedule<T> {
    /// Adds what is to be done at `due`, and then again.
    pub(super) fn add(&mut self, due: Instant, what: T) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        self.jobs.insert(id, Job { what, state: State::Waiting(due), failures: 0 });
        self.waiting.insert((due, id));
        id
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<T> {
        let job = self.jobs.remove(&id)?;
        if let State::Waiting(due) = job.state {
            self.waiting.remove(&(due, id));
        }
        Some(job.what)
    }

    pub(super) fn get(&self, id: JobId) -> Option<&T> {
        self.jobs.get(&id).map(|job| &job.what)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut T> {
        self.jobs.get_mut(&id).map(|job| &mut job.what)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// All jobs, with when each is due; one that runs is due now.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &T, Option<Instant>)> {
        self.jobs.iter().map(|(id, job)| match job.state {
            State::Waiting(due) => (*id, &job.what, Some(due)),
            State::Running => (*id, &job.what, None),
        })
    }

    /// Begins the next job that is due.
    pub(super) fn begin(&mut self, now: Instant) -> Option<JobId> {
        let (due, id) = self.waiting.first().copied().filter(|(due, _)| *due <= now && self.has_room())?;
        self.waiting.remove(&(due, id));
        self.jobs.get_mut(&id)?.state = State::Running;
        Some(id)
    }

    /// Says how a job went: it comes again within `pause`, or sooner when it reached nobody.
    pub(super) fn finished(&mut self, now: Instant, id: JobId, reached: bool, pause: Duration, random: &mut Random) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == State::Running) else { return };
        job.failures = if reached { 0 } else { job.failures + 1 };
        let retry = FIRST_RETRY * 2_u32.pow(job.failures.saturating_sub(1).min(10));
        let pause = if reached { pause } else { retry.min(pause) };
        let due = now + random.earlier(pause);
        job.state = State::Waiting(due);
        self.waiting.insert((due, id));
    }

    /// When the next job begins, if one may.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.first().map(|(due, _)| *due).filter(|_| self.has_room())
    }

    fn has_room(&self) -> bool {
        self.jobs.len() - self.waiting.len() < MAX_RUNNING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn no_more_run_at_a_time_than_may_and_the_rest_follow_in_order() {
        let (now, mut random) = (start(), Random::new(&[1; 32]));
        let mut schedule = Schedule::default();
        let ids: Vec<_> = (0..40).map(|n| schedule.add(now, n)).collect();
        let begun: Vec<_> = std::iter::from_fn(|| schedule.begin(now)).collect();
        assert_eq!(begun, ids[..MAX_RUNNING]);
        assert_eq!(schedule.next_due(), None);
        schedule.finished(now, ids[0], true, HOUR, &mut random);
        assert_eq!(schedule.begin(now), Some(ids[MAX_RUNNING]));
    }

    #[test]
    fn a_job_comes_again_within_its_time_and_sooner_when_it_reached_nobody() {
        let (now, mut random) = (start(), Random::new(&[1; 32]));
        let mut schedule = Schedule::default();
        let id = schedule.add(now, ());
        let mut pause = |schedule: &mut Schedule<()>, reached| {
            let at = schedule.next_due().unwrap();
            schedule.begin(at).unwrap();
            schedule.finished(at, id, reached, HOUR, &mut random);
            schedule.next_due().unwrap() - at
        };
        assert!((HOUR * 3 / 4..=HOUR).contains(&pause(&mut schedule, true)));
        let failed: Vec<_> = (0..12).map(|_| pause(&mut schedule, false)).collect();
        assert!(failed[0] <= FIRST_RETRY && failed.iter().all(|pause| *pause <= HOUR), "{failed:?}");
        assert!(failed[11] >= HOUR * 3 / 4);
    }

    #[test]
    fn what_is_removed_does_not_come_again() {
        let (now, mut random) = (start(), Random::new(&[1; 32]));
        let mut schedule = Schedule::default();
        let (one, other) = (schedule.add(now, 'a'), schedule.add(now, 'b'));
        assert_eq!(schedule.begin(now), Some(one));
        assert_eq!((schedule.remove(one), schedule.remove(other)), (Some('a'), Some('b')));
        schedule.finished(now, one, true, HOUR, &mut random);
        assert_eq!((schedule.begin(now + HOUR), schedule.next_due()), (None, None));
    }
}
