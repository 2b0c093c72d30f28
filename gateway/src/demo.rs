//! `swarmgate demo`: the main job, offline, on one machine. A second node in this process has a file, as a torrent and as
//! a DAG of IPFS; the gateway, which knows only its infohash or CID and the node's address, streams it back over HTTP. In
//! the end it is read once more over both networks, and each in turn is killed half-way.

mod killed;
mod line;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use swarmgate_bittorrent::{BitTorrentProtocol, BitTorrentSockets};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_config::{Config, Size};
use swarmgate_content::{Cid, EventBus, Protocol, ProtocolKind};
use swarmgate_ipfs::delivery::Delivery;
use swarmgate_ipfs_proto::block::hash_of;
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::SwarmContext;

use crate::app::{App, bittorrent_options, egress};
use crate::ipfs;
use crate::listeners::{Listeners, bind_peers};
use crate::policy::Denylists;

/// The demo file's length: 24 MiB and a bit, so that its last piece is short.
const FILE_LEN: usize = 24 * 1024 * 1024 + 4321;
/// The demo torrent's piece length.
const PIECE_LEN: u32 = 256 * 1024;
/// The name of the demo's file.
const FILE_NAME: &str = "swarmgate-demo.bin";
/// Cache of each of the two nodes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Why the demo failed.
pub type DemoError = Box<dyn std::error::Error + Send + Sync>;

/// A node that has the demo's file and serves it to whoever dials, over BitTorrent and over Bitswap.
#[derive(Debug)]
pub struct Seeder {
    bittorrent: Arc<BitTorrentProtocol>,
    ipfs: Delivery,
    store: Store,
    metainfo: Metainfo,
    cid: Cid,
    digest: Vec<u8>,
}

impl Seeder {
    /// Makes the file, its torrent, its DAG and the node.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start() -> Result<Self, DemoError> {
        let payload = Bytes::from(payload());
        let hashes = hash_pieces(&payload, PIECE_LEN);
        let metainfo = TorrentBuilder::single_file(FILE_NAME, payload.len() as u64, PIECE_LEN, hashes).build()?;
        let store = Store::open(StoreOptions::in_memory(CACHE_BYTES)).await?;
        for (index, piece) in payload.chunks(PIECE_LEN as usize).enumerate() {
            let hash = metainfo.info.pieces.get(index).ok_or("a piece has a hash")?;
            let block = store.verifier().verify(hash, payload.slice_ref(piece)).await?;
            store.put(block).await?;
        }
        let context = SwarmContext::new(store.clone(), EventBus::new());
        let config = offline();
        let sockets: BitTorrentSockets = bind_peers(&config)?;
        let options = bittorrent_options(&config, egress(&config));
        let bittorrent = BitTorrentProtocol::start(options, sockets, None, context).await?;
        bittorrent.add_metainfo(metainfo.clone(), true).await?;
        let cid = add_dag(&store, &payload).await?;
        let ipfs = ipfs::start_delivery(&config, &store, &Denylists::default()).await?;
        let digest = digest::digest(&digest::SHA256, &payload).as_ref().to_vec();
        Ok(Self { bittorrent, ipfs, store, metainfo, cid, digest })
    }

    /// The magnet that a stranger would paste: the infohash and this node's address, nothing else.
    #[must_use]
    pub fn magnet_query(&self) -> String {
        let address = self.bittorrent.listen_address().map_or_else(String::new, |address| format!("&x.pe={address}"));
        format!("xt=urn:btih:{}{address}", self.metainfo.infohash)
    }

    /// The path of the file's DAG, with this node as the one to ask.
    fn ipfs_path(&self) -> Result<String, DemoError> {
        let node = self.ipfs.node().ok_or("the seeder is an IPFS node")?;
        let address = node.listeners().into_iter().next().ok_or("the seeder listens")?;
        Ok(format!("/ipfs/{}?provider={address}/p2p/{}", self.cid, node.peer_id()))
    }

    /// Stops the node.
    pub async fn stop(self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        self.ipfs.shutdown(deadline).await;
        self.bittorrent.shutdown(deadline).await;
        self.store.close().await;
    }
}

/// Puts a file's DAG into a store, and says what it is called.
async fn add_dag(store: &Store, payload: &[u8]) -> Result<Cid, DemoError> {
    let mut builder = FileBuilder::new(Profile::V1_2025);
    builder.push(payload);
    let built = builder.finish();
    while let Some(block) = builder.poll_block() {
        store.put(store.verifier().verify(hash_of(&block.cid)?, block.bytes).await?).await?;
    }
    Ok(built.cid)
}

