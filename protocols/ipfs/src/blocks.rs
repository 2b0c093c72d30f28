//! [`Blocks`]: the one way to a block, whoever wants it.
//!
//! A block is in its own CID; or in the store; or it is fetched, once for all who want it, checked, handed to them and
//! put into the store behind their backs. A store that has no room is no obstacle: what was fetched is handed out all
//! the same.
//!
//! # Why is a block hashed again that its source has checked?
//! Because the store takes only what its own verifier has seen, and the bytes that a source hands over do not say of
//! which block they are. It costs 0.7 ms for a mebibyte, on another core than the one that reads the network.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_content::{BlockHash, ByteRange, Cid, Leaf, ProtocolStats, VerifiedBytes};
use swarmgate_ipfs_proto::block::{MAX_BLOCK_BYTES, hash_of};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::leaf;
use swarmgate_store::{ReadError, Store, VerifiedBlock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arrivals::Arrivals;
use crate::fault::Fault;
use crate::flights::Flights;
use crate::life::{Life, now};
use crate::near::Layouts;
use crate::patience::Patience;
use crate::race::Race;
use crate::session::{Session, SessionOptions};
use crate::source::{BlockSource, Entity, Router, SessionId};
use crate::standing::{SourceStats, Standings};

/// Blocks that wait at a time to be written to the store; at most 2 MiB each. Past that, fetches wait.
const MAX_LANDING: usize = 32;

/// Bytes of a file for which blocks have the same priority. Lower comes later, and the scale has room for 512 TiB.
const PRIORITY_STEP: u64 = 256 << 10;

/// Longer blocks are leaves, which a reader takes once. Nodes are shorter, and every seek reads them again.
const MAX_NODE_BYTES: usize = 64 << 10;

/// A block that a reading wants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) cid: Cid,
    pub(crate) expected_len: Option<u32>,
    pub(crate) priority: i32,
    /// What it is read for.
    pub(crate) within: Option<Entity>,
}

impl Ask {
    /// A block that is wanted before all others.
    pub(crate) const fn first(cid: Cid) -> Self {
        Self { cid, expected_len: None, priority: i32::MAX, within: None }
    }

    /// A part of a file, which begins at `offset` and is thought to have so many bytes.
    pub(crate) fn part(cid: Cid, offset: u64, estimated_bytes: u64) -> Self {
        // Only a block without a frame is as long as its part of the file, and of a root nobody knows how long it is.
        let is_bare = cid.codec() == Codec::Raw.code() && offset > 0;
        Self {
            cid,
            expected_len: is_bare.then(|| u32::try_from(estimated_bytes).ok()).flatten(),
            priority: i32::try_from(offset / PRIORITY_STEP).map_or(i32::MIN, |steps| i32::MAX - steps),
            within: None,
        }
    }

    /// The same block, without those of the file that come after `leaf`.
    pub(crate) fn for_leaf_alone(self, root: Cid, leaf: &Leaf) -> Self {
        let bytes = leaf.offset.checked_add(leaf.len).and_then(|end| ByteRange::new(leaf.offset, end));
        Self { within: bytes.map(|bytes| Entity { root, bytes: Some(bytes) }), ..self }
    }
}

/// Where blocks come from. One for an application; see the module's head.
#[derive(Debug)]
pub struct Blocks {
    pub(crate) store: Store,
    pub(crate) arrivals: Arrivals,
    pub(crate) sources: Arc<[Arc<dyn BlockSource>]>,
    pub(crate) routers: Arc<[Arc<dyn Router>]>,
    pub(crate) standings: Mutex<Standings>,
    pub(crate) stats: ProtocolStats,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) layouts: Layouts,
    flights: Arc<Flights>,
    patience: Patience,
    next_session: AtomicU64,
    /// Checked, and on their way into the store.
    landing: Mutex<BTreeMap<BlockHash, VerifiedBytes>>,
    slots: Arc<Semaphore>,
}

/// One source, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// How it has served.
    #[serde(flatten)]
    pub stats: SourceStats,
}

impl Blocks {
    /// Reads from these sources, the preferred first, by way of this store.
    #[must_use]
    pub fn new(
        store: Store,
        sources: Vec<Arc<dyn BlockSource>>,
        routers: Vec<Arc<dyn Router>>,
        patience: Patience,
    ) -> Arc<Self> {
        let sources: Arc<[_]> = sources.into();
        Arc::new(Self {
            store,
            arrivals: Arrivals::told_to(sources.clone()),
            standings: Mutex::new(Standings::new(sources.len(), rand::random())),
            sources,
            routers: routers.into(),
            stats: ProtocolStats::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            layouts: Layouts::default(),
            flights: Arc::default(),
            patience,
            next_session: AtomicU64::new(1),
            landing: Mutex::default(),
            slots: Arc::new(Semaphore::new(MAX_LANDING)),
        })
    }

    /// Begins to read a DAG.
    #[must_use]
    pub fn session(self: &Arc<Self>, options: SessionOptions) -> Session {
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        Session::new(Life::new(self.clone(), id, self.patience, options))
    }

    /// The store that blocks go into.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// How each source has served.
    #[must_use]
    pub fn status(&self) -> Vec<SourceStatus> {
        let stats = self.standings.lock().stats(now());
        let named = self.sources.iter().zip(stats);
        named.map(|(source, stats)| SourceStatus { name: source.name().to_owned(), stats }).collect()
    }

