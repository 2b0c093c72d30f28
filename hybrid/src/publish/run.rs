//! One run: what the threads have made is gathered, written in batches, and noted when all of a file is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_content::merkle::Root;
use swarmgate_content::{BlockHash, Cid, HashKind};
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, Profile, symlink};
use swarmgate_store::{Reference, Store, VerifiedBlock};

use super::draft::{Draft, PublishedFile};
use super::journal::{self, Done, Journal, PieceHashes};
use super::layout::Layout;
use super::pipeline::{self, LeafOut, Made, PieceOut, Pipeline, RootOut};
use super::tree::{Entry, Tree};
use super::{BATCH, Progress, PublishError, PublishOptions, TorrentKind, torrent};

/// Bytes of copied blocks that are held before they are written.
const BATCH_BYTES: usize = 16 << 20;
/// Bytes that are read between two notes in the journal, at most, where a file ends.
const NOTE_EVERY_BYTES: u64 = 64 << 20;

/// What one run has come to.
pub(super) struct Run {
    store: Store,
    tree: Arc<Tree>,
    layout: Arc<Layout>,
    journal: Journal,
    pieces: Vec<Option<[u8; 20]>>,
    /// In a hybrid, of the same pieces.
    roots: Vec<Option<Root>>,
    built: Vec<Option<Built>>,
    /// Which files an earlier run has done.
    kept: Vec<bool>,
    /// Of which files every piece that ends in them is hashed.
    passed: Vec<Passed>,
    batch: Batch,
    read_bytes: u64,
}

/// Which hashes of a file's pieces have all come.
#[derive(Clone, Copy)]
struct Passed {
    pieces: bool,
    roots: bool,
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
    pub(super) fn new(store: &Store, tree: Arc<Tree>, layout: Arc<Layout>, journal: Journal) -> Self {
        let hybrid = layout.kind() == TorrentKind::Hybrid;
        Self {
            store: store.clone(),
            pieces: vec![None; layout.pieces()],
            roots: vec![None; if hybrid { layout.pieces() } else { 0 }],
            built: vec![None; tree.files.len()],
            kept: Vec::new(),
            passed: vec![Passed { pieces: false, roots: !hybrid }; tree.files.len()],
            batch: Batch::default(),
            read_bytes: 0,
            journal,
            tree,
            layout,
        }
    }

    /// Lets all of it go.
    pub(super) async fn let_go(&self) -> Result<(), PublishError> {
        Ok(self.journal.let_go().await?)
    }

    pub(super) async fn all(
        &mut self,
        options: &PublishOptions,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<(Cid, Vec<BlockHash>), PublishError> {
        self.kept = self.take_up().await?;
        let steps = self.layout.steps(&self.kept, |piece| self.pieces[piece].is_some());
        let to_read: u64 = steps.iter().map(|step| step.range.end - step.range.start).sum();
        let total = self.tree.total_len();
        let mut pipeline = Pipeline::start(Arc::clone(&self.tree), Arc::clone(&self.layout), steps, options.copy);
        while let Some(out) = pipeline.next().await {
            match out {
                pipeline::Out::Piece(out) => self.take_piece(out),
                pipeline::Out::Root(out) => self.take_root(&out),
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
        let blocks = metadata(metainfo);
        let extra = blocks.iter().map(|block| *block.hash()).collect();
        blocks.into_iter().for_each(|block| self.batch.push(Made::Block(block)));
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
        for (piece, PieceHashes { sha1, root }) in known {
            let in_kept = self.layout.files_of(piece).all(|file| kept[file] || self.layout.len_of(file) == 0);
            if in_kept && self.store.contains(&BlockHash::sha1(sha1)) {
                self.pieces[piece] = Some(sha1);
                self.roots.get_mut(piece).into_iter().for_each(|slot| *slot = root);
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
                self.note_again(index);
            }
            PieceOut::Passed(file) => {
                self.passed[file].pieces = true;
                self.note(file);
            }
        }
    }

    fn take_root(&mut self, out: &RootOut) {
        match *out {
            RootOut::Root { index, root } => {
                self.roots[index] = Some(root);
                self.note_again(index);
            }
            RootOut::Passed(file) => {
                self.passed[file].roots = true;
                self.note(file);
            }
        }
    }

    /// Notes the file that a piece ends in anew, if an earlier run has done it: then it is read for its pieces alone.
    fn note_again(&mut self, piece: usize) {
        let last = self.layout.files_of(piece).end.saturating_sub(1);
        if self.kept[last] {
            self.batch.ended.push(last);
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

    /// Notes a file when all that is made of it has come.
    fn note(&mut self, file: usize) {
        let Passed { pieces, roots } = self.passed[file];
        if pieces && roots && self.built[file].is_some() {
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
        let pieces = ending.filter_map(|piece| Some((piece, self.names_of(piece)?))).collect();
        Some(Done { built: self.built[file]?, pieces })
    }

    /// All names of a piece, once all have come.
    fn names_of(&self, piece: usize) -> Option<PieceHashes> {
        let root = match self.roots.get(piece) {
            Some(root) => Some((*root)?),
            None => None,
        };
        Some(PieceHashes { sha1: self.pieces[piece]?, root })
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

    fn hashes(&self) -> Result<Vec<PieceHashes>, PublishError> {
        let all = (0..self.pieces.len()).map(|piece| self.names_of(piece)).collect::<Option<Vec<_>>>();
        all.ok_or(PublishError::CutShort("a piece was not hashed"))
    }

    /// Looks at every file once more: the first may have changed while the last was read.
    async fn check_files(&self) -> Result<(), PublishError> {
        let tree = Arc::clone(&self.tree);
        let checked = tokio::task::spawn_blocking(move || tree.check()).await;
        checked.map_err(|_| PublishError::CutShort("the runtime is stopping"))?
    }

    pub(super) fn draft(
        self,
        options: &PublishOptions,
        root: Cid,
        extra: Vec<BlockHash>,
    ) -> Result<Draft, PublishError> {
        let hashes = self.hashes()?;
        let metainfo = torrent(options, &self.tree, &self.layout, &hashes)?;
        let pieces = hashes.into_iter().map(|hashes| hashes.sha1).collect();
        let mut files = Vec::with_capacity(self.tree.files.len());
        // Padding is a file of the torrent and none of the folder's.
        let numbers = (0..).zip(&metainfo.info.files).filter(|(_, entry)| !entry.padding).map(|(number, _)| number);
        for ((file, built), number) in self.tree.files.iter().zip(&self.built).zip(numbers) {
            let built = built.ok_or(PublishError::CutShort("a file was not read"))?;
            let path = if file.names.is_empty() { vec![metainfo.info.name.clone()] } else { file.names.clone() };
            files.push(PublishedFile { number, path, len: file.len, cid: built.cid });
        }
        let Self { store, journal, read_bytes, .. } = self;
        Ok(Draft { metainfo, root, files, read_bytes, journal, store, pieces, extra })
    }
}

/// What a torrent needs besides its pieces: its `info` dictionary under each of its names and, in a hybrid, the roots of
/// its pieces, which peers ask for.
fn metadata(metainfo: Metainfo) -> Vec<VerifiedBlock> {
    let Metainfo { id, info, info_bytes, .. } = metainfo;
    let v1 = id.v1().map(|_| VerifiedBlock::name(HashKind::Sha1, info_bytes.clone()));
    let v2 = id.v2().map(|_| VerifiedBlock::name(HashKind::Sha2_256, info_bytes));
    let roots = info.roots.map(|roots| VerifiedBlock::name(HashKind::Sha2_256, roots));
    v1.into_iter().chain(v2).chain(roots).collect()
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
