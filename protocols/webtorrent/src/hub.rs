//! The tracker in this process: the rules of [`SwarmTable`] behind one lock, an outbox for each socket, and a clock.
//!
//! It has no socket of its own. The gateway opens a [`HubSocket`] for each WebSocket that arrives at its HTTP address, and
//! passes on frames; the torrents of this process are members over channels. Nothing here waits while the lock is held.
//!
//! # Why one lock?
//! A message takes microseconds, and what it makes goes to other sockets of the same swarm: a lock a swarm would be taken
//! in pairs to save what nobody has measured.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::tracker::AnnounceEvent;
use swarmgate_content::InfoHash;
use swarmgate_webtorrent_proto::classic::{self, ClassicAnnounce};
use swarmgate_webtorrent_proto::message::ClientMessage;
use swarmgate_webtorrent_proto::swarm_table::{Admission, SocketKey, SwarmTable, TableEvent, TableStats, Violation};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use swarmgate_webtorrent_proto::message::ServerMessage;
pub use swarmgate_webtorrent_proto::swarm_table::TableOptions;

use crate::tracking::wire::{QUEUE, Wire};

/// Messages that may wait for a client that does not read. Then its socket is closed: what is late in signalling is
/// worth nothing.
const OUTBOX: usize = 64;

/// For which torrents the tracker is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubAdmission {
    /// For those that are active in this process.
    Listed,
    /// For all.
    Any,
}

/// See the module's head. Its owner must call [`Self::shutdown`].
#[derive(Debug)]
pub struct TrackerHub {
    inner: Mutex<Inner>,
    /// Something became due earlier than before.
    changed: Notify,
    closing: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    table: SwarmTable,
    outboxes: BTreeMap<SocketKey, mpsc::Sender<ServerMessage>>,
    /// Torrents that are served, each with the activation that it is served for.
    listed: BTreeMap<InfoHash, u64>,
    /// Swarms that this process is a member of.
    ours: BTreeSet<InfoHash>,
}

/// A client's WebSocket, as the tracker sees it. Dropping it ends the client's memberships.
#[derive(Debug)]
pub struct HubSocket {
    hub: Arc<TrackerHub>,
    key: SocketKey,
    outbox: mpsc::Receiver<ServerMessage>,
}

impl TrackerHub {
    /// A tracker without members.
    #[must_use]
    pub fn new(options: TableOptions, admission: HubAdmission) -> Arc<Self> {
        let admission = match admission {
            HubAdmission::Listed => Admission::Listed(BTreeSet::new()),
            HubAdmission::Any => Admission::Any,
        };
        let inner = Inner {
            table: SwarmTable::new(options, admission, rand::random()),
            outboxes: BTreeMap::new(),
            listed: BTreeMap::new(),
            ours: BTreeSet::new(),
        };
        let (closing, tasks) = (CancellationToken::new(), TaskTracker::new());
        Arc::new(Self { inner: Mutex::new(inner), changed: Notify::new(), closing, tasks })
    }

    /// Takes a client's WebSocket in.
    ///
    /// # Errors
    /// When there are too many, in all or from its host.
    pub fn open(self: &Arc<Self>, client: IpAddr) -> Result<HubSocket, Violation> {
        let (sender, outbox) = mpsc::channel(OUTBOX);
        let mut inner = self.inner.lock();
        if self.closing.is_cancelled() {
            return Err(Violation::Sockets { max: 0 });
        }
        let key = inner.table.open_socket(Instant::now(), client)?;
        inner.outboxes.insert(key, sender);
        drop(inner);
        Ok(HubSocket { hub: self.clone(), key, outbox })
    }

    /// Answers an announce of a client without WebRTC (BEP 3): `query` is its URL's, `client` its address.
    #[must_use]
    pub fn announce_classic(&self, client: IpAddr, query: &str) -> Vec<u8> {
        let announce = match ClassicAnnounce::parse(query) {
            Ok(announce) => announce,
            Err(error) => return classic::failure(&error.to_string()),
        };
        let reply = self.with(|inner| inner.table.announce_classic(Instant::now(), client, &announce));
        reply.map_or_else(|violation| classic::failure(&violation.to_string()), |reply| reply.encode())
    }

