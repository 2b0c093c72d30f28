//! What `publish` makes is a hybrid torrent (BEP 52): other programs load it, agree with every hash in it, and fetch what
//! was published by each of its names, from where it lies on the publisher's disk.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_tests::gateway::{self, Gateway};
use swarmgate_tests::http;
use swarmgate_tests::payload::{self, Payload, PayloadFile};
use swarmgate_tests::peers::{Client, Wanted, libtorrent};
use swarmgate_tests::programs::Program;
use swarmgate_tests::torrent::{Torrent, escape};
use swarmgate_tests::torrent_v2::{Kind, TorrentV2};
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{PAYLOAD_LEN, PIECE_LEN, TRANSFER_WITHIN, folder, scratch};

/// Random trees that are judged.
const TREES: u64 = 6;

mod a_folder_is_fetched_from_us_by_libtorrent {
    use super::Client::Libtorrent;
    use super::{fetched, many, one};

    #[tokio::test]
    async fn with_its_file() {
        fetched(many(71), Libtorrent, super::by_file).await;
    }

    #[tokio::test]
    async fn with_its_v1_magnet() {
        fetched(many(72), Libtorrent, super::by_v1).await;
    }

    #[tokio::test]
    async fn with_its_v2_magnet() {
        fetched(many(73), Libtorrent, super::by_v2).await;
    }

    #[tokio::test]
    async fn with_the_magnet_of_both() {
        fetched(many(74), Libtorrent, super::by_both).await;
    }

    #[tokio::test]
    async fn when_it_is_one_file_with_its_v2_magnet() {
        fetched(one(75), Libtorrent, super::by_v2).await;
    }
}

mod a_folder_is_fetched_from_us_by_rqbit {
    use super::Client::Rqbit;
    use super::{fetched, many, one};

    #[tokio::test]
    async fn with_its_file() {
        fetched(many(76), Rqbit, super::by_file).await;
    }

    #[tokio::test]
    async fn with_its_v1_magnet() {
        fetched(many(77), Rqbit, super::by_v1).await;
    }

    #[tokio::test]
    async fn when_it_is_one_file_with_its_v1_magnet() {
        fetched(one(78), Rqbit, super::by_v1).await;
    }
}

fn by_file(made: &Made, dir: &Path) -> Wanted {
    Wanted::File(made.torrent.write_to(dir))
}

fn by_v1(made: &Made, _: &Path) -> Wanted {
    Wanted::Magnet(format!("magnet:?xt=urn:btih:{}", made.id("infohash")))
}

fn by_v2(made: &Made, _: &Path) -> Wanted {
    Wanted::Magnet(format!("magnet:?xt=urn:btmh:1220{}", made.id("infohash_v2")))
}

/// As `publish` prints it, but for the DAG: a client that does not know the scheme takes it for a web server.
fn by_both(made: &Made, _: &Path) -> Wanted {
    let magnet = made.id("magnet");
    Wanted::Magnet(magnet.split("&xs=").next().unwrap_or(magnet).to_owned())
}

