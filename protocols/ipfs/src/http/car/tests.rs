use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::any;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use swarmgate_content::{ByteRange, FailureClass, HashKind};
use swarmgate_ipfs_proto::car::{header, section_head};
use swarmgate_ipfs_proto::export::EntityBytes;

use super::*;
use crate::http::TrustlessGateway;
use crate::http::testing::{BRISK, READING, SOON, Server, cid_of, http, noise};
use crate::source::BlockSource;

fn car(blocks: &[(Cid, Bytes)]) -> Vec<u8> {
    let mut car = header(&[cid_of(b"root")]);
    for (cid, bytes) in blocks {
        car.extend(section_head(cid, bytes.len()));
        car.extend_from_slice(bytes);
    }
    car
}

fn blocks(count: u8) -> Vec<(Cid, Bytes)> {
    (0..count).map(|n| noise(n, 100_000)).map(|bytes| (cid_of(&bytes), bytes)).collect()
}

fn want_car(max_bytes: u64) -> CarWant {
    CarWant {
        root: cid_of(b"root"),
        path: vec![
            Bytes::from_static(b"a film"),
            Bytes::from_static("ä/?%.mp4".as_bytes()),
            Bytes::from_static(&[0xff]),
        ],
        scope: Scope::Entity(EntityBytes::of(ByteRange::new(5, 10).unwrap())),
        max_bytes,
        session: READING,
        deadline: Instant::now() + SOON,
    }
}

/// A gateway that gives every request this body as a CAR.
async fn serving(body: impl Fn() -> Body + Clone + Send + Sync + 'static) -> (Server, TrustlessGateway) {
    let answer = move || {
        let headers = [("content-type", "application/vnd.ipld.car; version=1; order=dfs; dups=y")];
        std::future::ready((headers, body()).into_response())
    };
    let server = Server::start(Router::new().fallback(any(answer))).await;
    let gateway = TrustlessGateway::new(http(), server.base(), BRISK).unwrap();
    (server, gateway)
}

/// What of a CAR is taken until it ends, and how it ends.
async fn read(gateway: &TrustlessGateway, max_bytes: u64) -> (Vec<Cid>, Option<SourceError>) {
    let mut car = gateway.fetch_car(&want_car(max_bytes)).await.unwrap();
    let mut taken = Vec::new();
    while let Some(next) = car.next().await {
        match next {
            Ok((cid, _)) => taken.push(cid),
            Err(error) => {
                assert!(car.next().await.is_none(), "nothing comes behind an error");
                return (taken, Some(error));
            }
        }
    }
    (taken, None)
}

#[tokio::test]
async fn the_blocks_of_a_range_come_checked_and_in_order() {
    let (blocks, asked) = (blocks(20), Arc::new(Mutex::new(Vec::new())));
    let (kept, body) = (asked.clone(), car(&blocks));
    let answer = move |request: Request| {
        kept.lock().push((request.uri().to_string(), request.headers()["accept"].clone()));
        std::future::ready(([("content-type", CAR)], body.clone()))
    };
    let server = Server::start(Router::new().fallback(any(answer))).await;
    let gateway = TrustlessGateway::new(http(), server.base(), BRISK).unwrap();
    let car = gateway.fetch_car(&want_car(car_budget(2_000_000))).await.unwrap();
    let came: Vec<_> =
        car.into_stream().map(|block| block.map(|(cid, bytes)| (cid, bytes.into_bytes())).unwrap()).collect().await;
    assert!(came == blocks, "{} of {} blocks", came.len(), blocks.len());
    let (uri, accept) = asked.lock().pop().unwrap();
    let path = "/a%20film/%C3%A4%2F%3F%25.mp4/%FF";
    assert_eq!(uri, format!("/ipfs/{}{path}?format=car&dag-scope=entity&entity-bytes=5:9", cid_of(b"root")));
    assert_eq!(accept, ACCEPT);
}

#[tokio::test]
async fn a_block_that_is_not_what_its_name_says_ends_the_car() {
    let mut blocks = blocks(3);
    blocks[1].1 = noise(99, 100_000);
    let body = car(&blocks);
    let (_server, gateway) = serving(move || body.clone().into()).await;
    let (taken, error) = read(&gateway, car_budget(0)).await;
    assert_eq!(taken, [blocks[0].0]);
    assert_eq!(error.unwrap().class, FailureClass::Corruption);
}

