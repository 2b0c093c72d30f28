//! BitTorrent as one of the gateway's protocols: knows the items, runs the active ones, answers resolve and open.
//!
//! An item is known (it has a record here) and, while somebody reads it or it was asked to stay, active (it has a swarm).
//! Nobody need add an item: asking for its infohash makes it known and active. When no one has read it for the grace
//! it is dropped, and its data stays in the cache.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo};
use swarmgate_content::{
    Attempt, BlockHash, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, Event, FetchError,
    FetchErrorKind, FileRef, Health, HealthState, Hints, InfoHash, Protocol, ProtocolKind, ProtocolStats,
    ResolveRequest, Stage, StatsSnapshot,
};
use swarmgate_swarm::greeting::HandshakeError;
use swarmgate_swarm::{Known, ReadFault, SwarmContext, SwarmOptions, SwarmReader, SwarmStatus};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::active::{ActiveTorrent, Environment};
use crate::dht::DhtHandle;
use crate::inbound::{Inbound, InboundHandler, InboundLimits};
use crate::peer_stream::PeerStream;
use crate::tracker_client::TrackerClient;
use swarmgate_egress::{EgressPolicy, HttpClient, HttpError};

/// The store's table of items that were asked to stay.
const ITEMS_TABLE: &str = "bittorrent-items";
/// Trackers kept of one item's record.
const MAX_RECORD_TRACKERS: usize = 64;
/// How often idle items are looked for, at most and at least.
const JANITOR_INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The protocol's settings.
#[derive(Debug, Clone)]
pub struct BitTorrentOptions {
    /// Which addresses may be dialled.
    pub egress: EgressPolicy,
    /// Trackers that public torrents are announced to besides their own.
    pub trackers: Vec<String>,
    /// Peers connected to one torrent at a time.
    pub max_peers_per_torrent: usize,
    /// Peers connected in all.
    pub max_peers: usize,
    /// Outgoing connections not yet established, in all.
    pub max_half_open: usize,
    /// Torrents active at a time.
    pub max_active: usize,
    /// How long a torrent stays active after its last reader.
    pub idle_grace: Duration,
    /// Peers uploaded to at a time, per torrent; 0 uploads nothing.
    pub upload_slots: usize,
    /// Bytes that pieces in flight may occupy, per torrent.
    pub max_partial_bytes: u64,
    /// Bytes kept behind a reader, for those who seek back.
    pub keep_behind_bytes: u64,
}

/// The protocol's sockets, bound at start-up. Without a TCP listener nobody can dial us.
#[derive(Debug, Default)]
pub struct BitTorrentSockets {
    /// For peers.
    pub tcp: Option<TcpListener>,
    /// For UDP trackers over IPv4.
    pub udp_v4: Option<UdpSocket>,
    /// For UDP trackers over IPv6.
    pub udp_v6: Option<UdpSocket>,
}

/// Why the protocol did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client for HTTP trackers.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The listener.
    #[error("the peers' listener has no address: {0}")]
    Listener(#[from] std::io::Error),
    /// The records of items that were asked to stay.
    #[error("the list of items cannot be read: {0}")]
    Records(String),
}

/// Why an item was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddItemError {
    /// Too many items are being read.
    #[error("{0} items are active, the limit")]
    TooMany(usize),
    /// The protocol is stopping.
    #[error("the network is shutting down")]
    ShuttingDown,
}

/// An item at one moment.
#[derive(Debug, Clone)]
pub struct Item {
    /// The torrent.
    pub infohash: InfoHash,
    /// Its name: from its metadata, else from a hint; untrusted.
    pub name: Option<String>,
    /// `resolving` while its metadata is unknown, `active` while somebody reads it, else `idle`.
    pub state: &'static str,
    /// All of it in bytes, once known.
    pub total_len: Option<u64>,
    /// Its files, padding not counted, once known.
    pub files: Option<usize>,
    /// Whether it was asked to stay.
    pub kept: bool,
    /// Whether it is private (BEP 27).
    pub private: bool,
    /// Why it cannot be read, if that is so.
    pub last_error: Option<String>,
    /// Its swarm.
    pub status: SwarmStatus,
}

