//! `HybridProtocol`: a protocol like any other, that stands on those that are registered.
//!
//! It is lent what they have and owns none of them: stopping it ends its own fetches and nothing else. A content that
//! one network alone has is that network's, and costs nothing more than before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_content::{
    Borrowed, BoxFuture, ByteRange, Capabilities, Cid, ContentId, ContentMeta, ContentReader, DagLender, DagLoan,
    Event, EventBus, FetchError, FetchErrorKind, FileRef, Health, HealthState, Hints, InfoHash, Protocol, ProtocolKind,
    ProtocolStats, ResolveRequest, Stage, StatsSnapshot, TorrentLender, Verification,
};
use swarmgate_egress::HttpClient;
use swarmgate_hybrid_rules::{
    Breakers, Budget, Name, Network, PlanOptions, Policies, ReaderOptions, SourceShare, SourceStatus,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::BindingBook;
use crate::dags::{self, DagFetch};
use crate::fetch::Fetch;
use crate::outside::Outside;
use crate::steer::nobody_may_be_asked;
use crate::torrents::{self, TorrentReading};
use crate::totals::{HybridTotals, Ledger};

/// How long a torrent that is to be read by another name may take to say what it is.
const LEND_TIME: Duration = Duration::from_secs(30);
/// What a network that is switched off is given to say what it knows already.
const KNOWN_ONLY: Duration = Duration::from_millis(500);

/// What Hybrid is lent, and what it decides by.
#[derive(Debug)]
pub struct HybridParts {
    /// The protocols that are registered.
    pub protocols: Vec<Borrowed>,
    /// Who lends torrents, unless BitTorrent is off.
    pub torrents: Option<Arc<dyn TorrentLender>>,
    /// Who lends files of IPFS, unless IPFS is off.
    pub dags: Option<Arc<dyn DagLender>>,
    /// Which names are the same bytes.
    pub book: BindingBook,
    /// For web seeds and mirrors; it obeys the egress policy.
    pub mirrors: HttpClient,
    /// What the operator wants of the sources, by route: `bt` and `ipfs`.
    pub policies: Policies,
    /// Who may be asked at all.
    pub breakers: Breakers,
    /// What may be asked twice.
    pub budget: Budget,
    /// How long a reader may wait for what nobody is delivering.
    pub patience: Duration,
    /// How much of a reader's time is fetched ahead of it.
    pub buffer: Duration,
    /// Who is told of sources and breakers.
    pub events: EventBus,
}

/// A content that is fetched over several networks, as an operator sees it.
#[derive(Debug, Clone, Serialize)]
pub struct FetchStatus {
    /// The content: an infohash, or the CID of a file.
    pub item: ContentId,
    /// The networks that its request allows; absent when it is everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<BTreeSet<Network>>,
    /// Clients that read it.
    pub readers: usize,
    /// Its sources.
    pub sources: Vec<SourceStatus>,
    /// What each has delivered.
    pub shares: Vec<SourceShare>,
}

/// See the module's head.
#[derive(Debug)]
pub struct HybridProtocol {
    pub(crate) inner: Arc<Inner>,
}

/// A file of IPFS by the bytes of its root.
type RootKey = Vec<u8>;

/// What its fetches share.
pub(crate) struct Inner {
    protocols: Vec<Borrowed>,
    pub(crate) torrents: Option<Arc<dyn TorrentLender>>,
    pub(crate) dags: Option<Arc<dyn DagLender>>,
    pub(crate) book: BindingBook,
    pub(crate) mirrors: HttpClient,
    pub(crate) policies: Policies,
    /// One change of the policies at a time.
    pub(crate) switching: Mutex<()>,
    breakers: Breakers,
    /// Rung when a breaker has changed its state.
    changed: Arc<Notify>,
    budget: Budget,
    patience: Duration,
    buffer: Duration,
    events: EventBus,
    pub(crate) ledger: Ledger,
    stats: ProtocolStats,
    by_infohash: Mutex<BTreeMap<InfoHash, Arc<Fetch>>>,
    by_root: Mutex<BTreeMap<RootKey, (Cid, Arc<DagFetch>)>>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("protocols", &self.protocols).finish_non_exhaustive()
    }
}

