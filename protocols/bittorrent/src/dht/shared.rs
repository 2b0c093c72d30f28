//! What the node's tasks and its borrowers share: the machine, and who waits for what of it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::dht::{Counters, Event, Item, JobId, Node, SearchId, Transmit};
use swarmgate_content::InfoHash;
use swarmgate_store::Store;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::items::Stored;
use super::{Datagram, DhtOptions};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    socket: Mutex<Option<Arc<UdpSocket>>>,
    v6_socket: bool,
    /// Rung when the machine was told something and may have something to send.
    pub(super) wake: Notify,
    /// Rung when nobody is known.
    pub(super) lonely: Notify,
    pub(super) stop: CancellationToken,
    pub(super) bootstrap: Vec<String>,
    pub(super) store: Option<Store>,
    pub(super) others: Option<mpsc::Sender<Datagram>>,
}

#[derive(Debug)]
struct Inner {
    node: Node,
    peers: BTreeMap<JobId, mpsc::Sender<SocketAddr>>,
    got: BTreeMap<SearchId, oneshot::Sender<Option<Item>>>,
    stored: BTreeMap<SearchId, oneshot::Sender<Stored>>,
}

/// What the machine wants done.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) transmits: Vec<Transmit>,
    pub(super) wake_at: Option<Instant>,
}

impl Shared {
    pub(super) fn new(node: Node, socket: UdpSocket, address: SocketAddr, options: DhtOptions) -> Self {
        let inner = Inner { node, peers: BTreeMap::new(), got: BTreeMap::new(), stored: BTreeMap::new() };
        Self {
            inner: Mutex::new(inner),
            socket: Mutex::new(Some(Arc::new(socket))),
            v6_socket: address.is_ipv6(),
            wake: Notify::new(),
            lonely: Notify::new(),
            stop: CancellationToken::new(),
            bootstrap: options.bootstrap,
            store: options.store,
            others: options.others,
        }
    }

    /// Does something with the machine; the task that carries datagrams looks after what follows.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        act(&mut self.inner.lock().node, Instant::now())
    }

    /// Does something with the machine and wakes the task that carries datagrams.
    pub(super) fn tell<T>(&self, act: impl FnOnce(&mut Node, Instant) -> T) -> T {
        let result = self.with(act);
        self.wake.notify_one();
        result
    }

    /// Reads from the machine.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Node) -> T) -> T {
        read(&self.inner.lock().node)
    }

    pub(super) fn counters(&self) -> Counters {
        self.read(Node::counters)
    }

    pub(super) fn seek(
        &self,
        infohash: InfoHash,
        announce_port: Option<u16>,
        sender: mpsc::Sender<SocketAddr>,
    ) -> Option<JobId> {
        let mut inner = self.inner.lock();
        let job = inner.node.seek(Instant::now(), infohash, announce_port)?;
        inner.peers.insert(job, sender);
        drop(inner);
        self.wake.notify_one();
        Some(job)
    }

    pub(super) fn withdraw(&self, job: JobId) {
        let mut inner = self.inner.lock();
        inner.node.withdraw(job);
        inner.peers.remove(&job);
    }

    /// Begins a lookup and says who waits for it.
    pub(super) fn get(
        &self,
        begin: impl FnOnce(&mut Node, Instant) -> Option<SearchId>,
        sender: oneshot::Sender<Option<Item>>,
    ) -> Option<SearchId> {
        let mut inner = self.inner.lock();
        let search = begin(&mut inner.node, Instant::now())?;
        inner.got.insert(search, sender);
        drop(inner);
        self.wake.notify_one();
        Some(search)
    }

    pub(super) fn put(&self, item: Item, cas: Option<i64>, sender: oneshot::Sender<Stored>) -> Option<SearchId> {
        let mut inner = self.inner.lock();
        let search = inner.node.put(Instant::now(), item, cas)?;
        inner.stored.insert(search, sender);
        drop(inner);
        self.wake.notify_one();
        Some(search)
    }

    pub(super) fn cancel(&self, search: SearchId) {
        let mut inner = self.inner.lock();
        inner.node.cancel(search);
        inner.got.remove(&search);
        inner.stored.remove(&search);
    }

    /// Tells everybody what they wait for, and what is to be sent.
    pub(super) fn settle(&self) -> Wanted {
        let mut inner = self.inner.lock();
        while let Some(event) = inner.node.poll_event() {
            match event {
                Event::Peer(job, peer) => {
                    if let Some(reader) = inner.peers.get(&job) {
                        // A full queue means that the reader has more peers than it can dial.
                        let _ = reader.try_send(peer);
                    }
                }
                Event::Got(search, item) => {
                    // Whoever waited may have left, here as below.
                    let _ = inner.got.remove(&search).map(|reader| reader.send(item));
                }
                Event::Stored { search, nodes, newer } => {
                    let _ = inner.stored.remove(&search).map(|reader| reader.send(Stored { nodes, newer }));
                }
                // It is saved with all others.
                Event::Newer(item) => tracing::debug!(target = %item.target(), "a kept item has a later version"),
                Event::Lonely => self.lonely.notify_one(),
            }
        }
        let transmits = std::iter::from_fn(|| inner.node.poll_transmit()).collect();
        let wake_at = inner.node.poll_timeout().map(|(at, _)| at);
        Wanted { transmits, wake_at }
    }

    /// The socket, until the node has stopped.
    pub(super) fn socket(&self) -> Option<Arc<UdpSocket>> {
        self.socket.lock().clone()
    }

    /// The form of an address that the socket sends to: IPv4 goes through a socket of IPv6 mapped.
    pub(super) fn destination(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.v6_socket => SocketAddr::new(ip.to_ipv6_mapped().into(), to.port()),
            IpAddr::V4(_) | IpAddr::V6(_) => to,
        }
    }

    pub(super) fn try_send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<usize> {
        let socket = self.socket().ok_or(io::ErrorKind::NotConnected)?;
        socket.try_send_to(bytes, self.destination(to))
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Ends the tasks and every reader's stream.
    pub(super) fn stop(&self) {
        self.stop.cancel();
        let mut inner = self.inner.lock();
        inner.peers.clear();
        inner.got.clear();
        inner.stored.clear();
        drop(inner);
        drop(self.socket.lock().take());
    }
}
