//! The client of one tracker: a task that owns the conversation with it and the memberships of all torrents in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::{AttemptOutcome, InfoHash, ProtocolStats};
use swarmgate_swarm::Held;
use swarmgate_webtorrent_proto::backoff::Backoff;
use swarmgate_webtorrent_proto::message::{ClientMessage, OfferId, Sdp, ServerMessage};
use swarmgate_webtorrent_proto::signaller::{OfferKey, SignalEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::log::TrackerLog;
use super::member::{Again, Done, Member, Membership};
use super::wire::{Opener, Wire, WireError};
use crate::hub::TrackerHub;
use crate::introduce::{Place, lead_in};
use crate::meeting::{Doubt, Meeting};
use crate::rtc::{PendingOffer, RtcManager, RtcStream};

/// Commands that may wait.
const QUEUE: usize = 64;
/// Pieces of work that may be under way for one tracker: offers being made, answers, connections being opened. Each is
/// bounded in time by the WebRTC manager.
const MAX_WORK: usize = 64;
/// Messages that may wait for a slow conversation; more are dropped, and their rules try again.
const MAX_OUTBOX: usize = 256;
/// How long the tracker has to hear our goodbye.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// How a tracker is reached.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    /// Over a WebSocket to this URL.
    WebSocket(Opener, String),
    /// It is the one in this process.
    InProcess(Arc<TrackerHub>),
}

/// What every client shares with its application.
#[derive(Debug, Clone)]
pub(crate) struct ClientSetup {
    pub(crate) rtc: RtcManager,
    pub(crate) stats: Arc<ProtocolStats>,
    pub(crate) log: Arc<TrackerLog>,
    /// Changes when some torrent has a free place for a peer, or has got its last piece.
    pub(crate) freed: watch::Receiver<u64>,
}

/// A running client. Dropping it ends it without a goodbye; [`Self::shutdown`] says it.
#[derive(Debug)]
pub(crate) struct TrackerClient {
    commands: mpsc::Sender<Command>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Command {
    Join(Box<Membership>),
    Leave(InfoHash, u64),
}

struct Actor {
    label: String,
    carrier: Carrier,
    setup: ClientSetup,
    commands: mpsc::Receiver<Command>,
    members: BTreeMap<InfoHash, Member>,
    wire: Option<Wire>,
    /// A conversation that is being opened.
    opening: JoinSet<Result<Wire, WireError>>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    outbox: VecDeque<ClientMessage>,
    work: JoinSet<Done>,
}

impl TrackerClient {
    /// Starts a client that opens its conversation with the first member.
    pub(crate) fn spawn(label: String, carrier: Carrier, setup: ClientSetup) -> Self {
        let (sender, commands) = mpsc::channel(QUEUE);
        let actor = Actor {
            label,
            carrier,
            setup,
            commands,
            members: BTreeMap::new(),
            wire: None,
            opening: JoinSet::new(),
            backoff: Backoff::new(rand::random()),
            retry_at: None,
            outbox: VecDeque::new(),
            work: JoinSet::new(),
        };
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(actor.run(stop.clone())));
        Self { commands: sender, stop, task }
    }

    /// Makes a torrent known to the tracker.
    pub(crate) async fn join(&self, membership: Membership) {
        // A client that has ended wants no members.
        let _ = self.commands.send(Command::Join(Box::new(membership))).await;
    }

    /// Ends the membership of one activation of a torrent.
    pub(crate) async fn leave(&self, infohash: InfoHash, serial: u64) {
        let _ = self.commands.send(Command::Leave(infohash, serial)).await;
    }

    /// Says goodbye for every member, and returns when that is done or [`GOODBYE`] has passed.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        // The task is cancelled, not aborted: a join error could only be its panic, already reported.
        let _ = self.task.await;
    }
}