#[tokio::test]
async fn blocks_that_nobody_could_check_are_passed_over() {
    let (inline, keccak) =
        ("bafyaabakaieac".parse().unwrap(), Cid::try_from([&[1, 0x55, 0x1b, 32][..], &[7; 32]].concat()).unwrap());
    let mut blocks = blocks(1);
    blocks.extend([(inline, Bytes::from_static(b"lie")), (keccak, Bytes::from_static(b"lie"))]);
    let sha512 = Bytes::from_static(b"x");
    blocks.push((HashKind::Sha2_512.hash(&sha512).to_cid(0x55), sha512));
    let body = car(&blocks);
    let (_server, gateway) = serving(move || body.clone().into()).await;
    let (taken, error) = read(&gateway, car_budget(0)).await;
    assert_eq!((taken, error), (vec![blocks[0].0, blocks[3].0], None));
}

#[tokio::test]
async fn an_endless_car_ends_at_its_bound_and_one_that_breaks_off_is_a_fault() {
    let (head, again) = (car(&[]), blocks(1));
    let section = Bytes::from(car(&again).split_off(head.len()));
    let body = move || {
        let endless =
            stream::once(std::future::ready(Bytes::from(head.clone()))).chain(stream::repeat(section.clone()));
        Body::from_stream(endless.map(Ok::<_, Infallible>))
    };
    let (_server, gateway) = serving(body).await;
    let (taken, error) = read(&gateway, 1_000_000).await;
    assert!(taken.len() < 11, "{} blocks of 100 kB", taken.len());
    let error = error.unwrap();
    assert!(error.class == FailureClass::Source && error.detail.contains("more than 1000000 bytes"), "{error}");

    let mut short = car(&blocks(2));
    short.truncate(short.len() - 1);
    let (_server, gateway) = serving(move || short.clone().into()).await;
    let (taken, error) = read(&gateway, car_budget(0)).await;
    assert_eq!((taken.len(), error.unwrap().class), (1, FailureClass::Source));
}

#[tokio::test]
async fn what_is_no_car_is_refused_and_one_that_stands_still_is_left() {
    let page = || std::future::ready(([("content-type", "text/html")], "<html>").into_response());
    let server = Server::start(Router::new().fallback(any(page))).await;
    let gateway = TrustlessGateway::new(http(), server.base(), BRISK).unwrap();
    let error = gateway.fetch_car(&want_car(1000)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source);
    assert_eq!(gateway.attempts(READING).len(), 1);

    let (_server, gateway) = serving(|| "<html>nothing that has a header</html>".into()).await;
    let (taken, error) = read(&gateway, 1000).await;
    assert_eq!((taken.len(), error.unwrap().class), (0, FailureClass::Source));

    let begun = car(&blocks(1));
    let stuck = move || {
        let begun = Ok::<_, Infallible>(begun.clone());
        Body::from_stream(stream::once(std::future::ready(begun)).chain(stream::pending()))
    };
    let (_server, gateway) = serving(stuck).await;
    let (taken, error) = tokio::time::timeout(SOON, read(&gateway, car_budget(0))).await.unwrap();
    let error = error.unwrap();
    assert!(taken.len() == 1 && error.detail.contains("stood still"), "{error}");
}

#[tokio::test]
async fn a_path_that_a_url_cannot_spell_is_not_asked_for() {
    let gateway = TrustlessGateway::new(http(), "http://127.0.0.1:9", BRISK).unwrap();
    for name in ["", ".", ".."] {
        let want = CarWant { path: vec![Bytes::from_static(name.as_bytes())], ..want_car(1000) };
        assert_eq!(gateway.fetch_car(&want).await.unwrap_err().class, FailureClass::Neutral);
    }
}

#[tokio::test]
async fn a_car_that_is_being_read_takes_a_slot() {
    let body = || {
        let head = Ok::<_, Infallible>(car(&[]));
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let block = blocks(1);
            Some((Ok(car(&block).split_off(car(&[]).len())), ()))
        });
        Body::from_stream(stream::once(std::future::ready(head)).chain(drip))
    };
    let (_server, gateway) = serving(body).await;
    let two = [gateway.fetch_car(&want_car(1000)).await.unwrap(), gateway.fetch_car(&want_car(1000)).await.unwrap()];
    let late = CarWant { deadline: Instant::now() + Duration::from_millis(50), ..want_car(1000) };
    assert_eq!(gateway.fetch_car(&late).await.unwrap_err().class, FailureClass::Neutral);
    drop(two);
    assert!(gateway.fetch_car(&want_car(1000)).await.is_ok());
}
