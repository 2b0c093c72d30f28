//! v2 and hybrid torrents that another implementation made (libtorrent 2.1.1) read as it meant them (BEP 52): ids, files,
//! places, and names that admit the payload's bytes and no others.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use proptest::prelude::*;
use swarmgate_bittorrent_proto::merkle::{HashRequest, Tree, height};
use swarmgate_bittorrent_proto::metainfo::{Info, Metainfo, MetainfoError};
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::merkle::{LEAF_BYTES, leaf};
use swarmgate_content::{HashKind, TorrentId, Verification, VerifiedBytes};

const V2: &[u8] = include_bytes!("vectors/v2.torrent");
const HYBRID: &[u8] = include_bytes!("vectors/hybrid.torrent");
const V2_ID: &str = "d3f7fc9d6a7f44982b4c0dfe35b73f5e98d5fe7713fd548c5f469bd84f5a122a";
const HYBRID_IDS: (&str, &str) =
    ("1c25144733376dd858687540231346e8458dad59", "0c641e8d98a36737b2cc149751caefc64660cfb34c1a1d4270bda57188b37279");
const PIECE: u64 = 64 << 10;

/// The payload of both: (path, length, what its bytes begin with).
const FILES: [(&str, usize, usize); 5] =
    [("a.bin", 150_000, 1), ("b.txt", 20_000, 2), ("empty", 0, 0), ("sub/c", 65_536, 3), ("sub/d", 10, 4)];

fn bytes_of(len: usize, seed: usize) -> Bytes {
    (0..len).map(|at| u8::try_from((at * 7 + seed) % 251).unwrap()).collect()
}

fn read(torrent: &'static [u8]) -> Metainfo {
    Metainfo::parse(&Bytes::from_static(torrent)).unwrap()
}

/// A file's bytes in one piece.
fn part(data: &Bytes, first_piece: u32, piece: u32) -> Bytes {
    let start = usize::try_from(u64::from(piece - first_piece) * PIECE).unwrap();
    data.slice(start..data.len().min(start + usize::try_from(PIECE).unwrap()))
}

#[test]
fn a_v2_torrent_has_the_files_of_its_maker_each_at_a_piece_of_its_own() {
    let metainfo = read(V2);
    assert_eq!(metainfo.id, TorrentId::V2(V2_ID.parse().unwrap()));
    assert_eq!(metainfo.infohash.to_string(), V2_ID[..40]);
    let info = &metainfo.info;
    let got: Vec<_> = info.files.iter().map(|f| (f.joined_path(), f.len, f.offset, f.padding)).collect();
    let offsets = [0, 3, 4, 4, 5].map(|piece| piece * PIECE);
    let want = FILES.iter().zip(offsets);
    let want: Vec<_> = want.map(|((path, len, _), at)| ((*path).to_owned(), *len as u64, at, false)).collect();
    assert_eq!(got, want);
    assert!(!info.lacks_roots() && !info.single_file);
    assert_eq!((info.piece_count(), info.total_len), (6, 5 * PIECE + 10));
    let meta = info.to_meta(metainfo.id);
    assert_eq!(meta.id.to_string(), V2_ID);
    assert!(matches!(meta.verification, Verification::V2(roots) if roots.roots.len() == 6 * 32));
    let geometry = info.geometry();
    let lens: Vec<_> = (0..6).map(|piece| geometry.len_of(PieceIndex(piece))).collect();
    assert_eq!(lens, [65_536, 65_536, 18_928, 20_000, 65_536, 10]);
    let last = geometry.block(PieceIndex(2), 1);
    assert_eq!((last.begin, last.len), (16_384, 2_544), "what is past the file's end is not asked for");
}

#[test]
fn the_names_of_a_v2_torrents_pieces_admit_the_payload() {
    let metainfo = read(V2);
    let tree = metainfo.info.tree.clone().unwrap();
    let real = FILES.iter().filter(|(_, len, _)| *len > 0);
    for (file, (path, len, seed)) in tree.files().iter().zip(real) {
        let data = bytes_of(*len, *seed);
        for piece in file.first_piece..file.first_piece + tree.pieces_of(file) {
            let name = metainfo.info.piece_hash(piece).unwrap();
            assert_eq!(name.kind(), HashKind::Piece);
            let bytes = part(&data, file.first_piece, piece);
            assert!(VerifiedBytes::check(&name, bytes.clone()).is_ok(), "{path}, piece {piece}");
            assert!(VerifiedBytes::check(&name, bytes.slice(1..)).is_err(), "{path}, piece {piece}, without a byte");
        }
    }
    assert_eq!(metainfo.info.piece_hash(6), None);
}

#[test]
fn a_leaf_is_proven_up_to_the_root_that_its_maker_wrote() {
    let metainfo = read(V2);
    let file = metainfo.info.tree.clone().unwrap().files()[0];
    let data = bytes_of(150_000, 1);
    let leaves = data.chunks(LEAF_BYTES).map(leaf).collect();
    let height = height(file.len);
    let tree = Tree::new(0, height, leaves).unwrap();
    assert_eq!(tree.root(), file.root);
    let request = HashRequest::proven(file.root, height, 0, 8, 2);
    let hashes = tree.answer(&request).unwrap();
    assert_eq!(request.verify(height, &hashes).unwrap()[0], leaf(&data[8 * LEAF_BYTES..9 * LEAF_BYTES]));
}

