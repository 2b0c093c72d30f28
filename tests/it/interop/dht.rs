//! A DHT of fifty nodes on loopback, half of them libtorrent's: what one half says the other half finds.

#![expect(clippy::unwrap_used, reason = "in a story, what fails to be there is the failure, helpers included")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use serde_json::{Value, json};
use swarmgate_bittorrent::dht::{DhtHandle, DhtNode, DhtOptions};
use swarmgate_bittorrent_proto::dht::{Item, MutableItem, NodeId};
use swarmgate_content::InfoHash;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;
use swarmgate_tests::wait;

use super::scratch;

/// Nodes of each kind.
const NODES: usize = 25;
/// How long fifty nodes take to know each other, libtorrent's start and this machine's other work included.
const MEET_WITHIN: Duration = Duration::from_secs(60);
/// What an announce may take until others find it.
const FOUND_WITHIN: Duration = Duration::from_secs(2);
/// No single lookup takes longer.
const LOOKUP_WITHIN: Duration = Duration::from_secs(20);

/// libtorrent's half.
struct Herd {
    process: Process,
    input: ChildStdin,
}

impl Herd {
    async fn start(python: &std::path::Path, bootstrap: SocketAddr, dir: &std::path::Path) -> Self {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/lt_dht.py"));
        command.args(["--nodes", &NODES.to_string(), "--bootstrap", &bootstrap.to_string()]);
        let mut process = Process::start("lt_dht", &command, dir);
        let input = process.take_stdin().unwrap();
        let herd = Self { process, input };
        herd.event("libtorrent's nodes", MEET_WITHIN, |event| event["event"] == "listening").await;
        herd
    }

    fn tell(&mut self, order: &Value) {
        writeln!(self.input, "{order}").unwrap();
    }

    fn events(&self) -> Vec<Value> {
        self.process.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    async fn event(&self, what: &str, within: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, within, async || self.events().into_iter().rev().find(|event| wanted(event))).await
    }

    /// How many of the nodes know at least `known` others.
    fn settled(&self, known: u64) -> usize {
        let mut tables = [0; NODES];
        for event in self.events().iter().filter(|event| event["event"] == "table") {
            let node = usize::try_from(event["node"].as_u64().unwrap()).unwrap();
            tables[node] = event["nodes"].as_u64().unwrap();
        }
        tables.iter().filter(|table| **table >= known).count()
    }
}

/// Both halves, acquainted.
struct Network {
    ours: Vec<DhtNode>,
    theirs: Herd,
    _dir: tempfile::TempDir,
}

async fn network() -> Option<Network> {
    let python = Program::Python.find()?;
    let dir = scratch();
    let options = |bootstrap: &[SocketAddr]| DhtOptions {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        key: "bittorrent.dht_port",
        bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
        node_id: None,
        read_only: false,
        store: None,
        others: None,
    };
    let first = DhtNode::start(options(&[])).await.unwrap();
    let bootstrap = first.address();
    let mut ours = vec![first];
    for _ in 1..NODES {
        ours.push(DhtNode::start(options(&[bootstrap])).await.unwrap());
    }
    let theirs = Herd::start(&python, bootstrap, dir.path()).await;
    let network = Network { ours, theirs, _dir: dir };
    let known = |node: &DhtNode| node.handle().stats().unwrap().nodes_v4;
    wait::until("fifty nodes to know each other", MEET_WITHIN, async || {
        let ours = network.ours.iter().all(|node| known(node) >= 16);
        (ours && network.theirs.settled(12) == NODES).then_some(())
    })
    .await;
    Some(network)
}

impl Network {
    fn handle(&self, node: usize) -> DhtHandle {
        self.ours[node].handle()
    }

    async fn stop(self) {
        for node in self.ours {
            let stats = node.handle().stats().unwrap();
            assert!(stats.answered > 0 && stats.limited == 0, "{stats:?}");
            node.shutdown().await;
        }
        self.theirs.process.stop();
    }
}

