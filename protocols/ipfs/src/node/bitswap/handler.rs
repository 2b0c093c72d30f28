//! One connection's Bitswap. Everything that costs time is done here, in the connection's own task: cutting the bytes
//! into messages, hashing their blocks, writing answers.
//!
//! The stream to send on is closed, and the connection no longer kept, when for a while nothing went either way,
//! and nothing is wanted of anybody. It is opened again for the next message.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::futures::AsyncWrite;
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound,
};
use libp2p::swarm::{ConnectionId, StreamUpgradeError, SubstreamProtocol};
use libp2p::{PeerId, Stream};
use swarmgate_ipfs_proto::bitswap::Version;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::PollSender;

use super::inbound::{Read, Streams};
use super::outbound::Writer;
use super::{Bounds, Errand, Negotiate, Report, Wanting, What};

/// The node hears this often at most that a message is on its way.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// How long the negotiation of a stream may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams in a row that broke or did not open, before the peer counts as unwilling.
const MAX_FAILURES: u32 = 3;
/// Reports that wait for room in the node's inbox, before reading stops.
const MAX_REPORTS: usize = 2;

enum Outbound {
    Closed,
    Opening,
    Open(Writer),
    /// Saying that no more will come.
    Closing(Stream),
    /// The peer does not want any.
    Unwilling,
}

/// One connection's Bitswap.
pub(in crate::node) struct Handler {
    peer: PeerId,
    connection: ConnectionId,
    bounds: Bounds,
    inbox: PollSender<Report>,
    outbox: mpsc::Receiver<Errand>,
    wanting: Wanting,
    inbound: Streams,
    outbound: Outbound,
    /// Out of the outbox, and waits for the stream.
    errand: Option<Errand>,
    failures: u32,
    reports: VecDeque<What>,
    version: Option<Version>,
    progress_told: Instant,
    tick: Interval,
    /// Whether anything went either way since the last tick.
    active: bool,
    kept: bool,
}

