//! Streams in time: deadlines, faults, slow clients, clients who leave.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use swarmgate_content::{Event, EventReceiver, FetchErrorKind};
use tokio::io::AsyncReadExt as _;

use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Behaviour, IH, World, eventually, world};

const SOON: Duration = Duration::from_millis(100);
/// For what has no bound of its own, however busy the machine is.
const IN_TIME: Duration = Duration::from_secs(10);
/// How soon a client's leave must be felt.
const AT_ONCE: Duration = Duration::from_millis(50);
const FILES: &[(&str, u64)] = &[("film.mkv", 8_000_000)];

async fn with(behaviour: Behaviour, options: HttpOptions) -> World {
    World::start(FILES, behaviour, options, ServeLimits::default()).await
}

fn film() -> String {
    format!("/bt/{IH}/film.mkv")
}

#[tokio::test]
async fn a_first_byte_that_does_not_come_is_a_504_that_names_its_stage() {
    let behaviour = Behaviour { hang_after: Some(0), ..Behaviour::default() };
    let world = with(behaviour, HttpOptions { first_byte: SOON, ..HttpOptions::default() }).await;
    let answer = world.get(&film()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timed-out"));
    assert_eq!((answer.json()["stage"].as_str(), answer.header("retry-after")), (Some("first-byte"), Some("20")));
    eventually("the reader is gone", IN_TIME, || world.readers() == 0).await;
}

#[tokio::test]
async fn metadata_that_does_not_come_is_a_504_that_names_its_stage() {
    let behaviour = Behaviour { resolve: Ok(Duration::from_secs(60)), ..Behaviour::default() };
    let world = with(behaviour, HttpOptions { resolve: SOON, ..HttpOptions::default() }).await;
    let answer = world.get(&film()).await;
    assert_eq!((answer.status, answer.json()["stage"].as_str()), (504, Some("resolve")));
}

#[tokio::test]
async fn a_client_may_wait_longer_or_not_at_all_within_the_operators_cap() {
    let behaviour = Behaviour { delay: Duration::from_millis(700), ..Behaviour::default() };
    let options = HttpOptions { first_byte: SOON, max_wait: Duration::from_secs(2), ..HttpOptions::default() };
    let world = with(behaviour, options).await;
    assert_eq!(world.get(&film()).await.status, 504);
    assert_eq!(world.range(&format!("{}?wait=60", film()), "bytes=0-9").await.status, 206);
    assert_eq!(world.get(&format!("{}?wait=0", film())).await.status, 504);
    *world.protocol.behaviour.lock() = Behaviour { hang_after: Some(0), ..Behaviour::default() };
    let asked = Instant::now();
    assert_eq!(world.get(&format!("{}?wait=3600", film())).await.status, 504);
    assert!(asked.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn what_is_wanted_only_from_the_cache_and_is_not_there_is_a_412() {
    let world = with(Behaviour { hang_after: Some(0), ..Behaviour::default() }, HttpOptions::default()).await;
    let answer = world.send("GET", &film(), &[("Cache-Control", "only-if-cached")], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (412, "not-cached"));
}

#[tokio::test]
async fn what_is_wanted_only_from_the_cache_is_there_to_its_last_byte_or_is_a_412() {
    let world = with(Behaviour::default(), HttpOptions::default()).await;
    *world.catalogue.here.lock() = Some(4_000_000);
    let cached = ("Cache-Control", "only-if-cached");
    for (range, status) in [
        ("bytes=0-3999999", 206),
        ("bytes=0-9,100-3999999", 206),
        ("bytes=0-4000000", 412),
        ("bytes=0-9,7999990-7999999", 412),
        ("bytes=-1", 412),
        ("bytes=9000000-", 416),
    ] {
        let answer = world.send("GET", &film(), &[cached, ("Range", range)], b"").await;
        assert_eq!((answer.status, answer.clean), (status, true), "{range}");
    }
    for path in [film(), format!("/bt/{IH}/?format=zip")] {
        for method in ["GET", "HEAD"] {
            assert_eq!(world.send(method, &path, &[cached], b"").await.status, 412, "{method} {path}");
        }
    }
    assert_eq!(world.protocol.seen.opens.load(Ordering::SeqCst), 3, "what is refused is not opened");
    let known = ("If-None-Match", format!("\"bt1-{IH}-0\""));
    let unchanged = world.send("GET", &film(), &[cached, (known.0, known.1.as_str())], b"").await;
    assert_eq!(unchanged.status, 304, "which needs no byte of it");
    *world.catalogue.here.lock() = None;
    for method in ["GET", "HEAD"] {
        assert_eq!(world.send(method, &film(), &[cached], b"").await.status, 200, "{method}");
    }
}

#[tokio::test]
async fn a_fault_before_the_first_byte_is_an_error_answer() {
    let world = with(Behaviour { fault_after: Some(0), ..Behaviour::default() }, HttpOptions::default()).await;
    assert_eq!(world.get(&film()).await.problem(), "no-source");
    *world.protocol.behaviour.lock() = Behaviour { end_after: Some(0), ..Behaviour::default() };
    assert_eq!(world.get(&film()).await.problem(), "internal", "a reader that gives nothing broke its promise");
}

#[tokio::test]
async fn a_fault_in_the_middle_never_gives_a_clean_end() {
    let half = Some(4_000_000);
    for behaviour in [
        Behaviour { fault_after: half, ..Behaviour::default() },
        Behaviour { end_after: half, ..Behaviour::default() },
        Behaviour { hang_after: half, ..Behaviour::default() },
        Behaviour { surplus: true, ..Behaviour::default() },
    ] {
        let world = with(behaviour.clone(), HttpOptions { stall: SOON, ..HttpOptions::default() }).await;
        let mut events = world.state.manager.events().subscribe();
        let answer = world.get(&film()).await;
        assert_eq!((answer.status, answer.clean), (200, false), "{behaviour:?}");
        assert!(world.protocol.file(0).starts_with(&answer.body), "no wrong byte went out");
        assert!(matches!(closed(&mut events).await, Event::StreamClose { failed: true, .. }));
        let range = world.range(&film(), "bytes=0-4999999,6000000-7999999").await;
        assert!(!range.clean, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_stream_cut_by_a_fault_is_reset_not_closed() {
    let behaviour = Behaviour { hang_after: Some(65536), ..Behaviour::default() };
    let world = with(behaviour, HttpOptions { stall: SOON, ..HttpOptions::default() }).await;
    let mut socket = world.request("GET", &film(), &[], b"").await;
    let ended = socket.read_to_end(&mut Vec::new()).await;
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn silence_counts_only_while_the_client_waits_for_us() {
    let world = with(Behaviour::default(), HttpOptions { stall: SOON, ..HttpOptions::default() }).await;
    let mut socket = world.request("GET", &film(), &[], b"").await;
    let mut bytes = vec![0; 1000];
    socket.read_exact(&mut bytes).await.unwrap();
    tokio::time::sleep(SOON * 5).await;
    socket.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.ends_with(&world.protocol.file(0)[7_000_000..]), "a paused player goes on where it was");
}

#[tokio::test]
async fn a_slow_client_holds_back_the_reader() {
    let files = &[("film.mkv", 64_000_000)];
    let world = World::start(files, Behaviour::default(), HttpOptions::default(), ServeLimits::default()).await;
    let mut socket = world.request("GET", &film(), &[], b"").await;
    let mut bytes = vec![0; 100_000];
    socket.read_exact(&mut bytes).await.unwrap();
    let chunks = || world.protocol.seen.chunks.load(Ordering::SeqCst);
    let mut before = 0;
    while chunks() != before {
        before = chunks();
        tokio::time::sleep(SOON).await;
    }
    // What left the reader is in this client's own receive buffer, in at most 128 KiB not yet sent, and in one write.
    // A loopback receive buffer grows to 6 MiB at most, so the rest of the 64 MB is still where it was.
    assert!(chunks() * 16384 < 8_000_000, "{} chunks of 16 KiB were read", chunks());
}

#[tokio::test]
async fn a_client_who_leaves_takes_its_reader_along_within_50_ms() {
    let world = with(Behaviour { hang_after: Some(1_000_000), ..Behaviour::default() }, HttpOptions::default()).await;
    let mut events = world.state.manager.events().subscribe();
    let took = quickest_of_five(async || {
        let mut socket = world.request("GET", &film(), &[], b"").await;
        socket.read_exact(&mut vec![0; 900_000]).await.unwrap();
        leave(&world, socket).await
    });
    assert!(took.await < AT_ONCE);
    assert!(matches!(closed(&mut events).await, Event::StreamClose { failed: false, .. }));
    assert_eq!(world.state.admission.taken(), 0);
}

#[tokio::test]
async fn a_client_who_leaves_before_the_first_byte_takes_its_request_along() {
    let world = with(Behaviour { hang_after: Some(0), ..Behaviour::default() }, HttpOptions::default()).await;
    let took = quickest_of_five(async || {
        let socket = world.request("GET", &film(), &[], b"").await;
        eventually("the reader is open", IN_TIME, || world.readers() == 1).await;
        leave(&world, socket).await
    });
    assert!(took.await < AT_ONCE);
}

/// Closes a connection and measures how long its reader lives on.
async fn leave(world: &World, socket: tokio::net::TcpStream) -> Duration {
    assert_eq!(world.readers(), 1);
    let left = Instant::now();
    drop(socket);
    eventually("the reader is gone", IN_TIME, || world.readers() == 0).await;
    left.elapsed()
}

/// Other work on the machine only ever makes a measurement longer.
async fn quickest_of_five(measure: impl AsyncFn() -> Duration) -> Duration {
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        quickest = quickest.min(measure().await);
    }
    quickest
}

#[tokio::test]
async fn a_stream_is_announced_and_accounted() {
    let world = world(FILES).await;
    let mut events = world.state.manager.events().subscribe();
    world.range(&film(), "bytes=0-99999").await;
    assert!(matches!(events.recv().await.unwrap().event, Event::StreamOpen { stream: 1, .. }));
    let Event::StreamClose { stream, bytes, failed, .. } = closed(&mut events).await else { unreachable!() };
    assert_eq!((stream, bytes, failed), (1, 100_000, false));
    assert_eq!((world.state.telemetry.streams_open(), world.state.telemetry.stream_bytes()), (0, 100_000));
}

#[tokio::test]
async fn a_stream_that_makes_its_client_wait_is_told_of_when_it_goes_on() {
    let behaviour = Behaviour { delay: 3 * SOON, ..Behaviour::default() };
    let world = with(behaviour, HttpOptions::default()).await;
    let mut events = world.state.manager.events().subscribe();
    // Each part has a reader of its own, and what comes before the first byte is no stall.
    assert_eq!(world.range(&film(), "bytes=0-99,5000000-5000099").await.status, 206);
    let mut stalls = Vec::new();
    loop {
        let event = events.recv().await.unwrap().event;
        if let Event::StreamStall { stream: 1, ms, .. } = event {
            stalls.push(ms);
        } else if matches!(event, Event::StreamClose { .. }) {
            break;
        }
    }
    assert!(matches!(stalls[..], [ms] if ms >= 250), "{stalls:?}");
}

#[tokio::test]
async fn a_client_on_this_machine_such_as_a_proxy_is_bounded_by_the_total_alone() {
    let behaviour = Behaviour { hang_after: Some(1000), ..Behaviour::default() };
    let world =
        with(behaviour, HttpOptions { max_streams: 2, max_streams_per_client: 1, ..HttpOptions::default() }).await;
    let held = [world.request("GET", &film(), &[], b"").await, world.request("GET", &film(), &[], b"").await];
    eventually("both are open", IN_TIME, || world.readers() == 2).await;
    let answer = world.get(&film()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
    assert!(answer.header("retry-after").is_some(), "it is told when to come back");
    assert_eq!(world.get("/healthz").await.status, 200, "health is no stream");
    drop(held);
    eventually("the slots are back", IN_TIME, || world.state.admission.taken() == 0).await;
    assert_eq!(world.range(&film(), "bytes=0-9").await.status, 206);
}

#[tokio::test]
async fn a_full_gateway_says_so() {
    let behaviour = Behaviour { hang_after: Some(1000), ..Behaviour::default() };
    let world = with(behaviour, HttpOptions { max_streams: 1, ..HttpOptions::default() }).await;
    let _held = world.request("GET", &film(), &[], b"").await;
    eventually("it is open", IN_TIME, || world.readers() == 1).await;
    let answer = world.get(&film()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
}

#[tokio::test]
async fn shutdown_lets_a_stream_end_and_cuts_one_that_does_not() {
    let slow = Behaviour { hang_after: Some(1_000_000), ..Behaviour::default() };
    let limits = ServeLimits { drain: Duration::from_millis(300), ..ServeLimits::default() };
    let world = World::start(FILES, slow, HttpOptions::default(), limits).await;
    let mut cut = world.request("GET", &film(), &[], b"").await;
    cut.read_exact(&mut vec![0; 900_000]).await.unwrap();
    *world.protocol.behaviour.lock() = Behaviour { delay: SOON, ..Behaviour::default() };
    let mut fine = world.request("GET", &film(), &[], b"").await;
    eventually("both are open", IN_TIME, || world.readers() == 2).await;
    world.shutdown.cancel();
    let mut bytes = Vec::new();
    fine.read_to_end(&mut bytes).await.unwrap();
    assert!(bytes.ends_with(&world.protocol.file(0)[7_999_000..]));
    let asked = Instant::now();
    world.server.await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert!(tokio::net::TcpStream::connect(world.address).await.is_err(), "nothing listens any more");
    assert_eq!(world.protocol.seen.readers.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_fault_in_the_cache_is_told_without_this_machines_paths() {
    let behaviour = Behaviour { resolve: Err(FetchErrorKind::StoreIo), ..Behaviour::default() };
    let answer = with(behaviour, HttpOptions::default()).await.get(&film()).await;
    assert!(answer.status == 503 && !answer.text().contains("as the test wished"));
}

/// Waits for a stream's end.
async fn closed(events: &mut EventReceiver) -> Event {
    loop {
        let event = events.recv().await.unwrap().event;
        if matches!(event, Event::StreamClose { .. }) {
            return event;
        }
    }
}
