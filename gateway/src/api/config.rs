//! The options that can be changed while the gateway runs.
//!
//! A change lasts until the process ends or its configuration is read again: lasting choices are in its files.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::items::{MAX_TEXT_BYTES, read};
use crate::error::{Problem, ProblemKind};
use crate::live::Live;
use crate::state::GatewayState;

/// Lists the options that can be changed, each with its value as a text.
///
/// # Errors
/// 501 when nothing can be changed here.
pub fn list(state: &GatewayState) -> Result<Response, Problem> {
    live(state).map(answer)
}

/// Changes options: a JSON object of keys, as `seeding.upload_limit`, and values. Answers with all that can be changed.
///
/// # Errors
/// 400 for what is no such object, or has a mistake in it; then nothing is changed.
pub async fn change(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let bytes = read(request.into_body(), MAX_TEXT_BYTES).await?;
    let bad = |detail: String| Problem::new(ProblemKind::BadBody, detail);
    let wanted: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let changes: Vec<_> = wanted.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let live = live(&state)?;
    live.change(&changes).map_err(|errors| bad(errors.to_string()))?;
    Ok(answer(live))
}

fn live(state: &GatewayState) -> Result<&Live, Problem> {
    let none = || Problem::new(ProblemKind::Unsupported, "no option can be changed while this gateway runs");
    state.live.as_deref().ok_or_else(none)
}

fn answer(live: &Live) -> Response {
    let options: Map<_, _> = live.options().into_iter().map(|(key, value)| (key, Value::from(value))).collect();
    super::json(StatusCode::OK, &json!({ "options": options, "lasts": "until the configuration is read again" }))
}
