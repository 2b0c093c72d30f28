//! The items: what is remembered of each, which are active, and what is read of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo, Related};
use swarmgate_bittorrent_proto::tracker::udp::ScrapeCounts;
use swarmgate_content::{
    Account, BlockHash, ByteRange, ContentId, ContentMeta, ContentReader, Event, FetchError, FetchErrorKind, FileRef,
    Hints, InfoHash, InfoHashV2, ProtocolStats, ResolveRequest, SourceMix, Stage, TorrentId,
};
use swarmgate_egress::HttpClient;
use swarmgate_store::{RecordError, Store};
use swarmgate_swarm::roots;
use swarmgate_swarm::{HaveSnapshot, Known, ReadFault, SwarmReader, SwarmStatus};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::active::{ActiveTorrent, Environment};
use crate::priority::Priority;
use crate::protocol::{BitTorrentOptions, StartError};
use crate::record::Record;
use crate::seeding::{UploadPolicy, UploadRules};
use crate::selection::Selected;

/// The store's table of items that were asked to stay.
pub(crate) const ITEMS_TABLE: &str = "bittorrent-items";
/// Names that may lead to items before those of items that are gone are dropped.
const MAX_ALIASES: usize = 10_000;

/// Why an item was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddItemError {
    /// Too many items are being read.
    #[error("{0} items are active, the limit")]
    TooMany(usize),
    /// The protocol is stopping.
    #[error("the network is shutting down")]
    ShuttingDown,
    /// The item is paused.
    #[error("it is paused: what the cache has of it is served, and nobody is asked for the rest until it is resumed")]
    Paused,
}

/// An item at one moment.
#[derive(Debug, Clone)]
pub struct Item {
    /// The torrent.
    pub infohash: InfoHash,
    /// Its v2 infohash (BEP 52), once known, where it has one.
    pub infohash_v2: Option<InfoHashV2>,
    /// Its name: from its metadata, else from a hint; untrusted.
    pub name: Option<String>,
    /// `resolving` while its metadata is unknown, `active` while somebody reads it, `queued` while it waits for a place,
    /// `paused` until it is resumed, else `idle`.
    pub state: &'static str,
    /// All of it in bytes, once known.
    pub total_len: Option<u64>,
    /// Its files, padding not counted, once known.
    pub files: Option<usize>,
    /// Whether it was asked to stay.
    pub kept: bool,
    /// Whether all of it, or what is selected, is fetched and held in the cache.
    pub pinned: bool,
    /// Which files are fetched and held while it is pinned; `None`: all.
    pub select: Option<Selection>,
    /// What those come to, while it is active and some are selected.
    pub selected: Option<Selected>,
    /// When it has its turn among those that were added to stay.
    pub priority: Priority,
    /// What its owner sorts it by.
    pub labels: Vec<String>,
    /// Whether it is private (BEP 27).
    pub private: bool,
    /// Why it cannot be read, if that is so.
    pub last_error: Option<String>,
    /// Its swarm.
    pub status: SwarmStatus,
    /// What else its metadata says to have some of its files (BEP 38); looked up for one item at a time.
    pub related: Related,
    /// How many peers its trackers know (BEP 48), once one has said so.
    pub swarm_size: Option<ScrapeCounts>,
    /// Its place among those that wait, the first being 1.
    pub queue_position: Option<usize>,
    /// A policy of its own for uploading.
    pub policy: Option<UploadPolicy>,
    /// Bytes of blocks received in all its life.
    pub total_downloaded: u64,
    /// Bytes of blocks sent in all its life.
    pub total_uploaded: u64,
}

/// Notes in a store that an item stays, for the engine that starts on that store next, and where the roots of its pieces
/// are (BEP 52). Its `info` dictionary should be in the store too; an engine that runs already is not told.
///
/// # Errors
/// [`RecordError`] when the index fails.
pub async fn keep_item(store: &Store, metainfo: &Metainfo) -> Result<(), RecordError> {
    let Metainfo { id, infohash, info, announce, web_seeds, .. } = metainfo;
    if let (Some(v2), Some(roots)) = (id.v2(), &info.roots) {
        roots::keep(store, v2, roots.clone()).await;
    }
    let known = store.get_record(ITEMS_TABLE, infohash.as_bytes()).await?;
    let mut record: Record = known.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
    let (trackers, web_seeds, name) = (announce.clone(), web_seeds.clone(), Some(info.name.clone()));
    record.add(Record { trackers, web_seeds, name, v2: id.v2(), kept: true, ..Record::default() });
    // Texts always have a spelling in JSON.
    let json = serde_json::to_vec(&record).unwrap_or_default();
    store.put_record(ITEMS_TABLE, infohash.as_bytes(), json.into()).await
}

