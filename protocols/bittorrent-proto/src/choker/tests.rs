use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;

/// A choker and its clock.
struct Table {
    choker: Choker,
    now: Instant,
}

impl Table {
    fn new(slots: usize, peers: u64) -> Self {
        let mut table = Self { choker: Choker::new(slots), now: crate::testing::start() };
        (0..peers).for_each(|peer| table.comes(peer));
        table
    }

    /// A peer comes and wants something of us.
    fn comes(&mut self, peer: u64) {
        self.choker.joined(PeerKey(peer));
        self.choker.interest(self.now, PeerKey(peer), true);
    }

    /// Ten seconds pass in which peers give so many bytes a second; then the choice is made.
    fn round(&mut self, gives: &[(u64, u64)]) -> BTreeSet<u64> {
        for _ in 0..10 {
            self.now += Duration::from_secs(1);
            gives.iter().for_each(|(peer, rate)| self.choker.received(self.now, PeerKey(*peer), *rate));
        }
        self.choker.rechoke(self.now, &BTreeSet::new());
        self.unchoked()
    }

    fn unchoked(&self) -> BTreeSet<u64> {
        self.choker.books.iter().filter(|(_, book)| book.unchoked).map(|(key, _)| key.0).collect()
    }
}

#[test]
fn the_most_generous_get_the_slots_and_one_more_has_its_chance() {
    let mut table = Table::new(3, 6);
    let gives = [(0, 500), (1, 90_000), (2, 1000), (4, 40_000)];
    let chosen = (0..4).map(|_| table.round(&gives)).last().unwrap();
    assert!(chosen.contains(&1) && chosen.contains(&4), "{chosen:?}");
    assert_eq!(chosen.len(), 3);
}

