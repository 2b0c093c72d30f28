//! One reading of one DAG: blocks, paths, files, directories and CARs, over every source there is.
//!
//! A request has a [`Session`] of its own. What sources learn about who has the DAG is kept for as long as the session,
//! or anything that was opened from it, lives; dropping all of them withdraws every want.

use std::sync::{Arc, Weak};

use futures_core::Stream;
use swarmgate_content::{Attempt, ByteRange, Cid, ContentReader, DagLoan, FetchError, Stage, VerifiedBytes};
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::directory::Entry;
use swarmgate_ipfs_proto::export::Scope;
use swarmgate_ipfs_proto::path::{PathState, PathWalk, Resolved};
use swarmgate_ipfs_proto::walk::FileWalk;

use crate::at_hand::{AtHand, LeavesAtHand, look};
use crate::blocks::Ask;
use crate::fault::Fault;
use crate::life::Life;
use crate::loan::Loan;
use crate::patience::Patience;
use crate::source::{Provider, SessionId};
use crate::waiting::Waiting;
use crate::walking::{Drive, Exporting, FileReading, Listing, Walk};

/// Hints of one request that are looked at.
pub const MAX_HINTS: usize = 16;

/// How a request wants its blocks.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// How long it waits; the protocol's own when `None`.
    pub patience: Option<Patience>,
    /// Whether only the store is asked, as for `only-if-cached`.
    pub only_local: bool,
    /// Who may have the DAG, as the request says; untrusted, and at most [`MAX_HINTS`] of them are looked at.
    pub hints: Vec<Provider>,
}

/// One reading of one DAG.
#[derive(Debug)]
pub struct Session {
    life: Arc<Life>,
    waiting: Arc<Waiting>,
}

impl Session {
    /// One who reads for that life, with a clock of its own.
    pub(crate) fn new(life: Arc<Life>) -> Self {
        Self { waiting: life.waiting(), life }
    }

    /// A way to ask later what was tried, that does not keep the reading alive.
    pub(crate) fn watch(&self) -> Weak<Life> {
        Arc::downgrade(&self.life)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.life.id
    }

    /// Gets one block.
    ///
    /// # Errors
    /// [`FetchError`] with every attempt; `NotCached` when only the store may be asked.
    pub async fn block(&self, cid: &Cid) -> Result<VerifiedBytes, FetchError> {
        self.get(cid).await.map_err(|fault| self.life.tell(&fault, cid, Stage::FirstByte))
    }

    async fn get(&self, cid: &Cid) -> Result<VerifiedBytes, Fault> {
        self.life.root_or(*cid);
        if let Some(block) = self.life.recall(cid) {
            return Ok(block);
        }
        let block = self.fetch(Ask::first(*cid)).await?;
        self.life.remember(cid, &block);
        Ok(block)
    }

    /// Gets a block as long as there is patience for it.
    pub(crate) async fn fetch(&self, ask: Ask) -> Result<VerifiedBytes, Fault> {
        let block = self.waiting.within(self.life.blocks.get(&self.life, ask)).await??;
        self.waiting.progress();
        Ok(block)
    }

    /// Follows an immutable path to its end. Symlinks on the way are followed; one at the end is what the path names.
    ///
    /// # Errors
    /// `NotFound` when the path names nothing, `Invalid` when a block on the way cannot be read, `Unsupported` when its
    /// hash is not known here or the path begins with a name; else as [`Self::block`].
    pub async fn resolve_path(&self, path: &ContentPath) -> Result<Resolved, FetchError> {
        self.end_of(path, false).await
    }

    /// As [`Self::resolve_path`], and follows a symlink at the end too.
    ///
    /// # Errors
    /// As [`Self::resolve_path`].
    pub async fn follow_path(&self, path: &ContentPath) -> Result<Resolved, FetchError> {
        self.end_of(path, true).await
    }

    async fn end_of(&self, path: &ContentPath, follow_last: bool) -> Result<Resolved, FetchError> {
        let root = match &path.root {
            Root::Ipfs(cid) => *cid,
            Root::Key(name) => return Err(self.life.tell(&Fault::Name, &name.to_cid(), Stage::Resolve)),
            Root::Host(_) => return Err(self.life.tell(&Fault::Name, &Cid::default(), Stage::Resolve)),
        };
        let walked = self.walk_path(root, path.segments(), follow_last).await;
        walked.map_err(|fault| self.life.tell(&fault, &root, Stage::Resolve))
    }