#[derive(Debug, Default)]
pub(crate) struct Items {
    pub(crate) records: BTreeMap<InfoHash, Record>,
    pub(crate) active: BTreeMap<InfoHash, Arc<ActiveTorrent>>,
    /// The other names that hybrid torrents go by on the wire (BEP 52), and the ones they are known by here.
    pub(crate) aliases: BTreeMap<InfoHash, InfoHash>,
    /// Items that were added to stay and have no place, each with its position, from 1.
    pub(crate) waiting: BTreeMap<InfoHash, usize>,
    pub(crate) closed: bool,
}

#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) environment: Environment,
    pub(crate) options: BitTorrentOptions,
    pub(crate) items: Mutex<Items>,
    /// How uploading is done at this moment.
    pub(crate) uploads: Mutex<UploadRules>,
    /// Rung when there is something to be gone through at once.
    pub(crate) house: Notify,
    pub(crate) http: HttpClient,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Items {
    /// The name that a torrent is known by here, whichever it goes by on the wire.
    pub(crate) fn key(&self, wire: InfoHash) -> InfoHash {
        if self.records.contains_key(&wire) || self.active.contains_key(&wire) {
            return wire;
        }
        // A torrent that is gone may come back under another of its names, by which its ids are not known.
        self.aliases.get(&wire).copied().filter(|key| self.records.contains_key(key)).unwrap_or(wire)
    }

    /// The ids of the torrent of that name here, as far as they are known.
    pub(crate) fn id(&self, key: InfoHash) -> TorrentId {
        self.records.get(&key).map_or(TorrentId::V1(key), |record| record.id(key))
    }

    /// Takes note of all ids of a torrent whose metadata is known.
    pub(crate) fn link(&mut self, key: InfoHash, id: TorrentId) {
        let Some(v2) = id.v2() else { return };
        if let Some(record) = self.records.get_mut(&key) {
            record.v2 = Some(v2);
        }
        for name in [id.v1(), Some(v2.truncated())].into_iter().flatten().filter(|name| *name != key) {
            // Aliases go with their torrents; those of torrents long gone make room.
            if self.aliases.len() >= MAX_ALIASES {
                let Self { aliases, records, .. } = self;
                aliases.retain(|_, key| records.contains_key(key));
            }
            self.aliases.insert(name, key);
        }
    }

    pub(crate) fn describe(&self, infohash: &InfoHash, record: &Record) -> Item {
        let torrent = self.active.get(infohash);
        let known = torrent.and_then(|torrent| torrent.handle().known());
        let status = torrent.map(|torrent| torrent.handle().status()).unwrap_or_default();
        let last_error = torrent.and_then(|torrent| torrent.handle().malformed());
        let selected = known.as_ref().zip(record.select.as_ref());
        let queue_position = self.waiting.get(infohash).copied().filter(|_| torrent.is_none());
        Item {
            infohash: *infohash,
            infohash_v2: record.v2,
            name: known.as_ref().map(|known| known.meta.name.clone()).or_else(|| record.name.clone()),
            state: match (&torrent, &known) {
                (None, _) if record.paused => "paused",
                (None, _) if queue_position.is_some() => "queued",
                (None, _) => "idle",
                (Some(_), None) => "resolving",
                (Some(_), Some(_)) if status.readers > 0 => "active",
                (Some(_), Some(_)) => "idle",
            },
            total_len: known.as_ref().map(|known| known.meta.total_len),
            files: known.as_ref().map(|known| known.meta.files.iter().filter(|file| !file.padding).count()),
            kept: record.kept,
            pinned: record.pinned,
            select: record.select.clone(),
            selected: selected.map(|(known, select)| Selected::of_known(known, select)),
            priority: record.priority,
            labels: record.labels.clone(),
            private: record.private || known.is_some_and(|known| known.meta.private),
            last_error,
            queue_position,
            policy: record.policy,
            total_downloaded: record.downloaded.saturating_add(status.totals.downloaded),
            total_uploaded: record.uploaded.saturating_add(status.totals.uploaded),
            status,
            related: Related::default(),
            swarm_size: None,
        }
    }
}

