//! What an operator decides about the node.

use std::time::Duration;

use libp2p::Multiaddr;
use swarmgate_egress::EgressPolicy;
use swarmgate_ipfs_proto::bitswap::{ClientOptions, ServerOptions};

/// The part that a node plays in the IPFS DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KadMode {
    /// None: it neither asks nor answers.
    Off,
    /// It asks, and answers nobody: right behind a NAT.
    Client,
    /// It answers too, and keeps records for others.
    Server,
}

/// Where the node listens, whom it knows, and how much it lets others have.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Addresses to listen on, `/ip4/…/tcp/…` and `/ip4/…/udp/…/quic-v1`, bound once when the node starts. Without a
    /// QUIC address in it the node dials by TCP alone, since QUIC is dialled from the socket that listens. Default none.
    pub listen: Vec<Multiaddr>,
    /// Peers to begin with in the DHT, each address with `/p2p/…` at its end. Default none: nobody is contacted unless
    /// named here.
    pub bootstrap: Vec<Multiaddr>,
    /// The part played in the DHT. Default [`KadMode::Off`]: a DHT begins with somebody, and nobody is named.
    pub kad: KadMode,
    /// The DHT's protocol name. Default `/ipfs/kad/1.0.0`; an operator changes it for a network of their own.
    pub kad_protocol: String,
    /// Connections at a time, in either direction. Default 256. A quarter is kept for those that we dial.
    pub max_connections: u32,
    /// Which addresses may be dialled. Peers say where they are, so this stands between them and the operator's network.
    /// Default: public ones.
    pub egress: EgressPolicy,
    /// How much is asked of one peer.
    pub client: ClientOptions,
    /// How much is held for peers that want blocks of us.
    pub server: ServerOptions,
    /// Streams that a peer may have open to send Bitswap messages on, for each connection. Kubo opens one for each
    /// message and has up to eight under way. Default 32; what is beyond is reset.
    pub max_inbound_streams: usize,
    /// How long a dial may take, with the handshakes. Default 10 s.
    pub dial_timeout: Duration,
    /// How long a message may stand still on its way in or out before its stream is given up. Default 30 s.
    pub stall_timeout: Duration,
    /// How long a connection stays that nobody needs. Default 60 s: who reads one file soon reads another.
    pub idle_timeout: Duration,
    /// For how long a peer that sent what nobody asked for is refused. Default 10 minutes.
    pub ban: Duration,
    /// What peers are told of this software. Default `swarmgate/` and the version.
    pub agent: String,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            bootstrap: Vec::new(),
            kad: KadMode::Off,
            kad_protocol: "/ipfs/kad/1.0.0".to_owned(),
            max_connections: 256,
            egress: EgressPolicy { allow_private: false },
            client: ClientOptions::default(),
            server: ServerOptions::default(),
            max_inbound_streams: 32,
            dial_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            ban: Duration::from_secs(10 * 60),
            agent: concat!("swarmgate/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}
