//! From files to blocks: the same bytes under the same [`Profile`] give the same CID as everywhere (IPIP-499).

use bytes::Bytes;
use swarmgate_content::{Cid, HashKind};

use crate::codec::Codec;
use crate::hamt::Fanout;
use crate::unixfs::{Kind, UnixFs};

mod directory;
mod file;

pub use directory::{BuildError, DirectoryBuilder};
pub use file::FileBuilder;

/// How a directory is measured to decide whether it goes into many blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Names and CIDs alone, as Kubo did through version 0.39.
    LinkBytes,
    /// The block as it would be written.
    BlockBytes,
}

/// What decides a CID beside the bytes (IPIP-499). Files are laid out balanced, hashed by SHA2-256, in chunks of one
/// size; no mode or time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// CIDs of version 0, and bytes inside of UnixFS nodes; else version 1, and bytes in raw blocks.
    pub legacy: bool,
    /// The size of a chunk, in bytes; all but a file's last have it.
    pub chunk_bytes: usize,
    /// The most links of a file's node.
    pub links_per_node: usize,
    /// A directory larger than this goes into many blocks; in bytes of [`Self::measure`].
    pub max_directory_bytes: usize,
    /// What [`Self::max_directory_bytes`] counts.
    pub measure: Measure,
}

impl Profile {
    /// `unixfs-v1-2025`, the default: 1 MiB chunks, 1,024 links, raw leaves, CIDs of version 1.
    pub const V1_2025: Self = Self {
        legacy: false,
        chunk_bytes: 1 << 20,
        links_per_node: 1024,
        max_directory_bytes: 256 << 10,
        measure: Measure::BlockBytes,
    };
    /// `unixfs-v0-2015`, what Kubo did through version 0.39: 256 KiB chunks, 174 links, CIDs of version 0.
    pub const V0_2015: Self = Self {
        legacy: true,
        chunk_bytes: 256 << 10,
        links_per_node: 174,
        max_directory_bytes: 256 << 10,
        measure: Measure::LinkBytes,
    };

    fn block(&self, codec: Codec, bytes: Vec<u8>) -> Block {
        let hash = HashKind::Sha2_256.hash(&bytes);
        let cid = if self.legacy { hash.to_cid_v0() } else { None };
        Block { cid: cid.unwrap_or_else(|| hash.to_cid(codec.code())), bytes: bytes.into() }
    }
}

/// The buckets of every shard that is built.
const FANOUT: u64 = 256;

fn fanout() -> Fanout {
    Fanout::new(FANOUT).expect("256 is a power of two below 1,024")
}

/// A block that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its name.
    pub cid: Cid,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A file, directory or symlink that was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Built {
    /// Its root.
    pub cid: Cid,
    /// How many bytes the file has; 0 for all else.
    pub file_bytes: u64,
    /// How many bytes all of its blocks have, one that is there twice counted twice: `Tsize`.
    pub dag_bytes: u64,
}

/// A symlink, in one block.
#[must_use]
pub fn symlink(profile: &Profile, target: &[u8]) -> (Built, Block) {
    let data = UnixFs { data: target, ..UnixFs::new(Kind::Symlink) };
    let block = profile.block(Codec::DagPb, crate::dag_pb::encode([], Some(&data.encode())));
    (Built { cid: block.cid, file_bytes: 0, dag_bytes: block.bytes.len() as u64 }, block)
}

#[cfg(test)]
mod tests;
