//! Who has a block, when nobody is known to have it: a few peers at a time are asked. And who else has what a session
//! reads, so that it does not hang on one peer.

use std::time::{Duration, Instant};

use super::peer::Peer;
use super::want::{Phase, WantId};
use super::{Affinity, Client, ClientEvent, PeerKey, SessionKey, Want};

/// Peers asked at a time whether they have one block.
const PROBE_WIDTH: usize = 8;
/// Peers asked at a time whether they have a session's DAG.
const INTRODUCTIONS: usize = 8;
/// An exhausted want is asked of everybody anew after this.
const REBROADCAST: Duration = Duration::from_secs(15);

impl Client {
    /// Asks a few of those who have not been asked whether they have it; when nobody is known to have anything of the
    /// DAG, the first for the block itself, which saves a round trip.
    pub(super) fn seek(&mut self, now: Instant, id: WantId) {
        let Some(want) = self.wants.get(&id) else { return };
        let unasked = |(key, peer): &(&PeerKey, &Peer)| {
            !peer.banned
                && !want.lacks.contains(*key)
                && !want.missed.contains_key(*key)
                && !want.probed.contains_key(*key)
        };
        let rank =
            |(key, peer): (&PeerKey, &Peer)| (peer.silences, peer.flow.measured_rtt().unwrap_or(Duration::MAX), *key);
        let mut others: Vec<_> = self.peers.iter().filter(unasked).map(rank).collect();
        others.sort_unstable();
        let knows = |key: &PeerKey| self.peers.get(key).is_some_and(|peer| peer.version.knows_presence());
        let (mut modern, old): (Vec<_>, Vec<_>) = others.into_iter().map(|(.., key)| key).partition(knows);
        modern.truncate(PROBE_WIDTH.saturating_sub(want.probed.len()));
        let stranger = want.sessions.keys().all(|session| !self.has_members(*session));
        let has_room = |key: &PeerKey| self.peers.get(key).is_some_and(|peer| peer.flow.has_room(want.len));
        let direct = match modern.first() {
            Some(first) => stranger && has_room(first) && want.probed.is_empty(),
            // Old peers cannot be asked whether they have it.
            None => false,
        };
        if direct {
            let first = modern.remove(0);
            self.ask(now, first, id);
        }
        for peer in &modern {
            self.probe(now, *peer, id);
        }
        if direct {
            return;
        }
        if self.wants.get(&id).is_some_and(|want| !want.probed.is_empty()) {
            return self.await_probes(now, id);
        }
        let len = self.wants.get(&id).map_or(0, |want| want.len);
        let has_room = |key: &&PeerKey| self.peers.get(key).is_some_and(|peer| peer.flow.has_room(len));
        match old.iter().find(has_room).copied() {
            Some(peer) => self.ask(now, peer, id),
            None if old.is_empty() => self.exhaust(now, id),
            None => self.await_probes(now, id),
        }
    }

    fn has_members(&self, session: SessionKey) -> bool {
        let is_member = |affinity: &Affinity| matches!(affinity, Affinity::Member { .. });
        self.sessions.get(&session).is_some_and(|session| session.peers.values().any(is_member))
    }

    fn probe(&mut self, now: Instant, peer: PeerKey, id: WantId) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.probed.insert(peer, now);
        // Who knows of it from before answers sooner when it is asked anew.
        self.retract(peer, id);
        self.tell(peer, id, Want::Have);
    }

    fn await_probes(&mut self, now: Instant, id: WantId) {
        let Some(want) = self.wants.get(&id) else { return };
        let waits = want.probed.keys().filter_map(|key| self.peers.get(key)).map(|peer| peer.flow.retry_after());
        let wait = waits.max().unwrap_or(Duration::from_secs(1));
        self.set_phase(id, Phase::Probing);
        self.set_wake(id, Some(now + wait));
    }

    fn exhaust(&mut self, now: Instant, id: WantId) {
        self.set_phase(id, Phase::Exhausted);
        self.set_wake(id, Some(now + REBROADCAST));
        self.say_exhausted(now, id);
    }

    pub(super) fn say_exhausted(&mut self, now: Instant, id: WantId) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        if want.exhausted_at.is_none_or(|at| now.saturating_duration_since(at) >= REBROADCAST) {
            want.exhausted_at = Some(now);
            self.events.push_back(ClientEvent::Exhausted(want.cid));
        }
    }

    /// Asks peers of which a session knows nothing whether they have its last want: the likeliest to be still wanted
    /// when they answer.
    pub(super) fn introduce(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some((_, id)) = session.queue.last().or_else(|| session.wants.last()).copied() else { return };
        let Some(want) = self.wants.get(&id) else { return };
        let is_pending = |affinity: &Affinity| matches!(affinity, Affinity::Introduced(until) if *until > now);
        let pending = session.peers.values().filter(|affinity| is_pending(affinity)).count();
        let unknown = |(peer_key, peer): &(&PeerKey, &Peer)| {
            !peer.banned
                && peer.version.knows_presence()
                && !matches!(session.peers.get(*peer_key), Some(Affinity::Member { .. } | Affinity::Cold))
                && !session.peers.get(*peer_key).is_some_and(is_pending)
                && !want.told.contains_key(*peer_key)
                && !want.lacks.contains(*peer_key)
                && !want.missed.contains_key(*peer_key)
        };
        let room = INTRODUCTIONS.saturating_sub(pending);
        let chosen: Vec<_> = self.peers.iter().filter(unknown).map(|(key, _)| *key).take(room).collect();
        for peer in chosen {
            let patience = self.peers.get(&peer).map_or(Duration::ZERO, |peer| 2 * peer.flow.retry_after());
            self.probe(now, peer, id);
            if let Some(session) = self.sessions.get_mut(&key) {
                session.peers.insert(peer, Affinity::Introduced(now + patience));
            }
        }
    }

    /// Tries an old peer of which a session knows nothing with its last queued want: it cannot be asked whether it has
    /// it.
    pub(super) fn try_old_peer(&mut self, now: Instant, key: SessionKey) {
        let Some(session) = self.sessions.get(&key) else { return };
        let Some((_, id)) = session.queue.last().copied() else { return };
        let Some(want) = self.wants.get(&id) else { return };
        let is_old = |key: &PeerKey| self.peers.get(key).is_some_and(|peer| !peer.version.knows_presence());
        let trying =
            |(key, affinity): (&PeerKey, &Affinity)| matches!(affinity, Affinity::Introduced(_)) && is_old(key);
        if session.peers.iter().any(trying) {
            return;
        }
        let fresh = |(key, peer): &(&PeerKey, &Peer)| {
            is_old(key)
                && !peer.banned
                && peer.silences == 0
                && peer.flow.has_room(want.len)
                && !session.peers.contains_key(*key)
                && !want.missed.contains_key(*key)
        };
        let Some(peer) = self.peers.iter().find(fresh).map(|(key, _)| *key) else { return };
        self.ask(now, peer, id);
        if let Some(session) = self.sessions.get_mut(&key) {
            session.peers.insert(peer, Affinity::Introduced(now));
        }
    }
}
