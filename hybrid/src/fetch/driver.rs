//! The task of a fetch: it does what the plan says, and tells the plan what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use swarmgate_content::{BoxFuture, VerifiedBytes};
use swarmgate_hybrid_rules::{Action, CancelReason, Delivery, Name, SourceKey, Unit};
use tokio_util::sync::CancellationToken;

use super::Fetch;
use crate::crowd::Crowds;
use crate::lane::LaneFault;

/// How long a content without readers keeps what it has learned of its sources.
const LINGER: Duration = Duration::from_secs(60);

/// Withdrawn units that are remembered; the first of the content go first.
const MAX_WITHDRAWN: usize = 4096;

type Outcome = Result<Result<Option<VerifiedBytes>, LaneFault>, Aborted>;

/// A request under way.
struct Asked {
    number: u64,
    abort: AbortHandle,
}

/// What the task owns.
struct Driver {
    fetch: Arc<Fetch>,
    futures: FuturesUnordered<BoxFuture<'static, (SourceKey, Unit, u64, Outcome)>>,
    asked: BTreeMap<(SourceKey, Unit), Asked>,
    /// What each lane had received at the last look.
    received: BTreeMap<SourceKey, u64>,
    /// Who was asked last for units that were withdrawn: a swarm may send them all the same.
    withdrawn: BTreeMap<Unit, SourceKey>,
    crowds: Crowds,
    /// Crowds of which nobody is there.
    deserted: BTreeSet<SourceKey>,
    /// What was found out and is to be noted.
    notes: Vec<BoxFuture<'static, ()>>,
}

impl Fetch {
    /// Does what the plan says, until it has had no readers for a while or is to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut driver = Driver {
            fetch: self,
            futures: FuturesUnordered::new(),
            asked: BTreeMap::new(),
            received: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            crowds: Crowds::default(),
            deserted: BTreeSet::new(),
            notes: Vec::new(),
        };
        let mut idle_since = Instant::now();
        loop {
            for note in std::mem::take(&mut driver.notes) {
                note.await;
            }
            driver.meet_crowds();
            let wake = driver.decide();
            if driver.fetch.readers() > 0 {
                idle_since = Instant::now();
            } else if idle_since.elapsed() >= driver.fetch.outside.linger(LINGER) {
                return;
            }
            let wake = wake.unwrap_or(idle_since + LINGER).min(Instant::now() + LINGER);
            tokio::select! {
                () = stop.cancelled() => return driver.fetch.end(),
                Some((key, unit, number, outcome)) = driver.futures.next(), if !driver.futures.is_empty() => {
                    driver.hear(key, unit, number, outcome);
                    while let Some(Some((key, unit, number, outcome))) = driver.futures.next().now_or_never() {
                        driver.hear(key, unit, number, outcome);
                    }
                }
                (key, somebody) = driver.crowds.next() => driver.on_crowd(key, somebody),
                () = driver.fetch.bell.notified() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }
}

impl Driver {
    fn meet_crowds(&mut self) {
        let news = std::mem::take(&mut *self.fetch.crowds.lock());
        news.into_iter().for_each(|(key, crowd)| self.crowds.watch(key, crowd));
    }

    /// The last of a crowd has left, or somebody is there again: until then others have what it was asked for.
    fn on_crowd(&mut self, key: SourceKey, somebody: bool) {
        let Some(lane) = self.fetch.lanes.lock().get(&key).cloned() else { return };
        if somebody && self.deserted.remove(&key) {
            self.fetch.outside.source(&lane.spec(), true);
            self.fetch.plan.lock().join(key, lane.spec(), lane.holdings());
        } else if !somebody && self.deserted.insert(key) {
            self.fetch.outside.source(&lane.spec(), false);
            self.fetch.plan.lock().leave(key);
            self.withdraw_all(key);
            lane.seek();
        }
    }

    /// Ends every request to a source, which may deliver all the same.
    fn withdraw_all(&mut self, key: SourceKey) {
        let asked: Vec<_> = self.asked.keys().filter(|(source, _)| *source == key).copied().collect();
        for (source, unit) in asked {
            if let Some(asked) = self.asked.remove(&(source, unit)) {
                asked.abort.abort();
                self.note_withdrawn(source, unit, CancelReason::Silent);
            }
        }
    }

    /// Has the plan decide, does what it says, and tells when it wants to be asked again.
    fn decide(&mut self) -> Option<Instant> {
        let now = Instant::now();
        self.note_progress(now);
        loop {
            let (actions, wake) = {
                let mut plan = self.fetch.plan.lock();
                plan.schedule(now);
                let actions: Vec<_> = std::iter::from_fn(|| plan.poll_action()).collect();
                (actions, plan.poll_timeout().map(|(at, _)| at))
            };
            let mut had = false;
            for action in actions {
                had |= self.act(action);
            }
            if !had {
                self.fetch.outside.look_at_breakers();
                return wake;
            }
        }
    }

