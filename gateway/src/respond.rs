//! The answer to a request for a file: conditions, ranges, headers, body.
//!
//! The order is that of RFC 9110 §13.2.2: conditions first, then the range. A HEAD gets the headers of the whole file
//! (§14.2 defines ranges for GET only) and opens nothing but what it wants fetched ahead. Everything else waits until the first verified byte is in
//! hand, so what can fail fails with a status code.

use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use swarmgate_content::{ByteRange, ContentId, ContentMeta, FileRef};

use crate::archive::Archive;
use crate::body::{Pump, Segment};
use crate::conditional::{self, Condition};
use crate::error::{Problem, ProblemKind};
use crate::exchange::Exchange;
use crate::flow::Flow;
use crate::range::{self, Selection};
use crate::state::HttpOptions;
use crate::traces::Streamed;
use crate::{auth, disposition, media};

/// For what is named by its hash: 48 weeks, the value of the IPFS gateway specifications.
const FOR_EVER: &str = "max-age=29030400, immutable";

/// For what a magnet URL gives: its parameters are hints, and hints age.
const FOR_A_WHILE: &str = "max-age=300";

/// What an untrusted document may do in a browser: show itself and its own pictures, run nothing, send nothing.
pub(crate) const SANDBOX: &str = "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; font-src 'self' data:; \
                       style-src 'self' 'unsafe-inline'";

const X_BT_INFOHASH: HeaderName = HeaderName::from_static("x-bt-infohash");
pub(crate) const X_SWARMGATE_SOURCE: HeaderName = HeaderName::from_static("x-swarmgate-source");
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// How long an answer may be kept by caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The URL names these bytes for ever.
    Immutable,
    /// The URL found these bytes today.
    Brief,
}

/// The strong entity tag of a file, with its quotes.
#[must_use]
pub fn file_etag(id: &ContentId, index: usize) -> String {
    format!("\"{}-{index}\"", tag_of(id))
}

fn tag_of(id: &ContentId) -> String {
    match id {
        ContentId::BtV1(hash) => format!("bt1-{hash}"),
        ContentId::BtV2(hash) => format!("bt2-{hash}"),
        ContentId::Ipfs(cid) => cid.to_string(),
    }
}

/// Answers a request for file `index` of a resolved content.
///
/// # Errors
/// When a condition fails, no range can be satisfied, or the first byte does not come; 412 when it was asked for only if
/// cached and a part is missing; 410 or 451 when it is not served.
pub async fn file(
    exchange: Exchange,
    meta: &ContentMeta,
    index: usize,
    freshness: Freshness,
) -> Result<Response, Problem> {
    let resolved = exchange.asked.elapsed();
    let Some(entry) = meta.files.get(index).filter(|file| !file.padding) else {
        let detail = format!("it has {} files, numbered from 0", meta.files.len());
        return Err(Problem::new(ProblemKind::NoSuchFile, detail).item(meta.id));
    };
    exchange.state.denylists.check_content(&meta.id, &entry.joined_path())?;
    let name = entry.path.last().map_or(meta.name.as_str(), String::as_str);
    let etag = file_etag(&meta.id, index);
    let mut headers = validators(&exchange.state.options, meta, &etag, freshness);
    let whole = match conditional::evaluate(&exchange.headers, &etag) {
        Condition::NotModified => return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty())),
        Condition::Failed => {
            let detail = format!("the file's entity tag is {etag}");
            return Err(Problem::new(ProblemKind::PreconditionFailed, detail).item(meta.id));
        }
        Condition::ProceedWhole => true,
        Condition::Proceed => exchange.head,
    };
    describe(&mut headers, name, &exchange);
    let range = exchange.headers.get(RANGE).filter(|_| !whole).and_then(|range| range.to_str().ok());
    let plan = Plan::of(range::select(range, entry.len), entry.len, &mut headers)?;
    if exchange.patience.only_if_cached() {
        let ranges = plan.segments.iter().filter_map(Segment::range).map(|range| (index, range)).collect();
        exchange.check_cached(&meta.id, ranges).await?;
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(plan.segments.iter().map(Segment::len).sum::<u64>()));
    let file = FileRef { id: meta.id, index };
    exchange.prefetch(file, entry.len);
    if exchange.head || plan.segments.is_empty() {
        headers.insert(SERVER_TIMING, timing(resolved, None));
        return Ok(respond(plan.status, headers, Body::empty()));
    }
    let Exchange { state, slot, peer, asked, patience, query, .. } = exchange;
    let (opening, deadline) = (Instant::now(), patience.first_byte_deadline(&state.options));
    let pump = Pump::new(&state, file, query.sources, plan.segments, slot, peer);
    let pump = pump.prime(asked, deadline).await.map_err(|error| patience.problem(error))?;
    headers.insert(SERVER_TIMING, timing(resolved, Some(opening.elapsed())));
    tell_sources(&mut headers, &pump);
    Ok(stream(plan.status, headers, Streamed::of(pump.row()), Body::new(pump)))
}

