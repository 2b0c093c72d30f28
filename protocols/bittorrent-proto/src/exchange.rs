//! Introduces the peers of one torrent to each other (BEP 11), a message a minute, and takes what they tell of others.
//!
//! A peer is told of those that are connected now and can be dialled: whom we dialled, and who dialled us and said where
//! it listens, or did so over uTP. It is told of an address of a house or of a machine only when it is in there itself, and what it tells is
//! believed by the same measure. Peers without an address, as those over WebRTC, are told of to nobody.
//!
//! Whether a torrent may do this at all (BEP 27) is for its owner: a private one has no exchange.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::extension::{ExtensionError, PexMessage, PexPeer};
use crate::picker::PeerKey;

/// Time between two messages to one peer (BEP 11: no more than one a minute).
pub const INTERVAL: Duration = Duration::from_secs(60);
/// Peers added by one message at most (BEP 11). The first message of a sender may add twice as many.
pub const MAX_ADDED: usize = 50;
/// Peers dropped by one message at most (BEP 11).
pub const MAX_DROPPED: usize = 50;
/// How long news gather before somebody is told: peers often come several at a time.
pub const GATHER: Duration = Duration::from_secs(1);
/// A message that comes sooner than this after the one before is not read: the minute, less what a network may jolt.
pub const TOO_SOON: Duration = Duration::from_secs(50);
/// Messages in a row that may come too soon before their sender is dropped.
pub const MAX_TOO_SOON: u32 = 5;
/// BEP 11's flag for a peer that has everything.
pub const FLAG_SEED: u8 = 0x02;
/// BEP 11's flag for a peer that speaks uTP.
pub const FLAG_UTP: u8 = 0x04;
/// BEP 11's flag for a peer that can be reached, because we reached it.
pub const FLAG_REACHABLE: u8 = 0x10;

/// What the exchange has to know of its application.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeOptions {
    /// The port we listen on, which peers that we dialled may tell others; `None` when nobody can dial us.
    pub listen_port: Option<u16>,
    /// Whether peers are led to each other that nobody can dial (BEP 55), for which we have to speak uTP.
    pub holepunch: bool,
    /// Whether an address is anybody's on the Internet, rather than of a house or this machine.
    pub is_public: fn(IpAddr) -> bool,
}

/// Where a connected peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Its address: the one that we dialled, or the one that it dialled from, whose port nobody else can dial.
    pub address: SocketAddr,
    /// Whether we dialled it.
    pub dialled: bool,
    /// Whether it is connected over uTP: then it dials from the port it listens on, and others reach it there too.
    pub utp: bool,
}

/// Why a peer's message is held against it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeFault {
    /// It is none.
    #[error(transparent)]
    Malformed(#[from] ExtensionError),
    /// Too many came too soon.
    #[error("peers told {} times within a minute", MAX_TOO_SOON + 2)]
    TooOften,
}

/// Who can make use of an address; each sees what those before it see, and its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reach {
    World,
    House,
    Machine,
}

#[derive(Debug)]
struct Member {
    reach: Reach,
    ip: IpAddr,
    /// Where others can dial it, once that is known.
    listens: Option<SocketAddr>,
    dialled: bool,
    /// The number it chose for these messages (BEP 10).
    id: Option<u8>,
    /// Whom it was told of and not told the leave of.
    told: BTreeSet<SocketAddr>,
    /// When it may be told again.
    next: Option<Instant>,
    heard: Option<Instant>,
    too_soon: u32,
}

/// See the module's head.
#[derive(Debug)]
pub struct PeerExchange {
    options: ExchangeOptions,
    members: BTreeMap<PeerKey, Member>,
    dirty: bool,
    wake: Option<Instant>,
}

impl PeerExchange {
    /// An exchange among nobody.
    #[must_use]
    pub const fn new(options: ExchangeOptions) -> Self {
        Self { options, members: BTreeMap::new(), dirty: false, wake: None }
    }

    /// The port that peers may tell others.
    #[must_use]
    pub const fn listen_port(&self) -> Option<u16> {
        self.options.listen_port
    }

    /// Changes it, as when a router forwards another.
    pub const fn set_listen_port(&mut self, port: Option<u16>) {
        self.options.listen_port = port;
    }

    /// A peer with an address connected.
    pub fn join(&mut self, key: PeerKey, contact: Contact) {
        let ip = contact.address.ip().to_canonical();
        let member = Member {
            reach: self.reach(ip),
            ip,
            listens: (contact.dialled || contact.utp).then(|| SocketAddr::new(ip, contact.address.port())),
            dialled: contact.dialled,
            id: None,
            told: BTreeSet::new(),
            next: None,
            heard: None,
            too_soon: 0,
        };
        self.members.insert(key, member);
        self.dirty = true;
    }

    /// A peer left.
    pub fn leave(&mut self, key: PeerKey) {
        self.dirty |= self.members.remove(&key).is_some();
    }

