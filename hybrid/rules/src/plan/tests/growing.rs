//! Readers whose ranges grow, since it becomes known while they read what comes next.

use proptest::prelude::*;

use super::*;

const COUNT: u32 = 100;

/// So many units, of two lengths.
fn cut(count: u32) -> Units {
    let ends = (1..=u64::from(count)).map(|unit| unit * UNIT - unit % 2 * 100);
    Units::cut(ends.collect()).unwrap()
}

/// Reads all from two sources, of which chance says who delivers next; `known_of` says how many units are known when so
/// many were read. Returns what was delivered, when and by whom.
fn deliveries(known_of: impl Fn(u32) -> u32, mut chance: u64) -> Vec<(Duration, SourceKey, Unit)> {
    let mut rig = Rig::new([known(A, 4.0, 20), known(B, 2.0, 20)]);
    rig.plan = FetchPlan::new(cut(COUNT), rig.plan.options.clone());
    for (key, spec) in [(A, known(A, 4.0, 20)), (B, known(B, 2.0, 20))] {
        assert!(rig.plan.join(key, spec, Holdings::All));
    }
    assert!(rig.plan.open_reader(rig.now, READER, 0..0, ReaderOptions::default()));
    let (mut done, mut read) = (Vec::new(), 0);
    while read < COUNT {
        assert!(rig.plan.extend_reader(READER, cut(known_of(read)).total_len()));
        rig.actions();
        rig.now += ms(20);
        let first = |(key, lane): (&SourceKey, &Lane)| Some((*key, lane.in_flight.first()?.unit));
        let busy: Vec<_> = rig.plan.lanes.iter().filter_map(first).collect();
        if busy.is_empty() {
            assert!(rig.plan.poll_timeout().is_some(), "asleep at unit {read}");
            continue;
        }
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (key, unit) = busy[usize::from(chance >> 63 == 1) % busy.len()];
        assert_eq!(rig.plan.on_delivered(rig.now, key, unit), Delivery::Useful);
        done.push((rig.now - rig.begin, key, unit));
        while rig.plan.has(Unit(read)) {
            read += 1;
        }
        let position =
            rig.plan.units().range(Unit(read)).map_or_else(|| rig.plan.units().total_len(), |range| range.start());
        rig.plan.advance_reader(rig.now, READER, position);
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_range_that_grows_before_it_is_wanted_is_fetched_as_though_all_was_known(chance: u64, step in 1_u32..30) {
        // No window reaches so far: from where the reader is it is twice what was read, or 8 units.
        let grows = deliveries(|read| ((3 * read).max(8 + read) + 24).next_multiple_of(step).min(COUNT), chance);
        prop_assert_eq!(grows, deliveries(|_| COUNT, chance));
    }

    #[test]
    fn however_late_units_become_known_each_is_delivered_once(chance: u64, step in 1_u32..30) {
        // The reader comes to the end of what is known each time.
        let done = deliveries(|read| (read / step + 1).saturating_mul(step).min(COUNT), chance);
        let units: BTreeSet<_> = done.iter().map(|(_, _, unit)| unit.0).collect();
        prop_assert!(done.len() == COUNT as usize && units.into_iter().eq(0..COUNT));
    }
}

#[test]
fn no_range_shrinks_or_passes_the_end() {
    let mut rig = Rig::new([known(A, 9.0, 20)]);
    assert!(rig.plan.open_reader(rig.now, READER, 0..2 * UNIT, ReaderOptions::default()));
    assert!(rig.plan.extend_reader(READER, UNIT));
    assert_eq!(rig.asks(), [(A, 0), (A, 1)]);
    assert!(rig.plan.extend_reader(READER, 3 * UNIT) && !rig.plan.extend_reader(ReaderKey(9), UNIT));
    assert_eq!(rig.asks(), [(A, 2)]);
}
