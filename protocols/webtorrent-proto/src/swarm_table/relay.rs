//! The offers that were relayed and wait for an answer: who may answer which, and whose it is.
//!
//! All live equally long, so the order they came in is the order they go in: a queue holds them, and who looks for one by
//! name finds its place in an index. The index has a hash of each name, since names are long, there may be tens of
//! thousands, and each offer is looked up twice.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use super::SocketKey;
use crate::message::OfferId;

/// How long a relayed offer can be answered: a minute, as clients in use wait.
pub const RELAYED_OFFER_LIFE: Duration = Duration::from_secs(60);

/// How an answer names the offer. Offer ids alone are not enough: their makers choose them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct OfferName {
    pub(super) infohash: InfoHash,
    pub(super) offerer: PeerId,
    pub(super) offer_id: OfferId,
}

#[derive(Debug)]
struct Relay {
    from: SocketKey,
    to: SocketKey,
    hash: u64,
    name: OfferName,
    expires: Instant,
}

#[derive(Debug)]
pub(super) struct PendingOffers {
    /// Oldest first. Those that were answered stay in until their time.
    relays: VecDeque<Relay>,
    /// How many have left the queue: the number of its first one.
    gone: u64,
    /// By who may answer, and by the hash of the name: the number of the offer.
    to: BTreeMap<SocketKey, BTreeMap<u64, u64>>,
    /// How many of each maker.
    from: BTreeMap<SocketKey, usize>,
    /// Hashed with each name, so that nobody can make two names that are taken for one.
    secret: u64,
    max: usize,
}

impl PendingOffers {
    pub(super) const fn new(max: usize, secret: u64) -> Self {
        Self { relays: VecDeque::new(), gone: 0, to: BTreeMap::new(), from: BTreeMap::new(), secret, max }
    }

    /// An upper bound of how many there are: some may have been answered.
    pub(super) fn len(&self) -> usize {
        self.relays.len()
    }

    /// How many of one maker there are.
    pub(super) fn count_from(&self, socket: SocketKey) -> usize {
        self.from.get(&socket).copied().unwrap_or(0)
    }

    /// Notes that an offer goes out, unless one by the same name waits there already. The oldest of all gives way.
    pub(super) fn add(&mut self, now: Instant, from: SocketKey, to: SocketKey, name: OfferName) -> bool {
        let hash = self.hash(&name);
        let number = self.gone + self.relays.len() as u64;
        let Entry::Vacant(place) = self.to.entry(to).or_default().entry(hash) else { return false };
        place.insert(number);
        *self.from.entry(from).or_default() += 1;
        self.relays.push_back(Relay { from, to, hash, name, expires: now + RELAYED_OFFER_LIFE });
        if self.relays.len() > self.max {
            self.drop_oldest();
        }
        true
    }

    /// Uses an offer up: whose it is, if it was relayed to this socket and waits. What is too old was expired before.
    pub(super) fn take(&mut self, to: SocketKey, name: &OfferName) -> Option<SocketKey> {
        let hash = self.hash(name);
        let number = *self.to.get(&to)?.get(&hash)?;
        let relay = self.relays.get(usize::try_from(number - self.gone).ok()?).filter(|relay| relay.name == *name)?;
        let from = relay.from;
        self.strike_out(from, to, hash);
        Some(from)
    }

    fn hash(&self, name: &OfferName) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.secret, name).hash(&mut hasher);
        hasher.finish()
    }

    fn strike_out(&mut self, from: SocketKey, to: SocketKey, hash: u64) {
        if let Some(offers) = self.to.get_mut(&to) {
            offers.remove(&hash);
            if offers.is_empty() {
                self.to.remove(&to);
            }
        }
        self.discount(from);
    }

    fn discount(&mut self, from: SocketKey) {
        if let Some(count) = self.from.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.from.remove(&from);
            }
        }
    }

    /// Ends the oldest offer, if it still waits; a later one by the same name stays.
    fn drop_oldest(&mut self) {
        let Some(Relay { from, to, hash, .. }) = self.relays.pop_front() else { return };
        let number = self.gone;
        self.gone += 1;
        if self.to.get(&to).and_then(|offers| offers.get(&hash)) == Some(&number) {
            self.strike_out(from, to, hash);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while self.relays.front().is_some_and(|relay| relay.expires <= now) {
            self.drop_oldest();
        }
    }

    /// A socket is gone: nothing can be answered by it, nor come to it.
    pub(super) fn forget(&mut self, socket: SocketKey) {
        for number in self.to.remove(&socket).unwrap_or_default().into_values() {
            let at = usize::try_from(number - self.gone).ok();
            if let Some(from) = at.and_then(|at| self.relays.get(at)).map(|relay| relay.from) {
                self.discount(from);
            }
        }
        self.from.remove(&socket);
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.relays.front().map(|relay| (relay.expires, "a relayed offer expires"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{hash, offer_id, peer, secs, start};

    #[test]
    fn nothing_is_kept_of_what_is_over() {
        let now = start();
        let name = |n| OfferName { infohash: hash(1), offerer: peer(1), offer_id: offer_id(n) };
        let (a, b, c) = (SocketKey(1), SocketKey(2), SocketKey(3));
        let mut offers = PendingOffers::new(100, 1);
        for n in 0..3 {
            assert!(offers.add(now, a, b, name(n)) && offers.add(now, b, c, name(n)) && offers.add(now, c, a, name(n)));
        }
        offers.forget(b);
        assert_eq!((offers.count_from(a), offers.count_from(b), offers.count_from(c)), (0, 0, 3));
        assert_eq!(offers.take(b, &name(0)), None);
        assert_eq!(offers.take(a, &name(0)), Some(c));
        assert_eq!(offers.count_from(c), 2);
        offers.expire(now + secs(60));
        assert!(offers.to.is_empty() && offers.from.is_empty() && offers.relays.is_empty());
    }

    #[test]
    fn the_oldest_gives_way_and_a_later_one_by_its_name_stays() {
        let now = start();
        let name = |n| OfferName { infohash: hash(1), offerer: peer(1), offer_id: offer_id(n) };
        let (maker, other) = (SocketKey(1), SocketKey(2));
        let mut offers = PendingOffers::new(2, 1);
        assert!(offers.add(now, maker, other, name(0)));
        assert!(!offers.add(now, maker, other, name(0)), "it waits there already");
        assert_eq!(offers.take(other, &name(0)), Some(maker));
        assert!(offers.add(now, maker, other, name(0)));
        assert!(offers.add(now, maker, other, name(1)), "the first, which was answered, gives way");
        assert_eq!((offers.len(), offers.count_from(maker)), (2, 2));
        assert!(offers.add(now, maker, other, name(2)));
        assert_eq!(offers.count_from(maker), 2);
        assert_eq!([0, 1, 2].map(|n| offers.take(other, &name(n))), [None, Some(maker), Some(maker)]);
    }
}
