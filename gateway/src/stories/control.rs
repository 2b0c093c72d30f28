//! The control API, the event stream, health and metrics.

use std::path::PathBuf;
use std::time::Duration;

use swarmgate_content::{ContentId, Event, HealthState, InfoHash};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::auth::{Credentials, Scope};
use crate::catalogue::AddError;
use crate::cli::openapi;
use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Answer, Behaviour, IH, World, infohash, world};

const FILES: &[(&str, u64)] = &[("film.mkv", 100_000)];
const SOON: Duration = Duration::from_secs(2);

async fn add(world: &World, content_type: &str, body: &[u8]) -> Answer {
    world.send("POST", "/api/v1/items", &[("Content-Type", content_type)], body).await
}

#[tokio::test]
async fn an_item_is_added_by_file_by_uri_and_by_json() {
    let magnet = format!("magnet:?xt=urn:btih:{IH}&dn=x");
    let json = format!("{{\"uri\": \"{magnet}\", \"pin\": false}}");
    for (content_type, body, status, kept) in [
        ("application/x-bittorrent", &b"de"[..], 201, true),
        ("application/json; charset=utf-8", json.as_bytes(), 202, false),
        ("text/plain", magnet.as_bytes(), 202, true),
        ("text/plain", IH.as_bytes(), 202, true),
        ("text/uri-list", b"https://x.example/good.torrent\r\n", 201, true),
    ] {
        let world = world(FILES).await;
        let answer = add(&world, content_type, body).await;
        assert_eq!(answer.status, status, "{content_type}: {}", answer.text());
        assert_eq!(answer.header("location").unwrap(), format!("/api/v1/items/{IH}"));
        assert_eq!((&answer.json()["infohash"], answer.json()["kept"].as_bool()), (&IH.into(), Some(kept)));
        assert_eq!(add(&world, content_type, body).await.status, 200, "the second time it is there");
        assert_eq!(world.get(answer.header("location").unwrap()).await.json()["infohash"], IH);
    }
}

#[tokio::test]
async fn a_post_under_one_key_is_done_once_and_answered_alike() {
    let world = world(FILES).await;
    let magnet = format!("magnet:?xt=urn:btih:{IH}&dn=x");
    let rows = [("Content-Type", "text/plain"), ("Idempotency-Key", "one")];
    let first = world.send("POST", "/api/v1/items", &rows, magnet.as_bytes()).await;
    let again = world.send("POST", "/api/v1/items", &rows, magnet.as_bytes()).await;
    assert_eq!((first.status, again.status), (202, 202), "without a key the second would be 200");
    assert_eq!((again.header("location"), &again.body), (first.header("location"), &first.body));
    let other = world.send("POST", "/api/v1/items", &rows, IH.as_bytes()).await;
    assert_eq!((other.status, other.problem().as_str()), (422, "key-reused"));
    let refused = [("Content-Type", "text/plain"), ("Idempotency-Key", "two")];
    assert_eq!(world.send("POST", "/api/v1/items", &refused, b"what").await.problem(), "invalid-torrent");
    assert_eq!(
        world.send("POST", "/api/v1/items", &refused, IH.as_bytes()).await.status,
        200,
        "what failed is forgotten"
    );
}

