//! Blocks that are late, or that another peer would deliver much sooner, are asked of that one instead, within a budget
//! for what may then come twice.

use std::time::Instant;

use super::peer::Peer;
use super::want::{Phase, WantId};
use super::{Client, PeerKey, STEAL_MARGIN, SessionKey};

/// The most urgent wants of a session, which are worth asking again.
const MAX_HURRIED: usize = 32;
/// Bytes asked again may be this part of those received, and [`FREE_RISK`]: each may come twice.
const RISK_SHARE: u64 = 32;
/// Bytes that may be asked again before anything has been received.
const FREE_RISK: u64 = 1 << 20;

impl Client {
    /// Takes the most urgent blocks that are late, or that another peer would deliver much sooner, to that peer.
    pub(super) fn hurry(&mut self, now: Instant, key: SessionKey) {
        if self.peers.len() < 2 || !self.peers.values().any(|peer| !peer.banned && peer.flow.has_room(1)) {
            return;
        }
        let Some(session) = self.sessions.get(&key) else { return };
        let ids: Vec<_> = session.wants.iter().take(MAX_HURRIED).map(|(_, id)| *id).collect();
        for id in ids {
            if let Some((from, to, late)) = self.better_sender(now, id) {
                self.stats.re_requests += 1;
                self.risked_bytes += self.wants.get(&id).map_or(0, |want| want.len);
                self.retract(from, id);
                self.requeue(id);
                if let Some(want) = self.wants.get_mut(&id).filter(|_| late) {
                    want.miss(from);
                }
                self.ask(now, to, id);
            }
        }
    }

    fn better_sender(&self, now: Instant, id: WantId) -> Option<(PeerKey, PeerKey, bool)> {
        let want = self.wants.get(&id)?;
        let Phase::Asked(owner) = want.phase else { return None };
        if self.risked_bytes + want.len > self.stats.bytes / RISK_SHARE + FREE_RISK {
            return None;
        }
        let peer = self.peers.get(&owner)?;
        let asked = peer.asked.get(&id)?;
        let remaining = peer.remaining(now, asked);
        if !asked.late && remaining <= STEAL_MARGIN {
            return None;
        }
        let willing = |(key, peer): &(&PeerKey, &Peer)| {
            **key != owner
                && self.is_likely(want, **key, peer)
                && !want.missed.contains_key(*key)
                && peer.resting.is_none_or(|until| until <= now)
                && peer.flow.has_room(want.len)
        };
        let offers = self.peers.iter().filter(willing).map(|(key, peer)| (peer.flow.completion(want.len), *key));
        let (completion, second) = offers.min()?;
        let sooner = remaining > 2 * completion + STEAL_MARGIN;
        (asked.late || sooner).then_some((owner, second, asked.late))
    }
}
