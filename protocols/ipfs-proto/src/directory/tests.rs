use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::build::{DirectoryBuilder, FileBuilder, Profile};
use crate::codec::Codec;
use crate::dag_pb::encode;
use crate::testing::{Blocks, verified};
use crate::unixfs::UnixFs;

/// A directory of files, each of which contains its name.
fn directory(blocks: &mut Blocks, names: &BTreeSet<Vec<u8>>, sharded: bool) -> Cid {
    let mut directory = DirectoryBuilder::new(Profile::V1_2025);
    for name in names {
        let mut file = FileBuilder::new(Profile::V1_2025);
        file.push(name);
        directory.add(name.clone(), file.finish()).unwrap();
    }
    let (built, made) = if sharded { directory.finish_sharded() } else { directory.finish() }.unwrap();
    blocks.0.extend(made.into_iter().map(|block| (block.cid, block.bytes)));
    built.cid
}

/// What a lookup finds, and how many blocks it took.
fn look(blocks: &Blocks, root: Cid, name: &[u8]) -> (Option<Entry>, usize) {
    let mut lookup = Lookup::new(root, Bytes::copy_from_slice(name));
    for fetched in 0.. {
        match lookup.state().clone() {
            Found::Want(cid) => drop(lookup.provide(&cid, &blocks.get(&cid)).unwrap()),
            Found::Entry(entry) => return (Some(entry), fetched),
            Found::Nothing => return (None, fetched),
        }
    }
    unreachable!("a lookup ends")
}

fn list(blocks: &Blocks, root: Cid, mut pick: impl FnMut(usize) -> usize) -> Vec<Entry> {
    let (mut walk, mut open, mut entries) = (DirectoryWalk::new(root), Vec::new(), Vec::new());
    while !walk.is_done() {
        open.extend(std::iter::from_fn(|| walk.poll_want()));
        assert!(open.len() <= MAX_SHARDS_AHEAD);
        if let Some(entry) = walk.poll_entry().unwrap() {
            entries.push(entry);
        } else if !open.is_empty() {
            let cid = open.swap_remove(pick(open.len()));
            assert!(walk.provide(&cid, &blocks.get(&cid)));
        }
    }
    entries
}

fn any_names() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
    let name = proptest::collection::vec(
        any::<u8>().prop_filter("a path's own", |byte| ![0, b'/', b'.'].contains(byte)),
        1..4,
    );
    proptest::collection::btree_set(name, 0..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_name_is_found_and_listed_and_no_other(names in any_names(), sharded: bool, picks: Vec<prop::sample::Index>) {
        let mut blocks = Blocks::default();
        let root = directory(&mut blocks, &names, sharded);
        let mut turn = 0;
        let listed = list(&blocks, root, |count| {
            turn += 1;
            picks.get(turn % picks.len().max(1)).map_or(0, |pick| pick.index(count))
        });
        let listed_names: BTreeSet<_> = listed.iter().map(|entry| entry.name.to_vec()).collect();
        prop_assert_eq!(listed.len(), names.len());
        prop_assert_eq!(&listed_names, &names);
        for entry in &listed {
            prop_assert_eq!(entry.cid, crate::block::name(Codec::Raw, &entry.name));
            let (found, fetched) = look(&blocks, root, &entry.name);
            prop_assert_eq!(found.as_ref(), Some(entry));
            prop_assert!(fetched <= 4, "only the shards on the way: {}", fetched);
        }
        prop_assert_eq!(look(&blocks, root, b"absent").0, None);
    }

    #[test]
    fn any_shards_whatever_end(
        shards in proptest::collection::vec(proptest::collection::vec((any::<u16>(), any::<Option<u8>>(), 0..4_usize), 0..8), 4),
        fanout in prop::sample::select(vec![8_u64, 256, 1024]),
    ) {
        let names: Vec<_> = (0..4_u8).map(|number| crate::block::name(Codec::DagPb, &[number])).collect();
        let cut = Fanout::new(fanout).unwrap();
        let blocks: Vec<_> = shards.iter().map(|links| {
            let data = UnixFs { hash_type: Some(0x22), fanout: Some(fanout), ..UnixFs::new(Kind::HamtShard) };
            let links: Vec<_> = links.iter().map(|(bucket, name, to)| {
                let mut prefix = cut.prefix(bucket % cut.buckets()).into_bytes();
                prefix.extend(name);
                (prefix, names[*to])
            }).collect();
            let links = links.iter().map(|(name, cid)| Link { cid: *cid, name: Some(name), tsize: None });
            verified(&encode(links, Some(&data.encode())))
        }).collect();
        let block = |cid: &Cid| &blocks[names.iter().position(|name| name == cid).unwrap()];
        let mut lookup = Lookup::new(names[0], &b"x"[..]);
        while let Found::Want(cid) = *lookup.state() {
            if lookup.provide(&cid, block(&cid)).is_err() {
                break;
            }
        }
        let mut walk = DirectoryWalk::new(names[0]);
        for _ in 0..2000 {
            while let Some(cid) = walk.poll_want() {
                walk.provide(&cid, block(&cid));
            }
            if walk.poll_entry().is_err() {
                break;
            }
        }
    }
}

