//! `swarmgate ls` of what IPFS has.

use std::future::{pending, ready};
use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use serde_json::{Value, json};
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::block;
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, Profile, symlink};
use swarmgate_ipfs_proto::codec::Codec;

use super::args::Output;
use super::source::Failure;
use super::testing::{BlockServer, directory, file, noise};
use super::{Exit, ls};

const PROFILE: Profile = Profile { chunk_bytes: 1000, ..Profile::V1_2025 };

async fn listed(
    server: &BlockServer,
    uri: &str,
    output: Output,
    interrupted: impl Future<Output = ()>,
) -> Result<String, Failure> {
    let (cache, mut out) = (tempfile::tempdir().unwrap(), Vec::new());
    ls::run(&server.config(cache.path()), uri, output, interrupted, &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

fn line(cid: &Cid, size: &str, kind: &str, name: &str) -> String {
    format!("{:<59}  {size:>14}  {kind:<9}  {name}\n", cid.to_string())
}

/// A directory of one of each, and the CIDs of its entries.
fn one_of_each() -> (Vec<Block>, Cid, [Cid; 6]) {
    let (mut blocks, film) = file(PROFILE, &noise(5000));
    let (hello, old) = (file(PROFILE, b"hello world"), file(Profile { legacy: true, ..PROFILE }, b"as it was"));
    let (link, link_block) = symlink(&PROFILE, b"hello.txt");
    let data = Block { cid: block::name(Codec::DagCbor, b"\xa0"), bytes: Bytes::from_static(b"\xa0") };
    let mut below = DirectoryBuilder::new(PROFILE);
    below.add("deep", hello.1).unwrap();
    let (below, below_blocks) = below.finish().unwrap();
    let mut root = DirectoryBuilder::new(PROFILE);
    let data_built = Built { cid: data.cid, file_bytes: 0, dag_bytes: 1 };
    let entries = [
        ("below", below),
        ("data", data_built),
        ("film", film),
        ("hello.txt", hello.1),
        ("link", link),
        ("old", old.1),
    ];
    for (name, built) in entries {
        root.add(name, built).unwrap();
    }
    let (root, own) = root.finish().unwrap();
    blocks.extend([hello.0, old.0, below_blocks, own, vec![link_block, data]].concat());
    (blocks, root.cid, entries.map(|(_, built)| built.cid))
}

#[tokio::test]
async fn a_directory_shows_what_each_entry_is_without_fetching_its_files() {
    let (blocks, root, cids) = one_of_each();
    let [below, data, film, hello, link, old] = cids;
    let server = BlockServer::start(&blocks, &[hello]).await;
    let expected = [
        line(&below, "-", "directory", "below"),
        line(&data, "-", "dag-cbor", "data"),
        line(&film, "5000", "file", "film"),
        line(&hello, "11", "file", "hello.txt"),
        line(&link, "-", "symlink", "link"),
        line(&old, "9", "file", "old"),
    ]
    .concat();
    assert_eq!(listed(&server, &root.to_string(), Output::Human, pending()).await.unwrap(), expected);
    assert_eq!(listed(&server, &format!("ipfs://{root}/"), Output::Human, pending()).await.unwrap(), expected);
    // The root, and of each entry the first block alone; a raw one is a file of the size that its link has.
    for cid in server.asked() {
        assert!([root, below, data, film, link, old].contains(&cid), "{cid}");
    }

    let json = listed(&server, &format!("/ipfs/{root}"), Output::Json, pending()).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["path"], format!("/ipfs/{root}"));
    assert_eq!((&json["cid"], &json["kind"]), (&json!(root.to_string()), &json!("directory")));
    assert_eq!(json["entries"].as_array().unwrap().len(), 6);
    assert_eq!(json["entries"][2], json!({ "name": "film", "kind": "file", "size": 5000, "cid": film.to_string() }));
    assert_eq!(json["entries"][0]["size"], Value::Null);
}

#[tokio::test]
async fn a_file_shows_itself_and_what_is_not_there_has_its_exit_code() {
    let (blocks, root, [below, _, film, hello, ..]) = one_of_each();
    let server = BlockServer::start(&blocks, &[]).await;
    for (uri, expected) in [
        (format!("{root}/film"), line(&film, "5000", "file", "film")),
        (format!("{root}/below/deep"), line(&hello, "11", "file", "deep")),
        (format!("{root}/link"), line(&hello, "11", "file", "link")),
        (hello.to_string(), line(&hello, "11", "file", &hello.to_string())),
        (below.to_string(), line(&hello, "11", "file", "deep")),
    ] {
        assert_eq!(listed(&server, &uri, Output::Human, pending()).await.unwrap(), expected, "{uri}");
    }
    let json = listed(&server, &format!("{root}/film"), Output::Json, pending()).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["kind"], &json["entries"][0]["size"]), (&json!("file"), &json!(5000)));
    for (uri, exit) in [(format!("{root}/nothing"), Exit::NotFound), ("/ipfs/nocid".to_owned(), Exit::Usage)] {
        assert_eq!(listed(&server, &uri, Output::Human, pending()).await.unwrap_err().exit, exit, "{uri}");
    }
}

