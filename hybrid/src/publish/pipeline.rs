//! One read, hashed for each network: a thread reads, a thread hashes pieces, a thread hashes leaves, and for a hybrid
//! one hashes the pieces' Merkle trees. Between them are a few chunks of at most 1 MiB, so memory stays flat however large
//! the files are, and every hash may have a core of its own: none waits for another but for those chunks.
//!
//! Dropping the pipeline ends its threads: whoever sends to nobody stops.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use swarmgate_content::merkle::{PieceTree, Root};
use swarmgate_content::{BlockHash, HashKind};
use swarmgate_ipfs_proto::build::{Built, FileBuilder, Profile};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_store::{MAX_PARTS, Namer, Origin, Part, Reference, VerifiedBlock};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};

use super::layout::{Layout, Step};
use super::tree::{SourceFile, Tree, read};
use super::{PublishError, TorrentKind};

/// How files are cut into leaves: as `add` does.
pub(super) const PROFILE: Profile = Profile::V1_2025;
/// Chunks that wait for a thread that hashes, of at most 1 MiB.
const CHUNKS_WAITING: usize = 4;
/// Pieces that wait to be stored; copies have up to 16 MiB each.
const PIECES_WAITING: usize = 1;
/// Leaves that wait to be stored; copies have up to 1 MiB each.
const LEAVES_WAITING: usize = 8;
/// Roots of pieces that wait to be taken; they are small.
const ROOTS_WAITING: usize = 64;
/// What a piece is padded with, a chunk of it.
const ZEROS: &[u8] = &[0; 64 << 10];

/// A block that was hashed.
#[derive(Debug)]
pub(super) enum Made {
    /// It stays where it lies.
    Reference(Reference),
    /// It is to be stored.
    Block(VerifiedBlock),
}

impl Made {
    pub(super) const fn hash(&self) -> &BlockHash {
        match self {
            Self::Reference(reference) => reference.hash(),
            Self::Block(block) => block.hash(),
        }
    }
}

/// What the thread that hashes pieces says.
#[derive(Debug)]
pub(super) enum PieceOut {
    Piece {
        index: usize,
        made: Made,
    },
    /// All of a file has gone by.
    Passed(usize),
}

/// What the thread that hashes the pieces' trees says.
#[derive(Debug)]
pub(super) enum RootOut {
    Root {
        index: usize,
        root: Root,
    },
    /// All of a file has gone by.
    Passed(usize),
}

/// What the thread that hashes leaves says.
#[derive(Debug)]
pub(super) enum LeafOut {
    Made(Made),
    /// The last block of a file has gone by.
    File {
        file: usize,
        built: Built,
    },
}

/// What any of them says.
#[derive(Debug)]
pub(super) enum Out {
    Piece(PieceOut),
    Root(RootOut),
    Leaf(LeafOut),
}

/// A part of a file.
#[derive(Debug, Clone)]
struct Chunk {
    origin: Arc<Origin>,
    /// Where it begins in the file, and in the content.
    at: u64,
    in_content: u64,
    bytes: Bytes,
}

#[derive(Debug, Clone)]
enum In {
    Chunk(Chunk),
    /// All of a file was read.
    End(usize),
}

/// The threads at work.
#[derive(Debug)]
pub(super) struct Pipeline {
    pieces: Receiver<PieceOut>,
    roots: Receiver<RootOut>,
    leaves: Receiver<LeafOut>,
    reader: JoinHandle<Result<(), PublishError>>,
    lanes: Vec<JoinHandle<()>>,
    read: Arc<AtomicU64>,
}

