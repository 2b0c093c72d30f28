use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use swarmgate_content::{AttemptOutcome, Cid};
use swarmgate_egress::EgressPolicy;
use swarmgate_egress::testing::HttpStub;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::*;
use crate::http::testing::{BRISK, READING, SOON, Server, cid_of, http, noise, want};
use crate::source::BlockSource;

const DATA: &[u8] = b"a block of its own";

fn gateway(base: &str) -> TrustlessGateway {
    TrustlessGateway::new(http(), base, BRISK).unwrap()
}

async fn fetch(gateway: &TrustlessGateway, cid: Cid) -> Result<VerifiedBytes, SourceError> {
    gateway.fetch(want(cid, SOON)).await
}

/// A gateway that gives every request this answer.
async fn serving(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> Server {
    Server::start(Router::new().fallback(any(move || std::future::ready(answer())))).await
}

fn raw(body: impl Into<Body>) -> Response {
    ([("content-type", RAW)], body.into()).into_response()
}

/// A body that never ends; counts what is taken of it.
fn endless(taken: Arc<AtomicUsize>) -> Body {
    let chunk = Bytes::from_static(&[7; 16 << 10]);
    Body::from_stream(stream::repeat_with(move || {
        taken.fetch_add(chunk.len(), Ordering::Relaxed);
        Ok::<_, Infallible>(chunk.clone())
    }))
}

#[tokio::test]
async fn a_block_is_asked_for_by_query_and_by_type_and_without_cookies() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let block = noise(1, 1 << 20);
    let (kept, body) = (asked.clone(), block.clone());
    let answer = move |request: Request| {
        kept.lock().push((request.uri().to_string(), request.headers().clone()));
        let headers =
            [("content-type", "application/vnd.ipld.raw; charset=x"), ("set-cookie", "a=b"), ("etag", "\"lie\"")];
        std::future::ready((headers, body.clone()))
    };
    let server = Server::start(Router::new().fallback(any(answer))).await;
    let gateway = gateway(&format!("{}/", server.base()));
    let cid = cid_of(&block);
    for _ in 0..2 {
        assert_eq!(fetch(&gateway, cid).await.unwrap().as_ref(), block);
    }
    for (uri, headers) in asked.lock().drain(..) {
        assert_eq!(uri, format!("/ipfs/{cid}?format=raw"));
        assert_eq!(headers["accept"], RAW);
        assert!(!headers.contains_key("cookie") && !headers.contains_key("accept-encoding"), "{headers:?}");
    }
    assert_eq!(gateway.name(), server.base());
    assert_eq!(gateway.attempts(READING)[0].outcome, AttemptOutcome::Ok("2 blocks".into()));
    gateway.end_session(READING);
    assert!(gateway.attempts(READING).is_empty());
}

