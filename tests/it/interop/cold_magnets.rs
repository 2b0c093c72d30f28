//! Nothing but an infohash and the address of a peer: the metadata comes from the peer (BEP 9), and so do the bytes.

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::digest;
use swarmgate_tests::peers::Client;

use super::{film, scratch};

mod metadata_and_film_come_from {
    super::super::played_by_each_client!(super::a_magnet_is_opened);
}

async fn a_magnet_is_opened(client: Client) {
    let dir = scratch();
    let (payload, torrent) = film(21, None);
    let Some(seeder) = client.seed(&payload, &torrent, dir.path()).await else { return };
    let Some(gateway) = Gateway::start(dir.path()).await else { return };

    let whole = payload.joined();
    let url = gateway.magnet_url(&torrent.info_hash, &[seeder.address()]);
    http::assert_range(&url, &whole, 2_000_001, 2_100_000).await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
}
