//! What the actor does with pieces: between the rules and the store, its readers, and other torrents that have the same.

use std::time::Instant;

use bytes::Bytes;
use swarmgate_bittorrent_proto::picker::PeerKey;
use swarmgate_bittorrent_proto::wire::{BlockRequest, PieceIndex};
use swarmgate_content::{BlockHash, Event, VerifiedBytes};
use swarmgate_store::{PutError, StoreEvent};
use tokio::sync::broadcast;

use super::{Actor, Done, PROGRESS_INTERVAL, PieceFault, stored};
use crate::Known;
use crate::board::{Handed, Wake};
use crate::loan::{Admitted, not_stored};

impl Actor {
    pub(super) fn on_store_event(&mut self, event: Result<StoreEvent, broadcast::error::RecvError>) {
        match event {
            Ok(StoreEvent::Evicted(hashes)) => hashes.iter().for_each(|hash| self.on_hash_evicted(hash)),
            // News of a kind unknown here, or lost news: look for ourselves.
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => self.check_store(),
            Err(broadcast::error::RecvError::Closed) => self.cancel.cancel(),
        }
    }

    pub(super) fn on_hash_evicted(&mut self, hash: &BlockHash) {
        let Some(known) = self.known() else { return };
        let pieces: Vec<_> = known.pieces_with(hash).collect();
        // It may have come back since.
        if !self.shared.context.store.contains(hash) {
            pieces.into_iter().for_each(|piece| self.on_evicted(piece));
        }
    }

    pub(super) fn on_evicted(&mut self, piece: PieceIndex) {
        if let Some(known) = self.known() {
            known.have.lock().set(piece, false);
            self.torrent.piece_evicted(Instant::now(), piece);
        }
    }

    /// Makes what we believe to have what is in the store.
    pub(super) fn check_store(&mut self) {
        let Some(known) = self.known() else { return };
        let in_store = stored(&self.shared.context.store, &known.info);
        for piece in (0..known.geometry.pieces()).map(PieceIndex) {
            let believed = self.torrent.have().is_some_and(|have| have.get(piece));
            match (believed, in_store.get(piece)) {
                (true, false) => self.on_evicted(piece),
                (false, true) => self.on_had(piece, None),
                (true, true) | (false, false) => {}
            }
        }
    }

    pub(super) fn on_piece(&mut self, piece: PieceIndex, bytes: &Bytes, outcome: Result<VerifiedBytes, PieceFault>) {
        let now = Instant::now();
        match outcome {
            Ok(_) => {
                self.on_had(piece, Some(bytes));
                self.tell_twins(piece);
            }
            Err(PieceFault::Corrupt(error)) => {
                tracing::warn!(infohash = %self.shared.infohash, %piece, %error, "a piece failed its hash");
                self.torrent.piece_corrupt(now, piece, bytes);
                // Another torrent may have brought it right meanwhile.
                self.on_found(piece);
            }
            Err(PieceFault::NotStored(error, bytes)) => {
                self.hand_over(piece, &error, &bytes);
                self.torrent.piece_not_stored(now, piece);
            }
        }
    }

    pub(super) fn on_admitted(&mut self, admitted: Admitted) {
        let Admitted { piece, bytes, outcome, done } = admitted;
        let told = match outcome {
            Ok(()) => {
                self.on_had(piece, Some(&bytes.into_bytes()));
                self.tell_twins(piece);
                Ok(())
            }
            Err(error) => {
                let readers = self.hand_over(piece, &error, &bytes);
                if readers > 0 { Ok(()) } else { Err(not_stored(piece)) }
            }
        };
        // Nobody may be waiting any more.
        let _ = done.send(told);
    }

    /// Who is at a piece that was not stored gets it all the same, and need not have it fetched again. Tells how many read
    /// it.
    pub(super) fn hand_over(&mut self, piece: PieceIndex, error: &PutError, bytes: &VerifiedBytes) -> usize {
        let now = Instant::now();
        let handed = self.known().map_or_else(Handed::default, |known| {
            let start = known.geometry.start_of(piece);
            let range = start..start + u64::from(known.geometry.len_of(piece));
            self.shared.board.hand(piece, &range, bytes)
        });
        tracing::debug!(infohash = %self.shared.infohash, %piece, %error, handed = handed.readers, "a piece was not stored");
        handed.paused.into_iter().for_each(|key| self.torrent.close_reader(now, key));
        self.torrent.want_everything(now, false);
        handed.readers
    }

