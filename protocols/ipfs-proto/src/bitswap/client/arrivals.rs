//! Peers come, are named as providers, are banned, and leave.

use std::time::Instant;

use super::peer::Peer;
use super::want::{Phase, WantId};
use super::{Affinity, Client, ClientEvent, MAX_PEERS, MAX_SESSIONS, PeerKey, SessionKey, Version};

impl Client {
    /// A peer is connected and speaks `version`. Says whether it is taken: there may be [`MAX_PEERS`] already.
    pub fn join(&mut self, now: Instant, peer: PeerKey, version: Version) -> bool {
        if self.peers.contains_key(&peer) || self.peers.len() >= MAX_PEERS {
            return false;
        }
        self.peers.insert(peer, Peer::new(now, version, self.options.max_peer_bytes));
        let stuck = self.wants.iter().filter(|(_, want)| matches!(want.phase, Phase::Probing | Phase::Exhausted));
        for id in stuck.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.requeue(id);
        }
        self.schedule(now);
        true
    }

    /// A peer was named as a provider of what a session reads, so it is asked for blocks without being asked whether it
    /// has them. The session begins with this, if it has not yet.
    pub fn provides(&mut self, now: Instant, session: SessionKey, peer: PeerKey) {
        if !self.peers.contains_key(&peer)
            || !self.sessions.contains_key(&session) && self.sessions.len() >= MAX_SESSIONS
        {
            return;
        }
        self.sessions.entry(session).or_default().peers.insert(peer, Affinity::Member { misses: 0 });
        self.requeue_stuck(session);
        self.schedule(now);
    }

    pub(super) fn requeue_stuck(&mut self, session: SessionKey) {
        let Some(session) = self.sessions.get(&session) else { return };
        let stuck = |id: &WantId| {
            self.wants.get(id).is_some_and(|want| matches!(want.phase, Phase::Probing | Phase::Exhausted))
        };
        let ids: Vec<_> = session.wants.iter().map(|(_, id)| *id).filter(stuck).collect();
        ids.into_iter().for_each(|id| self.requeue(id));
    }

    /// A peer is gone: what it was asked for is asked of others at once.
    pub fn leave(&mut self, now: Instant, peer: PeerKey) {
        self.known_to(peer).into_iter().for_each(|id| _ = self.separate(peer, id));
        let Some(gone) = self.peers.remove(&peer) else { return };
        self.dirty.remove(&peer);
        for session in self.sessions.values_mut() {
            session.peers.remove(&peer);
        }
        for want in self.wants.values_mut() {
            want.forget(peer);
        }
        for id in gone.asked.into_keys() {
            self.requeue(id);
        }
        self.requeue_unprobed();
        self.schedule(now);
    }

    /// Wants that wait for nobody's answer any more go on.
    fn requeue_unprobed(&mut self) {
        let idle = self.wants.iter().filter(|(_, want)| want.phase == Phase::Probing && want.probed.is_empty());
        for id in idle.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.requeue(id);
        }
    }

    /// Asks nothing of a peer any more, and what it was asked for of others.
    pub(super) fn penalise(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.banned) else { return };
        peer.banned = true;
        let asked: Vec<_> = peer.asked.keys().copied().collect();
        for session in self.sessions.values_mut() {
            session.peers.remove(&key);
        }
        self.known_to(key).into_iter().for_each(|id| self.retract(key, id));
        asked.into_iter().for_each(|id| self.requeue(id));
        for want in self.wants.values_mut() {
            want.probed.remove(&key);
            want.have.remove(&key);
        }
        self.requeue_unprobed();
        self.events.push_back(ClientEvent::Misbehaved(key));
    }
}
