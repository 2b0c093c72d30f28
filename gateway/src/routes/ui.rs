//! `/ui/…`: what pages load.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};

use crate::conditional::{self, Condition};
use crate::error::{Problem, ProblemKind};
use crate::state::{GatewayState, HttpOptions};
use crate::ui;

/// The routes.
pub fn routes() -> Router<GatewayState> {
    Router::new().route("/ui/{name}", get(named))
}

async fn named(State(state): State<GatewayState>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    std::future::ready(file(&state.options, &name, &headers)).await
}

/// Answers with a file of the application, or what was installed beside it, unless the client has it.
fn file(options: &HttpOptions, name: &str, headers: &HeaderMap) -> Response {
    if name == ui::INSTALLED {
        let Some(installed) = &options.webtorrent else { return none_installed().into_response() };
        return answer(headers, ui::SCRIPT, installed.etag(), || installed.script().clone().into());
    }
    let Some(asset) = ui::find(name) else {
        return Problem::new(ProblemKind::NoRoute, "the application has no such file").into_response();
    };
    answer(headers, asset.content_type, &asset.etag(), || asset.text.into())
}

/// Why there is nothing to join a swarm with.
pub fn none_installed() -> Problem {
    let problem = Problem::new(ProblemKind::NoRoute, "no webtorrent is installed at this gateway");
    problem.hint("install one, and name its webtorrent.min.js in ui.webtorrent")
}

fn answer(headers: &HeaderMap, content_type: &str, tag: &str, body: impl FnOnce() -> Body) -> Response {
    let rows =
        [(CONTENT_TYPE, content_type), (ETAG, tag), (CACHE_CONTROL, "no-cache"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if conditional::evaluate(headers, tag) == Condition::NotModified {
        return (StatusCode::NOT_MODIFIED, rows).into_response();
    }
    (rows, body()).into_response()
}
