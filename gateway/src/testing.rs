//! A gateway on loopback over a network that exists in memory: known bytes, and faults on demand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use swarmgate_bittorrent::{
    ItemFiles, ItemRefused, PinRefused, Priority, SelectRefused, TrackerReport, Trackers, UploadPolicy,
};
use swarmgate_bittorrent_proto::magnet::{Magnet, Selection};
use swarmgate_content::{
    BlockHash, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, EventBus, FetchError,
    FetchErrorKind, FileEntry, FileRef, Health, HealthState, Hints, InfoHash, PieceHashes, Protocol, ProtocolKind,
    ProtocolManager, ProtocolStats, ResolveRequest, Stage, StatsSnapshot, Verification, VerifiedBytes,
};
use swarmgate_store::{Store, StoreOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::catalogue::{AddError, Added, Catalogue, ItemStatus, PieceMap};
use crate::pace::ClientPace;
use crate::policy::Denylists;
use crate::rates::Rates;
use crate::server::{ServeLimits, router, serve};
use crate::state::{FetchTorrent, FetchTorrentError, GatewayState, HttpOptions, Parts};
use crate::traces::Traces;

/// The test content's infohash.
pub(crate) const IH: &str = "abababababababababababababababababababab";

/// What the cache of such a gateway takes, in bytes.
const MEMORY_BYTES: u64 = 1 << 20;

pub(crate) fn infohash() -> InfoHash {
    InfoHash::new([0xab; 20])
}

/// A content of these files; a name that begins with `.pad/` is padding.
pub(crate) fn meta(files: &[(&str, u64)]) -> ContentMeta {
    let mut offset = 0;
    let file = |&(path, len): &(&str, u64)| {
        let path: Vec<_> = path.split('/').map(str::to_owned).collect();
        let entry = FileEntry { padding: path[0] == ".pad", path, len, offset };
        offset += len;
        entry
    };
    let files: Vec<_> = files.iter().map(file).collect();
    ContentMeta {
        id: ContentId::BtV1(infohash()),
        name: "Test content".to_owned(),
        total_len: files.iter().map(|file| file.len).sum(),
        files,
        private: false,
        verification: Verification::V1(PieceHashes { piece_len: 16384, hashes: Bytes::new() }),
    }
}

/// How the network in memory behaves.
#[derive(Debug, Clone)]
pub(crate) struct Behaviour {
    pub(crate) chunk: usize,
    pub(crate) resolve: Result<Duration, FetchErrorKind>,
    /// Before the first chunk.
    pub(crate) delay: Duration,
    /// Ends with an error after so many bytes.
    pub(crate) fault_after: Option<u64>,
    /// Ends without an error after so many bytes.
    pub(crate) end_after: Option<u64>,
    /// Falls silent after so many bytes.
    pub(crate) hang_after: Option<u64>,
    /// Gives the last chunk twice.
    pub(crate) surplus: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            chunk: 16384,
            resolve: Ok(Duration::ZERO),
            delay: Duration::ZERO,
            fault_after: None,
            end_after: None,
            hang_after: None,
            surplus: false,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) resolves: AtomicUsize,
    pub(crate) opens: AtomicUsize,
    pub(crate) readers: AtomicUsize,
    pub(crate) chunks: AtomicUsize,
    pub(crate) hints: Mutex<Vec<Hints>>,
    pub(crate) ranges: Mutex<Vec<ByteRange>>,
}

#[derive(Debug)]
pub(crate) struct TestProtocol {
    pub(crate) meta: Arc<ContentMeta>,
    pub(crate) bytes: VerifiedBytes,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) seen: Arc<Seen>,
    stats: ProtocolStats,
    health: Mutex<HealthState>,
}

