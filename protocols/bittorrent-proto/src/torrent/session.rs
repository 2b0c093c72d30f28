//! One peer's side of the protocol: who chokes whom, what it can do, what is on its way to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use swarmgate_content::InfoHash;

use super::Transport;
use crate::extension::MetadataFetch;
use crate::handshake::Handshake;
use crate::wire::{BlockRequest, Message, PieceIndex, piece_header};

/// Requests of a peer that are queued before further ones are refused; what we tell it as `reqq` (BEP 10).
pub(super) const MAX_UPLOAD_QUEUE: usize = 500;
/// Bytes on their way to a peer, read from the store or unsent, over which no more blocks are read for it.
pub(super) const UPLOAD_WATERMARK: usize = 512 * 1024;
/// Blocks read for a peer at a time while uploads are limited: one that waits for the limit, and one behind it.
const MAX_PACED_READS: usize = 2;
/// Withdrawn requests remembered of one peer.
const MAX_WITHDRAWN: usize = 2048;
/// Haves kept of a peer that spoke before we knew the torrent's metadata.
const MAX_EARLY_HAVES: usize = 4096;
/// Blocks' worth of bytes that a peer may send unasked (answers to requests we withdrew) before it is dropped.
pub(super) const MAX_UNASKED_BYTES: u64 = 16 * 1024 * 1024;

/// How long a peer stays that wants nothing of us nor we of it: readers that come back soon find it connected.
pub(super) const REDUNDANT_AFTER: Duration = Duration::from_secs(60);

/// What a peer said it has, before we could know what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Early {
    Nothing,
    All,
    Bits(Bytes),
}

/// The numbers a peer chose for the extensions it speaks (BEP 10).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extensions {
    pub(super) ut_metadata: Option<u8>,
    pub(super) lt_donthave: Option<u8>,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) transport: Transport,
    /// The infohash of its handshake: of a hybrid torrent's two, that of the half it speaks of.
    pub(super) named: InfoHash,
    pub(super) fast: bool,
    pub(super) extended: bool,
    pub(super) extensions: Extensions,
    /// Requests it is willing to queue (BEP 10).
    pub(super) reqq: Option<u32>,
    pub(super) metadata: Option<MetadataFetch>,
    pub(super) metadata_progress: Instant,
    pub(super) early: Early,
    pub(super) early_haves: Vec<PieceIndex>,
    pub(super) am_interested: bool,
    pub(super) am_choking: bool,
    pub(super) peer_choking: bool,
    /// Whether the first message, the only one that may be a bitfield, has been.
    pub(super) spoke: bool,
    pub(super) has_all: bool,
    /// Whether it wants nothing (BEP 21).
    pub(super) upload_only: bool,
    /// Since when neither side wants anything of the other.
    together_since: Option<Instant>,
    /// Blocks it asked for, in order, and those being read for it.
    pub(super) uploads: VecDeque<BlockRequest>,
    pub(super) reading: BTreeSet<BlockRequest>,
    /// Requests we withdrew whose refusal or late block is still to come (BEP 6), and how often each: that many refusals are
    /// no news.
    withdrawn: BTreeMap<BlockRequest, u32>,
    pub(super) downloaded: u64,
    pub(super) uploaded: u64,
    pub(super) unasked: u64,
    pub(super) last_received: Instant,
    pub(super) last_sent: Instant,
    control: BytesMut,
    outbox: VecDeque<Bytes>,
    /// Bytes handed to the shell that it has not reported as written.
    unsent: usize,
}

impl Session {
    pub(super) fn new(now: Instant, transport: Transport, handshake: &Handshake) -> Self {
        Self {
            transport,
            named: handshake.infohash,
            fast: handshake.fast(),
            extended: handshake.extended(),
            extensions: Extensions::default(),
            reqq: None,
            metadata: None,
            metadata_progress: now,
            early: Early::Nothing,
            early_haves: Vec::new(),
            am_interested: false,
            am_choking: true,
            peer_choking: true,
            spoke: false,
            has_all: false,
            upload_only: false,
            together_since: None,
            uploads: VecDeque::new(),
            reading: BTreeSet::new(),
            withdrawn: BTreeMap::new(),
            downloaded: 0,
            uploaded: 0,
            unasked: 0,
            last_received: now,
            last_sent: now,
            control: BytesMut::new(),
            outbox: VecDeque::new(),
            unsent: 0,
        }
    }

