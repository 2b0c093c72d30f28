//! The IPFS node: a libp2p host that is made once, our Bitswap on it, and the DHT.
//!
//! ```no_run
//! # async fn doc(store: swarmgate_store::Store, want: swarmgate_ipfs::source::Want) -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//! use swarmgate_ipfs::node::{Node, NodeOptions, Shelf};
//! use swarmgate_ipfs::source::BlockSource;
//!
//! let options = NodeOptions { listen: vec!["/ip4/0.0.0.0/tcp/4001".parse()?], ..NodeOptions::default() };
//! let identity = libp2p::identity::Keypair::generate_ed25519();
//! let node = Node::start(options, identity, Shelf { store, may_serve: Arc::new(|_| true) }).await?;
//! let block = node.fetch(want).await?;
//! node.shutdown(Instant::now() + Duration::from_secs(5)).await;
//! # Ok(()) }
//! ```
//!
//! # Who does what?
//!
//! | file | is |
//! |---|---|
//! | `options` | what an operator decides |
//! | `tcp`, `transport`, `host` | libp2p: how connections are made, which protocols they carry |
//! | `bitswap` | messages on streams, in the task of each connection |
//! | `actor` | the one task that drives the machines of `swarmgate_ipfs_proto::bitswap`, and what the DHT is told |
//! | `mailbox` | what is told to it without waiting |
//!
//! # Why does the node find no providers by itself?
//! Because it is one source of several: whoever reads a DAG asks every [`Router`] at once, and tells the sources that can
//! use what they find. The node keeps what it was told for as long as the session lasts, and dials again when nobody
//! connected has a block.
//!
//! # What is served?
//! What is in the store and [`Shelf::may_serve`] allows. The store is shared by all networks, and pieces of private
//! torrents are nobody else's business, so the answer is not the node's to give. A peer that wants what is not here gets
//! it when it comes: whoever puts blocks into the store says so ([`Node::block_added`]).
//!
//! # What does the DHT know of us?
//! The roots that are kept ([`BlockSource::kept`]) and that peers may have, where the node takes part in a DHT; each is
//! announced when it is first told of, and every 22 hours.

mod actor;
mod bitswap;
mod host;
mod mailbox;
mod options;
mod tcp;
mod transport;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use libp2p::core::multiaddr::Protocol;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId, Swarm};
use parking_lot::Mutex;
use swarmgate_content::{Attempt, BlockHash, BoxFuture, Cid, FailureClass, VerifiedBytes};
use swarmgate_ipfs_proto::bitswap::client::MAX_WANTS;
use swarmgate_ipfs_proto::bitswap::{ClientStats, ServerStats, Version};
use swarmgate_ipfs_proto::ipns::{Name, NameError};
use swarmgate_store::Store;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::source::{BlockSource, Provider, Router, SessionId, SourceError, Want};
use actor::{Actor, Attempts, Command, Ears, MAX_ADDRESSES};
use bitswap::INBOX_MESSAGES;
use host::{Host, Tasks};
use mailbox::{Mailbox, Note, WaiterId};

pub use options::{KadMode, NodeOptions};

/// Commands that wait for the node. Who has more to ask waits.
const COMMANDS: usize = 256;
/// Providers that wait for who searches them.
const FOUND_PROVIDERS: usize = 64;

/// The blocks that are here, and which of them others may have.
#[derive(Clone)]
pub struct Shelf {
    /// Where blocks are.
    pub store: Store,
    /// Whether a block may be served to strangers: not what is denied, nor what belongs to a private torrent.
    pub may_serve: Arc<dyn Fn(&Cid) -> bool + Send + Sync>,
}

/// A socket that the node listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenSocket {
    /// Where it is bound.
    pub address: SocketAddr,
    /// Whether it is QUIC's, so UDP; else it is TCP's.
    pub quic: bool,
}

/// A peer that speaks Bitswap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Who.
    pub id: PeerId,
    /// What it speaks.
    pub version: Version,
    /// Bytes asked of it and not there, by estimate.
    pub asked_bytes: u64,
    /// How many blocks it wants of us.
    pub wants: usize,
}

/// What the node is doing, and what it did.
#[derive(Debug, Clone, Copy, Default)]
pub struct NodeStats {
    /// Peers that speak Bitswap.
    pub peers: usize,
    /// Connections, of any kind of peer.
    pub connections: u32,
    /// Blocks that are wanted.
    pub wanted: usize,
    /// Peers that are refused for a while.
    pub banned: usize,
    /// Times that the DHT was told of a root that is kept here.
    pub announced: u64,
    /// What was asked for.
    pub client: ClientStats,
    /// What was served.
    pub server: ServerStats,
}

