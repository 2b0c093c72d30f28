//! The places of a want: its phase, its session's queue, the time to look at it again, and the peers that know of it.
//! All changes of these go through here. What a peer is yet to hear of is listed on both sides, by the peer and by the
//! want: [`Client::tell`] enters it, [`Client::say`] marks it as said, [`Client::separate`] takes it away.

use std::cmp::Reverse;
use std::time::Instant;

use super::want::{Phase, WantId, WantState};
use super::{Client, Entry, PeerKey, Want};

impl Client {
    pub(super) fn ask(&mut self, now: Instant, key: PeerKey, id: WantId) {
        self.set_phase(id, Phase::Asked(key));
        self.set_wake(id, None);
        // Asking again is cancelling first.
        self.retract(key, id);
        let (Some(want), Some(peer)) = (self.wants.get_mut(&id), self.peers.get_mut(&key)) else { return };
        want.probed.remove(&key);
        peer.ask(now, id, want.len);
        self.tell(key, id, Want::Block);
    }

    /// Puts a want back into the queue, wherever it was.
    pub(super) fn requeue(&mut self, id: WantId) {
        self.unask(id);
        self.set_wake(id, None);
        self.set_phase(id, Phase::Queued);
    }

    pub(super) fn unask(&mut self, id: WantId) {
        let Some(WantState { phase: Phase::Asked(key), .. }) = self.wants.get(&id) else { return };
        if let Some(peer) = self.peers.get_mut(key) {
            peer.unask(id);
        }
    }

    pub(super) fn set_phase(&mut self, id: WantId, phase: Phase) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.phase = phase;
        let Some((session, priority)) = want.sessions.first_key_value() else { return };
        let rank = (Reverse(*priority), id);
        let Some(session) = self.sessions.get_mut(session) else { return };
        if phase == Phase::Queued {
            session.queue.insert(rank);
        } else {
            session.queue.remove(&rank);
        }
    }

    pub(super) fn set_wake(&mut self, id: WantId, wake: Option<Instant>) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut want.wake, wake) {
            self.wakes.remove(&(before, id));
        }
        if let Some(at) = wake {
            self.wakes.insert((at, id));
        }
    }

    /// Lets a peer know of a want with the next message.
    pub(super) fn tell(&mut self, key: PeerKey, id: WantId, what: Want) {
        let (Some(peer), Some(want)) = (self.peers.get_mut(&key), self.wants.get_mut(&id)) else { return };
        peer.wants.insert(id, what);
        want.told.insert(key, false);
        self.dirty.insert(key);
    }

    /// Takes the first of what a peer is yet to hear of: from now on it knows.
    pub(super) fn say(&mut self, key: PeerKey) -> Option<Entry> {
        let peer = self.peers.get_mut(&key)?;
        let (id, what) = peer.wants.pop_first()?;
        let want = self.wants.get_mut(&id)?;
        want.told.insert(key, true);
        let send_dont_have = peer.version.knows_presence();
        Some(Entry::Want { want: what, cid: want.cid, priority: want.priority(), send_dont_have })
    }

    /// Lets a peer forget a want with the next message, or never hear of it.
    pub(super) fn retract(&mut self, key: PeerKey, id: WantId) {
        let Some(sent) = self.separate(key, id) else { return };
        let (Some(peer), Some(want)) = (self.peers.get_mut(&key), self.wants.get(&id)) else { return };
        if sent {
            peer.cancels.insert(want.hash, want.cid);
            self.dirty.insert(key);
        }
    }

    /// Neither the peer nor the want lists the other any more; tells whether the peer has heard of it, if it was to.
    pub(super) fn separate(&mut self, key: PeerKey, id: WantId) -> Option<bool> {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.wants.remove(&id);
        }
        self.wants.get_mut(&id)?.told.remove(&key)
    }

    /// The wants that a peer knows of, or is yet to hear of.
    pub(super) fn known_to(&self, key: PeerKey) -> Vec<WantId> {
        self.wants.iter().filter(|(_, want)| want.told.contains_key(&key)).map(|(id, _)| *id).collect()
    }
}
