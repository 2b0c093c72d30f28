//! Whole nodes in the process of the story: the gateway as its composition root builds it, and seeders for it to read
//! from. They meet over real TCP on loopback and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_bittorrent::listener::{Binding, bind_tcp, bind_udp};
use swarmgate_bittorrent::obfuscated::Encryption;
use swarmgate_bittorrent::route::Route;
use swarmgate_bittorrent::{
    BitTorrentOptions, BitTorrentProtocol, BitTorrentSockets, FindingOptions, QueueLimits, UploadRules,
};
use swarmgate_bittorrent_proto::bencode::OwnedValue;
use swarmgate_bittorrent_proto::metainfo::{Metainfo, hash_pieces};
use swarmgate_config::{Config, Size};
use swarmgate_content::{BlockHash, EventBus, InfoHash, Protocol, ProtocolStats, StatsSnapshot};
use swarmgate_egress::EgressPolicy;
use swarmgate_gateway::app::{App, StartupError};
use swarmgate_gateway::listeners::Listeners;
use swarmgate_pace::{Gate, Limit};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::{Pace, SwarmContext};
use tempfile::TempDir;

use crate::payload;
use crate::raw::Connection;
use crate::torrent::escape;

/// The cache of a story's gateway, unless the story is about its size.
const CACHE: u32 = 512;
/// How long stopping may take: on loopback every goodbye is answered at once.
const GOODBYE: Duration = Duration::from_secs(2);

/// A torrent and all its bytes.
#[derive(Debug, Clone)]
pub struct Content {
    /// The torrent.
    pub metainfo: Metainfo,
    /// Its files end to end, padding included.
    pub bytes: Bytes,
}

impl Content {
    /// One file of `len` bytes that `seed` decides.
    pub fn single(name: &str, seed: u64, len: usize, piece_len: u32) -> Self {
        let bytes = Bytes::from(payload::bytes(seed, len));
        let info = info(name, &bytes, piece_len, ("length", int(len)), false);
        Self::of(info, bytes)
    }

    /// The same, restricted to its own trackers (BEP 27).
    pub fn private(name: &str, seed: u64, len: usize, piece_len: u32) -> Self {
        let bytes = Bytes::from(payload::bytes(seed, len));
        let info = info(name, &bytes, piece_len, ("length", int(len)), true);
        Self::of(info, bytes)
    }

    /// A folder of files, each with its path and length. A file whose path begins with `.pad` is padding (BEP 47).
    pub fn folder(name: &str, seed: u64, files: &[(&[&str], usize)], piece_len: u32) -> Self {
        let mut bytes = Vec::new();
        let mut rows = Vec::new();
        for (number, (path, len)) in (seed..).zip(files) {
            let padding = path.first() == Some(&".pad");
            let mut row = vec![("length", int(*len)), ("path", OwnedValue::list(path.iter().copied()))];
            if padding {
                row.push(("attr", "p".into()));
                bytes.resize(bytes.len() + len, 0);
            } else {
                bytes.extend(payload::bytes(number, *len));
            }
            rows.push(OwnedValue::dict(row));
        }
        let bytes = Bytes::from(bytes);
        Self::of(info(name, &bytes, piece_len, ("files", OwnedValue::List(rows)), false), bytes)
    }

    fn of(info: Vec<u8>, bytes: Bytes) -> Self {
        let metainfo = Metainfo::from_info(info.into(), Vec::new());
        Self { metainfo: metainfo.unwrap_or_else(|e| panic!("the kit's own torrent is refused: {e}")), bytes }
    }

    /// Names trackers in the `.torrent`, one a tier.
    #[must_use]
    pub fn with_trackers(mut self, urls: &[&str]) -> Self {
        self.metainfo.announce = urls.iter().map(|url| vec![(*url).to_owned()]).collect();
        self
    }

    /// The torrent's name in the networks.
    pub fn infohash(&self) -> InfoHash {
        self.metainfo.infohash
    }

    /// The `.torrent`.
    pub fn torrent(&self) -> Vec<u8> {
        self.metainfo.to_torrent()
    }

