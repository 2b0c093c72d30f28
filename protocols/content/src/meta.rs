//! What is known of a content before a byte of it is fetched.

use bytes::Bytes;
use serde::Serialize;

use crate::{BlockHash, ByteRange, Cid, ContentId};

/// One content's file tree and how its bytes are verified.
#[derive(Debug, Clone)]
pub struct ContentMeta {
    /// The id that names it.
    pub id: ContentId,
    /// Its suggested name, untrusted text from its maker.
    pub name: String,
    /// Its files in content order, padding files (BEP 47) included so that numbers match the metainfo.
    pub files: Vec<FileEntry>,
    /// All files together, in bytes, padding included.
    pub total_len: u64,
    /// Whether it may be asked for only at its own trackers (BEP 27).
    pub private: bool,
    /// How its bytes are verified.
    pub verification: Verification,
}

/// One file of a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Path below the content's root, one untrusted component each; never used as a filesystem path.
    pub path: Vec<String>,
    /// Length in bytes.
    pub len: u64,
    /// Offset of its first byte in the content, in bytes.
    pub offset: u64,
    /// Whether it only aligns the next file to a piece (BEP 47) and is hidden from people.
    pub padding: bool,
}

/// One file of one content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileRef {
    /// The content.
    pub id: ContentId,
    /// The file's place in [`ContentMeta::files`].
    pub index: usize,
}

/// The unit of verification of a content.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Verification {
    /// SHA-1 of fixed-length pieces over all files laid end to end (BEP 3).
    V1(PieceHashes),
    /// Merkle roots of pieces of which each file begins one (BEP 52).
    V2(PieceRoots),
    /// Each file is a DAG of blocks, every one named by its hash: the roots, in the order of [`ContentMeta::files`].
    Dag(Vec<Cid>),
}

/// The SHA-1 hashes of a v1 torrent's pieces.
#[derive(Clone)]
pub struct PieceHashes {
    /// Bytes in each piece but the last.
    pub piece_len: u32,
    /// The 20-byte hashes laid end to end.
    pub hashes: Bytes,
}

/// The Merkle roots of a v2 torrent's pieces.
#[derive(Clone)]
pub struct PieceRoots {
    /// Bytes in each piece but the last of each file.
    pub piece_len: u32,
    /// The 32-byte roots laid end to end.
    pub roots: Bytes,
}

impl std::fmt::Debug for PieceRoots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PieceRoots({} of {} bytes)", self.roots.len() / 32, self.piece_len)
    }
}

impl FileEntry {
    /// The path with `/` between its components.
    #[must_use]
    pub fn joined_path(&self) -> String {
        self.path.join("/")
    }

    /// The file's bytes as a range of the content, or `None` when the file is empty.
    #[must_use]
    pub fn range(&self) -> Option<ByteRange> {
        ByteRange::new(self.offset, self.offset + self.len)
    }
}

impl ContentMeta {
    /// The file at `path`, compared component by component; padding files are never found.
    #[must_use]
    pub fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<(usize, &FileEntry)> {
        self.files.iter().enumerate().find(|(_, file)| {
            !file.padding
                && file.path.len() == path.len()
                && file.path.iter().zip(path).all(|(have, want)| have == want.as_ref())
        })
    }
}

impl PieceHashes {
    /// How many pieces.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hashes.len() / 20
    }

    /// The name of piece `index` as a block, or `None` past the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<BlockHash> {
        let hash = self.hashes.get(index.checked_mul(20)?..)?.get(..20)?;
        hash.try_into().ok().map(BlockHash::sha1)
    }
}

impl std::fmt::Debug for PieceHashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PieceHashes({} of {} bytes)", self.count(), self.piece_len)
    }
}
