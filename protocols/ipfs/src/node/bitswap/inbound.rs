//! The streams that a peer sends messages on: many at a time, for Kubo opens a new one for each message.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use libp2p::Stream;
use libp2p::futures::AsyncRead;
use swarmgate_ipfs_proto::bitswap::message::{Message, MessageError, next_frame};
use tokio::time::Instant;

/// Bytes of messages that are not whole yet, of all streams of a connection. Beyond that only the stream that has
/// waited longest is read, so that one message after the other becomes whole.
const MAX_PARTIAL_BYTES: usize = 4 << 20;
/// How much is read from a stream at a time.
const READ_BYTES: usize = 64 << 10;

struct Inbound {
    stream: Stream,
    buffer: BytesMut,
    /// When bytes last came.
    moved: Instant,
}

/// What reading has come to.
pub(super) enum Read {
    Message(Message),
    /// Not a message: the peer is not to be believed any more.
    Malformed(MessageError),
}

/// The inbound streams of one connection.
#[derive(Default)]
pub(super) struct Streams {
    /// The oldest first.
    streams: Vec<Inbound>,
    scratch: Vec<u8>,
    grown: bool,
}

impl Streams {
    pub(super) const fn len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn add(&mut self, now: Instant, stream: Stream) {
        self.streams.push(Inbound { stream, buffer: BytesMut::new(), moved: now });
    }

    /// Resets the streams on which a message has stood still since then: it would take up memory for ever.
    pub(super) fn drop_stalled(&mut self, since: Instant) {
        self.streams.retain(|inbound| inbound.buffer.is_empty() || inbound.moved > since);
    }

    /// Whether bytes came since this was last asked that made no message whole.
    pub(super) const fn take_grown(&mut self) -> bool {
        std::mem::replace(&mut self.grown, false)
    }

    /// The next message of any stream. Streams that ended are forgotten.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if self.streams.is_empty() {
            self.scratch = Vec::new();
            return Poll::Pending;
        }
        self.scratch.resize(READ_BYTES, 0);
        let mut index = 0;
        while index < self.streams.len() {
            if !self.may_grow(index) {
                index += 1;
                continue;
            }
            match self.streams[index].poll_frame(cx, &mut self.scratch, &mut self.grown) {
                Poll::Pending => index += 1,
                Poll::Ready(Ok(Some(frame))) => match Message::decode(&frame) {
                    Ok(message) => return Poll::Ready(Read::Message(message)),
                    Err(error) => return Poll::Ready(self.give_up(index, error)),
                },
                Poll::Ready(Ok(None)) => drop(self.streams.remove(index)),
                Poll::Ready(Err(error)) => return Poll::Ready(self.give_up(index, error)),
            }
        }
        Poll::Pending
    }

    fn give_up(&mut self, index: usize, error: MessageError) -> Read {
        drop(self.streams.remove(index));
        Read::Malformed(error)
    }

    fn may_grow(&self, index: usize) -> bool {
        let partial: usize = self.streams.iter().map(|inbound| inbound.buffer.len()).sum();
        partial < MAX_PARTIAL_BYTES || self.streams.iter().position(|inbound| !inbound.buffer.is_empty()) == Some(index)
    }
}

impl Inbound {
    /// The next whole message; `None` when the stream has ended, in a message or after it.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        grown: &mut bool,
    ) -> Poll<Result<Option<Bytes>, MessageError>> {
        loop {
            if let Some(frame) = next_frame(&mut self.buffer)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            match Pin::new(&mut self.stream).poll_read(cx, scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(len)) => {
                    self.buffer.extend_from_slice(&scratch[..len]);
                    self.moved = Instant::now();
                    *grown = true;
                }
            }
        }
    }
}
