//! The gateway holds a film, its first seeder is gone, and a foreign client gets every byte from the gateway.

use std::net::SocketAddr;
use std::path::Path;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::peers::{Client, Wanted};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{TRANSFER_WITHIN, film, scratch};

mod the_whole_film_is_fetched_from_us_by {
    super::super::played_by_each_client!(super::by_its_file);
}

mod metadata_and_film_are_fetched_from_us_by {
    super::super::played_by_each_client!(super::by_its_magnet);
}

async fn by_its_file(client: Client) {
    we_seed(client, |torrent, dir| Wanted::File(torrent.write_to(dir))).await;
}

async fn by_its_magnet(client: Client) {
    we_seed(client, |torrent, _| Wanted::Magnet(torrent.magnet())).await;
}

async fn we_seed(client: Client, wanted: impl Fn(&Torrent, &Path) -> Wanted) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(31, Some(&tracker.url()));
    // The seeder's own torrent names no tracker: nobody but the gateway, which is told, ever hears of it.
    let (_, untracked) = film(31, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &untracked, dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    gateway.add_torrent(&torrent.bytes).await;

    let us = [gateway.peer_address()];
    let wanted = wanted(&torrent, dir.path());
    let mut leech = if client.dials_loopback() {
        fill(&gateway, &torrent, &payload.joined(), &[seeder.address()]).await;
        seeder.stop();
        wait::until("our own announce", TRANSFER_WITHIN, async || tracker.knows(us[0].port()).then_some(())).await;
        let Some(leech) = client.fetch(&wanted, &us, dir.path()).await else { return };
        leech
    } else {
        // It cannot dial us, so we dial it, as one more peer of a swarm that we are still fetching from.
        let Some(leech) = client.fetch(&wanted, &us, dir.path()).await else { return };
        fill(&gateway, &torrent, &payload.joined(), &[leech.address(), seeder.address()]).await;
        seeder.stop();
        leech
    };
    leech.has(&payload, TRANSFER_WITHIN).await;
}

/// Has a viewer read the whole film, so that the gateway holds all of it.
async fn fill(gateway: &Gateway, torrent: &Torrent, whole: &[u8], peers: &[SocketAddr]) {
    let url = gateway.magnet_url(&torrent.info_hash, peers);
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == whole, "{url}: {} bytes, not those of the payload", answer.body.len());
}
