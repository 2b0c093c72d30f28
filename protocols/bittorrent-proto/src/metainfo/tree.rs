//! The file tree of a v2 torrent (BEP 52), and the roots of its pieces.
//!
//! Each file begins a piece of its own, so a piece belongs to one file and is a subtree of that file's Merkle tree. The
//! `info` dictionary has the files' roots alone; the roots of pieces between are beside it, in a `.torrent`, or with peers.

use std::collections::BTreeMap;

use bytes::Bytes;
use swarmgate_content::merkle::{LEAF_BYTES, Root};
use swarmgate_content::{BlockHash, FileEntry};

use crate::bencode::{Dict, OwnedValue, Value};
use crate::geometry::Geometry;
use crate::merkle::{Tree, height};

use super::{MAX_COMPONENTS, MAX_CONTENT_BYTES, MAX_FILES, MetainfoError, PathProblem, path};

/// Pieces of one v2 torrent: 32 MiB of roots. v1 torrents have about as many, as their hashes are within 16 MiB.
pub const MAX_TREE_PIECES: u32 = 1 << 20;

/// A file of a v2 torrent that has bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeFile {
    /// The root of its Merkle tree.
    pub root: Root,
    /// Its length in bytes, above 0.
    pub len: u64,
    /// The number of its first piece in the torrent.
    pub first_piece: u32,
}

/// The files of a v2 torrent that have bytes, in the order of their pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTree {
    piece_len: u32,
    pieces: u32,
    files: Vec<TreeFile>,
    /// Places in `files`, in the order of their roots.
    by_root: Vec<usize>,
}

/// What one pass over `file tree` has gathered.
struct Walk {
    piece_len: u32,
    path: Vec<String>,
    entries: Vec<FileEntry>,
    files: Vec<TreeFile>,
    /// The pieces so far.
    pieces: u64,
}

impl FileTree {
    /// Reads `file tree`: every file, empty ones too, and the tree. Files lie at the begin of a piece each, with nothing
    /// between them.
    pub(super) fn parse(value: Value<'_>, piece_len: u32) -> Result<(Vec<FileEntry>, Self), MetainfoError> {
        let wrong = MetainfoError::WrongType { key: "file tree", expected: "a dictionary" };
        let mut walk = Walk { piece_len, path: Vec::new(), entries: Vec::new(), files: Vec::new(), pieces: 0 };
        walk.folder(value.as_dict().ok_or(wrong)?)?;
        let pieces = u32::try_from(walk.pieces).unwrap_or(u32::MAX);
        match pieces {
            0 => Err(MetainfoError::Empty),
            1..=MAX_TREE_PIECES => {
                let mut by_root: Vec<usize> = (0..walk.files.len()).collect();
                by_root.sort_by_key(|index| walk.files[*index].root);
                Ok((walk.entries, Self { piece_len, pieces, files: walk.files, by_root }))
            }
            _ => Err(MetainfoError::TooManyPieces { max: MAX_TREE_PIECES }),
        }
    }

    /// The files that have bytes, in the order of their pieces.
    #[must_use]
    pub fn files(&self) -> &[TreeFile] {
        &self.files
    }

    /// How many pieces all files have.
    #[must_use]
    pub const fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Bytes in each piece but the last of each file.
    #[must_use]
    pub const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    /// The layer at which a node is a whole piece, counted from the leaves.
    #[must_use]
    pub const fn piece_layer(&self) -> u32 {
        (self.piece_len / LEAF_LEN).trailing_zeros()
    }

    /// The file of that root; of several with the same bytes, the first.
    #[must_use]
    pub fn file(&self, root: &Root) -> Option<&TreeFile> {
        let at = self.by_root.partition_point(|index| self.files[*index].root < *root);
        self.by_root.get(at).map(|index| &self.files[*index]).filter(|file| file.root == *root)
    }

    /// The file that a piece belongs to.
    #[must_use]
    pub fn file_of(&self, piece: u32) -> Option<&TreeFile> {
        let after = self.files.partition_point(|file| file.first_piece <= piece);
        self.files.get(after.checked_sub(1)?).filter(|_| piece < self.pieces)
    }

    /// How many pieces a file has.
    #[must_use]
    pub fn pieces_of(&self, file: &TreeFile) -> u32 {
        u32::try_from(file.len.div_ceil(self.piece_len.into())).unwrap_or(u32::MAX)
    }