    /// Follows names below a root to their end, symlinks too.
    pub(crate) async fn descend(&self, root: Cid, path: &[String]) -> Result<Resolved, Fault> {
        self.life.root_or(root);
        self.walk_path(root, path, true).await
    }

    /// Whether only the store is asked.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.life.only_local
    }

    async fn walk_path(&self, root: Cid, segments: &[String], follow_last: bool) -> Result<Resolved, Fault> {
        let mut walk = PathWalk::new(root, segments.iter().cloned(), follow_last)?;
        loop {
            let cid = match walk.state() {
                PathState::Resolved(resolved) => return Ok(Resolved::clone(resolved)),
                PathState::Want(cid) => *cid,
            };
            let block = self.get(&cid).await?;
            walk.provide(&cid, &block)?;
        }
    }

    /// How many bytes a file has. Fetches its first block alone.
    ///
    /// # Errors
    /// `Invalid` when it is no file; else as [`Self::block`].
    pub async fn file_len(&self, cid: &Cid) -> Result<u64, FetchError> {
        self.measure(cid).await.map_err(|fault| self.life.tell(&fault, cid, Stage::Resolve))
    }

    pub(crate) async fn measure(&self, cid: &Cid) -> Result<u64, Fault> {
        let first_byte = ByteRange::full(1).ok_or(Fault::Internal("a range of one byte is empty"))?;
        let mut walk = FileWalk::new(*cid, first_byte);
        // A root in its own CID is never wanted.
        if let Some(want) = walk.poll_want(1)? {
            let block = self.get(&want.cid).await?;
            walk.provide(&want.cid, &block)?;
        }
        walk.file_len().ok_or(Fault::Internal("the root of a file does not say its length"))
    }

    /// Whether all of a range of a file is here, so that it can be read with nobody to ask. Asks nobody.
    ///
    /// # Errors
    /// `Invalid` when a block on the way is no part of a file, and when the store cannot be read.
    pub async fn has_file(&self, cid: &Cid, range: ByteRange) -> Result<bool, FetchError> {
        let here = self.life.blocks.has_file(cid, range).await;
        here.map_err(|fault| self.life.tell(&fault, cid, Stage::FirstByte))
    }

    /// Begins to read a range of a file. What of the range lies past the file's end is not there, and no error.
    #[must_use]
    pub fn file(&self, cid: Cid, range: ByteRange) -> ContentReader {
        let reading = self.reading(cid, range);
        let tally = reading.tally();
        ContentReader::new(self.drive(cid, reading).into_stream()).with_account(tally)
    }

    /// As [`Self::file`], for somebody who may have parts of it: what is right of `at_hand` is not asked for.
    #[must_use]
    pub fn file_over(&self, cid: Cid, range: ByteRange, at_hand: Arc<dyn AtHand>) -> ContentReader {
        let root_at = look(at_hand.clone(), cid, 0, None);
        let walk = self.reading(cid, range).with_leaves(Arc::new(LeavesAtHand(at_hand))).with_root_at(root_at);
        ContentReader::new(self.drive(cid, walk).into_stream())
    }

    /// Lends a file, for somebody who gets parts of it by other ways too. What is asked for by way of the loan is waited
    /// for as long as this session would, each thing by itself; `only_local` and hints are this session's.
    #[must_use]
    pub fn lend(&self, root: Cid) -> Arc<dyn DagLoan> {
        Arc::new(Loan::new(self.life.clone(), root))
    }

    pub(crate) fn reading(&self, cid: Cid, range: ByteRange) -> FileReading {
        FileReading::new(self.life.clone(), cid, range)
    }

    pub(crate) fn drive<W: Walk + 'static>(&self, root: Cid, walk: W) -> Drive<W> {
        Drive::new(self.life.clone(), self.waiting.clone(), root, walk)
    }

    /// Lists a directory, sharded or not, in the order of its blocks.
    pub fn entries(&self, cid: Cid) -> impl Stream<Item = Result<Entry, FetchError>> + Send + use<> {
        self.drive(cid, Listing::new(cid)).into_stream()
    }

    /// The blocks of a CAR in order: those of the way to the end of a path, then what `scope` says of what is there.
    pub fn export(
        &self,
        way: &[Cid],
        end: Cid,
        scope: Scope,
        duplicates: bool,
    ) -> impl Stream<Item = Result<(Cid, VerifiedBytes), FetchError>> + Send + use<> {
        let root = way.first().copied().unwrap_or(end);
        self.drive(root, Exporting::new(way, end, scope, duplicates)).into_stream()
    }

    /// What was tried so far.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        self.life.attempts()
    }
}