impl HybridProtocol {
    /// Starts it. Must be called within a runtime.
    #[must_use]
    pub fn start(parts: HybridParts) -> Arc<Self> {
        let HybridParts { protocols, torrents, dags, book, mirrors, policies, breakers, budget, .. } = parts;
        let inner = Inner {
            protocols,
            torrents,
            dags,
            book,
            mirrors,
            policies,
            switching: Mutex::default(),
            breakers,
            changed: Arc::default(),
            budget,
            patience: parts.patience,
            buffer: parts.buffer,
            events: parts.events,
            ledger: Ledger::default(),
            stats: ProtocolStats::default(),
            by_infohash: Mutex::default(),
            by_root: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let inner = Arc::new(inner);
        let watching = inner.clone();
        inner.spawn(async move { watching.watch_breakers().await });
        Arc::new(Self { inner })
    }

    /// Which names are the same bytes.
    #[must_use]
    pub fn book(&self) -> &BindingBook {
        &self.inner.book
    }

    /// Who may be asked at all.
    #[must_use]
    pub fn breakers(&self) -> &Breakers {
        &self.inner.breakers
    }

    /// Closes the breaker of that name, as it prints, and has all fetches decide anew. Tells whether there is one.
    pub fn reset_breaker(&self, name: &str) -> bool {
        let now = Instant::now();
        let named = self.inner.breakers.status(now).into_iter().find(|breaker| breaker.key.to_string() == name);
        let reset = named.is_some_and(|breaker| self.inner.breakers.reset(now, &breaker.key));
        if reset {
            self.inner.changed.notify_one();
        }
        reset
    }

    /// What may be asked twice.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.inner.budget
    }

    /// The contents that are fetched over several networks, or were in the last minute.
    #[must_use]
    pub fn fetches(&self) -> Vec<FetchStatus> {
        let status = |fetch: Arc<Fetch>| FetchStatus {
            item: fetch.outside().item,
            allowed: fetch.outside().allowed.clone(),
            readers: fetch.readers(),
            sources: fetch.status(),
            shares: fetch.shares(),
        };
        self.inner.ledger.fetches().into_iter().map(status).collect()
    }

    /// What all fetches have delivered since the start.
    #[must_use]
    pub fn totals(&self) -> HybridTotals {
        self.inner.ledger.totals()
    }

    /// As [`Protocol::open`], for a request that wants these networks alone: none, and only what is here is read.
    ///
    /// # Errors
    /// As there; `NotCached` or `NoSource` when none of them may be asked or has it.
    pub async fn open_over(
        &self,
        file: FileRef,
        range: ByteRange,
        wanted: &BTreeSet<Network>,
    ) -> Result<ContentReader, FetchError> {
        let opened = match file.id {
            ContentId::BtV1(infohash) => self.open_torrent(infohash, file, range, Some(wanted)).await,
            ContentId::Ipfs(_) => self.open_dag(file, range, Some(wanted)).await,
            ContentId::BtV2(_) => self.inner.open_alone(file, range).await,
        };
        self.inner.stats.opened(u64::from(opened.is_ok()));
        opened
    }

    /// Reads a range of a file of IPFS, which was lent by the reading that needs it, over every network that is known
    /// to have the file, of those that are `wanted` if anything is said. The range lies within the file, of `len` bytes.
    #[must_use]
    pub fn read_file(
        &self,
        loan: &dyn DagLoan,
        len: u64,
        range: ByteRange,
        wanted: Option<&BTreeSet<Network>>,
    ) -> Option<ContentReader> {
        let name = Name::Ipfs(ContentId::Ipfs(loan.root()));
        let bound = !self.inner.book.others(&name).is_empty() && self.inner.dags.is_some();
        let alone = wanted.is_some_and(|wanted| wanted.iter().all(|network| *network == Network::Ipfs));
        (bound && !alone).then(|| dags::read(&self.inner, loan, len, range, wanted.cloned()))
    }

    async fn open_torrent(
        &self,
        infohash: InfoHash,
        file: FileRef,
        range: ByteRange,
        wanted: Option<&BTreeSet<Network>>,
    ) -> Result<ContentReader, FetchError> {
        let Some(lender) = &self.inner.torrents else { return self.inner.open_alone(file, range).await };
        let loan = lender.lend_torrent(infohash).await?;
        let entry = loan.meta().files.get(file.index).and_then(swarmgate_content::FileEntry::range);
        let inside = entry.and_then(|entry| range.shift(entry.start())?.intersect(&entry));
        let Some(inside) = inside.filter(|inside| inside.len() == range.len()) else {
            return self.inner.open_alone(file, range).await;
        };
        if loan.has_range(inside) {
            return self.inner.open_alone(file, range).await;
        }
        let swarm = self.inner.swarm_is_on(wanted);
        if !loan.meta().private {
            let options = self.inner.reader_options();
            let reading =
                |fetch: Arc<Fetch>| TorrentReading::open(&*loan, &fetch, inside, options).map(|reader| (reader, fetch));
            let planned = match wanted {
                None => {
                    let policy = self.inner.policy("bt", None);
                    let can_be_asked = |fetch: &Arc<Fetch>| fetch.status().iter().any(|it| policy.allows(it.network));
                    self.inner.torrent_fetch(infohash, &loan).filter(can_be_asked).and_then(reading)
                }
                Some(wanted) => torrents::begin(&self.inner, &loan, Some(wanted)).and_then(reading),
            };
            if let Some((reader, fetch)) = planned {
                if wanted.is_some() {
                    self.inner.run_apart(&fetch);
                }
                return Ok(reader);
            }
        }
        match swarm {
            true => self.inner.open_alone(file, range).await,
            false => Err(nobody_may_be_asked(file.id, wanted)),
        }
    }

