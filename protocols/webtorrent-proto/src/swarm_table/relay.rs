//! The offers that were relayed and wait for an answer: who may answer which, and whose it is.
//!
//! All live equally long, so the order they came in is the order they go in, and a queue is enough to find the oldest.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use super::SocketKey;
use crate::message::OfferId;

/// How long a relayed offer can be answered: a minute, as clients in use wait.
pub const RELAYED_OFFER_LIFE: Duration = Duration::from_secs(60);

/// How an answer names the offer. Offer ids alone are not enough: their makers choose them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OfferName {
    pub(super) infohash: InfoHash,
    pub(super) offerer: PeerId,
    pub(super) offer_id: OfferId,
}

#[derive(Debug, Clone, Copy)]
struct Relay {
    from: SocketKey,
    expires: Instant,
}

#[derive(Debug)]
pub(super) struct PendingOffers {
    /// By who may answer.
    to: BTreeMap<SocketKey, BTreeMap<OfferName, Relay>>,
    /// How many of each maker.
    from: BTreeMap<SocketKey, usize>,
    /// Oldest first. Those that were answered stay in until their time.
    order: VecDeque<(Instant, SocketKey, OfferName)>,
    max: usize,
}

impl PendingOffers {
    pub(super) const fn new(max: usize) -> Self {
        Self { to: BTreeMap::new(), from: BTreeMap::new(), order: VecDeque::new(), max }
    }

    /// An upper bound of how many there are: some may have been answered.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// How many of one maker there are.
    pub(super) fn count_from(&self, socket: SocketKey) -> usize {
        self.from.get(&socket).copied().unwrap_or(0)
    }

    /// Notes that an offer goes out, unless one by the same name waits there already. The oldest of all gives way.
    pub(super) fn add(&mut self, now: Instant, from: SocketKey, to: SocketKey, name: OfferName) -> bool {
        if self.to.get(&to).is_some_and(|offers| offers.contains_key(&name)) {
            return false;
        }
        if self.order.len() >= self.max
            && let Some((expires, to, name)) = self.order.pop_front()
        {
            self.end(expires, to, &name);
        }
        let expires = now + RELAYED_OFFER_LIFE;
        self.order.push_back((expires, to, name.clone()));
        self.to.entry(to).or_default().insert(name, Relay { from, expires });
        *self.from.entry(from).or_default() += 1;
        true
    }

    /// Uses an offer up: whose it is, if it was relayed to this socket and waits. What is too old was expired before.
    pub(super) fn take(&mut self, to: SocketKey, name: &OfferName) -> Option<SocketKey> {
        self.remove(to, name).map(|relay| relay.from)
    }

    fn remove(&mut self, to: SocketKey, name: &OfferName) -> Option<Relay> {
        let offers = self.to.get_mut(&to)?;
        let relay = offers.remove(name)?;
        if offers.is_empty() {
            self.to.remove(&to);
        }
        self.discount(relay.from);
        Some(relay)
    }

    fn discount(&mut self, from: SocketKey) {
        if let Some(count) = self.from.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.from.remove(&from);
            }
        }
    }

    /// Ends the offer that was relayed for until then; a later one by the same name stays.
    fn end(&mut self, expires: Instant, to: SocketKey, name: &OfferName) {
        let waits = |offers: &BTreeMap<OfferName, Relay>| offers.get(name).is_some_and(|it| it.expires == expires);
        if self.to.get(&to).is_some_and(waits) {
            self.remove(to, name);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((expires, to, name)) = self.order.pop_front_if(|(expires, ..)| *expires <= now) {
            self.end(expires, to, &name);
        }
    }

    /// A socket is gone: nothing can be answered by it, nor come to it.
    pub(super) fn forget(&mut self, socket: SocketKey) {
        for relay in self.to.remove(&socket).unwrap_or_default().into_values() {
            self.discount(relay.from);
        }
        self.from.remove(&socket);
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.order.front().map(|(expires, ..)| (*expires, "a relayed offer expires"))
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
        let mut offers = PendingOffers::new(100);
        for n in 0..3 {
            assert!(offers.add(now, a, b, name(n)) && offers.add(now, b, c, name(n)) && offers.add(now, c, a, name(n)));
        }
        offers.forget(b);
        assert_eq!((offers.count_from(a), offers.count_from(b), offers.count_from(c)), (0, 0, 3));
        assert_eq!(offers.take(b, &name(0)), None);
        assert_eq!(offers.take(a, &name(0)), Some(c));
        assert_eq!(offers.count_from(c), 2);
        offers.expire(now + secs(60));
        assert!(offers.to.is_empty() && offers.from.is_empty() && offers.order.is_empty());
    }
}
