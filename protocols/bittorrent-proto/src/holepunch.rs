//! Leads peers of one torrent to each other that cannot be dialled (BEP 55), and is led.
//!
//! Three roles, all by one book of members. Who wants a peer that no dial reaches asks a relay: one at a time, and only
//! those that told of that peer (BEP 11). A relay leads two of its peers to each other when both know the extension and may
//! know of each other, and says why when it does not. Whoever is led dials by uTP at once, since both packets have to be on
//! their way while the other's passes the box in between.
//!
//! Each role is bounded by the minute: a relay could be made to send strangers packets, and a peer to dial them. Whether a
//! torrent may do this at all (BEP 27) is for its owner: a private one has no such book.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::exchange::{Contact, Reach};
use crate::extension::{ExtensionError, ExtensionHandshake, HolepunchMessage, HolepunchReason, PexPeer};
use crate::picker::PeerKey;
use crate::tracker::compact;

/// BEP 11's flag for a peer that knows this extension.
pub const FLAG_HOLEPUNCH: u8 = 0x08;
/// How long a relay has to answer before another is asked.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it is remembered who was asked for a peer.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Relays asked for one peer in that time.
pub const MAX_RELAYS: usize = 4;
/// Peers sought through relays at a time; the oldest gives way.
pub const MAX_SOUGHT: usize = 64;
/// Addresses remembered that one member told of; the oldest gives way. Two full messages of BEP 11.
pub const MAX_TOLD: usize = 200;
/// Requests sent to relays in a minute.
pub const SEEKS_A_MINUTE: u32 = 20;
/// Requests of one member that are answered in a minute; more are passed over.
pub const REQUESTS_A_MINUTE: u32 = 10;
/// Pairs that we lead to each other in a minute.
pub const PAIRS_A_MINUTE: u32 = 60;
/// Times in a minute that one member is led to a stranger by us, or leads us to one.
pub const LEADS_A_MINUTE: u32 = 10;
/// Strangers that we are led to in a minute, by all members together.
pub const DIALS_A_MINUTE: u32 = 30;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HolepunchAction {
    /// Send a message, under the number that its receiver chose (BEP 10).
    Send {
        /// To whom.
        to: PeerKey,
        /// The number.
        id: u8,
        /// What.
        message: HolepunchMessage,
    },
    /// Dial by uTP, at once.
    Dial(SocketAddr),
}

/// How often something was done in the running minute.
#[derive(Debug, Clone, Copy, Default)]
struct Minute {
    since: Option<Instant>,
    times: u32,
}

#[derive(Debug)]
struct Member {
    ip: IpAddr,
    reach: Reach,
    /// Where its uTP port is: of one that dialled us over TCP, once it has said where it listens.
    port: Option<SocketAddr>,
    /// Where it says that it listens, which is how others may know it.
    listens: Option<SocketAddr>,
    /// The number it chose for these messages.
    id: Option<u8>,
    /// Where it sees us.
    sees_us: Option<IpAddr>,
    /// Whom it told of, and whether it said that they know the extension.
    told: VecDeque<(SocketAddr, bool)>,
    requests: Minute,
    led: Minute,
    leads: Minute,
}

/// A peer that relays are asked for.
#[derive(Debug)]
struct Sought {
    since: Instant,
    /// Who was asked; the last one may yet answer.
    asked: Vec<PeerKey>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Holepunch {
    listen_port: Option<u16>,
    is_public: fn(IpAddr) -> bool,
    members: BTreeMap<PeerKey, Member>,
    sought: BTreeMap<SocketAddr, Sought>,
    seeks: Minute,
    pairs: Minute,
    dials: Minute,
}

impl Holepunch {
    /// A book without members.
    #[must_use]
    pub fn new(listen_port: Option<u16>, is_public: fn(IpAddr) -> bool) -> Self {
        let (members, sought) = (BTreeMap::new(), BTreeMap::new());
        let [seeks, pairs, dials] = [Minute::default(); 3];
        Self { listen_port, is_public, members, sought, seeks, pairs, dials }
    }

    /// The port that the world reaches us by.
    pub const fn set_listen_port(&mut self, port: Option<u16>) {
        self.listen_port = port;
    }

