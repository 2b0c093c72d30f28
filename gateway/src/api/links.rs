//! `POST /links`: links that need no credentials, for players and other people.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::items;
use super::shapes::SignedLink;
use crate::auth::link::{MAX_TTL, Place, Reach};
use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::state::GatewayState;

/// What `POST /links` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    /// What to link to, as `/bt/<infohash>/film.mkv`, with a query perhaps.
    path: String,
    /// How long it works, in seconds; as the configuration has it when not given.
    ttl_s: Option<u64>,
    /// What it is good for; what the path names when not given.
    kind: Option<Kind>,
}

/// What a link is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The file alone.
    File,
    /// All of its content.
    Content,
}

/// Makes a link: 200 with `url`, `path` and `expires`, in seconds since 1970.
///
/// # Errors
/// 400 for what no link can be made to, and for a time that is too long.
#[utoipa::path(
    post,
    path = "/api/v1/links",
    tag = "gateway",
    request_body = LinkRequest,
    responses(
        (status = OK, description = "The link", body = SignedLink),
        (status = BAD_REQUEST, description = "No link can be made to that, or not for so long"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
    ),
)]
pub async fn make(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let origin = links::origin(&state.options, request.headers());
    let body = items::read(request.into_body(), items::MAX_TEXT_BYTES).await?;
    let wanted: LinkRequest = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(ProblemKind::BadBody, format!("send {{\"path\": …}}: {error}")))?;
    let ttl = wanted.ttl_s.map_or(state.options.link_ttl, Duration::from_secs);
    if ttl.is_zero() || ttl > MAX_TTL {
        let detail = format!("a link works for 1 to {} seconds", MAX_TTL.as_secs());
        return Err(Problem::new(ProblemKind::BadBody, detail));
    }
    let below = links::below_base(&wanted.path, &state.options.base_path);
    let (path, query) = below.split_once('?').map_or((below, None), |(path, query)| (path, Some(query)));
    let Some(place) = Place::of(path, query).filter(|_| !below.contains(|c: char| c.is_control() || c == '#')) else {
        let detail = "links can be made to paths of content, as /bt/… and /ipfs/…";
        return Err(Problem::new(ProblemKind::BadBody, detail));
    };
    let reach: Reach = if wanted.kind == Some(Kind::Content) { place.content() } else { place.file() };
    let expires = state.options.clock.seconds() + ttl.as_secs();
    let signed = links::signed(below, &state.link_key.sign(&reach, expires));
    let path = format!("{}{signed}", state.options.base_path);
    Ok(super::json(StatusCode::OK, &json!({ "url": format!("{origin}{signed}"), "path": path, "expires": expires })))
}
