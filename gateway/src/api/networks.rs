//! The networks that contents are fetched over, and the switches that an operator may turn while the gateway runs.
//!
//! A switch says whether anybody of a network is asked for what is not here; it stops no peers, ends no stream that
//! reads from that network alone, and is forgotten when the process ends: lasting choices are options.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use swarmgate_hybrid::HybridProtocol;
use swarmgate_hybrid_rules::Network;
use utoipa::ToSchema;

use super::shapes::{NetworkList, NetworkRow};
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Largest body taken, in bytes.
const MAX_BODY_BYTES: usize = 1024;

/// What `PATCH /networks/{network}` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    /// Whether it may be asked.
    enabled: bool,
}

/// Lists the networks: whether each may be asked, and what it has delivered of contents that several have.
///
/// # Errors
/// 501 when contents are not fetched over several networks at all.
#[utoipa::path(
    get,
    path = "/api/v1/networks",
    tag = "networks",
    responses(
        (status = OK, description = "The networks", body = NetworkList),
        (status = NOT_IMPLEMENTED, description = "Contents are not fetched over several networks here"),
    ),
)]
pub async fn list(State(state): State<GatewayState>) -> Result<Response, Problem> {
    let rows = |hybrid| Network::ALL.into_iter().map(|network| row(hybrid, network)).collect::<Vec<_>>();
    let rows = hybrid(&state).map(rows);
    std::future::ready(rows).await.map(|rows| super::json(StatusCode::OK, &json!({ "networks": rows })))
}

/// Switches a network on or off, and answers with its row.
///
/// # Errors
/// 404 for a network that there is not, 501 for one that has no switch of its own, 400 for another body than `{"enabled": true}` or false.
#[utoipa::path(
    patch,
    path = "/api/v1/networks/{network}",
    tag = "networks",
    params(("network" = String, Path, description = "bt, ipfs or http")),
    request_body = Change,
    responses(
        (status = OK, description = "The network", body = NetworkRow),
        (status = BAD_REQUEST, description = "Another body"),
        (status = NOT_FOUND, description = "There is no such network"),
        (status = NOT_IMPLEMENTED, description = "It has no switch of its own, or there is none here"),
    ),
)]
pub async fn change(
    State(state): State<GatewayState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let named = Network::ALL.into_iter().find(|network| network.word() == name);
    let none = || Problem::new(ProblemKind::NoRoute, "the networks are bt, webrtc, ipfs and http");
    let network = named.ok_or_else(none)?;
    if network == Network::WebTorrent {
        let detail = "WebRTC peers are in the swarms of bt, and are switched with them";
        return Err(
            Problem::new(ProblemKind::Unsupported, detail).hint("an option keeps them away: webtorrent.enabled")
        );
    }
    let Change { enabled } = read(request.into_body()).await?;
    let hybrid = hybrid(&state)?;
    hybrid.switch(network, enabled);
    tracing::info!(network = network.word(), enabled, "a network was switched by the operator");
    Ok(super::json(StatusCode::OK, &row(hybrid, network)))
}

fn hybrid(state: &GatewayState) -> Result<&HybridProtocol, Problem> {
    let off = || Problem::new(ProblemKind::Unsupported, "contents are not fetched over several networks here");
    state.hybrid.as_deref().ok_or_else(off)
}

fn row(hybrid: &HybridProtocol, network: Network) -> Value {
    let totals = hybrid.totals();
    let switched = if network == Network::WebTorrent { Network::BitTorrent } else { network };
    json!({
        "network": network,
        "enabled": hybrid.switches().get(&switched),
        "lasts": "until the process ends",
        "useful_bytes": totals.useful.get(&network).copied().unwrap_or_default(),
        "wasted_bytes": totals.wasted.get(&network).copied().unwrap_or_default(),
    })
}

async fn read(body: Body) -> Result<Change, Problem> {
    let bad = |detail: String| Problem::new(ProblemKind::BadBody, detail);
    let bytes = Limited::new(body, MAX_BODY_BYTES).collect().await.map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(|error| bad(format!("send {{\"enabled\": false}}: {error}")))
}
