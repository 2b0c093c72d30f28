//! Sources that lie now and then, in one percent of what they send: no wrong byte passes, they are found out, and the
//! others go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use swarmgate_hybrid_rules::{BreakerState, BreakerStatus};
use swarmgate_ipfs_proto::build::Profile;
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::Node;
use swarmgate_tests::throttle::Throttle;

use super::{World, shares};
use crate::stories::{KIB, MIB};

/// Short units, so that a hundred requests are soon made.
const SHORT: u32 = 64 << 10;
const SHORT_LEAVES: Profile = Profile { chunk_bytes: 64 * KIB, ..Profile::V1_2025 };

/// The breaker of a web server, and those of everybody else.
fn breakers(node: &Node, host: &str) -> (BreakerStatus, Vec<BreakerStatus>) {
    let all = node.app.hybrid().unwrap().breakers().status(Instant::now());
    let (mut of_host, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| *it.key.source == *host);
    (of_host.pop().unwrap(), others)
}

/// Reads a film of which the fastest source, a web server, sends one wrong byte in each hundredth answer.
async fn read_past_a_server_that_lies_now_and_then(seed: u64, by_cid: bool) {
    let world = World::start_cut(seed, 48 * MIB, (SHORT, SHORT_LEAVES), [6, 6, 24]).await;
    // By infohash, IPFS would have units be as long as common leaves.
    world.bind([world.torrent(), world.mirror()].into_iter().chain(by_cid.then(|| world.cid()))).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    world.server.lie_each(100);
    let path = if by_cid { world.cid_path() } else { world.content.path(0) };
    // All of it is compared as it comes.
    let (took, longest) = world.read(&path, |_| {}).await;
    let (liar, others) = breakers(&world.node, &world.web.address().to_string());
    let lies = world.server.lies();
    eprintln!("{took:?}, longest pause {longest:?}: {} requests, {lies} lies: {liar:?}", world.server.requests());
    eprintln!("{}", shares(&world.node));
    assert!(lies > 0 && lies <= 20, "{lies} lies were asked for");
    assert_eq!((liar.state, liar.corruptions), (BreakerState::Open, lies), "{liar:?}");
    for other in &others {
        // A machine with other work to do may find a source late, which is another matter.
        assert!(other.state == BreakerState::Closed && other.corruptions == 0, "an honest source suffers: {other:?}");
    }
    let from_swarm = world.swarm.passed();
    assert!(from_swarm >= 6 * MIB as u64, "the swarm goes on: {from_swarm} bytes");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_in_one_percent_is_asked_no_more_by_infohash() {
    read_past_a_server_that_lies_now_and_then(17, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_in_one_percent_is_asked_no_more_by_cid() {
    read_past_a_server_that_lies_now_and_then(18, true).await;
}

/// Reads a film whose swarm has one peer that lies in each hundredth block, and one that does not.
async fn read_past_a_peer_that_lies_now_and_then(seed: u64, by_cid: bool) {
    let world = World::start_cut(seed, 24 * MIB, (256 << 10, SHORT_LEAVES), [6, 6, 6]).await;
    world.bind([world.torrent(), world.cid(), world.mirror()]).await;
    let sent = AtomicU64::new(0);
    let manners = Manners::honest(&world.content).paced(Duration::from_millis(2));
    let liar = manners.lying(move |_| sent.fetch_add(1, Ordering::Relaxed) % 100 == 99);
    let liar = HostilePeer::start(liar).await;
    world.node.learn(&world.content, &[liar.address(), world.swarm.address()]).await;
    let path = if by_cid { world.cid_path() } else { world.content.path(0) };
    let (took, longest) = world.read(&path, |_| {}).await;
    let log = liar.log();
    eprintln!("{took:?}, longest pause {longest:?}: {} bytes and {} lies from the liar", log.served, log.lies);
    eprintln!("{}", shares(&world.node));
    assert!(log.lies > 0 && log.lies <= 20, "{} lies were asked for", log.lies);
    assert_eq!(world.node.stats().peers_banned, 1);
    // One peer of many is bad, and no network for it.
    let (server, others) = breakers(&world.node, &world.web.address().to_string());
    for it in others.iter().chain([&server]) {
        assert!(it.state == BreakerState::Closed && it.corruptions == 0, "who is honest suffers: {it:?}");
    }
    // In so short a film a network may come too late to be asked for anything.
    let [swarm, ipfs, web] = [&world.swarm, &world.ipfs, &world.web].map(Throttle::passed);
    assert!(swarm.min(ipfs + web) >= MIB as u64, "the honest go on: {swarm}, {ipfs} and {web} bytes");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_in_one_percent_is_banned_and_its_swarm_goes_on_by_infohash() {
    read_past_a_peer_that_lies_now_and_then(19, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_lies_in_one_percent_is_banned_and_its_swarm_goes_on_by_cid() {
    read_past_a_peer_that_lies_now_and_then(20, true).await;
}