#[tokio::test]
async fn a_sharded_directory_is_listed_to_its_last_entry_in_one_order() {
    let hello = file(PROFILE, b"hello world");
    let mut builder = DirectoryBuilder::new(PROFILE);
    for n in 0..3000 {
        builder.add(format!("entry-{n:04}"), hello.1).unwrap();
    }
    let (root, shards) = builder.finish_sharded().unwrap();
    let server = BlockServer::start(&[&shards[..], &hello.0].concat(), &[]).await;
    let human = listed(&server, &root.cid.to_string(), Output::Human, pending()).await.unwrap();
    let human: Vec<_> = human.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect();
    let json = listed(&server, &root.cid.to_string(), Output::Json, pending()).await.unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    let rows = json["entries"].as_array().unwrap();
    assert!(rows.iter().map(|row| row["name"].as_str().unwrap()).eq(human.iter().map(String::as_str)));
    let mut names = human;
    names.sort();
    assert!(names.iter().enumerate().all(|(n, name)| *name == format!("entry-{n:04}")) && names.len() == 3000);
}

#[tokio::test]
async fn a_strangers_name_does_not_move_the_cursor_and_an_empty_directory_is_one() {
    let (blocks, hello) = file(PROFILE, b"hello world");
    let (odd, empty) = (directory(&[(b"a\x1b[2Jb\xff", hello)]), directory(&[]));
    let server = BlockServer::start(&[&blocks[..], &[odd.clone(), empty.clone()]].concat(), &[]).await;
    let human = listed(&server, &odd.cid.to_string(), Output::Human, pending()).await.unwrap();
    assert!(human.ends_with("  a\u{fffd}[2Jb\u{fffd}\n"), "{human:?}");
    let none = listed(&server, &empty.cid.to_string(), Output::Human, pending()).await.unwrap();
    assert_eq!(none, "");
    let json = listed(&server, &empty.cid.to_string(), Output::Json, pending()).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["entries"], json!([]));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed(usize);

    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let (blocks, root, _) = one_of_each();
    let server = BlockServer::start(&blocks, &[]).await;
    let (cache, mut out) = (tempfile::tempdir().unwrap(), Closed(2));
    let config = server.config(cache.path());
    ls::run(&config, &root.to_string(), Output::Human, pending(), &mut out).await.unwrap();
    assert_eq!(out.0, 0, "two rows were read");
}

#[tokio::test]
async fn a_listing_that_does_not_come_can_be_ended() {
    let root = directory(&[]);
    let server = BlockServer::start(std::slice::from_ref(&root), &[root.cid]).await;
    let failure = listed(&server, &root.cid.to_string(), Output::Human, ready(())).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
}
