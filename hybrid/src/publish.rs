//! A file or folder becomes a torrent and a DAG of UnixFS, from one read of its bytes.
//!
//! `tree` looks at what there is. `layout` says which pieces lie in which files, and what is to be read. `pipeline`
//! reads: one thread reads, one hashes pieces, one hashes leaves, with a few MiB between them. What they made comes
//! back here, and goes into the store in batches: references to where it lies, or copies. `journal` remembers the
//! files that are done, so that a run that was cut short is gone on with.
//!
//! Until the end everything is held under a name of its own in the store; then [`Draft::seal`] pins what the torrent
//! needs as `publish:{infohash}` and lets the hold go. The DAG has the pin that `add` gives one, from whoever called.
//!
//! # What becomes of what?
//! * Hidden files are files, and empty ones too. Both are in the torrent and in the DAG.
//! * Symlinks below the path are links in the DAG, as `add` makes them, and are not in the torrent (BEP 3 has none); the
//!   path itself is followed. Empty directories are in the DAG alone too.
//! * Sockets, pipes and devices, what may not be read, and names that are not UTF-8 (BEP 3), or that torrents may not
//!   have, are errors that name the file. So is a folder without a single byte: it has no piece.
//! * A file that changes before all is done is an error that names it, and nothing is published.
//!
//! So the CID is the one that `add` gives for the same path.
//!
//! # Why is the torrent's order that of sorted paths?
//! Because then the same folder has the same infohash everywhere, and a directory's files lie beside each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use swarmgate_bittorrent_proto::metainfo::{Metainfo, MetainfoError, TorrentBuilder};
use swarmgate_content::{BlockHash, Cid, ContentId, HashKind};
use swarmgate_hybrid_rules::{Authority, ContentBinding, Name};
use swarmgate_ipfs_proto::build::{Block, BuildError, Built, DirectoryBuilder, Profile, symlink};
use swarmgate_store::{PutError, ReadError, RecordError, ReferError, Reference, Store, VerifiedBlock};

mod journal;
mod layout;
mod pipeline;
mod tree;

use journal::{Done, Journal};
use layout::Layout;
use pipeline::{LeafOut, Made, PieceOut, Pipeline};
use tree::{Entry, Tree};