impl Actor {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake_at = self.drive();
            let wire = self.wire.as_mut();
            let (out, inbox) = wire.map_or((None, None), |wire| (Some(wire.out.clone()), Some(&mut wire.inbox)));
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                message = next(inbox) => self.hear(message).await,
                () = ready(out), if !self.outbox.is_empty() => self.say(),
                Some(opened) = self.opening.join_next() => self.on_opened(opened.unwrap_or(Err(WireError::Closed))),
                Some(done) = self.work.join_next() => self.on_done(done.ok()),
                changed = self.setup.freed.changed() => if changed.is_err() { break },
                () = until(wake_at) => {}
            }
        }
        self.say_goodbye().await;
    }

    // --- what is due ---------------------------------------------------------------------------------------------

    /// Lets the rules decide, does what they say, and tells when to look again.
    fn drive(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let infohashes: Vec<_> = self.members.keys().copied().collect();
        for infohash in infohashes {
            let Some(member) = self.members.get_mut(&infohash) else { continue };
            member.refresh(now);
            member.signaller.handle_timeout(now);
            while let Some(event) = self.members.get_mut(&infohash).and_then(|member| member.signaller.poll_event()) {
                self.on_event(infohash, event);
            }
            while let Some(message) = self.members.get_mut(&infohash).and_then(|it| it.signaller.poll_transmit()) {
                self.post(message);
            }
        }
        self.open_when_due(now);
        let timeouts = self.members.values().filter_map(|member| member.signaller.poll_timeout());
        timeouts.map(|(at, _)| at).chain(self.retry_at).min()
    }

    fn post(&mut self, message: ClientMessage) {
        if self.outbox.len() < MAX_OUTBOX {
            self.outbox.push_back(message);
        }
    }

    fn open_when_due(&mut self, now: Instant) {
        let busy = self.wire.is_some() || !self.opening.is_empty() || self.members.is_empty();
        if busy || self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        self.retry_at = None;
        let carrier = self.carrier.clone();
        self.opening.spawn(async move {
            match carrier {
                Carrier::WebSocket(opener, url) => opener.open(&url).await,
                Carrier::InProcess(hub) => hub.join_in_process().ok_or(WireError::Closed),
            }
        });
    }

    // --- what happened -------------------------------------------------------------------------------------------

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Join(membership) => {
                let infohash = membership.swarm.handle.infohash();
                self.setup.log.joined(infohash, &self.label);
                let mut member = Member::new(*membership);
                member.refresh(now);
                if self.wire.is_some() {
                    member.signaller.connected(now);
                }
                self.members.insert(infohash, member);
            }
            Command::Leave(infohash, serial) => {
                let ended = self.members.get(&infohash).is_some_and(|it| it.membership.swarm.serial() == serial);
                if let Some(mut member) = self.members.remove(&infohash).filter(|_| ended) {
                    member.signaller.stop(now);
                    std::iter::from_fn(|| member.signaller.poll_transmit()).for_each(|message| self.post(message));
                    self.setup.log.left(infohash, &self.label);
                }
            }
        }
    }

    async fn hear(&mut self, message: Option<ServerMessage>) {
        let now = Instant::now();
        let Some(message) = message else { return self.on_closed().await };
        self.backoff.succeeded();
        if let Some(member) = message.infohash().and_then(|infohash| self.members.get_mut(&infohash)) {
            member.signaller.handle_input(now, message);
        } else if let ServerMessage::Failure { reason, infohash: None } = message {
            tracing::debug!(tracker = self.label, reason, "a tracker refuses something");
        }
    }

    async fn on_closed(&mut self) {
        let carrier = self.wire.take().and_then(|wire| wire.carrier);
        let why = match carrier {
            Some(carrier) => carrier.await.unwrap_or(WireError::Closed),
            None => WireError::Closed,
        };
        self.lost(&why);
    }

    fn on_opened(&mut self, opened: Result<Wire, WireError>) {
        match opened {
            Ok(wire) => {
                self.wire = Some(wire);
                let now = Instant::now();
                self.members.values_mut().for_each(|member| member.signaller.connected(now));
            }
            Err(error) => self.lost(&error),
        }
    }

    /// There is no conversation: all that waited for something to come through it is over.
    fn lost(&mut self, why: &WireError) {
        let now = Instant::now();
        tracing::debug!(tracker = self.label, error = %why, "no conversation with a tracker");
        self.outbox.clear();
        self.retry_at = Some(now + self.backoff.failed());
        for (infohash, member) in &mut self.members {
            member.signaller.disconnected(now);
            self.setup.stats.announces_failed(1);
            let outcome =
                if why.is_timeout() { AttemptOutcome::Timeout } else { AttemptOutcome::Failed(why.to_string()) };
            self.setup.log.heard(*infohash, &self.label, outcome);
        }
    }

    /// Hands one message to the conversation, which has room for it.
    fn say(&mut self) {
        if let Some(wire) = &self.wire
            && let Some(message) = self.outbox.pop_front()
        {
            // Full again means that the message is lost, as on any way to a tracker; the rules try again.
            let _ = wire.out.try_send(message);
        }
    }

    fn on_event(&mut self, infohash: InfoHash, event: SignalEvent) {
        match event {
            SignalEvent::MakeOffers(ids) => self.make_offers(infohash, ids),
            SignalEvent::DropOffer { offer_id, .. } => {
                if let Some(member) = self.members.get_mut(&infohash) {
                    drop(member.take_offer(&offer_id));
                }
            }
            SignalEvent::Answered { offer_id, peer_id, sdp } => {
                let offer = self.members.get_mut(&infohash).and_then(|member| member.take_offer(&offer_id));
                offer.into_iter().for_each(|offer| self.connect(infohash, Box::new(offer), peer_id, sdp.clone()));
            }
            SignalEvent::Offered { key, peer_id, sdp } => self.answer(infohash, key, peer_id, sdp),
            SignalEvent::Announced { complete, incomplete } => {
                self.setup.stats.announces(1);
                let others = complete.unwrap_or(0).saturating_add(incomplete.unwrap_or(0)).saturating_sub(1);
                let outcome = AttemptOutcome::Ok(format!("{others} others in its swarm"));
                self.setup.log.heard(infohash, &self.label, outcome);
            }
            SignalEvent::Refused(reason) => {
                self.setup.stats.announces_failed(1);
                self.setup.log.heard(infohash, &self.label, AttemptOutcome::Failed(reason));
            }
            SignalEvent::Warned(warning) => {
                tracing::debug!(tracker = self.label, %infohash, warning, "a tracker warns")
            }
        }
    }

    fn on_done(&mut self, done: Option<Done>) {
        let now = Instant::now();
        match done {
            Some(Done::Offers(infohash, serial, offers)) => {
                if let Some(member) = self.member(infohash, serial) {
                    member.offers_made(now, offers);
                }
            }
            Some(Done::Answer(infohash, serial, key, answered, meeting)) => {
                let Some(member) = self.member(infohash, serial) else { return };
                match answered {
                    Ok(answered) if meeting.is_given_up() => {
                        // Closed before the meeting ends: whoever was preferred waits for its addresses.
                        drop(answered);
                        drop(meeting);
                        member.signaller.answer_failed(key);
                    }
                    Ok(answered) => {
                        let sent = Sdp::new(answered.sdp().to_owned())
                            .is_ok_and(|sdp| member.signaller.answer_ready(now, key, sdp));
                        if sent {
                            self.introduce(infohash, meeting, answered.open());
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%infohash, %error, "an offer was not answered");
                        member.signaller.answer_failed(key);
                        self.setup.stats.dials_failed(1);
                    }
                }
            }
            Some(Done::Doubted(infohash, serial, gone, again)) => {
                let Some(member) = self.member(infohash, serial) else { return };
                match again {
                    Again::Offered(key, peer_id, sdp) if gone => self.answer(infohash, key, peer_id, sdp),
                    Again::Offered(key, ..) => member.signaller.answer_failed(key),
                    Again::Answered(offer, peer_id, sdp) if gone => self.connect(infohash, offer, peer_id, sdp),
                    Again::Answered(..) => {
                        tracing::debug!(%infohash, "an answer is not needed: there is a connection with that peer")
                    }
                }
            }
            Some(Done::Connected(Err(error))) => {
                tracing::debug!(tracker = self.label, error, "a WebRTC connection did not become a peer");
                self.setup.stats.dials_failed(1);
            }
            Some(Done::Connected(Ok(()))) | None => {}
        }
    }

    // --- work ----------------------------------------------------------------------------------------------------

    fn member(&mut self, infohash: InfoHash, serial: u64) -> Option<&mut Member> {
        self.members.get_mut(&infohash).filter(|member| member.membership.swarm.serial() == serial)
    }

    fn make_offers(&mut self, infohash: InfoHash, ids: Vec<OfferId>) {
        let Some(member) = self.members.get(&infohash) else { return };
        let (rtc, serial) = (self.setup.rtc.clone(), member.membership.swarm.serial());
        self.work.spawn(async move {
            let make = |id: OfferId| {
                let rtc = rtc.clone();
                async move { rtc.offer().await.map(|offer| (id, offer)) }
            };
            let made = futures_util::future::join_all(ids.into_iter().map(make)).await;
            let (made, failed): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
            if let Some(Err(error)) = failed.into_iter().next() {
                tracing::debug!(%infohash, %error, "an offer was not made");
            }
            Done::Offers(infohash, serial, made.into_iter().flatten().collect())
        });
    }

    /// A peer offers.
    fn answer(&mut self, infohash: InfoHash, key: OfferKey, peer_id: PeerId, sdp: Sdp) {
        let Some(member) = self.members.get_mut(&infohash) else { return };
        let (meetings, serial) = (&member.membership.places.meetings, member.membership.swarm.serial());
        if self.work.len() >= MAX_WORK {
            return member.signaller.answer_failed(key);
        }
        let Some(meeting) = meetings.offered(peer_id) else {
            let Some(doubt) = meetings.doubt(peer_id) else { return member.signaller.answer_failed(key) };
            return self.settle(infohash, serial, doubt, Again::Offered(key, peer_id, sdp));
        };
        let rtc = self.setup.rtc.clone();
        self.work.spawn(async move {
            let answered = rtc.answer(sdp.as_str()).await.map(Box::new);
            Done::Answer(infohash, serial, key, answered, meeting)
        });
    }

    /// A peer has answered one of our offers.
    fn connect(&mut self, infohash: InfoHash, offer: Box<PendingOffer>, peer_id: PeerId, sdp: Sdp) {
        let Some(member) = self.members.get_mut(&infohash) else { return };
        let (meetings, serial) = (&member.membership.places.meetings, member.membership.swarm.serial());
        let Some((meeting, loser)) = meetings.answered(peer_id) else {
            if let Some(doubt) = meetings.doubt(peer_id).filter(|_| self.work.len() < MAX_WORK) {
                self.settle(infohash, serial, doubt, Again::Answered(offer, peer_id, sdp));
            }
            return;
        };
        let accept = |offer: Box<PendingOffer>| async move {
            loser.gone().await;
            offer.accept_answer(sdp.as_str()).await
        };
        self.introduce(infohash, meeting, accept(offer));
    }

    /// Finds out whether an open connection lives whose peer seeks another.
    fn settle(&mut self, infohash: InfoHash, serial: u64, doubt: Doubt, again: Again) {
        self.work.spawn(async move { Done::Doubted(infohash, serial, doubt.was_right().await, again) });
    }

    /// Waits for a connection to be open and leads it into its swarm, if there is a place for it.
    fn introduce(
        &mut self,
        infohash: InfoHash,
        meeting: Meeting,
        opening: impl Future<Output = Result<RtcStream, crate::rtc::RtcError>> + Send + 'static,
    ) {
        let Some(member) = self.members.get(&infohash) else { return };
        let (swarm, place) = (member.membership.swarm.clone(), member.membership.places.take());
        let Some(place) = place.filter(|_| self.work.len() < MAX_WORK) else { return };
        self.work.spawn(async move {
            let connected = async |place: Place, meeting: Meeting| {
                let stream = tokio::select! {
                    stream = opening => Some(stream.map_err(|error| error.to_string())?),
                    () = meeting.given_up() => None,
                };
                let stream = stream
                    .filter(|stream| meeting.opened(stream.line()))
                    .ok_or("another one with that peer is kept")?;
                lead_in(Held::new(stream, (place, meeting)), &swarm).await.map_err(|error| error.to_string())
            };
            Done::Connected(connected(place, meeting).await)
        });
    }

    async fn say_goodbye(&mut self) {
        let now = Instant::now();
        for (infohash, mut member) in std::mem::take(&mut self.members) {
            member.signaller.stop(now);
            std::iter::from_fn(|| member.signaller.poll_transmit()).for_each(|message| self.post(message));
            self.setup.log.left(infohash, &self.label);
        }
        self.work.shutdown().await;
        self.opening.shutdown().await;
        // What it still says is taken and dropped: a full inbox would keep the goodbye from being carried.
        let Some(Wire { out, carrier, mut inbox }) = self.wire.take() else { return };
        let said = async {
            for message in self.outbox.drain(..) {
                if out.send(message).await.is_err() {
                    break;
                }
            }
            drop(out);
            if let Some(carrier) = carrier {
                // Whatever became of it, it is over.
                let _ = carrier.await;
            }
        };
        let heard = async { while inbox.recv().await.is_some() {} };
        let both = futures_util::future::join(said, heard);
        if tokio::time::timeout(GOODBYE, both).await.is_err() {
            tracing::debug!(tracker = self.label, "a tracker did not hear our goodbye");
        }
    }
}

async fn next(inbox: Option<&mut mpsc::Receiver<ServerMessage>>) -> Option<ServerMessage> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits until the conversation has room for a message.
async fn ready(out: Option<mpsc::Sender<ClientMessage>>) {
    match out {
        // Room that is given back at once: only this task fills it.
        Some(out) => drop(out.reserve().await),
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
