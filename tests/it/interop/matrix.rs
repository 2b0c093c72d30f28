//! The matrix: each client by each feature, in both directions, is a test of its own, or it is said here why there is none.
//!
//! The stories are told where they belong, each once for all clients; this file says where, and fails when a cell is
//! neither a test nor impossible. Hole punching (BEP 55) takes three, and has stories of its own.

use std::process::Command;

/// By their names in the stories.
const CLIENTS: [&str; 5] = ["libtorrent", "aria2", "rqbit", "transmission", "webtorrent"];

/// A feature in one direction, and where its stories are: modules of this one, with a test for each client.
struct Cell {
    feature: &'static str,
    direction: Direction,
    story: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// They seed, and we fetch; they tell, and we hear.
    ToUs,
    /// We seed, and they fetch; we tell, and they hear.
    FromUs,
}
use Direction::{FromUs, ToUs};

const CELLS: [Cell; 14] = [
    cell("TCP", ToUs, "they_seed::a_range_and_then_the_whole_film_come_exact_from"),
    cell("TCP", FromUs, "we_seed::the_whole_film_is_fetched_from_us_by"),
    cell("uTP", ToUs, "transports::we_fetch_over_utp_from"),
    cell("uTP", FromUs, "transports::the_film_is_fetched_from_us_over_utp_by"),
    cell("MSE", ToUs, "transports::we_fetch_encrypted_from"),
    cell("MSE", FromUs, "transports::the_film_is_fetched_from_us_encrypted_by"),
    cell("PEX", ToUs, "finding::we_find_a_peer_that_is_known_only_to"),
    cell("PEX", FromUs, "finding::a_seeder_that_only_we_know_is_found_by"),
    cell("magnet", ToUs, "cold_magnets::metadata_and_film_come_from"),
    cell("magnet", FromUs, "we_seed::metadata_and_film_are_fetched_from_us_by"),
    cell("v2", ToUs, "v2::a_v2_film_is_watched_by_its_magnet_from"),
    cell("v2", FromUs, "v2::a_v2_film_is_fetched_from_us_by_its_magnet_by"),
    cell("hybrid", ToUs, "v2::a_hybrid_film_is_watched_by_its_v1_magnet_from"),
    cell("hybrid", FromUs, "v2::a_hybrid_film_is_fetched_from_us_by_its_file_by"),
];

const BOTH: [Direction; 2] = [ToUs, FromUs];

/// What a client cannot do, and how that is known.
const CANNOT: [(&str, &str, &[Direction], &str); 12] = [
    ("aria2", "uTP", &BOTH, "1.36 has no uTP: its manual names TCP ports alone, and its sources have none"),
    ("aria2", "v2", &BOTH, "1.36 reads the `pieces` of v1, and takes no `xt=urn:btmh`"),
    (
        "aria2",
        "hybrid",
        &BOTH,
        "1.36 reads another infohash from the file, by `aria2c -S` too: it loses a part of the info",
    ),
    ("aria2", "PEX", &[ToUs], "1.36 first tells after a minute, when it has left whoever exchanged nothing with it"),
    ("rqbit", "MSE", &BOTH, "9.1 has no encryption: neither an option nor a line of its sources"),
    ("rqbit", "v2", &BOTH, "9.1 takes no torrent without the `pieces` of v1"),
    ("transmission", "v2", &BOTH, "3.00 takes no torrent without the `pieces` of v1"),
    ("transmission", "hybrid", &BOTH, "3.00 says of one: invalid or corrupt torrent file"),
    ("transmission", "PEX", &[FromUs], "3.00 dials no loopback address that it is told of"),
    ("transmission", "PEX", &[ToUs], "3.00 first tells after a minute and a half, longer than a story may take"),
    ("webtorrent", "PEX", &[ToUs], "3.0 hears ut_pex, and its sources never begin to send it"),
    ("webtorrent", "v2", &BOTH, "3.0 reads the v2 id of a magnet and has no Merkle trees"),
];

const fn cell(feature: &'static str, direction: Direction, story: &'static str) -> Cell {
    Cell { feature, direction, story }
}

#[test]
fn every_cell_is_a_test_or_cannot_be() {
    let own = std::env::current_exe().expect("a test is a program");
    let listing = Command::new(own).arg("--list").output().expect("it runs");
    let listing = String::from_utf8_lossy(&listing.stdout);
    let is_told = |client: &str, cell: &Cell| {
        let name = format!("interop::{}::{client}: test", cell.story);
        listing.lines().any(|line| line == name)
    };
    let cannot = |client: &str, cell: &Cell| {
        let mut rows = CANNOT.iter().filter(|(who, what, ..)| (*who, *what) == (client, cell.feature));
        rows.any(|(.., directions, _)| directions.contains(&cell.direction))
    };
    let cells = CLIENTS.iter().flat_map(|client| CELLS.iter().map(move |cell| (*client, cell)));
    for (client, cell) in cells {
        let (told, cannot) = (is_told(client, cell), cannot(client, cell));
        assert!(told != cannot, "{client}, {} {:?}: told {told}, impossible {cannot}", cell.feature, cell.direction);
    }
}
