//! Chooses which block to ask of which peer.
//!
//! A piece is in exactly one of: missing, in flight, being verified, verified. Readers pull their pieces
//! forward: first what a reader waits for, in the order they began to wait; then what readers will want next, by
//! deadline; then, if the whole torrent is wanted, the rarest.
//!
//! A block goes to the peer that would deliver it soonest: its outstanding bytes by its rate, plus a round trip. While
//! somebody waits, queues at the peers are kept short, so that the next seek does not wait behind them. A block of an
//! urgent piece that is late, or that another peer would deliver much sooner, is asked for once more.
//!
//! Every change that makes work possible ends in [`Picker::schedule`]; nothing polls.

mod demand;
mod evidence;
mod partial;
mod pipeline;
mod rarity;
mod reader;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::demand::Want;
use self::evidence::Evidence;
use self::partial::{Block, Partial};
use self::pipeline::Pipeline;
use self::rarity::{Counted, Rarity};
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

/// How long the queue at a peer may be while nobody waits.
const QUEUE_TARGET: Duration = Duration::from_millis(1000);
/// How long the queue at a peer may be while a reader waits for a piece, or has nothing in hand.
const URGENT_QUEUE_TARGET: Duration = Duration::from_millis(300);
/// A piece wanted within this time is urgent.
const URGENT_HORIZON: Duration = Duration::from_millis(1500);
/// A second peer must beat the first by this much before a block that is not late is asked for twice.
const STEAL_MARGIN: Duration = Duration::from_millis(150);
/// A peer with requests outstanding that delivers nothing for this long is silent, if its rate promised a block by then.
const SILENCE: Duration = Duration::from_secs(2);
/// The same for a peer that has never delivered.
const FIRST_SILENCE: Duration = Duration::from_secs(5);
/// What a silent peer still owes is given up after this long; then it gets one request at a time to prove itself.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);
/// A block that a reader waits for counts as late after this at the latest, however erratic its sender is.
const WAITING_SLACK: Duration = Duration::from_millis(400);
/// A peer that refused a block is not asked for its piece for this long; asking on at once would never end.
const REFUSAL_REST: Duration = Duration::from_secs(5);
/// Rare pieces looked at for one that a peer with room has. When it has none of these, any that it has will do: else the
/// peers that have no rare pieces would stand idle until the rare ones have come.
const MAX_RAREST: usize = 256;
/// Times that a peer which lets some pieces rest is tried for another.
const MAX_TRIES: usize = 4;
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

#[derive(Debug)]
struct Outstanding {
    sent: Instant,
    expected: Instant,
}

/// What a peer has, and what it was asked for.
#[derive(Debug)]
struct Peer {
    has: Bitfield,
    /// How [`Rarity`] counts what it has.
    counted: Counted,
    /// Nothing that could be begun is at it. Only kept while everything is wanted.
    exhausted: bool,
    may_request: bool,
    silent: bool,
    pipeline: Pipeline,
    outstanding: BTreeMap<BlockRequest, Outstanding>,
    last_progress: Instant,
    /// Pieces it refused to send, and until when it is not asked for them again.
    resting: BTreeMap<PieceIndex, Instant>,
}

impl Peer {
    fn offers(&self, piece: PieceIndex) -> bool {
        self.has.get(piece) && !self.resting.contains_key(&piece)
    }

    fn rest_ends(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// When its silence will have lasted too long; `None` while it owes nothing.
    fn patience_ends(&self) -> Option<Instant> {
        if self.outstanding.is_empty() {
            return None;
        }
        if self.silent {
            let oldest = self.outstanding.values().map(|outstanding| outstanding.sent).min()?;
            return Some((oldest + PROBE_PATIENCE).max(self.last_progress + SILENCE));
        }
        let patience = self.pipeline.measured_rate().map_or(FIRST_SILENCE, |rate| {
            let three_blocks = 3.0 * f64::from(BLOCK_LEN) / rate.max(1.0);
            SILENCE.max(Duration::from_secs_f64(three_blocks.min(60.0)))
        });
        Some(self.last_progress + patience)
    }
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
    /// What to begin next, when everything is wanted.
    rarity: Option<Rarity>,
    read_ahead: u64,
    wants: Vec<Want>,
    stale: bool,
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
            rarity: None,
            read_ahead: u64::MAX,
            wants: Vec::new(),
            stale: false,
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
        if self.rarity.is_some() == everything {
            return;
        }
        self.stale = true;
        self.rarity = everything.then(|| Rarity::new(self.geometry.pieces(), self.seed));
        let Some(rarity) = &mut self.rarity else { return };
        for peer in self.peers.values_mut() {
            peer.counted = rarity.join(&peer.has);
        }
        (0..self.geometry.pieces()).for_each(|piece| self.reconsider(PieceIndex(piece)));
    }

