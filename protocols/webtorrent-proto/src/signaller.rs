//! One torrent's membership of a swarm, as a client of one tracker.
//!
//! An offer that we make is in exactly one place: being made by the shell, ready, or sent and waiting for its answer. It
//! is good for one answer, for [`OFFER_LIFE`], and only through the socket it was sent on. An offer made to us waits for
//! the shell's answer in the same way. Nothing is offered or accepted beyond the peers that the shell says it wants.
//!
//! The shell opens and closes the socket, which all torrents of one tracker share, and makes the descriptions:
//!
//! ```text
//! connected ──► poll_event: MakeOffers ──► offers_ready ──► poll_transmit: announce with offers
//! handle_input(answer) ──► poll_event: Answered ──► the shell connects
//! handle_input(offer)  ──► poll_event: Offered  ──► answer_ready ──► poll_transmit: answer
//! ```
//!
//! After each call both polls are drained; [`Signaller::poll_timeout`] says when to call again by itself.
//!
//! # Why does `started` not wait for offers?
//! Collecting the addresses of an offer may take seconds when a STUN server is slow. Who is a member can be offered to in
//! the meantime, so an announce waits [`OFFER_PATIENCE`] and what comes later goes out with an announce of its own.

mod event;
mod offers;
mod schedule;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use crate::message::{
    Announce, AnnounceEvent, Announced, ClientAnswer, ClientMessage, ClientOffer, OfferId, Relayed, Sdp, ServerMessage,
};
use offers::Offers;
use schedule::Schedule;

pub use event::{DropReason, OfferKey, Progress, SignalEvent, SignalStats, SignallerConfig};
pub use schedule::{ANSWER_TIMEOUT, DEFAULT_INTERVAL, MAX_INTERVAL, MIN_INTERVAL};

/// Offers in one announce.
pub const MAX_OFFERS_PER_ANNOUNCE: usize = 5;
/// Offers of one torrent that are being made, are ready or wait for an answer, at a time. Each holds a connection.
pub const MAX_PENDING_OFFERS: usize = 20;
/// Offers made to us that wait for the shell's answer, for one torrent, at a time.
pub const MAX_INCOMING_OFFERS: usize = 20;
/// How long an offer is good for, ours and others': a minute, by which trackers and peers forget it too.
pub const OFFER_LIFE: Duration = Duration::from_secs(60);
/// How long an announce waits for offers that are being made.
pub const OFFER_PATIENCE: Duration = Duration::from_millis(500);
/// How long the shell may take to make offers; later ones are dropped.
pub const OFFER_MAKING_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Incoming {
    peer_id: PeerId,
    offer_id: OfferId,
    expires: Instant,
}

/// The rules of one torrent on one tracker, as its client. See the head of this module for the order of calls.
#[derive(Debug)]
pub struct Signaller {
    infohash: InfoHash,
    peer_id: PeerId,
    progress: Progress,
    wanted: usize,
    connected: bool,
    completed: bool,
    stopping: bool,
    schedule: Schedule,
    offers: Offers,
    /// Until when the announce that is due waits for offers.
    patience: Option<Instant>,
    incoming: BTreeMap<OfferKey, Incoming>,
    next_key: u64,
    tracker_id: Option<String>,
    outbox: VecDeque<ClientMessage>,
    events: VecDeque<SignalEvent>,
    random: StdRng,
    stats: SignalStats,
}

impl Signaller {
    /// A membership that begins with [`Self::connected`].
    #[must_use]
    pub fn new(config: SignallerConfig) -> Self {
        Self {
            infohash: config.infohash,
            peer_id: config.peer_id,
            progress: config.progress,
            wanted: 0,
            connected: false,
            completed: false,
            stopping: false,
            schedule: Schedule::default(),
            offers: Offers::default(),
            patience: None,
            incoming: BTreeMap::new(),
            next_key: 0,
            tracker_id: None,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            random: StdRng::seed_from_u64(config.seed),
            stats: SignalStats::default(),
        }
    }

    /// The torrent.
    #[must_use]
    pub const fn infohash(&self) -> InfoHash {
        self.infohash
    }

    /// What has happened so far.
    #[must_use]
    pub const fn stats(&self) -> SignalStats {
        self.stats
    }

    /// The socket is open: we announce at once.
    pub fn connected(&mut self, now: Instant) {
        if !self.stopping {
            self.disconnected(now);
            self.connected = true;
            self.schedule.begin(now);
            self.drive(now);
        }
    }

    /// The socket is gone, and with it all that waited for something to come through it.
    pub fn disconnected(&mut self, now: Instant) {
        self.drive_expiry(now);
        self.connected = false;
        self.outbox.clear();
        self.schedule.end();
        self.drop_all(DropReason::Disconnected);
    }

