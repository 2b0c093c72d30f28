//! A source that falls silent: what its units cost in time, and what is fetched twice.

use std::time::Duration;

use swarmgate_config::Span;
use swarmgate_ipfs_proto::build::Profile;
use swarmgate_tests::http;
use swarmgate_tests::player::{Player, Watched};
use swarmgate_tests::throttle::Throttle;

use super::{MB, World};

/// The length of a piece, and of a leaf.
const UNIT: u32 = 256 << 10;

/// What a run with all three networks came to.
#[derive(Debug)]
struct Run {
    watched: Watched,
    /// Milliseconds from first asking for a unit to having it: half of them, nineteen of twenty, ninety-nine of a hundred.
    unit_ms: [u64; 3],
    /// What passed the three ways towards the gateway, in contents: 1 is each byte once.
    passed: f64,
    /// What the gateway says came too late or twice, in contents.
    wasted: f64,
    /// What was asked of a second source, in contents.
    hedged: f64,
}

/// A value of the gateway's metrics page; the sum of all that begin like this.
fn metric(page: &str, begins: &str, holds: &str) -> u64 {
    let rows = page.lines().filter(|line| line.starts_with(begins) && line.contains(holds));
    rows.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Plays the film at 6 MB/s where three networks have 20, and has one of them fall silent at a third of it.
async fn play(world: &World, silent: Option<&Throttle>) -> Run {
    let ways = [&world.swarm, &world.ipfs, &world.web];
    ways.iter().for_each(|way| way.mend());
    // What is fetched ahead is what the player takes ahead: else all sources are as busy as they can be to the end.
    let node = World::client_of(&world.dag, &world.ipfs, |config| config.hybrid.buffer = Span::from_secs(5)).await;
    world.bind_at(&node, [world.torrent(), world.cid(), world.mirror()]).await;
    node.learn(&world.content, &[world.swarm.address()]).await;
    let before: u64 = ways.iter().map(|way| way.passed()).sum();
    let (len, path) = (world.content.bytes.len(), world.cid_path());
    let player = Player { bytes_per_second: 6 * MB, buffer: Duration::from_secs(5) };
    let watched = player.watch(node.address(), &path, &world.content.bytes, |come| {
        if let Some(way) = silent.filter(|_| come >= len / 3) {
            way.clog();
        }
        true
    });
    let watched = watched.await;
    let page = http::get(&node.url("/metrics")).await.text();
    let streams = http::get(&node.url("/api/v1/streams")).await.json();
    let unit_ms = serde_json::from_value(streams["fetches"][0]["unit_ms"].clone()).unwrap();
    node.stop().await;
    let share = |bytes: u64| bytes as f64 / len as f64;
    Run {
        watched,
        unit_ms,
        passed: share(ways.iter().map(|way| way.passed()).sum::<u64>() - before),
        wasted: share(metric(&page, "swarmgate_hybrid_bytes_total", "outcome=\"wasted\"")),
        hedged: share(metric(&page, "swarmgate_hybrid_hedged_bytes_total", "")),
    }
}

/// As the simulator has it: the latency of a unit is all the time from its first asking, wherever it was queued, taken
/// from and asked again, and of every unit, wanted soon or late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_take_at_most_twice_as_long_when_a_source_falls_silent() {
    let cut = (UNIT, Profile { chunk_bytes: UNIT as usize, ..Profile::V1_2025 });
    let world = World::start_cut(16, 120_000_000, cut, [10, 6, 4]).await;
    let sound = play(&world, None).await;
    println!("nobody silent: {sound:?}");
    for (name, way) in [("swarm", &world.swarm), ("IPFS", &world.ipfs), ("web server", &world.web)] {
        let run = play(&world, Some(way)).await;
        println!("{name} silent: {run:?}");
        let (with, without) = (run.unit_ms[2], sound.unit_ms[2]);
        // Each is the last millisecond of a step of the histogram: less than 576 is told as 575, and twice that as 1151.
        assert!(with < (without + 1) * 2, "{name} silent: p99 of a unit {with} ms instead of {without}");
        assert!(run.passed <= 1.05, "{name} silent: {:.3} times its bytes came", run.passed);
        // Two hedges need not be earned.
        let hedges = 0.05 + 2.0 * f64::from(UNIT) / world.content.bytes.len() as f64;
        assert!(run.wasted <= 0.05 && run.hedged <= hedges, "{name} silent: {run:?}");
        assert!(run.watched.stood <= Duration::from_millis(500), "{name} silent: {run:?}");
    }
    world.stop().await;
}
