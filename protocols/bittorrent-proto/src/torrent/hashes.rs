//! Hashes of v2 torrents on the wire (BEP 52): the roots of pieces that the metadata lacks, the leaves of pieces that
//! somebody reads, and what others ask of us.
//!
//! Every answer proves itself up to a file's root, so it is taken from anybody and blamed on whoever sent it. With its
//! leaves known, a block can be read before its piece is whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_content::merkle::{LEAF_BYTES, Root};

use super::{DropReason, Torrent, TorrentEvent};
use crate::merkle::{HashRequest, MAX_ASKED, Tree, height};
use crate::metainfo::{FileTree, TreeFile};
use crate::picker::PeerKey;
use crate::wire::{BLOCK_LEN, Message, PieceIndex};

/// Requests outstanding at all peers together: of 16 KiB each, a quarter of a megabyte.
const MAX_OUTSTANDING: usize = 16;
/// A request that is not answered for this long is asked of another peer.
const PATIENCE: Duration = Duration::from_secs(3);
/// A peer that refused, or was too slow, is not asked for the same again for this long.
const REST: Duration = Duration::from_secs(20);
/// Refusals remembered.
const MAX_REFUSALS: usize = 256;
/// Pieces whose leaves are kept: as many as readers may be at. 512 leaves of a piece are 16 KiB.
const MAX_WATCHED: usize = 64;
/// How far ahead of a reader leaves are asked for, in bytes: two steps of its position as we hear of it.
const LEAVES_AHEAD: u64 = 2 << 20;
/// Pieces that are read and hashed for one peer at a time.
const MAX_READS_A_PEER: usize = 2;
/// Bytes of pieces that are hashed for one peer between two looks of the choker, that is in ten seconds: a request of 50
/// bytes may cost a whole piece. A piece that is longer is hashed when it is the first.
const MAX_HASHED_A_PEER: u64 = 64 << 20;
/// Files whose upper trees are kept to answer from.
const MAX_UPPER_TREES: usize = 256;

/// A block that can be read before its piece is whole.
#[derive(Debug, Clone)]
pub struct ReceivedBlock {
    /// Where it begins in the torrent, in bytes.
    pub start: u64,
    /// The SHA2-256 that its bytes must have.
    pub leaf: Root,
    /// What some peer sent.
    pub bytes: Bytes,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    tree: Option<Arc<FileTree>>,
    roots: Option<Bytes>,
    seeking: Option<Seeking>,
    /// Runs of leaves by piece and place in it; `None` where they are wanted.
    watched: BTreeMap<PieceIndex, BTreeMap<u32, Option<Vec<Root>>>>,
    asked: BTreeMap<HashRequest, (PeerKey, Instant)>,
    refused: VecDeque<(PeerKey, HashRequest, Instant)>,
    upper: BTreeMap<u32, Tree>,
    reading: BTreeMap<PeerKey, BTreeSet<HashRequest>>,
    /// Bytes that were hashed for each peer since the choker's last look.
    hashed: BTreeMap<PeerKey, u64>,
}

/// The roots of pieces, as far as they have come.
#[derive(Debug)]
struct Seeking {
    layers: BTreeMap<Root, Vec<u8>>,
    missing: BTreeSet<HashRequest>,
}

impl Hashes {
    /// The run of leaves that holds leaf `leaf` of `piece`, its place among the piece's runs and how to ask for it; `None`
    /// where a piece is one leaf.
    fn run_of(&self, piece: PieceIndex, leaf: u32) -> Option<(u32, HashRequest)> {
        let tree = self.tree.as_deref()?;
        let file = tree.file_of(piece.0)?;
        let height = height(file.len);
        let in_piece = 1 << tree.piece_layer().min(height);
        let length = MAX_ASKED.min(in_piece);
        let (run, first) = (leaf / length, (piece.0 - file.first_piece) << tree.piece_layer());
        let request = HashRequest::proven(file.root, height, 0, first + run * length, length);
        (in_piece > 1 && leaf < in_piece).then_some((run, request))
    }

