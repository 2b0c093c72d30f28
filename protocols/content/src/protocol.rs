//! The trait every network implements.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_core::Stream;
use serde::Serialize;

use crate::{Attempt, ByteRange, ContentId, ContentMeta, FetchError, FileRef, StatsSnapshot, VerifiedBytes};

/// A boxed future, so that [`Protocol`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The networks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProtocolKind {
    /// BitTorrent over TCP and uTP.
    BitTorrent,
    /// BitTorrent over WebRTC data channels.
    WebTorrent,
    /// IPFS.
    Ipfs,
    /// All of them at once.
    Hybrid,
}

/// What a protocol can do; planners decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Resolves v1 infohashes.
    pub infohash_v1: bool,
    /// Resolves v2 infohashes.
    pub infohash_v2: bool,
    /// Resolves CIDs.
    pub cid: bool,
    /// Can start in the middle of a file without fetching what is before.
    pub ranges: bool,
}

/// What a client says may help to find a content; all of it untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Tracker URLs by tier (BEP 12), best first.
    pub trackers: Vec<Vec<String>>,
    /// Peers to dial (BEP 9 `x.pe`).
    pub peers: Vec<SocketAddr>,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    /// A name to show until the real one is known.
    pub name: Option<String>,
}

/// A question for a content's metadata.
#[derive(Debug, Clone)]
pub struct ResolveRequest {
    /// The content.
    pub id: ContentId,
    /// What may help.
    pub hints: Hints,
    /// When to give up.
    pub deadline: Instant,
}

/// Whether a protocol can do its work, and on what evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The verdict.
    pub state: HealthState,
    /// The evidence: sockets bound, nodes known, peers connected.
    pub evidence: String,
}

/// A protocol's verdict on itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    /// Works.
    Ok,
    /// Works in part.
    Degraded,
    /// Does not work.
    Down,
}

/// One network, as the gateway sees it: resolve an id, then read ranges of its files.
///
/// Dropping a future cancels it; dropping a [`ContentReader`] removes its demand within 50 ms.
pub trait Protocol: Send + Sync + fmt::Debug {
    /// Which network this is.
    fn kind(&self) -> ProtocolKind;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Whether it serves ids of this kind.
    fn supports(&self, id: &ContentId) -> bool {
        let can = self.capabilities();
        match id {
            ContentId::BtV1(_) => can.infohash_v1,
            ContentId::BtV2(_) => can.infohash_v2,
            ContentId::Ipfs(_) => can.cid,
        }
    }

    /// Finds out what a content is, asking the network if need be.
    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>>;

    /// Begins to read a range of one file of a resolved content. The range lies within the file.
    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>>;

    /// What has been tried so far to get a content, for whoever asks why it does not come.
    fn attempts(&self, _id: &ContentId) -> Vec<Attempt> {
        Vec::new()
    }

    /// Whether it works, on present evidence.
    fn health(&self) -> Health;

    /// Its counters.
    fn stats(&self) -> StatsSnapshot;

    /// Stops everything it started, in order, and returns when all is gone or the deadline has passed.
    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()>;
}

/// A stream of verified bytes that ends after exactly the range asked for, or with one error.
///
/// Dropping it withdraws its demand.
pub struct ContentReader {
    bytes: Pin<Box<dyn Stream<Item = Result<VerifiedBytes, FetchError>> + Send>>,
    account: Option<Arc<dyn Account>>,
}

/// Who knows by which networks the bytes of a reader came.
pub trait Account: Send + Sync + fmt::Debug {
    /// What was handed out so far, by where it came from. Nothing once the reader is gone.
    fn mix(&self) -> SourceMix;
}

/// What a reader was handed, in bytes, by where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct SourceMix {
    /// What was here already when the reader came.
    pub cache: u64,
    /// By network: `bt`, `webrtc`, `ipfs` or `http`.
    pub networks: BTreeMap<&'static str, u64>,
    /// The same by source, under the names that operators know; of a content that one network alone has, nothing.
    pub sources: BTreeMap<String, u64>,
}

impl SourceMix {
    /// What one network, or the cache, has given alone.
    #[must_use]
    pub fn of_one(cache: u64, network: &'static str, bytes: u64) -> Self {
        let networks = (bytes > 0).then_some((network, bytes)).into_iter().collect();
        Self { cache, networks, sources: BTreeMap::new() }
    }

    /// All of it, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.cache + self.networks.values().sum::<u64>()
    }

    /// Adds what another reader was handed.
    pub fn add(&mut self, other: &Self) {
        self.cache += other.cache;
        for (network, bytes) in &other.networks {
            *self.networks.entry(network).or_default() += bytes;
        }
        for (source, bytes) in &other.sources {
            *self.sources.entry(source.clone()).or_default() += bytes;
        }
    }

    /// The value of an `X-Swarmgate-Source` header: shares of the bytes, the largest first, as in
    /// `cache;r=0.81, bt;r=0.12`. `None` when there are none.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let all = self.bytes();
        let networks = self.networks.iter().map(|(network, bytes)| (*network, *bytes));
        let mut shares: Vec<_> = networks.chain([("cache", self.cache)]).filter(|(_, bytes)| *bytes > 0).collect();
        shares.sort_by_key(|(word, bytes)| (u64::MAX - bytes, *word));
        let shares = shares.into_iter().map(|(word, bytes)| format!("{word};r={:.2}", bytes as f64 / all as f64));
        (all > 0).then(|| shares.collect::<Vec<_>>().join(", "))
    }
}

impl ContentReader {
    /// Wraps a stream that keeps the promise above.
    pub fn new(bytes: impl Stream<Item = Result<VerifiedBytes, FetchError>> + Send + 'static) -> Self {
        Self { bytes: Box::pin(bytes), account: None }
    }

    /// Says who knows where its bytes come from.
    #[must_use]
    pub fn with_account(self, account: Arc<dyn Account>) -> Self {
        Self { account: Some(account), ..self }
    }

    /// Who knows where its bytes come from, if anybody does.
    #[must_use]
    pub const fn account(&self) -> Option<&Arc<dyn Account>> {
        self.account.as_ref()
    }
}

impl Stream for ContentReader {
    type Item = Result<VerifiedBytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.bytes.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ContentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentReader")
    }
}
