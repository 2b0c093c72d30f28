//! The node's task: one loop that hands what happens to the machines, and what the machines say to whom it concerns.
//!
//! What wakes it: the swarm, the inbox of all connections, commands, notes, blocks read for peers, and the machines'
//! own times. After each of these both machines are drained. It never waits for anything else: messages go to bounded
//! outboxes, blocks to whoever waits for one, and a peer that takes nothing is let go.

mod announcer;
mod announcing;
mod bans;
mod lookups;
mod network;
mod peers;
mod readers;
mod sessions;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use libp2p::futures::StreamExt;
use libp2p::{Multiaddr, PeerId, Swarm};
use swarmgate_content::{BlockHash, Cid, FailureClass, VerifiedBytes};
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs_proto::bitswap::{Client, ClientEvent, PeerKey, Server, ServerEvent, SessionKey};
use swarmgate_ipfs_proto::ipns::Name;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::bitswap::{Errand, Report, What};
use super::host::Host;
use super::mailbox::{Mailbox, Note, WaiterId};
use super::options::NodeOptions;
use super::{ConnectError, NodeStats, PeerStatus, Shared, Shelf};
use crate::source::{Provider, SessionId, SourceError, Want};

use announcer::Announcer;
pub(super) use announcer::MAX_ANNOUNCED;
use bans::Bans;
use lookups::Lookups;
use network::Connects;
use peers::{Peer, Peers};
use readers::Readers;
pub(super) use readers::Reply;
use sessions::Sessions;
pub(super) use sessions::{Attempts, MAX_ADDRESSES};

/// When nothing is due, the next look at the clock.
const NOTHING_DUE: Duration = Duration::from_secs(3600);
/// Reports taken from the inbox in a row, before anything else has its turn.
const REPORTS_AT_ONCE: usize = 8;

/// What the node's handle asks for.
#[derive(Debug)]
pub(super) enum Command {
    Fetch {
        id: WaiterId,
        want: Box<Want>,
        reply: Reply,
    },
    Connect {
        address: Multiaddr,
        reply: oneshot::Sender<Result<PeerId, ConnectError>>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerStatus>>,
    },
    /// Providers of a multihash.
    Providers {
        key: Vec<u8>,
        found: mpsc::Sender<Result<Provider, SourceError>>,
    },
    Record {
        name: Name,
        reply: oneshot::Sender<Result<Bytes, SourceError>>,
    },
}

/// Where the actor hears from.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) inbox: mpsc::Receiver<Report>,
    pub(super) stop: CancellationToken,
}

/// A block that was read for a peer.
type BlockRead = (PeerKey, Cid, Option<VerifiedBytes>);

/// Everything that the node's task owns.
pub(super) struct Actor {
    swarm: Swarm<Host>,
    ears: Ears,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    shelf: Shelf,
    ban: Duration,
    egress: EgressPolicy,
    client: Client,
    server: Server,
    peers: Peers,
    readers: Readers,
    sessions: Sessions,
    lookups: Lookups,
    announcer: Announcer,
    connects: Connects,
    bans: Bans,
    reads: JoinSet<BlockRead>,
}

impl Actor {
    pub(super) fn new(
        swarm: Swarm<Host>,
        ears: Ears,
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        shelf: Shelf,
        options: &NodeOptions,
    ) -> Self {
        let sessions = Sessions::new(Arc::clone(&shared.attempts));
        Self {
            swarm,
            ears,
            shared,
            mailbox,
            shelf,
            ban: options.ban,
            egress: options.egress,
            client: Client::new(options.client),
            server: Server::new(options.server),
            peers: Peers::default(),
            readers: Readers::default(),
            sessions,
            lookups: Lookups::default(),
            announcer: Announcer::new(rand::random()),
            connects: Connects::default(),
            bans: Bans::default(),
            reads: JoinSet::new(),
        }
    }

    /// Runs until it is told to stop, or nobody has the node any more.
    pub(super) async fn run(mut self) {
        loop {
            let due = tokio::time::Instant::from_std(self.next_due());
            tokio::select! {
                () = self.ears.stop.cancelled() => break,
                command = self.ears.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                event = self.swarm.select_next_some() => self.on_swarm_event(event),
                Some(report) = self.ears.inbox.recv() => self.on_reports(report),
                () = self.mailbox.left() => self.on_notes(),
                Some(read) = self.reads.join_next() => self.on_read(read.ok()),
                () = tokio::time::sleep_until(due) => self.on_due(),
            }
            self.drain();
        }
        self.reads.shutdown().await;
    }