impl Engine {
    pub(crate) fn publish(&self, event: Event) {
        self.environment.context.events.publish(event);
    }

    /// Makes an item known, or adds to what is known of it. Tells whether it was known.
    pub(crate) fn remember(&self, infohash: InfoHash, record: Record) -> bool {
        let mut items = self.items.lock();
        let already = items.records.contains_key(&infohash);
        items.records.entry(infohash).or_default().add(record);
        let item = items.id(infohash).content();
        drop(items);
        if !already {
            self.publish(Event::ItemAdded { item });
        }
        already
    }

    /// What of a hint may be kept: no sources for a torrent known to be private, which has its own (BEP 27).
    pub(crate) fn welcome(&self, infohash: InfoHash, hints: &Hints) -> Record {
        let private = {
            let items = self.items.lock();
            let active = items.active.get(&infohash).is_some_and(|torrent| torrent.is_private());
            active || items.records.get(&infohash).is_some_and(|record| record.private)
        };
        let public = Some(hints).filter(|_| !private);
        Record {
            trackers: public.map(|hints| hints.trackers.clone()).unwrap_or_default(),
            web_seeds: public.map(|hints| hints.web_seeds.clone()).unwrap_or_default(),
            peers: public.map(|hints| hints.peers.clone()).unwrap_or_default(),
            name: hints.name.clone(),
            ..Record::default()
        }
    }

    /// URLs of HTTP servers that have an item (BEP 19); none of what is private (BEP 27), whoever named them.
    pub(crate) fn web_seeds(&self, infohash: &InfoHash, known: &Known) -> Vec<String> {
        if known.info.private {
            return Vec::new();
        }
        self.items.lock().records.get(infohash).map(|record| record.web_seeds.clone()).unwrap_or_default()
    }

    /// Writes the record of an item that was asked to stay.
    pub(crate) async fn persist(&self, infohash: InfoHash) {
        let record = self.items.lock().settled(&infohash).filter(|record| record.kept);
        let Some(record) = record else { return };
        save(&self.environment.context.store, infohash, &record).await;
    }

    pub(crate) async fn restore(&self) -> Result<(), StartError> {
        let store = &self.environment.context.store;
        let records = store.list_records(ITEMS_TABLE).await.map_err(|error| StartError::Records(error.to_string()))?;
        let mut pinned = BTreeSet::new();
        for (key, value) in records {
            let (Some(infohash), Ok(record)) = (InfoHash::from_slice(&key), serde_json::from_slice::<Record>(&value))
            else {
                tracing::warn!("an item's record makes no sense and is left alone");
                continue;
            };
            if record.pinned {
                pinned.insert(infohash);
            }
            let id = record.id(infohash);
            if !self.options.restores(&id) {
                tracing::debug!(%infohash, "an item is not taken up: it is not among those that may be");
                continue;
            }
            self.remember(infohash, Record { kept: true, ..record });
            self.items.lock().link(infohash, id);
        }
        self.tidy_pins(&pinned);
        self.deal_places().await;
        Ok(())
    }

    /// The active torrent, started if need be, with the metadata that the store may have.
    pub(crate) async fn activate_from_store(&self, infohash: InfoHash) -> Result<Arc<ActiveTorrent>, AddItemError> {
        if let Some(torrent) = self.items.lock().active.get(&infohash) {
            return Ok(torrent.clone());
        }
        let info = self.stored_info(infohash).await;
        self.activate(infohash, info)
    }