    /// A peer with an address connected.
    pub fn join(&mut self, key: PeerKey, contact: Contact) {
        let address = SocketAddr::new(contact.address.ip().to_canonical(), contact.address.port());
        let port = (contact.dialled || contact.utp).then_some(address);
        let member = Member {
            ip: address.ip(),
            reach: Reach::of(address.ip(), self.is_public),
            port,
            listens: port,
            id: None,
            sees_us: None,
            told: VecDeque::new(),
            requests: Minute::default(),
            led: Minute::default(),
            leads: Minute::default(),
        };
        self.members.insert(key, member);
    }

    /// A peer left.
    pub fn leave(&mut self, key: PeerKey) {
        self.members.remove(&key);
    }

    /// A peer said hello (BEP 10).
    pub fn on_hello(&mut self, key: PeerKey, hello: &ExtensionHandshake) {
        let Some(member) = self.members.get_mut(&key) else { return };
        member.id = hello.ut_holepunch.or(member.id);
        member.sees_us = hello.your_ip.map(|ip| ip.to_canonical()).or(member.sees_us);
        if let Some(port) = hello.listen_port {
            let listens = SocketAddr::new(member.ip, port);
            member.listens = Some(listens);
            member.port.get_or_insert(listens);
        }
    }

    /// Whether a peer knows the extension.
    #[must_use]
    pub fn knows(&self, key: PeerKey) -> bool {
        self.members.get(&key).is_some_and(|member| member.id.is_some())
    }

    /// A peer told of others that it is connected to: those it may lead us to.
    pub fn on_told(&mut self, key: PeerKey, peers: &[PexPeer]) {
        let Some(member) = self.members.get_mut(&key) else { return };
        for peer in peers {
            member.told.retain(|(address, _)| *address != peer.address);
            if member.told.len() == MAX_TOLD {
                member.told.pop_front();
            }
            member.told.push_back((peer.address, peer.flags & FLAG_HOLEPUNCH != 0));
        }
    }

    /// No dial reaches a peer: asks a relay for it, if there is one that was not asked yet and none may still answer.
    pub fn seek(&mut self, now: Instant, target: SocketAddr) -> Option<HolepunchAction> {
        let target = SocketAddr::new(target.ip().to_canonical(), target.port());
        self.sought.retain(|_, sought| now < sought.since + FORGOTTEN_AFTER);
        let waits = self.sought.get(&target).is_some_and(|sought| now < sought.since + ANSWER_WITHIN);
        if waits { None } else { self.ask_next(now, target) }
    }

    fn ask_next(&mut self, now: Instant, target: SocketAddr) -> Option<HolepunchAction> {
        let asked = self.sought.get(&target).map_or(&[][..], |sought| sought.asked.as_slice());
        let (relay, id) = self.relay_for(&target, asked)?;
        if asked.len() >= MAX_RELAYS || !self.seeks.take(now, SEEKS_A_MINUTE) {
            return None;
        }
        if !self.sought.contains_key(&target) && self.sought.len() >= MAX_SOUGHT {
            let oldest = self.sought.iter().min_by_key(|(_, sought)| sought.since).map(|(address, _)| *address)?;
            self.sought.remove(&oldest);
        }
        let sought = self.sought.entry(target).or_insert(Sought { since: now, asked: Vec::new() });
        sought.since = now;
        sought.asked.push(relay);
        Some(HolepunchAction::Send { to: relay, id, message: HolepunchMessage::Rendezvous(target) })
    }

    /// A member that told of the peer and was not asked; first those that said that it knows the extension. Who is a member
    /// itself needs no relay, and cannot be one to itself.
    fn relay_for(&self, target: &SocketAddr, asked: &[PeerKey]) -> Option<(PeerKey, u8)> {
        if self.members.values().any(|member| member.is_at(target)) {
            return None;
        }
        let of = |(key, member): (&PeerKey, &Member)| {
            let (_, knows) = *member.told.iter().find(|(address, _)| address == target)?;
            Some((!knows, *key, member.id.filter(|_| !asked.contains(key))?))
        };
        self.members.iter().filter_map(of).min().map(|(_, key, id)| (key, id))
    }

