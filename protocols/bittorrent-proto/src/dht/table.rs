//! The nodes known of one family: buckets by how many bits of an id they share with ours (BEP 5).
//!
//! A node is *good* while it answered within [`FRESH`], or has ever answered and asked something within it; *bad* when
//! it left [`MAX_FAILURES`] queries in a row unanswered; else *questionable*, and asked whether it is still there. Only
//! nodes that answered us get in, so nobody can fill the table with forged addresses. A full bucket keeps what it has,
//! because nodes that have been there long stay long; newcomers wait beside it for a place.
//!
//! Of one public address there is one node: whoever has many ids at one address wants to be everywhere. And a node whose
//! id does not suit its address (BEP 42) gives way to one whose id does.

use std::time::{Duration, Instant};

use super::id::is_local;
use super::random::Random;
use super::{Contact, K, NodeId};

/// How long a node counts as good after it was heard, and a bucket as known after it changed (BEP 5).
pub(super) const FRESH: Duration = Duration::from_secs(15 * 60);
/// Queries in a row left unanswered after which a node is bad.
pub(super) const MAX_FAILURES: u8 = 2;
/// Buckets: one for each number of shared bits.
const BUCKETS: usize = 160;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Table {
    own: NodeId,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default, Clone)]
struct Bucket {
    nodes: Vec<Entry>,
    /// Nodes that answered when there was no room, the latest last.
    waiting: Vec<Entry>,
    /// When a lookup last went through here.
    refreshed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    contact: Contact,
    answered: Instant,
    heard: Instant,
    failures: u8,
}

impl Entry {
    fn is_good(&self, now: Instant) -> bool {
        self.failures == 0 && now.saturating_duration_since(self.heard) < FRESH
    }

    const fn is_bad(&self) -> bool {
        self.failures >= MAX_FAILURES
    }

    fn suits(&self) -> bool {
        self.contact.id.suits(self.contact.address.ip())
    }
}

impl Table {
    pub(super) fn new(own: NodeId) -> Self {
        Self { own, buckets: vec![Bucket::default(); BUCKETS] }
    }

    pub(super) const fn own(&self) -> &NodeId {
        &self.own
    }

    fn bucket(&mut self, id: &NodeId) -> Option<&mut Bucket> {
        let bits = self.own.shared_bits(id);
        self.buckets.get_mut(bits)
    }

    /// A node answered. Tells whether it is new in the table.
    pub(super) fn answered(&mut self, now: Instant, contact: Contact) -> bool {
        let entry = Entry { contact, answered: now, heard: now, failures: 0 };
        let Some(bucket) = self.bucket(&contact.id) else { return false };
        if let Some(known) = bucket.nodes.iter_mut().find(|known| known.contact.id == contact.id) {
            // Another address for an id that answers is somebody who wants its place.
            if known.contact.address == contact.address || known.is_bad() {
                *known = entry;
            }
            return false;
        }
        self.forget_others_at(&contact);
        if self.has_other_at(&contact) {
            return false;
        }
        self.bucket(&contact.id).is_some_and(|bucket| bucket.insert(entry))
    }

    /// A node that answers under a new id has started again.
    fn forget_others_at(&mut self, contact: &Contact) {
        for bucket in &mut self.buckets {
            bucket.nodes.retain(|known| known.contact.address != contact.address);
            bucket.waiting.retain(|known| known.contact.address != contact.address);
        }
    }

