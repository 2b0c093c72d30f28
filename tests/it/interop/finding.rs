//! Peers that nobody named to us or to a foreign client, found through the other (BEP 11).

use std::time::Duration;

use bytes::Bytes;
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::Node;
use swarmgate_tests::peers::{Client, Wanted};
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, scratch};

/// libtorrent tells of its peers a moment after the handshake, and dials whom it is told of within seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

async fn add(node: &Node, torrent: &[u8], info_hash: &str, peer: std::net::SocketAddr) {
    let mut client = node.connect().await;
    let kind = [("content-type", "application/x-bittorrent")];
    let answer = client.ask("POST", "/api/v1/items", &kind, torrent).await;
    assert!(answer.status < 300, "{}", answer.text());
    let answer = client.get(&format!("/bt/{info_hash}/?format=json&x.pe={peer}"), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn peers(node: &Node, info_hash: &str) -> u64 {
    let item = node.connect().await.get(&format!("/api/v1/items/{info_hash}"), &[]).await.json();
    item["peers"].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn libtorrent_finds_a_seeder_that_only_we_know() {
    let dir = scratch();
    let (payload, torrent) = film(71, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let node = Node::fresh().await;
    add(&node, &torrent.bytes, &torrent.info_hash, seeder.address()).await;
    let known = async || (peers(&node, &torrent.info_hash).await == 1).then_some(());
    wait::until("the seeder", TOLD_WITHIN, known).await;

    let ours = node.app.bittorrent().and_then(|it| it.listen_address()).expect("it listens");
    let file = Wanted::File(torrent.write_to(dir.path()));
    let Some(mut viewer) = Client::Libtorrent.fetch(&file, &[ours], dir.path()).await else { return };
    viewer.has(&payload, TRANSFER_WITHIN).await;
    assert_eq!(node.stats().bytes_uploaded, 0, "we had nothing to give but an address");
    node.stop().await;
}

#[tokio::test]
async fn we_find_a_peer_that_only_libtorrent_knows() {
    let dir = scratch();
    let (payload, torrent) = film(72, None);
    let infohash = torrent.info_hash.parse().expect("the kit's own infohash");
    let stranger = HostilePeer::start(Manners::only_metadata(infohash, Bytes::new())).await;
    let Some(hub) = Client::Libtorrent.seed_to(&payload, &torrent, &[stranger.address()], dir.path()).await else {
        return;
    };
    let met = async || (stranger.log().connections == 1).then_some(());
    wait::until("libtorrent and the stranger to meet", TOLD_WITHIN, met).await;
    let node = Node::fresh().await;
    add(&node, &torrent.bytes, &torrent.info_hash, hub.address()).await;
    // Nobody has told us of the stranger but libtorrent, which may itself dial it more than once.
    let met = async || (peers(&node, &torrent.info_hash).await == 2).then_some(());
    wait::until("the stranger to be dialled by us", TOLD_WITHIN, met).await;
    assert!(stranger.log().connections >= 2);
    node.stop().await;
}