async fn fetched(payload: Payload, client: Client, wanted: fn(&Made, &Path) -> Wanted) {
    let dir = scratch();
    let Some((made, gateway)) = published(&payload, &[], dir.path()).await else { return };
    let cached = http::get(&gateway.url("/api/v1/status")).await.json();
    let us = [gateway.peer_address()];
    let Some(mut leech) = client.fetch(&wanted(&made, dir.path()), &us, dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
    assert!(cached["cache"]["used_bytes"].as_u64().is_none_or(|used| used < 100_000), "nothing was copied: {cached}");
}

#[tokio::test]
async fn who_knows_no_more_than_its_v2_name_and_a_tracker_finds_us() {
    let (dir, tracker, payload) = (scratch(), Tracker::start(), many(79));
    let more = ["--tracker", &tracker.url()];
    let Some((made, gateway)) = published(&payload, &more, dir.path()).await else { return };
    let magnet = format!("magnet:?xt=urn:btmh:1220{}&tr={}", made.id("infohash_v2"), escape(&tracker.url()));
    let us = gateway.peer_address().port();
    wait::until("our own announce", TRANSFER_WITHIN, async || tracker.knows(us).then_some(())).await;
    let Some(mut leech) = Client::Libtorrent.fetch(&Wanted::Magnet(magnet), &[], dir.path()).await else { return };
    leech.has(&payload, TRANSFER_WITHIN).await;
}

/// libtorrent loads the torrents of random trees, finds the files where we do, names the pieces' roots as we do when it
/// makes a torrent of the same tree, and agrees with every hash of either half when it checks what lies there.
#[tokio::test]
async fn libtorrent_finds_nothing_wrong_in_the_torrents_of_random_trees() {
    for seed in 0..TREES {
        let dir = scratch();
        let tree = random_tree(seed);
        let Some((made, gateway)) = published(&tree, &[], dir.path()).await else { return };
        drop(gateway);
        let ours = Metainfo::parse(&made.torrent.bytes.clone().into()).expect("our own parser takes it");
        let Some(loaded) = load(&made, dir.path()) else { return };
        assert_eq!(loaded["v1"], made.json["infohash"], "{}", tree.name);
        assert_eq!(loaded["v2"], made.json["infohash_v2"], "{}", tree.name);
        assert_eq!(loaded["pieces"], ours.info.pieces.count());
        let path = |path: &str| format!("{}/{path}", tree.name);
        let files = ours.info.files.iter();
        let files = files.map(|file| json!([path(&file.joined_path()), file.len, file.offset, file.padding]));
        assert_eq!(loaded["files"], Value::Array(files.collect()), "{}", tree.name);

        let Some(theirs) = TorrentV2::of(&tree, Kind::Hybrid, PIECE_LEN, dir.path()) else { return };
        let theirs = Metainfo::parse(&theirs.torrent.bytes.into()).expect("libtorrent's torrent is one");
        assert_eq!((&ours.info.tree, &ours.info.roots), (&theirs.info.tree, &theirs.info.roots), "{}", tree.name);

        let checked = libtorrent::seed_checked(&tree, &made.torrent, &[], dir.path()).await;
        checked.expect("the program was here a moment ago").stop();
    }
}

/// What was published, as the command says it, and its torrent.
struct Made {
    json: Value,
    torrent: Torrent,
}

impl Made {
    fn id(&self, key: &str) -> &str {
        self.json[key].as_str().unwrap_or_else(|| panic!("no {key}: {}", self.json))
    }
}

/// Publishes a payload with the command, and starts the gateway that seeds it; `None` without the program.
async fn published(payload: &Payload, more: &[&str], dir: &Path) -> Option<(Made, Gateway)> {
    let place = folder(dir, "mine");
    payload.lay_out(&place);
    let path = place.join(&payload.name);
    let (path, len) = (path.to_str().expect("the story's own name"), format!("{}KiB", PIECE_LEN >> 10));
    let args = [&["publish", path, "--json", "--piece-length", &len][..], more].concat();
    let (ok, said) = gateway::run(dir, &args, TRANSFER_WITHIN).await?;
    assert!(ok, "{said}");
    let json = &said[said.find('{').unwrap_or_default()..said.rfind('}').map_or(0, |end| end + 1)];
    let json: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {said}"));
    let gateway = Gateway::start(dir).await?;
    let info_hash = json["infohash"].as_str().expect("there is a v1 half").to_owned();
    let file = http::get(&gateway.url(&format!("/bt/{info_hash}.torrent"))).await;
    assert_eq!(file.status, 200, "{}", file.text());
    let torrent = Torrent { bytes: file.body, info_hash, name: payload.name.clone(), tracker: None };
    Some((Made { json, torrent }, gateway))
}

/// What libtorrent's loader makes of it.
fn load(made: &Made, dir: &Path) -> Option<Value> {
    let mut command = Command::new(Program::Python.find()?);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/lt_check.py")).arg(made.torrent.write_to(dir));
    let done = command.output().unwrap_or_else(|error| panic!("libtorrent loads nothing: {error}"));
    assert!(done.status.success(), "libtorrent refuses it: {}", String::from_utf8_lossy(&done.stderr));
    Some(serde_json::from_slice(&done.stdout).expect("the program prints JSON"))
}

fn one(seed: u64) -> Payload {
    Payload::single("film.mkv", seed, PAYLOAD_LEN)
}

/// Files of each length that may go wrong, in an order in which padding has something before and behind it.
fn many(seed: u64) -> Payload {
    let shape: [(&[&str], usize); 9] = [
        (&["a tiny.txt"], 1),
        (&["b empty"], 0),
        (&["c", "aligned"], 4 * PIECE_LEN),
        (&["c", "deep", "übung №1.webm"], 5 * PIECE_LEN + 12_345),
        (&["c", "one piece"], PIECE_LEN),
        (&["d one block"], 16 << 10),
        (&["e a piece and a byte"], PIECE_LEN + 1),
        (&["f last"], 700_001),
        (&["g empty"], 0),
    ];
    let file = |(seed, (path, len)): (u64, (&[&str], usize))| PayloadFile {
        path: path.iter().map(|&part| part.to_owned()).collect(),
        bytes: payload::bytes(seed, len),
    };
    Payload { name: "a folder".to_owned(), files: (seed * 100..).zip(shape).map(file).collect() }
}

/// Up to a dozen files, up to three folders deep, with lengths around those of leaves and pieces.
fn random_tree(seed: u64) -> Payload {
    let dice = payload::bytes(seed + 1, 256);
    let mut dice = dice.into_iter().cycle();
    let mut roll = move |sides: usize| usize::from(dice.next().unwrap_or_default()) % sides;
    let mut files = Vec::new();
    for number in 0..2 + roll(11) {
        let mut path: Vec<String> = (0..roll(3)).map(|_| format!("folder {}", roll(3))).collect();
        path.push(format!("{number:02}"));
        let edge = [0, 16 << 10, PIECE_LEN, 3 * PIECE_LEN][roll(4)];
        let len = (edge + roll(3)).saturating_sub(1) + if roll(3) == 0 { 100 * roll(256) } else { 0 };
        files.push(PayloadFile { path, bytes: payload::bytes(seed * 1000 + number as u64, len) });
    }
    // Not a folder without a byte, which is no torrent.
    files.push(PayloadFile { path: vec!["~".to_owned()], bytes: payload::bytes(seed, 5) });
    Payload { name: format!("tree {seed}"), files }
}
