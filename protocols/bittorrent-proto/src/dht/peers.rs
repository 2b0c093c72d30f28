//! Peers that were announced to this node, each for [`LIFE`].
//!
//! Strangers fill it, so it is bounded three times: torrents, peers of a torrent, and what one address may announce.
//! When it is full, the torrents nearest to this node's id are kept: those are the ones that others seek here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use swarmgate_content::InfoHash;

use super::NodeId;
use super::random::Random;

/// How long a peer is remembered that is not announced again. Clients announce each 15 to 30 minutes.
pub(super) const LIFE: Duration = Duration::from_secs(40 * 60);
/// Torrents remembered.
pub(super) const MAX_TORRENTS: usize = 5000;
/// Peers of one torrent; a newcomer takes the place of the one that was announced longest ago.
pub(super) const MAX_PEERS: usize = 200;
/// Peers that one address other than this machine may announce, over all torrents.
pub(super) const MAX_PER_IP: usize = 300;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct PeerStore {
    torrents: BTreeMap<InfoHash, BTreeMap<SocketAddr, Instant>>,
    ends: BTreeSet<(Instant, InfoHash, SocketAddr)>,
    by_ip: BTreeMap<IpAddr, usize>,
}

impl PeerStore {
    /// Remembers a peer; tells whether there was room.
    pub(super) fn add(&mut self, now: Instant, own: &NodeId, infohash: InfoHash, peer: SocketAddr) -> bool {
        self.expire(now);
        self.remove(infohash, peer);
        let used = self.by_ip.get(&peer.ip()).copied().unwrap_or_default();
        if (!peer.ip().is_loopback() && used >= MAX_PER_IP) || !self.make_room(own, infohash) {
            return false;
        }
        let peers = self.torrents.entry(infohash).or_default();
        let oldest = peers.iter().min_by_key(|(_, end)| **end).map(|(peer, _)| *peer);
        let full = peers.len() >= MAX_PEERS;
        if let Some(oldest) = oldest.filter(|_| full) {
            self.remove(infohash, oldest);
        }
        self.torrents.entry(infohash).or_default().insert(peer, now + LIFE);
        self.ends.insert((now + LIFE, infohash, peer));
        *self.by_ip.entry(peer.ip()).or_default() += 1;
        true
    }

    fn make_room(&mut self, own: &NodeId, infohash: InfoHash) -> bool {
        if self.torrents.len() < MAX_TORRENTS || self.torrents.contains_key(&infohash) {
            return true;
        }
        let apart = |infohash: &InfoHash| own.distance(&NodeId::new(*infohash.as_bytes()));
        let farthest = self.torrents.keys().copied().max_by_key(apart);
        let Some(farthest) = farthest.filter(|farthest| apart(farthest) > apart(&infohash)) else { return false };
        let peers: Vec<_> = self.torrents[&farthest].keys().copied().collect();
        peers.into_iter().for_each(|peer| self.remove(farthest, peer));
        true
    }

    fn remove(&mut self, infohash: InfoHash, peer: SocketAddr) {
        let Some(peers) = self.torrents.get_mut(&infohash) else { return };
        let Some(end) = peers.remove(&peer) else { return };
        if peers.is_empty() {
            self.torrents.remove(&infohash);
        }
        self.ends.remove(&(end, infohash, peer));
        if let Some(used) = self.by_ip.get_mut(&peer.ip()) {
            *used -= 1;
            if *used == 0 {
                self.by_ip.remove(&peer.ip());
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((end, infohash, peer)) = self.ends.first().copied()
            && end <= now
        {
            self.remove(infohash, peer);
        }
    }

    /// Up to `max` peers of a torrent, of the families that `wants` picks; others each time when there are more.
    pub(super) fn of(
        &self,
        infohash: &InfoHash,
        max: usize,
        wants: impl Fn(&SocketAddr) -> bool,
        random: &mut Random,
    ) -> Vec<SocketAddr> {
        let Some(peers) = self.torrents.get(infohash) else { return Vec::new() };
        let mut peers: Vec<_> = peers.keys().copied().filter(wants).collect();
        if peers.len() > max {
            let first = usize::try_from(random.below(peers.len() as u64)).unwrap_or_default();
            peers.rotate_left(first);
            peers.truncate(max);
        }
        peers
    }

    pub(super) fn torrents(&self) -> usize {
        self.torrents.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    const OWN: NodeId = NodeId::new([0; 20]);

    fn torrent(n: u32) -> InfoHash {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        InfoHash::new(hash)
    }

    fn peer(n: u32) -> SocketAddr {
        SocketAddr::from(((n + (1 << 24)).to_be_bytes(), 6881))
    }

    #[test]
    fn a_peer_is_remembered_for_its_life_and_announcing_it_again_renews_it() {
        let (now, mut store, mut random) = (start(), PeerStore::default(), Random::new(&[1; 32]));
        let mut known = |store: &mut PeerStore, after: Duration| {
            store.expire(now + after);
            store.of(&torrent(1), 10, |_| true, &mut random).len()
        };
        assert!(store.add(now, &OWN, torrent(1), peer(1)));
        assert!(store.add(now + LIFE / 2, &OWN, torrent(1), peer(1)));
        assert_eq!(known(&mut store, LIFE), 1);
        assert_eq!(known(&mut store, LIFE * 3 / 2), 0);
        assert!(store.torrents.is_empty() && store.by_ip.is_empty() && store.ends.is_empty());
    }

    #[test]
    fn a_full_torrent_forgets_the_peer_announced_longest_ago() {
        let (now, mut store) = (start(), PeerStore::default());
        for n in 0..1000 {
            assert!(store.add(now + Duration::from_millis(n.into()), &OWN, torrent(1), peer(n)));
        }
        assert_eq!(store.torrents[&torrent(1)].len(), MAX_PEERS);
        assert!(store.torrents[&torrent(1)].contains_key(&peer(999)));
        assert!(!store.torrents[&torrent(1)].contains_key(&peer(0)));
    }

    #[test]
    fn one_address_cannot_fill_it_and_many_keep_what_is_near() {
        let (now, mut store) = (start(), PeerStore::default());
        let added = (0..2000).filter(|n| store.add(now, &OWN, torrent(*n), peer(1))).count();
        assert_eq!(added, MAX_PER_IP);
        let mut store = PeerStore::default();
        for n in (0..8000).rev() {
            store.add(now, &OWN, torrent(n), peer(n));
        }
        assert_eq!(store.torrents(), MAX_TORRENTS);
        assert!(store.torrents.contains_key(&torrent(0)) && !store.torrents.contains_key(&torrent(7999)));
        assert!(!store.add(now, &OWN, torrent(9000), peer(9000)));
    }
}
