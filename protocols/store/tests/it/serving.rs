//! What comes in comes out.

use std::sync::Arc;

use swarmgate_content::BlockHash;
use swarmgate_store::{PutError, ReadError, RecordError, Store, StoreEvent, StoreOptions};

use crate::kit::{block, both, data, file_of, intact, name, options, put};

const MIB: usize = 1 << 20;

/// Rows, files, and a file too long for the cache.
const LENGTHS: [usize; 6] = [0, 1, 16 * 1024, 16 * 1024 + 1, 300_000, 9 * MIB];

#[tokio::test]
async fn every_range_of_every_kind_of_block_is_served() {
    for store in both(64 << 20).await {
        for (number, len) in LENGTHS.into_iter().enumerate() {
            let hash = put(&store, number as u64, len).await;
            let data = data(number as u64, len);
            assert!(store.contains(&hash));
            assert_eq!(store.block_len(&hash), Some(u32::try_from(len).unwrap()));
            for (start, end) in [(0, len), (0, len / 2), (len / 3, len), (len / 3, len / 2), (len, len)] {
                let range = u32::try_from(start).unwrap()..u32::try_from(end).unwrap();
                let read = store.read(&hash, range).await.unwrap().unwrap();
                assert!(read.as_ref() == &data[start..end], "{start}..{end} of {len}");
            }
        }
        assert_eq!(store.usage().blocks, LENGTHS.len() as u64);
        assert_eq!(store.usage().bytes, LENGTHS.iter().sum::<usize>() as u64);
    }
}

