use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt};
use swarmgate_content::{ByteRange, Cid};
use swarmgate_ipfs_proto::build::{DirectoryBuilder, FileBuilder, Profile};

use crate::blocks::{Blocks, SourceStatus};
use crate::http::testing::SOON;
use crate::session::{Session, SessionOptions};
use crate::source::BlockSource;
use crate::testing::{Dag, Habit, PATIENCE, PROFILE, Shelf, noise, store};

use gateway::{Cars, Gateway};

mod gateway;

/// How long each request to a server takes that is far away.
const FAR_AWAY: Duration = Duration::from_millis(30);

async fn from(sources: Vec<Arc<dyn BlockSource>>) -> Arc<Blocks> {
    Blocks::new(store(128 << 20).await, sources, Vec::new(), PATIENCE)
}

/// Reads a file as the gateway's routes do: its length first.
async fn read(blocks: &Arc<Blocks>, root: Cid) -> Vec<u8> {
    let session = blocks.session(SessionOptions::default());
    let len = session.file_len(&root).await.unwrap();
    read_part(&session, root, ByteRange::full(len).unwrap()).await
}

async fn read_part(session: &Session, root: Cid, range: ByteRange) -> Vec<u8> {
    session.file(root, range).map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await.unwrap()
}

fn first(blocks: &Arc<Blocks>) -> SourceStatus {
    blocks.status().swap_remove(0)
}

#[tokio::test]
async fn a_file_comes_from_afar_in_one_answer_and_much_sooner() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    let mut took = Vec::new();
    for cars in [Cars::Status(501), Cars::Honest] {
        let gateway = Gateway::start(&dag.blocks, FAR_AWAY, cars).await;
        let blocks = from(vec![gateway.source()]).await;
        let begun = Instant::now();
        assert!(read(&blocks, dag.root()).await == bytes);
        took.push(begun.elapsed());
        assert_eq!((gateway.cars().len(), first(&blocks).stats.failures), (1, 0), "{cars:?}");
        let alone = if cars == Cars::Honest { 1 } else { dag.blocks.len() };
        assert_eq!(gateway.singles(), alone, "{cars:?}");
    }
    assert!(took[1] * 3 < took[0], "{took:?}");
}

#[tokio::test]
async fn a_car_has_what_is_read_and_no_more() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    let gateway = Gateway::start(&dag.blocks, FAR_AWAY, Cars::Honest).await;
    let blocks = from(vec![gateway.source()]).await;
    let session = blocks.session(SessionOptions::default());
    session.block(&dag.root()).await.unwrap();
    let (early, late) = (ByteRange::new(50_000, 60_000).unwrap(), ByteRange::new(120_000, 180_000).unwrap());
    assert!(read_part(&session, dag.root(), early).await == bytes[50_000..60_000]);
    assert!(read_part(&session, dag.root(), late).await == bytes[120_000..180_000]);
    let asked = gateway.cars();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked[0].ends_with("dag-scope=entity&entity-bytes=50000:59999"), "{asked:?}");
    assert!(asked[1].ends_with("dag-scope=entity&entity-bytes=120000:179999"), "{asked:?}");
    assert_eq!(gateway.singles(), 1, "the root");
}

#[tokio::test]
async fn a_car_begins_with_what_is_not_here() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    let gateway = Gateway::start(&dag.blocks, FAR_AWAY, Cars::Honest).await;
    let blocks = from(vec![gateway.source()]).await;
    let session = blocks.session(SessionOptions::default());
    session.block(&dag.root()).await.unwrap();
    read_part(&session, dag.root(), ByteRange::full(64 * 1024).unwrap()).await;
    assert!(read(&blocks, dag.root()).await == bytes);
    let asked = gateway.cars();
    assert!(asked.len() == 2 && asked[1].ends_with("entity-bytes=65536:204799"), "{asked:?}");
}

#[tokio::test]
async fn of_a_server_that_is_near_blocks_are_asked_one_by_one() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    let gateway = Gateway::start(&dag.blocks, Duration::ZERO, Cars::Honest).await;
    let blocks = from(vec![gateway.source()]).await;
    let session = blocks.session(SessionOptions::default());
    // One of these is quick, however busy the machine is.
    for block in &dag.blocks[..20] {
        session.block(&block.cid).await.unwrap();
    }
    assert!(read(&blocks, dag.root()).await == bytes);
    assert_eq!((gateway.cars().len(), gateway.singles()), (0, dag.blocks.len()));
}

#[tokio::test]
async fn a_gateway_that_makes_no_cars_is_asked_for_one_once() {
    let dags = [10_000, 20_000].map(|len| Dag::file(&noise(len)));
    let all: Vec<_> = dags.iter().flat_map(|dag| dag.blocks.clone()).collect();
    for status in [400, 406, 501] {
        let gateway = Gateway::start(&all, FAR_AWAY, Cars::Status(status)).await;
        let blocks = from(vec![gateway.source()]).await;
        for (dag, len) in dags.iter().zip([10_000, 20_000]) {
            assert!(read(&blocks, dag.root()).await == noise(len), "{status}");
        }
        assert_eq!((gateway.cars().len(), first(&blocks).stats.failures), (1, 0), "{status}");
    }
}