    fn next_due(&self) -> Instant {
        let machine = self.client.poll_timeout().map(|(at, _)| at);
        let times = machine.into_iter().chain(self.bans.next_end()).chain(self.announcer.next_due());
        times.min().unwrap_or_else(|| Instant::now() + NOTHING_DUE)
    }

    fn on_due(&mut self) {
        let now = Instant::now();
        self.client.handle_timeout(now);
        for peer in self.bans.take_ended(now) {
            self.swarm.behaviour_mut().banned.unblock_peer(peer);
        }
        self.announce(now);
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Fetch { id, want, reply } => self.fetch(id, &want, reply),
            Command::Connect { address, reply } => self.connect(address, reply),
            Command::Peers { reply } => {
                let _gone = reply.send(self.peers.iter().map(|peer| self.status_of(peer)).collect());
            }
            Command::Providers { key, found } => {
                self.lookups.find_providers(self.swarm.behaviour_mut().kad.as_mut(), &key, found);
            }
            Command::Record { name, reply } => {
                self.lookups.find_record(self.swarm.behaviour_mut().kad.as_mut(), name, reply);
            }
        }
    }

    fn status_of(&self, peer: &Peer) -> PeerStatus {
        PeerStatus {
            id: peer.id,
            version: peer.version,
            asked_bytes: self.client.outstanding_bytes(peer.key),
            wants: self.server.wanted_by(peer.key),
        }
    }

    fn fetch(&mut self, id: WaiterId, want: &Want, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        self.begin_session(want.session);
        let (now, session) = (Instant::now(), SessionKey(want.session.0));
        let refused = self.client.want(now, session, want.cid, want.priority, want.expected_len).err();
        match (refused, BlockHash::from_cid(&want.cid)) {
            (None, Some(hash)) => self.readers.add(id, want.session, want.cid, hash, reply),
            (refused, _) => {
                let detail = refused.map_or_else(|| "the block has no hash".to_owned(), |refused| refused.to_string());
                let _gone = reply.send(Err(SourceError { class: FailureClass::Neutral, detail }));
            }
        }
    }

    fn begin_session(&mut self, session: SessionId) {
        if let Some(forgotten) = self.sessions.begin(session) {
            tracing::debug!(session = forgotten.0, "too many sessions: the oldest is ended");
            self.end_session(forgotten);
        }
    }

    fn end_session(&mut self, session: SessionId) {
        self.sessions.end(session);
        self.client.end_session(Instant::now(), SessionKey(session.0));
        let detail = "the reading has ended".to_owned();
        self.readers.end_session(session, &SourceError { class: FailureClass::Neutral, detail });
    }

    fn on_notes(&mut self) {
        for note in self.mailbox.take() {
            match note {
                Note::Dropped(waiter) => {
                    if let Some((session, cid)) = self.readers.drop_one(waiter) {
                        self.client.cancel(Instant::now(), SessionKey(session.0), &cid);
                    }
                }
                Note::Ended(session) => self.end_session(session),
                Note::Provider(session, peer, addresses) => self.on_provider(session, peer, addresses),
                Note::Added(hash) => self.server.on_block_added(hash),
                Note::Kept(root) => self.on_kept(&root),
                Note::LetGo(root) => self.on_let_go(&root),
            }
        }
    }

    fn on_reports(&mut self, first: Report) {
        self.on_report(first);
        for _ in 1..REPORTS_AT_ONCE {
            let Ok(report) = self.ears.inbox.try_recv() else { return };
            self.on_report(report);
        }
    }

    fn on_report(&mut self, Report { peer, connection, what }: Report) {
        let now = Instant::now();
        if self.bans.contains(&peer) {
            return;
        }
        if let What::Speaks(version) = what {
            return self.join(peer, connection, version);
        }
        let Some(known) = self.peers.get(&peer) else { return };
        match what {
            What::Message(message) => {
                let (wants, blocks) = (message.wantlist.len(), message.blocks.len());
                tracing::trace!(%peer, wants, blocks, presences = message.presences.len(), "heard");
                if wants > 0 {
                    self.shared.awaited.store(true, Ordering::SeqCst);
                }
                self.server.handle_message(known.key, &message);
                self.client.handle_message(now, known.key, message);
            }
            What::Progress => self.client.on_bytes(now, known.key),
            What::Served => self.server.on_sent(known.key),
            What::Lost if known.connection == connection => self.rejoin(now, known),
            What::Unwilling => self.on_lost_connection(connection),
            What::Malformed(error) => {
                tracing::debug!(%peer, %error, "a peer sent what is not bitswap");
                self.ban(peer);
            }
            What::Lost | What::Speaks(_) => {}
        }
    }

    /// Does all that the machines have to say.
    fn drain(&mut self) {
        loop {
            if let Some(event) = self.client.poll_event() {
                self.on_client_event(event);
            } else if let Some(event) = self.server.poll_event() {
                self.on_server_event(event);
            } else if let Some((to, message)) = self.client.poll_transmit() {
                self.send(to, Errand::Ask(message));
            } else if let Some((to, message)) = self.server.poll_transmit() {
                self.send(to, Errand::Serve(message));
            } else {
                break;
            }
        }
        self.swarm.behaviour().bitswap.set_wanting(self.client.wanted() > 0);
        if self.shared.awaited.load(Ordering::Relaxed) {
            self.shared.awaited.store(self.server.is_awaited(), Ordering::SeqCst);
        }
        *self.shared.stats.lock() = NodeStats {
            peers: self.peers.len(),
            connections: self.swarm.network_info().connection_counters().num_established(),
            wanted: self.client.wanted(),
            banned: self.bans.len(),
            announced: self.announcer.announced(),
            client: self.client.stats(),
            server: self.server.stats(),
        };
    }

    fn send(&mut self, to: PeerKey, errand: Errand) {
        let Some(peer) = self.peers.by_key(to) else { return };
        tracing::trace!(peer = %peer.id, ?errand, "told");
        if self.swarm.behaviour().bitswap.send(peer.connection, errand).is_err() {
            tracing::debug!(peer = %peer.id, "a bitswap peer takes nothing any more: its connection is closed");
            self.swarm.close_connection(peer.connection);
        }
    }

    fn on_client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Block { cid, data, .. } => {
                if let Some(hash) = BlockHash::from_cid(&cid) {
                    self.readers.deliver(&hash, &data);
                }
            }
            ClientEvent::Exhausted(cid) => self.on_exhausted(&cid),
            ClientEvent::Misbehaved(key) => {
                if let Some(peer) = self.peers.by_key(key) {
                    tracing::debug!(peer = %peer.id, "a peer sent blocks that nobody asked for");
                    self.ban(peer.id);
                }
            }
            ClientEvent::Have { cid, from } => tracing::trace!(%cid, %from, "has it"),
            ClientEvent::DontHave { cid, from } => tracing::trace!(%cid, %from, "has it not"),
        }
    }

    /// Nobody who is connected has a block: those who were said to have it are dialled again.
    fn on_exhausted(&mut self, cid: &Cid) {
        let Some(hash) = BlockHash::from_cid(cid) else { return };
        for session in self.readers.sessions_of(&hash) {
            self.dial_providers(session);
        }
    }

    fn on_server_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Find { peer, cid } => {
                let hash = BlockHash::from_cid(&cid).filter(|_| (self.shelf.may_serve)(&cid));
                let len = hash.and_then(|hash| self.shelf.store.block_len(&hash));
                self.server.on_found(peer, &cid, len.map(Into::into));
            }
            ServerEvent::Read { peer, cid } => {
                let store = self.shelf.store.clone();
                self.reads.spawn(async move {
                    let Some(hash) = BlockHash::from_cid(&cid) else { return (peer, cid, None) };
                    // A block that was evicted meanwhile, or that the disk does not give, is not here.
                    (peer, cid, store.read_all(&hash).await.unwrap_or_default())
                });
            }
        }
    }

    fn on_read(&mut self, read: Option<BlockRead>) {
        if let Some((peer, cid, data)) = read {
            self.server.on_read(peer, &cid, data);
        }
    }
}
