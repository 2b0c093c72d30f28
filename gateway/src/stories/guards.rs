//! Who is let in.

use std::time::Duration;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::auth::TokenHash;
use crate::server::ServeLimits;
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Behaviour, IH, World, world};

const FILES: &[(&str, u64)] = &[("film.mkv", 100)];

async fn with(options: HttpOptions) -> World {
    World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await
}

#[tokio::test]
async fn a_rebound_name_reaches_nothing() {
    let world = world(FILES).await;
    for path in ["/", "/api/v1/items", "/healthz", &format!("/bt/{IH}/film.mkv"), "/nothing"] {
        let answer = world.send("GET", path, &[("Host", "evil.example")], b"").await;
        assert_eq!((answer.status, answer.problem().as_str()), (421, "unknown-host"), "{path}");
    }
    assert_eq!(world.resolves(), 0);
    assert_eq!(world.send("GET", "/healthz", &[("Host", "127.0.0.1:1")], b"").await.status, 200);
}

#[tokio::test]
async fn with_a_token_the_api_wants_it_and_content_as_the_operator_says() {
    let token = Some(TokenHash::of("secret"));
    let world = with(HttpOptions { token, ..HttpOptions::default() }).await;
    let film = format!("/bt/{IH}/film.mkv");
    let status = async |path: &str, headers: &[(&str, &str)]| world.send("GET", path, headers, b"").await.status;
    for path in ["/api/v1/status", "/api/v1/items", "/api/v1/events", "/metrics", "/api/v1/version"] {
        let refused = world.get(path).await;
        assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthorized"), "{path}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"));
    }
    assert_eq!(status("/api/v1/status", &[("Authorization", "Bearer secret")]).await, 200);
    assert_eq!(status("/api/v1/status", &[("Authorization", "Bearer guess")]).await, 401);
    assert_eq!(status(&film, &[]).await, 200, "this machine's clients read without it");
    assert_eq!(status("/healthz", &[]).await, 200);

    let world = with(HttpOptions { token, anonymous_content: Anonymous::Never, ..HttpOptions::default() }).await;
    let refused = world.get(&film).await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("*")));
    let basic = format!("Basic {}", BASE64.encode(b"player:secret"));
    let answer = world.send("GET", &film, &[("Authorization", &basic)], b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("cache-control").unwrap().starts_with("private"), "no shared cache may give it to others");
    assert_eq!(world.get("/").await.status, 401);
    assert_eq!(world.send("OPTIONS", &film, &[], b"").await.status, 204, "a preflight carries no credentials");
}

#[tokio::test]
async fn pages_of_other_sites_can_read_content_and_change_nothing() {
    let world = world(FILES).await;
    let post = async |headers: &[(&str, &str)]| {
        let mut all = vec![("Content-Type", "text/plain"), ("Host", "localhost:8420")];
        all.extend_from_slice(headers);
        world.send("POST", "/api/v1/items", &all, IH.as_bytes()).await
    };
    for foreign in [
        ("Origin", "http://evil.example"),
        ("Origin", "http://localhost:3000"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
    ] {
        let answer = post(&[foreign]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (403, "foreign-origin"), "{foreign:?}");
    }
    assert!(world.catalogue.items.lock().is_empty());
    assert_eq!(post(&[("Origin", "http://localhost:8420"), ("Sec-Fetch-Site", "same-origin")]).await.status, 202);
    assert_eq!(post(&[]).await.status, 200);
    let answer = world.send("GET", "/api/v1/items", &[("Origin", "http://evil.example")], b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = world.send("GET", &format!("/bt/{IH}/film.mkv"), &[("Origin", "http://evil.example")], b"").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert!(answer.header("access-control-expose-headers").unwrap().contains("content-range"));
}

#[tokio::test]
async fn methods_that_a_path_does_not_have_are_named_in_the_answer() {
    let world = world(FILES).await;
    for (method, path, allow) in [
        ("POST", format!("/bt/{IH}/film.mkv"), "GET, HEAD, OPTIONS"),
        ("DELETE", format!("/bt/{IH}/"), "GET, HEAD, OPTIONS"),
        ("PUT", "/api/v1/items".to_owned(), "GET,HEAD,POST"),
        ("POST", "/healthz".to_owned(), "GET,HEAD"),
    ] {
        let answer = world.send(method, &path, &[], b"").await;
        assert_eq!((answer.status, answer.problem().as_str()), (405, "method-not-allowed"), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn a_magnet_longer_than_is_read_is_a_414() {
    let world = world(FILES).await;
    let answer = world.get(&format!("/magnet?xt=urn:btih:{IH}&dn={}", "x".repeat(16 * 1024))).await;
    assert_eq!((answer.status, answer.problem().as_str()), (414, "uri-too-long"));
}

#[tokio::test]
async fn every_answer_has_an_id_that_its_problem_names() {
    let world = world(FILES).await;
    let answer = world.get("/nothing").await;
    let id = answer.header("x-request-id").unwrap();
    assert_eq!(answer.json()["instance"], format!("urn:swarmgate:req:{id}"));
    assert_ne!(world.get("/nothing").await.header("x-request-id"), Some(id));
}

#[tokio::test]
async fn a_client_that_never_finishes_its_request_is_let_go() {
    let limits = ServeLimits { header_read_timeout: Duration::from_millis(100), ..ServeLimits::default() };
    let world = World::start(FILES, Behaviour::default(), HttpOptions::default(), limits).await;
    for sent in [&b"GET / HT"[..], b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(2), socket.read_to_end(&mut Vec::new())).await;
        assert!(ended.is_ok(), "after {:?}", String::from_utf8_lossy(sent));
    }
}

#[tokio::test]
async fn nonsense_on_the_wire_harms_nobody() {
    let world = world(FILES).await;
    for sent in [&b"\x13BitTorrent protocol"[..], b"\r\n\r\n\r\n", &[0xff; 3000], b"GET  HTTP/9\r\n\r\n"] {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket.write_all(sent).await.unwrap();
        socket.shutdown().await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(world.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn connections_past_the_limit_wait_their_turn() {
    let limits =
        ServeLimits { max_connections: 1, header_read_timeout: Duration::from_secs(60), ..ServeLimits::default() };
    let world = World::start(FILES, Behaviour::default(), HttpOptions::default(), limits).await;
    let idle = TcpStream::connect(world.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let waiting = world.get("/healthz");
    let mut waiting = std::pin::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await.is_err());
    drop(idle);
    assert_eq!(waiting.await.status, 200);
}
