//! What a network lends to whoever fetches one content over several networks at once: ways to ask it for what can be
//! verified by itself, and to give it what came from elsewhere.
//!
//! A loan has no power over its lender: nothing here makes, stops or owns a network, and dropping a loan only withdraws
//! what was asked for by way of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    BoxFuture, ByteRange, Capabilities, Cid, ContentId, ContentMeta, ContentReader, FailureClass, FetchError, FileRef,
    Health, InfoHash, Protocol, ProtocolKind, ResolveRequest, VerifiedBytes,
};

/// Why something that a loan was asked for did not come, or was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct LoanError {
    /// What a breaker should think of it: `Neutral` when it is not there, `Corruption` when bytes are not what their
    /// name says.
    pub class: FailureClass,
    /// Why, for people: lower-case, no full stop, no addresses.
    pub detail: String,
}

impl LoanError {
    /// Makes an error.
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into() }
    }
}

/// Who can lend torrents.
pub trait TorrentLender: Send + Sync + fmt::Debug {
    /// Lends a torrent, and starts it if need be. Waits until its metadata is known: resolve it first.
    fn lend_torrent(&self, infohash: InfoHash) -> BoxFuture<'_, Result<Arc<dyn TorrentLoan>, FetchError>>;
}

/// One torrent, by its pieces.
pub trait TorrentLoan: Send + Sync + fmt::Debug {
    /// What it is. Its verification is [`crate::Verification::V1`].
    fn meta(&self) -> &Arc<ContentMeta>;

    /// URLs of HTTP servers that have it (BEP 19), untrusted, as far as metainfo and hints have named any. None of a
    /// private torrent (BEP 27).
    fn web_seeds(&self) -> Vec<String>;

    /// Whether a piece is in the store.
    fn has(&self, piece: u32) -> bool;

    /// Whether all pieces that a range of the torrent touches are in the store.
    fn has_range(&self, range: ByteRange) -> bool;

    /// Asks the swarm for a piece. Done when it is in the store, or was handed to the readers that are at it because
    /// the store has no room. Dropping the future withdraws the request; it waits without end.
    fn fetch(&self, piece: u32) -> BoxFuture<'static, Result<(), LoanError>>;

    /// Gives it the bytes of a piece that came from elsewhere. They are hashed; what is right goes the way of every
    /// piece: into the store, to the readers that wait for it, and peers are told of it. What is wrong is refused with
    /// [`FailureClass::Corruption`], and blames no peer.
    fn admit(&self, piece: u32, bytes: Bytes) -> BoxFuture<'static, Result<(), LoanError>>;

    /// Bytes of pieces that its peers have sent since the torrent was started: grows while any of them sends.
    fn received_bytes(&self) -> u64;

    /// How many peers are connected, at this moment and as it changes.
    fn peers(&self) -> watch::Receiver<usize>;

    /// Has peers sought, if none is connected.
    fn seek_peers(&self);

    /// Reads bytes of the torrent without asking the swarm for them: waits until they come by whatever way. Keeps
    /// what it is about to read from being evicted, as every reader does.
    fn read(&self, range: ByteRange) -> ContentReader;

    /// Gets bytes of the torrent, asking the swarm for the pieces that they are in. Verified as parts of pieces. At
    /// most 16 MiB; more is refused.
    fn bytes(&self, range: ByteRange) -> BoxFuture<'static, Result<Bytes, LoanError>>;
}

/// Who can lend files of IPFS.
pub trait DagLender: Send + Sync + fmt::Debug {
    /// Lends the file of that root.
    fn lend_dag(&self, root: Cid) -> Arc<dyn DagLoan>;

    /// Follows a path below a root to the file at its end. Each part is one untrusted name.
    fn find(&self, root: Cid, path: Vec<String>) -> BoxFuture<'_, Result<Cid, LoanError>>;
}

/// One file of IPFS, by the leaves of its DAG.
pub trait DagLoan: Send + Sync + fmt::Debug {
    /// The file's root.
    fn root(&self) -> Cid;

    /// Gets bytes of the file over IPFS, each block verified. At most 16 MiB; more is refused.
    fn bytes(&self, range: ByteRange) -> BoxFuture<'static, Result<Bytes, LoanError>>;

    /// Gets a leaf over IPFS, into the store. Dropping the future withdraws the request.
    fn fetch(&self, leaf: Leaf) -> BoxFuture<'static, Result<VerifiedBytes, LoanError>>;

    /// Gives it the bytes of the file that a leaf has, which came from elsewhere. What is right goes the way of every
    /// block: into the store, and to peers that wait for it. What is wrong is refused with
    /// [`FailureClass::Corruption`]. Returns the leaf's block.
    fn admit(&self, leaf: Leaf, bytes: Bytes) -> BoxFuture<'static, Result<VerifiedBytes, LoanError>>;

    /// Reads a range of the file. Nodes of links come over IPFS; each leaf that is not in the store is first asked of
    /// `leaves`, and over IPFS when that gives nothing.
    fn read(&self, range: ByteRange, leaves: Arc<dyn Leaves>) -> ContentReader;
}

/// A leaf of a file's DAG: a block without links, or so it seems from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its name.
    pub cid: Cid,
    /// Where its bytes begin in the file.
    pub offset: u64,
    /// How many bytes of the file it has, as its parent says: untrusted until it was read.
    pub len: u64,
}

/// Somebody who may get leaves by other ways than IPFS.
pub trait Leaves: Send + Sync + fmt::Debug {
    /// The block of that leaf. `None` at once when it cannot be had here, and from the future when it could not: then
    /// it is asked for over IPFS. Called on the thread of the reading, in the order of the file, as far ahead of the
    /// reader as its window reaches.
    fn leaf(&self, leaf: Leaf) -> Option<BoxFuture<'static, Option<VerifiedBytes>>>;
}

/// A registered protocol, as lent to one that stands on it: it may be asked for contents, and nothing else.
///
/// Who borrows cannot stop what it borrowed:
///
/// ```compile_fail
/// fn stop(lent: swarmgate_content::Borrowed) {
///     drop(lent.shutdown(std::time::Instant::now()));
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Borrowed(Arc<dyn Protocol>);

impl Borrowed {
    /// Lends a protocol.
    #[must_use]
    pub fn new(protocol: Arc<dyn Protocol>) -> Self {
        Self(protocol)
    }

    /// Which network it is.
    #[must_use]
    pub fn kind(&self) -> ProtocolKind {
        self.0.kind()
    }

    /// What it can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    /// Whether it serves ids of this kind.
    #[must_use]
    pub fn supports(&self, id: &ContentId) -> bool {
        self.0.supports(id)
    }

    /// As [`Protocol::resolve`].
    ///
    /// # Errors
    /// As there.
    pub async fn resolve(&self, request: ResolveRequest) -> Result<Arc<ContentMeta>, FetchError> {
        self.0.resolve(request).await
    }

    /// As [`Protocol::open`].
    ///
    /// # Errors
    /// As there.
    pub async fn open(&self, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
        self.0.open(file, range).await
    }

    /// Whether it works, on present evidence.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }
}
