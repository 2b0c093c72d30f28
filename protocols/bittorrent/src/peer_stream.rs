//! The byte stream to a peer, whatever carries it and whether or not it is encrypted.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use swarmgate_bittorrent_proto::handshake::Handshake;
use swarmgate_swarm::PeerOrigin;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::obfuscated::Obfuscated;
use crate::utp::UtpConnection;

/// A peer that is ready for the wire protocol: both handshakes are through.
#[derive(Debug)]
pub struct PeerStream {
    /// The connection, just behind the handshakes.
    pub stream: Obfuscated<Carrier>,
    /// The peer's address; the port of one that dialled over TCP is not the port it listens on.
    pub address: SocketAddr,
    /// What the peer said.
    pub handshake: Handshake,
}

/// What carries the bytes.
pub enum Carrier {
    /// A TCP connection, direct or through a proxy.
    Tcp(TcpStream),
    /// A uTP connection (BEP 29).
    Utp(UtpConnection),
}

impl PeerStream {
    /// Where the peer comes from, for the swarm.
    #[must_use]
    pub const fn origin(&self) -> PeerOrigin {
        let origin = match self.stream.carrier() {
            Carrier::Tcp(_) => PeerOrigin::tcp(self.address),
            Carrier::Utp(_) => PeerOrigin::utp(self.address),
        };
        PeerOrigin { encryption: self.stream.encryption(), ..origin }
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(stream) => write!(f, "Tcp({stream:?})"),
            Self::Utp(stream) => write!(f, "Utp({})", stream.remote_addr()),
        }
    }
}

impl From<TcpStream> for Carrier {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UtpConnection> for Carrier {
    fn from(stream: UtpConnection) -> Self {
        Self::Utp(stream)
    }
}

impl AsyncRead for Carrier {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Utp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Utp(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Utp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Utp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Utp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