/// Shortest piece, in bytes: a block, which is what peers ask for.
pub const MIN_PIECE_BYTES: u32 = 16 << 10;
/// Longest piece, in bytes. Many clients refuse longer ones, and a piece is verified whole.
pub const MAX_PIECE_BYTES: u32 = 16 << 20;
/// How many pieces a torrent should have at most, where its pieces' length is chosen here.
const PIECES: u64 = 2_000;
/// References or blocks that go into the store in one batch.
const BATCH: usize = 512;
/// Bytes of copied blocks that are held before they are written.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes that are read between two notes in the journal, at most, where a file ends.
const NOTE_EVERY_BYTES: u64 = 64 << 20;

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The file or folder. Followed when it is a symlink.
    pub path: PathBuf,
    /// The torrent's name; the path's last part when not given.
    pub name: Option<String>,
    /// Length of a piece in bytes: a power of two from [`MIN_PIECE_BYTES`] to [`MAX_PIECE_BYTES`]. Not given, it is the
    /// shortest with which the torrent has at most 2,000 pieces.
    pub piece_len: Option<u32>,
    /// The longest piece that is chosen when none is given, in bytes: what the store keeps in memory of a reference.
    pub longest_chosen: u32,
    /// Trackers, each a tier of its own.
    pub trackers: Vec<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Copy the bytes into the store, once as pieces and once as leaves, rather than refer to where they lie.
    pub copy: bool,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done, those of an earlier run too.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A file that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its number in the torrent.
    pub number: u32,
    /// Its path below the torrent's root; of a torrent of one file, its name.
    pub path: Vec<String>,
    /// Its length in bytes.
    pub len: u64,
    /// Its CID.
    pub cid: Cid,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file or directory cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no file, directory or symlink.
    #[error("{}: no regular file, so it cannot be published", .0.display())]
    NotRegular(PathBuf),
    /// Its name is not UTF-8.
    #[error("{}: its name is not UTF-8, as a torrent's names are", .0.display())]
    NotUtf8(PathBuf),
    /// It lies too deep.
    #[error("{}: deeper than {} directories", .0.display(), tree::MAX_DEPTH)]
    TooDeep(PathBuf),
    /// More files than a torrent may have.
    #[error("{}: more files than a torrent may have", .0.display())]
    TooMany(PathBuf),
    /// There is not a single byte.
    #[error("{}: there is not a single byte in it, so there is no piece to publish", .0.display())]
    Empty(PathBuf),
    /// The length of a piece is none.
    #[error("pieces have a power of two from {MIN_PIECE_BYTES} to {MAX_PIECE_BYTES} bytes, not {0}")]
    PieceLength(u32),
    /// It changed.
    #[error("{}: changed while it was being published; nothing was published", .0.display())]
    Changed(PathBuf),
    /// No torrent can be made of it.
    #[error("no torrent can be made of {}: {error}", path.display())]
    Torrent {
        /// What should become one.
        path: PathBuf,
        /// Why not.
        error: MetainfoError,
    },
    /// A directory cannot be built.
    #[error("{}: {error}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: BuildError,
    },
    /// The store has no room, or failed.
    #[error(transparent)]
    Store(#[from] PutError),
    /// The store cannot be read.
    #[error(transparent)]
    StoreRead(#[from] ReadError),
    /// The store has not taken references.
    #[error(transparent)]
    Refer(#[from] ReferError),
    /// The index cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A thread has ended early.
    #[error("publishing was cut short: {0}")]
    CutShort(&'static str),
}

/// What was made, while it is held: to be sealed or let go. A draft that is dropped is gone on with by the next run.
#[derive(Debug)]
pub struct Draft {
    /// The torrent.
    pub metainfo: Metainfo,
    /// The root of the DAG.
    pub root: Cid,
    /// The files, in the torrent's order.
    pub files: Vec<PublishedFile>,
    /// Bytes that were read of the files by this run.
    pub read_bytes: u64,
    journal: Journal,
    store: Store,
    pieces: Vec<[u8; 20]>,
    extra: Vec<BlockHash>,
}

/// The name under which a torrent's pieces are pinned.
#[must_use]
pub fn root_name(metainfo: &Metainfo) -> String {
    format!("publish:{}", metainfo.infohash)
}

/// Reads what lies at a path and makes a torrent and a DAG of it; `progress` is told now and then. Interrupted (dropped,
/// killed) and called again with the same options, it goes on after the files that were done and have not changed.
///
/// # Errors
/// [`PublishError`]; nothing of it is held any more then.
pub async fn publish(
    store: &Store,
    options: &PublishOptions,
    progress: impl FnMut(Progress) + Send,
) -> Result<Draft, PublishError> {
    Journal::forget_old(store).await?;
    let path = options.path.clone();
    let looked = tokio::task::spawn_blocking(move || Tree::look(&path)).await;
    let tree = Arc::new(looked.map_err(|_| PublishError::CutShort("the runtime is stopping"))??);
    let piece_len = piece_len(options, tree.total_len())?;
    let layout = Arc::new(Layout::new(piece_len, tree.files.iter().map(|file| file.len)));
    // What would be refused in the end is refused before it is read.
    let nothing = vec![[0; 20]; layout.pieces()];
    torrent(options, &tree, &layout, &nothing)?;
    let journal = Journal::open(store, &tree, piece_len, options.copy).await?;
    let mut run = Run {
        store: store.clone(),
        pieces: vec![None; layout.pieces()],
        built: vec![None; tree.files.len()],
        kept: Vec::new(),
        passed: vec![false; tree.files.len()],
        batch: Batch::default(),
        read_bytes: 0,
        journal,
        tree,
        layout,
    };
    let outcome = run.all(options, progress).await;
    if outcome.is_err() {
        run.journal.let_go().await?;
    }
    let (root, extra) = outcome?;
    run.draft(options, root, extra)
}

/// The shortest power of two with which there are at most [`PIECES`], within bounds.
fn piece_len(options: &PublishOptions, total: u64) -> Result<u32, PublishError> {
    if let Some(len) = options.piece_len {
        let sound = len.is_power_of_two() && (MIN_PIECE_BYTES..=MAX_PIECE_BYTES).contains(&len);
        return if sound { Ok(len) } else { Err(PublishError::PieceLength(len)) };
    }
    let longest = options.longest_chosen.clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES);
    let mut len = MIN_PIECE_BYTES;
    while len * 2 <= longest && u64::from(len) * PIECES < total {
        len *= 2;
    }
    Ok(len)
}

fn torrent(
    options: &PublishOptions,
    tree: &Tree,
    layout: &Layout,
    pieces: &[[u8; 20]],
) -> Result<Metainfo, PublishError> {
    let name = options.name.clone().unwrap_or_else(|| tree.name.clone());
    let hashes: Bytes = pieces.concat().into();
    let builder = match &tree.top {
        Entry::File(_) => TorrentBuilder::single_file(name, tree.total_len(), layout.piece_len(), hashes),
        Entry::Directory(_) | Entry::Symlink(_) => {
            let files = tree.files.iter().map(|file| (file.names.clone(), file.len)).collect();
            TorrentBuilder::multi_file(name, files, layout.piece_len(), hashes)
        }
    };
    let tiers = options.trackers.iter().map(|tracker| vec![tracker.clone()]).collect();
    let builder = builder.with_trackers(tiers).with_web_seeds(options.web_seeds.clone());
    builder.build().map_err(|error| PublishError::Torrent { path: tree.path.clone(), error })
}

/// What one run has come to.
struct Run {
    store: Store,
    tree: Arc<Tree>,
    layout: Arc<Layout>,
    journal: Journal,
    pieces: Vec<Option<[u8; 20]>>,
    built: Vec<Option<Built>>,
    /// Which files an earlier run has done.
    kept: Vec<bool>,
    /// Of which files every piece that ends in them is hashed.
    passed: Vec<bool>,
    batch: Batch,
    read_bytes: u64,
}

/// What is to go into the store together, and the files of which nothing is missing once it has.
#[derive(Default)]
struct Batch {
    references: Vec<Reference>,
    blocks: Vec<VerifiedBlock>,
    block_bytes: usize,
    ended: Vec<usize>,
    /// Bytes read when the last batch was written.
    written_at: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        let many = [self.references.len(), self.blocks.len(), self.ended.len()].iter().any(|count| *count >= BATCH);
        many || self.block_bytes >= BATCH_BYTES
    }

    fn push(&mut self, made: Made) {
        match made {
            Made::Reference(reference) => self.references.push(reference),
            Made::Block(block) => {
                self.block_bytes += block.bytes().len();
                self.blocks.push(block);
            }
        }
    }
}

impl Run {
    async fn all(
        &mut self,
        options: &PublishOptions,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<(Cid, Vec<BlockHash>), PublishError> {
        self.kept = self.take_up().await?;
        let steps = self.layout.steps(&self.kept, |piece| self.pieces[piece].is_some());
        let to_read: u64 = steps.iter().map(|step| step.range.end - step.range.start).sum();
        let total = self.layout.total();
        let mut pipeline = Pipeline::start(Arc::clone(&self.tree), Arc::clone(&self.layout), steps, options.copy);
        while let Some(out) = pipeline.next().await {
            match out {
                pipeline::Out::Piece(out) => self.take_piece(out),
                pipeline::Out::Leaf(out) => self.take_leaf(out),
            }
            self.read_bytes = pipeline.read_bytes();
            progress(Progress { done: total.saturating_sub(to_read.saturating_sub(self.read_bytes)), total });
            let note = !self.batch.ended.is_empty() && self.read_bytes >= self.batch.written_at + NOTE_EVERY_BYTES;
            if self.batch.is_full() || note {
                self.write().await?;
            }
        }
        pipeline.end().await?;
        self.write().await?;
        let root = self.directories()?;
        let metainfo = torrent(options, &self.tree, &self.layout, &self.hashes()?)?;
        let info = VerifiedBlock::name(HashKind::Sha1, metainfo.info_bytes);
        let extra = vec![*info.hash()];
        self.batch.push(Made::Block(info));
        self.write().await?;
        self.check_files().await?;
        progress(Progress { done: total, total });
        Ok((root.cid, extra))
    }

    /// Takes up what an earlier run has left: files that are done and unchanged, whose DAG is here, and the pieces that
    /// lie in them alone.
    async fn take_up(&mut self) -> Result<Vec<bool>, PublishError> {
        let mut kept = vec![false; self.tree.files.len()];
        let mut known = BTreeMap::new();
        for (number, file) in self.tree.files.iter().enumerate() {
            let Some(done) = self.journal.done(number, file) else { continue };
            if journal::is_here(&self.store, &done.built.cid).await? {
                kept[number] = true;
                self.built[number] = Some(done.built);
                known.extend(done.pieces.iter().copied());
            }
        }
        for (piece, hash) in known {
            let in_kept = self.layout.files_of(piece).all(|file| kept[file] || self.layout.len_of(file) == 0);
            if in_kept && self.store.contains(&BlockHash::sha1(hash)) {
                self.pieces[piece] = Some(hash);
            }
        }
        self.forget_pieces(&kept).await?;
        Ok(kept)
    }

    /// Notes anew the files that stay done though a piece that ends in them does not, for the file before has changed:
    /// the note of that one would bring the old piece back.
    async fn forget_pieces(&self, kept: &[bool]) -> Result<(), PublishError> {
        let has_all = |file| self.layout.pieces_ending_in(file).all(|piece| self.pieces[piece].is_some());
        let stale = (0..kept.len()).filter(|file| kept[*file] && !has_all(*file));
        let stale = stale.filter_map(|file| Some((file, self.done(file)?))).collect();
        Ok(self.journal.note(&self.tree, stale).await?)
    }

    fn take_piece(&mut self, out: PieceOut) {
        match out {
            PieceOut::Piece { index, made } => {
                self.pieces[index] = <[u8; 20]>::try_from(made.hash().digest()).ok();
                self.batch.push(made);
                let last = self.layout.files_of(index).end.saturating_sub(1);
                if self.kept[last] {
                    self.batch.ended.push(last);
                }
            }
            PieceOut::Passed(file) => {
                self.passed[file] = true;
                self.note(file);
            }
        }
    }

    fn take_leaf(&mut self, out: LeafOut) {
        match out {
            LeafOut::Made(made) => self.batch.push(made),
            LeafOut::File { file, built } => {
                self.built[file] = Some(built);
                self.note(file);
            }
        }
    }

    /// Notes a file when both of its halves have come.
    fn note(&mut self, file: usize) {
        if self.passed[file] && self.built[file].is_some() {
            self.batch.ended.push(file);
        }
    }

    /// Writes the batch: what is referenced, what is stored, and only then that the files are done.
    async fn write(&mut self) -> Result<(), PublishError> {
        let batch = std::mem::replace(&mut self.batch, Batch { written_at: self.read_bytes, ..Batch::default() });
        let hold = self.journal.hold();
        self.store.refer(hold, &batch.references).await?;
        if !batch.blocks.is_empty() {
            self.store.pin(hold, batch.blocks.iter().map(|block| *block.hash()));
            try_join_all(batch.blocks.into_iter().map(|block| self.store.put_cold(block))).await?;
            self.store.flush().await?;
        }
        let done: Vec<_> = batch.ended.iter().filter_map(|file| Some((*file, self.done(*file)?))).collect();
        self.journal.note(&self.tree, done).await?;
        Ok(())
    }

    fn done(&self, file: usize) -> Option<Done> {
        let ending = self.layout.pieces_ending_in(file);
        let pieces = ending.filter_map(|piece| Some((piece, self.pieces[piece]?))).collect();
        Some(Done { built: self.built[file]?, pieces })
    }

    /// Builds what is above the files.
    fn directories(&mut self) -> Result<Built, PublishError> {
        let mut blocks = Vec::new();
        let root = build(&self.tree.top, &self.tree.path, &self.built, &mut blocks)?;
        for block in blocks {
            self.batch.push(Made::Block(VerifiedBlock::name(HashKind::Sha2_256, block.bytes)));
        }
        Ok(root)
    }

    fn hashes(&self) -> Result<Vec<[u8; 20]>, PublishError> {
        let all = self.pieces.iter().copied().collect::<Option<Vec<_>>>();
        all.ok_or(PublishError::CutShort("a piece was not hashed"))
    }

    /// Looks at every file once more: the first may have changed while the last was read.
    async fn check_files(&self) -> Result<(), PublishError> {
        let tree = Arc::clone(&self.tree);
        let checked = tokio::task::spawn_blocking(move || tree.check()).await;
        checked.map_err(|_| PublishError::CutShort("the runtime is stopping"))?
    }

    fn draft(self, options: &PublishOptions, root: Cid, extra: Vec<BlockHash>) -> Result<Draft, PublishError> {
        let pieces = self.hashes()?;
        let metainfo = torrent(options, &self.tree, &self.layout, &pieces)?;
        let mut files = Vec::with_capacity(self.tree.files.len());
        for (number, (file, built)) in self.tree.files.iter().zip(&self.built).enumerate() {
            let built = built.ok_or(PublishError::CutShort("a file was not read"))?;
            let number = u32::try_from(number).map_err(|_| PublishError::TooMany(self.tree.path.clone()))?;
            let path = if file.names.is_empty() { vec![metainfo.info.name.clone()] } else { file.names.clone() };
            files.push(PublishedFile { number, path, len: file.len, cid: built.cid });
        }
        let Self { store, journal, read_bytes, .. } = self;
        Ok(Draft { metainfo, root, files, read_bytes, journal, store, pieces, extra })
    }
}

fn build(entry: &Entry, path: &Path, files: &[Option<Built>], blocks: &mut Vec<Block>) -> Result<Built, PublishError> {
    match entry {
        Entry::File(number) => files[*number].ok_or(PublishError::CutShort("a file was not read")),
        Entry::Symlink(target) => {
            let (built, block) = symlink(&Profile::V1_2025, target);
            blocks.push(block);
            Ok(built)
        }
        Entry::Directory(entries) => {
            let fail = |error| PublishError::Directory { path: path.to_owned(), error };
            let mut builder = DirectoryBuilder::new(Profile::V1_2025);
            for (name, entry) in entries {
                let built = build(entry, &path.join(name), files, blocks)?;
                builder.add(name.as_bytes(), built).map_err(fail)?;
            }
            let (built, made) = builder.finish().map_err(fail)?;
            blocks.extend(made);
            Ok(built)
        }
    }
}

impl Draft {
    /// Stores a block that belongs to what is published, and holds it with the rest.
    ///
    /// # Errors
    /// [`PublishError::Store`], [`PublishError::Record`].
    pub async fn put(&mut self, block: VerifiedBlock) -> Result<(), PublishError> {
        self.extra.push(*block.hash());
        self.store.pin(self.journal.hold(), [*block.hash()]);
        self.store.put(block).await?;
        Ok(self.store.flush().await?)
    }

    /// Which names are the same bytes: each file of the torrent and its CID. Files without bytes are left out: there is
    /// nothing of theirs to fetch.
    pub fn bindings(&self) -> impl Iterator<Item = ContentBinding> {
        let id = ContentId::BtV1(self.metainfo.infohash);
        self.files.iter().filter(|file| file.len > 0).map(move |file| ContentBinding {
            names: [Name::Torrent { id, file: file.number }, Name::Ipfs(ContentId::Ipfs(file.cid))].into(),
            len: Some(file.len),
            path: file.path.clone(),
            said_by: Authority::Published,
        })
    }

    /// Pins what the torrent needs as `publish:{infohash}`: its pieces, its `info` dictionary and what was
    /// [`put`](Self::put). The hold, and the notes for a next run, are let go; so the DAG has to be pinned by now.
    ///
    /// # Errors
    /// [`PublishError::Record`]; then it is still held.
    pub async fn seal(self) -> Result<(), PublishError> {
        let name = root_name(&self.metainfo);
        for some in self.pieces.chunks(BATCH) {
            self.store.pin(&name, some.iter().map(|hash| BlockHash::sha1(*hash)));
        }
        self.store.pin(&name, self.extra);
        self.store.flush().await?;
        Ok(self.journal.let_go().await?)
    }

    /// Lets all of it go: nothing is published.
    ///
    /// # Errors
    /// [`PublishError::Record`].
    pub async fn let_go(self) -> Result<(), PublishError> {
        Ok(self.journal.let_go().await?)
    }
}

#[cfg(test)]
mod tests;
