//! What an operator decides about a store, and what they may ask it.

use std::path::PathBuf;

use serde::Serialize;
use swarmgate_content::BlockHash;

/// The longest block: the largest piece that torrents in the wild have. 256 MiB.
pub const MAX_BLOCK_BYTES: u64 = 256 * 1024 * 1024;

/// Blocks up to this many bytes are rows of the index; longer ones are files. Below 16 KiB a file costs more in blocks
/// and inodes of the file system than the index costs in pages.
pub const MAX_ROW_BYTES: u64 = 16 * 1024;

/// Events kept for a slow subscriber before it loses the oldest.
pub const EVENT_CAPACITY: usize = 256;

/// Names in one event; more come as several.
pub const MAX_EVENT_BLOCKS: usize = 1024;

/// Where a store is and how large it may grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The directory, created when missing; `None` keeps everything in memory.
    pub dir: Option<PathBuf>,
    /// The sum of all blocks' lengths, never exceeded. Files and rows cost the file system some more: a file up to one
    /// of its blocks (4 KiB), a row up to its own length again.
    pub max_bytes: u64,
    /// Free bytes the volume keeps. Blocks are evicted, then puts refused, rather than go below.
    pub min_free_bytes: u64,
    /// Blocks kept in memory in front of the disk, in bytes. Without a directory it has no meaning.
    pub memory_bytes: u64,
}

impl StoreOptions {
    /// A store that keeps up to `max_bytes` in memory and nothing anywhere else.
    #[must_use]
    pub const fn in_memory(max_bytes: u64) -> Self {
        Self { dir: None, max_bytes, min_free_bytes: 0, memory_bytes: 0 }
    }
}

/// How full a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The lengths of all blocks, in bytes, those being deleted included.
    pub bytes: u64,
    /// The budget.
    pub max_bytes: u64,
    /// How many blocks there are.
    pub blocks: u64,
    /// Bytes of pinned blocks.
    pub pinned_bytes: u64,
    /// Bytes of blocks that are in a reader's window and not pinned.
    pub protected_bytes: u64,
    /// Readers' windows that are open.
    pub windows: u64,
    /// Bytes promised to puts under way.
    pub reserved_bytes: u64,
    /// Free bytes on the volume, where there is one and the system says.
    pub free_disk_bytes: Option<u64>,
    /// Free bytes that the volume is to keep; 0 without one.
    pub min_free_bytes: u64,
    /// Bytes of blocks in memory.
    pub memory_bytes: u64,
    /// Blocks that are kept by reference, in files of others. They count in nothing else.
    pub referenced_blocks: u64,
    /// Their lengths, in bytes.
    pub referenced_bytes: u64,
}

/// So many blocks, and their lengths together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Their lengths, in bytes.
    pub bytes: u64,
}

impl Amount {
    /// The same with one block more.
    pub(crate) const fn and(self, len: u64) -> Self {
        Self { blocks: self.blocks + 1, bytes: self.bytes + len }
    }
}

/// What a store tells those who follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreEvent {
    /// These blocks are gone: evicted, removed, cleared, found damaged, or not in the file where they were. At most
    /// [`MAX_EVENT_BLOCKS`] of them.
    /// One of them may be back by the time this is read; [`crate::Store::contains`] knows.
    Evicted(Vec<BlockHash>),
}
