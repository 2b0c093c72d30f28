//! What is said of an item as it is added: how long the answer is waited for, whether it is seeded, and when it has its turn.

use std::time::Duration;

use serde_json::json;
use swarmgate_content::{ContentId, Event};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Answer, Behaviour, IH, World, eventually, infohash, item, world};

const FILES: &[(&str, u64)] = &[("film.mkv", 100_000)];
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];
/// What nobody waits for who is answered at once, and far less than the longest wait that is asked for here.
const SOON: Duration = Duration::from_secs(20);

async fn add(world: &World, body: &serde_json::Value) -> Answer {
    let body = body.to_string();
    let added = world.send("POST", "/api/v1/items", JSON, body.as_bytes());
    tokio::time::timeout(SOON, added).await.expect("it is answered soon")
}

/// Adds an item and waits for its files, until it is there and the request waits.
async fn add_and_wait(world: &World) -> TcpStream {
    let body = json!({ "uri": IH, "wait": 3600 }).to_string();
    let socket = world.request("POST", "/api/v1/items", JSON, body.as_bytes()).await;
    let added = || world.catalogue.items.lock().contains_key(&infohash()) && world.state.admission.taken() == 1;
    eventually("it is added", SOON, added).await;
    socket
}

async fn answer_of(mut socket: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, socket.read_to_end(&mut bytes));
    read.await.expect("it is answered soon").unwrap();
    Answer::parse(&bytes, false, true)
}

#[tokio::test]
async fn who_waits_is_answered_when_the_files_become_known() {
    let world = world(FILES).await;
    let waiting = add_and_wait(&world).await;
    world.catalogue.items.lock().insert(infohash(), item(infohash(), true, true));
    let item = ContentId::BtV1(infohash());
    let name = "Test content".to_owned();
    world.state.manager.events().publish(Event::ItemMetadata { item, name, total_len: 1000, files: 1 });
    let answer = answer_of(waiting).await;
    assert_eq!((answer.status, &answer.json()["name"]), (201, &"Test content".into()), "{}", answer.text());
    assert_eq!(answer.header("location"), Some(format!("/api/v1/items/{IH}").as_str()));
    eventually("its slot is back", SOON, || world.state.admission.taken() == 0).await;
}

#[tokio::test]
async fn who_waits_for_files_that_do_not_come_is_answered_after_the_longest_wait_at_most() {
    let options = HttpOptions { max_wait: Duration::from_millis(50), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let late = add(&world, &json!({ "uri": IH, "wait": 3600 })).await;
    assert_eq!((late.status, &late.json()["state"]), (202, &"resolving".into()), "{}", late.text());
    assert_eq!(world.state.admission.taken(), 0);
}

#[tokio::test]
async fn nobody_waits_for_what_is_known_or_without_asking_for_it() {
    for (body, status) in [
        (json!({ "uri": "https://files.example/good.torrent", "wait": 3600 }), 201),
        (json!({ "uri": IH, "wait": 0 }), 202),
        (json!({ "uri": IH, "wait": null }), 202),
        (json!({ "uri": IH }), 202),
    ] {
        assert_eq!(add(&world(FILES).await, &body).await.status, status, "{body}");
    }
    let world = world(FILES).await;
    for wait in [json!(-1), json!("60"), json!(1.5), json!(1_u64 << 32)] {
        let refused = add(&world, &json!({ "uri": IH, "wait": wait })).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-body"), "{wait}");
    }
    assert!(world.catalogue.items.lock().is_empty());
}

#[tokio::test]
async fn a_wait_ends_when_the_client_leaves_the_item_goes_or_the_gateway_stops() {
    let world = world(FILES).await;
    drop(add_and_wait(&world).await);
    eventually("the client's slot is back", SOON, || world.state.admission.taken() == 0).await;
    world.catalogue.items.lock().clear();

    let waiting = add_and_wait(&world).await;
    world.catalogue.items.lock().clear();
    world.state.manager.events().publish(Event::ItemRemoved { item: ContentId::BtV1(infohash()) });
    let gone = answer_of(waiting).await;
    assert_eq!((gone.status, gone.json()), (202, json!({ "infohash": IH })));
    eventually("its slot is back", SOON, || world.state.admission.taken() == 0).await;

    let waiting = add_and_wait(&world).await;
    world.shutdown.cancel();
    assert_eq!(answer_of(waiting).await.status, 202);
}

#[tokio::test]
async fn no_more_wait_at_once_than_there_are_slots() {
    let options = HttpOptions { max_streams: 1, ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let waiting = add_and_wait(&world).await;
    let other = json!({ "uri": "cd".repeat(20), "wait": 3600 });
    let refused = add(&world, &other).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "busy"));
    assert_eq!(world.catalogue.items.lock().len(), 1, "what is refused is not added");
    assert_eq!(add(&world, &json!({ "uri": "cd".repeat(20) })).await.status, 202);
    drop(waiting);
}

#[tokio::test]
async fn an_item_has_the_policy_and_the_priority_that_it_is_added_with_until_they_are_changed() {
    for (said, policy, priority) in [
        (json!({}), None, "normal"),
        (json!({ "seed": true }), Some("forever"), "normal"),
        (json!({ "seed": false, "priority": "high" }), Some("off"), "high"),
        (json!({ "upload_policy": "ratio", "ratio": 2, "priority": "low" }), Some("ratio"), "low"),
        (json!({ "upload_policy": null, "priority": null, "seed": null }), None, "normal"),
    ] {
        let world = world(FILES).await;
        let mut body = said.clone();
        body["uri"] = json!(IH);
        let added = add(&world, &body).await.json();
        assert_eq!((added["upload_policy"].as_str(), &added["priority"]), (policy, &json!(priority)), "{said}");
    }
    let world = world(FILES).await;
    for said in [
        json!({ "seed": true, "upload_policy": "off" }),
        json!({ "seed": 1 }),
        json!({ "upload_policy": "sometimes" }),
        json!({ "priority": "urgent" }),
        json!({ "priority": 1 }),
    ] {
        let mut body = said.clone();
        body["uri"] = json!(IH);
        let refused = add(&world, &body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-body"), "{said}");
    }
    assert!(world.catalogue.items.lock().is_empty());

    let path = format!("/api/v1/items/{IH}");
    let patch = async |body: &str| world.send("PATCH", &path, &[], body.as_bytes()).await;
    assert_eq!(add(&world, &json!({ "uri": IH, "seed": true, "priority": "low" })).await.status, 202);
    assert_eq!(patch(r#"{"priority": "high"}"#).await.json()["priority"], "high");
    let unchanged = patch(r#"{"labels": ["new"]}"#).await.json();
    assert_eq!((&unchanged["priority"], &unchanged["upload_policy"]), (&"high".into(), &"forever".into()));
    assert_eq!(patch(r#"{"priority": null}"#).await.json()["priority"], "normal");
    assert_eq!(patch(r#"{"priority": "first"}"#).await.problem(), "bad-body");
}