#[test]
fn a_hybrid_is_one_torrent_of_two_names_and_is_checked_by_the_first() {
    let metainfo = read(HYBRID);
    let (v1, v2) = (HYBRID_IDS.0.parse().unwrap(), HYBRID_IDS.1.parse().unwrap());
    assert_eq!((metainfo.id, metainfo.infohash), (TorrentId::Hybrid(v1, v2), v1));
    let info = &metainfo.info;
    assert_eq!(info.files.iter().filter(|file| file.padding).count(), 3);
    assert_eq!((info.piece_count(), info.pieces.count()), (6, 6));
    assert_eq!(info.piece_hash(0).unwrap().kind(), HashKind::Sha1);
    assert_eq!(info.to_meta(metainfo.id).id.to_string(), HYBRID_IDS.0);
    assert_eq!(info.tree, read(V2).info.tree, "its files and their roots are those of the same payload in v2");
}

#[test]
fn what_is_written_again_has_the_same_names_and_roots() {
    for torrent in [V2, HYBRID] {
        let first = read(torrent);
        let again = Metainfo::parse(&first.to_torrent().into()).unwrap();
        assert_eq!((again.id, again.info.roots.clone()), (first.id, first.info.roots));
        assert!(again.info.roots.is_some());
    }
}

#[test]
fn from_a_peer_comes_a_dictionary_that_lacks_the_roots_until_they_are_proven() {
    let whole = read(V2);
    let mut info = Info::parse(&whole.info_bytes).unwrap();
    assert!(info.lacks_roots());
    assert_eq!(info.piece_hash(0), None);
    let roots = whole.info.roots.unwrap();
    let mut wrong = roots.to_vec();
    wrong[40] ^= 1;
    assert!(!info.set_roots(wrong.into()) && !info.set_roots(roots.slice(32..)));
    assert!(info.lacks_roots());
    assert!(info.set_roots(roots) && !info.lacks_roots());
    assert_eq!(info.piece_hash(2), whole.info.tree.unwrap().name(info.roots.as_ref().unwrap(), 2));
}

/// Replaces the first occurrence of `from`, of the same length as `to`.
fn with(torrent: &[u8], from: &[u8], to: &[u8]) -> Result<Metainfo, MetainfoError> {
    let at = torrent.windows(from.len()).position(|window| window == from).unwrap();
    let mut spoilt = torrent.to_vec();
    spoilt.splice(at..at + from.len(), to.iter().copied());
    Metainfo::parse(&spoilt.into())
}

#[test]
fn a_refusal_names_what_is_wrong() {
    let cases = [
        (
            with(V2, b"i65536ee12:piece", b"i65537ee12:piece"),
            "`piece length` is 65537, not a power of two from 16384 up",
        ),
        (
            with(V2, b"piece lengthi65536e", b"piece lengthi8192e"),
            "`piece length` is 8192, not a power of two from 16384 up",
        ),
        (with(V2, b"5:b.txt", b"5:b/txt"), "file 1: the component \"b/txt\" of the path has the character '/'"),
        (with(V2, b"5:b.txt", b"2:.."), "file 1: a component of the path is \"..\""),
        (with(V2, b"lengthi20000e", b"lengthi-2000e"), "file 1: `length` is missing or not a number from 0 up"),
        (with(V2, b"pieces root32:j", b"pieces rooT32:j"), "file 1: `pieces root` is missing or not 32 bytes"),
        (with(V2, b"96:\xfb", b"96:\xfc"), "`piece layers` are false for the file that begins with piece 0"),
        (
            with(V2, b"lengthi150000e", b"lengthi350000e"),
            "`piece layers` are false for the file that begins with piece 0",
        ),
        (with(HYBRID, b"5:b.txteed", b"5:c.txteed"), "the v1 and v2 halves disagree about the file \"b.txt\""),
        (
            with(HYBRID, b"4:attr1:p6:lengthi46608e", b"4:attr1:p6:lengthi46607e"),
            "the v1 and v2 halves disagree about the file \"b.txt\"",
        ),
        (
            with(HYBRID, b"d6:lengthi150000e4:path", b"d6:lengthi150001e4:path"),
            "the v1 and v2 halves disagree about the file \"a.bin\"",
        ),
        (with(V2, b"9:file tree", b"9:file tres"), "`file tree` is missing"),
    ];
    for (result, message) in cases {
        assert_eq!(result.map(|metainfo| metainfo.id).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_file_tree_is_bounded_in_depth() {
    let nested = |depth: usize| {
        let (open, close) = ("d1:a".repeat(depth), "e".repeat(depth));
        let file = format!("d0:d6:lengthi1e11:pieces root32:{}ee", "r".repeat(32));
        let tree = format!("{open}{file}{close}");
        Metainfo::parse(&format!("d4:infod9:file tree{tree}12:meta versioni2e4:name1:n12:piece lengthi16384eee").into())
    };
    assert_eq!(nested(20).unwrap().info.files[0].path.len(), 20);
    assert!(nested(10_000).is_err());
}

proptest! {
    #[test]
    fn one_changed_byte_never_panics_and_never_keeps_both_names(hybrid: bool, at: prop::sample::Index, byte: u8) {
        let torrent = if hybrid { HYBRID } else { V2 };
        let mut spoilt = torrent.to_vec();
        let at = at.index(spoilt.len());
        let same = spoilt[at] == byte;
        spoilt[at] = byte;
        let info = torrent.windows(4).position(|window| window == b"info").unwrap() + 4;
        let layers = torrent.windows(12).position(|window| window == b"piece layers").unwrap() - 3;
        if let Ok(metainfo) = Metainfo::parse(&spoilt.into()) {
            prop_assert!(same || !(info..layers).contains(&at) || metainfo.id != read(torrent).id);
        }
    }
}
