//! Many items, and many peers. What they cost is measured in a process of its own, and has bounds that hold on a busy machine
//! too; `cargo xtask bench scale` has the figures, of the release build.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use swarmgate_bittorrent::keep_item;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::wire::Message;
use swarmgate_config::Config;
use swarmgate_content::BlockHash;
use swarmgate_store::{Store, StoreOptions};
use swarmgate_tests::measure::{alone, cpu_time, resident_bytes};
use swarmgate_tests::node::{self, Content, Node};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::MIB;

const ITEMS: u64 = 10_000;
const PEERS: usize = 500;
/// How long the cost of doing nothing is measured.
const IDLE: Duration = Duration::from_secs(5);
/// Records written at once: one write of the index for many.
const BATCH: usize = 256;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_items_cost_little_memory_and_next_to_no_time() {
    if !alone("stories::scale::ten_thousand_idle_items_cost_little_memory_and_next_to_no_time") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let config = node::config(dir.path());
    let empty = Node::start(&config).await.unwrap();
    let (resident, cpu) = (resident_bytes(), cost_of_idling().await);
    empty.stop().await;

    write_items(&config).await;
    let started = Instant::now();
    let node = Node::start(&config).await.unwrap();
    let start = started.elapsed();
    let (with_items, cpu_with) = (resident_bytes(), cost_of_idling().await);
    let grown = with_items.saturating_sub(resident) / 1024 / 1024;
    let listed = Instant::now();
    let items = node.connect().await.get("/api/v1/items", &[]).await.json();
    let list = listed.elapsed();
    let count = |state: &str| items["items"].as_array().unwrap().iter().filter(|it| it["state"] == state).count();
    eprintln!(
        "{ITEMS} items: started in {start:.2?}, {grown} MiB more than {} MiB without, CPU {:.2} % of a core ({:.2} % \
         without), list in {list:.2?}, {} queued, {} idle",
        resident / 1024 / 1024,
        100.0 * cpu_with,
        100.0 * cpu,
        count("queued"),
        count("idle"),
    );
    assert_eq!(items["items"].as_array().unwrap().len() as u64, ITEMS);
    assert!(count("queued") > 9_000);
    assert!(grown < 200 && cpu_with < 0.05 && list < Duration::from_secs(2) && start < Duration::from_secs(10));
    node.stop().await;
}

/// The share of a core that the process takes while nothing happens.
async fn cost_of_idling() -> f64 {
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, start) = (cpu_time(), Instant::now());
    tokio::time::sleep(IDLE).await;
    (cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64()
}

/// Puts many small torrents into a cache, kept, as if they had been added one by one.
async fn write_items(config: &Config) {
    let options = StoreOptions {
        dir: Some(config.cache.dir.clone()),
        max_bytes: config.cache.max_size.bytes(),
        min_free_bytes: 0,
        memory_bytes: config.cache.memory.bytes(),
    };
    let store = Store::open(options).await.unwrap();
    let mut writing = FuturesUnordered::new();
    for number in 0..ITEMS {
        let store = store.clone();
        writing.push(async move {
            let content = Content::single(&format!("film {number}.mkv"), number, 64, 16 * 1024);
            let metainfo = content.metainfo.clone();
            let hash = BlockHash::from(metainfo.infohash);
            let info = store.verifier().verify(hash, metainfo.info_bytes.clone()).await.unwrap();
            store.put(info).await.unwrap();
            keep_item(&store, &metainfo).await.unwrap();
        });
        if writing.len() >= BATCH {
            writing.next().await;
        }
    }
    while writing.next().await.is_some() {}
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_active_peers_leave_most_of_a_core() {
    if !alone("stories::scale::five_hundred_active_peers_leave_most_of_a_core") {
        return;
    }
    let content = Content::single("film.mkv", 5, 64 * MIB, 256 * 1024);
    let node = Node::with(|config| {
        config.bittorrent.max_peers_per_torrent = PEERS;
        config.bittorrent.max_peers = PEERS;
    })
    .await;
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201);
    let address = node.app.bittorrent().unwrap().listen_address().unwrap();
    let mut peers = JoinSet::new();
    for number in 0..PEERS {
        // One after the other: only so many may be at the door at a time.
        let stream = greeted(address, Handshake::ours(content.infohash(), peer_id(number))).await;
        peers.spawn(chatter(stream, content.pieces()));
    }
    swarmgate_tests::wait::until("all peers", Duration::from_secs(60), async || {
        let path = format!("/api/v1/items/{}", content.infohash());
        let item = node.connect().await.get(&path, &[]).await.json();
        (item["peers"] == PEERS).then_some(())
    })
    .await;
    let resident = resident_bytes() / 1024 / 1024;
    let cpu = cost_of_idling().await;
    eprintln!(
        "{PEERS} peers, a message each second from each: CPU {:.1} % of a core, both ends; {resident} MiB",
        cpu * 100.0
    );
    assert!(cpu < 0.5, "{cpu}");
    drop(peers);
    node.stop().await;
}

fn peer_id(number: usize) -> PeerId {
    let mut id = [b'x'; 20];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    PeerId(id)
}

/// A connection with both handshakes done.
async fn greeted(to: std::net::SocketAddr, hello: Handshake) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(&hello.encode()).await.unwrap();
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs).await.unwrap();
    stream
}

/// A peer that tells of a piece each second and wants what there is.
async fn chatter(stream: TcpStream, pieces: usize) {
    let (mut from, mut to) = stream.into_split();
    let reading = async {
        let mut buffer = vec![0; 64 * 1024];
        while matches!(from.read(&mut buffer).await, Ok(read) if read > 0) {}
    };
    let talking = async {
        let mut message = bytes::BytesMut::new();
        Message::HaveNone.encode(&mut message);
        Message::Interested.encode(&mut message);
        for piece in (0_u32..).take(pieces) {
            to.write_all(&message.split()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            Message::Have(swarmgate_bittorrent_proto::wire::PieceIndex(piece)).encode(&mut message);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reading => {}
        () = talking => {}
    }
}
