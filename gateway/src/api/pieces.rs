//! `GET /items/{id}/pieces`: which pieces of an item are in the cache.

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use super::items::{infohash, no_item};
use super::shapes::Pieces;
use crate::catalogue::PieceMap;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Shows the pieces as runs, `0-12,14`, as BEP 53 writes files.
///
/// # Errors
/// 404 when the item is not known, or is idle, when nobody counts its pieces.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/pieces",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "The pieces that are in the cache", body = Pieces),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known, or is idle"),
    ),
)]
pub async fn one(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    std::future::ready(show(&state, &id)).await
}

fn show(state: &GatewayState, id: &str) -> Result<Response, Problem> {
    let id = infohash(id)?;
    if state.catalogue.item(&id).is_none() {
        return Err(no_item(id));
    }
    let idle = || Problem::new(ProblemKind::NoSuchItem, "it is idle: its pieces are counted while it is read");
    let PieceMap { piece_len, pieces, have } = state.catalogue.pieces(&id).ok_or_else(idle)?;
    let document = json!({ "infohash": id, "piece_len": piece_len, "pieces": pieces, "have": in_runs(&have) });
    Ok(super::json(StatusCode::OK, &document))
}

/// Runs as text, each by its first and last piece.
fn in_runs(have: &[(u32, u32)]) -> String {
    let run = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    have.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_written_as_selections_are() {
        assert_eq!(in_runs(&[(0, 12), (14, 14), (20, 21)]), "0-12,14,20-21");
        assert_eq!(in_runs(&[]), "");
    }
}
