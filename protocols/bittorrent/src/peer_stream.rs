//! A peer connection whose handshakes are exchanged, and the exchange itself.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, Handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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

/// Why a connection did not become a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Too slow.
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    /// The connection failed or broke off.
    #[error("{0}")]
    Io(io::ErrorKind),
    /// Not a BitTorrent peer, or an encrypting one.
    #[error("the first bytes are not a BitTorrent handshake")]
    NotBitTorrent,
    /// It speaks of another torrent than asked.
    #[error("it answered for another torrent")]
    OtherTorrent,
    /// We reached ourselves.
    #[error("it is this very process")]
    Ourselves,
    /// The torrent is not here, or wants no more peers.
    #[error("turned away: {0}")]
    TurnedAway(&'static str),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind())
    }
}

/// Reads the 68 bytes that open a connection, and not one more.
pub(crate) async fn read_handshake(stream: &mut TcpStream) -> Result<Handshake, HandshakeError> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await?;
    Handshake::decode(&bytes).map_err(|_| HandshakeError::NotBitTorrent)
}

/// Writes ours.
pub(crate) async fn write_handshake(stream: &mut TcpStream, ours: &Handshake) -> Result<(), HandshakeError> {
    Ok(stream.write_all(&ours.encode()).await?)
}

/// Runs one side of an exchange against a deadline.
pub(crate) async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(HandshakeError::Timeout(limit)))
}
