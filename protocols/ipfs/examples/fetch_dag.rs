//! Reads a file's DAG from one peer and says how fast that went: `fetch_dag ADDRESS CID [--streams N]`.
//!
//! The address has the peer's id at its end or not; loopback and private ones are dialled too. `--streams` reads the
//! file so many times at once. `RUST_LOG=swarmgate_ipfs=debug` tells more.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use swarmgate_content::{ByteRange, Cid};
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs::node::{KadMode, Node, NodeOptions, Shelf};
use swarmgate_ipfs::source::{BlockSource, Provider, SessionId, Want};
use swarmgate_ipfs_proto::walk::FileWalk;
use swarmgate_store::{Store, StoreOptions};
use tracing_subscriber::EnvFilter;

type Failure = Box<dyn Error + Send + Sync>;

/// Bytes that a reader has in flight.
const WINDOW: u64 = 8 << 20;
/// How long a block may take.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(60);

struct Reading {
    bytes: u64,
    first_byte: Duration,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: fetch_dag ADDRESS CID [--streams N]";
    let address: Multiaddr = arguments.next().ok_or(usage)?.parse()?;
    let root: Cid = arguments.next().ok_or(usage)?.parse()?;
    let streams: u64 = match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => 1,
        (Some("--streams"), Some(number)) => number.parse()?,
        (Some(_), _) => return Err(usage.into()),
    };
    let options = NodeOptions {
        kad: KadMode::Off,
        egress: EgressPolicy { allow_private: true },
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse()?],
        ..NodeOptions::default()
    };
    let store = Store::open(StoreOptions::in_memory(1 << 20)).await?;
    let shelf = Shelf { store, may_serve: Arc::new(|_| false) };
    let node = Node::start(options, Keypair::generate_ed25519(), shelf).await?;
    let peer = node.connect(address.clone()).await?;
    println!("connected to {peer}");
    // Whoever is named as a provider is dialled again when the connection breaks.
    let provider = Provider::Peer { id: peer, addrs: vec![address] };
    (0..streams).for_each(|nth| node.provider(SessionId(nth), &provider));
    let start = Instant::now();
    let readings = try_join_all((0..streams).map(|nth| read(&node, SessionId(nth), root, start))).await?;
    let took = start.elapsed().as_secs_f64();
    let bytes: u64 = readings.iter().map(|reading| reading.bytes).sum();
    let first_byte = readings.iter().map(|reading| reading.first_byte).min().unwrap_or_default();
    println!("{bytes} bytes in {took:.3} s: {:.1} MB/s", bytes as f64 / took / 1e6);
    println!("first byte after {:.1} ms", first_byte.as_secs_f64() * 1e3);
    println!("{:?}", node.stats().client);
    node.shutdown(Instant::now() + Duration::from_secs(5)).await;
    Ok(())
}

async fn read(node: &Node, session: SessionId, root: Cid, start: Instant) -> Result<Reading, Failure> {
    let everything = ByteRange::new(0, u64::MAX).ok_or("no range")?;
    let mut walk = FileWalk::new(root, everything);
    let mut under_way = FuturesUnordered::new();
    let mut reading = Reading { bytes: 0, first_byte: Duration::ZERO };
    loop {
        while let Some(bytes) = walk.poll_bytes() {
            if reading.bytes == 0 {
                reading.first_byte = start.elapsed();
            }
            reading.bytes += bytes.len() as u64;
        }
        if walk.is_done() {
            node.end_session(session);
            return Ok(reading);
        }
        while let Some(next) = walk.poll_want(WINDOW)? {
            // In reading order: what comes first in the file has the highest.
            let priority = i32::MAX - i32::try_from(next.offset >> 18).unwrap_or(i32::MAX);
            let expected_len = u32::try_from(next.estimated_bytes).ok();
            let deadline = Instant::now() + BLOCK_TIMEOUT;
            let want = Want { cid: next.cid, session, expected_len, priority, deadline, within: None };
            under_way.push(async move { (next.cid, node.fetch(want).await) });
        }
        let (cid, block) = under_way.next().await.ok_or("the file has a gap")?;
        walk.provide(&cid, &block?)?;
    }
}
