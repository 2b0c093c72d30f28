//! Tells a collector of requests, by OTLP: protobuf over HTTP.
//!
//! A span is made when its request has its answer, goes on until the body has ended ([`super::told`]), and then waits in
//! a queue of bounded length for a thread of the SDK, which posts a batch a second. No request waits for that: what finds
//! the queue full is let go, and so is a batch that the collector does not take. Nothing is tried again, since the next
//! batch tries soon enough.
//!
//! The SDK reads headers for the collector (`OTEL_EXPORTER_OTLP_HEADERS`) from the environment, as all programs with
//! OpenTelemetry do; all else is said here.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use axum::response::Response as Answer;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use opentelemetry::trace::{
    Span, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use reqwest::redirect::Policy;
use swarmgate_config::Config;
use tokio::runtime::Handle;
use url::Url;

use super::told::{self, OpenSpan, Streamed};
use super::{RequestSpan, TracesError};

/// Spans that wait for the collector, at most: a few MiB.
const MAX_WAITING: usize = 2048;

/// Spans in one request to the collector, at most.
const MAX_BATCH: usize = 512;

/// How long a span waits for others to go with it.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How long the collector may take for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a stop waits for the last batches.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters of a path in a span, at most: a client chooses its length, and spans wait in memory.
const MAX_PATH: usize = 1024;

/// Bytes of a collector's answer that are read, at most. They are read for the sake of the connection, which can be used
/// again when an answer was read to its end.
const MAX_ANSWER: usize = 64 * 1024;

/// Characters of a `tracestate` that are carried, at most: as many as W3C Trace Context §3.3.1.5 asks for.
const MAX_STATE: usize = 512;

/// Its members, at most (§3.3.1.1).
const MAX_STATE_MEMBERS: usize = 32;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Who is told of requests; clones tell the same. Its owner calls [`Self::shutdown`].
#[derive(Clone, Default)]
pub struct Traces(Option<Telling>);

#[derive(Clone)]
struct Telling {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// What a request says of the trace that it is part of.
#[derive(Debug)]
pub struct Caller(Context);

impl Traces {
    /// Tells the collector of the configuration, if it names one. Wants a runtime, on which the spans are sent.
    ///
    /// # Errors
    /// [`TracesError`], when there is no client to be had for that collector. One that does not answer is no error.
    pub fn start(config: &Config) -> Result<Self, TracesError> {
        let Some(endpoint) = &config.observe.otlp_endpoint else { return Ok(Self(None)) };
        let http = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(EXPORT_TIMEOUT).build();
        let http = http.map_err(|error| TracesError(root_of(&error)))?;
        let runtime = Handle::try_current().map_err(|error| TracesError(error.to_string()))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector { http, runtime, fails: Arc::default() })
            .with_endpoint(traces_url(endpoint).as_str())
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT)
            .with_retry_policy(RetryPolicy::disabled())
            .build();
        // The SDK's sentence may have the URL in it, and so a password.
        let exporter = exporter.map_err(|_| TracesError("no spans can be sent to this URL".to_owned()))?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(BATCH_DELAY)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name("swarmgate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_resource(resource)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .build();
        let tracer = provider.tracer("swarmgate");
        Ok(Self(Some(Telling { provider, tracer })))
    }

    /// Reads which trace a request is part of. What makes no sense begins a trace of its own.
    #[must_use]
    pub fn caller(&self, headers: &HeaderMap) -> Caller {
        let header = self.0.as_ref().and_then(|_| headers.get(TRACEPARENT)?.to_str().ok());
        let parent = header.and_then(|header| parent(header, headers));
        Caller(parent.map_or_else(Context::new, |parent| Context::new().with_remote_span_context(parent)))
    }

    /// Tells of a request when the body of its answer has ended, and names its span to whoever asked.
    pub fn note(&self, caller: &Caller, request: &RequestSpan<'_>, answer: &mut Answer) {
        let Some(Telling { tracer, .. }) = &self.0 else { return };
        let (now, status) = (SystemTime::now(), answer.status());
        let began = now.checked_sub(request.arrived.elapsed()).unwrap_or(now);
        let builder = tracer
            .span_builder(format!("{} {}", method(request.method), request.route))
            .with_kind(SpanKind::Server)
            .with_start_time(began)
            .with_attributes(attributes(request, status));
        let mut span = tracer.build_with_context(builder, &caller.0);
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        let context = span.span_context();
        // A request that is answered during a stop may come behind the end of its span's way.
        if context.is_valid()
            && let Ok(value) = HeaderValue::from_str(&traceparent(context))
        {
            answer.headers_mut().insert(TRACEPARENT, value);
        }
        let row = Streamed::take(answer);
        if span.is_recording() {
            let is_silent = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
            let sends_body = request.method != Method::HEAD && !is_silent;
            told::end_with_body(OpenSpan { span, began, arrived: request.arrived, row }, answer, sends_body);
        }
    }

