//! What peers say, and what it tells of them.

use std::time::Instant;

use swarmgate_content::{BlockHash, Cid};

use super::want::{Phase, WantId};
use super::{Affinity, Client, ClientEvent, Message, PeerKey, SessionKey, WireBlock};

/// A peer that said so often in a row that it has not what a session wants is taken for one that has not the DAG.
const MAX_MISSES: u8 = 16;

impl Client {
    /// Part of a message came from a peer, however far from whole: it is not silent.
    pub fn on_bytes(&mut self, now: Instant, peer: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.last_progress = now;
        }
    }

    /// Takes a message of a peer. Its wantlist is nothing to us.
    pub fn handle_message(&mut self, now: Instant, from: PeerKey, message: Message) {
        if !self.peers.contains_key(&from) {
            return;
        }
        for block in message.blocks {
            self.on_block(now, from, block);
        }
        for presence in &message.presences {
            self.on_presence(now, from, &presence.cid, presence.has);
        }
        if message.unreadable_bytes > 0 {
            self.stats.unsolicited_bytes += message.unreadable_bytes;
            self.penalise(from);
        }
        self.mind_skipped(now, from);
        self.schedule(now);
    }

    fn on_block(&mut self, now: Instant, from: PeerKey, block: WireBlock) {
        let len = block.data.len() as u64;
        let Some(id) = self.want_of(&block.cid) else { return self.on_unwanted(now, from, &block.cid, len) };
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.on_progress(now);
            let asked = peer.unask(id);
            peer.flow.on_bytes(now, len);
            if let Some(asked) = asked {
                peer.flow.on_block(now.saturating_duration_since(asked.sent), len);
            }
        }
        let Some(want) = self.finish(id, Some(from)) else { return };
        for session in want.sessions.keys() {
            self.set_member(*session, from);
        }
        self.stats.blocks += 1;
        self.stats.bytes += len;
        self.events.push_back(ClientEvent::Block { cid: want.cid, data: block.data, from });
    }

    fn on_unwanted(&mut self, now: Instant, from: PeerKey, cid: &Cid, len: u64) {
        let Some(past) = BlockHash::from_cid(cid).and_then(|hash| self.past.get(&hash)) else {
            self.stats.unsolicited_bytes += len;
            return self.penalise(from);
        };
        *(if past.delivered { &mut self.stats.duplicate_bytes } else { &mut self.stats.unneeded_bytes }) += len;
        // Too late is not too little: it has the DAG as much as who was sooner.
        for session in past.sessions.clone() {
            self.set_member(session, from);
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.last_progress = now;
            peer.flow.on_bytes(now, len);
        }
    }

    fn on_presence(&mut self, now: Instant, from: PeerKey, cid: &Cid, has: bool) {
        let Some(id) = self.want_of(cid) else { return self.on_late_presence(from, cid, has) };
        let (Some(peer), Some(want)) = (self.peers.get_mut(&from), self.wants.get_mut(&id)) else { return };
        // Who was not asked has nothing to say, and who was sent away neither.
        if peer.banned || !want.told.contains_key(&from) {
            return;
        }
        let probed = want.probed.remove(&from);
        if let Some(sent) = probed {
            peer.flow.on_reply(now.saturating_duration_since(sent));
        }
        peer.last_progress = now;
        if has { self.on_have(id, from, probed.is_some()) } else { self.on_lack(id, from) }
    }

    /// The block came from elsewhere before a peer said whether it has it: that still tells of the rest.
    fn on_late_presence(&mut self, from: PeerKey, cid: &Cid, has: bool) {
        let Some(past) = BlockHash::from_cid(cid).and_then(|hash| self.past.get(&hash)) else { return };
        let affinity = if has { Affinity::Member { misses: 0 } } else { Affinity::Cold };
        for key in &past.sessions {
            let known = self.sessions.get_mut(key).and_then(|session| session.peers.get_mut(&from));
            if let Some(introduced) = known.filter(|known| matches!(known, Affinity::Introduced(_))) {
                *introduced = affinity;
            }
        }
    }

    fn on_have(&mut self, id: WantId, from: PeerKey, probed: bool) {
        if probed {
            // A want-have that is answered is forgotten by the peer; one that is yet to go out need not.
            self.separate(from, id);
        }
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.lacks.remove(&from);
        if !want.have.insert(from) {
            return;
        }
        let (cid, sessions): (_, Vec<_>) = (want.cid, want.sessions.keys().copied().collect());
        self.events.push_back(ClientEvent::Have { cid, from });
        for session in sessions {
            self.set_member(session, from);
            self.requeue_stuck(session);
        }
    }

    fn on_lack(&mut self, id: WantId, from: PeerKey) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.have.remove(&from);
        if want.lacks.insert(from) {
            self.events.push_back(ClientEvent::DontHave { cid: want.cid, from });
        }
        let go_on = match want.phase {
            Phase::Asked(peer) => peer == from,
            Phase::Probing => want.probed.is_empty(),
            Phase::Queued | Phase::Exhausted => false,
        };
        for key in want.sessions.keys() {
            let Some(session) = self.sessions.get_mut(key) else { continue };
            let affinity = session.peers.entry(from).or_insert(Affinity::Cold);
            *affinity = match *affinity {
                Affinity::Member { misses } if misses < MAX_MISSES => Affinity::Member { misses: misses + 1 },
                Affinity::Member { .. } | Affinity::Introduced(_) | Affinity::Cold => Affinity::Cold,
            };
        }
        if go_on {
            self.requeue(id);
        }
    }

    fn set_member(&mut self, session: SessionKey, peer: PeerKey) {
        let banned = self.peers.get(&peer).is_none_or(|peer| peer.banned);
        if let Some(session) = self.sessions.get_mut(&session).filter(|_| !banned) {
            session.peers.insert(peer, Affinity::Member { misses: 0 });
        }
    }
}
