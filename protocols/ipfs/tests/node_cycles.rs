//! A node that is started and stopped leaves nothing behind. A binary of its own, for it counts the descriptors of the
//! whole process.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other stories need more of it")]
mod support;

use support::{Peer, options, read_file, session, until};

const CYCLES: usize = 20;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

async fn cycle() {
    let mut both = options("/ip4/127.0.0.1/tcp/0");
    both.listen.push("/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap());
    let (ours, theirs) = (Peer::start(both.clone()).await, Peer::start(both).await);
    let root = theirs.add_file(&support::noise(1 << 20, 7)).await;
    ours.node.connect(theirs.address()).await.unwrap();
    read_file(&ours.node, session(), root, |_| ()).await.unwrap();
    ours.stop().await;
    theirs.stop().await;
    ours.store.close().await;
    theirs.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_and_tasks_are_flat_over_many_starts_and_stops() {
    cycle().await;
    let runtime = tokio::runtime::Handle::current().metrics();
    until("the first cycle is over", || runtime.num_alive_tasks() == 0).await;
    let before = descriptors();
    for _ in 0..CYCLES {
        cycle().await;
    }
    until("all tasks have ended", || runtime.num_alive_tasks() == 0).await;
    until("all descriptors are closed", || descriptors() <= before).await;
}
