//! The loop that all walks over a DAG share: ask for what the walk wants, give it what comes, hand out what it yields.
//!
//! What the walk wants is asked for at once, so blocks arrive while the client reads; what arrived is taken in whenever
//! the client asks for more. A fault is told when everything before it was handed out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use swarmgate_content::{
    Account, BoxFuture, ByteRange, Cid, FetchError, Leaf, Leaves, SourceMix, Stage, VerifiedBytes,
};
use swarmgate_ipfs_proto::block::BadBlock;
use swarmgate_ipfs_proto::directory::{DirectoryWalk, Entry};
use swarmgate_ipfs_proto::export::{DagExport, Scope};
use swarmgate_ipfs_proto::walk::{FileWalk, Want, fits};

use crate::blocks::Ask;
use crate::fault::Fault;
use crate::life::Life;
use crate::source::Entity;
use crate::waiting::Waiting;

/// Bytes of a file that are asked for ahead of its reader, at first.
const FIRST_WINDOW: u64 = 4 << 20;
/// The most, once a reader has had to wait for blocks that were asked for so far ahead.
const MAX_WINDOW: u64 = 16 << 20;
/// Blocks of an export that are asked for ahead of their turn.
const EXPORT_AHEAD: usize = 32;

/// A walk over a DAG, as the rules have them all.
pub(crate) trait Walk: Send {
    /// What it yields.
    type Item: Send;

    fn poll_want(&mut self) -> Result<Option<Ask>, BadBlock>;
    fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), BadBlock>;
    fn poll_item(&mut self) -> Result<Option<Self::Item>, BadBlock>;
    fn is_done(&self) -> bool;
    /// Where the block that was wanted last may be had before IPFS is asked for it.
    fn elsewhere(&mut self) -> Option<Elsewhere> {
        None
    }
    /// Where in a file that is which was wanted last, for walks that tell later where their bytes came from.
    fn place(&self) -> Option<u64> {
        None
    }
    /// What was wanted at that place has come, out of the store or not.
    fn came(&mut self, _place: u64, _fetched: bool) {}
    /// Its reader has to wait.
    fn starve(&mut self) {}
}

/// Where a block may be had before IPFS is asked for it, though not before the store is.
pub(crate) enum Elsewhere {
    /// The root of a file: its only leaf, when the file has but one.
    Root(BoxFuture<'static, Option<VerifiedBytes>>),
    /// What may be a leaf, after the root of its file.
    Leaf(Box<(Cid, Leaf)>, Arc<dyn Leaves>),
}

/// A block that a walk wanted, and whether it had to be fetched.
type Came = (Cid, Option<u64>, Result<(VerifiedBytes, bool), Fault>);

/// A walk on its way.
pub(crate) struct Drive<W: Walk> {
    life: Arc<Life>,
    waiting: Arc<Waiting>,
    root: Cid,
    walk: W,
    fetches: FuturesUnordered<BoxFuture<'static, Came>>,
    fault: Option<Fault>,
    stage: Stage,
    ended: bool,
}

impl<W: Walk + 'static> Drive<W> {
    pub(crate) fn new(life: Arc<Life>, waiting: Arc<Waiting>, root: Cid, walk: W) -> Self {
        life.root_or(root);
        let fetches = FuturesUnordered::new();
        Self { life, waiting, root, walk, fetches, fault: None, stage: Stage::FirstByte, ended: false }
    }

    /// All that the walk yields, as a stream. Dropping it withdraws what it has asked for.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<W::Item, FetchError>> + Send + use<W> {
        stream::unfold(self, |mut drive| async move { drive.next().await.map(|item| (item, drive)) })
    }

    /// The next of what the walk yields; `None` at its end, and after an error.
    pub(crate) async fn next(&mut self) -> Option<Result<W::Item, FetchError>> {
        if self.ended {
            return None;
        }
        let step = self.step().await;
        self.ended = !matches!(step, Ok(Some(_)));
        match step {
            Ok(item) => {
                self.stage = Stage::Stream;
                item.map(Ok)
            }
            Err(fault) => Some(Err(self.life.tell(&fault, &self.root, self.stage))),
        }
    }

    /// As [`Self::next`], for who tells of faults in another way. Not to be called again after one.
    pub(crate) async fn step(&mut self) -> Result<Option<W::Item>, Fault> {
        loop {
            self.take_what_came();
            if let Some(item) = self.walk.poll_item()? {
                // The window has moved: what is new in it is asked for before the client has this.
                self.take_what_came();
                return Ok(Some(item));
            }
            if self.walk.is_done() {
                return Ok(None);
            }
            // Some walks want more only after they were asked for an item in vain.
            self.ask();
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            if self.fetches.is_empty() {
                return Err(Fault::Internal("a walk wants nothing and is not done"));
            }
            self.walk.starve();
            self.ask();
            let waiting = self.waiting.clone();
            if let Some(came) = waiting.within(self.fetches.next()).await? {
                self.take(came);
            }
        }
    }

    fn take_what_came(&mut self) {
        self.ask();
        while let Some(Some(came)) = self.fetches.next().now_or_never() {
            self.take(came);
            self.ask();
        }
    }

    fn ask(&mut self) {
        while self.fault.is_none() {
            match self.walk.poll_want() {
                Ok(Some(ask)) => {
                    let (elsewhere, place) = (self.walk.elsewhere(), self.walk.place());
                    let life = self.life.clone();
                    self.fetches.push(Box::pin(async move { (ask.cid, place, get(&life, ask, elsewhere).await) }));
                }
                Ok(None) => return,
                Err(bad) => self.fault = Some(bad.into()),
            }
        }
    }

    fn take(&mut self, (cid, place, result): Came) {
        if result.is_ok() {
            self.waiting.progress();
        }
        if let (Some(place), Ok((_, fetched))) = (place, &result) {
            self.walk.came(place, *fetched);
        }
        let taken = result.and_then(|(block, _)| Ok(self.walk.provide(&cid, &block)?));
        if let Err(fault) = taken {
            self.fault.get_or_insert(fault);
        }
    }
}