#[test]
fn a_name_that_is_no_text_is_found_and_says_so() {
    let mut blocks = Blocks::default();
    let root = directory(&mut blocks, &BTreeSet::from([b"\xff\xfe".to_vec(), b"text".to_vec()]), false);
    assert_eq!(look(&blocks, root, b"\xff\xfe").0.unwrap().text(), None);
    assert_eq!(look(&blocks, root, b"text").0.unwrap().text(), Some("text"));
}

#[test]
fn what_is_no_directory_is_an_error_with_its_name() {
    let mut blocks = Blocks::default();
    let shard = |hash, fanout, links: usize| {
        let data = UnixFs { hash_type: Some(hash), fanout: Some(fanout), ..UnixFs::new(Kind::HamtShard) }.encode();
        let cid = crate::block::name(Codec::Raw, b"x");
        encode(std::iter::repeat_n(Link { cid, name: Some(b"0"), tsize: None }, links), Some(&data))
    };
    let file = encode([], Some(&UnixFs::new(Kind::File).encode()));
    for (block, why) in [
        (file, "a file, not a directory"),
        (encode([], Some(b"\xff")), "without UnixFS data, not a directory"),
        (shard(0x12, 256, 0), "murmur3"),
        (shard(0x22, 1 << 40, 0), "fanout"),
        (shard(0x22, 8, 9), "too many links"),
        (shard(0x22, 256, 1), "a link has no bucket"),
    ] {
        let root = blocks.put(Codec::DagPb, block);
        let mut walk = DirectoryWalk::new(root);
        walk.poll_want();
        walk.provide(&root, &blocks.get(&root));
        let error = walk.poll_entry().unwrap_err();
        assert!(error.to_string().contains(why) && *error.cid == root, "{error}");
        assert!(walk.is_done());
        assert!(Lookup::new(root, &b"x"[..]).provide(&root, &blocks.get(&root)).is_err(), "{why}");
    }
}

#[test]
fn an_old_directory_without_data_is_one() {
    let mut blocks = Blocks::default();
    let file = blocks.put(Codec::Raw, &b"x"[..]);
    let root = blocks.put(Codec::DagPb, encode([Link { cid: file, name: Some(b"old"), tsize: None }], None));
    assert_eq!(look(&blocks, root, b"old").0.unwrap().cid, file);
    assert_eq!(list(&blocks, root, |_| 0).len(), 1);
}

#[test]
fn a_directory_in_its_own_cid_needs_no_block() {
    let root: Cid = "bafyaabakaieac".parse().unwrap();
    let mut walk = DirectoryWalk::new(root);
    assert_eq!(walk.poll_want(), None);
    assert_eq!(walk.poll_entry().unwrap(), None);
    assert!(walk.is_done());
}
