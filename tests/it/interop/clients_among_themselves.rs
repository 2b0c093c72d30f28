//! The harness proves itself: each client fetches from libtorrent and libtorrent from each client, without the
//! gateway. When one of these is red, the fault is not the gateway's.

use std::path::Path;

use swarmgate_tests::payload::Payload;
use swarmgate_tests::peers::{Client, Wanted};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::tracker::Tracker;

use super::{PIECE_LEN, TRANSFER_WITHIN, film, scratch};

mod each_client_fetches_from_libtorrent {
    super::super::played_by_each_client!(super::fetches_from_libtorrent);
}

mod each_client_seeds_to_libtorrent {
    super::super::played_by_each_client!(super::seeds_to_libtorrent);
}

mod each_client_fetches_a_tree_by_its_file {
    super::super::played_by_each_client!(super::fetches_a_tree);
}

/// By magnet, so that the metadata travels too.
async fn fetches_from_libtorrent(client: Client) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let (payload, torrent) = film(1, Some(&tracker.url()));
    fetches(client, &payload, &torrent, &Wanted::Magnet(torrent.magnet()), dir.path()).await;
}

async fn seeds_to_libtorrent(client: Client) {
    let dir = scratch();
    let (payload, torrent) = film(2, None);
    let Some(seeder) = client.seed(&payload, &torrent, dir.path()).await else { return };
    let wanted = Wanted::Magnet(torrent.magnet());
    let Some(mut leech) = Client::Libtorrent.fetch(&wanted, &[seeder.address()], dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
}

async fn fetches_a_tree(client: Client) {
    let (dir, tracker) = (scratch(), Tracker::start());
    let payload = Payload::tree("set of files", 3);
    let torrent = Torrent::of(&payload, PIECE_LEN, Some(&tracker.url()));
    let wanted = Wanted::File(torrent.write_to(dir.path()));
    fetches(client, &payload, &torrent, &wanted, dir.path()).await;
}

/// The tracker brings the two together; a client that does not dial here is dialled by the seeder.
async fn fetches(client: Client, payload: &Payload, torrent: &Torrent, wanted: &Wanted, dir: &Path) {
    let mut leech;
    let _seeder;
    if client.dials_loopback() {
        let Some(seeder) = Client::Libtorrent.seed(payload, torrent, dir).await else { return };
        let Some(peer) = client.fetch(wanted, &[], dir).await else { return };
        (leech, _seeder) = (peer, seeder);
    } else {
        let Some(peer) = client.fetch(wanted, &[], dir).await else { return };
        let Some(seeder) = Client::Libtorrent.seed_to(payload, torrent, &[peer.address()], dir).await else { return };
        (leech, _seeder) = (peer, seeder);
    }
    leech.has(payload, TRANSFER_WITHIN).await;
}