async fn finds(dht: &DhtHandle, torrent: InfoHash, peer: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut peers = dht.get_peers(torrent, None);
    let found = async { while peers.next().await != Some(peer) {} };
    tokio::time::timeout(LOOKUP_WITHIN, found).await.unwrap_or_else(|_| panic!("{peer} was not found"));
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_half_announces_both_find_within_two_seconds() {
    let Some(mut network) = network().await else { return };
    let ours = (InfoHash::new([0x5a; 20]), SocketAddr::from(([127, 0, 0, 1], 4000)));
    let theirs = (InfoHash::new([0xa5; 20]), SocketAddr::from(([127, 0, 0, 1], 5000)));

    let began = Instant::now();
    let _announced = network.handle(3).get_peers(ours.0, Some(4000));
    let stored = async || (network.handle(3).stats().unwrap().stored >= 8).then_some(());
    wait::until("our announce", FOUND_WITHIN, stored).await;
    let asked = Instant::now();
    network.theirs.tell(&json!({ "do": "get_peers", "node": 11, "infohash": ours.0.to_string() }));
    let has = |event: &Value| event["peers"].as_array().is_some_and(|it| it.contains(&json!(ours.1.to_string())));
    network.theirs.event("libtorrent to find our peer", LOOKUP_WITHIN, has).await;
    let by_libtorrent = asked.elapsed();
    let by_us = finds(&network.handle(17), ours.0, ours.1).await;
    eprintln!(
        "announced by us: stored after {:?}, found by libtorrent after {by_libtorrent:?}, by us after {by_us:?}",
        asked - began
    );
    assert!(began.elapsed() < FOUND_WITHIN + by_us, "announce and find took {:?}", began.elapsed());

    let began = Instant::now();
    network.theirs.tell(&json!({ "do": "announce", "node": 7, "infohash": theirs.0.to_string(), "port": 5000 }));
    let found = async {
        loop {
            let mut peers = network.handle(21).get_peers(theirs.0, None);
            let next = tokio::time::timeout(Duration::from_millis(200), peers.next()).await;
            if next == Ok(Some(theirs.1)) {
                return began.elapsed();
            }
        }
    };
    let found = tokio::time::timeout(LOOKUP_WITHIN, found).await.unwrap();
    eprintln!("announced by libtorrent: found by us after {found:?}");
    assert!(found < FOUND_WITHIN, "it took {found:?}");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_either_half_stores_the_other_reads() {
    let Some(mut network) = network().await else { return };
    let seed = [7; 32];
    let sign =
        |seq, text: &str| MutableItem::sign(&seed, b"feed", seq, format!("{}:{text}", text.len()).into()).unwrap();
    let key = *sign(1, "x").key();
    // libtorrent takes the expanded form of the key (RFC 8032 §5.1.5).
    let mut private = digest::digest(&digest::SHA512, &seed).as_ref().to_vec();
    private[0] &= 0xf8;
    private[31] = (private[31] & 0x3f) | 0x40;

    let stored = network.handle(2).put_immutable(Bytes::from_static(b"8:from us!"), false).await.unwrap();
    assert_eq!(stored.nodes, 8);
    let target = Item::immutable(Bytes::from_static(b"8:from us!")).unwrap().target().to_string();
    network.theirs.tell(&json!({ "do": "get_immutable", "node": 9, "target": target }));
    let got = |event: &Value| event["event"] == "item" && event["target"] == target.as_str();
    let event = network.theirs.event("libtorrent to get our value", LOOKUP_WITHIN, got).await;
    assert_eq!(event["text"], "from us!");

    network.theirs.tell(&json!({ "do": "put_immutable", "node": 4, "text": "from them" }));
    let told = network.theirs.event("a target", LOOKUP_WITHIN, |event| event["event"] == "target").await;
    network.theirs.event("libtorrent's put", LOOKUP_WITHIN, |event| event["event"] == "put").await;
    let target = HEXLOWER.decode(told["target"].as_str().unwrap().as_bytes()).unwrap();
    let target = *NodeId::from_slice(&target).unwrap().as_bytes();
    let value = network.handle(22).get_immutable(target).await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"9:from them"[..]));

    let stored = network.handle(5).put_mutable(sign(1, "first"), None, false).await.unwrap();
    assert_eq!((stored.nodes, stored.newer), (8, None));
    let get = json!({ "do": "get_mutable", "node": 13, "public": key.to_string(), "salt": "feed" });
    network.theirs.tell(&get);
    let first = |event: &Value| event["event"] == "item" && event["text"] == "first";
    let event = network.theirs.event("libtorrent to get our item", LOOKUP_WITHIN, first).await;
    assert_eq!(event["seq"], 1);

    let puts = network.theirs.events().iter().filter(|event| event["event"] == "put").count();
    let put = json!({ "do": "put_mutable", "node": 20, "private": HEXLOWER.encode(&private), "public": key.to_string(), "text": "second", "salt": "feed" });
    network.theirs.tell(&put);
    wait::until("libtorrent's version", LOOKUP_WITHIN, async || {
        let events = network.theirs.events();
        (events.iter().filter(|event| event["event"] == "put").count() > puts).then_some(())
    })
    .await;
    let item = network.handle(8).get_mutable(&key, b"feed").await.unwrap().unwrap();
    assert_eq!((item.seq(), &item.value()[..]), (2, &b"6:second"[..]));
    let late = network.handle(1).put_mutable(sign(1, "first"), None, false).await.unwrap();
    assert_eq!((late.nodes, late.newer), (0, Some(2)), "what is older than libtorrent's is not put");
    network.stop().await;
}
