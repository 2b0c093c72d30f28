//! The body of an answer whose request is told of: the span ends when the last byte is handed to the connection, when the
//! body fails, or when it is dropped before.
//!
//! The last byte and not the end behind it: a connection that has sent as much as it announced asks for nothing more, and
//! so never hears that this was all.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use axum::BoxError;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body::{Body as _, Frame, SizeHint};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span as _, Status};
use opentelemetry_sdk::trace::Span;

use crate::streams::StreamRow;

/// A stream's row on the way to whoever tells of its request; goes along as an extension of the answer.
#[derive(Debug, Clone)]
pub struct Streamed(Arc<StreamRow>);

/// A span that goes on until its body has ended.
pub(super) struct OpenSpan {
    /// The span, which is told of.
    pub(super) span: Span,
    /// When its request came, by the clock on the wall.
    pub(super) began: SystemTime,
    /// The same by the clock that never jumps.
    pub(super) arrived: Instant,
    /// What streams know of where their bytes came from.
    pub(super) row: Option<Arc<StreamRow>>,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The connection has all of it.
    Complete,
    /// It was dropped before: the client went, or the gateway stopped.
    ClientGone,
    /// It failed, or an operator cut it.
    Failed,
}

/// A body with the span of its request.
struct Told {
    body: Body,
    /// Until it has ended.
    span: Option<OpenSpan>,
    /// How long the body will be, in bytes, where the answer says it.
    len: Option<u64>,
    sent: u64,
    first_byte: Option<Duration>,
}

impl Streamed {
    /// Remembers the row of a body that is about to be sent.
    #[must_use]
    pub fn of(row: &Arc<StreamRow>) -> Self {
        Self(Arc::clone(row))
    }

    /// Goes along with the answer.
    pub fn go_with(self, response: &mut Response) {
        response.extensions_mut().insert(self);
    }

    /// Takes the row off an answer, if it is a stream.
    pub(super) fn take(response: &mut Response) -> Option<Arc<StreamRow>> {
        response.extensions_mut().remove::<Self>().map(|streamed| streamed.0)
    }
}

/// Has a span end with the body of its answer; at once, if nothing of it is sent.
pub(super) fn end_with_body(span: OpenSpan, response: &mut Response, sends_body: bool) {
    let said = response.headers().get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let len = said.or_else(|| response.body().size_hint().exact());
    let nothing = !sends_body || len == Some(0) || response.body().is_end_stream();
    let mut told = Told { body: Body::empty(), span: Some(span), len, sent: 0, first_byte: None };
    if nothing {
        told.end(End::Complete);
        return;
    }
    told.body = std::mem::take(response.body_mut());
    *response.body_mut() = Body::new(told);
}

impl Told {
    fn passes(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
        if let Some(span) = self.span.as_ref().filter(|_| bytes > 0) {
            self.first_byte.get_or_insert_with(|| span.arrived.elapsed());
        }
    }

    fn has_all(&self) -> bool {
        self.body.is_end_stream() || self.len.is_some_and(|len| self.sent >= len)
    }

    /// Ends the span, the first time.
    fn end(&mut self, how: End) {
        let Some(OpenSpan { mut span, began, arrived, row }) = self.span.take() else { return };
        let was_cut = row.as_ref().is_some_and(|row| row.was_ended());
        let how = if how == End::ClientGone && was_cut { End::Failed } else { how };
        span.set_attribute(KeyValue::new("http.response.body.size", count(self.sent)));
        span.set_attribute(KeyValue::new("swarmgate.end", how.word()));
        if let Some(first_byte) = self.first_byte {
            let millis = i64::try_from(first_byte.as_millis()).unwrap_or(i64::MAX);
            span.set_attribute(KeyValue::new("swarmgate.first_byte_ms", millis));
        }
        // The networks alone: the names of sources may tell hosts.
        let mix = row.map(|row| row.mix()).unwrap_or_default();
        let networks = mix.networks.iter().map(|(network, bytes)| (*network, *bytes));
        for (from, bytes) in networks.chain([("cache", mix.cache)]).filter(|(_, bytes)| *bytes > 0) {
            span.set_attribute(KeyValue::new(format!("swarmgate.bytes.{from}"), count(bytes)));
        }
        if how == End::Failed {
            // Without a word: what failed may name its content, and the log has it under the request's id.
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(began.checked_add(arrived.elapsed()).unwrap_or(began));
    }
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client-gone",
            Self::Failed => "failed",
        }
    }
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.passes(frame.data_ref().map_or(0, Bytes::len));
                if self.has_all() {
                    self.end(End::Complete);
                }
            }
            Some(Err(_)) => self.end(End::Failed),
            // What ends short of its length is cut by the connection.
            None => {
                let is_short = self.len.is_some_and(|len| self.sent < len);
                self.end(if is_short { End::Failed } else { End::Complete });
            }
        }
        // Without axum's own wrapper, which the body around this one puts on again.
        Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::into_inner)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.end(End::ClientGone);
    }
}