    /// Wants the leaves around one leaf of a piece.
    fn watch(&mut self, piece: PieceIndex, leaf: u32) {
        let Some((run, _)) = self.run_of(piece, leaf) else { return };
        if self.watched.len() == MAX_WATCHED && !self.watched.contains_key(&piece) {
            self.watched.pop_first();
        }
        self.watched.entry(piece).or_default().entry(run).or_default();
    }

    fn leaf(&self, piece: PieceIndex, leaf: u32) -> Option<Root> {
        let (run, request) = self.run_of(piece, leaf)?;
        let leaves = self.watched.get(&piece)?.get(&run)?.as_ref()?;
        leaves.get((leaf % request.length) as usize).copied()
    }

    /// What is wanted and not asked for, the leaves first: somebody waits for those.
    fn wanted(&self) -> Vec<(HashRequest, Option<PieceIndex>)> {
        let leaves = self.watched.iter().flat_map(|(piece, runs)| {
            let missing = runs.iter().filter(|(_, leaves)| leaves.is_none());
            missing.filter_map(|(run, _)| Some((self.run_of(*piece, run * MAX_ASKED)?.1, Some(*piece))))
        });
        let roots = self.seeking.iter().flat_map(|seeking| seeking.missing.iter().map(|request| (*request, None)));
        let free = leaves.chain(roots).filter(|(request, _)| !self.asked.contains_key(request));
        free.take(MAX_OUTSTANDING.saturating_sub(self.asked.len())).collect()
    }

    fn has_refused(&self, key: PeerKey, request: &HashRequest) -> bool {
        self.refused.iter().any(|(peer, refused, _)| *peer == key && refused == request)
    }

    fn refuse(&mut self, now: Instant, key: PeerKey, request: HashRequest) {
        if self.refused.len() == MAX_REFUSALS {
            self.refused.pop_front();
        }
        self.refused.push_back((key, request, now + REST));
    }