impl TestProtocol {
    fn new(files: &[(&str, u64)], behaviour: Behaviour) -> Self {
        let meta = meta(files);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut byte = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        let bytes: Bytes = (0..meta.total_len).map(|_| byte()).collect::<Vec<_>>().into();
        let hash = digest::digest(&digest::SHA256, &bytes);
        let name = BlockHash::sha2_256(hash.as_ref().try_into().unwrap());
        Self {
            meta: Arc::new(meta),
            bytes: VerifiedBytes::check(&name, bytes).unwrap(),
            behaviour: Mutex::new(behaviour),
            seen: Arc::default(),
            stats: ProtocolStats::default(),
            health: Mutex::new(HealthState::Ok),
        }
    }

    pub(crate) fn set_health(&self, state: HealthState) {
        *self.health.lock() = state;
    }

    /// The true bytes of a file.
    pub(crate) fn file(&self, index: usize) -> &[u8] {
        let file = &self.meta.files[index];
        let (start, len) = (usize::try_from(file.offset).unwrap(), usize::try_from(file.len).unwrap());
        &self.bytes.as_ref()[start..start + len]
    }

    fn fail(&self, stage: Stage, kind: FetchErrorKind) -> FetchError {
        FetchError::new(self.meta.id, stage, kind, "as the test wished")
    }
}

