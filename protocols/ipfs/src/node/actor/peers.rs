//! The peers that speak Bitswap, and by which connection each is spoken to.

use std::collections::BTreeMap;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use swarmgate_ipfs_proto::bitswap::{PeerKey, Version};

/// A peer as the machines know it. It keeps its key as long as it is connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) key: PeerKey,
    pub(super) id: PeerId,
    pub(super) version: Version,
    pub(super) connection: ConnectionId,
}

#[derive(Debug, Default)]
pub(super) struct Peers {
    by_key: BTreeMap<PeerKey, Peer>,
    keys: BTreeMap<PeerId, PeerKey>,
    next: u64,
    /// Other connections on which a peer spoke Bitswap.
    spares: BTreeMap<ConnectionId, (PeerId, Version)>,
}

impl Peers {
    pub(super) fn get(&self, id: &PeerId) -> Option<Peer> {
        self.by_key(*self.keys.get(id)?)
    }

    pub(super) fn by_key(&self, key: PeerKey) -> Option<Peer> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.by_key.values()
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// A peer speaks Bitswap on a connection: `Some` when it is new. Another connection of a known peer is a spare.
    pub(super) fn add(&mut self, id: PeerId, connection: ConnectionId, version: Version) -> Option<Peer> {
        if self.keys.contains_key(&id) {
            self.spares.insert(connection, (id, version));
            return None;
        }
        let key = PeerKey(self.next);
        self.next += 1;
        let peer = Peer { key, id, version, connection };
        self.keys.insert(id, key);
        self.by_key.insert(key, peer);
        Some(peer)
    }

    /// A connection is of no use any more: the peer that was spoken to by it, with the spare that it has.
    pub(super) fn lose(&mut self, connection: ConnectionId) -> Option<(Peer, Option<(ConnectionId, Version)>)> {
        self.spares.remove(&connection);
        let peer = self.by_key.values().find(|peer| peer.connection == connection).copied()?;
        self.remove(&peer.id);
        let spare =
            self.spares.iter().find(|(_, (id, _))| *id == peer.id).map(|(spare, (_, version))| (*spare, *version));
        if let Some((spare, _)) = spare {
            self.spares.remove(&spare);
        }
        Some((peer, spare))
    }

    pub(super) fn remove(&mut self, id: &PeerId) -> Option<Peer> {
        let key = self.keys.remove(id)?;
        self.by_key.remove(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_with_a_second_connection_goes_on_by_that_one() {
        let (mut peers, id) = (Peers::default(), PeerId::random());
        let [first, second] = [1, 2].map(ConnectionId::new_unchecked);
        let peer = peers.add(id, first, Version::V1_2).unwrap();
        assert!(peers.add(id, second, Version::V1_1).is_none());
        let (gone, spare) = peers.lose(first).unwrap();
        assert_eq!((gone.key, spare), (peer.key, Some((second, Version::V1_1))));
        assert!(peers.get(&id).is_none());
        let anew = peers.add(id, second, Version::V1_1).unwrap();
        assert_ne!(anew.key, peer.key, "what was said to the old one does not count for the new one");
        assert!(peers.lose(first).is_none());
        assert_eq!(peers.lose(second).unwrap().1, None);
    }
}
