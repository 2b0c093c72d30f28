//! Torrents on loan, from a whole BitTorrent node that meets another over TCP on loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its story fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use swarmgate_bittorrent::listener::{Binding, bind_tcp, bind_udp};
use swarmgate_bittorrent::obfuscated::Encryption;
use swarmgate_bittorrent::route::Route;
use swarmgate_bittorrent::{
    BitTorrentOptions, BitTorrentProtocol, BitTorrentSockets, FindingOptions, QueueLimits, UploadRules,
};
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder, hash_pieces};
use swarmgate_content::{
    ByteRange, ContentId, ContentReader, EventBus, FailureClass, FetchError, FetchErrorKind, Hints, Protocol,
    ResolveRequest, TorrentLender, TorrentLoan,
};
use swarmgate_egress::EgressPolicy;
use swarmgate_store::{Store, StoreOptions};
use swarmgate_swarm::SwarmContext;

const PIECE: u32 = 64 * 1024;
const PIECES: u32 = 12;
/// Everything here is done at once, or something is wrong.
const DEADLINE: Duration = Duration::from_secs(20);
const LONG_GRACE: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lent_torrent_is_fetched_given_and_read_piece_by_piece() {
    let (payload, metainfo) = torrent(1, |builder| builder);
    let (seeder, node) = (Node::start(LONG_GRACE).await, Node::start(LONG_GRACE).await);
    seeder.seed(&payload, &metainfo).await;
    node.resolve(&metainfo, Hints { peers: vec![seeder.address()], ..Hints::default() }).await;
    let loan = node.lend(&metainfo).await.unwrap();
    assert_eq!(loan.meta().total_len, payload.len() as u64);
    assert!(!loan.has(3) && loan.web_seeds().is_empty());
    let reading = tokio::spawn(read_all(loan.read(range(3, 5))));
    soon(loan.fetch(4)).await.unwrap();
    assert!(loan.has(4) && !loan.has(3));
    assert_eq!((*loan.peers().borrow(), loan.received_bytes()), (1, u64::from(PIECE)));
    soon(loan.admit(3, slice(&payload, 3, 4))).await.unwrap();
    assert_eq!(soon(reading).await.unwrap().unwrap(), slice(&payload, 3, 5));
    assert_eq!(soon(loan.admit(5, slice(&payload, 3, 4))).await.unwrap_err().class, FailureClass::Corruption);
    // Bytes are asked of the swarm, whole pieces and no others.
    let few = ByteRange::new(7 * u64::from(PIECE) + 10, 7 * u64::from(PIECE) + 20).unwrap();
    assert_eq!(soon(loan.bytes(few)).await.unwrap(), slice(&payload, 7, 8).slice(10..20));
    assert_eq!(loan.received_bytes(), 2 * u64::from(PIECE));
    assert!(loan.has(7) && !loan.has(8));
    for (start, end) in [(0, (16 << 20) + 1), (0, payload.len() as u64 + 1)] {
        let refused = soon(loan.bytes(ByteRange::new(start, end).unwrap())).await;
        assert_eq!(refused.unwrap_err().class, FailureClass::Neutral);
    }
    assert_eq!(soon(read_all(loan.read(range(3, PIECES + 1)))).await.unwrap_err().kind, FetchErrorKind::NotFound);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loan_keeps_its_torrent_active_until_it_is_dropped() {
    let node = Node::start(Duration::from_millis(200)).await;
    let (_, lent) = torrent(1, |builder| builder);
    let (_, other) = torrent(2, |builder| builder);
    node.protocol.add_metainfo(lent.clone(), false).await.unwrap();
    let loan = node.lend(&lent).await.unwrap();
    node.protocol.add_metainfo(other.clone(), false).await.unwrap();
    // The other one's time is up, and this one's would be.
    eventually(|| node.protocol.item(&other.infohash).is_none()).await;
    assert!(node.protocol.item(&lent.infohash).is_some());
    drop(loan);
    eventually(|| node.protocol.item(&lent.infohash).is_none()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_removed_ends_its_loans_and_whoever_waits_for_one() {
    let node = Node::start(LONG_GRACE).await;
    let (payload, metainfo) = torrent(1, |builder| builder);
    node.protocol.add_metainfo(metainfo.clone(), true).await.unwrap();
    let loan = node.lend(&metainfo).await.unwrap();
    let (fetching, reading) = (tokio::spawn(loan.fetch(0)), tokio::spawn(read_all(loan.read(range(1, 2)))));
    assert!(node.protocol.remove(&metainfo.infohash, false).await);
    assert_eq!(soon(fetching).await.unwrap().unwrap_err().class, FailureClass::Neutral);
    assert_eq!(soon(reading).await.unwrap().unwrap_err().kind, FetchErrorKind::Removed);
    assert_eq!(soon(loan.bytes(range(0, 1))).await.unwrap_err().class, FailureClass::Neutral);
    assert_eq!(soon(loan.admit(0, slice(&payload, 0, 1))).await.unwrap_err().class, FailureClass::Neutral);
    // Nobody has this one's metadata.
    let (_, unknown) = torrent(2, |builder| builder);
    let (protocol, infohash) = (node.protocol.clone(), unknown.infohash);
    let waiting = tokio::spawn(async move { protocol.lend_torrent(infohash).await.map(|_| ()) });
    let status = || node.protocol.status(&infohash).is_some();
    eventually(status).await;
    node.protocol.remove(&infohash, false).await;
    assert_eq!(soon(waiting).await.unwrap().unwrap_err().kind, FetchErrorKind::Removed);
    node.stop().await;
    let error = node.lend(&metainfo).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::ShuttingDown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_seeds_of_the_torrent_and_of_hints_are_kept_over_restarts_lent_and_told_on() {
    let named = |url: &str| vec![url.to_owned()];
    let (_, metainfo) = torrent(1, |builder| builder.with_web_seeds(named("http://seed.example/f")));
    let node = Node::start(LONG_GRACE).await;
    node.protocol.add_metainfo(metainfo.clone(), true).await.unwrap();
    let hints = Hints { web_seeds: vec!["ipfs://cid/f".to_owned(), "x".repeat(5000)], ..Hints::default() };
    node.protocol.add_hints(metainfo.infohash, &hints, true).unwrap();
    let want = ["http://seed.example/f", "ipfs://cid/f"];
    assert_eq!(node.lend(&metainfo).await.unwrap().web_seeds(), want);
    let again = Node::with_store(node.stop_but_store().await, LONG_GRACE).await;
    let loan = again.lend(&metainfo).await.unwrap();
    assert_eq!(loan.web_seeds(), want);
    let file = Metainfo::parse(&again.protocol.torrent_file(&metainfo.infohash).unwrap().into()).unwrap();
    assert_eq!((file.infohash, file.web_seeds), (metainfo.infohash, want.map(str::to_owned).to_vec()));
    // What a later client says is lent at once.
    again.resolve(&metainfo, Hints { web_seeds: named("https://later.example/f"), ..Hints::default() }).await;
    assert_eq!(loan.web_seeds().last().unwrap(), "https://later.example/f");
    drop(again.stop_but_store().await);
    assert_eq!(loan.web_seeds(), [""; 0], "its lender is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_has_no_web_seeds_whoever_names_them() {
    let seeds = || vec!["http://seed.example/f".to_owned()];
    let (_, metainfo) = torrent(1, |builder| builder.with_web_seeds(seeds()).private());
    let node = Node::start(LONG_GRACE).await;
    let hints = Hints { web_seeds: seeds(), ..Hints::default() };
    // Before anybody knows that it is private, and after.
    node.protocol.add_hints(metainfo.infohash, &hints, true).unwrap();
    node.protocol.add_metainfo(metainfo.clone(), true).await.unwrap();
    node.resolve(&metainfo, hints).await;
    assert_eq!(node.lend(&metainfo).await.unwrap().web_seeds(), [""; 0]);
    let file = Metainfo::parse(&node.protocol.torrent_file(&metainfo.infohash).unwrap().into()).unwrap();
    assert_eq!(file.web_seeds, [""; 0]);
    node.stop().await;
}

// --- the kit -----------------------------------------------------------------------------------------------------

#[derive(Debug)]
struct Node {
    protocol: Arc<BitTorrentProtocol>,
    store: Store,
}

impl Node {
    async fn start(idle_grace: Duration) -> Self {
        Self::with_store(Store::open(StoreOptions::in_memory(64 << 20)).await.unwrap(), idle_grace).await
    }

    async fn with_store(store: Store, idle_grace: Duration) -> Self {
        let options = BitTorrentOptions {
            egress: EgressPolicy { allow_private: true },
            route: Route::default(),
            encryption: Encryption::default(),
            trackers: Vec::new(),
            max_peers_per_torrent: 10,
            max_peers: 10,
            max_half_open: 10,
            max_active: 10,
            idle_grace,
            uploads: UploadRules { slots: 4, ..UploadRules::default() },
            queue: QueueLimits::default(),
            max_partial_bytes: 4 << 20,
            keep_behind_bytes: 0,
            finding: FindingOptions::default(),
            restored: None,
        };
        let any = || Binding::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "the kit");
        let sockets = BitTorrentSockets {
            tcp: Some(bind_tcp(&any()).unwrap()),
            udp_v4: Some(bind_udp(&any()).unwrap()),
            ..BitTorrentSockets::default()
        };
        let context = SwarmContext::new(store.clone(), EventBus::new());
        Self { protocol: BitTorrentProtocol::start(options, sockets, None, context).await.unwrap(), store }
    }

    fn address(&self) -> SocketAddr {
        self.protocol.listen_address().unwrap()
    }

    async fn seed(&self, payload: &Bytes, metainfo: &Metainfo) {
        for piece in 0..PIECES {
            let hash = metainfo.info.pieces.get(piece as usize).unwrap();
            let block = self.store.verifier().verify(hash, slice(payload, piece, piece + 1)).await.unwrap();
            self.store.put(block).await.unwrap();
        }
        self.protocol.add_metainfo(metainfo.clone(), true).await.unwrap();
    }

    async fn resolve(&self, metainfo: &Metainfo, hints: Hints) {
        let id = ContentId::BtV1(metainfo.infohash);
        self.protocol.resolve(ResolveRequest { id, hints, deadline: Instant::now() + DEADLINE }).await.unwrap();
    }

    async fn lend(&self, metainfo: &Metainfo) -> Result<Arc<dyn TorrentLoan>, FetchError> {
        soon(self.protocol.lend_torrent(metainfo.infohash)).await
    }

    async fn stop(&self) {
        self.protocol.shutdown(Instant::now() + DEADLINE).await;
    }

    async fn stop_but_store(self) -> Store {
        self.stop().await;
        self.store
    }
}

/// A torrent of one file whose bytes `seed` decides.
fn torrent(seed: u32, dress: impl FnOnce(TorrentBuilder) -> TorrentBuilder) -> (Bytes, Metainfo) {
    let words = 0..PIECES * PIECE / 4;
    let payload = words.flat_map(|n| (n ^ (seed << 24)).wrapping_mul(2_654_435_761).to_le_bytes());
    let payload: Bytes = payload.collect::<Vec<_>>().into();
    let hashes = hash_pieces(&payload, PIECE);
    let builder = TorrentBuilder::single_file(format!("f{seed}"), payload.len() as u64, PIECE, hashes);
    (payload, dress(builder).build().unwrap())
}

/// The bytes of some pieces, as a range.
fn range(first: u32, end: u32) -> ByteRange {
    ByteRange::new(u64::from(first) * u64::from(PIECE), u64::from(end) * u64::from(PIECE)).unwrap()
}

fn slice(payload: &Bytes, first: u32, end: u32) -> Bytes {
    payload.slice((first * PIECE) as usize..(end * PIECE) as usize)
}

async fn read_all(mut reader: ContentReader) -> Result<Bytes, FetchError> {
    let mut all = BytesMut::new();
    while let Some(bytes) = reader.next().await {
        all.extend_from_slice(bytes?.as_ref());
    }
    Ok(all.freeze())
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap()
}

async fn eventually(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(reached).await;
}
