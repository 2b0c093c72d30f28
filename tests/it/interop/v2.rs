//! v2 and hybrid torrents (BEP 52) with libtorrent at the other end, both ways, by file and by magnet; and what the leaves
//! of a Merkle tree are for: the first byte of a large piece.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use swarmgate_tests::gateway::{self, Gateway};
use swarmgate_tests::http;
use swarmgate_tests::payload::{Payload, digest};
use swarmgate_tests::peers::{Client, Peer, Wanted, libtorrent};
use swarmgate_tests::throttle::Throttle;
use swarmgate_tests::torrent::{Torrent, escape};
use swarmgate_tests::torrent_v2::{Kind, TorrentV2, hints};

use super::we_seed::Seeding;
use super::{MIB, PAYLOAD_LEN, PIECE_LEN, TRANSFER_WITHIN, folder, scratch};

/// What one peer has to give in the story of the first byte, in bytes a second.
const NARROW: u64 = 512 << 10;
/// The pieces of that story.
const LARGE_PIECE: usize = 16 * MIB;
/// What is promised.
const FIRST_BYTE_WITHIN: Duration = Duration::from_millis(200);

mod a_v2_film_is_watched_by_its_file_from {
    super::super::played_by!(super::is_watched_by_its_file: libtorrent);
}

mod a_v2_film_is_watched_by_its_magnet_from {
    super::super::played_by!(super::is_watched_by_its_magnet: libtorrent);
}

mod a_v2_film_is_fetched_from_us_by_its_file_by {
    super::super::played_by!(super::v2_by_its_file: libtorrent);
}

mod a_v2_film_is_fetched_from_us_by_its_magnet_by {
    super::super::played_by!(super::v2_by_its_magnet: libtorrent);
}

mod a_hybrid_film_is_watched_by_its_v1_magnet_from {
    super::super::played_by!(super::hybrid_is_watched: libtorrent rqbit webtorrent);
}

mod a_hybrid_film_is_fetched_from_us_by_its_file_by {
    super::super::played_by!(super::hybrid_by_its_file: libtorrent rqbit webtorrent);
}

mod a_hybrid_film_is_fetched_from_us_by_its_v2_magnet_by {
    super::super::played_by!(super::hybrid_by_its_magnet: libtorrent);
}

async fn is_watched_by_its_file(_: Client) {
    let dir = scratch();
    let Some((made, payload, seeder, gateway)) = film(Kind::V2, dir.path()).await else { return };
    gateway.add_torrent(&made.torrent.bytes).await;
    watch(&gateway, &made.v2, &payload, seeder.address()).await;
}

async fn is_watched_by_its_magnet(_: Client) {
    let dir = scratch();
    let Some((made, payload, seeder, gateway)) = film(Kind::V2, dir.path()).await else { return };
    let (url, whole) = (gateway.url(&made.magnet_path(&[seeder.address()])), payload.joined());
    http::assert_range(&url, &whole, 2_000_001, 2_100_000).await;
    let answer = http::get(&url).await;
    assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, digest(&whole)));
    watch(&gateway, &made.v2, &payload, seeder.address()).await;
}

#[tokio::test]
async fn each_file_of_a_v2_tree_comes_exact() {
    each_file_of_a_tree(Kind::V2).await;
}

#[tokio::test]
async fn each_file_of_a_hybrid_tree_comes_exact() {
    each_file_of_a_tree(Kind::Hybrid).await;
}

async fn each_file_of_a_tree(kind: Kind) {
    let dir = scratch();
    let payload = Payload::tree("set of files", 12);
    let Some((made, seeder, gateway)) = seeded(&payload, kind, PIECE_LEN, dir.path()).await else { return };
    for file in &payload.files {
        let path: Vec<String> = file.path.iter().map(|part| escape(part)).collect();
        let from = hints(&[seeder.address()]);
        let url = gateway.url(&format!("/bt/{}/{}?{}", made.v2, path.join("/"), &from[1..]));
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        assert!(answer.body == file.bytes, "{url}: {} bytes, not those of the payload", answer.body.len());
    }
}

