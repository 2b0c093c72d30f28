//! The one BitTorrent DHT node (BEP 5) of an application: owned here, lent as handles that cannot stop it.
//!
//! The node itself is `librqbit_dht`. What this file adds is ownership: a start that fails when the port is taken, a
//! bootstrap list that may be empty, lookups that end with their reader, and a shutdown after which the port is free.
//!
//! Known limits of the library: nodes enter its table only by bootstrap answers, so there is no way to add one later;
//! an announce goes only to nodes whose id shares 16 bits with the infohash, and is kept only where it shares 20. In
//! the public network such nodes exist for every infohash; a small closed network needs one made so by
//! [`DhtOptions::node_id`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use futures_util::StreamExt;
use librqbit_dht::{DhtConfig, DhtState, Id20, RequestPeersStream};
use rand::RngExt;
use serde::Serialize;
use serde_json::json;
use swarmgate_content::InfoHash;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listener::{BindError, Binding, bind_udp};

/// Found peers that wait for their reader, in addresses; a slow reader loses later ones, the next round repeats them.
const FOUND_CAPACITY: usize = 256;
/// Nodes in each routing table; the library's own default. A full one makes lookups of 3 or 4 steps.
const ROUTING_TABLE_NODES: usize = 512;
/// How often shutdown looks whether the worker is gone. The library gives nothing to wait on.
const GONE_CHECK_INTERVAL: Duration = Duration::from_millis(1);
/// How long shutdown looks. The worker ends at its next poll, so this is passed only by a starved runtime.
const GONE_TIMEOUT: Duration = Duration::from_secs(5);

/// How to start a node.
#[derive(Debug, Clone)]
pub struct DhtOptions {
    /// The UDP socket; `[::]` takes IPv4 as well.
    pub address: SocketAddr,
    /// The configuration's key for the address, for errors.
    pub key: &'static str,
    /// Where to begin, as `host:port`. Empty: nobody is contacted, and the node begins a closed network by itself.
    pub bootstrap: Vec<String>,
    /// The node's id; random when `None`.
    pub node_id: Option<[u8; 20]>,
}

/// Why the node did not start.
#[derive(Debug, thiserror::Error)]
pub enum DhtError {
    /// Its socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The library.
    #[error("the DHT node did not start: {0}")]
    Start(String),
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
}

/// Owns the node. Dropping it stops the node some time later; [`Self::shutdown`] waits.
#[derive(Debug)]
pub struct DhtNode {
    state: Arc<DhtStateOpaque>,
    handle: DhtHandle,
    address: SocketAddr,
}

/// Borrows the node: looks peers up, reads statistics. Outliving the node is harmless.
#[derive(Debug, Clone)]
pub struct DhtHandle {
    state: Weak<DhtStateOpaque>,
    lookups: TaskTracker,
    stop: CancellationToken,
}

/// Peers of one torrent as they are found, again and again each minute, until dropped. Ends when the node stops.
#[derive(Debug)]
pub struct DhtPeers(mpsc::Receiver<SocketAddr>);

/// The library's state, which has no `Debug`.
struct DhtStateOpaque(Arc<DhtState>);

impl DhtNode {
    /// Binds the socket and starts the node.
    ///
    /// # Errors
    /// When the port is taken or the library refuses.
    pub async fn start(options: DhtOptions) -> Result<Self, DhtError> {
        let address = reserve(&options)?;
        let node_id = options.node_id.unwrap_or_else(|| rand::rng().random());
        let stop = CancellationToken::new();
        let mut config = DhtConfig {
            peer_id: Some(Id20::new(node_id)),
            listen_addr: Some(address),
            cancellation_token: Some(stop.clone()),
            ..DhtConfig::default()
        };
        if options.bootstrap.is_empty() && !address.ip().is_unspecified() {
            list_itself(&mut config, node_id, address);
        }
        // A bootstrap without one success ends the library's worker. Our own answer is a success, so a node without
        // bootstrap, or without network for a day, lives on.
        config.bootstrap_addrs = Some([vec![own_address(address).to_string()], options.bootstrap].concat());
        let state = DhtState::with_config(config).await.map_err(|error| DhtError::Start(error.to_string()))?;
        let state = Arc::new(DhtStateOpaque(state));
        let handle = DhtHandle { state: Arc::downgrade(&state), lookups: TaskTracker::new(), stop };
        Ok(Self { state, handle, address })
    }