#[tokio::test]
async fn a_lie_is_told_from_a_fault_and_a_fault_from_an_absence() {
    type Case = (&'static str, fn() -> Response, FailureClass);
    let html = || ([("content-type", "text/html")], "<html>a block</html>").into_response();
    let status = |code: u16| StatusCode::from_u16(code).unwrap().into_response();
    let cases: [Case; 4] = [
        ("other bytes", || raw("something else"), FailureClass::Corruption),
        ("no bytes", || raw(""), FailureClass::Corruption),
        ("no type", || Response::new(Body::from(DATA)), FailureClass::Source),
        ("too many bytes", || raw(vec![0; MAX_BLOCK_BYTES + 1]), FailureClass::Source),
    ];
    for (what, answer, class) in cases {
        let server = serving(answer).await;
        let error = fetch(&gateway(server.base()), cid_of(DATA)).await.unwrap_err();
        assert_eq!(error.class, class, "{what}: {error}");
    }
    let server = serving(html).await;
    let error = fetch(&gateway(server.base()), cid_of(DATA)).await.unwrap_err();
    assert_eq!((error.class, error.detail.as_str()), (FailureClass::Source, "it answered with text/html"));
    for code in [404, 410, 412, 451, 204, 206, 400, 403, 500, 502, 504] {
        let server = serving(move || status(code)).await;
        let gateway = gateway(server.base());
        let error = fetch(&gateway, cid_of(DATA)).await.unwrap_err();
        let neutral = [404, 410, 412, 451].contains(&code);
        assert_eq!(error.class == FailureClass::Neutral, neutral, "{code}: {error}");
        let failed = AttemptOutcome::Failed(format!("HTTP status {code}"));
        assert_eq!(gateway.attempts(READING)[0].outcome, failed);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_and_a_dial_that_is_refused_are_faults() {
    let stub =
        HttpStub::start(|_| format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\nContent-Length: 99\r\n\r\nshort")).await;
    let error = fetch(&gateway(&stub.url("")), cid_of(DATA)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source, "{error}");
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = fetch(&gateway(&base), cid_of(DATA)).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source, "{error}");
}

#[tokio::test]
async fn an_endless_answer_ends_at_the_size_of_a_block() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let server = serving(move || raw(endless(counter.clone()))).await;
    let error = timeout(SOON, fetch(&gateway(server.base()), cid_of(DATA))).await.unwrap().unwrap_err();
    assert_eq!(error.class, FailureClass::Source);
    assert!(error.detail.contains("more than"), "{error}");
    // What the sockets of both sides hold comes on top.
    assert!(taken.load(Ordering::Relaxed) < MAX_BLOCK_BYTES + (16 << 20));
}

#[tokio::test]
async fn a_slow_gateway_is_waited_for_no_longer_than_it_is_of_use() {
    let mute = Server::start(Router::new().fallback(any(std::future::pending::<Response>))).await;
    let begun = Instant::now();
    let error = gateway(mute.base()).fetch(want(cid_of(DATA), Duration::from_millis(150))).await.unwrap_err();
    assert_eq!(error.class, FailureClass::Source);
    assert!(begun.elapsed() < BRISK.head_timeout, "{:?}", begun.elapsed());
    let error = fetch(&gateway(mute.base()), cid_of(DATA)).await.unwrap_err();
    assert!(begun.elapsed() >= BRISK.head_timeout && begun.elapsed() < SOON, "{error}");

    let stuck =
        serving(|| raw(Body::from_stream(stream::iter([Ok::<_, Infallible>("a block")]).chain(stream::pending()))))
            .await;
    let begun = Instant::now();
    let error = fetch(&gateway(stuck.base()), cid_of(DATA)).await.unwrap_err();
    assert_eq!((error.class, error.detail.contains("stood still")), (FailureClass::Source, true), "{error}");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_gateway_that_asks_for_a_pause_gets_it() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let answer = move || match count.fetch_add(1, Ordering::Relaxed) {
        0 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        1 => raw(DATA),
        _ => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3600")]).into_response(),
    };
    let server = serving(answer).await;
    let (gateway, begun) = (gateway(server.base()), Instant::now());
    assert_eq!(fetch(&gateway, cid_of(DATA)).await.unwrap().as_ref(), DATA);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    for _ in 0..3 {
        let error = fetch(&gateway, cid_of(DATA)).await.unwrap_err();
        assert_eq!(error.class, FailureClass::Source);
        assert!(error.detail.contains("left alone"), "{error}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 3, "it is not asked during an hour's pause");
}

/// How many requests a server has in hand, and the most it had.
#[derive(Debug, Default)]
struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[tokio::test]
async fn a_gateway_gets_so_many_requests_at_a_time_and_no_more() {
    async fn answer(State(load): State<Arc<Load>>) -> Response {
        let now = load.now.fetch_add(1, Ordering::SeqCst) + 1;
        load.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        load.now.fetch_sub(1, Ordering::SeqCst);
        raw(DATA)
    }
    let load = Arc::new(Load::default());
    let server = Server::start(Router::new().fallback(any(answer)).with_state(load.clone())).await;
    let gateway = gateway(server.base());
    let all = futures_util::future::join_all((0..9).map(|_| fetch(&gateway, cid_of(DATA)))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(load.most.load(Ordering::SeqCst), BRISK.max_concurrent);

    let busy = (0..2).map(|_| fetch(&gateway, cid_of(DATA)));
    let late = gateway.fetch(want(cid_of(DATA), Duration::from_millis(20)));
    let (_, late) = futures_util::future::join(futures_util::future::join_all(busy), late).await;
    assert_eq!(late.unwrap_err().class, FailureClass::Neutral, "whoever was not asked is not at fault");
}

#[tokio::test]
async fn a_fetch_that_is_dropped_closes_its_connection() {
    struct Watched(Arc<Notify>);
    impl Drop for Watched {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (begun, gone) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, watch) = (begun.clone(), gone.clone());
    let server = serving(move || {
        let (tell, watched) = (tell.clone(), Watched(watch.clone()));
        let body = stream::unfold(watched, move |watched| {
            tell.notify_one();
            async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Ok::<_, Infallible>("drip"), watched))
            }
        });
        raw(Body::from_stream(body))
    })
    .await;
    let gateway = gateway(server.base());
    {
        let mut fetch = std::pin::pin!(fetch(&gateway, cid_of(DATA)));
        tokio::select! {
            result = &mut fetch => panic!("{result:?}"),
            () = begun.notified() => {}
        }
    }
    timeout(SOON, gone.notified()).await.expect("the server sees that nobody reads any more");
}

#[tokio::test]
async fn a_redirect_is_followed_as_far_as_the_guard_lets_it() {
    let inner = serving(|| raw(DATA)).await;
    let target = format!("{}/elsewhere", inner.base());
    let outer = serving(move || (StatusCode::MOVED_PERMANENTLY, [("location", target.clone())]).into_response()).await;
    assert_eq!(fetch(&gateway(outer.base()), cid_of(DATA)).await.unwrap().as_ref(), DATA);

    let trap = serving(|| (StatusCode::FOUND, [("location", "http://169.254.169.254/latest/")]).into_response()).await;
    let error = fetch(&gateway(trap.base()), cid_of(DATA)).await.unwrap_err();
    assert!(error.class == FailureClass::Source && error.detail.contains("metadata"), "{error}");

    let strict = HttpClient::new(EgressPolicy { allow_private: false }).unwrap();
    let strict = TrustlessGateway::new(strict, inner.base(), BRISK).unwrap();
    let error = fetch(&strict, cid_of(DATA)).await.unwrap_err();
    assert!(error.detail.contains("loopback"), "{error}");
}

#[tokio::test]
async fn what_needs_no_asking_or_cannot_be_checked_is_not_asked_for() {
    let asked = Arc::new(Mutex::new(Vec::<HeaderMap>::new()));
    let kept = asked.clone();
    let answer = move |headers: HeaderMap| {
        kept.lock().push(headers);
        std::future::ready(raw(DATA))
    };
    let server = Server::start(Router::new().fallback(any(answer))).await;
    let gateway = gateway(server.base());
    let inline: Cid = "bafyaabakaieac".parse().unwrap();
    assert_eq!(fetch(&gateway, inline).await.unwrap().as_ref(), [10, 2, 8, 1]);
    let keccak = Cid::try_from([&[1, 0x55, 0x1b, 32][..], &[7; 32]].concat()).unwrap();
    assert_eq!(fetch(&gateway, keccak).await.unwrap_err().class, FailureClass::Neutral);
    assert_eq!(asked.lock().len(), 0);
}