/// One open reader.
struct Cursor {
    bytes: VerifiedBytes,
    at: u64,
    start: u64,
    end: u64,
    behaviour: Behaviour,
    id: ContentId,
    seen: Arc<Seen>,
    over: bool,
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.seen.readers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cursor {
    async fn next(&mut self) -> Option<Result<VerifiedBytes, FetchError>> {
        let done = self.at - self.start;
        let passed = |bound: Option<u64>| bound.is_some_and(|bound| done >= bound);
        if done == 0 {
            tokio::time::sleep(self.behaviour.delay).await;
        }
        if passed(self.behaviour.hang_after) {
            std::future::pending::<()>().await;
        }
        if passed(self.behaviour.fault_after) && !self.over {
            self.over = true;
            return Some(Err(FetchError::new(self.id, Stage::Stream, FetchErrorKind::NoSource, "as the test wished")));
        }
        if self.at == self.end || self.over || passed(self.behaviour.end_after) {
            return None;
        }
        let len = (self.end - self.at).min(self.behaviour.chunk as u64);
        let from = usize::try_from(self.at).unwrap();
        self.at += len;
        self.seen.chunks.fetch_add(1, Ordering::SeqCst);
        let surplus = usize::from(self.behaviour.surplus && self.at == self.end && from > 0);
        Some(Ok(self.bytes.slice(from - surplus..from + usize::try_from(len).unwrap())))
    }
}

impl Protocol for TestProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::BitTorrent
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: true, infohash_v2: false, cid: false, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            self.seen.resolves.fetch_add(1, Ordering::SeqCst);
            self.seen.hints.lock().push(request.hints);
            let behaviour = self.behaviour.lock().clone();
            let delay = behaviour.resolve.map_err(|kind| self.fail(Stage::Resolve, kind))?;
            let left = request.deadline.saturating_duration_since(Instant::now());
            tokio::time::sleep(delay.min(left)).await;
            if delay > left || request.id != self.meta.id {
                return Err(self.fail(Stage::Resolve, FetchErrorKind::TimedOut));
            }
            Ok(Arc::clone(&self.meta))
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        let offset = self.meta.files[file.index].offset;
        self.seen.opens.fetch_add(1, Ordering::SeqCst);
        self.seen.readers.fetch_add(1, Ordering::SeqCst);
        self.seen.ranges.lock().push(range);
        let cursor = Cursor {
            bytes: self.bytes.clone(),
            at: offset + range.start(),
            start: offset + range.start(),
            end: offset + range.end(),
            behaviour: self.behaviour.lock().clone(),
            id: file.id,
            seen: Arc::clone(&self.seen),
            over: false,
        };
        let chunks =
            stream::unfold(cursor, |mut cursor| async move { cursor.next().await.map(|chunk| (chunk, cursor)) });
        Box::pin(std::future::ready(Ok(ContentReader::new(chunks))))
    }

    fn health(&self) -> Health {
        Health { state: *self.health.lock(), evidence: "in memory".to_owned() }
    }

    fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    fn shutdown(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A catalogue that is a table.
#[derive(Debug, Default)]
pub(crate) struct TestCatalogue {
    pub(crate) items: Mutex<BTreeMap<InfoHash, ItemStatus>>,
    pub(crate) purged: Mutex<Vec<(InfoHash, bool)>>,
    pub(crate) refuse: Mutex<Option<AddError>>,
    /// Whether nothing more can be pinned.
    pub(crate) full: Mutex<bool>,
    /// How many bytes of each file are in the cache, from its first on; all of them when `None`.
    pub(crate) here: Mutex<Option<u64>>,
    /// What the trackers of every item are.
    pub(crate) trackers: Mutex<Trackers>,
}

pub(crate) fn item(id: InfoHash, known: bool, kept: bool) -> ItemStatus {
    ItemStatus {
        infohash: id,
        infohash_v2: None,
        name: known.then(|| "Test content".to_owned()),
        state: if known { "idle" } else { "resolving" },
        total_len: known.then_some(1000),
        have_bytes: 0,
        files: known.then_some(1),
        peers: 0,
        seeds: 0,
        readers: 0,
        download_rate: 0,
        upload_rate: 0,
        downloaded: 0,
        uploaded: 0,
        total_downloaded: 0,
        total_uploaded: 0,
        upload_policy: None,
        queue_position: None,
        priority: "normal",
        kept,
        pinned: false,
        select: None,
        selected: None,
        labels: Vec::new(),
        private: false,
        last_error: None,
        similar: Vec::new(),
        collections: Vec::new(),
        swarm: None,
    }
}

impl TestCatalogue {
    fn public(&self, id: &InfoHash) -> Result<ItemStatus, ItemRefused> {
        let item = self.item(id).ok_or(ItemRefused::Unknown)?;
        if item.private { Err(ItemRefused::Private) } else { Ok(item) }
    }

    fn put(&self, id: InfoHash, known: bool, kept: bool) -> Result<Added, AddError> {
        if let Some(error) = self.refuse.lock().clone() {
            return Err(error);
        }
        let before = self.items.lock().insert(id, item(id, known, kept));
        Ok(Added { id, already: before.is_some(), metadata_known: known })
    }
}

impl Catalogue for TestCatalogue {
    fn add_torrent(&self, bytes: Bytes, keep: bool) -> BoxFuture<'_, Result<Added, AddError>> {
        let added = match bytes.starts_with(b"d") {
            true => self.put(infohash(), true, keep),
            false => Err(AddError::Invalid { reason: "it does not begin with a dictionary".to_owned() }),
        };
        Box::pin(std::future::ready(added))
    }

    fn add_magnet(&self, magnet: &Magnet, keep: bool) -> Result<Added, AddError> {
        let v1 = magnet.v1.ok_or_else(|| AddError::Invalid { reason: "v2 only".to_owned() })?;
        self.put(v1, false, keep)
    }

    fn items(&self) -> Vec<ItemStatus> {
        self.items.lock().values().cloned().collect()
    }

    fn item(&self, id: &InfoHash) -> Option<ItemStatus> {
        self.items.lock().get(id).cloned()
    }

    fn files(&self, id: &InfoHash) -> BoxFuture<'_, Option<ItemFiles>> {
        let known = self.item(id).is_some_and(|item| item.files.is_some());
        let meta = Arc::new(meta(&[("film.mkv", 100_000), (".pad/1", 8), ("extra/notes & more.txt", 500)]));
        let files = ItemFiles { meta, have_bytes: vec![65_536, 8, 0] };
        Box::pin(std::future::ready(known.then_some(files)))
    }

    fn trackers(&self, id: &InfoHash) -> Option<Trackers> {
        self.item(id).map(|_| self.trackers.lock().clone())
    }

    fn torrent_file(&self, id: &InfoHash) -> Option<Bytes> {
        (*id == infohash()).then(|| Bytes::from_static(b"d4:infod6:lengthi1eee"))
    }

    fn pieces(&self, id: &InfoHash) -> Option<PieceMap> {
        self.item(id)?.files.map(|_| PieceMap::of(16 * 1024, 7, |piece| piece != 3))
    }

    fn set_pinned(&self, id: &InfoHash, pinned: bool) -> BoxFuture<'_, Result<bool, PinRefused>> {
        let refused = Some(PinRefused::NoRoom { missing: 1000, room: 7 }).filter(|_| pinned && *self.full.lock());
        let mut items = self.items.lock();
        let item = items.get_mut(id);
        let known = item.is_some();
        if let Some(item) = item.filter(|_| refused.is_none()) {
            (item.pinned, item.kept) = (pinned, item.kept || pinned);
        }
        Box::pin(std::future::ready(refused.map_or(Ok(known), Err)))
    }

    fn set_selection(&self, id: &InfoHash, select: Option<Selection>) -> BoxFuture<'_, Result<bool, SelectRefused>> {
        let mut items = self.items.lock();
        let Some(item) = items.get_mut(id) else { return Box::pin(std::future::ready(Ok(false))) };
        // As in `files`: the one between is padding.
        let names_one = |select: &Selection| item.files.is_none() || select.contains(0) || select.contains(2);
        let outcome = match select.as_ref().is_none_or(names_one) {
            true => Ok(true),
            false => Err(SelectRefused::NoFile { files: 2 }),
        };
        if outcome.is_ok() {
            item.select = select;
        }
        Box::pin(std::future::ready(outcome))
    }

    fn set_upload_policy(&self, id: &InfoHash, policy: Option<UploadPolicy>) -> BoxFuture<'_, bool> {
        let policy = policy.map(UploadPolicy::word);
        let known = self.items.lock().get_mut(id).map(|item| item.upload_policy = policy).is_some();
        Box::pin(std::future::ready(known))
    }

    fn set_priority(&self, id: &InfoHash, priority: Priority) -> BoxFuture<'_, bool> {
        let known = self.items.lock().get_mut(id).map(|item| item.priority = priority.word()).is_some();
        Box::pin(std::future::ready(known))
    }

    fn set_labels(&self, id: &InfoHash, labels: Vec<String>) -> BoxFuture<'_, bool> {
        let known = self.items.lock().get_mut(id).map(|item| item.labels = labels).is_some();
        Box::pin(std::future::ready(known))
    }

    fn set_paused(&self, id: &InfoHash, paused: bool) -> BoxFuture<'_, bool> {
        let mut items = self.items.lock();
        let item = items.get_mut(id);
        let known = item.is_some();
        if let Some(item) = item {
            item.state = if paused { "paused" } else { "idle" };
        }
        Box::pin(std::future::ready(known))
    }

    fn add_trackers(&self, id: &InfoHash, urls: Vec<String>) -> BoxFuture<'_, Result<(), ItemRefused>> {
        let added = self.public(id).map(|_| {
            let rows = urls.iter().map(|url| TrackerReport::unasked(url, 0, "waiting"));
            self.trackers.lock().own.extend(rows);
        });
        Box::pin(std::future::ready(added))
    }

    fn add_peers(
        &self,
        id: &InfoHash,
        peers: Vec<SocketAddr>,
    ) -> BoxFuture<'_, Result<Vec<(SocketAddr, String)>, ItemRefused>> {
        let private = peers.into_iter().filter(|peer| peer.ip().is_loopback());
        let refused = private.map(|peer| (peer, "it is a loopback address".to_owned())).collect();
        Box::pin(std::future::ready(self.public(id).map(|_| refused)))
    }

    fn announce(&self, id: &InfoHash) -> BoxFuture<'_, Result<(), ItemRefused>> {
        let known = self.item(id).is_some();
        let announced = if known { Ok(()) } else { Err(ItemRefused::Unknown) };
        self.trackers.lock().own.iter_mut().for_each(|tracker| tracker.next = Some(Duration::from_secs(25)));
        Box::pin(std::future::ready(announced))
    }

    fn has(&self, _id: &InfoHash, ranges: Vec<(usize, ByteRange)>) -> BoxFuture<'_, bool> {
        let here = *self.here.lock();
        let has = here.is_none_or(|here| ranges.iter().all(|(_, range)| range.end() <= here));
        Box::pin(std::future::ready(has))
    }

    fn remove(&self, id: &InfoHash, purge: bool) -> BoxFuture<'_, bool> {
        self.purged.lock().push((*id, purge));
        Box::pin(std::future::ready(self.items.lock().remove(id).is_some()))
    }
}

