//! IPFS as one of the gateway's protocols.
//!
//! What the HTTP routes of IPFS need is more than a [`Protocol`] has: they take a [`Session`] and [`Names`] from here.
//! Through the trait a CID is a content as any other: a tree of files, each read by ranges.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_content::{
    Attempt, BoxFuture, ByteRange, Capabilities, Cid, ContentId, ContentMeta, ContentReader, DagLender, DagLoan,
    FetchError, FetchErrorKind, FileRef, Health, HealthState, LoanError, Protocol, ProtocolKind, ResolveRequest, Stage,
    StatsSnapshot, Verification,
};
use swarmgate_store::Store;

use crate::blocks::{Blocks, SourceStatus};
use crate::life::Life;
use crate::names::{Names, NamesOptions};
use crate::patience::Patience;
use crate::pins::Pins;
use crate::session::{Session, SessionOptions};
use crate::source::{BlockSource, Router};
use crate::tree::tree;

/// File trees that are remembered; the largest has some 2 MiB.
const MAX_TREES: usize = 32;
/// Readings that are remembered for whoever asks what was tried.
const MAX_READINGS: usize = 64;

/// What the protocol is made of. Sources and routers belong to whoever made them, and are stopped after it.
#[derive(Debug)]
pub struct IpfsParts {
    /// The shared store.
    pub store: Store,
    /// Where blocks come from, the preferred first. None: what the store has.
    pub sources: Vec<Arc<dyn BlockSource>>,
    /// Who knows who has a block, and IPNS records.
    pub routers: Vec<Arc<dyn Router>>,
    /// How names are looked up.
    pub names: NamesOptions,
    /// How long a reading waits unless it says otherwise.
    pub patience: Patience,
}

/// See the module's head. Its owner must call [`Protocol::shutdown`].
#[derive(Debug)]
pub struct IpfsProtocol {
    blocks: Arc<Blocks>,
    names: Arc<Names>,
    pins: Pins,
    trees: Mutex<Trees>,
    readings: Mutex<VecDeque<(ContentId, Weak<Life>)>>,
}

/// Trees resolved lately, the latest last.
#[derive(Debug, Default)]
struct Trees {
    by_root: BTreeMap<Vec<u8>, Arc<ContentMeta>>,
    order: VecDeque<Vec<u8>>,
}

impl IpfsProtocol {
    /// Starts it. Must be called within a runtime.
    #[must_use]
    pub fn start(parts: IpfsParts) -> Arc<Self> {
        let IpfsParts { store, sources, routers, names, patience } = parts;
        let names = Arc::new(Names::new(store.clone(), routers.clone(), names));
        let blocks = Blocks::new(store.clone(), sources, routers, patience);
        let pins = Pins::new(store).telling(blocks.arrivals.clone());
        Arc::new(Self { blocks, names, pins, trees: Mutex::default(), readings: Mutex::default() })
    }

    /// Begins to read a DAG. Cheap; one for each request.
    #[must_use]
    pub fn session(&self, options: SessionOptions) -> Session {
        self.blocks.session(options)
    }

    /// The way to single blocks, and their sources.
    #[must_use]
    pub const fn blocks(&self) -> &Arc<Blocks> {
        &self.blocks
    }

    /// Where names are looked up.
    #[must_use]
    pub const fn names(&self) -> &Arc<Names> {
        &self.names
    }

