use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarmgate_content::{BlockHash, Cid};
use swarmgate_ipfs_proto::car;

use crate::arrivals::Arrivals;
use crate::intake::{import_car, pin_dag};
use crate::pins::{Pin, PinError, Pins};
use crate::session::SessionOptions;
use crate::source::BlockSource;
use crate::testing::{Dag, Habit, Shelf, blocks, noise, store};

fn car(roots: &[Cid], dags: &[&Dag]) -> Vec<u8> {
    let mut bytes = car::header(roots);
    for block in dags.iter().flat_map(|dag| &dag.blocks) {
        bytes.extend(car::section_head(&block.cid, block.bytes.len()));
        bytes.extend_from_slice(&block.bytes);
    }
    bytes
}

async fn import(pins: &Pins, car: &[u8], may_miss: bool) -> Result<Vec<Pin>, PinError> {
    import_car(pins, car, may_miss, |_| true, |_| {}).await
}

#[tokio::test]
async fn every_root_of_a_car_is_pinned_with_all_below_it() {
    let (film, text) = (Dag::file(&noise(20_000)), Dag::file(b"text"));
    let dag = Dag::directory(&[("film", &film)]);
    let pins = Pins::new(store(1 << 20).await);
    let mut seen = 0;
    let bytes = car(&[dag.root(), text.root()], &[&dag, &text]);
    let pinned = import_car(&pins, &bytes[..], false, |_| true, |taken| seen = taken.blocks).await.unwrap();
    assert_eq!(pinned.iter().map(|pin| pin.root).collect::<Vec<_>>(), [dag.root(), text.root()]);
    assert_eq!((pinned[0].blocks, seen), (dag.blocks.len() as u64, dag.blocks.len() as u64 + 1));
    assert_eq!(pins.store().usage().pinned_bytes, pins.store().usage().bytes);
    assert_eq!(pins.list().await.unwrap().len(), 2);

    assert!(pins.remove(&dag.root()).await.unwrap());
    assert!(!pins.remove(&dag.root()).await.unwrap());
    assert_eq!(pins.store().usage().pinned_bytes, 4);
}

#[tokio::test]
async fn a_car_that_is_not_what_it_says_is_refused_and_leaves_nothing_pinned() {
    let (film, text) = (Dag::file(&noise(20_000)), Dag::file(b"text"));
    let good = car(&[film.root()], &[&film]);
    let mut without = film.clone();
    let lost = without.blocks.remove(3);
    let mut flipped = good.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for (bytes, needle) in [
        (car(&[film.root()], &[&without]), format!("block {} is missing", lost.cid)),
        (car(&[text.root()], &[&film]), format!("block {} is missing", text.root())),
        (car(&[text.root(), film.root()], &[&text, &without]), format!("block {} is missing", lost.cid)),
        (car(&[], &[&film]), "names no root".to_owned()),
        ([&good[..], b"garbage"].concat(), "CAR, byte".to_owned()),
        (good[..good.len() - 5].to_vec(), "ends too early".to_owned()),
        (flipped, "do not have its hash".to_owned()),
        (b"PK\x03\x04 not a CAR".repeat(20), "CAR, byte 0".to_owned()),
    ] {
        let pins = Pins::new(store(1 << 20).await);
        let error = import(&pins, &bytes, false).await.unwrap_err().to_string();
        assert!(error.contains(&needle), "{error}, not {needle}");
        assert_eq!((pins.store().pinned_roots(), pins.list().await.unwrap()), (vec![], vec![]), "{needle}");
    }
}

#[tokio::test]
async fn a_part_of_a_dag_is_pinned_when_that_is_wanted() {
    let mut film = Dag::file(&noise(20_000));
    let root = film.root();
    film.blocks.remove(3);
    let pins = Pins::new(store(1 << 20).await);
    let pinned = import(&pins, &car(&[root], &[&film]), true).await.unwrap();
    assert_eq!((pinned[0].missing, pinned[0].blocks), (1, film.blocks.len() as u64));
}

#[tokio::test]
async fn what_a_crash_left_half_pinned_is_let_go() {
    let film = Dag::file(&noise(3000));
    let store = store(1 << 20).await;
    let hash = BlockHash::from_cid(&film.root()).unwrap();
    store.pin(&format!("ipfs:{}", film.root()), [hash]);
    store.pin("ipfs-hold:1-0", [hash]);
    store.pin("of-a-torrent", [hash]);
    let pins = Pins::new(store);
    let text = Dag::file(b"text");
    import(&pins, &car(&[text.root()], &[&text]), false).await.unwrap();
    pins.tidy().await.unwrap();
    let kept = format!("ipfs:{}", text.root());
    let mut roots = pins.store().pinned_roots();
    roots.sort();
    assert_eq!(roots, [kept, "of-a-torrent".to_owned()]);
}

#[tokio::test]
async fn a_dag_is_fetched_to_be_kept() {
    let film = Dag::file(&noise(50_000));
    let blocks = blocks([Shelf::new("a", Habit::Honest, Duration::ZERO).with(&film)]).await;
    let pins = Pins::new(blocks.store().clone());
    let session = blocks.session(SessionOptions::default());
    let pin = pin_dag(&pins, &session, film.root(), |_| {}).await.unwrap();
    assert_eq!(pin.blocks, film.blocks.len() as u64);
    blocks.store().clear().await;
    let local = blocks.session(SessionOptions { only_local: true, ..SessionOptions::default() });
    for block in &film.blocks {
        assert_eq!(Bytes::copy_from_slice(local.block(&block.cid).await.unwrap().as_ref()), block.bytes);
    }
}

#[tokio::test]
async fn whoever_gives_blocks_to_others_hears_of_those_that_are_imported() {
    let (film, shelf) = (Dag::file(&noise(20_000)), Shelf::new("a", Habit::Honest, Duration::ZERO));
    let told: Vec<Arc<dyn BlockSource>> = vec![shelf.clone()];
    let pins = Pins::new(store(1 << 20).await).telling(Arrivals::told_to(told.into()));
    import(&pins, &car(&[film.root()], &[&film]), false).await.unwrap();
    assert_eq!(*shelf.landed.lock(), film.hashes());
}

#[tokio::test]
async fn whoever_gives_blocks_to_others_hears_of_what_is_kept_and_again_at_the_next_start() {
    let (film, text, store) = (Dag::file(&noise(20_000)), Dag::file(b"text"), store(1 << 20).await);
    let starts = || {
        let shelf = Shelf::new("a", Habit::Honest, Duration::ZERO);
        let told: Vec<Arc<dyn BlockSource>> = vec![shelf.clone()];
        (shelf, Pins::new(store.clone()).telling(Arrivals::told_to(told.into())))
    };
    let (shelf, pins) = starts();
    import(&pins, &car(&[film.root(), text.root()], &[&film, &text]), false).await.unwrap();
    assert_eq!(*shelf.kept.lock(), [film.root(), text.root()]);
    pins.remove(&film.root()).await.unwrap();
    assert_eq!(*shelf.kept.lock(), [text.root()]);
    let (shelf, pins) = starts();
    pins.announce().await.unwrap();
    assert_eq!(*shelf.kept.lock(), [text.root()]);
}

#[tokio::test]
async fn a_dag_larger_than_the_cache_is_not_pinned() {
    let film = Dag::file(&noise(50_000));
    let pins = Pins::new(store(20_000).await);
    let error = import(&pins, &car(&[film.root()], &[&film]), false).await.unwrap_err();
    assert!(matches!(error, PinError::Missing { .. } | PinError::Store(_)), "{error}");
    assert!(pins.store().pinned_roots().is_empty());
}