    /// Where the node listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lends the node.
    #[must_use]
    pub fn handle(&self) -> DhtHandle {
        self.handle.clone()
    }

    /// Stops the node and returns when its lookups have ended and its socket is closed.
    pub async fn shutdown(self) {
        self.handle.stop.cancel();
        self.handle.lookups.close();
        self.handle.lookups.wait().await;
        // The worker closes its socket before it gives its reference up; so do the lookups' own tasks.
        let worker = Arc::downgrade(&self.state.0);
        drop(self);
        let gone = async {
            while worker.strong_count() > 0 {
                tokio::time::sleep(GONE_CHECK_INTERVAL).await;
            }
        };
        if tokio::time::timeout(GONE_TIMEOUT, gone).await.is_err() {
            tracing::warn!("the DHT node did not stop within {GONE_TIMEOUT:?}");
        }
    }
}

impl Drop for DhtNode {
    fn drop(&mut self) {
        self.handle.stop.cancel();
    }
}

impl DhtHandle {
    /// Looks a torrent's peers up, and announces us as one of them when a port is given.
    #[must_use]
    pub fn get_peers(&self, infohash: InfoHash, announce_port: Option<u16>) -> DhtPeers {
        let (sender, receiver) = mpsc::channel(FOUND_CAPACITY);
        if let Some(state) = self.state.upgrade().filter(|_| !self.stop.is_cancelled()) {
            let found = state.0.get_peers(Id20::new(*infohash.as_bytes()), announce_port);
            self.lookups.spawn(pump(found, sender, self.stop.clone()));
        }
        DhtPeers(receiver)
    }

    /// Reads the vital signs; `None` once the node has stopped.
    #[must_use]
    pub fn stats(&self) -> Option<DhtStats> {
        let stats = self.state.upgrade()?.0.stats();
        Some(DhtStats {
            nodes_v4: stats.routing_table_size,
            nodes_v6: stats.routing_table_size_v6,
            outstanding: stats.outstanding_requests,
        })
    }
}

/// Carries found peers from the library's unbounded queue to a bounded one, and holds the lookup while it is wanted.
async fn pump(mut found: RequestPeersStream, sender: mpsc::Sender<SocketAddr>, stop: CancellationToken) {
    loop {
        let peer = tokio::select! {
            () = stop.cancelled() => return,
            () = sender.closed() => return,
            peer = found.next() => peer,
        };
        match peer {
            Some(peer) if peer.port() != 0 => {
                // A full queue means that the reader has more peers than it can dial.
                let _ = sender.try_send(peer);
            }
            Some(_) => {}
            None => return,
        }
    }
}

/// Finds out whether the port is free, and which it is when any will do. The library shares its port with any other
/// socket that allows it (`SO_REUSEADDR`), which would leave each of two nodes with a part of the answers.
fn reserve(options: &DhtOptions) -> Result<SocketAddr, BindError> {
    let binding = Binding::new(options.address, options.key).dual_stack();
    let local = bind_udp(&binding)?.local_addr();
    local.map_err(|source| BindError { address: options.address, transport: "UDP", key: options.key, source })
}

/// The address under which the node reaches itself.
fn own_address(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, bound.port())
}

/// Puts the first node of a closed network into its own table: those that bootstrap from it learn nodes only by
/// table entries, so they would never learn this one. The table's type has no public name but is read from JSON.
fn list_itself(config: &mut DhtConfig<'_>, id: [u8; 20], address: SocketAddr) {
    let hex = Id20::new(id).as_string();
    let empty = json!({ "id": hex, "size": 0, "buckets": { "size": 0, "max_size": ROUTING_TABLE_NODES, "data": [{
        "bits": 160, "start": "00".repeat(20), "end_inclusive": "ff".repeat(20), "data": { "Leaf": { "nodes": [] } },
    }]}});
    let table = if address.is_ipv4() { &mut config.routing_table } else { &mut config.routing_table_v6 };
    *table = serde_json::from_value(empty).ok();
    match table {
        Some(table) => drop(table.add_node(Id20::new(id), address)),
        None => {
            tracing::warn!("the DHT library's table has changed its form; a closed network will not find this node")
        }
    }
}

