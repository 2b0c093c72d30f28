//! The peers of one item, and how each is reached.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::items::{infohash, no_item};
use crate::error::Problem;
use crate::state::GatewayState;

/// Lists an item's connected peers; none when it is idle.
///
/// # Errors
/// 404 when it is not known.
pub async fn list(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let peers = infohash(&id).and_then(|id| {
        let known = state.catalogue.item(&id).is_some();
        known.then(|| state.catalogue.peers(&id)).ok_or_else(|| no_item(id))
    });
    std::future::ready(peers).await.map(|peers| super::json(StatusCode::OK, &json!({ "peers": peers })))
}
