//! Strangers who ask too often are told when to come back, and nobody else notices.

use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Answer, Behaviour, IH, World, infohash, item};

const FILES: &[(&str, u64)] = &[("film.mkv", 100)];
const STRANGER: &str = "203.0.113.9";
const OTHER: &str = "203.0.113.10";

/// A gateway that everybody reaches through a proxy on this machine.
async fn world() -> World {
    let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let options = HttpOptions { trusted_proxies, ..HttpOptions::default() };
    World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await
}

async fn ask(world: &World, from: &str, path: &str) -> Answer {
    world.send("GET", path, &[("X-Forwarded-For", from)], b"").await
}

/// Fails unless an answer says that it was too much, and when to come back.
fn assert_too_much(answer: &Answer, problem: &str, at_most_s: u64) {
    assert_eq!((answer.status, answer.problem().as_str()), (429, problem));
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=at_most_s).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_client_that_sends_too_many_requests_is_told_when_to_come_back() {
    let world = world().await;
    world.state.rates.set(3, 0);
    for _ in 0..3 {
        assert_eq!(ask(&world, STRANGER, "/api/v1/version").await.status, 200);
    }
    for path in ["/api/v1/version".to_owned(), format!("/bt/{IH}/film.mkv"), "/".to_owned()] {
        assert_too_much(&ask(&world, STRANGER, &path).await, "too-many-requests", 20);
    }
    assert_eq!(ask(&world, STRANGER, "/healthz").await.status, 200, "probes are not counted");
    assert_eq!(ask(&world, OTHER, "/api/v1/version").await.status, 200);
    for _ in 0..10 {
        assert_eq!(world.get("/api/v1/version").await.status, 200, "nor is this machine");
    }
    world.state.rates.set(0, 0);
    assert_eq!(ask(&world, STRANGER, "/api/v1/version").await.status, 200);
}

#[tokio::test]
async fn a_client_that_asks_for_too_much_that_is_new_still_has_what_is_known() {
    let world = world().await;
    world.state.rates.set(0, 2);
    let unknown = |number: u32| format!("/magnet?xt=urn:btih:{number:040}&wait=0");
    for number in 0..2 {
        assert_ne!(ask(&world, STRANGER, &unknown(number)).await.status, 429);
    }
    assert_too_much(&ask(&world, STRANGER, &unknown(2)).await, "too-many-new-items", 30);
    let url = "/torrent?url=http%3A%2F%2Fexample.org%2Fgood.torrent";
    assert_too_much(&ask(&world, STRANGER, url).await, "too-many-new-items", 30);
    let headers = [("X-Forwarded-For", STRANGER), ("Content-Type", "text/plain")];
    let added = world.send("POST", "/api/v1/items", &headers, IH.as_bytes()).await;
    assert_too_much(&added, "too-many-new-items", 30);
    assert!(world.catalogue.items.lock().is_empty());
    assert_ne!(ask(&world, OTHER, &unknown(3)).await.status, 429);

    world.catalogue.items.lock().insert(infohash(), item(infohash(), true, false));
    assert_eq!(ask(&world, STRANGER, &format!("/bt/{IH}/film.mkv")).await.status, 200);
}
