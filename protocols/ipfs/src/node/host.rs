//! The libp2p host: its behaviours, the tasks that it spawns, and its listeners.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::core::multiaddr::Protocol;
use libp2p::futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::{Config, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, connection_limits, identify, kad, ping};
use swarmgate_egress::EgressPolicy;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::actor::MAX_ANNOUNCED;
use super::bitswap::{Bounds, MAX_STREAM_IDLE, Report, behaviour};
use super::options::{KadMode, NodeOptions};
use super::transport;
use super::{ListenSocket, StartError};

/// How long a listener may take to say where it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is tried whether a socket is free.
const RELEASE_POLL: Duration = Duration::from_millis(10);
/// Connections to one peer, in either direction: two dial each other at once, and one is dialled anew before the other
/// is seen to be dead.
const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Dials and handshakes under way, each way.
const MAX_PENDING: u32 = 64;
/// Streams of one connection that are being negotiated.
const MAX_NEGOTIATING_STREAMS: usize = 64;
/// How long one search in the DHT may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Records that are kept for others in the DHT, provider records not counted.
const MAX_DHT_RECORDS: usize = 1024;
/// Longest of these, in bytes: an IPNS record.
const MAX_DHT_RECORD_BYTES: usize = 10 << 10;
/// What tells peers which family of protocols we speak.
const PROTOCOL_FAMILY: &str = "ipfs/0.1.0";

/// What the node speaks. Who is refused is refused before anything else is made for them.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Host {
    pub(super) banned: allow_block_list::Behaviour<BlockedPeers>,
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(super) kad: Toggle<kad::Behaviour<MemoryStore>>,
    pub(super) bitswap: behaviour::Behaviour,
}

/// The tasks of all connections: spawned by the swarm, waited for by the node.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    runtime: Handle,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), runtime: Handle::current() }
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let stop = self.stop.clone();
        let stoppable = async move {
            let _stopped = stop.run_until_cancelled(task).await;
        };
        self.tracker.spawn_on(stoppable, &self.runtime);
    }

    /// Waits for all to end; what has not by then is dropped where it stands.
    pub(super) async fn end(&self, deadline: tokio::time::Instant) {
        self.tracker.close();
        if tokio::time::timeout_at(deadline, self.tracker.wait()).await.is_err() {
            self.stop.cancel();
            self.tracker.wait().await;
        }
    }
}

/// Makes the swarm; nothing listens yet.
pub(super) fn make(
    options: &NodeOptions,
    identity: &Keypair,
    inbox: mpsc::Sender<Report>,
    tasks: Tasks,
) -> Result<Swarm<Host>, StartError> {
    let peer = identity.public().to_peer_id();
    let transport = transport::make(identity, &options.listen, options.egress, options.dial_timeout)
        .map_err(|source| StartError::Key { source })?;
    // No interval is shorter than a millisecond.
    let idle = options.idle_timeout.clamp(Duration::from_millis(1), MAX_STREAM_IDLE);
    let bounds = Bounds { max_inbound: options.max_inbound_streams, idle, stall: options.stall_timeout };
    let host = Host {
        banned: allow_block_list::Behaviour::default(),
        limits: connection_limits::Behaviour::new(limits(options.max_connections)),
        identify: identify::Behaviour::new(
            identify::Config::new(PROTOCOL_FAMILY.to_owned(), identity.public())
                .with_agent_version(options.agent.clone()),
        ),
        ping: ping::Behaviour::new(ping::Config::new()),
        kad: Toggle::from(dht(options, peer)?),
        bitswap: behaviour::Behaviour::new(inbox, bounds),
    };
    let config = Config::with_executor(move |task| tasks.spawn(task))
        .with_idle_connection_timeout(options.idle_timeout)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS)
        .with_notify_handler_buffer_size(NonZeroUsize::new(8).expect("8 is not 0"))
        .with_per_connection_event_buffer_size(4);
    Ok(Swarm::new(transport, host, peer, config))
}

fn limits(max_connections: u32) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_established(Some(max_connections))
        .with_max_established_incoming(Some(max_connections - max_connections / 4))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER))
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING))
}

