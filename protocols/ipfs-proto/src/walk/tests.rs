use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::block;
use crate::dag_pb::{Link, encode};
use crate::testing::{Blocks, verified};
use crate::unixfs::{Kind, UnixFs};

/// A file as a tree, before it is blocks.
#[derive(Debug, Clone)]
enum Tree {
    Raw(Vec<u8>),
    /// Bytes in a UnixFS node, and parts: a leaf has none.
    Node {
        kind: Kind,
        bytes: Vec<u8>,
        parts: Vec<Self>,
    },
    /// Bytes in an identity CID.
    Inline(Vec<u8>),
}

/// A block of the model: where its bytes of the file begin, how many there are, and whether somebody must ask for it.
type Placed = (u64, u64, Cid, bool);

impl Tree {
    fn len(&self) -> u64 {
        match self {
            Self::Raw(bytes) | Self::Inline(bytes) => bytes.len() as u64,
            Self::Node { bytes, parts, .. } => bytes.len() as u64 + parts.iter().map(Self::len).sum::<u64>(),
        }
    }

    /// Writes the blocks, and lists them with their places.
    fn build(&self, at: u64, blocks: &mut Blocks, file: &mut Vec<u8>, placed: &mut Vec<Placed>) -> Cid {
        let own = placed.len();
        placed.push((at, self.len(), Cid::default(), true));
        let cid = match self {
            Self::Raw(bytes) => {
                file.extend_from_slice(bytes);
                blocks.put(Codec::Raw, bytes.clone())
            }
            Self::Inline(bytes) => {
                file.extend_from_slice(bytes);
                placed[own].3 = false;
                Cid::try_from(&[&[1, 0x55, 0, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()[..]).unwrap()
            }
            Self::Node { kind, bytes, parts } => {
                file.extend_from_slice(bytes);
                let mut data = UnixFs { data: bytes, filesize: Some(self.len()), ..UnixFs::new(*kind) };
                let mut links = Vec::new();
                for part in parts {
                    let cid = part.build(file.len() as u64, blocks, file, placed);
                    links.push(Link { cid, name: Some(b""), tsize: None });
                    data.block_sizes.push(part.len());
                }
                blocks.put(Codec::DagPb, encode(links, Some(&data.encode())))
            }
        };
        placed[own].2 = cid;
        cid
    }
}

/// Trees of every layout: balanced, trickle, and none. Some leaves repeat, some are empty.
fn any_tree() -> impl Strategy<Value = Tree> {
    let bytes = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (0..40_usize).prop_map(|len| vec![0; len]),
    ];
    let kind = prop_oneof![Just(Kind::File), Just(Kind::Raw)];
    let leaf = prop_oneof![
        bytes.clone().prop_map(Tree::Raw),
        bytes.clone().prop_map(Tree::Inline),
        (kind.clone(), bytes.clone()).prop_map(|(kind, bytes)| Tree::Node { kind, bytes, parts: Vec::new() }),
    ];
    leaf.prop_recursive(5, 60, 6, move |part| {
        let bytes = prop_oneof![3 => Just(Vec::new()), 1 => bytes.clone()];
        (kind.clone(), bytes, proptest::collection::vec(part, 0..6)).prop_map(|(kind, bytes, parts)| Tree::Node {
            kind,
            bytes,
            parts,
        })
    })
}

/// Reads all that a walk yields; blocks come in the order that `pick` chooses. Gives the bytes and what was asked for.
fn read(
    walk: &mut FileWalk,
    blocks: &Blocks,
    window: u64,
    mut pick: impl FnMut(usize) -> usize,
) -> (Vec<u8>, Vec<Cid>) {
    let (mut bytes, mut asked, mut open) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        while let Some(want) = walk.poll_want(window).unwrap() {
            asked.push(want.cid);
            open.push(want);
        }
        assert!(open.iter().map(|want| want.estimated_bytes).sum::<u64>() == walk.in_flight_bytes());
        if let Some(part) = walk.poll_bytes() {
            bytes.extend_from_slice(part.as_ref());
        } else if open.is_empty() {
            break;
        } else {
            let want = open.swap_remove(pick(open.len()));
            assert!(walk.provide(&want.cid, &blocks.get(&want.cid)).unwrap());
        }
    }
    assert_eq!((walk.in_flight_bytes(), walk.buffered_bytes(), walk.held.len(), walk.parts.len()), (0, 0, 0, 0));
    (bytes, asked)
}

