//! What the fetches of one Hybrid share: whom they were lent, what they decide by, and which of them are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_content::{
    Borrowed, ByteRange, Cid, ContentId, ContentMeta, ContentReader, DagLender, Event, EventBus, FetchError,
    FetchErrorKind, FileRef, Hints, InfoHash, ProtocolStats, ResolveRequest, Stage, TorrentLender, TorrentLoan,
};
use swarmgate_egress::HttpClient;
use swarmgate_hybrid_rules::{Breakers, Budget, Network, PlanOptions, Policies, ReaderOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::book::BindingBook;
use crate::dags::DagFetch;
use crate::fetch::Fetch;
use crate::outside::Outside;
use crate::protocol::HybridParts;
use crate::torrents;
use crate::totals::Ledger;

/// How long a torrent that is to be read by another name may take to say what it is.
const LEND_TIME: Duration = Duration::from_secs(30);

/// A file of IPFS by the bytes of its root.
type RootKey = Vec<u8>;

/// What its fetches share.
pub(crate) struct Inner {
    pub(crate) protocols: Vec<Borrowed>,
    pub(crate) torrents: Option<Arc<dyn TorrentLender>>,
    pub(crate) dags: Option<Arc<dyn DagLender>>,
    pub(crate) book: BindingBook,
    pub(crate) mirrors: HttpClient,
    pub(crate) policies: Policies,
    /// One change of the policies at a time.
    pub(crate) switching: Mutex<()>,
    pub(crate) breakers: Breakers,
    /// Rung when a breaker has changed its state.
    pub(crate) changed: Arc<Notify>,
    pub(crate) budget: Budget,
    pub(crate) patience: Duration,
    buffer: Duration,
    events: EventBus,
    pub(crate) ledger: Ledger,
    pub(crate) stats: ProtocolStats,
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

impl Inner {
    /// Takes what it is lent. Nothing runs yet.
    pub(crate) fn new(parts: HybridParts) -> Arc<Self> {
        let HybridParts { protocols, torrents, dags, book, mirrors, policies, breakers, budget, .. } = parts;
        Arc::new(Self {
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
        })
    }

    /// The protocol whose ids these are.
    pub(crate) fn borrowed(&self, id: &ContentId) -> Result<&Borrowed, FetchError> {
        let found = self.protocols.iter().find(|protocol| protocol.supports(id));
        let none = || {
            let detail = "no enabled network serves such an id";
            FetchError::new(*id, Stage::Resolve, FetchErrorKind::Unsupported, detail)
        };
        found.ok_or_else(none)
    }

    /// Reads by the content's own network alone.
    pub(crate) async fn open_alone(&self, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
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
    pub(crate) async fn watch_breakers(&self) {
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
    pub(crate) fn torrent_fetch(
        self: &Arc<Self>,
        infohash: InfoHash,
        loan: &Arc<dyn TorrentLoan>,
    ) -> Option<Arc<Fetch>> {
        let mut by_infohash = self.by_infohash.lock();
        if let Some(fetch) = by_infohash.get(&infohash) {
            return Some(fetch.clone());
        }
        let fetch = torrents::begin(self, loan, None)?;
        by_infohash.insert(infohash, fetch.clone());
        self.ledger.begun(&fetch);
        self.run(fetch.clone(), move |inner, over| {
            let mut by_infohash = inner.by_infohash.lock();
            let over = over();
            if over {
                by_infohash.remove(&infohash);
            }
            over
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
        self.run(shared.fetch.clone(), move |inner, over| {
            let mut by_root = inner.by_root.lock();
            let over = over();
            if over {
                by_root.remove(&key);
            }
            over
        });
        Some(shared)
    }

    /// Runs a fetch until nobody reads it any more: then `forget` takes it from where readers find it. It asks whether it
    /// is over once more when none can find it, since one may have come at the last moment.
    fn run(
        self: &Arc<Self>,
        fetch: Arc<Fetch>,
        forget: impl Fn(&Self, &dyn Fn() -> bool) -> bool + Send + Sync + 'static,
    ) {
        let inner = self.clone();
        self.tasks.spawn(async move {
            loop {
                fetch.clone().run(inner.stop.clone()).await;
                if forget(&inner, &|| fetch.readers() == 0 || inner.stop.is_cancelled()) {
                    return inner.ledger.ended(&fetch);
                }
            }
        });
    }
}