    /// How many blocks are being fetched.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.count()
    }

    /// A block that is here: in its CID, or in the store.
    pub(crate) async fn local(&self, cid: &Cid) -> Result<Option<VerifiedBytes>, Fault> {
        if let Some(inline) = VerifiedBytes::inline(cid) {
            return Ok(Some(inline));
        }
        let hash = hash_of(cid)?;
        if let Some(block) = self.landing.lock().get(&hash) {
            return Ok(Some(block.clone()));
        }
        // Pieces of torrents are blocks too, and may be larger than any that a DAG has.
        if self.store.block_len(&hash).is_none_or(|len| len as usize > MAX_BLOCK_BYTES) {
            return Ok(None);
        }
        let closed = |error: &ReadError| matches!(error, ReadError::Closed);
        let fault = |error: ReadError| match closed(&error) {
            true => Fault::ShuttingDown,
            false => Fault::Store(error.to_string().into()),
        };
        self.store.read_all(&hash).await.map_err(fault)
    }

    /// How long a block is that is here, in the store or on its way into it.
    pub(crate) fn local_len(&self, hash: &BlockHash) -> Option<u64> {
        let landing = self.landing.lock().get(hash).map(|block| block.len() as u64);
        landing.or_else(|| self.store.block_len(hash).map(u64::from))
    }

    /// Gets a block for a reading. Waits without end: how long is the reading's to say.
    pub(crate) async fn get(self: &Arc<Self>, life: &Arc<Life>, ask: Ask) -> Result<VerifiedBytes, Fault> {
        let local = self.local(&ask.cid).await;
        match local {
            Ok(Some(block)) => return Ok(block),
            // A disk that cannot be read is no reason not to ask others.
            Err(Fault::Store(error)) if !life.only_local && !self.sources.is_empty() => {
                tracing::warn!(cid = %ask.cid, %error, "reading the cache failed");
            }
            Err(fault) => return Err(fault),
            Ok(None) if life.only_local => return Err(Fault::NotCached(Box::new(ask.cid))),
            Ok(None) => {}
        }
        if self.stop.is_cancelled() {
            return Err(Fault::ShuttingDown);
        }
        self.fetch(life, ask).await
    }

    async fn fetch(self: &Arc<Self>, life: &Arc<Life>, ask: Ask) -> Result<VerifiedBytes, Fault> {
        let hash = hash_of(&ask.cid)?;
        life.meet_sources();
        life.note_fetch(ask.cid);
        let (mut ticket, theirs) = self.flights.join(hash, &life.search.found, |landing| {
            let (blocks, life) = (self.clone(), life.clone());
            let task = async move {
                let outcome = tokio::select! {
                    outcome = blocks.fetch_now(&life, hash, ask) => outcome,
                    () = blocks.stop.cancelled() => Err(Fault::ShuttingDown),
                };
                landing.tell(outcome);
            };
            self.tasks.spawn(task).abort_handle()
        });
        if let Some(theirs) = theirs {
            life.search.found.share_with(&theirs);
        }
        ticket.wait().await.unwrap_or(Err(Fault::Internal("a fetch ended without an outcome")))
    }

    async fn fetch_now(self: &Arc<Self>, life: &Arc<Life>, hash: BlockHash, ask: Ask) -> Result<VerifiedBytes, Fault> {
        // It may have come between the look into the store and the beginning of this fetch.
        if let Ok(Some(block)) = self.local(&ask.cid).await {
            return Ok(block);
        }
        let block = Race::new(self, life, hash, ask).run().await?;
        let bytes = block.bytes().clone();
        self.land(block).await;
        Ok(bytes)
    }

    /// Puts a block into the store in the background. Until it is there, it is found among those landing.
    async fn land(self: &Arc<Self>, block: VerifiedBlock) {
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
        let (blocks, hash) = (self.clone(), *block.hash());
        self.landing.lock().insert(hash, block.bytes().clone());
        self.tasks.spawn(async move {
            let is_node = block.bytes().len() <= MAX_NODE_BYTES;
            let put = if is_node { blocks.store.put(block).await } else { blocks.store.put_cold(block).await };
            match put {
                Ok(()) => blocks.arrivals.tell(&hash),
                Err(error) => tracing::debug!(%hash, %error, "a block was not kept"),
            }
            blocks.landing.lock().remove(&hash);
            drop(slot);
        });
    }

    /// Takes the block of that name that came from elsewhere, as what its leaf has of the file: it goes to whoever
    /// waits for it here, into the store, and to the peers that wait for it. `None` when it is another.
    pub(crate) async fn admit(self: &Arc<Self>, cid: &Cid, bytes: Bytes) -> Result<Option<VerifiedBytes>, Fault> {
        if VerifiedBytes::inline(cid).is_some() {
            return Ok(leaf::recognise(cid, bytes));
        }
        let hash = hash_of(cid)?;
        for candidate in leaf::candidates(cid, bytes) {
            let Ok(block) = self.store.verifier().verify(hash, candidate).await else { continue };
            let found = block.bytes().clone();
            if self.stop.is_cancelled() {
                return Err(Fault::ShuttingDown);
            }
            self.flights.give(&hash, &found);
            let is_here = self.landing.lock().contains_key(&hash) || self.store.contains(&hash);
            if !is_here {
                self.land(block).await;
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// Ends every reading, and waits until what was fetched is in the store.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
