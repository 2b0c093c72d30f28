use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::build::{Built, DirectoryBuilder, FileBuilder, Profile};
use crate::dag_pb::PbNode;
use crate::testing::Blocks;

const SMALL: Profile = Profile { chunk_bytes: 2, links_per_node: 3, ..Profile::V1_2025 };

fn file(blocks: &mut Blocks, bytes: &[u8]) -> Built {
    let mut builder = FileBuilder::new(SMALL);
    builder.push(bytes);
    let built = builder.finish();
    blocks.0.extend(std::iter::from_fn(|| builder.poll_block()).map(|block| (block.cid, block.bytes)));
    built
}

fn directory(blocks: &mut Blocks, entries: &[(&str, Built)], sharded: bool) -> Built {
    let mut directory = DirectoryBuilder::new(SMALL);
    for (name, entry) in entries {
        directory.add(*name, *entry).unwrap();
    }
    let (built, made) = if sharded { directory.finish_sharded() } else { directory.finish() }.unwrap();
    blocks.0.extend(made.into_iter().map(|block| (block.cid, block.bytes)));
    built
}

/// Exports all; blocks come in the order that `pick` chooses.
fn export(blocks: &Blocks, mut export: DagExport, mut pick: impl FnMut(usize) -> usize) -> Vec<Cid> {
    let (mut open, mut sent) = (Vec::new(), Vec::new());
    while !export.is_done() {
        open.extend(std::iter::from_fn(|| export.poll_want(4)));
        assert!(open.len() <= 5);
        match export.poll_block().unwrap() {
            Some((cid, block)) => {
                assert_eq!(blocks.0[&cid], block.as_ref());
                sent.push(cid);
            }
            None if open.is_empty() => {}
            None => {
                let cid = open.swap_remove(pick(open.len()));
                assert!(export.provide(&cid, &blocks.get(&cid)));
            }
        }
    }
    sent
}

/// Depth first, by the definition.
fn depth_first(blocks: &Blocks, root: Cid, sent: &mut Vec<Cid>) {
    sent.push(root);
    for below in links(&root, &blocks.get(&root)).unwrap() {
        depth_first(blocks, below, sent);
    }
}

fn in_order(blocks: &Blocks, root: Cid, scope: &str, bytes: Option<&str>) -> Vec<Cid> {
    let scope = match bytes {
        Some(bytes) => Scope::Entity(Some(bytes.parse().unwrap())),
        None => scope.parse().unwrap(),
    };
    export(blocks, DagExport::new(&[], root, scope, true), |_| 0)
}

#[test]
fn each_scope_sends_what_it_says() {
    let mut blocks = Blocks::default();
    let file = file(&mut blocks, b"abcdefgh");
    let other = Built { cid: blocks.put(Codec::Raw, &b"other"[..]), file_bytes: 5, dag_bytes: 5 };
    let names: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), other)).collect();
    let shards = directory(&mut blocks, &entries, true);
    let root = directory(&mut blocks, &[("f", file), ("s", shards)], false);
    let mut all = Vec::new();
    depth_first(&blocks, root.cid, &mut all);
    assert_eq!(in_order(&blocks, root.cid, "all", None), all);
    assert_eq!(in_order(&blocks, root.cid, "entity", None), [root.cid]);
    assert_eq!(in_order(&blocks, root.cid, "block", None), [root.cid]);
    assert_eq!(in_order(&blocks, root.cid, "", Some("3:4")), [root.cid], "a directory has no bytes");
    let mut whole_file = Vec::new();
    depth_first(&blocks, file.cid, &mut whole_file);
    assert_eq!(in_order(&blocks, file.cid, "entity", None), whole_file);
    let shards_only = in_order(&blocks, shards.cid, "entity", None);
    assert!(shards_only.len() > 1 && !shards_only.contains(&other.cid));
    let way = DagExport::new(&[root.cid], file.cid, Scope::Block, true);
    assert_eq!(export(&blocks, way, |_| 0), [root.cid, file.cid]);
}