    /// Whether the peer gave us a block, or took one.
    pub(super) const fn was_useful(&self) -> bool {
        self.downloaded + self.uploaded > 0
    }

    /// Whether neither side has wanted anything of the other for [`REDUNDANT_AFTER`]; `complete` is whether we have all.
    pub(super) fn is_redundant(&mut self, now: Instant, complete: bool) -> bool {
        if !complete || !(self.upload_only || self.has_all) {
            self.together_since = None;
            return false;
        }
        now >= *self.together_since.get_or_insert(now) + REDUNDANT_AFTER
    }

    pub(super) fn send(&mut self, message: &Message) {
        message.encode(&mut self.control);
    }

    /// Withdraws a request.
    pub(super) fn withdraw(&mut self, request: BlockRequest) {
        if self.fast && self.withdrawn.len() < MAX_WITHDRAWN {
            *self.withdrawn.entry(request).or_default() += 1;
        }
        self.send(&Message::Cancel(request));
    }

    /// The answer to a request, a block or a refusal, has come; tells whether the request had been withdrawn.
    pub(super) fn was_withdrawn(&mut self, request: &BlockRequest) -> bool {
        let Some(times) = self.withdrawn.get_mut(request) else { return false };
        *times -= 1;
        if *times == 0 {
            self.withdrawn.remove(request);
        }
        true
    }

    /// Sends a block without copying it.
    pub(super) fn send_block(&mut self, request: &BlockRequest, data: Bytes) {
        self.control.extend_from_slice(&piece_header(request.piece, request.begin, data.len()));
        self.flush_control();
        self.uploaded += data.len() as u64;
        self.outbox.push_back(data);
    }

    fn flush_control(&mut self) {
        if !self.control.is_empty() {
            self.outbox.push_back(self.control.split().freeze());
        }
    }

    /// Takes what is to be written to the peer, in order.
    pub(super) fn take_outbox(&mut self, now: Instant) -> VecDeque<Bytes> {
        self.flush_control();
        let outbox = std::mem::take(&mut self.outbox);
        if !outbox.is_empty() {
            self.last_sent = now;
            self.unsent += outbox.iter().map(Bytes::len).sum::<usize>();
        }
        outbox
    }

    pub(super) fn has_output(&self) -> bool {
        !self.control.is_empty() || !self.outbox.is_empty()
    }

    /// Bytes that wait here because the shell cannot take them.
    pub(super) fn queued(&self) -> usize {
        self.control.len() + self.outbox.iter().map(Bytes::len).sum::<usize>()
    }

    pub(super) const fn on_written(&mut self, bytes: usize) {
        self.unsent = self.unsent.saturating_sub(bytes);
    }

    fn on_their_way(&self) -> usize {
        let reading: usize = self.reading.iter().map(|request| request.len as usize).sum();
        self.unsent + self.queued() + reading
    }

    /// The next block to read for this peer, if it keeps up with what it was sent.
    pub(super) fn next_upload(&mut self, paced: bool) -> Option<BlockRequest> {
        let waits = paced && self.reading.len() >= MAX_PACED_READS;
        if waits || self.uploads.is_empty() || self.on_their_way() >= UPLOAD_WATERMARK {
            return None;
        }
        let request = self.uploads.pop_front()?;
        self.reading.insert(request);
        Some(request)
    }

    /// Whether the peer reads what it is sent; if not, optional answers are not worth queueing.
    pub(super) fn keeps_up(&self) -> bool {
        self.on_their_way() < UPLOAD_WATERMARK
    }

    /// Refuses a request, if the peer knows what that means (BEP 6).
    pub(super) fn refuse(&mut self, request: BlockRequest) {
        if self.fast {
            self.send(&Message::Reject(request));
        }
    }

    pub(super) fn early_have(&mut self, piece: PieceIndex) {
        if self.early_haves.len() < MAX_EARLY_HAVES {
            self.early_haves.push(piece);
        }
    }
}
