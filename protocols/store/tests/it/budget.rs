//! The budget is never exceeded, whoever does what, and what is held is spared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use swarmgate_content::HashKind;
use swarmgate_store::{Amount, PutError, Store, StoreEvent, StoreOptions};

use crate::kit::{Kept, block, both, bytes_on_disk, data, intact, name, options, put};

const BLOCK: usize = 40_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_times_the_budget_by_many_writers_and_readers_never_exceeds_it() {
    const MAX: u64 = 20 * BLOCK as u64;
    for store in both(MAX).await {
        for pinned in 0..5 {
            store.pin("kept", [put(&store, pinned, BLOCK).await]);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let watch = watch(&store, MAX, &stop);
        let served = Arc::new(AtomicU64::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8u64 {
            let (store, served) = (Store::clone(&store), Arc::clone(&served));
            tasks.spawn(async move {
                for round in 0..25 {
                    let number = 100 + writer * 25 + round;
                    put(&store, number, if round % 4 == 0 { 3000 } else { BLOCK }).await;
                    let other = 100 + (number * 7) % 200;
                    let len = if (other - 100) % 25 % 4 == 0 { 3000 } else { BLOCK };
                    served.fetch_add(u64::from(intact(&store, other, len).await), Ordering::Relaxed);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        assert!(watch.join().unwrap() > 0);
        for pinned in 0..5 {
            assert!(intact(&store, pinned, BLOCK).await, "pinned block {pinned}");
        }
        let usage = store.usage();
        assert_eq!((usage.reserved_bytes, usage.pinned_bytes), (0, 5 * BLOCK as u64));
        assert!(usage.bytes > MAX / 2, "the budget is used: {usage:?}");
        assert!(served.load(Ordering::Relaxed) > 0);
    }
}

/// Looks at the accounts and the disk until told to stop; says how often it looked.
fn watch(store: &Kept, max: u64, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u32> {
    let (handle, stop) = (Store::clone(store), Arc::clone(stop));
    let dir = store.dir.as_ref().map(|dir| dir.path().to_owned());
    std::thread::spawn(move || {
        let mut looks = 0;
        while !stop.load(Ordering::Relaxed) {
            assert!(handle.usage().bytes <= max);
            if let Some(dir) = &dir {
                let found = bytes_on_disk(dir);
                // A file renamed while this looks is seen twice: one for each of the four that are written at once.
                assert!(found <= max + 4 * BLOCK as u64, "{found} bytes on disk");
            }
            looks += 1;
            std::thread::yield_now();
        }
        looks
    })
}

#[tokio::test]
async fn the_least_recently_read_goes_first_and_its_followers_hear_of_it() {
    for store in both(3 * BLOCK as u64).await {
        let hashes = [put(&store, 0, BLOCK).await, put(&store, 1, BLOCK).await, put(&store, 2, BLOCK).await];
        let mut events = store.subscribe();
        store.read(&hashes[0], 5..6).await.unwrap().unwrap();
        put(&store, 3, BLOCK).await;
        assert_eq!(hashes.map(|hash| store.contains(&hash)), [true, false, true]);
        assert_eq!(events.recv().await.unwrap(), StoreEvent::Evicted(vec![hashes[1]]));
    }
}

#[tokio::test]
async fn windows_spare_what_they_show_until_they_move_or_close() {
    for store in both(3 * BLOCK as u64).await {
        let (one, two) = (store.window(), store.window());
        let hashes: Vec<_> = (0..3).map(|number| name(&data(number, BLOCK))).collect();
        one.set(vec![hashes[0], hashes[1], hashes[1]]);
        two.set(vec![hashes[1], hashes[2]]);
        for number in 0..3 {
            put(&store, number, BLOCK).await;
        }
        assert_eq!(store.usage().protected_bytes, 3 * BLOCK as u64);
        let refused = store.put(block(&store, 3, BLOCK).await).await.unwrap_err();
        assert!(matches!(refused, PutError::Full { protected_bytes: 120_000, pinned_bytes: 0, .. }), "{refused}");
        assert_eq!(store.usage().reserved_bytes, 0);
        one.set(Vec::new());
        put(&store, 3, BLOCK).await;
        assert_eq!(hashes.iter().map(|hash| store.contains(hash)).collect::<Vec<_>>(), [false, true, true]);
        drop(two);
        put(&store, 4, BLOCK).await;
        put(&store, 5, BLOCK).await;
        assert!(hashes.iter().all(|hash| !store.contains(hash)));
        assert_eq!(store.usage().protected_bytes, 0);
    }
}

#[tokio::test]
async fn pins_spare_their_blocks_until_the_last_root_goes() {
    for store in both(2 * BLOCK as u64).await {
        let hash = name(&data(0, BLOCK));
        store.pin("one", [hash]);
        store.pin("two", [hash]);
        (0..5).for_each(|_| store.pin("two", [hash]));
        for number in 0..6 {
            put(&store, number, BLOCK).await;
        }
        assert!(intact(&store, 0, BLOCK).await);
        store.unpin("two");
        store.unpin("two");
        assert_eq!((store.pinned_roots(), store.usage().pinned_bytes), (vec!["one".to_owned()], BLOCK as u64));
        assert_eq!(store.clear().await.bytes, BLOCK as u64);
        assert!(intact(&store, 0, BLOCK).await);
        store.unpin("one");
        assert_eq!(store.clear().await.bytes, BLOCK as u64);
        assert_eq!((store.usage().blocks, store.usage().bytes), (0, 0));
    }
}

#[tokio::test]
async fn what_is_collected_is_the_oldest_that_nobody_holds_and_no_more_than_asked_for() {
    for store in both(8 * BLOCK as u64).await {
        let mut hashes = Vec::new();
        for number in 0..6 {
            hashes.push(put(&store, number, BLOCK).await);
        }
        store.pin("kept", [hashes[0]]);
        let nothing = Amount::default();
        assert_eq!(store.collect(u64::MAX).await, nothing);
        assert_eq!(store.collect(6 * BLOCK as u64).await, nothing);
        let two = Amount { blocks: 2, bytes: 2 * BLOCK as u64 };
        assert_eq!(store.collect(4 * BLOCK as u64).await, two);
        let left: Vec<_> = hashes.iter().map(|hash| store.contains(hash)).collect();
        assert_eq!(left, [true, false, false, true, true, true]);
        let window = store.window();
        window.set(vec![hashes[5]]);
        assert_eq!(store.collect(0).await, two, "what is pinned stays, and what is being read");
        assert_eq!(store.usage().bytes, 2 * BLOCK as u64);
    }
}

#[tokio::test]
async fn what_is_here_is_told_by_hash_by_root_and_by_name() {
    for store in both(1 << 20).await {
        let (one, two) = (put(&store, 1, 1000).await, put(&store, 2, 100_000).await);
        let other = HashKind::Sha2_256.hash(b"block");
        store.put(store.verifier().verify(other, "block".into()).await.unwrap()).await.unwrap();
        let pieces = Amount { blocks: 2, bytes: 101_000 };
        let blocks = Amount { blocks: 1, bytes: 5 };
        assert_eq!(store.kinds(), [(HashKind::Sha1, pieces), (HashKind::Sha2_256, blocks)]);
        store.pin("film", [one, two, name(&data(3, 10))]);
        assert_eq!((store.amount_of_root("film"), store.amount_of_root("none")), (pieces, Amount::default()));
        let mut found: Vec<_> = (0..=u8::MAX).flat_map(|first| store.blocks_at(first)).collect();
        found.sort_unstable();
        let mut expected = vec![(one, 1000), (two, 100_000), (other, 5)];
        expected.sort_unstable();
        assert_eq!(found, expected);
        store.remove(&other).await;
        assert_eq!(store.kinds(), [(HashKind::Sha1, pieces)]);
    }
}

#[tokio::test]
async fn a_block_longer_than_the_budget_is_refused_at_once() {
    for store in both(1000).await {
        put(&store, 0, 900).await;
        let refused = store.put(block(&store, 1, 1001).await).await.unwrap_err();
        assert!(matches!(refused, PutError::TooLarge { len: 1001, limit: 1000 }), "{refused}");
        assert!(intact(&store, 0, 900).await, "nothing was evicted for it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn puts_dropped_midway_give_their_room_back() {
    for store in both(4 * BLOCK as u64).await {
        for number in 0..200 {
            let block = block(&store, number, if number % 3 == 0 { 2000 } else { BLOCK }).await;
            let handle = Store::clone(&store);
            let task = tokio::spawn(async move { handle.put(block).await });
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
            task.abort();
            let _ = task.await;
        }
        // Room that leaked would make this wait for ever.
        let window = store.window();
        let four: Vec<_> = (500..504).map(|number| name(&data(number, BLOCK))).collect();
        window.set(four);
        for number in 500..504 {
            put(&store, number, BLOCK).await;
        }
        assert_eq!(store.usage().reserved_bytes, 0);
        assert_eq!((store.usage().blocks, store.usage().bytes), (4, 4 * BLOCK as u64));
    }
}

#[tokio::test]
async fn a_failing_disk_is_an_error_that_costs_nothing_but_the_put() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), 4 * BLOCK as u64)).await.unwrap();
    put(&store, 0, BLOCK).await;
    std::fs::remove_dir(dir.path().join("tmp")).unwrap();
    for number in 1..10 {
        let refused = store.put(block(&store, number, BLOCK).await).await.unwrap_err();
        assert!(matches!(refused, PutError::Io(_)), "{refused}");
        assert!(refused.to_string().starts_with("writing block sha1:"), "{refused}");
    }
    assert_eq!((store.usage().bytes, store.usage().reserved_bytes), (BLOCK as u64, 0));
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    put(&store, 1, BLOCK).await;
    assert!(intact(&store, 0, BLOCK).await && intact(&store, 1, BLOCK).await);
}

#[tokio::test]
async fn a_budget_lowered_between_two_runs_is_kept_from_the_first_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(options(dir.path(), 10 * BLOCK as u64)).await.unwrap();
    for number in 0..10 {
        put(&store, number, BLOCK).await;
    }
    store.pin("kept", [name(&data(0, BLOCK))]);
    store.close().await;
    let max = 3 * BLOCK as u64;
    let store = Store::open(options(dir.path(), max)).await.unwrap();
    assert!(store.usage().bytes <= max && bytes_on_disk(dir.path()) <= max);
    assert!(intact(&store, 0, BLOCK).await && intact(&store, 9, BLOCK).await && intact(&store, 8, BLOCK).await);
}

#[tokio::test]
async fn a_volume_that_has_to_keep_more_than_it_has_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { min_free_bytes: u64::MAX / 2, ..options(dir.path(), 1 << 30) };
    let store = Store::open(options).await.unwrap();
    for len in [100, BLOCK] {
        let refused = store.put(block(&store, 1, len).await).await.unwrap_err();
        assert!(matches!(refused, PutError::LowDisk { free_bytes: 1.., .. }), "{refused}");
    }
    assert_eq!(store.usage().reserved_bytes, 0);
}