/// A configuration that touches nothing but loopback, on ports that the system chooses, with a small cache. Whoever
/// starts a gateway with it says where `cache.dir` is.
#[must_use]
pub fn offline() -> Config {
    let mut config = Config::default();
    config.server.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()];
    config.network.allow_private = true;
    config.bittorrent.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.bittorrent.listen_port = 0;
    config.bittorrent.dht = false;
    config.webtorrent.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.webtorrent.listen_port = 0;
    config.ipfs.listen_ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    config.ipfs.listen_port = 0;
    config.cache.max_size = Size::from_bytes(CACHE_BYTES);
    config.cache.min_free = Size::from_bytes(0);
    config.cache.memory = Size::from_bytes(CACHE_BYTES / 2);
    config
}

/// Bytes that look random and are the same each time.
pub(crate) fn payload() -> Vec<u8> {
    let mut state = 0x5eed_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..FILE_LEN).map(|_| next()).collect()
}

/// Runs the demo; with `keep`, leaves the gateway running until `interrupted` resolves.
///
/// # Errors
/// When any step fails or any byte is wrong.
pub async fn run(
    keep: bool,
    interrupted: impl Future<Output = ()>,
    out: &mut (dyn Write + Send),
) -> Result<(), DemoError> {
    let dir = std::env::temp_dir().join(format!("swarmgate-demo-{:016x}", rand::random::<u64>()));
    let mut config = offline();
    config.cache.dir.clone_from(&dir);
    let seeder = Seeder::start().await?;
    let app = App::build(&config, Listeners::bind(&config)?).await?;
    let outcome = async {
        show(&app, &seeder, out).await?;
        show_webrtc(&app, &seeder, out).await?;
        show_ipfs(&app, &seeder, out).await?;
        killed::show(&seeder, out).await?;
        if keep {
            invite(&app, &seeder, out)?;
            interrupted.await;
        } else {
            writeln!(out, "With --keep the gateway goes on running, and commands to try are shown.")?;
        }
        Ok(())
    };
    let outcome = outcome.await;
    app.shutdown(Duration::from_secs(1)).await;
    seeder.stop().await;
    std::fs::remove_dir_all(&dir)?;
    outcome
}

async fn show(app: &App, seeder: &Seeder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let root = root(app)?;
    let magnet = format!("{root}/magnet?{}", seeder.magnet_query());
    let plain = format!("{root}/bt/{}/{FILE_NAME}", seeder.metainfo.infohash);
    writeln!(
        out,
        "A seeder in this process has {FILE_NAME} ({FILE_LEN} bytes), infohash {}.",
        seeder.metainfo.infohash
    )?;
    writeln!(out, "The gateway beside it knows nothing of it yet.\n")?;

    let client = reqwest::Client::builder().no_proxy().build()?;
    let started = Instant::now();
    let range = 10_000_000..10_065_536;
    let header = format!("bytes={}-{}", range.start, range.end - 1);
    let response = client.get(&magnet).header("Range", header).send().await?;
    let (status, served) = (response.status(), response.headers().get("content-range").cloned());
    let part = response.bytes().await?;
    let took = started.elapsed().as_millis();
    let payload = payload();
    if status != reqwest::StatusCode::PARTIAL_CONTENT || part != payload[range] {
        return Err(format!("the range came back wrong (HTTP {status})").into());
    }
    let served = served.and_then(|value| value.to_str().map(str::to_owned).ok()).unwrap_or_default();
    writeln!(out, "  cold, by magnet:  206, Content-Range: {served}, right bytes, {took} ms from nothing")?;

    let started = Instant::now();
    let whole = client.get(&plain).send().await?.error_for_status()?.bytes().await?;
    if digest::digest(&digest::SHA256, &whole).as_ref() != seeder.digest {
        return Err("the whole file came back wrong".into());
    }
    let (took, pieces) = (started.elapsed(), seeder.metainfo.info.pieces.count());
    let rate = whole.len() as f64 / took.as_secs_f64() / 1e6;
    writeln!(
        out,
        "  whole file:       200, SHA-256 right, {pieces} pieces verified, {rate:.0} MB/s over BitTorrent\n"
    )?;
    Ok(())
}

