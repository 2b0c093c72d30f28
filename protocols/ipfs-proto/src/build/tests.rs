use proptest::prelude::*;
use swarmgate_content::ByteRange;

use super::*;
use crate::testing::Blocks;
use crate::walk::FileWalk;

fn file(profile: Profile, bytes: &[u8]) -> (Built, Vec<Block>) {
    let mut builder = FileBuilder::new(profile);
    builder.push(bytes);
    let built = builder.finish();
    (built, std::iter::from_fn(|| builder.poll_block()).collect())
}

fn cid_of(profile: Profile, bytes: &[u8]) -> String {
    file(profile, bytes).0.cid.to_string()
}

/// From the UnixFS specification, "Well-Known UnixFS CIDs" and "File Test Vectors", and what `ipfs add` prints.
#[test]
fn small_files_have_the_names_that_everybody_knows() {
    for (profile, bytes, cid) in [
        (Profile::V1_2025, "", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        (Profile::V0_2015, "", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
        (Profile::V1_2025, "hello world\n", "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
        (Profile::V1_2025, "hello world", "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"),
        (Profile::V0_2015, "hello world\n", "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"),
        (Profile::V0_2015, "hello world", "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"),
    ] {
        assert_eq!(cid_of(profile, bytes.as_bytes()), cid, "{bytes:?}");
    }
}

#[test]
fn the_empty_directory_has_the_name_that_everybody_knows() {
    for (profile, cid) in [
        (Profile::V1_2025, "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"),
        (Profile::V0_2015, "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"),
    ] {
        assert_eq!(DirectoryBuilder::new(profile).finish().unwrap().0.cid.to_string(), cid);
    }
}

fn entry(cid: &str, dag_bytes: u64) -> Built {
    Built { cid: cid.parse().unwrap(), file_bytes: 0, dag_bytes }
}

/// From the UnixFS specification, "Simple Directory".
#[test]
fn a_directory_has_the_name_that_the_specification_says() {
    let mut directory = DirectoryBuilder::new(Profile::V1_2025);
    let ascii = entry("bafkreifkam6ns4aoolg3wedr4uzrs3kvq66p4pecirz6y2vlrngla62mxm", 31);
    directory.add("hello.txt", entry("bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4", 12)).unwrap();
    directory.add("ascii.txt", ascii).unwrap();
    directory.add("ascii-copy.txt", ascii).unwrap();
    let multiblock = entry("bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa", 1271);
    directory.add("multiblock.txt", multiblock).unwrap();
    let (built, _) = directory.finish().unwrap();
    assert_eq!(built.cid.to_string(), "bafybeihchr7vmgjaasntayyatmp5sv6xza57iy2h4xj7g46bpjij6yhrmy");
    assert_eq!(built.dag_bytes, 1572);
}

/// From the UnixFS specification, "HAMT Sharded Directory": a thousand names of one file.
#[test]
fn a_sharded_directory_has_the_name_that_the_specification_says() {
    let mut directory = DirectoryBuilder::new(Profile::V1_2025);
    for number in 1..=1000 {
        let file = entry("bafybeigcisqd7m5nf3qmuvjdbakl5bdnh4ocrmacaqkpuh77qjvggmt2sa", 1271);
        directory.add(format!("{number}.txt"), file).unwrap();
    }
    let (built, blocks) = directory.finish_sharded().unwrap();
    assert_eq!(built.cid.to_string(), "bafybeidbclfqleg2uojchspzd4bob56dqetqjsj27gy2cq3klkkgxtpn4i");
    assert_eq!(blocks.last().unwrap().bytes.len(), 12046);
}

#[test]
fn a_directory_is_sharded_above_its_limit_and_not_at_it() {
    let link_bytes = 100 + 36;
    for (measure, limit) in [(Measure::LinkBytes, 10 * link_bytes), (Measure::BlockBytes, 10 * (link_bytes + 9) + 4)] {
        let profile = Profile { measure, max_directory_bytes: limit, ..Profile::V1_2025 };
        let mut blocks = Vec::new();
        for count in [10, 11] {
            let mut directory = DirectoryBuilder::new(profile);
            for number in 0..count {
                directory.add(format!("{number:0100}"), file(profile, b"x").0).unwrap();
            }
            blocks.push(directory.finish().unwrap().1);
        }
        let kind = |blocks: &[Block]| {
            let block = &blocks.last().unwrap().bytes;
            let data = crate::dag_pb::PbNode::decode(block).unwrap().data().unwrap();
            UnixFs::decode(data).unwrap().kind
        };
        assert_eq!((kind(&blocks[0]), kind(&blocks[1])), (Kind::Directory, Kind::HamtShard), "{measure:?}");
    }
}

#[test]
fn names_that_no_path_could_reach_are_refused() {
    let mut directory = DirectoryBuilder::new(Profile::V1_2025);
    let (file, _) = file(Profile::V1_2025, b"x");
    for name in ["", ".", "..", "a/b", "a\0"] {
        assert_eq!(directory.add(name, file), Err(BuildError::Name(name.to_owned())));
    }
    directory.add("a", file).unwrap();
    assert_eq!(directory.add("a", file), Err(BuildError::Twice("a".to_owned())));
}

/// How many blocks on the way from the root to the leaves, for so many leaves under nodes of three links.
#[test]
fn all_leaves_lie_equally_deep() {
    for (leaves, nodes) in [(1, 0), (2, 1), (3, 1), (4, 2 + 1), (9, 3 + 1), (10, 4 + 2 + 1), (27, 9 + 3 + 1)] {
        let profile = Profile { chunk_bytes: 2, links_per_node: 3, ..Profile::V1_2025 };
        let bytes: Vec<_> = (0..leaves * 2).collect();
        let (built, blocks) = file(profile, &bytes);
        assert_eq!(blocks.len(), usize::from(leaves) + nodes, "{leaves} leaves");
        assert_eq!(blocks.last().unwrap().cid, built.cid);
        assert_eq!(built.dag_bytes, blocks.iter().map(|block| block.bytes.len() as u64).sum::<u64>());
    }
}

proptest! {
    #[test]
    fn what_is_built_is_read(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        chunk_bytes in 1..50_usize,
        links_per_node in 2..6_usize,
        legacy: bool,
        cuts in proptest::collection::vec(0..400_usize, 0..5),
    ) {
        let mut builder = FileBuilder::new(Profile { legacy, chunk_bytes, links_per_node, ..Profile::V1_2025 });
        let mut blocks = Blocks::default();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        for pair in cuts.windows(2) {
            builder.push(&bytes[pair[0]..pair[1]]);
        }
        let built = builder.finish();
        blocks.0.extend(std::iter::from_fn(|| builder.poll_block()).map(|block| (block.cid, block.bytes)));
        let mut walk = FileWalk::new(built.cid, ByteRange::new(0, u64::MAX).unwrap());
        let mut read = Vec::new();
        while !walk.is_done() {
            while let Some(want) = walk.poll_want(100).unwrap() {
                walk.provide(&want.cid, &blocks.get(&want.cid)).unwrap();
            }
            read.extend_from_slice(walk.poll_bytes().map(|it| it.as_ref().to_vec()).unwrap_or_default().as_slice());
        }
        prop_assert_eq!(read, bytes);
        prop_assert_eq!(walk.file_len(), Some(built.file_bytes));
    }
}

#[test]
fn the_order_of_entries_does_not_matter() {
    let names = ["b", "a", "c", "\u{e4}"];
    let build = |names: &mut dyn Iterator<Item = &&str>| {
        let mut directory = DirectoryBuilder::new(Profile::V1_2025);
        names.for_each(|name| directory.add(*name, file(Profile::V1_2025, name.as_bytes()).0).unwrap());
        directory.finish().unwrap().0
    };
    assert_eq!(build(&mut names.iter()), build(&mut names.iter().rev()));
}
