//! The addresses of one torrent's peers, and which to dial next.
//!
//! An address is in exactly one state: ready, waiting (for the end of a pause), being dialled, connected, or resting. Hints are
//! dialled first; then those that never failed, by how their source is trusted and then by rank (BEP 40). Every failure lengthens an address's
//! pause; after [`MAX_FAILURES`] it is forgotten. The book is bounded: when it is full, a newcomer takes the place of an
//! address that failed, or finds none.
//!
//! Addresses are only where to dial; who a peer is, and whether to keep it, is decided elsewhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::peer_priority::OwnAddresses;
use crate::tracker::compact;

/// Addresses kept for one torrent.
pub const MAX_ADDRESSES: usize = 2000;
/// Dials under way for one torrent at a time, unless the caller says otherwise.
pub const DEFAULT_HALF_OPEN: usize = 20;
/// Addresses kept of one host other than this one: more are ports that somebody wants us to scan.
pub const MAX_PORTS_PER_HOST: usize = 32;
/// Failures in a row after which an address is forgotten.
pub const MAX_FAILURES: u32 = 8;
/// Pause after an address's first failure; doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The same for one that a client named, which waits and may know of no other.
const FIRST_PAUSE_OF_A_HINT: Duration = Duration::from_secs(2);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);
/// Pause before a peer that was useful is dialled again.
const USEFUL_PAUSE: Duration = Duration::from_secs(5);

/// Who told of an address; the more trusted, the earlier it is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerSource {
    /// The client that asked for the content (`x.pe`): dialled before all others.
    Hint,
    /// The peer itself: it dialled us and told its listening port (BEP 10 `p`).
    Incoming,
    /// A tracker.
    Tracker,
    /// The DHT.
    Dht,
    /// A host in this house that called out (BEP 14).
    Lsd,
    /// Another peer (BEP 11).
    Pex,
}

/// Lower is dialled earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Priority {
    not_hinted: bool,
    failures: u32,
    source: PeerSource,
    rank: Reverse<Option<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Instant),
    Dialling,
    Connected,
    /// It has everything, as we have: not dialled until something is missing.
    Resting,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    source: PeerSource,
    failures: u32,
    state: State,
    /// By BEP 40; `None` while we do not know what the peer knows us by.
    rank: Option<u32>,
}

/// The addresses of one torrent's peers. Drain [`Self::poll_dial`] after each call, as long as more peers are wanted.
#[derive(Debug)]
pub struct PeerBook {
    entries: BTreeMap<SocketAddr, Entry>,
    ready: BTreeSet<(Priority, SocketAddr)>,
    waiting: BTreeSet<(Instant, SocketAddr)>,
    dialling: usize,
    max_half_open: usize,
    own: BTreeSet<SocketAddr>,
    known_by: OwnAddresses,
}

impl Entry {
    fn priority(&self) -> Priority {
        Priority {
            not_hinted: self.source != PeerSource::Hint,
            failures: self.failures,
            source: self.source,
            rank: Reverse(self.rank),
        }
    }
}

impl Default for PeerBook {
    fn default() -> Self {
        Self::new(DEFAULT_HALF_OPEN)
    }
}

