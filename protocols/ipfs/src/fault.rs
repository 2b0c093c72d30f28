//! Why a block, or what it stands for, cannot be had; and how that is told to whoever asked.

use std::sync::Arc;

use swarmgate_content::{Attempt, Cid, ContentId, FailureClass, FetchError, FetchErrorKind, Stage};
use swarmgate_ipfs_proto::block::{BadBlock, Flaw};
use swarmgate_ipfs_proto::path::PathError;

/// Why a reading cannot go on. Cheap to clone, since everybody who waits for a block hears of it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// A block cannot be used.
    #[error(transparent)]
    Bad(Arc<BadBlock>),
    /// A path names nothing.
    #[error(transparent)]
    Path(Arc<PathError>),
    /// Only the store is asked, and it has not this block.
    #[error("block {0} is not in the cache")]
    NotCached(Box<Cid>),
    /// Everybody was asked; with the gravest of what they said.
    #[error("block {0} was not found: {1}")]
    NoSource(Box<Cid>, Arc<str>, FailureClass),
    /// The reading's patience is over.
    #[error("{0}")]
    TimedOut(Arc<str>),
    /// The store cannot be read.
    #[error("the cache cannot be read: {0}")]
    Store(Arc<str>),
    /// A root that is a name.
    #[error("a name has to be looked up before its path is followed")]
    Name,
    /// The protocol is stopping.
    #[error("the IPFS network is shutting down")]
    ShuttingDown,
    /// A bug of ours, caught.
    #[error("{0}")]
    Internal(&'static str),
}

impl From<BadBlock> for Fault {
    fn from(bad: BadBlock) -> Self {
        Self::Bad(Arc::new(bad))
    }
}

impl From<PathError> for Fault {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Block(bad) => bad.into(),
            error @ (PathError::NoLink { .. }
            | PathError::NotADirectory { .. }
            | PathError::AboveRoot
            | PathError::TooLong
            | PathError::TooManySymlinks) => Self::Path(Arc::new(error)),
        }
    }
}

impl Fault {
    fn kind(&self) -> FetchErrorKind {
        match self {
            Self::Bad(bad) => kind_of_flaw(&bad.flaw),
            Self::Path(error) => kind_of_path(error),
            Self::NotCached(_) => FetchErrorKind::NotCached,
            Self::NoSource(..) => FetchErrorKind::NoSource,
            Self::TimedOut(_) => FetchErrorKind::TimedOut,
            Self::Store(_) => FetchErrorKind::StoreIo,
            Self::Name => FetchErrorKind::Unsupported,
            Self::ShuttingDown => FetchErrorKind::ShuttingDown,
            Self::Internal(_) => FetchErrorKind::Internal,
        }
    }

    /// What a breaker should think of it.
    pub(crate) fn class(&self) -> FailureClass {
        match self {
            Self::NoSource(_, _, class) => *class,
            Self::Bad(bad) if matches!(bad.flaw, Flaw::Mismatch(_)) => FailureClass::Corruption,
            Self::TimedOut(_) => FailureClass::Source,
            Self::Store(_) | Self::Internal(_) => FailureClass::Local,
            // A block that has its hash is what its name says, whatever else is wrong with it.
            Self::Bad(_) | Self::Path(_) | Self::NotCached(_) | Self::Name | Self::ShuttingDown => {
                FailureClass::Neutral
            }
        }
    }

    /// This fault, as it ended the reading of a DAG.
    pub(crate) fn tell(&self, root: &Cid, stage: Stage, attempts: Vec<Attempt>) -> FetchError {
        FetchError::new(ContentId::Ipfs(*root), stage, self.kind(), self.to_string()).with_attempts(attempts)
    }
}

const fn kind_of_flaw(flaw: &Flaw) -> FetchErrorKind {
    match flaw {
        Flaw::UnknownHash { .. } | Flaw::UnknownCodec(_) => FetchErrorKind::Unsupported,
        Flaw::TooLarge(_)
        | Flaw::Mismatch(_)
        | Flaw::Malformed { .. }
        | Flaw::Kind { .. }
        | Flaw::Size { .. }
        | Flaw::TooManyLinks
        | Flaw::TooDeep => FetchErrorKind::Invalid,
    }
}

fn kind_of_path(error: &PathError) -> FetchErrorKind {
    match error {
        PathError::NoLink { .. } | PathError::NotADirectory { .. } | PathError::AboveRoot => FetchErrorKind::NotFound,
        PathError::TooLong | PathError::TooManySymlinks => FetchErrorKind::Invalid,
        PathError::Block(bad) => kind_of_flaw(&bad.flaw),
    }
}
