//! What is done with one item: it is paused and resumed, given trackers and peers, and its trackers are asked again.

use std::net::SocketAddr;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use swarmgate_bittorrent_proto::metainfo::MAX_URL_BYTES;
use url::Url;
use utoipa::ToSchema;

use super::details::{self, tracker_list};
use super::items::{MAX_TEXT_BYTES, bad_body, no_item, read};
use super::shapes::{PeersAdded, TrackerList};
use crate::catalogue::ItemStatus;
use crate::error::Problem;
use crate::state::GatewayState;

/// Trackers that one request may name.
const MAX_TRACKERS: usize = 32;
/// Peers that one request may name.
const MAX_PEERS: usize = 200;

/// What `POST /items/{id}/trackers` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TrackersRequest {
    /// URLs of `http`, `https`, `udp`, `ws` or `wss`; at most 32.
    #[schema(min_items = 1, max_items = 32)]
    urls: Vec<String>,
}

/// What `POST /items/{id}/peers` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PeersRequest {
    /// Addresses with ports, as `10.0.0.7:6881` and `[2001:db8::7]:6881`; at most 200.
    #[schema(min_items = 1, max_items = 200)]
    peers: Vec<String>,
}

/// A peer that is not dialled.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedPeer {
    /// Its address.
    peer: String,
    /// Which rule refuses it.
    why: String,
}

/// Gives an item more trackers, and lists all that it has.
///
/// # Errors
/// 404 when the item is not known, 409 when it is private, 400 for what is no URL of a tracker.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/trackers",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    request_body = TrackersRequest,
    responses(
        (status = OK, description = "Its trackers, the new ones among them", body = TrackerList),
        (status = BAD_REQUEST, description = "That is no infohash, or the body names no tracker"),
        (status = NOT_FOUND, description = "The item is not known"),
        (status = CONFLICT, description = "It is private: its own trackers alone are asked"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
    ),
)]
pub async fn add_trackers(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let item = details::item(&state, &id)?;
    let TrackersRequest { urls } = body(request).await?;
    if urls.is_empty() || urls.len() > MAX_TRACKERS {
        return Err(bad_body(format!("urls has between 1 and {MAX_TRACKERS} trackers")));
    }
    if let Some(at) = urls.iter().position(|url| !is_tracker(url)) {
        return Err(bad_body(format!("urls[{at}] is no http, https, udp, ws or wss URL of a tracker")));
    }
    state.catalogue.add_trackers(&item.infohash, urls).await?;
    Ok(super::json(StatusCode::OK, &tracker_list(&state, item.infohash)))
}

/// Has peers of an item dialled, where the gateway may dial them.
///
/// # Errors
/// 404 when the item is not known, 409 when it is private, 400 for what is no address, 503 when no more items may be active.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/peers",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    request_body = PeersRequest,
    responses(
        (status = ACCEPTED, description = "They are dialled, but for those that may not be", body = PeersAdded),
        (status = BAD_REQUEST, description = "That is no infohash, or the body has no addresses"),
        (status = NOT_FOUND, description = "The item is not known"),
        (status = CONFLICT, description = "It is private, so that its own trackers say who its peers are; or it is paused"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = SERVICE_UNAVAILABLE, description = "No more items may be active"),
    ),
)]
pub async fn add_peers(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let item = details::item(&state, &id)?;
    let PeersRequest { peers } = body(request).await?;
    if peers.is_empty() || peers.len() > MAX_PEERS {
        return Err(bad_body(format!("peers has between 1 and {MAX_PEERS} addresses")));
    }
    let parsed: Vec<SocketAddr> =
        peers.iter().filter_map(|peer| peer.parse().ok()).filter(|peer: &SocketAddr| peer.port() != 0).collect();
    if parsed.len() < peers.len() {
        return Err(bad_body("peers are IP addresses with ports, as 10.0.0.7:6881 or [2001:db8::7]:6881"));
    }
    let named = parsed.len();
    let refused = state.catalogue.add_peers(&item.infohash, parsed).await?;
    let added = named - refused.len();
    let refused: Vec<_> = refused.into_iter().map(|(peer, why)| RefusedPeer { peer: peer.to_string(), why }).collect();
    Ok(super::json(StatusCode::ACCEPTED, &json!({ "infohash": item.infohash, "added": added, "refused": refused })))
}

/// Asks an item's trackers now. One that says how long to wait between questions is asked when that is over: `next_s` tells.
///
/// # Errors
/// 404 when the item is not known, 503 when no more items may be active.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/announce",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = ACCEPTED, description = "Its trackers, and when each is asked", body = TrackerList),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
        (status = CONFLICT, description = "It is paused"),
        (status = SERVICE_UNAVAILABLE, description = "No more items may be active"),
    ),
)]
pub async fn announce(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = details::item(&state, &id)?;
    state.catalogue.announce(&item.infohash).await?;
    Ok(super::json(StatusCode::ACCEPTED, &tracker_list(&state, item.infohash)))
}

/// Pauses an item: it asks nobody and serves nobody in its swarm, over restarts too. What the cache has of it is read all
/// the same; of the rest a reader is told at once that it is not there.
///
/// # Errors
/// 404 when the item is not known.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/pause",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "The item, which is paused", body = ItemStatus),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
    ),
)]
pub async fn pause(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    set_paused(&state, &id, true).await
}

/// Has a paused item ask and serve others again, as soon as it has a place among those that are active.
///
/// # Errors
/// 404 when the item is not known.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/resume",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "The item, which is paused no longer", body = ItemStatus),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
    ),
)]
pub async fn resume(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    set_paused(&state, &id, false).await
}

async fn set_paused(state: &GatewayState, id: &str, paused: bool) -> Result<Response, Problem> {
    let item = details::item(state, id)?;
    if !state.catalogue.set_paused(&item.infohash, paused).await {
        return Err(no_item(item.infohash));
    }
    Ok(super::json(StatusCode::OK, &details::item(state, id)?))
}

/// Reads a body of JSON.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let bytes = read(request.into_body(), MAX_TEXT_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| bad_body(error.to_string()))
}

/// Whether text may be a tracker's URL. Whether it may be contacted is found out when it is.
fn is_tracker(url: &str) -> bool {
    let fits = url.len() <= MAX_URL_BYTES && !url.contains(|letter: char| letter.is_control() || letter == ' ');
    let parsed = Url::parse(url).ok().filter(|_| fits);
    parsed.is_some_and(|url| url.has_host() && matches!(url.scheme(), "http" | "https" | "udp" | "ws" | "wss"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trackers_url_has_a_scheme_that_is_spoken_and_a_host() {
        for url in ["udp://t.example:1337/announce", "HTTPS://t.example/a?passkey=x", "wss://t.example"] {
            assert!(is_tracker(url), "{url}");
        }
        let long = format!("http://t.example/{}", "x".repeat(MAX_URL_BYTES));
        for url in ["", "t.example", "file:///etc/passwd", "ftp://t.example/", "udp:announce", "http://a b/", &long] {
            assert!(!is_tracker(url), "{url}");
        }
    }
}
