//! The stream that messages go out on: one for each connection, opened early, used again, closed when nothing is
//! wanted. A new one for each message cost two thirds of the rate at 50 ms.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use libp2p::Stream;
use libp2p::futures::AsyncWrite;
use swarmgate_ipfs_proto::bitswap::{Message, Version};
use tokio::time::Instant;

/// A message on its way.
struct Frame {
    bytes: Vec<u8>,
    written: usize,
    /// When the stream last took some of it.
    moved: Instant,
    /// Whether the server waits to hear of it.
    served: bool,
}

/// A stream that the peer reads messages from.
pub(super) struct Writer {
    stream: Stream,
    version: Version,
    frame: Option<Frame>,
}

impl Writer {
    pub(super) const fn new(stream: Stream, version: Version) -> Self {
        Self { stream, version, frame: None }
    }

    pub(super) const fn is_busy(&self) -> bool {
        self.frame.is_some()
    }

    /// Whether a message has stood still since then.
    pub(super) fn is_stalled(&self, since: Instant) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.moved <= since)
    }

    /// Whether a message of the server is on its way.
    pub(super) fn is_serving(&self) -> bool {
        self.frame.as_ref().is_some_and(|frame| frame.served)
    }

    /// Begins with a message, after the one before was written.
    pub(super) fn start(&mut self, message: &Message, served: bool) {
        let bytes = message.encode_framed(self.version);
        self.frame = Some(Frame { bytes, written: 0, moved: Instant::now(), served });
    }

    /// Writes on; ready when the message is out, with whether it was one of the server.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let Some(frame) = &mut self.frame else { return Poll::Pending };
        while frame.written < frame.bytes.len() {
            let len = ready!(Pin::new(&mut self.stream).poll_write(cx, &frame.bytes[frame.written..]))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            frame.written += len;
            frame.moved = Instant::now();
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        let served = frame.served;
        self.frame = None;
        Poll::Ready(Ok(served))
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }
}