    async fn open_dag(
        &self,
        file: FileRef,
        range: ByteRange,
        wanted: Option<&BTreeSet<Network>>,
    ) -> Result<ContentReader, FetchError> {
        let deadline = Instant::now() + self.inner.patience;
        let meta =
            self.inner.borrowed(&file.id)?.resolve(ResolveRequest { id: file.id, hints: Hints::default(), deadline });
        let meta = meta.await?;
        let Verification::Dag(roots) = &meta.verification else { return self.inner.open_alone(file, range).await };
        let root = roots.get(file.index).copied().zip(meta.files.get(file.index).map(|entry| entry.len));
        let reader = root.zip(self.inner.dags.as_ref()).and_then(|((root, len), dags)| {
            let inside = range.end() <= len;
            inside.then(|| self.read_file(&*dags.lend_dag(root), len, range, wanted)).flatten()
        });
        match reader {
            Some(reader) => Ok(reader),
            None if self.inner.ipfs_is_on(wanted) => self.inner.open_alone(file, range).await,
            None => Err(nobody_may_be_asked(file.id, wanted)),
        }
    }
}

impl Inner {
    /// The protocol whose ids these are.
    fn borrowed(&self, id: &ContentId) -> Result<&Borrowed, FetchError> {
        let found = self.protocols.iter().find(|protocol| protocol.supports(id));
        let none = || {
            let detail = "no enabled network serves such an id";
            FetchError::new(*id, Stage::Resolve, FetchErrorKind::Unsupported, detail)
        };
        found.ok_or_else(none)
    }

    /// Reads by the content's own network alone.
    async fn open_alone(&self, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
        self.borrowed(&file.id)?.open(file, range).await
    }

    /// Has a content found out about, when nobody waits for it.
    pub(crate) async fn resolve_quietly(&self, id: ContentId) -> Option<Arc<ContentMeta>> {
        let request = ResolveRequest { id, hints: Hints::default(), deadline: Instant::now() + LEND_TIME };
        self.borrowed(&id).ok()?.resolve(request).await.ok()
    }

    /// What a plan of that route stands on.
    pub(crate) fn plan_options(&self, route: &str, wanted: Option<&BTreeSet<Network>>) -> PlanOptions {
        PlanOptions {
            policy: self.policy(route, wanted),
            breakers: self.breakers.clone(),
            budget: self.budget.clone(),
            patience: self.patience,
        }
    }

    /// How readers are fetched for.
    pub(crate) fn reader_options(&self) -> ReaderOptions {
        ReaderOptions { buffer: self.buffer, ..ReaderOptions::default() }
    }

    /// What a fetch has to do with everything else.
    pub(crate) fn outside(&self, item: ContentId, route: &'static str, wanted: Option<&BTreeSet<Network>>) -> Outside {
        Outside {
            item,
            route,
            allowed: wanted.cloned(),
            events: self.events.clone(),
            breakers: self.breakers.clone(),
            changed: self.changed.clone(),
        }
    }

    /// Tells of breakers that have changed, and has all fetches decide anew, since who may be asked is another now.
    async fn watch_breakers(&self) {
        loop {
            self.changed.notified().await;
            let changes: Vec<_> = std::iter::from_fn(|| self.breakers.poll_change()).collect();
            for change in changes {
                let (id, state) = (change.key.to_string(), change.state.word());
                self.events.publish(Event::BreakerChanged { id, state });
            }
            self.ledger.fetches().iter().for_each(|fetch| fetch.with_plan(|_| ()));
        }
    }