    /// Gives up what has waited too long, and forgives what is long past.
    fn expire(&mut self, now: Instant) {
        let late = self.asked.iter().filter(|(_, (_, at))| now >= *at + PATIENCE);
        let late: Vec<_> = late.map(|(request, (peer, _))| (*request, *peer)).collect();
        for (request, peer) in late {
            self.asked.remove(&request);
            self.refuse(now, peer, request);
        }
        while self.refused.front().is_some_and(|(_, _, until)| *until <= now) {
            self.refused.pop_front();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let late = self.asked.values().map(|(_, at)| *at + PATIENCE).min();
        let wants = self.seeking.is_some() || self.watched.values().flatten().any(|(_, leaves)| leaves.is_none());
        let forgiven = self.refused.front().filter(|_| wants).map(|(_, _, until)| *until);
        late.into_iter().chain(forgiven).min()
    }

    pub(super) fn on_gone(&mut self, key: PeerKey) {
        self.asked.retain(|_, (peer, _)| *peer != key);
        self.reading.remove(&key);
        self.hashed.remove(&key);
    }

    /// The choker has looked: peers may have pieces hashed again.
    pub(super) fn on_tick(&mut self) {
        self.hashed.clear();
    }

    /// Notes that a piece is to be hashed for a peer, unless it has had its share.
    fn may_read(&mut self, key: PeerKey, piece: PieceIndex, request: HashRequest) -> bool {
        let cost = self.tree.as_ref().map_or(0, |tree| u64::from(tree.len_of(piece.0)));
        let spent = self.hashed.entry(key).or_default();
        let reading = self.reading.entry(key).or_default();
        let affordable = *spent == 0 || *spent + cost <= MAX_HASHED_A_PEER;
        let may = affordable && reading.len() < MAX_READS_A_PEER && reading.insert(request);
        *spent += if may { cost } else { 0 };
        may
    }

    /// Takes a true answer in. Gives the roots of all pieces when they are all here.
    fn take(&mut self, request: &HashRequest, run: &[Root]) -> Option<Bytes> {
        if request.base == 0 {
            let pieces: Vec<_> = self.watched.keys().copied().collect();
            for piece in pieces {
                let runs: Vec<_> = self.watched.get(&piece).into_iter().flat_map(BTreeMap::keys).copied().collect();
                for place in runs {
                    if self.run_of(piece, place * MAX_ASKED).is_some_and(|(_, wanted)| wanted == *request) {
                        self.watched.entry(piece).or_default().insert(place, Some(run.to_vec()));
                    }
                }
            }
        }
        let seeking = self.seeking.as_mut()?;
        if !seeking.missing.remove(request) {
            return None;
        }
        if let Some(layer) = seeking.layers.get_mut(&request.root) {
            let at = request.index as usize * 32;
            // The last run may go past the file's end, into padding.
            let room = layer.len().saturating_sub(at).min(run.len() * 32);
            layer[at..at + room].copy_from_slice(&run.as_flattened()[..room]);
        }
        if !seeking.missing.is_empty() {
            return None;
        }
        let layers = std::mem::take(&mut seeking.layers).into_iter().map(|(root, layer)| (root, layer.into()));
        let layers: BTreeMap<Root, Bytes> = layers.collect();
        self.seeking = None;
        self.tree.as_ref()?.roots(&layers)
    }

    /// The upper part of a file's tree.
    fn upper(&mut self, file: &TreeFile) -> Option<&Tree> {
        let (tree, roots) = (self.tree.as_ref()?, self.roots.as_ref()?);
        if !self.upper.contains_key(&file.first_piece) {
            if self.upper.len() == MAX_UPPER_TREES {
                self.upper.pop_first();
            }
            self.upper.insert(file.first_piece, tree.upper(file, tree.part(file, roots))?);
        }
        self.upper.get(&file.first_piece)
    }

    /// The answer to a request below the layer of pieces, given the leaves of the piece that it lies in.
    fn answer_from(&mut self, request: &HashRequest, leaves: Vec<Root>) -> Option<Vec<Root>> {
        let tree = self.tree.clone()?;
        let file = *tree.file(&request.root)?;
        let height = height(file.len);
        let lower = Tree::new(0, tree.piece_layer().min(height), leaves)?;
        let in_piece = 1_u32 << (tree.piece_layer().min(height) - request.base);
        let (piece, local) = (request.index / in_piece, request.index % in_piece);
        let mut hashes = lower.answer(&HashRequest { index: local, ..*request })?;
        let missing = request.length as usize + request.uncles() as usize - hashes.len();
        if missing > 0 && height > tree.piece_layer() {
            let count = u32::try_from(missing).ok()?;
            hashes.extend(self.upper(&file)?.uncles(tree.piece_layer(), piece, count));
        }
        Some(hashes)
    }
}

impl Torrent {
    /// Tells the torrent its files' Merkle trees and, where they are known, the roots of all pieces, 32 bytes each. From now
    /// on blocks can be read one by one. Say it before [`Self::set_info`].
    pub fn set_tree(&mut self, id: swarmgate_content::TorrentId, tree: Arc<FileTree>, roots: Option<Bytes>) {
        self.id = id;
        self.hashes.tree = Some(tree);
        self.hashes.roots = roots;
    }

    /// The metadata is known and lacks the roots of pieces: asks peers for them. [`TorrentEvent::Roots`] tells when they
    /// are here.
    pub fn seek_roots(&mut self, now: Instant) {
        let Some(tree) = self.hashes.tree.clone().filter(|_| self.hashes.seeking.is_none()) else { return };
        let mut seeking = Seeking { layers: BTreeMap::new(), missing: BTreeSet::new() };
        for file in tree.layered() {
            let (pieces, height) = (tree.pieces_of(file), height(file.len));
            let length = MAX_ASKED.min(pieces.next_power_of_two());
            seeking.layers.insert(file.root, vec![0; pieces as usize * 32]);
            let runs = (0..pieces).step_by(length as usize);
            let request = |index| HashRequest::proven(file.root, height, tree.piece_layer(), index, length);
            seeking.missing.extend(runs.map(request));
        }
        self.hashes.seeking = Some(seeking);
        self.settle(now);
    }

    /// Whether the metadata is known, though [`Self::set_info`] was not said.
    pub(super) const fn seeks_roots(&self) -> bool {
        self.hashes.seeking.is_some()
    }

