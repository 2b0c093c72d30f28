//! What takes how much of the cache, and the ways to let go of it.

use bytes::Bytes;
use serde_json::json;
use swarmgate_content::{BlockHash, HashKind};

use crate::catalogue::ItemStatus;
use crate::testing::{IH, World, infohash, item, world};

async fn put(world: &World, kind: HashKind, bytes: &'static [u8]) -> BlockHash {
    let hash = kind.hash(bytes);
    let block = world.state.store.verifier().verify(hash, Bytes::from_static(bytes)).await.unwrap();
    world.state.store.put(block).await.unwrap();
    hash
}

/// A gateway with three blocks of 10, 20 and 30 bytes, the first of them kept.
async fn with_blocks() -> (World, [BlockHash; 3]) {
    let world = world(&[("film.mkv", 1000)]).await;
    let first = put(&world, HashKind::Sha2_256, &[1; 10]).await;
    let second = put(&world, HashKind::Sha1, &[2; 20]).await;
    let third = put(&world, HashKind::Sha1, &[3; 30]).await;
    world.state.store.pin("ipfs:root", [first]);
    (world, [first, second, third])
}

#[tokio::test]
async fn the_cache_is_accounted_for_by_hash_by_torrent_and_by_pin() {
    let (world, [_, _, third]) = with_blocks().await;
    let window = world.state.store.window();
    window.set(vec![third]);
    let film = ItemStatus { have_bytes: 50, ..item(infohash(), true, true) };
    world.catalogue.items.lock().insert(infohash(), film);
    let account = world.get("/api/v1/cache").await.json();
    for (key, expected) in [
        ("bytes", 60),
        ("blocks", 3),
        ("max_bytes", 1 << 20),
        ("pinned_bytes", 10),
        ("in_use_bytes", 30),
        ("evictable_bytes", 20),
        ("reserved_bytes", 0),
        ("min_free_bytes", 0),
    ] {
        assert_eq!(account[key], expected, "{key} of {account}");
    }
    assert!(account["free_disk_bytes"].is_null(), "it is in memory");
    let kinds = json!([{ "kind": "sha1", "blocks": 2, "bytes": 50 }, { "kind": "sha2-256", "blocks": 1, "bytes": 10 }]);
    assert_eq!(account["kinds"], kinds);
    let torrents = json!([{ "item": IH, "name": "Test content", "bytes": 50, "kept": true }]);
    assert_eq!((&account["torrents"], &account["torrents_in_all"]), (&torrents, &json!(1)));
    let pins = json!([{ "root": "ipfs:root", "blocks": 1, "bytes": 10 }]);
    assert_eq!((&account["pins"], &account["pins_in_all"]), (&pins, &json!(1)));
}

#[tokio::test]
async fn collecting_lets_the_oldest_go_as_far_as_it_is_told() {
    let (world, [first, second, third]) = with_blocks().await;
    let collect = async |query: &str| world.send("POST", &format!("/api/v1/cache/gc{query}"), &[], b"").await;
    let unneeded = collect("").await.json();
    assert_eq!((&unneeded["freed_bytes"], &unneeded["bytes"]), (&json!(0), &json!(60)), "the budget is kept");
    let told = collect("?max_bytes=40").await.json();
    assert_eq!(told, json!({ "freed_blocks": 1, "freed_bytes": 20, "bytes": 40, "max_bytes": 1 << 20 }));
    assert_eq!([first, second, third].map(|hash| world.state.store.contains(&hash)), [true, false, true]);
    for wrong in ["?max_bytes=", "?max_bytes=-1", "?max_bytes=9223372036854775808", "?max_bytes=5GiB"] {
        let answer = collect(wrong).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-query"), "{wrong}");
    }
}

#[tokio::test]
async fn a_purge_spares_what_is_kept_and_what_is_being_read() {
    let (world, [first, second, third]) = with_blocks().await;
    let window = world.state.store.window();
    window.set(vec![third]);
    let purged = world.send("DELETE", "/api/v1/cache", &[], b"").await.json();
    assert_eq!(purged, json!({ "freed_blocks": 1, "freed_bytes": 20, "bytes": 40, "max_bytes": 1 << 20 }));
    assert_eq!([first, second, third].map(|hash| world.state.store.contains(&hash)), [true, false, true]);
    drop(window);
    assert_eq!(world.send("DELETE", "/api/v1/cache", &[], b"").await.json()["freed_bytes"], 30);
    assert_eq!(world.send("DELETE", "/api/v1/cache", &[], b"").await.json()["freed_bytes"], 0);
}