impl Handler {
    pub(super) fn new(
        peer: PeerId,
        connection: ConnectionId,
        bounds: Bounds,
        inbox: PollSender<Report>,
        outbox: mpsc::Receiver<Errand>,
        wanting: Wanting,
    ) -> Self {
        let now = Instant::now();
        let mut tick = interval_at(now + bounds.idle, bounds.idle);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            peer,
            connection,
            bounds,
            inbox,
            outbox,
            wanting,
            inbound: Streams::default(),
            outbound: Outbound::Closed,
            errand: None,
            failures: 0,
            reports: VecDeque::new(),
            version: None,
            progress_told: now,
            tick,
            active: true,
            kept: true,
        }
    }

    fn report(&mut self, what: What) {
        self.reports.push_back(what);
    }

    fn speaks(&mut self, version: Version) {
        if self.version.is_none() {
            self.version = Some(version);
            self.report(What::Speaks(version));
        }
    }

    /// Moves reports to the node's inbox, as far as there is room.
    fn poll_reports(&mut self, cx: &mut Context<'_>) {
        while !self.reports.is_empty() {
            match self.inbox.poll_reserve(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {
                    let Some(what) = self.reports.pop_front() else { return };
                    let report = Report { peer: self.peer, connection: self.connection, what };
                    // It was reserved, so it can only fail when the node is gone.
                    let _gone = self.inbox.send_item(report);
                }
                Poll::Ready(Err(_)) => return self.reports.clear(),
            }
        }
    }

    fn poll_inbound(&mut self, cx: &mut Context<'_>) {
        while self.reports.len() < MAX_REPORTS
            && let Poll::Ready(read) = self.inbound.poll_read(cx)
        {
            self.active = true;
            match read {
                Read::Message(message) => self.report(What::Message(message)),
                Read::Malformed(error) => self.report(What::Malformed(error)),
            }
            self.poll_reports(cx);
        }
        if self.inbound.take_grown() {
            self.active = true;
            let now = Instant::now();
            if self.reports.is_empty() && now.duration_since(self.progress_told) >= PROGRESS_EVERY {
                self.progress_told = now;
                self.report(What::Progress);
                self.poll_reports(cx);
            }
        }
    }

    /// Takes up the next errand, if there is none; tells whether there is one.
    fn poll_errand(&mut self, cx: &mut Context<'_>) -> bool {
        if self.errand.is_none()
            && let Poll::Ready(Some(errand)) = self.outbox.poll_recv(cx)
        {
            self.errand = Some(errand);
            self.active = true;
            self.kept = true;
        }
        self.errand.is_some()
    }

    /// Writes what there is; tells whether a stream is to be opened for it.
    fn poll_outbound(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match &mut self.outbound {
                Outbound::Opening => return false,
                Outbound::Unwilling => {
                    if !self.poll_errand(cx) {
                        return false;
                    }
                    // The node was told, and has sent this before it heard.
                    self.errand = None;
                }
                Outbound::Closing(stream) => {
                    if Pin::new(stream).poll_close(cx).is_pending() {
                        return false;
                    }
                    self.outbound = Outbound::Closed;
                }
                Outbound::Closed => {
                    if self.poll_errand(cx) {
                        self.outbound = Outbound::Opening;
                        return true;
                    }
                    return false;
                }
                Outbound::Open(writer) if writer.is_busy() => match writer.poll_write(cx) {
                    Poll::Pending => return false,
                    Poll::Ready(Ok(served)) => {
                        self.active = true;
                        self.failures = 0;
                        if served {
                            self.report(What::Served);
                        }
                    }
                    Poll::Ready(Err(error)) => {
                        tracing::debug!(peer = %self.peer, %error, "the stream of a bitswap peer broke");
                        let served = writer.is_serving();
                        self.on_failure(served);
                    }
                },
                Outbound::Open(_) => {
                    if !self.poll_errand(cx) {
                        return false;
                    }
                    self.start_errand();
                }
            }
        }
    }

    fn start_errand(&mut self) {
        let Outbound::Open(writer) = &mut self.outbound else { return };
        match self.errand.take() {
            Some(Errand::Ask(message)) => writer.start(&message, false),
            Some(Errand::Serve(message)) => writer.start(&message, true),
            Some(Errand::Open) | None => {}
        }
    }

    /// A stream broke with a message on it, or did not open.
    fn on_failure(&mut self, served: bool) {
        self.failures += 1;
        if served || matches!(self.errand.take(), Some(Errand::Serve(_))) {
            self.report(What::Served);
        }
        if self.failures >= MAX_FAILURES {
            self.refuse();
        } else {
            self.outbound = Outbound::Closed;
            // The node sends again what a peer that it knows may not have heard; to others the stream is opened again.
            self.errand = self.version.is_none().then_some(Errand::Open);
            self.report(What::Lost);
        }
    }

    fn refuse(&mut self) {
        tracing::debug!(peer = %self.peer, "a peer takes no bitswap streams");
        self.outbound = Outbound::Unwilling;
        self.errand = None;
        self.kept = false;
        self.version = None;
        self.report(What::Unwilling);
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(now) = self.tick.poll_tick(cx) {
            if let Some(since) = now.checked_sub(self.bounds.stall) {
                self.give_up_stalled(since);
            }
            let busy = match &self.outbound {
                Outbound::Opening => true,
                Outbound::Open(writer) => writer.is_busy(),
                Outbound::Closed | Outbound::Closing(_) | Outbound::Unwilling => false,
            };
            let active = std::mem::replace(&mut self.active, false);
            let willing = !matches!(self.outbound, Outbound::Unwilling);
            let needed = willing && (busy || active || self.wanting.get());
            // That the peer has a stream open to us is no reason: ours is one to it, and both would stay for ever.
            self.kept = needed;
            if !needed {
                self.close();
            }
        }
    }

    fn give_up_stalled(&mut self, since: Instant) {
        self.inbound.drop_stalled(since);
        if let Outbound::Open(writer) = &self.outbound
            && writer.is_stalled(since)
        {
            tracing::debug!(peer = %self.peer, "a bitswap peer does not read");
            let served = writer.is_serving();
            self.on_failure(served);
        }
    }

    fn close(&mut self) {
        self.outbound = match std::mem::replace(&mut self.outbound, Outbound::Closed) {
            Outbound::Open(writer) => Outbound::Closing(writer.into_stream()),
            other @ (Outbound::Closed | Outbound::Opening | Outbound::Closing(_) | Outbound::Unwilling) => other,
        };
    }

    fn on_inbound(&mut self, (mut stream, version): (Stream, Version)) {
        if self.inbound.len() >= self.bounds.max_inbound {
            tracing::debug!(peer = %self.peer, "a bitswap peer has too many streams open; one more is reset");
            return;
        }
        stream.ignore_for_keep_alive();
        self.active = true;
        self.kept = true;
        if matches!(self.outbound, Outbound::Unwilling) {
            // It speaks Bitswap after all.
            self.outbound = Outbound::Closed;
            self.failures = 0;
        }
        self.inbound.add(Instant::now(), stream);
        self.speaks(version);
    }

    fn on_outbound(&mut self, (mut stream, version): (Stream, Version)) {
        stream.ignore_for_keep_alive();
        self.outbound = Outbound::Open(Writer::new(stream, version));
        self.speaks(version);
    }
}

impl ConnectionHandler for Handler {
    /// Errands come through the outbox.
    type FromBehaviour = std::convert::Infallible;
    /// Reports go to the node's inbox.
    type ToBehaviour = std::convert::Infallible;
    type InboundProtocol = Negotiate;
    type OutboundProtocol = Negotiate;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Negotiate> {
        SubstreamProtocol::new(Negotiate, ()).with_timeout(OPEN_TIMEOUT)
    }

    fn connection_keep_alive(&self) -> bool {
        self.kept
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Negotiate, (), std::convert::Infallible>> {
        self.poll_idle(cx);
        self.poll_reports(cx);
        if self.poll_outbound(cx) {
            let protocol = SubstreamProtocol::new(Negotiate, ()).with_timeout(OPEN_TIMEOUT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        self.poll_reports(cx);
        self.poll_inbound(cx);
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: std::convert::Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Negotiate, Negotiate>) {
        if let ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) = event {
            self.on_inbound(protocol);
        } else if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) = event {
            self.on_outbound(protocol);
        } else if let ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) = event {
            if matches!(error, StreamUpgradeError::NegotiationFailed) {
                self.refuse();
            } else {
                self.on_failure(false);
            }
        }
    }
}
