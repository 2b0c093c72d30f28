//! Chooses which block to ask of which peer.
//!
//! A piece is in exactly one of: missing, in flight, being verified, verified. Readers pull their pieces
//! forward: first what a reader waits for, in the order they began to wait; then what readers will want next, by
//! deadline; then, of what is wanted though nobody reads it, the rarest.
//!
//! A block goes to the peer that would deliver it soonest: its outstanding bytes by its rate, plus a round trip. While
//! somebody waits, queues at the peers are kept short, so that the next seek does not wait behind them. A block of an
//! urgent piece that is late, or that another peer would deliver much sooner, is asked for once more.
//!
//! Every change that makes work possible ends in [`Picker::schedule`]; nothing polls.

mod blocks;
mod demand;
mod evidence;
mod partial;
mod peer;
mod pipeline;
mod rarity;
mod reader;
mod schedule;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::demand::Want;
use self::evidence::Evidence;
use self::partial::Partial;
use self::peer::{Peer, Standing};
use self::rarity::Rarity;
use self::reader::Reader;
use crate::bitfield::Bitfield;
use crate::geometry::Geometry;
use crate::wire::{BLOCK_LEN, BlockRequest, PieceIndex};

/// A peer of one torrent: an opaque number, never an address. Two peers behind one NAT are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// A reader of one torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderKey(pub u64);

/// A piece wanted within this time is urgent.
const URGENT_HORIZON: Duration = Duration::from_millis(1500);
/// A peer that refused a block is not asked for its piece for this long; asking on at once would never end.
const REFUSAL_REST: Duration = Duration::from_secs(5);
/// Pieces in flight that nobody wants any more but may again, kept for their bytes.
const MAX_ORPHANS: usize = 4;

/// What the picker needs to know of a torrent's owner.
#[derive(Debug, Clone, Copy)]
pub struct PickerLimits {
    /// Bytes that pieces in flight may occupy. One piece is always allowed.
    pub max_partial_bytes: u64,
}

/// What the picker has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PickerAction {
    /// Ask this peer for this block.
    Request(PeerKey, BlockRequest),
    /// Withdraw this request.
    Cancel(PeerKey, BlockRequest),
}

/// What came of a block's arrival.
#[derive(Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// It was wanted.
    Accepted,
    /// It was the last of its piece: verify these bytes, then say [`Picker::on_verified`] or [`Picker::on_corrupt`].
    PieceComplete(Bytes),
    /// It was not needed (any more).
    Unneeded {
        /// Whether it had been asked for, of this peer.
        requested: bool,
    },
}

/// See the module's head.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    limits: PickerLimits,
    have: Bitfield,
    partials: BTreeMap<PieceIndex, Partial>,
    partial_bytes: u64,
    /// Pieces in flight that nobody wants any more, kept for their bytes until the room is needed.
    orphans: BTreeSet<PieceIndex>,
    /// Pieces being verified, and who sent their blocks.
    verifying: BTreeMap<PieceIndex, Vec<PeerKey>>,
    evidence: Evidence,
    peers: BTreeMap<PeerKey, Peer>,
    readers: BTreeMap<ReaderKey, Reader>,
    /// Whether single blocks are of use: then a reader's own block is asked for before the begin of its piece.
    by_block: bool,
    /// What to begin next of the pieces that are wanted though nobody reads them; `None` when there are no such.
    rarity: Option<Rarity>,
    read_ahead: u64,
    wants: Vec<Want>,
    stale: bool,
    /// Requests that peers took with them since the last look.
    lost: Vec<BlockRequest>,
    /// When a late block or a silent peer is to be looked at.
    next_look: Option<Instant>,
    actions: VecDeque<PickerAction>,
    seed: u64,
}

