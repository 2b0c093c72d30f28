//! Peers come and go: connections, dials, bans.

use std::time::Instant;

use libp2p::core::multiaddr::Protocol;
use libp2p::kad::{self, QueryResult};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, identify, ping};
use swarmgate_content::AttemptOutcome;
use swarmgate_ipfs_proto::bitswap::{SessionKey, Version};
use tokio::sync::oneshot;

use super::peers::Peer;
use super::{Actor, MAX_ADDRESSES};
use crate::node::bitswap::Errand;
use crate::node::host::{self, HostEvent};
use crate::node::{ConnectError, transport};
use crate::source::SessionId;

/// Calls to connect that wait at a time.
const MAX_CONNECTS: usize = 64;

#[derive(Debug)]
struct Connect {
    /// The dial that was begun for it, if it was.
    dial: Option<ConnectionId>,
    peer: Option<PeerId>,
    reply: oneshot::Sender<Result<PeerId, ConnectError>>,
}

/// Who waits for a connection.
#[derive(Debug, Default)]
pub(super) struct Connects(Vec<Connect>);

impl Connects {
    fn on_connected(&mut self, connection: ConnectionId, peer: PeerId) {
        for connect in self.0.extract_if(.., |it| it.dial == Some(connection) || it.peer == Some(peer)) {
            let _gone = connect.reply.send(Ok(peer));
        }
    }

    fn on_failed(&mut self, dial: ConnectionId, peer: Option<PeerId>, why: &str) {
        let failed = |it: &mut Connect| it.dial == Some(dial) || it.dial.is_none() && it.peer == peer;
        for connect in self.0.extract_if(.., failed) {
            let _gone = connect.reply.send(Err(ConnectError::Failed(why.to_owned())));
        }
    }
}

