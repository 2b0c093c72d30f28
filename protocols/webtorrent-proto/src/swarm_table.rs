//! The embedded tracker: who is in which swarm, and which offer and answer goes to whom.
//!
//! A socket is a member of a swarm from its first announce until it stops, falls silent, or closes. Its offers go to other
//! members by lot, each to another, and each member has its turn before any is asked again. An answer goes to the socket
//! whose offer was relayed to the one that answers, once, within a minute, and nowhere else.
//!
//! Strangers' frames come in by [`SwarmTable::handle_frame`], which holds them to their limits. The gateway is a member
//! too, in the same process: its socket is opened with [`SwarmTable::open_local`], its messages need no text, and the
//! limits of strangers do not apply to it. Clients without WebRTC announce by [`SwarmTable::announce_classic`], and meet
//! only each other.
//!
//! After each call [`SwarmTable::poll_transmit`] and [`SwarmTable::poll_event`] are drained: one message makes at most
//! 1 + [`MAX_OFFERS`](crate::message::MAX_OFFERS) others, and nothing else bounds those queues.
//!
//! # Why is a member a socket, and not a peer id?
//! A peer id is what its sender says. Were it the key, a stranger could take over another's place in a swarm by saying
//! its id; and some clients answer under other ids than they announce. So an id is only passed on.

mod classic;
mod options;
mod relay;
mod roster;
mod sockets;
mod swarm;
mod violation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_content::InfoHash;

use crate::message::{
    Announce, AnnounceEvent, Announced, ClientAnswer, ClientMessage, Relayed, ServerMessage, SwarmSize,
};
use relay::{OfferName, PendingOffers};
use sockets::Sockets;
use swarm::{Report, Swarm};

pub use options::{Admission, DEFAULT_CLASSIC_PEERS, MAX_CLASSIC_PEERS, MAX_PORTS_PER_HOST, TableOptions};
pub use relay::RELAYED_OFFER_LIFE;
pub use violation::Violation;

/// One socket of a [`SwarmTable`]; good for its life, and never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey(u64);

/// What the shell should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableEvent {
    /// Close this socket: it was silent for too long. The table has forgotten it.
    CloseIdle(SocketKey),
}

/// What there is, and what has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Strangers' sockets.
    pub sockets: usize,
    /// Torrents with members.
    pub swarms: usize,
    /// Memberships by WebSocket.
    pub web_members: usize,
    /// Memberships by HTTP.
    pub classic_members: usize,
    /// Relayed offers that may wait for an answer.
    pub pending_offers: usize,
    /// Announces taken, of all kinds.
    pub announces: u64,
    /// Offers relayed.
    pub offers_relayed: u64,
    /// Answers relayed.
    pub answers_relayed: u64,
    /// Messages refused.
    pub refused: u64,
}

/// The tracker's rules. See the head of this module for how it is driven.
#[derive(Debug)]
pub struct SwarmTable {
    options: TableOptions,
    admission: Admission,
    sockets: Sockets,
    swarms: BTreeMap<InfoHash, Swarm>,
    /// Members by when they were last seen.
    web_ages: BTreeSet<(Instant, SocketKey, InfoHash)>,
    tcp_ages: BTreeSet<(Instant, SocketAddr, InfoHash)>,
    offers: PendingOffers,
    outputs: VecDeque<(SocketKey, ServerMessage)>,
    events: VecDeque<TableEvent>,
    random: StdRng,
    stats: TableStats,
}

