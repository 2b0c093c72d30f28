//! Dials one torrent's peers: found addresses go into the book, the book says whom to dial, connected peers go to the
//! swarm.
//!
//! Nobody is dialled unless the swarm wants peers, the gate lets the address be dialled, and a place among
//! the half-open connections of the whole application is free.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_bittorrent_proto::handshake::Handshake;
use swarmgate_bittorrent_proto::peer_book::{PeerBook, PeerSource};
use swarmgate_bittorrent_proto::peer_priority::OwnAddresses;
use swarmgate_content::{Attempt, AttemptOutcome, InfoHash, ProtocolStats};
use swarmgate_swarm::greeting::HandshakeError;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::outbound::{Greeting, Outbound};
use crate::peer_stream::PeerStream;
use crate::wait::until;
use swarmgate_egress::{PeerGate, Way, is_public};

/// Peers that we are led to and that wait to be dialled: more than come at once, and they cannot wait.
const MAX_PUNCHES: usize = 16;

/// Addresses that somebody told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who.
    pub source: PeerSource,
    /// Where peers are said to be.
    pub addresses: Vec<SocketAddr>,
}

/// How long a dial may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialLimits {
    /// Time for a connection over the Internet.
    pub connect_timeout: Duration,
    /// Time for a connection within the house, where an answer takes milliseconds or does not come; long enough for a SYN
    /// that was lost to be sent again, a second later.
    pub local_connect_timeout: Duration,
    /// Time for both handshakes.
    pub handshake_timeout: Duration,
}

impl Default for DialLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            local_connect_timeout: Duration::from_millis(1500),
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

/// What a dialer needs.
#[derive(Debug)]
pub struct DialerSetup {
    /// Our handshake: the torrent and our id.
    pub ours: Handshake,
    /// Another infohash of the same torrent, for which a peer may answer (BEP 52).
    pub upgrade: Option<InfoHash>,
    /// Which addresses may be dialled.
    pub gate: PeerGate,
    /// How long a dial may take.
    pub limits: DialLimits,
    /// How streams to peers are made.
    pub outbound: Arc<Outbound>,
    /// Places for half-open connections, shared by all torrents.
    pub half_open: Arc<Semaphore>,
    /// The protocol's counters.
    pub stats: Arc<ProtocolStats>,
    /// Addresses to dial. A closed channel ends nothing: the book goes on.
    pub found: mpsc::Receiver<Found>,
    /// How many more peers the swarm wants now.
    pub want: watch::Receiver<usize>,
    /// Takes connected peers; while it is full, no more are dialled.
    pub peers: mpsc::Sender<PeerStream>,
    /// Hears of addresses that no dial reached; what finds no room is not told.
    pub unreached: Option<mpsc::Sender<SocketAddr>>,
}

/// What became of all dials so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DialTally {
    /// Became peers.
    pub connected: u64,
    /// Refused, unreachable, or broke off before their handshake.
    pub refused: u64,
    /// Did not answer in time.
    pub timed_out: u64,
    /// Answered with something other than a handshake for this torrent.
    pub unsuitable: u64,
    /// Turned out to be this process.
    pub ourselves: u64,
    /// Addresses that the egress policy, a list or a ban forbids; not dialled.
    pub off_limits: u64,
    /// Those of `connected` that another peer led us to, as it led them to us (BEP 55).
    pub punched: u64,
}

/// Dials the peers of one torrent. Dropping it stops it some time later; [`Self::shutdown`] waits.
#[derive(Debug)]
pub struct TorrentDialer {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    ours: Handshake,
    upgrade: Option<InfoHash>,
    gate: PeerGate,
    limits: DialLimits,
    outbound: Arc<Outbound>,
    half_open: Arc<Semaphore>,
    stats: Arc<ProtocolStats>,
    peers: mpsc::Sender<PeerStream>,
    unreached: Option<mpsc::Sender<SocketAddr>>,
    book: Mutex<PeerBook>,
    punches: Mutex<VecDeque<SocketAddr>>,
    tally: Mutex<(DialTally, Duration)>,
    /// The book has changed from outside.
    changed: Notify,
}

