//! A thousand requests at once, of which each has a plan of its own, and one web server whose breaker is half open: what
//! the server sees of them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarmgate_hybrid_rules::{BreakerState, BreakerStatus};
use swarmgate_ipfs_proto::build::Profile;
use swarmgate_tests::raw::Connection;
use swarmgate_tests::throttle::Throttle;
use swarmgate_tests::wait;
use tokio::task::JoinSet;

use super::World;
use crate::stories::MIB;

const REQUESTS: usize = 1000;
const IN_TIME: Duration = Duration::from_secs(30);
/// The swarm's bytes a second: so few that everybody always wants more.
const SWARM_RATE: u64 = 100_000;

/// The breaker of the web server.
fn breaker(world: &World) -> Option<BreakerStatus> {
    let host = world.web.address().to_string();
    let all = world.node.app.hybrid()?.breakers().status(Instant::now());
    all.into_iter().find(|breaker| *breaker.key.source == *host)
}

/// Waits until the breaker is as it is wanted.
async fn until(world: &World, what: &str, fits: impl Fn(&BreakerStatus) -> bool) -> BreakerStatus {
    wait::until(what, IN_TIME, async || breaker(world).filter(&fits)).await
}

/// Asks for all of the film, by a plan of its own, and reads what comes until it is ended.
async fn read_on(address: SocketAddr, path: String) {
    let mut connection = Connection::open(address).await;
    connection.send("GET", &path, &[]).await.unwrap();
    assert_eq!(connection.head().await.unwrap().status, 200);
    while connection.some(MIB).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_try_a_half_open_source_one_at_a_time() {
    let begun = Instant::now();
    let world = World::start_cut(21, 16 * MIB, (64 << 10, Profile::V1_2025), [1, 1, 8]).await;
    let swarm = Throttle::start(world.seeder.address(), SWARM_RATE).await;
    world.bind([world.torrent(), world.mirror()]).await;
    world.node.learn(&world.content, &[swarm.address()]).await;
    world.web.cut();
    let (address, path) = (world.node.address(), format!("{}?source=bt,http", world.content.path(0)));
    let mut readers = JoinSet::new();
    readers.spawn(read_on(address, path.clone()));
    until(&world, "the breaker to open", |breaker| breaker.state == BreakerState::Open).await;
    assert_eq!(world.server.requests(), 0, "nobody has reached it");
    for _ in 1..REQUESTS {
        readers.spawn(read_on(address, path.clone()));
    }
    // It can be reached again, and does not answer.
    world.server.hold(Duration::from_secs(3600));
    world.web.mend();
    let all_read = async || (world.node.app.hybrid().unwrap().fetches().len() == REQUESTS).then_some(());
    wait::until("all to read", IN_TIME, all_read).await;
    println!("{REQUESTS} read after {:?}: {:?}", begun.elapsed(), breaker(&world));
    // Whoever tries it finds that out, for all the others too. A try may have met the cut line still and never come here.
    let known = |breaker: &BreakerStatus| breaker.state == BreakerState::Open && world.server.requests() > 0;
    let again = until(&world, "the breaker to open again", known).await;
    println!("after {:?}, {} requests: {again:?}", begun.elapsed(), world.server.requests());
    let tries = u64::from(again.opened_in_row) - 1;
    assert!(world.server.requests() <= tries, "more than one request a try: {} in {again:?}", world.server.requests());
    // Now it answers, in its own time.
    let before = world.server.log().len();
    world.server.hold(Duration::from_millis(300));
    let closed = until(&world, "the breaker to close", |breaker| breaker.state == BreakerState::Closed).await;
    println!("after {:?}: {closed:?}", begun.elapsed());
    let log = world.server.log();
    let [first, second, ..] = log[before..] else { panic!("{} requests closed it", log.len() - before) };
    assert!(first.ended.is_some_and(|ended| ended <= second.begun), "two at a time: {first:?}, {second:?}");
    if let Some(third) = log.get(before + 2) {
        assert!(second.ended.is_some_and(|ended| ended <= third.begun), "before it was closed: {second:?}, {third:?}");
    }
    // The others had wanted to all the time.
    let many = async || (world.server.requests() >= REQUESTS as u64 / 10).then_some(());
    wait::until("the others to ask it too", IN_TIME, many).await;
    readers.shutdown().await;
    world.stop().await;
}
