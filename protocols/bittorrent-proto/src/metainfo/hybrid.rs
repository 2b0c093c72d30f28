//! The v2 half of a hybrid torrent (BEP 52), and the padding by which its v1 half has the same pieces.
//!
//! Padding stands behind each file that ends within a piece, but for the last that has bytes: readers of hybrids agree
//! on that, while some refuse or ignore padding at the end.

use swarmgate_content::merkle::Root;

use crate::bencode::OwnedValue;

use super::MetainfoError;
use super::build::int;
use super::tree::{LEAF_LEN, upper_tree};

/// A file's path and length.
pub(super) type PathLen = (Vec<String>, u64);

struct Leaf<'a> {
    path: &'a [String],
    len: u64,
    /// Of its Merkle tree; none where there is not a byte.
    root: Option<Root>,
}

/// `file tree` of these files; `roots` are those of their pieces, 32 bytes each. Files in another order than a reader's
/// come out as another tree, which the reader then refuses.
pub(super) fn file_tree(files: &[PathLen], piece_len: u32, roots: &[u8]) -> Result<OwnedValue, MetainfoError> {
    if !piece_len.is_power_of_two() || piece_len < LEAF_LEN {
        return Err(MetainfoError::PieceLength(piece_len));
    }
    let pieces = |len: u64| len.div_ceil(piece_len.into());
    let (have, need) = (roots.len() / 32, files.iter().map(|(_, len)| pieces(*len)).fold(0, u64::saturating_add));
    if have as u64 != need || !roots.len().is_multiple_of(32) {
        return Err(MetainfoError::RootCount { have, need });
    }
    let mut rest: &[Root] = roots.as_chunks().0;
    let mut leaves = Vec::with_capacity(files.len());
    for (path, len) in files {
        let count = usize::try_from(pieces(*len)).unwrap_or(usize::MAX);
        let (own, after) = rest.split_at_checked(count).expect("all files together have as many pieces as roots");
        rest = after;
        let root = upper_tree(*len, piece_len, own.to_vec()).map(|tree| tree.root());
        leaves.push(Leaf { path, len: *len, root });
    }
    Ok(folder(&leaves, 0))
}

/// The dictionary of what lies in one folder, whose path has `depth` parts. Its files stand together, as a reader's do.
fn folder(leaves: &[Leaf<'_>], depth: usize) -> OwnedValue {
    let entries = leaves.chunk_by(|one, next| one.path.get(depth) == next.path.get(depth));
    OwnedValue::dict(entries.filter_map(|some| {
        let first = some.first()?;
        let name = first.path.get(depth)?.as_str();
        let is_file = first.path.len() == depth + 1;
        Some((name, if is_file { OwnedValue::dict([("", first.value())]) } else { folder(some, depth + 1) }))
    }))
}

impl Leaf<'_> {
    fn value(&self) -> OwnedValue {
        let root = self.root.map(|root| ("pieces root", root[..].into()));
        OwnedValue::dict([("length", int(self.len))].into_iter().chain(root))
    }
}

/// How many bytes of padding stand behind each file.
pub(super) fn padding(files: &[PathLen], piece_len: u32) -> impl Iterator<Item = u64> {
    let last = files.iter().rposition(|(_, len)| *len > 0).unwrap_or_default();
    let piece_len = u64::from(piece_len.max(1));
    // A length that overflows is refused by whoever reads it.
    let behind = move |len: u64| len.checked_next_multiple_of(piece_len).map_or(0, |end| end - len);
    files.iter().enumerate().map(move |(index, (_, len))| if index < last { behind(*len) } else { 0 })
}

