//! What every request passes before a handler sees it, and every answer on its way out.
//!
//! On the way in: an id, the length of the URL, the host's name (a page whose name was rebound to this machine's address
//! sends its own name), and for what changes state the page's origin. On the way out: problems are rendered for the
//! client at hand, counted and logged.

use std::net::IpAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HOST, ORIGIN, REFERRER_POLICY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::api::pins;
use crate::auth::{self, Access, Entry, Scope};
use crate::error::{Audience, Problem, ProblemKind};
use crate::links::below_base;
use crate::rates;
use crate::routes::ipfs::{address, host, known};
use crate::server::Peer;
use crate::state::{Gateway, GatewayState, HttpOptions};
use crate::telemetry::Route;
use crate::traces::{Caller, RequestSpan};

/// Longest URL read, in bytes: 16 KiB holds a magnet with a hundred trackers.
pub const MAX_URI_BYTES: usize = 16 * 1024;

/// The methods of content.
pub const CONTENT_METHODS: &str = "GET, HEAD, OPTIONS";

/// What a script of another origin may read of a content answer.
const EXPOSED: &str = "accept-ranges, content-disposition, content-length, content-range, content-type, etag, link, \
                       retry-after, server-timing, x-bt-infohash, x-request-id, x-swarmgate-source";

/// What a script of another origin may send with a content request.
const ALLOWED: &str = "authorization, if-match, if-none-match, if-range, range";

/// The same for IPFS, in the spelling of the path gateway specification; its clients look for these very words.
const EXPOSED_OF_IPFS: &str = "Accept-Ranges, Content-Disposition, Content-Length, Content-Location, Content-Range, \
                               Content-Type, ETag, Retry-After, Server-Timing, X-Chunked-Output, X-Ipfs-Path, \
                               X-Ipfs-Roots, X-Request-Id, X-Stream-Output, X-Swarmgate-Source";

/// What a script of another origin may send with a request for IPFS content.
const ALLOWED_BY_IPFS: &str = "Authorization, Cache-Control, Content-Type, If-Match, If-None-Match, If-Range, Range, \
                               User-Agent, X-Requested-With";

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The outermost layer: lets a request in, and its answer out.
pub async fn edge(State(state): State<GatewayState>, mut request: Request, next: Next) -> Response {
    let arrived = Instant::now();
    let id = request_id(SystemTime::now(), rand::random());
    let (method, html) = (request.method().clone(), prefers_html(request.headers()));
    let json =
        request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|it| it.contains("json"));
    let path = request.uri().path().to_owned();
    let caller = state.traces.caller(request.headers());
    let mut route = Route::of(below_base(&path, &state.options.base_path));
    let mut response = match admit(&state.options, request.uri(), request.headers()) {
        Ok(()) => {
            let access = state.keys.identify(request.headers(), client_of(&request)).await;
            request.extensions_mut().insert(access);
            match count(&state, route, &request, arrived) {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        }
        Err(problem) => problem.into_response(),
    };
    if response.extensions_mut().remove::<OfIpfs>().is_some() {
        route = Route::Ipfs;
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let attempts = state.options.show_attempts;
        let (head, pins) = (method == Method::HEAD, pins::answers(below_base(&path, &state.options.base_path)));
        let audience = Audience { request_id: &id, html, json, attempts, head, pins };
        log_problem(&problem, &id);
        // The inner answer's headers (CORS, `Allow`) stay unless the problem has its own.
        let inner = std::mem::replace(&mut response, problem.render(audience));
        for (name, value) in inner.headers() {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    let request = Answered { id: &id, route, method: &method, path: &path, arrived, caller: &caller };
    answered(&state, &request, &mut response);
    response
}

/// Answers at once what needs nothing but memory: IPFS content that was answered before. `None` says nothing about a
/// request, which then goes the way of all others. So does what is not let in, to be told why.
pub(crate) fn answer_at_once<B>(state: &GatewayState, peer: &Peer, request: &http::Request<B>) -> Option<Response> {
    let arrived = Instant::now();
    let (uri, method) = (request.uri(), request.method());
    if !address::is_content(uri.path()) || admit(&state.options, uri, request.headers()).is_err() {
        return None;
    }
    let mut response = known::answer(state, peer, request, arrived)?;
    let id = request_id(SystemTime::now(), rand::random());
    let caller = state.traces.caller(request.headers());
    let request = Answered { id: &id, route: Route::Ipfs, method, path: uri.path(), arrived, caller: &caller };
    answered(state, &request, &mut response);
    Some(response)
}

/// What is noted of a request.
struct Answered<'a> {
    id: &'a str,
    route: Route,
    method: &'a Method,
    path: &'a str,
    arrived: Instant,
    caller: &'a Caller,
}

/// Names, counts, traces and logs a request that has its answer.
fn answered(state: &GatewayState, request: &Answered<'_>, response: &mut Response) {
    let Answered { id, route, method, path, arrived, caller } = *request;
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    state.telemetry.request(route, response.status());
    let span = RequestSpan {
        id,
        method,
        route: route.name(),
        item_kind: route.network(),
        path: state.options.log_names.then_some(path),
        arrived,
    };
    state.traces.note(caller, &span, response);
    let status = response.status().as_u16();
    if state.options.log_names {
        tracing::info!(request = %id, %method, path, status, took = ?arrived.elapsed(), "answered");
    } else {
        tracing::debug!(request = %id, %method, path, status, took = ?arrived.elapsed(), "answered");
    }
}

/// Counts a request, where its client may send only so many. Probes are not counted.
fn count(state: &GatewayState, route: Route, request: &Request, now: Instant) -> Result<(), Problem> {
    let stranger = rates::stranger_of(&state.options, request.extensions()).filter(|_| route != Route::Ops);
    stranger.map_or(Ok(()), |stranger| state.rates.request(stranger, now))
}

fn admit(options: &HttpOptions, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let uri_len = uri.path_and_query().map_or(0, |it| it.as_str().len());
    if uri_len > MAX_URI_BYTES {
        let detail = format!("a URL has at most {MAX_URI_BYTES} bytes, not {uri_len}");
        return Err(Problem::new(ProblemKind::UriTooLong, detail).hint("add long magnets with POST /api/v1/items"));
    }
    check_host(options, uri, headers)
}

/// Lets a request to content pass, and marks the answer readable by scripts of any origin.
pub async fn content(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return preflight();
    }
    let entry = let_read(&state, &request, request.uri().path());
    let mut response = enter(entry, request, |request| next.run(request)).await;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    response
}