    /// How many of a piece's bytes are its file's.
    #[must_use]
    pub fn len_of(&self, piece: u32) -> u32 {
        let Some(file) = self.file_of(piece) else { return 0 };
        let left = file.len.saturating_sub(u64::from(piece - file.first_piece) * u64::from(self.piece_len));
        u32::try_from(left).map_or(self.piece_len, |left| left.min(self.piece_len))
    }

    /// Where pieces and blocks lie when no padding is between the files.
    #[must_use]
    pub fn geometry(&self) -> Option<Geometry> {
        let last = self.files.last()?;
        let total_len = u64::from(last.first_piece) * u64::from(self.piece_len) + last.len;
        let ends = self.files.iter().map(|file| file.first_piece + self.pieces_of(file) - 1);
        let short = ends.map(|piece| (piece, self.len_of(piece))).filter(|(_, len)| *len < self.piece_len);
        Geometry::with_short_pieces(self.piece_len, total_len, short.collect())
    }

    /// Files of more than one piece, whose pieces' roots the `info` dictionary does not have.
    pub fn layered(&self) -> impl Iterator<Item = &TreeFile> {
        self.files.iter().filter(|file| file.len > self.piece_len.into())
    }

    /// The upper part of a file's tree, on the roots of its pieces, when those lead to the file's root.
    #[must_use]
    pub fn upper(&self, file: &TreeFile, roots: &[u8]) -> Option<Tree> {
        let hashes: Vec<Root> = roots.as_chunks().0.to_vec();
        let whole = hashes.len() == self.pieces_of(file) as usize && roots.len().is_multiple_of(32);
        upper_tree(file.len, self.piece_len, hashes).filter(|tree| whole && tree.root() == file.root)
    }

    /// Checks the roots of all pieces, 32 bytes each, against those of the files.
    #[must_use]
    pub fn accepts(&self, roots: &[u8]) -> bool {
        roots.len() == self.pieces as usize * 32
            && self.files.iter().all(|file| self.upper(file, self.part(file, roots)).is_some())
    }

    /// A file's part of the roots of all pieces.
    #[must_use]
    pub fn part<'a>(&self, file: &TreeFile, roots: &'a [u8]) -> &'a [u8] {
        let start = file.first_piece as usize * 32;
        roots.get(start..start + self.pieces_of(file) as usize * 32).unwrap_or_default()
    }

    /// The roots of all pieces, when the files' own are enough for that, or with those of `layers`.
    #[must_use]
    pub fn roots(&self, layers: &BTreeMap<Root, Bytes>) -> Option<Bytes> {
        let mut roots = Vec::with_capacity(self.pieces as usize * 32);
        for file in &self.files {
            let layer =
                if self.pieces_of(file) == 1 { Some(&file.root[..]) } else { layers.get(&file.root).map(|l| &l[..]) };
            roots.extend_from_slice(layer?);
        }
        self.accepts(&roots).then(|| roots.into())
    }

    /// `piece layers` of a `.torrent`: `None` where a layer is missing, which peers may have.
    pub(super) fn read_layers(&self, layers: Dict<'_>) -> Result<Option<Bytes>, MetainfoError> {
        let mut found = BTreeMap::new();
        for entry in layers.iter() {
            let (Ok(root), Some(layer)) = (Root::try_from(entry.key), entry.value.as_bytes()) else {
                return Err(MetainfoError::WrongType { key: "piece layers", expected: "layers by their roots" });
            };
            found.insert(root, Bytes::copy_from_slice(layer));
        }
        for file in self.layered() {
            let Some(layer) = found.get(&file.root) else { return Ok(None) };
            if self.upper(file, layer).is_none() {
                return Err(MetainfoError::Layer { first_piece: file.first_piece });
            }
        }
        Ok(self.roots(&found))
    }

    /// `piece layers`, as a `.torrent` has them.
    pub(super) fn write_layers(&self, roots: &[u8]) -> OwnedValue {
        OwnedValue::dict(self.layered().map(|file| (file.root.to_vec(), self.part(file, roots).into())))
    }

    /// A piece's name in the store, given the roots of all pieces.
    #[must_use]
    pub fn name(&self, roots: &[u8], piece: u32) -> Option<BlockHash> {
        let root = roots.as_chunks().0.get(piece as usize)?;
        Some(BlockHash::piece(root, self.len_of(piece)))
    }

    /// Whether the files of a hybrid torrent's v1 half are these, where these are: BEP 52 has a reader refuse it otherwise.
    pub(super) fn agrees(&self, tree: &[FileEntry], v1: &[FileEntry]) -> Result<(), MetainfoError> {
        let mut real = v1.iter().filter(|file| !file.padding);
        for file in tree {
            let same = real.next().is_some_and(|other| {
                other.path == file.path && other.len == file.len && (other.offset == file.offset || file.len == 0)
            });
            if !same {
                return Err(MetainfoError::Halves { path: file.joined_path().escape_debug().to_string() });
            }
        }
        match real.next() {
            Some(more) => Err(MetainfoError::Halves { path: more.joined_path().escape_debug().to_string() }),
            None => Ok(()),
        }
    }
}