proptest! {
    #[test]
    fn any_range_of_any_tree_is_read_from_exactly_the_blocks_that_cover_it(
        tree in any_tree(),
        start in 0..200_u64,
        len in 1..300_u64,
        window in 0..200_u64,
        picks: Vec<prop::sample::Index>,
    ) {
        let (mut blocks, mut file, mut placed) = (Blocks::default(), Vec::new(), Vec::new());
        let root = tree.build(0, &mut blocks, &mut file, &mut placed);
        let range = ByteRange::new(start, start + len).unwrap();
        let mut walk = FileWalk::new(root, range);
        let mut turn = 0;
        let (bytes, asked) = read(&mut walk, &blocks, window, |count| {
            turn += 1;
            picks.get(turn % picks.len().max(1)).map_or(0, |pick| pick.index(count))
        });
        let end = usize::try_from(range.end()).unwrap().min(file.len());
        prop_assert_eq!(&bytes[..], file.get(usize::try_from(start).unwrap()..end).unwrap_or_default());
        prop_assert!(walk.is_done());
        prop_assert_eq!(walk.file_len(), Some(file.len() as u64));
        let covering = placed.iter().enumerate().filter(|(index, (at, len, _, fetched))| {
            *fetched && (*index == 0 || (*len > 0 && *at < range.end() && at + len > range.start()))
        });
        let covering: BTreeSet<Cid> = covering.map(|(_, (_, _, cid, _))| *cid).collect();
        let distinct: BTreeSet<Cid> = asked.iter().copied().collect();
        prop_assert_eq!(&distinct, &covering);
        // With the whole file in the window, nothing that is still needed for bytes is asked for twice.
        let count = |cid: &Cid| asked.iter().filter(|it| *it == cid).count();
        if window > file.len() as u64 && start == 0 && file.len() < 200 {
            prop_assert!(distinct.iter().all(|cid| cid.codec() != Codec::Raw.code() || count(cid) == 1));
        }
    }

    #[test]
    fn any_blocks_whatever_never_give_more_than_was_said(
        root_sizes in proptest::collection::vec(0..100_u64, 0..6),
        lie in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..4),
    ) {
        let cids: Vec<_> = (0..root_sizes.len()).map(|number| block::name(Codec::Raw, &[u8::try_from(number).unwrap()])).collect();
        let node = UnixFs { block_sizes: root_sizes.clone(), ..UnixFs::new(Kind::File) };
        let root = encode(cids.iter().map(|cid| Link { cid: *cid, name: None, tsize: None }), Some(&node.encode()));
        let cid = block::name(Codec::DagPb, &root);
        let mut walk = FileWalk::new(cid, ByteRange::new(0, u64::MAX).unwrap());
        let mut given = lie.iter().cycle();
        let mut total = 0;
        for _ in 0..50 {
            while let Ok(Some(want)) = walk.poll_want(1000) {
                let block = if want.cid == cid { &root } else { given.next().unwrap() };
                let _ = walk.provide(&want.cid, &verified(block));
            }
            total += walk.poll_bytes().map_or(0, |bytes| bytes.len());
        }
        prop_assert!(total as u64 <= root_sizes.iter().sum::<u64>());
    }
}

