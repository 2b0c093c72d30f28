//! What strangers send: broken torrents, climbing paths, endless URLs, metadata that makes no sense, content that is
//! nowhere. Each is answered with what is wrong, soon, and the gateway goes on.

use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::bencode::OwnedValue;
use swarmgate_bittorrent_proto::metainfo::infohash_of;
use swarmgate_content::InfoHash;
use swarmgate_tests::hostile::{HostilePeer, Manners};
use swarmgate_tests::node::{Content, Node};
use swarmgate_tests::ports;
use swarmgate_tests::raw::{Answer, Connection};
use swarmgate_tests::torrent::escape;
use swarmgate_tests::tracker::Tracker;

use super::{KIB, MIB};

/// What needs no network is answered within this, on a machine that runs other tests beside it.
const SOON: Duration = Duration::from_secs(1);

fn info(rows: &[(&str, OwnedValue)]) -> OwnedValue {
    let sound =
        [("name", "a".into()), ("piece length", 16384.into()), ("pieces", vec![0; 20].into()), ("length", 9.into())];
    OwnedValue::dict(sound.into_iter().chain(rows.iter().cloned()))
}

fn file(path: &[&str]) -> OwnedValue {
    OwnedValue::dict([("length", OwnedValue::Int(9)), ("path", OwnedValue::list(path.iter().copied()))])
}

