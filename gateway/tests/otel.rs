//! Stories of a collector of OpenTelemetry that is told of requests: a whole gateway, and a collector on loopback that
//! keeps what it is sent.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its story fails")]

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use parking_lot::Mutex;
use prost::Message as _;
use swarmgate_config::Config;
use swarmgate_gateway::app::App;
use swarmgate_gateway::demo::offline;
use swarmgate_gateway::listeners::Listeners;
use tempfile::TempDir;
use tokio::net::TcpListener;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
/// `STATUS_CODE_ERROR` of OTLP.
const STATUS_ERROR: i32 = 2;
/// Nobody has it.
const INFOHASH: &str = "c9e15763f722f23e98a29decdfae341b98d53056";

#[tokio::test]
async fn a_request_is_a_span_in_the_trace_of_whoever_asked() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |_| {}).await;
    let film = format!("/bt/{INFOHASH}/secret-film.mkv?wait=0&sig=hunter2");
    let answers =
        [node.ask("/healthz", &sampled()).await, node.ask(&film, &sampled()).await, node.ask("/api/v1/none", "").await];
    for answer in &answers[..2] {
        assert_eq!(answer.trace(), TRACE);
        assert_ne!(answer.span(), CALLER);
    }
    assert_ne!(answers[2].trace(), TRACE, "nobody's trace is a new one");
    // Long before a batch is due: a stop sends what waits.
    node.app.shutdown(Duration::from_secs(1)).await;

    let spans = collector.spans();
    assert_eq!(spans.len(), 3);
    for (answer, name) in answers.iter().zip(["GET ops", "GET bt", "GET api"]) {
        let (resource, span) = spans.iter().find(|(_, span)| hex(&span.span_id) == answer.span()).unwrap();
        assert_eq!((span.name.as_str(), hex(&span.trace_id)), (name, answer.trace().to_owned()));
        assert_eq!(text(&resource.attributes, "service.name"), Some("swarmgate"));
        assert_eq!(text(&resource.attributes, "service.version"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(span.kind, 2, "SPAN_KIND_SERVER");
        assert_eq!(number(&span.attributes, "http.response.status_code"), Some(i64::from(answer.status)));
        assert_eq!(text(&span.attributes, "http.request.method"), Some("GET"));
        assert_eq!(text(&span.attributes, "swarmgate.request_id"), Some(answer.id.as_str()));
        assert_eq!(text(&span.attributes, "swarmgate.item.kind"), (name == "GET bt").then_some("bt"));
        assert_eq!(text(&span.attributes, "url.path"), None);
        assert_eq!(text(&span.attributes, "swarmgate.end"), Some("complete"));
        assert_eq!(number(&span.attributes, "http.response.body.size"), Some(answer.len));
        assert!(number(&span.attributes, "swarmgate.first_byte_ms").is_some_and(|millis| millis >= 0));
        let is_error = span.status.as_ref().is_some_and(|status| status.code == STATUS_ERROR);
        assert_eq!(is_error, answer.status >= 500, "{name}");
        let parent = if answer.trace() == TRACE { CALLER } else { "" };
        assert_eq!(hex(&span.parent_span_id), parent);
        assert!(0 < span.start_time_unix_nano && span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    assert!(!collector.was_told("secret-film") && !collector.was_told(INFOHASH) && !collector.was_told("hunter2"));
}

#[tokio::test]
async fn paths_are_told_where_they_may_be_logged_and_queries_never() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |config| config.observe.log_names = true).await;
    let film = format!("/bt/{INFOHASH}/film.mkv");
    node.ask(&format!("{film}?wait=0&sig=hunter2"), &sampled()).await;
    let long = "x".repeat(5_000);
    node.ask(&format!("/{long}"), &sampled()).await;
    node.app.shutdown(Duration::from_secs(1)).await;
    let spans = collector.spans();
    let path = |name: &str| {
        let (_, span) = spans.iter().find(|(_, span)| span.name == name).unwrap();
        text(&span.attributes, "url.path").unwrap()
    };
    assert_eq!(path("GET bt"), film);
    assert_eq!(path("GET page").len(), 1024);
    assert!(!collector.was_told("hunter2"));
}

#[tokio::test]
async fn what_is_known_already_and_answered_at_once_is_told_too() {
    let collector = Collector::start().await;
    let node = Node::start(&format!("{}/", collector.url), |_| {}).await;
    for _ in 0..3 {
        let answer = node.ask("/ipfs/bafkqabtimvwgy3yk", &sampled()).await;
        assert_eq!((answer.status, answer.trace()), (200, TRACE));
    }
    node.app.shutdown(Duration::from_secs(1)).await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 3);
    for (_, span) in spans {
        assert_eq!((span.name.as_str(), text(&span.attributes, "swarmgate.item.kind")), ("GET ipfs", Some("ipfs")));
    }
}

