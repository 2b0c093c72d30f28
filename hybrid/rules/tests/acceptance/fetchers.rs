//! Who decides what is asked of whom: the plan, and the static rules that it is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_content::FailureClass;
use swarmgate_hybrid_rules::{
    Action, BreakerKey, BreakerOptions, Breakers, Budget, BudgetOptions, Domain, FetchPlan, GiveUpReason, Holdings,
    Network, Operation, PlanOptions, Policy, ReaderKey, ReaderOptions, SourceKey, SourceSpec, Unit, Units,
};

use super::world::{Fetcher, Order};

const READER: ReaderKey = ReaderKey(1);

/// A source as the plan is told of it: each in a domain of its own.
pub(crate) fn spec(key: SourceKey) -> SourceSpec {
    let name = format!("source {}", key.0);
    SourceSpec {
        name: name.as_str().into(),
        network: Network::ALL[usize::try_from(key.0).expect("a few sources") % 4],
        domain: Domain(key.0),
        breaker: BreakerKey::new(&name, "units", Operation::Fetch),
        can_range: true,
        rank: u32::try_from(key.0).expect("a few sources"),
        max_in_flight_bytes: 64 << 20,
        max_in_flight_units: 256,
        prior: None,
    }
}

/// The plan, with what it stands on.
pub(crate) struct Hybrid {
    pub(crate) plan: FetchPlan,
    pub(crate) breakers: Breakers,
    pub(crate) budget: Budget,
    pub(crate) given_up: Vec<(Unit, GiveUpReason)>,
    /// Sources that have nothing of the content.
    pub(crate) without: BTreeSet<SourceKey>,
    reader: ReaderOptions,
}

impl Hybrid {
    pub(crate) fn new(units: Units, seed: u64) -> Self {
        let breakers = Breakers::new(BreakerOptions::default(), seed);
        let budget = Budget::new(BudgetOptions::default());
        let options = PlanOptions {
            policy: Arc::new(Policy::default()),
            breakers: breakers.clone(),
            budget: budget.clone(),
            patience: Duration::from_secs(30),
        };
        let plan = FetchPlan::new(units, options);
        let reader = ReaderOptions { buffer: Duration::from_secs(5), rate: None };
        Self { plan, breakers, budget, given_up: Vec::new(), without: BTreeSet::new(), reader }
    }
}

impl Fetcher for Hybrid {
    fn open(&mut self, now: Instant) {
        let total = self.plan.units().total_len();
        assert!(self.plan.open_reader(now, READER, 0..total, self.reader));
    }

    fn advance(&mut self, now: Instant, position: u64) {
        self.plan.advance_reader(now, READER, position);
    }

    fn join(&mut self, _now: Instant, key: SourceKey) {
        let holdings = if self.without.contains(&key) { Holdings::Only(BTreeSet::new()) } else { Holdings::All };
        assert!(self.plan.join(key, spec(key), holdings));
    }

    fn leave(&mut self, _now: Instant, key: SourceKey) {
        self.plan.leave(key);
    }

    fn delivered(&mut self, now: Instant, key: SourceKey, unit: Unit) {
        self.plan.on_delivered(now, key, unit);
    }

    fn failed(&mut self, now: Instant, key: SourceKey, unit: Unit, class: FailureClass) {
        self.plan.on_failed(now, key, unit, class);
    }

    fn schedule(&mut self, now: Instant) -> Vec<Order> {
        self.plan.schedule(now);
        let mut orders = Vec::new();
        while let Some(action) = self.plan.poll_action() {
            match action {
                Action::Ask { source, unit, .. } => orders.push(Order::Ask(source, unit)),
                Action::Cancel { source, unit, .. } => orders.push(Order::Cancel(source, unit)),
                Action::GiveUp { unit, why } => self.given_up.push((unit, why)),
            }
        }
        orders
    }

    fn wake_at(&self) -> Option<Instant> {
        self.plan.poll_timeout().map(|(at, _)| at)
    }
}

/// How a static rule chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The best-ranked source that works, for everything.
    BestRanked,
    /// Every source the same share, unit by unit in turn.
    FixedShares,
}

