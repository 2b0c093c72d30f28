//! Every error a client can see, and the only place that knows their status codes.
//!
//! The layers below speak of what failed; here that becomes a [`Problem`]: one of a closed list of kinds, a sentence
//! for the client, and, apart from it, a sentence for the log. A handler returns it; the outermost middleware calls
//! [`Problem::render`], which knows the request's id and whether the client would rather read HTML.

mod reference;

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
    RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use swarmgate_bittorrent::{AddItemError, ItemRefused, PinRefused, SelectRefused};
use swarmgate_content::{Attempt, ContentId, FetchError, FetchErrorKind, ParseIdError, Stage};
use swarmgate_ipfs::names::{NameError, NameErrorKind};

use crate::auth::throttle;
use crate::catalogue::AddError;
use crate::tried;

pub use reference::reference;

macro_rules! problem_kinds {
    ($($(#[doc = $doc:literal])* $name:ident = $status:literal $slug:literal $title:literal,)*) => {
        /// The closed list of problem types (RFC 9457 `type` is `urn:swarmgate:problem:` and the slug).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl ProblemKind {
            /// Every kind, in order of status.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The HTTP status.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let code: u16 = match self { $(Self::$name => $status),* };
                StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }

            /// The stable last part of its `type`.
            #[must_use]
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),* }
            }

            /// What it is, whatever it happened to.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// When it is answered, in a sentence or two.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),*).trim_ascii()),* }
            }
        }
    };
}

