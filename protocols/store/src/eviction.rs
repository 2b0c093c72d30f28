//! What goes when the budget is reached: the least recently used, except what is pinned or in a reader's window.
//!
//! An [`Evictor`] is a map that also knows the order of use. Pins and windows are counted holds on *names*, present
//! or not: a reader protects the pieces it waits for before they arrive. Time is a tick the caller hands in, so a test
//! needs no clock. Every operation is O(log n).

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// A map whose least recently used, unheld entry can be popped.
#[derive(Debug)]
pub(crate) struct Evictor<K, V> {
    items: HashMap<K, Item<V>>,
    /// The unheld items in the order of use; the key breaks ties.
    order: BTreeSet<(u64, K)>,
    holds: HashMap<K, Holds>,
    bytes: u64,
    pinned_bytes: u64,
    protected_bytes: u64,
}

#[derive(Debug)]
struct Item<V> {
    len: u64,
    tick: u64,
    value: V,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Holds {
    pins: u32,
    windows: u32,
}

/// Why an entry is spared, if it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Free,
    Pinned,
    /// In a window and not pinned.
    Protected,
}

impl<K: Copy + Ord + Hash, V> Evictor<K, V> {
    /// Makes an empty map.
    pub(crate) fn new() -> Self {
        Self {
            items: HashMap::new(),
            order: BTreeSet::new(),
            holds: HashMap::new(),
            bytes: 0,
            pinned_bytes: 0,
            protected_bytes: 0,
        }
    }

    /// Adds an entry used at `tick`, and gives back the one it replaces.
    pub(crate) fn insert(&mut self, key: K, len: u64, tick: u64, value: V) -> Option<V> {
        let replaced = self.remove(&key);
        self.items.insert(key, Item { len, tick, value });
        self.count_in(key);
        replaced.map(|(_, value)| value)
    }

    /// Takes an entry out; holds on its name stay.
    pub(crate) fn remove(&mut self, key: &K) -> Option<(u64, V)> {
        self.count_out(*key);
        self.items.remove(key).map(|item| (item.len, item.value))
    }

    /// Looks at an entry without using it.
    pub(crate) fn get(&self, key: &K) -> Option<(u64, &V)> {
        self.items.get(key).map(|item| (item.len, &item.value))
    }