impl Actor {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every release of libp2p has more events; the others say nothing"
    )]
    pub(super) fn on_swarm_event(&mut self, event: SwarmEvent<HostEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.connects.on_connected(connection_id, peer_id);
                let outcome = AttemptOutcome::Ok("connected".to_owned());
                self.sessions.on_dialled(Instant::now(), &peer_id, &outcome);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.on_lost_connection(connection_id),
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                self.connects.on_failed(connection_id, peer_id, &describe(&error));
                if let Some(peer) = peer_id {
                    self.on_dial_failed(peer, &error);
                }
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => {
                *self.shared.listeners.lock() = host::listeners(&self.swarm);
                host::proclaim(&mut self.swarm, self.egress);
            }
            SwarmEvent::ListenerError { error, .. } => tracing::debug!(%error, "a listener of the IPFS node stumbled"),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: HostEvent) {
        match event {
            HostEvent::Kad(event) => {
                if let kad::Event::OutboundQueryProgressed { result: QueryResult::StartProviding(said), .. } = &event {
                    self.on_announced(said);
                }
                if let Some(dht) = self.swarm.behaviour_mut().kad.as_mut() {
                    self.lookups.on_event(dht, event);
                }
            }
            HostEvent::Identify(event) => self.on_identify(event),
            HostEvent::Ping(event) => {
                // TCP would take minutes to notice.
                if matches!(event.result, Err(ping::Failure::Timeout)) {
                    self.swarm.close_connection(event.connection);
                }
            }
            HostEvent::Banned(never) | HostEvent::Limits(never) | HostEvent::Bitswap(never) => match never {},
        }
    }

    /// A peer said what it speaks and where it listens: if it speaks the DHT's language, it may be asked.
    fn on_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        let egress = self.egress;
        let Some(dht) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        if !info.protocols.iter().any(|protocol| dht.protocol_names().contains(protocol)) {
            return;
        }
        let allowed = |address: &Multiaddr| transport::host_of(address).is_none_or(|host| egress.check(host).is_ok());
        for address in info.listen_addrs.into_iter().filter(allowed).take(MAX_ADDRESSES) {
            dht.add_address(&peer_id, address);
        }
    }

    /// A peer speaks Bitswap on a connection.
    pub(super) fn join(&mut self, id: PeerId, connection: ConnectionId, version: Version) {
        if let Some(peer) = self.peers.add(id, connection, version) {
            tracing::debug!(peer = %id, ?version, "speaks bitswap");
            self.server.join(peer.key, version);
            self.introduce(Instant::now(), peer);
        }
    }

    /// Lets the client know of a peer, and of what it is said to have.
    fn introduce(&mut self, now: Instant, peer: Peer) {
        if !self.client.join(now, peer.key, peer.version) {
            tracing::debug!(peer = %peer.id, "there are too many bitswap peers already");
            return;
        }
        for session in self.sessions.of_provider(&peer.id) {
            self.client.provides(now, SessionKey(session.0), peer.key);
        }
    }

    /// The stream to a peer broke: whatever it was asked for last it may never have heard of.
    pub(super) fn rejoin(&mut self, now: Instant, peer: Peer) {
        self.client.leave(now, peer.key);
        self.introduce(now, peer);
    }

    /// A connection is gone, or its peer does not want to hear of Bitswap there.
    pub(super) fn on_lost_connection(&mut self, connection: ConnectionId) {
        let Some((peer, spare)) = self.peers.lose(connection) else { return };
        self.client.leave(Instant::now(), peer.key);
        self.server.leave(peer.key);
        let bitswap = &self.swarm.behaviour().bitswap;
        match (spare, bitswap.connection_to(&peer.id, connection)) {
            (Some((spare, version)), _) => self.join(peer.id, spare, version),
            (None, Some(other)) => {
                // When that one is full it has a stream, or is about to.
                let _full = bitswap.send(other, Errand::Open);
            }
            (None, None) => {}
        }
    }

    /// Lets go of a peer and refuses it for a while.
    pub(super) fn ban(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.client.leave(Instant::now(), peer.key);
            self.server.leave(peer.key);
        }
        if let Some(lifted) = self.bans.add(id, Instant::now() + self.ban) {
            self.swarm.behaviour_mut().banned.unblock_peer(lifted);
        }
        self.swarm.behaviour_mut().banned.block_peer(id);
    }

    /// Somebody is said to have the DAG that a session reads.
    pub(super) fn on_provider(&mut self, session: SessionId, id: PeerId, addresses: Vec<Multiaddr>) {
        if id == *self.swarm.local_peer_id() {
            return;
        }
        self.begin_session(session);
        if !self.sessions.add_provider(session, id, addresses) {
            return;
        }
        match self.peers.get(&id) {
            Some(peer) => self.client.provides(Instant::now(), SessionKey(session.0), peer.key),
            None => self.dial_providers(session),
        }
    }

    /// Dials those who are said to have what a session reads, as far as they are not connected.
    pub(super) fn dial_providers(&mut self, session: SessionId) {
        let (now, swarm, bans) = (Instant::now(), &self.swarm, &self.bans);
        let due = self.sessions.take_due(now, session, |peer| swarm.is_connected(peer) || bans.contains(peer));
        for (peer, addresses) in due {
            let options = DialOpts::peer_id(peer).addresses(addresses).extend_addresses_through_behaviour().build();
            match self.swarm.dial(options) {
                // It is being dialled already: that dial will tell.
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                Err(error) => self.on_dial_failed(peer, &error),
            }
        }
    }

    fn on_dial_failed(&mut self, peer: PeerId, error: &DialError) {
        let why = describe(error);
        tracing::debug!(%peer, %why, "a peer was not reached");
        self.sessions.on_dialled(Instant::now(), &peer, &AttemptOutcome::Failed(why));
        if matches!(error, DialError::NoAddresses) && !self.sessions.of_provider(&peer).is_empty() {
            self.lookups.find_peer(self.swarm.behaviour_mut().kad.as_mut(), peer);
        }
    }

    /// Connects to an address for somebody who waits for it.
    pub(super) fn connect(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PeerId, ConnectError>>) {
        let peer = match address.iter().last() {
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) | None => None,
        };
        let connected = peer.filter(|peer| self.swarm.is_connected(peer));
        self.connects.0.retain(|connect| !connect.reply.is_closed());
        let done = match connected {
            Some(peer) => Some(Ok(peer)),
            None if self.connects.0.len() >= MAX_CONNECTS => Some(Err(ConnectError::Busy)),
            None => None,
        };
        if let Some(done) = done {
            let _gone = reply.send(done);
            return;
        }
        let options = match peer {
            Some(peer) => DialOpts::peer_id(peer).addresses(vec![address]).build(),
            None => DialOpts::unknown_peer_id().address(address).build(),
        };
        let dial = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.connects.0.push(Connect { dial: Some(dial), peer, reply }),
            Err(DialError::DialPeerConditionFalse(_)) => self.connects.0.push(Connect { dial: None, peer, reply }),
            Err(error) => {
                let _gone = reply.send(Err(ConnectError::Failed(describe(&error))));
            }
        }
    }
}

/// Why a dial failed, in one line.
fn describe(error: &DialError) -> String {
    match error {
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::WrongPeerId { .. } => "somebody else answers there".to_owned(),
        DialError::LocalPeerId { .. } => "that is this node".to_owned(),
        DialError::Denied { cause } => format!("not dialled: {cause}"),
        DialError::Transport(failed) => {
            let first = failed.first().map_or_else(String::new, |(_, error)| transport::explain(error));
            let first = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
            format!("none of {} addresses answered: {first}", failed.len())
        }
        DialError::Aborted | DialError::DialPeerConditionFalse(_) => "the dial was given up".to_owned(),
    }
}