    fn has_other_at(&self, contact: &Contact) -> bool {
        let ip = contact.address.ip();
        !is_local(ip) && self.entries().any(|known| known.contact.address.ip() == ip && !known.is_bad())
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    /// A node asked something. Tells whether it is worth asking back: it is unknown, and there may be room for it.
    pub(super) fn asked(&mut self, now: Instant, contact: &Contact) -> bool {
        if contact.id == self.own || self.has_other_at(contact) && !self.knows(contact) {
            return false;
        }
        let Some(bucket) = self.bucket(&contact.id) else { return false };
        match bucket.nodes.iter_mut().find(|known| known.contact.id == contact.id) {
            Some(known) if known.contact.address == contact.address => {
                known.heard = now;
                false
            }
            Some(known) => known.is_bad(),
            None => bucket.nodes.len() < K || bucket.nodes.iter().any(Entry::is_bad),
        }
    }

    fn knows(&self, contact: &Contact) -> bool {
        self.entries().any(|known| known.contact == *contact)
    }

    /// A node did not answer. One that is bad gives way to one that waits.
    pub(super) fn failed(&mut self, contact: &Contact) {
        let Some(bucket) = self.bucket(&contact.id) else { return };
        bucket.waiting.retain(|waiting| waiting.contact != *contact);
        let Some(at) = bucket.nodes.iter().position(|known| known.contact == *contact) else { return };
        bucket.nodes[at].failures = bucket.nodes[at].failures.saturating_add(1);
        if bucket.nodes[at].is_bad() {
            match bucket.waiting.pop() {
                Some(next) => bucket.nodes[at] = next,
                None => drop(bucket.nodes.remove(at)),
            }
        }
    }

    /// The nodes nearest to an id that are not bad, nearest first.
    pub(super) fn closest(&self, target: &NodeId, max: usize) -> Vec<Contact> {
        let mut near: Vec<_> = self.entries().filter(|it| it.failures == 0).map(|it| it.contact).collect();
        near.sort_unstable_by_key(|contact| target.distance(&contact.id));
        near.truncate(max);
        near
    }

    /// A node of each bucket that is questionable, the one heard longest ago, `max` in all.
    pub(super) fn questionable(&self, now: Instant, max: usize) -> Vec<Contact> {
        let oldest = self.buckets.iter().filter_map(|bucket| {
            let questionable = bucket.nodes.iter().filter(|it| !it.is_good(now));
            questionable.min_by_key(|it| it.answered).map(|it| it.contact)
        });
        oldest.take(max).collect()
    }

    /// An id to look for in a bucket that nothing was looked for in for long, and marks that as done. Buckets beyond the
    /// fullest part of the table are one with the last.
    pub(super) fn refresh(&mut self, now: Instant, random: &mut Random) -> Option<NodeId> {
        let last = self.buckets.iter().rposition(|bucket| !bucket.nodes.is_empty())?;
        let stale = |bucket: &Bucket| bucket.refreshed.is_none_or(|at| now.saturating_duration_since(at) >= FRESH);
        let at = self.buckets[..=last].iter().position(stale)?;
        self.buckets[at].refreshed = Some(now);
        Some(self.own.sharing(at, random.bytes()))
    }

    /// A lookup goes through the bucket of an id.
    pub(super) fn looked(&mut self, now: Instant, target: &NodeId) {
        if let Some(bucket) = self.bucket(target) {
            bucket.refreshed = Some(now);
        }
    }

    /// Nodes known.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.nodes.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All nodes, those that share least with us first.
    pub(super) fn contacts(&self) -> impl Iterator<Item = Contact> {
        self.entries().map(|known| known.contact)
    }

    /// Orders the same nodes by another id of ours.
    pub(super) fn move_to(&mut self, own: NodeId) {
        let entries: Vec<_> = self.entries().copied().collect();
        *self = Self::new(own);
        for entry in entries {
            if let Some(bucket) = self.bucket(&entry.contact.id) {
                bucket.insert(entry);
            }
        }
    }
}

impl Bucket {
    /// Tells whether the newcomer is in, rather than waiting.
    fn insert(&mut self, entry: Entry) -> bool {
        if self.nodes.len() < K {
            self.nodes.push(entry);
            return true;
        }
        let place = self.nodes.iter().position(Entry::is_bad).or_else(|| {
            let unsuited = self.nodes.iter().position(|known| !known.suits());
            unsuited.filter(|_| entry.suits())
        });
        if let Some(at) = place {
            self.nodes[at] = entry;
            return true;
        }
        self.waiting.retain(|waiting| waiting.contact.id != entry.contact.id);
        if self.waiting.len() == K {
            self.waiting.remove(0);
        }
        self.waiting.push(entry);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    const OWN: NodeId = NodeId::new([0; 20]);

    fn node(first: u8, n: u8) -> Contact {
        let mut id = [n; 20];
        id[0] = first;
        Contact { id: NodeId::new(id), address: SocketAddr::from(([10, first, 0, n], 6881)) }
    }

    #[test]
    fn a_full_bucket_keeps_who_is_there_and_a_bad_one_gives_way_to_who_waits() {
        let (now, mut table) = (start(), Table::new(OWN));
        for n in 0..8 {
            assert!(table.answered(now, node(0x80, n)));
        }
        assert!(!table.answered(now, node(0x80, 8)));
        assert_eq!(table.len(), 8);
        table.failed(&node(0x80, 3));
        assert!(!table.closest(&node(0x80, 3).id, 8).contains(&node(0x80, 3)), "it is not named to others");
        table.failed(&node(0x80, 3));
        let known: Vec<_> = table.contacts().collect();
        assert!(known.contains(&node(0x80, 8)) && !known.contains(&node(0x80, 3)));
    }

    #[test]
    fn an_id_stays_where_it_answers_from() {
        let (now, mut table) = (start(), Table::new(OWN));
        table.answered(now, node(1, 1));
        let thief = Contact { address: SocketAddr::from(([10, 9, 9, 9], 1)), ..node(1, 1) };
        table.answered(now, thief);
        assert_eq!(table.contacts().collect::<Vec<_>>(), [node(1, 1)]);
        let restarted = Contact { id: node(2, 2).id, ..node(1, 1) };
        assert!(table.answered(now, restarted));
        assert_eq!(table.contacts().collect::<Vec<_>>(), [restarted]);
    }

    #[test]
    fn a_public_address_has_one_node() {
        let (now, mut table) = (start(), Table::new(OWN));
        let at = |n: u8| Contact { id: node(n, n).id, address: SocketAddr::from(([8, 8, 8, 8], u16::from(n))) };
        assert!(table.answered(now, at(1)));
        assert!(!table.answered(now, at(2)) && !table.asked(now, &at(3)));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn an_id_that_suits_its_address_takes_the_place_of_one_that_does_not() {
        let (now, mut table) = (start(), Table::new(NodeId::new([0xff; 20])));
        let public = |n: u8| Contact { id: node(0, n).id, address: SocketAddr::from(([9, 9, 9, n], 6881)) };
        (0..8).for_each(|n| assert!(table.answered(now, public(n))));
        let ip = [21, 75, 31, 124].into();
        let suited = Contact { id: NodeId::for_ip(ip, [86; 20]), address: SocketAddr::new(ip, 6881) };
        assert_eq!(suited.id.as_bytes()[0] & 0x80, 0, "it belongs to the same bucket");
        assert!(table.answered(now, suited));
        assert_eq!(table.len(), 8);
    }

    #[test]
    fn who_was_not_heard_for_long_is_questionable_until_it_answers() {
        let (now, mut table) = (start(), Table::new(OWN));
        table.answered(now, node(1, 1));
        assert!(table.questionable(now + FRESH / 2, 8).is_empty());
        assert_eq!(table.questionable(now + FRESH, 8), [node(1, 1)]);
        table.asked(now + FRESH, &node(1, 1));
        assert!(table.questionable(now + FRESH, 8).is_empty(), "asking is a sign of life too");
        assert_eq!(table.questionable(now + FRESH * 2, 8), [node(1, 1)]);
    }

    #[test]
    fn each_bucket_is_refreshed_once_in_its_time() {
        let (now, mut table, mut random) = (start(), Table::new(OWN), Random::new(&[1; 32]));
        table.answered(now, node(0x80, 1));
        table.answered(now, node(0x10, 1));
        let shared: Vec<_> = std::iter::from_fn(|| table.refresh(now, &mut random)).collect();
        assert_eq!(shared.iter().map(|id| id.shared_bits(&OWN)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(table.refresh(now + FRESH / 2, &mut random), None);
        assert!(table.refresh(now + FRESH, &mut random).is_some());
    }

    proptest! {
        #[test]
        fn the_closest_are_the_closest_of_all_that_are_known(ids: Vec<[u8; 20]>, target: [u8; 20]) {
            let (now, mut table, target) = (start(), Table::new(OWN), NodeId::new(target));
            for (n, id) in (0_u16..).zip(ids) {
                let [high, low] = n.to_be_bytes();
                let address = SocketAddr::from(([10, 0, high, low], 1));
                table.answered(now, Contact { id: NodeId::new(id), address });
            }
            let mut all: Vec<_> = table.contacts().collect();
            all.sort_by_key(|contact| target.distance(&contact.id));
            all.truncate(K);
            prop_assert_eq!(table.closest(&target, K), all);
            prop_assert!(table.buckets.iter().all(|bucket| bucket.nodes.len() <= K && bucket.waiting.len() <= K));
        }
    }
}