problem_kinds! {
    /// The id in the URL is in no spelling of an infohash. Nothing was looked up.
    BadId = 400 "bad-id" "That is not an infohash",
    /// What follows `/ipfs/` or `/ipns/` in the URL names nothing there could be. Nothing was looked up.
    BadContentPath = 400 "bad-content-path" "That is no path of IPFS",
    /// The id is too long to be part of a host name.
    LabelTooLong = 400 "label-too-long" "That id does not fit into a host name",
    /// A page wants a service worker for a whole content from outside of it.
    ServiceWorker = 400 "service-worker" "A service worker belongs below a trailing slash",
    /// Names lead to names, in circles or without end.
    NameLoop = 400 "name-loop" "The name leads to too many names",
    /// The path has an empty, `.` or `..` segment, a NUL, or bytes that are not UTF-8.
    BadPath = 400 "bad-path" "That path cannot name a file",
    /// The magnet is malformed or names no torrent.
    BadMagnet = 400 "bad-magnet" "That magnet link cannot be read",
    /// A query parameter has a value that cannot be read.
    BadQuery = 400 "bad-query" "A query parameter cannot be read",
    /// The request's body cannot be read.
    BadBody = 400 "bad-body" "The request's body cannot be read",
    /// A credential is required and missing, or wrong.
    Unauthorized = 401 "unauthorized" "A valid token is required",
    /// The credential is known, and not good for this.
    MissingScope = 403 "missing-scope" "These credentials may not do that",
    /// The link was signed for something else, by another key, or until a time that is over.
    LinkRefused = 403 "link-refused" "That link does not work here, or no longer",
    /// A page of another site sent this request.
    ForeignOrigin = 403 "foreign-origin" "Requests from other sites may not change anything",
    /// A page of a site that the operator has not named wants to use the tracker.
    ForeignPage = 403 "foreign-page" "Pages of that site may not use this tracker",
    /// The operator does not let this gateway fetch `.torrent` URLs.
    TorrentUrlDisabled = 403 "torrent-url-disabled" "Fetching .torrent files from URLs is switched off",
    /// The URL leads to an address, scheme or port that may not be contacted.
    TorrentUrlRefused = 403 "torrent-url-refused" "That URL may not be fetched",
    /// The operator does not let this gateway publish what lies there.
    PublishRefused = 403 "publish-refused" "That path may not be published",
    /// The operator serves chosen contents, and it is none of them (`policy.mode`). Nobody was asked for it.
    NotAdmitted = 403 "not-admitted" "This gateway serves chosen contents alone",
    /// No route has this path.
    NoRoute = 404 "no-route" "Nothing is served at this path",
    /// The content is known and has no such file.
    NoSuchFile = 404 "no-such-file" "The content has no such file",
    /// No such item is known.
    NoSuchItem = 404 "no-such-item" "No such item is known",
    /// No request to pin has this id.
    NoSuchPin = 404 "no-such-pin" "No such request to pin is known",
    /// No such job is known.
    NoSuchJob = 404 "no-such-job" "No such job is known",
    /// No such stream is running.
    NoSuchStream = 404 "no-such-stream" "No such stream is running",
    /// There is no such breaker.
    NoSuchBreaker = 404 "no-such-breaker" "There is no such breaker",
    /// The route has other methods.
    MethodNotAllowed = 405 "method-not-allowed" "This path does not take that method",
    /// The content cannot be given in that format.
    NotAcceptable = 406 "not-acceptable" "That format cannot represent this",
    /// The same request is under way.
    UnderWay = 409 "under-way" "The same request is being answered already",
    /// The item is private (BEP 27): nobody but its own trackers says who its peers are.
    PrivateItem = 409 "private-item" "A private torrent keeps to its own trackers",
    /// The item is paused: it asks nobody until it is resumed.
    Paused = 409 "paused" "The item is paused",
    /// The operator does not serve it.
    Blocked = 410 "blocked" "This gateway does not serve that",
    /// `If-Match` names another representation.
    PreconditionFailed = 412 "precondition-failed" "The content is not the one the request is about",
    /// `only-if-cached` was asked for and it is not.
    NotCached = 412 "not-cached" "The content is not in the cache",
    /// The request's body is larger than is read.
    BodyTooLarge = 413 "body-too-large" "The request's body is too large",
    /// The URL is longer than is read.
    UriTooLong = 414 "uri-too-long" "The URL is too long",
    /// The body's content type is none that can be added.
    UnsupportedMediaType = 415 "unsupported-media-type" "That content type cannot be added",
    /// No range asked for meets the file.
    RangeNotSatisfiable = 416 "range-not-satisfiable" "The range lies outside the file",
    /// More parts of a large file were asked for than one answer has.
    TooManyRanges = 416 "too-many-ranges" "Too many ranges of a large file",
    /// The request's host is none of this gateway's names: a guard against DNS rebinding.
    UnknownHost = 421 "unknown-host" "This gateway does not go by that name",
    /// The `.torrent` or URI does not describe a torrent that can be served.
    InvalidTorrent = 422 "invalid-torrent" "That does not describe a torrent",
    /// The CAR cannot be read, a block of it is not what its name says, or one of a root's DAG is missing. No root is kept.
    InvalidCar = 422 "invalid-car" "That is no whole CAR",
    /// None of the numbers that select files of an item is that of a file.
    NothingSelected = 422 "nothing-selected" "That selects no file of the item",
    /// The idempotency key belongs to another request.
    KeyReused = 422 "key-reused" "That idempotency key belongs to another request",
    /// The block is no manifest, or is not signed as it says.
    NotAManifest = 422 "not-a-manifest" "That is no signed manifest",
    /// The files of the configuration have mistakes, or the certificate or a list cannot be read; nothing was changed.
    BadConfiguration = 422 "bad-configuration" "The configuration has mistakes",
    /// Lines of the denylist cannot be read; the hints name the first. Nothing was changed.
    BadDenylist = 422 "bad-denylist" "The denylist has lines that cannot be read",
    /// The client has too many streams open.
    TooManyStreams = 429 "too-many-streams" "Too many streams from one client",
    /// A client without credentials has sent more than `limits.requests_per_minute`.
    TooManyRequests = 429 "too-many-requests" "Too many requests from one client",
    /// A client without credentials has asked for more than `limits.new_items_per_minute` that the gateway did not know.
    TooManyNewItems = 429 "too-many-new-items" "Too many new contents from one client",
    /// The client has presented wrong credentials too often, or too many clients present some at once.
    TooManyAttempts = 429 "too-many-attempts" "Too many wrong credentials",
    /// The client, or all of them together, has too many WebSockets open at the tracker.
    TooManySockets = 429 "too-many-sockets" "Too many WebSockets",
    /// The operator may not serve it (RFC 7725).
    BlockedByLaw = 451 "blocked-by-law" "This gateway may not serve that for legal reasons",
    /// A website's `_redirects` file is there and cannot be read.
    SiteRules = 500 "site-rules" "The website's _redirects file cannot be used",
    /// A bug of ours, caught.
    Internal = 500 "internal" "Something went wrong here",
    /// No enabled network serves such ids.
    Unsupported = 501 "unsupported" "No enabled network serves such content",
    /// The path ends within a block of data; whole blocks alone are served.
    PathIntoData = 501 "path-into-data" "Parts of a block of data are not served",
    /// An IPNS name has no valid record, or a host no link.
    NameUnresolved = 502 "name-unresolved" "The name leads nowhere",
    /// Nobody to ask: no peers or providers were found.
    NoSource = 502 "no-source" "No source of the content was found",
    /// The content's metadata, as the network gave it, is malformed.
    InvalidContent = 502 "invalid-content" "The content's metadata is malformed",
    /// The `.torrent` URL could not be fetched.
    TorrentUrlFailed = 502 "torrent-url-failed" "The .torrent file could not be fetched",
    /// The operator's limit on contents, items or streams is reached.
    Busy = 503 "busy" "The gateway is at its limit",
    /// The gateway or the network is starting, draining or stopped.
    ShuttingDown = 503 "shutting-down" "The gateway is shutting down",
    /// Reading or writing the cache failed.
    CacheFailed = 503 "cache-failed" "The cache cannot be read or written",
    /// The item was removed while it was being read; asking again adds it anew.
    ItemRemoved = 503 "item-removed" "The item was removed while it was being read",
    /// A deadline passed; `stage` says which.
    TimedOut = 504 "timed-out" "No source delivered the content in time",
    /// Everything in the cache is pinned or in use.
    CacheFull = 507 "cache-full" "The cache is full of pinned or in-use data",
}

