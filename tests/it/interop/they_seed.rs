//! A foreign client has a film; a viewer asks the gateway for parts of it and then for all.
//!
//! The torrent comes as a file through the control API and the peer through the torrent's tracker.

use std::path::Path;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::{Payload, digest};
use swarmgate_tests::peers::{Client, Peer};
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
    let Some((_seeder, gateway)) = both(client, &payload, &torrent, &tracker, dir.path()).await else { return };

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
    let Some((_seeder, gateway)) = both(client, &payload, &torrent, &tracker, dir.path()).await else { return };

    for file in &payload.files {
        let path: Vec<String> = file.path.iter().map(|part| escape(part)).collect();
        let url = gateway.url(&format!("/bt/{}/{}", torrent.info_hash, path.join("/")));
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        assert!(answer.body == file.bytes, "{url}: {} bytes, not those of the payload", answer.body.len());
    }
}

/// The client that seeds, known to the tracker, and the gateway that has the torrent's file; `None` without one of the
/// programs.
async fn both(
    client: Client,
    payload: &Payload,
    torrent: &Torrent,
    tracker: &Tracker,
    dir: &Path,
) -> Option<(Peer, Gateway)> {
    let seeder = client.seed(payload, torrent, dir).await?;
    let port = seeder.address().port();
    wait::until("the seeder's announce", TRANSFER_WITHIN, async || tracker.knows(port).then_some(())).await;
    let gateway = Gateway::start(dir).await?;
    gateway.add_torrent(&torrent.bytes).await;
    Some((seeder, gateway))
}