/// An answer about IPFS content, whatever its URL's path.
#[derive(Debug, Clone, Copy)]
struct OfIpfs;

/// Lets a request to `/ipfs/` or `/ipns/` pass.
pub async fn ipfs(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    answer_ipfs(&state, request, |request| next.run(request)).await
}

/// Lets a request to IPFS content pass, and gives the answer what scripts of any origin need to read it.
pub async fn answer_ipfs<Answer: Future<Output = Response>>(
    state: &Gateway,
    request: Request,
    answer: impl FnOnce(Request) -> Answer,
) -> Response {
    let path = request.uri().path().to_owned();
    answer_ipfs_at(state, &path, request, answer).await
}

/// The same for content that the host names: `path` is what it would be asked for by at the gateway itself.
pub async fn answer_ipfs_at<Answer: Future<Output = Response>>(
    state: &Gateway,
    path: &str,
    request: Request,
    answer: impl FnOnce(Request) -> Answer,
) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        (StatusCode::NO_CONTENT, [(ALLOW, CONTENT_METHODS), (ACCESS_CONTROL_MAX_AGE, "86400")]).into_response()
    } else {
        enter(let_read(state, &request, path), request, answer).await
    };
    let_scripts_read(response.headers_mut());
    let extensions = response.extensions_mut();
    extensions.insert(OfIpfs);
    if let Some(problem) = extensions.remove::<Problem>() {
        extensions.insert(problem.in_words());
    }
    response
}

/// What scripts of any origin need to read an answer about IPFS content.
pub(crate) fn let_scripts_read(headers: &mut HeaderMap) {
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, CONTENT_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_BY_IPFS),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_OF_IPFS),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Lets a request for a page pass: as content, but for this origin only.
pub async fn page(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    let entry = let_read(&state, &request, request.uri().path());
    enter(entry, request, |request| next.run(request)).await
}

