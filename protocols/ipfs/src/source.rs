//! A place that blocks come from: the libp2p node with Bitswap, a trustless HTTP gateway, a Kubo daemon's RPC.
//!
//! A source delivers one block a future and checks its hash before it hands it out; dropping the future withdraws the
//! want. Whoever reads a DAG keeps many futures under way, as many as its window of bytes allows, in reading order.

use std::fmt;
use std::time::Instant;

use libp2p::{Multiaddr, PeerId};
use swarmgate_content::{Attempt, BlockHash, BoxFuture, ByteRange, Cid, FailureClass, VerifiedBytes};

/// A block that somebody wants, and what may help to get it.
#[derive(Debug, Clone)]
pub struct Want {
    /// The block's name.
    pub cid: Cid,
    /// The DAG that is being read: sources keep what they learn about who has it.
    pub session: SessionId,
    /// The block's length as far as its parent says, in bytes.
    pub expected_len: Option<u32>,
    /// The higher, the sooner. Within a session, blocks that come earlier in the file have more.
    pub priority: i32,
    /// When it is of no use any more.
    pub deadline: Instant,
    /// What it is wanted for, when this source is the one that is likely to give all of that.
    pub within: Option<Entity>,
}

/// A file or directory that is read in order from some block on: a source that can send many blocks in one answer may
/// do so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entity {
    /// Its root.
    pub root: Cid,
    /// Of a file: what is read of it, from the wanted block on. There may be less of it than this.
    pub bytes: Option<ByteRange>,
}

/// One reading of one DAG, by a number that is never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Somebody who may have a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// A libp2p peer that speaks Bitswap.
    Peer {
        /// Who.
        id: PeerId,
        /// Where, untrusted; perhaps nowhere known.
        addrs: Vec<Multiaddr>,
    },
    /// A trustless HTTP gateway by its base URL, untrusted.
    Gateway(String),
}

/// Why a source did not deliver a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct SourceError {
    /// What a breaker should think of it: `Neutral` when the source said that it has not the block.
    pub class: FailureClass,
    /// Why, for people: lower-case, no full stop.
    pub detail: String,
}

/// Delivers blocks that are checked against their names.
pub trait BlockSource: Send + Sync + fmt::Debug {
    /// Its name for people and statistics: `bitswap`, or an endpoint's URL without user and password.
    fn name(&self) -> &str;

    /// Gets one block. Never later than the want's deadline; dropping the future withdraws the want within 50 ms.
    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>>;

    /// Somebody may have the DAG that a session reads.
    fn provider(&self, _session: SessionId, _provider: &Provider) {}

    /// Nobody reads that DAG any more.
    fn end_session(&self, _session: SessionId) {}

    /// A block has come into the store, from whomever: a source that gives blocks to others too may have somebody who
    /// waits for it. Called for every block, so it must be cheap.
    fn landed(&self, _hash: &BlockHash) {}

    /// A DAG is kept from now on, by its root: a source that gives blocks to others too may let them know.
    fn kept(&self, _root: &Cid) {}

    /// A DAG is not kept any more.
    fn let_go(&self, _root: &Cid) {}

    /// What was tried for a session, for whoever asks why its blocks do not come.
    fn attempts(&self, _session: SessionId) -> Vec<Attempt> {
        Vec::new()
    }
}

/// Finds out who may have a block: the IPFS DHT, a delegated routing server.
pub trait Router: Send + Sync + fmt::Debug {
    /// Its name for people and statistics: `dht`, or an endpoint's URL without user and password.
    fn name(&self) -> &str;

    /// Tells `found` of providers as they become known, until there are no more or the future is dropped.
    fn providers<'a>(
        &'a self,
        cid: &'a Cid,
        found: &'a (dyn Fn(Provider) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    /// The best IPNS record that it knows for a name (its CID with the codec `libp2p-key`), unchecked bytes of at most
    /// 10 KiB.
    fn ipns_record<'a>(&'a self, name: &'a Cid) -> BoxFuture<'a, Result<bytes::Bytes, SourceError>>;
}
