//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): a POST that was sent twice is done once.
//!
//! Who does not know whether a request arrived sends it again under the same key, and gets the answer of the first. The
//! same key with another request is a mistake and is told; while the first is being answered the second is told so too.
//! Answers are kept in memory, so many for so long, and faults of ours are not kept: asking again may help.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;

use super::items::{CAR, MAX_TORRENT_BYTES, read};
use crate::error::{Problem, ProblemKind};

/// The header.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Answers that are kept at most; the oldest go first.
const MAX_KEPT: usize = 1024;
/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;
/// Largest answer that is kept, in bytes: 64 KiB. The API's answers to POST are smaller.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// How long an answer is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What was answered of late.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    rows: BTreeMap<String, Row>,
    /// Keys in the order in which they came.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Row {
    since: Instant,
    request: [u8; 32],
    answer: Option<Answer>,
}

#[derive(Debug, Clone)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What is to be done with a request under a key.
#[derive(Debug)]
enum Standing {
    New,
    UnderWay,
    Other,
    Answered(Answer),
}

impl Memory {
    fn standing(&mut self, key: &str, request: [u8; 32], now: Instant) -> Standing {
        self.forget(now);
        match self.rows.get(key) {
            Some(row) if row.request != request => Standing::Other,
            Some(Row { answer: None, .. }) => Standing::UnderWay,
            Some(Row { answer: Some(answer), .. }) => Standing::Answered(answer.clone()),
            None => {
                self.rows.insert(key.to_owned(), Row { since: now, request, answer: None });
                self.order.push_back(key.to_owned());
                Standing::New
            }
        }
    }

    fn forget(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let is_old = self.rows.get(oldest).is_none_or(|row| now.saturating_duration_since(row.since) >= KEPT_FOR);
            if !is_old && self.order.len() < MAX_KEPT {
                return;
            }
            self.rows.remove(oldest);
            self.order.pop_front();
        }
    }

    /// Keeps an answer, or lets the key go that has none worth keeping.
    fn end(&mut self, key: &str, answer: Option<Answer>) {
        match (answer, self.rows.get_mut(key)) {
            (Some(answer), Some(row)) => row.answer = Some(answer),
            (None, Some(_)) => {
                self.rows.remove(key);
                self.order.retain(|known| known != key);
            }
            (_, None) => {}
        }
    }
}

/// A request under way. Dropped before its end, as when the client goes, it lets its key go.
struct UnderWay {
    memory: Arc<Remembered>,
    key: String,
    answer: Option<Answer>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.memory.0.lock().end(&self.key, self.answer.take());
    }
}

/// Lets a POST with a key pass once.
pub(super) async fn layer(State(memory): State<Arc<Remembered>>, request: Request, next: Next) -> Response {
    // A CAR sent twice is the same blocks, and too large to be compared.
    let is_car = request.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(CAR.as_bytes()));
    let key = request.headers().get(HEADER).filter(|_| request.method() == Method::POST && !is_car).cloned();
    let Some(key) = key else { return next.run(request).await };
    match once(memory, &key, request, next).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn once(
    memory: Arc<Remembered>,
    key: &http::HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let bad = || Problem::new(ProblemKind::BadQuery, format!("a key has 1 to {MAX_KEY_BYTES} printable characters"));
    let key = key.to_str().ok().filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len())).ok_or_else(bad)?.to_owned();
    let (parts, body) = request.into_parts();
    let body = read(body, MAX_TORRENT_BYTES).await?;
    let print = fingerprint(parts.uri.path_and_query().map_or("", |it| it.as_str()), &body);
    match memory.0.lock().standing(&key, print, Instant::now()) {
        Standing::New => {}
        Standing::UnderWay => return Err(Problem::new(ProblemKind::UnderWay, "its answer can be had in a moment")),
        Standing::Other => {
            let detail = "another path or body was sent with this key before";
            return Err(Problem::new(ProblemKind::KeyReused, detail));
        }
        Standing::Answered(answer) => return Ok((answer.status, answer.headers, answer.body).into_response()),
    }
    let mut under_way = UnderWay { memory, key, answer: None };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes);
    let body = body.map_err(|error| Problem::internal(format!("an answer cannot be made: {error}")))?;
    let answer = Answer { status: parts.status, headers: parts.headers.clone(), body: body.clone() };
    under_way.answer = Some(answer).filter(|answer| answer.body.len() <= MAX_ANSWER_BYTES);
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn fingerprint(target: &str, body: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(target.as_bytes());
    context.update(&[0]);
    context.update(body);
    context.finish().as_ref().try_into().unwrap_or([0; 32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Option<Answer> {
        Some(Answer { status: StatusCode::CREATED, headers: HeaderMap::new(), body: Bytes::from_static(b"{}") })
    }

    #[test]
    fn a_key_is_new_once_then_under_way_then_answered_for_a_day() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert!(matches!(memory.standing("k", [1; 32], now), Standing::New));
        assert!(matches!(memory.standing("k", [1; 32], now), Standing::UnderWay));
        memory.end("k", answer());
        assert!(matches!(memory.standing("k", [1; 32], now), Standing::Answered(_)));
        assert!(matches!(memory.standing("k", [2; 32], now), Standing::Other));
        assert!(matches!(memory.standing("k", [2; 32], now + KEPT_FOR), Standing::New));
    }

    #[test]
    fn what_failed_may_be_tried_again() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        assert!(matches!(memory.standing("k", [1; 32], now), Standing::New));
        memory.end("k", None);
        assert!(matches!(memory.standing("k", [1; 32], now), Standing::New));
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (mut memory, now) = (Memory::default(), Instant::now());
        for number in 0..3 * MAX_KEPT {
            memory.standing(&number.to_string(), [0; 32], now);
            memory.end(&number.to_string(), answer());
            assert!(memory.rows.len() <= MAX_KEPT && memory.order.len() <= MAX_KEPT);
        }
        assert!(matches!(memory.standing(&(3 * MAX_KEPT - 1).to_string(), [0; 32], now), Standing::Answered(_)));
    }
}
