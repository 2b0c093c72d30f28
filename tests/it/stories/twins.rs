//! Torrents that share pieces (BEP 38): what one has, the other has, and nobody sends it twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use swarmgate_bittorrent_proto::metainfo::TorrentBuilder;
use swarmgate_content::StatsSnapshot;
use swarmgate_pace::Limit;
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::raw::{Answer, Connection};
use swarmgate_tests::wait;

use super::KIB;

/// Bytes of a piece.
const PIECE: usize = 64 * KIB;
/// Pieces that both torrents have, and pieces of each alone.
const SHARED: usize = 40;
const OWN: usize = 10;
const WITHIN: Duration = Duration::from_secs(30);

/// Two folders with one film in both: in one after another file, in the other before one.
fn twins() -> (Content, Content) {
    let (film, more) = (SHARED * PIECE, OWN * PIECE);
    let one = Content::folder("one", 50, &[(&["a.bin"], more), (&["film.bin"], film)], 64 * 1024);
    let other = Content::folder("other", 51, &[(&["film.bin"], film), (&["z.bin"], more)], 64 * 1024);
    assert!(one.file(1) == other.file(0) && one.infohash() != other.infohash());
    (one, other)
}

/// A node that knows of both and has nothing of them, and a peer that has all of each.
struct Acquainted {
    node: Node,
    ones: Seeder,
    others: Seeder,
}

impl Acquainted {
    /// Both torrents are active, with their peers, before a piece is asked for.
    async fn with(one: &Content, other: &Content) -> Self {
        let (ones, others) = (Seeder::start(one).await, Seeder::start(other).await);
        let node = Node::fresh().await;
        node.learn(one, &[ones.address()]).await;
        node.learn(other, &[others.address()]).await;
        Self { node, ones, others }
    }

    /// What each peer has downloaded and uploaded, in pieces.
    fn pieces(&self) -> ((u64, u64), (u64, u64)) {
        (pieces(&self.ones.stats()), pieces(&self.others.stats()))
    }

    async fn stop(self) {
        for seeder in [self.ones, self.others] {
            seeder.stop().await;
        }
        self.node.stop().await;
    }
}

async fn read(client: &mut Connection, content: &Content, file: usize) {
    let answer = client.get(&content.path(file), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == content.file(file), "other bytes");
}

/// Reads a file with nobody to ask for it.
async fn read_cached(client: &mut Connection, content: &Content, file: usize) -> Answer {
    client.get(&content.path(file), &[("cache-control", "only-if-cached")]).await
}

async fn add(node: &Node, content: &Content) {
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
}

async fn item(node: &Node, content: &Content) -> Value {
    node.connect().await.get(&format!("/api/v1/items/{}", content.infohash()), &[]).await.json()
}

/// Waits until so many bytes of each are known to be here.
async fn all_have(node: &Node, contents: &[&Content], bytes: usize) {
    for content in contents {
        wait::until("the bytes", WITHIN, async || (item(node, content).await["have_bytes"] == bytes).then_some(()))
            .await;
    }
}

