//! A client's connection: over TCP, over TLS, or over a Unix socket, and which HTTP is spoken on it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::server::TlsStream;

use super::tls::Tls;
use super::{KEEPALIVE_AFTER, NOT_SENT_BYTES, Peer};

/// What HTTP/2 begins with where nothing else says that it is spoken (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A connection as it was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A connection that HTTP is spoken on.
enum Wire {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A client's socket, which ends with a reset when its peer's flag says so.
pub(super) struct Socket {
    wire: Wire,
    peer: Peer,
    /// What was read to find out what is spoken, and is still to be read by whoever speaks it.
    read_ahead: Bytes,
}

impl Socket {
    /// Begins a connection: TLS where there is some, then which HTTP it is.
    pub(super) async fn begin(accepted: Accepted, tls: Option<&Tls>, peer: Peer) -> io::Result<(Self, Version)> {
        let wire = match (accepted, tls) {
            (Accepted::Tcp(stream), tls) => {
                tune(&stream).unwrap_or_else(|error| tracing::debug!(%error, "socket options"));
                match tls {
                    Some(tls) => Wire::Tls(Box::new(tls.accept(stream).await?)),
                    None => Wire::Tcp(stream),
                }
            }
            #[cfg(unix)]
            (Accepted::Unix(stream), _) => Wire::Unix(stream),
        };
        let mut socket = Self { wire, peer, read_ahead: Bytes::new() };
        let agreed = match &socket.wire {
            Wire::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(super::tls::HTTP2)),
            Wire::Tcp(_) => None,
            #[cfg(unix)]
            Wire::Unix(_) => None,
        };
        let is_http2 = match agreed {
            Some(is_http2) => is_http2,
            None => socket.begins_with_preface().await?,
        };
        Ok((socket, if is_http2 { Version::Http2 } else { Version::Http1 }))
    }

    /// Reads until it is clear whether the client has known beforehand that HTTP/2 is spoken here.
    async fn begins_with_preface(&mut self) -> io::Result<bool> {
        let (mut head, mut len) = ([0; PREFACE.len()], 0);
        while len < PREFACE.len() && PREFACE.starts_with(&head[..len]) {
            let read = self.wire.read(&mut head[len..]).await?;
            if read == 0 {
                break;
            }
            len += read;
        }
        self.read_ahead = Bytes::copy_from_slice(&head[..len]);
        Ok(&head[..len] == PREFACE)
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES)?;
    Ok(())
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.peer.reset.load(Ordering::Acquire) {
            return;
        }
        let stream = match &self.wire {
            Wire::Tcp(stream) => stream,
            Wire::Tls(stream) => stream.get_ref().0,
            // There is no reset of it; the announced length still tells.
            #[cfg(unix)]
            Wire::Unix(_) => return,
        };
        // Failing means an orderly close, in which the announced length still tells.
        let _ = stream.set_zero_linger();
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read_ahead.is_empty() {
            return Pin::new(&mut self.wire).poll_read(cx, buf);
        }
        let len = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(&self.read_ahead[..len]);
        self.read_ahead.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.peer.reset.load(Ordering::Acquire) {
            // Neither a FIN nor TLS's word that this is the end: the drop that follows resets.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// Hands a call on to whatever the connection is over.
macro_rules! over {
    ($wire:expr, $stream:ident => $call:expr) => {
        match $wire {
            Wire::Tcp($stream) => $call,
            Wire::Tls($stream) => $call,
            #[cfg(unix)]
            Wire::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        over!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        over!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        over!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        over!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        over!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        over!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}