    /// A piece is in the store though nothing here put it there. One that is being verified is left to that: by the
    /// verdict its senders are judged.
    pub(super) fn on_found(&mut self, piece: PieceIndex) {
        let Some(known) = self.known() else { return };
        let had = known.have.lock().get(piece);
        if !had && !self.torrent.is_verifying(piece) && known.is_stored(&self.shared.context.store, piece) {
            self.on_had(piece, None);
        }
    }

    /// Tells the other torrents of a piece that came and was stored.
    pub(super) fn tell_twins(&self, piece: PieceIndex) {
        let Some((member, known)) = self.member.as_ref().zip(self.known()) else { return };
        if let Some(name) = known.info.piece_hash(piece.0) {
            member.tell(&name, known.geometry.len_of(piece));
        }
    }

    /// A piece is in the store: tell the rules and whoever waits, for every piece with the same bytes.
    pub(super) fn on_had(&mut self, piece: PieceIndex, bytes: Option<&Bytes>) {
        let Some(known) = self.known() else { return };
        let now = Instant::now();
        let twins: Vec<_> = match known.info.piece_hash(piece.0) {
            Some(hash) => known.twins(&hash, known.geometry.len_of(piece)).collect(),
            None => return,
        };
        for twin in twins {
            known.have.lock().set(twin, true);
            self.torrent.piece_verified(now, twin, bytes.filter(|_| twin == piece).map(AsRef::as_ref));
            self.shared.board.wake(twin, &Wake::Here);
        }
        let complete = known.have.lock().is_all();
        if complete {
            self.shared.completed.send_replace(true);
        }
        let is_last = complete || self.is_last_selected(&known, piece);
        if is_last || now.saturating_duration_since(self.told_progress) >= PROGRESS_INTERVAL {
            self.told_progress = now;
            let item = self.shared.content();
            let (have_bytes, total_len) = match &self.selected {
                Some(selected) => known.bytes_of(selected),
                None => (known.have_bytes(), known.geometry.total_len()),
            };
            self.shared.context.events.publish(Event::ItemProgress { item, have_bytes, total_len });
        }
    }

    /// Whether a piece that is here now is one of those that are selected, and the last of them to come.
    fn is_last_selected(&self, known: &Known, piece: PieceIndex) -> bool {
        let have = known.have.lock();
        self.selected.as_ref().is_some_and(|it| it.get(piece) && it.iter().all(|selected| have.get(selected)))
    }

    pub(super) fn verify_and_store(&self, piece: PieceIndex, bytes: Bytes) {
        let Some(hash) = self.known().and_then(|known| known.info.piece_hash(piece.0)) else { return };
        let store = self.shared.context.store.clone();
        self.pending.push(Box::pin(async move {
            let outcome = match store.verifier().verify(hash, bytes.clone()).await {
                Ok(block) => {
                    let verified = block.bytes().clone();
                    match store.put(block).await {
                        Ok(()) => Ok(verified),
                        Err(error) => Err(PieceFault::NotStored(error, verified)),
                    }
                }
                Err(error) => Err(PieceFault::Corrupt(error)),
            };
            Done::Piece(piece, bytes, outcome)
        }));
    }

    pub(super) fn read_block(&self, peer: PeerKey, request: BlockRequest) {
        let hash = self.known().and_then(|known| known.info.piece_hash(request.piece.0));
        let (store, line) = (self.shared.context.store.clone(), self.uploads.line.clone());
        self.pending.push(Box::pin(async move {
            line.pass(u64::from(request.len)).await;
            let data = match hash {
                Some(hash) => store.read(&hash, request.begin..request.begin + request.len).await,
                None => Ok(None),
            };
            let data = data.unwrap_or_else(|error| {
                tracing::warn!(%error, "reading the cache for a peer failed");
                None
            });
            Done::Block(peer, request, data.map(VerifiedBytes::into_bytes))
        }));
    }
}
