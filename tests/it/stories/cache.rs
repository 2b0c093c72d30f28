//! The cache's budget is hard, whatever goes through it, and what is pinned stays.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use swarmgate_config::Size;
use swarmgate_tests::node::{Content, Node, Seeder};

use super::MIB;

/// The budget.
const BUDGET: u32 = 64;
/// The content: twice the budget, read so often that ten budgets go through the cache.
const CONTENT: usize = 128 * MIB;
const PASSES: usize = 5;
/// What the index and the directory may take beside the blocks.
const SLACK: u64 = 4 * MIB as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_budgets_read_through_the_cache_never_exceed_it_and_leave_the_pinned_alone() {
    let kept = Content::single("kept.bin", 21, 8 * MIB + 5, 256 * 1024);
    let passing = Content::single("passing.bin", 22, CONTENT, 256 * 1024);
    let (keeper, seeder) = (Seeder::start(&kept).await, Seeder::start(&passing).await);
    let node = Node::with(|config| {
        config.cache.max_size = Size::mib(BUDGET);
        config.cache.memory = Size::mib(8);
    })
    .await;
    node.learn(&kept, &[keeper.address()]).await;
    let mut client = node.connect().await;
    assert!(client.get(&kept.path(0), &[]).await.body == kept.bytes);
    let all = (0..kept.pieces()).map(|piece| kept.piece_hash(piece)).chain([kept.infohash().into()]);
    node.app.store().pin("kept", all);
    keeper.stop().await;

    node.learn(&passing, &[seeder.address()]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn(watch(node.app.store().clone(), node.dir().to_owned(), stop.clone()));
    for _ in 0..PASSES {
        client.send("GET", &passing.path(0), &[]).await.unwrap();
        assert_eq!(client.head().await.unwrap().status, 200);
        let mut read = 0;
        while read < CONTENT {
            let some = client.some(CONTENT - read).await.unwrap();
            assert!(some == passing.bytes[read..read + some.len()], "other bytes after {read}");
            read += some.len();
        }
    }
    stop.store(true, Ordering::Relaxed);
    let (samples, highest, on_disk) = watch.await.unwrap();
    eprintln!("{samples} samples, at most {highest} bytes in the books and {on_disk} on the disk");
    let budget = u64::from(BUDGET) * MIB as u64;
    assert!(samples > 10 && highest > budget / 2, "{samples} samples, {highest} bytes at most: nothing was seen");
    assert!(highest <= budget, "{highest} bytes of {budget}");
    assert!(on_disk <= budget + SLACK, "{on_disk} bytes on the disk of {budget}");
    assert!(node.stats().bytes_downloaded > 9 * budget, "the cache cannot have held what went through it");

    let answer = client.get(&kept.path(0), &[("cache-control", "only-if-cached")]).await;
    assert_eq!(answer.status, 200, "pinned, and its peer is gone: {}", answer.text());
    assert!(answer.body == kept.bytes);
    node.stop().await;
    seeder.stop().await;
}

/// Looks at the books and at the disk until told to stop; says how often and the highest sums.
async fn watch(store: swarmgate_store::Store, dir: std::path::PathBuf, stop: Arc<AtomicBool>) -> (usize, u64, u64) {
    let (mut samples, mut highest, mut on_disk) = (0, 0, 0);
    while !stop.load(Ordering::Relaxed) {
        let dir = dir.clone();
        on_disk = on_disk.max(tokio::task::spawn_blocking(move || bytes_below(&dir)).await.unwrap());
        highest = highest.max(store.usage().bytes);
        samples += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (samples, highest, on_disk)
}

/// The lengths of all files below a directory. Files come and go while this looks.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let found = entry.metadata().ok()?;
        Some(if found.is_dir() { bytes_below(&entry.path()) } else { found.len() })
    });
    sizes.sum()
}
