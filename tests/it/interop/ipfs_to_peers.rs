//! The gateway has a file that nobody else has, and a foreign node fetches it over Bitswap from the one peer it is
//! connected to.

use std::path::Path;
use std::time::{Duration, Instant};

use swarmgate_tests::gateway::{self, Gateway, ipfs};
use swarmgate_tests::helia::Helia;
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::payload::{bytes, digest};

use super::{MIB, TRANSFER_WITHIN, report, scratch};

/// Reading and hashing some MiB.
const IMPORTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test]
async fn kubo_fetches_from_us() {
    let dir = scratch();
    let Some((cid, whole)) = we_alone_have(204, dir.path()).await else { return };
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(_gateway) = Gateway::start_with(dir.path(), &[(ipfs::BOOTSTRAP, &kubo.multiaddr())]).await else { return };
    kubo.has_peers(1).await;

    let begun = Instant::now();
    let answer = http::get(&format!("{}/ipfs/{cid}", kubo.gateway_url())).await;
    report("Kubo from us", whole.len(), begun.elapsed());
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    let got = kubo.bitswap().await;
    assert!(got.bytes_received >= whole.len() as u64, "{got:?}: not over Bitswap");
}

#[tokio::test]
async fn helia_fetches_from_us() {
    let dir = scratch();
    let Some((cid, whole)) = we_alone_have(205, dir.path()).await else { return };
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let options = [(ipfs::BOOTSTRAP, helia.multiaddr())];
    let Some(_gateway) = Gateway::start_with(dir.path(), &options).await else { return };

    let fetched = helia.fetch(&cid, TRANSFER_WITHIN).await;
    report("Helia from us", whole.len(), fetched.total);
    assert_eq!(fetched.sha256, digest(&whole));
}

/// Has the gateway of this folder take a file from a CAR, and returns its CID. Whoever made it is gone.
async fn we_alone_have(seed: u64, dir: &Path) -> Option<(String, Vec<u8>)> {
    let whole = bytes(seed, 16 * MIB + 12_345);
    let author = Kubo::start(dir).await?;
    let cid = author.add(&whole);
    let car = dir.join("whole.car");
    std::fs::write(&car, author.car(&cid).await).expect("the story's folder can be written");
    let (done, said) = gateway::run(dir, &["import-car", &car.to_string_lossy()], IMPORTED_WITHIN).await?;
    assert!(done, "the CAR was not imported: {said}");
    Some((cid, whole))
}
