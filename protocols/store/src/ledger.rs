//! Who has how many bytes of the budget, decided before a byte is written.
//!
//! A put goes through three states: it *claims* room (choosing victims), is *granted* it once the victims are off the
//! disk, and *commits* or gives it back. At every moment
//!
//! * committed + claimed (with granted) ≤ budget, so a claim once made is always granted in the end, and
//! * committed + dying + granted ≤ budget, so the disk holds no more than the budget even while victims are deleted.
//!
//! Pure: no I/O, no clock. The caller deletes the victims it is told of and says when they are gone.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;

use swarmgate_content::HashKind;

use crate::eviction::Evictor;
use crate::key::Key;
use crate::options::Amount;

/// When evicting at all, this fraction of the budget may go beyond what is needed, so that a store of very small blocks
/// does not pay one transaction of deletions for every put. Never an entry more than fits the fraction.
const SLACK_DIVISOR: u64 = 256;

/// Where a committed block's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In memory only.
    Memory,
    /// In a file of its own.
    File,
    /// In a row of the index.
    Row,
}

/// What is known of a committed block besides its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Different for each time the name was committed, so that a late reader cannot take the new for the old.
    pub(crate) generation: u64,
    pub(crate) place: Place,
    /// Whether its bytes were hashed since the last unclean stop.
    pub(crate) proven: bool,
}

/// A block on its way out. Its bytes count until [`Ledger::destroyed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) key: Key,
    pub(crate) len: u64,
    pub(crate) entry: Entry,
}

/// One put's share of the budget.
#[derive(Debug)]
pub(crate) struct Claim {
    key: Key,
    len: u64,
    claimed: bool,
    granted: bool,
}

/// What a put that wants room does next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Write.
    Granted,
    /// Delete these, then ask again.
    Evict(Vec<Victim>),
    /// Ask again when something has changed.
    Wait,
    /// Everything else is pinned or protected.
    Full,
    /// The volume is too full, and nothing can be evicted.
    LowDisk,
}

/// How a put begins.
#[derive(Debug)]
pub(crate) enum Begin {
    /// The block is here.
    Present,
    /// A block of that name is here, but nobody has hashed it since an unclean stop. The put has the true bytes in
    /// hand, so the old ones go; delete them, then begin again.
    Stale(Victim),
    /// Its name is being written or deleted just now; ask again when something has changed.
    Busy,
    /// The name is the caller's until the claim is committed or given back.
    Claim(Claim),
}

/// The index of all blocks, and the accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    blocks: Evictor<Key, Entry>,
    /// The same blocks, summed by their hash.
    kinds: BTreeMap<HashKind, Amount>,
    max_bytes: u64,
    /// Claimed, granted ones included.
    reserved: u64,
    granted: u64,
    dying: u64,
    /// Bytes of victims that could not be deleted. They are found again at the next start.
    stuck: u64,
    /// Names being written or deleted.
    busy: HashSet<Key>,
    roots: BTreeMap<String, BTreeSet<Key>>,
    tick: u64,
}

/// The accounts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accounts {
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) max_bytes: u64,
    pub(crate) pinned_bytes: u64,
    pub(crate) protected_bytes: u64,
    pub(crate) reserved_bytes: u64,
}