#[test]
fn bytes_of_a_file_need_only_the_blocks_that_cover_them() {
    let mut blocks = Blocks::default();
    let built = file(&mut blocks, b"abcdefgh");
    let leaf = |text: &str| crate::block::name(Codec::Raw, text.as_bytes());
    let node = |index: usize| {
        let root = &blocks.0[&built.cid];
        PbNode::decode(root).unwrap().links().nth(index).unwrap().cid
    };
    for (bytes, expected) in [
        ("3:4", vec![built.cid, node(0), leaf("cd"), leaf("ef")]),
        ("-1:*", vec![built.cid, node(1), leaf("gh")]),
        ("5:6", vec![built.cid, node(0), leaf("ef"), node(1), leaf("gh")]),
        ("8:*", vec![built.cid]),
        ("4:3", vec![built.cid]),
    ] {
        assert_eq!(in_order(&blocks, built.cid, "", Some(bytes)), expected, "{bytes}");
    }
    let raw = leaf("ab");
    assert_eq!(in_order(&blocks, raw, "", Some("0:*")), [raw]);
}

#[test]
fn without_duplicates_each_block_is_sent_once() {
    let mut blocks = Blocks::default();
    let zeros = file(&mut blocks, &[0; 200]);
    let root = directory(&mut blocks, &[("a", zeros), ("b", zeros)], false);
    for scope in [Scope::All, Scope::Entity(None)] {
        for end in [root.cid, zeros.cid] {
            let with = export(&blocks, DagExport::new(&[root.cid], end, scope, true), |_| 0);
            let without = export(&blocks, DagExport::new(&[root.cid], end, scope, false), |_| 0);
            let distinct: BTreeSet<_> = without.iter().collect();
            assert_eq!(distinct, with.iter().collect());
            assert_eq!(distinct.len(), without.len());
        }
    }
}

#[test]
fn a_tower_of_one_block_again_and_again_ends_at_once() {
    let mut blocks = Blocks::default();
    let mut top = blocks.put(Codec::Raw, &b"x"[..]);
    for _ in 0..30 {
        let link = crate::dag_pb::Link { cid: top, name: None, tsize: None };
        top = blocks.put(Codec::DagPb, crate::dag_pb::encode([link; 50], None));
    }
    assert_eq!(export(&blocks, DagExport::new(&[], top, Scope::All, false), |_| 0).len(), 31);
}

#[test]
fn blocks_in_their_own_cids_are_followed_and_not_sent() {
    let mut blocks = Blocks::default();
    let leaf = blocks.put(Codec::Raw, &b"leaf"[..]);
    let inner = crate::dag_pb::encode([crate::dag_pb::Link { cid: leaf, name: None, tsize: None }], None);
    let inline = [&[1, 0x70, 0, u8::try_from(inner.len()).unwrap()][..], &inner].concat();
    let inline = Cid::try_from(&inline[..]).unwrap();
    let link = crate::dag_pb::Link { cid: inline, name: None, tsize: None };
    let root = blocks.put(Codec::DagPb, crate::dag_pb::encode([link], None));
    assert_eq!(in_order(&blocks, root, "all", None), [root, leaf]);
}

#[test]
fn a_file_that_contradicts_itself_ends_the_export_with_an_error() {
    let mut blocks = Blocks::default();
    let data = [8, 2, 0x18, 9, 0x20, 9];
    let leaf = blocks.put(Codec::Raw, &b"short"[..]);
    let link = crate::dag_pb::Link { cid: leaf, name: None, tsize: None };
    let root = blocks.put(Codec::DagPb, crate::dag_pb::encode([link], Some(&data)));
    let mut export = DagExport::new(&[], root, Scope::Entity(None), false);
    for cid in [root, leaf] {
        assert_eq!(export.poll_want(1), Some(cid));
        export.provide(&cid, &blocks.get(&cid));
        let _ = export.poll_block().map_err(|error| assert_eq!((*error.cid, cid), (leaf, leaf)));
    }
    assert!(export.is_done());
}

proptest! {
    #[test]
    fn the_order_of_blocks_does_not_depend_on_the_order_of_arrival(
        sizes in proptest::collection::vec(0..40_u8, 1..8),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..20),
    ) {
        let mut blocks = Blocks::default();
        let files: Vec<_> = sizes.iter().map(|len| file(&mut blocks, &(0..*len).collect::<Vec<_>>())).collect();
        let names: Vec<_> = (0..files.len()).map(|number| number.to_string()).collect();
        let entries: Vec<_> = names.iter().map(String::as_str).zip(files).collect();
        let root = directory(&mut blocks, &entries, false).cid;
        let mut expected = Vec::new();
        depth_first(&blocks, root, &mut expected);
        let mut turn = 0;
        let sent = export(&blocks, DagExport::new(&[], root, Scope::All, true), |count| {
            turn += 1;
            picks[turn % picks.len()].index(count)
        });
        prop_assert_eq!(sent, expected);
    }
}
