//! From verified bytes to a response body, with back-pressure and without a lie.
//!
//! A [`Pump`] reads ranges of one file one after another, with text between them for multipart answers. It is primed
//! before the headers are sent: until the first verified byte is in hand everything can still become an error
//! answer. After that a fault ends the body with an error, which makes the server cut the connection, so that a short
//! body never looks complete.
//!
//! What is in memory is taken there and then ([`Near`]); a reader is opened for what is not.
//!
//! Nothing is read ahead: the connection asks for the next chunk when the last has left for the kernel, and asking is
//! what makes the reader work. There is no limit on a stream's whole time; the stall deadline runs only while the client
//! waits for us.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame, SizeHint};
use swarmgate_content::{
    BoxFuture, ByteRange, ContentId, ContentReader, Event, FetchError, FetchErrorKind, FileRef, Stage, VerifiedBytes,
};
use swarmgate_hybrid_rules::Network;
use tokio::time::{Sleep, sleep, timeout_at};

use crate::admission::Slot;
use crate::pace::Pacer;
use crate::server::Peer;
use crate::state::GatewayState;
use crate::streams::StreamRow;

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Segment {
    /// Text of ours.
    Text(Bytes),
    /// Bytes of the file.
    Range(ByteRange),
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The protocol gave up.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// No byte came for too long.
    #[error("{id}: no byte for {waited:?}")]
    Stalled {
        /// The content.
        id: ContentId,
        /// The deadline that passed.
        waited: Duration,
    },
    /// The reader broke its promise to give exactly the range.
    #[error("{id}: the reader gave {surplus} bytes more than its range")]
    TooLong {
        /// The content.
        id: ContentId,
        /// How many.
        surplus: u64,
    },
    /// The reader broke its promise to give exactly the range.
    #[error("{id}: the reader ended {missing} bytes short of its range")]
    TooShort {
        /// The content.
        id: ContentId,
        /// How many.
        missing: u64,
    },
}

/// Opens a reader over a range of what is sent.
pub type Open = Box<dyn Fn(ByteRange) -> BoxFuture<'static, Result<ContentReader, FetchError>> + Send>;

/// The first bytes of a range of what is sent, at least one and at most the range, if they are in memory.
pub type Near = Box<dyn Fn(ByteRange) -> Option<VerifiedBytes> + Send>;

/// What is being read at the moment.
enum Now {
    Idle,
    Opening { open: BoxFuture<'static, Result<ContentReader, FetchError>>, len: u64 },
    Reading { reader: ContentReader, left: u64 },
}

/// A body on its way to a client.
pub struct Pump {
    source: Source,
    /// Chunks read before the headers were sent.
    ready: VecDeque<Bytes>,
    /// Bytes the client is still owed, text included.
    owed: u64,
    /// Made when the client first waits for us: most never do.
    stall: Option<Pin<Box<Sleep>>>,
    /// Whether `stall` runs: only between a poll that found nothing and the chunk after it.
    stall_runs: bool,
    pacer: Pacer,
    account: Account,
}

/// The segments and the reader, without deadlines.
struct Source {
    id: ContentId,
    open: Open,
    near: Option<Near>,
    segments: VecDeque<Segment>,
    now: Now,
    row: Arc<StreamRow>,
}

/// Keeps the books of one stream: events, counters, the slot.
pub(crate) struct Account {
    pub(crate) state: GatewayState,
    pub(crate) id: ContentId,
    pub(crate) row: Arc<StreamRow>,
    /// Whether the stream was announced: once its first byte was there.
    open: bool,
    pub(crate) failed: bool,
    _slot: Slot,
}

impl Pump {
    /// Prepares to send `segments` of `file`, over the networks that its request wants, if it says which; nothing is opened
    /// yet.
    #[must_use]
    pub fn new(
        state: &GatewayState,
        file: FileRef,
        wanted: Option<BTreeSet<Network>>,
        segments: Vec<Segment>,
        slot: Slot,
        peer: Option<Peer>,
    ) -> Self {
        let reading = state.clone();
        let opener: Open = Box::new(move |range| {
            let (state, wanted) = (reading.clone(), wanted.clone());
            Box::pin(async move { open(&state, file, range, wanted.as_ref()).await })
        });
        Self::over(state, file.id, opener, segments, slot, peer)
    }

    /// Prepares to send `segments` of what `open` reads, which belongs to the content `id`; nothing is opened yet.
    #[must_use]
    pub fn over(
        state: &GatewayState,
        id: ContentId,
        open: Open,
        segments: Vec<Segment>,
        slot: Slot,
        peer: Option<Peer>,
    ) -> Self {
        let ranges = segments.iter().filter_map(Segment::range).collect();
        let client = peer.as_ref().map(|peer| peer.address.ip());
        let account = Account::new(state, id, ranges, slot, peer);
        Self {
            owed: segments.iter().map(Segment::len).sum(),
            source: Source {
                id,
                open,
                near: None,
                segments: segments.into(),
                now: Now::Idle,
                row: account.row.clone(),
            },
            ready: VecDeque::new(),
            stall: None,
            stall_runs: false,
            pacer: Pacer::new(&state.pace, id, client),
            account,
        }
    }