    /// The DAGs that are kept.
    #[must_use]
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// How each source has served.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStatus> {
        self.blocks.status()
    }

    /// A session that is remembered under the content's id.
    fn reading(&self, id: ContentId) -> Session {
        let session = self.session(SessionOptions::default());
        let mut readings = self.readings.lock();
        readings.push_back((id, session.watch()));
        if readings.len() > MAX_READINGS {
            readings.pop_front();
        }
        session
    }

    async fn tree_of(&self, id: ContentId, until: Option<Instant>) -> Result<Arc<ContentMeta>, FetchError> {
        let root = root_of(id)?;
        if let Some(known) = self.trees.lock().get(&root) {
            return Ok(known);
        }
        let session = self.reading(id);
        let read = tree(&session, root);
        let meta = match until {
            None => read.await?,
            Some(until) => tokio::time::timeout_at(until.into(), read).await.unwrap_or_else(|_| {
                let late = "the time for finding out what it is has passed";
                let error = FetchError::new(id, Stage::Resolve, FetchErrorKind::TimedOut, late);
                Err(error.with_attempts(session.attempts()))
            })?,
        };
        let meta = Arc::new(meta);
        self.trees.lock().put(&root, meta.clone());
        Ok(meta)
    }

    async fn open_file(&self, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
        let meta = self.tree_of(file.id, None).await?;
        let absent = || FetchError::new(file.id, Stage::FirstByte, FetchErrorKind::NotFound, "there is no such file");
        let Verification::Dag(roots) = &meta.verification else { return Err(absent()) };
        let (root, entry) = roots.get(file.index).zip(meta.files.get(file.index)).ok_or_else(absent)?;
        if range.end() > entry.len {
            return Err(absent());
        }
        Ok(self.reading(file.id).file(*root, range))
    }
}

fn root_of(id: ContentId) -> Result<Cid, FetchError> {
    match id {
        ContentId::Ipfs(cid) => Ok(cid),
        ContentId::BtV1(_) | ContentId::BtV2(_) => {
            let detail = "IPFS has contents by CID alone";
            Err(FetchError::new(id, Stage::Resolve, FetchErrorKind::Unsupported, detail))
        }
    }
}

impl Trees {
    fn get(&self, root: &Cid) -> Option<Arc<ContentMeta>> {
        self.by_root.get(&root.to_bytes()).cloned()
    }

    fn put(&mut self, root: &Cid, meta: Arc<ContentMeta>) {
        let key = root.to_bytes();
        if self.by_root.insert(key.clone(), meta).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MAX_TREES
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_root.remove(&oldest);
        }
    }
}

impl DagLender for IpfsProtocol {
    fn lend_dag(&self, root: Cid) -> Arc<dyn DagLoan> {
        self.reading(ContentId::Ipfs(root)).lend(root)
    }

    fn find(&self, root: Cid, path: Vec<String>) -> BoxFuture<'_, Result<Cid, LoanError>> {
        let session = self.session(SessionOptions::default());
        Box::pin(async move { Ok(session.descend(root, &path).await?.cid) })
    }
}

impl Protocol for IpfsProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::Ipfs
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: false, infohash_v2: false, cid: true, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            let resolved = self.tree_of(request.id, Some(request.deadline)).await;
            match &resolved {
                Ok(_) => self.blocks.stats.resolved(1),
                Err(_) => self.blocks.stats.resolve_failed(1),
            }
            resolved
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(async move {
            let opened = self.open_file(file, range).await;
            match &opened {
                Ok(_) => self.blocks.stats.opened(1),
                Err(_) => self.blocks.stats.read_failed(1),
            }
            opened
        })
    }

    fn attempts(&self, id: &ContentId) -> Vec<Attempt> {
        let readings = self.readings.lock();
        let latest = readings.iter().rev().filter(|(of, _)| of == id).find_map(|(_, life)| life.upgrade());
        drop(readings);
        latest.map_or_else(Vec::new, |life| life.attempts())
    }

    fn health(&self) -> Health {
        let sources = self.sources();
        let resting = sources.iter().filter(|source| source.stats.resting_ms > 0).count();
        let state = match (sources.len(), resting) {
            (0, _) => HealthState::Degraded,
            (all, resting) if resting == all => HealthState::Down,
            (_, 0) => HealthState::Ok,
            _ => HealthState::Degraded,
        };
        let named = |source: &SourceStatus| match source.stats.resting_ms {
            0 => format!("{} ({} blocks)", source.name, source.stats.delivered),
            rest => format!("{} (rests for {} s)", source.name, rest.div_ceil(1000)),
        };
        let evidence = match sources.len() {
            0 => "no sources: what the cache has is served".to_owned(),
            _ => sources.iter().map(named).collect::<Vec<_>>().join(", "),
        };
        Health { state, evidence }
    }

    fn stats(&self) -> StatsSnapshot {
        self.blocks.stats.snapshot()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if tokio::time::timeout_at(deadline.into(), self.blocks.shutdown()).await.is_err() {
                tracing::warn!("fetches from IPFS were still under way at the end");
            }
        })
    }
}
