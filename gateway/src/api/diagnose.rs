//! `POST /diagnose`: what keeps this gateway from working well, as `swarmgate diagnose` looks for it, and what to do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;
use swarmgate_config::Config;
use utoipa::ToSchema;

use crate::admission::Slot;
use crate::cli::diagnose::{Check, Step, Verdict};
use crate::error::{Problem, ProblemKind};
use crate::server::Peer;
use crate::state::GatewayState;

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Diagnosis {
    /// Whether nothing failed; warnings are no failures.
    ok: bool,
    /// All that was looked at, in order.
    checks: Vec<Check>,
}

/// A diagnosis that is being made.
struct Examination {
    state: GatewayState,
    config: Arc<Config>,
    /// Steps to be taken.
    left: VecDeque<Step>,
    /// Found, and not told yet.
    found: VecDeque<Check>,
    failed: usize,
    /// Whether the end was told.
    over: bool,
    _slot: Slot,
}

/// Looks for what keeps this gateway from working well, one thing after the other, each with what to do about it. Who
/// accepts `text/event-stream` is told each as it is found, as events `check`, and in the end `done`.
///
/// # Errors
/// 429 or 503 when no slot is free, 501 where the configuration is not known.
#[utoipa::path(
    post,
    path = "/api/v1/diagnose",
    tag = "gateway",
    responses(
        (status = OK, description = "What was found", content((Diagnosis = "application/json"), (String = "text/event-stream"))),
        (status = TOO_MANY_REQUESTS, description = "The client has too many streams open"),
        (status = NOT_IMPLEMENTED, description = "This gateway was not started from a configuration"),
        (status = SERVICE_UNAVAILABLE, description = "The limit on streams is reached"),
    ),
)]
pub async fn run(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let client = request.extensions().get::<Peer>().map(|peer| peer.address.ip());
    let mut examination = Examination::begin(state, client)?;
    if wants_events(request.headers()) {
        return Ok(told(examination));
    }
    let mut checks = Vec::new();
    while let Some(check) = examination.next().await {
        checks.push(check);
    }
    Ok(super::json(StatusCode::OK, &Diagnosis { ok: examination.failed == 0, checks }))
}

fn wants_events(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/event-stream"))
}

fn told(examination: Examination) -> Response {
    let mut response = Sse::new(examination.into_events()).keep_alive(KeepAlive::new()).into_response();
    // nginx would otherwise hold events back until its buffer is full.
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

impl Examination {
    fn begin(state: GatewayState, client: Option<IpAddr>) -> Result<Self, Problem> {
        let none = || Problem::new(ProblemKind::Unsupported, "this gateway was not started from a configuration");
        let config = Arc::new(state.live.as_ref().ok_or_else(none)?.config());
        let slot = state.admission.admit(client)?;
        let left = Step::ALL.into();
        Ok(Self { state, config, left, found: VecDeque::new(), failed: 0, over: false, _slot: slot })
    }

    /// The next thing that was looked at.
    async fn next(&mut self) -> Option<Check> {
        while self.found.is_empty() {
            let step = self.left.pop_front()?;
            self.found.extend(step.take(Arc::clone(&self.config), &self.state).await);
        }
        let check = self.found.pop_front()?;
        self.failed += usize::from(check.verdict == Verdict::Fail);
        Some(check)
    }

    async fn next_event(&mut self) -> Option<Event> {
        if let Some(check) = self.next().await {
            return Some(Event::default().event("check").data(json!(check).to_string()));
        }
        if std::mem::replace(&mut self.over, true) {
            return None;
        }
        let end = json!({ "ok": self.failed == 0, "failed": self.failed });
        Some(Event::default().event("done").data(end.to_string()))
    }

    fn into_events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut it| async move { it.next_event().await.map(|event| (Ok(event), it)) })
    }
}
