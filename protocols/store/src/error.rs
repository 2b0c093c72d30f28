//! What can go wrong, one enum an operation.

use std::io;
use std::path::PathBuf;

use swarmgate_content::BlockHash;

/// The disk or the index failed: doing what, to which thing, and how.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {what}: {source}")]
pub struct StorageFault {
    doing: &'static str,
    what: String,
    source: io::Error,
}

impl StorageFault {
    pub(crate) fn new(doing: &'static str, what: impl Into<String>, source: io::Error) -> Self {
        Self { doing, what: what.into(), source }
    }

    /// What the operating system said.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The same fault for one more caller; an `io::Error` cannot be cloned.
    pub(crate) fn again(&self) -> Self {
        let source = io::Error::new(self.source.kind(), self.source.to_string());
        Self { doing: self.doing, what: self.what.clone(), source }
    }
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Something else has the directory's name.
    #[error("{} is not a directory", .path.display())]
    NotADirectory {
        /// The path given.
        path: PathBuf,
    },
    /// The directory cannot be written to.
    #[error("{} cannot be written to: {source}", .path.display())]
    ReadOnly {
        /// The path refused.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another store, in this process or another, has the directory open.
    #[error("{} is in use by another running instance: stop it or choose another directory", .path.display())]
    InUse {
        /// The path given.
        path: PathBuf,
    },
    /// The directory holds files that no store has written; they are left alone.
    #[error("{} holds other files ({example}): choose an empty directory", .path.display())]
    Foreign {
        /// The path given.
        path: PathBuf,
        /// One of the files.
        example: String,
    },
    /// The directory was written by a version with another layout.
    #[error("{} was written by another version (its mark is {found:?}, not {expected:?})", .path.display())]
    Format {
        /// The path given.
        path: PathBuf,
        /// The mark found.
        found: String,
        /// The mark this version writes.
        expected: &'static str,
    },
    /// The disk or the index failed.
    #[error(transparent)]
    Io(#[from] StorageFault),
}

impl OpenError {
    /// Tells the mistakes an operator can make from the faults of a disk.
    pub(crate) fn from_io(doing: &'static str, path: PathBuf, source: io::Error) -> Self {
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
            Self::ReadOnly { path, source }
        } else if kind == io::ErrorKind::NotADirectory {
            Self::NotADirectory { path }
        } else {
            Self::Io(StorageFault::new(doing, path.display().to_string(), source))
        }
    }
}

/// Why a block was not stored. Whatever was stored before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// Everything that is left is pinned or in a reader's window.
    #[error("no room for {len} bytes: of {max_bytes}, {pinned_bytes} are pinned and {protected_bytes} are being read")]
    Full {
        /// The block's length.
        len: u64,
        /// The budget.
        max_bytes: u64,
        /// Bytes of pinned blocks.
        pinned_bytes: u64,
        /// Bytes of blocks in readers' windows.
        protected_bytes: u64,
    },
    /// The block is longer than the whole budget, or than any block may be.
    #[error("a block of {len} bytes is longer than the {limit} bytes that fit")]
    TooLarge {
        /// The block's length.
        len: u64,
        /// What would have fitted.
        limit: u64,
    },
    /// The volume has less free space than it shall keep, and nothing can be evicted.
    #[error("no room for {len} bytes: the volume has {free_bytes} bytes free and {min_free_bytes} shall stay so")]
    LowDisk {
        /// The block's length.
        len: u64,
        /// Free bytes on the volume.
        free_bytes: u64,
        /// Free bytes to keep.
        min_free_bytes: u64,
    },
    /// The disk or the index failed.
    #[error(transparent)]
    Io(#[from] StorageFault),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a block could not be read. A block that is not there is no error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The range leaves the block.
    #[error("bytes {start}..{end} were asked of block {hash}, which has {len}")]
    OutOfRange {
        /// The block.
        hash: BlockHash,
        /// The first byte asked for.
        start: u32,
        /// One past the last byte asked for.
        end: u32,
        /// How many bytes the block has.
        len: u32,
    },
    /// The disk or the index failed.
    #[error(transparent)]
    Io(#[from] StorageFault),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why blocks were not kept by reference. Some of them may be; unpinning the root lets them go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferError {
    /// The root's name is too long.
    #[error("a root's name of {len} bytes is longer than {limit}")]
    LongName {
        /// Its length in bytes.
        len: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// More blocks than can be remembered.
    #[error("no more than {limit} blocks can be kept by reference")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// The index failed.
    #[error(transparent)]
    Io(#[from] StorageFault),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a record was not read, written or deleted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A table's name, a key or a value is longer than allowed.
    #[error("a record's {what} of {len} bytes is longer than {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The bound in bytes.
        limit: usize,
    },
    /// The disk or the index failed.
    #[error(transparent)]
    Io(#[from] StorageFault),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_mistakes_have_sentences_of_their_own() {
        let say = |kind| OpenError::from_io("creating", PathBuf::from("/srv/cache"), io::Error::from(kind)).to_string();
        assert!(say(io::ErrorKind::PermissionDenied).starts_with("/srv/cache cannot be written to: "));
        assert!(say(io::ErrorKind::ReadOnlyFilesystem).starts_with("/srv/cache cannot be written to: "));
        assert_eq!(say(io::ErrorKind::NotADirectory), "/srv/cache is not a directory");
        assert!(say(io::ErrorKind::StorageFull).starts_with("creating /srv/cache: "));
    }
}
