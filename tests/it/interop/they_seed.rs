//! A foreign client has a film; a viewer asks the gateway for parts of it and then for all.
//!
//! The torrent comes as a file through the control API and the peer through the torrent's tracker.

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::{Payload, digest};
use swarmgate_tests::peers::Client;
use swarmgate_tests::torrent::{Torrent, escape};
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{PIECE_LEN, TRANSFER_WITHIN, film, scratch};

mod a_range_and_then_the_whole_film_come_exact_from {
    super::super::played_by_each_client!(super::a_film_is_watched);
}

mod each_file_of_a_tree_comes_exact_from {
    super::super::played_by_each_client!(super::a_tree_is_read);
}

async fn a_film_is_watched(client: Client) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(11, Some(&tracker.url()));
    let Some(seeder) = client.seed(&payload, &torrent, dir.path()).await else { return };
    wait::until("the seeder's announce", TRANSFER_WITHIN, async || {
        tracker.knows(seeder.address().port()).then_some(())
    })
    .await;
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    gateway.add_torrent(&torrent.bytes).await;

    let whole = payload.joined();
    let url = gateway.url(&format!("/bt/{}/film.mkv", torrent.info_hash));
    // From inside one piece to inside another, and the short tail that players ask for first.
    http::assert_range(&url, &whole, 1_234_567, 1_500_000).await;
    http::assert_range(&url, &whole, whole.len() - 1000, whole.len() - 1).await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
}

async fn a_tree_is_read(client: Client) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let payload = Payload::tree("set of files", 12);
    let torrent = Torrent::of(&payload, PIECE_LEN, Some(&tracker.url()));
    let Some(seeder) = client.seed(&payload, &torrent, dir.path()).await else { return };
    wait::until("the seeder's announce", TRANSFER_WITHIN, async || {
        tracker.knows(seeder.address().port()).then_some(())
    })
    .await;
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    gateway.add_torrent(&torrent.bytes).await;

    for file in &payload.files {
        let path: Vec<String> = file.path.iter().map(|part| escape(part)).collect();
        let url = gateway.url(&format!("/bt/{}/{}", torrent.info_hash, path.join("/")));
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        assert!(answer.body == file.bytes, "{url}: {} bytes, not those of the payload", answer.body.len());
    }
}
