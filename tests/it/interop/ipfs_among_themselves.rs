//! Kubo and Helia with each other, and the gateway not there: where this is red, the other stories of IPFS say nothing.

use swarmgate_tests::helia::Helia;
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::payload::{bytes, digest};

use super::{MIB, TRANSFER_WITHIN, report, scratch};

const LEN: usize = 8 * MIB + 12_345;

#[tokio::test]
async fn kubo_fetches_from_helia() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let whole = bytes(220, LEN);
    let cid = helia.add(&whole).await;
    kubo.connect(helia.multiaddr()).await;
    let answer = http::get(&format!("{}/ipfs/{cid}", kubo.gateway_url())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
    assert!(kubo.bitswap().await.bytes_received >= whole.len() as u64);
}

#[tokio::test]
async fn helia_fetches_from_kubo() {
    let dir = scratch();
    let Some(kubo) = Kubo::start(dir.path()).await else { return };
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let whole = bytes(221, LEN);
    let cid = kubo.add(&whole);
    helia.connect(&kubo.multiaddr()).await;
    let fetched = helia.fetch(&cid, TRANSFER_WITHIN).await;
    report("Helia from Kubo", whole.len(), fetched.total);
    assert_eq!((fetched.bytes, fetched.sha256), (whole.len() as u64, digest(&whole)));
    assert!(kubo.bitswap().await.bytes_sent >= whole.len() as u64);
}

#[tokio::test]
async fn helia_is_a_gateway_to_raw_blocks() {
    let dir = scratch();
    let Some(helia) = Helia::start(dir.path()).await else { return };
    let block = bytes(222, 100_000);
    let url = format!("{}/ipfs/{}", helia.gateway_url(), helia.add(&block).await);
    let answer = http::send(http::client().get(&url).header("accept", "application/vnd.ipld.raw"), &url).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/vnd.ipld.raw"));
    assert!(answer.body == block, "{} other bytes", answer.body.len());
    assert_eq!(helia.requests().await, 1);
}

#[tokio::test]
async fn kubo_is_the_same_after_it_was_killed() {
    let dir = scratch();
    let Some(mut kubo) = Kubo::start(dir.path()).await else { return };
    let whole = bytes(223, MIB);
    let (cid, before) = (kubo.add(&whole), kubo.multiaddr());
    kubo.kill();
    kubo.restart().await;
    assert_eq!(kubo.multiaddr(), before);
    let answer = http::get(&format!("{}/ipfs/{cid}", kubo.gateway_url())).await;
    assert!(answer.body == whole, "{}: {}", answer.status, answer.body.len());
}
