//! Many clients, one content: each byte is fetched once.

use std::sync::Arc;

use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::raw::Connection;
use tokio::sync::Barrier;

use super::{KIB, MIB};

/// Clients that ask at the same moment.
const CLIENTS: usize = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_of_one_cold_range_cost_one_download() {
    let content = Arc::new(Content::single("popular.bin", 7, 8 * MIB + 123, 256 * 1024));
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    node.learn(&content, &[seeder.address()]).await;
    let (start, end) = (3 * MIB + 5 * KIB, 5 * MIB + 5 * KIB);
    let together = Arc::new(Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (content, address, together) = (content.clone(), node.address(), together.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                together.wait().await;
                compare(&mut connection, &content, start, end).await;
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (fetched, needed) = (node.stats().bytes_downloaded, content.covering(start, end));
    assert!(fetched * 100 <= needed * 105, "{fetched} bytes were fetched where {needed} suffice");
    assert_eq!(fetched, seeder.stats().bytes_uploaded);
    node.stop().await;
    seeder.stop().await;
}

/// Reads a range as it comes, without keeping it: a thousand bodies at once would be 2 GiB.
async fn compare(connection: &mut Connection, content: &Content, start: usize, end: usize) {
    let range = format!("bytes={start}-{}", end - 1);
    connection.send("GET", &content.path(0), &[("range", &range)]).await.unwrap();
    let head = connection.head().await.unwrap();
    assert_eq!((head.status, head.content_length()), (206, end - start));
    let mut at = start;
    while at < end {
        let some = connection.some(end - at).await.unwrap();
        assert!(some == content.bytes[at..at + some.len()], "other bytes after {at}");
        at += some.len();
    }
}
