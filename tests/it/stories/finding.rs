//! Which peers the gateway comes to know, and which it lets in.

use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, Handshake, PeerId};
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::KIB;

/// Nothing on loopback takes longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long what must not happen is watched for: several times what it takes where it may.
const WATCH: Duration = Duration::from_secs(4);

fn peers_address(node: &Node) -> SocketAddr {
    node.app.bittorrent().unwrap().listen_address().unwrap()
}

fn peers(node: &Node, content: &Content) -> usize {
    node.app.bittorrent().unwrap().status(&content.infohash()).map_or(0, |status| status.peers)
}

async fn bans(node: &Node) -> serde_json::Value {
    node.connect().await.get("/api/v1/bans", &[]).await.json()
}

/// A hub that has the metadata and not a byte of the content, connected to a seeder.
async fn hub_and_seeder(content: &Content) -> (Node, Seeder) {
    let (seeder, hub) = (Seeder::start(content).await, Node::fresh().await);
    hub.learn(content, &[seeder.address()]).await;
    (hub, seeder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeder_that_nobody_named_is_found_through_a_peer_that_knows_it() {
    let content = Content::single("film.mkv", 71, 512 * KIB, 64 * 1024);
    let (hub, seeder) = hub_and_seeder(&content).await;
    let viewer = Node::fresh().await;
    viewer.learn(&content, &[peers_address(&hub)]).await;
    let answer = viewer.connect().await.get(&content.path(0), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == content.bytes);
    assert_eq!(hub.stats().bytes_uploaded, 0, "the hub had nothing to give");
    assert!(seeder.stats().bytes_uploaded >= content.bytes.len() as u64);
    for node in [viewer, hub] {
        node.stop().await;
    }
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_anybody_where_it_is_switched_off_or_the_torrent_is_private() {
    let public = Content::single("film.mkv", 72, 64 * KIB, 16 * 1024);
    let private = Content::private("members.bin", 73, 64 * KIB, 16 * 1024);
    let quiet = Node::with(|config| config.bittorrent.pex = false).await;
    let viewer = Node::fresh().await;
    for content in [&public, &private] {
        let (hub, seeder) = hub_and_seeder(content).await;
        let asking = if std::ptr::eq(content, &public) { &quiet } else { &viewer };
        asking.learn(content, &[peers_address(&hub)]).await;
        wait::until("the hub", PATIENCE, async || (peers(asking, content) == 1).then_some(())).await;
        tokio::time::sleep(WATCH).await;
        assert_eq!(peers(asking, content), 1, "the hub and nobody else");
        hub.stop().await;
        seeder.stop().await;
    }
    quiet.stop().await;
    viewer.stop().await;
}

/// What a peer at `from` hears that dials the gateway and says hello for a torrent that it has.
async fn knock(from: [u8; 4], to: SocketAddr, content: &Content) -> usize {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(to).await.unwrap();
    // A gateway that has closed already may answer this with a reset.
    let _ = stream.write_all(&Handshake::ours(content.infohash(), PeerId(*b"-XX0001-somebody-new")).encode()).await;
    let mut heard = [0; HANDSHAKE_LEN];
    let mut count = 0;
    while let Ok(Ok(more @ 1..)) = tokio::time::timeout(PATIENCE, stream.read(&mut heard[count..])).await {
        count += more;
    }
    count
}

async fn dials(listener: &TcpListener, within: Duration) -> Option<TcpStream> {
    Some(tokio::time::timeout(within, listener.accept()).await.ok()?.unwrap().0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listed_peer_gets_no_byte_whoever_dials_and_lists_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("block.p2p");
    std::fs::write(&list, "Some body:127.0.0.2-127.0.0.2\n127.0.1.0/24\n").unwrap();
    let (content, path) = (Content::single("film.mkv", 74, 64 * KIB, 16 * 1024), list.clone());
    let node = Node::with(|config| {
        config.bittorrent.listen_ip = "127.0.0.1".parse().unwrap();
        config.bittorrent.peer_blocklists = vec![path];
    })
    .await;
    let seeder = Seeder::start(&content).await;
    node.learn(&content, &[seeder.address()]).await;
    let address = peers_address(&node);
    for (from, heard) in [([127, 0, 0, 2], 0), ([127, 0, 1, 9], 0), ([127, 0, 0, 3], HANDSHAKE_LEN)] {
        assert_eq!(knock(from, address, &content).await, heard, "{from:?}");
    }
    let (listed, other) =
        (TcpListener::bind("127.0.0.2:0").await.unwrap(), TcpListener::bind("127.0.0.3:0").await.unwrap());
    let hints = [listed.local_addr().unwrap(), other.local_addr().unwrap()];
    node.learn(&content, &hints).await;
    assert!(dials(&other, PATIENCE).await.is_some(), "who is not listed is dialled");
    assert!(dials(&listed, Duration::from_millis(500)).await.is_none(), "who is listed is not");
    assert_eq!(bans(&node).await["blocked_ranges"], 2);

    std::fs::write(&list, "127.0.0.3\n").unwrap();
    let turned = async || (knock([127, 0, 0, 3], address, &content).await == 0).then_some(());
    wait::until("the list to be read again", Duration::from_secs(30), turned).await;
    assert_eq!(knock([127, 0, 0, 2], address, &content).await, HANDSHAKE_LEN);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_is_banned_for_its_time_for_all_to_see_and_can_be_let_in_again() {
    let content = Content::single("film.mkv", 75, 64 * KIB, 16 * 1024);
    let node = Node::fresh().await;
    let liar = HostilePeer::start(Manners::honest(&content).lying(|_| true)).await;
    node.learn(&content, &[liar.address()]).await;
    let path = format!("{}?wait=3", content.path(0));
    assert_eq!(node.connect().await.get(&path, &[]).await.status, 504);
    let list = bans(&node).await;
    assert_eq!(list["bans"][0]["peer"], liar.address().to_string(), "{list}");
    assert_eq!(
        (&list["bans"][0]["transport"], &list["bans"][0]["reason"]),
        (&"tcp".into(), &"sent wrong bytes".into())
    );
    assert!(list["bans"][0]["ends_in_s"].as_u64().is_some_and(|left| (3500..=3600).contains(&left)), "{list}");
    let lift = format!("/api/v1/bans/{}", liar.address());
    assert_eq!(node.connect().await.ask("DELETE", &lift, &[], b"").await.status, 204);
    assert_eq!(bans(&node).await["bans"], serde_json::json!([]));
    assert_eq!(node.connect().await.ask("DELETE", &lift, &[], b"").await.status, 404);
    node.stop().await;

    let node = Node::with(|config| config.bittorrent.ban_time = swarmgate_config::Span::from_secs(5)).await;
    node.learn(&content, &[liar.address()]).await;
    assert_eq!(node.connect().await.get(&path, &[]).await.status, 504);
    assert_eq!(bans(&node).await["bans"].as_array().unwrap().len(), 1);
    let over = async || bans(&node).await["bans"].as_array().unwrap().is_empty().then_some(());
    wait::until("the ban to end", PATIENCE, over).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_in_one_network_find_each_other_by_calling_out() {
    let content = Content::single("film.mkv", 76, 256 * KIB, 16 * 1024);
    let seeder = Seeder::start(&content).await;
    let first = Node::with(|config| config.bittorrent.lsd = true).await;
    first.learn(&content, &[seeder.address()]).await;
    assert!(first.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    seeder.stop().await;
    let second = Node::with(|config| config.bittorrent.lsd = true).await;
    let answer = second.connect().await.get(&content.path(0), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == content.bytes);
    for node in [first, second] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trackers_word_on_the_size_of_a_swarm_is_seen_with_the_item() {
    let (tracker, node) = (Tracker::start(), Node::fresh().await);
    let content = Content::single("film.mkv", 77, 64 * KIB, 16 * 1024).with_trackers(&[&tracker.url()]);
    let kind = [("content-type", "application/x-bittorrent")];
    let answer = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let port = peers_address(&node).port();
    wait::until("the announce", PATIENCE, async || tracker.knows(port).then_some(())).await;
    let path = format!("/api/v1/items/{}", content.infohash());
    let size = async || {
        let item = node.connect().await.get(&path, &[]).await.json();
        item.get("swarm").cloned()
    };
    let size = wait::until("the tracker's word", PATIENCE, size).await;
    assert_eq!(size["completed"], 7, "{size}");
    node.stop().await;
}
