//! What the control API tells of one item, and does with it.

use std::time::Duration;

use swarmgate_bittorrent::{TrackerReport, Trackers};
use swarmgate_content::{ContentId, Event, InfoHash};

use crate::auth::TokenHash;
use crate::catalogue::{ItemStatus, SelectedBytes};
use crate::server::ServeLimits;
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Answer, Behaviour, IH, World, eventually, infohash, item, world};

const FILES: &[(&str, u64)] = &[("film.mkv", 100_000)];
const SOON: Duration = Duration::from_secs(5);

/// A gateway with one item whose files are known.
async fn with_an_item() -> World {
    let world = world(FILES).await;
    world.catalogue.items.lock().insert(infohash(), item(infohash(), true, true));
    world
}

async fn of_item(world: &World, what: &str) -> Answer {
    world.get(&format!("/api/v1/items/{IH}/{what}")).await
}

#[tokio::test]
async fn the_files_of_an_item_have_numbers_lengths_and_links_that_work() {
    let world = with_an_item().await;
    let told = of_item(&world, "files").await.json();
    assert_eq!((&told["infohash"], &told["next"]), (&IH.into(), &serde_json::Value::Null));
    let rows = told["files"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "padding is nobody's business");
    assert_eq!((&rows[0]["number"], &rows[1]["number"]), (&0.into(), &2.into()));
    assert_eq!((&rows[0]["len"], &rows[0]["have_bytes"]), (&100_000.into(), &65_536.into()));
    assert_eq!(rows[1]["path"], "extra/notes & more.txt");
    assert_eq!(rows[1]["links"]["content"], format!("/bt/{IH}/extra/notes%20%26%20more.txt"));
    let film = world.get(rows[0]["links"]["content"].as_str().unwrap()).await;
    assert_eq!((film.status, film.body.as_slice()), (200, world.protocol.file(0)));
    let saved = world.get(rows[0]["links"]["download"].as_str().unwrap()).await;
    assert!(saved.header("content-disposition").unwrap().starts_with("attachment"));
    let rest = of_item(&world, "files?after=0").await.json();
    assert_eq!((rest["files"].as_array().unwrap().len(), &rest["files"][0]["number"]), (1, &2.into()));
    for wrong in ["files?after=-1", "files?after=x", "files?after=1&after=2"] {
        assert_eq!(of_item(&world, wrong).await.problem(), "bad-query", "{wrong}");
    }
}

#[tokio::test]
async fn trackers_are_told_with_what_they_said_and_when_they_are_asked_next() {
    let world = with_an_item().await;
    let own = TrackerReport {
        url: "https://tracker.example/…".to_owned(),
        tier: 1,
        state: "working",
        heard: Some(Duration::from_millis(12_900)),
        next: Some(Duration::from_secs(1790)),
        peers: Some(40),
        seeds: Some(7),
        said: Some("slow today".to_owned()),
        ..TrackerReport::default()
    };
    let operators = vec![TrackerReport::unasked("udp://other.example:1/announce", 0, "waiting")];
    *world.catalogue.trackers.lock() = Trackers { own: vec![own], operators };
    let told = of_item(&world, "trackers").await.json();
    let (own, added) = (&told["trackers"][0], &told["trackers"][1]);
    assert_eq!((&own["named_by"], &own["tier"], &own["state"]), (&"item".into(), &1.into(), &"working".into()));
    assert_eq!((&own["heard_s"], &own["next_s"], &own["seeds"]), (&12.into(), &1790.into(), &7.into()));
    assert_eq!((&own["leeches"], &own["said"]), (&serde_json::Value::Null, &"slow today".into()));
    assert_eq!((&added["named_by"], &added["url"]), (&"operator".into(), &"udp://other.example:1/announce".into()));
}

