//! A data channel as a stream of bytes.
//!
//! Messages have no meaning: what is written is cut into messages, and what comes in is joined. Nothing runs between
//! the channel and whoever reads: a reader that does not read leaves messages in the library's queue, and from there
//! SCTP's window closes. A writer fills a small pipe, and the [`Outbox`] behind it waits while a limited number of
//! bytes is on its way.
//!
//! # What does the end of a stream prove?
//! That the other side has closed, and no more. A data channel has no half-close, and the library tells of a close
//! before it hands over all that came ahead of it, so that a reader which lies megabytes behind loses them. BitTorrent
//! says how long each message is, and a piece has its hash: nothing there takes an end for a whole.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use swarmgate_webtorrent_proto::sdp::{MAX_MESSAGE_BYTES, RemoteDescription};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::task::JoinHandle;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelMessage};

use super::connection::{Channel, Connection, Owner};
use super::limits::{FarEnd, in_flight_limit, known_in_flight_limit};
use super::manager::Shared;
use super::outbox::{Outbox, PIPE_BYTES, SENT_MESSAGE_BYTES};

type NextEvent = Pin<Box<dyn Future<Output = Option<DataChannelEvent>> + Send>>;

/// An open connection's byte stream. Dropping it closes the connection; what was written and not yet acknowledged may
/// be lost then, unless it was shut down before.
pub struct RtcStream {
    owner: Owner,
    channel: Arc<dyn DataChannel>,
    remote: Option<SocketAddr>,
    next: Option<NextEvent>,
    unread: BytesMut,
    end: Option<End>,
    pipe: DuplexStream,
    in_flight_limit: Arc<AtomicUsize>,
    sending: Option<JoinHandle<()>>,
}

/// An open connection, seen by who does not own it.
#[derive(Clone)]
pub(crate) struct Line(Weak<Connection>);

impl Line {
    /// Grows with whatever is received.
    pub(crate) fn heard(&self) -> u64 {
        self.0.upgrade().map_or(0, |connection| connection.lane.heard())
    }

    /// Closes the connection, as if its peer had.
    pub(crate) fn cut(&self) {
        if let Some(connection) = self.0.upgrade() {
            connection.retire();
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.heard()).finish()
    }
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Closed,
    Failed,
    Violated(&'static str),
}

impl RtcStream {
    pub(crate) async fn new(owner: Owner, channel: Channel, peer: &RemoteDescription) -> Self {
        owner.lane.set_hurried(false);
        let (remote, relayed) = owner.way().await.unzip();
        let ceiling = owner.shared.options.send_buffer_bytes;
        let ip = remote.map(|address| address.ip());
        let mut limit = in_flight_limit(owner.shared.granted, ceiling, ip);
        if relayed.unwrap_or_default() {
            limit = known_in_flight_limit(limit, FarEnd::Relay, ip);
        }
        let in_flight_limit = Arc::new(AtomicUsize::new(limit));
        let outbox = Outbox {
            channel: Arc::clone(&channel.0),
            chunk: peer.max_message_bytes().min(SENT_MESSAGE_BYTES),
            ceiling,
            limit: Arc::clone(&in_flight_limit),
            settled: Arc::clone(owner.lane.settled()),
            ended: owner.lane.ended().clone(),
        };
        let (pipe, mouth) = duplex(PIPE_BYTES);
        let sending = owner.shared.tasks.spawn_on(outbox.run(mouth), &owner.shared.runtime);
        Self {
            owner,
            channel: channel.0,
            remote,
            next: None,
            unread: BytesMut::new(),
            end: None,
            pipe,
            in_flight_limit,
            sending: Some(sending),
        }
    }

    /// The peer's address when the connection opened; for logs, never to tell peers apart.
    #[must_use]
    pub const fn remote_address(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The connection, for whoever doubts that it lives.
    pub(crate) fn line(&self) -> Line {
        Line(Arc::downgrade(&self.owner))
    }

    /// Notes what is at the other end: if it is near, it is sent no more at once than its socket holds.
    pub(crate) fn peer_is(&self, far_end: FarEnd) {
        let remote = self.remote.map(|address| address.ip());
        let limit = known_in_flight_limit(self.in_flight_limit.load(Ordering::Relaxed), far_end, remote);
        self.in_flight_limit.store(limit, Ordering::Relaxed);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<DataChannelEvent>> {
        let channel = &self.channel;
        let next = self.next.get_or_insert_with(|| {
            let channel = Arc::clone(channel);
            Box::pin(async move { channel.poll().await })
        });
        let event = ready!(next.as_mut().poll(cx));
        self.next = None;
        Poll::Ready(event)
    }

    fn take(&mut self, event: Option<DataChannelEvent>) {
        match event {
            Some(DataChannelEvent::OnMessage(message)) => self.take_message(message),
            Some(DataChannelEvent::OnClose) => self.end = Some(End::Closed),
            Some(_) => {}
            None if self.owner.has_failed() => self.end = Some(End::Failed),
            None => self.end = Some(End::Closed),
        }
    }

    fn take_message(&mut self, message: RTCDataChannelMessage) {
        if message.is_string {
            self.violated("a text message");
        } else if message.data.len() > MAX_MESSAGE_BYTES {
            self.violated("a message longer than allowed");
        } else {
            self.unread = message.data;
        }
    }

    fn violated(&mut self, what: &'static str) {
        self.end = Some(End::Violated(what));
        self.owner.retire();
    }

    /// Copies what is there, and says whether there is room for more.
    fn copy(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let count = self.unread.len().min(buffer.remaining());
        buffer.put_slice(&self.unread[..count]);
        self.unread.advance(count);
        if self.unread.is_empty() {
            // Gives the message's memory back.
            self.unread = BytesMut::new();
        }
        Shared::count(&self.owner.shared.bytes_in, count);
        buffer.remaining() > 0
    }
}

impl fmt::Debug for RtcStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, remote, end, .. } = self;
        f.debug_struct("RtcStream")
            .field("key", &owner.key)
            .field("remote", remote)
            .field("end", end)
            .finish_non_exhaustive()
    }
}

impl AsyncRead for RtcStream {
    /// Ends when the peer has closed the channel; a connection that broke off is an error.
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        while this.copy(buffer) && this.end.is_none() {
            match this.poll_event(cx) {
                Poll::Ready(event) => this.take(event),
                Poll::Pending if buffer.filled().len() > before => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        if buffer.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(match this.end {
            Some(End::Violated(what)) => Err(io::Error::new(io::ErrorKind::InvalidData, what)),
            Some(End::Failed) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(End::Closed) | None => Ok(()),
        })
    }
}

impl AsyncWrite for RtcStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.pipe).poll_write_vectored(cx, slices))?;
        Shared::count(&this.owner.shared.bytes_out, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back, so there is nothing to do.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Waits until the peer's end has acknowledged everything (5 s at most), read or not, and closes the channel in both
    /// directions.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.pipe).poll_shutdown(cx))?;
        if let Some(sending) = this.sending.as_mut() {
            // It fails in a panic alone, which has been reported.
            let _ = ready!(Pin::new(sending).poll(cx));
            this.sending = None;
        }
        Poll::Ready(Ok(()))
    }
}
