//! `swarmgate get` fetches what a magnet names, without a server.

use swarmgate_tests::gateway;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::peers::Client;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;

use super::{PIECE_LEN, TRANSFER_WITHIN, film, folder, scratch};

#[tokio::test]
async fn get_fetches_a_film_by_magnet_and_exits_with_success() {
    let dir = scratch();
    let (payload, torrent) = film(41, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let uri = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&uri, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the film is not in the folder that -o names");
}

#[tokio::test]
async fn get_fetches_a_tree_with_its_folders() {
    let dir = scratch();
    let payload = Payload::tree("set of files", 42);
    let torrent = Torrent::of(&payload, PIECE_LEN, None);
    let Some(seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let uri = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&uri, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the tree is not in the folder that -o names");
}

#[tokio::test]
async fn get_fetches_by_a_torrent_file_whose_tracker_names_the_peer() {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(43, Some(&tracker.url()));
    let Some(_seeder) = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await else { return };
    let file = torrent.write_to(dir.path()).display().to_string();
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&file, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the film is not in the folder that -o names");
}
