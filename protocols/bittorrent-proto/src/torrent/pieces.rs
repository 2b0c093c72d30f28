//! Pieces of a torrent: who wants them, and what becomes of them: verified, corrupt, not stored, evicted. Peers are
//! convicted by them.

use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;

use super::{DropReason, Torrent, TorrentEvent};
use crate::bitfield::Bitfield;
use crate::extension::encode_dont_have;
use crate::picker::{PeerKey, ReaderKey};
use crate::wire::{Message, PieceIndex};

/// Convicted peers remembered, so that each is reported once.
const MAX_CONVICTED: usize = 256;

impl Torrent {
    /// The verified pieces, once the metadata is known.
    #[must_use]
    pub fn have(&self) -> Option<&Bitfield> {
        self.known.as_ref().map(|known| known.picker.have())
    }

    /// Whether a piece is complete and waits to be told of as verified, corrupt or not stored.
    #[must_use]
    pub fn is_verifying(&self, piece: PieceIndex) -> bool {
        self.known.as_ref().is_some_and(|known| known.picker.is_verifying(piece))
    }

    /// A reader wants the bytes `range` of the torrent, in order, the first one now.
    pub fn open_reader(&mut self, now: Instant, key: ReaderKey, range: Range<u64>) {
        match &mut self.known {
            Some(known) => {
                let position = range.start;
                known.picker.open_reader(now, key, range);
                self.watch_leaves(position);
            }
            None => drop(self.early_readers.insert(key, range)),
        }
        self.settle(now);
    }

    /// A reader has read up to `position`.
    pub fn advance_reader(&mut self, now: Instant, key: ReaderKey, position: u64) {
        if let Some(known) = &mut self.known {
            known.picker.advance_reader(now, key, position);
        }
        self.watch_leaves(position);
        self.settle(now);
    }

    /// A reader is gone; requests that only it needed are withdrawn at once.
    pub fn close_reader(&mut self, now: Instant, key: ReaderKey) {
        self.early_readers.remove(&key);
        if let Some(known) = &mut self.known {
            known.picker.close_reader(key);
        }
        self.settle(now);
    }

    /// How far ahead of each reader to fetch at most, in bytes; what would be evicted again is not worth fetching.
    pub fn limit_read_ahead(&mut self, bytes: u64) {
        self.read_ahead = bytes;
        if let Some(known) = &mut self.known {
            known.picker.limit_read_ahead(bytes);
        }
    }

    /// Whether the whole torrent is wanted, rarest first.
    pub fn want_everything(&mut self, now: Instant, everything: bool) {
        self.everything = everything;
        if let Some(known) = &mut self.known {
            known.picker.want_everything(everything);
        }
        self.settle(now);
    }

    /// Which pieces are wanted though no reader asks for them, rarest first. Before the metadata is known there are no
    /// pieces, and none is wanted.
    pub fn want_pieces(&mut self, now: Instant, wanted: Bitfield) {
        self.everything = false;
        if let Some(known) = &mut self.known {
            known.picker.want_pieces(Some(wanted));
        }
        self.settle(now);
    }

    /// A piece passed its hash and is in the store. `bytes` are given when it came from peers just now: they acquit or
    /// convict whoever sent other bytes for it earlier.
    pub fn piece_verified(&mut self, now: Instant, piece: PieceIndex, bytes: Option<&[u8]>) {
        self.forget_leaves(piece);
        let Some(known) = &mut self.known else { return };
        self.totals.verified += u64::from(bytes.is_some());
        if !known.picker.have().get(piece) {
            for session in self.sessions.values_mut().filter(|session| !session.has_all) {
                session.send(&Message::Have(piece));
            }
        }
        let guilty = known.picker.on_verified(piece, bytes);
        guilty.into_iter().for_each(|peer| self.convict(peer));
        self.review_interest();
        self.settle(now);
    }

    /// A piece failed its hash.
    pub fn piece_corrupt(&mut self, now: Instant, piece: PieceIndex, bytes: &[u8]) {
        let Some(known) = &mut self.known else { return };
        self.totals.corrupt += 1;
        self.totals.wasted += bytes.len() as u64;
        let guilty = known.picker.on_corrupt(piece, bytes);
        guilty.into_iter().for_each(|peer| self.convict(peer));
        self.settle(now);
    }

    /// The guilty are told to the shell even when they have left, so that their address can be banned.
    pub(super) fn convict(&mut self, peer: PeerKey) {
        if self.convicted.contains(&peer) {
            return;
        }
        if self.convicted.len() == MAX_CONVICTED {
            self.convicted.pop_front();
        }
        self.convicted.push_back(peer);
        if self.sessions.remove(&peer).is_some() {
            self.forget_peer(peer);
        }
        // Its blocks were what it is convicted for.
        self.events.push_back(TorrentEvent::Drop { peer, useful: true, reason: DropReason::Guilty });
    }

    /// A piece could not be stored.
    pub fn piece_not_stored(&mut self, now: Instant, piece: PieceIndex) {
        if let Some(known) = &mut self.known {
            known.picker.on_not_stored(piece);
        }
        self.settle(now);
    }

    /// A piece left the store. Peers are told (BEP 54).
    pub fn piece_evicted(&mut self, now: Instant, piece: PieceIndex) {
        let Some(known) = &mut self.known else { return };
        if known.picker.on_evicted(piece) {
            for session in self.sessions.values_mut() {
                if let Some(id) = session.extensions.lt_donthave {
                    let payload = Bytes::copy_from_slice(&encode_dont_have(piece));
                    session.send(&Message::Extended { id, payload });
                }
            }
            self.review_interest();
        }
        self.settle(now);
    }
}