#[tokio::test]
async fn sources_name_the_swarm_and_who_was_asked() {
    let world = with_an_item().await;
    let told = of_item(&world, "sources").await.json();
    assert_eq!(
        (&told["infohash"], &told["swarm"]["peers"], &told["swarm"]["told"]),
        (&IH.into(), &0.into(), &serde_json::Value::Null)
    );
    assert!(told["fetches"].as_array().unwrap().is_empty() && told["attempts"].is_array());
}

#[tokio::test]
async fn what_is_told_of_an_item_is_told_of_those_that_there_are() {
    let world = world(FILES).await;
    for what in ["files", "trackers", "sources"] {
        assert_eq!(of_item(&world, what).await.problem(), "no-such-item", "{what}");
        assert_eq!(world.get(&format!("/api/v1/items/xyz/{what}")).await.problem(), "bad-id", "{what}");
    }
    world.catalogue.items.lock().insert(infohash(), item(infohash(), false, true));
    let unknown = of_item(&world, "files").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "no-such-item"));
    assert!(unknown.json()["detail"].as_str().unwrap().contains("metadata"));
}

#[tokio::test]
async fn a_torrent_is_pinned_and_let_go_and_says_so() {
    let world = with_an_item().await;
    let pin = format!("/api/v1/items/{IH}/pin");
    assert_eq!(world.get(&pin).await.problem(), "no-such-item", "nobody has pinned it yet");
    assert_eq!(world.send("DELETE", &pin, &[], b"").await.status, 404);
    let pinned = world.send("PUT", &pin, &[], b"").await;
    assert_eq!((pinned.status, &pinned.json()["state"]), (202, &"pinning".into()), "its bytes have still to come");
    assert_eq!((&pinned.json()["id"], &pinned.json()["total_bytes"]), (&IH.into(), &1000.into()));
    assert_eq!(of_item(&world, "files").await.json()["files"][0]["selected"], true);
    world.catalogue.items.lock().get_mut(&infohash()).unwrap().have_bytes = 1000;
    let again = world.send("PUT", &pin, &[], b"").await;
    assert_eq!((again.status, &again.json()["state"]), (200, &"pinned".into()));
    assert_eq!(world.get(&pin).await.json()["have_bytes"], 1000);
    assert_eq!(world.send("DELETE", &pin, &[], b"").await.status, 204);
    let item = world.get(&format!("/api/v1/items/{IH}")).await.json();
    assert_eq!((&item["pinned"], &item["kept"]), (&false.into(), &true.into()), "it stays an item");
    assert_eq!(world.send("PUT", "/api/v1/items/xyz/pin", &[], b"").await.problem(), "bad-id");
    let other = format!("/api/v1/items/{}/pin", "cd".repeat(20));
    assert_eq!(world.send("PUT", &other, &[], b"").await.problem(), "no-such-item");
    let cid = "/api/v1/items/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy/pin";
    assert_eq!(world.send("PUT", cid, &[], b"").await.problem(), "unsupported", "there is no IPFS here");
}

