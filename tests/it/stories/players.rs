//! What players do to a server: VLC's way of looking at a file before it plays it, and many of them that seek at once.

use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::raw::{Connection, Head};
use swarmgate_tests::throttle::Throttle;
use swarmgate_tests::wait;

use super::{KIB, MIB};

/// What VLC 3 sends with each request, whatever it is for.
const VLC: [(&str, &str); 4] = [
    ("user-agent", "VLC/3.0.20 LibVLC/3.0.20"),
    ("icy-metadata", "1"),
    ("accept-language", "en_GB"),
    ("accept", "*/*"),
];

/// Readers that seek at once, each so often.
const READERS: u64 = 8;
const SEEKS: usize = 12;
/// The longest that one of them reads before it seeks on.
const LONGEST: usize = 512 * KIB;
/// Bytes a second that each of two seeders has for all of them.
const RATE: u64 = 2 << 20;
/// How soon nothing is left of streams that were broken off.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A request as VLC spells it, with a range or without.
async fn vlc(connection: &mut Connection, method: &str, path: &str, range: Option<&str>) -> Head {
    let headers: Vec<_> = VLC.into_iter().chain(range.map(|range| ("range", range))).collect();
    connection.send(method, path, &headers).await.unwrap();
    connection.head().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vlc_asks_before_and_while_it_plays_is_exact() {
    let content = Content::single("film.mkv", 61, 3 * MIB + 12_345, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    let (film, whole) = (format!("/magnet?{}", content.magnet_query(&[seeder.address()])), &content.bytes);
    let len = whole.len();

    // It opens the file as a stream, sees that it can seek, and lets go in the middle.
    let mut first = node.connect().await;
    let head = vlc(&mut first, "GET", &film, Some("bytes=0-")).await;
    assert_eq!((head.status, head.content_length()), (206, len));
    assert_eq!(head.header("content-range"), format!("bytes 0-{}/{len}", len - 1));
    assert_eq!(head.header("accept-ranges"), "bytes");
    assert!(head.names().all(|name| !name.starts_with("icy-")), "a film is no radio");
    assert!(first.exactly(100 * KIB).await.unwrap() == whole[..100 * KIB]);
    drop(first);

    // It asks how long it is, and for the index at the end, over one connection.
    let mut second = node.connect().await;
    let head = vlc(&mut second, "HEAD", &film, None).await;
    assert_eq!((head.status, head.content_length()), (200, len));
    let end = vlc(&mut second, "GET", &film, Some(&format!("bytes={}-", len - 4321))).await;
    assert_eq!((end.status, end.content_length()), (206, 4321));
    assert!(second.exactly(4321).await.unwrap() == whole[len - 4321..]);

    // It seeks: again from there to the end, on a connection of its own, which is closed half-way.
    for at in [MIB + 1, 2 * MIB, 17] {
        let mut seek = node.connect().await;
        let head = vlc(&mut seek, "GET", &film, Some(&format!("bytes={at}-"))).await;
        assert_eq!((head.status, head.content_length()), (206, len - at));
        assert!(seek.exactly(200 * KIB).await.unwrap() == whole[at..at + 200 * KIB], "from {at}");
    }

    // Its older way: HTTP/1.0, one request a connection, which is closed at the end of the body.
    let mut old = node.connect().await;
    let request = format!(
        "GET {film} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: VLC/3.0.20 LibVLC/3.0.20\r\nRange: bytes=0-\r\n\
         Icy-MetaData: 1\r\nConnection: close\r\n\r\n"
    );
    old.write(request.as_bytes()).await.unwrap();
    let head = old.head().await.unwrap();
    assert_eq!((head.status, head.content_length(), head.header("transfer-encoding")), (206, len, ""));
    assert!(old.exactly(len).await.unwrap() == *whole);
    assert_eq!(old.some(1).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    node.stop().await;
    seeder.stop().await;
}

/// One of the readers: reads parts from anywhere, some to their end and some not, and looks at every byte.
async fn seeks(node: std::net::SocketAddr, path: String, whole: Bytes, seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut connection = Connection::open(node).await;
    for _ in 0..SEEKS {
        let start = chance.random_range(0..whole.len());
        let end = (start + chance.random_range(1..=LONGEST)).min(whole.len());
        // Most players leave the end open, and break off.
        let (range, promised) = match chance.random_bool(0.5) {
            true => (format!("bytes={start}-"), whole.len()),
            false => (format!("bytes={start}-{}", end - 1), end),
        };
        connection.send("GET", &path, &[("range", &range)]).await.unwrap();
        let leaves_early = chance.random_bool(0.1);
        if !leaves_early {
            let head = connection.head().await.unwrap();
            assert_eq!((head.status, head.content_length()), (206, promised - start), "{range}");
            let stop = if promised == end && chance.random_bool(0.7) { end } else { chance.random_range(start..end) };
            let read = connection.exactly(stop - start).await.unwrap();
            assert!(read == whole[start..stop], "{range} up to {stop}: other bytes");
            if stop == promised {
                continue;
            }
        }
        connection = Connection::open(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_seeks_that_are_broken_off_gets_no_wrong_byte_and_leaves_nothing_behind() {
    let named = std::env::var("SWARMGATE_STORY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = named.unwrap_or_else(rand::random);
    eprintln!("seed {seed}; SWARMGATE_STORY_SEED={seed} plays it again");
    let content = Content::single("film.mkv", seed, 6 * MIB + 54_321, 64 * 1024);
    let seeders = [Seeder::start(&content).await, Seeder::start(&content).await];
    let ways = [Throttle::start(seeders[0].address(), RATE).await, Throttle::start(seeders[1].address(), RATE).await];
    let node = Node::fresh().await;
    node.learn(&content, &[ways[0].address(), ways[1].address()]).await;
    let readers = (0..READERS).map(|reader| {
        let seed = seed.wrapping_add(reader);
        tokio::spawn(seeks(node.address(), content.path(0), content.bytes.clone(), seed))
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    wait::until("the streams that were broken off to end", GONE_WITHIN, async || {
        let streams = node.connect().await.get("/api/v1/streams", &[]).await.json();
        streams["streams"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
    let answer = node.connect().await.get(&content.path(0), &[]).await;
    assert!(answer.status == 200 && answer.body == content.bytes, "the whole: {}", answer.status);
    node.stop().await;
    for seeder in seeders {
        seeder.stop().await;
    }
}