impl Picker {
    /// Makes the picker of a torrent of which `have` is verified already. `seed` breaks ties between equally rare pieces.
    #[must_use]
    pub fn new(geometry: Geometry, have: Bitfield, limits: PickerLimits, seed: u64) -> Self {
        Self {
            geometry,
            limits,
            have,
            partials: BTreeMap::new(),
            partial_bytes: 0,
            orphans: BTreeSet::new(),
            verifying: BTreeMap::new(),
            evidence: Evidence::default(),
            peers: BTreeMap::new(),
            readers: BTreeMap::new(),
            by_block: false,
            rarity: None,
            read_ahead: u64::MAX,
            wants: Vec::new(),
            stale: false,
            lost: Vec::new(),
            next_look: None,
            actions: VecDeque::new(),
            seed,
        }
    }

    /// The torrent's shape.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The verified pieces.
    #[must_use]
    pub const fn have(&self) -> &Bitfield {
        &self.have
    }

    /// Whether a piece is complete and waits for its verdict.
    #[must_use]
    pub fn is_verifying(&self, piece: PieceIndex) -> bool {
        self.verifying.contains_key(&piece)
    }

    /// Bytes that pieces in flight occupy.
    #[must_use]
    pub const fn partial_bytes(&self) -> u64 {
        self.partial_bytes
    }

    /// Bytes a second that a peer delivers, if it was measured.
    #[must_use]
    pub fn rate_of(&self, peer: PeerKey) -> Option<f64> {
        self.peers.get(&peer)?.pipeline.measured_rate()
    }

    /// Requests outstanding at a peer.
    #[must_use]
    pub fn outstanding_at(&self, peer: PeerKey) -> usize {
        self.peers.get(&peer).map_or(0, |peer| peer.outstanding.len())
    }

    // --- readers -----------------------------------------------------------------------------------------------

    /// A reader wants the bytes `range`, in order, the first one now.
    pub fn open_reader(&mut self, now: Instant, key: ReaderKey, range: Range<u64>) {
        let range = range.start..range.end.min(self.geometry.total_len());
        self.readers.insert(key, Reader::new(now, range));
        self.stale = true;
    }

    /// A reader has read up to `position`.
    pub fn advance_reader(&mut self, now: Instant, key: ReaderKey, position: u64) {
        if let Some(reader) = self.readers.get_mut(&key) {
            reader.advance(now, position);
            self.stale = true;
        }
    }

    /// A reader is gone: what only it wanted is no longer wanted.
    pub fn close_reader(&mut self, key: ReaderKey) {
        self.stale |= self.readers.remove(&key).is_some();
    }

    /// How far ahead of each reader to fetch at most, in bytes.
    pub fn limit_read_ahead(&mut self, bytes: u64) {
        self.stale |= self.read_ahead != bytes;
        self.read_ahead = bytes;
    }

    /// Whether the whole torrent is wanted, rarest first, behind what readers want.
    pub fn want_everything(&mut self, everything: bool) {
        self.want_pieces(everything.then(|| Bitfield::all(self.geometry.pieces())));
    }

    /// Which pieces are wanted though no reader asks for them, rarest first, behind what readers want; `None`: none.
    pub fn want_pieces(&mut self, wanted: Option<Bitfield>) {
        if self.rarity.as_ref().map(Rarity::wanted) == wanted.as_ref() {
            return;
        }
        self.stale = true;
        self.rarity = wanted.map(|wanted| Rarity::new(wanted, self.seed));
        let Some(rarity) = &mut self.rarity else { return };
        for peer in self.peers.values_mut() {
            peer.counted = rarity.join(&peer.has);
        }
        (0..self.geometry.pieces()).for_each(|piece| self.reconsider(PieceIndex(piece)));
    }

    // --- peers -------------------------------------------------------------------------------------------------

    /// A peer joined; it has nothing yet and must not be asked.
    pub fn peer_joined(&mut self, now: Instant, key: PeerKey) {
        self.peers.insert(key, Peer::new(now, self.geometry.pieces()));
    }

    /// A peer left: what it was asked for is missing again.
    pub fn peer_left(&mut self, key: PeerKey) {
        self.release_all(key);
        if let Some(peer) = self.peers.remove(&key)
            && let Some(rarity) = &mut self.rarity
        {
            rarity.leave(&peer.has, peer.counted);
        }
    }

