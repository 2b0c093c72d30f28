mod growing;
mod policies;
mod random;

use std::collections::BTreeSet;

use super::*;
use crate::breaker::{BreakerKey, BreakerOptions, BreakerState, Operation, Urgency};
use crate::budget::BudgetOptions;
use crate::source::Domain;
use crate::testing::start;

const KIB: u64 = 1024;
const UNIT: u64 = 256 * KIB;
const READER: ReaderKey = ReaderKey(1);
const A: SourceKey = SourceKey(0);
const B: SourceKey = SourceKey(1);
const C: SourceKey = SourceKey(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn spec(key: SourceKey) -> SourceSpec {
    let name = format!("source {}", key.0);
    SourceSpec {
        name: name.as_str().into(),
        network: Network::ALL[usize::try_from(key.0).unwrap() % 4],
        domain: Domain(key.0),
        breaker: BreakerKey::new(&name, "units", Operation::Fetch),
        can_range: true,
        rank: u32::try_from(key.0).unwrap(),
        max_in_flight_bytes: 64 << 20,
        max_in_flight_units: 64,
        prior: None,
    }
}

fn known(key: SourceKey, megabytes: f64, latency_ms: u64) -> SourceSpec {
    SourceSpec { prior: Some(Prior { goodput: megabytes * 1e6, latency: ms(latency_ms) }), ..spec(key) }
}

/// A plan, a clock, and what was done.
struct Rig {
    plan: FetchPlan,
    begin: Instant,
    now: Instant,
    breakers: Breakers,
    budget: Budget,
}

impl Rig {
    fn new(sources: impl IntoIterator<Item = SourceSpec>) -> Self {
        let begin = start();
        let breakers = Breakers::new(BreakerOptions::default(), 1);
        let budget = Budget::new(BudgetOptions::default());
        let options = PlanOptions {
            policy: Arc::new(Policy::default()),
            breakers: breakers.clone(),
            budget: budget.clone(),
            patience: Duration::from_secs(30),
        };
        let plan = FetchPlan::new(Units::equal(256 * UNIT, UNIT).unwrap(), options);
        let mut rig = Self { plan, begin, now: begin, breakers, budget };
        for (key, spec) in (0..).map(SourceKey).zip(sources) {
            assert!(rig.plan.join(key, spec, Holdings::All));
        }
        rig
    }

    /// A reader of so many megabytes a second, so many units from the start.
    fn read(&mut self, from: u64, megabytes: f64) {
        let options = ReaderOptions { rate: Some(megabytes * 1e6), ..ReaderOptions::default() };
        assert!(self.plan.open_reader(self.now, READER, from * UNIT..256 * UNIT, options));
    }

    fn actions(&mut self) -> Vec<Action> {
        self.plan.schedule(self.now);
        std::iter::from_fn(|| self.plan.poll_action()).collect()
    }

    /// What is asked now: of whom, for what.
    fn asks(&mut self) -> Vec<(SourceKey, u32)> {
        let ask = |action| match action {
            Action::Ask { source, unit, .. } => Some((source, unit.0)),
            Action::Cancel { .. } | Action::GiveUp { .. } => None,
        };
        self.actions().into_iter().filter_map(ask).collect()
    }

    /// Lets time pass, looking whenever the plan wants to.
    fn pass(&mut self, span: Duration) -> Vec<Action> {
        let (end, mut done) = (self.now + span, self.actions());
        while let Some((at, _)) = self.plan.poll_timeout().filter(|(at, _)| *at <= end) {
            assert!(at > self.now, "a busy timer");
            self.now = at;
            done.extend(self.actions());
        }
        self.now = end;
        done.extend(self.actions());
        done
    }

    /// The same, while one source delivers all that it is asked for.
    fn pass_while(&mut self, span: Duration, works: SourceKey) -> Vec<Action> {
        let (end, mut done) = (self.now + span, Vec::new());
        while self.now < end {
            done.extend(self.pass(ms(50)));
            let flights = self.plan.lanes.get(&works).into_iter().flat_map(|lane| &lane.in_flight);
            for unit in flights.map(|flight| flight.unit).collect::<Vec<_>>() {
                self.plan.on_delivered(self.now, works, unit);
            }
        }
        done
    }

    fn deliver(&mut self, key: SourceKey, unit: u32) -> Delivery {
        self.plan.on_delivered(self.now, key, Unit(unit))
    }
}

fn hedges(actions: &[Action]) -> Vec<(SourceKey, u32)> {
    let hedge = |action: &Action| match action {
        Action::Ask { source, unit, why: AskReason::Hedge, .. } => Some((*source, unit.0)),
        Action::Ask { .. } | Action::Cancel { .. } | Action::GiveUp { .. } => None,
    };
    actions.iter().filter_map(hedge).collect()
}

#[test]
fn what_came_by_other_means_is_to_nobodys_credit_and_shows_nothing_of_who_was_asked() {
    let mut rig = Rig::new([spec(A), spec(B)]);
    rig.read(0, 1.0);
    assert_eq!(rig.asks(), [(A, 0), (A, 1)]);
    rig.now += ms(50);
    rig.plan.on_elsewhere(A, Unit(0));
    rig.plan.mark_had(Unit(0));
    let status = &rig.plan.status()[0];
    assert_eq!((status.goodput, status.in_flight_units), (None, 1));
    assert!(rig.plan.attribution().sources().all(|share| share.units == 0 && share.wasted_bytes == 0));
    assert_eq!(rig.breakers.status(rig.now)[0].successes, 0);
}

#[test]
fn sources_start_one_after_the_other_and_the_first_delivery_cancels_nobody() {
    let mut rig = Rig::new([spec(A), spec(B), spec(C), spec(SourceKey(3))]);
    rig.read(0, 1.0);
    assert_eq!(rig.asks(), [(A, 0), (A, 1)], "strangers get two units");
    rig.now = rig.begin + ms(149);
    assert_eq!(rig.asks(), []);
    assert_eq!(rig.plan.poll_timeout().map(|(at, _)| at - rig.begin), Some(ms(150)));
    rig.now = rig.begin + ms(150);
    assert_eq!(rig.asks(), [(B, 2), (B, 3)]);
    assert_eq!(rig.deliver(B, 2), Delivery::Useful);
    let actions = rig.actions();
    assert!(!actions.iter().any(|action| matches!(action, Action::Cancel { .. })), "{actions:?}");
    assert!(rig.plan.prior.is_some(), "what B has shown is believed of the others");
}

#[test]
fn units_go_where_they_are_complete_first_so_that_all_finish_together() {
    let mut rig = Rig::new([known(A, 8.0, 50), known(B, 4.0, 50)]);
    rig.read(0, 100.0);
    rig.plan.mark_had(Unit(0));
    rig.plan.advance_reader(rig.now + ms(10), READER, UNIT);
    rig.now = rig.begin + ms(300);
    let asks = rig.asks();
    let of_a = asks.iter().filter(|(key, _)| *key == A).count();
    let of_b = asks.len() - of_a;
    assert!(asks.len() >= 6 && of_a.abs_diff(2 * of_b) <= 2, "{of_a} to {of_b}");
    assert_eq!(asks[0], (A, 1));
}

#[test]
fn a_slow_source_is_not_given_what_a_reader_waits_for() {
    let mut rig = Rig::new([known(A, 8.0, 50), known(B, 0.1, 50)]);
    rig.read(0, 0.3);
    assert!(rig.asks().iter().all(|(key, _)| *key == A));
}

#[test]
fn a_source_that_cannot_start_in_the_middle_is_never_asked_to() {
    let whole = || SourceSpec { can_range: false, ..spec(A) };
    let mut rig = Rig::new([whole()]);
    rig.read(5, 1.0);
    assert_eq!(rig.asks(), []);
    rig.plan.close_reader(READER);
    rig.read(0, 1.0);
    assert_eq!(rig.asks(), [(A, 0), (A, 1)], "from the first on, in order");
    rig.now += ms(50);
    rig.deliver(A, 0);
    assert!(rig.asks().iter().map(|(_, unit)| *unit).eq(2..4));
    rig.plan.on_failed(rig.now, A, Unit(1), FailureClass::Neutral);
    assert_eq!(rig.asks(), [], "the stream has ended, and unit 1 is in the middle");
}

#[test]
fn what_is_late_and_urgent_is_asked_once_of_another_domain_and_the_loser_is_cancelled() {
    let twin = SourceSpec { domain: Domain(0), ..known(B, 30.0, 6) };
    let mut rig = Rig::new([known(A, 60.0, 5), twin, known(C, 1.0, 50)]);
    rig.read(0, 0.2);
    assert_eq!(rig.asks()[0], (A, 0));
    let done = rig.pass(ms(390));
    assert_eq!(hedges(&done).iter().filter(|(_, unit)| *unit == 0).collect::<Vec<_>>(), [&(C, 0)], "{done:?}");
    assert_eq!(rig.deliver(C, 0), Delivery::Useful);
    let cancelled = Action::Cancel { source: A, unit: Unit(0), why: CancelReason::Had };
    assert!(rig.actions().contains(&cancelled));
    assert_eq!(rig.deliver(A, 0), Delivery::Wasted, "it came after all");

    let shares: Vec<_> =
        rig.plan.attribution().sources().map(|it| (it.bytes, it.wasted_bytes, it.hedge_wins)).collect();
    assert_eq!(shares, [(0, UNIT, 0), (0, 0, 0), (UNIT, 0, 1)]);
    rig.plan.handed(rig.now, READER, Unit(0), UNIT);
    assert_eq!(rig.plan.close_reader(READER).unwrap().header().unwrap(), "ipfs;r=1.00");
    assert_eq!(rig.breakers.state(rig.now, &spec(A).breaker), BreakerState::Closed);
}

#[test]
fn what_may_not_be_asked_twice_is_taken_from_an_overdue_source_and_asked_of_another() {
    let mut rig = Rig::new([known(A, 60.0, 5), known(B, 1.0, 50)]);
    rig.plan.set_policy(Arc::new(Policy { hedge_share: 0.0, ..Policy::default() }));
    assert!(rig.plan.open_reader(rig.now, READER, 0..UNIT, ReaderOptions::default()));
    assert_eq!(rig.asks(), [(A, 0)]);
    let done = rig.pass(ms(500));
    let taken = Action::Cancel { source: A, unit: Unit(0), why: CancelReason::Silent };
    let asked = |action: &Action| matches!(action, Action::Ask { source: B, unit: Unit(0), why: AskReason::Retry, .. });
    assert!(done.contains(&taken) && done.iter().any(asked), "{done:?}");
}

#[test]
fn what_is_late_but_not_urgent_is_not_asked_twice() {
    let mut rig = Rig::new([known(A, 60.0, 5), known(B, 0.5, 50)]);
    rig.read(0, 0.2);
    rig.plan.mark_had(Unit(0));
    rig.plan.mark_had(Unit(1));
    assert_eq!(rig.asks()[0], (A, 2), "2.6 s from its reader");
    assert_eq!(hedges(&rig.pass(ms(390))), []);
}

#[test]
fn an_overdue_source_keeps_its_first_unit_alone_and_a_silent_one_none() {
    let mut rig = Rig::new([known(A, 9.0, 20), known(B, 3.0, 20)]);
    rig.read(0, 0.1);
    let of =
        |key, asks: &[(SourceKey, u32)]| asks.iter().filter(|(it, _)| *it == key).map(|it| it.1).collect::<Vec<_>>();
    rig.plan.mark_had(Unit(0));
    let asks = rig.asks();
    let (first, rest) = (of(A, &asks)[0], of(A, &asks)[1..].to_vec());
    assert!(!rest.is_empty());
    let done = rig.pass_while(ms(800), B);
    for unit in rest {
        let taken = Action::Cancel { source: A, unit: Unit(unit), why: CancelReason::Overdue };
        assert!(done.contains(&taken), "{unit}: {done:?}");
    }
    let taken = |why| Action::Cancel { source: A, unit: Unit(first), why };
    assert!(!done.contains(&taken(CancelReason::Overdue)));
    let done = rig.pass_while(ms(4000), B);
    assert!(done.contains(&taken(CancelReason::Silent)), "{done:?}");
    assert!(rig.breakers.status(rig.now).iter().any(|status| status.failures >= 1));
}

#[test]
fn who_is_overtaken_by_others_is_overdue_sooner_than_when_nobody_delivers() {
    for (overtaken, sooner) in [(8, true), (7, false)] {
        let mut rig = Rig::new([known(A, 9.0, 20), known(B, 3.0, 20)]);
        rig.read(0, 0.1);
        assert!(rig.asks().contains(&(A, 0)));
        for unit in 100..100 + overtaken {
            rig.deliver(B, unit);
        }
        rig.pass(ms(350));
        assert_eq!(rig.plan.lanes[&A].overdue, sooner, "overtaken by {overtaken}");
    }
}

#[test]
fn a_source_that_leaves_is_replaced_at_once_and_blamed_for_nothing() {
    let few = SourceSpec { max_in_flight_units: 2, ..known(B, 3.0, 20) };
    let mut rig = Rig::new([known(A, 9.0, 20), few]);
    rig.read(0, 9.0);
    let mut asks = rig.asks();
    assert!(asks.contains(&(A, 0)));
    rig.plan.leave(A);
    let instead = rig.asks();
    assert_eq!(instead.first(), Some(&(B, 0)));
    assert_eq!(rig.budget.status().retries, 0);
    assert!(rig.plan.join(A, known(A, 9.0, 20), Holdings::All));
    let again = rig.asks();
    assert!(!again.is_empty(), "back at work");
    asks.extend([instead, again].concat());
    let units: BTreeSet<_> = asks.iter().map(|(_, unit)| *unit).collect();
    assert_eq!(rig.budget.status().requests, units.len() as u64, "a unit earns once: {asks:?}");
    assert!(units.len() < asks.len());
}

#[test]
fn a_reading_knows_when_it_stood_still_but_not_the_wait_for_its_first_byte() {
    let mut rig = Rig::new([known(A, 9.0, 20)]);
    rig.read(0, 9.0);
    for (unit, wait) in [(0, 300), (1, 50), (2, 250)] {
        rig.actions();
        rig.now += ms(wait);
        rig.deliver(A, unit);
        rig.plan.handed(rig.now, READER, Unit(unit), UNIT);
        rig.plan.advance_reader(rig.now, READER, u64::from(unit + 1) * UNIT);
    }
    let reading = rig.plan.close_reader(READER).unwrap();
    assert_eq!((reading.first_byte_ms, reading.stalls, reading.stalled_ms), (Some(300), 1, 250));
}

#[test]
fn bulkheads_hold() {
    let narrow = SourceSpec { max_in_flight_units: 3, ..known(A, 90.0, 20) };
    let thin = SourceSpec { max_in_flight_bytes: 2 * UNIT + 5, ..known(B, 90.0, 20) };
    let tiny = SourceSpec { max_in_flight_bytes: 1, ..known(C, 90.0, 20) };
    let mut rig = Rig::new([narrow, thin, tiny]);
    rig.read(0, 50.0);
    rig.plan.mark_had(Unit(0));
    rig.plan.advance_reader(rig.now + ms(100), READER, UNIT);
    rig.now += ms(500);
    let asks = rig.asks();
    let counts = [A, B, C].map(|key| asks.iter().filter(|(it, _)| *it == key).count());
    assert_eq!(counts, [3, 2, 1], "one unit is always allowed");
}

#[test]
fn a_reader_that_leaves_takes_its_wishes_along_and_no_others() {
    let mut rig = Rig::new([known(A, 9.0, 20)]);
    rig.read(0, 9.0);
    assert!(rig.plan.open_reader(rig.now, ReaderKey(2), UNIT..2 * UNIT, ReaderOptions::default()));
    let asked = rig.asks().len();
    assert!(asked >= 4);
    rig.plan.close_reader(READER);
    let actions = rig.actions();
    assert_eq!(actions.len(), asked - 1);
    assert!(
        actions.iter().all(|it| matches!(it, Action::Cancel { unit, why: CancelReason::Unwanted, .. } if unit.0 != 1))
    );
    rig.plan.close_reader(ReaderKey(2));
    assert_eq!(rig.actions().len(), 1);
    assert_eq!(rig.plan.poll_timeout(), None, "nothing is left to do");
}

#[test]
fn what_a_source_has_not_is_asked_elsewhere_and_there_again_later() {
    let mut rig = Rig::new([known(A, 9.0, 20)]);
    assert!(rig.plan.open_reader(rig.now, READER, 0..UNIT, ReaderOptions::default()));
    assert_eq!(rig.asks(), [(A, 0)]);
    rig.plan.on_failed(rig.now, A, Unit(0), FailureClass::Neutral);
    assert_eq!(rig.pass(ms(4990)), []);
    assert_eq!(rig.plan.status()[0].in_flight_units, 0);
    let done = rig.pass(ms(20));
    assert!(matches!(done[..], [Action::Ask { source: A, unit: Unit(0), .. }]), "{done:?}");
    assert_eq!(rig.breakers.state(rig.now, &spec(A).breaker), BreakerState::Closed);
}

#[test]
fn what_nobody_has_is_given_up_in_time_and_hoped_for_again_when_somebody_comes() {
    for settled in [false, true] {
        let mut rig = Rig::new([]);
        assert!(rig.plan.join(A, known(A, 9.0, 20), Holdings::Only(BTreeSet::from([Unit(1)]))));
        rig.plan.set_settled(settled);
        assert!(rig.plan.open_reader(rig.now, READER, 0..UNIT, ReaderOptions::default()));
        let given_up = Action::GiveUp { unit: Unit(0), why: GiveUpReason::NobodyHasIt };
        assert_eq!(rig.pass(ms(29_000)).contains(&given_up), settled);
        assert_eq!(rig.pass(ms(2000)).contains(&given_up), !settled, "said once");
        rig.plan.source_has(A, Unit(0), true);
        assert_eq!(rig.asks(), [(A, 0)]);
    }
}

#[test]
fn a_source_that_is_all_there_is_is_tried_though_it_failed() {
    let mut rig = Rig::new([known(A, 9.0, 20)]);
    assert!(rig.plan.open_reader(rig.now, READER, 0..UNIT, ReaderOptions::default()));
    let mut tried = Vec::new();
    while rig.now < rig.begin + Duration::from_secs(12) {
        for action in rig.pass(ms(100)) {
            let Action::Ask { source, unit, why, .. } = action else { panic!("{action:?}") };
            rig.plan.on_failed(rig.now, source, unit, FailureClass::Source);
            tried.push(why);
        }
    }
    assert_eq!(tried.last(), Some(&AskReason::NobodyElse), "{tried:?}");
    assert!((6..20).contains(&tried.len()), "{tried:?}");
    let done = rig.pass(ms(16_000));
    assert!(done.iter().any(|action| matches!(action, Action::Ask { .. })));
    rig.deliver(A, 0);
    assert!(rig.plan.has(Unit(0)));
}

#[test]
fn a_half_open_source_is_tried_with_what_nobody_waits_for() {
    let mut rig = Rig::new([known(A, 9.0, 20), known(B, 3.0, 20)]);
    while let Ok(permit) = rig.breakers.try_acquire(rig.now, &spec(A).breaker, Urgency::Relaxed) {
        permit.report(rig.now, Verdict::Failure);
    }
    rig.now += ms(7000);
    rig.read(0, 0.05);
    let asks = rig.actions();
    let of_a: Vec<_> = asks.iter().filter(|it| matches!(it, Action::Ask { source: A, .. })).collect();
    assert!(matches!(of_a[..], [Action::Ask { unit: Unit(3), why: AskReason::Probe, .. }]), "{asks:?}");
}