/// What is remembered of an item that was asked to stay.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    #[serde(default)]
    trackers: Vec<Vec<String>>,
    #[serde(default)]
    name: Option<String>,
    #[serde(skip)]
    kept: bool,
}

#[derive(Debug, Default)]
struct Items {
    records: BTreeMap<InfoHash, Record>,
    active: BTreeMap<InfoHash, Arc<ActiveTorrent>>,
    closed: bool,
}

#[derive(Debug)]
struct Engine {
    environment: Environment,
    options: BitTorrentOptions,
    items: Mutex<Items>,
    http: HttpClient,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// See the module's head. Its owner must call [`Protocol::shutdown`].
#[derive(Debug)]
pub struct BitTorrentProtocol {
    engine: Arc<Engine>,
    inbound: Mutex<Option<Inbound>>,
    listen: Option<SocketAddr>,
}

impl BitTorrentSockets {
    /// Every socket, with its transport.
    pub fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let tcp = self.tcp.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| ("tcp", address));
        let udp = [&self.udp_v4, &self.udp_v6].into_iter().flatten();
        tcp.chain(udp.filter_map(|socket| socket.local_addr().ok()).map(|address| ("udp", address)))
    }
}

impl BitTorrentProtocol {
    /// Starts listening, and the items that were asked to stay.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        options: BitTorrentOptions,
        sockets: BitTorrentSockets,
        dht: Option<DhtHandle>,
        context: SwarmContext,
    ) -> Result<Arc<Self>, StartError> {
        let http = HttpClient::new(options.egress)?;
        let listen = sockets.tcp.as_ref().map(TcpListener::local_addr).transpose()?;
        let tracker_client = TrackerClient::new(http.clone(), options.egress, sockets.udp_v4, sockets.udp_v6);
        let environment = Environment {
            swarm: SwarmOptions {
                max_partial_bytes: options.max_partial_bytes,
                upload_slots: options.upload_slots,
                max_peers: options.max_peers_per_torrent,
                keep_behind_bytes: options.keep_behind_bytes,
                seed: rand::random(),
            },
            context,
            egress: options.egress,
            half_open: Arc::new(Semaphore::new(options.max_half_open)),
            peer_slots: Arc::new(Semaphore::new(options.max_peers)),
            tracker_client: Arc::new(tracker_client),
            dht,
            extra_trackers: options.trackers.clone(),
            peer_id: PeerId::ours(rand::random()),
            listen,
        };
        let engine = Arc::new(Engine {
            environment,
            options,
            items: Mutex::default(),
            http,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let limits = InboundLimits { loopback_exempt: engine.options.egress.allow_private, ..InboundLimits::default() };
        let inbound = sockets.tcp.map(|listener| Inbound::spawn(listener, limits, Arc::new(Door(engine.clone()))));
        engine.restore().await?;
        engine.tasks.spawn(engine.clone().drop_idle_items());
        engine.tasks.close();
        Ok(Arc::new(Self { engine, inbound: Mutex::new(inbound), listen }))
    }

    /// Where peers can dial us.
    #[must_use]
    pub const fn listen_address(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// The client for URLs that users and torrents name; it obeys the egress policy.
    #[must_use]
    pub fn http_client(&self) -> &HttpClient {
        &self.engine.http
    }

    /// Adds a torrent by its metainfo; `keep` asks it to stay. Tells whether it was known already.
    ///
    /// # Errors
    /// [`AddItemError`].
    pub async fn add_metainfo(&self, metainfo: Metainfo, keep: bool) -> Result<bool, AddItemError> {
        let Metainfo { infohash, info, info_bytes, announce, .. } = metainfo;
        let record = Record { trackers: announce.clone(), name: Some(info.name.clone()), kept: keep };
        self.engine.keep_info(infohash, &info_bytes).await;
        let already = self.engine.remember(infohash, record);
        let torrent = self.engine.activate(infohash, Some((info.clone(), info_bytes.clone())))?;
        torrent.add_trackers(&announce);
        // A torrent that was resolving learns its metadata here.
        torrent.handle().set_info(info, info_bytes).await.map_err(|_| AddItemError::ShuttingDown)?;
        torrent.handle().wait_known().await.map_err(|_| AddItemError::ShuttingDown)?.ok();
        self.engine.persist(infohash).await;
        Ok(already)
    }

    /// Makes a torrent known and active by its infohash and what may help; `keep` asks it to stay. Tells whether it was
    /// known already.
    ///
    /// # Errors
    /// [`AddItemError`].
    pub fn add_hints(&self, infohash: InfoHash, hints: &Hints, keep: bool) -> Result<bool, AddItemError> {
        let record = Record { trackers: self.engine.welcome(infohash, hints), name: hints.name.clone(), kept: keep };
        let already = self.engine.remember(infohash, record);
        let engine = self.engine.clone();
        if engine.items.lock().closed {
            return Err(AddItemError::ShuttingDown);
        }
        let hints = hints.clone();
        self.engine.tasks.spawn(async move {
            match engine.activate_from_store(infohash).await {
                Ok(torrent) => torrent.add_hints(&hints),
                Err(error) => tracing::info!(%infohash, %error, "an added item is not active"),
            }
            engine.persist(infohash).await;
        });
        Ok(already)
    }

    /// Every known item.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let items = self.engine.items.lock();
        items.records.iter().map(|(infohash, record)| items.describe(infohash, record)).collect()
    }

    /// One item.
    #[must_use]
    pub fn item(&self, infohash: &InfoHash) -> Option<Item> {
        let items = self.engine.items.lock();
        items.records.get(infohash).map(|record| items.describe(infohash, record))
    }

    /// A torrent's metadata, if it is active and known.
    #[must_use]
    pub fn known(&self, infohash: &InfoHash) -> Option<Arc<Known>> {
        self.engine.items.lock().active.get(infohash)?.handle().known()
    }

    /// How an active torrent's swarm is doing.
    #[must_use]
    pub fn status(&self, infohash: &InfoHash) -> Option<SwarmStatus> {
        Some(self.engine.items.lock().active.get(infohash)?.handle().status())
    }

    /// Reads a range of an active torrent's bytes, across files.
    #[must_use]
    pub fn reader(&self, infohash: &InfoHash, known: &Arc<Known>, range: std::ops::Range<u64>) -> Option<SwarmReader> {
        Some(self.engine.items.lock().active.get(infohash)?.handle().read(known, range))
    }

    /// A torrent as a `.torrent` file, once its metadata is known.
    #[must_use]
    pub fn torrent_file(&self, infohash: &InfoHash) -> Option<Vec<u8>> {
        let known = self.known(infohash)?;
        let trackers = self.engine.items.lock().records.get(infohash).map(|record| record.trackers.clone());
        let metainfo = Metainfo::from_info(known.info_bytes.clone(), trackers.unwrap_or_default());
        metainfo.ok().map(|metainfo| metainfo.to_torrent())
    }

    /// Looks again at what the store has of a torrent, when somebody else put blocks there.
    pub async fn check_store(&self, infohash: &InfoHash) {
        let torrent = self.engine.items.lock().active.get(infohash).cloned();
        if let Some(torrent) = torrent {
            // Gone means removed meanwhile.
            let _ = torrent.handle().check_store().await;
        }
    }

    /// Forgets an item; its readers end with an error. `purge` removes its data from the cache too. Tells whether it was known.
    pub async fn remove(&self, infohash: &InfoHash, purge: bool) -> bool {
        let known = self.known(infohash);
        let (record, torrent) = {
            let mut items = self.engine.items.lock();
            (items.records.remove(infohash), items.active.remove(infohash))
        };
        if let Some(torrent) = torrent {
            torrent.shutdown().await;
        }
        let store = &self.engine.environment.context.store;
        if let Err(error) = store.delete_record(ITEMS_TABLE, infohash.as_bytes()).await {
            tracing::warn!(%infohash, %error, "an item's record was not deleted");
        }
        if let (true, Some(known)) = (purge, known) {
            for piece in 0..known.info.pieces.count() {
                if let Some(hash) = known.info.pieces.get(piece) {
                    store.remove(&hash).await;
                }
            }
            store.remove(&BlockHash::from(*infohash)).await;
        }
        if record.is_some() {
            self.engine.publish(Event::ItemRemoved { item: ContentId::BtV1(*infohash) });
        }
        record.is_some()
    }
}

impl Items {
    fn describe(&self, infohash: &InfoHash, record: &Record) -> Item {
        let torrent = self.active.get(infohash);
        let known = torrent.and_then(|torrent| torrent.handle().known());
        let status = torrent.map(|torrent| torrent.handle().status()).unwrap_or_default();
        let last_error = torrent.and_then(|torrent| torrent.handle().malformed());
        Item {
            infohash: *infohash,
            name: known.as_ref().map(|known| known.meta.name.clone()).or_else(|| record.name.clone()),
            state: match (&torrent, &known) {
                (None, _) => "idle",
                (Some(_), None) => "resolving",
                (Some(_), Some(_)) if status.readers > 0 => "active",
                (Some(_), Some(_)) => "idle",
            },
            total_len: known.as_ref().map(|known| known.meta.total_len),
            files: known.as_ref().map(|known| known.meta.files.iter().filter(|file| !file.padding).count()),
            kept: record.kept,
            private: known.is_some_and(|known| known.meta.private),
            last_error,
            status,
        }
    }
}

impl Engine {
    fn publish(&self, event: Event) {
        self.environment.context.events.publish(event);
    }

    /// Makes an item known, or adds to what is known of it. Tells whether it was known.
    fn remember(&self, infohash: InfoHash, record: Record) -> bool {
        let mut items = self.items.lock();
        let already = items.records.contains_key(&infohash);
        let known = items.records.entry(infohash).or_default();
        known.kept |= record.kept;
        known.name = record.name.or_else(|| known.name.take());
        let room = MAX_RECORD_TRACKERS.saturating_sub(known.trackers.len());
        let new: Vec<_> =
            record.trackers.into_iter().filter(|tier| !known.trackers.contains(tier)).take(room).collect();
        known.trackers.extend(new);
        drop(items);
        if !already {
            self.publish(Event::ItemAdded { item: ContentId::BtV1(infohash) });
        }
        already
    }

    /// The trackers of a hint that may be kept: none for a torrent known to be private, which has its own (BEP 27).
    fn welcome(&self, infohash: InfoHash, hints: &Hints) -> Vec<Vec<String>> {
        let private = self.items.lock().active.get(&infohash).is_some_and(|torrent| torrent.is_private());
        if private { Vec::new() } else { hints.trackers.clone() }
    }

    /// Writes the record of an item that was asked to stay.
    async fn persist(&self, infohash: InfoHash) {
        let record = self.items.lock().records.get(&infohash).filter(|record| record.kept).cloned();
        let Some(record) = record else { return };
        let Ok(json) = serde_json::to_vec(&record) else { return };
        let store = &self.environment.context.store;
        if let Err(error) = store.put_record(ITEMS_TABLE, infohash.as_bytes(), json.into()).await {
            tracing::warn!(%infohash, %error, "the item will be forgotten at the next restart");
        }
    }

    async fn restore(&self) -> Result<(), StartError> {
        let store = &self.environment.context.store;
        let records = store.list_records(ITEMS_TABLE).await.map_err(|error| StartError::Records(error.to_string()))?;
        for (key, value) in records {
            let (Some(infohash), Ok(record)) = (InfoHash::from_slice(&key), serde_json::from_slice::<Record>(&value))
            else {
                tracing::warn!("an item's record makes no sense and is left alone");
                continue;
            };
            self.remember(infohash, Record { kept: true, ..record });
            if let Err(error) = self.activate_from_store(infohash).await {
                tracing::warn!(%infohash, %error, "a kept item is not active");
            }
        }
        Ok(())
    }

    /// The active torrent, started if need be, with the metadata that the store may have.
    async fn activate_from_store(&self, infohash: InfoHash) -> Result<Arc<ActiveTorrent>, AddItemError> {
        if let Some(torrent) = self.items.lock().active.get(&infohash) {
            return Ok(torrent.clone());
        }
        let info = self.stored_info(infohash).await;
        self.activate(infohash, info)
    }

    /// Stores an `info` dictionary before anybody is told that its torrent was added: a restart finds it.
    async fn keep_info(&self, infohash: InfoHash, info_bytes: &Bytes) {
        let store = &self.environment.context.store;
        let outcome = match store.verifier().verify(BlockHash::from(infohash), info_bytes.clone()).await {
            Ok(block) => store.put(block).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::warn!(%infohash, %error, "the metadata is not cached and will be asked for again after a restart");
        }
    }

    async fn stored_info(&self, infohash: InfoHash) -> Option<(Info, Bytes)> {
        let (store, hash) = (&self.environment.context.store, BlockHash::from(infohash));
        let bytes = store.read_all(&hash).await.ok()??.into_bytes();
        Info::parse(&bytes).ok().map(|info| (info, bytes))
    }

    /// Starts a torrent unless it is active. Concurrent callers get one and the same.
    fn activate(&self, infohash: InfoHash, info: Option<(Info, Bytes)>) -> Result<Arc<ActiveTorrent>, AddItemError> {
        let mut items = self.items.lock();
        if items.closed {
            return Err(AddItemError::ShuttingDown);
        }
        if let Some(torrent) = items.active.get(&infohash) {
            return Ok(torrent.clone());
        }
        if items.active.len() >= self.options.max_active {
            self.retire_one(&mut items)?;
        }
        let trackers = items.records.get(&infohash).map(|record| record.trackers.clone()).unwrap_or_default();
        let torrent = Arc::new(ActiveTorrent::start(&self.environment, infohash, info, &trackers));
        items.active.insert(infohash, torrent.clone());
        Ok(torrent)
    }

    /// Stops the torrent that has been without readers for longest, to make a place.
    fn retire_one(&self, items: &mut Items) -> Result<(), AddItemError> {
        let now = Instant::now();
        let idle =
            items.active.iter().filter_map(|(infohash, torrent)| Some((torrent.handle().idle_for(now)?, *infohash)));
        let longest = idle.filter(|(_, infohash)| !items.records.get(infohash).is_some_and(|record| record.kept)).max();
        let (_, infohash) = longest.ok_or(AddItemError::TooMany(self.options.max_active))?;
        self.retire(items, infohash);
        Ok(())
    }

    fn retire(&self, items: &mut Items, infohash: InfoHash) {
        if !items.records.get(&infohash).is_some_and(|record| record.kept) {
            items.records.remove(&infohash);
            self.publish(Event::ItemRemoved { item: ContentId::BtV1(infohash) });
        }
        if let Some(torrent) = items.active.remove(&infohash) {
            self.tasks.spawn(async move { torrent.shutdown().await });
        }
    }

    async fn drop_idle_items(self: Arc<Self>) {
        let interval = (self.options.idle_grace / 4).clamp(JANITOR_INTERVAL.0, JANITOR_INTERVAL.1);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
            let now = Instant::now();
            let mut items = self.items.lock();
            let idle = |torrent: &ActiveTorrent| {
                torrent.handle().idle_for(now).is_some_and(|idle| idle >= self.options.idle_grace)
            };
            let expired: Vec<_> =
                items.active.iter().filter(|(_, torrent)| idle(torrent)).map(|(infohash, _)| *infohash).collect();
            for infohash in expired {
                if !items.records.get(&infohash).is_some_and(|record| record.kept) {
                    self.retire(&mut items, infohash);
                }
            }
        }
    }

    async fn resolve(&self, infohash: InfoHash, request: ResolveRequest) -> Result<Arc<ContentMeta>, FetchError> {
        let fail = |kind, detail: String| FetchError::new(request.id, Stage::Resolve, kind, detail);
        let trackers = self.welcome(infohash, &request.hints);
        let record = Record { trackers, name: request.hints.name.clone(), kept: false };
        self.remember(infohash, record);
        let torrent =
            self.activate_from_store(infohash).await.map_err(|error| fail(add_error_kind(error), error.to_string()))?;
        torrent.add_hints(&request.hints);
        if !torrent.is_informed() && !torrent.has_sources(&self.environment) {
            let detail = "nobody to ask: no tracker, no peer, and the DHT is off".to_owned();
            return Err(fail(FetchErrorKind::NoSource, detail).with_attempts(torrent.attempts(&self.environment)));
        }
        if !torrent.is_informed() {
            torrent.seek_peers();
        }
        let deadline = tokio::time::Instant::from_std(request.deadline);
        match tokio::time::timeout_at(deadline, torrent.handle().wait_known()).await {
            Ok(Ok(Ok(known))) => Ok(known.meta.clone()),
            Ok(Ok(Err(reason))) => Err(fail(FetchErrorKind::Invalid, format!("its metadata is malformed: {reason}"))),
            Ok(Err(gone)) => Err(fail(FetchErrorKind::Removed, gone.to_string())),
            Err(_) => {
                let detail = "no peer sent its metadata in time".to_owned();
                Err(fail(FetchErrorKind::TimedOut, detail).with_attempts(torrent.attempts(&self.environment)))
            }
        }
    }

    async fn open(&self, infohash: InfoHash, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
        let fail = |kind, detail: &str| FetchError::new(file.id, Stage::FirstByte, kind, detail);
        let torrent = self
            .activate_from_store(infohash)
            .await
            .map_err(|error| fail(add_error_kind(error), &error.to_string()))?;
        let Ok(Ok(known)) = torrent.handle().wait_known().await else {
            return Err(fail(FetchErrorKind::Removed, "the torrent was removed"));
        };
        let entry = known.meta.files.get(file.index).ok_or_else(|| fail(FetchErrorKind::NotFound, "no such file"))?;
        let inside = range.shift(entry.offset).filter(|range| range.end() <= entry.offset + entry.len);
        let inside = inside.ok_or_else(|| fail(FetchErrorKind::NotFound, "the range leaves the file"))?;
        if !known.has_range(inside.start()..inside.end()) && !torrent.has_sources(&self.environment) {
            let error = fail(FetchErrorKind::NoSource, "not in the cache, and nobody to ask");
            return Err(error.with_attempts(torrent.attempts(&self.environment)));
        }
        if !known.has_range(inside.start()..inside.end()) {
            torrent.seek_peers();
        }
        let reader = torrent.handle().read(&known, inside.start()..inside.end());
        let stats = self.environment.context.stats.clone();
        let bytes = stream::unfold(reader, move |reader| next_bytes(file.id, reader, stats.clone()));
        Ok(ContentReader::new(bytes))
    }
}