#[tokio::test]
async fn a_range_beyond_the_block_is_an_error_and_an_unknown_block_is_none() {
    for store in both(1 << 20).await {
        let hash = put(&store, 1, 100).await;
        let error = store.read(&hash, 50..101).await.unwrap_err();
        assert!(matches!(error, ReadError::OutOfRange { start: 50, end: 101, len: 100, .. }), "{error}");
        assert!(store.read(&BlockHash::sha1([1; 20]), 0..1).await.unwrap().is_none());
        assert!(store.read_all(&BlockHash::sha1([1; 20])).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn putting_a_block_again_changes_nothing() {
    for store in both(1 << 20).await {
        for _ in 0..3 {
            put(&store, 1, 100_000).await;
        }
        assert_eq!((store.usage().blocks, store.usage().bytes), (1, 100_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_block_put_by_many_at_once_is_stored_once() {
    for store in both(1 << 20).await {
        for (number, len) in [(1, 100_000), (2, 100)] {
            let block = block(&store, number, len).await;
            let mut puts = tokio::task::JoinSet::new();
            for _ in 0..32 {
                let (store, block) = (Store::clone(&store), block.clone());
                puts.spawn(async move { store.put(block).await });
            }
            while let Some(done) = puts.join_next().await {
                done.unwrap().unwrap();
            }
            assert!(intact(&store, number, len).await);
        }
        let usage = store.usage();
        assert_eq!((usage.blocks, usage.bytes, usage.reserved_bytes), (2, 100_100, 0));
    }
}

#[tokio::test]
async fn a_removed_block_is_gone_and_its_followers_hear_of_it() {
    for store in both(1 << 20).await {
        let mut events = store.subscribe();
        for len in [100, 100_000] {
            let hash = put(&store, 1, len).await;
            assert!(store.remove(&hash).await);
            assert!(!store.remove(&hash).await);
            assert!(!store.contains(&hash) && !intact(&store, 1, len).await);
            assert_eq!(events.recv().await.unwrap(), StoreEvent::Evicted(vec![hash]));
            if let Some(dir) = &store.dir {
                assert!(!file_of(dir.path(), &hash).exists());
            }
            assert!(store.usage().bytes == 0 && store.usage().memory_bytes == 0);
            put(&store, 1, len).await;
            assert!(intact(&store, 1, len).await, "it may come back");
            store.remove(&hash).await;
            events.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_same_number_under_two_hashes_is_two_blocks() {
    for store in both(1 << 20).await {
        let data = data(1, 1000);
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &data);
        let sha2 = BlockHash::sha2_256(sum.as_ref().try_into().unwrap());
        for hash in [name(&data), sha2] {
            store.put(store.verifier().verify(hash, data.clone()).await.unwrap()).await.unwrap();
            assert_eq!(store.read_all(&hash).await.unwrap().unwrap().as_ref(), data);
        }
        assert_eq!(store.usage().blocks, 2);
    }
}

#[tokio::test]
async fn two_stores_in_one_process_know_nothing_of_each_other() {
    let [one, two] = [both(1 << 20).await, both(1 << 20).await];
    for (one, two) in one.iter().zip(&two) {
        let hash = put(one, 1, 100_000).await;
        assert!(!two.contains(&hash));
        assert_eq!(two.usage().bytes, 0);
    }
}

#[tokio::test]
async fn the_same_directory_twice_is_refused_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(options(dir.path(), 1 << 20)).await.unwrap();
    let error = Store::open(options(dir.path(), 1 << 20)).await.unwrap_err();
    assert!(error.to_string().contains("is in use by another running instance"), "{error}");
    first.close().await;
    Store::open(options(dir.path(), 1 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_refuses_and_closes_again_without_harm() {
    for store in both(1 << 20).await {
        let hash = put(&store, 1, 100_000).await;
        let block = block(&store, 2, 100).await;
        tokio::join!(store.close(), store.close());
        store.close().await;
        assert!(matches!(store.put(block).await, Err(PutError::Closed)));
        assert!(matches!(store.read(&hash, 0..1).await, Err(ReadError::Closed)));
        assert!(matches!(store.get_record("table", b"key").await, Err(RecordError::Closed)));
        assert!(!store.remove(&hash).await);
        assert_eq!(store.clear().await.bytes, 0);
        store.pin("root", [hash]);
        store.unpin("root");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn closing_waits_for_what_is_under_way_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), 64 << 20)).await.unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for number in 0..40 {
        let block = block(&store, number, if number % 2 == 0 { 500_000 } else { 5000 }).await;
        let store = store.clone();
        puts.spawn(async move { (*block.hash(), store.put(block).await.is_ok()) });
    }
    tokio::task::yield_now().await;
    store.close().await;
    let store = Store::open(options(dir.path(), 64 << 20)).await.unwrap();
    while let Some(done) = puts.join_next().await {
        let (hash, stored) = done.unwrap();
        assert_eq!(store.contains(&hash), stored);
    }
}

#[tokio::test]
async fn recently_used_blocks_are_served_from_memory_within_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { memory_bytes: 1_000_000, ..options(dir.path(), 64 << 20) };
    let store = Store::open(options).await.unwrap();
    let hashes = [put(&store, 0, 400_000).await, put(&store, 1, 400_000).await, put(&store, 2, 400_000).await];
    assert_eq!(store.usage().memory_bytes, 800_000);
    std::fs::write(file_of(dir.path(), &hashes[2]), b"not read").unwrap();
    assert!(intact(&store, 2, 400_000).await, "2 is in memory");
    assert!(intact(&store, 0, 400_000).await, "0 is on disk, and in memory from now on");
    assert_eq!(store.usage().memory_bytes, 800_000);
    std::fs::write(file_of(dir.path(), &hashes[0]), b"not read").unwrap();
    assert!(intact(&store, 0, 400_000).await);
}

#[tokio::test]
async fn a_block_whose_reader_has_it_takes_no_memory_until_it_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), 64 << 20)).await.unwrap();
    store.put_cold(block(&store, 0, 400_000).await).await.unwrap();
    assert_eq!((store.usage().bytes, store.usage().memory_bytes), (400_000, 0));
    assert!(intact(&store, 0, 400_000).await);
    assert_eq!(store.usage().memory_bytes, 400_000);
    let store = Store::open(StoreOptions::in_memory(500_000)).await.unwrap();
    store.put_cold(block(&store, 0, 400_000).await).await.unwrap();
    assert!(intact(&store, 0, 400_000).await, "memory is all that a store in memory has");
}

#[tokio::test]
async fn a_store_belongs_to_no_global_and_its_handles_go_between_tasks() {
    const fn sent<T: Send + Sync + Clone + 'static>() {}
    sent::<Store>();
    let store = Arc::new(Store::open(StoreOptions::in_memory(1000)).await.unwrap());
    let other = Arc::clone(&store);
    tokio::spawn(async move { put(&other, 1, 10).await }).await.unwrap();
    assert!(intact(&store, 1, 10).await);
}