fn dht(options: &NodeOptions, peer: PeerId) -> Result<Option<kad::Behaviour<MemoryStore>>, StartError> {
    let mode = match options.kad {
        KadMode::Off => return Ok(None),
        KadMode::Client => kad::Mode::Client,
        KadMode::Server => kad::Mode::Server,
    };
    let protocol = StreamProtocol::try_from_owned(options.kad_protocol.clone())
        .map_err(|_| StartError::KadProtocol(options.kad_protocol.clone()))?;
    let mut config = kad::Config::new(protocol);
    config.set_query_timeout(QUERY_TIMEOUT);
    // What is kept here is announced by a clock of our own, and what others store expires: nothing else is said again.
    config.set_publication_interval(None).set_replication_interval(None).set_provider_publication_interval(None);
    let store = MemoryStoreConfig {
        max_records: MAX_DHT_RECORDS,
        max_value_bytes: MAX_DHT_RECORD_BYTES,
        max_provided_keys: MAX_DHT_RECORDS + MAX_ANNOUNCED,
        ..MemoryStoreConfig::default()
    };
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, store), config);
    kad.set_mode(Some(mode));
    Ok(Some(kad))
}

/// Binds everything that is to be listened on, or nothing: tells which sockets that makes, in the order of `addresses`.
pub(super) async fn listen(swarm: &mut Swarm<Host>, addresses: &[Multiaddr]) -> Result<Vec<ListenSocket>, StartError> {
    let mut sockets = Vec::new();
    for address in addresses {
        let refused = |reason: String| StartError::Listen { address: address.clone(), reason };
        let wanted =
            socket_of(address).ok_or_else(|| refused("it is neither TCP nor QUIC at an address".to_owned()))?;
        let listener = swarm.listen_on(address.clone()).map_err(|error| refused(transport::explain(&error)))?;
        let bound = wait_bound(swarm, listener);
        let bound = tokio::time::timeout(LISTEN_TIMEOUT, bound).await;
        let port = bound.map_err(|_| refused("it never became ready".to_owned()))?.map_err(refused)?;
        let local = SocketAddr::new(wanted.address.ip(), port);
        sockets.push(ListenSocket { address: local, ..wanted });
    }
    Ok(sockets)
}

/// The addresses that are listened on, in an order that does not change.
pub(super) fn listeners(swarm: &Swarm<Host>) -> Vec<Multiaddr> {
    let mut addresses: Vec<_> = swarm.listeners().cloned().collect();
    addresses.sort_unstable();
    addresses
}

/// Has the host say in the DHT where it is: at the addresses that it listens on, those that others could be sent to.
pub(super) fn proclaim(swarm: &mut Swarm<Host>, egress: EgressPolicy) {
    if !swarm.behaviour().kad.is_enabled() {
        return;
    }
    let allowed = |address: &&Multiaddr| transport::host_of(address).is_some_and(|host| egress.check(host).is_ok());
    let listened: Vec<_> = swarm.listeners().filter(allowed).cloned().collect();
    let told: Vec<_> = swarm.external_addresses().cloned().collect();
    told.iter().filter(|old| !listened.contains(old)).for_each(|old| swarm.remove_external_address(old));
    listened.into_iter().filter(|new| !told.contains(new)).for_each(|new| swarm.add_external_address(new));
}

/// Which socket an address to listen on asks for.
fn socket_of(address: &Multiaddr) -> Option<ListenSocket> {
    let ip = transport::host_of(address)?;
    let mut parts = address.iter().skip(1);
    let (port, quic) = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => (port, false),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => (port, true),
        _ => return None,
    };
    Some(ListenSocket { address: SocketAddr::new(ip, port), quic })
}

/// Waits until the sockets of a host that is gone are free. QUIC keeps its own until the last connection is drained,
/// some round trips after it was closed, and tells nobody: so each is tried.
pub(super) async fn wait_released(sockets: &[ListenSocket], deadline: tokio::time::Instant) {
    for socket in sockets.iter().filter(|socket| socket.quic) {
        while std::net::UdpSocket::bind(socket.address).is_err() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(RELEASE_POLL).await;
        }
    }
}

/// Waits until a listener has an address, and gives its port.
#[expect(clippy::wildcard_enum_match_arm, reason = "nobody is connected yet, so nothing else can be missed")]
async fn wait_bound(swarm: &mut Swarm<Host>, listener: libp2p::core::transport::ListenerId) -> Result<u16, String> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { listener_id, address } if listener_id == listener => {
                return socket_of(&address).map(|socket| socket.address.port()).ok_or_else(|| address.to_string());
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } if listener_id == listener => {
                return Err(error.to_string());
            }
            SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => {
                return Err(error.to_string());
            }
            _ => {}
        }
    }
}