impl TorrentDialer {
    /// Starts dialling.
    #[must_use]
    pub fn spawn(setup: DialerSetup) -> Self {
        let shared = Arc::new(Shared {
            ours: setup.ours,
            upgrade: setup.upgrade,
            gate: setup.gate,
            limits: setup.limits,
            outbound: setup.outbound,
            half_open: setup.half_open,
            stats: setup.stats,
            peers: setup.peers,
            unreached: setup.unreached,
            book: Mutex::default(),
            punches: Mutex::default(),
            tally: Mutex::default(),
            changed: Notify::new(),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(shared.clone(), setup.found, setup.want, stop.clone()));
        Self { shared, stop, task: Mutex::new(Some(AbortOnDropHandle::new(task))) }
    }

    /// Adds addresses at once, past the channel.
    pub fn add(&self, found: &Found) {
        self.shared.add(found);
        self.shared.changed.notify_one();
    }

    /// Those among some addresses that dials do not reach, as far as is known.
    #[must_use]
    pub fn unreached(&self, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let book = self.shared.book.lock();
        addresses.iter().copied().filter(|address| book.is_pausing(*address)).collect()
    }

    /// Dials a peer that dials us at the same time (BEP 55), now or not at all.
    pub fn punch(&self, address: SocketAddr) {
        let mut punches = self.shared.punches.lock();
        if punches.len() < MAX_PUNCHES {
            punches.push_back(address);
            self.shared.changed.notify_one();
        }
    }

    /// Tells which addresses are our own: they are not dialled.
    pub fn set_self(&self, own: impl IntoIterator<Item = SocketAddr>) {
        self.shared.book.lock().set_self(own);
    }

    /// A peer left. One that was useful is dialled again soon.
    pub fn on_disconnected(&self, address: SocketAddr, useful: bool) {
        self.shared.book.lock().on_disconnected(Instant::now(), address, useful);
        self.shared.changed.notify_one();
    }

    /// A peer left that wants nothing of us, nor we of it.
    pub fn on_redundant(&self, address: SocketAddr) {
        self.shared.book.lock().on_redundant(address);
    }

    /// Something is missing: peers that left because they have everything are dialled again.
    pub fn wake_resting(&self) {
        self.shared.book.lock().wake_resting();
        self.shared.changed.notify_one();
    }

    /// A peer that dialled us listens at that address: it is not dialled there while it stays.
    pub fn meet(&self, address: SocketAddr) {
        let mut book = self.shared.book.lock();
        book.add(address, PeerSource::Incoming);
        book.on_connected(address);
    }

    /// Tells what the world knows us by, and so how peers rank for us (BEP 40).
    pub fn set_known_by(&self, known_by: OwnAddresses) {
        self.shared.book.lock().set_known_by(known_by);
    }

    /// How many addresses are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.shared.book.lock().known()
    }

    /// What became of all dials so far.
    #[must_use]
    pub fn tally(&self) -> DialTally {
        self.shared.tally.lock().0
    }

    /// What was tried, by outcome, for whoever asks why no content came.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        let (tally, longest) = *self.shared.tally.lock();
        tally.attempts(longest)
    }

    /// Ends all dials and returns when they are gone.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // The task is cancelled, not aborted: a join error could only be its panic, already reported.
            let _ = task.await;
        }
    }
}

async fn run(
    shared: Arc<Shared>,
    mut found: mpsc::Receiver<Found>,
    mut want: watch::Receiver<usize>,
    stop: CancellationToken,
) {
    let mut dials = JoinSet::new();
    let (mut more_found, mut more_wanted) = (true, true);
    loop {
        let wanted = *want.borrow_and_update();
        let next = shared.dial_more(&mut dials, wanted);
        tokio::select! {
            () = stop.cancelled() => break,
            some = found.recv(), if more_found => match some {
                Some(some) => shared.add(&some),
                None => more_found = false,
            },
            changed = want.changed(), if more_wanted => more_wanted = changed.is_ok(),
            () = shared.changed.notified() => {}
            Some(_) = dials.join_next() => {}
            () = until(next) => {}
        }
    }
    dials.shutdown().await;
}

impl Shared {
    fn add(&self, found: &Found) {
        for &address in &found.addresses {
            if self.may_dial(address, Way::Tcp) {
                self.book.lock().add(address, found.source);
            }
        }
    }

    fn may_dial(&self, address: SocketAddr, way: Way) -> bool {
        let checked = self.gate.check_dial(Instant::now(), address, way);
        if let Err(refused) = &checked {
            self.tally.lock().0.off_limits += 1;
            tracing::debug!(%refused, "peer address not dialled");
        }
        checked.is_ok()
    }

    /// Dials until enough are under way, and says when to look again. While enough are, only an event changes that.
    fn dial_more(self: &Arc<Self>, dials: &mut JoinSet<()>, wanted: usize) -> Option<Instant> {
        let punches = std::mem::take(&mut *self.punches.lock());
        let mut book = self.book.lock();
        for address in punches {
            if dials.len() < wanted && self.may_dial(address, Way::Utp) && book.dial_at_once(address) {
                dials.spawn(self.clone().punch(address));
            }
        }
        while dials.len() < wanted {
            let Some(address) = book.poll_dial(Instant::now()) else {
                return book.poll_timeout().map(|(at, _)| at);
            };
            dials.spawn(self.clone().dial(address));
        }
        None
    }

