//! What an operator serves at all: what is on a list, or what is kept. All else is neither fetched, served nor given away.
//! And how often strangers may ask for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use swarmgate_config::{Config, Loaded, PolicyMode, Sources};
use swarmgate_gateway::app::App;
use swarmgate_gateway::listeners::Listeners;
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::raw::{Answer, Connection};

use super::MIB;

const TORRENT: [(&str, &str); 1] = [("content-type", "application/x-bittorrent")];
const TEXT: [(&str, &str); 1] = [("content-type", "text/plain")];

async fn get(node: &Node, path: &str) -> Answer {
    node.connect().await.get(path, &[]).await
}

async fn add(node: &Node, kind: &[(&str, &str)], query: &str, body: &[u8]) -> Answer {
    node.connect().await.ask("POST", &format!("/api/v1/items{query}"), kind, body).await
}

async fn items(node: &Node) -> Vec<Value> {
    get(node, "/api/v1/items").await.json()["items"].as_array().cloned().unwrap_or_default()
}

fn assert_refused(what: &str, answer: &Answer) {
    assert_eq!(answer.status, 403, "{what}: {}", answer.text());
    assert_eq!(answer.json()["type"], "urn:swarmgate:problem:not-admitted", "{what}");
}

/// A configuration in which what the file names is served alone.
fn listing(dir: &Path, ids: &str) -> Config {
    let (mut config, list) = (node::config(&dir.join("cache")), dir.join("list"));
    std::fs::create_dir_all(&config.cache.dir).unwrap();
    std::fs::write(&list, ids).unwrap();
    (config.policy.mode, config.policy.allowlists) = (PolicyMode::Allowlist, vec![list]);
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_allowlist_other_torrents_are_neither_fetched_nor_added() {
    let dir = tempfile::tempdir().unwrap();
    let [listed, other] = [71, 72].map(|seed| Content::single("film.mkv", seed, MIB + 321, 64 * 1024));
    let (ours, theirs) = (Seeder::start(&listed).await, Seeder::start(&other).await);
    let node = Node::start(&listing(dir.path(), &format!("# films\n{}\n", listed.infohash()))).await.unwrap();
    node.learn(&listed, &[ours.address()]).await;
    assert!(get(&node, &listed.path(0)).await.body == listed.bytes);

    let (query, id) = (other.magnet_query(&[theirs.address()]), other.infohash());
    for path in [
        format!("/magnet?{query}"),
        format!("/bt/{id}/?{query}"),
        format!("/bt/{id}.torrent?{query}"),
        format!("/bt/{id}.m3u8?{query}"),
        format!("/bt/{id}.zip?{query}"),
        other.path(0),
    ] {
        assert_refused(&path, &get(&node, &path).await);
    }
    assert_refused("a magnet", &add(&node, &TEXT, "", format!("magnet:?{query}").as_bytes()).await);
    assert_refused("an infohash", &add(&node, &TEXT, "", id.to_string().as_bytes()).await);
    assert_refused("a file", &add(&node, &TORRENT, "", &other.torrent()).await);
    assert_eq!(add(&node, &TORRENT, "", &listed.torrent()).await.status, 200);
    assert_eq!(items(&node).await.len(), 1);
    assert_eq!(theirs.stats().bytes_uploaded, 0);
    node.stop().await;
    ours.stop().await;
    theirs.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_off_the_list_is_not_taken_up_again_and_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::single("film.mkv", 73, MIB + 321, 64 * 1024);
    let listed = content.infohash().to_string();
    let node = Node::start(&listing(dir.path(), &listed)).await.unwrap();
    assert_eq!(add(&node, &TORRENT, "", &content.torrent()).await.status, 201);
    node.stop().await;
    for (ids, count) in [("ab".repeat(20), 0), (listed, 1)] {
        let node = Node::start(&listing(dir.path(), &ids)).await.unwrap();
        assert_eq!(items(&node).await.len(), count, "with {ids} on the list");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_has_changed_holds_from_the_next_reload_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let content = Content::single("film.mkv", 76, MIB + 321, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let (config, list, file) =
        (listing(dir.path(), &"ab".repeat(20)), dir.path().join("list"), dir.path().join("config.toml"));
    std::fs::write(&file, "").unwrap();
    let sources = Sources { explicit: Some(file), platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let loaded = Loaded { config: config.clone(), origins: BTreeMap::new() };
    let app = App::build_loaded(&loaded, Some(&sources), Listeners::bind(&config).unwrap()).await.unwrap();
    let address = app.addresses()[0];
    let ask = async |method: &str, path: &str| Connection::open(address).await.ask(method, path, &[], b"").await;
    let reload = async || ask("POST", "/api/v1/config/reload").await.status;
    let magnet = format!("/magnet?{}", content.magnet_query(&[seeder.address()]));

    assert_refused("what is not listed yet", &ask("GET", &magnet).await);
    std::fs::write(&list, content.infohash().to_string()).unwrap();
    assert_eq!(reload().await, 200);
    assert!(ask("GET", &magnet).await.body == content.bytes);
    std::fs::remove_file(&list).unwrap();
    assert_eq!(reload().await, 422);
    assert!(ask("GET", &magnet).await.body == content.bytes);
    std::fs::write(&list, "ab".repeat(20)).unwrap();
    assert_eq!(reload().await, 200);
    assert_refused("what is listed no longer", &ask("GET", &magnet).await);
    assert_refused("nor by its path", &ask("GET", &content.path(0)).await);
    app.shutdown(Duration::from_secs(2)).await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_what_is_kept_alone_is_served_a_torrent_is_once_it_was_added_to_stay() {
    let content = Content::single("film.mkv", 74, MIB + 321, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::with(|config| config.policy.mode = PolicyMode::PinnedOnly).await;
    let query = content.magnet_query(&[seeder.address()]);
    let (path, magnet) = (format!("/magnet?{query}"), format!("magnet:?{query}"));
    assert_refused("a request", &get(&node, &path).await);
    assert_refused("an addition for a while", &add(&node, &TEXT, "?pin=false", magnet.as_bytes()).await);
    assert_eq!(seeder.stats().bytes_uploaded, 0);

    let added = add(&node, &TEXT, "", magnet.as_bytes()).await;
    assert!(matches!(added.status, 201 | 202), "{}", added.text());
    let answer = get(&node, &path).await;
    assert!(answer.status == 200 && answer.body == content.bytes, "{}", answer.status);
    let item = format!("/api/v1/items/{}", content.infohash());
    assert_eq!(node.connect().await.ask("DELETE", &item, &[], b"").await.status, 204);
    assert_refused("what is kept no longer", &get(&node, &path).await);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denylist_that_is_sent_is_there_after_a_restart_until_it_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let config = node::config(dir.path());
    let content = Content::single("film.mkv", 75, MIB + 321, 64 * 1024);
    let put = async |node: &Node, list: String| {
        let answer = node.connect().await.ask("PUT", "/api/v1/denylists", &TEXT, list.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let node = Node::start(&config).await.unwrap();
    put(&node, format!("/bt/{}\n", content.infohash())).await;
    node.stop().await;

    let node = Node::start(&config).await.unwrap();
    let lists = get(&node, "/api/v1/denylists").await.json();
    assert_eq!((&lists["denylists"][0]["name"], &lists["denylists"][0]["rules"]), (&"api".into(), &1.into()));
    let refused = get(&node, &content.path(0)).await;
    assert_eq!(refused.json()["type"], "urn:swarmgate:problem:blocked-by-law", "{}", refused.text());
    put(&node, String::new()).await;
    node.stop().await;

    let node = Node::start(&config).await.unwrap();
    assert_eq!(get(&node, "/api/v1/denylists").await.json(), serde_json::json!({ "denylists": [] }));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_often_strangers_may_ask_is_changed_while_it_runs() {
    let node = Node::with(|config| {
        config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        config.limits.requests_per_minute = 2;
    })
    .await;
    let stranger = [("x-forwarded-for", "203.0.113.9")];
    let ask = async || node.connect().await.get("/api/v1/version", &stranger).await.status;
    assert_eq!([ask().await, ask().await, ask().await], [200, 200, 429]);
    let change = br#"{"limits.requests_per_minute": 0}"#;
    assert_eq!(node.connect().await.ask("PATCH", "/api/v1/config", &[], change).await.status, 200);
    assert_eq!(ask().await, 200);
    node.stop().await;
}