    /// How many more peers are wanted, beyond those that are connected or being connected. Accepting one takes it off
    /// until this is called again. When none were wanted before, an announce is made as soon as the tracker allows; so this
    /// is told before [`Self::connected`], for the first announce to have offers.
    pub fn set_wanted(&mut self, now: Instant, wanted: usize) {
        let before = std::mem::replace(&mut self.wanted, wanted);
        if before == 0 && wanted > 0 {
            self.announce_now(now);
        }
    }

    /// Peers are wanted now: the tracker is asked as soon as it allows, rather than after its interval.
    pub fn announce_now(&mut self, now: Instant) {
        self.schedule.hurry(now);
        self.drive(now);
    }

    /// Tells how far we are, for the next announce.
    pub const fn set_progress(&mut self, progress: Progress) {
        self.progress = progress;
    }

    /// Everything is here, as of now: a tracker that knew us without is told at once.
    pub fn complete(&mut self, now: Instant) {
        self.progress.left = Some(0);
        if !std::mem::replace(&mut self.completed, true) {
            self.schedule.complete(now);
            self.drive(now);
        }
    }

    /// We leave the swarm: the tracker is told if it knows us, offers are dropped, and nothing else is said any more.
    pub fn stop(&mut self, now: Instant) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        self.drop_all(DropReason::Stopped);
        if self.connected && self.schedule.has_announced() {
            let message = self.message(AnnounceEvent::Stopped, Vec::new());
            self.outbox.push_back(message);
        }
        self.drive_expiry(now);
    }

    /// Whether [`Self::stop`] was called and all has been said.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopping && self.outbox.is_empty()
    }

    /// Takes a message of the tracker. One about another torrent, or about none, is nothing to us.
    pub fn handle_input(&mut self, now: Instant, message: ServerMessage) {
        if !self.connected || self.stopping || message.infohash() != Some(self.infohash) {
            return;
        }
        self.drive_expiry(now);
        match message {
            ServerMessage::Announced(announced) => self.on_announced(now, announced),
            ServerMessage::Offer(offer) => self.on_offer(now, offer),
            ServerMessage::Answer(answer) => self.on_answer(now, answer),
            ServerMessage::Failure { reason, .. } => self.on_failure(now, reason),
            ServerMessage::Warning { message, .. } => self.events.push_back(SignalEvent::Warned(message)),
            ServerMessage::Scraped(_) => {}
        }
        self.drive(now);
    }

    fn on_announced(&mut self, now: Instant, announced: Announced) {
        self.schedule.answered(now, &announced, self.is_complete());
        self.tracker_id = announced.tracker_id.or_else(|| self.tracker_id.take());
        self.events.extend(announced.warning.map(SignalEvent::Warned));
        let (complete, incomplete) = (announced.complete, announced.incomplete);
        self.events.push_back(SignalEvent::Announced { complete, incomplete });
    }

    fn on_failure(&mut self, now: Instant, reason: String) {
        // With no announce under way it is about something else, such as an answer of ours that came too late.
        self.schedule.failed(now, &mut self.random);
        self.events.push_back(SignalEvent::Refused(reason));
    }

    fn on_answer(&mut self, now: Instant, answer: Relayed) {
        if answer.peer_id == self.peer_id || !self.offers.take_sent(&answer.offer_id) {
            self.stats.answers_ignored += 1;
            return;
        }
        let offer_id = answer.offer_id;
        if self.wanted == 0 {
            self.stats.answers_ignored += 1;
            self.events.push_back(SignalEvent::DropOffer { offer_id, reason: DropReason::NoRoom });
            return;
        }
        self.wanted -= 1;
        self.stats.answers_accepted += 1;
        self.events.push_back(SignalEvent::Answered { offer_id, peer_id: answer.peer_id, sdp: answer.sdp });
        // All were taken: there may be more peers than offers.
        if self.offers.pending() == 0 && self.wanted > 0 {
            self.schedule.hurry(now);
        }
    }

    fn on_offer(&mut self, now: Instant, offer: Relayed) {
        let repeated = |known: &Incoming| known.peer_id == offer.peer_id && known.offer_id == offer.offer_id;
        let no_room = self.wanted == 0 || self.incoming.len() >= MAX_INCOMING_OFFERS;
        if no_room || offer.peer_id == self.peer_id || self.incoming.values().any(repeated) {
            self.stats.offers_ignored += 1;
            return;
        }
        self.wanted -= 1;
        self.stats.offers_accepted += 1;
        let key = OfferKey(self.next_key);
        self.next_key += 1;
        let Relayed { peer_id, offer_id, sdp, .. } = offer;
        self.incoming.insert(key, Incoming { peer_id, offer_id, expires: now + OFFER_LIFE });
        self.events.push_back(SignalEvent::Offered { key, peer_id, sdp });
    }

    /// The shell has made the offers that it was asked for; those that are missing have failed. Offers that were not asked
    /// for, or too long ago, come back as [`SignalEvent::DropOffer`].
    pub fn offers_ready(&mut self, now: Instant, offers: Vec<ClientOffer>) {
        self.drive_expiry(now);
        for offer_id in self.offers.made(offers) {
            self.events.push_back(SignalEvent::DropOffer { offer_id, reason: DropReason::NotWanted });
        }
        self.drive(now);
    }

    /// The shell answers an offer. Says whether the answer goes out; if not, it came too late, or through a socket that is
    /// gone, and the connection should be closed.
    #[must_use]
    pub fn answer_ready(&mut self, now: Instant, key: OfferKey, sdp: Sdp) -> bool {
        self.drive_expiry(now);
        let Some(incoming) = self.incoming.remove(&key) else { return false };
        self.stats.answers_sent += 1;
        self.outbox.push_back(ClientMessage::Answer(ClientAnswer {
            infohash: self.infohash,
            peer_id: self.peer_id,
            to_peer_id: incoming.peer_id,
            offer_id: incoming.offer_id,
            sdp,
            tracker_id: self.tracker_id.clone(),
        }));
        true
    }

    /// The shell cannot answer an offer: another peer may take its place.
    pub fn answer_failed(&mut self, key: OfferKey) {
        if self.incoming.remove(&key).is_some() {
            self.wanted += 1;
        }
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.drive(now);
    }

    /// The next message to send to the tracker.
    pub fn poll_transmit(&mut self) -> Option<ClientMessage> {
        self.outbox.pop_front()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<SignalEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`], if nothing else happens, and why.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let incoming = self.incoming.values().map(|incoming| incoming.expires).min();
        let announce = match self.patience {
            Some(until) if self.offers.is_making() => Some((until, "no offers in time")),
            _ => self.schedule.poll_timeout().filter(|_| !self.stopping),
        };
        let expiry = incoming.map(|at| (at, "an offer to us expires"));
        [announce, self.offers.poll_timeout(), expiry].into_iter().flatten().min()
    }

    const fn is_complete(&self) -> bool {
        matches!(self.progress.left, Some(0))
    }

    /// Announces when it is time to, or when offers were made too late for the last one.
    fn drive(&mut self, now: Instant) {
        self.drive_expiry(now);
        if !self.connected || self.stopping {
            return;
        }
        if self.schedule.is_unanswered(now) {
            self.on_failure(now, "no answer".to_owned());
        }
        let due = self.schedule.is_due(now);
        if due && self.patience.is_none() && self.ask_for_offers(now) {
            self.patience = Some(now + OFFER_PATIENCE);
        }
        let waiting = self.offers.is_making() && self.patience.is_some_and(|until| now < until);
        if (due && !waiting) || self.offers.has_ready() {
            self.announce(now);
        }
    }

    fn ask_for_offers(&mut self, now: Instant) -> bool {
        let pending = self.offers.pending();
        let room = self.wanted.min(MAX_PENDING_OFFERS).saturating_sub(pending).min(MAX_OFFERS_PER_ANNOUNCE);
        // Who has just become a seed wants to be known as one, and is told of peers by the next announce.
        let completed = self.schedule.event(self.is_complete()) == AnnounceEvent::Completed;
        if room == 0 || completed || self.offers.is_making() {
            return false;
        }
        let ids: Vec<_> = (0..room).map(|_| OfferId::random(&mut self.random)).collect();
        self.offers.ask(now, &ids);
        self.events.push_back(SignalEvent::MakeOffers(ids));
        true
    }

    fn announce(&mut self, now: Instant) {
        self.patience = None;
        let event = self.schedule.event(self.is_complete());
        let offers = self.offers.send(now);
        self.stats.announces += 1;
        self.stats.offers_sent += offers.len() as u64;
        self.schedule.sent(now, event, self.is_complete());
        let message = self.message(event, offers);
        self.outbox.push_back(message);
    }

    fn message(&self, event: AnnounceEvent, offers: Vec<ClientOffer>) -> ClientMessage {
        ClientMessage::Announce(Announce {
            infohash: self.infohash,
            peer_id: self.peer_id,
            event,
            uploaded: self.progress.uploaded,
            downloaded: self.progress.downloaded,
            left: self.progress.left,
            numwant: u32::try_from(offers.len()).ok(),
            offers,
            tracker_id: self.tracker_id.clone(),
        })
    }

    fn drive_expiry(&mut self, now: Instant) {
        for offer_id in self.offers.expire(now) {
            self.events.push_back(SignalEvent::DropOffer { offer_id, reason: DropReason::Expired });
        }
        let before = self.incoming.len();
        self.incoming.retain(|_, incoming| incoming.expires > now);
        self.wanted += before - self.incoming.len();
    }

    fn drop_all(&mut self, reason: DropReason) {
        self.patience = None;
        for offer_id in self.offers.clear() {
            self.events.push_back(SignalEvent::DropOffer { offer_id, reason });
        }
        self.wanted += self.incoming.len();
        self.incoming.clear();
    }
}

#[cfg(test)]
mod tests;