    /// Stores an `info` dictionary before anybody is told that its torrent was added: a restart finds it, by any of its
    /// names.
    pub(crate) async fn keep_info(&self, id: TorrentId, info: &Info, info_bytes: &Bytes) {
        let store = &self.environment.context.store;
        for name in [id.v1().map(TorrentId::V1), id.v2().map(TorrentId::V2)].into_iter().flatten() {
            let outcome = match store.verifier().verify(BlockHash::from(name), info_bytes.clone()).await {
                Ok(block) => store.put(block).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = outcome {
                let infohash = id.wire();
                tracing::warn!(%infohash, %error, "the metadata is not cached and will be asked for again after a restart");
            }
        }
        if let (Some(v2), Some(roots)) = (id.v2(), &info.roots) {
            roots::keep(store, v2, roots.clone()).await;
        }
    }

    pub(crate) async fn stored_info(&self, infohash: InfoHash) -> Option<(Info, Bytes)> {
        let id = self.items.lock().id(infohash);
        let store = &self.environment.context.store;
        let bytes = store.read_all(&BlockHash::from(id)).await.ok()??.into_bytes();
        let mut info = Info::parse(&bytes).ok()?;
        if let (Some(v2), Some(_)) = (info.id(&bytes).v2(), &info.tree)
            && info.roots.is_none()
            && let Some(roots) = roots::stored(store, v2).await
        {
            // What is false is asked of peers.
            info.set_roots(roots);
        }
        Some((info, bytes))
    }

    /// Starts a torrent unless it is active. Concurrent callers get one and the same.
    pub(crate) fn activate(
        &self,
        infohash: InfoHash,
        info: Option<(Info, Bytes)>,
    ) -> Result<Arc<ActiveTorrent>, AddItemError> {
        let mut items = self.items.lock();
        if items.closed {
            return Err(AddItemError::ShuttingDown);
        }
        if items.is_paused(&infohash) {
            return Err(AddItemError::Paused);
        }
        if let Some(torrent) = items.active.get(&infohash) {
            return Ok(torrent.clone());
        }
        if items.active.len() >= self.options.max_active {
            self.retire_one(&mut items)?;
        }
        let record = items.records.get(&infohash);
        let trackers = record.map(|record| record.trackers.clone()).unwrap_or_default();
        let peers = record.filter(|record| !record.private).map(|record| record.peers.clone()).unwrap_or_default();
        if record.is_some_and(|record| record.pinned) {
            // It is told at once that all of it is wanted.
            self.house.notify_one();
        }
        if let Some((info, bytes)) = &info {
            let id = info.id(bytes);
            items.link(infohash, id);
        }
        let id = items.id(infohash);
        let mut environment = self.environment.clone();
        environment.swarm.upload_slots = self.first_slots(&items, &infohash);
        let torrent = Arc::new(ActiveTorrent::start(&environment, id, info, &trackers));
        if !torrent.is_private() {
            torrent.add_hints(&Hints { peers, ..Hints::default() });
        }
        items.active.insert(infohash, torrent.clone());
        Ok(torrent)
    }

    /// Stops the torrent that has been without readers for longest, to make a place: one that was added to stay only when
    /// there is no other, and of those one of the last in priority. That one waits.
    pub(crate) fn retire_one(&self, items: &mut Items) -> Result<(), AddItemError> {
        let now = Instant::now();
        // Of what was not added to stay nobody asks for its priority.
        let rank = |infohash: &InfoHash| {
            let kept = items.records.get(infohash).filter(|record| record.kept);
            (kept.is_none(), kept.map_or_else(Priority::default, |record| record.priority))
        };
        let idle = items
            .active
            .iter()
            .filter_map(|(infohash, torrent)| Some((rank(infohash), torrent.handle().idle_for(now)?, *infohash)));
        let (_, _, infohash) = idle.max().ok_or(AddItemError::TooMany(self.options.max_active))?;
        self.retire(items, infohash);
        Ok(())
    }

    /// Stops a torrent; one that was not added to stay is forgotten.
    pub(crate) fn retire(&self, items: &mut Items, infohash: InfoHash) {
        let torrent = items.take_active(&infohash);
        let kept = items.records.get(&infohash).filter(|record| record.kept).cloned();
        match kept {
            Some(record) => {
                let store = self.environment.context.store.clone();
                self.tasks.spawn(async move { save(&store, infohash, &record).await });
            }
            None => {
                let item = items.id(infohash).content();
                items.records.remove(&infohash);
                self.publish(Event::ItemRemoved { item });
            }
        }
        if let Some(torrent) = torrent {
            self.tasks.spawn(async move { torrent.shutdown().await });
        }
    }

    pub(crate) async fn resolve(
        &self,
        infohash: InfoHash,
        request: ResolveRequest,
    ) -> Result<Arc<ContentMeta>, FetchError> {
        let fail = |kind, detail: String| FetchError::new(request.id, Stage::Resolve, kind, detail);
        if self.items.lock().is_paused(&infohash) {
            return self.resolve_paused(infohash, request.id).await;
        }
        let v2 = request.id.as_v2().filter(|v2| v2.truncated() == infohash);
        self.remember(infohash, Record { v2, ..self.welcome(infohash, &request.hints) });
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
            Ok(Ok(Ok(known))) => {
                self.items.lock().link(infohash, known.id);
                Ok(known.meta.clone())
            }
            Ok(Ok(Err(reason))) => Err(fail(FetchErrorKind::Invalid, format!("its metadata is malformed: {reason}"))),
            Ok(Err(gone)) => Err(fail(FetchErrorKind::Removed, gone.to_string())),
            Err(_) => {
                let detail = "no peer sent its metadata in time".to_owned();
                Err(fail(FetchErrorKind::TimedOut, detail).with_attempts(torrent.attempts(&self.environment)))
            }
        }
    }