/// Bytes of an archive that are made before the headers are sent: the first head, and something of the first file.
const PRIMED_BYTES: usize = 16 * 1024;

/// Answers with an archive of files, offered under `name`. Its tag is weak, since another release may write it differently.
///
/// # Errors
/// When a condition fails, or the first bytes do not come; 412 when it was asked for only if cached and a part is missing;
/// 410 or 451 when one of its files is not served.
pub async fn archive(
    exchange: Exchange,
    meta: &ContentMeta,
    archive: Archive,
    name: &str,
) -> Result<Response, Problem> {
    let resolved = exchange.asked.elapsed();
    let files: Vec<_> = archive.files().filter_map(|index| meta.files.get(index)).collect();
    for file in files {
        exchange.state.denylists.check_content(&meta.id, &file.joined_path())?;
    }
    let len = archive.total_len().ok_or_else(|| Problem::new(ProblemKind::NotAcceptable, "it would be too long"))?;
    let etag = archive_etag(&meta.id, &archive);
    let mut headers = validators(&exchange.state.options, meta, &etag, Freshness::Immutable);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
    match conditional::evaluate(&exchange.headers, &etag) {
        Condition::NotModified => return Ok(respond(StatusCode::NOT_MODIFIED, headers, Body::empty())),
        Condition::Failed => {
            let detail = format!("the archive's entity tag is {etag}");
            return Err(Problem::new(ProblemKind::PreconditionFailed, detail).item(meta.id));
        }
        Condition::ProceedWhole | Condition::Proceed => {}
    }
    if exchange.patience.only_if_cached() {
        let whole = |index: usize| Some((index, ByteRange::full(meta.files.get(index)?.len)?));
        let files = archive.files().filter_map(whole).collect();
        exchange.check_cached(&meta.id, files).await?;
    }
    headers.insert(CONTENT_TYPE, text(archive.media_type()));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(len));
    let offered = exchange.query.filename.as_deref().unwrap_or(name);
    headers.insert(CONTENT_DISPOSITION, disposition::header(offered, true));
    if exchange.head {
        headers.insert(SERVER_TIMING, timing(resolved, None));
        return Ok(respond(StatusCode::OK, headers, Body::empty()));
    }
    let Exchange { state, slot, peer, asked, patience, query, .. } = exchange;
    let (opening, deadline) = (Instant::now(), patience.first_byte_deadline(&state.options));
    let flow = Flow::new(&state, meta.id, archive.chunks(state.clone(), query.sources), slot, peer);
    let flow = flow.prime(PRIMED_BYTES, asked, deadline).await.map_err(|error| patience.problem(error))?;
    headers.insert(SERVER_TIMING, timing(resolved, Some(opening.elapsed())));
    Ok(stream(StatusCode::OK, headers, Streamed::of(flow.row()), Body::new(flow)))
}

fn archive_etag(id: &ContentId, archive: &Archive) -> String {
    let what: Vec<_> = archive.files().map(|index| index.to_string()).collect();
    let hash = digest::digest(&digest::SHA256, what.join(",").as_bytes());
    format!("W/\"{}.{}-{}\"", tag_of(id), archive.kind().name(), HEXLOWER.encode(&hash.as_ref()[..8]))
}

