//! The Bitswap of all connections: makes their handlers, and finds the one to give an errand to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::FromSwarm;
use libp2p::swarm::{ConnectionDenied, ConnectionId, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::handler::Handler;
use super::{Bounds, Errand, OUTBOX_MESSAGES, Report, Wanting};

struct Link {
    peer: PeerId,
    outbox: mpsc::Sender<Errand>,
}

/// An errand was not taken: the connection is gone, or its peer has not read for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::node) struct NotTaken;

/// The Bitswap of all connections.
pub(in crate::node) struct Behaviour {
    inbox: mpsc::Sender<Report>,
    bounds: Bounds,
    wanting: Wanting,
    links: BTreeMap<ConnectionId, Link>,
}

impl Behaviour {
    pub(in crate::node) fn new(inbox: mpsc::Sender<Report>, bounds: Bounds) -> Self {
        Self { inbox, bounds, wanting: Wanting::default(), links: BTreeMap::new() }
    }

    /// Some block is wanted, or none is.
    pub(in crate::node) fn set_wanting(&self, wanting: bool) {
        self.wanting.set(wanting);
    }

    /// Gives an errand to a connection.
    pub(in crate::node) fn send(&self, connection: ConnectionId, errand: Errand) -> Result<(), NotTaken> {
        let link = self.links.get(&connection).ok_or(NotTaken)?;
        link.outbox.try_send(errand).map_err(|_| NotTaken)
    }

    /// Another connection to a peer than the one that is gone.
    pub(in crate::node) fn connection_to(&self, peer: &PeerId, gone: ConnectionId) -> Option<ConnectionId> {
        let mut others = self.links.iter().filter(|(id, link)| **id != gone && link.peer == *peer);
        others.next().map(|(id, _)| *id)
    }

    fn handler(&mut self, connection: ConnectionId, peer: PeerId) -> Handler {
        let (outbox, errands) = mpsc::channel(OUTBOX_MESSAGES);
        if self.connection_to(&peer, connection).is_none() {
            // The first connection to a peer opens its stream early, so that what is wanted next finds it open.
            let _room = outbox.try_send(Errand::Open);
        }
        self.links.insert(connection, Link { peer, outbox });
        let inbox = PollSender::new(self.inbox.clone());
        Handler::new(peer, connection, self.bounds, inbox, errands, self.wanting.clone())
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _remote: &Multiaddr,
        _role: Endpoint,
        _port_use: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(connection, peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // A handler may have been made for a connection that somebody else then refused.
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.links.remove(&closed.connection_id);
        } else if let FromSwarm::DialFailure(failed) = event {
            self.links.remove(&failed.connection_id);
        } else if let FromSwarm::ListenFailure(failed) = event {
            self.links.remove(&failed.connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}
