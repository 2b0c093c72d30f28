//! What is said of an item as it is added, by a running engine: the wait for its files, its policy, its turn among others.

use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::raw::Answer;
use swarmgate_tests::wait;

use super::KIB;

const PATIENCE: Duration = Duration::from_secs(20);

async fn add(node: &Node, body: &Value) -> Answer {
    let kind = [("content-type", "application/json")];
    node.connect().await.ask("POST", "/api/v1/items", &kind, body.to_string().as_bytes()).await
}

async fn item(node: &Node, content: &Content) -> Value {
    node.connect().await.get(&format!("/api/v1/items/{}", content.infohash()), &[]).await.json()
}

async fn patch(node: &Node, content: &Content, body: &Value) -> Value {
    let path = format!("/api/v1/items/{}", content.infohash());
    let answer = node.connect().await.ask("PATCH", &path, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_waits_until_a_peer_has_sent_the_metadata_and_no_longer_than_was_said() {
    let content = Content::single("film.mkv", 321, 64 * KIB, 16 * 1024);
    let (seeder, node) = (Seeder::start(&content).await, Node::fresh().await);
    let alone = Content::single("alone.mkv", 322, 64 * KIB, 16 * 1024);
    let nobody = add(&node, &json!({ "uri": alone.infohash().to_string(), "wait": 1 })).await;
    assert_eq!((nobody.status, &nobody.json()["total_len"]), (202, &Value::Null), "{}", nobody.text());
    let uri = format!("magnet:?{}", content.magnet_query(&[seeder.address()]));
    let known = add(&node, &json!({ "uri": uri, "wait": 40 })).await;
    assert_eq!((known.status, &known.json()["total_len"]), (201, &json!(64 * KIB)), "{}", known.text());
    let again = add(&node, &json!({ "uri": uri, "wait": 40 })).await;
    assert_eq!((again.status, &again.json()["name"]), (200, &json!("film.mkv")), "{}", again.text());
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_item_at_a_time_is_active_by_priority_over_a_restart_too() {
    let contents: Vec<_> = (0..3).map(|n| Content::single("film.mkv", 330 + n, 64 * KIB, 16 * 1024)).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut config = node::config(dir.path());
    config.items.max_active_downloads = 1;
    let node = Node::start(&config).await.unwrap();
    for (content, priority) in contents.iter().zip(["low", "normal", "high"]) {
        let body = json!({ "uri": content.infohash().to_string(), "priority": priority, "seed": priority == "low" });
        let added = add(&node, &body).await;
        assert_eq!((added.status, &added.json()["priority"]), (202, &json!(priority)), "{}", added.text());
    }
    // The last in time is the first in turn.
    until_in_turn(&node, [&contents[2], &contents[1], &contents[0]]).await;
    node.stop().await;

    let node = Node::start(&config).await.unwrap();
    until_in_turn(&node, [&contents[2], &contents[1], &contents[0]]).await;
    let (low, high) = (item(&node, &contents[0]).await, item(&node, &contents[2]).await);
    assert_eq!((&low["priority"], &low["upload_policy"]), (&json!("low"), &json!("forever")), "{low}");
    assert_eq!((&high["priority"], &high["upload_policy"]), (&json!("high"), &json!("off")), "{high}");

    assert_eq!(patch(&node, &contents[0], &json!({ "priority": "high" })).await["priority"], "high");
    assert_eq!(patch(&node, &contents[2], &json!({ "priority": "low" })).await["priority"], "low");
    until_in_turn(&node, [&contents[0], &contents[1], &contents[2]]).await;
    let path = format!("/api/v1/items/{}", contents[0].infohash());
    assert_eq!(node.connect().await.ask("DELETE", &path, &[], b"").await.status, 204);
    until_in_turn(&node, [&contents[1], &contents[2]]).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_a_magnet_names_is_asked_when_the_item_has_its_turn_after_a_restart_too() {
    let content = Content::single("film.mkv", 340, 64 * KIB, 16 * 1024);
    let (seeder, dir) = (Seeder::start(&content).await, tempfile::tempdir().unwrap());
    let mut config = node::config(dir.path());
    config.items.max_active_downloads = 0;
    let node = Node::start(&config).await.unwrap();
    let uri = format!("magnet:?{}", content.magnet_query(&[seeder.address()]));
    assert_eq!(add(&node, &json!({ "uri": uri })).await.status, 202);
    let is_waiting = async || (item(&node, &content).await["queue_position"] == 1).then_some(());
    wait::until("the item to wait for its turn", PATIENCE, is_waiting).await;
    node.stop().await;

    let node = Node::start(&config).await.unwrap();
    // A reader makes it active, and names nobody.
    let read = node.connect().await.get(&content.path(0), &[]).await;
    assert!(read.status == 200 && read.body == content.file(0), "{}: {}", read.status, read.text());
    node.stop().await;
    seeder.stop().await;
}

/// Waits until the first of these has a place, and the others wait for one in this order.
async fn until_in_turn<const N: usize>(node: &Node, contents: [&Content; N]) {
    let in_turn = async || {
        for (place, content) in contents.iter().enumerate() {
            let shown = item(node, content).await;
            let position = if place == 0 { Value::Null } else { json!(place) };
            let state = if place == 0 { "resolving" } else { "queued" };
            if shown["queue_position"] != position || shown["state"] != state {
                return None;
            }
        }
        Some(())
    };
    wait::until("the items to have their turns", PATIENCE, in_turn).await;
}