impl ProblemKind {
    /// When asking again may help, if ever.
    const fn retry_after(self) -> Option<Duration> {
        if matches!(self, Self::ItemRemoved | Self::UnderWay | Self::TooManyRequests | Self::TooManyNewItems) {
            Some(Duration::from_secs(1))
        } else if matches!(self, Self::TooManyAttempts) {
            Some(throttle::REFILL)
        } else if matches!(self, Self::Busy | Self::TooManyStreams | Self::TooManySockets | Self::ShuttingDown) {
            Some(Duration::from_secs(5))
        } else if matches!(self, Self::TimedOut | Self::NoSource | Self::NameUnresolved) {
            Some(Duration::from_secs(20))
        } else if matches!(self, Self::TorrentUrlFailed | Self::CacheFailed | Self::CacheFull) {
            Some(Duration::from_secs(30))
        } else {
            None
        }
    }
}

/// A failed request: what the client is told, and what the log is.
#[derive(Debug, Clone)]
pub struct Problem {
    facts: Box<Facts>,
}

#[derive(Debug, Clone)]
struct Facts {
    kind: ProblemKind,
    detail: String,
    internal: Option<String>,
    stage: Option<Stage>,
    item: Option<ContentId>,
    attempts: Vec<Attempt>,
    hints: Vec<String>,
    headers: HeaderMap,
    /// Whether a client that names neither JSON nor HTML is answered in plain text.
    in_words: bool,
    /// When asking again helps, where that is known better than of its kind.
    after: Option<Duration>,
}

/// What only the outermost layer knows of a request.
#[derive(Debug, Clone, Copy)]
pub struct Audience<'a> {
    /// The request's id.
    pub request_id: &'a str,
    /// Whether it would rather read HTML.
    pub html: bool,
    /// Whether it names JSON.
    pub json: bool,
    /// Whether it may see what was tried.
    pub attempts: bool,
    /// Whether it sent HEAD and gets no body.
    pub head: bool,
    /// Whether it speaks the IPFS Pinning Service API, whose clients read `error` of `application/json` alone.
    pub pins: bool,
}

