//! What is trusted after a stop, and what is not.

use std::fs;
use std::path::Path;

use swarmgate_content::BlockHash;
use swarmgate_store::{Store, StoreEvent};

use crate::kit::{bytes_on_disk, data, file_of, intact, name, options, put, reopen};

const MAX: u64 = 64 << 20;
const LENGTHS: [usize; 4] = [100, 16 * 1024, 100_000, 9 << 20];

async fn filled(dir: &Path) -> Store {
    let store = Store::open(options(dir, MAX)).await.unwrap();
    for (number, len) in LENGTHS.into_iter().enumerate() {
        put(&store, number as u64, len).await;
    }
    store
}

/// Flips one bit in the middle of a block's file.
fn damage(dir: &Path, hash: &BlockHash) {
    let path = file_of(dir, hash);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[tokio::test]
async fn a_clean_restart_keeps_all_and_hashes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    store.close().await;
    let before = fs::metadata(file_of(dir.path(), &name(&data(2, LENGTHS[2])))).unwrap().modified().unwrap();
    damage(dir.path(), &name(&data(2, LENGTHS[2])));
    let damaged = fs::File::open(file_of(dir.path(), &name(&data(2, LENGTHS[2])))).unwrap();
    damaged.set_modified(before).unwrap();
    let store = reopen(dir.path(), MAX).await;
    assert_eq!(store.usage().blocks, 4);
    for number in [0, 1, 3] {
        let at = usize::try_from(number).unwrap();
        assert!(intact(&store, number, LENGTHS[at]).await);
    }
    // One flipped bit under an unchanged time is what no clean stop leaves behind; that it is served proves that the
    // block was not hashed.
    let served = store.read_all(&name(&data(2, LENGTHS[2]))).await.unwrap().unwrap();
    assert!(served.as_ref() != data(2, LENGTHS[2]));
}

#[tokio::test]
async fn a_recheck_trusts_nothing_and_drops_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path()).await;
    assert!(intact(&store, 2, LENGTHS[2]).await, "it is in memory now");
    let broken = [name(&data(2, LENGTHS[2])), name(&data(3, LENGTHS[3]))];
    broken.iter().for_each(|hash| damage(dir.path(), hash));
    for hash in &broken {
        assert!(!store.recheck(hash).await.unwrap());
        assert!(!store.contains(hash));
    }
    for number in [0, 1] {
        let at = usize::try_from(number).unwrap();
        assert!(store.recheck(&name(&data(number, LENGTHS[at]))).await.unwrap());
        assert!(intact(&store, number, LENGTHS[at]).await);
    }
}

#[tokio::test]
async fn an_unclean_restart_serves_what_is_whole_and_drops_what_is_not() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let broken = [name(&data(2, LENGTHS[2])), name(&data(3, LENGTHS[3]))];
    broken.iter().for_each(|hash| damage(dir.path(), hash));
    let store = reopen(dir.path(), MAX).await;
    let mut events = store.subscribe();
    for hash in broken {
        assert!(store.contains(&hash), "nobody has looked yet");
        assert!(store.read(&hash, 0..10).await.unwrap().is_none(), "not even the part that is right");
        assert_eq!(events.recv().await.unwrap(), StoreEvent::Evicted(vec![hash]));
        assert!(!store.contains(&hash));
    }
    assert!(intact(&store, 0, LENGTHS[0]).await && intact(&store, 1, LENGTHS[1]).await);
    for number in [2, 3] {
        let at = usize::try_from(number).unwrap();
        put(&store, number, LENGTHS[at]).await;
        assert!(intact(&store, number, LENGTHS[at]).await, "it may come back");
    }
    assert!(broken.iter().all(|hash| file_of(dir.path(), hash).exists()));
}

#[tokio::test]
async fn a_put_over_a_block_that_nobody_has_proven_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    damage(dir.path(), &name(&data(2, LENGTHS[2])));
    let store = reopen(dir.path(), MAX).await;
    for number in 0..4 {
        let at = usize::try_from(number).unwrap();
        put(&store, number, LENGTHS[at]).await;
        assert!(intact(&store, number, LENGTHS[at]).await);
    }
    let usage = store.usage();
    assert_eq!((usage.blocks, usage.bytes), (4, LENGTHS.iter().sum::<usize>() as u64));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_block_asked_for_by_many_after_a_crash_is_hashed_and_then_served_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let store = reopen(dir.path(), MAX).await;
    let mut reads = tokio::task::JoinSet::new();
    for reader in 0..64u32 {
        let store = store.clone();
        let (number, len) = if reader % 2 == 0 { (3, LENGTHS[3]) } else { (2, LENGTHS[2]) };
        reads.spawn(async move {
            let start = reader * 1000;
            let read = store.read(&name(&data(number, len)), start..start + 1000).await.unwrap().unwrap();
            let at = start as usize;
            assert!(read.as_ref() == &data(number, len)[at..at + 1000]);
        });
    }
    while let Some(done) = reads.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn what_was_not_proven_before_a_clean_close_is_not_trusted_after_it() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let hash = name(&data(2, LENGTHS[2]));
    damage(dir.path(), &hash);
    for _ in 0..2 {
        reopen(dir.path(), MAX).await.close().await;
    }
    assert!(reopen(dir.path(), MAX).await.read(&hash, 0..1).await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_changed_between_two_clean_runs_is_hashed_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await;
    let hash = name(&data(2, LENGTHS[2]));
    damage(dir.path(), &hash);
    assert!(reopen(dir.path(), MAX).await.read(&hash, 0..1).await.unwrap().is_none());
}

#[tokio::test]
async fn files_cut_short_or_taken_away_behind_the_stores_back_are_missed_not_served() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await.close().await;
    let [short, gone] = [name(&data(2, LENGTHS[2])), name(&data(3, LENGTHS[3]))];
    let store = reopen(dir.path(), MAX).await;
    fs::File::options().write(true).open(file_of(dir.path(), &short)).unwrap().set_len(10).unwrap();
    fs::remove_file(file_of(dir.path(), &gone)).unwrap();
    assert!(store.read(&short, 0..100_000).await.unwrap().is_none());
    assert!(store.read(&gone, 0..1).await.unwrap().is_none());
    assert!(!store.contains(&short) && !store.contains(&gone));
}

#[tokio::test]
async fn the_order_of_use_survives_a_clean_restart() {
    let dir = tempfile::tempdir().unwrap();
    let max = 4 * 100_000;
    let store = Store::open(options(dir.path(), max)).await.unwrap();
    for number in 0..4 {
        put(&store, number, 100_000).await;
    }
    assert!(intact(&store, 0, 100_000).await, "used last");
    store.close().await;
    let store = reopen(dir.path(), max).await;
    put(&store, 4, 100_000).await;
    let here: Vec<_> = (0..5).map(|number| store.contains(&name(&data(number, 100_000)))).collect();
    assert_eq!(here, [true, false, true, true, true]);
}

#[tokio::test]
async fn half_written_files_of_a_crash_are_gone_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()).await);
    let before = bytes_on_disk(dir.path());
    fs::write(dir.path().join("tmp").join("99"), vec![0; 5000]).unwrap();
    let _store = reopen(dir.path(), MAX).await;
    assert_eq!(bytes_on_disk(dir.path()), before);
}