#[tokio::test]
async fn a_span_goes_on_with_its_body_and_says_that_the_client_went() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |_| {}).await;
    // Events of the gateway, which have no end.
    let endless = node.http.get(format!("{}/api/v1/events", node.url)).header("traceparent", sampled());
    let endless = endless.send().await.unwrap();
    assert_eq!(endless.status(), 200);
    let id = endless.headers()["traceparent"].to_str().unwrap().split('-').nth(2).unwrap().to_owned();
    let later = node.ask("/healthz", &sampled()).await;
    collector.is_told(later.span()).await;
    assert!(collector.span(&id).is_none(), "its head was sent before the later request came");
    drop(endless);
    let span = collector.is_told(&id).await;
    assert_eq!(text(&span.attributes, "swarmgate.end"), Some("client-gone"));
    assert_eq!(number(&span.attributes, "http.response.status_code"), Some(200));
    assert!(span.status.is_none_or(|status| status.code != STATUS_ERROR), "a client may go");
    assert!(number(&span.attributes, "http.response.body.size").is_some());
    node.app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn an_answer_to_head_ends_its_span_with_nothing_sent() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |_| {}).await;
    let answer = node.http.head(format!("{}/ipfs/bafkqabtimvwgy3yk", node.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    node.app.shutdown(Duration::from_secs(1)).await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    let attributes = &spans[0].1.attributes;
    assert_eq!(text(attributes, "swarmgate.end"), Some("complete"));
    assert_eq!(number(attributes, "http.response.body.size"), Some(0));
    assert_eq!(number(attributes, "swarmgate.first_byte_ms"), None);
}

#[tokio::test]
async fn the_state_of_other_tracers_goes_along_where_it_is_well_formed_and_not_too_long() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |_| {}).await;
    let long = format!("vendor={}", "x".repeat(200));
    let many = (0..33).map(|number| format!("v{number}=1")).collect::<Vec<_>>().join(",");
    let (long, many) = (long.as_str(), many.as_str());
    let stories: [(&[&str], &str); 7] = [
        (&["rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"], "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (&["a=1", "b=2 , c=3"], "a=1,b=2,c=3"),
        (&[long], long),
        (&[long, long, long], ""),
        (&[many], ""),
        (&["a=1,nothing"], ""),
        (&["UPPER=1"], ""),
    ];
    let mut asked = Vec::new();
    for (rows, kept) in stories {
        let request = node.http.get(format!("{}/healthz", node.url)).header("traceparent", sampled());
        let request = rows.iter().fold(request, |request, row| request.header("tracestate", *row));
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.trace(), TRACE, "{rows:?} says nothing against its trace");
        asked.push((answer.span().to_owned(), kept.to_owned()));
    }
    // Without a trace there is nothing that it is the state of.
    let request = node.http.get(format!("{}/healthz", node.url)).header("tracestate", "a=1");
    asked.push((Answer::of(request.send().await.unwrap()).await.span().to_owned(), String::new()));
    node.app.shutdown(Duration::from_secs(1)).await;
    for (span, kept) in asked {
        assert_eq!(collector.span(&span).unwrap().trace_state, kept);
    }
}

