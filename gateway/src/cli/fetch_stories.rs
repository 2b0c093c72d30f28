//! `swarmgate get` of what IPFS has, cut, damaged and begun again. Each run has a cache of its own, so that what a second
//! one does not ask for can only be what the first left in its files.

use std::collections::BTreeSet;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use swarmgate_content::Cid;
use swarmgate_ipfs_proto::build::{Block, DirectoryBuilder, Profile};

use super::get::{GetOptions, run};
use super::source::Failure;
use super::testing::{BlockServer, directory, file, noise};
use super::{Exit, part};

const CHUNK: usize = 64 << 10;
const RAW_LEAVES: Profile = Profile { chunk_bytes: CHUNK, links_per_node: 16, ..Profile::V1_2025 };
const FRAMED_LEAVES: Profile = Profile { legacy: true, ..RAW_LEAVES };

/// Runs the command and says which paths it printed.
async fn get(
    server: &BlockServer,
    uri: &str,
    out: &Path,
    interrupted: impl Future<Output = ()>,
) -> Result<Vec<String>, Failure> {
    let cache = tempfile::tempdir().unwrap();
    let options = GetOptions { uri: uri.to_owned(), out: out.to_owned(), select: None };
    let mut printed = Vec::new();
    run(&server.config(cache.path()), options, interrupted, &mut printed).await?;
    Ok(String::from_utf8(printed).unwrap().lines().map(str::to_owned).collect())
}