#[test]
fn in_time_everybody_has_had_a_turn_and_newcomers_have_theirs_soon() {
    let mut table = Table::new(2, 8);
    let mut seen = BTreeSet::new();
    for _ in 0..8 * 8 {
        seen.extend(table.round(&[(0, 1000)]));
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
    table.comes(100);
    let waited = (1..).find(|_| table.round(&[(0, 1000)]).contains(&100)).unwrap();
    assert!(waited <= 2 * 6 + 1, "after {waited} rounds");
}

#[test]
fn who_gave_nothing_back_loses_its_slot_to_one_who_does() {
    let mut table = Table::new(5, 5);
    assert_eq!(table.unchoked().len(), 5);
    table.comes(9);
    let mut rounds = (0..8).map(|_| table.round(&[(9, 1000)]));
    assert!(rounds.any(|unchoked| unchoked.contains(&9)));
    assert!((0..20).all(|_| table.round(&[(9, 1000)]).contains(&9)), "what is earned is kept");
}

#[test]
fn a_peer_that_owes_us_for_a_minute_earns_nothing_until_it_pays() {
    let mut table = Table::new(2, 3);
    let owing = BTreeSet::from([PeerKey(0)]);
    for _ in 0..7 {
        table.now += RECHOKE_INTERVAL;
        table.choker.rechoke(table.now, &owing);
    }
    assert!(table.choker.books[&PeerKey(0)].has_snubbed(table.now));
    table.choker.received(table.now, PeerKey(0), 16384);
    assert!(!table.choker.books[&PeerKey(0)].has_snubbed(table.now));
    assert_eq!(table.choker.earners(table.now), [PeerKey(0)]);
}

#[test]
fn a_free_slot_is_given_at_once_and_only_then() {
    let mut table = Table::new(1, 2);
    assert_eq!(table.unchoked(), BTreeSet::from([0]));
    table.choker.gone(PeerKey(0));
    table.comes(2);
    assert_eq!(table.unchoked(), BTreeSet::from([2]));
}

#[test]
fn nobody_who_wants_nothing_holds_a_slot() {
    let mut table = Table::new(4, 1);
    table.choker.interest(table.now, PeerKey(0), false);
    assert!(table.round(&[(0, 1_000_000)]).is_empty());
}

#[test]
fn without_slots_everybody_is_choked_at_once() {
    let mut table = Table::new(4, 4);
    table.choker.set_slots(table.now, 0);
    assert!(table.unchoked().is_empty());
    assert!(table.round(&[(0, 1000)]).is_empty());
    table.choker.set_slots(table.now, 2);
    assert!((2..=3).contains(&table.round(&[(0, 1000)]).len()), "what is learned begins there");
}

#[test]
fn a_seed_gives_all_the_same_time() {
    let mut table = Table::new(4, 12);
    let mut rounds = BTreeMap::<u64, u32>::new();
    for _ in 0..360 {
        table.round(&[]).into_iter().for_each(|peer| *rounds.entry(peer).or_default() += 1);
    }
    assert_eq!(rounds.len(), 12);
    assert!(rounds.values().all(|rounds| (100..=140).contains(rounds)), "{rounds:?}");
}

#[test]
fn who_once_gave_has_its_turns_more_often_and_nobody_is_left_out() {
    let mut table = Table::new(5, 20);
    (0..4).for_each(|_| drop(table.round(&[(0, 200_000), (19, 1000)])));
    let mut rounds = BTreeMap::<u64, u32>::new();
    for _ in 0..120 {
        table.round(&[(19, 1000)]).into_iter().for_each(|peer| *rounds.entry(peer).or_default() += 1);
    }
    assert_eq!(rounds.len(), 20, "{rounds:?}");
    let others: u32 = (1..19).map(|peer| rounds[&peer]).sum();
    assert!(rounds[&0] * 18 > others * 3 / 2, "{rounds:?}");
}

#[test]
fn a_seed_that_gives_to_the_fastest_gives_to_others_now_and_then() {
    let mut table = Table::new(4, 12);
    table.choker.set_order(TurnOrder::Fastest);
    let mut rounds = BTreeMap::<u64, u32>::new();
    for _ in 0..360 {
        for peer in table.unchoked() {
            table.choker.sent(table.now, PeerKey(peer), (peer + 1) * 10_000);
        }
        table.round(&[]).into_iter().for_each(|peer| *rounds.entry(peer).or_default() += 1);
    }
    assert_eq!(rounds.len(), 12, "{rounds:?}");
    assert!(rounds[&11] > 2 * rounds[&0], "{rounds:?}");
}

#[test]
fn a_narrow_line_has_few_slots() {
    assert_eq!(slots_for(0, 8), 8);
    assert_eq!(slots_for(10 * 1024, 8), 2);
    assert_eq!(slots_for(60 * 1024, 8), 6);
    assert_eq!(slots_for(8 << 20, 8), 8);
    assert_eq!((slots_for(1 << 20, 0), slots_for(1 << 20, 1)), (0, 1));
}

#[test]
fn a_fast_line_has_more_slots_and_not_for_long() {
    let mut table = Table::new(4, 40);
    for _ in 0..4 {
        table.choker.sent(table.now, PeerKey(0), 1 << 30);
        table.round(&[]);
    }
    assert_eq!(table.unchoked().len(), 40);
    (0..4).for_each(|_| drop(table.round(&[])));
    assert_eq!(table.unchoked().len(), 4);
}

#[derive(Debug, Clone)]
enum Step {
    Comes(u64),
    Goes(u64),
    Wants(u64, bool),
    Gives(u64, u64),
    Rechoke(BTreeSet<u64>),
    Waits(u64),
}

fn steps() -> impl prop::strategy::Strategy<Value = Vec<Step>> {
    use prop::strategy::Strategy as _;
    let peer = || 0..12_u64;
    let step = prop_oneof![
        peer().prop_map(Step::Comes),
        peer().prop_map(Step::Goes),
        (peer(), any::<bool>()).prop_map(|(peer, wants)| Step::Wants(peer, wants)),
        (peer(), 0..1_000_000_u64).prop_map(|(peer, bytes)| Step::Gives(peer, bytes)),
        prop::collection::btree_set(peer(), 0..4).prop_map(Step::Rechoke),
        (1..15_000_u64).prop_map(Step::Waits),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    /// Whatever happens and whenever the choice is made: no more are unchoked than slots may be learned, and nobody's state
    /// changes twice within ten seconds.
    #[test]
    fn slots_hold_and_nobody_flaps(slots in 0..6_usize, steps in steps()) {
        let mut table = Table::new(slots, 0);
        let mut changed = BTreeMap::<u64, Instant>::new();
        let mut before = BTreeSet::new();
        for step in steps {
            match step {
                Step::Comes(peer) => table.choker.joined(PeerKey(peer)),
                Step::Goes(peer) => {
                    table.choker.gone(PeerKey(peer));
                    before.remove(&peer);
                    changed.remove(&peer);
                }
                Step::Wants(peer, wants) => table.choker.interest(table.now, PeerKey(peer), wants),
                Step::Gives(peer, bytes) => table.choker.received(table.now, PeerKey(peer), bytes),
                Step::Rechoke(owing) => {
                    table.choker.rechoke(table.now, &owing.into_iter().map(PeerKey).collect());
                }
                Step::Waits(millis) => table.now += Duration::from_millis(millis),
            }
            let unchoked = table.unchoked();
            prop_assert!(unchoked.len() <= slots * slots::MOST_TIMES);
            for peer in unchoked.symmetric_difference(&before) {
                if let Some(last) = changed.insert(*peer, table.now) {
                    prop_assert!(table.now - last >= RECHOKE_INTERVAL, "{} flaps", peer);
                }
            }
            before = unchoked;
        }
        prop_assert_eq!(table.choker.turns.count_of_strangers(&table.choker.books), 0);
    }
}