impl Pipeline {
    /// Starts to read these parts, in this order.
    pub(super) fn start(tree: Arc<Tree>, layout: Arc<Layout>, steps: Vec<Step>, copy: bool) -> Self {
        let (to_pieces, piece_chunks) = channel(CHUNKS_WAITING);
        let (to_leaves, leaf_chunks) = channel(CHUNKS_WAITING);
        let (tell_pieces, pieces) = channel(PIECES_WAITING);
        let (tell_roots, roots) = channel(ROOTS_WAITING);
        let (tell_leaves, leaves) = channel(LEAVES_WAITING);
        let mut piece_lane = PieceLane { layout: Arc::clone(&layout), copy, tell: tell_pieces, open: None };
        let mut leaf_lane = LeafLane { copy, tell: tell_leaves, builder: FileBuilder::new(PROFILE) };
        let mut lanes = vec![
            spawn_blocking(move || piece_lane.run(piece_chunks).unwrap_or_default()),
            spawn_blocking(move || leaf_lane.run(leaf_chunks).unwrap_or_default()),
        ];
        let to_roots = (layout.kind() == TorrentKind::Hybrid).then(|| {
            let (to_roots, chunks) = channel(CHUNKS_WAITING);
            let mut lane = RootLane { layout: Arc::clone(&layout), tell: tell_roots, open: PieceTree::default() };
            lanes.push(spawn_blocking(move || lane.run(chunks).unwrap_or_default()));
            to_roots
        });
        let read = Arc::new(AtomicU64::new(0));
        let reader = Reader { tree, layout, to_pieces, to_roots, to_leaves, read: Arc::clone(&read) };
        Self { pieces, roots, leaves, reader: spawn_blocking(move || reader.run(&steps)), lanes, read }
    }

    /// What was hashed next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Out> {
        tokio::select! {
            Some(out) = self.pieces.recv() => Some(Out::Piece(out)),
            Some(out) = self.roots.recv() => Some(Out::Root(out)),
            Some(out) = self.leaves.recv() => Some(Out::Leaf(out)),
            else => None,
        }
    }

    /// Bytes read of files so far.
    pub(super) fn read_bytes(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// How it ended.
    pub(super) async fn end(self) -> Result<(), PublishError> {
        let panicked = |_| PublishError::CutShort("a thread has panicked");
        self.reader.await.map_err(panicked)??;
        for lane in self.lanes {
            lane.await.map_err(panicked)?;
        }
        Ok(())
    }
}

/// Nobody listens any more.
#[derive(Debug)]
struct Left;

fn send<T>(to: &Sender<T>, what: T) -> Result<(), Left> {
    to.blocking_send(what).map_err(|_| Left)
}

struct Reader {
    tree: Arc<Tree>,
    layout: Arc<Layout>,
    to_pieces: Sender<In>,
    /// For a hybrid.
    to_roots: Option<Sender<In>>,
    to_leaves: Sender<In>,
    read: Arc<AtomicU64>,
}