    /// Takes a member's message. `may_relay` is whether the torrent is known to be public.
    ///
    /// # Errors
    /// When it is none, for which the peer is to be dropped.
    pub fn on_message(
        &mut self,
        now: Instant,
        key: PeerKey,
        payload: &[u8],
        may_relay: bool,
    ) -> Result<Vec<HolepunchAction>, ExtensionError> {
        let message = HolepunchMessage::parse(payload)?;
        let (Some(message), Some(id)) = (message, self.members.get(&key).and_then(|member| member.id)) else {
            return Ok(Vec::new());
        };
        let canonical = SocketAddr::new(message.address().ip().to_canonical(), message.address().port());
        Ok(match message {
            HolepunchMessage::Rendezvous(_) if !may_relay => Vec::new(),
            HolepunchMessage::Rendezvous(named) => match self.relay(now, key, canonical) {
                Ok(actions) => actions,
                Err(reason) => {
                    let message = HolepunchMessage::Error(named, reason);
                    vec![HolepunchAction::Send { to: key, id, message }]
                }
            },
            HolepunchMessage::Connect(_) => self.on_connect(now, key, canonical).into_iter().collect(),
            HolepunchMessage::Error(..) => self.on_refusal(now, key, canonical).into_iter().collect(),
        })
    }

    /// Leads two members to each other, in both directions.
    fn relay(
        &mut self,
        now: Instant,
        key: PeerKey,
        target: SocketAddr,
    ) -> Result<Vec<HolepunchAction>, HolepunchReason> {
        let Some(asker) = self.members.get_mut(&key) else { return Ok(Vec::new()) };
        if !asker.requests.take(now, REQUESTS_A_MINUTE) {
            return Ok(Vec::new());
        }
        if !compact::dialable(&target) || asker.is_at(&target) {
            return Err(HolepunchReason::NoSuchPeer);
        }
        if asker.sees_us == Some(target.ip()) && self.listen_port == Some(target.port()) {
            return Err(HolepunchReason::NoSelf);
        }
        let (Some(from), Some(from_id), from_reach) = (asker.port, asker.id, asker.reach) else {
            return Ok(Vec::new());
        };
        // As with BEP 11: an address of a house is told only to who is in there.
        let other = self.members.iter_mut().find(|(_, member)| member.is_at(&target) && member.reach == from_reach);
        let (other, member) = other.ok_or(HolepunchReason::NotConnected)?;
        let to_id = member.id.ok_or(HolepunchReason::NoSupport)?;
        let to = member.port.filter(|to| to.is_ipv4() == from.is_ipv4()).ok_or(HolepunchReason::NotConnected)?;
        if !member.led.take(now, LEADS_A_MINUTE) || !self.pairs.take(now, PAIRS_A_MINUTE) {
            return Ok(Vec::new());
        }
        let lead = |to, id, address| HolepunchAction::Send { to, id, message: HolepunchMessage::Connect(address) };
        Ok(vec![lead(*other, to_id, from), lead(key, from_id, to)])
    }

    /// A relay leads us to somebody: whom we asked for, or who asked for us.
    fn on_connect(&mut self, now: Instant, key: PeerKey, address: SocketAddr) -> Option<HolepunchAction> {
        let member = self.members.get_mut(&key)?;
        let is_public = self.is_public;
        if !compact::dialable(&address) || member.is_at(&address) || Reach::of(address.ip(), is_public) > member.reach {
            return None;
        }
        // The relay may know it by another port than it was told of by.
        let asked = |(target, sought): &(&SocketAddr, &Sought)| {
            target.ip() == address.ip() && sought.asked.last() == Some(&key) && now < sought.since + ANSWER_WITHIN
        };
        let answered = self.sought.iter().find(asked).map(|(target, _)| *target);
        match answered {
            Some(target) => _ = self.sought.remove(&target),
            None if !member.leads.take(now, LEADS_A_MINUTE) => return None,
            None => {}
        }
        self.dials.take(now, DIALS_A_MINUTE).then_some(HolepunchAction::Dial(address))
    }

    /// A relay leads to nobody: the next one is asked.
    fn on_refusal(&mut self, now: Instant, key: PeerKey, target: SocketAddr) -> Option<HolepunchAction> {
        self.sought.get(&target).filter(|sought| sought.asked.last() == Some(&key))?;
        self.ask_next(now, target)
    }
}

impl Member {
    fn is_at(&self, address: &SocketAddr) -> bool {
        self.port == Some(*address) || self.listens == Some(*address)
    }
}

impl Minute {
    /// Counts one more, unless there were `most` in this minute.
    fn take(&mut self, now: Instant, most: u32) -> bool {
        if self.since.is_none_or(|since| now >= since + Duration::from_secs(60)) {
            *self = Self { since: Some(now), times: 0 };
        }
        let free = self.times < most;
        self.times += u32::from(free);
        free
    }
}

#[cfg(test)]
mod tests;
