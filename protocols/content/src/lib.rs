//! The vocabulary and the seam of swarmgate.
//!
//! Vocabulary: [`ContentId`], [`ByteRange`], [`ContentMeta`], [`VerifiedBytes`], [`FetchError`], [`Event`].
//! Seam: [`Protocol`], which every network implements, and [`ProtocolManager`], which the application owns; and what
//! networks lend to who fetches over several ([`TorrentLender`], [`DagLender`]).
//!
//! What is absent here: a runtime, sockets, files, a clock. Time is always an argument or somebody else's.
//!
//! # Why are verified bytes a type of this crate, when the store verifies?
//! A [`ContentReader`] yields them and the HTTP body accepts nothing else, so both sides of the seam need the
//! name. The type can be made in two ways only: by hashing ([`VerifiedBytes::check`], [`VerifiedBytes::name`]), or by
//! the store vouching for bytes it hashed earlier; a lint forbids the second way everywhere but in the store's
//! `verify.rs`.

mod error;
mod event;
mod hash;
mod id;
mod lending;
mod manager;
pub mod merkle;
mod meta;
mod protocol;
mod range;
mod stats;
mod verified;

pub use error::{Attempt, AttemptOutcome, FailureClass, FetchError, FetchErrorKind, Stage};
pub use event::{EVENT_CAPACITY, Event, EventBus, EventReceiver, EventRecvError, NumberedEvent};
pub use hash::{
    BLAKE3_CODE, BlockHash, BlockHasher, HashKind, HashMismatch, MAX_DIGEST_BYTES, MIN_DIGEST_BYTES, Naming,
    PIECE_CODE, SHA1_CODE, SHA2_256_CODE, SHA2_512_CODE,
};
pub use id::{Cid, ContentId, InfoHash, InfoHashV2, ParseIdError, TorrentId};
pub use lending::{Borrowed, DagLender, DagLoan, Leaf, Leaves, LoanError, TorrentLender, TorrentLoan};
pub use manager::{ManagerError, ProtocolManager, ProtocolSnapshot};
pub use meta::{ContentMeta, FileEntry, FileRef, PieceHashes, PieceRoots, Verification};
pub use protocol::{
    Account, BoxFuture, Capabilities, ContentReader, Health, HealthState, Hints, Protocol, ProtocolKind,
    ResolveRequest, SourceMix,
};
pub use range::ByteRange;
pub use stats::{ProtocolStats, StatsSnapshot};
pub use verified::{MAX_INLINE_BYTES, VerifiedBytes};
