//! What was fetched once is served after a restart without any peer, whatever ended the process, and never wrong.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_tests::measure::this_test;
use swarmgate_tests::node::{self, Content, Node, Seeder};

use super::MIB;

/// Tells the child its directory and whom to ask.
const CHILD_DIR: &str = "SWARMGATE_STORY_DIR";
const CHILD_PEER: &str = "SWARMGATE_STORY_PEER";
/// Rounds of the kill story; 25 unless this says otherwise.
const ROUNDS: &str = "SWARMGATE_KILL_ROUNDS";
const DEFAULT_ROUNDS: u64 = 25;
/// Kills that one cache directory suffers before a new one is taken.
const LIVES: u64 = 3;
/// Longest life of a child after it has begun to download.
const LONGEST: Duration = Duration::from_millis(80);

fn content() -> Content {
    Content::single("film.mkv", 31, 12 * MIB + 4321, 64 * 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_clean_stop_everything_is_served_with_nobody_to_ask() {
    let (content, dir) = (content(), tempfile::tempdir().unwrap());
    let seeder = Seeder::start(&content).await;
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    node.learn(&content, &[seeder.address()]).await;
    assert!(node.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    node.stop().await;
    seeder.stop().await;
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    let answer = node.connect().await.get(&content.path(0), &[("cache-control", "only-if-cached")]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == content.bytes);
    assert_eq!(node.stats().bytes_downloaded, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_at_any_moment_every_committed_piece_is_served_and_no_wrong_byte() {
    let content = content();
    let seeder = Seeder::start(&content).await;
    let rounds = std::env::var(ROUNDS).ok().and_then(|it| it.parse().ok()).unwrap_or(DEFAULT_ROUNDS);
    let mut chance = StdRng::seed_from_u64(rounds);
    let (mut dir, mut served) = (tempfile::tempdir().unwrap(), 0);
    for round in 0..rounds {
        if round % LIVES == 0 {
            dir = tempfile::tempdir().unwrap();
        }
        let life = LONGEST.mul_f64(chance.random_range(0.0..1.0));
        let committed = live_and_die(dir.path(), seeder.address(), life);
        served += committed.len();
        serve_from_cache_alone(dir.path(), &content, &committed, round).await;
    }
    eprintln!("{served} pieces were committed in {rounds} lives");
    assert!(served as u64 > rounds, "the children came to download");
    seeder.stop().await;
}

/// Starts a gateway with no peers on what the killed one left, and reads every piece from it.
async fn serve_from_cache_alone(dir: &Path, content: &Content, committed: &[usize], round: u64) {
    let node = Node::start(&node::config(dir)).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
    let mut client = node.connect().await;
    let len = content.metainfo.info.piece_len as usize;
    for piece in 0..content.pieces() {
        let bytes = content.piece(piece);
        let range = format!("bytes={}-{}", piece * len, piece * len + bytes.len() - 1);
        let rows = [("range", range.as_str()), ("cache-control", "only-if-cached")];
        let answer = client.get(&content.path(0), &rows).await;
        match answer.status {
            206 => assert!(answer.body == bytes, "round {round}: piece {piece} is served wrong"),
            status => {
                let lost = committed.contains(&piece);
                assert!(!lost, "round {round}: piece {piece} was committed and is lost: {status} {}", answer.text());
                assert_eq!(status, 412, "round {round}: {}", answer.text());
            }
        }
    }
    assert_eq!(node.stats().bytes_downloaded, 0, "there is nobody to ask");
    node.stop().await;
}

/// Runs a gateway in a process of its own, kills it `life` after it began to download, and says which pieces it had.
fn live_and_die(dir: &Path, peer: SocketAddr, life: Duration) -> Vec<usize> {
    let mut child = this_test("stories::restart::a_child_downloads_until_it_is_killed")
        .env(CHILD_DIR, dir)
        .env(CHILD_PEER, peer.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = lines.filter_map(|line| line.split_once("committed ").map(|(_, it)| it.to_owned()));
    assert_eq!(said.next().as_deref(), Some("nothing yet"));
    let killer = std::thread::spawn(move || kill(child, life));
    let committed = said.filter_map(|line| line.parse().ok()).collect();
    killer.join().unwrap();
    committed
}

fn kill(mut child: Child, life: Duration) {
    std::thread::sleep(life);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The child of the story above: adds the torrent as a user does, reads all of it, and tells each piece that it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_downloads_until_it_is_killed() {
    let (Some(dir), Ok(peer)) = (std::env::var_os(CHILD_DIR), std::env::var(CHILD_PEER)) else { return };
    let content = content();
    let node = Node::start(&node::config(Path::new(&dir))).await.unwrap();
    let mut client = node.connect().await;
    let kind = [("content-type", "application/x-bittorrent")];
    let added = client.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert!(matches!(added.status, 200 | 201), "{}", added.text());
    say("nothing yet");
    let address = node.address();
    let path = format!("{}?x.pe={peer}", content.path(0));
    let reading =
        tokio::spawn(async move { swarmgate_tests::raw::Connection::open(address).await.get(&path, &[]).await });
    let engine = node.app.bittorrent().unwrap();
    let known = engine.known(&content.infohash()).unwrap();
    let len = u64::from(content.metainfo.info.piece_len);
    let mut told = vec![false; content.pieces()];
    while told.contains(&false) {
        for (piece, told) in (0..).zip(&mut told) {
            let end = ((piece + 1) * len).min(content.bytes.len() as u64);
            if !*told && known.has_range(piece * len..end) {
                *told = true;
                say(&piece.to_string());
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    reading.await.unwrap();
    // Long enough that only the parent ends it.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "committed {line}").unwrap();
    out.flush().unwrap();
}
