//! `/api/v1`: the control API, JSON, for the operator's own tools. No script of another origin may read it.

pub mod bans;
pub mod breakers;
pub mod btpk;
pub mod config;
pub mod events;
pub mod history;
pub mod items;
pub mod networks;
pub mod peers;
pub mod pieces;
pub mod publish;
pub mod status;
pub mod streams;

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::error::Problem;
use crate::guard;
use crate::state::GatewayState;

/// The routes.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    Router::new()
        .route("/api/v1/version", get(|| async { status::version() }))
        .route("/api/v1/status", get(|State(state): State<GatewayState>| async move { status::status(&state) }))
        .route(
            "/api/v1/items",
            get(|State(state): State<GatewayState>| async move { items::list(&state) }).post(items::add),
        )
        .route("/api/v1/items/{id}", get(items::one).delete(items::remove).patch(items::change))
        .route("/api/v1/items/{id}/peers", get(peers::list))
        .route("/api/v1/items/{id}/pieces", get(pieces::one))
        .route("/api/v1/items/{id}/recheck", post(items::recheck))
        .route(
            "/api/v1/config",
            get(|State(state): State<GatewayState>| async move { config::show(&state) }).patch(config::change),
        )
        .route(
            "/api/v1/publish",
            get(|State(state): State<GatewayState>, headers: HeaderMap| async move { publish::list(&state, &headers) })
                .post(publish::begin),
        )
        .route("/api/v1/publish/{id}", get(publish::one))
        .route("/api/v1/btpk", put(btpk::publish))
        .route("/api/v1/events", get(events::stream))
        .route("/api/v1/streams", get(|State(state): State<GatewayState>| async move { streams::list(&state) }))
        .route("/api/v1/streams/{sid}", delete(streams::end))
        .route("/api/v1/networks", get(|State(state): State<GatewayState>| async move { networks::list(&state) }))
        .route("/api/v1/networks/{network}", patch(networks::change))
        .route("/api/v1/bans", get(|State(state): State<GatewayState>| async move { bans::list(&state) }))
        .route("/api/v1/bans/{peer}", delete(bans::lift))
        .route("/api/v1/breakers", get(|State(state): State<GatewayState>| async move { breakers::list(&state) }))
        .route("/api/v1/breakers/{id}/reset", post(breakers::reset))
        .route_layer(from_fn_with_state(state.clone(), guard::api))
}

/// A JSON answer.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => {
            let rows = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
            (status, rows, text + "\n").into_response()
        }
        Err(error) => Problem::internal(format!("an answer cannot be printed: {error}")).into_response(),
    }
}
