//! What a tracker hears of a download.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_content::ProtocolKind;
use swarmgate_egress::testing::HttpStub;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::torrent::escape;
use swarmgate_tests::wait;

use super::tracker_clients::{Client, open_tracker};
use super::{KIB, MIB};

const PATIENCE: Duration = Duration::from_secs(10);

/// A tracker that knows one peer.
async fn tracker_that_knows(peer: SocketAddr) -> HttpStub {
    let SocketAddr::V4(peer) = peer else { panic!("seeders listen on IPv4 loopback") };
    HttpStub::start_bytes(move |_| {
        let peers = [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat();
        let body = [&b"d8:intervali1800e5:peers6:"[..], &peers, b"e"].concat();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), &body].concat()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_hears_once_that_the_last_piece_has_come_and_that_we_leave() {
    let content = Content::single("film.mkv", 71, 256 * KIB, 32 * 1024);
    let seeder = Seeder::start(&content).await;
    let tracker = tracker_that_knows(seeder.address()).await;
    let content = content.with_trackers(&[&tracker.url("/announce")]);
    let node = Node::fresh().await;
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    assert!(node.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    let heard = |event: &str| tracker.requests().iter().filter(|request| request.contains(event)).count();
    wait::until("`completed`", PATIENCE, async || (heard("event=completed") == 1).then_some(())).await;
    node.stop().await;
    assert_eq!((heard("event=started"), heard("event=completed"), heard("event=stopped")), (1, 1, 1));
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_hears_the_port_that_a_router_forwards() {
    let tracker = tracker_that_knows("127.0.0.1:9".parse().unwrap()).await;
    let content = Content::single("film.mkv", 73, 64 * KIB, 32 * 1024).with_trackers(&[&tracker.url("/announce")]);
    let node = Node::fresh().await;
    node.app.bittorrent().expect("it is on").set_outside_port(Some(50_000));
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    let told = async || tracker.requests().iter().any(|request| request.contains("port=50000&")).then_some(());
    wait::until("an announce", PATIENCE, told).await;
    node.stop().await;
}

/// What a tracker says of a content's swarm.
async fn scrape(observer: &mut Client, content: &Content) -> Value {
    let key: String = content.infohash().as_bytes().iter().copied().map(char::from).collect();
    observer.say(&json!({ "action": "scrape", "info_hash": key })).await;
    observer.hear().await.expect("a reply")["files"][key].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_tracker_hears_within_a_second_that_the_last_piece_has_come() {
    let content = Content::single("film.mkv", 72, 16 * MIB, 256 * 1024);
    let (tracker, node, seeder) = (open_tracker().await, Node::fresh().await, Seeder::start(&content).await);
    node.learn(&content, &[seeder.address()]).await;
    let path = format!("{}?tr={}", content.path(0), escape(&format!("ws://{}/announce", tracker.address())));
    let mut reader = node.connect().await;
    assert!(reader.get_range(&path, 0, 1000).await.body == content.bytes[..1000]);
    // Once it has the replies of this tracker and of its own there is nothing else to say to either for a while.
    let replies = || {
        let networks = node.app.manager().list();
        networks.iter().find(|it| it.kind == ProtocolKind::WebTorrent).map_or(0, |it| it.stats.announces)
    };
    wait::until("the first replies", PATIENCE, async || (replies() >= 2).then_some(())).await;
    let mut observer = Client::of(&tracker).await;
    assert_eq!(scrape(&mut observer, &content).await, json!({ "complete": 0, "incomplete": 1, "downloaded": 0 }));
    assert!(reader.get(&path, &[]).await.body == content.bytes);
    let told = json!({ "complete": 1, "incomplete": 0, "downloaded": 1 });
    let second = Duration::from_secs(1);
    wait::until("`completed`", second, async || (scrape(&mut observer, &content).await == told).then_some(())).await;
    node.stop().await;
    tracker.stop().await;
    seeder.stop().await;
}
