//! The gateway has nobody to ask but other people's servers: trustless gateways, and the RPC of a Kubo daemon.

use std::time::Instant;

use swarmgate_tests::gateway::{Gateway, ipfs};
use swarmgate_tests::helia::Helia;
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::payload::{Payload, bytes, digest};
use swarmgate_tests::torrent::escape;

use super::{MIB, report, scratch};

const LEN: usize = 16 * MIB + 12_345;

#[tokio::test]
async fn kubos_gateway_gives_ranges_files_and_folders() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let options = [(ipfs::GATEWAYS, kubo.gateway_url())];
    reads_all_of(&kubo, &options.each_ref().map(|(key, value)| (*key, value.as_str())), dir.path()).await;
}

#[tokio::test]
async fn kubos_rpc_gives_ranges_files_and_folders() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let options = [(ipfs::KUBO_API, kubo.rpc_url())];
    reads_all_of(&kubo, &options.each_ref().map(|(key, value)| (*key, value.as_str())), dir.path()).await;
}

#[tokio::test]
async fn kubos_gateway_is_named_by_the_request() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let whole = bytes(206, LEN);
    let cid = kubo.add(&whole);
    let answer = http::get(&gateway.ipfs_url(&cid, &[&kubo.gateway_url()])).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert_eq!(kubo.bitswap().await.blocks_sent, 0, "it came over Bitswap");
}

#[tokio::test]
async fn helia_behind_http_gives_ranges_and_files() {
    let dir = scratch();
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let options = [(ipfs::GATEWAYS, helia.gateway_url())];
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let whole = bytes(207, LEN);
    let cid = helia.add(&whole).await;

    let url = gateway.ipfs_url(&cid, &[]);
    http::assert_range(&url, &whole, 7_000_001, 8_000_000).await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert!(helia.requests().await > 0, "it was not asked");
}

/// A file, a range of it and a folder, through a gateway with these options, and no block of it over Bitswap.
async fn reads_all_of(kubo: &Kubo, options: &[(&str, &str)], dir: &std::path::Path) {
    let Some(gateway) = Gateway::start_with(dir, options).await else { return };
    let whole = bytes(208, LEN);
    let url = gateway.ipfs_url(&kubo.add(&whole), &[]);
    http::assert_range(&url, &whole, 7_000_001, 8_000_000).await;
    let begun = Instant::now();
    let answer = http::get(&url).await;
    report("16 MiB over HTTP", whole.len(), begun.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));

    let tree = Payload::tree("tree", 209);
    tree.lay_out(dir);
    let cid = kubo.add_path(&dir.join("tree"));
    for file in &tree.files {
        let path: Vec<_> = file.path.iter().map(|part| escape(part)).collect();
        let url = gateway.ipfs_url(&format!("{cid}/{}", path.join("/")), &[]);
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        assert!(answer.body == file.bytes, "{url}: {} bytes, not those of the file", answer.body.len());
    }
    assert_eq!(kubo.bitswap().await.blocks_sent, 0, "it came over Bitswap");
}