    /// Whether single blocks can be read.
    #[must_use]
    pub const fn reads_blocks(&self) -> bool {
        self.hashes.tree.is_some() && self.known.is_some()
    }

    /// The block at `position`, when it is here, its piece is not whole, and its hash is known.
    #[must_use]
    pub fn received_block(&self, position: u64) -> Option<ReceivedBlock> {
        let picker = &self.known.as_ref()?.picker;
        let (piece, block) = self.block_at(position)?;
        let leaf = self.hashes.leaf(piece, block)?;
        let bytes = picker.received_block(piece, block)?;
        // In a hybrid torrent what follows the file's end is padding, which is under no leaf.
        let in_file = self.hashes.tree.as_ref()?.len_of(piece.0).checked_sub(block * BLOCK_LEN)? as usize;
        let bytes = Bytes::copy_from_slice(&bytes[..bytes.len().min(in_file)]);
        let start = picker.geometry().start_of(piece) + u64::from(block) * u64::from(BLOCK_LEN);
        (position < start + bytes.len() as u64).then_some(ReceivedBlock { start, leaf, bytes })
    }

    /// The block at `position` is not what its hash says: it is asked for again, and its sender is convicted.
    pub fn block_wrong(&mut self, now: Instant, position: u64) {
        let Some((piece, block)) = self.block_at(position) else { return };
        let sender = self.known.as_mut().and_then(|known| known.picker.on_wrong_block(piece, block));
        if let Some(sender) = sender {
            self.totals.wasted += u64::from(BLOCK_LEN);
            self.convict(sender);
        }
        self.settle(now);
    }

    fn block_at(&self, position: u64) -> Option<(PieceIndex, u32)> {
        let geometry = self.known.as_ref()?.picker.geometry();
        let piece = geometry.piece_at(position);
        let block = (position - geometry.start_of(piece)) / u64::from(BLOCK_LEN);
        Some((piece, u32::try_from(block).ok()?))
    }

    /// Wants the leaves of what readers that came before the metadata read, and has single blocks asked for.
    pub(super) fn watch_from_the_start(&mut self, positions: Vec<u64>) {
        if let Some(known) = self.known.as_mut().filter(|_| self.hashes.tree.is_some()) {
            known.picker.value_blocks();
        }
        positions.into_iter().for_each(|position| self.watch_leaves(position));
    }

    /// Wants the leaves of what a reader at `position` is about to read.
    pub(super) fn watch_leaves(&mut self, position: u64) {
        if self.hashes.tree.is_none() {
            return;
        }
        for position in [position, position.saturating_add(LEAVES_AHEAD)] {
            let Some((piece, block)) = self.block_at(position) else { return };
            let picker = self.known.as_ref().map(|known| &known.picker);
            if picker.is_some_and(|picker| !picker.have().get(piece) && position < picker.geometry().total_len()) {
                self.hashes.watch(piece, block);
            }
        }
    }

    pub(super) fn forget_leaves(&mut self, piece: PieceIndex) {
        self.hashes.watched.remove(&piece);
    }

    /// Asks for the hashes that are wanted, each of the v2 peer that is asked for the fewest.
    pub(super) fn ask_for_hashes(&mut self, now: Instant) {
        let Some(named) = self.id.v2().map(|v2| v2.truncated()).filter(|_| self.hashes.tree.is_some()) else { return };
        self.hashes.expire(now);
        for (request, piece) in self.hashes.wanted() {
            let picker = self.known.as_ref().map(|known| &known.picker);
            let able = |key: &PeerKey| {
                let has = piece.is_none_or(|piece| picker.is_some_and(|picker| picker.peer_has_piece(*key, piece)));
                has && !self.hashes.has_refused(*key, &request)
            };
            let asked_of = |key: &PeerKey| self.hashes.asked.values().filter(|(peer, _)| peer == key).count();
            let v2 = self.sessions.iter().filter(|(_, session)| session.named == named).map(|(key, _)| *key);
            let Some(key) = v2.filter(able).min_by_key(|key| (asked_of(key), *key)) else { continue };
            if let Some(session) = self.sessions.get_mut(&key) {
                session.send(&Message::HashRequest(request));
                self.hashes.asked.insert(request, (key, now));
            }
        }
    }

