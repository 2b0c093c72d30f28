//! `kill -9` at any moment loses no committed block.
//!
//! The parent runs this test binary again, asking for the test below that is none unless told a directory; that child
//! puts blocks and prints a line for each that is committed, until it is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use swarmgate_store::Store;

use crate::kit::{block, data, intact, name, options, reopen};

const DIR: &str = "SWARMGATE_STORE_TEST_DIR";
const FIRST: &str = "SWARMGATE_STORE_TEST_FIRST";
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
        let (new, highest) = run_and_kill(dir.path(), first, after, round % 5 == 4);
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

/// Runs a child for a while after its store is open, or after it was started; says what it committed.
fn run_and_kill(dir: &Path, first: u64, after: Duration, while_opening: bool) -> (Vec<u64>, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::a_child_puts_blocks_until_it_is_killed", "--nocapture", "--test-threads=1"])
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
