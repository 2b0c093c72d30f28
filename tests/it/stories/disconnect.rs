//! What a client's leave, or its only peer's, sets going.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use swarmgate_config::Span;
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::{Content, Node};
use swarmgate_tests::{raw::Connection, wait};

use super::{KIB, MIB};

/// A client's leave reaches its peers within this.
const CANCEL_WITHIN: Duration = Duration::from_millis(50);
/// No set-up on loopback takes longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Leaves measured; the median counts, since a machine that runs other tests may pause any one of them.
const ROUNDS: usize = 5;

fn content() -> Content {
    Content::single("film.mkv", 3, 16 * MIB, 256 * 1024)
}

async fn asked(peer: &HostilePeer, more_than: usize) {
    wait::until("the peer to be asked", PATIENCE, async || (peer.log().requests.len() > more_than).then_some(())).await;
}

async fn reader(node: &Node, content: &Content, range: &str) -> Connection {
    let mut connection = node.connect().await;
    connection.send("GET", &content.path(0), &[("range", range)]).await.unwrap();
    connection
}

/// Waits until no request is open and says how long after `since` the last was withdrawn.
async fn all_withdrawn(peer: &HostilePeer, since: Instant) -> Duration {
    wait::until("every request to be withdrawn", PATIENCE, async || {
        let log = peer.log();
        let last = log.cancels.iter().map(|(at, _)| *at).max()?;
        // A block may cross its withdrawal on the way.
        let answered = log.cancels.len() + usize::try_from(log.served).expect("it is in memory") / (16 * KIB);
        (answered >= log.requests.len()).then(|| last.saturating_duration_since(since))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_before_its_first_byte_withdraws_its_requests_within_50_ms() {
    let content = content();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let peer = HostilePeer::start(Manners::honest(&content).silent()).await;
        let node = Node::fresh().await;
        node.learn(&content, &[peer.address()]).await;
        let client = reader(&node, &content, "bytes=1000000-").await;
        asked(&peer, 0).await;
        assert!(peer.log().cancels.is_empty());
        let left = Instant::now();
        drop(client);
        took.push(all_withdrawn(&peer, left).await);
        node.stop().await;
    }
    took.sort_unstable();
    assert!(took[ROUNDS / 2] <= CANCEL_WITHIN, "withdrawn after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_in_the_middle_costs_no_further_download() {
    let content = content();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let peer = HostilePeer::start(Manners::honest(&content).paced(Duration::from_millis(4))).await;
        let node = Node::fresh().await;
        node.learn(&content, &[peer.address()]).await;
        let mut client = reader(&node, &content, "bytes=0-").await;
        assert_eq!(client.head().await.unwrap().status, 206);
        client.exactly(600 * KIB).await.unwrap();
        let left = Instant::now();
        drop(client);
        took.push(all_withdrawn(&peer, left).await);
        let served = peer.log().served;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(peer.log().served, served, "blocks went on coming for nobody");
        node.stop().await;
    }
    took.sort_unstable();
    assert!(took[ROUNDS / 2] <= CANCEL_WITHIN, "withdrawn after {took:?}");
}

/// Requests that the protocols are at work on.
fn in_flight(node: &Node) -> usize {
    node.app.manager().list().iter().map(|protocol| protocol.in_flight).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_client_still_wants_is_not_withdrawn() {
    let content = content();
    let peer = HostilePeer::start(Manners::honest(&content).silent()).await;
    let node = Node::fresh().await;
    node.learn(&content, &[peer.address()]).await;
    let one = reader(&node, &content, "bytes=0-99999").await;
    asked(&peer, 0).await;
    let other = reader(&node, &content, "bytes=0-99999").await;
    wait::until("both to read", PATIENCE, async || (node.stats().opened == 2).then_some(())).await;
    drop(one);
    wait::until("one to be gone", PATIENCE, async || (in_flight(&node) == 1).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(peer.log().cancels, [], "the other still waits for it");
    let left = Instant::now();
    drop(other);
    all_withdrawn(&peer, left).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_whose_only_peer_leaves_for_good_ends_with_a_reset_and_never_cleanly() {
    let content = content();
    let peer = HostilePeer::start(Manners::honest(&content).leaving_after(3 * MIB as u64)).await;
    let node = Node::with(|config| config.deadlines.stall = Span::from_secs(1)).await;
    let mut events = node.app.manager().events().subscribe();
    node.learn(&content, &[peer.address()]).await;
    let mut client = reader(&node, &content, "bytes=0-").await;
    assert_eq!(client.head().await.unwrap().content_length(), 16 * MIB);
    let (mut read, mut last_byte) = (0, Instant::now());
    let error = loop {
        match client.some(MIB).await {
            Ok(some) => {
                assert!(some == content.bytes[read..read + some.len()], "other bytes after {read}");
                read += some.len();
                last_byte = Instant::now();
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "after {read} bytes");
    let waited = last_byte.elapsed();
    assert!((900..3000).contains(&waited.as_millis()), "cut {waited:?} after the last byte");
    assert!((2 * MIB..4 * MIB).contains(&read), "{read} bytes came of 3 MiB that the peer gave");
    let mut closed = None;
    while let Ok(Some(event)) = events.try_recv() {
        if let swarmgate_content::Event::StreamClose { bytes, failed, .. } = event.event {
            closed = Some((bytes >= read as u64, failed));
        }
    }
    assert_eq!(closed, Some((true, true)), "the stream is on record as failed");
    node.stop().await;
}
