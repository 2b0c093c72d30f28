//! Peers that nobody named to us or to a foreign client, found through the other (BEP 11).

use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_tests::http;
use swarmgate_tests::node::Node;
use swarmgate_tests::peers::{Client, Wanted, libtorrent};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, folder, scratch};

/// libtorrent tells of its peers a moment after the handshake, rqbit after ten seconds; all dial whom they are told of
/// within seconds.
const TOLD_WITHIN: Duration = Duration::from_secs(30);

mod a_seeder_that_only_we_know_is_found_by {
    super::super::played_by!(super::it_finds: libtorrent aria2 rqbit webtorrent);
}

mod we_find_a_peer_that_is_known_only_to {
    super::super::played_by!(super::we_find: libtorrent rqbit);
}

async fn it_finds(client: Client) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(71, Some(&tracker.url()));
    // The seeder hears of nobody, so that whoever comes was told by us.
    let (_, untracked) = film(71, None);
    let Some(seeder) = libtorrent::seed(&payload, &untracked, &[libtorrent::WITHOUT_PEX], dir.path()).await else {
        return;
    };
    let node = Node::fresh().await;
    add(&node, &torrent, seeder.address()).await;
    let known = async || (peers(&node, &torrent).await == 1).then_some(());
    wait::until("the seeder", TOLD_WITHIN, known).await;

    let ours = node.app.bittorrent().and_then(|it| it.listen_address()).expect("it listens");
    wait::until("our announce", TOLD_WITHIN, async || tracker.knows(ours.port()).then_some(())).await;
    assert!(!tracker.knows(seeder.address().port()));
    let file = Wanted::File(torrent.write_to(dir.path()));
    let Some(mut viewer) = client.fetch(&file, &[ours], dir.path()).await else { return };
    viewer.has(&payload, TRANSFER_WITHIN).await;
    assert_eq!(node.stats().bytes_uploaded, 0, "we had nothing to give but an address");
    node.stop().await;
}

async fn we_find(client: Client) {
    let dir = scratch();
    let (_, torrent) = film(72, None);
    // Both have nothing, so that neither leaves the other; and the stranger tells nobody of anything.
    let place = folder(dir.path(), "stranger");
    let file = Wanted::File(torrent.write_to(&place));
    let Some(stranger) = libtorrent::fetch(&file, &[], &[libtorrent::WITHOUT_PEX], &place).await else { return };
    let Some(hub) = client.fetch(&file, &[stranger.address()], dir.path()).await else { return };
    let node = Node::fresh().await;
    add(&node, &torrent, hub.address()).await;
    let url = node.url(&format!("/api/v1/items/{}/peers", torrent.info_hash));
    let address = stranger.address().to_string();
    let met = async || {
        let list = http::get(&url).await.json();
        list["peers"].as_array()?.iter().any(|it| it["address"] == address.as_str()).then_some(())
    };
    wait::until("the stranger to be dialled by us", TOLD_WITHIN, met).await;
    node.stop().await;
}

async fn add(node: &Node, torrent: &Torrent, peer: SocketAddr) {
    let mut client = node.connect().await;
    let kind = [("content-type", "application/x-bittorrent")];
    let answer = client.ask("POST", "/api/v1/items", &kind, &torrent.bytes).await;
    assert!(answer.status < 300, "{}", answer.text());
    let answer = client.get(&format!("/bt/{}/?format=json&x.pe={peer}", torrent.info_hash), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

async fn peers(node: &Node, torrent: &Torrent) -> u64 {
    let item = node.connect().await.get(&format!("/api/v1/items/{}", torrent.info_hash), &[]).await.json();
    item["peers"].as_u64().unwrap_or_default()
}