impl Problem {
    /// Makes a problem; `detail` is for the client: one sentence about this occurrence.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let facts = Facts {
            kind,
            detail: detail.into(),
            internal: None,
            stage: None,
            item: None,
            attempts: Vec::new(),
            hints: Vec::new(),
            headers: HeaderMap::new(),
            in_words: false,
            after: None,
        };
        Self { facts: Box::new(facts) }
    }

    /// A fault of ours: the client learns no more than that, the log all.
    #[must_use]
    pub fn internal(for_the_log: impl Into<String>) -> Self {
        let mut problem = Self::new(ProblemKind::Internal, "the log has more under this request's id");
        problem.facts.internal = Some(for_the_log.into());
        problem
    }

    /// 416 for a file of `len` bytes (RFC 9110 §14.4).
    #[must_use]
    pub fn range(kind: ProblemKind, detail: impl Into<String>, len: u64) -> Self {
        Self::new(kind, detail).header(CONTENT_RANGE, &format!("bytes */{len}"))
    }

    /// 401 with the two ways to present a token: as a bearer, or as a password, which players can put in a URL.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        let mut problem = Self::new(ProblemKind::Unauthorized, detail);
        for challenge in ["Bearer realm=\"swarmgate\"", "Basic realm=\"swarmgate\", charset=\"UTF-8\""] {
            problem.facts.headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        problem
    }

    /// Says which content it is about.
    #[must_use]
    pub fn item(mut self, id: ContentId) -> Self {
        self.facts.item = Some(id);
        self
    }

    /// Adds something that the client or the operator may try.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.facts.hints.push(hint.into());
        self
    }

    /// Adds a header to the answer; a value that cannot be one is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.facts.headers.insert(name, value);
        }
        self
    }

    /// Says when asking again helps, in whole seconds, at least one.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.facts.after = Some(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        self
    }

    /// When asking again may help, if ever.
    fn retry_after(&self) -> Option<Duration> {
        self.facts.after.or_else(|| self.facts.kind.retry_after())
    }

    /// Answers a client that names neither JSON nor HTML in plain text, as programs for IPFS expect it.
    #[must_use]
    pub fn in_words(mut self) -> Self {
        self.facts.in_words = true;
        self
    }

    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.facts.kind
    }

    /// What the log should say beyond what the client is told.
    #[must_use]
    pub fn for_the_log(&self) -> &str {
        self.facts.internal.as_deref().unwrap_or(&self.facts.detail)
    }

    /// The document of RFC 9457.
    #[must_use]
    pub fn document(&self, audience: Audience<'_>) -> Value {
        let Facts { kind, detail, stage, item, attempts, hints, .. } = &*self.facts;
        let mut document = Map::new();
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        put("type", json!(format!("urn:swarmgate:problem:{}", kind.slug())));
        put("title", json!(kind.title()));
        put("status", json!(kind.status().as_u16()));
        put("detail", json!(detail));
        put("instance", json!(format!("urn:swarmgate:req:{}", audience.request_id)));
        if let Some(stage) = stage {
            put("stage", json!(stage));
        }
        if let Some(wait) = self.retry_after() {
            put("retry_after_s", json!(wait.as_secs()));
        }
        if let Some(id) = item {
            put("item", json!({ "kind": id.network(), "id": id }));
        }
        if audience.attempts && !attempts.is_empty() {
            put("attempts", json!(attempts));
        }
        if !hints.is_empty() {
            put("hints", json!(hints));
        }
        Value::Object(document)
    }

    /// The same with what the IPFS Pinning Service API calls a failure.
    fn with_failure(&self, mut document: Value) -> Value {
        let reason = self.facts.kind.slug().to_ascii_uppercase().replace('-', "_");
        document["error"] = json!({ "reason": reason, "details": self.facts.detail });
        document
    }

    /// The facts as lines of text.
    fn words(&self, audience: Audience<'_>) -> String {
        let Facts { kind, detail, hints, .. } = &*self.facts;
        let mut text = format!("{}\n{detail}\n", kind.title());
        for hint in hints {
            text.extend(["hint: ", hint, "\n"]);
        }
        for attempt in self.tried(audience) {
            text.extend(["tried: ", &attempt, "\n"]);
        }
        text
    }

    /// What was tried, in sentences, as far as this audience may see it.
    fn tried(&self, audience: Audience<'_>) -> Vec<String> {
        self.facts.attempts.iter().filter(|_| audience.attempts).map(tried::sentence).collect()
    }

    /// The answer as this audience wants it.
    #[must_use]
    pub fn render(&self, audience: Audience<'_>) -> Response {
        let document = self.document(audience);
        let (content_type, body) = if audience.html {
            ("text/html; charset=utf-8", crate::pages::problem(&document, &self.tried(audience)).into_string())
        } else if self.facts.in_words && !audience.json {
            ("text/plain; charset=utf-8", self.words(audience))
        } else if audience.pins {
            ("application/json", format!("{:#}\n", self.with_failure(document)))
        } else {
            ("application/problem+json", format!("{document:#}\n"))
        };
        let len = HeaderValue::from(body.len());
        let mut response = Response::new(if audience.head { String::new() } else { body }.into());
        *response.status_mut() = self.facts.kind.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CONTENT_LENGTH, len);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(VARY, HeaderValue::from_static("accept"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
        if let Some(wait) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
        }
        headers.extend(self.facts.headers.clone());
        response
    }
}