impl SwarmTable {
    /// An empty tracker. `seed` decides the lots, and must not be known to strangers.
    #[must_use]
    pub fn new(options: TableOptions, admission: Admission, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            options,
            admission,
            sockets: Sockets::default(),
            swarms: BTreeMap::new(),
            web_ages: BTreeSet::new(),
            tcp_ages: BTreeSet::new(),
            offers: PendingOffers::new(options.max_pending_offers, random.random()),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            random,
            stats: TableStats::default(),
        }
    }

    /// The tracker's limits.
    #[must_use]
    pub const fn options(&self) -> &TableOptions {
        &self.options
    }

    /// What there is, and what has happened so far.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        TableStats {
            sockets: self.sockets.strangers(),
            swarms: self.swarms.len(),
            web_members: self.web_ages.len(),
            classic_members: self.tcp_ages.len(),
            pending_offers: self.offers.len(),
            ..self.stats
        }
    }

    /// A stranger's socket is open.
    ///
    /// # Errors
    /// When there are too many, in all or from its host: it is to be closed.
    pub fn open_socket(&mut self, now: Instant, address: IpAddr) -> Result<SocketKey, Violation> {
        self.handle_timeout(now);
        self.sockets.open(now, address, &self.options)
    }

    /// A member in this process joins: no limit of strangers applies to it, and it is never idle.
    pub fn open_local(&mut self) -> SocketKey {
        self.sockets.open_local()
    }

    /// A socket is closed: it leaves its swarms, and nothing is sent to it any more.
    pub fn close_socket(&mut self, socket: SocketKey) {
        for infohash in self.sockets.close(socket).unwrap_or_default() {
            self.leave(socket, infohash);
        }
        self.offers.forget(socket);
    }

    /// Serves a torrent from now on.
    pub fn admit(&mut self, infohash: InfoHash) {
        if let Admission::Listed(listed) = &mut self.admission {
            listed.insert(infohash);
        }
    }

    /// Serves a torrent no more, if it was listed: its swarm is forgotten.
    pub fn dismiss(&mut self, infohash: &InfoHash) {
        let Admission::Listed(listed) = &mut self.admission else { return };
        if !listed.remove(infohash) {
            return;
        }
        let Some(swarm) = self.swarms.get(infohash) else { return };
        let (web, tcp): (Vec<_>, Vec<_>) = (swarm.web.keys().collect(), swarm.tcp.keys().collect());
        for key in web {
            self.leave(key, *infohash);
        }
        for address in tcp {
            self.leave_classic(address, *infohash);
        }
    }

    /// Whether a torrent is served.
    #[must_use]
    pub fn admits(&self, infohash: &InfoHash) -> bool {
        self.admission.admits(infohash)
    }

    /// How many are in a swarm; none in one that is not served or has no members.
    #[must_use]
    pub fn swarm_size(&self, infohash: &InfoHash) -> SwarmSize {
        self.swarms.get(infohash).map_or_else(SwarmSize::default, Swarm::size)
    }

    /// Takes a frame of a stranger, text or binary.
    ///
    /// # Errors
    /// When a limit is reached, or the frame is no message; [`Violation::closes`] says whether to close the socket. The
    /// client is told where that is of use, by [`Self::poll_transmit`].
    pub fn handle_frame(&mut self, now: Instant, socket: SocketKey, frame: &[u8]) -> Result<(), Violation> {
        let allowed = self.sockets.admit_message(now, socket, &self.options);
        let read = allowed.and_then(|()| Ok(ClientMessage::parse(frame)?));
        match read {
            Ok(message) => self.handle_message(now, socket, message),
            Err(violation) => Err(self.refuse(socket, None, violation)),
        }
    }

    /// Takes a message of a member in this process, or one that was read and counted elsewhere.
    ///
    /// # Errors
    /// As [`Self::handle_frame`], but for the rate and the size.
    pub fn handle_message(&mut self, now: Instant, socket: SocketKey, message: ClientMessage) -> Result<(), Violation> {
        let infohash = message.infohash();
        // Who speaks is not idle, however late.
        let result = self.sockets.heard(now, socket).and_then(|()| {
            self.handle_timeout(now);
            match message {
                ClientMessage::Announce(announce) => self.announce(now, socket, announce),
                ClientMessage::Answer(answer) => self.answer(socket, answer),
                ClientMessage::Scrape(hashes) => {
                    self.scrape(socket, &hashes);
                    Ok(())
                }
            }
        });
        result.map_err(|violation| self.refuse(socket, infohash, violation))
    }

    fn refuse(&mut self, socket: SocketKey, infohash: Option<InfoHash>, violation: Violation) -> Violation {
        self.stats.refused += 1;
        if violation.is_told() {
            let infohash = if let Violation::Message(error) = &violation { error.infohash } else { infohash };
            self.outputs.push_back((socket, ServerMessage::Failure { reason: violation.to_string(), infohash }));
        }
        violation
    }

    fn announce(&mut self, now: Instant, socket: SocketKey, announce: Announce) -> Result<(), Violation> {
        let infohash = announce.infohash;
        if !self.admits(&infohash) {
            return Err(Violation::NotAdmitted { infohash });
        }
        if announce.event == AnnounceEvent::Stopped {
            self.leave(socket, infohash);
        } else {
            self.join(now, socket, &announce)?;
        }
        self.stats.announces += 1;
        let size = self.swarm_size(&infohash);
        let announced = Announced {
            interval: Some(self.options.interval),
            complete: Some(size.complete),
            incomplete: Some(size.incomplete),
            ..Announced::new(infohash)
        };
        self.outputs.push_back((socket, ServerMessage::Announced(announced)));
        self.relay_offers(now, socket, announce)
    }

    /// Makes or keeps a socket a member of a swarm.
    fn join(&mut self, now: Instant, key: SocketKey, announce: &Announce) -> Result<(), Violation> {
        let infohash = announce.infohash;
        let socket = self.sockets.get_mut(key).ok_or(Violation::UnknownSocket)?;
        if !socket.hashes.contains(&infohash) {
            let max = self.options.max_hashes_per_socket;
            if socket.is_stranger() && socket.hashes.len() >= max {
                return Err(Violation::HashesPerSocket { max });
            }
            room_in(&self.swarms, &infohash, &self.options)?;
            socket.hashes.insert(infohash);
        }
        let report = Report { peer_id: announce.peer_id, event: announce.event, left: announce.left };
        let swarm = self.swarms.entry(infohash).or_default();
        if let Some(seen) = swarm.heard_web(now, key, report) {
            self.web_ages.remove(&(seen, key, infohash));
        }
        self.web_ages.insert((now, key, infohash));
        Ok(())
    }

    /// Takes a member out of a swarm, and a swarm without members out of the table.
    fn leave(&mut self, key: SocketKey, infohash: InfoHash) {
        if let Some(socket) = self.sockets.get_mut(key) {
            socket.hashes.remove(&infohash);
        }
        let Some(swarm) = self.swarms.get_mut(&infohash) else { return };
        if let Some(seen) = swarm.leave_web(&key) {
            self.web_ages.remove(&(seen, key, infohash));
        }
        self.forget_if_empty(infohash);
    }

    fn forget_if_empty(&mut self, infohash: InfoHash) {
        if self.swarms.get(&infohash).is_some_and(|swarm| swarm.len() == 0) {
            self.swarms.remove(&infohash);
        }
    }

    fn relay_offers(&mut self, now: Instant, socket: SocketKey, announce: Announce) -> Result<(), Violation> {
        let Announce { infohash, peer_id, offers, .. } = announce;
        let Some(swarm) = self.swarms.get_mut(&infohash) else { return Ok(()) };
        let is_stranger = self.sockets.get_mut(socket).is_some_and(|socket| socket.is_stranger());
        let max = self.options.max_pending_offers_per_socket;
        let mut asked = Vec::with_capacity(offers.len());
        for offer in offers {
            if is_stranger && self.offers.count_from(socket) >= max {
                return Err(Violation::PendingOffers { max });
            }
            let Some(to) = swarm.draw_web(socket, &asked, &mut self.random) else { break };
            asked.push(to);
            let name = OfferName { infohash, offerer: peer_id, offer_id: offer.offer_id.clone() };
            if self.offers.add(now, socket, to, name) {
                self.stats.offers_relayed += 1;
                let relayed = Relayed { infohash, peer_id, offer_id: offer.offer_id, sdp: offer.sdp };
                self.outputs.push_back((to, ServerMessage::Offer(relayed)));
            }
        }
        Ok(())
    }

    fn answer(&mut self, socket: SocketKey, answer: ClientAnswer) -> Result<(), Violation> {
        let ClientAnswer { infohash, peer_id, to_peer_id, offer_id, sdp, .. } = answer;
        let name = OfferName { infohash, offerer: to_peer_id, offer_id };
        let to = self.offers.take(socket, &name).ok_or(Violation::UnknownOffer)?;
        if !self.swarms.get(&infohash).is_some_and(|swarm| swarm.web.contains(&to)) {
            return Err(Violation::UnknownOffer);
        }
        self.stats.answers_relayed += 1;
        let relayed = Relayed { infohash, peer_id, offer_id: name.offer_id, sdp };
        self.outputs.push_back((to, ServerMessage::Answer(relayed)));
        Ok(())
    }

    fn scrape(&mut self, socket: SocketKey, hashes: &[InfoHash]) {
        let sizes = hashes.iter().map(|infohash| (*infohash, self.swarm_size(infohash))).collect();
        self.outputs.push_back((socket, ServerMessage::Scraped(sizes)));
    }

    /// Forgets what has become too old: members that do not announce, offers that nobody answers, idle sockets.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.offers.expire(now);
        let timeout = self.options.member_timeout();
        while let Some(&(_, key, infohash)) = self.web_ages.first().filter(|(seen, ..)| *seen + timeout <= now) {
            self.leave(key, infohash);
        }
        while let Some(&(_, address, infohash)) = self.tcp_ages.first().filter(|(seen, ..)| *seen + timeout <= now) {
            self.leave_classic(address, infohash);
        }
        while let Some(idle) = self.sockets.next_idle(now, &self.options) {
            self.close_socket(idle);
            self.events.push_back(TableEvent::CloseIdle(idle));
        }
    }

    /// The next message to send, and on which socket.
    pub fn poll_transmit(&mut self) -> Option<(SocketKey, ServerMessage)> {
        // Some may have been meant for a socket that has gone since.
        std::iter::from_fn(|| self.outputs.pop_front()).find(|(socket, _)| self.sockets.contains(*socket))
    }

    /// The next thing to do.
    pub fn poll_event(&mut self) -> Option<TableEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], if nothing else happens, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let timeout = self.options.member_timeout();
        let web = self.web_ages.first().map(|(seen, ..)| (*seen + timeout, "a member is silent"));
        let tcp = self.tcp_ages.first().map(|(seen, ..)| (*seen + timeout, "a classic member is silent"));
        [self.offers.poll_timeout(), web, tcp, self.sockets.poll_timeout()].into_iter().flatten().min()
    }
}

/// Whether one more member fits.
fn room_in(swarms: &BTreeMap<InfoHash, Swarm>, infohash: &InfoHash, options: &TableOptions) -> Result<(), Violation> {
    let (max_swarms, max_members) = (options.max_swarms, options.max_members_per_swarm);
    match swarms.get(infohash) {
        None if swarms.len() >= max_swarms => Err(Violation::Swarms { max: max_swarms }),
        Some(swarm) if swarm.len() >= max_members => Err(Violation::Members { max: max_members }),
        None | Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