/// Padding as an entry of `files` (BEP 47).
pub(super) fn pad_file(len: u64) -> OwnedValue {
    let path = OwnedValue::list([".pad".to_owned(), len.to_string()]);
    OwnedValue::dict([("attr", "p".into()), ("length", int(len)), ("path", path)])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use swarmgate_content::merkle::{LEAF_BYTES, PieceTree, Root};

    use super::*;
    use crate::metainfo::{Metainfo, TorrentBuilder, hash_pieces};

    const PIECE: usize = 2 * LEAF_BYTES;

    /// The roots of a file's pieces, and its pieces padded.
    fn roots(file: &[u8]) -> Vec<Root> {
        let root = |piece: &[u8]| {
            let mut tree = PieceTree::default();
            tree.update(piece);
            tree.root_at(if file.len() > PIECE { 1 } else { 0 })
        };
        file.chunks(PIECE).map(root).collect()
    }

    /// The files' bytes, each file but the last padded.
    fn padded(files: &[(Vec<String>, Vec<u8>)]) -> Vec<u8> {
        let mut all = Vec::new();
        for (_, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            all.resize(all.len().next_multiple_of(PIECE), 0);
            all.extend_from_slice(bytes);
        }
        all
    }

    fn builder(files: &[(Vec<String>, Vec<u8>)]) -> TorrentBuilder {
        let lens = files.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
        let len = u32::try_from(PIECE).unwrap();
        let roots: Vec<u8> = files.iter().flat_map(|(_, bytes)| roots(bytes)).flatten().collect();
        TorrentBuilder::multi_file("folder", lens, len, hash_pieces(&padded(files), len)).hybrid(roots)
    }

    fn file(path: &[&str], len: usize) -> (Vec<String>, Vec<u8>) {
        let bytes = (0..len).map(|at| u8::try_from((at * 31 + len) % 251).unwrap()).collect();
        (path.iter().map(|&part| part.to_owned()).collect(), bytes)
    }

    #[test]
    fn padding_stands_behind_each_file_that_ends_within_a_piece_but_the_last_with_bytes() {
        let files = [file(&["a"], 1), file(&["b", "c"], 0), file(&["b", "d"], PIECE), file(&["e"], 3), file(&["f"], 0)];
        let made = builder(&files).build().unwrap();
        let listed: Vec<_> = made.info.files.iter().map(|file| (file.joined_path(), file.len, file.offset)).collect();
        let pad = format!(".pad/{}", PIECE - 1);
        let piece = PIECE as u64;
        let expected = [
            ("a", 1, 0),
            (&pad, piece - 1, 1),
            ("b/c", 0, piece),
            ("b/d", piece, piece),
            ("e", 3, 2 * piece),
            ("f", 0, 2 * piece + 3),
        ];
        assert_eq!(listed, expected.map(|(path, len, offset)| (path.to_owned(), len, offset)));
    }

    #[test]
    fn one_file_is_a_hybrid_without_padding() {
        let (_, bytes) = file(&["film"], 3 * PIECE + 7);
        let len = u32::try_from(PIECE).unwrap();
        let made = TorrentBuilder::single_file("film", bytes.len() as u64, len, hash_pieces(&bytes, len))
            .hybrid(roots(&bytes).concat())
            .build()
            .unwrap();
        let read = Metainfo::parse(&made.to_torrent().into()).unwrap();
        assert!(read.info.single_file && read.info.files.len() == 1);
        assert_eq!((read.id, read.info.roots), (made.id, made.info.roots));
    }

    #[test]
    fn roots_that_are_too_few_and_pieces_of_no_tree_are_refused() {
        let files = [file(&["a"], PIECE + 1), file(&["b"], 1)];
        let short = builder(&files).hybrid(vec![1; 64]).build().unwrap_err();
        assert_eq!(short.to_string(), "there are 2 roots of pieces, but the files have 3 pieces");
        assert!(builder(&files).hybrid(vec![1; 95]).build().is_err());
        let odd = TorrentBuilder::single_file("a", 5, 1000, vec![0; 20]).hybrid(vec![1; 32]).build();
        assert_eq!(odd.unwrap_err(), MetainfoError::PieceLength(1000));
        let unsorted = [file(&["b"], 1), file(&["a"], 1)];
        assert!(builder(&unsorted).build().is_err(), "the halves have different orders");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_tree_reads_back_with_both_halves_in_the_same_places_and_its_hashes_admit_its_bytes(
            tree in proptest::collection::btree_map(
                proptest::collection::vec("[ -.0-~é☃]{1,3}", 1..4),
                prop_oneof![Just(0), 1..200_usize, Just(PIECE), Just(2 * PIECE), 1..4 * PIECE],
                1..12,
            ),
        ) {
            // A path is no folder of another, and none leads upwards.
            let mut files: Vec<(Vec<String>, Vec<u8>)> = Vec::new();
            for (path, len) in tree {
                let odd = path.iter().any(|part| matches!(part.as_str(), "." | "..") || part.contains(['\\', '/']));
                if !odd && files.iter().all(|(other, _)| !path.starts_with(other)) {
                    let path: Vec<&str> = path.iter().map(String::as_str).collect();
                    files.push(file(&path, len));
                }
            }
            prop_assume!(files.iter().any(|(_, bytes)| !bytes.is_empty()));
            let made = builder(&files).build().unwrap();
            let bytes: Bytes = made.to_torrent().into();
            let read = Metainfo::parse(&bytes).unwrap();
            prop_assert_eq!(read.to_torrent(), &bytes[..], "written the one way there is");
            prop_assert_eq!((read.id, made.id.v1().is_some(), made.id.v2().is_some()), (made.id, true, true));
            let real: Vec<_> = read.info.files.iter().filter(|file| !file.padding).collect();
            prop_assert_eq!(real.len(), files.len());
            let whole = padded(&files);
            prop_assert_eq!(read.info.total_len, whole.len() as u64);
            for (entry, (path, bytes)) in real.iter().zip(&files) {
                prop_assert_eq!((&entry.path, entry.len), (path, bytes.len() as u64));
                let start = usize::try_from(entry.offset).unwrap();
                prop_assert!(bytes.is_empty() || start.is_multiple_of(PIECE) && whole[start..].starts_with(bytes));
            }
            let expected: Vec<u8> = files.iter().flat_map(|(_, bytes)| roots(bytes)).flatten().collect();
            prop_assert_eq!(read.info.roots.as_deref(), Some(&expected[..]));
            for (index, piece) in (0..).zip(whole.chunks(PIECE)) {
                let mut hasher = read.info.piece_hash(index).unwrap().hasher();
                hasher.update(piece);
                prop_assert!(hasher.finish().is_ok());
            }
        }
    }
}
