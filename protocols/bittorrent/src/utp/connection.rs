//! A uTP connection as a byte stream, without two things that the protocol's own stream costs: time to zero what is read
//! into, and pauses before what is written goes out.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use librqbit_utp::UtpStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read at once. The protocol zeroes all that it is offered before it reads, and a buffer for several blocks would be
/// zeroed for each packet.
const READ_AT_ONCE: usize = 8 * 1024;

/// One connection, whoever dialled.
pub struct UtpConnection {
    stream: UtpStream,
    senders: Arc<Senders>,
}

/// Who sends the packets of each connection: the protocol's own tasks, seen when they send.
///
/// Such a task looks at what was written when it had nothing to send, or when a packet comes. What is written meanwhile
/// would wait for an acknowledgement of what is under way, which the other side may delay by 40 ms and more.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<BTreeMap<SocketAddr, Option<Waker>>>);

impl Senders {
    /// Notes that a packet goes to `to`, if there is a connection.
    pub(super) fn note(&self, to: SocketAddr, cx: &Context<'_>) {
        match self.0.lock().get_mut(&to) {
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            Some(waker) => *waker = Some(cx.waker().clone()),
            None => {}
        }
    }

    fn wake(&self, to: SocketAddr) {
        let waker = self.0.lock().get(&to).cloned().flatten();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl UtpConnection {
    pub(super) fn new(stream: UtpStream, senders: Arc<Senders>) -> Self {
        senders.0.lock().insert(stream.remote_addr(), None);
        Self { stream, senders }
    }

    /// The peer's address.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.stream.remote_addr()
    }

    /// Has what was written looked at, if anything was.
    fn written(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(outcome, Poll::Ready(Ok(_))) {
            self.senders.wake(self.remote_addr());
        }
        outcome
    }
}

/// Another connection to the same address waits as long as the protocol has it then, no longer.
impl Drop for UtpConnection {
    fn drop(&mut self) {
        self.senders.0.lock().remove(&self.remote_addr());
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
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(outcome)
    }

    /// Writes as many of the slices as are taken, so that a message's head does not go in a packet of its own.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = poll_write_each(&mut this.stream, cx, slices);
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

fn poll_write_each(stream: &mut UtpStream, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let mut written = 0;
    for slice in slices.iter().filter(|slice| !slice.is_empty()) {
        match Pin::new(&mut *stream).poll_write(cx, slice) {
            Poll::Ready(Ok(count)) => {
                written += count;
                if count < slice.len() {
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