    /// Tells the plan of lanes from which anything came, be it a whole unit or not.
    fn note_progress(&mut self, now: Instant) {
        let lanes = self.fetch.lanes.lock();
        let mut plan = self.fetch.plan.lock();
        for (key, lane) in lanes.iter() {
            let received = lane.received_bytes();
            if self.received.insert(*key, received).is_some_and(|before| before < received) {
                plan.on_progress(now, *key);
            }
        }
    }

    /// Does one thing. Whether it turned out that a unit is there already, so that the plan must decide again.
    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Ask { unit, .. } if self.fetch.ground.has(unit) => {
                self.find(unit);
                return true;
            }
            Action::Ask { source, unit, .. } => self.ask(source, unit),
            Action::Cancel { source, unit, why } => {
                if let Some(asked) = self.asked.remove(&(source, unit)) {
                    asked.abort.abort();
                    self.note_withdrawn(source, unit, why);
                    self.mind_the_quick(unit, why);
                }
            }
            Action::GiveUp { unit, why } => self.fetch.give_up(unit, why),
        }
        false
    }

    /// A unit is there already: from who was asked for it, though it was withdrawn, or by other means.
    fn find(&mut self, unit: Unit) {
        let mut plan = self.fetch.plan.lock();
        match self.withdrawn.remove(&unit) {
            Some(key) => drop(plan.on_delivered(Instant::now(), key, unit)),
            None => plan.mark_had(unit),
        }
    }

    /// A reader may be past a unit before it was heard that the unit has come: that it is not wanted any more says so.
    fn mind_the_quick(&mut self, unit: Unit, why: CancelReason) {
        let unheard = why == CancelReason::Unwanted && !self.fetch.plan.lock().has(unit);
        if unheard && self.fetch.ground.has(unit) {
            self.find(unit);
        }
    }

    fn note_withdrawn(&mut self, key: SourceKey, unit: Unit, why: CancelReason) {
        if why != CancelReason::Had {
            self.withdrawn.insert(unit, key);
        }
        if self.withdrawn.len() > MAX_WITHDRAWN {
            self.withdrawn.pop_first();
        }
    }

    fn ask(&mut self, key: SourceKey, unit: Unit) {
        let Some(lane) = self.fetch.lanes.lock().get(&key).cloned() else { return };
        let number = self.fetch.next.fetch_add(1, Ordering::Relaxed);
        let (abort, registration) = AbortHandle::new_pair();
        let request = Abortable::new(lane.fetch(unit), registration);
        self.asked.insert((key, unit), Asked { number, abort });
        self.futures.push(Box::pin(async move { (key, unit, number, request.await) }));
    }

    /// Takes in how a request ended.
    fn hear(&mut self, key: SourceKey, unit: Unit, number: u64, outcome: Outcome) {
        // A request that was withdrawn, and perhaps made again since, says nothing.
        let Ok(outcome) = outcome else { return };
        if self.asked.get(&(key, unit)).is_none_or(|asked| asked.number != number) {
            return;
        }
        self.asked.remove(&(key, unit));
        let now = Instant::now();
        match outcome {
            Ok(block) => {
                let delivery = self.fetch.plan.lock().on_delivered(now, key, unit);
                if let (Delivery::Useful, Some(block)) = (delivery, block) {
                    self.fetch.hand(unit, &block);
                }
            }
            Err(LaneFault::Failed(error)) => {
                tracing::debug!(source = key.0, unit = unit.0, %error, "a source did not deliver");
                self.fetch.plan.lock().on_failed(now, key, unit, error.class);
            }
            Err(LaneFault::Elsewhere) => self.fetch.plan.lock().on_elsewhere(key, unit),
            Err(LaneFault::Refuted(used)) => self.refute(key, used),
        }
    }

    /// A source that has something else is none.
    fn refute(&mut self, key: SourceKey, used: Name) {
        tracing::warn!(%used, "bytes that are right by this name are wrong by that which they were asked for by");
        self.notes.push(self.fetch.ground.refuted(used));
        self.fetch.plan.lock().leave(key);
        if let Some(lane) = self.fetch.lanes.lock().remove(&key) {
            self.fetch.outside.source(&lane.spec(), false);
        }
        self.received.remove(&key);
        self.asked.retain(|(source, _), asked| {
            if *source == key {
                asked.abort.abort();
            }
            *source != key
        });
    }
}
