//! Whatever happens: bounds hold, nothing is forgotten, and what somebody has is delivered in the end.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    Deliver(usize),
    Fail(usize, FailureClass),
    Join(u64, bool),
    Leave(u64),
    Has(u64, u32, bool),
    Open(u64, u64, u64),
    Advance(u64, u64),
    Close(u64),
    Lost(u32),
    Policy(usize, bool),
}

fn classes() -> impl Strategy<Value = FailureClass> {
    let all = [FailureClass::Source, FailureClass::Corruption, FailureClass::Neutral, FailureClass::Local];
    proptest::sample::select(all.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_u64..3000).prop_map(Step::Pass),
        8 => any::<usize>().prop_map(Step::Deliver),
        2 => (any::<usize>(), classes()).prop_map(|(n, class)| Step::Fail(n, class)),
        2 => (0_u64..5, any::<bool>()).prop_map(|(key, all)| Step::Join(key, all)),
        1 => (0_u64..5).prop_map(Step::Leave),
        1 => (0_u64..5, 0_u32..24, any::<bool>()).prop_map(|(key, unit, has)| Step::Has(key, unit, has)),
        2 => (0_u64..4, 0_u64..24, 1_u64..24).prop_map(|(key, from, len)| Step::Open(key, from, len)),
        2 => (0_u64..4, 0_u64..24).prop_map(|(key, to)| Step::Advance(key, to)),
        1 => (0_u64..4).prop_map(Step::Close),
        1 => (0_u32..24).prop_map(Step::Lost),
        1 => (1_usize..4, any::<bool>()).prop_map(|(most, deny)| Step::Policy(most, deny)),
    ]
}

/// What is in flight, by what the plan has said.
#[derive(Default)]
struct Ledger(BTreeSet<(SourceKey, Unit)>);

impl Ledger {
    fn nth(&self, n: usize) -> Option<(SourceKey, Unit)> {
        self.0.iter().nth(n % self.0.len().max(1)).copied()
    }

    fn follow(&mut self, rig: &mut Rig) {
        for action in rig.actions() {
            match action {
                Action::Ask { source, unit, .. } => {
                    assert!(!rig.plan.has(unit), "{unit:?} is had");
                    assert!(self.0.insert((source, unit)), "{source:?} is at work on {unit:?}");
                    let others: Vec<_> = self.0.iter().filter(|(_, it)| *it == unit).map(|it| it.0).collect();
                    assert!(others.len() <= 2, "{unit:?} is asked of {others:?}");
                    if let [one, other] = others[..] {
                        assert_ne!(spec(one).domain, spec(other).domain);
                    }
                }
                Action::Cancel { source, unit, .. } => {
                    assert!(self.0.remove(&(source, unit)), "{source:?} was not at work on {unit:?}");
                }
                Action::GiveUp { .. } => {}
            }
        }
        for (key, lane) in &rig.plan.lanes {
            let flying: BTreeSet<_> = lane.in_flight.iter().map(|flight| (*key, flight.unit)).collect();
            let told: BTreeSet<_> = self.0.iter().filter(|(it, _)| it == key).copied().collect();
            assert_eq!(flying, told);
            assert!(lane.in_flight.len() <= 4 && lane.in_flight_bytes == flying.len() as u64 * UNIT);
        }
        assert!(self.0.iter().all(|(key, _)| rig.plan.lanes.contains_key(key)));
        assert!(rig.plan.poll_timeout().is_none_or(|(at, _)| at > rig.now), "a busy timer");
    }
}

fn bounded(key: u64) -> SourceSpec {
    let key = SourceKey(key);
    SourceSpec { max_in_flight_units: 4, ..if key.0 == 1 { known(key, 3.0, 30) } else { spec(key) } }
}

fn take(rig: &mut Rig, ledger: &mut Ledger, step: &Step) {
    match *step {
        Step::Pass(millis) => rig.now += ms(millis),
        Step::Deliver(n) => {
            if let Some((key, unit)) = ledger.nth(n) {
                ledger.0.remove(&(key, unit));
                assert_eq!(rig.plan.on_delivered(rig.now, key, unit), Delivery::Useful);
            }
        }
        Step::Fail(n, class) => {
            if let Some((key, unit)) = ledger.nth(n) {
                ledger.0.remove(&(key, unit));
                rig.plan.on_failed(rig.now, key, unit, class);
            }
        }
        Step::Join(key, all) => {
            ledger.0.retain(|(it, _)| it.0 != key);
            let holdings = if all { Holdings::All } else { Holdings::Only((0..12).map(Unit).collect()) };
            assert!(rig.plan.join(SourceKey(key), bounded(key), holdings));
        }
        Step::Leave(key) => {
            ledger.0.retain(|(it, _)| it.0 != key);
            rig.plan.leave(SourceKey(key));
        }
        Step::Has(key, unit, has) => rig.plan.source_has(SourceKey(key), Unit(unit), has),
        Step::Open(key, from, len) => {
            let range = from * UNIT..(from + len) * UNIT;
            rig.plan.open_reader(rig.now, ReaderKey(key), range, ReaderOptions::default());
        }
        Step::Advance(key, to) => rig.plan.advance_reader(rig.now, ReaderKey(key), to * UNIT),
        Step::Close(key) => drop(rig.plan.close_reader(ReaderKey(key))),
        Step::Lost(unit) => rig.plan.mark_lost(Unit(unit)),
        Step::Policy(max_sources, deny) => {
            let deny = if deny { BTreeSet::from([Network::Ipfs]) } else { BTreeSet::new() };
            rig.plan.set_policy(Arc::new(Policy { max_sources, deny, ..Policy::default() }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_all_is_had_in_the_end(steps in proptest::collection::vec(step(), 1..150)) {
        let (mut rig, mut ledger) = (Rig::new([]), Ledger::default());
        for step in &steps {
            take(&mut rig, &mut ledger, step);
            ledger.follow(&mut rig);
        }
        // One that works comes, and a last reader, who reads as fast as it goes.
        let good = SourceKey(9);
        assert!(rig.plan.join(good, bounded(9), Holdings::All));
        rig.plan.set_policy(Arc::new(Policy::default()));
        (0..4).for_each(|key| drop(rig.plan.close_reader(ReaderKey(key))));
        assert!(rig.plan.open_reader(rig.now, ReaderKey(8), 0..24 * UNIT, ReaderOptions::default()));
        let end = rig.now + Duration::from_secs(120);
        while (0..24).any(|unit| !rig.plan.has(Unit(unit))) {
            prop_assert!(rig.now < end, "stuck: {:?}", rig.plan.lanes);
            let read = (0..24).find(|unit| !rig.plan.has(Unit(*unit))).unwrap_or(24);
            rig.plan.advance_reader(rig.now, ReaderKey(8), u64::from(read) * UNIT);
            ledger.follow(&mut rig);
            let ours: Vec<_> = ledger.0.iter().filter(|(key, _)| *key == good).copied().collect();
            let waits = rig.plan.poll_timeout().map(|(at, _)| at);
            prop_assert!(waits.is_some() || !ours.is_empty(), "asleep: {:?} {:?} {:?}", rig.now, rig.plan.progress, rig.plan.lanes);
            let soon = rig.now + ms(20);
            rig.now = waits.filter(|_| ours.is_empty()).unwrap_or(soon);
            for (key, unit) in ours {
                ledger.0.remove(&(key, unit));
                rig.plan.on_delivered(rig.now, key, unit);
            }
        }
    }
}
