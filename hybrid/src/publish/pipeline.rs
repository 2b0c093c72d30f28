//! One read, hashed twice: a thread reads, a thread hashes pieces, a thread hashes leaves. Between them are a few
//! chunks of at most 1 MiB, so memory stays flat however large the files are, and both hashes have a core each.
//!
//! Dropping the pipeline ends its threads: whoever sends to nobody stops.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use swarmgate_content::{BlockHash, HashKind};
use swarmgate_ipfs_proto::build::{Built, FileBuilder, Profile};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_store::{MAX_PARTS, Namer, Origin, Part, Reference, VerifiedBlock};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};

use super::PublishError;
use super::layout::{Layout, Step};
use super::tree::{SourceFile, Tree, read};

/// How files are cut into leaves: as `add` does.
pub(super) const PROFILE: Profile = Profile::V1_2025;
/// Chunks that wait for a thread that hashes, of at most 1 MiB.
const CHUNKS_WAITING: usize = 4;
/// Pieces that wait to be stored; copies have up to 16 MiB each.
const PIECES_WAITING: usize = 1;
/// Leaves that wait to be stored; copies have up to 1 MiB each.
const LEAVES_WAITING: usize = 8;

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

/// What either says.
#[derive(Debug)]
pub(super) enum Out {
    Piece(PieceOut),
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

#[derive(Debug)]
enum In {
    Chunk(Chunk),
    /// All of a file was read.
    End(usize),
}

/// The threads at work.
#[derive(Debug)]
pub(super) struct Pipeline {
    pieces: Receiver<PieceOut>,
    leaves: Receiver<LeafOut>,
    reader: JoinHandle<Result<(), PublishError>>,
    lanes: [JoinHandle<()>; 2],
    read: Arc<AtomicU64>,
}

impl Pipeline {
    /// Starts to read these parts, in this order.
    pub(super) fn start(tree: Arc<Tree>, layout: Arc<Layout>, steps: Vec<Step>, copy: bool) -> Self {
        let (to_pieces, piece_chunks) = channel(CHUNKS_WAITING);
        let (to_leaves, leaf_chunks) = channel(CHUNKS_WAITING);
        let (tell_pieces, pieces) = channel(PIECES_WAITING);
        let (tell_leaves, leaves) = channel(LEAVES_WAITING);
        let read = Arc::new(AtomicU64::new(0));
        let reader = Reader { tree, layout: Arc::clone(&layout), to_pieces, to_leaves, read: Arc::clone(&read) };
        let mut piece_lane = PieceLane { layout, copy, tell: tell_pieces, open: None };
        let mut leaf_lane = LeafLane { copy, tell: tell_leaves, builder: FileBuilder::new(PROFILE) };
        let lanes = [
            spawn_blocking(move || piece_lane.run(piece_chunks).unwrap_or_default()),
            spawn_blocking(move || leaf_lane.run(leaf_chunks).unwrap_or_default()),
        ];
        Self { pieces, leaves, reader: spawn_blocking(move || reader.run(&steps)), lanes, read }
    }

    /// What was hashed next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Out> {
        tokio::select! {
            Some(out) = self.pieces.recv() => Some(Out::Piece(out)),
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
            let mut sent = send(&self.to_pieces, In::Chunk(chunk.clone()));
            if step.whole {
                sent = sent.and_then(|()| send(&self.to_leaves, In::Chunk(chunk)));
            }
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
        let ended = send(&self.to_pieces, In::End(step.file));
        Ok(ended.and_then(|()| send(&self.to_leaves, In::End(step.file))))
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
        let mut done = 0;
        while done < chunk.bytes.len() {
            let here = chunk.in_content + done as u64;
            let index = self.layout.piece_at(here);
            let left = self.layout.range_of_piece(index).end - here;
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.bytes.len() - done);
            let mut piece = self.open.take().unwrap_or_else(|| self.begin(index));
            piece.push(chunk, done, count);
            done += count;
            if count as u64 == left {
                // A piece in the parts that were counted always has a reference.
                let Some(made) = piece.end() else { return Err(Left) };
                send(&self.tell, PieceOut::Piece { index, made })?;
            } else {
                self.open = Some(piece);
            }
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
    fn push(&mut self, chunk: &Chunk, from: usize, count: usize) {
        let bytes = &chunk.bytes[from..from + count];
        match self {
            Self::Kept(kept) => kept.extend_from_slice(bytes),
            Self::Named { namer, parts } => {
                namer.update(bytes);
                // A piece has 16 MiB at most.
                let len = u32::try_from(count).unwrap_or(u32::MAX);
                match parts.last_mut() {
                    Some(last) if Arc::ptr_eq(&last.origin, &chunk.origin) => last.len += len,
                    Some(_) | None => {
                        let offset = chunk.at + from as u64;
                        parts.push(Part { origin: Arc::clone(&chunk.origin), offset, len });
                    }
                }
            }
        }
    }

    fn end(self) -> Option<Made> {
        match self {
            Self::Kept(bytes) => Some(Made::Block(VerifiedBlock::name(HashKind::Sha1, bytes.into()))),
            Self::Named { namer, parts } => Reference::of(&namer.finish(), parts).map(Made::Reference),
        }
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