impl Reader {
    fn run(self, steps: &[Step]) -> Result<(), PublishError> {
        for step in steps {
            if self.step(step)?.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn step(&self, step: &Step) -> Result<Result<(), Left>, PublishError> {
        let file = &self.tree.files[step.file];
        let path = file.origin.path();
        // Before it is opened: a pipe that took the file's place would wait for whoever writes to it.
        file.check()?;
        let mut open = File::open(path).map_err(|error| read(path, error))?;
        if step.range.start > 0 {
            open.seek(SeekFrom::Start(step.range.start)).map_err(|error| read(path, error))?;
        }
        let mut at = step.range.start;
        while at < step.range.end {
            let chunk = self.chunk(file, step, at, &mut open)?;
            at += chunk.bytes.len() as u64;
            let sent = self.send(&In::Chunk(chunk), step.whole);
            if sent.is_err() {
                return Ok(sent);
            }
        }
        let now = open.metadata().map_err(|error| read(path, error))?;
        if !file.origin.is_still(&now) {
            return Err(PublishError::Changed(path.to_owned()));
        }
        file.check()?;
        if !step.whole {
            return Ok(Ok(()));
        }
        Ok(self.send(&In::End(step.file), true))
    }

    /// To all who hash pieces and, where all of a file is read, to who hashes leaves.
    fn send(&self, what: &In, whole: bool) -> Result<(), Left> {
        send(&self.to_pieces, what.clone())?;
        self.to_roots.iter().try_for_each(|to_roots| send(to_roots, what.clone()))?;
        if whole { send(&self.to_leaves, what.clone()) } else { Ok(()) }
    }

    fn chunk(&self, file: &SourceFile, step: &Step, at: u64, open: &mut File) -> Result<Chunk, PublishError> {
        let path = file.origin.path();
        let wanted = (step.range.end - at).min(PROFILE.chunk_bytes as u64);
        let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(PROFILE.chunk_bytes));
        let count = open.take(wanted).read_to_end(&mut bytes).map_err(|error| read(path, error))?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        if (count as u64) < wanted {
            return Err(PublishError::Changed(path.to_owned()));
        }
        let in_content = self.layout.range_of(step.file).start + at;
        Ok(Chunk { origin: Arc::clone(&file.origin), at, in_content, bytes: bytes.into() })
    }
}

/// A part of a chunk that is in one piece.
struct Cut {
    index: usize,
    /// Of the chunk.
    bytes: Range<usize>,
    /// Whether the piece has no more bytes, but for padding.
    last: bool,
}

/// Cuts a chunk where pieces end.
fn cuts(layout: &Layout, chunk: &Chunk) -> impl Iterator<Item = Cut> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let here = chunk.in_content + done as u64;
        let rest = Some(chunk.bytes.len() - done).filter(|rest| *rest > 0)?;
        let index = layout.piece_at(here);
        let left = layout.bytes_of_piece(index).end - here;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
        done += count;
        Some(Cut { index, bytes: done - count..done, last: count as u64 == left })
    })
}

/// Hashes pieces, which begin and end wherever they like.
struct PieceLane {
    layout: Arc<Layout>,
    copy: bool,
    tell: Sender<PieceOut>,
    open: Option<OpenPiece>,
}

/// A piece of which the beginning has come.
enum OpenPiece {
    /// To be referenced.
    Named { namer: Namer, parts: Vec<Part> },
    /// To be stored.
    Kept(Vec<u8>),
}

