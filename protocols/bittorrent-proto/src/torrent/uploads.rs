//! Whom a torrent uploads to, and the blocks that are owed.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::{Torrent, TorrentEvent, Transport};
use crate::choker::TurnOrder;
use crate::picker::PeerKey;
use crate::wire::{BlockRequest, Message};

impl Torrent {
    /// The block that was to be read for a peer, or `None` when it is not in the store (any more).
    pub fn block_read(&mut self, now: Instant, peer: PeerKey, request: BlockRequest, data: Option<Bytes>) {
        if let Some(session) = self.sessions.get_mut(&peer)
            && session.reading.remove(&request)
        {
            match data {
                Some(data) if !session.am_choking => {
                    let len = data.len() as u64;
                    self.choker.sent(now, peer, len);
                    self.totals.uploaded += len;
                    self.totals.webrtc_uploaded += if session.transport == Transport::WebRtc { len } else { 0 };
                    session.send_block(&request, data);
                }
                _ => session.refuse(request),
            }
        }
        self.settle(now);
    }

    /// Changes to how many peers is uploaded at a time; 0 ends all uploading at once.
    pub fn set_upload_slots(&mut self, now: Instant, slots: usize) {
        self.choker.set_slots(now, slots);
        self.rechoke(now);
        self.settle(now);
    }

    /// Says whether [`TorrentEvent::ReadBlock`] waits for a limit: then only few are asked for a peer at a time, so that all
    /// peers have their blocks in turn, and a block that is read is soon sent.
    pub const fn pace_uploads(&mut self, paced: bool) {
        self.paced = paced;
    }

    /// Changes in which order peers have the slots that nobody earned.
    pub const fn set_turn_order(&mut self, order: TurnOrder) {
        self.choker.set_order(order);
    }

    /// Whether we let a connected peer ask.
    #[must_use]
    pub fn is_unchoked(&self, key: PeerKey) -> bool {
        self.choker.is_unchoked(key)
    }

    pub(super) fn rechoke(&mut self, now: Instant) {
        let asked = |key: &PeerKey| self.known.as_ref().is_some_and(|known| known.picker.outstanding_at(*key) > 0);
        let owing = self.sessions.iter().filter(|(key, session)| !session.peer_choking && asked(key));
        let owing: BTreeSet<_> = owing.map(|(key, _)| *key).collect();
        self.choker.rechoke(now, &owing);
        self.apply_chokes();
    }

    pub(super) fn apply_chokes(&mut self) {
        self.keys().into_iter().for_each(|key| self.apply_choke(key));
    }

    /// Makes a session's choke state what the choker says, and tells the peer if that is news.
    pub(super) fn apply_choke(&mut self, key: PeerKey) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let choke = !self.choker.is_unchoked(key);
        if session.am_choking == choke {
            return;
        }
        session.am_choking = choke;
        session.send(if choke { &Message::Choke } else { &Message::Unchoke });
        if choke {
            let refused = std::mem::take(&mut session.uploads);
            refused.into_iter().for_each(|request| session.refuse(request));
        }
    }

    pub(super) fn feed_uploads(&mut self) {
        for (key, session) in &mut self.sessions {
            while let Some(request) = session.next_upload(self.paced) {
                self.events.push_back(TorrentEvent::ReadBlock { peer: *key, request });
            }
        }
    }
}
