//! Why nothing was published, with the path of what is at fault.

use std::path::PathBuf;

use swarmgate_bittorrent_proto::metainfo::MetainfoError;
use swarmgate_ipfs_proto::build::BuildError;
use swarmgate_store::{PutError, ReadError, RecordError, ReferError};

use super::{MAX_PIECE_BYTES, MIN_PIECE_BYTES, tree};

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// A file or directory cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no file, directory or symlink.
    #[error("{}: no regular file, so it cannot be published", .0.display())]
    NotRegular(PathBuf),
    /// Its name is not UTF-8.
    #[error("{}: its name is not UTF-8, as a torrent's names are", .0.display())]
    NotUtf8(PathBuf),
    /// It lies too deep.
    #[error("{}: deeper than {} directories", .0.display(), tree::MAX_DEPTH)]
    TooDeep(PathBuf),
    /// More files than a torrent may have.
    #[error("{}: more files than a torrent may have", .0.display())]
    TooMany(PathBuf),
    /// There is not a single byte.
    #[error("{}: there is not a single byte in it, so there is no piece to publish", .0.display())]
    Empty(PathBuf),
    /// The length of a piece is none.
    #[error("pieces have a power of two from {MIN_PIECE_BYTES} to {MAX_PIECE_BYTES} bytes, not {0}")]
    PieceLength(u32),
    /// It changed.
    #[error("{}: changed while it was being published; nothing was published", .0.display())]
    Changed(PathBuf),
    /// No torrent can be made of it.
    #[error("no torrent can be made of {}: {error}", path.display())]
    Torrent {
        /// What should become one.
        path: PathBuf,
        /// Why not.
        error: MetainfoError,
    },
    /// A v1 torrent can be made of it, and a hybrid cannot.
    #[error("no hybrid torrent can be made of {}, though a v1 torrent can: {error}", path.display())]
    NoHybrid {
        /// What should become one.
        path: PathBuf,
        /// Why not.
        error: MetainfoError,
    },
    /// A directory cannot be built.
    #[error("{}: {error}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        error: BuildError,
    },
    /// The store has no room, or failed.
    #[error(transparent)]
    Store(#[from] PutError),
    /// The store cannot be read.
    #[error(transparent)]
    StoreRead(#[from] ReadError),
    /// The store has not taken references.
    #[error(transparent)]
    Refer(#[from] ReferError),
    /// The index cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A thread has ended early.
    #[error("publishing was cut short: {0}")]
    CutShort(&'static str),
}
