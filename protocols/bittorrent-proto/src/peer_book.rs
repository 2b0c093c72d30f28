//! The addresses of one torrent's peers, and which to dial next.
//!
//! An address is in exactly one state: ready, waiting (for the end of a pause), being dialled, or connected. Hints are
//! dialled first; then those that never failed, by how their source is trusted. Every failure lengthens an address's
//! pause; after [`MAX_FAILURES`] it is forgotten. The book is bounded: when it is full, a newcomer takes the place of an
//! address that failed, or finds none.
//!
//! Addresses are only where to dial; who a peer is, and whether to keep it, is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::tracker::compact;

/// Addresses kept for one torrent.
pub const MAX_ADDRESSES: usize = 2000;
/// Dials under way for one torrent at a time, unless the caller says otherwise.
pub const DEFAULT_HALF_OPEN: usize = 20;
/// Addresses kept of one host other than this one: more are ports that somebody wants us to scan.
pub const MAX_PORTS_PER_HOST: usize = 32;
/// Bans kept; the one that ends first gives way.
pub const MAX_BANS: usize = 1000;
/// Failures in a row after which an address is forgotten.
pub const MAX_FAILURES: u32 = 8;
/// Pause after an address's first failure; doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
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
    /// Another peer (BEP 11).
    Pex,
}

/// Lower is dialled earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Priority {
    not_hinted: bool,
    failures: u32,
    source: PeerSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Waiting(Instant),
    Dialling,
    Connected,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    source: PeerSource,
    failures: u32,
    state: State,
}

/// The addresses of one torrent's peers. Drain [`Self::poll_dial`] after each call, as long as more peers are wanted.
#[derive(Debug)]
pub struct PeerBook {
    entries: BTreeMap<SocketAddr, Entry>,
    ready: BTreeSet<(Priority, SocketAddr)>,
    waiting: BTreeSet<(Instant, SocketAddr)>,
    dialling: usize,
    max_half_open: usize,
    bans: BTreeMap<IpAddr, Instant>,
    own: BTreeSet<SocketAddr>,
}

impl Entry {
    fn priority(&self) -> Priority {
        Priority { not_hinted: self.source != PeerSource::Hint, failures: self.failures, source: self.source }
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
            bans: BTreeMap::new(),
            own: BTreeSet::new(),
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
    pub fn add(&mut self, now: Instant, address: SocketAddr, source: PeerSource) -> bool {
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
        let state = self.banned_until(address.ip(), now).map_or(State::Ready, State::Waiting);
        self.set(address, Entry { source, failures: 0, state });
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
        let newcomer = Entry { source, failures: 0, state: State::Ready }.priority();
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
            let until = self.pause_until(now, USEFUL_PAUSE, address.ip());
            self.change(&address, |entry| (entry.failures, entry.state) = (0, State::Waiting(until)));
        }
    }

    fn failed(&mut self, now: Instant, address: SocketAddr, in_state: State) {
        let Some(entry) = self.entries.get(&address).copied().filter(|entry| entry.state == in_state) else { return };
        let failures = entry.failures + 1;
        if failures >= MAX_FAILURES {
            self.remove(&address);
            return;
        }
        let pause = (FIRST_PAUSE * 2_u32.pow(entry.failures)).min(MAX_PAUSE);
        let until = self.pause_until(now, pause, address.ip());
        self.set(address, Entry { failures, state: State::Waiting(until), ..entry });
    }

    fn pause_until(&self, now: Instant, pause: Duration, ip: IpAddr) -> Instant {
        self.banned_until(ip, now).map_or(now + pause, |until| until.max(now + pause))
    }

    /// Bans a host: none of its addresses is dialled before `until`. Who is connected stays until its owner drops it.
    ///
    /// Peers behind one NAT share a host, so this is for evidence against the host, or for an address that no two share.
    pub fn ban(&mut self, ip: IpAddr, until: Instant) {
        let ip = ip.to_canonical();
        if self.bans.len() >= MAX_BANS && !self.bans.contains_key(&ip) {
            let first = self.bans.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip);
            first.map(|first| self.bans.remove(&first));
        }
        self.bans.insert(ip, until);
        let host = SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX);
        let idle = |entry: &Entry| matches!(entry.state, State::Ready | State::Waiting(_));
        let addresses: Vec<SocketAddr> =
            self.entries.range(host).filter(|(_, entry)| idle(entry)).map(|(address, _)| *address).collect();
        for address in addresses {
            self.change(&address, |entry| entry.state = State::Waiting(until));
        }
    }

    /// Bans one address and leaves others of its host alone.
    pub fn ban_address(&mut self, address: SocketAddr, until: Instant) {
        self.change(&canonical(address), |entry| entry.state = State::Waiting(until));
    }

    /// Whether a host is banned: whoever dials from it is turned away.
    #[must_use]
    pub fn is_banned(&self, ip: IpAddr, now: Instant) -> bool {
        self.banned_until(ip.to_canonical(), now).is_some()
    }

    fn banned_until(&self, ip: IpAddr, now: Instant) -> Option<Instant> {
        self.bans.get(&ip).copied().filter(|until| *until > now)
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
            State::Connected => {}
        }
        self.entries.insert(address, entry);
    }

    fn remove(&mut self, address: &SocketAddr) -> bool {
        let Some(entry) = self.entries.remove(address) else { return false };
        match entry.state {
            State::Ready => _ = self.ready.remove(&(entry.priority(), *address)),
            State::Waiting(until) => _ = self.waiting.remove(&(until, *address)),
            State::Dialling => self.dialling -= 1,
            State::Connected => {}
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