/// A node over parts of these names and sizes.
fn node(blocks: &mut Blocks, bytes: &[u8], parts: &[(Cid, u64)]) -> Cid {
    let sizes: Vec<_> = parts.iter().map(|(_, size)| *size).collect();
    let total = bytes.len() as u64 + sizes.iter().sum::<u64>();
    let data = UnixFs { data: bytes, filesize: Some(total), block_sizes: sizes, ..UnixFs::new(Kind::File) };
    blocks.put(
        Codec::DagPb,
        encode(parts.iter().map(|(cid, _)| Link { cid: *cid, name: None, tsize: None }), Some(&data.encode())),
    )
}

fn whole() -> ByteRange {
    ByteRange::new(0, u64::MAX).unwrap()
}

#[test]
fn a_leaf_that_is_shorter_or_longer_than_said_is_an_error_with_its_name() {
    for said in [4, 6] {
        let mut blocks = Blocks::default();
        let (first, second) = (blocks.put(Codec::Raw, &b"first"[..]), blocks.put(Codec::Raw, &b"wrong"[..]));
        let third = blocks.put(Codec::Raw, &b"third"[..]);
        let root = node(&mut blocks, b"", &[(first, 5), (second, said), (third, 5)]);
        let mut walk = FileWalk::new(root, whole());
        walk.poll_want(100).unwrap();
        walk.provide(&root, &blocks.get(&root)).unwrap();
        while walk.poll_want(100).unwrap().is_some() {}
        walk.provide(&third, &blocks.get(&third)).unwrap();
        let error = walk.provide(&second, &blocks.get(&second)).unwrap_err();
        assert_eq!((*error.cid, error.flaw), (second, Flaw::Size { said, is: 5 }));
        walk.provide(&first, &blocks.get(&first)).unwrap();
        assert_eq!(walk.poll_bytes().unwrap().as_ref(), b"first");
        assert_eq!(walk.poll_bytes(), None, "what is behind a bad block is not passed on");
        assert!(!walk.is_done());
    }
}

#[test]
fn a_node_that_contradicts_itself_is_an_error() {
    let leaf = block::name(Codec::Raw, b"x");
    let link = Link { cid: leaf, name: None, tsize: None };
    let file = UnixFs::new(Kind::File);
    for (links, data) in [
        (vec![link], file.clone()),
        (vec![], UnixFs { block_sizes: vec![1], ..file.clone() }),
        (vec![link], UnixFs { block_sizes: vec![1], filesize: Some(2), ..file.clone() }),
        (vec![link, link], UnixFs { block_sizes: vec![u64::MAX, 1], ..file.clone() }),
        (vec![Link { name: Some(b"x"), ..link }], UnixFs { block_sizes: vec![1], ..file.clone() }),
        (vec![], UnixFs::new(Kind::Directory)),
        (vec![], UnixFs::new(Kind::Symlink)),
    ] {
        let mut blocks = Blocks::default();
        let root = blocks.put(Codec::DagPb, encode(links, Some(&data.encode())));
        let mut walk = FileWalk::new(root, whole());
        walk.poll_want(1).unwrap();
        assert!(walk.provide(&root, &blocks.get(&root)).is_err(), "{data:?}");
        assert_eq!(walk.file_len(), None);
    }
}

#[test]
fn a_terabyte_of_zeros_is_one_leaf_and_is_never_spread_out() {
    const MIB: u64 = 1 << 20;
    let mut blocks = Blocks::default();
    let mut part = (blocks.put(Codec::Raw, vec![0; 1 << 20]), MIB);
    for _ in 0..2 {
        part = (node(&mut blocks, b"", &vec![part; 1024]), part.1 * 1024);
    }
    assert_eq!(part.1, 1 << 40);
    let mut walk = FileWalk::new(part.0, ByteRange::new(700 << 30, (701 << 30) + 1).unwrap());
    let (mut asked, mut read) = (0, 0);
    while !walk.is_done() {
        while let Some(want) = walk.poll_want(8 * MIB).unwrap() {
            asked += 1;
            walk.provide(&want.cid, &blocks.get(&want.cid)).unwrap();
        }
        assert!(walk.parts.len() <= 3 * 1024 && walk.buffered_bytes() <= 9 * MIB);
        read += walk.poll_bytes().unwrap().len();
    }
    assert_eq!(read, (1 << 30) + 1);
    assert_eq!(asked, 1 + 2 + 1, "root, two nodes, and one leaf for all of it");
}