/// Resolves when something is true of the disk.
async fn when(mut happened: impl FnMut() -> bool) {
    while !happened() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The leaves of a file, in order, which its builder gives before the node above them.
fn leaves(blocks: &[Block], profile: Profile, bytes: &[u8]) -> Vec<Cid> {
    let flat = file(Profile { links_per_node: 10_000, ..profile }, bytes).0;
    let leaves: Vec<Cid> = flat[..bytes.len().div_ceil(CHUNK)].iter().map(|block| block.cid).collect();
    assert!(leaves.iter().all(|leaf| blocks.iter().any(|block| block.cid == *leaf)));
    leaves
}

fn leaves_asked(server: &BlockServer, leaves: &[Cid]) -> Vec<Cid> {
    server.asked().into_iter().filter(|cid| leaves.contains(cid)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_cut_goes_on_where_it_stopped() {
    let bytes = noise(6 * (1 << 20) + 5);
    for profile in [RAW_LEAVES, FRAMED_LEAVES] {
        let (blocks, root) = file(profile, &bytes);
        let leaves = leaves(&blocks, profile, &bytes);
        let dir = tempfile::tempdir().unwrap();
        let (uri, path) = (root.cid.to_string(), dir.path().join(root.cid.to_string()));
        let part = part::part_path(&path);

        let server = BlockServer::start(&blocks, &leaves[40..44]).await;
        let halfway = when(|| part.metadata().is_ok_and(|it| it.len() >= 30 * CHUNK as u64));
        let failure = get(&server, &uri, dir.path(), halfway).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Interrupted);
        assert!(failure.message.contains("the same command goes on from here"), "{failure}");
        assert_eq!(names(dir.path()), [format!("{uri}.part")], "nothing has its name before it is complete");

        let left = std::fs::read(&part).unwrap();
        assert!(bytes.starts_with(&left) && left.len() >= 30 * CHUNK);
        let server = BlockServer::start(&blocks, &[]).await;
        let printed = get(&server, &uri, dir.path(), pending()).await.unwrap();
        assert_eq!(printed, [path.display().to_string()]);
        assert!(std::fs::read(&path).unwrap() == bytes);
        assert_eq!(names(dir.path()), [uri]);
        let asked = leaves_asked(&server, &leaves);
        let missing: BTreeSet<_> = leaves[left.len() / CHUNK..].iter().copied().collect();
        assert_eq!(asked.len(), missing.len(), "each of them once");
        assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), missing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_right_is_left_alone_and_what_is_damaged_is_fetched_again() {
    let bytes = noise(40 * CHUNK + 1);
    for profile in [RAW_LEAVES, FRAMED_LEAVES] {
        let (blocks, root) = file(profile, &bytes);
        let leaves = leaves(&blocks, profile, &bytes);
        let dir = tempfile::tempdir().unwrap();
        let (uri, path) = (root.cid.to_string(), dir.path().join(root.cid.to_string()));
        let (mut damaged, with_tail) = (bytes.clone(), [&bytes[..], b"tail"].concat());
        damaged[7 * CHUNK + 9] ^= 1;
        damaged[40 * CHUNK] ^= 1;
        let cut = &bytes[..10 * CHUNK];
        for (left, wrong) in [
            (&bytes[..], &[][..]),
            (&damaged, &[leaves[7], leaves[40]]),
            (&with_tail, &[]),
            (cut, &leaves[10..]),
            (&[], &leaves[..]),
        ] {
            std::fs::write(&path, left).unwrap();
            let written = path.metadata().unwrap().modified().unwrap();
            let server = BlockServer::start(&blocks, &[]).await;
            let printed = get(&server, &uri, dir.path(), pending()).await.unwrap();
            assert_eq!(printed, [path.display().to_string()]);
            assert!(std::fs::read(&path).unwrap() == bytes);
            assert_eq!(names(dir.path()), [uri.as_str()]);
            let asked: BTreeSet<_> = leaves_asked(&server, &leaves).into_iter().collect();
            let wrong: BTreeSet<_> = wrong.iter().copied().collect();
            assert_eq!(asked, wrong, "{} bytes were left", left.len());
            let untouched = path.metadata().unwrap().modified().unwrap() == written;
            assert_eq!(untouched, left == bytes, "a file that is right is not written to");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_has_no_name_until_it_is_repaired() {
    let bytes = noise(20 * CHUNK);
    let (blocks, root) = file(RAW_LEAVES, &bytes);
    let leaves = leaves(&blocks, RAW_LEAVES, &bytes);
    let dir = tempfile::tempdir().unwrap();
    let (uri, path) = (root.cid.to_string(), dir.path().join(root.cid.to_string()));
    let mut damaged = bytes.clone();
    damaged[3 * CHUNK] ^= 1;
    damaged[15 * CHUNK] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let server = BlockServer::start(&blocks, &leaves[15..16]).await;
    let half_repaired = when(|| part::part_path(&path).exists());
    assert_eq!(get(&server, &uri, dir.path(), half_repaired).await.unwrap_err().exit, Exit::Interrupted);
    assert_eq!(names(dir.path()), [format!("{uri}.part")]);
    let server = BlockServer::start(&blocks, &[]).await;
    get(&server, &uri, dir.path(), pending()).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    assert!(leaves_asked(&server, &leaves).len() <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_ten_thousand_files_is_got_and_then_only_what_is_missing_of_it() {
    let contents: Vec<_> = (0..50).map(|n| noise(100 + n)).collect();
    let files: Vec<_> = contents.iter().map(|bytes| file(Profile::V1_2025, bytes)).collect();
    let mut builder = DirectoryBuilder::new(Profile::V1_2025);
    for n in 0..10_000 {
        builder.add(format!("entry-{n:05}"), files[n % 50].1).unwrap();
    }
    let (root, shards) = builder.finish().unwrap();
    assert!(shards.len() > 200, "it is sharded");
    let blocks: Vec<_> = files.iter().flat_map(|(blocks, _)| blocks.clone()).chain(shards.clone()).collect();
    let dir = tempfile::tempdir().unwrap();
    let (uri, path) = (root.cid.to_string(), dir.path().join(root.cid.to_string()));

    let server = BlockServer::start(&blocks, &[]).await;
    let printed = get(&server, &uri, dir.path(), pending()).await.unwrap();
    assert_eq!((printed.len(), names(&path).len()), (10_000, 10_000));
    let right = |n: usize| std::fs::read(path.join(format!("entry-{n:05}"))).unwrap() == contents[n % 50];
    assert!((0..10_000).all(right));

    std::fs::remove_file(path.join("entry-00007")).unwrap();
    std::fs::write(path.join("entry-00008"), "something else").unwrap();
    let server = BlockServer::start(&blocks, &[]).await;
    get(&server, &uri, dir.path(), pending()).await.unwrap();
    assert!((0..10_000).all(right));
    let shards: BTreeSet<_> = shards.iter().map(|block| block.cid).collect();
    let asked: BTreeSet<_> = server.asked().into_iter().filter(|cid| !shards.contains(cid)).collect();
    assert_eq!(asked, BTreeSet::from([files[7].1.cid, files[8].1.cid]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_in_frames_that_are_here_are_not_fetched_to_learn_that_they_are_files() {
    let (one, two) = (file(FRAMED_LEAVES, b"one"), file(FRAMED_LEAVES, b"two"));
    let mut builder = DirectoryBuilder::new(FRAMED_LEAVES);
    builder.add("one", one.1).unwrap();
    builder.add("two", two.1).unwrap();
    let (root, own) = builder.finish().unwrap();
    let blocks = [one.0, two.0, own].concat();
    let (uri, dir) = (root.cid.to_string(), tempfile::tempdir().unwrap());
    for asked in [3, 1] {
        let server = BlockServer::start(&blocks, &[]).await;
        get(&server, &uri, dir.path(), pending()).await.unwrap();
        assert_eq!(names(&dir.path().join(&uri)), ["one", "two"]);
        assert_eq!(server.asked().len(), asked, "{:?}", server.asked());
    }
}

#[tokio::test]
async fn a_name_that_leads_out_of_the_directory_is_refused() {
    let (blocks, evil) = file(RAW_LEAVES, b"evil");
    for name in [&b".."[..], b".", b"", b"../evil", b"/evil", b"a/b", b"..\\evil", b"e\0vil"] {
        let own = directory(&[(name, evil)]);
        let server = BlockServer::start(&[&blocks[..], std::slice::from_ref(&own)].concat(), &[]).await;
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let failure = get(&server, &own.cid.to_string(), &out, pending()).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Integrity, "{failure}");
        assert!(failure.message.contains("an entry is named"), "{failure}");
        assert_eq!((names(dir.path()), names(&out.join(own.cid.to_string()))), (vec!["out".to_owned()], Vec::new()));
    }
}

#[tokio::test]
async fn two_entries_never_become_one_file() {
    let (one, two) = (file(RAW_LEAVES, b"one"), file(RAW_LEAVES, b"two"));
    for names in [[&b"x"[..], b"x"], [b"a:b", b"a_b"], [b"x", b"x.part"], [b"x.part", b"x"]] {
        let own = directory(&[(names[0], one.1), (names[1], two.1)]);
        let server = BlockServer::start(&[&one.0[..], &two.0, std::slice::from_ref(&own)].concat(), &[]).await;
        let dir = tempfile::tempdir().unwrap();
        let failure = get(&server, &own.cid.to_string(), dir.path(), pending()).await.unwrap_err();
        assert!(failure.message.contains("two entries would be"), "{failure}");
    }
}
