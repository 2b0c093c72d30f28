//! The content streams that are running: who reads what, how much each has sent, from where it came, and how often the
//! client had to wait for us.
//!
//! A row is in the table from the first byte until the stream is over, so there are never more than admission lets in.
//! What a stream does is told by its body; by which networks its bytes came is asked of its reader when somebody looks.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use swarmgate_content::{Account, ByteRange, ContentId, SourceMix};
use utoipa::ToSchema;

use crate::admission;
use crate::api::shapes::Mix;
use crate::server::Peer;

/// A client that waits for less does not notice.
const STALL: Duration = Duration::from_millis(100);

/// The running streams of one gateway, by their numbers.
#[derive(Debug, Default)]
pub struct Streams(Mutex<BTreeMap<u64, Arc<StreamRow>>>);

/// One stream as it is now.
#[derive(Debug)]
pub struct StreamRow {
    number: u64,
    item: ContentId,
    /// What of the content is sent; empty when the answer is made from all of it.
    ranges: Vec<ByteRange>,
    peer: Option<Peer>,
    sent: AtomicU64,
    ended: AtomicBool,
    course: Mutex<Course>,
}

/// How a stream has gone so far.
#[derive(Debug, Default)]
struct Course {
    opened: Option<(Instant, Duration)>,
    waiting_since: Option<Instant>,
    stalls: u32,
    stalled: Duration,
    /// What the readers that are done were handed.
    past: SourceMix,
    reader: Option<Arc<dyn Account>>,
}

/// What an operator sees of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct StreamStatus {
    /// Its number, unique in this process.
    pub id: u64,
    /// The content.
    #[schema(value_type = String)]
    pub item: ContentId,
    /// The client as admission counts it: an IPv4 address, or the first of the /64 that an IPv6 address lies in.
    #[schema(value_type = Option<String>)]
    pub client: Option<IpAddr>,
    /// What of the file was asked for, as HTTP writes ranges; empty for what is made from many files.
    pub ranges: Vec<String>,
    /// Bytes that were handed to the client.
    pub sent: u64,
    /// Milliseconds since its first byte.
    pub since_ms: u64,
    /// Milliseconds from the request to the first byte.
    pub first_byte_ms: u64,
    /// Times that the client waited for us for a tenth of a second or longer.
    pub stalls: u32,
    /// For how long, all together, in milliseconds; one that goes on counts.
    pub stalled_ms: u64,
    /// From where its bytes came.
    #[schema(value_type = Mix)]
    pub came_from: SourceMix,
}

impl Streams {
    /// Lists a stream whose first byte is there.
    pub(crate) fn put(&self, row: &Arc<StreamRow>) {
        self.0.lock().insert(row.number, Arc::clone(row));
    }

    /// A stream is over.
    pub(crate) fn remove(&self, number: u64) {
        self.0.lock().remove(&number);
    }

    /// Every stream, in the order of their requests.
    #[must_use]
    pub fn status(&self, now: Instant) -> Vec<StreamStatus> {
        let rows: Vec<_> = self.0.lock().values().cloned().collect();
        rows.iter().filter_map(|row| row.status(now)).collect()
    }

    /// Cuts a stream: its connection is reset. Tells whether there is one of that number.
    pub fn end(&self, number: u64) -> bool {
        let row = self.0.lock().get(&number).cloned();
        let Some((row, peer)) = row.and_then(|row| Some((row.clone(), row.peer.clone()?))) else { return false };
        row.ended.store(true, Ordering::Release);
        peer.cut();
        true
    }
}

