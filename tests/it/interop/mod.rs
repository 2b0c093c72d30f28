//! Stories with real clients of each network on loopback.
//!
//! Every story is told once and played by each client in turn, so that a difference between two clients shows as one
//! red name among green ones. `cargo xtask interop` brings the clients; see [`swarmgate_tests::programs`] for what
//! happens without.

mod api_contract;
mod clients_among_themselves;
mod cold_magnets;
mod command_line;
mod dht;
mod edge;
mod finding;
mod hangup;
mod holepunch;
mod hybrid;
mod ipfs_among_themselves;
mod ipfs_conformance;
mod ipfs_faults;
mod ipfs_from_peers;
mod ipfs_over_http;
mod ipfs_pinning_service;
mod ipfs_to_peers;
mod loopback_alone;
mod matrix;
mod operators;
mod package;
mod players;
mod port_mapping;
mod private;
mod promtool;
mod publishing;
mod screening;
mod secrets;
mod they_seed;
mod tracker_over_tls;
mod transports;
mod turnserver;
mod v2;
mod visitors;
mod visitors_choose;
mod visitors_live;
mod visitors_share;
mod watching_as_a_peer;
mod we_seed;
mod webtorrent;
mod webtorrent_crowds;
mod webtorrent_with_us;

use std::path::Path;
use std::time::Duration;

use swarmgate_tests::payload::Payload;
use swarmgate_tests::torrent::Torrent;
use tempfile::TempDir;

/// No transfer of a few MiB over loopback takes longer, whatever the clients' timers are. Transmission thinks about
/// whom to serve every 10 s only, and so takes 13 to 18 where the others take 1.
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);

/// Pieces of the stories' torrents: small, so that a payload of a few MiB has dozens.
const PIECE_LEN: usize = 64 << 10;

/// An odd length: the last piece is short, and so is its last block.
const PAYLOAD_LEN: usize = (3 << 20) + 12_345;

const MIB: usize = 1 << 20;

/// Defines one test for each of some clients that play `story`.
macro_rules! played_by {
    ($story:path: $($client:ident)*) => {
        $(
            #[tokio::test]
            async fn $client() {
                $story(crate::interop::client!($client)).await;
            }
        )*
    };
}
use played_by;

/// Defines one test a client that plays `story`.
macro_rules! played_by_each_client {
    ($story:path) => {
        crate::interop::played_by!($story: libtorrent aria2 rqbit transmission webtorrent);
    };
}
use played_by_each_client;

/// A client by the name that its tests have.
macro_rules! client {
    (libtorrent) => {
        swarmgate_tests::peers::Client::Libtorrent
    };
    (aria2) => {
        swarmgate_tests::peers::Client::Aria2
    };
    (rqbit) => {
        swarmgate_tests::peers::Client::Rqbit
    };
    (transmission) => {
        swarmgate_tests::peers::Client::Transmission
    };
    (webtorrent) => {
        swarmgate_tests::peers::Client::Webtorrent
    };
}
use client;

/// A story's folder, removed at its end.
fn scratch() -> TempDir {
    tempfile::tempdir().expect("the machine has a temporary folder that can be written")
}

/// A single film and its torrent.
fn film(seed: u64, tracker: Option<&str>) -> (Payload, Torrent) {
    let payload = Payload::single("film.mkv", seed, PAYLOAD_LEN);
    let torrent = Torrent::of(&payload, PIECE_LEN, tracker);
    (payload, torrent)
}

/// A folder below a story's own.
fn folder(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(&path).expect("the story's folder can be written");
    path
}

/// What `--nocapture` shows: a figure, and no claim.
fn report(what: &str, bytes: usize, took: Duration) {
    eprintln!("{what}: {:.1} MB/s", bytes as f64 / 1e6 / took.as_secs_f64());
}