    /// Runs something of its own, that ends when it is stopped.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// The fetching of a torrent, begun unless it is under way; `None` when its swarm alone has it.
    fn torrent_fetch(
        self: &Arc<Self>,
        infohash: InfoHash,
        loan: &Arc<dyn swarmgate_content::TorrentLoan>,
    ) -> Option<Arc<Fetch>> {
        let mut by_infohash = self.by_infohash.lock();
        if let Some(fetch) = by_infohash.get(&infohash) {
            return Some(fetch.clone());
        }
        let fetch = torrents::begin(self, loan, None)?;
        by_infohash.insert(infohash, fetch.clone());
        self.ledger.begun(&fetch);
        let (inner, running) = (self.clone(), fetch.clone());
        self.tasks.spawn(async move {
            loop {
                running.clone().run(inner.stop.clone()).await;
                let mut by_infohash = inner.by_infohash.lock();
                // A reader may have come at the last moment.
                if running.readers() == 0 || inner.stop.is_cancelled() {
                    by_infohash.remove(&infohash);
                    return inner.ledger.ended(&running);
                }
            }
        });
        Some(fetch)
    }

    /// The fetching of a file's leaves, begun unless it is under way.
    pub(crate) fn dag_fetch(self: &Arc<Self>, root: Cid, len: u64, unit_len: u64) -> Option<Arc<DagFetch>> {
        let key = root.to_bytes();
        let mut by_root = self.by_root.lock();
        if let Some((_, shared)) = by_root.get(&key) {
            return Some(shared.clone());
        }
        let shared = Arc::new(DagFetch::begin(self, root, len, unit_len, None)?);
        by_root.insert(key.clone(), (root, shared.clone()));
        self.ledger.begun(&shared.fetch);
        let (inner, running) = (self.clone(), shared.fetch.clone());
        self.tasks.spawn(async move {
            loop {
                running.clone().run(inner.stop.clone()).await;
                let mut by_root = inner.by_root.lock();
                if running.readers() == 0 || inner.stop.is_cancelled() {
                    by_root.remove(&key);
                    return inner.ledger.ended(&running);
                }
            }
        });
        Some(shared)
    }
}

impl Protocol for HybridProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::Hybrid
    }

    fn capabilities(&self) -> Capabilities {
        let all = self.inner.protocols.iter().map(Borrowed::capabilities);
        all.fold(Capabilities { infohash_v1: false, infohash_v2: false, cid: false, ranges: true }, |one, other| {
            Capabilities {
                infohash_v1: one.infohash_v1 || other.infohash_v1,
                infohash_v2: one.infohash_v2 || other.infohash_v2,
                cid: one.cid || other.cid,
                ranges: one.ranges && other.ranges,
            }
        })
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            let id = request.id;
            let off = match id {
                ContentId::BtV1(_) | ContentId::BtV2(_) => !self.inner.swarm_is_on(None),
                ContentId::Ipfs(_) => !self.inner.ipfs_is_on(None),
            };
            let deadline = if off { request.deadline.min(Instant::now() + KNOWN_ONLY) } else { request.deadline };
            let mut resolved = self.inner.borrowed(&id)?.resolve(ResolveRequest { deadline, ..request }).await;
            if off && resolved.as_ref().is_err_and(|error| error.kind == FetchErrorKind::TimedOut) {
                resolved = Err(nobody_may_be_asked(id, None));
            }
            match &resolved {
                Ok(_) => self.inner.stats.resolved(1),
                Err(_) => self.inner.stats.resolve_failed(1),
            }
            resolved
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(async move {
            let opened = match file.id {
                ContentId::BtV1(infohash) => self.open_torrent(infohash, file, range, None).await,
                ContentId::Ipfs(_) => self.open_dag(file, range, None).await,
                ContentId::BtV2(_) => self.inner.open_alone(file, range).await,
            };
            self.inner.stats.opened(u64::from(opened.is_ok()));
            opened
        })
    }

    fn health(&self) -> Health {
        let healths: Vec<_> =
            self.inner.protocols.iter().map(|protocol| (protocol.kind(), protocol.health())).collect();
        let works = healths.iter().filter(|(_, health)| health.state == HealthState::Ok).count();
        let alive = healths.iter().filter(|(_, health)| health.state != HealthState::Down).count();
        let state = match (works == healths.len(), alive) {
            (_, 0) => HealthState::Down,
            (true, _) => HealthState::Ok,
            (false, _) => HealthState::Degraded,
        };
        let said: Vec<_> = healths.iter().map(|(kind, health)| format!("{kind:?}: {:?}", health.state)).collect();
        Health { state, evidence: said.join(", ").to_lowercase() }
    }

    fn stats(&self) -> StatsSnapshot {
        self.inner.stats.snapshot()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.inner.stop.cancel();
            self.inner.tasks.close();
            if tokio::time::timeout_at(deadline.into(), self.inner.tasks.wait()).await.is_err() {
                tracing::warn!("fetches over several networks were still under way at the end");
            }
        })
    }
}