impl Ledger {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            blocks: Evictor::new(),
            kinds: BTreeMap::new(),
            max_bytes,
            reserved: 0,
            granted: 0,
            dying: 0,
            stuck: 0,
            busy: HashSet::new(),
            roots: BTreeMap::new(),
            tick: 0,
        }
    }

    /// A number larger than all before.
    pub(crate) const fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// Adds a block found at start-up, the least recently used first.
    pub(crate) fn found(&mut self, key: Key, len: u64, place: Place, proven: bool) {
        let generation = self.next_tick();
        self.count_in(key, len, Entry { generation, place, proven });
    }

    pub(crate) fn get(&self, key: &Key) -> Option<(u64, Entry)> {
        self.blocks.get(key).map(|(len, entry)| (len, *entry))
    }

    pub(crate) fn touch(&mut self, key: &Key) -> Option<(u64, Entry)> {
        let tick = self.next_tick();
        self.blocks.touch(key, tick).map(|(len, entry)| (len, *entry))
    }

    /// Notes that a block was hashed again, unless it is another one by now.
    pub(crate) fn prove(&mut self, key: &Key, generation: u64) {
        if let Some(entry) = self.blocks.get_mut(key).filter(|entry| entry.generation == generation) {
            entry.proven = true;
        }
    }

    /// Trusts a block no more until it was hashed again; whether it is here.
    pub(crate) fn doubt(&mut self, key: &Key) -> bool {
        let entry = self.blocks.get_mut(key);
        entry.is_some_and(|entry| {
            entry.proven = false;
            true
        })
    }

    /// Begins a put of a block.
    pub(crate) fn begin(&mut self, key: Key, len: u64) -> Begin {
        match self.touch(&key) {
            Some((_, entry)) if entry.proven => return Begin::Present,
            Some(_) => return self.take(&key, None).map_or(Begin::Busy, Begin::Stale),
            None => {}
        }
        if !self.busy.insert(key) {
            return Begin::Busy;
        }
        Begin::Claim(Claim { key, len, claimed: false, granted: false })
    }

    /// Decides what the put that owns `claim` does next, when `room` bytes of the volume may still be written.
    pub(crate) fn step(&mut self, claim: &mut Claim, room: u64) -> Step {
        let wanted = if claim.claimed { 0 } else { claim.len };
        let over = (self.blocks.bytes() + self.stuck + self.reserved + wanted).saturating_sub(self.max_bytes);
        let short = match claim.claimed {
            true => 0,
            false => (self.reserved + wanted).saturating_sub(room).saturating_sub(self.dying),
        };
        let need = over.max(short);
        if need > self.blocks.evictable_bytes() {
            // What is being written becomes evictable in a moment, and what is being deleted makes room on the volume.
            let moving = self.granted > 0 || self.dying > 0 || (!claim.claimed && self.reserved > 0);
            return match moving {
                true => Step::Wait,
                false if over > self.blocks.evictable_bytes() => Step::Full,
                false => Step::LowDisk,
            };
        }
        if !claim.claimed {
            claim.claimed = true;
            self.reserved += claim.len;
        }
        if need > 0 {
            return Step::Evict(self.pop(need));
        }
        if self.blocks.bytes() + self.stuck + self.dying + self.granted + claim.len > self.max_bytes {
            return Step::Wait;
        }
        claim.granted = true;
        self.granted += claim.len;
        Step::Granted
    }

    /// Turns a granted claim into a block.
    pub(crate) fn commit(&mut self, claim: &Claim, place: Place) -> u64 {
        self.release(claim);
        let generation = self.next_tick();
        self.count_in(claim.key, claim.len, Entry { generation, place, proven: true });
        generation
    }

    /// Gives a claim's room and name back.
    pub(crate) fn release(&mut self, claim: &Claim) {
        self.busy.remove(&claim.key);
        self.reserved -= if claim.claimed { claim.len } else { 0 };
        self.granted -= if claim.granted { claim.len } else { 0 };
    }

    /// Takes one block out, pinned or not; of the given generation only, if one is given.
    pub(crate) fn take(&mut self, key: &Key, generation: Option<u64>) -> Option<Victim> {
        let (_, entry) = self.get(key)?;
        if generation.is_some_and(|generation| generation != entry.generation) {
            return None;
        }
        let (len, entry) = self.blocks.remove(key)?;
        Some(self.condemn(*key, len, entry))
    }

    /// Takes out the least recently used blocks that nobody holds until they are `need` bytes, and at most `count`.
    pub(crate) fn take_oldest(&mut self, need: u64, count: usize) -> Vec<Victim> {
        let (mut victims, mut bytes) = (Vec::new(), 0);
        while bytes < need && victims.len() < count {
            let Some(victim) = self.pop_one() else { break };
            bytes += victim.len;
            victims.push(victim);
        }
        victims
    }

    /// How many bytes have to go so that all blocks, those being written too, are at most `most_bytes`, and a volume
    /// gets `lack` free bytes more.
    pub(crate) fn surplus(&self, most_bytes: u64, lack: u64) -> u64 {
        let over = (self.blocks.bytes() + self.stuck + self.reserved).saturating_sub(most_bytes);
        over.max(lack.saturating_sub(self.dying))
    }

    /// Takes out the least recently used until the budget is kept; at start-up, when the budget may have shrunk.
    pub(crate) fn trim(&mut self) -> Vec<Victim> {
        let over = self.blocks.bytes().saturating_sub(self.max_bytes);
        if over == 0 { Vec::new() } else { self.pop(over.min(self.blocks.evictable_bytes())) }
    }

    /// Notes that a victim is off the disk, or cannot be deleted.
    pub(crate) fn destroyed(&mut self, victim: &Victim, deleted: bool) {
        self.busy.remove(&victim.key);
        self.dying -= victim.len;
        self.stuck += if deleted { 0 } else { victim.len };
    }

    /// Whether the name is being written or deleted.
    pub(crate) fn is_busy(&self, key: &Key) -> bool {
        self.busy.contains(key)
    }

    /// Adds names to a root, and returns those that are new to it.
    pub(crate) fn pin(&mut self, root: &str, keys: impl IntoIterator<Item = Key>) -> Vec<Key> {
        let pinned = self.roots.entry(root.to_owned()).or_default();
        let new: Vec<Key> = keys.into_iter().filter(|key| pinned.insert(*key)).collect();
        new.iter().for_each(|key| self.blocks.pin(*key));
        new
    }

    /// Drops a root, and returns the names that it had; `None` when there is no such root.
    pub(crate) fn unpin(&mut self, root: &str) -> Option<BTreeSet<Key>> {
        let keys = self.roots.remove(root)?;
        keys.iter().for_each(|key| self.blocks.unpin(*key));
        Some(keys)
    }

    /// Whether some root has a name.
    pub(crate) fn is_pinned(&self, key: &Key) -> bool {
        self.blocks.is_pinned(key)
    }

    /// The names of all roots.
    pub(crate) fn roots(&self) -> Vec<String> {
        self.roots.keys().cloned().collect()
    }

    /// What is here of up to `count` names of a root, those behind `after`, and the last of these names.
    pub(crate) fn part_of_root(&self, root: &str, after: Option<Key>, count: usize) -> (Amount, Option<Key>) {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::<Key>::Unbounded);
        let names = self.roots.get(root).into_iter().flat_map(|names| names.range(behind)).take(count);
        names.fold((Amount::default(), None), |(amount, _), key| {
            let here = self.blocks.get(key).map(|(len, _)| len);
            (here.map_or(amount, |len| amount.and(len)), Some(*key))
        })
    }

    /// All blocks, by their hash.
    pub(crate) fn kinds(&self) -> Vec<(HashKind, Amount)> {
        self.kinds.iter().filter(|(_, amount)| amount.blocks > 0).map(|(kind, amount)| (*kind, *amount)).collect()
    }

    /// Replaces one reader's window; both lists hold a name at most once.
    pub(crate) fn move_window(&mut self, old: &[Key], new: &[Key]) {
        new.iter().for_each(|key| self.blocks.protect(*key));
        old.iter().for_each(|key| self.blocks.release(*key));
    }

    /// The names whose digest begins with this byte, with their lengths, in order. As much work as looking at all.
    pub(crate) fn names_at(&self, spread: u8) -> Vec<(Key, u64)> {
        let mut names: Vec<_> = self.blocks.names().filter(|(key, _)| key.spread() == spread).collect();
        names.sort_unstable();
        names
    }

    /// All blocks, least recently used first.
    pub(crate) fn oldest_first(&self) -> Vec<(Key, u64, Entry)> {
        self.blocks.oldest_first().into_iter().map(|(key, len, entry)| (key, len, *entry)).collect()
    }

    pub(crate) fn accounts(&self) -> Accounts {
        Accounts {
            bytes: self.blocks.bytes() + self.stuck + self.dying,
            blocks: self.blocks.len() as u64,
            max_bytes: self.max_bytes,
            pinned_bytes: self.blocks.pinned_bytes(),
            protected_bytes: self.blocks.protected_bytes(),
            reserved_bytes: self.reserved,
        }
    }

    fn pop(&mut self, need: u64) -> Vec<Victim> {
        let limit = need + self.max_bytes / SLACK_DIVISOR;
        let (mut victims, mut freed) = (Vec::new(), 0);
        while freed < need || self.blocks.oldest_len().is_some_and(|len| freed + len <= limit) {
            let Some(victim) = self.pop_one() else { break };
            freed += victim.len;
            victims.push(victim);
        }
        victims
    }

    fn pop_one(&mut self) -> Option<Victim> {
        let (key, len, entry) = self.blocks.pop_oldest()?;
        Some(self.condemn(key, len, entry))
    }

    fn count_in(&mut self, key: Key, len: u64, entry: Entry) {
        if let Some((replaced, _)) = self.get(&key) {
            self.count_out(&key, replaced);
        }
        let kind = self.kinds.entry(key.kind()).or_default();
        *kind = kind.and(len);
        self.blocks.insert(key, len, entry.generation, entry);
    }

    fn count_out(&mut self, key: &Key, len: u64) {
        if let Some(kind) = self.kinds.get_mut(&key.kind()) {
            *kind = Amount { blocks: kind.blocks - 1, bytes: kind.bytes - len };
        }
    }

    fn condemn(&mut self, key: Key, len: u64, entry: Entry) -> Victim {
        self.count_out(&key, len);
        self.dying += len;
        self.busy.insert(key);
        Victim { key, len, entry }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use swarmgate_content::BlockHash;

    const NO_LIMIT: u64 = u64::MAX;

    fn key(number: u8) -> Key {
        Key::from(&BlockHash::sha1([number; 20]))
    }

    fn claim(ledger: &mut Ledger, number: u8, len: u64) -> Claim {
        match ledger.begin(key(number), len) {
            Begin::Claim(claim) => claim,
            other @ (Begin::Present | Begin::Stale(_) | Begin::Busy) => panic!("block {number}: {other:?}"),
        }
    }

    fn put(ledger: &mut Ledger, number: u8, len: u64) {
        let mut claim = claim(ledger, number, len);
        assert!(matches!(ledger.step(&mut claim, NO_LIMIT), Step::Granted));
        ledger.commit(&claim, Place::File);
    }

    #[test]
    fn a_put_writes_only_after_its_victim_is_off_the_disk() {
        let mut ledger = Ledger::new(100);
        put(&mut ledger, 1, 60);
        let mut second = claim(&mut ledger, 2, 60);
        let Step::Evict(victims) = ledger.step(&mut second, NO_LIMIT) else { panic!("1 must go") };
        assert_eq!(victims.iter().map(|victim| victim.key).collect::<Vec<_>>(), [key(1)]);
        assert!(matches!(ledger.step(&mut second, NO_LIMIT), Step::Wait), "1 is still on the disk");
        assert!(matches!(ledger.begin(key(1), 60), Begin::Busy), "1 may not be written while it is deleted");
        ledger.destroyed(&victims[0], true);
        assert!(matches!(ledger.step(&mut second, NO_LIMIT), Step::Granted));
    }

    #[test]
    fn a_put_waits_for_room_another_holds_and_takes_it_when_that_is_given_back() {
        let mut ledger = Ledger::new(100);
        let mut first = claim(&mut ledger, 1, 80);
        assert!(matches!(ledger.step(&mut first, NO_LIMIT), Step::Granted));
        let mut second = claim(&mut ledger, 2, 80);
        assert!(matches!(ledger.step(&mut second, NO_LIMIT), Step::Wait));
        ledger.release(&first);
        assert!(matches!(ledger.step(&mut second, NO_LIMIT), Step::Granted));
    }

    #[test]
    fn when_all_is_pinned_or_protected_the_answer_is_full_and_nothing_was_evicted() {
        let mut ledger = Ledger::new(100);
        put(&mut ledger, 1, 40);
        put(&mut ledger, 2, 40);
        put(&mut ledger, 3, 20);
        ledger.pin("root", [key(1)]);
        ledger.move_window(&[], &[key(2)]);
        let mut big = claim(&mut ledger, 4, 21);
        assert!(matches!(ledger.step(&mut big, NO_LIMIT), Step::Full));
        assert!(ledger.get(&key(3)).is_some());
        ledger.release(&big);
        assert_eq!(ledger.unpin("root").unwrap().len(), 1);
        assert!(!ledger.is_pinned(&key(1)));
        let mut again = claim(&mut ledger, 4, 21);
        assert!(matches!(ledger.step(&mut again, NO_LIMIT), Step::Evict(victims) if victims[0].key == key(1)));
    }

    #[test]
    fn a_volume_short_of_space_shrinks_the_store_before_it_refuses() {
        let mut ledger = Ledger::new(1000);
        put(&mut ledger, 1, 50);
        let mut second = claim(&mut ledger, 2, 50);
        let Step::Evict(victims) = ledger.step(&mut second, 10) else { panic!("1 must make room") };
        ledger.destroyed(&victims[0], true);
        assert!(matches!(ledger.step(&mut second, 60), Step::Granted));
        ledger.commit(&second, Place::File);
        ledger.pin("root", [key(2)]);
        let mut third = claim(&mut ledger, 3, 50);
        assert!(matches!(ledger.step(&mut third, 10), Step::LowDisk));
    }

    #[test]
    fn a_victim_that_cannot_be_deleted_keeps_counting() {
        let mut ledger = Ledger::new(100);
        put(&mut ledger, 1, 60);
        let mut second = claim(&mut ledger, 2, 60);
        let Step::Evict(victims) = ledger.step(&mut second, NO_LIMIT) else { panic!("1 must go") };
        ledger.destroyed(&victims[0], false);
        assert!(matches!(ledger.step(&mut second, NO_LIMIT), Step::Full));
        ledger.release(&second);
        assert_eq!((ledger.accounts().bytes, ledger.accounts().reserved_bytes), (60, 0));
    }

    #[test]
    fn what_has_to_go_is_what_is_too_much_or_what_the_volume_lacks_and_the_oldest_goes_first() {
        let mut ledger = Ledger::new(100);
        (1..=4).for_each(|number| put(&mut ledger, number, 20));
        let mut fifth = claim(&mut ledger, 5, 10);
        assert!(matches!(ledger.step(&mut fifth, NO_LIMIT), Step::Granted));
        assert_eq!((ledger.surplus(100, 0), ledger.surplus(60, 0), ledger.surplus(60, 31)), (0, 30, 31));
        ledger.pin("root", [key(1)]);
        let victims = ledger.take_oldest(30, 10);
        assert_eq!(victims.iter().map(|victim| victim.key).collect::<Vec<_>>(), [key(2), key(3)]);
        assert_eq!((ledger.surplus(60, 0), ledger.surplus(60, 41)), (0, 1), "what is being deleted is on its way");
        assert_eq!(ledger.take_oldest(u64::MAX, 10).len(), 1, "one is pinned, and one is not here yet");
    }

    #[test]
    fn a_root_is_summed_in_parts_and_names_that_are_not_here_add_nothing() {
        let mut ledger = Ledger::new(100);
        (1..=3).for_each(|number| put(&mut ledger, number, 20));
        ledger.pin("root", (1..=5).map(key));
        let (first, last) = ledger.part_of_root("root", None, 2);
        assert_eq!((first, last), (Amount { blocks: 2, bytes: 40 }, Some(key(2))));
        let (second, last) = ledger.part_of_root("root", last, 3);
        assert_eq!((second, last), (Amount { blocks: 1, bytes: 20 }, Some(key(5))));
        assert_eq!(ledger.part_of_root("root", last, 3), (Amount::default(), None));
        assert_eq!(ledger.part_of_root("other", None, 3), (Amount::default(), None));
    }

    #[test]
    fn a_store_of_tiny_blocks_evicts_a_handful_at_once_and_one_of_large_ones_never_more_than_needed() {
        let mut tiny = Ledger::new(2560);
        (0..=255).for_each(|number| put(&mut tiny, number, 10));
        let mut next = Claim { key: Key::from(&BlockHash::sha2_256([1; 32])), len: 1, claimed: false, granted: false };
        assert!(matches!(tiny.step(&mut next, NO_LIMIT), Step::Evict(victims) if victims.len() == 1));
        let mut tinier = Ledger::new(2560);
        (0..=255).for_each(|number| put(&mut tinier, number, if number < 40 { 1 } else { 11 }));
        let full = tinier.accounts().bytes;
        next.len = 2560 - full + 3;
        next.claimed = false;
        assert!(matches!(tinier.step(&mut next, NO_LIMIT), Step::Evict(victims) if victims.len() == 13));
    }

    proptest! {
        /// Puts in every state of completion, in any order: the two sums of the head of this file hold, and whoever
        /// waits is served or refused once the others have ended.
        #[test]
        fn the_budget_holds_at_every_step(script in proptest::collection::vec((any::<u8>(), 0..60u64, 0..6u8), 1..200)) {
            let mut ledger = Ledger::new(100);
            let mut open: Vec<Claim> = Vec::new();
            let mut dying: Vec<Victim> = Vec::new();
            for (number, len, deed) in script {
                let at = usize::from(number);
                match deed {
                    0 | 1 => if let Begin::Claim(claim) = ledger.begin(key(number % 16), len) { open.push(claim) },
                    2 | 3 if !open.is_empty() => {
                        let at = at % open.len();
                        let claim = &mut open[at];
                        if claim.granted {
                            ledger.commit(claim, Place::File);
                            open.swap_remove(at);
                        } else if let Step::Evict(victims) = ledger.step(claim, NO_LIMIT) {
                            dying.extend(victims);
                        }
                    }
                    4 if !open.is_empty() => ledger.release(&open.swap_remove(at % open.len())),
                    5 if !dying.is_empty() => ledger.destroyed(&dying.swap_remove(at % dying.len()), true),
                    _ => {}
                }
                prop_assert!(ledger.blocks.bytes() + ledger.reserved <= 100);
                prop_assert!(ledger.blocks.bytes() + ledger.dying + ledger.granted <= 100);
                let kinds: u64 = ledger.kinds().iter().map(|(_, amount)| amount.bytes).sum();
                prop_assert_eq!(kinds, ledger.blocks.bytes());
            }
            while !open.is_empty() {
                dying.drain(..).for_each(|victim| ledger.destroyed(&victim, true));
                let mut moved = false;
                open.retain_mut(|claim| {
                    let ended = claim.granted || match ledger.step(claim, NO_LIMIT) {
                        Step::Granted => true,
                        Step::Evict(victims) => { dying.extend(victims); moved = true; false }
                        Step::Wait => false,
                        Step::Full | Step::LowDisk => panic!("nothing is held"),
                    };
                    if ended { ledger.commit(claim, Place::File); moved = true; }
                    !ended
                });
                prop_assert!(moved || !dying.is_empty(), "everybody waits for nobody");
            }
        }
    }
}