/// Gets a block: out of the store; of who may have it elsewhere; and then as all others. Tells whether it had to be
/// fetched.
async fn get(life: &Arc<Life>, ask: Ask, elsewhere: Option<Elsewhere>) -> Result<(VerifiedBytes, bool), Fault> {
    match life.blocks.local(&ask.cid).await {
        Ok(Some(block)) => Ok((block, false)),
        Ok(None) | Err(Fault::Store(_)) => get_from_others(life, ask, elsewhere).await.map(|block| (block, true)),
        Err(fault) => Err(fault),
    }
}

async fn get_from_others(life: &Arc<Life>, ask: Ask, elsewhere: Option<Elsewhere>) -> Result<VerifiedBytes, Fault> {
    let Some(elsewhere) = elsewhere else { return life.blocks.get(life, ask).await };
    let (found, ask_after) = match elsewhere {
        Elsewhere::Root(found) => (found.await, ask),
        Elsewhere::Leaf(place, leaves) => {
            let (root, leaf) = *place;
            // Who says so at once has none of what follows either.
            let Some(found) = leaves.leaf(leaf) else { return life.blocks.get(life, ask).await };
            let found = found.await.filter(|block| fits(&leaf.cid, leaf.len, block));
            (found, ask.for_leaf_alone(root, &leaf))
        }
    };
    match found {
        Some(block) => Ok(block),
        None => life.blocks.get(life, ask_after).await,
    }
}

/// A range of a file, with the window that its reader needs.
pub(crate) struct FileReading {
    root: Cid,
    end: u64,
    walk: FileWalk,
    window: u64,
    life: Arc<Life>,
    leaves: Option<Arc<dyn Leaves>>,
    /// Where the root may be, until it was looked for.
    root_at: Option<BoxFuture<'static, Option<VerifiedBytes>>>,
    /// What was wanted last.
    wanted: Option<Want>,
    /// Whether what begins at these places of the file had to be fetched, from where the reader is.
    origins: BTreeMap<u64, bool>,
    /// Whether what the reader was handed last had to be.
    fetched: bool,
    tally: Arc<FileTally>,
}

/// What the reader of a file was handed: what was in the store, and what had to be fetched.
#[derive(Debug, Default)]
pub(crate) struct FileTally {
    cache: AtomicU64,
    fetched: AtomicU64,
}

impl Account for FileTally {
    fn mix(&self) -> SourceMix {
        SourceMix::of_one(self.cache.load(Ordering::Relaxed), "ipfs", self.fetched.load(Ordering::Relaxed))
    }
}

impl FileReading {
    pub(crate) fn new(life: Arc<Life>, root: Cid, range: ByteRange) -> Self {
        let (end, walk) = (range.end(), FileWalk::new(root, range));
        // The root may have come as the end of a path, a moment ago.
        let fetched = life.has_fetched(&root);
        Self {
            root,
            end,
            walk,
            window: FIRST_WINDOW,
            life,
            leaves: None,
            root_at: None,
            wanted: None,
            origins: BTreeMap::new(),
            fetched,
            tally: Arc::default(),
        }
    }

    /// Who counts what its reader is handed.
    pub(crate) fn tally(&self) -> Arc<FileTally> {
        self.tally.clone()
    }

    /// Counts what begins at `at`.
    fn count(&mut self, at: u64, len: u64) {
        let later = self.origins.split_off(&at.saturating_add(1));
        if let Some((_, fetched)) = std::mem::replace(&mut self.origins, later).pop_last() {
            self.fetched = fetched;
        }
        let whose = if self.fetched { &self.tally.fetched } else { &self.tally.cache };
        whose.fetch_add(len, Ordering::Relaxed);
    }

    /// Asks for leaves there before it asks IPFS.
    pub(crate) fn with_leaves(mut self, leaves: Arc<dyn Leaves>) -> Self {
        self.leaves = Some(leaves);
        self
    }