    // --- peers -------------------------------------------------------------------------------------------------

    /// A peer joined; it has nothing yet and must not be asked.
    pub fn peer_joined(&mut self, now: Instant, key: PeerKey) {
        let peer = Peer {
            has: Bitfield::none(self.geometry.pieces()),
            counted: Counted::ByPiece,
            exhausted: true,
            may_request: false,
            silent: false,
            pipeline: Pipeline::new(),
            outstanding: BTreeMap::new(),
            last_progress: now,
            resting: BTreeMap::new(),
        };
        self.peers.insert(key, peer);
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
            peer.silent = false;
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

    /// Hands out work wherever there is work and room.
    pub fn schedule(&mut self, now: Instant) {
        if self.stale {
            self.stale = false;
            self.rebuild_wants(now);
        }
        self.next_look = None;
        self.peers.values_mut().for_each(|peer| peer.resting.retain(|_, until| now < *until));
        self.mind_silent_peers(now);
        let target = self.queue_target(now);
        let mut room: BTreeMap<PeerKey, u32> = BTreeMap::new();
        for (key, peer) in &self.peers {
            let free = if peer.silent { u32::from(peer.outstanding.is_empty()) } else { peer.pipeline.room(target) };
            if peer.may_request && free > 0 {
                room.insert(*key, free);
            }
        }
        let wants = std::mem::take(&mut self.wants);
        for want in &wants {
            if self.have.get(want.piece) || self.verifying.contains_key(&want.piece) {
                continue;
            }
            if room.is_empty() && !want.urgent(now) {
                break;
            }
            self.serve(now, want, &mut room);
        }
        self.wants = wants;
        if self.rarity.is_some() && !room.is_empty() {
            self.serve_everything(now, &mut room);
        }
        let patience =
            self.peers.values().filter_map(Peer::patience_ends).chain(self.peers.values().filter_map(Peer::rest_ends));
        if let Some(at) = patience.min() {
            self.look_at(at);
        }
    }

    /// Asks for what is missing of one wanted piece, and again for what is late of an urgent one.
    fn serve(&mut self, now: Instant, want: &Want, room: &mut BTreeMap<PeerKey, u32>) {
        let piece = want.piece;
        if !self.partials.contains_key(&piece) {
            if room.is_empty() || !self.somebody_has(piece, room) || !self.make_space(piece, want.urgent(now)) {
                return;
            }
            let partial = Partial::new(self.geometry.len_of(piece));
            self.partial_bytes += partial.len() as u64;
            self.partials.insert(piece, partial);
            self.reconsider(piece);
        }
        let disputed = self.evidence.is_open(piece);
        let mut from = 0;
        while let Some(block) = self.partials.get(&piece).and_then(|partial| partial.next_missing(from)) {
            let [Some(peer), _] = self.senders(piece, room) else { break };
            if !disputed && self.better_wait(now, want, peer) {
                break;
            }
            self.ask(now, peer, piece, block, room);
            from = block + 1;
        }
        if want.urgent(now) {
            self.ask_again(now, want, room);
        }
    }

    /// Whom to ask for the next block of a piece, of those with room: the best, and the one to ask if that is not to be.
    fn senders(&mut self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> [Option<PeerKey>; 2] {
        if self.evidence.is_open(piece) { [self.sole_sender(piece, room), None] } else { self.soonest(piece, room) }
    }

    /// Whom to ask for a piece that failed: one peer and, while it delivers, no other. `None` while that one has no room.
    fn sole_sender(&mut self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> Option<PeerKey> {
        let able = |peer: &Peer| peer.may_request && !peer.silent && peer.offers(piece);
        let partial = self.partials.get_mut(&piece)?;
        let chosen = partial.sole.filter(|key| self.peers.get(key).is_some_and(able));
        let soonest = || {
            let able = self.peers.iter().filter(|(_, peer)| able(peer));
            able.min_by_key(|(key, peer)| (peer.pipeline.completion(), **key)).map(|(key, _)| *key)
        };
        partial.sole = chosen.or_else(soonest);
        partial.sole.filter(|key| room.contains_key(key))
    }

    fn somebody_has(&self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> bool {
        room.keys().any(|key| self.peers.get(key).is_some_and(|peer| peer.offers(piece)))
    }

    /// The two peers with room that would deliver a block of `piece` soonest.
    fn soonest(&self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> [Option<PeerKey>; 2] {
        let able = room.keys().filter_map(|key| {
            let peer = self.peers.get(key)?;
            peer.offers(piece).then(|| (peer.silent, peer.pipeline.completion(), *key))
        });
        let (mut first, mut second) = (None, None);
        for sender in able {
            if first.is_none_or(|first| sender < first) {
                second = first.replace(sender);
            } else if second.is_none_or(|second| sender < second) {
                second = Some(sender);
            }
        }
        [first, second].map(|sender| sender.map(|(_, _, key)| key))
    }

    /// Whether an urgent block is better kept for a faster peer that has no room just now.
    fn better_wait(&self, now: Instant, want: &Want, candidate: PeerKey) -> bool {
        let Some(candidate) = self.peers.get(&candidate) else { return true };
        let completion = candidate.pipeline.completion();
        if !want.wanted_by(now + completion) {
            return false;
        }
        let able = self.peers.values().filter(|peer| peer.may_request && !peer.silent && peer.offers(want.piece));
        let best = able.map(|peer| peer.pipeline.completion()).min();
        candidate.silent && best.is_some() || best.is_some_and(|best| completion > 2 * best + STEAL_MARGIN)
    }

    fn ask(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, block: usize, room: &mut BTreeMap<PeerKey, u32>) {
        let request = self.geometry.block(piece, u32::try_from(block).expect("blocks of a piece are counted in u32"));
        let peer = self.peers.get_mut(&key).expect("only peers in `room` are asked, and they are all known");
        let expected = now + peer.pipeline.completion();
        if peer.outstanding.is_empty() {
            peer.last_progress = now;
        }
        peer.pipeline.on_request(now, request.len);
        peer.outstanding.insert(request, Outstanding { sent: now, expected });
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.request(block, key);
        }
        self.actions.push_back(PickerAction::Request(key, request));
        if let Some(free) = room.get_mut(&key) {
            *free -= 1;
            if *free == 0 {
                room.remove(&key);
            }
        }
    }

    /// Asks a second peer for those blocks of an urgent piece that are late or that it would deliver much sooner.
    fn ask_again(&mut self, now: Instant, want: &Want, room: &mut BTreeMap<PeerKey, u32>) {
        let piece = want.piece;
        // Nobody to ask a second time.
        if self.peers.len() < 2 {
            return;
        }
        let Some(partial) = self.partials.get(&piece) else { return };
        let asked_once = |(block, state): (usize, &Block)| match state {
            Block::Requested([Some(owner), None] | [None, Some(owner)]) => Some((block, *owner)),
            Block::Requested(_) | Block::Missing | Block::Received(_) => None,
        };
        let candidates: Vec<_> = partial.blocks().iter().enumerate().filter_map(asked_once).collect();
        // Worked out once for all blocks, and anew when somebody was asked.
        let mut senders = None;
        for (block, owner) in candidates {
            let Some(peer) = self.peers.get(&owner) else { continue };
            let request =
                self.geometry.block(piece, u32::try_from(block).expect("blocks of a piece are counted in u32"));
            let Some(outstanding) = peer.outstanding.get(&request) else { continue };
            let slack = peer.pipeline.slack();
            let late_at = outstanding.expected + if want.is_awaited() { slack.min(WAITING_SLACK) } else { slack };
            let remaining = outstanding.expected.saturating_duration_since(now);
            if now < late_at && remaining <= STEAL_MARGIN {
                self.look_at(late_at);
                continue;
            }
            let senders_now = *senders.get_or_insert_with(|| self.senders(piece, room));
            let mut second = senders_now.into_iter().flatten().find(|key| *key != owner);
            if second.is_none() && now >= late_at && want.is_awaited() {
                second = self.displace(piece, owner, room);
            }
            let Some(second) = second else { continue };
            let completion = self.peers.get(&second).map_or(Duration::MAX, |peer| peer.pipeline.completion());
            let much_sooner = remaining > completion.saturating_mul(2) + STEAL_MARGIN;
            if now >= late_at || much_sooner {
                self.ask(now, second, piece, block, room);
                senders = None;
            } else {
                self.look_at(late_at);
            }
        }
    }

    /// Goes on with what was begun, then begins the rarest.
    fn serve_everything(&mut self, now: Instant, room: &mut BTreeMap<PeerKey, u32>) {
        let unasked = self.partials.iter().filter(|(_, partial)| partial.next_missing(0).is_some());
        for piece in unasked.map(|(piece, _)| *piece).collect::<Vec<_>>() {
            if room.is_empty() {
                return;
            }
            self.serve(now, &Want::whenever(piece), room);
        }
        room.retain(|key, _| self.peers.get(key).is_some_and(|peer| !peer.exhausted));
        // Any piece but the last is as long as the first.
        while !room.is_empty() && self.make_space(PieceIndex(0), false) {
            let Some(piece) = self.rarest_for(room) else { return };
            self.serve(now, &Want::whenever(piece), room);
            if !self.partials.contains_key(&piece) {
                return;
            }
        }
    }

    /// The piece to begin for peers that have room: of the rarest, if one of them has one, else any. Peers that have
    /// nothing to offer lose their room.
    fn rarest_for(&mut self, room: &mut BTreeMap<PeerKey, u32>) -> Option<PieceIndex> {
        let rarity = self.rarity.as_mut()?;
        let offers = |piece| room.keys().any(|key| self.peers.get(key).is_some_and(|peer| peer.offers(piece)));
        if let Some(piece) = rarity.rarest().take(MAX_RAREST).find(|piece| offers(*piece)) {
            return Some(piece);
        }
        while let Some(entry) = room.first_entry() {
            let peer = self.peers.get_mut(entry.key())?;
            for _ in 0..MAX_TRIES {
                match rarity.any_of(&peer.has) {
                    Some(piece) if peer.offers(piece) => return Some(piece),
                    Some(_) => {}
                    None => {
                        peer.exhausted = true;
                        break;
                    }
                }
            }
            entry.remove();
        }
        None
    }

    /// After a piece came, went, was begun or was given up: whether it could be begun.
    fn reconsider(&mut self, piece: PieceIndex) {
        let Some(rarity) = &mut self.rarity else { return };
        let here = self.have.get(piece) || self.verifying.contains_key(&piece);
        let open = !here && !self.partials.contains_key(&piece);
        if rarity.set_open(piece, open) && open {
            self.peers.values_mut().filter(|peer| peer.has.get(piece)).for_each(|peer| peer.exhausted = false);
        }
    }

    /// Makes room at the peer that would deliver a late block soonest, by withdrawing from it what was asked of it last for
    /// later pieces; tells which peer that is.
    fn displace(&mut self, piece: PieceIndex, owner: PeerKey, room: &mut BTreeMap<PeerKey, u32>) -> Option<PeerKey> {
        let able = |(key, peer): &(&PeerKey, &Peer)| {
            **key != owner && peer.may_request && !peer.silent && peer.offers(piece) && !self.evidence.is_open(piece)
        };
        let soonest = self.peers.iter().filter(able).min_by_key(|(key, peer)| (peer.pipeline.completion(), **key))?;
        let (key, later) = (*soonest.0, soonest.1.outstanding.iter().filter(|(request, _)| request.piece > piece));
        let (request, _) = later.max_by_key(|(request, asked)| (asked.sent, **request))?;
        let request = *request;
        self.cancel(key, request);
        room.insert(key, 1);
        Some(key)
    }

    /// How long a queue at a peer may be now.
    fn queue_target(&self, now: Instant) -> Duration {
        let waiting = self.readers.values().any(|reader| reader.lives_from_hand_to_mouth(now));
        if waiting { URGENT_QUEUE_TARGET } else { QUEUE_TARGET }
    }

    fn look_at(&mut self, at: Instant) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }

    /// Takes from silent peers what they were asked for: first all but the oldest request, which may yet be answered,
    /// and in the end that one too.
    fn mind_silent_peers(&mut self, now: Instant) {
        let due: Vec<_> = self.peers.iter().filter_map(|(key, peer)| Some((*key, peer.patience_ends()?))).collect();
        for (key, until) in due {
            let Some(peer) = self.peers.get_mut(&key).filter(|_| now >= until) else { continue };
            let keep = usize::from(!peer.silent);
            peer.silent = true;
            peer.pipeline.on_silence();
            let mut requests: Vec<_> = peer.outstanding.iter().map(|(request, at)| (at.sent, *request)).collect();
            requests.sort_unstable();
            for (_, request) in requests.into_iter().skip(keep) {
                self.cancel(key, request);
            }
        }
    }

    // --- bookkeeping -------------------------------------------------------------------------------------------

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
