use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use swarmgate_content::{ByteRange, ContentReader, FetchError, FetchErrorKind};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::export::Scope;
use swarmgate_ipfs_proto::path::Target;

use crate::blocks::Blocks;
use crate::session::SessionOptions;
use crate::testing::{Dag, Habit, PATIENCE, Shelf, blocks, noise, store};

const AT_ONCE: Duration = Duration::from_millis(5);

async fn read(reader: ContentReader) -> Result<Vec<u8>, FetchError> {
    reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await
}

#[tokio::test(start_paused = true)]
async fn a_range_in_the_middle_fetches_only_the_blocks_that_cover_it() {
    let bytes = noise(100 * 1024);
    let dag = Dag::file(&bytes);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([shelf.clone()]).await;
    let session = blocks.session(SessionOptions::default());
    let range = ByteRange::new(50 * 1024 + 10, 52 * 1024 + 5).unwrap();
    assert_eq!(read(session.file(dag.root(), range)).await.unwrap(), bytes[50 * 1024 + 10..52 * 1024 + 5]);
    // 100 leaves below 13 nodes below 2 below the root: one way of nodes down and three leaves.
    let asked = shelf.asked_for();
    assert!((5..=7).contains(&asked.len()), "{} blocks", asked.len());
    let priorities: Vec<i32> = shelf.asked.lock().iter().map(|want| want.priority).collect();
    assert!(priorities.is_sorted_by(|before, after| before >= after), "{priorities:?}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_file_comes_in_order_and_the_second_reading_asks_nobody() {
    let bytes = noise(300 * 1024 + 7);
    let dag = Dag::file(&bytes);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([shelf.clone()]).await;
    for _ in 0..2 {
        let session = blocks.session(SessionOptions::default());
        assert_eq!(session.file_len(&dag.root()).await.unwrap(), bytes.len() as u64);
        let whole = ByteRange::full(bytes.len() as u64).unwrap();
        assert!(read(session.file(dag.root(), whole)).await.unwrap() == bytes);
    }
    assert_eq!(shelf.asked_for().len(), dag.blocks.len());
    let local = blocks.session(SessionOptions { only_local: true, ..SessionOptions::default() });
    assert!(local.block(&dag.root()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_only_the_cache_may_give_is_asked_of_nobody() {
    let dag = Dag::file(b"hello");
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([shelf.clone()]).await;
    let local = blocks.session(SessionOptions { only_local: true, ..SessionOptions::default() });
    assert_eq!(local.block(&dag.root()).await.unwrap_err().kind, FetchErrorKind::NotCached);
    let whole = ByteRange::full(5).unwrap();
    assert_eq!(read(local.file(dag.root(), whole)).await.unwrap_err().kind, FetchErrorKind::NotCached);
    assert!(shelf.asked_for().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_without_room_is_no_obstacle() {
    let bytes = noise(64 * 1024);
    let dag = Dag::file(&bytes);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = Blocks::new(store(100).await, vec![shelf], Vec::new(), PATIENCE);
    let session = blocks.session(SessionOptions::default());
    let whole = ByteRange::full(bytes.len() as u64).unwrap();
    assert!(read(session.file(dag.root(), whole)).await.unwrap() == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_path_leads_through_directories_and_what_is_not_there_is_not_found() {
    let (readme, film) = (Dag::file(b"read me"), Dag::file(&noise(9000)));
    let dag = Dag::directory(&[("docs", &Dag::directory(&[("readme", &readme)])), ("film", &film)]);
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([shelf]).await;
    let session = blocks.session(SessionOptions::default());
    let path = |below: &str| format!("/ipfs/{}{below}", dag.root()).parse::<ContentPath>().unwrap();
    let end = session.resolve_path(&path("/docs/readme")).await.unwrap();
    assert_eq!((end.cid, end.target, end.roots.len()), (readme.root(), Target::File, 3));
    let error = session.resolve_path(&path("/docs/nothing")).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::NotFound);
    assert!(error.detail.contains("no link named \"nothing\""), "{}", error.detail);
    let names: Vec<_> = session.entries(dag.root()).map_ok(|entry| entry.name).try_collect().await.unwrap();
    assert_eq!(names, [Bytes::from_static(b"docs"), Bytes::from_static(b"film")]);
    let error = std::pin::pin!(session.entries(film.root())).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn an_export_has_every_block_once_parents_first() {
    let film = Dag::file(&noise(40_000));
    let dag = Dag::directory(&[("a", &film), ("b", &film)]);
    let blocks = blocks([Shelf::new("a", Habit::Honest, AT_ONCE).with(&dag)]).await;
    let session = blocks.session(SessionOptions::default());
    let exported: Vec<_> = session.export(&[], dag.root(), Scope::All, false).try_collect().await.unwrap();
    assert_eq!(exported[0].0, dag.root());
    assert_eq!(exported[1].0, film.root());
    assert_eq!(exported.len(), film.blocks.len() + 1);
}

#[tokio::test]
async fn a_reading_that_is_dropped_withdraws_everything_within_50_ms() {
    let dag = Dag::file(&noise(100 * 1024));
    let (answering, silent) =
        (Shelf::new("a", Habit::Honest, AT_ONCE), Shelf::new("b", Habit::Silent, AT_ONCE).with(&dag));
    let root = Dag { blocks: vec![dag.blocks.last().unwrap().clone()], built: dag.built.clone() };
    let blocks = blocks([answering.with(&root), silent.clone()]).await;
    let session = blocks.session(SessionOptions::default());
    let mut reader = session.file(dag.root(), ByteRange::full(100 * 1024).unwrap());
    let waiting = tokio::time::timeout(Duration::from_millis(800), reader.next()).await;
    assert!(waiting.is_err() && silent.running() > 0, "it waits for blocks that nobody gives");
    let id = session.id();
    drop((reader, session));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!((silent.running(), blocks.in_flight()), (0, 0));
    assert_eq!(*silent.ended.lock(), [id]);
}

#[tokio::test(start_paused = true)]
async fn two_readers_of_one_block_fetch_it_once_and_one_may_leave() {
    let dag = Dag::file(&noise(500));
    let shelf = Shelf::new("a", Habit::Honest, Duration::from_secs(1)).with(&dag);
    let blocks = blocks([shelf.clone()]).await;
    let (first, second) = (blocks.session(SessionOptions::default()), blocks.session(SessionOptions::default()));
    let root = dag.root();
    let leaving = async {
        let left = tokio::time::timeout(Duration::from_millis(500), first.block(&root)).await;
        assert!(left.is_err());
    };
    let ((), got) = tokio::join!(leaving, second.block(&root));
    assert_eq!(got.unwrap().as_ref(), noise(500));
    assert_eq!(shelf.asked_for(), [root]);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_after_the_first_byte_time_and_names_who_was_silent() {
    let dag = Dag::file(b"hello");
    let blocks = blocks([Shelf::new("bitswap", Habit::Silent, AT_ONCE)]).await;
    let session = blocks.session(SessionOptions::default());
    let began = tokio::time::Instant::now();
    let error = session.block(&dag.root()).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::TimedOut);
    let waited = began.elapsed();
    assert!(waited >= PATIENCE.first_byte && waited < PATIENCE.first_byte * 2, "{waited:?}");
    assert_eq!(error.attempts.len(), 1);
    assert_eq!((error.attempts[0].source, error.attempts[0].target.as_deref()), ("bitswap", Some("bitswap")));
}

#[tokio::test(start_paused = true)]
async fn a_slow_source_is_waited_for_as_long_as_blocks_come() {
    let bytes = noise(12 * 1024);
    let dag = Dag::file(&bytes);
    // Two rows of nodes and the leaves: three times 20 s, and none of them is 30.
    let blocks = blocks([Shelf::new("a", Habit::Honest, Duration::from_secs(20)).with(&dag)]).await;
    let session = blocks.session(SessionOptions::default());
    let began = tokio::time::Instant::now();
    let whole = ByteRange::full(bytes.len() as u64).unwrap();
    assert!(read(session.file(dag.root(), whole)).await.unwrap() == bytes);
    assert!(began.elapsed() > PATIENCE.stall);
}
