//! The end of an answer whose length is known: conditions, ranges, headers, body (RFC 9110 §13.2.2 order).

use std::time::Instant;

use axum::body;
use axum::response::Response;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use swarmgate_content::{Cid, ContentId, ContentReader, VerifiedBytes};

use crate::body::{Near, Open, Pump, Segment};
use crate::conditional::{self, Condition};
use crate::error::{Problem, ProblemKind};
use crate::exchange;
use crate::range::{self, Selection};
use crate::respond::{self, Plan, SERVER_TIMING};
use crate::routes::ipfs::inquiry::Inquiry;
use crate::routes::ipfs::known::Known;
use crate::state::GatewayState;
use crate::traces::Streamed;

/// What a client's conditions leave to do.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing: this is the answer.
    Answered(Response),
    /// Send it; only a part of it, if `ranges` may count.
    Send {
        /// Whether the client's `Range` stands.
        ranges: bool,
    },
}

/// What is sent.
pub struct Delivery {
    /// What of the DAG it is.
    pub cid: Cid,
    /// How many bytes it has.
    pub len: u64,
    /// How these are read.
    pub open: Open,
    /// Whether they are blocks of the DAG that are read as they are sent, and not at hand already.
    pub walks: bool,
    /// What of them.
    pub selection: Selection,
    /// The status instead of 200: then it is sent whole.
    pub status: Option<StatusCode>,
    /// What it is to whoever asks for it again, if the same request may have the same headers then.
    pub again: Option<Body>,
}

/// What a body is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The bytes of a file.
    File,
    /// One block as it is.
    Block,
}

/// Evaluates the conditions of a request for what has this entity tag.
///
/// # Errors
/// 412 when the client wants another representation only.
pub fn conditions(inquiry: &Inquiry, etag: &str, headers: &HeaderMap) -> Result<Verdict, Problem> {
    match conditional::evaluate(&inquiry.headers, etag) {
        Condition::NotModified => {
            let response = respond::respond(StatusCode::NOT_MODIFIED, headers.clone(), body::Body::empty());
            Ok(Verdict::Answered(response))
        }
        Condition::Failed => Err(Problem::new(ProblemKind::PreconditionFailed, format!("its entity tag is {etag}"))),
        Condition::ProceedWhole => Ok(Verdict::Send { ranges: false }),
        // Ranges are defined for GET only (RFC 9110 §14.2).
        Condition::Proceed => Ok(Verdict::Send { ranges: !inquiry.head }),
    }
}

/// What of so many bytes a client asks for.
#[must_use]
pub fn select(inquiry: &Inquiry, len: u64, ranges: bool) -> Selection {
    let header = inquiry.headers.get(RANGE).filter(|_| ranges).and_then(|range| range.to_str().ok());
    range::select(header, len)
}

/// Sends it. Until the first byte is there what fails has a status of its own.
///
/// # Errors
/// 416, or when the first byte does not come; 412 when it was asked for only if cached and a part is missing.
pub async fn send(inquiry: Inquiry, mut headers: HeaderMap, delivery: Delivery) -> Result<Response, Problem> {
    let resolved = inquiry.asked.elapsed();
    let Delivery { cid, len, open, walks, selection, status, again } = delivery;
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static(if status.is_some() { "none" } else { "bytes" }));
    let again = again.filter(|_| status.is_none());
    let lists = inquiry.lists;
    let known = again.and_then(|body| Known::of(&inquiry, Known { headers: headers.clone(), cid, len, body, lists }));
    let plan = Plan::of(selection, len, &mut headers)?;
    let status = status.unwrap_or(plan.status);
    if walks {
        check_cached(&inquiry, cid, &plan.segments).await?;
    }
    headers.insert(CONTENT_LENGTH, HeaderValue::from(plan.segments.iter().map(Segment::len).sum::<u64>()));
    if inquiry.head || plan.segments.is_empty() {
        headers.insert(SERVER_TIMING, respond::timing(resolved, None));
        return Ok(respond::respond(status, headers, body::Body::empty()));
    }
    let Inquiry { state, slot, peer, asked, patience, shut, .. } = inquiry;
    let (opening, deadline) = (Instant::now(), patience.first_byte_deadline(&state.options));
    let mut pump = Pump::over(&state, ContentId::Ipfs(cid), open, plan.segments, slot, peer);
    if let Some(body) = again {
        pump = pump.with_near(near(&state, cid, body));
    }
    let pump = pump.prime(asked, deadline).await.map_err(|error| shut.problem(patience, error))?;
    if let Some((target, known)) = known {
        state.known.put(target, known);
    }
    headers.insert(SERVER_TIMING, respond::timing(resolved, Some(opening.elapsed())));
    respond::tell_sources(&mut headers, &pump);
    Ok(respond::stream(status, headers, Streamed::of(pump.row()), body::Body::new(pump)))
}

/// Refuses what was asked for only if cached, unless all of it is here: what begins and cannot go on would be cut.
async fn check_cached(inquiry: &Inquiry, cid: Cid, segments: &[Segment]) -> Result<(), Problem> {
    if !inquiry.patience.only_if_cached() {
        return Ok(());
    }
    for segment in segments {
        let Some(range) = segment.range() else { continue };
        let is_here = inquiry.session.has_file(&cid, range).await.map_err(|error| inquiry.problem(error))?;
        if !is_here {
            return Err(exchange::not_cached(ContentId::Ipfs(cid)));
        }
    }
    Ok(())
}

/// Reads what of a body is in memory.
#[must_use]
pub fn near(state: &GatewayState, cid: Cid, body: Body) -> Near {
    let ipfs = state.ipfs.clone();
    Box::new(move |range| {
        let blocks = ipfs.as_ref()?.blocks();
        match body {
            Body::File => blocks.near(&cid, range),
            Body::Block => {
                let block = blocks.near_block(&cid)?;
                let (start, end) = (usize::try_from(range.start()).ok()?, usize::try_from(range.end()).ok()?);
                (end <= block.len()).then(|| block.slice(start..end))
            }
        }
    })
}

/// Reads a file of the DAG, of `len` bytes, over every network that is known to have it.
#[must_use]
pub fn of_file(inquiry: &Inquiry, cid: Cid, len: u64) -> Open {
    let session = std::sync::Arc::clone(&inquiry.session);
    let hybrid = inquiry.state.hybrid.clone().filter(|_| !inquiry.patience.only_if_cached());
    let wanted = inquiry.ask.sources.clone();
    Box::new(move |range| {
        let lent = session.lend(cid);
        let planned = hybrid.as_ref().and_then(|hybrid| hybrid.read_file(&*lent, len, range, wanted.as_ref()));
        let reader = planned.unwrap_or_else(|| session.file(cid, range));
        Box::pin(std::future::ready(Ok(reader)))
    })
}

/// Reads bytes that are at hand.
#[must_use]
pub fn of_bytes(bytes: VerifiedBytes) -> Open {
    Box::new(move |range| {
        // The range was selected within the length of these very bytes.
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
        let part = bytes.slice(index(range.start())..index(range.end()));
        let once = futures_util::stream::once(std::future::ready(Ok(part)));
        Box::pin(std::future::ready(Ok(ContentReader::new(once))))
    })
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("cid", &self.cid).field("len", &self.len).finish_non_exhaustive()
    }
}