    /// Changes an entry's value without using it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.items.get_mut(key).map(|item| &mut item.value)
    }

    /// Uses an entry at `tick`.
    pub(crate) fn touch(&mut self, key: &K, tick: u64) -> Option<(u64, &V)> {
        let item = self.items.get_mut(key)?;
        if self.order.remove(&(item.tick, *key)) {
            self.order.insert((tick, *key));
        }
        item.tick = tick;
        Some((item.len, &item.value))
    }

    /// Takes out the least recently used entry that nobody holds.
    pub(crate) fn pop_oldest(&mut self) -> Option<(K, u64, V)> {
        let (_, key) = *self.order.first()?;
        let (len, value) = self.remove(&key)?;
        Some((key, len, value))
    }

    /// How long the entry is that [`Self::pop_oldest`] would take.
    pub(crate) fn oldest_len(&self) -> Option<u64> {
        let (_, key) = self.order.first()?;
        self.items.get(key).map(|item| item.len)
    }

    /// Adds a pin on a name.
    pub(crate) fn pin(&mut self, key: K) {
        self.change(key, |holds| holds.pins += 1);
    }

    /// Takes one pin off a name.
    pub(crate) fn unpin(&mut self, key: K) {
        self.change(key, |holds| holds.pins = holds.pins.saturating_sub(1));
    }

    /// Whether a name is pinned.
    pub(crate) fn is_pinned(&self, key: &K) -> bool {
        self.standing(key) == Standing::Pinned
    }

    /// Puts a name into one more window.
    pub(crate) fn protect(&mut self, key: K) {
        self.change(key, |holds| holds.windows += 1);
    }

    /// Takes a name out of one window.
    pub(crate) fn release(&mut self, key: K) {
        self.change(key, |holds| holds.windows = holds.windows.saturating_sub(1));
    }

    /// The lengths of all entries together.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lengths of all pinned entries together.
    pub(crate) const fn pinned_bytes(&self) -> u64 {
        self.pinned_bytes
    }

    /// The lengths of all entries in windows that no pin holds.
    pub(crate) const fn protected_bytes(&self) -> u64 {
        self.protected_bytes
    }

    /// What popping everything would free.
    pub(crate) const fn evictable_bytes(&self) -> u64 {
        self.bytes - self.pinned_bytes - self.protected_bytes
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// The names of all entries with their lengths, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = (K, u64)> {
        self.items.iter().map(|(key, item)| (*key, item.len))
    }

    /// All entries, least recently used first. O(n log n), for shutdown only.
    pub(crate) fn oldest_first(&self) -> Vec<(K, u64, &V)> {
        let mut all: Vec<_> = self.items.iter().map(|(key, item)| (item.tick, *key, item)).collect();
        all.sort_unstable_by_key(|(tick, key, _)| (*tick, *key));
        all.into_iter().map(|(_, key, item)| (key, item.len, &item.value)).collect()
    }

    fn change(&mut self, key: K, edit: impl FnOnce(&mut Holds)) {
        self.count_out(key);
        match self.holds.entry(key) {
            Entry::Occupied(mut held) => {
                edit(held.get_mut());
                if *held.get() == Holds::default() {
                    held.remove();
                }
            }
            Entry::Vacant(free) => {
                let mut holds = Holds::default();
                edit(&mut holds);
                if holds != Holds::default() {
                    free.insert(holds);
                }
            }
        }
        self.count_in(key);
    }

    fn standing(&self, key: &K) -> Standing {
        match self.holds.get(key) {
            None => Standing::Free,
            Some(holds) if holds.pins > 0 => Standing::Pinned,
            Some(_) => Standing::Protected,
        }
    }

    fn count_in(&mut self, key: K) {
        let Some(&Item { len, tick, .. }) = self.items.get(&key) else { return };
        self.bytes += len;
        match self.standing(&key) {
            Standing::Free => {
                self.order.insert((tick, key));
            }
            Standing::Pinned => self.pinned_bytes += len,
            Standing::Protected => self.protected_bytes += len,
        }
    }

    fn count_out(&mut self, key: K) {
        let Some(&Item { len, tick, .. }) = self.items.get(&key) else { return };
        self.bytes -= len;
        match self.standing(&key) {
            Standing::Free => {
                self.order.remove(&(tick, key));
            }
            Standing::Pinned => self.pinned_bytes -= len,
            Standing::Protected => self.protected_bytes -= len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_least_recently_used_goes_first_and_reading_counts_as_use() {
        let mut evictor = Evictor::new();
        for (tick, key) in ['a', 'b', 'c'].into_iter().enumerate() {
            evictor.insert(key, 1, tick as u64, ());
        }
        evictor.touch(&'a', 9);
        let order: Vec<_> = std::iter::from_fn(|| evictor.pop_oldest()).map(|(key, ..)| key).collect();
        assert_eq!(order, ['b', 'c', 'a']);
    }

    #[test]
    fn a_held_entry_is_spared_until_its_last_hold_goes_and_then_has_its_old_place() {
        let mut evictor = Evictor::new();
        evictor.protect('a');
        evictor.insert('a', 3, 0, ());
        evictor.insert('b', 1, 1, ());
        evictor.pin('a');
        assert_eq!((evictor.pinned_bytes(), evictor.protected_bytes(), evictor.evictable_bytes()), (3, 0, 1));
        evictor.unpin('a');
        assert_eq!((evictor.pinned_bytes(), evictor.protected_bytes()), (0, 3));
        assert_eq!(evictor.oldest_len(), Some(1));
        evictor.release('a');
        assert_eq!(evictor.pop_oldest().unwrap().0, 'a');
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Insert(u8, u64),
        Remove(u8),
        Touch(u8),
        Pop,
        Pin(u8),
        Unpin(u8),
        Protect(u8),
        Release(u8),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let key = 0..12u8;
        let deed = prop_oneof![
            3 => (key.clone(), 0..50u64).prop_map(|(key, len)| Deed::Insert(key, len)),
            1 => key.clone().prop_map(Deed::Remove),
            3 => key.clone().prop_map(Deed::Touch),
            2 => Just(Deed::Pop),
            1 => key.clone().prop_map(Deed::Pin),
            1 => key.clone().prop_map(Deed::Unpin),
            1 => key.clone().prop_map(Deed::Protect),
            1 => key.prop_map(Deed::Release),
        ];
        proptest::collection::vec(deed, 0..300)
    }

    /// The same map with no index at all: every answer is a scan.
    #[derive(Default)]
    struct Model {
        items: BTreeMap<u8, (u64, u64)>,
        pins: BTreeMap<u8, u32>,
        windows: BTreeMap<u8, u32>,
    }

    impl Model {
        fn pinned(&self, key: u8) -> bool {
            self.pins.get(&key).is_some_and(|count| *count > 0)
        }

        fn protected(&self, key: u8) -> bool {
            !self.pinned(key) && self.windows.get(&key).is_some_and(|count| *count > 0)
        }

        fn sum(&self, wanted: impl Fn(u8) -> bool) -> u64 {
            self.items.iter().filter(|(key, _)| wanted(**key)).map(|(_, (len, _))| len).sum()
        }

        fn oldest(&self) -> Option<(u8, u64)> {
            let free = self.items.iter().filter(|(key, _)| !self.pinned(**key) && !self.protected(**key));
            free.min_by_key(|(key, (_, tick))| (*tick, **key)).map(|(key, (len, _))| (*key, *len))
        }
    }

    fn lower(counts: &mut BTreeMap<u8, u32>, key: u8) {
        let count = counts.entry(key).or_default();
        *count = count.saturating_sub(1);
    }

    proptest! {
        #[test]
        fn the_evictor_agrees_with_a_naive_model(deeds in deeds(), ties in 1..4u64) {
            let (mut evictor, mut model) = (Evictor::new(), Model::default());
            for (step, deed) in deeds.into_iter().enumerate() {
                let tick = step as u64 / ties;
                match deed {
                    Deed::Insert(key, len) => {
                        evictor.insert(key, len, tick, key);
                        model.items.insert(key, (len, tick));
                    }
                    Deed::Remove(key) => {
                        let expected = model.items.remove(&key).map(|(len, _)| (len, key));
                        prop_assert_eq!(evictor.remove(&key), expected);
                    }
                    Deed::Touch(key) => {
                        let found = evictor.touch(&key, tick).map(|(len, _)| len);
                        prop_assert_eq!(found, model.items.get(&key).map(|(len, _)| *len));
                        model.items.entry(key).and_modify(|item| item.1 = tick);
                    }
                    Deed::Pop => {
                        let expected = model.oldest();
                        prop_assert_eq!(evictor.oldest_len(), expected.map(|(_, len)| len));
                        prop_assert_eq!(evictor.pop_oldest().map(|(key, len, _)| (key, len)), expected);
                        expected.and_then(|(key, _)| model.items.remove(&key));
                    }
                    Deed::Pin(key) => { evictor.pin(key); *model.pins.entry(key).or_default() += 1; }
                    Deed::Unpin(key) => { evictor.unpin(key); lower(&mut model.pins, key); }
                    Deed::Protect(key) => { evictor.protect(key); *model.windows.entry(key).or_default() += 1; }
                    Deed::Release(key) => { evictor.release(key); lower(&mut model.windows, key); }
                }
                prop_assert_eq!(evictor.bytes(), model.sum(|_| true));
                prop_assert_eq!(evictor.pinned_bytes(), model.sum(|key| model.pinned(key)));
                prop_assert_eq!(evictor.protected_bytes(), model.sum(|key| model.protected(key)));
                prop_assert_eq!(evictor.len(), model.items.len());
                prop_assert!((0..12).all(|key| evictor.is_pinned(&key) == model.pinned(key)));
            }
        }
    }
}
