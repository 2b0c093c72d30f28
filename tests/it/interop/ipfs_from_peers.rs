//! Somebody else has a file, and a viewer asks the gateway for it: over Bitswap, from the peers that the request names.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::helia::Helia;
use swarmgate_tests::http;
use swarmgate_tests::kubo::{CHUNK_LEN, Kubo, MAX_LINKS};
use swarmgate_tests::payload::{bytes, digest};
use swarmgate_tests::wait;

use super::{MIB, folder, report, scratch};

/// What Kubo has sent is counted a moment after it has arrived.
const COUNTED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn kubo_gives_100_mib_exact_and_each_block_once() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let whole = bytes(201, 100 * MIB);
    let cid = kubo.add(&whole);

    let begun = Instant::now();
    let answer = http::get(&gateway.ipfs_url(&cid, &[&kubo.multiaddr()])).await;
    report("100 MiB from Kubo", whole.len(), begun.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert_eq!(answer.header("etag"), format!("\"{cid}\""));
    // Once more, and nobody is asked.
    kubo_sent(&kubo, whole.len() as u64).await;
    let before = kubo.bitswap().await;
    http::assert_range(&gateway.ipfs_url(&cid, &[]), &whole, 70_000_001, 80_000_000).await;
    assert_eq!(kubo.bitswap().await, before);
    let blocks = (whole.len().div_ceil(CHUNK_LEN) + whole.len().div_ceil(CHUNK_LEN * MAX_LINKS) + 1) as u64;
    assert!(before.blocks_sent * 100 <= blocks * 105, "{before:?} for {blocks} blocks");
}

#[tokio::test]
async fn kubo_is_asked_for_a_range_in_the_middle_and_little_else() {
    const RANGE: RangeInclusive<usize> = 50_000_001..=51_000_000;
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let whole = bytes(202, 100 * MIB);
    let cid = kubo.add(&whole);
    let covering = covering(&kubo, &cid, &RANGE).await;

    let begun = Instant::now();
    let url = gateway.ipfs_url(&cid, &[&kubo.multiaddr()]);
    http::assert_range(&url, &whole, *RANGE.start(), *RANGE.end()).await;
    report("1 MB in the middle from Kubo", RANGE.count(), begun.elapsed());
    kubo_sent(&kubo, covering).await;
    // What is asked for beyond that would come a moment later.
    tokio::time::sleep(COUNTED_WITHIN / 5).await;
    let sent = kubo.bitswap().await.bytes_sent;
    assert!(sent * 100 <= covering * 105, "{sent} bytes were sent, {covering} are of blocks that the range is in");
}

#[tokio::test]
async fn kubo_has_a_folder_of_10_000_entries() {
    const ENTRIES: usize = 10_000;
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let tree = folder(dir.path(), "tree");
    let (name, text) = (|i: usize| format!("entry {i:05}.txt"), |i: usize| format!("I am entry {i}.\n"));
    for i in 0..ENTRIES {
        std::fs::write(tree.join(name(i)), text(i)).expect("the story's folder can be written");
    }
    let cid = kubo.add_path(&tree);
    let shards = kubo.links(&cid).await.len();
    assert!(shards <= 256, "{shards} links: it is not sharded");

    let provider = kubo.multiaddr();
    for i in (0..ENTRIES).step_by(997) {
        let path = format!("{cid}/{}", name(i).replace(' ', "%20"));
        let answer = http::get(&gateway.ipfs_url(&path, &[&provider])).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, text(i)), "{path}");
    }
    let missing = http::get(&gateway.ipfs_url(&format!("{cid}/entry%20{ENTRIES}.txt"), &[&provider])).await;
    assert_eq!(missing.status, 404, "{}", missing.text());
    let url = gateway.ipfs_url(&format!("{cid}/"), &[&provider]);
    let listing = http::send(http::client().get(&url).header("accept", "text/html"), &url).await;
    assert_eq!(listing.status, 200, "{}", listing.text());
    let listing = listing.text();
    let listed: BTreeSet<_> = listing.split(['<', '>']).collect();
    let unlisted: Vec<_> = (0..ENTRIES).map(name).filter(|name| !listed.contains(name.as_str())).collect();
    assert!(unlisted.is_empty(), "{} are not listed, {:?} among them", unlisted.len(), unlisted.first());
}

#[tokio::test]
async fn helia_gives_16_mib_exact_over_bitswap() {
    let dir = scratch();
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let whole = bytes(203, 16 * MIB + 12_345);
    let cid = helia.add(&whole).await;

    let url = gateway.ipfs_url(&cid, &[helia.multiaddr()]);
    http::assert_range(&url, &whole, 7_000_001, 8_000_000).await;
    let begun = Instant::now();
    let answer = http::get(&url).await;
    report("16 MiB from Helia", whole.len(), begun.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert_eq!(helia.requests().await, 0, "it came over HTTP");
}

/// Waits until Kubo has counted so many bytes as sent.
async fn kubo_sent(kubo: &Kubo, bytes: u64) {
    let what = format!("Kubo to count {bytes} bytes");
    wait::until(&what, COUNTED_WITHIN, async || (kubo.bitswap().await.bytes_sent >= bytes).then_some(())).await;
}

/// Bytes of the blocks that a range of a file at Kubo is in: its leaves and the nodes above them.
async fn covering(kubo: &Kubo, cid: &str, range: &RangeInclusive<usize>) -> u64 {
    let (first, last) = (range.start() / CHUNK_LEN, range.end() / CHUNK_LEN);
    let leaves = (last - first + 1) * CHUNK_LEN;
    let mut sum = leaves as u64 + kubo.block_len(cid).await;
    let nodes = kubo.links(cid).await;
    for node in &nodes[first / MAX_LINKS..=last / MAX_LINKS] {
        sum += kubo.block_len(node).await;
    }
    sum
}