    /// How many pieces it has.
    pub fn pieces(&self) -> usize {
        self.metainfo.info.pieces.count()
    }

    /// The hash of one piece.
    pub fn piece_hash(&self, piece: usize) -> BlockHash {
        self.metainfo.info.pieces.get(piece).unwrap_or_else(|| panic!("no piece {piece}"))
    }

    /// The bytes of one piece.
    pub fn piece(&self, piece: usize) -> Bytes {
        let len = self.metainfo.info.piece_len as usize;
        self.bytes.slice(piece * len..((piece + 1) * len).min(self.bytes.len()))
    }

    /// The bytes of the pieces that cover `start..end` of the whole, as a number: what has to be fetched for it.
    pub fn covering(&self, start: usize, end: usize) -> u64 {
        let len = self.metainfo.info.piece_len as usize;
        (start / len..end.div_ceil(len)).map(|piece| self.piece(piece).len() as u64).sum()
    }

    /// The bytes of one file.
    pub fn file(&self, index: usize) -> Bytes {
        let file = &self.metainfo.info.files[index];
        let offset = |at: u64| usize::try_from(at).expect("the bytes are in memory");
        self.bytes.slice(offset(file.offset)..offset(file.offset + file.len))
    }

    /// The path of one file on any gateway.
    pub fn path(&self, index: usize) -> String {
        let file = &self.metainfo.info.files[index];
        let path: Vec<_> = file.path.iter().map(|part| escape(part)).collect();
        format!("/bt/{}/{}", self.infohash(), path.join("/"))
    }

    /// A magnet link with addresses of peers, in the form that `/magnet?` takes and `magnet:?` too.
    pub fn magnet_query(&self, peers: &[SocketAddr]) -> String {
        let hints: String = peers.iter().map(|peer| format!("&x.pe={peer}")).collect();
        format!("xt=urn:btih:{}{hints}", self.infohash())
    }
}

fn int(len: usize) -> OwnedValue {
    OwnedValue::Int(i64::try_from(len).expect("lengths in memory fit"))
}

fn info(name: &str, bytes: &[u8], piece_len: u32, layout: (&str, OwnedValue), private: bool) -> Vec<u8> {
    let pieces = hash_pieces(bytes, piece_len);
    let mut rows = vec![
        ("name", name.into()),
        ("piece length", i64::from(piece_len).into()),
        ("pieces", pieces[..].into()),
        layout,
    ];
    if private {
        rows.push(("private", 1.into()));
    }
    OwnedValue::dict(rows).encode()
}

/// A BitTorrent node that has all of a content, in memory, and serves it to whoever dials.
#[derive(Debug)]
pub struct Seeder {
    protocol: Arc<BitTorrentProtocol>,
    store: Store,
    stats: Arc<ProtocolStats>,
}

impl Seeder {
    /// Starts a node with all of `content`.
    pub async fn start(content: &Content) -> Self {
        Self::start_at(content, Limit::default()).await
    }

    /// The same, that gives no faster than this.
    pub async fn start_at(content: &Content, rate: Limit) -> Self {
        let store = Store::open(StoreOptions::in_memory(content.bytes.len() as u64 + (1 << 20))).await;
        let store = store.unwrap_or_else(|e| panic!("a store in memory: {e}"));
        fill(&store, content).await;
        let pace = Pace { upload: Gate::new(rate), ..Pace::default() };
        let context = SwarmContext { pace, ..SwarmContext::new(store.clone(), EventBus::new()) };
        let stats = context.stats.clone();
        let protocol = BitTorrentProtocol::start(seeder_options(), sockets(), None, context).await;
        let protocol = protocol.unwrap_or_else(|e| panic!("a seeder: {e}"));
        let added = protocol.add_metainfo(content.metainfo.clone(), true).await;
        added.unwrap_or_else(|e| panic!("a seeder's torrent: {e}"));
        Self { protocol, store, stats }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.protocol.listen_address().expect("a seeder is given a listener")
    }

    /// Its counters.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// Stops it; nobody is served any more.
    pub async fn stop(self) {
        self.protocol.shutdown(Instant::now() + GOODBYE).await;
        self.store.close().await;
    }
}

