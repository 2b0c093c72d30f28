//! What becomes due when nobody says anything.

use std::time::Instant;

use super::want::{Phase, WantId};
use super::{Affinity, Client, PeerKey};

impl Client {
    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.mind_peer(now, key);
        }
        while let Some((at, id)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, id));
            self.wake(id);
        }
        self.schedule(now);
    }

    fn mind_peer(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.resting = peer.resting.filter(|until| *until > now);
        peer.mark_late(now);
        if peer.patience_ends().is_some_and(|until| until <= now) {
            peer.on_silence(now);
            let ids: Vec<_> = peer.asked.keys().copied().collect();
            self.stats.silences += 1;
            ids.into_iter().for_each(|id| self.withdraw(key, id));
        }
        self.mind_skipped(now, key);
    }

    /// Asks others, or the same peer anew, for what it passed over.
    pub(super) fn mind_skipped(&mut self, now: Instant, key: PeerKey) {
        let skipped = self.peers.get(&key).map(|peer| peer.skipped(now)).unwrap_or_default();
        skipped.into_iter().for_each(|id| self.withdraw(key, id));
    }

    /// Takes back from a peer what it did not deliver in time.
    fn withdraw(&mut self, key: PeerKey, id: WantId) {
        self.stats.re_requests += 1;
        for session in self.wants.get(&id).into_iter().flat_map(|want| want.sessions.keys()) {
            let known = self.sessions.get_mut(session).and_then(|session| session.peers.get_mut(&key));
            if let Some(tried) = known.filter(|known| matches!(known, Affinity::Introduced(_))) {
                *tried = Affinity::Cold;
            }
        }
        self.retract(key, id);
        self.requeue(id);
        if let Some(want) = self.wants.get_mut(&id) {
            want.miss(key);
        }
    }

    /// A probe was not answered in time, or everybody may be asked anew.
    fn wake(&mut self, id: WantId) {
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.wake = None;
        match want.phase {
            Phase::Exhausted => {
                want.lacks.clear();
                want.missed.clear();
                want.probed.clear();
            }
            Phase::Probing | Phase::Queued | Phase::Asked(_) => {
                std::mem::take(&mut want.probed).into_keys().for_each(|key| want.miss(key));
            }
        }
        self.requeue(id);
    }

    /// When to call [`Self::handle_timeout`], if nothing else happens, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let peers = self.peers.values().filter(|peer| !peer.banned);
        let times = peers.flat_map(|peer| {
            let silence = peer.patience_ends().map(|at| (at, "a peer is silent"));
            let late = peer.next_late().map(|at| (at, "a block is late"));
            let rested = peer.resting.filter(|_| !self.wants.is_empty()).map(|at| (at, "a peer has rested"));
            [silence, late, rested].into_iter().flatten()
        });
        times.chain(self.wakes.first().map(|(at, _)| (*at, "nobody has answered"))).min()
    }
}