/// Streams the file once more, from a second gateway that knows nothing but the first one's tracker: what a browser would
/// do, over the same WebRTC.
async fn show_webrtc(app: &App, seeder: &Seeder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let dir = std::env::temp_dir().join(format!("swarmgate-demo-{:016x}", rand::random::<u64>()));
    let mut config = offline();
    config.cache.dir.clone_from(&dir);
    let second = App::build(&config, Listeners::bind(&config)?).await?;
    let tracker = format!("{}/announce", root(app)?.replacen("http", "ws", 1));
    let url = format!("{}/magnet?xt=urn:btih:{}&tr={tracker}", root(&second)?, seeder.metainfo.infohash);
    let outcome = async {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let started = Instant::now();
        let whole = client.get(&url).send().await?.error_for_status()?.bytes().await?;
        if digest::digest(&digest::SHA256, &whole).as_ref() != seeder.digest {
            return Err("the file came back wrong over WebRTC".into());
        }
        let rate = whole.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
        let peers = second.manager().list().into_iter().find(|network| network.kind == ProtocolKind::WebTorrent);
        let bytes = peers.map_or(0, |network| network.stats.bytes_downloaded);
        if bytes < whole.len() as u64 {
            return Err("the file did not come over WebRTC".into());
        }
        writeln!(out, "A second gateway knows only the first one's tracker, as a browser would.\n")?;
        writeln!(out, "  over WebRTC:      200, SHA-256 right, {bytes} bytes from the first, {rate:.0} MB/s\n")?;
        Ok(())
    };
    let outcome = outcome.await;
    second.shutdown(Duration::from_secs(1)).await;
    std::fs::remove_dir_all(&dir)?;
    outcome
}

/// Streams the file by its CID, from the seeder's IPFS node.
async fn show_ipfs(app: &App, seeder: &Seeder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let started = Instant::now();
    let answer = client.get(root(app)? + &seeder.ipfs_path()?).send().await?.error_for_status()?;
    let whole = answer.bytes().await?;
    if digest::digest(&digest::SHA256, &whole).as_ref() != seeder.digest {
        return Err("the file came back wrong over Bitswap".into());
    }
    let sources = app.ipfs().map(|ipfs| ipfs.blocks().status()).unwrap_or_default();
    let bytes = sources.iter().find(|source| source.name == "bitswap").map_or(0, |source| source.stats.bytes);
    if bytes < whole.len() as u64 {
        return Err("the file did not come over Bitswap".into());
    }
    let rate = whole.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
    writeln!(out, "The seeder has the file as a DAG of IPFS too, {}.\n", seeder.cid)?;
    writeln!(out, "  by CID:           200, SHA-256 right, {rate:.0} MB/s over Bitswap\n")?;
    Ok(())
}

/// Names commands that work while the gateway runs.
fn invite(app: &App, seeder: &Seeder, out: &mut (dyn Write + Send)) -> Result<(), DemoError> {
    let folder = format!("{}/bt/{}", root(app)?, seeder.metainfo.infohash);
    writeln!(out, "Try, until Ctrl-C ends it:")?;
    writeln!(out, "  curl -r 0-1023 {folder}/{FILE_NAME} | xxd | head")?;
    writeln!(out, "  curl -I {folder}/{FILE_NAME}")?;
    writeln!(out, "  curl {folder}/{FILE_NAME} | sha256sum")?;
    writeln!(out, "  open {folder}/")?;
    writeln!(out, "  curl -I {}/ipfs/{}", root(app)?, seeder.cid)?;
    Ok(())
}

/// Where the gateway answers, without a slash at the end.
fn root(app: &App) -> Result<String, DemoError> {
    let address = app.addresses().first().ok_or("the gateway listens")?;
    Ok(format!("http://{address}"))
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Standard output that can be read while the demo writes it.
    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        /// Every URL shown so far.
        fn urls(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().clone()).unwrap();
            text.split_whitespace().filter(|word| word.starts_with("http")).map(str::to_owned).collect()
        }

        fn says(&self, words: &str) -> bool {
            String::from_utf8_lossy(&self.0.lock()).contains(words)
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_demo_that_ends_shows_no_address_and_says_how_to_keep_it() {
        let screen = Screen::default();
        run(false, std::future::pending(), &mut screen.clone()).await.unwrap();
        assert!(screen.says("SHA-256 right") && screen.says("--keep"));
        assert_eq!(screen.urls(), Vec::<String>::new(), "nobody answers there any more");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_demo_that_is_kept_answers_at_every_address_it_shows() {
        let screen = Screen::default();
        let visitor = async {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            assert_eq!(screen.urls().len(), 5);
            for url in screen.urls() {
                assert_eq!(client.head(&url).send().await.unwrap().status(), 200, "{url}");
            }
        };
        run(true, visitor, &mut screen.clone()).await.unwrap();
    }
}