#[tokio::test]
async fn a_caller_that_makes_no_sense_has_a_trace_of_its_own_and_one_that_wants_none_is_not_told_of() {
    let collector = Collector::start().await;
    let node = Node::start(&collector.url, |_| {}).await;
    let senseless = [
        format!("00-{}-{CALLER}-01", TRACE.to_uppercase()),
        format!("00-{}-{CALLER}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("ff-{TRACE}-{CALLER}-01"),
        format!("00-{TRACE}-{CALLER}-01-more"),
        format!("00-{TRACE}-{CALLER}"),
        format!("00-+{}-{CALLER}-01", &TRACE[1..]),
        "00-4bf-00f-01".to_owned(),
        "x".repeat(10_000),
    ];
    for header in &senseless {
        let answer = node.ask("/healthz", header).await;
        assert!(answer.trace() != TRACE && answer.trace().len() == 32, "{header}: {}", answer.traceparent);
        assert!(answer.traceparent.ends_with("-01"), "{header}: {}", answer.traceparent);
    }
    let later = node.ask("/healthz", &format!("01-{TRACE}-{CALLER}-01-more")).await;
    assert_eq!(later.trace(), TRACE, "a later version of the header");
    let unwanted = node.ask("/healthz", &format!("00-{TRACE}-{CALLER}-00")).await;
    assert_eq!(unwanted.trace(), TRACE);
    assert!(unwanted.traceparent.ends_with("-00"), "{}", unwanted.traceparent);
    node.app.shutdown(Duration::from_secs(1)).await;
    assert_eq!(collector.spans().len(), senseless.len() + 1);
}

#[tokio::test]
async fn a_collector_that_is_not_there_slows_nothing_and_is_named_once() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(move || lines.clone()).finish();
    // This thread's, and all tasks of this test run on it.
    let _guard = tracing::subscriber::set_default(subscriber);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let node = Node::start(&format!("http://me:hunter2@{nobody}"), |_| {}).await;
    let began = Instant::now();
    let mut requests = 0;
    // Three batches are due meanwhile.
    while began.elapsed() < Duration::from_millis(3_500) {
        let asked = Instant::now();
        assert_eq!(node.ask("/healthz", "").await.status, 200);
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        requests += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(requests > 3, "{requests}");
    let stopping = Instant::now();
    node.app.shutdown(Duration::from_secs(1)).await;
    assert!(stopping.elapsed() < Duration::from_secs(6), "{:?}", stopping.elapsed());
    let log = log.text();
    assert_eq!(log.matches("observe.otlp_endpoint").count(), 1, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_back_no_request_and_no_stop() {
    // Connections are taken by the system, and nobody reads.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let node = Node::start(&format!("http://{}", deaf.local_addr().unwrap()), |_| {}).await;
    // More than the queue holds.
    for _ in 0..2_500 {
        assert_eq!(node.ask("/healthz", "").await.status, 200);
    }
    let stopping = Instant::now();
    node.app.shutdown(Duration::from_secs(1)).await;
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
}

/// A gateway without networks to ask, that tells a collector.
struct Node {
    app: App,
    url: String,
    http: reqwest::Client,
    _dir: TempDir,
}

/// What of an answer is looked at.
struct Answer {
    status: u16,
    traceparent: String,
    id: String,
    /// Bytes of its body.
    len: i64,
}

impl Node {
    async fn start(endpoint: &str, change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = offline();
        config.cache.dir = dir.path().to_owned();
        config.observe.otlp_endpoint = Some(endpoint.parse().unwrap());
        change(&mut config);
        let app = App::build(&config, Listeners::bind(&config).unwrap()).await.unwrap();
        let url = format!("http://{}", app.addresses()[0]);
        Self { app, url, http: reqwest::Client::builder().no_proxy().build().unwrap(), _dir: dir }
    }

    async fn ask(&self, path: &str, traceparent: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url));
        let request = if traceparent.is_empty() { request } else { request.header("traceparent", traceparent) };
        Answer::of(request.send().await.unwrap()).await
    }
}

impl Answer {
    async fn of(answer: reqwest::Response) -> Self {
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        let (status, traceparent, id) = (answer.status().as_u16(), header("traceparent"), header("x-request-id"));
        let len = i64::try_from(answer.bytes().await.unwrap().len()).unwrap();
        Self { status, traceparent, id, len }
    }

    fn trace(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap()
    }

    fn span(&self) -> &str {
        self.traceparent.split('-').nth(2).unwrap()
    }
}

/// A caller's span that is recorded.
fn sampled() -> String {
    format!("00-{TRACE}-{CALLER}-01")
}

/// A server that takes what is posted to `/v1/traces`.
struct Collector {
    url: String,
    bodies: Bodies,
}

type Bodies = Arc<Mutex<Vec<Bytes>>>;

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Bodies::default();
        let routes = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&bodies));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, bodies }
    }

    /// What it was told, each span with what it says of its program.
    fn spans(&self) -> Vec<(Resource, Span)> {
        let bodies = self.bodies.lock();
        let told = bodies.iter().flat_map(|body| Export::decode(body.clone()).unwrap().resource_spans);
        told.flat_map(|of| {
            let resource = of.resource.unwrap();
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.map(move |span| (resource.clone(), span)).collect::<Vec<_>>()
        })
        .collect()
    }

    /// The span of that id, if it was told of it.
    fn span(&self, id: &str) -> Option<Span> {
        self.spans().into_iter().map(|(_, span)| span).find(|span| hex(&span.span_id) == id)
    }

    /// Waits until it is told of a span.
    async fn is_told(&self, id: &str) -> Span {
        let began = Instant::now();
        loop {
            if let Some(span) = self.span(id) {
                return span;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nobody told of the span {id}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn was_told(&self, text: &str) -> bool {
        let bodies = self.bodies.lock();
        bodies.iter().any(|body| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }
}

async fn take(State(bodies): State<Bodies>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    bodies.lock().push(body);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a Value> {
    attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()
}

fn text<'a>(attributes: &'a [Attribute], key: &str) -> Option<&'a str> {
    value(attributes, key)?.text.as_deref()
}

fn number(attributes: &[Attribute], key: &str) -> Option<i64> {
    value(attributes, key)?.number
}

/// What is logged, kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// Of OTLP's messages (opentelemetry/proto/collector/trace/v1, trace/v1, common/v1) what is looked at here.

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}
