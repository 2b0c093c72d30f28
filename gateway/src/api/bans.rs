//! Peers that are banned, each on the evidence against it, and the way to let one in again before its time.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};
use swarmgate_egress::Ban;

use super::shapes::BanList;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Lists who is banned now, and how many ranges of addresses the block lists hold.
#[utoipa::path(
    get,
    path = "/api/v1/bans",
    tag = "networks",
    responses(
        (status = OK, description = "Who is banned, and why", body = BanList),
    ),
)]
pub async fn list(State(state): State<GatewayState>) -> Response {
    let now = Instant::now();
    let bans = state.gate.as_ref().map(|gate| gate.bans(now)).unwrap_or_default();
    let blocked = state.gate.as_ref().map_or(0, swarmgate_egress::PeerGate::blocked_ranges);
    let rows: Vec<_> = bans.iter().map(|ban| row(ban, now)).collect();
    let document = json!({ "bans": rows, "blocked_ranges": blocked });
    std::future::ready(super::json(StatusCode::OK, &document)).await
}

fn row(ban: &Ban, now: Instant) -> Value {
    let peer = ban.port.map_or_else(|| ban.host.to_string(), |port| SocketAddr::new(ban.host, port).to_string());
    json!({
        "peer": peer,
        "transport": ban.way.word(),
        "reason": ban.reason,
        "since_s": now.saturating_duration_since(ban.since).as_secs(),
        "ends_in_s": ban.until.saturating_duration_since(now).as_secs(),
    })
}

/// Lifts the bans of a peer, named as [`list`] names it: an address, with a port or without, for every port of it.
///
/// # Errors
/// 404 when it is not banned, or no address at all.
#[utoipa::path(
    delete,
    path = "/api/v1/bans/{peer}",
    tag = "networks",
    params(("peer" = String, Path, description = "An address, with a port or without")),
    responses(
        (status = NO_CONTENT, description = "It may come back"),
        (status = NOT_FOUND, description = "It is not banned"),
    ),
)]
pub async fn lift(State(state): State<GatewayState>, Path(peer): Path<String>) -> Result<Response, Problem> {
    let with_port = peer.parse::<SocketAddr>().ok().map(|address| (address.ip(), Some(address.port())));
    let named = with_port.or_else(|| Some((peer.parse::<IpAddr>().ok()?, None)));
    let lifted = named.zip(state.gate.as_ref()).map_or(0, |((ip, port), gate)| gate.lift(ip, port));
    let answer = match lifted {
        0 => Err(Problem::new(ProblemKind::NoRoute, "no such peer is banned; GET /api/v1/bans lists those that are")),
        _ => {
            tracing::info!(%peer, "a ban was lifted by the operator");
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    };
    std::future::ready(answer).await
}