    pub(super) fn on_hashes(&mut self, key: PeerKey, request: &HashRequest, hashes: &Bytes) -> Result<(), DropReason> {
        // Late, or never asked for: somebody else was asked meanwhile.
        if self.hashes.asked.get(request).is_none_or(|(peer, _)| *peer != key) {
            return Ok(());
        }
        self.hashes.asked.remove(request);
        let Some(height) =
            self.hashes.tree.as_ref().and_then(|tree| tree.file(&request.root)).map(|file| height(file.len))
        else {
            return Ok(());
        };
        let run = request.verify(height, hashes.as_chunks().0).ok_or(DropReason::FalseHashes)?;
        if let Some(roots) = self.hashes.take(request, run) {
            self.hashes.roots = Some(roots.clone());
            self.events.push_back(TorrentEvent::Roots(roots));
        }
        Ok(())
    }

    pub(super) fn on_hash_reject(&mut self, now: Instant, key: PeerKey, request: HashRequest) {
        if self.hashes.asked.get(&request).is_some_and(|(peer, _)| *peer == key) {
            self.hashes.asked.remove(&request);
            self.hashes.refuse(now, key, request);
        }
    }

    // --- what others ask of us -----------------------------------------------------------------------------------

    pub(super) fn on_hash_request(&mut self, key: PeerKey, request: HashRequest) {
        let keeps_up = self.sessions.get(&key).is_some_and(super::session::Session::keeps_up);
        match self.piece_of(&request).filter(|_| keeps_up) {
            Some(Below::Piece(piece)) => self.read_leaves(key, piece, request),
            Some(Below::Nothing(file)) => {
                let hashes = self.hashes.upper(&file).and_then(|upper| upper.answer(&request));
                self.answer_hashes(key, request, hashes);
            }
            None => self.answer_hashes(key, request, None),
        }
    }

    /// What a request that we can answer needs: a piece's leaves, or the roots of pieces alone.
    fn piece_of(&self, request: &HashRequest) -> Option<Below> {
        let tree = self.hashes.tree.as_ref()?;
        let file = tree.file(&request.root).filter(|file| request.fits(height(file.len)))?;
        let Some(below) = tree.piece_layer().checked_sub(request.base).filter(|below| *below > 0) else {
            return Some(Below::Nothing(*file));
        };
        // A run wider than a piece would need several.
        let wide = request.length.trailing_zeros() > below;
        let piece = PieceIndex(file.first_piece + request.index.checked_shr(below).unwrap_or(0));
        let have = self.known.as_ref().is_some_and(|known| known.picker.have().get(piece));
        (have && !wide).then_some(Below::Piece(piece))
    }

    fn read_leaves(&mut self, peer: PeerKey, piece: PieceIndex, request: HashRequest) {
        if self.hashes.may_read(peer, piece, request) {
            self.events.push_back(TorrentEvent::ReadLeaves { peer, piece, request });
        } else {
            self.answer_hashes(peer, request, None);
        }
    }

    /// The leaves of the piece that was to be read for a peer, or `None` when it is not in the store (any more).
    pub fn leaves_read(&mut self, now: Instant, peer: PeerKey, request: HashRequest, leaves: Option<Vec<Root>>) {
        if self.hashes.reading.get_mut(&peer).is_some_and(|reading| reading.remove(&request)) {
            let hashes = leaves.and_then(|leaves| self.hashes.answer_from(&request, leaves));
            self.answer_hashes(peer, request, hashes);
        }
        self.settle(now);
    }

    fn answer_hashes(&mut self, key: PeerKey, request: HashRequest, hashes: Option<Vec<Root>>) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.send(&match hashes {
            Some(hashes) => Message::Hashes { request, hashes: hashes.into_flattened().into() },
            None => Message::HashReject(request),
        });
    }
}

/// What a request for hashes lies above.
enum Below {
    Piece(PieceIndex),
    Nothing(TreeFile),
}

const _: () = assert!(LEAF_BYTES == BLOCK_LEN as usize, "a leaf is a block");
