//! `/config`: the options in force and where each value comes from; those that may change do so while the gateway runs.
//!
//! A change lasts until the process ends or its configuration is read again: lasting choices are in its files.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::items::{MAX_TEXT_BYTES, read};
use super::shapes::{Changes, Options};
use crate::error::{Problem, ProblemKind};
use crate::live::Taken;
use crate::reload::ReloadError;
use crate::state::GatewayState;

/// Shows every option, secrets left out. Those that can be changed here are `live`.
#[utoipa::path(
    get,
    path = "/api/v1/config",
    tag = "gateway",
    responses(
        (status = OK, description = "Every option", body = Options),
    ),
)]
pub async fn show(State(state): State<GatewayState>) -> Response {
    std::future::ready(shown(&state)).await
}

fn shown(state: &GatewayState) -> Response {
    super::json(StatusCode::OK, &json!({ "options": (state.settings)() }))
}

/// Changes options: a JSON object of keys, as `seeding.upload_limit`, and values. Answers with all options.
///
/// # Errors
/// 400 for what is no such object, or has a mistake in it; then nothing is changed. 501 when nothing can be changed here.
#[utoipa::path(
    patch,
    path = "/api/v1/config",
    tag = "gateway",
    request_body(content = Changes, description = "Keys and values"),
    responses(
        (status = OK, description = "Every option", body = Options),
        (status = BAD_REQUEST, description = "There is a mistake; nothing is changed"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = NOT_IMPLEMENTED, description = "Nothing can be changed while this gateway runs"),
    ),
)]
pub async fn change(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let bytes = read(request.into_body(), MAX_TEXT_BYTES).await?;
    let bad = |detail: String| Problem::new(ProblemKind::BadBody, detail);
    let wanted: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let changes: Vec<_> = wanted.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    let none = || Problem::new(ProblemKind::Unsupported, "no option can be changed while this gateway runs");
    state.live.as_deref().ok_or_else(none)?.change(&changes).map_err(|errors| bad(errors.to_string()))?;
    Ok(shown(&state))
}

/// Reads the configuration again, as SIGHUP does: its files, the certificate, and the files of denylists and allow-lists.
/// The environment and flags are those of the start. What was changed over the API is then as they say.
///
/// # Errors
/// 422 with all mistakes, as hints; then nothing is changed. 501 where nobody knows what was read.
#[utoipa::path(
    post,
    path = "/api/v1/config/reload",
    tag = "gateway",
    responses(
        (status = OK, description = "What was changed, and what needs a restart", body = Taken),
        (status = UNPROCESSABLE_ENTITY, description = "There are mistakes; nothing is changed"),
        (status = NOT_IMPLEMENTED, description = "This gateway was not started from a configuration"),
    ),
)]
pub async fn reload(State(state): State<GatewayState>) -> Result<Response, Problem> {
    let none = || Problem::new(ProblemKind::Unsupported, "this gateway was not started from a configuration");
    let reloader = Arc::clone(state.reloader.as_ref().ok_or_else(none)?);
    let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
    let reloaded = reloaded.map_err(|error| Problem::internal(format!("the configuration was not read: {error}")))?;
    reloaded.map(|taken| super::json(StatusCode::OK, &taken)).map_err(|error| mistakes(&error))
}

fn mistakes(error: &ReloadError) -> Problem {
    let whole = format!("{}; nothing is changed", error.summary());
    let problem = Problem::new(ProblemKind::BadConfiguration, whole);
    match error {
        ReloadError::Configuration(errors) => {
            errors.mistakes.iter().fold(problem, |problem, mistake| problem.hint(mistake.to_string()))
        }
        ReloadError::Certificate(error) => problem.hint(error.to_string()),
        ReloadError::List(error) => problem.hint(error.to_string()),
    }
}
