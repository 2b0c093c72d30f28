//! What a tracker hears of a download.

use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_egress::testing::HttpStub;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::wait;

use super::KIB;

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
