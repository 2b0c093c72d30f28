//! A set from which members are drawn by lot, each once before any comes again.
//!
//! The entries up to `drawn` have had their turn; the next is drawn from the others and moved to the border. This is a
//! Fisher–Yates shuffle that stops after each step, so a turn costs no more than finding its entry.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand::rngs::StdRng;

#[derive(Debug)]
pub(super) struct Roster<K, V> {
    entries: Vec<(K, V)>,
    index: BTreeMap<K, usize>,
    drawn: usize,
}

impl<K, V> Default for Roster<K, V> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: BTreeMap::new(), drawn: 0 }
    }
}

impl<K: Copy + Ord, V> Roster<K, V> {
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.index.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.index.get(key).map(|&at| &mut self.entries[at].1)
    }

    /// How many keys lie within a range.
    pub(super) fn count(&self, range: std::ops::RangeInclusive<K>) -> usize {
        self.index.range(range).count()
    }

    /// Adds a member that is not there yet. It has its turn before any has a second one.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.index.insert(key, self.entries.len());
        self.entries.push((key, value));
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let mut at = self.index.remove(key)?;
        // A hole among those that had their turn is filled by one of them, so that nobody is passed over.
        if at < self.drawn {
            self.drawn -= 1;
            self.entries.swap(at, self.drawn);
            self.index_anew(at);
            at = self.drawn;
        }
        let (_, value) = self.entries.swap_remove(at);
        self.index_anew(at);
        // What stood at the border was swapped for the entry that goes, which has no place any more.
        self.index.remove(key);
        Some(value)
    }

    fn index_anew(&mut self, at: usize) {
        if let Some((key, _)) = self.entries.get(at) {
            self.index.insert(*key, at);
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = K> {
        self.entries.iter().map(|(key, _)| *key)
    }

    /// The next in turn.
    pub(super) fn draw(&mut self, random: &mut StdRng) -> Option<(K, &V)> {
        if self.entries.is_empty() {
            return None;
        }
        if self.drawn >= self.entries.len() {
            self.drawn = 0;
        }
        let (at, other) = (self.drawn, random.random_range(self.drawn..self.entries.len()));
        if at != other {
            self.entries.swap(at, other);
            self.index_anew(at);
            self.index_anew(other);
        }
        self.drawn += 1;
        let (key, value) = &self.entries[at];
        Some((*key, value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    proptest! {
        /// Any history: the roster holds what a set would, and nobody is drawn again while one that was there all along
        /// waits for its first turn.
        #[test]
        fn turns_are_fair(steps in proptest::collection::vec((0..4u8, 0..12u16), 1..200), seed: u64) {
            let mut random = StdRng::seed_from_u64(seed);
            let mut roster = Roster::default();
            let mut members = BTreeSet::new();
            let mut had_turn = BTreeSet::new();
            for (step, key) in steps {
                match step {
                    0 => if members.insert(key) { roster.insert(key, key) },
                    1 => {
                        prop_assert_eq!(roster.remove(&key), members.remove(&key).then_some(key));
                        had_turn.remove(&key);
                    }
                    _ => match roster.draw(&mut random).map(|(key, value)| (key, *value)) {
                        None => prop_assert!(members.is_empty()),
                        Some((key, value)) => {
                            prop_assert!(members.contains(&key) && key == value);
                            if had_turn.len() == members.len() { had_turn.clear(); }
                            prop_assert!(had_turn.insert(key));
                        }
                    },
                }
                prop_assert_eq!(roster.len(), members.len());
                prop_assert_eq!(roster.index.len(), members.len());
                prop_assert!(members.iter().all(|key| roster.get(key) == Some(key)));
            }
        }
    }

    #[test]
    fn every_order_comes_up() {
        let mut random = StdRng::seed_from_u64(1);
        let mut orders = BTreeSet::new();
        for _ in 0..200 {
            let mut roster = Roster::default();
            (0..3).for_each(|key| roster.insert(key, ()));
            orders.insert([0; 3].map(|_| roster.draw(&mut random).unwrap().0));
        }
        assert_eq!(orders.len(), 6);
    }
}