    /// The active torrent, started if need be, and its metadata, waited for until the torrent ends.
    pub(crate) async fn informed(
        &self,
        infohash: InfoHash,
        stage: Stage,
    ) -> Result<(Arc<ActiveTorrent>, Arc<Known>), FetchError> {
        let id = self.items.lock().id(infohash).content();
        let fail = |kind, detail: String| FetchError::new(id, stage, kind, detail);
        let torrent =
            self.activate_from_store(infohash).await.map_err(|error| fail(add_error_kind(error), error.to_string()))?;
        let Ok(Ok(known)) = torrent.handle().wait_known().await else {
            return Err(fail(FetchErrorKind::Removed, "the torrent was removed".to_owned()));
        };
        Ok((torrent, known))
    }

    pub(crate) async fn open(
        &self,
        infohash: InfoHash,
        file: FileRef,
        range: ByteRange,
    ) -> Result<ContentReader, FetchError> {
        let fail = |kind, detail: &str| FetchError::new(file.id, Stage::FirstByte, kind, detail);
        if self.items.lock().is_paused(&infohash) {
            return self.open_paused(infohash, file, range).await;
        }
        let (torrent, known) = self.informed(infohash, Stage::FirstByte).await?;
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
        torrent.note_reader();
        let tally = Arc::new(SwarmTally::new(known.snapshot(), inside.start()));
        let reader = torrent.handle().read(&known, inside.start()..inside.end());
        let stats = self.environment.context.stats.clone();
        let bytes = stream::unfold(reader, move |reader| next_bytes(file.id, reader, stats.clone()));
        let counted = tally.clone();
        let bytes = bytes.inspect(move |item| {
            if let Ok(bytes) = item {
                counted.count(bytes.len() as u64);
            }
        });
        Ok(ContentReader::new(bytes).with_account(tally))
    }
}

/// Writes an item's record.
pub(crate) async fn save(store: &Store, infohash: InfoHash, record: &Record) {
    let Ok(json) = serde_json::to_vec(record) else { return };
    if let Err(error) = store.put_record(ITEMS_TABLE, infohash.as_bytes(), json.into()).await {
        tracing::warn!(%infohash, %error, "the next restart will not know how this item is now");
    }
}

/// What a reader was handed: of pieces that were here when it came, and of those that its swarm sent since.
#[derive(Debug)]
struct SwarmTally {
    had: HaveSnapshot,
    position: AtomicU64,
    cache: AtomicU64,
    swarm: AtomicU64,
}

impl SwarmTally {
    fn new(had: HaveSnapshot, position: u64) -> Self {
        Self { had, position: AtomicU64::new(position), cache: AtomicU64::new(0), swarm: AtomicU64::new(0) }
    }

    /// Notes the next bytes, which are parts of one piece.
    fn count(&self, len: u64) {
        let at = self.position.fetch_add(len, Ordering::Relaxed);
        let whose = if self.had.has_byte(at) { &self.cache } else { &self.swarm };
        whose.fetch_add(len, Ordering::Relaxed);
    }
}

impl Account for SwarmTally {
    fn mix(&self) -> SourceMix {
        SourceMix::of_one(self.cache.load(Ordering::Relaxed), "bt", self.swarm.load(Ordering::Relaxed))
    }
}

pub(crate) type NextBytes = Option<(Result<swarmgate_content::VerifiedBytes, FetchError>, SwarmReader)>;

pub(crate) async fn next_bytes(id: ContentId, mut reader: SwarmReader, stats: Arc<ProtocolStats>) -> NextBytes {
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

pub(crate) const fn add_error_kind(error: AddItemError) -> FetchErrorKind {
    match error {
        AddItemError::TooMany(_) => FetchErrorKind::Busy,
        AddItemError::ShuttingDown => FetchErrorKind::ShuttingDown,
        AddItemError::Paused => FetchErrorKind::NotCached,
    }
}
