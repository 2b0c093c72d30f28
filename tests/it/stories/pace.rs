//! Limits hold, in both directions and at the client, and change while bytes pass.

use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_config::{Config, Rate};
use swarmgate_tests::node::{Content, Node, Seeder, fill};
use swarmgate_tests::raw::Connection;
use tokio::time::Instant;

use super::MIB;

/// How long a rate is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// How long a flow has to come to its rate, and a change to act.
const SETTLED: Duration = Duration::from_secs(2);
/// How far a rate may be off.
const TOLERANCE: f64 = 0.05;
const MB: u64 = 1_000_000;

pub(super) fn is_near(measured: f64, rate: u64) -> bool {
    (measured / rate as f64 - 1.0).abs() <= TOLERANCE
}

/// Bytes a second that a counter grows by.
async fn rate_of(count: impl Fn() -> u64, over: Duration) -> f64 {
    let (before, start) = (count(), Instant::now());
    tokio::time::sleep(over).await;
    (count() - before) as f64 / start.elapsed().as_secs_f64()
}

/// A gateway that has all of a content, kept.
pub(super) async fn full(content: &Content, change: impl FnOnce(&mut Config)) -> Node {
    let node = Node::with(change).await;
    fill(node.app.store(), content).await;
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    node
}

async fn change(node: &Node, options: &Value) {
    let text = options.to_string();
    let answer = node.connect().await.ask("PATCH", "/api/v1/config", &[], text.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Reads a body to the end of the story, or of the body.
async fn drain(mut connection: Connection) {
    while connection.some(MIB).await.is_ok() {}
}

async fn downloads_at(rate: u64) {
    let content = Content::single("film.mkv", rate, usize::try_from(rate * 15).unwrap(), 256 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::with(|config| config.seeding.download_limit = Rate::from_bytes(rate)).await;
    node.learn(&content, &[seeder.address()]).await;
    let mut reader = node.connect().await;
    reader.send("GET", &content.path(0), &[]).await.unwrap();
    let reading = tokio::spawn(drain(reader));
    tokio::time::sleep(SETTLED).await;
    let measured = rate_of(|| node.stats().bytes_downloaded, MEASURED).await;
    eprintln!("downloading at {rate}: {measured:.0} bytes a second");
    assert!(is_near(measured, rate), "downloading at {rate}: {measured}");
    reading.abort();
    node.stop().await;
    seeder.stop().await;
}

async fn uploads_at(rate: u64) {
    let content = Content::single("film.mkv", rate + 1, usize::try_from(rate * 15).unwrap(), 256 * 1024);
    let giver = full(&content, |config| config.seeding.item_upload_limit = Rate::from_bytes(rate)).await;
    let taker = Node::fresh().await;
    let address = giver.app.bittorrent().unwrap().listen_address().unwrap();
    taker.learn(&content, &[address]).await;
    let mut reader = taker.connect().await;
    reader.send("GET", &content.path(0), &[]).await.unwrap();
    let reading = tokio::spawn(drain(reader));
    tokio::time::sleep(SETTLED).await;
    let measured = rate_of(|| giver.stats().bytes_uploaded, MEASURED).await;
    eprintln!("uploading at {rate}: {measured:.0} bytes a second");
    assert!(is_near(measured, rate), "uploading at {rate}: {measured}");
    reading.abort();
    taker.stop().await;
    giver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_give_and_take_at_the_limits_to_a_twentieth() {
    tokio::join!(downloads_at(MB), downloads_at(8 * MB), uploads_at(MB), uploads_at(8 * MB));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_served_at_the_limit_and_a_change_acts_within_two_seconds_on_a_stream_that_goes_on() {
    let content = Content::single("film.mkv", 77, 140 * MIB, 1 << 20);
    let node = full(&content, |config| config.limits.bandwidth = Rate::from_bytes(MB)).await;
    let mut reader = node.connect().await;
    reader.send("GET", &content.path(0), &[]).await.unwrap();
    assert_eq!(reader.head().await.unwrap().status, 200);
    let mut position = 0;
    for rate in [MB, 8 * MB, MB / 2] {
        change(&node, &json!({ "limits.bandwidth": format!("{rate}") })).await;
        // What the kernel had taken before the change is read in this time too.
        let settled = Instant::now() + SETTLED;
        position = read_until(&mut reader, &content, position, settled).await;
        let (before, start) = (position, Instant::now());
        position = read_until(&mut reader, &content, position, start + MEASURED).await;
        let measured = (position - before) as f64 / start.elapsed().as_secs_f64();
        eprintln!("served at {rate}: {measured:.0} bytes a second");
        assert!(is_near(measured, rate), "served at {rate}: {measured}");
    }
    change(&node, &json!({ "limits.bandwidth": 0 })).await;
    let start = Instant::now();
    let end = read_until(&mut reader, &content, position, start + SETTLED).await;
    assert!(end - position > 20 * MIB, "{} bytes in two seconds without a limit", end - position);
    node.stop().await;
}

/// Reads on until a moment, or the end of the content, and checks each byte; tells how far it came.
pub(super) async fn read_until(
    reader: &mut Connection,
    content: &Content,
    mut position: usize,
    until: Instant,
) -> usize {
    while position < content.bytes.len() {
        let Ok(some) = tokio::time::timeout_at(until, reader.some(64 * 1024)).await else { break };
        let some = some.unwrap();
        assert!(some == content.bytes[position..position + some.len()], "a wrong byte after {position}");
        position += some.len();
        if Instant::now() >= until {
            break;
        }
    }
    position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_in_a_change_changes_nothing_and_says_what_it_is() {
    let node = Node::fresh().await;
    let mut client = node.connect().await;
    for (body, said) in [
        (json!({ "seeding.upload_limit": "1MiB/s", "seeding.upload_slots": 0 }), "upload_slots"),
        (json!({ "seeding.upload_limit": "fast" }), "is not a rate"),
        (json!({ "bittorrent.max_peers": 7 }), "needs a restart"),
        (json!({ "seeding.uplod_limit": 7 }), "did you mean"),
    ] {
        let answer = client.ask("PATCH", "/api/v1/config", &[], body.to_string().as_bytes()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(answer.text().contains(said), "{body}: {}", answer.text());
    }
    let options = client.get("/api/v1/config", &[]).await.json();
    assert_eq!(in_force(&options, "seeding.upload_limit"), "0");
    node.stop().await;
}

/// An option's value, as `/api/v1/config` tells it.
pub(super) fn in_force(config: &Value, key: &str) -> String {
    let rows = config["options"].as_array().unwrap();
    rows.iter().find(|row| row["key"] == key).and_then(|row| row["value"].as_str()).unwrap().to_owned()
}