    /// Sends what waits, for five seconds at most. Later spans are let go.
    pub async fn shutdown(&self) {
        let Some(Telling { provider, .. }) = self.0.clone() else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!("the collector did not take the last spans of requests");
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

/// The address of traces at a collector.
fn traces_url(endpoint: &Url) -> Url {
    let mut url = endpoint.clone();
    url.set_fragment(None);
    url.set_path(&format!("{}/v1/traces", endpoint.path().trim_end_matches('/')));
    url
}

/// A method by a name of which there are few: clients may make up others.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// What is told of a request, in the words of OpenTelemetry's conventions for HTTP where these have one.
fn attributes(request: &RequestSpan<'_>, status: StatusCode) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("http.request.method", method(request.method)),
        KeyValue::new("http.route", request.route),
        KeyValue::new("http.response.status_code", i64::from(status.as_u16())),
        KeyValue::new("swarmgate.request_id", request.id.to_owned()),
    ];
    attributes.extend(request.item_kind.map(|kind| KeyValue::new("swarmgate.item.kind", kind)));
    let path = request.path.map(|path| path.chars().take(MAX_PATH).collect::<String>());
    attributes.extend(path.map(|path| KeyValue::new("url.path", path)));
    attributes
}

/// Reads a `traceparent` (W3C Trace Context §3.2): a version, the trace, the caller's span and flags, in lower-case hex.
/// Versions to come may have more behind these. What `headers` say of the state of other tracers goes along.
fn parent(header: &str, headers: &HeaderMap) -> Option<SpanContext> {
    let is_hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = header.splitn(5, '-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let known = match version {
        "00" => parts.next().is_none(),
        "ff" => false,
        later => is_hex(later, 2),
    };
    if !known || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = tracestate(headers).unwrap_or_default();
    Some(SpanContext::new(trace, span, flags, true, state)).filter(SpanContext::is_valid)
}

/// Reads the `tracestate` of a request (§3.3), of one header or several; `None` when it is malformed or longer than is
/// carried, which says nothing against the `traceparent`.
fn tracestate(headers: &HeaderMap) -> Option<TraceState> {
    let rows = headers.get_all(TRACESTATE).iter().map(|row| row.to_str().ok()).collect::<Option<Vec<_>>>()?;
    let list = rows.join(",");
    // The SDK would leave out what is too many.
    let members = list.split(',').filter(|member| !member.trim().is_empty()).count();
    if list.len() > MAX_STATE || members > MAX_STATE_MEMBERS {
        return None;
    }
    list.parse().ok()
}

/// The same for a span of ours.
fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
}

/// Brings batches to the collector. The SDK's thread has no reactor, so the gateway's runtime does the sending.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    runtime: Handle,
    /// Whether the last batch was not taken: then it was said already.
    fails: Arc<AtomicBool>,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (http, fails) = (self.http.clone(), Arc::clone(&self.fails));
        let sent = self.runtime.spawn(async move {
            let sent = send(&http, request).await.map_err(reqwest::Error::without_url);
            say_once(&fails, &sent);
            sent
        });
        Ok(sent.await??)
    }
}

async fn send(http: &reqwest::Client, request: Request<Bytes>) -> reqwest::Result<Response<Bytes>> {
    let (head, body) = request.into_parts();
    let mut taken = http.post(head.uri.to_string()).headers(head.headers).body(body).send().await?;
    let mut answer = Response::new(Bytes::new());
    *answer.status_mut() = taken.status();
    let mut read = 0;
    while let Some(chunk) = taken.chunk().await?
        && read < MAX_ANSWER
    {
        read += chunk.len();
    }
    Ok(answer)
}

/// Warns when the collector begins to fail, and not again until it has worked.
fn say_once(fails: &AtomicBool, sent: &reqwest::Result<Response<Bytes>>) {
    let reason = match sent {
        Ok(answer) if answer.status().is_success() => None,
        Ok(answer) => Some(format!("it answers {}", answer.status())),
        Err(error) => Some(root_of(error)),
    };
    let failed_before = fails.swap(reason.is_some(), Ordering::Relaxed);
    match reason {
        Some(reason) if !failed_before => {
            tracing::warn!(
                reason,
                "the collector of observe.otlp_endpoint takes no spans: they are let go until it does"
            );
        }
        None if failed_before => tracing::info!("the collector of observe.otlp_endpoint takes spans again"),
        Some(_) | None => {}
    }
}

/// What is at the bottom of an error, as `connection refused`; those above it say no more to an operator.
fn root_of(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}