/// Why the node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key cannot sign what connections need.
    #[error("the node's key cannot be used: {source}")]
    Key {
        /// What the handshakes' libraries said.
        source: std::io::Error,
    },
    /// The DHT's protocol name does not begin with `/`.
    #[error("`{0}` is no protocol name")]
    KadProtocol(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system said.
        reason: String,
    },
}

/// Why an address was not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// It was dialled, or could not be.
    #[error("{0}")]
    Failed(String),
    /// Too many others wait for a connection.
    #[error("too many connections are being made")]
    Busy,
    /// The node has stopped.
    #[error("the IPFS node has stopped")]
    Stopped,
}

/// What the node's task shows.
#[derive(Debug, Default)]
struct Shared {
    stats: Mutex<NodeStats>,
    listeners: Mutex<Vec<Multiaddr>>,
    attempts: Arc<Attempts>,
    /// Whether any peer wants a block that it was not sent. It is set before what is wanted is looked up in the store,
    /// so that whoever puts a block there and finds it unset has put it there in time.
    awaited: AtomicBool,
}

/// A running node. See the head of this module. Dropping it stops it too, but waits for nothing.
pub struct Node {
    peer: PeerId,
    sockets: Vec<ListenSocket>,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    commands: mpsc::Sender<Command>,
    /// A fetch holds one for as long as it is under way.
    wants: Semaphore,
    next_waiter: AtomicU64,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    tasks: Tasks,
}

/// A fetch that leaves word when it is dropped before it is met.
struct Waiting<'a> {
    id: WaiterId,
    mailbox: &'a Mailbox,
    met: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.met {
            self.mailbox.leave(Note::Dropped(self.id));
        }
    }
}

fn stopped() -> SourceError {
    SourceError { class: FailureClass::Local, detail: ConnectError::Stopped.to_string() }
}

impl Node {
    /// Makes the host, binds what it listens on, and begins. Belongs to the runtime it is called in.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is bound and nothing runs.
    pub async fn start(options: NodeOptions, identity: Keypair, shelf: Shelf) -> Result<Self, StartError> {
        let (inbox, reports) = mpsc::channel(INBOX_MESSAGES);
        let (commands, requests) = mpsc::channel(COMMANDS);
        let tasks = Tasks::new();
        let mut swarm = host::make(&options, &identity, inbox, tasks.clone())?;
        let sockets = host::listen(&mut swarm, &options.listen).await?;
        host::proclaim(&mut swarm, options.egress);
        begin_dht(&mut swarm, &options.bootstrap);
        let shared = Arc::new(Shared::default());
        *shared.listeners.lock() = host::listeners(&swarm);
        let (mailbox, stop) = (Arc::new(Mailbox::default()), CancellationToken::new());
        let ears = Ears { commands: requests, inbox: reports, stop: stop.clone() };
        let actor = Actor::new(swarm, ears, Arc::clone(&shared), Arc::clone(&mailbox), shelf, &options);
        let peer = identity.public().to_peer_id();
        tracing::info!(%peer, ?sockets, "the IPFS node is up");
        Ok(Self {
            peer,
            sockets,
            shared,
            mailbox,
            commands,
            wants: Semaphore::new(MAX_WANTS),
            next_waiter: AtomicU64::new(0),
            stop,
            task: Mutex::new(Some(tokio::spawn(actor.run()))),
            tasks,
        })
    }

    /// Who we are to others.
    #[must_use]
    pub const fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// The sockets that are bound, in the order of [`NodeOptions::listen`].
    #[must_use]
    pub fn sockets(&self) -> &[ListenSocket] {
        &self.sockets
    }

    /// The addresses that are listened on, each interface's of a socket that is bound to all; sorted.
    #[must_use]
    pub fn listeners(&self) -> Vec<Multiaddr> {
        self.shared.listeners.lock().clone()
    }

    /// What the node is doing, and what it did.
    #[must_use]
    pub fn stats(&self) -> NodeStats {
        *self.shared.stats.lock()
    }

