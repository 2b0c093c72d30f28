//! Wants come from readers and end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use swarmgate_content::{BlockHash, Cid};

use super::want::{Phase, WantId, WantState};
use super::{Client, DEFAULT_BLOCK_LEN, MAX_PAST, MAX_SESSIONS, MAX_WANTS, Past, PeerKey, Refused, SessionKey};

impl Client {
    /// A session wants a block; the higher `priority`, the sooner. `estimated_len` in bytes, [`DEFAULT_BLOCK_LEN`] when
    /// unknown. Wanting it again changes its priority. Blocks are known by their multihash: two CIDs of the same bytes
    /// are one want, met by one event with the CID that came first.
    ///
    /// # Errors
    /// [`Refused::Hash`]; or when there are [`MAX_WANTS`] or [`MAX_SESSIONS`] already: wait for events, then want it again.
    pub fn want(
        &mut self,
        now: Instant,
        session: SessionKey,
        cid: Cid,
        priority: i32,
        estimated_len: Option<u32>,
    ) -> Result<(), Refused> {
        let hash = BlockHash::from_cid(&cid).ok_or(Refused::Hash)?;
        if !self.sessions.contains_key(&session) && self.sessions.len() >= MAX_SESSIONS {
            return Err(Refused::Sessions);
        }
        if let Some(id) = self.by_hash.get(&hash).copied() {
            self.join_want(id, session, priority);
        } else if self.wants.len() >= MAX_WANTS {
            return Err(Refused::Wants);
        } else {
            let len = u64::from(estimated_len.unwrap_or(DEFAULT_BLOCK_LEN)).max(1);
            self.begin(WantState::new(hash, cid, len, BTreeMap::from([(session, priority)])));
        }
        self.schedule(now);
        Ok(())
    }

    fn begin(&mut self, want: WantState) {
        let id = WantId(self.next_id);
        self.next_id += 1;
        self.by_hash.insert(want.hash, id);
        self.wants.insert(id, want);
        self.enlist(id);
    }

    /// The want that a block of this name would meet.
    pub(super) fn want_of(&self, cid: &Cid) -> Option<WantId> {
        self.by_hash.get(&BlockHash::from_cid(cid)?).copied()
    }

    /// Enters a want in the lists of its sessions.
    fn enlist(&mut self, id: WantId) {
        let Some(want) = self.wants.get(&id) else { return };
        let queued = want.phase == Phase::Queued;
        for (nth, (session, priority)) in want.sessions.iter().enumerate() {
            let session = self.sessions.entry(*session).or_default();
            session.wants.insert((Reverse(*priority), id));
            if queued && nth == 0 {
                session.queue.insert((Reverse(*priority), id));
            }
        }
    }

    /// Takes a want out of the lists of its sessions.
    fn delist(&mut self, id: WantId) {
        let Some(want) = self.wants.get(&id) else { return };
        for (session, priority) in &want.sessions {
            if let Some(session) = self.sessions.get_mut(session) {
                session.wants.remove(&(Reverse(*priority), id));
                session.queue.remove(&(Reverse(*priority), id));
            }
        }
    }

    fn join_want(&mut self, id: WantId, session: SessionKey, priority: i32) {
        self.delist(id);
        if let Some(want) = self.wants.get_mut(&id) {
            want.sessions.insert(session, priority);
        }
        self.enlist(id);
    }

    /// A session no longer wants a block. Peers that were asked are told, unless another session wants it too.
    pub fn cancel(&mut self, now: Instant, session: SessionKey, cid: &Cid) {
        if let Some(id) = self.want_of(cid) {
            self.cancel_id(id, session);
            self.schedule(now);
        }
    }

    fn cancel_id(&mut self, id: WantId, session: SessionKey) {
        self.delist(id);
        let Some(want) = self.wants.get_mut(&id) else { return };
        want.sessions.remove(&session);
        if want.sessions.is_empty() {
            self.finish(id, None);
        } else {
            self.enlist(id);
        }
    }

    /// A session is over: its wants are cancelled, and what it knew of peers is forgotten.
    pub fn end_session(&mut self, now: Instant, session: SessionKey) {
        let Some(ended) = self.sessions.get(&session) else { return };
        let ids: Vec<_> = ended.wants.iter().map(|(_, id)| *id).collect();
        ids.into_iter().for_each(|id| self.cancel_id(id, session));
        self.sessions.remove(&session);
        self.schedule(now);
    }

    /// Ends a want: everybody else who knows of it is told to forget it. `from` is who delivered it, if somebody did.
    pub(super) fn finish(&mut self, id: WantId, from: Option<PeerKey>) -> Option<WantState> {
        self.unask(id);
        self.delist(id);
        let told: Vec<_> = self.wants.get(&id)?.told.keys().copied().collect();
        for peer in told {
            if Some(peer) == from {
                self.separate(peer, id);
            } else {
                self.retract(peer, id);
            }
        }
        self.set_wake(id, None);
        let want = self.wants.remove(&id)?;
        self.by_hash.remove(&want.hash);
        self.remember(&want, from.is_some());
        Some(want)
    }

    fn remember(&mut self, want: &WantState, delivered: bool) {
        let past = Past { delivered, sessions: want.sessions.keys().copied().collect() };
        if self.past.insert(want.hash, past).is_none() {
            self.past_order.push_back(want.hash);
        }
        if self.past_order.len() > MAX_PAST
            && let Some(oldest) = self.past_order.pop_front()
        {
            self.past.remove(&oldest);
        }
    }
}