    /// Requests the peer is willing to queue (BEP 10 `reqq`).
    pub fn peer_queues(&mut self, key: PeerKey, reqq: u32) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.pipeline.set_max_blocks(reqq);
        }
    }

    /// A peer told all that it has.
    pub fn peer_has_bitfield(&mut self, key: PeerKey, has: Bitfield) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let before = std::mem::replace(&mut peer.has, has);
        peer.exhausted = false;
        if let Some(rarity) = &mut self.rarity {
            rarity.leave(&before, peer.counted);
            peer.counted = rarity.join(&peer.has);
        }
    }

    /// A peer has one piece more, or less (BEP 54).
    pub fn peer_has(&mut self, key: PeerKey, piece: PieceIndex, has: bool) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.has.set(piece, has)
            && let Some(rarity) = &mut self.rarity
        {
            rarity.count(piece, if has { 1 } else { -1 });
            peer.exhausted &= !rarity.is_open(piece);
        }
    }

    /// A peer will answer requests.
    pub fn peer_unchoked(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.may_request = true;
            peer.last_progress = now;
        }
    }

    /// A peer will not answer requests, nor those outstanding.
    pub fn peer_choked(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.may_request = false;
        }
        self.release_all(key);
    }

    // --- blocks ------------------------------------------------------------------------------------------------

    /// A block arrived.
    pub fn on_block(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, begin: u32, data: &[u8]) -> BlockOutcome {
        let request = BlockRequest { piece, begin, len: u32::try_from(data.len()).unwrap_or(u32::MAX) };
        let target = self.queue_target(now);
        let mut requested = false;
        if let Some(peer) = self.peers.get_mut(&key)
            && let Some(outstanding) = peer.outstanding.remove(&request)
        {
            peer.pipeline.on_block(now, request.len, outstanding.sent, outstanding.expected, target);
            peer.last_progress = now;
            peer.standing = Standing::Prompt;
            requested = true;
        }
        let block = begin / BLOCK_LEN;
        if !self.geometry.contains(&request) || self.geometry.block(piece, block) != request {
            return BlockOutcome::Unneeded { requested };
        }
        let Some(partial) = self.partials.get_mut(&piece) else { return BlockOutcome::Unneeded { requested } };
        let Some(others) = partial.receive(block as usize, key, data) else {
            return BlockOutcome::Unneeded { requested };
        };
        let complete = partial.is_complete();
        others.into_iter().flatten().for_each(|other| self.cancel(other, request));
        if !complete {
            return BlockOutcome::Accepted;
        }
        let (bytes, senders) = self.partials.remove(&piece).expect("it was there three lines up").finish();
        // Its bytes stay counted until the verdict: they are still in memory.
        self.verifying.insert(piece, senders);
        BlockOutcome::PieceComplete(bytes)
    }

    /// A block arrived that was on its way when its request was withdrawn: it kept back what is still wanted.
    pub fn on_withdrawn_block(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.last_progress = now;
            peer.pipeline.on_unneeded(now);
        }
    }

    /// A peer will not deliver what it was asked for (BEP 6); it is not asked for that piece again for a while.
    pub fn on_reject(&mut self, now: Instant, key: PeerKey, request: BlockRequest) {
        if self.forget(key, request)
            && let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.may_request)
        {
            peer.resting.insert(request.piece, now + REFUSAL_REST);
        }
    }

    /// A complete piece passed its hash and is stored. Returns peers now proven to have sent wrong bytes for it earlier.
    pub fn on_verified(&mut self, piece: PieceIndex, bytes: Option<&[u8]>) -> Vec<PeerKey> {
        let senders = self.verifying.remove(&piece);
        if senders.is_some() {
            self.partial_bytes -= u64::from(self.geometry.len_of(piece));
        }
        if let Some(partial) = self.drop_partial(piece) {
            drop(partial);
        }
        self.have.set(piece, true);
        self.reconsider(piece);
        self.stale = true;
        bytes.map_or_else(Vec::new, |bytes| self.evidence.acquit(piece, bytes))
    }

    /// A complete piece failed its hash. Returns the peers proven guilty: the sender, when there was only one.
    pub fn on_corrupt(&mut self, piece: PieceIndex, bytes: &[u8]) -> Vec<PeerKey> {
        let Some(senders) = self.verifying.remove(&piece) else { return Vec::new() };
        self.partial_bytes -= u64::from(self.geometry.len_of(piece));
        self.reconsider(piece);
        self.stale = true;
        self.evidence.convict(piece, bytes, &senders)
    }

    /// A complete piece could not be stored: it is missing again, and nobody is to blame.
    pub fn on_not_stored(&mut self, piece: PieceIndex) {
        if self.verifying.remove(&piece).is_some() {
            self.partial_bytes -= u64::from(self.geometry.len_of(piece));
            self.reconsider(piece);
            self.stale = true;
        }
    }

    /// A verified piece was evicted from the store. Tells whether it was had.
    pub fn on_evicted(&mut self, piece: PieceIndex) -> bool {
        let was_had = self.have.set(piece, false);
        self.reconsider(piece);
        self.stale |= was_had;
        was_had
    }

    // --- decisions ---------------------------------------------------------------------------------------------

    /// The next thing to tell a peer.
    pub fn poll_action(&mut self) -> Option<PickerAction> {
        self.actions.pop_front()
    }

    /// When [`Self::schedule`] must run again though nothing happened, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.next_look.map(|at| (at, "late blocks"))
    }

    // --- bookkeeping -------------------------------------------------------------------------------------------

    /// After a piece came, went, was begun or was given up: whether it could be begun.
    fn reconsider(&mut self, piece: PieceIndex) {
        let Some(rarity) = &mut self.rarity else { return };
        let here = self.have.get(piece) || self.verifying.contains_key(&piece);
        let open = !here && !self.partials.contains_key(&piece) && rarity.wanted().get(piece);
        if rarity.set_open(piece, open) && open {
            self.peers.values_mut().filter(|peer| peer.has.get(piece)).for_each(|peer| peer.exhausted = false);
        }
    }

    /// Tells a peer that it need not deliver, and forgets that it was asked.
    fn cancel(&mut self, key: PeerKey, request: BlockRequest) {
        if self.forget(key, request) {
            self.actions.push_back(PickerAction::Cancel(key, request));
        }
    }

    /// Forgets that a peer was asked; tells whether it was.
    fn forget(&mut self, key: PeerKey, request: BlockRequest) -> bool {
        let Some(peer) = self.peers.get_mut(&key) else { return false };
        if peer.outstanding.remove(&request).is_none() {
            return false;
        }
        peer.pipeline.on_withdrawn(request.len);
        if let Some(partial) = self.partials.get_mut(&request.piece) {
            partial.release((request.begin / BLOCK_LEN) as usize, key);
        }
        true
    }

    fn release_all(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(&key) else { return };
        let requests: Vec<_> = peer.outstanding.keys().copied().collect();
        self.lost.extend(&requests);
        requests.into_iter().for_each(|request| {
            self.forget(key, request);
        });
    }

    fn drop_partial(&mut self, piece: PieceIndex) -> Option<Partial> {
        let partial = self.partials.remove(&piece)?;
        self.partial_bytes -= partial.len() as u64;
        self.reconsider(piece);
        self.cancel_piece(piece, &partial);
        Some(partial)
    }

    fn cancel_piece(&mut self, piece: PieceIndex, partial: &Partial) {
        let requests: Vec<_> = partial.outstanding(piece, &self.geometry).collect();
        requests.into_iter().for_each(|(owner, request)| self.cancel(owner, request));
    }

    /// Makes room in the budget for one more piece; tells whether there is.
    fn make_space(&mut self, piece: PieceIndex, urgent: bool) -> bool {
        let len = u64::from(self.geometry.len_of(piece));
        // Read-ahead leaves a quarter for whoever seeks next.
        let limit = if urgent { self.limits.max_partial_bytes } else { self.limits.max_partial_bytes / 4 * 3 };
        while self.partial_bytes > 0 && self.partial_bytes + len > limit {
            match self.orphans.pop_first() {
                Some(orphan) => drop(self.drop_partial(orphan)),
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
