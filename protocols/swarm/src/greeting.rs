//! The handshakes that open a peer connection, over any byte stream.

use std::io;
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::{HANDSHAKE_LEN, Handshake};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

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
///
/// # Errors
/// [`HandshakeError::Io`] and [`HandshakeError::NotBitTorrent`].
pub async fn read_handshake(stream: &mut (impl AsyncRead + Unpin)) -> Result<Handshake, HandshakeError> {
    let mut bytes = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut bytes).await?;
    Handshake::decode(&bytes).map_err(|_| HandshakeError::NotBitTorrent)
}

/// Writes ours.
///
/// # Errors
/// [`HandshakeError::Io`].
pub async fn write_handshake(stream: &mut (impl AsyncWrite + Unpin), ours: &Handshake) -> Result<(), HandshakeError> {
    Ok(stream.write_all(&ours.encode()).await?)
}

/// Checks what the other side said against what we said.
///
/// # Errors
/// [`HandshakeError::OtherTorrent`] and [`HandshakeError::Ourselves`].
pub fn check_handshake(ours: &Handshake, theirs: &Handshake) -> Result<(), HandshakeError> {
    if theirs.peer_id == ours.peer_id {
        return Err(HandshakeError::Ourselves);
    }
    if theirs.infohash != ours.infohash {
        return Err(HandshakeError::OtherTorrent);
    }
    Ok(())
}

/// Runs one side of an exchange against a deadline.
///
/// # Errors
/// Those of the exchange, and [`HandshakeError::Timeout`].
pub async fn within<T>(
    limit: Duration,
    exchange: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(limit, exchange).await.unwrap_or(Err(HandshakeError::Timeout(limit)))
}