    async fn dial(self: Arc<Self>, address: SocketAddr) {
        let Ok(place) = self.half_open.acquire().await else {
            // The application closes the places when it stops.
            return self.book.lock().on_dial_cancelled(address);
        };
        // It may have been banned, or listed, since it was told.
        if !self.may_dial(address, Way::Tcp) {
            return self.book.lock().on_dial_failed(Instant::now(), address);
        }
        let begun = Instant::now();
        let greeting = Greeting { ours: self.ours, upgrade: self.upgrade };
        let result = self.outbound.connect(address, &greeting, &self.limits).await;
        drop(place);
        if let (Err(HandshakeError::Io(_) | HandshakeError::Timeout(_)), Some(unreached)) = (&result, &self.unreached) {
            // Without room it is told when the next dial fails.
            let _ = unreached.try_send(address);
        }
        self.conclude(address, result, begun.elapsed()).await;
    }

    /// Dials a peer that dials us just now. There is no time to wait for a place.
    async fn punch(self: Arc<Self>, address: SocketAddr) {
        let Ok(place) = self.half_open.try_acquire() else {
            return self.book.lock().on_dial_cancelled(address);
        };
        let begun = Instant::now();
        let greeting = Greeting { ours: self.ours, upgrade: self.upgrade };
        let result = self.outbound.punch(address, &greeting, &self.limits).await;
        drop(place);
        self.tally.lock().0.punched += u64::from(result.is_ok());
        self.conclude(address, result, begun.elapsed()).await;
    }

    async fn conclude(&self, address: SocketAddr, result: Result<PeerStream, HandshakeError>, took: Duration) {
        self.count(result.as_ref().err(), took);
        match result {
            Ok(peer) => {
                // Before the swarm has it, lest it tells of the peer's leave first.
                self.book.lock().on_connected(address);
                if self.peers.send(peer).await.is_err() {
                    self.book.lock().on_disconnected(Instant::now(), address, true);
                }
            }
            Err(HandshakeError::Ourselves) => self.book.lock().add_self(address),
            Err(error) => {
                tracing::debug!(peer = %address, %error, "dial failed");
                self.stats.dials_failed(1);
                self.book.lock().on_dial_failed(Instant::now(), address);
            }
        }
    }

    fn count(&self, failure: Option<&HandshakeError>, took: Duration) {
        let (tally, longest) = &mut *self.tally.lock();
        *longest = took.max(*longest);
        let counter = match failure {
            None => &mut tally.connected,
            Some(HandshakeError::Timeout(_) | HandshakeError::Io(std::io::ErrorKind::TimedOut)) => &mut tally.timed_out,
            Some(HandshakeError::Io(_)) => &mut tally.refused,
            Some(HandshakeError::Ourselves) => &mut tally.ourselves,
            Some(HandshakeError::NotBitTorrent | HandshakeError::OtherTorrent | HandshakeError::TurnedAway(_)) => {
                &mut tally.unsuitable
            }
        };
        *counter += 1;
    }
}

impl DialLimits {
    pub(crate) fn connect_timeout_for(&self, ip: IpAddr) -> Duration {
        if is_public(ip) { self.connect_timeout } else { self.local_connect_timeout }
    }
}

impl DialTally {
    fn attempts(&self, longest: Duration) -> Vec<Attempt> {
        let rows = [
            (self.connected, AttemptOutcome::Ok(format!("{} connected", self.connected))),
            (self.punched, AttemptOutcome::Ok(format!("{} of them led to us by another peer", self.punched))),
            (self.timed_out, AttemptOutcome::Failed(format!("{} did not answer in time", self.timed_out))),
            (self.refused, AttemptOutcome::Failed(format!("{} refused or broke the connection", self.refused))),
            (self.unsuitable, AttemptOutcome::Failed(format!("{} are no peers of this torrent", self.unsuitable))),
            (self.ourselves, AttemptOutcome::Skipped(format!("{} were this gateway itself", self.ourselves))),
            (self.off_limits, AttemptOutcome::Skipped(format!("{} addresses are off limits", self.off_limits))),
        ];
        let happened = rows.into_iter().filter(|(count, _)| *count > 0);
        happened.map(|(_, outcome)| Attempt { source: "peer", target: None, outcome, took: longest }).collect()
    }
}

#[cfg(test)]
mod tests;
