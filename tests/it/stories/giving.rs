//! When a content is uploaded, which contents have their turn, and what is remembered of it all.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_config::{Config, SeedingPolicy, Span};
use swarmgate_tests::measure::this_test;
use swarmgate_tests::node::{self, Content, Node, Seeder, fill};
use swarmgate_tests::wait;

use super::MIB;

/// Tells the child its directory.
const CHILD_DIR: &str = "SWARMGATE_GIVING_DIR";
const WITHIN: Duration = Duration::from_secs(20);

async fn add(node: &Node, content: &Content) {
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
}

/// A gateway that has all of a content, kept, and looks after its items every quarter of a second.
async fn full(content: &Content, change: impl FnOnce(&mut Config)) -> Node {
    let node = Node::with(|config| {
        config.items.idle_grace = Span::from_secs(1);
        change(config);
    })
    .await;
    fill(node.app.store(), content).await;
    add(&node, content).await;
    node
}

async fn item(node: &Node, content: &Content) -> Value {
    node.connect().await.get(&format!("/api/v1/items/{}", content.infohash()), &[]).await.json()
}

async fn patch(node: &Node, path: &str, body: &Value) -> Value {
    let answer = node.connect().await.ask("PATCH", path, &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer.json()
}

/// A gateway that learnt of a content from `giver`, and reads all of it.
async fn taker(giver: &Node, content: &Content) -> (Node, tokio::task::JoinHandle<bool>) {
    let node = Node::fresh().await;
    let address = giver.app.bittorrent().unwrap().listen_address().unwrap();
    node.learn(content, &[address]).await;
    let (to, path, whole) = (node.address(), content.path(0), content.bytes.clone());
    let reading = tokio::spawn(async move {
        let mut reader = swarmgate_tests::raw::Connection::open(to).await;
        reader.get(&path, &[]).await.body == whole
    });
    (node, reading)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn off_gives_nothing_until_it_is_changed_while_somebody_waits() {
    let content = Content::single("film.mkv", 91, 4 * MIB, 64 * 1024);
    let giver = full(&content, |config| config.seeding.policy = SeedingPolicy::Off).await;
    let (taker, reading) = taker(&giver, &content).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(giver.stats().bytes_uploaded, 0);
    patch(&giver, "/api/v1/config", &json!({ "seeding.policy": "while-active" })).await;
    assert!(tokio::time::timeout(WITHIN, reading).await.unwrap().unwrap(), "what was read is right");
    taker.stop().await;
    giver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_of_its_own_policy_gives_up_to_its_ratio() {
    let content = Content::single("film.mkv", 92, 24 * MIB, 256 * 1024);
    let giver = full(&content, |config| {
        config.seeding.upload_limit = swarmgate_config::Rate::from_bytes(2 << 20);
        config.items.idle_grace = Span::from_secs(1);
    })
    .await;
    let path = format!("/api/v1/items/{}", content.infohash());
    let shown = patch(&giver, &path, &json!({ "upload_policy": "ratio", "ratio": 0.25 })).await;
    assert_eq!(shown["upload_policy"], "ratio");
    let (taker, reading) = taker(&giver, &content).await;
    let quarter = content.bytes.len() as u64 / 4;
    wait::until("a quarter to be given", WITHIN, async || (giver.stats().bytes_uploaded >= quarter).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let given = giver.stats().bytes_uploaded;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(giver.stats().bytes_uploaded, given, "it goes on");
    assert!(given < quarter + 4 * MIB as u64, "{given} of {quarter}");
    reading.abort();
    taker.stop().await;
    giver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_wait_in_the_order_of_their_adding_and_readers_do_not() {
    let contents: Vec<_> = (0..4).map(|n| Content::single("film.mkv", 100 + n, MIB, 64 * 1024)).collect();
    let node = Node::with(|config| {
        config.items.max_active_downloads = 2;
        config.items.idle_grace = Span::from_secs(1);
    })
    .await;
    for content in &contents {
        add(&node, content).await;
        // The order is by the second.
        tokio::time::sleep(Duration::from_millis(1050)).await;
    }
    let position = async |at: usize| item(&node, &contents[at]).await["queue_position"].clone();
    wait::until("two to wait", WITHIN, async || {
        (position(2).await == json!(1) && position(3).await == json!(2)).then_some(())
    })
    .await;
    assert_eq!(item(&node, &contents[3]).await["state"], "queued");
    assert_eq!(position(0).await, Value::Null);

    let seeder = Seeder::start(&contents[3]).await;
    let path = format!("{}?x.pe={}", contents[3].path(0), seeder.address());
    let read = node.connect().await.get(&path, &[]).await;
    assert!(read.body == contents[3].bytes, "{}", read.status);
    assert_eq!(position(3).await, Value::Null, "who is read does not wait");

    let path = format!("/api/v1/items/{}", contents[0].infohash());
    assert_eq!(node.connect().await.ask("DELETE", &path, &[], b"").await.status, 204);
    wait::until("the next to have its place", WITHIN, async || {
        (position(2).await == Value::Null && item(&node, &contents[2]).await["state"] == "idle").then_some(())
    })
    .await;
    seeder.stop().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_is_remembered_after_a_restart_and_nothing_is_fetched_again() {
    let content = Content::single("film.mkv", 94, 4 * MIB, 64 * 1024);
    let dir = tempfile::tempdir().unwrap();
    let giver = Node::start(&node::config(dir.path())).await.unwrap();
    fill(giver.app.store(), &content).await;
    add(&giver, &content).await;
    let (taker, reading) = taker(&giver, &content).await;
    assert!(reading.await.unwrap());
    taker.stop().await;
    let before = item(&giver, &content).await;
    assert!(before["total_uploaded"].as_u64().unwrap() >= content.bytes.len() as u64, "{before}");
    giver.stop().await;
    let giver = Node::start(&node::config(dir.path())).await.unwrap();
    let after = item(&giver, &content).await;
    assert_eq!(after["total_uploaded"], before["total_uploaded"]);
    assert_eq!(after["uploaded"], 0, "of this run");
    wait::until("the item to know what it has", WITHIN, async || {
        (item(&giver, &content).await["have_bytes"] == json!(content.bytes.len())).then_some(())
    })
    .await;
    assert_eq!(giver.stats().bytes_downloaded, 0);
    giver.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_kill_an_item_knows_what_it_has_and_what_it_gave() {
    let (content, dir) = (killed_content(), tempfile::tempdir().unwrap());
    let mut child = this_test("stories::giving::a_child_gives_until_it_is_killed")
        .env(CHILD_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines.find_map(|line| line.split_once("giving at ").map(|(_, it)| it.parse().unwrap())).unwrap();
    let taker = Node::fresh().await;
    taker.learn(&content, &[address]).await;
    let read = taker.connect().await.get(&content.path(0), &[]).await;
    assert!(read.body == content.bytes, "{}", read.status);
    // What it gave is written within ten seconds.
    tokio::time::sleep(Duration::from_secs(12)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    taker.stop().await;

    let node = Node::start(&node::config(dir.path())).await.unwrap();
    let given = item(&node, &content).await["total_uploaded"].as_u64().unwrap();
    assert!(given >= content.bytes.len() as u64, "{given}");
    let read = node.connect().await.get(&content.path(0), &[("cache-control", "only-if-cached")]).await;
    assert!(read.body == content.bytes, "{}", read.status);
    assert_eq!(node.stats().bytes_downloaded, 0);
    node.stop().await;
}

fn killed_content() -> Content {
    Content::single("film.mkv", 97, 4 * MIB, 64 * 1024)
}

/// The child of the story above: has all of a content, and gives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_gives_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let mut config = node::config(Path::new(&dir));
    config.items.idle_grace = Span::from_secs(1);
    let (node, content) = (Node::start(&config).await.unwrap(), killed_content());
    fill(node.app.store(), &content).await;
    add(&node, &content).await;
    println!("giving at {}", node.app.bittorrent().unwrap().listen_address().unwrap());
    // Long enough that only the parent ends it.
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recheck_finds_what_the_disk_has_lost_and_it_is_fetched_again() {
    let content = Content::single("film.mkv", 95, 8 * MIB, 1 << 20);
    let seeder = Seeder::start(&content).await;
    let node = full(&content, |config| config.cache.memory = swarmgate_config::Size::mib(64)).await;
    let path = format!("/api/v1/items/{}/recheck", content.infohash());
    let found = node.connect().await.ask("POST", &path, &[], b"").await.json();
    assert_eq!(found, json!({ "pieces": 8, "right": 8, "dropped": 0, "missing": 0 }));
    let damaged = damage_one(&node.dir().join("blocks"));
    let found = node.connect().await.ask("POST", &path, &[], b"").await.json();
    assert_eq!(found, json!({ "pieces": 8, "right": 7, "dropped": 1, "missing": 0 }), "{damaged:?}");
    wait::until("the item to know it", WITHIN, async || {
        (item(&node, &content).await["have_bytes"] == json!(7 * MIB)).then_some(())
    })
    .await;
    let path = format!("{}?x.pe={}", content.path(0), seeder.address());
    let read = node.connect().await.get(&path, &[]).await;
    assert!(read.body == content.bytes, "{}", read.status);
    assert_eq!(node.stats().bytes_downloaded, MIB as u64, "one piece");
    node.stop().await;
    seeder.stop().await;
}

/// Flips a bit in the file of some piece.
fn damage_one(dir: &Path) -> PathBuf {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if bytes.len() == MIB {
                bytes[MIB / 2] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                return path;
            }
        }
    }
    panic!("no piece lies below {}", dir.display());
}