fn pieces(stats: &StatsSnapshot) -> (u64, u64) {
    (stats.bytes_downloaded / PIECE as u64, stats.bytes_uploaded / PIECE as u64)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_torrents_that_share_forty_pieces_the_second_downloads_none_of_them() {
    let (one, other) = twins();
    let all = Acquainted::with(&one, &other).await;
    let node = &all.node;
    let mut client = node.connect().await;
    for file in 0..2 {
        read(&mut client, &one, file).await;
    }
    assert_eq!(all.pieces(), ((0, 50), (0, 0)));
    for file in 0..2 {
        read(&mut client, &other, file).await;
    }
    assert_eq!(all.pieces(), ((0, 50), (0, 10)));
    assert_eq!((pieces(&node.stats()), node.stats().bytes_wasted), ((60, 0), 0));
    // It is counted a moment after the piece was handed on.
    let all_counted = async || (node.stats().blocks_verified >= 60).then_some(());
    wait::until("the count of the last piece", WITHIN, all_counted).await;
    assert_eq!(node.stats().blocks_verified, 60, "what was hashed for one is not hashed for the other");
    all.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_torrent_left_in_the_cache_another_has_after_a_restart_with_nobody_to_ask() {
    let ((one, other), dir) = (twins(), tempfile::tempdir().unwrap());
    let seeder = Seeder::start(&one).await;
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    node.learn(&one, &[seeder.address()]).await;
    read(&mut node.connect().await, &one, 1).await;
    node.stop().await;
    seeder.stop().await;
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    add(&node, &other).await;
    let mut client = node.connect().await;
    let answer = read_cached(&mut client, &other, 0).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == other.file(0));
    assert_eq!(read_cached(&mut client, &other, 1).await.status, 412, "that was never here");
    assert_eq!(item(&node, &other).await["have_bytes"], SHARED * PIECE);
    assert_eq!(node.stats().bytes_downloaded, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_at_the_same_time_at_different_places_share_the_work() {
    // Long enough that what is on its way twice when it comes is little beside the whole.
    let (len, rate) = (16 << 20, 2 << 20);
    let contents = ["one", "other"].map(|name| Content::single(name, 60, len, 256 * 1024));
    let node = Node::fresh().await;
    let mut seeders = Vec::new();
    for content in &contents {
        let seeder = Seeder::start_at(content, Limit::new(rate)).await;
        node.learn(content, &[seeder.address()]).await;
        seeders.push(seeder);
    }
    let begun = tokio::time::Instant::now();
    let (mut from_the_begin, mut from_the_middle) = (node.connect().await, node.connect().await);
    let half = async |client: &mut Connection, content: &Content, start: usize| {
        let body = client.get_range(&content.path(0), start, start + len / 2).await.body;
        assert!(body == content.bytes[start..start + len / 2], "other bytes");
    };
    tokio::join!(read(&mut from_the_begin, &contents[0], 0), async {
        half(&mut from_the_middle, &contents[1], len / 2).await;
        half(&mut from_the_middle, &contents[1], 0).await;
    });
    let took = begun.elapsed();
    let given: Vec<_> = seeders.iter().map(|seeder| seeder.stats().bytes_uploaded as f64 / len as f64).collect();
    let percent = given.iter().sum::<f64>() * 100.0;
    eprintln!("both have {len} bytes after {took:?}; their peers gave {given:?} of it, {percent:.0} %");
    assert!(percent <= 120.0, "{percent:.0} % of the bytes were sent: by {given:?}");
    assert!(given.iter().all(|part| (0.25..0.85).contains(part)), "one did the work: {given:?}");
    node.stop().await;
    for seeder in seeders {
        seeder.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_whose_torrent_has_no_peers_is_served_by_what_the_other_brings() {
    let (one, other) = twins();
    let seeder = Seeder::start(&one).await;
    let node = Node::fresh().await;
    add(&node, &other).await;
    // Somebody who may yet answer: without anybody to wait for a request fails at once.
    node.learn(&other, &[SocketAddr::from((Ipv4Addr::LOCALHOST, 9))]).await;
    let (address, path, whole) = (node.address(), other.path(0), other.file(0));
    let reading = tokio::spawn(async move {
        let answer = Connection::open(address).await.get(&format!("{path}?wait=30"), &[]).await;
        (answer.status, answer.body == whole)
    });
    wait::until("the reader", WITHIN, async || (item(&node, &other).await["readers"] == 1).then_some(())).await;
    node.learn(&one, &[seeder.address()]).await;
    read(&mut node.connect().await, &one, 1).await;
    let done = tokio::time::timeout(Duration::from_secs(5), reading).await;
    assert_eq!(done.unwrap().unwrap(), (200, true));
    assert_eq!(pieces(&node.stats()).0, SHARED as u64);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_is_evicted_is_gone_from_both_and_fetched_once_for_both() {
    let (one, other) = twins();
    let all = Acquainted::with(&one, &other).await;
    let node = &all.node;
    let mut client = node.connect().await;
    let given = || {
        let (ones, others) = all.pieces();
        (ones.1, others.1)
    };
    read(&mut client, &one, 1).await;
    for piece in [3, 4, 17] {
        assert!(node.app.store().remove(&other.piece_hash(piece)).await);
    }
    all_have(node, &[&one, &other], (SHARED - 3) * PIECE).await;
    read(&mut client, &other, 0).await;
    assert_eq!(given(), (40, 3));
    all_have(node, &[&one], SHARED * PIECE).await;
    let answer = read_cached(&mut client, &one, 1).await;
    assert!(answer.status == 200 && answer.body == one.file(1), "{}", answer.text());
    assert_eq!(given(), (40, 3));
    all.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_that_names_the_pieces_of_another_at_another_length_has_none_of_its_bytes() {
    let (one, _) = twins();
    let seeder = Seeder::start(&one).await;
    let node = Node::fresh().await;
    node.learn(&one, &[seeder.address()]).await;
    read(&mut node.connect().await, &one, 0).await;
    // Pieces twice as long, and the last of them short, by the names of what is here.
    let names = one.metainfo.info.pieces.hashes.slice(..OWN * 20);
    let len = (2 * OWN - 1) * PIECE - 5;
    let liar = TorrentBuilder::single_file("liar.bin", len as u64, 2 * 64 * 1024, names).build().unwrap();
    let liar = Content { metainfo: liar, bytes: Bytes::new() };
    add(&node, &liar).await;
    let mut client = node.connect().await;
    for range in ["bytes=0-9".to_owned(), format!("bytes={}-", len - 9)] {
        let rows = [("range", range.as_str()), ("cache-control", "only-if-cached")];
        assert_eq!(client.get(&liar.path(0), &rows).await.status, 412, "{range}");
    }
    assert_eq!(item(&node, &liar).await["have_bytes"], 0);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_has_what_a_public_one_left_and_asks_nobody() {
    let public = Content::single("film.bin", 70, SHARED * PIECE, 64 * 1024);
    let private = Content::private("film.bin", 70, SHARED * PIECE, 64 * 1024);
    let seeder = Seeder::start(&public).await;
    let node = Node::fresh().await;
    add(&node, &private).await;
    node.learn(&public, &[seeder.address()]).await;
    let mut client = node.connect().await;
    read(&mut client, &public, 0).await;
    all_have(&node, &[&private], SHARED * PIECE).await;
    let answer = read_cached(&mut client, &private, 0).await;
    assert!(answer.status == 200 && answer.body == private.bytes, "{}", answer.text());
    assert_eq!(item(&node, &private).await["downloaded"], 0);
    node.stop().await;
    seeder.stop().await;
}
