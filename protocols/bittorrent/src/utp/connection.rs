//! A uTP connection as a byte stream, without three things that the protocol's own stream costs: time to zero what is read
//! into, pauses before what is written goes out, and bursts that no socket of the peer's holds.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use librqbit_utp::UtpStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::flight::{Flight, Head};

/// Bytes read at once. The protocol zeroes all that it is offered before it reads, and a buffer for several blocks would be
/// zeroed for each packet.
const READ_AT_ONCE: usize = 8 * 1024;

/// How long a stream may have no room. By then all of it is lost, which more does not make worse, or the count is wrong.
const LOST_AFTER: Duration = Duration::from_secs(2);

/// One connection, whoever dialled.
pub struct UtpConnection {
    stream: UtpStream,
    senders: Arc<Senders>,
    /// While there is no room.
    pause: Option<Pin<Box<Sleep>>>,
}

/// What sends and receives the packets of each connection: the protocol's own tasks, seen as they do.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<BTreeMap<SocketAddr, Sender>>);

#[derive(Debug)]
struct Sender {
    /// Whoever sends the connection's packets.
    ///
    /// Such a task looks at what was written when it had nothing to send, or when a packet comes. What is written meanwhile
    /// would wait for an acknowledgement of what is under way, which the other side may delay by 40 ms and more.
    task: Option<Waker>,
    /// Whoever waits for room.
    writer: Option<Waker>,
    /// `None` where two connections have one address, so that nobody can tell their packets apart.
    flight: Option<Flight>,
}

impl Senders {
    /// Notes that a packet goes to `to`, if there is a connection.
    pub(super) fn note(&self, to: SocketAddr, cx: &Context<'_>) {
        if let Some(sender) = self.0.lock().get_mut(&to) {
            remember(&mut sender.task, cx);
        }
    }

    /// Notes that a packet is about to go to `to`: its head, and so many bytes of the stream. It may be acknowledged before
    /// whoever sends it is told that it went.
    pub(super) fn sends(&self, to: SocketAddr, head: &[u8], bytes: usize) {
        let Some(head) = Head::read(head) else { return };
        if let Some(flight) = self.0.lock().get_mut(&to).and_then(|sender| sender.flight.as_mut()) {
            flight.on_sent(Instant::now(), head, bytes);
        }
    }

    /// Notes that a packet came from `from`.
    pub(super) fn received(&self, from: SocketAddr, datagram: &[u8]) {
        let Some(head) = Head::read(datagram) else { return };
        let writer = self.0.lock().get_mut(&from).and_then(|sender| {
            let has_room = sender.flight.as_mut()?.on_received(Instant::now(), head);
            has_room.then(|| sender.writer.take())?
        });
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    fn begin(&self, with: SocketAddr) {
        let mut senders = self.0.lock();
        let flight = (!senders.contains_key(&with)).then(Flight::default);
        let before = senders.insert(with, Sender { task: None, writer: None, flight });
        drop(senders);
        if let Some(writer) = before.and_then(|before| before.writer) {
            writer.wake();
        }
    }

    /// Another connection to the same address waits as long as the protocol has it then, no longer.
    fn end(&self, with: SocketAddr) {
        let sender = self.0.lock().remove(&with);
        if let Some(writer) = sender.and_then(|sender| sender.writer) {
            writer.wake();
        }
    }

    /// How many bytes may be written to `to`, once any may be.
    fn poll_room(&self, to: SocketAddr, cx: &Context<'_>) -> Poll<usize> {
        let mut senders = self.0.lock();
        let Some(Sender { writer, flight: Some(flight), .. }) = senders.get_mut(&to) else {
            return Poll::Ready(usize::MAX);
        };
        match flight.room() {
            0 => {
                remember(writer, cx);
                Poll::Pending
            }
            room => Poll::Ready(room),
        }
    }

    /// Somebody has waited for room for [`LOST_AFTER`].
    fn has_waited(&self, to: SocketAddr) {
        if let Some(flight) = self.0.lock().get_mut(&to).and_then(|sender| sender.flight.as_mut()) {
            flight.forget();
        }
    }

    /// Has what was written looked at.
    fn wrote(&self, to: SocketAddr, bytes: usize) {
        let task = self.0.lock().get_mut(&to).and_then(|sender| {
            if let Some(flight) = &mut sender.flight {
                flight.wrote(bytes);
            }
            sender.task.clone()
        });
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
impl Senders {
    /// Bytes that are acknowledged of all that was written, where they are counted.
    pub(super) fn acknowledged(&self, to: SocketAddr) -> Option<u64> {
        self.0.lock().get(&to).and_then(|sender| sender.flight.as_ref()).map(Flight::acknowledged)
    }
}

/// Has the task of `cx` woken, in the place of another.
fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

impl UtpConnection {
    pub(super) fn new(stream: UtpStream, senders: Arc<Senders>) -> Self {
        senders.begin(stream.remote_addr());
        Self { stream, senders, pause: None }
    }

    /// The peer's address.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.stream.remote_addr()
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let to = self.remote_addr();
        loop {
            if let Poll::Ready(room) = self.senders.poll_room(to, cx) {
                self.pause = None;
                return Poll::Ready(room);
            }
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOST_AFTER)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
            self.senders.has_waited(to);
        }
    }

    /// Has what was written looked at, if anything was.
    fn written(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.senders.wrote(self.remote_addr(), bytes);
        }
        outcome
    }
}

impl Drop for UtpConnection {
    fn drop(&mut self) {
        self.senders.end(self.remote_addr());
    }
}

impl std::fmt::Debug for UtpConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UtpConnection({})", self.remote_addr())
    }
}

impl AsyncRead for UtpConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            let room = buf.remaining().min(READ_AT_ONCE);
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(room));
            let outcome = Pin::new(&mut *stream).poll_read(cx, &mut part);
            let read = part.filled().len();
            buf.advance(read);
            match outcome {
                Poll::Ready(Ok(())) if read == room => {}
                Poll::Ready(Ok(())) => break,
                // Said again at the next read.
                Poll::Ready(Err(_)) | Poll::Pending if buf.filled().len() > before => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for UtpConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let room = ready!(this.poll_room(cx)).min(bytes.len());
        let outcome = Pin::new(&mut this.stream).poll_write(cx, &bytes[..room]);
        this.written(outcome)
    }

    /// Writes as many of the slices as are taken, so that a message's head does not go in a packet of its own.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let room = ready!(this.poll_room(cx));
        let outcome = poll_write_each(&mut this.stream, cx, slices, room);
        this.written(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A flush would wait until the peer has acknowledged all, and so stop the flow at each; what was written goes out by
    /// itself, as over TCP.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Writes up to `room` bytes of the slices.
fn poll_write_each(
    stream: &mut UtpStream,
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut written = 0;
    for slice in slices.iter().filter(|slice| !slice.is_empty()) {
        let slice = &slice[..slice.len().min(room - written)];
        match Pin::new(&mut *stream).poll_write(cx, slice) {
            Poll::Ready(Ok(count)) => {
                written += count;
                if count < slice.len() || written == room {
                    break;
                }
            }
            Poll::Ready(Err(error)) if written == 0 => return Poll::Ready(Err(error)),
            Poll::Pending if written == 0 => return Poll::Pending,
            // Said again at the next write.
            Poll::Ready(Err(_)) | Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(written))
}
