//! One peer's bytes: a task that reads whole messages and one that writes what it is given.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use swarmgate_bittorrent_proto::picker::PeerKey;
use swarmgate_bittorrent_proto::wire::complete_frames;
use swarmgate_pace::Line;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::PeerStream;

/// Read at once, in bytes: a few blocks, so that parsing and picking are done for several together.
const READ_BUFFER: usize = 128 * 1024;
/// A write that makes no progress for this long ends the peer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Batches that may wait for the writer.
pub(crate) const WRITE_QUEUE: usize = 4;

/// What the tasks tell the actor.
#[derive(Debug)]
pub(crate) enum PeerInput {
    /// Whole messages.
    Frames(PeerKey, Bytes),
    /// This many bytes were written.
    Written(PeerKey, usize),
    /// The connection ended.
    Closed(PeerKey, String),
    /// The peer sent what is no message; it is not read any more.
    Broke(PeerKey, String),
}

/// Reads until the connection ends or the actor is gone, no faster than `line` allows.
pub(crate) async fn read(
    key: PeerKey,
    mut io: ReadHalf<Box<dyn PeerStream>>,
    inputs: mpsc::Sender<PeerInput>,
    line: Line,
) {
    let mut buffer = BytesMut::with_capacity(READ_BUFFER);
    let mut unpaid = 0;
    let reason = loop {
        // What has come is handed on at once; what comes next waits for its turn in the kernel, or at the peer.
        line.pass(std::mem::take(&mut unpaid)).await;
        // A message longer than the buffer makes it grow, up to the largest message allowed.
        buffer.reserve(READ_BUFFER / 2);
        let piece = line.piece().and_then(|piece| usize::try_from(piece).ok()).unwrap_or(usize::MAX);
        match io.read_buf(&mut (&mut buffer).limit(piece)).await {
            Ok(0) => break "closed by the peer".to_owned(),
            Ok(read) => unpaid = read as u64,
            Err(error) => break error.to_string(),
        }
        let complete = match complete_frames(&buffer) {
            Ok(0) => continue,
            Ok(complete) => complete,
            Err(error) => {
                let _ = inputs.send(PeerInput::Broke(key, error.to_string())).await;
                return;
            }
        };
        if inputs.send(PeerInput::Frames(key, buffer.split_to(complete).freeze())).await.is_err() {
            return;
        }
    };
    // The actor is gone if this fails, and so is everything else.
    let _ = inputs.send(PeerInput::Closed(key, reason)).await;
}

/// Writes until the connection ends or the actor drops its end.
pub(crate) async fn write(
    key: PeerKey,
    mut io: WriteHalf<Box<dyn PeerStream>>,
    mut batches: mpsc::Receiver<VecDeque<Bytes>>,
    inputs: mpsc::Sender<PeerInput>,
) {
    while let Some(batch) = batches.recv().await {
        let mut batch = Batch(batch);
        let len = batch.remaining();
        if let Err(reason) = write_batch(&mut io, &mut batch).await {
            let _ = inputs.send(PeerInput::Closed(key, reason)).await;
            return;
        }
        if inputs.send(PeerInput::Written(key, len)).await.is_err() {
            break;
        }
    }
    // Whatever is left in the kernel is sent; the peer learns that we are gone.
    let _ = io.shutdown().await;
}

async fn write_batch(io: &mut WriteHalf<Box<dyn PeerStream>>, batch: &mut Batch) -> Result<(), String> {
    while batch.has_remaining() {
        if progress(io.write_buf(batch)).await? == 0 {
            return Err("closed by the peer".to_owned());
        }
    }
    // A stream that encrypts may hold what its carrier has not taken yet.
    progress(io.flush()).await
}

async fn progress<T>(step: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(WRITE_TIMEOUT, step).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no write went through in {} s", WRITE_TIMEOUT.as_secs())),
    }
}

/// Several buffers written as one.
struct Batch(VecDeque<Bytes>);

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |first| first)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.0);
        filled.map(|(slice, bytes)| *slice = IoSlice::new(bytes)).count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.0.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.0.pop_front();
        }
        debug_assert_eq!(count, 0, "advanced past the end");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_its_buffers_end_to_end() {
        let parts = [&b"ab"[..], b"", b"cde", b"f"].map(Bytes::from_static);
        let mut batch = Batch(parts.into());
        assert_eq!(batch.remaining(), 6);
        batch.advance(3);
        assert_eq!(batch.chunk(), b"de");
        batch.advance(3);
        assert!(!batch.has_remaining());
    }
}
