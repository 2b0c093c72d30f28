//! Every byte of every range, and every status of a content request, through the whole engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::raw::Connection;

use super::{KIB, MIB};

/// Ranges read in the long story.
const RANGES: usize = 10_000;
/// Connections that read them, each one kept alive.
const CLIENTS: usize = 8;
/// Longest random range, in bytes: several pieces.
const LONGEST: usize = 200 * KIB;

/// Files that end within pieces, an empty one, one of a byte, padding, names that must be escaped.
fn odd_folder() -> Content {
    let files: [(&[&str], usize); 9] = [
        (&["film.mkv"], 3 * MIB + 1),
        (&["empty.txt"], 0),
        (&["subs", "фильм 1.srt"], 777),
        (&[".pad", "0"], 64 * KIB - 778),
        (&["extras", "übung №1", "100% #1?.webm"], 1_300_003),
        (&["one byte"], 1),
        (&["日本語", "映画.mp4"], 2 * MIB - 1),
        (&[".pad", "1"], 4099),
        (&["zz last"], 65_537),
    ];
    Content::folder("odd", 1, &files, 64 * 1024)
}

/// The files of [`odd_folder`] that people see.
const VISIBLE: [usize; 7] = [0, 1, 2, 4, 5, 6, 8];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_random_ranges_are_right_to_the_byte() {
    let content = Arc::new(odd_folder());
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    node.learn(&content, &[seeder.address()]).await;
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let (content, address) = (content.clone(), node.address());
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            let mut chance = StdRng::seed_from_u64(client as u64);
            for _ in 0..RANGES / CLIENTS {
                read_somewhere(&mut connection, &content, &mut chance).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(40), "{RANGES} ranges took {took:?}");
    let whole = content.bytes.len() as u64;
    assert!(node.stats().bytes_downloaded <= whole, "every piece was fetched once at most");
    node.stop().await;
    seeder.stop().await;
}

