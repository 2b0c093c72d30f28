//! The networks that contents are fetched over, and the switches that an operator may turn while the gateway runs.
//!
//! A switch says whether anybody of a network is asked for what is not here; it stops no peers, ends no stream that
//! reads from that network alone, and is forgotten when the process ends: lasting choices are options. That of `webrtc` is
//! another: browsers are peers of `bt`'s swarms, so they are kept apart by ending their connections.

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use swarmgate_hybrid::HybridProtocol;
use swarmgate_hybrid_rules::Network;
use swarmgate_webtorrent::WebTorrentProtocol;
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
    let rows = |hybrid| Network::ALL.into_iter().map(|network| row(&state, hybrid, network)).collect::<Vec<_>>();
    let rows = hybrid(&state).map(rows);
    std::future::ready(rows).await.map(|rows| super::json(StatusCode::OK, &json!({ "networks": rows })))
}

/// Switches a network on or off, and answers with its row.
///
/// # Errors
/// 404 for a network that there is not, 501 where it or all switches are missing, 400 for another body than `{"enabled": true}` or false.
#[utoipa::path(
    patch,
    path = "/api/v1/networks/{network}",
    tag = "networks",
    params(("network" = String, Path, description = "bt, webrtc, ipfs or http")),
    request_body = Change,
    responses(
        (status = OK, description = "The network", body = NetworkRow),
        (status = BAD_REQUEST, description = "Another body"),
        (status = NOT_FOUND, description = "There is no such network"),
        (status = NOT_IMPLEMENTED, description = "The configuration has it switched off, or there are no switches here"),
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
    let Change { enabled } = read(request.into_body()).await?;
    let hybrid = hybrid(&state)?;
    match network {
        Network::WebTorrent => browsers(&state)?.switch(enabled),
        Network::BitTorrent | Network::Ipfs | Network::Http => hybrid.switch(network, enabled),
    }
    tracing::info!(network = network.word(), enabled, "a network was switched by the operator");
    Ok(super::json(StatusCode::OK, &row(&state, hybrid, network)))
}

fn hybrid(state: &GatewayState) -> Result<&HybridProtocol, Problem> {
    let off = || Problem::new(ProblemKind::Unsupported, "contents are not fetched over several networks here");
    state.hybrid.as_deref().ok_or_else(off)
}

fn browsers(state: &GatewayState) -> Result<&WebTorrentProtocol, Problem> {
    let off = || {
        let problem = Problem::new(ProblemKind::Unsupported, "the configuration has WebRTC switched off");
        problem.hint("an option switches it on, and a restart: webtorrent.enabled")
    };
    state.webtorrent.as_deref().ok_or_else(off)
}

fn row(state: &GatewayState, hybrid: &HybridProtocol, network: Network) -> Value {
    let (totals, switches) = (hybrid.totals(), hybrid.switches());
    let is_on = |network: Network| switches.get(&network).copied().unwrap_or_default();
    // Peers over WebRTC are asked for what their swarms are asked for.
    let enabled = match network {
        Network::WebTorrent => {
            is_on(Network::BitTorrent) && state.webtorrent.as_ref().is_some_and(|browsers| browsers.is_on())
        }
        Network::BitTorrent | Network::Ipfs | Network::Http => is_on(network),
    };
    json!({
        "network": network,
        "enabled": enabled,
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
