//! The circuit breakers of whom the gateway fetches from: which are open and why, and the way to close one by hand.

use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use swarmgate_hybrid_rules::BreakerStatus;

use super::shapes::BreakerList;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// A breaker with the text that names it in URLs.
#[derive(Debug, Serialize)]
struct Row {
    id: String,
    #[serde(flatten)]
    status: BreakerStatus,
}

/// Lists the breakers that there are, closed ones too, in the order of their names.
#[utoipa::path(
    get,
    path = "/api/v1/breakers",
    tag = "networks",
    responses(
        (status = OK, description = "The breakers", body = BreakerList),
    ),
)]
pub async fn list(State(state): State<GatewayState>) -> Response {
    let breakers = state.hybrid.as_ref().map(|hybrid| hybrid.breakers().status(Instant::now())).unwrap_or_default();
    let rows = breakers.into_iter().map(|status| Row { id: status.key.to_string(), status });
    let document = json!({ "breakers": rows.collect::<Vec<_>>() });
    std::future::ready(super::json(StatusCode::OK, &document)).await
}

/// Closes a breaker and forgets what it knew, so that its source is asked again at once. The id is percent-encoded.
///
/// # Errors
/// 404 when there is no such breaker.
#[utoipa::path(
    post,
    path = "/api/v1/breakers/{id}/reset",
    tag = "networks",
    params(("id" = String, Path, description = "The breaker's name, percent-encoded")),
    responses(
        (status = NO_CONTENT, description = "It is closed"),
        (status = NOT_FOUND, description = "There is no such breaker"),
    ),
)]
pub async fn reset(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let answer = match state.hybrid.as_ref().is_some_and(|hybrid| hybrid.reset_breaker(&id)) {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => {
            Err(Problem::new(ProblemKind::NoSuchBreaker, "no breaker has this id; GET /api/v1/breakers lists them"))
        }
    };
    std::future::ready(answer).await
}
