//! What the stories of the node need: nodes on loopback, files as DAGs, and somebody who reads them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use swarmgate_content::{BlockHash, ByteRange, Cid};
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs::node::{KadMode, Node, NodeOptions, Shelf};
use swarmgate_ipfs::source::{BlockSource, SessionId, SourceError, Want};
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_ipfs_proto::walk::FileWalk;
use swarmgate_store::{Store, StoreOptions};

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What a reader has in flight, in bytes.
const WINDOW: u64 = 8 << 20;

static SESSIONS: AtomicU64 = AtomicU64::new(1);

/// A node and its blocks.
pub(crate) struct Peer {
    pub(crate) node: Arc<Node>,
    pub(crate) store: Store,
    pub(crate) identity: Keypair,
}

/// Options for loopback: no DHT.
pub(crate) fn options(listen: &str) -> NodeOptions {
    NodeOptions {
        listen: vec![listen.parse().unwrap()],
        kad: KadMode::Off,
        egress: EgressPolicy { allow_private: true },
        ..NodeOptions::default()
    }
}

impl Peer {
    pub(crate) async fn start(options: NodeOptions) -> Self {
        Self::start_as(Keypair::generate_ed25519(), options).await
    }

    /// Starts a node that is somebody.
    pub(crate) async fn start_as(identity: Keypair, options: NodeOptions) -> Self {
        let store = Store::open(StoreOptions::in_memory(256 << 20)).await.unwrap();
        let shelf = Shelf { store: store.clone(), may_serve: Arc::new(|_| true) };
        let node = Node::start(options, identity.clone(), shelf).await.unwrap();
        Self { node: Arc::new(node), store, identity }
    }

    pub(crate) async fn tcp() -> Self {
        Self::start(options("/ip4/127.0.0.1/tcp/0")).await
    }

    /// Where to dial it.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let peer = Protocol::P2p(self.node.peer_id());
        self.node.listeners().into_iter().map(|address| address.with(peer.clone())).collect()
    }

    /// Where to dial it, the first of them.
    pub(crate) fn address(&self) -> Multiaddr {
        self.addresses().remove(0)
    }

    /// Puts a file in the store, and gives its root.
    pub(crate) async fn add_file(&self, bytes: &[u8]) -> Cid {
        let mut builder = FileBuilder::new(Profile::V1_2025);
        let mut blocks = Vec::new();
        for chunk in bytes.chunks(1 << 20) {
            builder.push(chunk);
            blocks.extend(std::iter::from_fn(|| builder.poll_block()));
        }
        let built = builder.finish();
        blocks.extend(std::iter::from_fn(|| builder.poll_block()));
        for block in blocks {
            let hash = BlockHash::from_cid(&block.cid).unwrap();
            let block = self.store.verifier().verify(hash, block.bytes).await.unwrap();
            self.store.put(block).await.unwrap();
        }
        built.cid
    }

    pub(crate) async fn stop(&self) {
        self.node.shutdown(Instant::now() + Duration::from_secs(5)).await;
    }
}

/// A number for a reading of its own.
pub(crate) fn session() -> SessionId {
    SessionId(SESSIONS.fetch_add(1, Ordering::Relaxed))
}

/// Bytes that look like nothing, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = 2 * seed + 1;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| word()).collect();
    bytes.truncate(len);
    bytes
}

/// A want of a block for a while.
pub(crate) fn want(session: SessionId, cid: Cid) -> Want {
    Want { cid, session, expected_len: None, priority: 1, deadline: Instant::now() + PATIENCE, within: None }
}

/// Reads a file from a node, and tells of each step how far it has come.
pub(crate) async fn read_file(
    node: &Node,
    session: SessionId,
    root: Cid,
    mut on_progress: impl FnMut(u64),
) -> Result<Vec<u8>, SourceError> {
    let mut walk = FileWalk::new(root, ByteRange::new(0, u64::MAX).unwrap());
    let (mut under_way, mut bytes) = (FuturesUnordered::new(), Vec::new());
    loop {
        while let Some(found) = walk.poll_bytes() {
            bytes.extend_from_slice(found.as_ref());
            on_progress(bytes.len() as u64);
        }
        if walk.is_done() {
            return Ok(bytes);
        }
        while let Some(next) = walk.poll_want(WINDOW).unwrap() {
            let priority = i32::MAX - i32::try_from(next.offset >> 10).unwrap();
            let expected_len = u32::try_from(next.estimated_bytes).ok();
            let want = Want { priority, expected_len, ..want(session, next.cid) };
            under_way.push(async move { (next.cid, node.fetch(want).await) });
        }
        let (cid, block) = under_way.next().await.expect("something is wanted while the file is not whole");
        walk.provide(&cid, &block?).unwrap();
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
