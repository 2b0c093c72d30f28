//! What fetching over several networks costs where one source is all there is: the same content is read from the same
//! swarm by gateways without it, with it, and with two more networks bound that are not there, in turns.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarmgate_tests::player::{Player, Watched};
use swarmgate_tests::throttle::Throttle;

use super::{MB, World};
use crate::stories::MIB;

/// How a gateway stands to the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It knows swarms alone.
    Without,
    /// Hybrid is on, and nobody has told it of others.
    Alone,
    /// It was told of IPFS and of a web server, which are not there.
    WithAbsent,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Without, Self::Alone, Self::WithAbsent];

    /// Reads all of the content from the swarm at `way`, with a gateway of its own.
    async fn run(self, world: &World, way: SocketAddr) -> Watched {
        let node =
            World::client_of(&world.dag, &world.ipfs, |config| config.hybrid.enabled = self != Self::Without).await;
        if self == Self::WithAbsent {
            world.bind_at(&node, [world.torrent(), world.cid(), world.mirror()]).await;
        }
        node.learn(&world.content, &[way]).await;
        // It takes what there is.
        let player = Player { bytes_per_second: 1 << 40, buffer: Duration::from_secs(1) };
        let path = world.content.path(0);
        let watched = player.watch(node.address(), &path, &world.content.bytes, |_| true).await;
        node.stop().await;
        watched
    }
}

/// MB/s, and the time to the first byte, of each kind of gateway: the medians of so many runs, in turns.
async fn measure(world: &World, way: SocketAddr, turns: usize) -> [(f64, Duration); 3] {
    let mut runs: [Vec<Watched>; 3] = Default::default();
    for _ in 0..turns {
        for (kind, runs) in Kind::ALL.into_iter().zip(&mut runs) {
            runs.push(kind.run(world, way).await);
        }
    }
    runs.map(|runs| {
        let median = |of: fn(&Watched) -> Duration| {
            let mut spans: Vec<_> = runs.iter().map(of).collect();
            spans.sort_unstable();
            spans[turns / 2]
        };
        let took = median(|run| run.took).as_secs_f64();
        (world.content.bytes.len() as f64 / took / 1e6, median(|run| run.first_byte))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_alone_gives_as_much_and_as_soon_as_without_hybrid() {
    let begun = Instant::now();
    let world = World::start(14, 16 * MIB, [1, 1, 1]).await;
    world.ipfs.cut();
    world.web.cut();
    // Slower than this machine, so that it is the source which is measured, and whether it is ever left idle.
    let way = Throttle::start(world.seeder.address(), 30 * MB).await;
    let measured = measure(&world, way.address(), 5).await;
    for (kind, (rate, first)) in Kind::ALL.into_iter().zip(measured) {
        println!("{kind:?}: {rate:.2} MB/s of 30, first byte after {first:?}");
    }
    let [(direct, direct_first), others @ ..] = measured;
    for (kind, (rate, first)) in Kind::ALL[1..].iter().zip(others) {
        assert!(rate >= direct * 0.97, "{kind:?}: {rate:.2} MB/s instead of {direct:.2}");
        assert!(first <= direct_first + Duration::from_millis(10), "{kind:?}: {first:?}, not {direct_first:?}");
    }
    println!("in {:?}", begun.elapsed());
    world.stop().await;
}

/// As fast as this machine goes, which one with other work to do does not tell to a few percent: a fifth it does. What is
/// lost by waiting for the absent is told by the story before, to three percent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn networks_that_are_not_there_cost_little() {
    let world = World::start(15, 32 * MIB, [1, 1, 1]).await;
    world.ipfs.cut();
    world.web.cut();
    let measured = measure(&world, world.seeder.address(), 5).await;
    for (kind, (rate, first)) in Kind::ALL.into_iter().zip(measured) {
        println!("{kind:?}: {rate:.0} MB/s, first byte after {first:?}");
    }
    let [(direct, _), others @ ..] = measured;
    for (kind, (rate, _)) in Kind::ALL[1..].iter().zip(others) {
        assert!(rate >= direct * 0.8, "{kind:?}: {rate:.0} MB/s instead of {direct:.0}");
    }
    world.stop().await;
}
