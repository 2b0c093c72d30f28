//! What the gateway is and how it fares.

use std::time::Instant;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use swarmgate_content::ProtocolSnapshot;
use swarmgate_portmap::{Forwarding, MappingStatus};

use super::shapes::{Status, Version};
use crate::catalogue::ItemStatus;
use crate::state::GatewayState;

/// Tells what runs.
#[utoipa::path(
    get,
    path = "/api/v1/version",
    tag = "gateway",
    responses(
        (status = OK, description = "What runs", body = Version),
    ),
)]
pub async fn version() -> Response {
    let document = json!({ "name": "swarmgate", "version": env!("CARGO_PKG_VERSION"), "api": "v1" });
    std::future::ready(super::json(StatusCode::OK, &document)).await
}

/// Tells how the gateway fares: totals, networks with their health and counters, the cache.
#[utoipa::path(
    get,
    path = "/api/v1/status",
    tag = "gateway",
    responses(
        (status = OK, description = "How it fares", body = Status),
    ),
)]
pub async fn status(State(state): State<GatewayState>) -> Response {
    std::future::ready(super::json(StatusCode::OK, &document(&state))).await
}

/// Totals, networks with their health and counters, the cache.
#[must_use]
pub fn document(state: &GatewayState) -> Value {
    let items = state.catalogue.items();
    let networks: Vec<_> = state.manager.list().iter().map(network).collect();
    let sum = |of: fn(&ItemStatus) -> u64| items.iter().map(of).fold(0, u64::saturating_add);
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_s": state.started.elapsed().as_secs(),
        "ready": crate::routes::ops::readiness(state).0,
        "networks": networks,
        "totals": {
            "items": items.len(),
            "active": items.iter().filter(|item| item.state == "active").count(),
            "peers": items.iter().map(|item| item.peers).sum::<usize>(),
            "download_rate": sum(|item| item.download_rate),
            "upload_rate": sum(|item| item.upload_rate),
        },
        "http": {
            "streams_open": state.telemetry.streams_open(),
            "requests_under_way": state.admission.taken(),
            "stream_bytes": state.telemetry.stream_bytes(),
        },
        "port_mapping": state.mapping.as_ref().map(|status| mapping(&status.borrow(), Instant::now())),
        "cache": (state.cache_status)(),
    })
}

/// What the router forwards: each port here, where it is outside and for how long; and what keeps others from it.
fn mapping(status: &MappingStatus, now: Instant) -> Value {
    let row = |held: &Forwarding| {
        json!({
            "transport": held.wanted.transport,
            "port": held.wanted.port,
            "outside_port": held.port,
            "outside_address": held.address,
            "expires_in_s": held.until.saturating_duration_since(now).as_secs(),
        })
    };
    json!({
        "router": status.router,
        "by": status.way,
        "ports": status.forwardings.iter().map(row).collect::<Vec<_>>(),
        "trouble": status.trouble,
    })
}

fn network(snapshot: &ProtocolSnapshot) -> Value {
    let mut document = serde_json::to_value(snapshot).unwrap_or_default();
    if let Value::Object(fields) = &mut document {
        fields.insert("since_s".to_owned(), json!(snapshot.since.elapsed().as_secs()));
    }
    document
}
