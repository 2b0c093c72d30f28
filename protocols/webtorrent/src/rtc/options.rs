//! What an operator and the composition root decide.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use swarmgate_egress::{EgressPolicy, PeerGate, Way};

/// A TURN server (RFC 8656) and what it wants to know.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnServer {
    /// `turn:host:port`, with `?transport=udp` if need be.
    pub url: String,
    /// The user's name there.
    pub username: String,
    /// The user's password there.
    pub credential: String,
}

impl std::fmt::Debug for TurnServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnServer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// Everything that [`super::RtcManager::start`] needs to know. The defaults suit a server; only where to be reached has
/// none.
#[derive(Debug)]
pub struct RtcOptions {
    /// Sockets that all connections share, each bound to the address of one interface: what a firewall has to let
    /// through is then known. A wildcard address is refused, since nobody can be told to dial it.
    pub sockets: Vec<UdpSocket>,
    /// Addresses at which each connection binds a socket of its own, on a free port; for interfaces without a shared
    /// one. With neither, nothing can start.
    pub addresses: Vec<IpAddr>,
    /// STUN servers (`stun:host:port`) that tell which address the world sees. None by default: a server with a public
    /// address, or on a LAN, needs none.
    pub stun: Vec<String>,
    /// TURN servers that lend an address. A server knows one allocation a socket, so that with any of them every
    /// connection has its own socket and the shared ones are not used.
    pub turn: Vec<TurnServer>,
    /// The address that a 1:1 NAT shows the world in place of the interface's own; ports must be the same on both
    /// sides.
    pub external_ip: Option<IpAddr>,
    /// Which addresses strangers' descriptions may have us dial.
    pub egress: EgressPolicy,
    /// The operator's lists and the bans; `None`: there are none. Default `None`.
    pub gate: Option<PeerGate>,
    /// Connections, open or being opened. Default 200.
    pub max_connections: usize,
    /// Offers of ours that nobody has answered yet. Default 40.
    pub max_pending_offers: usize,
    /// How long a connection may take from both descriptions being known to its channel being open. Default 25 s.
    pub connect_timeout: Duration,
    /// How long an offer of ours can be answered. Default 60 s.
    pub offer_life: Duration,
    /// How long the search for own addresses may take; what is found later is not told. Default 3 s.
    pub gather_timeout: Duration,
    /// Connections that begin to be opened each second; those above wait up to 2 s and are refused then. Default 10.
    pub new_connections_per_second: u32,
    /// SO_RCVBUF that is asked of the kernel for each socket, in bytes. Default 4 MiB; less means losses at speed.
    pub receive_buffer_bytes: usize,
    /// The most that may be on its way to one peer, in bytes: the rate on a long path is at most this by its round trip
    /// time. Default 1 MiB.
    pub send_buffer_bytes: usize,
    /// What a peer may have on its way to us, in bytes, and what is kept of it while nobody reads. Default 4 MiB.
    pub receive_window_bytes: u32,
}

impl RtcOptions {
    /// Whether a stranger's description may have us dial an address.
    pub(crate) fn may_dial(&self, ip: IpAddr) -> bool {
        let address = SocketAddr::new(ip, 0);
        let listed = |gate: &PeerGate| gate.check_accept(Instant::now(), address, Way::WebRtc).is_err();
        self.egress.check(ip).is_ok() && !self.gate.as_ref().is_some_and(listed)
    }
}

impl Default for RtcOptions {
    fn default() -> Self {
        Self {
            sockets: Vec::new(),
            addresses: Vec::new(),
            stun: Vec::new(),
            turn: Vec::new(),
            external_ip: None,
            egress: EgressPolicy { allow_private: false },
            gate: None,
            max_connections: 200,
            max_pending_offers: 40,
            connect_timeout: Duration::from_secs(25),
            offer_life: Duration::from_secs(60),
            gather_timeout: Duration::from_secs(3),
            new_connections_per_second: 10,
            receive_buffer_bytes: 4 * 1024 * 1024,
            send_buffer_bytes: 1024 * 1024,
            receive_window_bytes: 4 * 1024 * 1024,
        }
    }
}