/// Units that a static rule asks of one source at a time.
const DEPTH: usize = 8;
/// Units ahead of the reader that it asks for.
const AHEAD: usize = 64;
/// When it asks somebody else.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long it does not ask a source after time-outs or failures, so many in a row.
const REST: Duration = Duration::from_secs(15);
const FAILURES: u32 = 3;

/// A rule that does not learn: as many programs do it.
pub(crate) struct Static {
    rule: Rule,
    units: Units,
    position: u64,
    have: BTreeSet<Unit>,
    sources: BTreeMap<SourceKey, (u32, Option<Instant>)>,
    asked: BTreeMap<Unit, (SourceKey, Instant)>,
    orders: Vec<Order>,
}

impl Static {
    pub(crate) fn new(rule: Rule, units: Units) -> Self {
        Self {
            rule,
            units,
            position: 0,
            have: BTreeSet::new(),
            sources: BTreeMap::new(),
            asked: BTreeMap::new(),
            orders: Vec::new(),
        }
    }

    fn blame(&mut self, now: Instant, key: SourceKey) {
        if let Some((failures, until)) = self.sources.get_mut(&key) {
            *failures += 1;
            if *failures >= FAILURES {
                (*failures, *until) = (0, Some(now + REST));
            }
        }
    }

    fn able(&self) -> Vec<SourceKey> {
        self.sources.iter().filter(|(_, (_, until))| until.is_none()).map(|(key, _)| *key).collect()
    }
}

impl Fetcher for Static {
    fn open(&mut self, _now: Instant) {}

    fn advance(&mut self, _now: Instant, position: u64) {
        self.position = position;
    }

    fn join(&mut self, _now: Instant, key: SourceKey) {
        self.sources.insert(key, (0, None));
    }

    fn leave(&mut self, _now: Instant, key: SourceKey) {
        self.sources.remove(&key);
        self.asked.retain(|_, (asked, _)| *asked != key);
    }

    fn delivered(&mut self, _now: Instant, key: SourceKey, unit: Unit) {
        self.asked.remove(&unit);
        self.have.insert(unit);
        if let Some((failures, _)) = self.sources.get_mut(&key) {
            *failures = 0;
        }
    }

    fn failed(&mut self, now: Instant, key: SourceKey, unit: Unit, _class: FailureClass) {
        if self.asked.get(&unit).is_some_and(|(asked, _)| *asked == key) {
            self.asked.remove(&unit);
        }
        self.blame(now, key);
    }

    fn schedule(&mut self, now: Instant) -> Vec<Order> {
        let late: Vec<_> =
            self.asked.iter().filter(|(_, (_, at))| now >= *at + TIMEOUT).map(|(u, (k, _))| (*u, *k)).collect();
        for (unit, key) in late {
            self.asked.remove(&unit);
            self.orders.push(Order::Cancel(key, unit));
            self.blame(now, key);
        }
        for (_, until) in self.sources.values_mut() {
            *until = until.filter(|until| now < *until);
        }
        let able = self.able();
        let first = self.units.at(self.position).map_or(u32::MAX, |unit| unit.0);
        let ahead = (first..self.units.count()).map(Unit).take(AHEAD);
        for unit in ahead.filter(|unit| !self.have.contains(unit)).collect::<Vec<_>>() {
            if able.is_empty() || self.asked.contains_key(&unit) {
                continue;
            }
            let key = match self.rule {
                Rule::BestRanked => able[0],
                Rule::FixedShares => able[unit.0 as usize % able.len()],
            };
            if self.asked.values().filter(|(asked, _)| *asked == key).count() < DEPTH {
                self.asked.insert(unit, (key, now));
                self.orders.push(Order::Ask(key, unit));
            }
        }
        std::mem::take(&mut self.orders)
    }

    fn wake_at(&self) -> Option<Instant> {
        let late = self.asked.values().map(|(_, at)| *at + TIMEOUT).min();
        let rests = self.sources.values().filter_map(|(_, until)| *until).min();
        late.into_iter().chain(rests.filter(|_| self.asked.is_empty())).min()
    }
}
