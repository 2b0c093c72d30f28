//! Publishing: `POST /publish` begins a job, `GET /publish/{id}` says how far it is.

use std::path::PathBuf;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;
use swarmgate_hybrid::publish::{MAX_PIECE_BYTES, PublishOptions, TorrentKind};
use utoipa::ToSchema;

use super::items;
use super::shapes::{Job, JobList, TorrentWord};
use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::publish::{Jobs, Refusal, check_urls, is_piece_len};
use crate::state::GatewayState;

/// Trackers and web seeds that one publication may name, of each.
const MAX_URLS: usize = 64;

/// What `POST /publish` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    /// Where the file or folder is, from the root.
    #[schema(value_type = String)]
    path: PathBuf,
    /// What it is called; its own name if absent.
    name: Option<String>,
    /// `hybrid` or `v1`.
    #[serde(default)]
    #[schema(value_type = TorrentWord)]
    torrent: TorrentKind,
    /// Bytes in a piece: a power of two from 16 KiB to 16 MiB. Chosen by the length if absent.
    piece_len: Option<u32>,
    /// URLs of trackers, at most 64.
    #[serde(default)]
    trackers: Vec<String>,
    /// URLs of web seeds (BEP 19), at most 64.
    #[serde(default)]
    web_seeds: Vec<String>,
    /// Whether the data is copied into the cache, rather than served from where it lies.
    #[serde(default)]
    copy: bool,
}

/// Begins to publish: 202, and where to ask how far it is.
///
/// # Errors
/// 403 for a path that the operator has not allowed, 503 while another is published, 400 for what cannot be read.
#[utoipa::path(
    post,
    path = "/api/v1/publish",
    tag = "publishing",
    request_body = PublishRequest,
    responses(
        (status = ACCEPTED, description = "It has begun", body = Job, headers(("Location" = String, description = "The job"))),
        (status = BAD_REQUEST, description = "The body cannot be read"),
        (status = FORBIDDEN, description = "That path may not be published"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = NOT_IMPLEMENTED, description = "IPFS or BitTorrent is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "Another publication is running"),
    ),
)]
pub async fn begin(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let jobs = jobs(&state)?;
    let base = links::origin(&state.options, request.headers());
    let body = items::read(request.into_body(), items::MAX_TEXT_BYTES).await?;
    let options = read(&body)?;
    let id = jobs.begin(options).await.map_err(|refusal| match refusal {
        Refusal::Elsewhere => Problem::new(ProblemKind::PublishRefused, refusal.to_string()),
        Refusal::Busy => Problem::new(ProblemKind::Busy, refusal.to_string()),
    })?;
    let mut response = super::json(StatusCode::ACCEPTED, &jobs.one(id, &base));
    if let Ok(location) = HeaderValue::from_str(&format!("{}/api/v1/publish/{id}", state.options.base_path)) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// Lists the jobs of late.
///
/// # Errors
/// 501 when IPFS or BitTorrent is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/publish",
    tag = "publishing",
    responses(
        (status = OK, description = "The jobs, by number", body = JobList),
        (status = NOT_IMPLEMENTED, description = "IPFS or BitTorrent is switched off"),
    ),
)]
pub async fn list(State(state): State<GatewayState>, headers: HeaderMap) -> Result<Response, Problem> {
    let listed = jobs(&state).map(|jobs| jobs.all(&links::origin(&state.options, &headers)));
    std::future::ready(listed).await.map(|jobs| super::json(StatusCode::OK, &json!({ "jobs": jobs })))
}

/// Shows one job.
///
/// # Errors
/// 404 when there is none.
#[utoipa::path(
    get,
    path = "/api/v1/publish/{id}",
    tag = "publishing",
    params(("id" = String, Path, description = "The number of the job")),
    responses(
        (status = OK, description = "The job", body = Job),
        (status = NOT_FOUND, description = "It was never begun, or is forgotten"),
        (status = NOT_IMPLEMENTED, description = "IPFS or BitTorrent is switched off"),
    ),
)]
pub async fn one(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let base = links::origin(&state.options, &headers);
    let found = jobs(&state).map(|jobs| id.parse().ok().and_then(|id| jobs.one(id, &base)));
    let none = || Problem::new(ProblemKind::NoSuchJob, "it was never begun, or is forgotten");
    std::future::ready(found).await?.map(|job| super::json(StatusCode::OK, &job)).ok_or_else(none)
}

fn jobs(state: &GatewayState) -> Result<&Jobs, Problem> {
    let off =
        || Problem::new(ProblemKind::Unsupported, "publishing needs BitTorrent and IPFS, and one is switched off");
    state.publishing.as_ref().ok_or_else(off)
}

fn read(body: &[u8]) -> Result<PublishOptions, Problem> {
    let bad = |detail: String| Problem::new(ProblemKind::BadBody, detail);
    let wanted: PublishRequest = serde_json::from_slice(body).map_err(|error| bad(error.to_string()))?;
    if wanted.trackers.len() > MAX_URLS || wanted.web_seeds.len() > MAX_URLS {
        return Err(bad(format!("more than {MAX_URLS} trackers or web seeds")));
    }
    check_urls(&wanted.trackers, &wanted.web_seeds).map_err(bad)?;
    if !wanted.piece_len.is_none_or(is_piece_len) {
        return Err(bad("piece_len is a power of two from 16 KiB to 16 MiB".to_owned()));
    }
    Ok(PublishOptions {
        path: wanted.path,
        name: wanted.name,
        torrent: wanted.torrent,
        piece_len: wanted.piece_len,
        longest_chosen: MAX_PIECE_BYTES,
        trackers: wanted.trackers,
        web_seeds: wanted.web_seeds,
        copy: wanted.copy,
    })
}