async fn upload(node: &Node, body: &[u8]) -> Answer {
    node.connect().await.ask("POST", "/api/v1/items", &[("content-type", "application/x-bittorrent")], body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_torrent_is_refused_with_the_reason_and_the_place() {
    let node = Node::fresh().await;
    let of = |info: OwnedValue| OwnedValue::dict([("info", info)]).encode();
    let files = |paths: &[&[&str]]| {
        let OwnedValue::Dict(mut rows) = info(&[]) else { unreachable!("it is a dictionary") };
        rows.remove(&b"length"[..]);
        rows.insert(b"files".to_vec(), OwnedValue::List(paths.iter().map(|path| file(path)).collect()));
        of(OwnedValue::Dict(rows))
    };
    let deep = [vec![b'l'; 5000], vec![b'e'; 5000]].concat();
    let rows: [(Vec<u8>, &[&str]); 12] = [
        (b"<html>not a torrent</html>".to_vec(), &["byte 0"]),
        (b"d4:infod4:name1:a".to_vec(), &["byte 17"]),
        (b"d4:info99999999999999999999:".to_vec(), &["byte 7"]),
        (b"d4:infoi07ee".to_vec(), &["byte 8", "zero"]),
        (b"de".to_vec(), &["info"]),
        (deep, &["byte"]),
        (of(info(&[("piece length", 0.into())])), &["piece length"]),
        (of(info(&[("pieces", vec![0; 19].into())])), &["pieces"]),
        (of(info(&[("length", (-1).into())])), &["length"]),
        (of(info(&[("name", "..".into())])), &["\"..\""]),
        (files(&[&["..", "etc", "passwd"]]), &[".."]),
        (files(&[&["a"], &["a"]]), &["a"]),
    ];
    for (body, words) in rows {
        let row = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let started = Instant::now();
        let answer = upload(&node, &body).await;
        assert_eq!(answer.status, 422, "{row}: {}", answer.text());
        assert!(started.elapsed() < SOON, "{row}: {:?}", started.elapsed());
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:swarmgate:problem:invalid-torrent", "{row}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(words.iter().all(|word| detail.contains(word)), "{row}: {detail}");
    }
    let items = node.connect().await.get("/api/v1/items", &[]).await.json();
    assert_eq!(items["items"].as_array().unwrap().len(), 0, "{items}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_the_wrong_kind_or_size_is_refused() {
    let node = Node::fresh().await;
    let rows: [(&str, Vec<u8>, u16); 7] = [
        ("application/json", b"{\"uri\":".to_vec(), 400),
        ("application/json", b"{\"url\":\"x\"}".to_vec(), 400),
        ("application/json", b"{\"uri\":\"magnet:?dn=nothing\"}".to_vec(), 422),
        ("text/plain", b"magnet:?xt=urn:btih:tooshort".to_vec(), 422),
        ("text/plain", vec![0xff; 9], 400),
        ("text/plain", vec![b'x'; 65 * KIB], 413),
        ("application/pdf", b"%PDF".to_vec(), 415),
    ];
    for (kind, body, status) in rows {
        let row = format!("{kind} {}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        let answer = node.connect().await.ask("POST", "/api/v1/items", &[("content-type", kind)], &body).await;
        assert_eq!(answer.status, status, "{row}: {}", answer.text());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_of_40_mib_is_refused_before_it_is_all_read() {
    let node = Node::fresh().await;
    let mut client = node.connect().await;
    let (kind, len) = (("content-type", "application/x-bittorrent"), (40 * MIB).to_string());
    client.send("POST", "/api/v1/items", &[kind, ("content-length", &len)]).await.unwrap();
    // A client that watches for the answer while it sends, as curl does, gets it.
    let mut sent = 0;
    let head = loop {
        tokio::select! {
            biased;
            head = client.head() => break head.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
        assert!(sent < 40 * MIB, "all of it was read");
        client.write(&vec![b'x'; MIB]).await.unwrap();
        sent += MIB;
    };
    assert_eq!(head.status, 413);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_that_climb_and_urls_that_do_not_end_lead_nowhere() {
    let content = Content::folder("set", 71, &[(&["a.bin"], 9), (&["sub", "b.bin"], 9)], 16384);
    let node = Node::fresh().await;
    assert_eq!(upload(&node, &content.torrent()).await.status, 201);
    let id = content.infohash();
    for path in ["..%2f..%2fetc%2fpasswd", "..%2Fa.bin", "sub%2f..%2fa.bin", "sub%5c..%5ca.bin", "a.bin%00", "%2e%2e/x"]
    {
        let answer = node.connect().await.get(&format!("/bt/{id}/{path}"), &[]).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {} {}", answer.status, answer.text());
    }
    for (path, status) in [("../a.bin", 400), ("sub/../a.bin", 400), ("%ff", 400), ("//", 400)] {
        let answer = node.connect().await.get(&format!("/bt/{id}/{path}"), &[]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    let deep = "a/".repeat(2000);
    assert_eq!(node.connect().await.get(&format!("/bt/{id}/{deep}"), &[]).await.status, 400);
    let long = format!("/bt/{id}/{}", "a".repeat(17 * KIB));
    assert_eq!(node.connect().await.get(&long, &[]).await.status, 414);
    assert!(matches!(endless(&node).await, None | Some(414 | 431)));
    assert_eq!(node.connect().await.get("/healthz", &[]).await.status, 200);
    node.stop().await;
}

/// Sends a URL of 2 MiB; says what it is answered with, or `None` when the gateway hangs up on it.
async fn endless(node: &Node) -> Option<u16> {
    let mut client: Connection = node.connect().await;
    let path = format!("/magnet?dn={}", "a".repeat(2 * MIB));
    // The answer may come, and the connection end, before all of it is sent.
    let _ = client.send("GET", &path, &[]).await;
    client.head().await.ok().map(|head| head.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn magnets_that_make_no_sense_are_refused_before_anything_is_looked_up() {
    let node = Node::fresh().await;
    let id = "ab".repeat(20);
    let rows = [
        ("/magnet".to_owned(), 400),
        ("/magnet?dn=name".to_owned(), 400),
        ("/magnet?xt=urn:btih:xyz".to_owned(), 400),
        (format!("/magnet?xt=urn:btih:{id}&so=9-2"), 400),
        (format!("/magnet?xt=urn:btih:{id}&x.pe=notanaddress"), 502),
        (format!("/magnet?xt=urn:btih:{id}&x.pe=0.0.0.0:1&x.pe=255.255.255.255:1&x.pe=224.0.0.1:1"), 502),
        (format!("/magnet?xt=urn:btih:{id}&tr=gopher://x/"), 502),
    ];
    for (path, status) in rows {
        let started = Instant::now();
        let answer = node.connect().await.get(&path, &[]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(started.elapsed() < SOON, "{path}: {:?}", started.elapsed());
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_with_the_right_hash_that_makes_no_sense_is_told_at_once() {
    let node = Node::fresh().await;
    for (bytes, word) in [
        (info(&[("piece length", 0.into())]).encode(), "piece length"),
        (b"i7e".to_vec(), "dictionary"),
        (b"this is not bencode at all".to_vec(), "byte 0"),
    ] {
        let infohash = infohash_of(&bytes);
        let peer = HostilePeer::start(Manners::only_metadata(infohash, bytes.into())).await;
        let started = Instant::now();
        let path = format!("/bt/{infohash}/?x.pe={}", peer.address());
        let answer = node.connect().await.get(&path, &[]).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:swarmgate:problem:invalid-content");
        assert!(problem["detail"].as_str().unwrap().contains(word), "{problem}");
        let item = node.connect().await.get(&format!("/api/v1/items/{infohash}"), &[]).await.json();
        assert!(item["last_error"].as_str().is_some_and(|error| error.contains(word)), "{item}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_with_another_hash_is_no_answer_and_an_honest_peer_is_heard() {
    let content = Content::single("film.mkv", 72, 100 * KIB, 16384);
    let node = Node::fresh().await;
    let wrong = info(&[]).encode();
    let liar = HostilePeer::start(Manners::only_metadata(content.infohash(), wrong.into())).await;
    let honest = HostilePeer::start(Manners::honest(&content)).await;
    let path = format!("{}?x.pe={}", content.path(0), liar.address());
    let alone = node.connect().await.get(&format!("{path}&wait=1"), &[]).await;
    assert_eq!(alone.status, 504, "{}", alone.text());
    let answer = node.connect().await.get(&format!("{path}&x.pe={}", honest.address()), &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == content.bytes);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_nobody_can_be_asked_for_is_told_at_once() {
    let node = Node::fresh().await;
    let started = Instant::now();
    let answer = node.connect().await.get(&format!("/bt/{}/film.mkv", "ab".repeat(20)), &[]).await;
    assert_eq!((answer.status, answer.json()["stage"].as_str()), (502, Some("resolve")), "{}", answer.text());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(!answer.head.header("retry-after").is_empty());
    // Known, but not here and with nobody to ask.
    let content = Content::single("film.mkv", 73, 100 * KIB, 16384);
    assert_eq!(upload(&node, &content.torrent()).await.status, 201);
    let started = Instant::now();
    let answer = node.connect().await.get(&content.path(0), &[]).await;
    assert_eq!((answer.status, answer.json()["stage"].as_str()), (502, Some("first-byte")), "{}", answer.text());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    node.stop().await;
}

/// Tells a tracker of a peer that is not there.
async fn announce_nobody(tracker: &Tracker, infohash: InfoHash) {
    let hash: String = infohash.as_bytes().iter().map(|byte| format!("%{byte:02x}")).collect();
    let url = format!("{}?info_hash={hash}&port={}", tracker.url(), ports::free().port());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(client.get(url).send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_only_the_dead_have_ends_with_what_was_tried() {
    let (tracker, node) = (Tracker::start(), Node::fresh().await);
    let infohash = InfoHash::new([0xcd; 20]);
    announce_nobody(&tracker, infohash).await;
    let path = format!("/bt/{infohash}/film.mkv?wait=1&tr={}", escape(&tracker.url()));
    let started = Instant::now();
    let answer = node.connect().await.get(&path, &[]).await;
    let took = started.elapsed();
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!((900..2000).contains(&took.as_millis()), "{took:?} where one second was asked for");
    let wait: u64 = answer.head.header("retry-after").parse().unwrap();
    let problem = answer.json();
    assert_eq!((&problem["stage"], &problem["retry_after_s"]), (&"resolve".into(), &wait.into()), "{problem}");
    let attempts = problem["attempts"].as_array().unwrap_or_else(|| panic!("{problem}"));
    let source = |name: &str| attempts.iter().find(|it| it["source"] == name).map(ToString::to_string);
    assert!(source("tracker").is_some_and(|it| it.contains("ok")), "{problem}");
    assert!(source("peer").is_some_and(|it| it.contains("failed") && it.contains("refused")), "{problem}");
    node.stop().await;
}
