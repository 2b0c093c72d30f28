//! One content over a swarm and a web server, as its reader and its operator see and steer it: who delivers, who reads,
//! who is not asked and why, and which networks may be asked at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use serde_json::Value;
use swarmgate_content::Event;
use swarmgate_tests::http;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::raw::Connection;
use swarmgate_tests::wait;

use super::MIB;

const IN_TIME: Duration = Duration::from_secs(20);

/// A web server that has one file.
#[derive(Debug, Clone)]
struct Shelf {
    file: Bytes,
    requests: Arc<AtomicU64>,
    broken: Arc<AtomicBool>,
}

impl Shelf {
    /// Puts a file on the shelf, and tells its URL.
    async fn start(file: Bytes) -> (Self, String) {
        let shelf = Self { file, requests: Arc::default(), broken: Arc::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/film.mkv", listener.local_addr().unwrap());
        let give = |State(shelf): State<Self>, headers: HeaderMap| async move { shelf.give(&headers) };
        let router = Router::new().route("/film.mkv", get(give)).with_state(shelf.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (shelf, url)
    }

    fn give(&self, headers: &HeaderMap) -> Response {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if self.broken.load(Ordering::SeqCst) {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes="));
        let Some((first, last)) = range.and_then(|range| range.split_once('-')) else {
            return self.file.clone().into_response();
        };
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        let of = format!("bytes {first}-{last}/{}", self.file.len());
        (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, of)], self.file.slice(first..=last)).into_response()
    }

    fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A film that a swarm and a web server have, and a gateway that knows of both.
struct World {
    film: Content,
    seeder: Seeder,
    shelf: Shelf,
    node: Node,
}

impl World {
    async fn start(seed: u64, mib: usize) -> Self {
        let film = Content::single("film.mkv", seed, mib * MIB, 256 * 1024);
        let seeder = Seeder::start(&film).await;
        let (shelf, url) = Shelf::start(film.bytes.clone()).await;
        let node = Node::fresh().await;
        let hints = format!("{}&ws={url}", film.magnet_query(&[seeder.address()]));
        let known = http::get(&node.url(&format!("/bt/{}/?format=json&{hints}", film.infohash()))).await;
        assert_eq!(known.status, 200, "{}", known.text());
        Self { film, seeder, shelf, node }
    }

    fn path(&self, query: &str) -> String {
        format!("{}{query}", self.film.path(0))
    }

    /// Reads all of it, and tells from where its first bytes came.
    async fn read(&self, query: &str) -> String {
        let answer = http::get(&self.node.url(&self.path(query))).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        assert!(answer.body == self.film.bytes, "{query}: other bytes");
        answer.header("x-swarmgate-source").to_owned()
    }

    async fn api(&self, path: &str) -> Value {
        http::get(&self.node.url(&format!("/api/v1/{path}"))).await.json()
    }

    async fn switch(&self, network: &str, enabled: bool) -> Value {
        let url = self.node.url(&format!("/api/v1/networks/{network}"));
        let answer = http::send(http::client().patch(&url).body(format!("{{\"enabled\":{enabled}}}")), &url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Bytes of pieces that the swarm has given.
    fn swarm_gave(&self) -> u64 {
        self.seeder.stats().bytes_uploaded
    }

    async fn stop(self) {
        self.node.stop().await;
        self.seeder.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_by_which_networks_and_sources_its_bytes_came() {
    let world = World::start(71, 96).await;
    world.switch("bt", false).await;
    let mut client = Connection::open(world.node.address()).await;
    client.send("GET", &world.path(""), &[]).await.unwrap();
    let head = client.head().await.unwrap();
    let first = head.header("x-swarmgate-source").to_owned();
    assert_eq!(first, "http;r=1.00");
    assert!(head.header("access-control-expose-headers").contains("x-swarmgate-source"));
    world.switch("bt", true).await;
    world.switch("http", false).await;
    let read = 88 * MIB;
    assert!(client.exactly(read).await.unwrap() == world.film.bytes[..read]);
    let listed = world.api("streams").await;
    let stream = &listed["streams"][0];
    assert_eq!(stream["item"], listed["fetches"][0]["item"], "{listed}");
    assert_eq!((&stream["client"], &stream["ranges"][0]), (&"127.0.0.1".into(), &"0-100663295".into()));
    let (sent, came) = (stream["sent"].as_u64().unwrap(), &stream["came_from"]);
    assert!(sent >= read as u64, "{stream}");
    let of = |network: &str| came["networks"][network].as_u64().unwrap_or_default();
    assert!(of("bt") > 0 && of("http") > 0, "both have given some of it: {listed}");
    let cache = came["cache"].as_u64().unwrap();
    assert!(of("bt") + of("http") + cache >= sent && cache < MIB as u64, "nothing was here before: {stream}");
    let sources = came["sources"].as_object().unwrap().values().map(|bytes| bytes.as_u64().unwrap()).sum::<u64>();
    assert_eq!(sources, of("bt") + of("http"), "each byte is some source's: {stream}");
    let shares = listed["fetches"][0]["shares"].as_array().unwrap();
    assert!(shares.iter().all(|share| share["wasted_bytes"].is_u64() && share["hedge_wins"].is_u64()), "{listed}");
    assert!(client.exactly(96 * MIB - read).await.unwrap() == world.film.bytes[read..]);

    assert_eq!(world.read("").await, "cache;r=1.00", "all of it is here now");
    let page = http::get(&world.node.url("/metrics")).await.text();
    let value = |name: &str| page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok()).unwrap();
    let useful = |network| value(&format!("swarmgate_hybrid_bytes_total{{network=\"{network}\",outcome=\"useful\"}}"));
    let (counted, all) = (useful("bt") + useful("http"), world.film.bytes.len() as u64);
    // A piece that a swarm sends though it was withdrawn is nobody's.
    assert!(counted <= all && counted >= all * 9 / 10, "each piece once: {page}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_ends_a_stream_and_its_client_cannot_take_it_for_the_whole() {
    let world = World::start(72, 32).await;
    let mut events = world.node.app.manager().events().subscribe();
    let mut client = Connection::open(world.node.address()).await;
    client.send("GET", &world.path(""), &[]).await.unwrap();
    assert_eq!(client.head().await.unwrap().status, 200);
    let id = world.api("streams").await["streams"][0]["id"].as_u64().unwrap();
    let url = world.node.url(&format!("/api/v1/streams/{id}"));
    assert_eq!(http::send(http::client().delete(&url), &url).await.status, 204);
    let ended = loop {
        match client.some(MIB).await {
            Ok(some) if !some.is_empty() => {}
            Ok(_) => break None,
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(ended, Some(std::io::ErrorKind::ConnectionReset));
    let over = async || world.api("streams").await["streams"].as_array().unwrap().is_empty().then_some(());
    wait::until("the stream to be gone", IN_TIME, over).await;
    assert_eq!(http::send(http::client().delete(&url), &url).await.status, 404);
    let mut cut = false;
    while let Ok(Some(told)) = events.try_recv() {
        cut |= matches!(told.event, Event::StreamClose { stream, failed: true, .. } if stream == id);
    }
    assert!(cut, "whoever listens is told that it did not end well");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_the_networks_that_may_be_asked_for_it() {
    let world = World::start(73, 4).await;
    for (query, status) in [("?source=tcp", 400), ("?source=", 400), ("?source=cache", 412)] {
        assert_eq!(http::get(&world.node.url(&world.path(query))).await.status, status, "{query}");
    }
    assert_eq!((world.swarm_gave(), world.shelf.requests()), (0, 0), "nobody was asked");
    assert_eq!(world.read("?source=http").await, "http;r=1.00");
    assert_eq!(world.swarm_gave(), 0, "the swarm was not asked");
    assert!(world.shelf.requests() > 0);
    assert_eq!(world.read("?source=cache").await, "cache;r=1.00");
    world.stop().await;

    let world = World::start(74, 4).await;
    let none = http::get(&world.node.url(&world.path("?source=ipfs"))).await;
    assert_eq!(none.status, 502, "{}", none.text());
    assert_eq!(world.read("?source=bt").await, "bt;r=1.00");
    assert_eq!(world.swarm_gave(), world.film.bytes.len() as u64);
    assert_eq!(world.shelf.requests(), 0, "the server was not asked");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_choose_the_networks_has_the_token() {
    let film = Content::single("film.mkv", 75, MIB, 256 * 1024);
    let seeder = Seeder::start(&film).await;
    let node = Node::with(|config| config.auth.token = swarmgate_config::Secret::new("secret")).await;
    node.learn(&film, &[seeder.address()]).await;
    let url = node.url(&format!("{}?source=bt", film.path(0)));
    assert_eq!(http::get(&url).await.status, 401, "content is open on this machine, the choice is not");
    let answer = http::send(http::client().get(&url).bearer_auth("secret"), &url).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-swarmgate-source")), (200, "bt;r=1.00"));
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_fails_is_not_asked_until_its_breaker_closes() {
    let world = World::start(76, 16).await;
    let mut events = world.node.app.manager().events().subscribe();
    world.shelf.broken.store(true, Ordering::SeqCst);
    world.switch("bt", false).await;
    let mut client = Connection::open(world.node.address()).await;
    client.send("GET", &world.path(""), &[]).await.unwrap();
    let open = async || {
        let rows = world.api("breakers").await["breakers"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["state"] == "open")
    };
    let row = wait::until("the breaker to open", IN_TIME, open).await;
    assert!(row["failures"].as_u64() >= Some(5), "{row}");
    assert!(row["why"].is_string() && row["next_probe_ms"].is_u64() && row["for_ms"].is_u64(), "{row}");
    let id = row["id"].as_str().unwrap().to_owned();
    let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    world.shelf.broken.store(false, Ordering::SeqCst);
    let url = world.node.url(&format!("/api/v1/breakers/{escaped}/reset"));
    assert_eq!(http::send(http::client().post(&url), &url).await.status, 204);
    let unknown = world.node.url("/api/v1/breakers/nobody/reset");
    assert_eq!(http::send(http::client().post(&unknown), &unknown).await.status, 404);
    let after = world.api("breakers").await;
    let after = after["breakers"].as_array().unwrap().iter().find(|row| row["id"] == *id).cloned().unwrap();
    assert_eq!((&after["state"], after.get("why")), (&"closed".into(), None), "{after}");
    let head = client.head().await.unwrap();
    assert_eq!(head.header("x-swarmgate-source"), "http;r=1.00", "it is asked again");
    assert!(client.exactly(16 * MIB).await.unwrap() == world.film.bytes);
    let (mut states, mut up) = (Vec::new(), Vec::new());
    let closed = async || {
        while let Ok(Some(told)) = events.try_recv() {
            if let Event::BreakerChanged { id: of, state } = &told.event {
                states.extend((*of == id).then_some(*state));
            } else if let Event::SourceUp { network, .. } = told.event {
                up.push(network);
            }
        }
        states.contains(&"closed").then_some(())
    };
    wait::until("the news of the breaker", IN_TIME, closed).await;
    assert_eq!(states.first(), Some(&"open"), "{states:?}");
    up.sort_unstable();
    assert_eq!(up, ["bt", "http"], "each source came once");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_switched_off_is_not_asked_and_what_is_here_is_served() {
    let world = World::start(77, 4).await;
    assert_eq!(world.switch("bt", false).await["enabled"], false);
    let listed = world.api("networks").await;
    let on: Vec<_> = listed["networks"].as_array().unwrap().iter().map(|row| row["enabled"] == true).collect();
    assert_eq!(on, [false, false, true, true], "{listed}");
    world.switch("http", false).await;
    let none = http::get(&world.node.url(&world.path(""))).await;
    assert_eq!(none.status, 502);
    assert!(none.text().contains("switched off"), "{}", none.text());
    assert_eq!((world.swarm_gave(), world.shelf.requests()), (0, 0));
    world.switch("http", true).await;
    assert_eq!(world.read("").await, "http;r=1.00");
    assert_eq!(world.swarm_gave(), 0, "all of it moved to the server");
    world.switch("http", false).await;
    assert_eq!(world.read("").await, "cache;r=1.00");
    let url = world.node.url("/api/v1/networks/gopher");
    let unknown = http::send(http::client().patch(&url).body("{\"enabled\":true}"), &url).await;
    assert_eq!(unknown.status, 404);
    world.switch("bt", true).await;
    assert_eq!(world.switch("webrtc", false).await["enabled"], false);
    let listed = world.api("networks").await;
    let on: Vec<_> = listed["networks"].as_array().unwrap().iter().map(|row| row["enabled"] == true).collect();
    assert_eq!(on, [true, false, true, false], "{listed}");
    assert_eq!(world.switch("webrtc", true).await["enabled"], true);
    world.stop().await;
}