/// [`LEAF_BYTES`] as piece lengths are.
pub(super) const LEAF_LEN: u32 = 16 << 10;
const _: () = assert!(LEAF_LEN as usize == LEAF_BYTES, "one number in two types");

/// The upper part of the tree of a file of `len` bytes, on the roots of its pieces.
pub(super) fn upper_tree(len: u64, piece_len: u32, roots: Vec<Root>) -> Option<Tree> {
    // A file that is shorter than a piece has a tree that ends below the layer of pieces: its root is all there is.
    let (base, height) = ((piece_len / LEAF_LEN).trailing_zeros(), height(len));
    Tree::new(base.min(height), height, roots)
}

impl Walk {
    fn folder(&mut self, dict: Dict<'_>) -> Result<(), MetainfoError> {
        for entry in dict.iter() {
            let index = self.entries.len();
            let refuse = |problem| MetainfoError::File { index, problem };
            if self.path.len() == MAX_COMPONENTS {
                return Err(refuse(PathProblem::TooDeep { max: MAX_COMPONENTS }));
            }
            // The empty name says that the folder is a file; it has been seen to by whoever called for the folder.
            let name = path::component(entry.key).map_err(refuse)?;
            let node = entry.value.as_dict().ok_or_else(|| refuse(PathProblem::NotADict))?;
            self.path.push(name);
            match node.iter().next() {
                Some(first) if first.key.is_empty() => {
                    let file = first.value.as_dict().ok_or_else(|| refuse(PathProblem::NotADict))?;
                    if node.iter().nth(1).is_some() {
                        return Err(refuse(PathProblem::FileAndFolder));
                    }
                    self.file(file)?;
                }
                Some(_) | None => self.folder(node)?,
            }
            self.path.pop();
        }
        Ok(())
    }

    fn file(&mut self, dict: Dict<'_>) -> Result<(), MetainfoError> {
        let index = self.entries.len();
        let refuse = |problem| MetainfoError::File { index, problem };
        if index == MAX_FILES {
            return Err(MetainfoError::TooManyFiles { max: MAX_FILES });
        }
        let symlink = dict.bytes("attr").unwrap_or_default().contains(&b'l');
        let len = match dict.int("length").map(u64::try_from) {
            // BEP 47: a link has no bytes of its own, whatever it says.
            _ if symlink => 0,
            Some(Ok(len)) if len <= MAX_CONTENT_BYTES => len,
            Some(_) | None => return Err(refuse(PathProblem::Length)),
        };
        let offset = self.pieces * u64::from(self.piece_len);
        if offset + len > MAX_CONTENT_BYTES {
            return Err(MetainfoError::TooLong { max: MAX_CONTENT_BYTES });
        }
        self.entries.push(FileEntry { path: self.path.clone(), len, offset, padding: false });
        if len == 0 {
            return Ok(());
        }
        let root = dict.bytes("pieces root").and_then(|root| Root::try_from(root).ok());
        let root = root.ok_or_else(|| refuse(PathProblem::Root))?;
        let first_piece = u32::try_from(self.pieces).ok().filter(|piece| *piece < MAX_TREE_PIECES);
        let first_piece = first_piece.ok_or(MetainfoError::TooManyPieces { max: MAX_TREE_PIECES })?;
        self.files.push(TreeFile { root, len, first_piece });
        self.pieces += len.div_ceil(u64::from(self.piece_len));
        Ok(())
    }
}
