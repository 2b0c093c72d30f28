//! A node that is started and stopped leaves nothing behind. A binary of its own, for it counts the descriptors of the
//! whole process.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "the other stories need more of it")]
mod support;

use swarmgate_ipfs::node::NodeOptions;

use support::{Peer, options, read_file, session, until};

const CYCLES: usize = 20;

fn listening_on(tcp: u16, udp: u16) -> NodeOptions {
    let mut options = options(&format!("/ip4/127.0.0.1/tcp/{tcp}"));
    options.listen.push(format!("/ip4/127.0.0.1/udp/{udp}/quic-v1").parse().unwrap());
    options
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Starts two nodes, lets one read from the other by TCP or QUIC, in turns, and stops them. Gives the ports of the
/// first, to be used again.
async fn cycle(nth: usize, [tcp, udp]: [u16; 2]) -> [u16; 2] {
    let (fixed, any) = (listening_on(tcp, udp), listening_on(0, 0));
    let (ours, theirs) = (Peer::start(fixed).await, Peer::start(any).await);
    let ports = [0, 1].map(|nth| ours.node.sockets()[nth].address.port());
    let root = theirs.add_file(&support::noise(1 << 20, 7)).await;
    ours.node.connect(theirs.addresses().remove(nth % 2)).await.unwrap();
    read_file(&ours.node, session(), root, |_| ()).await.unwrap();
    ours.stop().await;
    theirs.stop().await;
    ours.store.close().await;
    theirs.store.close().await;
    ports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_and_tasks_are_flat_over_many_starts_and_stops() {
    let ports = cycle(1, [0, 0]).await;
    let runtime = tokio::runtime::Handle::current().metrics();
    until("the first cycle is over", || runtime.num_alive_tasks() == 0).await;
    let before = descriptors();
    for nth in 0..CYCLES {
        assert_eq!(cycle(nth, ports).await, ports);
    }
    until("all tasks have ended", || runtime.num_alive_tasks() == 0).await;
    until("all descriptors are closed", || descriptors() <= before).await;
}