    /// A peer said, in its extension handshake, under which number it takes these messages and where it listens. Gives its
    /// address when that is news.
    pub fn on_hello(&mut self, key: PeerKey, id: Option<u8>, port: Option<u16>) -> Option<SocketAddr> {
        let member = self.members.get_mut(&key)?;
        member.id = id.or(member.id);
        self.dirty = true;
        let address = SocketAddr::new(member.ip, port.filter(|_| member.listens.is_none())?);
        member.listens = Some(address);
        Some(address)
    }

    /// A peer tells of others; gives those that it may know of. Messages that come too soon are passed over.
    ///
    /// # Errors
    /// [`ExchangeFault`], for which the peer is to be dropped.
    pub fn on_message(&mut self, now: Instant, key: PeerKey, payload: &[u8]) -> Result<Vec<PexPeer>, ExchangeFault> {
        let Some(member) = self.members.get_mut(&key) else { return Ok(Vec::new()) };
        if member.heard.is_some_and(|heard| now < heard + TOO_SOON) {
            member.too_soon += 1;
            return if member.too_soon > MAX_TOO_SOON { Err(ExchangeFault::TooOften) } else { Ok(Vec::new()) };
        }
        let mut told = PexMessage::parse(payload)?.added;
        // BEP 11 lets the first message alone be longer.
        if member.heard.is_some() {
            told.truncate(MAX_ADDED);
        }
        (member.heard, member.too_soon) = (Some(now), 0);
        let reach = member.reach;
        told.retain(|peer| self.reach(peer.address.ip()) <= reach);
        Ok(told)
    }

    fn reach(&self, ip: IpAddr) -> Reach {
        Reach::of(ip, self.options.is_public)
    }

    /// There is something to tell that there was not before, though nobody came or went.
    pub const fn refresh(&mut self) {
        self.dirty = true;
    }

    /// Notes when what changed is to be told. To be called after every change.
    pub fn settle(&mut self, now: Instant) {
        if std::mem::take(&mut self.dirty) {
            self.wake = Some(self.wake.map_or(now + GATHER, |wake| wake.min(now + GATHER)));
        }
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.wake
    }

    /// The messages that are due, each with the number that its receiver chose. `features` tells a peer's flags.
    pub fn handle_timeout(&mut self, now: Instant, features: impl Fn(PeerKey) -> u8) -> Vec<(PeerKey, u8, PexMessage)> {
        if self.wake.is_none_or(|wake| now < wake) {
            return Vec::new();
        }
        self.wake = None;
        let here = self.introducible(features);
        let mut messages = Vec::new();
        for (key, member) in &mut self.members {
            let Some(id) = member.id else { continue };
            let Some(news) = member.news(&here) else { continue };
            if member.next.is_none_or(|next| next <= now) {
                let more = member.tell(&news);
                member.next = Some(now + INTERVAL);
                messages.push((*key, id, news));
                if !more {
                    continue;
                }
            }
            self.wake = self.wake.into_iter().chain(member.next).min();
        }
        // What is left over for a peer that was told just now waits with the rest.
        messages
    }

    /// Every peer that others can be told of, by its address.
    fn introducible(&self, features: impl Fn(PeerKey) -> u8) -> BTreeMap<SocketAddr, (Reach, u8)> {
        let of = |(key, member): (&PeerKey, &Member)| {
            let reachable = if member.dialled { FLAG_REACHABLE } else { 0 };
            Some((member.listens?, (member.reach, features(*key) | reachable)))
        };
        self.members.iter().filter_map(of).collect()
    }
}

impl Reach {
    pub(crate) fn of(ip: IpAddr, is_public: fn(IpAddr) -> bool) -> Self {
        let ip = ip.to_canonical();
        match (ip.is_loopback(), is_public(ip)) {
            (true, _) => Self::Machine,
            (false, true) => Self::World,
            (false, false) => Self::House,
        }
    }
}

impl Member {
    /// What changed for this peer since it was told last, within the limits of one message.
    fn news(&self, here: &BTreeMap<SocketAddr, (Reach, u8)>) -> Option<PexMessage> {
        let for_it = |address: &SocketAddr, reach: Reach| Some(*address) != self.listens && reach <= self.reach;
        let added = here.iter().filter(|(address, (reach, _))| for_it(address, *reach) && !self.told.contains(address));
        let added = added.map(|(address, (_, flags))| PexPeer { address: *address, flags: *flags });
        let dropped = self.told.iter().filter(|address| !here.contains_key(address)).copied();
        let news = PexMessage { added: added.take(MAX_ADDED).collect(), dropped: dropped.take(MAX_DROPPED).collect() };
        (!news.added.is_empty() || !news.dropped.is_empty()).then_some(news)
    }

    /// Notes what it is being told. Says whether there may be more to tell than fitted.
    fn tell(&mut self, news: &PexMessage) -> bool {
        self.told.extend(news.added.iter().map(|peer| peer.address));
        news.dropped.iter().for_each(|address| _ = self.told.remove(address));
        news.added.len() == MAX_ADDED || news.dropped.len() == MAX_DROPPED
    }
}

#[cfg(test)]
mod tests;
