//! A client that takes 1 KiB a second holds the swarm back, and costs next to nothing.

use std::time::Duration;

use swarmgate_config::Size;
use swarmgate_tests::measure::{alone, resident_bytes};
use swarmgate_tests::node::{Content, Node, Seeder};

use super::{KIB, MIB, bulk_mib};

/// What one stream may fetch ahead and hold in memory, whatever the client's speed.
const MAX_HELD: u64 = 4 * MIB as u64;
/// How long the client reads, in seconds.
const SECONDS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_one_kib_a_second_holds_back_the_swarm_and_little_memory() {
    if !alone("stories::slow_client::a_client_of_one_kib_a_second_holds_back_the_swarm_and_little_memory") {
        return;
    }
    let content = Content::single("film.mkv", 5, bulk_mib(64) * MIB, 512 * 1024);
    let piece_len = u64::from(content.metainfo.info.piece_len);
    let seeder = Seeder::start(&content).await;
    let node = Node::with(|config| config.cache.memory = Size::mib(1)).await;
    node.learn(&content, &[seeder.address()]).await;
    // Code, threads and the allocator's first pages are the process's, not the stream's.
    let mut connection = node.connect().await;
    connection.get_range(&content.path(0), 60 * MIB, 60 * MIB + 1).await;
    let (fetched, resident) = (node.stats().bytes_downloaded, resident_bytes());

    connection.send("GET", &content.path(0), &[]).await.unwrap();
    let head = connection.head().await.unwrap();
    assert_eq!(head.content_length(), content.bytes.len());
    let mut highest = 0;
    for second in 0..SECONDS {
        let some = connection.exactly(KIB).await.unwrap();
        assert!(some == content.bytes[second * KIB..(second + 1) * KIB]);
        tokio::time::sleep(Duration::from_secs(1)).await;
        highest = highest.max(resident_bytes().saturating_sub(resident));
    }
    let ahead = node.stats().bytes_downloaded - fetched;
    eprintln!("{ahead} bytes were fetched for {} KiB read; memory grew by {highest}", SECONDS);
    assert!(ahead <= MAX_HELD + piece_len, "{ahead} bytes were fetched for {SECONDS} KiB");
    assert!(highest <= MAX_HELD, "memory grew by {highest} bytes");
    drop(connection);
    node.stop().await;
    seeder.stop().await;
}