#[test]
fn a_chain_of_nodes_ends_at_the_depth_limit() {
    let mut blocks = Blocks::default();
    let leaf = blocks.put(Codec::Raw, &b"deep"[..]);
    let chain = |blocks: &mut Blocks, levels: u16| (0..levels).fold(leaf, |below, _| node(blocks, b"", &[(below, 4)]));
    let fits = chain(&mut blocks, MAX_DEPTH);
    assert_eq!(read(&mut FileWalk::new(fits, whole()), &blocks, 1, |_| 0).0, b"deep");
    let deeper = chain(&mut blocks, MAX_DEPTH + 1);
    let mut walk = FileWalk::new(deeper, whole());
    let error = loop {
        let want = walk.poll_want(1).unwrap().unwrap();
        if let Err(error) = walk.provide(&want.cid, &blocks.get(&want.cid)) {
            break error;
        }
    };
    assert_eq!(error.flaw, Flaw::TooDeep);
}

#[test]
fn a_fan_of_fans_ends_at_the_limit_of_known_parts() {
    let mut blocks = Blocks::default();
    let mut below = (blocks.put(Codec::Raw, vec![7; 8]), 8);
    for _ in 0..12 {
        let small = (blocks.put(Codec::Raw, vec![1]), 1);
        let fan: Vec<_> = std::iter::once(below).chain(std::iter::repeat_n(small, block::MAX_LINKS - 1)).collect();
        below = (node(&mut blocks, b"", &fan), fan.iter().map(|(_, size)| size).sum());
    }
    let mut walk = FileWalk::new(below.0, whole());
    let error = loop {
        let want = walk.poll_want(1).unwrap().unwrap();
        if let Err(error) = walk.provide(&want.cid, &blocks.get(&want.cid)) {
            break error;
        }
    };
    assert_eq!(error.flaw, Flaw::TooManyLinks);
    assert!(walk.parts.len() <= MAX_KNOWN_PARTS);
}

#[test]
fn nodes_are_asked_for_a_window_ahead_of_their_bytes() {
    const MIB: u64 = 1 << 20;
    let mut blocks = Blocks::default();
    let leaf = |blocks: &mut Blocks, number: u8| (blocks.put(Codec::Raw, vec![number; 1 << 20]), MIB);
    let nodes: Vec<_> = (0..3_u8)
        .map(|number| {
            let leaves: Vec<_> = (0..4).map(|low| leaf(&mut blocks, number * 4 + low)).collect();
            (node(&mut blocks, b"", &leaves), 4 * MIB)
        })
        .collect();
    let root = node(&mut blocks, b"", &nodes);
    let mut walk = FileWalk::new(root, whole());
    let wants = |walk: &mut FileWalk| {
        std::iter::from_fn(|| walk.poll_want(3 * MIB).unwrap()).map(|it| it.cid).collect::<Vec<_>>()
    };
    assert_eq!(wants(&mut walk), [root]);
    walk.provide(&root, &blocks.get(&root)).unwrap();
    assert_eq!(wants(&mut walk), [nodes[0].0, nodes[1].0], "the third begins beyond twice the window");
    walk.provide(&nodes[0].0, &blocks.get(&nodes[0].0)).unwrap();
    assert_eq!(wants(&mut walk).len(), 3, "leaves within the window");
}

#[test]
fn a_block_that_nobody_could_give_is_asked_for_again() {
    let mut blocks = Blocks::default();
    let leaf = blocks.put(Codec::Raw, &b"leaf"[..]);
    let mut walk = FileWalk::new(leaf, whole());
    assert!(walk.poll_want(1).unwrap().is_some());
    assert_eq!(walk.poll_want(1).unwrap(), None);
    walk.ask_again(&leaf);
    assert_eq!(walk.in_flight_bytes(), 0);
    assert_eq!(walk.poll_want(1).unwrap().unwrap().cid, leaf);
    assert!(!walk.provide(&block::name(Codec::Raw, b"other"), &verified(b"other")).unwrap(), "nobody waits for it");
    assert!(walk.provide(&leaf, &blocks.get(&leaf)).unwrap());
    assert_eq!(walk.poll_bytes().unwrap().as_ref(), b"leaf");
}

