use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use swarmgate_content::{ByteRange, Cid};
use swarmgate_ipfs_proto::build::Profile;

use crate::at_hand::AtHand;
use crate::session::SessionOptions;
use crate::testing::{Dag, Habit, PROFILE, Shelf, blocks, noise};

const AT_ONCE: Duration = Duration::from_millis(1);

/// What an earlier run left, in two versions perhaps.
#[derive(Debug)]
struct Left(Vec<Vec<u8>>);

impl AtHand for Left {
    fn reaches(&self, offset: u64) -> bool {
        self.0.iter().any(|left| offset <= left.len() as u64)
    }

    fn read(&self, offset: u64, len: Option<u64>) -> Vec<Bytes> {
        let offset = usize::try_from(offset).unwrap();
        let from = self.0.iter().filter_map(|left| left.get(offset..));
        let part = from.filter_map(|from| from.get(..len.map_or(from.len(), |len| usize::try_from(len).unwrap())));
        part.map(Bytes::copy_from_slice).collect()
    }
}

/// Reads all of a file over what was left of it, and says which blocks were asked for.
async fn read_over(dag: &Dag, left: &[&[u8]]) -> (Vec<u8>, Vec<Cid>) {
    let shelf = Shelf::new("a", Habit::Honest, AT_ONCE).with(dag);
    let session = blocks([shelf.clone()]).await.session(SessionOptions::default());
    let left = Arc::new(Left(left.iter().map(|bytes| bytes.to_vec()).collect()));
    let reader = session.file_over(dag.root(), ByteRange::full(u64::MAX).unwrap(), left);
    let read = reader.map_ok(|bytes| bytes.as_ref().to_vec()).try_concat().await.unwrap();
    (read, shelf.asked_for())
}

#[tokio::test]
async fn only_nodes_and_what_is_missing_or_wrong_are_asked_for() {
    let bytes = noise(40 * 1024 + 7);
    for profile in [PROFILE, Profile { legacy: true, ..PROFILE }] {
        let dag = Dag::of(profile, &bytes);
        let flat = Dag::of(Profile { links_per_node: 1000, ..profile }, &bytes);
        let leaves: Vec<Cid> = flat.blocks[..41].iter().map(|block| block.cid).collect();
        let mut left = bytes[..30 * 1024 + 100].to_vec();
        left[3 * 1024] ^= 1;
        let (read, asked) = read_over(&dag, &[&left]).await;
        assert!(read == bytes);
        // What lies on a disk is looked at on other threads, so there is no order among what is then asked for.
        let asked: BTreeSet<_> = asked.into_iter().filter(|cid| leaves.contains(cid)).collect();
        let expected: BTreeSet<_> = [3].into_iter().chain(30..41).map(|leaf: usize| leaves[leaf]).collect();
        assert_eq!(asked, expected, "{profile:?}");
    }
}

#[tokio::test]
async fn of_two_versions_each_gives_what_it_has_right() {
    let bytes = noise(4 * 1024);
    let dag = Dag::file(&bytes);
    let (mut first, mut second) = (bytes.clone(), bytes.clone());
    first[0] ^= 1;
    second[2000] ^= 1;
    let (read, asked) = read_over(&dag, &[&first, &second]).await;
    assert!(read == bytes);
    assert_eq!(asked, [dag.root()]);
}

#[tokio::test]
async fn a_file_of_one_block_that_is_here_is_asked_of_nobody() {
    for len in [0, 700] {
        for profile in [PROFILE, Profile { legacy: true, ..PROFILE }] {
            let (bytes, with_tail) = (noise(len), noise(len + 1));
            let dag = Dag::of(profile, &bytes);
            assert_eq!(read_over(&dag, &[&bytes]).await, (bytes.clone(), Vec::new()));
            assert_eq!(read_over(&dag, &[&with_tail]).await, (bytes, vec![dag.root()]), "it is another file");
        }
    }
}

#[tokio::test]
async fn a_block_that_stands_at_two_places_is_given_to_both() {
    let bytes = [noise(1024), noise(1024), noise(1024)].concat();
    let dag = Dag::file(&bytes);
    let (read, asked) = read_over(&dag, &[&bytes[..1024]]).await;
    assert!(read == bytes);
    assert_eq!(asked, [dag.root()]);
}
