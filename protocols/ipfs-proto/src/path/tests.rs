use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::build::{Built, DirectoryBuilder, FileBuilder, Profile, symlink};
use crate::testing::{Blocks, verified};

/// What a directory is made of.
enum Tree<'a> {
    File(&'a str),
    Link(&'a str),
    Dir(Vec<(&'a str, Self)>),
    Shards(Vec<(&'a str, Self)>),
    At(Cid),
}

use Tree::{At, Dir, File, Link, Shards};

fn build(blocks: &mut Blocks, tree: &Tree<'_>) -> Built {
    let (built, made) = match tree {
        At(cid) => return Built { cid: *cid, file_bytes: 0, dag_bytes: 0 },
        File(text) => {
            let mut file = FileBuilder::new(Profile::V1_2025);
            file.push(text.as_bytes());
            let built = file.finish();
            (built, std::iter::from_fn(|| file.poll_block()).collect())
        }
        Link(target) => {
            let (built, block) = symlink(&Profile::V1_2025, target.as_bytes());
            (built, vec![block])
        }
        Dir(entries) | Shards(entries) => {
            let mut directory = DirectoryBuilder::new(Profile::V1_2025);
            for (name, entry) in entries {
                let entry = build(blocks, entry);
                directory.add(*name, entry).unwrap();
            }
            if matches!(tree, Dir(_)) { directory.finish() } else { directory.finish_sharded() }.unwrap()
        }
    };
    blocks.0.extend(made.into_iter().map(|block| (block.cid, block.bytes)));
    built
}

fn resolve_as(blocks: &Blocks, root: Cid, path: &str, follow_last: bool) -> Result<Resolved, PathError> {
    let segments = path.split('/').map(|segment| Bytes::copy_from_slice(segment.as_bytes()));
    let mut walk = PathWalk::new(root, segments, follow_last)?;
    loop {
        match walk.state().clone() {
            PathState::Want(cid) => drop(walk.provide(&cid, &blocks.get(&cid))?),
            PathState::Resolved(resolved) => return Ok(*resolved),
        }
    }
}

fn resolve(blocks: &Blocks, root: Cid, path: &str) -> Result<Resolved, PathError> {
    resolve_as(blocks, root, path, true)
}

fn of(text: &str) -> Cid {
    crate::block::name(Codec::Raw, text.as_bytes())
}

#[test]
fn a_path_leads_through_directories_and_shards() {
    let mut blocks = Blocks::default();
    let inner = Shards(vec![("x", File("deep")), ("y", File("other"))]);
    let root = build(&mut blocks, &Dir(vec![("a", Dir(vec![("b", inner)])), ("c", File("top"))])).cid;
    let end = resolve(&blocks, root, "a//./b/x").unwrap();
    assert_eq!((end.cid, end.target, end.block), (of("deep"), Target::File, None));
    assert_eq!((end.roots.len(), end.roots[0], end.roots[3]), (4, root, of("deep")));
    assert_eq!(end.way, end.roots[..3]);
    let end = resolve(&blocks, root, "a/../c").unwrap();
    assert_eq!((end.cid, end.roots), (of("top"), vec![root, of("top")]));
    let end = resolve(&blocks, root, "").unwrap();
    assert_eq!((end.target, end.way.len()), (Target::Directory, 0));
    assert!(end.block.is_some());
}

#[test]
fn shards_on_the_way_are_proof_but_no_roots() {
    let mut blocks = Blocks::default();
    // These two share a bucket of the root.
    let root = build(&mut blocks, &Shards(vec![("470.txt", File("a")), ("742.txt", File("b"))])).cid;
    let end = resolve(&blocks, root, "742.txt").unwrap();
    assert_eq!((end.way.len(), end.roots), (2, vec![root, of("b")]));
    let error = resolve(&blocks, root, "absent").unwrap_err();
    assert_eq!(error, PathError::NoLink { name: "absent".into(), parent: Box::new(root) });
}

#[test]
fn what_is_not_there_and_what_has_nothing_below_are_told_apart() {
    let mut blocks = Blocks::default();
    let root = build(&mut blocks, &Dir(vec![("file", File("text"))])).cid;
    let error = resolve(&blocks, root, "none/x").unwrap_err();
    assert_eq!(error.to_string(), format!("no link named \"none\" under {root}"));
    let error = resolve(&blocks, root, "file/x").unwrap_err();
    let file = of("text");
    assert_eq!(error.to_string(), format!("{file} is a file, not a directory, and has nothing named \"x\""));
    assert_eq!(resolve(&blocks, root, "../x").unwrap_err(), PathError::AboveRoot);
    let long = "x/".repeat(MAX_SEGMENTS + 1);
    assert_eq!(resolve(&blocks, root, &long).unwrap_err(), PathError::TooLong);
}

#[test]
fn symlinks_lead_around_inside_of_the_root() {
    let mut blocks = Blocks::default();
    let inner =
        Dir(vec![("up", Link("../file")), ("top", Link("/d/here")), ("here", File("here")), ("way", Link("."))]);
    let root = build(
        &mut blocks,
        &Dir(vec![
            ("d", inner),
            ("file", File("text")),
            ("to", Link("file")),
            ("dir", Link("d//")),
            ("two", Link("dir/up")),
            ("out", Link("../x")),
            ("loop", Link("loop")),
            ("gone", Link("nothing")),
        ]),
    )
    .cid;
    for (path, text) in [
        ("to", "text"),
        ("d/up", "text"),
        ("d/top", "here"),
        ("dir/here", "here"),
        ("two", "text"),
        ("d/way/way/here", "here"),
    ] {
        assert_eq!(resolve(&blocks, root, path).unwrap().cid, of(text), "{path}");
    }
    assert_eq!(resolve(&blocks, root, "out").unwrap_err(), PathError::AboveRoot);
    assert_eq!(resolve(&blocks, root, "loop").unwrap_err(), PathError::TooManySymlinks);
    assert!(matches!(resolve(&blocks, root, "gone"), Err(PathError::NoLink { .. })));
    let unfollowed = resolve_as(&blocks, root, "to", false).unwrap();
    assert_eq!(unfollowed.target, Target::Symlink);
    assert_eq!(resolve_as(&blocks, root, "dir/here", false).unwrap().cid, of("here"), "on the way it is followed");
}

#[test]
fn a_path_goes_into_data_and_over_its_links() {
    let mut blocks = Blocks::default();
    let file = build(&mut blocks, &Dir(vec![("f", File("text"))])).cid;
    let json = format!(r#"{{"a":[{{"/":"{file}"}},{{"b":1}}],"c":"d"}}"#);
    let value = blocks.put(Codec::DagJson, json.clone());
    let cbor = Codec::DagCbor.encode(&Codec::DagJson.decode(json.as_bytes()).unwrap()).unwrap();
    let cbor = blocks.put(Codec::DagCbor, cbor);
    let root = build(&mut blocks, &Dir(vec![("json", At(value)), ("cbor", At(cbor))])).cid;
    for kind in ["json", "cbor"] {
        let end = resolve(&blocks, root, &format!("{kind}/a/0/f")).unwrap();
        assert_eq!((end.cid, end.roots.len()), (of("text"), 4));
        let end = resolve(&blocks, root, &format!("{kind}/a/1/b")).unwrap();
        assert!(matches!(end.target, Target::Data(Codec::DagJson | Codec::DagCbor)));
        assert_eq!(end.remainder, ["a", "1", "b"].map(Bytes::from));
        assert!(matches!(resolve(&blocks, root, &format!("{kind}/a/2")), Err(PathError::NoLink { .. })));
        assert!(matches!(resolve(&blocks, root, &format!("{kind}/c/d")), Err(PathError::NoLink { .. })));
    }
}

#[test]
fn a_block_of_an_unknown_codec_can_be_an_end_and_no_way() {
    let mut blocks = Blocks::default();
    let git = swarmgate_content::HashKind::Sha1.hash(b"blob").to_cid(0x78);
    blocks.0.insert(git, Bytes::from_static(b"blob"));
    let root = build(&mut blocks, &Dir(vec![("git", At(git))])).cid;
    assert_eq!(resolve(&blocks, root, "git").unwrap().target, Target::Opaque(0x78));
    assert!(matches!(resolve(&blocks, root, "git/x"), Err(PathError::Block(_))));
}

#[test]
fn what_is_in_its_own_cid_is_never_asked_for() {
    let root: Cid = "bafyaabakaieac".parse().unwrap();
    let walk = PathWalk::new(root, [""; 0], true).unwrap();
    assert!(matches!(walk.state(), PathState::Resolved(end) if end.target == Target::Directory));
    assert!(matches!(PathWalk::new(root, ["x"], true), Err(PathError::NoLink { .. })));
}

proptest! {
    #[test]
    fn any_blocks_and_any_path_end(
        blocks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..4),
        path in proptest::collection::vec("[a-c.]{0,2}", 0..6),
    ) {
        let root = crate::block::name(Codec::DagPb, b"root");
        let mut given = BTreeMap::new();
        let mut next = blocks.iter().cycle();
        if let Ok(mut walk) = PathWalk::new(root, path.iter().map(|part| Bytes::from(part.clone())), true) {
            while let PathState::Want(cid) = *walk.state() {
                let block = given.entry(cid).or_insert_with(|| verified(next.next().unwrap()));
                if walk.provide(&cid, block).is_err() {
                    break;
                }
            }
        }
    }
}