#[test]
fn an_empty_file_is_done_when_its_root_is_there() {
    for bytes in [None, Some(0)] {
        let mut blocks = Blocks::default();
        let root = match bytes {
            None => blocks.put(Codec::Raw, Vec::new()),
            Some(_) => blocks.put(Codec::DagPb, vec![0x0a, 4, 8, 2, 0x18, 0]),
        };
        let mut walk = FileWalk::new(root, whole());
        assert!(!walk.is_done());
        assert_eq!(read(&mut walk, &blocks, 10, |_| 0).0, b"");
        assert!(walk.is_done());
    }
}

#[test]
fn what_may_be_a_leaf_is_told_by_how_much_it_has_and_what_stands_before_it() {
    const MIB: u64 = 1 << 20;
    let mut blocks = Blocks::default();
    let bytes = vec![7; 1 << 20];
    let raw = (blocks.put(Codec::Raw, bytes.clone()), MIB);
    let framed = (node(&mut blocks, &bytes, &[]), MIB);
    let (large, small) = ((node(&mut blocks, b"", &[raw; 3]), 3 * MIB), (node(&mut blocks, b"", &[raw; 2]), 2 * MIB));
    let layouts = [
        (vec![large, small], vec![(large.0, None), (small.0, None)]),
        (vec![raw, small], vec![(raw.0, Some(MIB)), (small.0, None)]),
        (vec![framed, large, small], vec![(large.0, None), (framed.0, Some(MIB)), (small.0, None)]),
        (vec![framed, small], vec![(framed.0, Some(MIB)), (small.0, Some(2 * MIB))]),
    ];
    for (parts, told) in layouts {
        let root = node(&mut blocks, b"", &parts);
        let mut walk = FileWalk::new(root, whole());
        assert_eq!(walk.poll_want(16 * MIB).unwrap().unwrap().leaf_bytes, None, "nobody knows of the root");
        walk.provide(&root, &blocks.get(&root)).unwrap();
        let wants = std::iter::from_fn(|| walk.poll_want(16 * MIB).unwrap());
        assert_eq!(wants.map(|want| (want.cid, want.leaf_bytes)).collect::<Vec<_>>(), told);
    }
    assert!(fits(&raw.0, MIB, &blocks.get(&raw.0)) && fits(&framed.0, MIB, &blocks.get(&framed.0)));
    assert!(!fits(&raw.0, MIB - 1, &blocks.get(&raw.0)) && !fits(&framed.0, MIB, &blocks.get(&raw.0)));
}

proptest! {
    #[test]
    fn every_byte_is_where_the_layouts_on_its_way_say(tree in any_tree()) {
        let (mut blocks, mut file) = (Blocks::default(), Vec::new());
        let root = tree.build(0, &mut blocks, &mut file, &mut Vec::new());
        for offset in 0..=file.len() {
            let (mut cid, mut at) = (root, offset as u64);
            let found = loop {
                let block = VerifiedBytes::inline(&cid).unwrap_or_else(|| blocks.get(&cid));
                match Layout::read(&cid, &block).unwrap().place(at) {
                    Some(Place::Here(held)) => break Some(block.as_ref()[held.start]),
                    Some(Place::Part { cid: part, start, len }) => {
                        prop_assert!((start..start + len).contains(&at), "{} is not in {} + {}", at, start, len);
                        (cid, at) = (part, at - start);
                    }
                    None => break None,
                }
            };
            prop_assert_eq!(found, file.get(offset).copied(), "at {}", offset);
        }
    }
}