    /// The peers that speak Bitswap; none when the node has stopped.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        let (reply, peers) = oneshot::channel();
        if self.commands.send(Command::Peers { reply }).await.is_err() {
            return Vec::new();
        }
        peers.await.unwrap_or_default()
    }

    /// Connects to an address, with the peer's id at its end or without.
    ///
    /// # Errors
    /// When nobody answers there, somebody else does, or the policy forbids to dial it.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ConnectError> {
        let (reply, connected) = oneshot::channel();
        let sent = self.commands.send(Command::Connect { address, reply }).await;
        sent.map_err(|_| ConnectError::Stopped)?;
        connected.await.unwrap_or(Err(ConnectError::Stopped))
    }

    /// A block is in the store now: peers that wait for it get it. Costs no more than a look when no peer waits for
    /// anything.
    pub fn block_added(&self, hash: BlockHash) {
        if self.shared.awaited.load(Ordering::SeqCst) {
            self.mailbox.leave(Note::Added(hash));
        }
    }

    /// Closes all connections and sockets, and returns when every task has ended; what has not by the deadline is
    /// dropped where it stands. Fetches under way fail. Stopping again does nothing.
    pub async fn shutdown(&self, deadline: Instant) {
        let deadline = tokio::time::Instant::from_std(deadline);
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task
            && tokio::time::timeout_at(deadline, &mut task).await.is_err()
        {
            task.abort();
            let _aborted = task.await;
        }
        self.tasks.end(deadline).await;
        host::wait_released(&self.sockets, deadline).await;
    }

    async fn wait_for(&self, want: Want) -> Result<VerifiedBytes, SourceError> {
        if let Some(inline) = VerifiedBytes::inline(&want.cid) {
            return Ok(inline);
        }
        let _one_of_many = self.wants.acquire().await.map_err(|_| stopped())?;
        let (reply, block) = oneshot::channel();
        let id = WaiterId(self.next_waiter.fetch_add(1, Ordering::Relaxed));
        let mut waiting = Waiting { id, mailbox: &self.mailbox, met: false };
        self.commands.send(Command::Fetch { id, want: Box::new(want), reply }).await.map_err(|_| stopped())?;
        let block = block.await.unwrap_or_else(|_| Err(stopped()));
        waiting.met = true;
        block
    }
}

fn begin_dht(swarm: &mut Swarm<Host>, bootstrap: &[Multiaddr]) {
    let Some(dht) = swarm.behaviour_mut().kad.as_mut() else { return };
    for address in bootstrap {
        let mut bare = address.clone();
        match bare.pop() {
            Some(Protocol::P2p(peer)) => {
                dht.add_address(&peer, bare);
            }
            Some(_) | None => tracing::warn!(%address, "a bootstrap address lacks its peer id and is left out"),
        }
    }
    // Without anybody to begin with, there is nothing to do until somebody connects.
    let _nobody = dht.bootstrap();
}

impl BlockSource for Node {
    fn name(&self) -> &'static str {
        "bitswap"
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        let deadline = tokio::time::Instant::from_std(want.deadline);
        let late = || SourceError { class: FailureClass::Neutral, detail: "no peer delivered it in time".to_owned() };
        let block = self.wait_for(want);
        Box::pin(async move { tokio::time::timeout_at(deadline, block).await.unwrap_or_else(|_| Err(late())) })
    }

    fn provider(&self, session: SessionId, provider: &Provider) {
        if let Provider::Peer { id, addrs } = provider {
            let addresses = addrs.iter().take(MAX_ADDRESSES).cloned().collect();
            self.mailbox.leave(Note::Provider(session, *id, addresses));
        }
    }

    fn end_session(&self, session: SessionId) {
        self.mailbox.leave(Note::Ended(session));
    }

    fn landed(&self, hash: &BlockHash) {
        self.block_added(*hash);
    }

    fn kept(&self, root: &Cid) {
        self.mailbox.leave(Note::Kept(*root));
    }

    fn let_go(&self, root: &Cid) {
        self.mailbox.leave(Note::LetGo(*root));
    }

    fn attempts(&self, session: SessionId) -> Vec<Attempt> {
        self.shared.attempts.of(session)
    }
}

impl Router for Node {
    fn name(&self) -> &'static str {
        "dht"
    }

    fn providers<'a>(
        &'a self,
        cid: &'a Cid,
        found: &'a (dyn Fn(Provider) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            let (tell, mut told) = mpsc::channel(FOUND_PROVIDERS);
            let command = Command::Providers { key: cid.hash().to_bytes(), found: tell };
            self.commands.send(command).await.map_err(|_| stopped())?;
            while let Some(provider) = told.recv().await {
                found(provider?);
            }
            Ok(())
        })
    }

    fn ipns_record<'a>(&'a self, name: &'a Cid) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        Box::pin(async move {
            let no_name = |error: NameError| SourceError { class: FailureClass::Neutral, detail: error.to_string() };
            let name = Name::from_cid(name).map_err(no_name)?;
            let (reply, record) = oneshot::channel();
            self.commands.send(Command::Record { name, reply }).await.map_err(|_| stopped())?;
            record.await.unwrap_or_else(|_| Err(stopped()))
        })
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("store", &self.store).finish_non_exhaustive()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("peer", &self.peer).field("sockets", &self.sockets).finish_non_exhaustive()
    }
}
