//! `/torrent?url=…`: a `.torrent` file on the web, fetched, added and listed.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use swarmgate_content::ContentId;
use url::{Url, form_urlencoded};

use crate::catalogue::Added;
use crate::error::{Problem, ProblemKind};
use crate::server::Peer;
use crate::state::{FetchTorrentError, Gateway, GatewayState};
use crate::{links, rates};

/// Largest `.torrent` file fetched from a URL, in bytes: 10 MiB describes a content of some 10 TiB.
pub const MAX_FETCHED_BYTES: usize = 10 * 1024 * 1024;

/// Answers a GET or HEAD.
///
/// # Errors
/// 403 when switched off, or the URL or what it gives is refused, 400 without a URL, 422 when what it gives is no torrent,
/// 429 when the client has asked for too much that is new.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut parameters = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let Some((_, url)) = parameters.find(|(name, _)| name == "url") else {
        return Err(Problem::new(ProblemKind::BadQuery, "url= names the .torrent file to fetch"));
    };
    let _slot = state.admission.admit(parts.extensions.get::<Peer>().map(|peer| peer.address.ip()))?;
    if let Some(stranger) = rates::stranger_of(&state.options, &parts.extensions) {
        state.rates.new_item(stranger, Instant::now())?;
    }
    let added = add(&state, &url, false).await?;
    let listing = links::listing(&state.options, &ContentId::BtV1(added.id));
    Ok(links::redirect(StatusCode::SEE_OTHER, &listing))
}

/// Fetches a `.torrent` file and adds it.
///
/// # Errors
/// As [`get`].
pub async fn add(gateway: &Gateway, url: &str, keep: bool) -> Result<Added, Problem> {
    if !gateway.options.torrent_url_enabled {
        let detail = "the operator has not allowed it";
        return Err(Problem::new(ProblemKind::TorrentUrlDisabled, detail).hint("send the file to POST /api/v1/items"));
    }
    let url = Url::parse(url).map_err(|error| Problem::new(ProblemKind::BadQuery, format!("the URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Problem::new(ProblemKind::TorrentUrlRefused, "only http and https URLs are fetched"));
    }
    let bytes = gateway.fetch_torrent.fetch(&url, MAX_FETCHED_BYTES).await.map_err(problem)?;
    gateway.denylists.admitted().check_file(&bytes, keep, &*gateway.catalogue)?;
    Ok(gateway.catalogue.add_torrent(bytes, keep).await?)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn problem(error: FetchTorrentError) -> Problem {
    let kind = match error {
        FetchTorrentError::Refused { .. } => ProblemKind::TorrentUrlRefused,
        FetchTorrentError::SwitchedOff => ProblemKind::Unsupported,
        FetchTorrentError::TooLarge { .. } => ProblemKind::InvalidTorrent,
        FetchTorrentError::TimedOut => ProblemKind::TimedOut,
        FetchTorrentError::Failed { .. } => ProblemKind::TorrentUrlFailed,
    };
    Problem::new(kind, error.to_string())
}
