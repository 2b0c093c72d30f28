//! An IPFS node in the process of the story that has a file and gives it to whoever asks over Bitswap.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use swarmgate_content::Cid;
use swarmgate_gateway::ipfs::start_delivery;
use swarmgate_gateway::policy::Denylists;
use swarmgate_ipfs::delivery::Delivery;
use swarmgate_ipfs_proto::block::hash_of;
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_store::{Store, StoreOptions};
use tempfile::TempDir;

use crate::node::config;

/// The node.
#[derive(Debug)]
pub struct DagSeeder {
    delivery: Delivery,
    store: Store,
    _dir: TempDir,
    /// The file's root.
    pub cid: Cid,
}

impl DagSeeder {
    /// Starts a node with the DAG of a file, cut as `add` does it by default.
    pub async fn start(file: &[u8]) -> Self {
        Self::start_cut(file, Profile::V1_2025).await
    }

    /// The same, cut otherwise.
    pub async fn start_cut(file: &[u8], profile: Profile) -> Self {
        let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a directory: {e}"));
        let store = Store::open(StoreOptions::in_memory(file.len() as u64 + (8 << 20))).await;
        let store = store.unwrap_or_else(|e| panic!("a store in memory: {e}"));
        let cid = add(&store, file, profile).await;
        let delivery = start_delivery(&config(dir.path()), &store, &Denylists::default()).await;
        let delivery = delivery.unwrap_or_else(|e| panic!("an IPFS node: {e}"));
        Self { delivery, store, _dir: dir, cid }
    }

    /// Where it listens over TCP.
    pub fn address(&self) -> SocketAddr {
        let tcp = self.delivery.sockets().into_iter().find(|(transport, _)| *transport == "tcp");
        tcp.unwrap_or_else(|| panic!("the node does not listen over TCP")).1
    }

    /// How a client names it as a provider, at `address`, which may lead to it by a detour.
    pub fn multiaddr_at(&self, address: SocketAddr) -> String {
        let node = self.delivery.node().unwrap_or_else(|| panic!("the delivery has no node"));
        format!("/ip4/{}/tcp/{}/p2p/{}", address.ip(), address.port(), node.peer_id())
    }

    /// Stops it.
    pub async fn stop(self) {
        self.delivery.shutdown(Instant::now() + Duration::from_secs(2)).await;
        self.store.close().await;
    }
}

/// Puts a file's DAG into a store.
pub async fn add(store: &Store, file: &[u8], profile: Profile) -> Cid {
    let mut builder = FileBuilder::new(profile);
    let mut parts = file.chunks(1 << 20);
    loop {
        let part = parts.next();
        part.into_iter().for_each(|part| builder.push(part));
        let built = if part.is_none() { Some(builder.finish()) } else { None };
        while let Some(block) = builder.poll_block() {
            let hash = hash_of(&block.cid).unwrap_or_else(|e| panic!("the kit's own block: {e}"));
            let block = store.verifier().verify(hash, block.bytes).await.unwrap_or_else(|e| panic!("a block: {e}"));
            store.put(block).await.unwrap_or_else(|e| panic!("a block: {e}"));
        }
        if let Some(built) = built {
            return built.cid;
        }
    }
}