/// Answers with something made from a content's metadata: a listing, a playlist, a `.torrent`. Its tag is weak and made
/// from its bytes, since another release may write it differently.
#[must_use]
pub fn derived(exchange: &Exchange, meta: &ContentMeta, content_type: &str, body: impl Into<Bytes>) -> Response {
    let body = body.into();
    let hash = digest::digest(&digest::SHA256, &body);
    let etag = format!("W/\"{}-{}\"", tag_of(&meta.id), HEXLOWER.encode(&hash.as_ref()[..8]));
    let mut headers = validators(&exchange.state.options, meta, &etag, Freshness::Brief);
    headers.remove(ACCEPT_RANGES);
    if conditional::evaluate(&exchange.headers, &etag) == Condition::NotModified {
        return respond(StatusCode::NOT_MODIFIED, headers, Body::empty());
    }
    headers.insert(CONTENT_TYPE, text(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(SERVER_TIMING, timing(exchange.asked.elapsed(), None));
    respond(StatusCode::OK, headers, if exchange.head { Body::empty() } else { Body::from(body) })
}

/// What to send: the status, and the body's segments, none for an empty file.
pub(crate) struct Plan {
    pub(crate) status: StatusCode,
    pub(crate) segments: Vec<Segment>,
}

impl Plan {
    /// Turns a selection into segments, and describes it in `headers`.
    pub(crate) fn of(selection: Selection, len: u64, headers: &mut HeaderMap) -> Result<Self, Problem> {
        match selection {
            Selection::Full => Ok(Self {
                status: StatusCode::OK,
                segments: ByteRange::full(len).map(Segment::Range).into_iter().collect(),
            }),
            Selection::Partial(range) => {
                headers.insert(CONTENT_RANGE, text(&format!("bytes {range}/{len}")));
                Ok(Self { status: StatusCode::PARTIAL_CONTENT, segments: vec![Segment::Range(range)] })
            }
            Selection::Multi(ranges) => {
                let boundary = format!("swarmgate-{:032x}", rand::random::<u128>());
                let of = format!("multipart/byteranges; boundary={boundary}");
                let part_type = headers.insert(CONTENT_TYPE, text(&of));
                let part_type = part_type.as_ref().and_then(|value| value.to_str().ok()).unwrap_or_default();
                let segments = multipart(&ranges, len, part_type, &boundary);
                Ok(Self { status: StatusCode::PARTIAL_CONTENT, segments })
            }
            Selection::Unsatisfiable { len } => {
                let detail = format!("the file has {len} bytes");
                Err(Problem::range(ProblemKind::RangeNotSatisfiable, detail, len))
            }
            Selection::TooManyRanges { parts, len } => {
                let detail = format!("{parts} parts were asked for, an answer has at most {}", range::MAX_PARTS);
                Err(Problem::range(ProblemKind::TooManyRanges, detail, len))
            }
        }
    }
}

/// The body of RFC 9110 §14.6, as text and ranges.
fn multipart(ranges: &[ByteRange], len: u64, part_type: &str, boundary: &str) -> Vec<Segment> {
    let mut segments = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut before = "";
    for range in ranges {
        let head =
            format!("{before}--{boundary}\r\nContent-Type: {part_type}\r\nContent-Range: bytes {range}/{len}\r\n\r\n");
        segments.extend([Segment::Text(Bytes::from(head)), Segment::Range(*range)]);
        before = "\r\n";
    }
    segments.push(Segment::Text(Bytes::from(format!("\r\n--{boundary}--\r\n"))));
    segments
}

/// What a 304 says too: the tag, how long it is good, whose it is.
fn validators(options: &HttpOptions, meta: &ContentMeta, etag: &str, freshness: Freshness) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, text(etag));
    // `public` lets a shared cache give to everybody what it got with a token (RFC 9111 §3.5).
    let whose = if auth::content_is_open(options) { "public" } else { "private" };
    let how_long = match freshness {
        Freshness::Immutable => FOR_EVER,
        Freshness::Brief => FOR_A_WHILE,
    };
    headers.insert(CACHE_CONTROL, text(&format!("{whose}, {how_long}")));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let ContentId::BtV1(_) | ContentId::BtV2(_) = &meta.id {
        headers.insert(X_BT_INFOHASH, text(&meta.id.to_string()));
    }
    headers.insert(X_SWARMGATE_SOURCE, HeaderValue::from_static(meta.id.network()));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

fn describe(headers: &mut HeaderMap, name: &str, exchange: &Exchange) {
    let content_type = media::content_type(name);
    if media::is_active(&content_type) {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    }
    headers.insert(CONTENT_TYPE, text(&content_type));
    let offered = exchange.query.filename.as_deref().unwrap_or(name);
    headers.insert(CONTENT_DISPOSITION, disposition::header(offered, exchange.query.download));
}

/// Tells from where the first bytes came, once they are there; where nobody knows, the network's name must do.
pub(crate) fn tell_sources(headers: &mut HeaderMap, pump: &Pump) {
    if let Some(sources) = pump.sources() {
        headers.insert(X_SWARMGATE_SOURCE, text(&sources));
    }
}

pub(crate) fn timing(resolved: Duration, first_piece: Option<Duration>) -> HeaderValue {
    let millis = |took: Duration| took.as_secs_f64() * 1000.0;
    let resolve = format!("resolve;dur={:.1}", millis(resolved));
    match first_piece {
        Some(took) => text(&format!("{resolve}, first-piece;dur={:.1}", millis(took))),
        None => text(&resolve),
    }
}

pub(crate) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub(crate) fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// The same with a stream, whose row goes along for whoever tells how it ended.
pub(crate) fn stream(status: StatusCode, headers: HeaderMap, streamed: Streamed, body: Body) -> Response {
    let mut response = respond(status, headers, body);
    streamed.go_with(&mut response);
    response
}
