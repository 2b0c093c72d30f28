//! WebRTC peers of the same swarm: two gateways that have nothing but a tracker in common.

use std::time::{Duration, Instant};

use swarmgate_content::{ProtocolKind, StatsSnapshot};
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::torrent::escape;
use swarmgate_tests::{http, wait};

use super::{KIB, MIB};

/// No signalling on loopback takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

fn webrtc(node: &Node) -> StatsSnapshot {
    let networks = node.app.manager().list();
    let found = networks.into_iter().find(|network| network.kind == ProtocolKind::WebTorrent);
    found.expect("WebTorrent is on").stats
}

fn tracker_of(node: &Node) -> String {
    format!("ws://{}/announce", node.address())
}

/// A gateway that has all of a content and has lost the seeder it was from.
async fn holder(content: &Content) -> Node {
    let (node, seeder) = (Node::fresh().await, Seeder::start(content).await);
    node.learn(content, &[seeder.address()]).await;
    assert!(node.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    seeder.stop().await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_streams_from_another_that_it_knows_only_by_a_websocket_tracker() {
    let content = Content::single("film.mkv", 81, 16 * MIB + 5, 256 * 1024);
    let holder = holder(&content).await;
    let reader = Node::fresh().await;
    let path = format!("{}?tr={}", content.path(0), escape(&tracker_of(&holder)));
    let started = Instant::now();
    let mut client = reader.connect().await;
    let range = client.get_range(&path, 5 * MIB, 5 * MIB + 1000).await;
    eprintln!("first range from nothing in {:?}", started.elapsed());
    assert_eq!(range.status, 206, "{}", range.text());
    assert!(range.body == content.bytes[5 * MIB..5 * MIB + 1000]);
    assert!(client.get(&path, &[]).await.body == content.bytes);
    let (given, taken) = (webrtc(&holder), webrtc(&reader));
    assert!(taken.bytes_downloaded >= content.bytes.len() as u64, "{taken:?}");
    assert_eq!(reader.stats().bytes_downloaded, 0, "nothing came over TCP");
    assert_eq!(given.bytes_uploaded, taken.bytes_downloaded);
    reader.stop().await;
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_is_no_swarm_of_the_built_in_tracker() {
    let content = Content::private("members.bin", 82, 256 * KIB, 32 * 1024);
    let holder = holder(&content).await;
    let reader = Node::fresh().await;
    let path = format!("{}?wait=2&tr={}", content.path(0), escape(&tracker_of(&holder)));
    let answer = reader.connect().await.get(&path, &[]).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.text().contains("does not serve this torrent"), "{}", answer.text());
    reader.stop().await;
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_names_the_gateways_own_tracker_in_its_magnet() {
    let content = Content::single("film.mkv", 83, 64 * KIB, 16 * 1024);
    let holder = holder(&content).await;
    let magnet = holder.connect().await.get(&format!("/bt/{}/?format=magnet", content.infohash()), &[]).await;
    assert!(magnet.text().ends_with("&tr=ws://localhost/announce\n"), "as the client reaches it: {}", magnet.text());
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_leave_are_looked_for_again() {
    let content = Content::single("film.mkv", 84, 4 * MIB, 64 * 1024);
    let tracker = Node::with(|config| config.webtorrent.tracker_allow = swarmgate_config::TrackerAllow::Any).await;
    let reader = Node::fresh().await;
    let path = format!("{}?tr={}", content.path(0), escape(&tracker_of(&tracker)));
    let first = holder(&content).await;
    first.connect().await.get(&path, &[]).await;
    let mut client = reader.connect().await;
    assert!(client.get_range(&path, 0, 1000).await.body == content.bytes[..1000]);
    first.stop().await;
    let second = holder(&content).await;
    second.connect().await.get(&path, &[]).await;
    wait::until("a new peer", PATIENCE, async || (webrtc(&reader).peers_connected >= 2).then_some(())).await;
    assert!(client.get(&path, &[]).await.body == content.bytes);
    for node in [second, reader, tracker] {
        node.stop().await;
    }
}

/// How many peers over WebRTC the reader of a content has just now.
async fn browsers(node: &Node, content: &Content) -> usize {
    let url = node.url(&format!("/api/v1/items/{}/peers", content.infohash()));
    let listed = http::get(&url).await.json();
    let rows = listed["peers"].as_array().expect("it is an item");
    rows.iter().filter(|row| row["transport"] == "webrtc").count()
}

async fn switch(node: &Node, on: bool) {
    let url = node.url("/api/v1/networks/webrtc");
    let answer = http::send(http::client().patch(&url).body(format!("{{\"enabled\":{on}}}")), &url).await;
    assert_eq!((answer.status.as_u16(), answer.json()["enabled"].as_bool()), (200, Some(on)), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_ends_the_connections_with_browsers_and_another_turn_brings_them_back() {
    let content = Content::single("film.mkv", 85, 16 * MIB, 256 * 1024);
    let holder = holder(&content).await;
    let reader = Node::fresh().await;
    let path = format!("{}?tr={}", content.path(0), escape(&tracker_of(&holder)));
    let mut client = reader.connect().await;
    assert!(client.get_range(&path, 0, 1000).await.body == content.bytes[..1000]);
    assert!(browsers(&reader, &content).await > 0);

    switch(&reader, false).await;
    let gone = async || (browsers(&reader, &content).await == 0).then_some(());
    wait::until("the end of all connections", PATIENCE, gone).await;
    // Long enough for the other side to offer again, in vain.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(browsers(&reader, &content).await, 0, "nobody is met meanwhile");

    switch(&reader, true).await;
    let back = async || (browsers(&reader, &content).await > 0).then_some(());
    wait::until("a connection again", 3 * PATIENCE, back).await;
    assert!(client.get(&path, &[]).await.body == content.bytes);
    reader.stop().await;
    holder.stop().await;
}
