//! The peers of one item, and how each is reached.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::items::{infohash, no_item};
use super::shapes::Peers;
use crate::error::Problem;
use crate::state::GatewayState;

/// Lists an item's connected peers; none when it is idle.
///
/// # Errors
/// 404 when it is not known.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/peers",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "Those that are connected", body = Peers),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
    ),
)]
pub async fn list(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let peers = infohash(&id).and_then(|id| {
        let known = state.catalogue.item(&id).is_some();
        known.then(|| state.catalogue.peers(&id)).ok_or_else(|| no_item(id))
    });
    std::future::ready(peers).await.map(|peers| super::json(StatusCode::OK, &json!({ "peers": peers })))
}
