//! Peers of a torrent as they come, speak and go.

use std::time::Instant;

use bytes::Bytes;

use super::session::Early;
use super::{DropReason, PeerSummary, Session, Torrent, TorrentEvent, Transport};
use crate::bitfield::Bitfield;
use crate::choker::RECHOKE_INTERVAL;
use crate::handshake::Handshake;
use crate::picker::PeerKey;
use crate::wire::{Message, PieceIndex};

impl Torrent {
    /// Every connected peer.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerSummary> {
        let picker = self.known.as_ref().map(|known| &known.picker);
        let summary = |(key, session): (&PeerKey, &Session)| PeerSummary {
            key: *key,
            transport: session.transport,
            downloaded: session.downloaded,
            uploaded: session.uploaded,
            rate: picker.and_then(|picker| picker.rate_of(*key)),
            outstanding: picker.map_or(0, |picker| picker.outstanding_at(*key)),
            seed: session.has_all,
            unchoked_us: !session.peer_choking,
        };
        self.sessions.iter().map(summary).collect()
    }

    /// How many connected peers have everything.
    #[must_use]
    pub fn seed_count(&self) -> usize {
        self.sessions.values().filter(|session| session.has_all).count()
    }

    /// Whether a connected peer gave us a block, or took one.
    #[must_use]
    pub fn was_useful(&self, key: PeerKey) -> bool {
        self.sessions.get(&key).is_some_and(Session::was_useful)
    }

    /// How many peers are connected.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.sessions.len()
    }

    /// A peer connected and its handshake was read. Its key must be new.
    pub fn add_peer(&mut self, now: Instant, key: PeerKey, transport: Transport, handshake: &Handshake) {
        let mut session = Session::new(now, transport, handshake);
        if session.extended {
            let hello = self.our_hello(transport);
            session.send(&Message::Extended { id: 0, payload: hello.encode().into() });
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_joined(now, key);
            announce_have(&mut session, known.picker.have());
        } else if session.fast {
            session.send(&Message::HaveNone);
        }
        self.sessions.insert(key, session);
        self.choker.joined(key);
        self.next_tick.get_or_insert(now + RECHOKE_INTERVAL);
    }

    /// A peer's connection ended.
    pub fn remove_peer(&mut self, now: Instant, key: PeerKey) {
        if self.sessions.remove(&key).is_some() {
            self.forget_peer(key);
            self.settle(now);
        }
    }

    pub(super) fn forget_peer(&mut self, key: PeerKey) {
        self.choker.gone(key);
        self.hashes.on_gone(key);
        if let Some(exchange) = &mut self.exchange {
            exchange.leave(key);
        }
        if let Some(holepunch) = &mut self.holepunch {
            holepunch.leave(key);
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_left(key);
        }
        self.continue_metadata();
    }

    pub(super) fn drop_peer(&mut self, peer: PeerKey, reason: DropReason) {
        if let Some(session) = self.sessions.remove(&peer) {
            self.forget_peer(peer);
            self.events.push_back(TorrentEvent::Drop { peer, useful: session.was_useful(), reason });
        }
    }

    /// Tells a peer that connected before the metadata was known what it missed, and takes in what it said.
    pub(super) fn greet_late(&mut self, now: Instant, key: PeerKey, have: &[PieceIndex]) {
        let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &mut self.known) else { return };
        session.metadata = None;
        known.picker.peer_joined(now, key);
        if let Some(reqq) = session.reqq {
            known.picker.peer_queues(key, reqq);
        }
        have.iter().for_each(|piece| session.send(&Message::Have(*piece)));
        let haves = std::mem::take(&mut session.early_haves);
        let early = std::mem::replace(&mut session.early, Early::Nothing);
        if !session.peer_choking {
            known.picker.peer_unchoked(now, key);
        }
        let outcome = match early {
            Early::Nothing => Ok(()),
            Early::All => self.on_have_all(key),
            Early::Bits(bits) => self.on_bitfield(key, &bits),
        };
        if let Err(reason) = outcome {
            return self.drop_peer(key, reason);
        }
        haves.into_iter().for_each(|piece| self.on_have(key, piece));
    }

    pub(super) fn keys(&self) -> Vec<PeerKey> {
        self.sessions.keys().copied().collect()
    }

    /// Takes whole messages of one peer, as the framing rule found them.
    pub fn handle_input(&mut self, now: Instant, key: PeerKey, frames: Bytes) {
        if let Err(reason) = self.take_messages(now, key, frames) {
            self.drop_peer(key, reason);
        }
        self.settle(now);
    }
}

/// Tells a peer what we have, in its first message, as briefly as it understands.
fn announce_have(session: &mut Session, have: &Bitfield) {
    if session.fast && have.is_all() {
        session.send(&Message::HaveAll);
    } else if have.count() > 0 {
        session.send(&Message::Bitfield(have.to_wire()));
    } else if session.fast {
        session.send(&Message::HaveNone);
    }
}
