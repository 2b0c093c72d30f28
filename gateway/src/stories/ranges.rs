//! Every byte asked for, and no other.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::testing::{Answer, IH, world};

const FILES: &[(&str, u64)] = &[("a/film.mkv", 300_000), ("empty.txt", 0), ("b.bin", 70_001)];

#[tokio::test]
async fn a_whole_file_is_itself_whether_small_large_or_empty() {
    let world = world(FILES).await;
    for (index, path) in ["a/film.mkv", "empty.txt", "b.bin"].iter().enumerate() {
        let answer = world.get(&format!("/bt/{IH}/{path}")).await;
        assert_eq!((answer.status, answer.clean), (200, true), "{path}");
        assert!(answer.body == world.protocol.file(index), "{path}");
    }
    assert_eq!(world.opens(), 2, "an empty file needs no reader");
}

#[tokio::test]
async fn each_form_of_range_gives_its_bytes_and_only_they_are_read() {
    let world = world(FILES).await;
    let file = world.protocol.file(2).to_vec();
    for (range, expected, content_range) in [
        ("bytes=0-0", &file[..1], "bytes 0-0/70001"),
        ("bytes=100-199", &file[100..200], "bytes 100-199/70001"),
        ("bytes=70000-", &file[70_000..], "bytes 70000-70000/70001"),
        ("bytes=-5", &file[69_996..], "bytes 69996-70000/70001"),
        ("bytes=69999-99999999", &file[69_999..], "bytes 69999-70000/70001"),
        ("bytes=-99999999", &file[..], "bytes 0-70000/70001"),
        ("bytes=5-9,0-7", &file[..10], "bytes 0-9/70001"),
    ] {
        let answer = world.range(&format!("/bt/{IH}/b.bin"), range).await;
        assert_eq!((answer.status, answer.header("content-range")), (206, Some(content_range)), "{range}");
        assert!(answer.clean && answer.body == expected, "{range}");
        let read = world.protocol.seen.ranges.lock().pop().unwrap();
        assert_eq!(read.len(), expected.len() as u64, "{range}");
    }
}

#[tokio::test]
async fn ranges_past_the_end_are_refused_with_the_length() {
    let world = world(FILES).await;
    for range in ["bytes=70001-", "bytes=99999-100000", "bytes=-0"] {
        let answer = world.range(&format!("/bt/{IH}/b.bin"), range).await;
        assert_eq!((answer.status, answer.header("content-range")), (416, Some("bytes */70001")), "{range}");
        assert_eq!(answer.problem(), "range-not-satisfiable");
    }
    assert_eq!(world.opens(), 0);
}

#[tokio::test]
async fn several_ranges_come_as_parts_whose_length_was_announced() {
    let world = world(FILES).await;
    let file = world.protocol.file(0).to_vec();
    let answer = world.range(&format!("/bt/{IH}/a/film.mkv"), "bytes=-10,0-4,100000-199999").await;
    assert_eq!((answer.status, answer.clean), (206, true));
    let content_type = answer.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (start, end) in [(0, 5), (100_000, 200_000), (299_990, 300_000)] {
        let lead = if start == 0 { "" } else { "\r\n" };
        let last = end - 1;
        expected.extend_from_slice(
            format!("{lead}--{boundary}\r\nContent-Type: video/x-matroska\r\nContent-Range: bytes {start}-{last}/300000\r\n\r\n")
                .as_bytes(),
        );
        expected.extend_from_slice(&file[start..end]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert!(answer.body == expected);
}

#[tokio::test]
async fn nine_parts_of_a_small_file_give_the_whole() {
    let world = world(FILES).await;
    let parts: Vec<_> = (0..9).map(|part| format!("{0}-{0}", part * 2)).collect();
    let answer = world.range(&format!("/bt/{IH}/b.bin"), &format!("bytes={}", parts.join(","))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body == world.protocol.file(2));
}

#[tokio::test]
async fn two_thousand_random_ranges_are_byte_exact_over_kept_connections() {
    let world = world(FILES).await;
    let mut random = StdRng::seed_from_u64(7);
    let file = world.protocol.file(0).to_vec();
    let len = file.len();
    for _ in 0..20 {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        for _ in 0..100 {
            let start = random.random_range(0..len + 10);
            let want = if random.random_bool(0.9) { random.random_range(1..2000) } else { random.random_range(1..len) };
            let last = start + want - 1;
            let request =
                format!("GET /bt/{IH}/a/film.mkv HTTP/1.1\r\nHost: localhost\r\nRange: bytes={start}-{last}\r\n\r\n");
            socket.write_all(request.as_bytes()).await.unwrap();
            let (status, body) = next_answer(&mut socket).await;
            if start >= len {
                assert_eq!(status, 416);
            } else {
                assert_eq!(status, 206);
                assert!(body == file[start..len.min(last + 1)], "{start}-{last}");
            }
        }
    }
    assert_eq!(world.readers(), 0);
}

#[tokio::test]
async fn eight_readers_of_one_file_do_not_disturb_each_other() {
    let world = std::sync::Arc::new(world(FILES).await);
    let readers = (0..8_usize).map(|reader| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move {
            let start = reader * 30_000;
            let answer =
                world.range(&format!("/bt/{IH}/a/film.mkv"), &format!("bytes={start}-{}", start + 59_999)).await;
            assert!(answer.clean && answer.body == world.protocol.file(0)[start..start + 60_000], "{start}");
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn if_range_lets_the_range_stand_for_the_same_file_only() {
    let world = world(FILES).await;
    let with = async |tag: &str| {
        world.send("GET", &format!("/bt/{IH}/b.bin"), &[("Range", "bytes=0-0"), ("If-Range", tag)], b"").await.status
    };
    assert_eq!(with(&format!("\"bt1-{IH}-2\"")).await, 206);
    assert_eq!(with(&format!("W/\"bt1-{IH}-2\"")).await, 200);
    assert_eq!(with("\"other\"").await, 200);
    assert_eq!(with("Wed, 21 Oct 2015 07:28:00 GMT").await, 200);
}

/// Reads one answer of a kept connection.
async fn next_answer(socket: &mut TcpStream) -> (u16, Vec<u8>) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(socket.read_u8().await.unwrap());
    }
    let head = Answer::parse(&bytes, true, true);
    let mut body = vec![0; head.header("content-length").unwrap().parse().unwrap()];
    socket.read_exact(&mut body).await.unwrap();
    (head.status, body)
}
