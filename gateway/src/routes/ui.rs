//! `/ui/…`: what pages load.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, StatusCode};

use crate::conditional::{self, Condition};
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;
use crate::ui;

/// The routes.
pub fn routes() -> Router<GatewayState> {
    Router::new()
        .route("/ui/{name}", get(|Path(name): Path<String>, headers: HeaderMap| async move { file(&name, &headers) }))
}

/// Answers with a file of the application, unless the client has it.
fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(asset) = ui::find(name) else {
        return Problem::new(ProblemKind::NoRoute, "the application has no such file").into_response();
    };
    let tag = asset.etag();
    let unchanged = conditional::evaluate(headers, &tag) == Condition::NotModified;
    let rows = [
        (CONTENT_TYPE, asset.content_type),
        (ETAG, tag.as_str()),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    if unchanged { (StatusCode::NOT_MODIFIED, rows).into_response() } else { (rows, asset.text).into_response() }
}