impl IntoResponse for Problem {
    /// Leaves the problem in the response's extensions, for the outermost layer to render.
    fn into_response(self) -> Response {
        let mut response = self.facts.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<FetchError> for Problem {
    fn from(error: FetchError) -> Self {
        let kind = match error.kind {
            FetchErrorKind::NotFound => ProblemKind::NoSuchFile,
            FetchErrorKind::Unsupported => ProblemKind::Unsupported,
            FetchErrorKind::NotCached => ProblemKind::NotCached,
            FetchErrorKind::NoSource => ProblemKind::NoSource,
            FetchErrorKind::TimedOut => ProblemKind::TimedOut,
            FetchErrorKind::Invalid => ProblemKind::InvalidContent,
            FetchErrorKind::StoreFull => ProblemKind::CacheFull,
            FetchErrorKind::StoreIo => ProblemKind::CacheFailed,
            FetchErrorKind::Busy => ProblemKind::Busy,
            FetchErrorKind::ShuttingDown => ProblemKind::ShuttingDown,
            FetchErrorKind::Removed => ProblemKind::ItemRemoved,
            FetchErrorKind::Internal => ProblemKind::Internal,
            // A kind this build does not know is a bug as much as one that says so.
            _ => ProblemKind::Internal,
        };
        let mut problem =
            if kind == ProblemKind::Internal { Self::internal(&error.detail) } else { Self::new(kind, &error.detail) };
        if kind == ProblemKind::CacheFailed {
            // The detail names a path of this machine.
            problem.facts.internal = Some(std::mem::replace(&mut problem.facts.detail, "the log has more".to_owned()));
        }
        if matches!(kind, ProblemKind::TimedOut | ProblemKind::NoSource) {
            problem = problem.hint("retry with ?wait=120");
        }
        problem.facts.stage = Some(error.stage);
        problem.facts.item = Some(error.id);
        problem.facts.attempts = error.attempts;
        problem
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        let kind = match error.kind {
            NameErrorKind::Loop => ProblemKind::NameLoop,
            NameErrorKind::TimedOut => ProblemKind::TimedOut,
            NameErrorKind::StoreIo => ProblemKind::CacheFailed,
            NameErrorKind::NotFound | NameErrorKind::Expired | NameErrorKind::Invalid | NameErrorKind::Disabled => {
                ProblemKind::NameUnresolved
            }
            // A kind that is not known here is no answer either.
            _ => ProblemKind::NameUnresolved,
        };
        let mut problem = Self::new(kind, error.to_string());
        if kind == ProblemKind::CacheFailed {
            problem.facts.internal = Some(std::mem::replace(&mut problem.facts.detail, "the log has more".to_owned()));
        }
        problem.facts.stage = Some(Stage::Resolve);
        problem.facts.attempts = error.attempts;
        problem
    }
}

impl From<ParseIdError> for Problem {
    fn from(error: ParseIdError) -> Self {
        Self::new(ProblemKind::BadId, error.to_string())
    }
}

impl From<AddError> for Problem {
    fn from(error: AddError) -> Self {
        match error {
            AddError::Invalid { reason } => Self::new(ProblemKind::InvalidTorrent, reason),
            AddError::Busy => Self::new(ProblemKind::Busy, "the limit on items is reached"),
            AddError::Full => Self::new(ProblemKind::CacheFull, "the cache can take no more"),
            AddError::SwitchedOff => Self::new(ProblemKind::Unsupported, "BitTorrent is switched off at this gateway"),
            AddError::ShuttingDown => Self::new(ProblemKind::ShuttingDown, "the network is shutting down"),
            AddError::Paused => Self::new(ProblemKind::Paused, "resume it first"),
            AddError::Failed { detail } => Self::internal(detail),
        }
    }
}

impl From<ItemRefused> for Problem {
    fn from(refused: ItemRefused) -> Self {
        let kind = match refused {
            ItemRefused::Unknown => ProblemKind::NoSuchItem,
            ItemRefused::Private => ProblemKind::PrivateItem,
            ItemRefused::Inactive(AddItemError::TooMany(_)) => ProblemKind::Busy,
            ItemRefused::Inactive(AddItemError::ShuttingDown) => ProblemKind::ShuttingDown,
            ItemRefused::Inactive(AddItemError::Paused) => ProblemKind::Paused,
        };
        Self::new(kind, refused.to_string())
    }
}

impl From<PinRefused> for Problem {
    fn from(refused: PinRefused) -> Self {
        Self::new(ProblemKind::CacheFull, refused.to_string()).hint("raise cache.max_size, or let something go")
    }
}

impl From<SelectRefused> for Problem {
    fn from(refused: SelectRefused) -> Self {
        match refused {
            SelectRefused::NoFile { .. } => Self::new(ProblemKind::NothingSelected, refused.to_string())
                .hint("GET /api/v1/items/{id}/files lists its files by number"),
            SelectRefused::NoRoom(refused) => refused.into(),
        }
    }
}

/// 405 with the methods that a path has.
#[must_use]
pub fn method_not_allowed(allow: &'static str) -> Problem {
    Problem::new(ProblemKind::MethodNotAllowed, format!("this path takes {allow}")).header(ALLOW, allow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use swarmgate_content::{AttemptOutcome, InfoHash};

    const AUDIENCE: Audience<'_> =
        Audience { request_id: "R1", html: false, json: false, attempts: true, head: false, pins: false };

    fn failed(kind: FetchErrorKind) -> Problem {
        FetchError::new(ContentId::BtV1(InfoHash::new([0xab; 20])), Stage::FirstByte, kind, "no piece came").into()
    }

    #[test]
    fn every_kind_has_its_own_slug_and_an_error_status() {
        let slugs: BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), ProblemKind::ALL.len());
        for kind in ProblemKind::ALL {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
        }
    }

    #[test]
    fn the_time_to_wait_is_that_of_the_occurrence_where_it_is_known() {
        let wait = |problem: Problem| problem.render(AUDIENCE).headers()[RETRY_AFTER].to_str().unwrap().to_owned();
        let problem = || Problem::new(ProblemKind::TooManyRequests, "x");
        assert_eq!(wait(problem()), "1");
        assert_eq!(wait(problem().after(Duration::from_millis(2001))), "3");
        assert_eq!(problem().after(Duration::from_secs(60)).document(AUDIENCE)["retry_after_s"], 60);
    }

    #[test]
    fn each_way_to_fail_has_its_status() {
        for (kind, status) in [
            (FetchErrorKind::NotFound, 404),
            (FetchErrorKind::Unsupported, 501),
            (FetchErrorKind::NoSource, 502),
            (FetchErrorKind::TimedOut, 504),
            (FetchErrorKind::Invalid, 502),
            (FetchErrorKind::StoreFull, 507),
            (FetchErrorKind::StoreIo, 503),
            (FetchErrorKind::Busy, 503),
            (FetchErrorKind::ShuttingDown, 503),
            (FetchErrorKind::Removed, 503),
            (FetchErrorKind::Internal, 500),
        ] {
            assert_eq!(failed(kind).kind().status().as_u16(), status);
        }
    }

    #[test]
    fn a_time_out_tells_its_stage_its_attempts_and_when_to_come_back() {
        let mut problem = failed(FetchErrorKind::TimedOut);
        problem.facts.attempts = vec![Attempt {
            source: "dht",
            target: None,
            outcome: AttemptOutcome::Ok("12 peers".to_owned()),
            took: Duration::from_millis(2100),
        }];
        insta::assert_snapshot!(format!("{:#}", problem.document(AUDIENCE)), @r#"
        {
          "attempts": [
            {
              "ms": 2100,
              "outcome": {
                "ok": "12 peers"
              },
              "source": "dht"
            }
          ],
          "detail": "no piece came",
          "hints": [
            "retry with ?wait=120"
          ],
          "instance": "urn:swarmgate:req:R1",
          "item": {
            "id": "abababababababababababababababababababab",
            "kind": "bt"
          },
          "retry_after_s": 20,
          "stage": "first-byte",
          "status": 504,
          "title": "No source delivered the content in time",
          "type": "urn:swarmgate:problem:timed-out"
        }
        "#);
        assert_eq!(problem.render(AUDIENCE).headers()[RETRY_AFTER], "20");
        assert!(problem.document(Audience { attempts: false, ..AUDIENCE }).get("attempts").is_none());
    }

    #[tokio::test]
    async fn what_was_tried_is_told_to_people_in_sentences_and_to_programs_as_data() {
        let mut problem = failed(FetchErrorKind::NoSource).in_words();
        problem.facts.attempts = vec![Attempt {
            source: "kubo",
            target: Some("http://127.0.0.1:5001".to_owned()),
            outcome: AttemptOutcome::Failed("the connection failed: Connection refused (os error 111)".to_owned()),
            took: Duration::from_millis(12),
        }];
        let said = async |audience| {
            let body = axum::body::to_bytes(problem.render(audience).into_body(), 1 << 16).await.unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        };
        let sentence = "kubo at 127.0.0.1:5001: refused the connection, after 12 ms";
        let words = said(AUDIENCE).await;
        assert!(words.contains(&format!("\ntried: {sentence}\n")), "{words}");
        let page = said(Audience { html: true, ..AUDIENCE }).await;
        assert!(page.contains(&format!("<li>{sentence}</li>")), "{page}");
        let document: Value = serde_json::from_str(&said(Audience { json: true, ..AUDIENCE }).await).unwrap();
        assert_eq!(document["attempts"][0]["target"], "http://127.0.0.1:5001");
        for html in [true, false] {
            let stranger = said(Audience { html, attempts: false, ..AUDIENCE }).await;
            assert!(!stranger.contains("127.0.0.1"), "{stranger}");
        }
    }

    #[tokio::test]
    async fn clients_of_the_pinning_service_api_are_told_in_its_words_as_well() {
        let answer =
            Problem::new(ProblemKind::NoSuchPin, "none has this id").render(Audience { pins: true, ..AUDIENCE });
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        let document: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["error"], json!({ "reason": "NO_SUCH_PIN", "details": "none has this id" }));
        assert_eq!(document["status"], 404);
    }

    #[test]
    fn what_only_the_log_may_say_stays_there() {
        let problem = failed(FetchErrorKind::Internal);
        assert_eq!(problem.for_the_log(), "no piece came");
        assert!(!problem.document(AUDIENCE).to_string().contains("no piece came"));
    }
}
