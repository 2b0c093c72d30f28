//! From the bytes that are written to the messages that are sent.
//!
//! A task joins what is written meanwhile into messages as large as is good. The library sends a message's packets in
//! one call of the kernel if there are at least 16 of them, which a block of BitTorrent alone is not: one message a
//! block costs 9 to 15 CPU seconds for each GB, messages of twice the size 4 to 5. Nothing waits to be joined: while
//! the channel takes messages, each write is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use webrtc::data_channel::DataChannel;
use webrtc::error::Error as LibraryError;

/// The largest message that we send, in bytes: 28 packets. Twice as much is no faster, and a reader that does not read
/// has as many messages lying in its library, whatever their size.
pub(crate) const SENT_MESSAGE_BYTES: usize = 32 * 1024;
/// What can be written before the channel takes it, in bytes.
pub(crate) const PIPE_BYTES: usize = 2 * SENT_MESSAGE_BYTES;
/// A sender that nobody woke looks again after this long, as the library's own do.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the end waits for the peer to have everything.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it looks.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// What sends one stream's bytes.
pub(crate) struct Outbox {
    pub(crate) channel: Arc<dyn DataChannel>,
    /// Bytes of one message at most.
    pub(crate) chunk: usize,
    /// Where the library waits for acknowledgements, in bytes.
    pub(crate) ceiling: usize,
    /// Where we do. It may change while the stream is used.
    pub(crate) limit: Arc<AtomicUsize>,
    /// Notified when acknowledgements may have come.
    pub(crate) settled: Arc<Notify>,
    /// Cancelled when the connection is over.
    pub(crate) ended: CancellationToken,
}

impl Outbox {
    /// Sends until the writer is done or gone, or the connection is, and closes the channel behind the last byte.
    pub(crate) async fn run(self, pipe: DuplexStream) {
        self.ended.run_until_cancelled(self.send_all(pipe)).await;
    }

    async fn send_all(&self, mut pipe: DuplexStream) {
        while let Some(message) = self.next_message(&mut pipe).await {
            if self.send(message).await.is_err() {
                return;
            }
        }
        self.close().await;
    }

    /// Waits for a byte, and takes with it what is there. Room is made only then: most connections are idle.
    async fn next_message(&self, pipe: &mut DuplexStream) -> Option<BytesMut> {
        let mut first = [0; 64];
        // A pipe within the process fails in no other way than by ending.
        let count = pipe.read(&mut first).await.ok().filter(|count| *count > 0)?;
        let mut message = BytesMut::with_capacity(self.chunk);
        message.extend_from_slice(&first[..count]);
        let mut rest = pipe.take((self.chunk - count) as u64);
        let _ = rest.read_buf(&mut message).now_or_never();
        Some(message)
    }

    async fn send(&self, message: BytesMut) -> Result<(), LibraryError> {
        if self.limit() < self.ceiling {
            self.wait_for_room().await?;
        }
        self.channel.send(message).await
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Waits while as much is on its way as may be. The library has but one limit for all peers, set before it is
    /// known who they are.
    async fn wait_for_room(&self) -> Result<(), LibraryError> {
        loop {
            // Listens first and looks then, so that what happens between the two is heard.
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.channel.outstanding_bytes().await? < self.limit() {
                return Ok(());
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, settled).await;
        }
    }

    /// Waits until the peer has acknowledged everything, and closes the channel.
    async fn close(&self) {
        let drained = async {
            // The library has no event for it. At the end of a connection a look each 5 ms costs nothing.
            while self.channel.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drained).await;
        // It may be closed by the other side already.
        let _ = self.channel.close().await;
    }
}