/// Fetches nothing: the URL's path is the answer.
#[derive(Debug)]
struct TestFetch;

impl FetchTorrent for TestFetch {
    fn fetch(&self, url: &Url, max_bytes: usize) -> BoxFuture<'_, Result<Bytes, FetchTorrentError>> {
        let answer = match url.path() {
            "/good.torrent" => Ok(Bytes::from_static(b"de")),
            "/private" => Err(FetchTorrentError::Refused { reason: "the address is private".to_owned() }),
            "/large" => Err(FetchTorrentError::TooLarge { max_bytes }),
            "/slow" => Err(FetchTorrentError::TimedOut),
            "/page" => Ok(Bytes::from_static(b"<html>")),
            _ => Err(FetchTorrentError::Failed { reason: "the server answered 404".to_owned() }),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// A running gateway.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) protocol: Arc<TestProtocol>,
    pub(crate) catalogue: Arc<TestCatalogue>,
    pub(crate) state: GatewayState,
    pub(crate) shutdown: CancellationToken,
    pub(crate) server: JoinHandle<()>,
}

/// A gateway with these files and an obliging network.
pub(crate) async fn world(files: &[(&str, u64)]) -> World {
    World::start(files, Behaviour::default(), HttpOptions::default(), ServeLimits::default()).await
}

/// The same with other parts.
pub(crate) async fn world_with(files: &[(&str, u64)], exchange: impl FnOnce(&mut Parts)) -> World {
    World::start_with(files, Behaviour::default(), HttpOptions::default(), ServeLimits::default(), exchange).await
}

impl World {
    pub(crate) async fn start(
        files: &[(&str, u64)],
        behaviour: Behaviour,
        options: HttpOptions,
        limits: ServeLimits,
    ) -> Self {
        Self::start_with(files, behaviour, options, limits, |_parts| {}).await
    }