#[tokio::test]
async fn both_names_of_a_hybrid_are_one_content() {
    let dir = scratch();
    let Some((made, payload, seeder, gateway)) = film(Kind::Hybrid, dir.path()).await else { return };
    let whole = payload.joined();
    let by_v2 = http::get(&gateway.url(&made.magnet_path(&[seeder.address()]))).await;
    assert_eq!((by_v2.status.as_u16(), digest(&by_v2.body)), (200, digest(&whole)));
    seeder.stop();
    // Nobody is left to ask: what the one name brought is here under the other.
    for id in [&made.torrent.info_hash, &made.v2] {
        let answer = http::get(&gateway.url(&format!("/bt/{id}/film.mkv"))).await;
        assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, digest(&whole)), "{id}");
        assert_eq!(answer.header("etag"), by_v2.header("etag"), "{id}");
        assert_eq!(answer.header("x-bt-infohash"), made.torrent.info_hash, "{id}");
    }
    let items = http::get(&gateway.url("/api/v1/items")).await.json();
    assert_eq!(items["items"].as_array().map(Vec::len), Some(1), "{items}");
}

/// Clients that know v1 alone take a hybrid for one of v1.
async fn hybrid_is_watched(client: Client) {
    let dir = scratch();
    let payload = Payload::single("film.mkv", 52, PAYLOAD_LEN);
    let Some(made) = TorrentV2::of(&payload, Kind::Hybrid, PIECE_LEN, dir.path()) else { return };
    let seeder = match client {
        Client::Libtorrent => libtorrent::seed_checked(&payload, &made.torrent, &[], dir.path()).await,
        Client::Aria2 | Client::Rqbit | Client::Transmission | Client::Webtorrent => {
            client.seed(&payload, &made.torrent, dir.path()).await
        }
    };
    let (Some(seeder), Some(gateway)) = (seeder, Gateway::start(dir.path()).await) else { return };
    let answer = http::get(&gateway.magnet_url(&made.torrent.info_hash, &[seeder.address()])).await;
    assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, digest(&payload.joined())));
}

#[tokio::test]
async fn what_a_v2_magnet_brought_is_served_after_a_restart_with_nobody_to_ask() {
    let dir = scratch();
    let Some((made, payload, seeder, gateway)) = film(Kind::V2, dir.path()).await else { return };
    let whole = payload.joined();
    let answer = http::get(&gateway.url(&made.magnet_path(&[seeder.address()]))).await;
    assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, digest(&whole)));
    seeder.stop();
    drop(gateway);
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let answer = http::get(&gateway.url(&format!("/bt/{}/film.mkv", made.v2))).await;
    assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, digest(&whole)));
}

#[tokio::test]
async fn get_fetches_a_v2_tree_by_its_magnet() {
    let dir = scratch();
    let payload = Payload::tree("set of files", 43);
    let Some(made) = TorrentV2::of(&payload, Kind::V2, PIECE_LEN, dir.path()) else { return };
    let Some(seeder) = libtorrent::seed_checked(&payload, &made.torrent, &[], dir.path()).await else { return };
    let uri = format!("{}{}", made.magnet(), hints(&[seeder.address()]));
    let out = folder(dir.path(), "out");
    let Some(()) = gateway::get(&uri, &out, dir.path(), TRANSFER_WITHIN).await else { return };
    assert!(payload.is_in(&out), "the tree is not in the folder that -o names");
}

async fn v2_by_its_file(client: Client) {
    we_seed(client, Kind::V2, |made, dir| Wanted::File(made.torrent.write_to(dir))).await;
}

async fn v2_by_its_magnet(client: Client) {
    we_seed(client, Kind::V2, |made, _| Wanted::Magnet(made.magnet())).await;
}

async fn hybrid_by_its_magnet(client: Client) {
    we_seed(client, Kind::Hybrid, |made, _| Wanted::Magnet(made.magnet())).await;
}

async fn hybrid_by_its_file(client: Client) {
    let dir = scratch();
    let payload = Payload::single("film.mkv", 53, PAYLOAD_LEN);
    let Some(made) = TorrentV2::of(&payload, Kind::Hybrid, PIECE_LEN, dir.path()) else { return };
    Seeding::of((payload, made.torrent), client).goes_well(super::we_seed::file, dir.path()).await;
}

