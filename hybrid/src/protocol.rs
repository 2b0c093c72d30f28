//! `HybridProtocol`: a protocol like any other, that stands on those that are registered.
//!
//! It is lent what they have and owns none of them: stopping it ends its own fetches and nothing else. A content that
//! one network alone has is that network's, and costs nothing more than before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use swarmgate_content::{
    Borrowed, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, DagLender, DagLoan, EventBus,
    FetchError, FetchErrorKind, FileRef, Health, HealthState, Hints, InfoHash, Protocol, ProtocolKind, ResolveRequest,
    StatsSnapshot, TorrentLender, Verification,
};
use swarmgate_egress::HttpClient;
use swarmgate_hybrid_rules::{Breakers, Budget, Name, Network, Policies, SourceShare, SourceStatus};

use crate::book::BindingBook;
use crate::dags;
use crate::fetch::Fetch;
use crate::inner::Inner;
use crate::steer::nobody_may_be_asked;
use crate::torrents::{self, TorrentReading};
use crate::totals::HybridTotals;

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
    /// Milliseconds from first asking anybody for a unit to having it: for half of the units, for nineteen of twenty,
    /// and for ninety-nine of a hundred. Absent until one has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit_ms: Option<[u64; 3]>,
}

/// See the module's head.
#[derive(Debug)]
pub struct HybridProtocol {
    pub(crate) inner: Arc<Inner>,
}

impl HybridProtocol {
    /// Starts it. Must be called within a runtime.
    #[must_use]
    pub fn start(parts: HybridParts) -> Arc<Self> {
        let inner = Inner::new(parts);
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
            unit_ms: fetch.unit_ms(),
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
        let loan = match lender.lend_torrent(infohash).await {
            Ok(loan) => loan,
            // Nobody is to be asked for it, by its own network's word: that one reads what is here.
            Err(error) if error.kind == FetchErrorKind::NotCached => return self.inner.open_alone(file, range).await,
            Err(error) => return Err(error),
        };
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