    /// The same with other parts.
    pub(crate) async fn start_with(
        files: &[(&str, u64)],
        behaviour: Behaviour,
        options: HttpOptions,
        limits: ServeLimits,
        exchange: impl FnOnce(&mut Parts),
    ) -> Self {
        let protocol = Arc::new(TestProtocol::new(files, behaviour));
        let catalogue = Arc::new(TestCatalogue::default());
        let manager = Arc::new(ProtocolManager::new(EventBus::new()));
        manager.register(Arc::clone(&protocol) as Arc<dyn Protocol>, Instant::now()).unwrap();
        let shutdown = CancellationToken::new();
        let mut parts = Parts {
            manager,
            catalogue: Arc::clone(&catalogue) as Arc<dyn Catalogue>,
            fetch_torrent: Arc::new(TestFetch),
            ipfs: None,
            webtorrent: None,
            pinning: None,
            hybrid: None,
            publishing: None,
            pointers: None,
            denylists: Denylists::default(),
            tracker: None,
            mapping: None,
            gate: None,
            store: Store::open(StoreOptions::in_memory(MEMORY_BYTES)).await.unwrap(),
            cache_status: Arc::new(|| serde_json::json!({ "used": 7 })),
            settings: Arc::new(|| serde_json::json!([{ "key": "cache.max_size" }])),
            options,
            live: None,
            reloader: None,
            pace: ClientPace::default(),
            rates: Rates::default(),
            traces: Traces::default(),
            closing: shutdown.clone(),
        };
        exchange(&mut parts);
        let state = GatewayState::new(parts);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, router(state.clone()), shutdown.clone(), limits));
        Self { address, protocol, catalogue, state, shutdown, server }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn range(&self, path: &str, range: &str) -> Answer {
        self.send("GET", path, &[("Range", range)], b"").await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        send(self.address, method, path, headers, body).await
    }