    /// What there is, and what has happened so far.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        self.inner.lock().table.stats()
    }

    /// WebSockets of clients that are open.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.stats().sockets
    }

    /// Ends when the tracker is to end: whoever holds a [`HubSocket`] drops it then.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Marks a task that serves a client; [`Self::shutdown`] waits until it is dropped.
    pub fn task_token(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Ends every conversation, and returns when whoever served them has ended too.
    pub async fn shutdown(&self) {
        self.closing.cancel();
        self.inner.lock().outboxes.clear();
        self.tasks.close();
        self.tasks.wait().await;
    }

    // --- this process's own torrents -----------------------------------------------------------------------------

    /// Serves a torrent from now on, for one activation of it.
    pub(crate) fn allow(&self, infohash: InfoHash, serial: u64) {
        let mut inner = self.inner.lock();
        inner.listed.insert(infohash, serial);
        inner.table.admit(infohash);
    }

    /// Serves a torrent no more, unless it has been activated anew.
    pub(crate) fn disallow(&self, infohash: InfoHash, serial: u64) {
        self.with(|inner| {
            if inner.listed.get(&infohash) == Some(&serial) {
                inner.listed.remove(&infohash);
                inner.ours.remove(&infohash);
                inner.table.dismiss(&infohash);
            }
        });
    }

    /// Whether a torrent's swarm has members besides this process.
    pub(crate) fn knows_others(&self, infohash: &InfoHash) -> bool {
        let inner = self.inner.lock();
        let size = inner.table.swarm_size(infohash);
        size.complete + size.incomplete > u32::from(inner.ours.contains(infohash))
    }

    /// Makes this process a member: over channels, and without the limits of strangers.
    pub(crate) fn join_in_process(self: &Arc<Self>) -> Option<Wire> {
        let (out, mut outgoing) = mpsc::channel::<ClientMessage>(QUEUE);
        let (incoming, inbox) = mpsc::channel(QUEUE);
        let key = {
            let mut inner = self.inner.lock();
            if self.closing.is_cancelled() {
                return None;
            }
            let key = inner.table.open_local();
            inner.outboxes.insert(key, incoming);
            key
        };
        let hub = self.clone();
        self.tasks.spawn(async move {
            while let Some(message) = tokio::select! {
                message = outgoing.recv() => message,
                () = hub.closing.cancelled() => None,
            } {
                hub.take_ours(key, message);
            }
            hub.close(key);
        });
        Some(Wire { out, inbox, carrier: None })
    }

    fn take_ours(&self, key: SocketKey, message: ClientMessage) {
        self.with(|inner| {
            if let ClientMessage::Announce(announce) = &message {
                if announce.event == AnnounceEvent::Stopped {
                    inner.ours.remove(&announce.infohash);
                } else {
                    inner.ours.insert(announce.infohash);
                }
            }
            if let Err(violation) = inner.table.handle_message(Instant::now(), key, message) {
                tracing::debug!(%violation, "our own tracker refuses us");
            }
        });
    }

    // --- the clock and the outboxes ------------------------------------------------------------------------------

    /// Runs the table's clock until `stop`, then ends the tracker.
    pub(crate) async fn keep_time(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let next = self.inner.lock().table.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.changed.notified() => {}
                () = until(next) => self.with(|inner| inner.table.handle_timeout(Instant::now())),
            }
        }
        self.shutdown().await;
    }

    fn close(&self, key: SocketKey) {
        self.with(|inner| {
            inner.outboxes.remove(&key);
            inner.table.close_socket(key);
        });
    }

    /// Lets the rules do something, and delivers what they say.
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let before = inner.table.poll_timeout();
        let outcome = act(&mut inner);
        inner.deliver();
        if inner.table.poll_timeout().map(|(at, _)| at) < before.map(|(at, _)| at) || before.is_none() {
            self.changed.notify_one();
        }
        outcome
    }
}

impl Inner {
    fn deliver(&mut self) {
        while let Some((key, message)) = self.table.poll_transmit() {
            let sent = self.outboxes.get(&key).is_some_and(|outbox| outbox.try_send(message).is_ok());
            if !sent {
                // It does not read, or has gone: its task sees its outbox close.
                self.outboxes.remove(&key);
                self.table.close_socket(key);
            }
        }
        while let Some(TableEvent::CloseIdle(key)) = self.table.poll_event() {
            self.outboxes.remove(&key);
        }
    }
}

impl HubSocket {
    /// Takes a frame of the client, text or binary.
    ///
    /// # Errors
    /// When it is refused; [`Violation::closes`] says whether the client is to be let go.
    pub fn handle_frame(&self, frame: &[u8]) -> Result<(), Violation> {
        self.hub.with(|inner| inner.table.handle_frame(Instant::now(), self.key, frame))
    }

    /// The next message for the client; `None` when it is to be let go.
    pub async fn next(&mut self) -> Option<ServerMessage> {
        self.outbox.recv().await
    }

    /// What waits for the client by now: as much as may wait, at most, however much comes meanwhile.
    pub fn waiting(&mut self) -> impl Iterator<Item = ServerMessage> {
        std::iter::from_fn(|| self.outbox.try_recv().ok()).take(OUTBOX)
    }
}

impl Drop for HubSocket {
    fn drop(&mut self) {
        self.hub.close(self.key);
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
