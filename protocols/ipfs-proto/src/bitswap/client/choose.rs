//! Which queued want goes to which peer. Sessions take turns, one want each; a want goes to the peer, of those taken to
//! have it, that would deliver it soonest.

use std::ops::Bound;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::want::{Rank, WantId, WantState};
use super::{Affinity, Client, PeerKey, STEAL_MARGIN, Session, SessionKey};

/// After so many silences a peer is no longer taken to have what it has not offered.
const MAX_SILENCES: u32 = 3;
/// Wants passed over in one search of a queue, because their peers have no room: while some have room, and while none
/// has.
const MAX_SKIPS: [usize; 2] = [64, 4];

/// How far the search of a session's queue has come.
#[derive(Debug, Default)]
struct Search {
    after: Option<Rank>,
    skips: usize,
    /// Bytes passed over, which others will be busy with.
    ahead: u64,
}

/// What to do about a queued want.
enum Decision {
    Ask(PeerKey),
    /// Those who have it have no room.
    Wait,
    /// Nobody is known to have it.
    Seek,
}

impl Client {
    /// Sessions take turns, one want each, until no peer has room for what is queued.
    pub(super) fn schedule(&mut self, now: Instant) {
        let waiting = |(key, session): (&SessionKey, &Session)| (!session.queue.is_empty()).then_some(*key);
        let mut active: Vec<_> = self.sessions.iter().filter_map(waiting).map(|key| (key, Search::default())).collect();
        let first = active.partition_point(|(key, _)| *key <= self.turn);
        active.rotate_left(first);
        while !active.is_empty() {
            active.retain_mut(|(key, search)| self.serve_one(now, *key, search));
        }
        for key in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.introduce(now, key);
            self.try_old_peer(now, key);
            self.hurry(now, key);
        }
    }

    /// Does something about the next want of a session; `false` when there is nothing (more) to do.
    fn serve_one(&mut self, now: Instant, key: SessionKey, search: &mut Search) -> bool {
        let room = self.peers.values().any(|peer| !peer.banned && peer.flow.has_room(1));
        let max_skips = MAX_SKIPS[usize::from(!room)];
        while search.skips < max_skips {
            let Some(session) = self.sessions.get(&key) else { return false };
            let from = search.after.map_or(Bound::Unbounded, Bound::Excluded);
            let Some(rank) = session.queue.range((from, Bound::Unbounded)).next().copied() else { return false };
            match self.decide(now, rank.1, search.ahead) {
                Decision::Ask(peer) => {
                    self.turn = key;
                    self.ask(now, peer, rank.1);
                    return true;
                }
                Decision::Seek => {
                    self.seek(now, rank.1);
                    return true;
                }
                Decision::Wait => {
                    search.after = Some(rank);
                    search.skips += 1;
                    search.ahead += self.wants.get(&rank.1).map_or(0, |want| want.len);
                }
            }
        }
        false
    }

    fn decide(&mut self, now: Instant, id: WantId, ahead: u64) -> Decision {
        let Some(want) = self.wants.get(&id) else { return Decision::Wait };
        let (mut best, mut soonest, mut rate) = (None, None, 0.0);
        for (key, peer) in &self.peers {
            if !self.is_likely(want, *key, peer) {
                continue;
            }
            // Those that missed it take turns, or one that never delivers would be asked for ever.
            let misses = want.missed.get(key).copied().unwrap_or(0);
            let unwilling = misses > 0 || peer.resting.is_some_and(|until| until > now);
            let offer = ((unwilling, misses), peer.flow.completion(want.len), *key);
            rate += peer.flow.rate();
            soonest = Some(soonest.map_or(offer, |soonest| offer.min(soonest)));
            if peer.flow.has_room(want.len) {
                best = Some(best.map_or(offer, |best| offer.min(best)));
            }
        }
        let Some(soonest) = soonest else { return Decision::Seek };
        if soonest.0.0 {
            self.say_exhausted(now, id);
        }
        let Some(best) = best.filter(|best| best.0.0 == soonest.0.0) else { return Decision::Wait };
        // Others will have done what is ahead, and this too, before a slow peer has: it gets something that is later.
        let others = soonest.1 + Duration::from_secs_f64((ahead as f64 / rate).min(3600.0));
        if best.1 > 2 * others + STEAL_MARGIN { Decision::Wait } else { Decision::Ask(best.2) }
    }

    /// Whether a peer is taken to have a block: it said so, or it has the DAG.
    pub(super) fn is_likely(&self, want: &WantState, key: PeerKey, peer: &Peer) -> bool {
        if peer.banned || want.lacks.contains(&key) {
            return false;
        }
        let is_member = |session| {
            let affinity = self.sessions.get(session).and_then(|session| session.peers.get(&key));
            matches!(affinity, Some(Affinity::Member { .. }))
        };
        want.have.contains(&key) || peer.silences < MAX_SILENCES && want.sessions.keys().any(is_member)
    }
}
