//! The running streams, and the contents that are fetched over several networks for them: who reads what, and who
//! delivers it.

use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::shapes::StreamList;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Lists the streams, the fetches with the shares and the standing of their sources, and what was asked twice.
#[utoipa::path(
    get,
    path = "/api/v1/streams",
    tag = "streams",
    responses(
        (status = OK, description = "Who reads what, and from where it comes", body = StreamList),
    ),
)]
pub async fn list(State(state): State<GatewayState>) -> Response {
    let fetches = state.hybrid.as_ref().map(|hybrid| hybrid.fetches()).unwrap_or_default();
    let asked = state.hybrid.as_ref().map(|hybrid| hybrid.budget().status());
    let streams = state.streams.status(Instant::now());
    let document = json!({ "streams": streams, "fetches": fetches, "asked": asked });
    std::future::ready(super::json(StatusCode::OK, &document)).await
}

/// Ends a stream by a reset, so that its client cannot take what it has for the whole.
///
/// # Errors
/// 404 when no such stream is running.
#[utoipa::path(
    delete,
    path = "/api/v1/streams/{sid}",
    tag = "streams",
    params(("sid" = String, Path, description = "The number of the stream")),
    responses(
        (status = NO_CONTENT, description = "Its connection is reset"),
        (status = NOT_FOUND, description = "It is over, or never was"),
    ),
)]
pub async fn end(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let ended = id.parse().is_ok_and(|number| state.streams.end(number));
    let answer = if ended {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::new(ProblemKind::NoSuchStream, "it is over, or never was"))
    };
    std::future::ready(answer).await
}