#[tokio::test]
async fn what_the_cache_cannot_hold_is_not_pinned() {
    let world = with_an_item().await;
    *world.catalogue.full.lock() = true;
    let refused = world.send("PUT", &format!("/api/v1/items/{IH}/pin"), &[], b"").await;
    assert_eq!((refused.status, refused.problem().as_str()), (507, "cache-full"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("1000 bytes of it are missing"));
}

#[tokio::test]
async fn an_item_is_pinned_as_it_is_added_where_that_is_said() {
    for (path, content_type, body, kept, pinned) in [
        ("/api/v1/items", "text/plain", IH.to_owned(), true, false),
        ("/api/v1/items?pin=true", "text/plain", IH.to_owned(), true, true),
        ("/api/v1/items?pin=false", "text/plain", IH.to_owned(), false, false),
        ("/api/v1/items?pin=1", "application/x-bittorrent", "de".to_owned(), true, true),
        ("/api/v1/items", "application/json", format!("{{\"uri\": \"{IH}\", \"pin\": true}}"), true, true),
        ("/api/v1/items", "application/json", format!("{{\"uri\": \"{IH}\"}}"), true, false),
    ] {
        let world = world(FILES).await;
        let added = world.send("POST", path, &[("Content-Type", content_type)], body.as_bytes()).await.json();
        let shown = (added["kept"].as_bool(), added["pinned"].as_bool());
        assert_eq!(shown, (Some(kept), Some(pinned)), "{path} {body}");
    }
}

async fn post(world: &World, what: &str, body: &str) -> Answer {
    world.send("POST", &format!("/api/v1/items/{IH}/{what}"), &[], body.as_bytes()).await
}

#[tokio::test]
async fn trackers_and_peers_are_added_and_trackers_asked_again() {
    let world = with_an_item().await;
    let added =
        post(&world, "trackers", r#"{"urls": ["udp://t.example:1/announce", "https://u.example/key/a"]}"#).await;
    assert_eq!((added.status, &added.json()["trackers"][1]["url"]), (200, &"https://u.example/…".into()));
    let asked = post(&world, "announce", "").await;
    assert_eq!((asked.status, &asked.json()["trackers"][0]["next_s"]), (202, &25.into()));
    let peers = post(&world, "peers", r#"{"peers": ["192.0.2.7:6881", "[2001:db8::7]:1", "127.0.0.1:5"]}"#).await;
    let told = peers.json();
    assert_eq!((peers.status, &told["added"], &told["refused"][0]["peer"]), (202, &2.into(), &"127.0.0.1:5".into()));
    assert!(told["refused"][0]["why"].as_str().unwrap().contains("loopback"));
}

#[tokio::test]
async fn what_names_no_tracker_and_no_peer_is_refused() {
    let world = with_an_item().await;
    let many = format!("{{\"urls\": [{}]}}", vec!["\"udp://t.example:1\""; 33].join(","));
    for body in ["", "[]", "{}", r#"{"urls": []}"#, r#"{"urls": ["file:///x"]}"#, r#"{"urls": [7]}"#, &many] {
        let refused = post(&world, "trackers", body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-body"), "{body}");
    }
    for body in [
        r#"{"peers": []}"#,
        r#"{"peers": ["10.0.0.7"]}"#,
        r#"{"peers": ["a.example:1"]}"#,
        r#"{"peers": ["10.0.0.7:0"]}"#,
    ] {
        assert_eq!(post(&world, "peers", body).await.problem(), "bad-body", "{body}");
    }
    assert_eq!(post(&world, "trackers", &" ".repeat(70_000)).await.problem(), "body-too-large");
    world.catalogue.items.lock().get_mut(&infohash()).unwrap().private = true;
    for (what, body) in [("trackers", r#"{"urls": ["udp://t.example:1"]}"#), ("peers", r#"{"peers": ["192.0.2.7:1"]}"#)]
    {
        let refused = post(&world, what, body).await;
        assert_eq!((refused.status, refused.problem().as_str()), (409, "private-item"), "{what}");
    }
    world.catalogue.items.lock().clear();
    for what in ["trackers", "peers", "announce"] {
        assert_eq!(post(&world, what, "{}").await.problem(), "no-such-item", "{what}");
    }
}

#[tokio::test]
async fn the_list_of_items_is_narrowed_sorted_and_paged() {
    let world = world(FILES).await;
    for (byte, name) in [(1, "gamma"), (2, "Alpha"), (3, "beta")] {
        let id = InfoHash::new([byte; 20]);
        let named = ItemStatus { name: Some(name.to_owned()), ..item(id, true, true) };
        world.catalogue.items.lock().insert(id, named);
    }
    let whole = world.get("/api/v1/items").await.json();
    assert_eq!((whole["items"].as_array().unwrap().len(), whole.get("next")), (3, None), "as ever without parameters");
    let first = world.get("/api/v1/items?sort=name&limit=2").await.json();
    assert_eq!((&first["items"][0]["name"], &first["items"][1]["name"]), (&"Alpha".into(), &"beta".into()));
    let next = format!("/api/v1/items?sort=name&limit=2&cursor={}", first["next"].as_str().unwrap());
    let rest = world.get(&next).await.json();
    assert_eq!((&rest["items"][0]["name"], rest["items"].as_array().unwrap().len()), (&"gamma".into(), 1));
    assert!(rest.get("next").is_none(), "there are no more");
    assert_eq!(world.get("/api/v1/items?q=BETA").await.json()["items"][0]["name"], "beta");
    assert!(world.get("/api/v1/items?state=active").await.json()["items"].as_array().unwrap().is_empty());
    assert_eq!(world.get("/api/v1/items?state=lost").await.problem(), "bad-query");
}

#[tokio::test]
async fn an_item_is_paused_and_resumed_and_found_by_that() {
    let world = with_an_item().await;
    let paused = post(&world, "pause", "").await;
    assert_eq!((paused.status, &paused.json()["state"]), (200, &"paused".into()));
    let found = world.get("/api/v1/items?state=paused").await.json();
    assert_eq!(found["items"][0]["infohash"], IH);
    let resumed = post(&world, "resume", "").await;
    assert_eq!((resumed.status, &resumed.json()["state"]), (200, &"idle".into()));
    world.catalogue.items.lock().clear();
    for what in ["pause", "resume"] {
        assert_eq!(post(&world, what, "").await.problem(), "no-such-item", "{what}");
    }
}

#[tokio::test]
async fn parts_of_a_file_are_read_ahead_of_whoever_will_want_them() {
    let world = with_an_item().await;
    let mut events = world.state.manager.events().subscribe();
    let begun = post(&world, "prefetch", r#"{"file": 0, "ranges": ["0-9", "-1000"]}"#).await;
    assert_eq!((begun.status, &begun.json()["bytes"]), (202, &1010.into()), "{}", begun.text());
    eventually("both parts to be read", SOON, || world.opens() == 2).await;
    let ranges: Vec<_> = world.protocol.seen.ranges.lock().iter().map(|range| (range.start(), range.end())).collect();
    assert_eq!(ranges, [(0, 10), (99_000, 100_000)]);
    let item = ContentId::BtV1(infohash());
    assert_eq!(events.recv().await.unwrap().event, Event::PrefetchReady { item, file: 0, bytes: 1010 });
    let begun = post(&world, "prefetch", r#"{"file": 0, "percent": 25}"#).await;
    assert_eq!(begun.json()["bytes"], 25_000);
    for (body, problem) in [
        (r#"{"file": 1}"#, "no-such-file"),
        (r#"{"file": 9}"#, "no-such-file"),
        (r#"{"file": 0, "ranges": ["x"]}"#, "bad-body"),
        (r#"{"file": -1}"#, "bad-body"),
        (r#"{"percent": 1}"#, "bad-body"),
    ] {
        assert_eq!(post(&world, "prefetch", body).await.problem(), problem, "{body}");
    }
    post(&world, "pause", "").await;
    assert_eq!(post(&world, "prefetch", r#"{"file": 0}"#).await.problem(), "paused");
}

#[tokio::test]
async fn who_asks_for_a_file_may_have_parts_of_it_fetched_ahead() {
    let world = with_an_item().await;
    let path = |query: &str| format!("/bt/{IH}/film.mkv?{query}");
    let ahead = |world: &World| {
        let ranges = world.protocol.seen.ranges.lock();
        ranges.iter().map(|range| (range.start(), range.end())).collect::<Vec<_>>()
    };
    let head = world.send("HEAD", &path("prefetch=tail,1%25"), &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("100000")));
    eventually("both parts to be read", SOON, || world.opens() == 2).await;
    assert_eq!(ahead(&world), [(0, 100_000), (0, 1000)], "all of a short file is its tail");
    assert_eq!(world.get(&path("prefetch=middle")).await.problem(), "bad-query");
    world.send("HEAD", &path("source=cache&prefetch=head"), &[], b"").await;
    world.send("HEAD", &path("prefetch=head"), &[("Cache-Control", "only-if-cached")], b"").await;
    let range = world.send("GET", &path("prefetch=1%25"), &[("Range", "bytes=500-599")], b"").await;
    assert_eq!((range.status, range.body.len()), (206, 100));
    eventually("what was asked for, and what is ahead", SOON, || world.opens() >= 4).await;
    let mut last = ahead(&world).split_off(2);
    last.sort_unstable();
    assert_eq!(last, [(0, 1000), (500, 600)], "the two between had nobody asked");

    let options = HttpOptions {
        token: Some(TokenHash::of("s3cret")),
        anonymous_content: Anonymous::Always,
        ..HttpOptions::default()
    };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let stranger = world.send("HEAD", &path("prefetch=head"), &[], b"").await;
    assert_eq!(stranger.status, 401);
    let known = world.send("HEAD", &path("prefetch=1%25"), &[("Authorization", "Bearer s3cret")], b"").await;
    assert_eq!(known.status, 200);
    eventually("one to be asked", SOON, || world.opens() >= 1).await;
    assert_eq!(ahead(&world), [(0, 1000)], "the stranger had nobody asked");
}

#[tokio::test]
async fn no_more_is_prefetched_at_once_than_there_is_room_for() {
    let behaviour = Behaviour { hang_after: Some(0), ..Behaviour::default() };
    let world = World::start(FILES, behaviour, HttpOptions::default(), ServeLimits::default()).await;
    world.catalogue.items.lock().insert(infohash(), item(infohash(), true, true));
    for _ in 0..16 {
        assert_eq!(post(&world, "prefetch", r#"{"file": 0}"#).await.status, 202);
    }
    let refused = post(&world, "prefetch", r#"{"file": 0}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "busy"));
}

async fn patch(world: &World, body: &str) -> Answer {
    world.send("PATCH", &format!("/api/v1/items/{IH}"), &[], body.as_bytes()).await
}

#[tokio::test]
async fn files_are_selected_as_an_item_is_added_where_that_is_said() {
    let magnet = format!("magnet:?xt=urn:btih:{IH}&so=2");
    let json = |rest: &str| format!("{{\"uri\": \"{magnet}\"{rest}}}");
    for (path, content_type, body, select) in [
        ("/api/v1/items", "text/plain", IH.to_owned(), None),
        ("/api/v1/items", "text/plain", magnet.clone(), Some("2")),
        ("/api/v1/items?select=0,2", "text/plain", magnet.clone(), Some("0,2")),
        ("/api/v1/items?select=2", "application/x-bittorrent", "de".to_owned(), Some("2")),
        ("/api/v1/items", "application/json", json(""), Some("2")),
        ("/api/v1/items", "application/json", json(r#", "select": "3,1-2""#), Some("1-3")),
        ("/api/v1/items", "application/json", json(r#", "select": null"#), None),
    ] {
        let world = world(FILES).await;
        let added = world.send("POST", path, &[("Content-Type", content_type)], body.as_bytes()).await.json();
        assert_eq!(added["select"].as_str(), select, "{path} {body}");
    }
    let world = with_an_item().await;
    let again = world.send("POST", "/api/v1/items", &[("Content-Type", "text/plain")], magnet.as_bytes()).await;
    let shown = again.json();
    assert!(again.status == 200 && shown["select"].is_null(), "a magnet changes nothing of what is here: {shown}");
}

#[tokio::test]
async fn what_selects_no_file_and_what_is_no_label_is_refused_and_adds_nothing() {
    let torrent = [("Content-Type", "application/x-bittorrent")];
    let json = [("Content-Type", "application/json")];
    let world = world(FILES).await;
    for (query, status, problem) in [
        ("select=1", 422, "nothing-selected"),
        ("select=3-9", 422, "nothing-selected"),
        ("select=x", 400, "bad-query"),
        ("select=", 400, "bad-query"),
        ("select=0&select=1", 400, "bad-query"),
    ] {
        let refused = world.send("POST", &format!("/api/v1/items?{query}"), &torrent, b"de").await;
        assert_eq!((refused.status, refused.problem().as_str()), (status, problem), "{query}");
    }
    let many = format!("\"labels\": [{}]", vec!["\"a\""; 17].join(","));
    for rest in [r#""select": "4-1""#, r#""select": 1"#, r#""labels": [""]"#, r#""labels": ["a\u0000"]"#, &many] {
        let body = format!("{{\"uri\": \"{IH}\", {rest}}}");
        let refused = world.send("POST", "/api/v1/items", &json, body.as_bytes()).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-body"), "{body}");
    }
    assert!(world.catalogue.items.lock().is_empty());
}

#[tokio::test]
async fn the_selection_of_a_pinned_item_is_what_counts_and_is_changed_without_the_rest() {
    let world = with_an_item().await;
    let pin = format!("/api/v1/items/{IH}/pin");
    assert_eq!(world.send("PUT", &pin, &[], b"").await.status, 202);
    let changed = patch(&world, r#"{"select": "2"}"#).await;
    assert_eq!((changed.status, &changed.json()["select"]), (200, &"2".into()), "{}", changed.text());
    let files = of_item(&world, "files").await.json();
    assert_eq!((&files["files"][0]["selected"], &files["files"][1]["selected"]), (&false.into(), &true.into()));
    let here = Some(SelectedBytes { len: 500, have_bytes: 500 });
    world.catalogue.items.lock().get_mut(&infohash()).unwrap().selected = here;
    let told = world.get(&pin).await.json();
    assert_eq!((&told["state"], &told["total_bytes"]), (&"pinned".into(), &500.into()), "{told}");

    let refused = patch(&world, r#"{"select": "1,7", "labels": ["lost"]}"#).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "nothing-selected"));
    let unchanged = patch(&world, "{}").await.json();
    assert_eq!((&unchanged["select"], &unchanged["labels"]), (&"2".into(), &serde_json::json!([])), "{unchanged}");
    let all = patch(&world, r#"{"select": null}"#).await.json();
    assert!(all["select"].is_null(), "{all}");
    assert_eq!(of_item(&world, "files").await.json()["files"][0]["selected"], true);
    world.catalogue.items.lock().clear();
    assert_eq!(patch(&world, r#"{"select": "0"}"#).await.problem(), "no-such-item");
}

#[tokio::test]
async fn items_are_found_by_their_labels() {
    let world = world(FILES).await;
    let body = format!("{{\"uri\": \"{IH}\", \"labels\": [\"new\", \"linux iso\", \"new\"]}}");
    let added = world.send("POST", "/api/v1/items", &[("Content-Type", "application/json")], body.as_bytes()).await;
    assert_eq!(added.json()["labels"], serde_json::json!(["new", "linux iso"]));
    let other = InfoHash::new([1; 20]);
    world.catalogue.items.lock().insert(other, item(other, true, true));
    let found = async |query: &str| {
        let list = world.get(&format!("/api/v1/items?{query}")).await.json();
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["infohash"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(found("label=linux+iso").await, [IH]);
    assert!(found("label=linux").await.is_empty());
    assert_eq!(patch(&world, r#"{"labels": ["seen"]}"#).await.json()["labels"], serde_json::json!(["seen"]));
    assert!(found("label=new").await.is_empty());
    assert_eq!(found("label=seen").await, [IH]);
    assert_eq!(patch(&world, r#"{"labels": null}"#).await.json()["labels"], serde_json::json!([]));
    assert_eq!(found("").await.len(), 2);
}