impl Stream for DhtPeers {
    type Item = SocketAddr;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SocketAddr>> {
        self.0.poll_recv(cx)
    }
}

impl std::fmt::Debug for DhtStateOpaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DhtState")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use tokio::time::timeout;

    const TORRENT: [u8; 20] = [0x5a; 20];

    /// A node near the torrent, as the public network has for every torrent.
    fn near(bootstrap: &[SocketAddr]) -> DhtOptions {
        let mut id = TORRENT;
        id[19] ^= 1;
        DhtOptions { node_id: Some(id), ..anywhere(bootstrap) }
    }

    fn anywhere(bootstrap: &[SocketAddr]) -> DhtOptions {
        DhtOptions {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            key: "bittorrent.dht.listen",
            bootstrap: bootstrap.iter().map(ToString::to_string).collect(),
            node_id: None,
        }
    }

    async fn until(mut ready: impl FnMut() -> bool) {
        let wait = async {
            while !ready() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), wait).await.unwrap();
    }

    #[tokio::test]
    async fn what_one_node_announces_another_finds_through_a_third() {
        let first = DhtNode::start(near(&[])).await.unwrap();
        let seeder = DhtNode::start(anywhere(&[first.address()])).await.unwrap();
        let reader = DhtNode::start(anywhere(&[first.address()])).await.unwrap();
        let (lends, borrows) = (seeder.handle(), reader.handle());
        until(|| [&lends, &borrows].iter().all(|dht| dht.stats().unwrap().nodes_v4 == 1)).await;
        let _announced = lends.get_peers(InfoHash::new(TORRENT), Some(4000));
        let found = timeout(Duration::from_secs(5), async {
            loop {
                let mut peers = borrows.get_peers(InfoHash::new(TORRENT), None);
                if let Ok(Some(peer)) = timeout(Duration::from_millis(200), peers.next()).await {
                    return peer;
                }
            }
        });
        assert_eq!(found.await.unwrap(), SocketAddr::from(([127, 0, 0, 1], 4000)));
        for node in [reader, seeder, first] {
            node.shutdown().await;
        }
    }

    #[tokio::test]
    async fn twenty_starts_on_one_port_each_leave_it_free() {
        let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
        for _ in 0..20 {
            let node = DhtNode::start(DhtOptions { address, ..anywhere(&[]) }).await.unwrap();
            address = node.address();
            let mut held = node.handle().get_peers(InfoHash::new(TORRENT), Some(1));
            node.shutdown().await;
            // This bind asks for the port alone, so it fails while any socket is left.
            UdpSocket::bind(address).unwrap();
            assert_eq!(held.next().await, None);
        }
    }

    #[tokio::test]
    async fn a_node_without_bootstrap_lives_and_answers() {
        let node = DhtNode::start(anywhere(&[])).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", node.address()).await.unwrap();
        let mut answer = [0; 512];
        timeout(Duration::from_secs(2), client.recv_from(&mut answer)).await.unwrap().unwrap();
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_taken_port_fails_the_start_with_its_key() {
        let node = DhtNode::start(anywhere(&[])).await.unwrap();
        let again = DhtOptions { address: node.address(), ..anywhere(&[]) };
        let error = DhtNode::start(again).await.unwrap_err().to_string();
        assert!(error.contains("bittorrent.dht.listen") && error.contains("in use"), "{error}");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_dropped_lookup_ends_its_task_and_a_handle_outlives_the_node() {
        let node = DhtNode::start(anywhere(&[])).await.unwrap();
        let handle = node.handle();
        drop(handle.get_peers(InfoHash::new(TORRENT), None));
        until(|| handle.lookups.is_empty()).await;
        node.shutdown().await;
        assert_eq!(handle.stats(), None);
        assert_eq!(handle.get_peers(InfoHash::new(TORRENT), None).next().await, None);
    }
}