/// Puts every piece of a content into a store.
pub async fn fill(store: &Store, content: &Content) {
    for piece in 0..content.pieces() {
        let block = store.verifier().verify(content.piece_hash(piece), content.piece(piece)).await;
        let block = block.unwrap_or_else(|e| panic!("the kit's own piece {piece}: {e}"));
        store.put(block).await.unwrap_or_else(|e| panic!("piece {piece}: {e}"));
    }
}

fn seeder_options() -> BitTorrentOptions {
    BitTorrentOptions {
        route: Route::default(),
        encryption: Encryption::default(),
        egress: EgressPolicy { allow_private: true },
        trackers: Vec::new(),
        max_peers_per_torrent: 50,
        max_peers: 50,
        max_half_open: 10,
        max_active: 10,
        idle_grace: Duration::from_secs(3600),
        uploads: UploadRules { slots: 50, ..UploadRules::default() },
        queue: QueueLimits::default(),
        max_partial_bytes: 1 << 20,
        keep_behind_bytes: 0,
        finding: FindingOptions::default(),
        restored: None,
    }
}

fn sockets() -> BitTorrentSockets {
    let any = || Binding::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "the kit");
    BitTorrentSockets {
        tcp: Some(bind_tcp(&any()).unwrap_or_else(|e| panic!("{e}"))),
        udp_v4: Some(bind_udp(&any()).unwrap_or_else(|e| panic!("{e}"))),
        ..BitTorrentSockets::default()
    }
}

/// The configuration of a gateway that touches nothing but loopback, with its cache in `dir`.
pub fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
    config.server.max_streams = 4096;
    config.server.max_streams_per_client = 4096;
    config.network.allow_private = true;
    config.bittorrent.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.bittorrent.listen_port = 0;
    config.bittorrent.dht = false;
    config.bittorrent.dht_bootstrap = Vec::new();
    config.webtorrent.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.webtorrent.listen_port = 0;
    config.ipfs.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.ipfs.listen_port = 0;
    config.cache.dir = dir.to_owned();
    config.cache.max_size = Size::mib(CACHE);
    config.cache.min_free = Size::from_bytes(0);
    config.cache.memory = Size::mib(32);
    config
}

/// A gateway.
#[derive(Debug)]
pub struct Node {
    /// The application.
    pub app: App,
    dir: Option<TempDir>,
}

impl Node {
    /// Starts one with a fresh cache that ends with it.
    pub async fn fresh() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, with a configuration that the story has changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a directory: {e}"));
        let mut config = config(dir.path());
        change(&mut config);
        let node = Self::start(&config).await.unwrap_or_else(|e| panic!("the gateway does not start: {e}"));
        Self { dir: Some(dir), ..node }
    }

    /// Starts one as configured.
    ///
    /// # Errors
    /// As the application's own start.
    pub async fn start(config: &Config) -> Result<Self, StartupError> {
        let app = App::build(config, Listeners::bind(config)?).await?;
        Ok(Self { app, dir: None })
    }

    /// The directory of a fresh cache.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("the story made no directory of its own").path()
    }

    /// Where HTTP is served.
    pub fn address(&self) -> SocketAddr {
        self.app.addresses()[0]
    }

    /// The absolute URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The URL of a content's magnet, with peers to ask.
    pub fn magnet(&self, content: &Content, peers: &[SocketAddr]) -> String {
        self.url(&format!("/magnet?{}", content.magnet_query(peers)))
    }

    /// A new connection to it.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.address()).await
    }

    /// Makes it know a content and its peers, as pasting a magnet does, and waits until the files are known.
    pub async fn learn(&self, content: &Content, peers: &[SocketAddr]) {
        let mut connection = self.connect().await;
        let path = format!("/bt/{}/?format=json&{}", content.infohash(), content.magnet_query(peers));
        let answer = connection.get(&path, &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }

    /// The network's counters.
    pub fn stats(&self) -> StatsSnapshot {
        self.app.manager().list()[0].stats
    }

    /// Stops it and returns when all of it is gone.
    pub async fn stop(self) {
        self.app.shutdown(GOODBYE).await;
    }
}
