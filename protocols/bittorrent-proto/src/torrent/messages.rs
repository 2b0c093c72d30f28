//! What each message of a peer does to the torrent.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::session::{Early, MAX_UNASKED_BYTES, MAX_UPLOAD_QUEUE};
use super::{DropReason, LT_DONTHAVE, Torrent, TorrentEvent, Transport, UT_HOLEPUNCH, UT_METADATA, UT_PEX};
use crate::bitfield::Bitfield;
use crate::extension::{
    ExtensionError, ExtensionHandshake, MetadataError, MetadataFetch, MetadataMessage, parse_dont_have,
};
use crate::picker::{BlockOutcome, PeerKey};
use crate::wire::{BlockRequest, MAX_REQUEST_LEN, Message, PieceIndex, next_message};

/// Peers asked for the metadata at once; the first whose answer verifies wins.
const MAX_METADATA_FETCHES: usize = 4;
/// A peer that sent no metadata for this long no longer keeps others from being asked.
const METADATA_PATIENCE: Duration = Duration::from_secs(4);

impl Torrent {
    pub(super) fn take_messages(&mut self, now: Instant, key: PeerKey, mut frames: Bytes) -> Result<(), DropReason> {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.last_received = now;
        }
        while let Some(message) = next_message(&mut frames)? {
            if !self.sessions.contains_key(&key) {
                break;
            }
            self.take_message(now, key, message)?;
        }
        Ok(())
    }

    fn take_message(&mut self, now: Instant, key: PeerKey, message: Message) -> Result<(), DropReason> {
        match message {
            Message::KeepAlive
            | Message::Port(_)
            | Message::Suggest(_)
            | Message::AllowedFast(_)
            | Message::Unknown(_) => {}
            Message::Choke => self.on_choke(key),
            Message::Unchoke => self.on_unchoke(now, key),
            Message::Interested => self.on_interested(now, key, true),
            Message::NotInterested => self.on_interested(now, key, false),
            Message::Have(piece) => self.on_have(key, piece),
            Message::Bitfield(bits) => {
                // Some clients tell their progress by further bitfields; the newest counts.
                self.first_statement(key).ok();
                self.on_bitfield(key, &bits)?;
            }
            Message::HaveAll => {
                self.first_statement(key)?;
                self.on_have_all(key)?;
            }
            Message::HaveNone => self.first_statement(key)?,
            Message::Request(request) => self.on_request(key, request),
            Message::Cancel(request) => self.on_cancel(key, request),
            Message::Piece { piece, begin, data } => self.on_piece(now, key, piece, begin, &data)?,
            Message::Reject(request) => self.on_reject(now, key, request),
            Message::HashRequest(request) => self.on_hash_request(key, request),
            Message::Hashes { request, hashes } => self.on_hashes(key, &request, &hashes)?,
            Message::HashReject(request) => self.on_hash_reject(now, key, request),
            Message::Extended { id, payload } => self.on_extended(now, key, id, &payload)?,
        }
        Ok(())
    }

    /// A statement of all that a peer has comes once (BEP 3, BEP 6); extension messages may come before it.
    fn first_statement(&mut self, key: PeerKey) -> Result<(), DropReason> {
        match self.sessions.get_mut(&key) {
            Some(session) if session.spoke => Err(DropReason::LateBitfield),
            Some(session) => {
                session.spoke = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn on_choke(&mut self, key: PeerKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.peer_choking = true;
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_choked(key);
        }
    }

    fn on_unchoke(&mut self, now: Instant, key: PeerKey) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.peer_choking = false;
        }
        if let Some(known) = &mut self.known {
            known.picker.peer_unchoked(now, key);
        }
    }

    fn on_interested(&mut self, now: Instant, key: PeerKey, interested: bool) {
        self.choker.interest(now, key, interested);
        self.apply_choke(key);
    }

    pub(super) fn on_have(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        match &mut self.known {
            None => session.early_have(piece),
            Some(known) => {
                known.picker.peer_has(key, piece, true);
                if piece.0 < known.picker.geometry().pieces() && !known.picker.have().get(piece) {
                    self.set_interested(key, true);
                }
            }
        }
    }

    pub(super) fn on_bitfield(&mut self, key: PeerKey, bits: &Bytes) -> Result<(), DropReason> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        let Some(known) = &mut self.known else {
            session.early = Early::Bits(bits.clone());
            return Ok(());
        };
        let has = Bitfield::from_wire(bits, known.picker.geometry().pieces())?;
        session.has_all = has.is_all();
        let useful = has.iter().any(|piece| !known.picker.have().get(piece));
        known.picker.peer_has_bitfield(key, has);
        self.set_interested(key, useful);
        Ok(())
    }

    pub(super) fn on_have_all(&mut self, key: PeerKey) -> Result<(), DropReason> {
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        match &self.known {
            Some(known) => {
                let all = Bitfield::all(known.picker.geometry().pieces()).to_wire();
                self.on_bitfield(key, &all)
            }
            None => {
                session.early = Early::All;
                Ok(())
            }
        }
    }

    fn set_interested(&mut self, key: PeerKey, interested: bool) {
        if let Some(session) = self.sessions.get_mut(&key)
            && session.am_interested != interested
        {
            session.am_interested = interested;
            session.send(if interested { &Message::Interested } else { &Message::NotInterested });
        }
    }

    /// Interest is given up when nothing is missing, and taken up again with every peer when something is.
    pub(super) fn review_interest(&mut self) {
        self.tell_upload_only();
        let Some(known) = &self.known else { return };
        let complete = known.picker.have().is_all();
        for key in self.keys() {
            let seed = self.sessions.get(&key).is_some_and(|session| session.has_all);
            if complete || seed {
                self.set_interested(key, !complete);
            }
        }
    }

    fn on_request(&mut self, key: PeerKey, request: BlockRequest) {
        let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &self.known) else { return };
        let valid = request.len <= MAX_REQUEST_LEN && known.picker.geometry().contains(&request);
        let servable = valid && !session.am_choking && known.picker.have().get(request.piece);
        if servable && session.uploads.len() + session.reading.len() < MAX_UPLOAD_QUEUE {
            session.uploads.push_back(request);
        } else {
            // Always in words: a request that vanishes keeps its sender waiting.
            session.refuse(request);
        }
    }

    fn on_cancel(&mut self, key: PeerKey, request: BlockRequest) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let before = session.uploads.len();
        session.uploads.retain(|queued| *queued != request);
        if session.uploads.len() < before {
            session.refuse(request);
        }
    }

    fn on_piece(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: PieceIndex,
        begin: u32,
        data: &[u8],
    ) -> Result<(), DropReason> {
        let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &mut self.known) else { return Ok(()) };
        let len = data.len() as u64;
        self.totals.downloaded += len;
        self.totals.webrtc_downloaded += if session.transport == Transport::WebRtc { len } else { 0 };
        session.downloaded += len;
        self.choker.received(now, key, len);
        if session.was_withdrawn(&BlockRequest { piece, begin, len: u32::try_from(len).unwrap_or(u32::MAX) }) {
            known.picker.on_withdrawn_block(now, key);
        }
        match known.picker.on_block(now, key, piece, begin, data) {
            BlockOutcome::Accepted => {}
            BlockOutcome::PieceComplete(bytes) => self.events.push_back(TorrentEvent::PieceComplete { piece, bytes }),
            BlockOutcome::Unneeded { requested } => {
                self.totals.wasted += len;
                session.unasked += if requested { 0 } else { len };
                if session.unasked > MAX_UNASKED_BYTES.max(session.downloaded / 4) {
                    return Err(DropReason::Unasked(session.unasked));
                }
            }
        }
        Ok(())
    }

    fn on_reject(&mut self, now: Instant, key: PeerKey, request: BlockRequest) {
        let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &mut self.known) else { return };
        if !session.was_withdrawn(&request) {
            known.picker.on_reject(now, key, request);
        }
    }

    // --- extensions (BEP 10) -------------------------------------------------------------------------------------

    fn on_extended(&mut self, now: Instant, key: PeerKey, id: u8, payload: &Bytes) -> Result<(), DropReason> {
        match id {
            0 => self.on_extension_handshake(now, key, payload),
            UT_METADATA => self.on_metadata(now, key, payload),
            LT_DONTHAVE => self.on_dont_have(key, payload),
            UT_PEX => self.on_peer_exchange(now, key, payload),
            UT_HOLEPUNCH => self.on_holepunch(now, key, payload),
            _ => Ok(()),
        }
    }

    fn on_dont_have(&mut self, key: PeerKey, payload: &Bytes) -> Result<(), DropReason> {
        let piece = parse_dont_have(payload).map_err(|error| DropReason::Extension(error.to_string()))?;
        if let (Some(session), Some(known)) = (self.sessions.get_mut(&key), &mut self.known) {
            known.picker.peer_has(key, piece, false);
            session.has_all = false;
        }
        Ok(())
    }

    fn on_extension_handshake(&mut self, now: Instant, key: PeerKey, payload: &Bytes) -> Result<(), DropReason> {
        let hello = ExtensionHandshake::parse(payload).map_err(|error| DropReason::Extension(error.to_string()))?;
        self.note_contact(key, &hello);
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        session.extensions.ut_metadata = hello.ut_metadata.or(session.extensions.ut_metadata);
        session.upload_only = hello.upload_only;
        session.extensions.lt_donthave = hello.lt_donthave.or(session.extensions.lt_donthave);
        if let Some(reqq) = hello.reqq {
            session.reqq = Some(reqq);
            if let Some(known) = &mut self.known {
                known.picker.peer_queues(key, reqq);
            }
        }
        if let (None, Some(size), Some(_)) = (&self.known, hello.metadata_size, session.extensions.ut_metadata)
            && session.metadata.is_none()
        {
            // A peer that claims an absurd size is simply never asked.
            session.metadata = MetadataFetch::new(self.id, size).ok();
            session.metadata_progress = now;
        }
        self.continue_metadata();
        Ok(())
    }

    /// Asks the next peers for the metadata, while it is unknown.
    pub(super) fn continue_metadata(&mut self) {
        if self.known.is_some() || self.seeks_roots() {
            return;
        }
        let latest = self.sessions.values().map(|session| session.last_received).max();
        let mut running = 0;
        for session in self.sessions.values_mut() {
            let (Some(fetch), Some(id)) = (&mut session.metadata, session.extensions.ut_metadata) else { continue };
            if running == MAX_METADATA_FETCHES {
                break;
            }
            let mut requests = Vec::new();
            while let Some(piece) = fetch.poll_request() {
                requests.push(piece);
            }
            for piece in requests {
                session.send(&Message::Extended { id, payload: MetadataMessage::Request(piece).encode() });
            }
            let stuck = latest.is_some_and(|latest| latest > session.metadata_progress + METADATA_PATIENCE);
            running += usize::from(!stuck);
        }
    }

    fn on_metadata(&mut self, now: Instant, key: PeerKey, payload: &Bytes) -> Result<(), DropReason> {
        let message = match MetadataMessage::parse(payload) {
            Ok(message) => message,
            // BEP 9: unknown kinds are to be ignored, so that there can be new ones.
            Err(ExtensionError::UnknownMetadataType(_)) => return Ok(()),
            Err(error) => return Err(DropReason::Extension(error.to_string())),
        };
        match message {
            MetadataMessage::Request(piece) => self.serve_metadata(key, piece),
            MetadataMessage::Data { piece, total_size, data } => {
                return self.on_metadata_piece(now, key, piece, total_size, data);
            }
            MetadataMessage::Reject(_) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.metadata = None;
                }
                self.continue_metadata();
            }
        }
        Ok(())
    }

    fn on_metadata_piece(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: u32,
        total_size: u32,
        data: Bytes,
    ) -> Result<(), DropReason> {
        let unknown = self.known.is_none() && !self.seeks_roots();
        let Some(session) = self.sessions.get_mut(&key) else { return Ok(()) };
        let Some(fetch) = &mut session.metadata else { return Ok(()) };
        session.metadata_progress = now;
        match fetch.on_data(piece, total_size, data) {
            Ok(Some(info)) if unknown => self.events.push_back(TorrentEvent::Metadata(info)),
            Ok(_) | Err(MetadataError::Unrequested { .. }) => self.continue_metadata(),
            Err(error) => {
                session.metadata = None;
                return Err(DropReason::Extension(error.to_string()));
            }
        }
        Ok(())
    }

    fn serve_metadata(&mut self, key: PeerKey, piece: u32) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(id) = session.extensions.ut_metadata else { return };
        let answer = match &self.known {
            Some(known) if session.keeps_up() => MetadataMessage::answer(&known.info, piece),
            Some(_) | None => MetadataMessage::Reject(piece),
        };
        session.send(&Message::Extended { id, payload: answer.encode() });
    }
}