/// Lets a request to the API pass: with the scope it needs, and for what changes state, from this gateway's own pages or
/// no page at all.
pub async fn api(State(state): State<GatewayState>, request: Request, next: Next) -> Response {
    let path = below_base(request.uri().path(), &state.options.base_path);
    let scope = Scope::of_api(request.method(), path.strip_prefix("/api/v1/").unwrap_or_default());
    let passed = check_origin(&state, request.method(), request.headers())
        .and_then(|()| Access::of(request.extensions()).require(scope));
    match passed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Who sent a request.
fn client_of(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<Peer>().map(|peer| peer.address.ip())
}

/// Whether a request may read what a path names, and by what right.
fn let_read(state: &Gateway, request: &Request, path: &str) -> Result<Entry, Problem> {
    let (access, path) = (Access::of(request.extensions()), below_base(path, &state.options.base_path));
    auth::check_content(state, access, client_of(request), path, request.uri().query())
}

/// Has a request answered that was let in, which then knows by what right.
async fn enter<Answer: Future<Output = Response>>(
    entry: Result<Entry, Problem>,
    mut request: Request,
    answer: impl FnOnce(Request) -> Answer,
) -> Response {
    let entry = match entry {
        Ok(entry) => entry,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(entry);
    let mut response = answer(request).await;
    if let Entry::Link { .. } = entry {
        // The link is good for whoever has it, so it is not told to the sites that a document links to.
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    }
    response
}

fn preflight() -> Response {
    let rows = [
        (ALLOW, CONTENT_METHODS),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (ACCESS_CONTROL_ALLOW_METHODS, CONTENT_METHODS),
        (ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED),
        (ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        (ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, rows).into_response()
}

/// Refuses names that are not this gateway's. Loopback names and IP addresses cannot be rebound, so they always pass;
/// a request without a host comes from no browser.
fn check_host(options: &HttpOptions, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let header = headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    // An absolute-form target outranks the header (RFC 9112 §3.2.2).
    let Some(authority) = uri.authority().map(|it| it.as_str()).or(header) else { return Ok(()) };
    if is_ours(options, host_of(authority)) {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::UnknownHost, "the request is for a host that is not in the list of allowed hosts")
        .hint("add the name to server.allowed_hosts, or set server.public_url"))
}

fn is_ours(options: &HttpOptions, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let public = options.public_url.as_ref().and_then(|url| url.host_str());
    is_ip
        || host == "localhost"
        || host.ends_with(".localhost")
        || public.is_some_and(|public| public.eq_ignore_ascii_case(&host))
        || options.allowed_hosts.iter().any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(&host))
        || host::is_known(options, &host)
}

/// The host of `host[:port]`, brackets kept.
fn host_of(authority: &str) -> &str {
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match authority.rfind(']') {
        Some(close) => &authority[..=close],
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

/// Refuses what a page of another site sent: browsers name the page's origin on each request that changes something.
fn check_origin(state: &Gateway, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let refused = || Problem::new(ProblemKind::ForeignOrigin, "a page of another site sent this request");
    if headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site") {
        return Err(refused());
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let public = state.options.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    let own = headers.get(HOST).and_then(|host| host.to_str().ok()).is_some_and(|host| {
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    });
    if own || public.is_some_and(|public| public.eq_ignore_ascii_case(origin)) { Ok(()) } else { Err(refused()) }
}

/// Whether a client would rather read HTML than anything else: it names HTML before JSON, as browsers do.
#[must_use]
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match (accept.find("text/html"), accept.find("json")) {
        (Some(html), Some(json)) => html < json,
        (html, _) => html.is_some(),
    }
}

/// A name for a request that sorts by time: 48 bits of milliseconds and 80 of chance, as 26 letters (a ULID).
fn request_id(now: SystemTime, chance: u128) -> String {
    let millis = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let value = (millis << 80) | (chance >> 48);
    let letters = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..26).rev().map(|at| char::from(letters[usize::try_from((value >> (at * 5)) & 31).unwrap_or(0)])).collect()
}

fn log_problem(problem: &Problem, id: &str) {
    let (kind, detail) = (problem.kind().slug(), problem.for_the_log());
    if problem.kind() == ProblemKind::Internal {
        tracing::error!(request = id, kind, detail, "request failed");
    } else if matches!(problem.kind(), ProblemKind::CacheFailed | ProblemKind::CacheFull) {
        tracing::warn!(request = id, kind, detail, "request failed");
    } else {
        tracing::debug!(request = id, kind, detail, "request refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;

    fn headers(rows: &[(HeaderName, &str)]) -> HeaderMap {
        rows.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn host_passes(options: &HttpOptions, host: &str) -> bool {
        check_host(options, &Uri::from_static("/"), &headers(&[(HOST, host)])).is_ok()
    }

    #[test]
    fn loopback_names_and_addresses_pass_and_rebound_names_do_not() {
        let options = HttpOptions::default();
        for host in
            ["localhost", "LOCALHOST:8420", "x.localhost:1", "127.0.0.1:8420", "[::1]:8420", "10.0.0.7", "localhost."]
        {
            assert!(host_passes(&options, host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8420", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1"]
        {
            assert!(!host_passes(&options, host), "{host}");
        }
        assert!(check_host(&options, &Uri::from_static("/"), &HeaderMap::new()).is_ok());
        let absolute = Uri::from_static("http://evil.example/");
        assert!(check_host(&options, &absolute, &headers(&[(HOST, "localhost")])).is_err());
    }

    #[test]
    fn the_operators_names_pass() {
        let options = HttpOptions {
            allowed_hosts: vec!["tv.lan".to_owned()],
            public_url: Some("https://gate.example/x/".parse().unwrap()),
            ..HttpOptions::default()
        };
        assert!(host_passes(&options, "TV.lan:80") && host_passes(&options, "gate.example"));
        assert!(!host_passes(&options, "other.example"));
        let any = HttpOptions { allowed_hosts: vec!["*".to_owned()], ..HttpOptions::default() };
        assert!(host_passes(&any, "other.example"));
    }

    #[test]
    fn html_is_for_those_who_name_it_first() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("application/json, text/html", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_html(&headers(&[(ACCEPT, accept)])), html, "{accept}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn request_ids_sort_by_time() {
        let at = |millis| request_id(UNIX_EPOCH + std::time::Duration::from_millis(millis), u128::MAX);
        assert!(at(1) < at(2) && at(2) < at(1_763_000_000_000));
        assert_eq!(at(1).len(), 26);
    }
}