    /// Sends a request and leaves the answer to be read.
    pub(crate) async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
        request(self.address, method, path, headers, body).await
    }

    pub(crate) fn opens(&self) -> usize {
        self.protocol.seen.opens.load(Ordering::SeqCst)
    }

    pub(crate) fn readers(&self) -> usize {
        self.protocol.seen.readers.load(Ordering::SeqCst)
    }

    pub(crate) fn resolves(&self) -> usize {
        self.protocol.seen.resolves.load(Ordering::SeqCst)
    }
}

/// Sends a request and reads the answer.
pub(crate) async fn send(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut socket = request(to, method, path, headers, body).await;
    let mut bytes = Vec::new();
    let ended = socket.read_to_end(&mut bytes).await;
    Answer::parse(&bytes, method == "HEAD", ended.is_ok())
}

/// Sends a request and leaves the answer to be read.
pub(crate) async fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> TcpStream {
    let mut socket = TcpStream::connect(to).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head += "Host: localhost\r\n";
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    socket.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    // A server that answers early may have stopped reading.
    let _ = socket.write_all(body).await;
    socket
}

/// A parsed answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether it ended as announced: an orderly close after exactly the length.
    pub(crate) clean: bool,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8], head: bool, orderly: bool) -> Self {
        let end = bytes.windows(4).position(|it| it == b"\r\n\r\n").expect("an answer has a head");
        let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
        let mut answer =
            Self { status, headers: lines.map(header).collect(), body: bytes[end + 4..].to_vec(), clean: orderly };
        if answer.header("transfer-encoding") == Some("chunked") && !head {
            let (body, whole) = unchunk(&answer.body);
            answer.body = body;
            answer.clean &= whole;
        }
        let announced = answer.header("content-length").and_then(|len| len.parse::<usize>().ok());
        answer.clean &= head || status == 304 || announced.is_none_or(|len| len == answer.body.len());
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The last part of the problem's type.
    pub(crate) fn problem(&self) -> String {
        self.json()["type"].as_str().unwrap().trim_start_matches("urn:swarmgate:problem:").to_owned()
    }

    /// Status and headers in a fixed order, without what differs between runs.
    pub(crate) fn head(&self) -> String {
        let mut rows: Vec<_> =
            self.headers.iter().map(|(name, value)| format!("{name}: {}", stable(name, value))).collect();
        rows.sort();
        format!("{}\n{}", self.status, rows.join("\n"))
    }
}

/// The bytes of a chunked body, and whether its end was there (RFC 9112 §7.1).
fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|it| it == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if len == 0 {
            return (body, true);
        }
        let chunk = &rest[line + 2..];
        body.extend_from_slice(&chunk[..len.min(chunk.len())]);
        rest = chunk.get(len + 2..).unwrap_or_default();
    }
    (body, false)
}

fn stable(name: &str, value: &str) -> String {
    match name {
        "date" | "x-request-id" => "…".to_owned(),
        "server-timing" => {
            let names: Vec<_> = value.split(", ").map(|it| it.split(';').next().unwrap()).collect();
            names.join(", ")
        }
        "content-type" if value.starts_with("multipart/") => "multipart/byteranges; boundary=…".to_owned(),
        "access-control-expose-headers" => "[exposed]".to_owned(),
        _ => value.to_owned(),
    }
}

/// Waits until something holds, or fails with what it was.
pub(crate) async fn eventually(what: &str, within: Duration, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