/// A number of bytes as spans have numbers.
fn count(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use opentelemetry::Value;
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use parking_lot::Mutex;
    use swarmgate_content::{Account, ContentId, SourceMix};

    use super::*;

    /// Keeps what it is told.
    #[derive(Debug, Clone, Default)]
    struct Spans(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Spans {
        fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
            self.0.lock().extend(batch);
            ready(Ok(()))
        }
    }

    /// A request that was just answered, and who is told of it.
    struct Story {
        spans: Spans,
        provider: SdkTracerProvider,
    }

    impl Story {
        fn begin() -> Self {
            let spans = Spans::default();
            Self { provider: SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build(), spans }
        }

        fn answer(&self, body: Body, len: Option<u64>, row: Option<Arc<StreamRow>>) -> Body {
            let span = self.provider.tracer("test").start("GET bt");
            let span = OpenSpan { span, began: SystemTime::now(), arrived: Instant::now(), row };
            let mut response = Response::new(body);
            if let Some(len) = len {
                response.headers_mut().insert(CONTENT_LENGTH, len.into());
            }
            end_with_body(span, &mut response, true);
            response.into_body()
        }

        /// How the span ended and with how many bytes; whether its status is an error.
        fn ended(&self) -> Option<(String, String, bool)> {
            let spans = self.spans.0.lock();
            let [span] = spans.as_slice() else { return None };
            let text = |key| value(span, key).map(ToString::to_string).unwrap_or_default();
            let is_error = matches!(span.status, Status::Error { .. });
            Some((text("swarmgate.end"), text("http.response.body.size"), is_error))
        }
    }

    fn value<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
        span.attributes.iter().find(|attribute| attribute.key.as_str() == key).map(|attribute| &attribute.value)
    }

    fn said(word: &str, bytes: &str, is_error: bool) -> Option<(String, String, bool)> {
        Some((word.to_owned(), bytes.to_owned(), is_error))
    }

    /// A body of these chunks, which says nothing of its length.
    fn chunks(chunks: Vec<Result<&'static str, &'static str>>) -> Body {
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn a_span_goes_on_until_the_last_byte_and_no_longer() {
        let story = Story::begin();
        let mut body = story.answer(chunks(vec![Ok("ab"), Ok("cde")]), Some(5), None);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ab");
        assert_eq!(story.ended(), None);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "cde");
        assert_eq!(story.ended(), said("complete", "5", false), "a connection asks for nothing behind the last byte");
        assert!(body.frame().await.is_none());
        drop(body);
        assert_eq!(story.ended(), said("complete", "5", false));
        let spans = story.spans.0.lock();
        assert!(matches!(value(&spans[0], "swarmgate.first_byte_ms"), Some(Value::I64(millis)) if *millis >= 0));
        assert!(spans[0].start_time <= spans[0].end_time);
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_is_complete_at_its_end() {
        let story = Story::begin();
        let mut body = story.answer(chunks(vec![Ok("ab")]), None, None);
        body.frame().await.unwrap().unwrap();
        assert_eq!(story.ended(), None);
        assert!(body.frame().await.is_none());
        assert_eq!(story.ended(), said("complete", "2", false));
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_before_its_end_had_a_client_that_went() {
        let story = Story::begin();
        let mut body = story.answer(chunks(vec![Ok("ab"), Ok("cd")]), Some(4), None);
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(story.ended(), said("client-gone", "2", false));
    }

    #[tokio::test]
    async fn a_body_that_fails_or_is_short_is_an_error() {
        for (end, len) in [(vec![Ok("ab"), Err("lost")], 4), (vec![Ok("ab")], 4)] {
            let story = Story::begin();
            let mut body = story.answer(chunks(end), Some(len), None);
            body.frame().await.unwrap().unwrap();
            let last = body.frame().await;
            assert!(last.is_none_or(|frame| frame.is_err()));
            assert_eq!(story.ended(), said("failed", "2", true));
        }
    }

    #[test]
    fn an_answer_without_a_body_ends_with_its_head() {
        let story = Story::begin();
        let body = story.answer(Body::empty(), None, None);
        assert_eq!(story.ended(), said("complete", "0", false));
        drop(body);
        assert_eq!(value(&story.spans.0.lock()[0], "swarmgate.first_byte_ms"), None);
    }

    #[derive(Debug)]
    struct Gave(SourceMix);

    impl Account for Gave {
        fn mix(&self) -> SourceMix {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn a_stream_says_of_which_networks_its_bytes_were() {
        let story = Story::begin();
        let id = ContentId::parse_torrent(&"ab".repeat(20)).unwrap();
        let row = StreamRow::new(1, id, Vec::new(), None);
        row.reads(Some(Arc::new(Gave(SourceMix::of_one(3, "bt", 2)))));
        let mut body = story.answer(chunks(vec![Ok("abcde")]), Some(5), Some(row));
        body.frame().await.unwrap().unwrap();
        let spans = story.spans.0.lock();
        assert_eq!(value(&spans[0], "swarmgate.bytes.cache"), Some(&Value::I64(3)));
        assert_eq!(value(&spans[0], "swarmgate.bytes.bt"), Some(&Value::I64(2)));
        assert_eq!(value(&spans[0], "swarmgate.bytes.ipfs"), None);
    }
}
