//! `kill -9` at any moment loses no committed block, and no reference to one.
//!
//! The parent runs this test binary again, asking for one of the tests below that are none unless told a directory; that
//! child puts or refers blocks and prints a line for each that is committed, until it is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarmgate_store::{Origin, Part, Reference, Store};

use crate::kit::{block, data, intact, name, options, reopen};

const DIR: &str = "SWARMGATE_STORE_TEST_DIR";
const FIRST: &str = "SWARMGATE_STORE_TEST_FIRST";
const PUTTING: &str = "killed::a_child_puts_blocks_until_it_is_killed";
const REFERRING: &str = "killed::a_child_refers_blocks_until_it_is_killed";
const ROUNDS: u64 = 20;

/// Large enough that nothing is evicted: every block printed must be there.
const MAX: u64 = 8 << 30;

/// Small blocks, large blocks, and some that take a while to write.
fn len_of(number: u64) -> usize {
    match number % 8 {
        0 => 3_000_000 + usize::try_from(number % 1000).unwrap(),
        1..=4 => 100_000 + usize::try_from(number % 1000).unwrap(),
        _ => 1000 + usize::try_from(number % 1000).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_puts_blocks_until_it_is_killed() {
    let (Some(dir), Ok(first)) = (std::env::var_os(DIR), std::env::var(FIRST)) else { return };
    let first: u64 = first.parse().unwrap();
    let store = Store::open(options(Path::new(&dir), MAX)).await.unwrap();
    say("open");
    let mut puts = tokio::task::JoinSet::new();
    for number in first..first + 10_000 {
        let store = store.clone();
        puts.spawn(async move {
            store.put(block(&store, number, len_of(number)).await).await.unwrap();
            say(&number.to_string());
        });
        if puts.len() >= 6 {
            puts.join_next().await.unwrap().unwrap();
        }
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "committed {line}").unwrap();
    out.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_no_committed_block_and_serves_no_false_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut committed: Vec<u64> = Vec::new();
    for round in 0..ROUNDS {
        let first = round * 10_000;
        // Spread over the first blocks, and beyond what one commit of the index takes.
        let after = Duration::from_millis(round * 37 % 150);
        let (new, highest) = run_and_kill(PUTTING, dir.path(), first, after, round % 5 == 4);
        committed.extend(new);
        let store = reopen(dir.path(), MAX).await;
        for number in committed.iter().filter(|number| **number >= first || **number % 5 == round % 5) {
            assert!(intact(&store, *number, len_of(*number)).await, "block {number} was committed and is lost");
        }
        // Blocks that nobody was told of may be there or not, but never wrong.
        for number in first..highest + 12 {
            intact(&store, number, len_of(number)).await;
        }
        assert!(!store.contains(&name(&data(first + 9_999, len_of(first + 9_999)))));
    }
    println!("{} blocks were committed in {ROUNDS} lives", committed.len());
    assert!(committed.len() > usize::try_from(ROUNDS).unwrap(), "the children got to work");
}

/// How many blocks of a file a child refers at most, each of so many bytes.
const REFERRED: u64 = 200;
const REFERRED_BYTES: usize = 1000;

/// A block of the file beside the store's directory.
fn referred(number: u64) -> Bytes {
    data(1_000_000 + number, REFERRED_BYTES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_refers_blocks_until_it_is_killed() {
    let (Some(dir), Ok(first)) = (std::env::var_os(DIR), std::env::var(FIRST)) else { return };
    let (dir, first) = (Path::new(&dir), first.parse::<u64>().unwrap());
    let store = Store::open(options(dir, MAX)).await.unwrap();
    let film = dir.with_file_name("film");
    let origin = Arc::new(Origin::new(&film, &std::fs::metadata(&film).unwrap()).unwrap());
    say("open");
    for number in first..first + REFERRED {
        let block = store.verifier().verify(name(&referred(number)), referred(number)).await.unwrap();
        let offset = number * REFERRED_BYTES as u64;
        let part = Part { origin: Arc::clone(&origin), offset, len: u32::try_from(REFERRED_BYTES).unwrap() };
        store.refer("film", &[Reference::new(&block, vec![part]).unwrap()]).await.unwrap();
        say(&number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_no_reference_that_was_committed() {
    const LIVES: u64 = 5;
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("store");
    let film: Vec<u8> = (0..LIVES * REFERRED).flat_map(referred).collect();
    std::fs::write(dir.path().join("film"), film).unwrap();
    let mut committed: Vec<u64> = Vec::new();
    for life in 0..LIVES {
        let (new, _) = run_and_kill(REFERRING, &home, life * REFERRED, Duration::from_millis(life * 31), false);
        committed.extend(new);
        let store = reopen(&home, MAX).await;
        for number in &committed {
            let read = store.read_all(&name(&referred(*number))).await.unwrap();
            assert!(read.is_some_and(|read| read.as_ref() == referred(*number)), "block {number} was committed");
        }
        let usage = store.usage();
        assert!(usage.referenced_blocks >= committed.len() as u64 && usage.blocks == 0);
    }
    assert!(committed.len() > usize::try_from(LIVES).unwrap(), "the children got to work");
    let store = reopen(&home, MAX).await;
    store.unpin("film");
    assert_eq!(store.usage().referenced_blocks, 0);
}

/// Runs a child for a while after its store is open, or after it was started; says what it committed.
fn run_and_kill(test: &str, dir: &Path, first: u64, after: Duration, while_opening: bool) -> (Vec<u64>, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said =
        lines.map_while(Result::ok).filter_map(|line| line.split_once("committed ").map(|(_, it)| it.to_owned()));
    if !while_opening {
        assert_eq!(said.next().as_deref(), Some("open"));
    }
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let committed: Vec<u64> = said.filter_map(|line| line.parse().ok()).collect();
    killer.join().unwrap();
    let highest = committed.iter().copied().max().unwrap_or(first);
    (committed, highest)
}