impl StreamRow {
    pub(crate) fn new(number: u64, item: ContentId, ranges: Vec<ByteRange>, peer: Option<Peer>) -> Arc<Self> {
        let (sent, ended) = (AtomicU64::new(0), AtomicBool::new(false));
        Arc::new(Self { number, item, ranges, peer, sent, ended, course: Mutex::default() })
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Its first byte is there, so long after the client asked.
    pub(crate) fn opened(&self, now: Instant, took: Duration) {
        let mut course = self.course.lock();
        course.opened = Some((now, took));
        course.waiting_since = None;
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many bytes were handed to the client.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Whether an operator has ended it.
    pub(crate) fn was_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The client waits for us.
    pub(crate) fn waits(&self) {
        let mut course = self.course.lock();
        if course.waiting_since.is_none() {
            course.waiting_since = Some(Instant::now());
        }
    }

    /// It goes on. Tells for how long the client noticeably waited.
    pub(crate) fn goes_on(&self) -> Option<Duration> {
        let mut course = self.course.lock();
        let since = course.waiting_since.take()?;
        let waited = Some(since.elapsed()).filter(|waited| *waited >= STALL && course.opened.is_some())?;
        course.stalls = course.stalls.saturating_add(1);
        course.stalled += waited;
        Some(waited)
    }

    /// A reader is opened; this is who knows where its bytes come from.
    pub(crate) fn reads(&self, reader: Option<Arc<dyn Account>>) {
        self.course.lock().reader = reader;
    }

    /// The reader has given all it had, and is about to go.
    pub(crate) fn has_read(&self) {
        let mut course = self.course.lock();
        if let Some(reader) = course.reader.take() {
            let mix = reader.mix();
            course.past.add(&mix);
        }
    }

    /// From where its bytes have come so far.
    pub(crate) fn mix(&self) -> SourceMix {
        let (mut mix, reader) = {
            let course = self.course.lock();
            (course.past.clone(), course.reader.clone())
        };
        if let Some(reader) = reader {
            mix.add(&reader.mix());
        }
        mix
    }

    fn status(&self, now: Instant) -> Option<StreamStatus> {
        let came_from = self.mix();
        let course = self.course.lock();
        let (opened, first_byte) = course.opened?;
        let waits = course.waiting_since.map(|since| now.saturating_duration_since(since));
        let waits = waits.filter(|waits| *waits >= STALL);
        Some(StreamStatus {
            id: self.number,
            item: self.item,
            client: self.peer.as_ref().map(|peer| admission::household(peer.address.ip())),
            ranges: self.ranges.iter().map(ToString::to_string).collect(),
            sent: self.sent_bytes(),
            since_ms: millis(now.saturating_duration_since(opened)),
            first_byte_ms: millis(first_byte),
            stalls: course.stalls.saturating_add(u32::from(waits.is_some())),
            stalled_ms: millis(course.stalled + waits.unwrap_or_default()),
            came_from,
        })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Gave(SourceMix);

    impl Account for Gave {
        fn mix(&self) -> SourceMix {
            self.0.clone()
        }
    }

    fn row(number: u64) -> Arc<StreamRow> {
        let id = ContentId::parse_torrent(&"ab".repeat(20)).unwrap();
        StreamRow::new(number, id, ByteRange::new(2, 5).into_iter().collect(), None)
    }

    #[test]
    fn what_came_by_several_readers_is_added_up() {
        let row = row(1);
        row.reads(Some(Arc::new(Gave(SourceMix::of_one(3, "bt", 1)))));
        row.has_read();
        row.reads(Some(Arc::new(Gave(SourceMix::of_one(0, "bt", 4)))));
        assert_eq!(row.mix(), SourceMix::of_one(3, "bt", 5));
        assert_eq!(row.mix().header().unwrap(), "bt;r=0.62, cache;r=0.38");
    }

    #[test]
    fn a_stream_is_listed_from_its_first_byte_on_and_a_wait_that_goes_on_counts() {
        let (streams, row, now) = (Streams::default(), row(7), Instant::now());
        streams.put(&row);
        assert_eq!(streams.status(now), [], "nothing was sent yet");
        row.waits();
        row.opened(now, Duration::from_millis(40));
        assert_eq!(row.goes_on(), None, "what comes before the first byte is no stall");
        row.waits();
        let status = streams.status(now + Duration::from_secs(60)).remove(0);
        assert_eq!((status.id, status.first_byte_ms, status.stalls), (7, 40, 1));
        assert!(status.stalled_ms >= 59_000 && status.ranges == ["2-4"], "{status:?}");
        assert_eq!(row.goes_on(), None, "it was too short to be noticed");
        assert!(!streams.end(7), "there is no connection to cut");
        streams.remove(7);
        assert_eq!(streams.status(now), []);
    }
}
