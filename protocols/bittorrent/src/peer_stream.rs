//! A TCP connection whose handshakes are exchanged.

use std::net::SocketAddr;

use swarmgate_bittorrent_proto::handshake::Handshake;
use tokio::net::TcpStream;

/// A TCP peer that is ready for the wire protocol: both handshakes are through.
#[derive(Debug)]
pub struct PeerStream {
    /// The connection, just behind the handshakes.
    pub stream: TcpStream,
    /// The peer's address; the port of an inbound one is not the port it listens on.
    pub address: SocketAddr,
    /// What the peer said.
    pub handshake: Handshake,
}
