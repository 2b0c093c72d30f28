//! The one BitTorrent DHT node of an application: owned here, lent as handles that cannot stop it.
//!
//! What to say and to whom is decided by [`swarmgate_bittorrent_proto::dht`]. This is the shell around it: one socket
//! (`[::]` takes both families), a task that carries datagrams, one that resolves the bootstrap hosts while nobody is
//! known, and one that saves what a restart should not lose. The machine is behind a lock that is held for the time of
//! a datagram and never across a wait.
//!
//! Datagrams that are not KRPC (they begin with another byte than `d`) are handed to [`DhtOptions::others`], so that
//! uTP or UDP trackers can share the port; they send by [`DhtHandle::send_other`].

mod carry;
mod items;
mod records;
mod shared;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use serde::Serialize;
use swarmgate_bittorrent_proto::dht::{JobId, Node, NodeId, NodeOptions};
use swarmgate_content::InfoHash;
use swarmgate_store::Store;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::listener::{BindError, Binding, bind_udp};
use shared::Shared;

pub use items::{LookupError, Stored};

/// Found peers that wait for their reader, in addresses; a slow reader loses later ones, the next round repeats them.
const FOUND_CAPACITY: usize = 256;

/// How to start a node.
#[derive(Debug, Clone)]
pub struct DhtOptions {
    /// The UDP socket; `[::]` takes IPv4 as well.
    pub address: SocketAddr,
    /// The configuration's key for the address, for errors.
    pub key: &'static str,
    /// Where to begin, as `host:port`. Empty: nobody is contacted, and the node begins a closed network by itself.
    pub bootstrap: Vec<String>,
    /// The node's id; otherwise ids that suit its addresses are made as these become known (BEP 42).
    pub node_id: Option<[u8; 20]>,
    /// Whether the node only asks and does not answer (BEP 43): for what runs a moment, or cannot be reached.
    pub read_only: bool,
    /// Where the nodes known and the items kept are saved; otherwise they are forgotten at the end.
    pub store: Option<Store>,
    /// Who takes datagrams that are not the DHT's; those for which there is no room are dropped.
    pub others: Option<mpsc::Sender<Datagram>>,
}

/// A datagram that is not the DHT's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came from.
    pub from: SocketAddr,
    /// All of it.
    pub bytes: Bytes,
}

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum DhtError {
    /// Its socket.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// The node's vital signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DhtStats {
    /// IPv4 nodes known.
    pub nodes_v4: usize,
    /// IPv6 nodes known.
    pub nodes_v6: usize,
    /// Queries that wait for an answer.
    pub outstanding: usize,
    /// Queries of others that were answered.
    pub answered: u64,
    /// Queries of others that were left unanswered because they came too often.
    pub limited: u64,
    /// Lookups that reached somebody.
    pub lookups: u64,
    /// Times that a node took an announce or an item of ours.
    pub stored: u64,
    /// Torrents that are sought and items that are kept.
    pub jobs: usize,
}

/// Owns the node. Dropping it stops the node some time later; [`Self::shutdown`] waits.
#[derive(Debug)]
pub struct DhtNode {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    address: SocketAddr,
}

/// Borrows the node: looks up, announces, stores, reads statistics. Outliving the node is harmless.
#[derive(Debug, Clone)]
pub struct DhtHandle(Weak<Shared>);

/// Peers of one torrent as they are found, again and again, until dropped. Ends when the node stops.
#[derive(Debug)]
pub struct DhtPeers {
    found: mpsc::Receiver<SocketAddr>,
    job: Option<JobId>,
    shared: Weak<Shared>,
}

impl DhtNode {
    /// Binds the socket and starts the node.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(options: DhtOptions) -> Result<Self, DhtError> {
        let binding = Binding::new(options.address, options.key).dual_stack();
        let socket = bind_udp(&binding)?;
        let address = socket.local_addr().map_err(|source| binding.error("UDP", source))?;
        let (v4, v6) = families(address.ip());
        let tables = records::load_tables(options.store.as_ref()).await;
        let node_id = options.node_id.map(NodeId::new);
        let machine = NodeOptions { v4, v6, node_id, read_only: options.read_only, seed: rand::random() };
        let mut node = Node::new(Instant::now(), &machine, tables.as_ref());
        records::load_items(options.store.as_ref(), &mut node).await;
        let shared = Arc::new(Shared::new(node, socket, address, options));
        let tasks = TaskTracker::new();
        tasks.spawn(carry::run(shared.clone()));
        tasks.spawn(carry::introduce(shared.clone()));
        tasks.spawn(records::save_regularly(shared.clone()));
        tasks.close();
        Ok(Self { shared, tasks, address })
    }

    /// Where the node listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lends the node.
    #[must_use]
    pub fn handle(&self) -> DhtHandle {
        DhtHandle(Arc::downgrade(&self.shared))
    }

    /// Stops the node, saves what it knows, and returns when its socket is closed.
    pub async fn shutdown(self) {
        self.shared.stop();
        self.tasks.wait().await;
        records::save(&self.shared).await;
    }
}

impl Drop for DhtNode {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl DhtHandle {
    /// Looks a torrent's peers up, and announces us as one of them when a port is given, until what is returned is
    /// dropped: in the first seconds, and then at growing intervals of at most 15 minutes.
    #[must_use]
    pub fn get_peers(&self, infohash: InfoHash, announce_port: Option<u16>) -> DhtPeers {
        let (sender, found) = mpsc::channel(FOUND_CAPACITY);
        let job = self.shared().and_then(|shared| shared.seek(infohash, announce_port, sender));
        DhtPeers { found, job, shared: self.0.clone() }
    }

    /// Has a node introduced that somebody named: a peer's (BEP 5 `port`), or a host of the operator's.
    pub fn add_node(&self, address: SocketAddr) {
        if let Some(shared) = self.shared() {
            shared.tell(|node, now| node.add_node(now, address));
        }
    }

    /// Reads the vital signs; `None` once the node has stopped.
    #[must_use]
    pub fn stats(&self) -> Option<DhtStats> {
        let counters = self.shared()?.counters();
        Some(DhtStats {
            nodes_v4: counters.nodes_v4,
            nodes_v6: counters.nodes_v6,
            outstanding: counters.outstanding,
            answered: counters.answered,
            limited: counters.limited,
            lookups: counters.lookups,
            stored: counters.stored,
            jobs: counters.jobs,
        })
    }

    /// Sends a datagram of another protocol from the node's port.
    ///
    /// # Errors
    /// What the system says; `WouldBlock` when it has no room, `NotConnected` once the node has stopped.
    pub fn send_other(&self, to: SocketAddr, bytes: &[u8]) -> std::io::Result<usize> {
        let shared = self.shared().ok_or(std::io::ErrorKind::NotConnected)?;
        shared.try_send(to, bytes)
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.0.upgrade().filter(|shared| !shared.is_stopped())
    }
}

impl Stream for DhtPeers {
    type Item = SocketAddr;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SocketAddr>> {
        self.found.poll_recv(cx)
    }
}

impl Drop for DhtPeers {
    fn drop(&mut self) {
        if let (Some(job), Some(shared)) = (self.job, self.shared.upgrade()) {
            shared.withdraw(job);
        }
    }
}

/// The networks that a socket at this address is in.
const fn families(ip: IpAddr) -> (bool, bool) {
    match ip {
        IpAddr::V4(_) => (true, false),
        IpAddr::V6(ip) => (ip.is_unspecified(), true),
    }
}

#[cfg(test)]
mod tests;