impl PieceLane {
    fn run(&mut self, mut from: Receiver<In>) -> Result<(), Left> {
        while let Some(next) = from.blocking_recv() {
            match next {
                In::Chunk(chunk) => self.take(&chunk)?,
                In::End(file) => send(&self.tell, PieceOut::Passed(file))?,
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), Left> {
        for cut in cuts(&self.layout, chunk) {
            let mut piece = self.open.take().unwrap_or_else(|| self.begin(cut.index));
            piece.push(chunk, &cut.bytes);
            if !cut.last {
                self.open = Some(piece);
                continue;
            }
            let (in_files, all) = (self.layout.bytes_of_piece(cut.index), self.layout.range_of_piece(cut.index));
            // A piece in the parts that were counted always has a reference.
            let Some(made) = piece.end(all.end - in_files.end) else { return Err(Left) };
            send(&self.tell, PieceOut::Piece { index: cut.index, made })?;
        }
        Ok(())
    }

    fn begin(&self, index: usize) -> OpenPiece {
        let range = self.layout.range_of_piece(index);
        let parts = self.layout.files_of(index).filter(|file| self.layout.len_of(*file) > 0).count();
        if self.copy || parts > MAX_PARTS {
            let len = usize::try_from(range.end - range.start).unwrap_or_default();
            return OpenPiece::Kept(Vec::with_capacity(len));
        }
        OpenPiece::Named { namer: Namer::new(HashKind::Sha1), parts: Vec::with_capacity(parts) }
    }
}

impl OpenPiece {
    fn push(&mut self, chunk: &Chunk, range: &Range<usize>) {
        let bytes = &chunk.bytes[range.clone()];
        match self {
            Self::Kept(kept) => kept.extend_from_slice(bytes),
            Self::Named { namer, parts } => {
                namer.update(bytes);
                // A piece has 16 MiB at most.
                let len = u32::try_from(range.len()).unwrap_or(u32::MAX);
                match parts.last_mut() {
                    Some(last) if Arc::ptr_eq(&last.origin, &chunk.origin) => last.len += len,
                    Some(_) | None => {
                        let offset = chunk.at + range.start as u64;
                        parts.push(Part { origin: Arc::clone(&chunk.origin), offset, len });
                    }
                }
            }
        }
    }

    /// Ends the piece, with so many zeros behind its bytes.
    fn end(self, zeros: u64) -> Option<Made> {
        let zeros = usize::try_from(zeros).ok()?;
        match self {
            Self::Kept(mut bytes) => {
                bytes.resize(bytes.len() + zeros, 0);
                Some(Made::Block(VerifiedBlock::name(HashKind::Sha1, bytes.into())))
            }
            Self::Named { mut namer, parts } => {
                let mut left = zeros;
                while left > 0 {
                    let some = left.min(ZEROS.len());
                    namer.update(&ZEROS[..some]);
                    left -= some;
                }
                let zeros = u32::try_from(zeros).ok()?;
                Reference::padded(&namer.finish(), parts, zeros).map(Made::Reference)
            }
        }
    }
}

/// Hashes the Merkle trees of pieces (BEP 52), each of which is in one file.
struct RootLane {
    layout: Arc<Layout>,
    tell: Sender<RootOut>,
    open: PieceTree,
}

impl RootLane {
    fn run(&mut self, mut from: Receiver<In>) -> Result<(), Left> {
        while let Some(next) = from.blocking_recv() {
            match next {
                In::Chunk(chunk) => self.take(&chunk)?,
                In::End(file) => send(&self.tell, RootOut::Passed(file))?,
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: &Chunk) -> Result<(), Left> {
        for cut in cuts(&self.layout, chunk) {
            self.open.update(&chunk.bytes[cut.bytes]);
            if cut.last {
                let root = std::mem::take(&mut self.open).root_at(self.layout.layers_of_piece(cut.index));
                send(&self.tell, RootOut::Root { index: cut.index, root })?;
            }
        }
        Ok(())
    }
}

/// Hashes leaves, each of which is a chunk, and builds the nodes above them.
struct LeafLane {
    copy: bool,
    tell: Sender<LeafOut>,
    builder: FileBuilder,
}

impl LeafLane {
    fn run(&mut self, mut from: Receiver<In>) -> Result<(), Left> {
        while let Some(next) = from.blocking_recv() {
            match next {
                In::Chunk(chunk) => self.take(chunk)?,
                In::End(file) => {
                    let built = self.builder.finish();
                    self.tell_nodes()?;
                    self.builder = FileBuilder::new(PROFILE);
                    send(&self.tell, LeafOut::File { file, built })?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), Left> {
        let made = self.leaf(chunk).ok_or(Left)?;
        send(&self.tell, LeafOut::Made(made))?;
        self.tell_nodes()
    }

    fn leaf(&mut self, chunk: Chunk) -> Option<Made> {
        let len = u32::try_from(chunk.bytes.len()).ok()?;
        let made = if self.copy {
            Made::Block(VerifiedBlock::name(HashKind::Sha2_256, chunk.bytes))
        } else {
            let mut namer = Namer::new(HashKind::Sha2_256);
            namer.update(&chunk.bytes);
            let part = Part { origin: chunk.origin, offset: chunk.at, len };
            Made::Reference(Reference::of(&namer.finish(), vec![part])?)
        };
        self.builder.push_leaf(made.hash().to_cid(Codec::Raw.code()), len.into());
        Some(made)
    }

    fn tell_nodes(&mut self) -> Result<(), Left> {
        while let Some(block) = self.builder.poll_block() {
            let block = VerifiedBlock::name(HashKind::Sha2_256, block.bytes);
            send(&self.tell, LeafOut::Made(Made::Block(block)))?;
        }
        Ok(())
    }
}