#[tokio::test]
async fn a_car_that_is_none_or_not_the_right_one_counts_as_a_fault_and_spoils_nothing() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    for cars in [Cars::Page, Cars::Status(500), Cars::Cut(60), Cars::Lacking(60), Cars::Endless] {
        let gateway = Gateway::start(&dag.blocks, FAR_AWAY, cars).await;
        let blocks = from(vec![gateway.source()]).await;
        assert!(read(&blocks, dag.root()).await == bytes, "{cars:?}");
        let stats = first(&blocks).stats;
        assert_eq!((gateway.cars().len(), stats.failures, stats.corrupt), (1, 1, 0), "{cars:?}");
    }
}

#[tokio::test]
async fn a_car_with_a_lie_in_it_counts_as_one_and_others_stand_in() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    let gateway = Gateway::start(&dag.blocks, FAR_AWAY, Cars::Forged(60)).await;
    let honest = Shelf::new("bitswap", Habit::Honest, Duration::from_millis(60)).with(&dag);
    let blocks = from(vec![gateway.source(), honest]).await;
    assert!(read(&blocks, dag.root()).await == bytes);
    let stats = first(&blocks).stats;
    assert_eq!((gateway.cars().len(), stats.failures, stats.corrupt), (1, 1, 1));
}

#[tokio::test]
async fn the_order_of_a_car_does_not_matter_and_what_is_there_twice_does_no_harm() {
    let bytes = noise(200 * 1024);
    let dag = Dag::file(&bytes);
    for cars in [Cars::Backwards, Cars::Twice] {
        let gateway = Gateway::start(&dag.blocks, FAR_AWAY, cars).await;
        let blocks = from(vec![gateway.source()]).await;
        assert!(read(&blocks, dag.root()).await == bytes, "{cars:?}");
        assert_eq!((gateway.singles(), first(&blocks).stats.failures), (1, 0), "{cars:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_silent_when_asked_for_a_car_is_not_waited_for() {
    let dag = Dag::file(&noise(10_000));
    let gateway = Gateway::start(&dag.blocks, FAR_AWAY, Cars::Silent).await;
    let blocks = from(vec![gateway.source()]).await;
    let begun = Instant::now();
    assert!(read(&blocks, dag.root()).await == noise(10_000));
    assert!(begun.elapsed() < super::HEAD_TIMEOUT * 2, "{:?}", begun.elapsed());
    assert!(read(&blocks, dag.root()).await == noise(10_000));
    assert_eq!((gateway.cars().len(), first(&blocks).stats.failures), (1, 0));
}

#[tokio::test]
async fn a_reader_that_stands_still_stops_its_car_and_one_that_leaves_closes_it() {
    let bytes = noise(48 << 20);
    let mut builder = FileBuilder::new(Profile { chunk_bytes: 256 << 10, ..Profile::V1_2025 });
    builder.push(&bytes);
    let root = builder.finish().cid;
    let all: Vec<_> = std::iter::from_fn(|| builder.poll_block()).collect();
    let gateway = Gateway::start(&all, FAR_AWAY, Cars::Honest).await;
    let blocks = from(vec![gateway.source()]).await;
    let session = blocks.session(SessionOptions::default());
    let len = session.file_len(&root).await.unwrap();
    let mut reader = session.file(root, ByteRange::full(len).unwrap());
    assert!(reader.next().await.unwrap().unwrap().as_ref() == &bytes[..256 << 10]);
    let mut before = 0;
    while gateway.sent() != before {
        before = gateway.sent();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The window, and what sockets hold.
    assert!(before < 24 << 20, "{before} bytes for nobody");
    drop((reader, session));
    let left = Instant::now();
    while gateway.open() > 0 {
        assert!(left.elapsed() < SOON, "the gateway sees that nobody reads any more");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_sharded_directory_is_listed_from_one_answer() {
    let (file, mut builder) = (Dag::file(b"x"), DirectoryBuilder::new(PROFILE));
    for n in 0..2000 {
        builder.add(format!("entry {n}"), file.built[0]).unwrap();
    }
    let (root, shards) = builder.finish_sharded().unwrap();
    let gateway = Gateway::start(&shards, FAR_AWAY, Cars::Honest).await;
    let blocks = from(vec![gateway.source()]).await;
    let session = blocks.session(SessionOptions::default());
    session.block(&root.cid).await.unwrap();
    let entries: Vec<_> = session.entries(root.cid).try_collect().await.unwrap();
    assert_eq!(entries.len(), 2000);
    assert!(shards.len() > 100, "{} shards", shards.len());
    assert_eq!((gateway.cars().len(), gateway.singles()), (1, 1));
    assert!(gateway.cars()[0].ends_with("dag-scope=entity"), "{:?}", gateway.cars());
}