type NextBytes = Option<(Result<swarmgate_content::VerifiedBytes, FetchError>, SwarmReader)>;

async fn next_bytes(id: ContentId, mut reader: SwarmReader, stats: Arc<ProtocolStats>) -> NextBytes {
    let result = reader.next().await?;
    stats.read_failed(u64::from(result.is_err()));
    Some((result.map_err(|fault| read_error(id, fault)), reader))
}

fn read_error(id: ContentId, fault: ReadFault) -> FetchError {
    let kind = match fault {
        ReadFault::Gone => FetchErrorKind::Removed,
        ReadFault::StoreIo => FetchErrorKind::StoreIo,
    };
    FetchError::new(id, Stage::Stream, kind, fault.to_string())
}

const fn add_error_kind(error: AddItemError) -> FetchErrorKind {
    match error {
        AddItemError::TooMany(_) => FetchErrorKind::Busy,
        AddItemError::ShuttingDown => FetchErrorKind::ShuttingDown,
    }
}

impl Protocol for BitTorrentProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::BitTorrent
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: true, infohash_v2: false, cid: false, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            let Some(infohash) = request.id.as_v1() else { return Err(unsupported(request.id)) };
            let stats = &self.engine.environment.context.stats;
            let result = self.engine.resolve(infohash, request).await;
            if result.is_ok() {
                stats.resolved(1)
            } else {
                stats.resolve_failed(1)
            }
            result
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(async move {
            let Some(infohash) = file.id.as_v1() else { return Err(unsupported(file.id)) };
            let result = self.engine.open(infohash, file, range).await;
            self.engine.environment.context.stats.opened(u64::from(result.is_ok()));
            result
        })
    }

    fn attempts(&self, id: &ContentId) -> Vec<Attempt> {
        let torrent = id.as_v1().and_then(|infohash| self.engine.items.lock().active.get(&infohash).cloned());
        torrent.map_or_else(Vec::new, |torrent| torrent.attempts(&self.engine.environment))
    }

    fn health(&self) -> Health {
        let environment = &self.engine.environment;
        let nodes = environment.dht.as_ref().map(|dht| dht.stats().map_or(0, |stats| stats.nodes_v4 + stats.nodes_v6));
        let listening =
            self.listen.map_or_else(|| "no listener".to_owned(), |address| format!("listening on {address}"));
        let dht = nodes.map_or_else(|| "DHT off".to_owned(), |nodes| format!("{nodes} DHT nodes known"));
        let state = if self.listen.is_some() { HealthState::Ok } else { HealthState::Degraded };
        Health { state, evidence: format!("{listening}, {dht}") }
    }

    fn stats(&self) -> StatsSnapshot {
        self.engine.environment.context.stats.snapshot()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let inbound = self.inbound.lock().take();
            if let Some(inbound) = inbound {
                inbound.shutdown().await;
            }
            self.engine.stop.cancel();
            let active = {
                let mut items = self.engine.items.lock();
                items.closed = true;
                std::mem::take(&mut items.active)
            };
            let all = futures_util::future::join_all(active.values().map(|torrent| torrent.shutdown()));
            let gone = async {
                all.await;
                self.engine.tasks.wait().await;
                self.engine.environment.tracker_client.shutdown().await;
            };
            if tokio::time::timeout_at(deadline.into(), gone).await.is_err() {
                tracing::warn!("BitTorrent did not stop in time");
            }
        })
    }
}

fn unsupported(id: ContentId) -> FetchError {
    FetchError::new(id, Stage::Resolve, FetchErrorKind::Unsupported, "BitTorrent serves v1 infohashes")
}

/// Who dials us: welcome when its torrent is active.
#[derive(Debug)]
struct Door(Arc<Engine>);

impl InboundHandler for Door {
    fn answer(&self, theirs: &Handshake, _from: SocketAddr) -> Result<Handshake, HandshakeError> {
        let environment = &self.0.environment;
        if theirs.peer_id == environment.peer_id {
            return Err(HandshakeError::Ourselves);
        }
        if !self.0.items.lock().active.contains_key(&theirs.infohash) {
            return Err(HandshakeError::TurnedAway("its torrent is not active here"));
        }
        Ok(Handshake::ours(theirs.infohash, environment.peer_id))
    }

    fn accept(&self, peer: PeerStream) {
        let torrent = self.0.items.lock().active.get(&peer.handshake.infohash).cloned();
        if let Some(torrent) = torrent {
            torrent.accept(peer, &self.0.environment.peer_slots);
        }
    }
}