async fn we_seed(client: Client, kind: Kind, wanted: impl Fn(&TorrentV2, &Path) -> Wanted) {
    let dir = scratch();
    let Some((made, payload, seeder, gateway)) = film(kind, dir.path()).await else { return };
    gateway.add_torrent(&made.torrent.bytes).await;
    watch(&gateway, &made.v2, &payload, seeder.address()).await;
    seeder.stop();
    let us = [gateway.peer_address()];
    let Some(mut leech) = client.fetch(&wanted(&made, dir.path()), &us, dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
}

#[tokio::test]
async fn the_first_byte_of_a_large_piece_needs_one_block_in_v2_and_the_whole_piece_in_v1() {
    let dir = scratch();
    let payload = Payload::single("film.mkv", 77, LARGE_PIECE + 12_345);
    let Some((made, seeder, gateway)) = seeded(&payload, Kind::V2, LARGE_PIECE, dir.path()).await else { return };
    let way = Throttle::start(seeder.address(), NARROW).await;
    gateway.add_torrent(&made.torrent.bytes).await;
    let whole = payload.joined();
    let from = hints(&[way.address()]);
    let url = gateway.url(&format!("/bt/{}/film.mkv?{}", made.v2, &from[1..]));
    let begun = Instant::now();
    http::assert_range(&url, &whole, 0, 0).await;
    let first = begun.elapsed();
    // A seek into the middle of the piece, over a connection that stands.
    let begun = Instant::now();
    http::assert_range(&url, &whole, 9_000_000, 9_000_000).await;
    let seek = begun.elapsed();

    // With nothing but a magnet, metadata and the roots of pieces come first.
    let cold = folder(dir.path(), "cold");
    let Some(other) = Gateway::start(&cold).await else { return };
    let url = other.url(&made.magnet_path(&[way.address()]));
    let begun = Instant::now();
    http::assert_range(&url, &whole, 0, 0).await;
    let by_magnet = begun.elapsed();

    // v1 at eight times that rate; at the same it would be eight times as long.
    let v1 = Torrent::of(&payload, LARGE_PIECE, None);
    let v1_dir = folder(dir.path(), "v1");
    let Some(seeder) = Client::Libtorrent.seed(&payload, &v1, &v1_dir).await else { return };
    let way = Throttle::start(seeder.address(), 8 * NARROW).await;
    gateway.add_torrent(&v1.bytes).await;
    let from = hints(&[way.address()]);
    let url = gateway.url(&format!("/bt/{}/film.mkv?{}", v1.info_hash, &from[1..]));
    let begun = Instant::now();
    http::assert_range(&url, &whole, 0, 0).await;
    let v1_first = begun.elapsed();
    eprintln!(
        "first byte of a 16 MiB piece at 512 KiB/s: v2 {first:?}, after a seek {seek:?}, by magnet {by_magnet:?}"
    );
    eprintln!("v1, at eight times that rate: {v1_first:?}");
    assert!(first <= FIRST_BYTE_WITHIN, "{first:?}");
    assert!(v1_first > Duration::from_secs(3), "the throttle does nothing: {v1_first:?}");
}

/// Reads a range and the whole of a film by its v2 name.
async fn watch(gateway: &Gateway, v2: &str, payload: &Payload, seeder: SocketAddr) {
    let whole = payload.joined();
    let url = gateway.url(&format!("/bt/{v2}/film.mkv?{}", &hints(&[seeder])[1..]));
    http::assert_range(&url, &whole, 1_234_567, 1_500_000).await;
    http::assert_range(&url, &whole, whole.len() - 1000, whole.len() - 1).await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(digest(&answer.body), digest(&whole));
}

async fn film(kind: Kind, dir: &Path) -> Option<(TorrentV2, Payload, Peer, Gateway)> {
    let payload = Payload::single("film.mkv", 51, PAYLOAD_LEN);
    let (made, seeder, gateway) = seeded(&payload, kind, PIECE_LEN, dir).await?;
    Some((made, payload, seeder, gateway))
}

/// libtorrent that has the payload and its leaves, and a gateway that has never heard of it; `None` without one of the
/// programs.
async fn seeded(payload: &Payload, kind: Kind, piece_len: usize, dir: &Path) -> Option<(TorrentV2, Peer, Gateway)> {
    let made = TorrentV2::of(payload, kind, piece_len, dir)?;
    let seeder = libtorrent::seed_checked(payload, &made.torrent, &[], dir).await?;
    let gateway = Gateway::start(dir).await?;
    Some((made, seeder, gateway))
}
