//! What the control API tells of an item of a running engine, and does with it.

use std::time::Duration;

use serde_json::{Value, json};
use swarmgate_config::Size;
use swarmgate_content::Event;
use swarmgate_egress::testing::HttpStub;
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::raw::Answer;
use swarmgate_tests::torrent::escape;
use swarmgate_tests::tracker::Tracker;
use swarmgate_tests::wait;

use super::{KIB, MIB};

const PATIENCE: Duration = Duration::from_secs(20);

async fn add(node: &Node, content: &Content) -> Value {
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    added.json()
}

/// Asks below an item's own path.
async fn ask(node: &Node, method: &str, content: &Content, below: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/items/{}{below}", content.infohash());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    node.connect().await.ask(method, &path, &[], body.as_bytes()).await
}

async fn told(node: &Node, content: &Content, below: &str) -> Value {
    let answer = ask(node, "GET", content, below, &Value::Null).await;
    assert_eq!(answer.status, 200, "{below}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_an_item_are_told_with_what_is_here_of_each() {
    let files: &[(&[&str], usize)] = &[(&["a.bin"], 40 * KIB), (&["sub", "b.bin"], 50 * KIB), (&["c.bin"], 6 * KIB)];
    let content = Content::folder("folder", 301, files, 16 * 1024);
    let (seeder, node) = (Seeder::start(&content).await, Node::fresh().await);
    add(&node, &content).await;
    let path = format!("{}?x.pe={}", content.path(0), seeder.address());
    let read = node.connect().await.get(&path, &[("range", "bytes=0-16383")]).await;
    assert_eq!(read.status, 206, "{}", read.text());
    let rows = told(&node, &content, "/files").await["files"].clone();
    assert_eq!((&rows[1]["path"], &rows[1]["len"]), (&json!("sub/b.bin"), &json!(50 * KIB)));
    assert!(rows[0]["have_bytes"].as_u64().unwrap() >= 16 * 1024, "{rows}");
    let whole = node.connect().await.get(rows[1]["links"]["content"].as_str().unwrap(), &[]).await;
    assert!(whole.body == content.file(1), "{}", whole.status);
    assert_eq!(told(&node, &content, "/files").await["files"][1]["have_bytes"], json!(50 * KIB));
    let swarm = told(&node, &content, "/sources").await;
    assert_eq!((&swarm["swarm"]["peers"], &swarm["swarm"]["seeds"]), (&json!(1), &json!(1)), "{swarm}");
    assert!(swarm["attempts"].as_array().unwrap().iter().any(|it| it["source"] == "peers"), "{swarm}");
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_is_told_with_its_answer_and_without_its_passkey() {
    let (tracker, gone) = (Tracker::start(), "http://127.0.0.1:9/announce?passkey=s3cret-of-mine");
    let content = Content::single("film.mkv", 302, 64 * KIB, 16 * 1024).with_trackers(&[&tracker.url(), gone]);
    let node = Node::fresh().await;
    add(&node, &content).await;
    let both = async || {
        let rows = told(&node, &content, "/trackers").await["trackers"].clone();
        (rows[0]["state"] == "working" && rows[1]["state"] == "failing").then_some(rows)
    };
    let rows = wait::until("both trackers to be heard", PATIENCE, both).await;
    assert_eq!((&rows[0]["url"], &rows[0]["peers"]), (&json!(tracker.url()), &json!(0)));
    assert!(rows[0]["heard_s"].is_u64() && rows[0]["seeds"].is_u64() && rows[1]["said"].is_string(), "{rows}");
    assert_eq!(rows[1]["url"], "http://127.0.0.1:9/…");
    assert!(!rows.to_string().contains("s3cret"), "{rows}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_item_is_fetched_though_nobody_reads_it_and_outlives_others_and_a_restart() {
    let pinned = Content::single("pinned.bin", 303, 8 * MIB, 256 * 1024);
    let passing = Content::single("passing.bin", 304, 80 * MIB, 256 * 1024);
    let (keeper, seeder) = (Seeder::start(&pinned).await, Seeder::start(&passing).await);
    let dir = tempfile::tempdir().unwrap();
    let mut config = node::config(dir.path());
    (config.cache.max_size, config.cache.memory) = (Size::mib(64), Size::mib(8));
    let node = Node::start(&config).await.unwrap();
    node.learn(&pinned, &[keeper.address()]).await;
    let asked = ask(&node, "PUT", &pinned, "/pin", &Value::Null).await;
    assert_eq!((asked.status, &asked.json()["state"]), (202, &json!("pinning")), "{}", asked.text());
    let whole = async || (told(&node, &pinned, "/pin").await["state"] == "pinned").then_some(());
    wait::until("all of it to come", PATIENCE, whole).await;
    assert_eq!(ask(&node, "PUT", &pinned, "/pin", &Value::Null).await.status, 200);
    assert_eq!(node.stats().bytes_delivered, 0, "nobody has read it");
    keeper.stop().await;

    node.learn(&passing, &[seeder.address()]).await;
    let read = node.connect().await.get(&passing.path(0), &[]).await;
    assert!(read.body == passing.bytes, "{}", read.status);
    seeder.stop().await;
    node.stop().await;

    let node = Node::start(&config).await.unwrap();
    let item = told(&node, &pinned, "").await;
    assert_eq!((&item["pinned"], &item["kept"]), (&json!(true), &json!(true)), "{item}");
    let read = node.connect().await.get(&pinned.path(0), &[("cache-control", "only-if-cached")]).await;
    assert!(read.body == pinned.bytes, "{}", read.status);
    assert_eq!(ask(&node, "DELETE", &pinned, "/pin", &Value::Null).await.status, 204);
    let let_go = async || (node.app.store().usage().pinned_bytes == 0).then_some(());
    wait::until("nothing to be held", PATIENCE, let_go).await;
    assert_eq!(told(&node, &pinned, "").await["kept"], true, "it stays an item");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_cannot_hold_is_not_pinned_and_is_served_all_the_same() {
    let content = Content::single("large.bin", 305, 24 * MIB, 256 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::with(|config| {
        (config.cache.max_size, config.cache.memory) = (Size::mib(16), Size::mib(8));
    })
    .await;
    node.learn(&content, &[seeder.address()]).await;
    let refused = ask(&node, "PUT", &content, "/pin", &Value::Null).await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    assert_eq!(told(&node, &content, "").await["pinned"], false);
    let read = node.connect().await.get(&content.path(0), &[]).await;
    assert!(read.body == content.bytes, "{}", read.status);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_and_trackers_that_are_named_later_are_asked() {
    let content = Content::single("film.mkv", 306, 256 * KIB, 32 * 1024);
    let (seeder, tracker, node) = (Seeder::start(&content).await, Tracker::start(), Node::fresh().await);
    add(&node, &content).await;
    let named = ask(&node, "POST", &content, "/trackers", &json!({ "urls": [tracker.url()] })).await;
    assert_eq!((named.status, &named.json()["trackers"][0]["url"]), (200, &json!(tracker.url())), "{}", named.text());
    let port = node.app.bittorrent().unwrap().listen_address().unwrap().port();
    wait::until("the announce", PATIENCE, async || tracker.knows(port).then_some(())).await;
    let peers = json!({ "peers": [seeder.address().to_string()] });
    let named = ask(&node, "POST", &content, "/peers", &peers).await;
    assert_eq!((named.status, &named.json()["added"]), (202, &json!(1)), "{}", named.text());
    let connected = async || (told(&node, &content, "").await["peers"] == 1).then_some(());
    wait::until("the peer", PATIENCE, connected).await;
    assert!(node.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_item_takes_no_peer_and_no_tracker_from_others() {
    let (own, foreign, node) = (Tracker::start(), Tracker::start(), Node::fresh().await);
    let private = Content::private("members.bin", 307, 64 * KIB, 16 * 1024);
    let stranger = Seeder::start(&private).await;
    let private = private.with_trackers(&[&own.url()]);
    add(&node, &private).await;
    for (below, body) in [
        ("/trackers", json!({ "urls": [foreign.url()] })),
        ("/peers", json!({ "peers": [stranger.address().to_string()] })),
    ] {
        let refused = ask(&node, "POST", &private, below, &body).await;
        assert_eq!(refused.status, 409, "{below}: {}", refused.text());
    }
    let rows = told(&node, &private, "/trackers").await["trackers"].clone();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["url"]), (1, &json!(own.url())));
    // Nor while it is paused, when there is no swarm to say that it is private.
    assert_eq!(ask(&node, "POST", &private, "/pause", &Value::Null).await.status, 200);
    let magnet = format!("magnet:?xt=urn:btih:{}&tr={}", private.infohash(), escape(&foreign.url()));
    let kind = [("content-type", "text/plain")];
    let again = node.connect().await.ask("POST", "/api/v1/items", &kind, magnet.as_bytes()).await;
    assert_eq!((again.status, &again.json()["private"]), (200, &json!(true)), "{}", again.text());
    let refused = ask(&node, "POST", &private, "/trackers", &json!({ "urls": [foreign.url()] })).await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(told(&node, &private, "/trackers").await["trackers"].as_array().unwrap().len(), 1);
    assert_eq!(ask(&node, "POST", &private, "/resume", &Value::Null).await.status, 200);
    let port = node.app.bittorrent().unwrap().listen_address().unwrap().port();
    wait::until("its own tracker to be asked", PATIENCE, async || own.knows(port).then_some(())).await;
    assert!(foreign.is_empty() && stranger.stats().peers_connected == 0);
    node.stop().await;
    stranger.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_is_asked_again_when_its_minimum_is_over_and_not_before() {
    let tracker = HttpStub::start_bytes(|_| {
        let body = "d8:intervali1800e12:min intervali60e5:peers0:e";
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    })
    .await;
    let content = Content::single("film.mkv", 308, 64 * KIB, 16 * 1024).with_trackers(&[&tracker.url("/announce")]);
    let node = Node::fresh().await;
    add(&node, &content).await;
    let answered = async || {
        let row = told(&node, &content, "/trackers").await["trackers"][0].clone();
        (row["state"] == "working").then(|| row["next_s"].as_u64().unwrap())
    };
    let before = wait::until("its answer", PATIENCE, answered).await;
    assert!(before > 1700, "{before}");
    let asked = ask(&node, "POST", &content, "/announce", &Value::Null).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let after = asked.json()["trackers"][0]["next_s"].as_u64().unwrap();
    assert!((30..=60).contains(&after), "{after}");
    let announces = tracker.requests().iter().filter(|request| request.contains("/announce")).count();
    assert_eq!(announces, 1, "it wants a minute between two questions");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_item_asks_nobody_over_a_restart_and_gives_what_is_here() {
    let tracker = Tracker::start();
    let content = Content::single("film.mkv", 309, MIB, 64 * 1024).with_trackers(&[&tracker.url()]);
    let seeder = Seeder::start(&content).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    add(&node, &content).await;
    node.learn(&content, &[seeder.address()]).await;
    let (first, last) = ([("range", "bytes=0-65535")], [("range", "bytes=983040-1048575")]);
    assert_eq!(node.connect().await.get(&content.path(0), &first).await.status, 206);
    let port = |node: &Node| node.app.bittorrent().unwrap().listen_address().unwrap().port();
    let ours = port(&node);
    wait::until("the announce", PATIENCE, async || tracker.knows(ours).then_some(())).await;

    let paused = ask(&node, "POST", &content, "/pause", &Value::Null).await;
    assert_eq!((paused.status, &paused.json()["state"]), (200, &json!("paused")), "{}", paused.text());
    assert!(!tracker.knows(ours), "its tracker has heard that it leaves");
    assert_eq!(told(&node, &content, "").await["peers"], 0);
    node.stop().await;

    let node = Node::start(&node::config(dir.path())).await.unwrap();
    assert_eq!(told(&node, &content, "").await["state"], "paused");
    let here = node.connect().await.get(&content.path(0), &first).await;
    assert!(here.status == 206 && here.body == content.bytes[..65_536], "{}", here.status);
    let path = format!("{}?x.pe={}", content.path(0), seeder.address());
    let missing = node.connect().await.get(&path, &last).await;
    assert_eq!(missing.status, 412, "{}", missing.text());
    assert!(missing.text().contains("not-cached") && missing.text().contains("paused"), "{}", missing.text());
    assert_eq!(ask(&node, "POST", &content, "/announce", &Value::Null).await.status, 409);
    let kind = [("content-type", "application/x-bittorrent")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, &content.torrent()).await;
    assert_eq!(added.json()["state"], "paused", "adding it again resumes nothing");
    assert_eq!(node.stats().peers_connected, 0);
    assert!(!tracker.knows(port(&node)));

    assert_eq!(ask(&node, "POST", &content, "/resume", &Value::Null).await.status, 200);
    let ours = port(&node);
    wait::until("the announce", PATIENCE, async || tracker.knows(ours).then_some(())).await;
    let read = node.connect().await.get(&path, &[]).await;
    assert!(read.body == content.bytes, "{}", read.status);
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_prefetched_is_here_when_its_reader_comes() {
    let content = Content::single("film.mkv", 310, 2 * MIB, 64 * 1024);
    let (seeder, node) = (Seeder::start(&content).await, Node::fresh().await);
    node.learn(&content, &[seeder.address()]).await;
    let begun = ask(&node, "POST", &content, "/prefetch", &json!({ "file": 0, "percent": 50 })).await;
    assert_eq!((begun.status, &begun.json()["bytes"]), (202, &json!(MIB)), "{}", begun.text());
    let half = async || (told(&node, &content, "").await["have_bytes"] == json!(MIB)).then_some(());
    wait::until("half of it", PATIENCE, half).await;
    seeder.stop().await;
    let first = [("range", "bytes=0-1048575"), ("cache-control", "only-if-cached")];
    let read = node.connect().await.get(&content.path(0), &first).await;
    assert!(read.status == 206 && read.body == content.bytes[..MIB], "{}", read.status);
    assert_eq!(node.stats().bytes_downloaded, MIB as u64, "that half and no more");
    let past = [("range", "bytes=0-1048576"), ("cache-control", "only-if-cached")];
    let (more, all) = (&past[..], &past[1..]);
    for rows in [more, all] {
        let refused = node.connect().await.get(&content.path(0), rows).await;
        assert_eq!(refused.status, 412, "its first bytes are here, and not its last: {rows:?}");
    }
    node.stop().await;
}

/// Waits until all that is pinned of an item is here.
async fn until_pinned(node: &Node, content: &Content) {
    let whole = async || (told(node, content, "/pin").await["state"] == "pinned").then_some(());
    wait::until("all that is pinned to come", PATIENCE, whole).await;
}

/// Waits until of these pieces those are held that are said to be.
async fn until_held(node: &Node, content: &Content, pieces: &[(usize, bool)]) {
    let store = node.app.store();
    let as_said = || pieces.iter().all(|(piece, held)| store.is_pinned(&content.piece_hash(*piece)) == *held);
    wait::until("the pieces to be held, or let go", PATIENCE, async || as_said().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_pinned_item_the_files_that_are_selected_are_fetched_and_held_over_a_restart_until_others_are() {
    let files: &[(&[&str], usize)] =
        &[(&["a.bin"], 300 * KIB), (&["sub", "b.bin"], 500 * KIB), (&["c.bin"], 200 * KIB)];
    let content = Content::folder("folder", 311, files, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&node::config(dir.path())).await.unwrap();
    let uri = format!("magnet:?{}", content.magnet_query(&[seeder.address()]));
    let wanted = json!({ "uri": uri, "select": "1", "pin": true, "labels": ["news"] });
    let kind = [("content-type", "application/json")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, wanted.to_string().as_bytes()).await;
    assert_eq!(added.status, 202, "{}", added.text());
    until_pinned(&node, &content).await;
    let second = content.covering(300 * KIB, 800 * KIB);
    let item = told(&node, &content, "").await;
    assert_eq!((&item["have_bytes"], &item["select"]), (&json!(second), &json!("1")), "{item}");
    assert_eq!(item["selected"], json!({ "len": 500 * KIB, "have_bytes": 500 * KIB }));
    assert_eq!(node.stats().bytes_downloaded, second, "the pieces that it touches and no more");
    until_held(&node, &content, &[(3, false), (4, true), (12, true), (13, false)]).await;
    let third = node.connect().await.get(&content.path(2), &[]).await;
    assert!(third.body == content.file(2), "what is not selected is read all the same: {}", third.status);
    until_held(&node, &content, &[(15, false)]).await;
    node.stop().await;

    let node = Node::start(&node::config(dir.path())).await.unwrap();
    until_pinned(&node, &content).await;
    let item = told(&node, &content, "").await;
    assert_eq!((&item["select"], &item["labels"]), (&json!("1"), &json!(["news"])), "{item}");
    let rows = told(&node, &content, "/files").await["files"].clone();
    let selected: Vec<_> = (0..3_usize).map(|row| rows[row]["selected"] == true).collect();
    assert_eq!(selected, [false, true, false]);
    let peers = json!({ "peers": [seeder.address().to_string()] });
    assert_eq!(ask(&node, "POST", &content, "/peers", &peers).await.status, 202);
    let wider = ask(&node, "PATCH", &content, "", &json!({ "select": "0-1" })).await;
    assert_eq!((wider.status, &wider.json()["select"]), (200, &json!("0-1")), "{}", wider.text());
    until_pinned(&node, &content).await;
    assert_eq!(node.stats().bytes_downloaded, content.covering(0, 256 * KIB), "what was missing of it");
    until_held(&node, &content, &[(0, true), (12, true), (15, false)]).await;

    let none = ask(&node, "PATCH", &content, "", &json!({ "select": "3" })).await;
    assert!(none.status == 422 && none.text().contains("nothing-selected"), "{}", none.text());
    assert_eq!(ask(&node, "PATCH", &content, "", &json!({ "select": "2" })).await.status, 200);
    until_held(&node, &content, &[(0, false), (11, false), (12, true), (15, true)]).await;
    let usage = node.app.store().usage();
    assert!(usage.pinned_bytes < usage.bytes, "what was held may be evicted, and is here until then");
    let cached = [("cache-control", "only-if-cached")];
    assert!(node.connect().await.get(&content.path(0), &cached).await.body == content.file(0));
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_progress_of_an_item_whose_files_are_selected_is_that_of_their_pieces() {
    let files: &[(&[&str], usize)] =
        &[(&["a.bin"], 300 * KIB), (&["sub", "b.bin"], 500 * KIB), (&["c.bin"], 200 * KIB)];
    let content = Content::folder("folder", 316, files, 64 * 1024);
    let (seeder, node) = (Seeder::start(&content).await, Node::fresh().await);
    let mut events = node.app.manager().events().subscribe();
    let uri = format!("magnet:?{}", content.magnet_query(&[seeder.address()]));
    let wanted = json!({ "uri": uri, "select": "1", "pin": true });
    let kind = [("content-type", "application/json")];
    let added = node.connect().await.ask("POST", "/api/v1/items", &kind, wanted.to_string().as_bytes()).await;
    assert_eq!(added.status, 202, "{}", added.text());
    let second = content.covering(300 * KIB, 800 * KIB);
    let mut told = Vec::new();
    let whole = async || {
        while let Ok(Some(event)) = events.try_recv() {
            if let Event::ItemProgress { have_bytes, total_len, .. } = event.event {
                told.push((have_bytes, total_len));
            }
        }
        told.contains(&(second, second)).then_some(())
    };
    wait::until("its pieces to be told", PATIENCE, whole).await;
    assert!(told.iter().all(|(_, total)| *total == second), "{told:?}");
    let item = self::told(&node, &content, "").await;
    assert_eq!(item["selected"], json!({ "len": 500 * KIB, "have_bytes": 500 * KIB }));
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_cannot_hold_whole_is_pinned_in_part() {
    let files: &[(&[&str], usize)] = &[(&["a.bin"], 12 * MIB), (&["b.bin"], 12 * MIB)];
    let content = Content::folder("large", 315, files, 256 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::with(|config| {
        (config.cache.max_size, config.cache.memory) = (Size::mib(16), Size::mib(8));
    })
    .await;
    node.learn(&content, &[seeder.address()]).await;
    assert_eq!(ask(&node, "PUT", &content, "/pin", &Value::Null).await.status, 507);
    assert_eq!(ask(&node, "PATCH", &content, "", &json!({ "select": "0" })).await.status, 200);
    assert_eq!(ask(&node, "PUT", &content, "/pin", &Value::Null).await.status, 202);
    let refused = ask(&node, "PATCH", &content, "", &json!({ "select": null, "labels": ["large"] })).await;
    assert_eq!(refused.status, 507, "{}", refused.text());
    let item = told(&node, &content, "").await;
    assert_eq!((&item["select"], &item["labels"]), (&json!("0"), &json!([])), "nothing is changed: {item}");
    until_pinned(&node, &content).await;
    node.stop().await;
    seeder.stop().await;
}
