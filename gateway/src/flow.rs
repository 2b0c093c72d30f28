//! A body whose length nobody knows before its end: a CAR, a tar.
//!
//! As a [`crate::body::Pump`] it is primed before the headers are sent, asks for more only when the connection does, and
//! ends with an error that resets the stream when something fails half-way. Without a length that is the only sign of an
//! answer that is not whole.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures_core::Stream;
use futures_util::StreamExt as _;
use http_body::{Body, Frame};
use swarmgate_content::{BoxFuture, ContentId, FetchError, FetchErrorKind, Stage};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout_at};

use crate::admission::Slot;
use crate::body::{Account, Fault};
use crate::pace::Pacer;
use crate::server::Peer;
use crate::state::GatewayState;
use crate::streams::StreamRow;

/// Chunks of a body, in order.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send>>;

/// A body on its way to a client.
pub struct Flow {
    chunks: Chunks,
    /// Chunks made before the headers were sent.
    ready: VecDeque<Bytes>,
    over: bool,
    stall: Pin<Box<Sleep>>,
    /// Whether `stall` runs: only between a poll that found nothing and the chunk after it.
    stall_runs: bool,
    pacer: Pacer,
    account: Account,
}

impl Flow {
    /// Prepares to send `chunks`, which belong to the content `id`.
    #[must_use]
    pub fn new(state: &GatewayState, id: ContentId, chunks: Chunks, slot: Slot, peer: Option<Peer>) -> Self {
        Self {
            chunks,
            ready: VecDeque::new(),
            over: false,
            stall: Box::pin(sleep(state.options.stall)),
            stall_runs: false,
            pacer: Pacer::new(&state.pace, id, peer.as_ref().map(|peer| peer.address.ip())),
            account: Account::new(state, id, Vec::new(), slot, peer),
        }
    }

    /// What is known of the stream while it runs.
    pub(crate) const fn row(&self) -> &Arc<StreamRow> {
        &self.account.row
    }

    /// Waits for so many bytes or the end, so that what fails until then has a status of its own; `asked` is when the
    /// client asked.
    ///
    /// # Errors
    /// What failed, or that the deadline passed.
    pub async fn prime(mut self, bytes: usize, asked: Instant, deadline: Instant) -> Result<Self, FetchError> {
        let started = Instant::now();
        let mut have = 0;
        let (chunks, ready) = (&mut self.chunks, &mut self.ready);
        let primed = timeout_at(deadline.into(), async {
            while have < bytes {
                let Some(chunk) = chunks.next().await else { return Ok(true) };
                let chunk = chunk?;
                have += chunk.len();
                ready.push_back(chunk);
            }
            Ok(false)
        });
        match primed.await {
            Ok(outcome) => self.over = outcome?,
            Err(_) => {
                let detail = format!("no byte arrived within {:.1?}", started.elapsed());
                return Err(FetchError::new(self.account.id, Stage::FirstByte, FetchErrorKind::TimedOut, detail));
            }
        }
        self.account.open(asked);
        Ok(self)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(chunk) = self.chunks.as_mut().poll_next(cx) {
            if std::mem::take(&mut self.stall_runs) {
                self.account.goes_on();
            }
            return Poll::Ready(chunk.map(|chunk| chunk.map_err(Fault::Fetch)));
        }
        let waited = self.account.state.options.stall;
        if !self.stall_runs {
            self.stall.as_mut().reset(tokio::time::Instant::now() + waited);
            self.stall_runs = true;
            self.account.row.waits();
        }
        ready!(self.stall.as_mut().poll(cx));
        Poll::Ready(Some(Err(Fault::Stalled { id: self.account.id, waited })))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.account.failed {
            return Poll::Ready(None);
        }
        let next = match self.pacer.take_held() {
            Some(held) => Poll::Ready(Some(Ok(held))),
            None => self.poll_chunk(cx),
        };
        let Some(chunk) = ready!(self.pacer.poll_through(cx, next)) else {
            self.over = true;
            return Poll::Ready(None);
        };
        match &chunk {
            Ok(bytes) => self.account.sent(bytes.len() as u64),
            Err(fault) => self.account.fail(fault),
        }
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.ready.is_empty() && !self.pacer.holds()
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("item", &self.account.id).field("over", &self.over).finish_non_exhaustive()
    }
}

/// Where a [`produce`]r puts its chunks.
#[derive(Debug)]
pub struct Outlet(mpsc::Sender<Bytes>);

impl Outlet {
    /// Hands a chunk out, and waits until it is wanted. When nobody is there any more it waits for ever, until the
    /// producer is dropped with its stream.
    pub async fn send(&self, chunk: Bytes) {
        if !chunk.is_empty() && self.0.send(chunk).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Chunks that a future makes, one at a time and only while they are asked for. The future is a part of the stream, no
/// task: it goes on when the stream is polled and ends when the stream is dropped.
pub fn produce<Work, Made>(work: Work) -> Chunks
where
    Work: FnOnce(Outlet) -> Made,
    Made: Future<Output = Result<(), FetchError>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let producing: Producing = (Some(Box::pin(work(Outlet(sender)))), receiver, None);
    futures_util::stream::unfold(producing, |(mut work, mut receiver, mut failed)| async move {
        loop {
            let Some(running) = work.as_mut() else {
                if let Some(chunk) = receiver.recv().await {
                    return Some((Ok(chunk), (None, receiver, failed)));
                }
                return failed.map(|error| (Err(error), (None, receiver, None)));
            };
            let ended = tokio::select! {
                biased;
                Some(chunk) = receiver.recv() => return Some((Ok(chunk), (work, receiver, failed))),
                ended = running => ended,
            };
            work = None;
            failed = ended.err();
        }
    })
    .boxed()
}

/// The future, until it has ended; what it made; and how it failed, which comes after all that it made.
type Producing = (Option<BoxFuture<'static, Result<(), FetchError>>>, mpsc::Receiver<Bytes>, Option<FetchError>);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn failure() -> FetchError {
        let id = ContentId::parse_torrent(&"ab".repeat(20)).unwrap();
        FetchError::new(id, Stage::Stream, FetchErrorKind::Invalid, "as the test wished")
    }

    #[tokio::test]
    async fn a_producer_is_no_further_than_it_was_asked() {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let mut chunks = produce(|outlet| async move {
            for number in 0..100_u8 {
                counter.fetch_add(1, Ordering::SeqCst);
                outlet.send(Bytes::copy_from_slice(&[number])).await;
            }
            Ok(())
        });
        for number in 0..3_u8 {
            assert_eq!(chunks.next().await.unwrap().unwrap().as_ref(), [number]);
        }
        assert!(made.load(Ordering::SeqCst) <= 5, "{made:?} made for 3 that were asked for");
        assert_eq!(chunks.count().await, 97);
    }

    #[tokio::test]
    async fn a_failure_comes_after_what_was_made_before() {
        let mut chunks = produce(|outlet| async move {
            outlet.send(Bytes::from_static(b"a")).await;
            Err(failure())
        });
        assert_eq!(chunks.next().await.unwrap().unwrap().as_ref(), b"a");
        assert!(chunks.next().await.unwrap().is_err());
        assert!(chunks.next().await.is_none());
    }
}