#[tokio::test]
async fn the_api_describes_itself_to_programs_and_to_people() {
    let world = world(FILES).await;
    let described = world.get("/api/v1/openapi.json").await;
    let mut printed = Vec::new();
    openapi::run(&mut printed).unwrap();
    assert!(described.body == printed, "`swarmgate openapi` prints the same");
    let description = described.json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(description["paths"]["/api/v1/items/{id}"]["delete"].is_object());
    let page = world.get("/api/v1/docs").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for words in ["DELETE /api/v1/items/{id}", "upload_policy", "It was never added, or was removed"] {
        assert!(page.text().contains(words), "{words}");
    }
    let elsewhere =
        ["http://", "https://", "src=\"//", "href=\"//"].into_iter().find(|begin| page.text().contains(begin));
    assert_eq!(elsewhere, None, "it loads nothing and leads nowhere else");
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_with_the_reason() {
    let world = world(FILES).await;
    let large = vec![b'x'; 70_000];
    for (content_type, body, status, problem) in [
        ("application/x-bittorrent", &b"<html>"[..], 422, "invalid-torrent"),
        ("text/plain", b"magnet:?dn=x", 422, "invalid-torrent"),
        ("text/plain", b"what", 422, "invalid-torrent"),
        ("text/plain", b"\xff", 400, "bad-body"),
        ("text/plain", &large, 413, "body-too-large"),
        ("application/json", b"{\"url\": 1}", 400, "bad-body"),
        ("application/json", b"", 400, "bad-body"),
        ("image/png", b"x", 415, "unsupported-media-type"),
    ] {
        let answer = add(&world, content_type, body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{content_type}");
    }
    let answer = add(&world, "application/x-bittorrent", b"<html>").await;
    assert_eq!(answer.json()["detail"], "it does not begin with a dictionary");
    for (error, status) in [(AddError::Busy, 503), (AddError::Full, 507), (AddError::ShuttingDown, 503)] {
        *world.catalogue.refuse.lock() = Some(error);
        assert_eq!(add(&world, "text/plain", IH.as_bytes()).await.status, status);
    }
}

#[tokio::test]
async fn an_item_is_listed_shown_and_removed_with_or_without_its_data() {
    let world = world(FILES).await;
    for (query, purged) in [("", false), ("?data=keep", false), ("?data=purge", true)] {
        add(&world, "text/plain", IH.as_bytes()).await;
        assert_eq!(world.get("/api/v1/items").await.json()["items"][0]["state"], "resolving");
        let one = format!("/api/v1/items/{}", IH.to_uppercase());
        assert_eq!(world.get(&one).await.status, 200, "any spelling names it");
        assert_eq!(world.send("DELETE", &format!("{one}{query}"), &[], b"").await.status, 204);
        assert_eq!(world.catalogue.purged.lock().pop(), Some((infohash(), purged)));
        assert_eq!(world.get(&one).await.problem(), "no-such-item");
        assert_eq!(world.send("DELETE", &one, &[], b"").await.status, 404);
    }
    assert_eq!(world.send("DELETE", &format!("/api/v1/items/{IH}?data=all"), &[], b"").await.problem(), "bad-query");
    assert_eq!(world.get("/api/v1/items/xyz").await.problem(), "bad-id");
}

#[tokio::test]
async fn status_has_networks_totals_and_the_cache() {
    let world = world(FILES).await;
    add(&world, "text/plain", IH.as_bytes()).await;
    let status = world.get("/api/v1/status").await.json();
    assert_eq!(status["networks"][0]["kind"], "bittorrent");
    assert_eq!(status["networks"][0]["health"]["state"], "ok");
    assert_eq!((&status["totals"]["items"], &status["cache"]["used"]), (&1.into(), &7.into()));
    assert_eq!(world.get("/api/v1/version").await.json()["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn capabilities_tell_networks_formats_limits_and_what_the_asking_one_may_do() {
    let open = world(FILES).await;
    let can = open.get("/api/v1/capabilities").await.json();
    let on =
        |kind: &str| can["networks"].as_array().unwrap().iter().find(|row| row["kind"] == kind).unwrap()["on"] == true;
    assert_eq!(["bittorrent", "webtorrent", "ipfs", "hybrid"].map(on), [true, false, false, false]);
    assert_eq!(can["networks"][0]["can"]["ranges"], true);
    assert!(can["networks"][2]["can"].is_null());
    for format in can["formats"]["bt"].as_array().unwrap() {
        let path = format!("/bt/{IH}/?format={}", format.as_str().unwrap());
        assert_eq!(open.get(&path).await.status, 200, "{path}");
    }
    assert!(can["formats"]["ipfs"].as_array().unwrap().contains(&"car".into()));
    assert_eq!(can["sources"], serde_json::json!(["bt", "webrtc", "ipfs", "http"]));
    assert_eq!((&can["limits"]["streams"], &can["limits"]["cache_bytes"]), (&1024.into(), &1_048_576.into()));
    assert_eq!((&can["features"]["items"], &can["features"]["publish"]), (&true.into(), &false.into()));
    assert_eq!(can["access"]["credentials"], false);
    assert_eq!(can["access"]["granted"], can["access"]["scopes"], "where nobody is asked, everybody may do all");

    let mut credentials = Credentials::default();
    let adder = credentials.create_token("adder", &[Scope::Add]).unwrap();
    let options = HttpOptions { credentials: Some((PathBuf::from("nowhere"), credentials)), ..HttpOptions::default() };
    let closed = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    assert_eq!(closed.get("/api/v1/capabilities").await.status, 401);
    let bearer = format!("Bearer {adder}");
    let can = closed.send("GET", "/api/v1/capabilities", &[("Authorization", &bearer)], b"").await.json();
    assert_eq!(can["access"]["granted"], serde_json::json!(["read", "add"]));
}

#[tokio::test]
async fn ready_needs_a_network_that_works() {
    let world = world(FILES).await;
    assert_eq!(world.get("/readyz").await.json()["networks"][0]["health"]["evidence"], "in memory");
    for (state, status) in [(HealthState::Ok, 200), (HealthState::Degraded, 200), (HealthState::Down, 503)] {
        world.protocol.set_health(state);
        assert_eq!(world.get("/readyz").await.status, status, "{state:?}");
    }
    assert_eq!(world.get("/healthz").await.text(), "ok\n");
}

#[tokio::test]
async fn metrics_count_requests_streams_and_each_networks_own() {
    let world = world(FILES).await;
    world.range(&format!("/bt/{IH}/film.mkv"), "bytes=0-9").await;
    let text = world.get("/metrics").await.text();
    for line in [
        "swarmgate_http_requests_total{route=\"bt\",class=\"2xx\"} 1\n",
        "swarmgate_http_stream_bytes_total 10\n",
        "swarmgate_http_first_byte_seconds_count 1\n",
        "swarmgate_network_up{network=\"bittorrent\"} 1\n",
        "swarmgate_bytes_downloaded_total{network=\"bittorrent\"} 0\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains(IH));
}

fn added(byte: u8) -> Event {
    Event::ItemAdded { item: ContentId::BtV1(InfoHash::new([byte; 20])) }
}

/// Reads an event stream until it has `needle`.
pub(super) async fn until(socket: &mut TcpStream, seen: &mut String, needle: &str) {
    let mut buffer = [0; 4096];
    while !seen.contains(needle) {
        let read = tokio::time::timeout(SOON, socket.read(&mut buffer)).await.expect(needle).unwrap();
        assert!(read > 0, "ended before {needle}: {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

/// The newest number in a stream.
fn last_id(seen: &str) -> u64 {
    seen.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_event_stream_starts_with_a_snapshot_and_goes_on_live() {
    let world = world(FILES).await;
    let (mut socket, mut seen) = (world.request("GET", "/api/v1/events", &[], b"").await, String::new());
    until(&mut socket, &mut seen, "event: snapshot").await;
    assert!(seen.contains("x-accel-buffering: no\r\n") && seen.contains("content-type: text/event-stream"));
    world.state.manager.events().publish(added(7));
    until(&mut socket, &mut seen, &"07".repeat(20)).await;
    assert!(seen.contains("event: item.added\n") && seen.contains("\"type\":\"item.added\""), "{seen}");
}

#[tokio::test]
async fn a_client_who_comes_back_gets_what_it_missed() {
    let world = world(FILES).await;
    let bus = world.state.manager.events();
    let (mut socket, mut seen) = (world.request("GET", "/api/v1/events", &[], b"").await, String::new());
    until(&mut socket, &mut seen, "event: snapshot").await;
    bus.publish(added(1));
    until(&mut socket, &mut seen, &"01".repeat(20)).await;
    drop(socket);
    bus.publish(added(2));
    bus.publish(added(3));
    let last = last_id(&seen).to_string();
    let (mut socket, mut seen) =
        (world.request("GET", "/api/v1/events", &[("Last-Event-ID", &last)], b"").await, String::new());
    until(&mut socket, &mut seen, &"03".repeat(20)).await;
    bus.publish(added(4));
    until(&mut socket, &mut seen, &"04".repeat(20)).await;
    assert!(!seen.contains("snapshot") && !seen.contains(&"01".repeat(20)));
    assert_eq!(seen.matches("event: item.added").count(), 3, "each once: {seen}");
}

#[tokio::test]
async fn a_client_whose_past_is_forgotten_is_told_to_start_afresh() {
    let world = world(FILES).await;
    for last in ["1", "99999999999999999", "x"] {
        let (mut socket, mut seen) =
            (world.request("GET", "/api/v1/events", &[("Last-Event-ID", last)], b"").await, String::new());
        until(&mut socket, &mut seen, "event: snapshot").await;
        assert!(seen.find("event: resync").unwrap() < seen.find("event: snapshot").unwrap());
    }
}

#[tokio::test]
async fn filters_narrow_a_stream() {
    let world = world(FILES).await;
    let path = format!("/api/v1/events?items={}&types=item.added", "05".repeat(20));
    let (mut socket, mut seen) = (world.request("GET", &path, &[], b"").await, String::new());
    until(&mut socket, &mut seen, "event: snapshot").await;
    let bus = world.state.manager.events();
    bus.publish(added(4));
    bus.publish(Event::ItemRemoved { item: ContentId::BtV1(InfoHash::new([5; 20])) });
    bus.publish(added(5));
    until(&mut socket, &mut seen, &"05".repeat(20)).await;
    assert!(!seen.contains(&"04".repeat(20)) && !seen.contains("item.removed"));
}

#[tokio::test]
async fn event_streams_end_when_the_gateway_begins_to_stop() {
    let world = world(FILES).await;
    let (mut socket, mut seen) = (world.request("GET", "/api/v1/events", &[], b"").await, String::new());
    until(&mut socket, &mut seen, "event: snapshot").await;
    world.shutdown.cancel();
    tokio::time::timeout(SOON, socket.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    tokio::time::timeout(SOON, world.server).await.unwrap().unwrap();
}
