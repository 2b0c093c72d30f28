//! `/items/{id}/pin`: has all of a content fetched and held in the cache, until it is let go. A content is a torrent that
//! is an item, of which some files may be selected, or a DAG of IPFS.

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use swarmgate_content::{Cid, ContentId};
use utoipa::ToSchema;

use super::details;
use super::items::no_item;
use crate::catalogue::ItemStatus;
use crate::error::{Problem, ProblemKind};
use crate::pinning::{Kept, Pinning, PinningError};
use crate::state::GatewayState;

/// What a path's id names.
enum Named {
    Torrent(Box<ItemStatus>),
    Dag(Cid),
}

/// How far the pinning of a content is.
#[derive(Debug, Serialize, ToSchema)]
pub struct PinStatus {
    /// An infohash, or the CID of a root.
    id: String,
    /// `pinned` once all of it is here, of a torrent all that is selected; `pinning` until then.
    state: &'static str,
    /// Bytes of that that are here; of a DAG, those that this attempt has brought.
    have_bytes: u64,
    /// All of that, in bytes, once it is known.
    total_bytes: Option<u64>,
    /// Why the last attempt to fetch it failed. It is tried again.
    error: Option<String>,
}

/// Tells how far the pinning of a content is.
///
/// # Errors
/// 404 when it is not pinned, 501 for a CID where IPFS is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/pin",
    tag = "items",
    params(("id" = String, Path, description = "The infohash of an item, or a CID")),
    responses(
        (status = OK, description = "It is pinned, or on its way to be", body = PinStatus),
        (status = BAD_REQUEST, description = "That is neither an infohash nor a CID"),
        (status = NOT_FOUND, description = "The item is not known, or it is not pinned"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be read"),
    ),
)]
pub async fn show(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let found = match named(&state, &id)? {
        Named::Torrent(item) => item.pinned.then(|| of_item(&item)),
        Named::Dag(root) => pinning(&state)?.get(&root).await.map_err(failed)?.map(|kept| of_dag(&root, kept)),
    };
    found.map(|status| super::json(StatusCode::OK, &status)).ok_or_else(not_pinned)
}

/// Pins a content: all of it is fetched, nothing of it is evicted, and a restart goes on with it. 200 when all of it is here,
/// 202 while it is being fetched.
///
/// # Errors
/// 404 for a torrent that is no item, 507 when the cache is too small for it, 501 for a CID where IPFS is switched off.
#[utoipa::path(
    put,
    path = "/api/v1/items/{id}/pin",
    tag = "items",
    params(("id" = String, Path, description = "The infohash of an item, or a CID")),
    responses(
        (status = OK, description = "All of it is here, and stays", body = PinStatus),
        (status = ACCEPTED, description = "It is being fetched", body = PinStatus),
        (status = BAD_REQUEST, description = "That is neither an infohash nor a CID"),
        (status = NOT_FOUND, description = "The item is not known"),
        (status = GONE, description = "This gateway does not serve it"),
        (status = 451, description = "This gateway may not serve it"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "Too many contents wait to be pinned, or the list cannot be written"),
        (status = INSUFFICIENT_STORAGE, description = "The cache has no room for what is missing of it"),
    ),
)]
pub async fn pin(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let status = match named(&state, &id)? {
        Named::Torrent(item) => {
            state.denylists.check_content(&ContentId::BtV1(item.infohash), "")?;
            let known = state.catalogue.set_pinned(&item.infohash, true).await?;
            let item = state.catalogue.item(&item.infohash).filter(|_| known).ok_or_else(|| no_item(item.infohash))?;
            of_item(&item)
        }
        Named::Dag(root) => {
            state.denylists.admitted().check_pin(&root, &state.store)?;
            state.denylists.check_content(&ContentId::Ipfs(root), "")?;
            of_dag(&root, pinning(&state)?.keep(root).await.map_err(refused)?)
        }
    };
    let code = if status.state == "pinned" { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(super::json(code, &status))
}

/// Lets a pinned content go: what is cached of it stays until the room is needed. A torrent stays an item.
///
/// # Errors
/// 404 when it is not pinned, 501 for a CID where IPFS is switched off.
#[utoipa::path(
    delete,
    path = "/api/v1/items/{id}/pin",
    tag = "items",
    params(("id" = String, Path, description = "The infohash of an item, or a CID")),
    responses(
        (status = NO_CONTENT, description = "It may be evicted again"),
        (status = BAD_REQUEST, description = "That is neither an infohash nor a CID"),
        (status = NOT_FOUND, description = "The item is not known, or it is not pinned"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be written"),
    ),
)]
pub async fn unpin(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let was_pinned = match named(&state, &id)? {
        Named::Torrent(item) => item.pinned && state.catalogue.set_pinned(&item.infohash, false).await?,
        Named::Dag(root) => pinning(&state)?.let_go(&root).await.map_err(failed)?,
    };
    if was_pinned { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(not_pinned()) }
}

fn named(state: &GatewayState, id: &str) -> Result<Named, Problem> {
    match (ContentId::parse_torrent(id), id.parse::<Cid>()) {
        (Err(_), Ok(root)) => Ok(Named::Dag(root)),
        (Ok(_) | Err(_), _) => details::item(state, id).map(|item| Named::Torrent(Box::new(item))),
    }
}

pub(super) fn pinning(state: &GatewayState) -> Result<&Pinning, Problem> {
    let off = || Problem::new(ProblemKind::Unsupported, "IPFS is switched off at this gateway");
    state.pinning.as_ref().ok_or_else(off)
}

fn of_item(item: &ItemStatus) -> PinStatus {
    let (have_bytes, total_bytes) = item.progress();
    let whole = total_bytes.is_some_and(|total| have_bytes >= total);
    PinStatus {
        id: item.infohash.to_string(),
        state: if whole { "pinned" } else { "pinning" },
        have_bytes,
        total_bytes,
        error: item.last_error.clone(),
    }
}

fn of_dag(root: &Cid, kept: Kept) -> PinStatus {
    let id = root.to_string();
    match kept {
        Kept::Pinned(pin) => {
            PinStatus { id, state: "pinned", have_bytes: pin.bytes, total_bytes: Some(pin.bytes), error: None }
        }
        Kept::Wanted { taken, error, is_active: _ } => {
            PinStatus { id, state: "pinning", have_bytes: taken.bytes, total_bytes: None, error }
        }
    }
}

pub(super) fn not_pinned() -> Problem {
    Problem::new(ProblemKind::NoSuchItem, "it is not pinned")
}

pub(super) fn refused(error: PinningError) -> Problem {
    match error {
        PinningError::TooMany | PinningError::TooManyRequests | PinningError::TooManyCars => {
            Problem::new(ProblemKind::Busy, error.to_string())
        }
        PinningError::Pins(error) => failed(*error),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
pub(super) fn failed(error: swarmgate_ipfs::pins::PinError) -> Problem {
    tracing::warn!(%error, "the list of pins cannot be read or written");
    Problem::new(ProblemKind::CacheFailed, "the list of pins cannot be read or written")
}
