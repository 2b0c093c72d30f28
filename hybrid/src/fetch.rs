//! The fetching of one content: a plan, the lanes that it plans for, and the task that does what the plan says.
//!
//! Readers tell the plan where they are and ring the bell; lanes deliver or fail; after each of these, and when the
//! plan asked to be woken, the task has it decide anew. Nobody waits for anybody: a reader that sleeps holds nothing
//! that the task needs, and a lane that is silent is a future among others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable, Aborted};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use swarmgate_content::{Account, BoxFuture, SourceMix, VerifiedBytes};
use swarmgate_hybrid_rules::{
    Action, Attribution, CancelReason, Delivery, FetchPlan, GiveUpReason, Name, PlanOptions, ReaderKey, ReaderOptions,
    SourceKey, SourceShare, SourceStatus, Unit, Units,
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::crowd::{Crowd, Crowds};
use crate::lane::{Lane, LaneFault};
use crate::outside::Outside;

/// How long a content without readers keeps what it has learned of its sources.
const LINGER: Duration = Duration::from_secs(60);

/// Withdrawn units that are remembered; the first of the content go first.
const MAX_WITHDRAWN: usize = 4096;

/// Where units are, once they are there.
pub(crate) trait Ground: Send + Sync + fmt::Debug {
    /// Whether a unit can be read.
    fn has(&self, unit: Unit) -> bool;

    /// Notes that names which were thought to be the same bytes are not.
    fn refuted(&self, used: Name) -> BoxFuture<'static, ()>;
}

/// One reader's row.
#[derive(Debug)]
struct Row {
    position: u64,
    fault: Option<GiveUpReason>,
    bell: Arc<Notify>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Fetch {
    plan: Mutex<FetchPlan>,
    lanes: Mutex<BTreeMap<SourceKey, Arc<dyn Lane>>>,
    rows: Mutex<BTreeMap<ReaderKey, Row>>,
    waiters: Mutex<BTreeMap<Unit, Vec<oneshot::Sender<VerifiedBytes>>>>,
    ground: Arc<dyn Ground>,
    outside: Outside,
    /// Crowds that the task does not look at yet.
    crowds: Mutex<Vec<(SourceKey, Crowd)>>,
    bell: Notify,
    next: AtomicU64,
}

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
    pub(crate) fn new(units: Units, options: PlanOptions, ground: Arc<dyn Ground>, outside: Outside) -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::new(FetchPlan::new(units, options)),
            lanes: Mutex::default(),
            rows: Mutex::default(),
            waiters: Mutex::default(),
            ground,
            outside,
            crowds: Mutex::default(),
            bell: Notify::new(),
            next: AtomicU64::new(0),
        })
    }

    /// How the content is cut.
    pub(crate) fn units(&self) -> Units {
        self.plan.lock().units().clone()
    }

    /// Adds a source.
    pub(crate) fn add_lane(&self, lane: Arc<dyn Lane>) {
        let key = SourceKey(self.next.fetch_add(1, Ordering::Relaxed));
        let (spec, holdings) = (lane.spec(), lane.holdings());
        self.outside.source(&spec, true);
        self.crowds.lock().extend(lane.crowd().map(|crowd| (key, crowd)));
        self.lanes.lock().insert(key, lane);
        self.plan.lock().join(key, spec, holdings);
        self.bell.notify_one();
    }

    /// A reader of these bytes. `None` when there are too many.
    pub(crate) fn open(self: &Arc<Self>, range: std::ops::Range<u64>, options: ReaderOptions) -> Option<Place> {
        let key = ReaderKey(self.next.fetch_add(1, Ordering::Relaxed));
        let position = range.start;
        if !self.plan.lock().open_reader(Instant::now(), key, range, options) {
            return None;
        }
        let bell = Arc::new(Notify::new());
        self.rows.lock().insert(key, Row { position, fault: None, bell: Arc::clone(&bell) });
        self.bell.notify_one();
        Some(Place { fetch: Arc::clone(self), key, bell, position })
    }

    /// Waits for the block of a unit, from whomever. An error when it will not come.
    pub(crate) fn wait_for(&self, unit: Unit) -> oneshot::Receiver<VerifiedBytes> {
        let (sender, receiver) = oneshot::channel();
        self.plan.lock().mark_lost(unit);
        self.waiters.lock().entry(unit).or_default().push(sender);
        self.bell.notify_one();
        receiver
    }

    /// Whom it tells what it does, and for whom it fetches.
    pub(crate) const fn outside(&self) -> &Outside {
        &self.outside
    }

    /// It is over: nobody can be asked any more.
    pub(crate) fn close(&self) {
        for lane in self.lanes.lock().values() {
            self.outside.source(&lane.spec(), false);
        }
    }

    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        self.plan.lock().status()
    }

    pub(crate) fn shares(&self) -> Vec<SourceShare> {
        self.plan.lock().attribution().sources().cloned().collect()
    }

    /// How long units took, in milliseconds: half of them, nineteen of twenty, ninety-nine of a hundred.
    pub(crate) fn unit_ms(&self) -> Option<[u64; 3]> {
        self.with_ledger(|ledger| {
            let ms = |share| {
                let took = ledger.latencies().quantile(share)?;
                u64::try_from(took.as_millis()).ok()
            };
            Some([ms(0.5)?, ms(0.95)?, ms(0.99)?])
        })
    }

    /// Looks into who delivered what.
    pub(crate) fn with_ledger<T>(&self, look: impl FnOnce(&Attribution) -> T) -> T {
        look(self.plan.lock().attribution())
    }

    pub(crate) fn readers(&self) -> usize {
        self.rows.lock().len()
    }

    /// Changes what the plan stands on.
    pub(crate) fn with_plan<T>(&self, change: impl FnOnce(&mut FetchPlan) -> T) -> T {
        let result = change(&mut self.plan.lock());
        self.bell.notify_one();
        result
    }

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

    /// Nobody will be served any more.
    fn end(&self) {
        self.waiters.lock().clear();
        for row in self.rows.lock().values_mut() {
            row.fault = Some(GiveUpReason::NobodyHasIt);
            row.bell.notify_one();
        }
    }

    /// Tells the readers that wait for a unit that it will not come.
    fn give_up(&self, unit: Unit, why: GiveUpReason) {
        self.waiters.lock().remove(&unit);
        let units = self.units();
        for row in self.rows.lock().values_mut().filter(|row| units.at(row.position) == Some(unit)) {
            row.fault = Some(why);
            row.bell.notify_one();
        }
    }

    /// Hands a block to those who wait for it.
    fn hand(&self, unit: Unit, block: &VerifiedBytes) {
        let waiters = self.waiters.lock().remove(&unit);
        // Who does not listen any more has left.
        waiters.into_iter().flatten().for_each(|waiter| drop(waiter.send(block.clone())));
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

/// A reader's place in a fetch. Dropping it withdraws what only it wanted.
#[derive(Debug)]
pub(crate) struct Place {
    fetch: Arc<Fetch>,
    key: ReaderKey,
    bell: Arc<Notify>,
    position: u64,
}

impl Place {
    pub(crate) const fn key(&self) -> ReaderKey {
        self.key
    }

    /// It was handed so many bytes.
    pub(crate) fn moved(&mut self, len: u64) {
        let now = Instant::now();
        let (from, to) = (self.position, self.position.saturating_add(len));
        self.position = to;
        if let Some(row) = self.fetch.rows.lock().get_mut(&self.key) {
            row.position = to;
        }
        let mut plan = self.fetch.plan.lock();
        let units: Vec<_> = plan.units().touching(&(from..to)).collect();
        for unit in &units {
            let Some(range) = plan.units().range(*unit) else { continue };
            let bytes = range.end().min(to) - range.start().max(from);
            plan.handed(now, self.key, *unit, bytes);
        }
        plan.advance_reader(now, self.key, to);
        let crossed = plan.units().at(from) != plan.units().at(to);
        drop(plan);
        if crossed {
            self.fetch.bell.notify_one();
        }
    }

    /// It waits, and its next bytes are not where the plan believes them to be.
    pub(crate) fn lost(&self) {
        let mut plan = self.fetch.plan.lock();
        let unit = plan.units().at(self.position);
        if let Some(unit) = unit.filter(|unit| plan.has(*unit)) {
            plan.mark_lost(unit);
            drop(plan);
            self.fetch.bell.notify_one();
        }
    }

    /// Whether its next bytes are there.
    pub(crate) fn is_served(&self) -> bool {
        let unit = self.fetch.plan.lock().units().at(self.position);
        unit.is_none_or(|unit| self.fetch.ground.has(unit))
    }

    /// Waits until it is told that its next bytes will not come.
    pub(crate) async fn given_up(&self) -> GiveUpReason {
        loop {
            if let Some(why) = self.fetch.rows.lock().get(&self.key).and_then(|row| row.fault) {
                return why;
            }
            self.bell.notified().await;
        }
    }

    /// A way to ask what it was handed so far, and from where.
    pub(crate) fn account(&self) -> Arc<dyn Account> {
        Arc::new(PlaceAccount { fetch: self.fetch.clone(), key: self.key })
    }
}

/// What one reader was handed.
#[derive(Debug)]
struct PlaceAccount {
    fetch: Arc<Fetch>,
    key: ReaderKey,
}

impl Account for PlaceAccount {
    fn mix(&self) -> SourceMix {
        self.fetch.plan.lock().attribution().mix(self.key)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.fetch.rows.lock().remove(&self.key);
        self.fetch.plan.lock().close_reader(self.key);
        self.fetch.bell.notify_one();
    }
}