/// Reads a range in one of the three spellings, of a random file, and compares it.
async fn read_somewhere(connection: &mut Connection, content: &Content, chance: &mut StdRng) {
    let filled: Vec<_> = VISIBLE.into_iter().filter(|index| !content.file(*index).is_empty()).collect();
    let index = filled[chance.random_range(0..filled.len())];
    let (file, path) = (content.file(index), content.path(index));
    let start = chance.random_range(0..file.len());
    let end = (start + chance.random_range(1..=LONGEST)).min(file.len());
    let (range, start, end) = match chance.random_range(0..10) {
        0 => (format!("bytes=-{}", end - start), file.len() - (end - start), file.len()),
        1 if file.len() - start <= LONGEST => (format!("bytes={start}-"), start, file.len()),
        _ => (format!("bytes={start}-{}", end - 1), start, end),
    };
    let answer = connection.get(&path, &[("range", &range)]).await;
    assert_eq!(answer.status, 206, "{path} {range}: {}", answer.text());
    let expected = format!("bytes {start}-{}/{}", end - 1, file.len());
    assert_eq!(answer.head.header("content-range"), expected, "{path} {range}");
    assert!(answer.body == file[start..end], "{path} {range}: other bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_is_served_whole_under_each_of_its_names() {
    let content = odd_folder();
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    node.learn(&content, &[seeder.address()]).await;
    let mut connection = node.connect().await;
    for index in VISIBLE {
        let by_number = format!("/bt/{}/@{index}/any%20title.mkv", content.infohash());
        for path in [content.path(index), by_number] {
            let answer = connection.get(&path, &[]).await;
            assert_eq!((answer.status, answer.body.len()), (200, content.file(index).len()), "{path}");
            assert!(answer.body == content.file(index), "{path}: other bytes");
        }
    }
    for padding in [3, 7] {
        let answer = connection.get(&format!("/bt/{}/@{padding}", content.infohash()), &[]).await;
        assert_eq!(answer.status, 404, "padding is no file");
    }
    let listing = connection.get(&format!("/bt/{}/?format=json", content.infohash()), &[]).await;
    assert!(!listing.text().contains(".pad"), "{}", listing.text());
    node.stop().await;
    seeder.stop().await;
}

/// A request, its status, and the announced length of its body where that is told beforehand.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, Option<usize>);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_request_has_its_status() {
    let content = odd_folder();
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    node.learn(&content, &[seeder.address()]).await;
    let (film, empty, len) = (content.path(0), content.path(1), content.file(0).len());
    let mut connection = node.connect().await;
    let first = connection.get_range(&film, 0, 10).await;
    let etag = first.head.header("etag").to_owned();
    let foreign = "\"bt1-0000000000000000000000000000000000000000-0\"";
    let unsatisfiable = format!("bytes={len}-");
    let v2 = format!("/bt/{}/x", "ab".repeat(32));
    let id = content.infohash();
    let rows: [Row<'_>; 24] = [
        ("GET", &film, &[("range", "bytes=0-0")], 206, Some(1)),
        ("GET", &film, &[("range", "bytes=-1")], 206, Some(1)),
        ("GET", &film, &[("range", "bytes=5-2")], 200, Some(len)),
        ("GET", &film, &[("range", "pieces=0-1")], 200, Some(len)),
        ("GET", &film, &[("range", &unsatisfiable)], 416, None),
        ("GET", &film, &[("range", "bytes=-0")], 416, None),
        ("GET", &empty, &[], 200, Some(0)),
        ("GET", &empty, &[("range", "bytes=0-0")], 200, Some(0)),
        ("HEAD", &film, &[("range", "bytes=0-0")], 200, Some(len)),
        ("GET", &film, &[("if-none-match", &etag)], 304, Some(0)),
        ("GET", &film, &[("if-none-match", "*")], 304, Some(0)),
        ("GET", &film, &[("if-none-match", foreign), ("range", "bytes=0-6")], 206, Some(7)),
        ("GET", &film, &[("if-match", foreign)], 412, None),
        ("GET", &film, &[("if-range", &etag), ("range", "bytes=0-6")], 206, Some(7)),
        ("GET", &film, &[("if-range", foreign), ("range", "bytes=0-6")], 200, Some(len)),
        ("GET", "/bt/nonsense/x", &[], 400, None),
        ("GET", &format!("/bt/{id}/../../etc/passwd"), &[], 400, None),
        ("GET", &format!("/bt/{id}/no/such.mkv"), &[], 404, None),
        ("GET", &format!("/bt/{id}/@99"), &[], 404, None),
        ("GET", "/nothing/here", &[], 404, None),
        ("POST", &film, &[], 405, None),
        ("DELETE", &film, &[], 405, None),
        ("GET", &v2, &[], 502, None),
        ("GET", &format!("{film}?wait=abc"), &[], 400, None),
    ];
    for (method, path, headers, status, body) in rows {
        let row = format!("{method} {path} {headers:?}");
        let answer = connection.ask(method, path, headers, b"").await;
        assert_eq!(answer.status, status, "{row}: {}", answer.text());
        if let Some(body) = body {
            assert_eq!(answer.head.content_length(), body, "{row}");
        }
        match status {
            206 => assert!(answer.head.header("content-range").ends_with(&format!("/{len}")), "{row}"),
            304 => assert_eq!(answer.head.header("etag"), etag, "{row}"),
            405 => assert_eq!(answer.head.header("allow"), "GET, HEAD, OPTIONS", "{row}"),
            416 => assert!(answer.head.header("content-range").starts_with("bytes */"), "{row}"),
            400.. => assert_eq!(answer.head.header("content-type"), "application/problem+json", "{row}"),
            _ => {}
        }
    }
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_ranges_come_as_one_multipart_answer() {
    let content = odd_folder();
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    node.learn(&content, &[seeder.address()]).await;
    let (film, len) = (content.file(0), content.file(0).len());
    let mut connection = node.connect().await;
    let range = format!("bytes=0-9,{}-{},-5", MIB, MIB + 70_000);
    let answer = connection.get(&content.path(0), &[("range", &range)]).await;
    assert_eq!(answer.status, 206);
    let kind = answer.head.header("content-type").to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap_or_else(|| panic!("{kind}"));
    let mut rest = &answer.body[..];
    for (start, end) in [(0, 10), (MIB, MIB + 70_001), (len - 5, len)] {
        let head_end = rest.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&rest[..head_end]).into_owned();
        assert!(head.contains(boundary) && head.contains(&format!("bytes {start}-{}/{len}", end - 1)), "{head}");
        let part = &rest[head_end..head_end + end - start];
        assert!(*part == film[start..end], "part {start}-{end}: other bytes");
        rest = &rest[head_end + end - start..];
    }
    assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
    node.stop().await;
    seeder.stop().await;
}
