use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use swarmgate_content::{ByteRange, FetchErrorKind};

use crate::blocks::Blocks;
use crate::gateways::FoundGateways;
use crate::session::SessionOptions;
use crate::source::{BlockSource, Provider};
use crate::testing::{Dag, Habit, PATIENCE, Shelf, Signpost, blocks, noise, store};

const AT_ONCE: Duration = Duration::from_millis(5);

async fn read_all(blocks: &Arc<Blocks>, dag: &Dag) -> Vec<u8> {
    let session = blocks.session(SessionOptions::default());
    let reader = session.file(dag.root(), ByteRange::full(u64::MAX).unwrap());
    reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn when_a_source_fails_half_way_another_goes_on() {
    let bytes = noise(80 * 1024);
    let dag = Dag::file(&bytes);
    let failing = Shelf::new("https://a.example", Habit::FailingAfter(30), AT_ONCE).with(&dag);
    let honest = Shelf::new("bitswap", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([failing.clone(), honest.clone()]).await;
    assert!(read_all(&blocks, &dag).await == bytes);
    let status = blocks.status();
    assert!(status[0].stats.delivered > 0 && status[0].stats.failures > 0, "{status:?}");
    assert!(status[0].stats.resting_ms > 0, "it rests: {status:?}");
    assert!(status[1].stats.delivered > 0);
    assert!(failing.asked_for().len() <= dag.blocks.len(), "it is asked for no block twice while another gives it");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lies_is_found_out_and_left_alone() {
    let bytes = noise(3000);
    let dag = Dag::file(&bytes);
    let lying = Shelf::new("https://liar.example", Habit::Lying, AT_ONCE);
    let honest = Shelf::new("bitswap", Habit::Honest, Duration::from_millis(50)).with(&dag);
    let blocks = blocks([lying.clone(), honest]).await;
    assert!(read_all(&blocks, &dag).await == bytes);
    let status = blocks.status();
    assert!(status[0].stats.corrupt >= 1 && status[0].stats.delivered == 0, "{status:?}");
    assert!(status[0].stats.resting_ms > 20_000, "{status:?}");
    let lies = lying.asked_for().len();
    let other = Dag::file(&noise(700));
    let session = blocks.session(SessionOptions::default());
    assert!(session.block(&other.root()).await.is_err(), "the honest one has it not");
    assert!(lying.asked_for().len() == lies, "it rests");
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_is_passed_over_after_a_moment() {
    let dag = Dag::file(&noise(500));
    let silent = Shelf::new("bitswap", Habit::Silent, AT_ONCE);
    let honest = Shelf::new("https://b.example", Habit::Honest, AT_ONCE).with(&dag);
    let blocks = blocks([silent.clone(), honest]).await;
    let began = tokio::time::Instant::now();
    assert!(read_all(&blocks, &dag).await == noise(500));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    tokio::time::sleep(AT_ONCE).await;
    assert_eq!(silent.running(), 0, "the loser is told");
}

#[tokio::test(start_paused = true)]
async fn what_everybody_lacks_is_refused_at_once_with_every_attempt() {
    let dag = Dag::file(b"nobody has this");
    let sources =
        [Shelf::new("bitswap", Habit::Honest, AT_ONCE), Shelf::new("https://b.example", Habit::Honest, AT_ONCE)];
    let blocks = blocks(sources).await;
    let session = blocks.session(SessionOptions::default());
    let began = tokio::time::Instant::now();
    let error = session.block(&dag.root()).await.unwrap_err();
    assert_eq!(error.kind, FetchErrorKind::NoSource);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let tried: Vec<_> = error.attempts.iter().map(|attempt| attempt.source).collect();
    assert_eq!(tried, ["bitswap", "http"]);
}

#[tokio::test(start_paused = true)]
async fn routers_are_asked_when_nobody_who_is_known_has_it_and_who_is_found_is_asked() {
    let dag = Dag::file(&noise(5000));
    let shelf = Shelf::new("bitswap", Habit::Introduced, AT_ONCE).with(&dag);
    let signpost = Arc::new(Signpost { gateway: Some("https://found.example"), ..Signpost::default() });
    let blocks = Blocks::new(store(1 << 20).await, vec![shelf.clone()], vec![signpost.clone()], PATIENCE);
    assert!(read_all(&blocks, &dag).await == noise(5000));
    assert_eq!(*signpost.asked.lock(), [dag.root()], "the DAG is searched once, by its root");
    assert_eq!(*shelf.providers.lock(), [Provider::Gateway("https://found.example".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_requests_hint_helps_the_fetch_that_somebody_else_began() {
    let dag = Dag::file(&noise(500));
    let shelf = Shelf::new("bitswap", Habit::Introduced, AT_ONCE).with(&dag);
    let (slow, root) = (Shelf::new("https://slow.example", Habit::Silent, AT_ONCE), dag.root());
    let blocks = blocks([shelf.clone(), slow]).await;
    let first = blocks.session(SessionOptions::default());
    let hint = Provider::Gateway("https://hint.example".to_owned());
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let second = blocks.session(SessionOptions { hints: vec![hint], ..SessionOptions::default() });
        second.block(&root).await
    };
    let (one, other) = tokio::join!(first.block(&root), later);
    assert!(one.is_ok() && other.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_blocks_of_one_dag_are_asked_of_whoever_gave_the_last_one() {
    let bytes = noise(60 * 1024);
    let dag = Dag::file(&bytes);
    let without = Shelf::new("bitswap", Habit::Honest, AT_ONCE);
    let with = Shelf::new("https://b.example", Habit::Honest, Duration::from_millis(40)).with(&dag);
    let blocks = blocks([without.clone(), with]).await;
    assert!(read_all(&blocks, &dag).await == bytes);
    assert_eq!(without.asked_for().len(), 1, "for the root, and no more");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_asked_for_the_reading_that_names_it_and_a_liar_spoils_nothing() {
    let dag = Dag::file(&noise(5000));
    let honest = Shelf::new("https://honest.example", Habit::Honest, AT_ONCE).with(&dag);
    let lying = Shelf::new("https://liar.example", Habit::Caught, AT_ONCE);
    let (named, shelves) = (["https://liar.example", "https://honest.example"], [lying.clone(), honest.clone()]);
    let found = FoundGateways::new(Box::new(move |url: &str| -> Option<Arc<dyn BlockSource>> {
        let shelf = shelves.iter().find(|shelf| shelf.name() == url)?;
        Some(shelf.clone())
    }));
    let blocks = Blocks::new(store(1 << 20).await, vec![found], Vec::new(), PATIENCE);
    let unaided = blocks.session(SessionOptions::default());
    assert!(unaided.block(&dag.root()).await.is_err());
    let hints = named.map(|url| Provider::Gateway(url.to_owned())).to_vec();
    let session = blocks.session(SessionOptions { hints, ..SessionOptions::default() });
    let reader = session.file(dag.root(), ByteRange::full(5000).unwrap());
    let read = reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await;
    assert!(read.unwrap_or_default() == noise(5000));
    assert_eq!(blocks.status()[0].stats.resting_ms, 0);
}