impl PeerBook {
    /// An empty book that lets at most `max_half_open` dials be under way.
    #[must_use]
    pub const fn new(max_half_open: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            waiting: BTreeSet::new(),
            dialling: 0,
            max_half_open,
            own: BTreeSet::new(),
            known_by: OwnAddresses { v4: None, v6: None },
        }
    }

    /// Tells which addresses are our own; they are never dialled.
    pub fn set_self(&mut self, own: impl IntoIterator<Item = SocketAddr>) {
        self.own = own.into_iter().map(canonical).collect();
        let ours: Vec<SocketAddr> = self.entries.keys().filter(|address| self.is_own(address)).copied().collect();
        for address in ours {
            self.remove(&address);
        }
    }

    /// Tells what the world knows us by, and so how peers rank for us (BEP 40).
    pub fn set_known_by(&mut self, known_by: OwnAddresses) {
        self.known_by = known_by;
        let all: Vec<SocketAddr> = self.entries.keys().copied().collect();
        for address in all {
            self.change(&address, |entry| entry.rank = known_by.rank_of(address));
        }
    }

    /// Adds one of our own addresses, as when a connection turned out to be to ourselves.
    pub fn add_self(&mut self, address: SocketAddr) {
        let address = canonical(address);
        self.own.insert(address);
        self.remove(&address);
    }

    /// Listening on all addresses means being reachable at this host's own.
    fn is_own(&self, address: &SocketAddr) -> bool {
        let any_address = |own: &SocketAddr| own.ip().is_unspecified() && own.port() == address.port();
        self.own.contains(address) || (address.ip().is_loopback() && self.own.iter().any(any_address))
    }

    /// Takes an address in. Says whether it is new; one that is known keeps its pause, and its best source.
    pub fn add(&mut self, address: SocketAddr, source: PeerSource) -> bool {
        let address = canonical(address);
        if !compact::dialable(&address) || self.is_own(&address) {
            return false;
        }
        if let Some(entry) = self.entries.get(&address).copied() {
            self.set(address, Entry { source: entry.source.min(source), ..entry });
            return false;
        }
        if !self.has_room(&address, source) {
            return false;
        }
        let rank = self.known_by.rank_of(address);
        self.set(address, Entry { source, failures: 0, state: State::Ready, rank });
        true
    }

    fn has_room(&mut self, address: &SocketAddr, source: PeerSource) -> bool {
        let host = |port| SocketAddr::new(address.ip(), port);
        let crowded = self.entries.range(host(0)..=host(u16::MAX)).count() >= MAX_PORTS_PER_HOST;
        if crowded && !address.ip().is_loopback() && source != PeerSource::Hint {
            return false;
        }
        if self.entries.len() < MAX_ADDRESSES {
            return true;
        }
        // Whoever waits longest has failed most; else the least trusted gives way to the better trusted.
        let newcomer = Entry { source, failures: 0, state: State::Ready, rank: None }.priority();
        let worst = self.waiting.last().map(|(_, address)| *address);
        let worst =
            worst.or_else(|| self.ready.last().filter(|(worst, _)| *worst > newcomer).map(|(_, address)| *address));
        worst.is_some_and(|worst| self.remove(&worst))
    }

    /// The next address to dial, if one is ready and dials may be made. It is being dialled from now on, until
    /// [`Self::on_connected`], [`Self::on_dial_failed`] or [`Self::on_dial_cancelled`].
    pub fn poll_dial(&mut self, now: Instant) -> Option<SocketAddr> {
        while let Some(&(_, address)) = self.waiting.first().filter(|(until, _)| *until <= now) {
            self.change(&address, |entry| entry.state = State::Ready);
        }
        if self.dialling >= self.max_half_open {
            return None;
        }
        let address = self.ready.first()?.1;
        self.change(&address, |entry| entry.state = State::Dialling);
        Some(address)
    }

    /// Somebody leads us to a peer (BEP 55): whether it is to be dialled now, whatever its pause. It is being dialled then.
    pub fn dial_at_once(&mut self, address: SocketAddr) -> bool {
        let address = canonical(address);
        self.add(address, PeerSource::Pex);
        match self.state(&address) {
            Some(State::Ready | State::Waiting(_) | State::Resting | State::Dialling) => {
                self.change(&address, |entry| entry.state = State::Dialling);
                true
            }
            Some(State::Connected) | None => false,
        }
    }

    /// Whether dials to it have failed, and the next one is not due yet.
    #[must_use]
    pub fn is_pausing(&self, address: SocketAddr) -> bool {
        let entry = self.entries.get(&canonical(address));
        entry.is_some_and(|entry| entry.failures > 0 && matches!(entry.state, State::Waiting(_)))
    }

    /// A dial failed: the address pauses, or is forgotten.
    pub fn on_dial_failed(&mut self, now: Instant, address: SocketAddr) {
        self.failed(now, canonical(address), State::Dialling);
    }

    /// A dial was given up for reasons of our own: the address is as before.
    pub fn on_dial_cancelled(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if self.state(&address) == Some(State::Dialling) {
            self.change(&address, |entry| entry.state = State::Ready);
        }
    }

    /// A peer connected, by our dial or its own; its address is not dialled while it stays. Addresses that are not in
    /// the book, as the passing port of a peer that dialled us, are none of it.
    pub fn on_connected(&mut self, address: SocketAddr) {
        self.change(&canonical(address), |entry| entry.state = State::Connected);
    }

    /// A peer left. One that was useful may be dialled again soon; for the others it counts as a failure.
    pub fn on_disconnected(&mut self, now: Instant, address: SocketAddr, useful: bool) {
        let address = canonical(address);
        if !useful {
            return self.failed(now, address, State::Connected);
        }
        if self.state(&address) == Some(State::Connected) {
            let until = now + USEFUL_PAUSE;
            self.change(&address, |entry| (entry.failures, entry.state) = (0, State::Waiting(until)));
        }
    }

    /// A peer left that wants nothing of us, nor we of it: it is not dialled before [`Self::wake_resting`].
    pub fn on_redundant(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if self.state(&address) == Some(State::Connected) {
            self.change(&address, |entry| (entry.failures, entry.state) = (0, State::Resting));
        }
    }

    /// Something is missing again: those that have everything may be dialled.
    pub fn wake_resting(&mut self) {
        let resting = self.entries.iter().filter(|(_, entry)| entry.state == State::Resting);
        let resting: Vec<SocketAddr> = resting.map(|(address, _)| *address).collect();
        for address in resting {
            self.change(&address, |entry| entry.state = State::Ready);
        }
    }

    fn failed(&mut self, now: Instant, address: SocketAddr, in_state: State) {
        let Some(entry) = self.entries.get(&address).copied().filter(|entry| entry.state == in_state) else { return };
        let failures = entry.failures + 1;
        if failures >= MAX_FAILURES {
            self.remove(&address);
            return;
        }
        let first = if entry.source == PeerSource::Hint { FIRST_PAUSE_OF_A_HINT } else { FIRST_PAUSE };
        let pause = (first * 2_u32.pow(entry.failures)).min(MAX_PAUSE);
        let until = now + pause;
        self.set(address, Entry { failures, state: State::Waiting(until), ..entry });
    }

    /// When the next pause ends, if a dial could be made then.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let (until, _) = self.waiting.first().filter(|_| self.dialling < self.max_half_open)?;
        Some((*until, "dial"))
    }

    /// How many addresses are known.
    #[must_use]
    pub fn known(&self) -> usize {
        self.entries.len()
    }

    /// How many dials are under way.
    #[must_use]
    pub const fn half_open(&self) -> usize {
        self.dialling
    }

    /// Whether an address is ready to be dialled, as of the last [`Self::poll_dial`].
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn state(&self, address: &SocketAddr) -> Option<State> {
        self.entries.get(address).map(|entry| entry.state)
    }

    fn change(&mut self, address: &SocketAddr, change: impl FnOnce(&mut Entry)) {
        if let Some(mut entry) = self.entries.get(address).copied() {
            change(&mut entry);
            self.set(*address, entry);
        }
    }

    /// The one place where entries come and change, so that the queues and the count agree with them.
    fn set(&mut self, address: SocketAddr, entry: Entry) {
        self.remove(&address);
        match entry.state {
            State::Ready => _ = self.ready.insert((entry.priority(), address)),
            State::Waiting(until) => _ = self.waiting.insert((until, address)),
            State::Dialling => self.dialling += 1,
            State::Connected | State::Resting => {}
        }
        self.entries.insert(address, entry);
    }

    fn remove(&mut self, address: &SocketAddr) -> bool {
        let Some(entry) = self.entries.remove(address) else { return false };
        match entry.state {
            State::Ready => _ = self.ready.remove(&(entry.priority(), *address)),
            State::Waiting(until) => _ = self.waiting.remove(&(until, *address)),
            State::Dialling => self.dialling -= 1,
            State::Connected | State::Resting => {}
        }
        true
    }
}

/// One spelling for one address: an IPv4 address mapped into IPv6 is the IPv4 address.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