    /// Takes from memory what is there.
    #[must_use]
    pub fn with_near(mut self, near: Near) -> Self {
        self.source.near = Some(near);
        self
    }

    /// As [`Self::prime`] when the first chunk is in memory; `None` when it is not, and then nothing has happened.
    #[must_use]
    pub fn prime_at_once(mut self, asked: Instant) -> Option<Self> {
        let Some(Segment::Range(range)) = self.source.segments.pop_front() else { return None };
        let chunk = self.source.near_chunk(range)?;
        self.ready.push_back(chunk);
        self.account.open(asked);
        Some(self)
    }

    /// How many bytes it will send.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.owed
    }

    /// Whether it sends nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.owed == 0
    }

    /// From where the bytes that were read so far have come, as `X-Swarmgate-Source` says it; `None` when nobody knows.
    #[must_use]
    pub fn sources(&self) -> Option<String> {
        self.account.row.mix().header()
    }

    /// What is known of the stream while it runs.
    pub(crate) const fn row(&self) -> &Arc<StreamRow> {
        &self.account.row
    }

    /// Waits for the first verified chunk; `asked` is when the client asked.
    ///
    /// # Errors
    /// The protocol's error, or one for the deadline.
    pub async fn prime(mut self, asked: Instant, deadline: Instant) -> Result<Self, FetchError> {
        let started = Instant::now();
        let primed = timeout_at(deadline.into(), async {
            while let Some(chunk) = std::future::poll_fn(|cx| self.source.poll_chunk(cx)).await {
                let (chunk, verified) = chunk?;
                self.ready.push_back(chunk);
                if verified {
                    break;
                }
            }
            Ok(())
        });
        let id = self.account.id;
        let failure = |kind, detail: String| FetchError::new(id, Stage::FirstByte, kind, detail);
        match primed.await {
            Ok(Ok(())) => {
                self.account.open(asked);
                Ok(self)
            }
            Ok(Err(Fault::Fetch(error))) => Err(error),
            Ok(Err(fault)) => Err(failure(FetchErrorKind::Internal, fault.to_string())),
            Err(_) => {
                let waited = started.elapsed();
                let error = failure(FetchErrorKind::TimedOut, format!("no byte arrived within {waited:.1?}"));
                Err(error.with_attempts(self.account.state.manager.attempts(&id)))
            }
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        if let Some(chunk) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        // The source first: bytes that are there are never too late.
        if let Poll::Ready(chunk) = self.source.poll_chunk(cx) {
            if std::mem::take(&mut self.stall_runs) {
                self.account.goes_on();
            }
            return Poll::Ready(chunk.map(|chunk| chunk.map(|(chunk, _)| chunk)));
        }
        let waited = self.account.state.options.stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(waited)));
        if !self.stall_runs {
            stall.as_mut().reset(tokio::time::Instant::now() + waited);
            self.stall_runs = true;
            self.account.row.waits();
        }
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Some(Err(Fault::Stalled { id: self.account.id, waited })))
    }
}

impl Segment {
    /// How many bytes it is.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub const fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Range(range) => range.len(),
        }
    }

    /// What of the file it is, unless it is text.
    #[must_use]
    pub const fn range(&self) -> Option<ByteRange> {
        match self {
            Self::Text(_) => None,
            Self::Range(range) => Some(*range),
        }
    }
}