    /// Looks for the root there before it asks IPFS.
    pub(crate) fn with_root_at(mut self, root_at: Option<BoxFuture<'static, Option<VerifiedBytes>>>) -> Self {
        self.root_at = root_at;
        self
    }

    /// What is read from a block on, when the reader is near it. Nodes that are looked up far ahead come out of order.
    fn read_from(&self, want: &Want) -> Option<Entity> {
        // Of a file whose leaves may come by other ways, nobody is to send leaves along with nodes.
        if self.leaves.is_some() && want.leaf_bytes.is_none() {
            return None;
        }
        let offset = want.offset;
        let (position, window) = (self.walk.position(), self.window);
        let end = self.walk.file_len().map_or(self.end, |len| len.min(self.end));
        let bytes = ByteRange::new(offset.max(position), end).filter(|_| offset < position.saturating_add(window))?;
        Some(Entity { root: self.root, bytes: Some(bytes) })
    }
}

impl Walk for FileReading {
    type Item = VerifiedBytes;

    fn poll_want(&mut self) -> Result<Option<Ask>, BadBlock> {
        self.wanted = self.walk.poll_want(self.window)?;
        Ok(self.wanted.map(|want| {
            let ask = Ask::part(want.cid, want.offset, want.estimated_bytes);
            Ask { within: self.read_from(&want), ..ask }
        }))
    }

    fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), BadBlock> {
        self.walk.provide(cid, block).map(drop)
    }

    fn poll_item(&mut self) -> Result<Option<VerifiedBytes>, BadBlock> {
        let at = self.walk.position();
        let bytes = self.walk.poll_bytes();
        if let Some(bytes) = &bytes {
            self.count(at, bytes.len() as u64);
            self.life.blocks.stats.bytes_delivered(bytes.len() as u64);
        }
        Ok(bytes)
    }

    fn is_done(&self) -> bool {
        self.walk.is_done()
    }

    fn elsewhere(&mut self) -> Option<Elsewhere> {
        let want = self.wanted?;
        if want.cid == self.root {
            return self.root_at.take().map(Elsewhere::Root);
        }
        // What is taken for a leaf and is a node is looked for in vain.
        let leaf = Leaf { cid: want.cid, offset: want.offset, len: want.leaf_bytes? };
        Some(Elsewhere::Leaf(Box::new((self.root, leaf)), self.leaves.clone()?))
    }

    fn place(&self) -> Option<u64> {
        self.wanted.map(|want| want.offset)
    }

    fn came(&mut self, place: u64, fetched: bool) {
        // What is wanted at one place comes from the root down, and the last of it are the bytes.
        let root = place == 0 && self.life.has_fetched(&self.root) && self.origins.is_empty();
        self.origins.insert(place, fetched || root);
    }

    fn starve(&mut self) {
        let begun = self.walk.position() > 0 && self.walk.buffered_bytes() == 0;
        if begun && self.walk.in_flight_bytes() * 2 > self.window {
            self.window = (self.window * 3 / 2).min(MAX_WINDOW);
        }
    }
}

/// A directory's names.
pub(crate) struct Listing {
    root: Cid,
    walk: DirectoryWalk,
}

impl Listing {
    pub(crate) fn new(root: Cid) -> Self {
        Self { root, walk: DirectoryWalk::new(root) }
    }
}

impl Walk for Listing {
    type Item = Entry;

    fn poll_want(&mut self) -> Result<Option<Ask>, BadBlock> {
        let within = Some(Entity { root: self.root, bytes: None });
        Ok(self.walk.poll_want().map(|cid| Ask { within, ..Ask::first(cid) }))
    }

    fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), BadBlock> {
        self.walk.provide(cid, block);
        Ok(())
    }

    fn poll_item(&mut self) -> Result<Option<Entry>, BadBlock> {
        self.walk.poll_entry()
    }

    fn is_done(&self) -> bool {
        self.walk.is_done()
    }
}

/// The blocks of a CAR. Each is asked for after those before it.
pub(crate) struct Exporting {
    export: DagExport,
    asked: i32,
}

impl Exporting {
    pub(crate) fn new(way: &[Cid], end: Cid, scope: Scope, duplicates: bool) -> Self {
        Self { export: DagExport::new(way, end, scope, duplicates), asked: 0 }
    }
}

impl Walk for Exporting {
    type Item = (Cid, VerifiedBytes);

    fn poll_want(&mut self) -> Result<Option<Ask>, BadBlock> {
        Ok(self.export.poll_want(EXPORT_AHEAD).map(|cid| {
            self.asked = self.asked.saturating_add(1);
            Ask { priority: i32::MAX - self.asked, ..Ask::first(cid) }
        }))
    }

    fn provide(&mut self, cid: &Cid, block: &VerifiedBytes) -> Result<(), BadBlock> {
        self.export.provide(cid, block);
        Ok(())
    }

    fn poll_item(&mut self) -> Result<Option<(Cid, VerifiedBytes)>, BadBlock> {
        self.export.poll_block()
    }

    fn is_done(&self) -> bool {
        self.export.is_done()
    }
}
