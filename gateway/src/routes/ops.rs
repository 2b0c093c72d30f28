//! `/healthz`, `/readyz`, `/metrics`. Health answers from memory alone, so it is quick however busy the gateway is.

use axum::Router;
use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::{Value, json};
use swarmgate_content::{HealthState, ProtocolSnapshot};

use crate::guard;
use crate::state::GatewayState;
use crate::telemetry::{HybridCounts, Readings};

/// The routes. Metrics are for whoever may use the API; health is for any prober.
pub fn routes(state: &GatewayState) -> Router<GatewayState> {
    let metrics = Router::new()
        .route("/metrics", get(|State(state): State<GatewayState>| async move { metrics(&state) }))
        .route_layer(from_fn_with_state(state.clone(), guard::api));
    Router::new()
        .route("/healthz", get(|| async { ([(CACHE_CONTROL, "no-store")], "ok\n") }))
        .route("/readyz", get(|State(state): State<GatewayState>| async move { ready(&state) }))
        .merge(metrics)
}

/// Ready is: not stopping, and at least one network that works, by its own evidence.
fn ready(state: &GatewayState) -> Response {
    let (ready, document) = readiness(state);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let rows = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/json")];
    (status, rows, format!("{document:#}\n")).into_response()
}

/// Whether the gateway is ready, and the evidence.
#[must_use]
pub fn readiness(state: &GatewayState) -> (bool, Value) {
    let networks = state.manager.list();
    let works = |network: &ProtocolSnapshot| network.state == "ready" && network.health.state != HealthState::Down;
    let closing = state.closing.is_cancelled();
    let ready = !closing && networks.iter().any(works);
    let network =
        |network: &ProtocolSnapshot| json!({ "kind": network.kind, "state": network.state, "health": network.health });
    let networks: Vec<_> = networks.iter().map(network).collect();
    (ready, json!({ "ready": ready, "closing": closing, "networks": networks }))
}

fn metrics(state: &GatewayState) -> Response {
    let hybrid = state.hybrid.as_deref().map(HybridCounts::of);
    let text = state.telemetry.render(&Readings {
        protocols: &state.manager.list(),
        items: state.catalogue.items().len(),
        hybrid: hybrid.as_ref(),
        ready: readiness(state).0,
        uptime: state.started.elapsed(),
        cache: &(state.cache_status)(),
    });
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}