impl Source {
    /// The next chunk and whether it is of the file, or `None` when all segments are through.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(Bytes, bool), Fault>>> {
        let id = self.id;
        loop {
            match &mut self.now {
                Now::Idle => match self.segments.pop_front() {
                    None => return Poll::Ready(None),
                    Some(Segment::Text(text)) => return Poll::Ready(Some(Ok((text, false)))),
                    Some(Segment::Range(range)) => match self.near_chunk(range) {
                        Some(chunk) => return Poll::Ready(Some(Ok((chunk, true)))),
                        None => self.now = self.open(range),
                    },
                },
                Now::Opening { open, len } => match ready!(open.as_mut().poll(cx)) {
                    Ok(reader) => {
                        self.row.reads(reader.account().cloned());
                        self.now = Now::Reading { reader, left: *len };
                    }
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                },
                Now::Reading { reader, left } => match ready!(Pin::new(reader).poll_next(cx)) {
                    None => return Poll::Ready(Some(Err(Fault::TooShort { id, missing: *left }))),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(chunk)) => {
                        let chunk = chunk.into_bytes();
                        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                            let surplus = chunk.len() as u64 - *left;
                            return Poll::Ready(Some(Err(Fault::TooLong { id, surplus })));
                        };
                        *left = rest;
                        if rest == 0 {
                            // Its demand ends here, not when the client has taken the last byte.
                            self.row.has_read();
                            self.now = Now::Idle;
                        }
                        if !chunk.is_empty() {
                            return Poll::Ready(Some(Ok((chunk, true))));
                        }
                    }
                },
            }
        }
    }

    /// The first bytes of a range, if they are in memory; the rest of it comes next.
    fn near_chunk(&mut self, range: ByteRange) -> Option<Bytes> {
        let chunk = self.near.as_ref()?(range)?.into_bytes();
        let len = chunk.len() as u64;
        if len == 0 || len > range.len() {
            return None;
        }
        if let Some(rest) = ByteRange::new(range.start() + len, range.end()) {
            self.segments.push_front(Segment::Range(rest));
        }
        Some(chunk)
    }

    fn open(&self, range: ByteRange) -> Now {
        Now::Opening { open: (self.open)(range), len: range.len() }
    }
}

/// Opens a range of a file: over the networks that a request wants, or, if it does not say, over all that have it.
pub(crate) async fn open(
    state: &GatewayState,
    file: FileRef,
    range: ByteRange,
    wanted: Option<&BTreeSet<Network>>,
) -> Result<ContentReader, FetchError> {
    let Some(wanted) = wanted else { return state.manager.open(file, range).await };
    match &state.hybrid {
        Some(hybrid) => hybrid.open_over(file, range, wanted).await,
        // Each network has its own contents then, and a wish for another is one for nobody.
        None if wanted.iter().any(|network| network.word() == file.id.network()) => {
            state.manager.open(file, range).await
        }
        None => {
            let (stage, kind) = (Stage::FirstByte, FetchErrorKind::NoSource);
            Err(FetchError::new(file.id, stage, kind, "the network that has it is not among those wanted"))
        }
    }
}

impl Account {
    /// Begins a stream's account; nobody hears of it until [`Self::open`].
    pub(crate) fn new(
        state: &GatewayState,
        id: ContentId,
        ranges: Vec<ByteRange>,
        slot: Slot,
        peer: Option<Peer>,
    ) -> Self {
        let row = StreamRow::new(state.admission.next_stream(), id, ranges, peer);
        Self { state: state.clone(), id, row, open: false, failed: false, _slot: slot }
    }

    pub(crate) fn open(&mut self, asked: Instant) {
        self.open = true;
        let (now, took) = (Instant::now(), asked.elapsed());
        self.row.opened(now, took);
        self.state.streams.put(&self.row);
        self.state.telemetry.stream_opened(took);
        self.state.manager.events().publish(Event::StreamOpen { item: self.id, stream: self.row.number() });
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.row.sent(bytes);
        self.state.telemetry.stream_sent(bytes);
    }

    /// The client does not wait for us any more.
    pub(crate) fn goes_on(&self) {
        if let Some(waited) = self.row.goes_on() {
            self.state.telemetry.stream_stalled(waited);
            let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let told = Event::StreamStall { item: self.id, stream: self.row.number(), ms };
            self.state.manager.events().publish(told);
        }
    }

    pub(crate) fn fail(&mut self, fault: &Fault) {
        self.failed = true;
        if let Some(peer) = self.row.peer() {
            peer.reset_on_close();
        }
        tracing::warn!(stream = self.row.number(), sent = self.row.sent_bytes(), %fault, "stream cut");
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let (stream, bytes) = (self.row.number(), self.row.sent_bytes());
        let failed = self.failed || self.row.was_ended();
        self.state.streams.remove(stream);
        self.state.telemetry.stream_closed(failed);
        self.state.manager.events().publish(Event::StreamClose { item: self.id, stream, bytes, failed });
    }
}

impl Body for Pump {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.owed == 0 || self.account.failed {
            return Poll::Ready(None);
        }
        let id = self.account.id;
        let missing = self.owed;
        let next = match self.pacer.take_held() {
            Some(held) => Poll::Ready(Some(Ok(held))),
            None => self.poll_chunk(cx),
        };
        let chunk = ready!(self.pacer.poll_through(cx, next)).unwrap_or(Err(Fault::TooShort { id, missing }));
        match &chunk {
            Ok(bytes) => {
                self.owed = self.owed.saturating_sub(bytes.len() as u64);
                self.account.sent(bytes.len() as u64);
            }
            Err(fault) => self.account.fail(fault),
        }
        Poll::Ready(Some(chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.owed == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.owed)
    }
}

impl std::fmt::Debug for Pump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pump").field("item", &self.account.id).field("owed", &self.owed).finish_non_exhaustive()
    }
}
