//! The fetching of one content: a plan, the lanes that it plans for, and the task that does what the plan says.
//!
//! Readers tell the plan where they are and ring the bell; lanes deliver or fail; after each of these, and when the
//! plan asked to be woken, the task has it decide anew. Nobody waits for anybody: a reader that sleeps holds nothing
//! that the task needs, and a lane that is silent is a future among others.

mod driver;
mod place;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_content::{BoxFuture, VerifiedBytes};
use swarmgate_hybrid_rules::{
    Attribution, FetchPlan, GiveUpReason, Name, PlanOptions, ReaderKey, ReaderOptions, SourceKey, SourceShare,
    SourceStatus, Unit, Units,
};
use tokio::sync::{Notify, oneshot};

pub(crate) use self::place::Place;
use crate::crowd::Crowd;
use crate::lane::Lane;
use crate::outside::Outside;

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
    /// Whether nobody will be served any more. Set before those who wait are told, so that who takes a lock after that
    /// sees it.
    ended: AtomicBool,
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
            ended: AtomicBool::new(false),
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

    /// A reader of these bytes. `None` when there are too many, and when it has ended.
    pub(crate) fn open(self: &Arc<Self>, range: std::ops::Range<u64>, options: ReaderOptions) -> Option<Place> {
        let key = ReaderKey(self.next.fetch_add(1, Ordering::Relaxed));
        let position = range.start;
        if !self.plan.lock().open_reader(Instant::now(), key, range, options) {
            return None;
        }
        let bell = Arc::new(Notify::new());
        let place = Place::new(Arc::clone(self), key, Arc::clone(&bell), position);
        {
            let mut rows = self.rows.lock();
            if !self.ended.load(Ordering::Acquire) {
                rows.insert(key, Row { position, fault: None, bell });
                self.bell.notify_one();
                return Some(place);
            }
        }
        None
    }

    /// Waits for the block of a unit, from whomever. An error when it will not come, at once when it has ended.
    pub(crate) fn wait_for(&self, unit: Unit) -> oneshot::Receiver<VerifiedBytes> {
        let (sender, receiver) = oneshot::channel();
        self.plan.lock().mark_lost(unit);
        let mut waiters = self.waiters.lock();
        if !self.ended.load(Ordering::Acquire) {
            waiters.entry(unit).or_default().push(sender);
        }
        drop(waiters);
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

    /// Nobody will be served any more.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use swarmgate_content::{ContentId, EventBus, InfoHash};
    use swarmgate_hybrid_rules::{BreakerOptions, Breakers, Budget, BudgetOptions, Policy};
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// Nothing is ever there.
    #[derive(Debug)]
    struct Nowhere;

    impl Ground for Nowhere {
        fn has(&self, _: Unit) -> bool {
            false
        }

        fn refuted(&self, _: Name) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    fn fetch() -> Arc<Fetch> {
        let breakers = Breakers::new(BreakerOptions::default(), 1);
        let options = PlanOptions {
            policy: Arc::new(Policy::default()),
            breakers: breakers.clone(),
            budget: Budget::new(BudgetOptions::default()),
            patience: Duration::from_secs(30),
        };
        let outside = Outside {
            item: ContentId::BtV1(InfoHash::new([1; 20])),
            route: "bt",
            allowed: None,
            events: EventBus::default(),
            breakers,
            changed: Arc::default(),
        };
        Fetch::new(Units::equal(1 << 20, 1 << 18).unwrap(), options, Arc::new(Nowhere), outside)
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_before_the_end_is_told_of_it_and_who_comes_after_does_not_wait() {
        let (fetch, stop) = (fetch(), CancellationToken::new());
        let before = fetch.wait_for(Unit(0));
        let place = fetch.open(0..1 << 20, ReaderOptions::default()).unwrap();
        stop.cancel();
        fetch.clone().run(stop).await;
        assert!(before.await.is_err());
        assert_eq!(place.given_up().await, GiveUpReason::NobodyHasIt);
        let after = tokio::time::timeout(Duration::from_secs(60), fetch.wait_for(Unit(1))).await;
        assert!(after.is_ok_and(|block| block.is_err()), "it waits for what nobody fetches");
        assert!(fetch.open(0..1 << 20, ReaderOptions::default()).is_none());
        assert_eq!(fetch.readers(), 1);
    }
}
