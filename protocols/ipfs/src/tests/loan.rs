use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use swarmgate_content::{
    BlockHash, BoxFuture, ByteRange, Cid, ContentReader, DagLoan, FailureClass, FetchError, FetchErrorKind, HashKind,
    Leaf, Leaves, VerifiedBytes,
};
use swarmgate_ipfs_proto::block::check;
use swarmgate_ipfs_proto::build::Profile;

use crate::blocks::Blocks;
use crate::patience::Patience;
use crate::session::SessionOptions;
use crate::source::Entity;
use crate::testing::{Dag, Habit, PATIENCE, PROFILE, Shelf, blocks, noise};

const AT_ONCE: Duration = Duration::from_millis(1);
const CHUNK: u64 = 1024;

/// Leaves without and with a frame around their bytes.
const PROFILES: [Profile; 2] = [PROFILE, Profile { legacy: true, ..PROFILE }];

/// Somebody who gets leaves by other ways.
#[derive(Debug, Default)]
struct Others {
    /// What they bring, and after how long.
    bring: BTreeMap<Cid, (Duration, VerifiedBytes)>,
    /// That they have not a leaf they say after a moment, and not at once.
    hesitate: bool,
    /// What they promise and never bring.
    never: Option<Cid>,
    asked: Mutex<Vec<Leaf>>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Others {
    /// They have these blocks of a DAG.
    fn with(dag: &Dag, cids: &[Cid]) -> Self {
        let had = dag.blocks.iter().filter(|block| cids.contains(&block.cid));
        let bring = had.map(|block| (block.cid, (Duration::ZERO, check(&block.cid, block.bytes.clone()).unwrap())));
        Self { bring: bring.collect(), ..Self::default() }
    }

    fn asked_for(&self) -> BTreeSet<Cid> {
        self.asked.lock().iter().map(|leaf| leaf.cid).collect()
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Leaves for Others {
    fn leaf(&self, leaf: Leaf) -> Option<BoxFuture<'static, Option<VerifiedBytes>>> {
        self.asked.lock().push(leaf);
        let running = Running::begin(&self.running);
        if self.never == Some(leaf.cid) {
            return Some(Box::pin(async move {
                let _running = running;
                std::future::pending().await
            }));
        }
        let brought = self.bring.get(&leaf.cid).cloned();
        if brought.is_none() && !self.hesitate {
            return None;
        }
        Some(Box::pin(async move {
            let _running = running;
            let (after, block) = brought.map_or((AT_ONCE, None), |(after, block)| (after, Some(block)));
            tokio::time::sleep(after).await;
            block
        }))
    }
}

/// A file whose root links to all of its leaves, with their names.
fn flat(profile: Profile, bytes: &[u8]) -> (Dag, Vec<Cid>) {
    let dag = Dag::of(Profile { links_per_node: 1000, ..profile }, bytes);
    let leaves = dag.blocks[..dag.blocks.len() - 1].iter().map(|block| block.cid).collect();
    (dag, leaves)
}

fn lend(blocks: &Arc<Blocks>, dag: &Dag) -> Arc<dyn DagLoan> {
    blocks.session(SessionOptions::default()).lend(dag.root())
}

fn all() -> ByteRange {
    ByteRange::full(u64::MAX).unwrap()
}

async fn read(reader: ContentReader) -> Result<Vec<u8>, FetchError> {
    reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await
}

fn nth(leaves: &[Cid], nth: usize) -> Leaf {
    Leaf { cid: leaves[nth], offset: nth as u64 * CHUNK, len: CHUNK }
}

#[tokio::test(start_paused = true)]
async fn who_has_all_leaves_leaves_nodes_of_links_to_ipfs() {
    let bytes = noise(40 * 1024 + 7);
    for profile in PROFILES {
        let (_, leaves) = flat(profile, &bytes);
        let dag = Dag::of(profile, &bytes);
        let nodes: BTreeSet<Cid> =
            dag.blocks.iter().map(|block| block.cid).filter(|cid| !leaves.contains(cid)).collect();
        let (shelf, others) =
            (Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag), Arc::new(Others::with(&dag, &leaves)));
        let loan = lend(&blocks([shelf.clone()]).await, &dag);
        assert!(read(loan.read(all(), others.clone())).await.unwrap() == bytes);
        let asked = shelf.asked_for();
        assert_eq!((asked.len(), asked.into_iter().collect::<BTreeSet<_>>()), (nodes.len(), nodes));
        assert!(!others.asked_for().contains(&dag.root()), "the root is asked of IPFS alone");
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_are_asked_for_in_the_order_of_the_file_with_their_places_and_only_those_of_the_range() {
    let bytes = noise(20 * 1024 + 7);
    for profile in PROFILES {
        let (dag, leaves) = flat(profile, &bytes);
        let (shelf, others) =
            (Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag), Arc::new(Others::with(&dag, &leaves)));
        let loan = lend(&blocks([shelf.clone()]).await, &dag);
        let range = ByteRange::new(17 * CHUNK + 5, u64::MAX).unwrap();
        assert!(read(loan.read(range, others.clone())).await.unwrap() == bytes[17 * 1024 + 5..]);
        let last = Leaf { len: 7, ..nth(&leaves, 20) };
        assert_eq!(*others.asked.lock(), [nth(&leaves, 17), nth(&leaves, 18), nth(&leaves, 19), last]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_have_not_comes_over_ipfs() {
    let bytes = noise(40 * 1024 + 7);
    for profile in PROFILES {
        for hesitate in [false, true] {
            let (dag, leaves) = flat(profile, &bytes);
            let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
            let loan = lend(&blocks([shelf.clone()]).await, &dag);
            let others = Arc::new(Others { hesitate, ..Others::default() });
            assert!(read(loan.read(all(), others)).await.unwrap() == bytes);
            assert_eq!(shelf.asked_for().len(), dag.blocks.len());
            let asked = shelf.asked.lock();
            assert_eq!(asked[0].within, None, "who sends the root is not to send leaves along");
            let third = asked.iter().find(|want| want.cid == leaves[3]).unwrap();
            let end = if hesitate { 4 * CHUNK } else { bytes.len() as u64 };
            let bytes = ByteRange::new(3 * CHUNK, end);
            assert_eq!(third.within, Some(Entity { root: dag.root(), bytes }), "hesitate: {hesitate}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_block_that_does_not_fit_is_fetched_instead() {
    let bytes = noise(3 * 1024);
    for profile in PROFILES {
        let (dag, leaves) = flat(profile, &bytes);
        let mut others = Others::with(&dag, &leaves);
        let short = dag.blocks[1].bytes.slice(..700);
        let (_, other) = VerifiedBytes::name(HashKind::Sha2_256, short);
        others.bring.insert(leaves[1], (Duration::ZERO, other));
        let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
        let loan = lend(&blocks([shelf.clone()]).await, &dag);
        assert!(read(loan.read(all(), Arc::new(others))).await.unwrap() == bytes);
        assert_eq!(shelf.asked_for(), [dag.root(), leaves[1]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_that_never_comes_holds_only_the_reader_that_is_at_it() {
    let bytes = noise(3 * 1024);
    let (dag, leaves) = flat(PROFILE, &bytes);
    let others = Arc::new(Others { never: Some(leaves[1]), ..Others::with(&dag, &leaves) });
    let loan = lend(&blocks([Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag)]).await, &dag);
    let mut reader = loan.read(all(), others.clone());
    assert_eq!(reader.next().await.unwrap().unwrap().as_ref(), &bytes[..1024]);
    assert!(tokio::time::timeout(Duration::from_secs(10), reader.next()).await.is_err(), "it waits for the second");
    let behind = ByteRange::new(2 * CHUNK, 3 * CHUNK).unwrap();
    assert!(read(loan.read(behind, others.clone())).await.unwrap() == bytes[2048..]);
    assert_eq!(others.running(), 1);
    drop(reader);
    assert_eq!(others.running(), 0, "it is withdrawn");
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_patient_while_leaves_come_and_gives_up_when_none_does() {
    let bytes = noise(8 * 1024);
    let (dag, leaves) = flat(PROFILE, &bytes);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let brief = Duration::from_secs(5);
    let patience = Patience { first_byte: brief, stall: brief, ..PATIENCE };
    let options = SessionOptions { patience: Some(patience), ..SessionOptions::default() };
    let loan = blocks([shelf]).await.session(options).lend(dag.root());

    let mut others = Others::with(&dag, &leaves);
    for (nth, leaf) in leaves.iter().enumerate() {
        let seconds = if nth == 0 { 30 } else { 4 * nth as u64 };
        others.bring.get_mut(leaf).unwrap().0 = Duration::from_secs(seconds);
    }
    assert!(read(loan.read(all(), Arc::new(others))).await.unwrap() == bytes);

    let others = Arc::new(Others { never: Some(leaves[0]), ..Others::with(&dag, &leaves) });
    let (began, gave_up) = (tokio::time::Instant::now(), read(loan.read(all(), others.clone())).await.unwrap_err());
    assert_eq!((gave_up.kind, others.running()), (FetchErrorKind::TimedOut, 0));
    assert!((brief..2 * brief).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_loan_outlives_the_patience_of_each_of_its_readers() {
    let bytes = noise(4 * 1024);
    let (dag, leaves) = flat(PROFILE, &bytes);
    let shelf = Shelf::new("a", Habit::Honest, Duration::from_secs(3)).with(&dag);
    let patience = Patience { total: Duration::from_secs(8), ..PATIENCE };
    let options = SessionOptions { patience: Some(patience), ..SessionOptions::default() };
    let loan = blocks([shelf]).await.session(options).lend(dag.root());
    for leaf in 0..4 {
        assert_eq!(loan.fetch(nth(&leaves, leaf)).await.unwrap().len(), 1024, "12 s are waited in all");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_is_not_asked_of_others() {
    let bytes = noise(4 * 1024);
    let (dag, leaves) = flat(PROFILE, &bytes);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let (blocks, others) = (blocks([shelf.clone()]).await, Arc::new(Others::with(&dag, &leaves)));
    let loan = lend(&blocks, &dag);
    assert_eq!(loan.fetch(nth(&leaves, 2)).await.unwrap().as_ref(), &bytes[2048..3072]);
    assert!(read(loan.read(all(), others.clone())).await.unwrap() == bytes);
    assert_eq!(others.asked_for(), [leaves[0], leaves[1], leaves[3]].into());
    assert_eq!(shelf.asked_for(), [leaves[2], dag.root()]);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_one_block_is_asked_of_ipfs() {
    let dag = Dag::file(&noise(700));
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let others = Arc::new(Others::with(&dag, &[dag.root()]));
    let loan = lend(&blocks([shelf.clone()]).await, &dag);
    assert_eq!(read(loan.read(all(), others.clone())).await.unwrap(), noise(700));
    assert!(others.asked.lock().is_empty() && shelf.asked_for() == [dag.root()]);
}

#[tokio::test]
async fn what_is_admitted_is_in_the_store_and_peers_are_told() {
    for chunk_bytes in [1024, 100_000] {
        for profile in PROFILES {
            let bytes = noise(3 * chunk_bytes);
            let (dag, leaves) = flat(Profile { chunk_bytes, ..profile }, &bytes);
            let shelf = Shelf::new("a", Habit::Honest, AT_ONCE);
            let blocks = blocks([shelf.clone()]).await;
            let loan = lend(&blocks, &dag);
            let leaf = Leaf { cid: leaves[1], offset: chunk_bytes as u64, len: chunk_bytes as u64 };
            let part = Bytes::copy_from_slice(&bytes[chunk_bytes..2 * chunk_bytes]);
            let long = vec![0; (2 << 20) + 1];
            for wrong in [&bytes[..chunk_bytes], &part[1..], &[], &long] {
                let refused = loan.admit(leaf, Bytes::copy_from_slice(wrong)).await.unwrap_err();
                assert_eq!(refused.class, FailureClass::Corruption, "{refused}");
            }
            assert_eq!(loan.admit(leaf, part.clone()).await.unwrap().as_ref(), dag.blocks[1].bytes, "with its frame");
            assert_eq!(loan.admit(leaf, part).await.unwrap().as_ref(), dag.blocks[1].bytes, "a second time");
            let local = SessionOptions { only_local: true, ..SessionOptions::default() };
            assert!(blocks.session(local).block(&leaves[1]).await.is_ok(), "at once");
            blocks.shutdown().await;
            let hash = BlockHash::from_cid(&leaves[1]).unwrap();
            assert!(blocks.store().contains(&hash) && shelf.landed.lock().contains(&hash));
            assert!(shelf.asked_for().is_empty());
        }
    }
}

#[tokio::test]
async fn who_fetches_what_is_admitted_has_it_and_wants_it_no_more() {
    let bytes = noise(3 * 1024);
    let (dag, leaves) = flat(PROFILE, &bytes);
    let silent = Shelf::new("a", Habit::Silent, AT_ONCE);
    let blocks = blocks([silent.clone()]).await;
    let loan = lend(&blocks, &dag);
    let fetch = tokio::spawn(loan.fetch(nth(&leaves, 1)));
    while silent.running() == 0 {
        tokio::task::yield_now().await;
    }
    loan.admit(nth(&leaves, 1), Bytes::copy_from_slice(&bytes[1024..2048])).await.unwrap();
    assert_eq!(fetch.await.unwrap().unwrap().as_ref(), &bytes[1024..2048]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((silent.running(), blocks.in_flight()), (0, 0));
}

#[tokio::test]
async fn a_fetch_that_is_dropped_is_withdrawn_and_the_session_ends_with_the_loan() {
    let (dag, leaves) = flat(PROFILE, &noise(3 * 1024));
    let silent = Shelf::new("a", Habit::Silent, AT_ONCE);
    let blocks = blocks([silent.clone()]).await;
    let loan = lend(&blocks, &dag);
    let mut fetch = loan.fetch(nth(&leaves, 1));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut fetch).await.is_err());
    assert_eq!(silent.running(), 1);
    let want = silent.asked.lock()[0].clone();
    let own = ByteRange::new(CHUNK, 2 * CHUNK);
    assert_eq!((want.expected_len, want.within), (Some(1024), Some(Entity { root: dag.root(), bytes: own })));
    drop(fetch);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((silent.running(), blocks.in_flight()), (0, 0));
    assert!(silent.ended.lock().is_empty());
    drop(loan);
    assert_eq!(*silent.ended.lock(), [want.session]);
}

#[tokio::test(start_paused = true)]
async fn why_a_leaf_does_not_come_is_told_as_a_breaker_needs_it() {
    let (dag, leaves) = flat(PROFILE, &noise(3 * 1024));
    let classes = [
        (Habit::Honest, FailureClass::Neutral),
        (Habit::FailingAfter(0), FailureClass::Source),
        (Habit::Silent, FailureClass::Source),
    ];
    for (habit, class) in classes {
        let loan = lend(&blocks([Shelf::new("a", habit, AT_ONCE)]).await, &dag);
        let error = loan.fetch(nth(&leaves, 1)).await.unwrap_err();
        assert_eq!(error.class, class, "{habit:?}: {error}");
    }
    let sources = [Shelf::new("a", Habit::Caught, AT_ONCE), Shelf::new("b", Habit::Honest, AT_ONCE)];
    let loan = lend(&blocks(sources).await, &dag);
    let error = loan.fetch(nth(&leaves, 1)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Corruption, "{error}");
    let error = loan.fetch(nth(&leaves, 2)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source, "the one rests, and may have it: {error}");
    let local = SessionOptions { only_local: true, ..SessionOptions::default() };
    let loan = blocks([Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag)]).await.session(local).lend(dag.root());
    assert_eq!(loan.fetch(nth(&leaves, 1)).await.unwrap_err().class, FailureClass::Neutral);
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_file_is_read_over_ipfs() {
    let bytes = noise(40 * 1024 + 7);
    for profile in PROFILES {
        let dag = Dag::of(profile, &bytes);
        let loan = lend(&blocks([Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag)]).await, &dag);
        assert_eq!(loan.root(), dag.root());
        let range = ByteRange::new(1000, 30_000).unwrap();
        assert_eq!(loan.bytes(range).await.unwrap(), bytes[1000..30_000]);
        let past_the_end = ByteRange::new(40 * 1024, 50 * 1024).unwrap();
        assert_eq!(loan.bytes(past_the_end).await.unwrap(), bytes[40 * 1024..]);
        let much = ByteRange::full((16 << 20) + 1).unwrap();
        assert_eq!(loan.bytes(much).await.unwrap_err().class, FailureClass::Neutral);
    }
}
