//! Items: add, look at, change, remove.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use serde_json::json;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{ContentId, InfoHash};
use url::form_urlencoded;

use super::choices::{AddRequest, ChangeRequest, Wishes};
use super::dags;
use super::shapes::{AddedItem, DataOfItem, Rechecked};
use super::waiting::Waiting;
use crate::catalogue::{Added, ItemStatus};
use crate::error::{Problem, ProblemKind};
use crate::routes::torrent_url;
use crate::state::GatewayState;
use crate::{links, query, rates};

/// Largest `.torrent` file taken, in bytes: 32 MiB. The operator's own tools send it, so it may be larger than what
/// strangers' URLs give.
pub(super) const MAX_TORRENT_BYTES: usize = 32 * 1024 * 1024;

/// Largest JSON or text body taken, in bytes: 64 KiB holds a magnet of any sense.
pub(super) const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The type of a CAR: what is added by one are DAGs of IPFS.
pub(super) const CAR: &str = "application/vnd.ipld.car";

/// Longest time a body may take to arrive.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// Adds an item: 201 when its files are known, 202 when they are being looked for, 200 when it was there. With `wait` it is
/// answered when they are known, or when that time is over. A CAR's blocks are taken in as they come, however many they are,
/// and its roots are pinned: 201.
///
/// # Errors
/// 415 for a body of another type, 413 for one too large, 400 or 422 for one that describes no torrent and is no CAR, 403 for what is not
/// served here, 429 for a stranger that has added too much, 429 or 503 when as many requests wait as may.
#[utoipa::path(
    post,
    path = "/api/v1/items",
    tag = "items",
    params(
        ("pin" = Option<bool>, Query, description = "With a body of text or a .torrent: true has all of it fetched and held in the cache, false has it forgotten when idle; it stays if this is absent. What a CAR brings is pinned, and false refused"),
        ("allow_missing" = Option<bool>, Query, description = "With a CAR: whether its roots are pinned though blocks below them are neither in it nor here"),
        ("select" = Option<String>, Query, description = "With a body of text or a .torrent: the files that are fetched and held while it is pinned, as 0,2,4-7; all, or what a magnet says, if this is absent"),
    ),
    request_body(description = "JSON; or a magnet, an infohash or a URL as text; or a .torrent; or a CAR", content((AddRequest = "application/json"), (String = "text/plain"), (Vec<u8> = "application/x-bittorrent"), (Vec<u8> = "application/vnd.ipld.car"))),
    responses(
        (status = OK, description = "It was there", body = ItemStatus, headers(("Location" = String, description = "The item"))),
        (status = CREATED, description = "Its files are known; or the roots of a CAR are pinned", body = AddedItem, headers(("Location" = Option<String>, description = "The item; none of a CAR"))),
        (status = ACCEPTED, description = "Its files are being looked for", body = ItemStatus, headers(("Location" = String, description = "The item"))),
        (status = BAD_REQUEST, description = "The body or a parameter cannot be read"),
        (status = FORBIDDEN, description = "The URL leads to where the gateway may not be sent, or the content is none that this gateway serves"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB, or a .torrent of more than 32 MiB"),
        (status = UNSUPPORTED_MEDIA_TYPE, description = "A body of another type"),
        (status = GONE, description = "This gateway does not serve a root of the CAR"),
        (status = 451, description = "This gateway may not serve a root of the CAR"),
        (status = UNPROCESSABLE_ENTITY, description = "It describes no torrent, or one that has none of the files that are selected; or it is no whole CAR"),
        (status = NOT_IMPLEMENTED, description = "BitTorrent is switched off, or, for a CAR, IPFS"),
        (status = BAD_GATEWAY, description = "The .torrent could not be fetched"),
        (status = SERVICE_UNAVAILABLE, description = "The limit on items is reached; or that on streams, of which one that waits is one; or that on CARs, two at once"),
        (status = INSUFFICIENT_STORAGE, description = "The cache can take no more"),
    ),
)]
pub async fn add(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    if let Some(stranger) = rates::stranger_of(&state.options, &parts.extensions) {
        state.rates.new_item(stranger, Instant::now())?;
    }
    let content_type = parts.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut waiting = None;
    let (mut added, wishes) = match essence.as_str() {
        "application/x-bittorrent" => {
            let (bytes, wishes) = (read(body, MAX_TORRENT_BYTES).await?, Wishes::of_query(&parts.uri)?);
            state.denylists.admitted().check_file(&bytes, wishes.stay(), &*state.catalogue)?;
            (state.catalogue.add_torrent(bytes, wishes.stay()).await?, wishes)
        }
        "application/json" => {
            let bytes = read(body, MAX_TEXT_BYTES).await?;
            let wanted: AddRequest = serde_json::from_slice(&bytes).map_err(|error| bad_body(error.to_string()))?;
            let (uri, mut wishes) = wanted.read()?;
            waiting = Waiting::begin(&state, wishes.wait, &parts.extensions)?;
            (add_uri(&state, &uri, &mut wishes).await?, wishes)
        }
        CAR => return dags::take_car(&state, &parts.uri, body).await,
        "text/plain" | "text/uri-list" => {
            let (bytes, mut wishes) = (read(body, MAX_TEXT_BYTES).await?, Wishes::of_query(&parts.uri)?);
            let text = std::str::from_utf8(&bytes).map_err(|_| bad_body("the text is not UTF-8"))?;
            (add_uri(&state, text, &mut wishes).await?, wishes)
        }
        _ => {
            let detail = "send application/json, application/x-bittorrent, application/vnd.ipld.car or text/plain";
            return Err(Problem::new(ProblemKind::UnsupportedMediaType, detail));
        }
    };
    if let Err(problem) = wishes.grant(&state, &added.id).await {
        // A torrent without the files that it is added for is not added. A magnet whose files are known only now stays.
        let is_new = added.metadata_known && !added.already;
        if is_new && problem.kind() == ProblemKind::NothingSelected {
            state.catalogue.remove(&added.id, false).await;
        }
        return Err(problem);
    }
    if let Some(waiting) = waiting
        && !added.metadata_known
    {
        added.metadata_known = waiting.files_known(&state, &added.id).await;
    }
    Ok(answer(&state, added))
}

/// Adds what a URI names. A magnet that is new says itself which of its files are meant, unless the wishes do.
async fn add_uri(state: &GatewayState, uri: &str, wishes: &mut Wishes) -> Result<Added, Problem> {
    let (uri, keep) = (uri.trim(), wishes.stay());
    let scheme = uri.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    let magnet = match scheme.as_deref() {
        Some("http" | "https") => return torrent_url::add(state, uri, keep).await,
        Some("magnet") => Magnet::parse(uri).map_err(|error| invalid(error.to_string()))?,
        Some(_) | None => query::topic(&ContentId::parse_torrent(uri).map_err(|error| invalid(error.to_string()))?),
    };
    state.denylists.admitted().check_magnet(&magnet, keep, &*state.catalogue)?;
    let named = magnet.v1.or_else(|| magnet.v2.map(|v2| v2.truncated()));
    let stays = named.and_then(|id| state.catalogue.item(&id)).is_some_and(|item| item.kept);
    if wishes.select.is_none() && !stays {
        wishes.select = magnet.select.clone().map(Some);
    }
    Ok(state.catalogue.add_magnet(&magnet, keep)?)
}

fn answer(state: &GatewayState, added: Added) -> Response {
    let status = match added {
        Added { already: true, .. } => StatusCode::OK,
        Added { metadata_known: true, .. } => StatusCode::CREATED,
        Added { .. } => StatusCode::ACCEPTED,
    };
    let mut response = match state.catalogue.item(&added.id) {
        Some(item) => super::json(status, &item),
        None => super::json(status, &json!({ "infohash": added.id })),
    };
    if let Ok(location) = HeaderValue::from_str(&links::item(&state.options, &added.id)) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Reads a whole body of bounded size in bounded time.
pub(super) async fn read(body: Body, max_bytes: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(UPLOAD_TIME, Limited::new(body, max_bytes).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Problem::new(ProblemKind::BodyTooLarge, format!("at most {max_bytes} bytes are read")))
        }
        Ok(Err(_)) => Err(bad_body("it ended early")),
        Err(_) => Err(bad_body(format!("it did not arrive within {UPLOAD_TIME:?}"))),
    }
}

/// Shows one item.
///
/// # Errors
/// 404 when it is not known.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "The item", body = ItemStatus),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "It was never added, or was removed"),
    ),
)]
pub async fn one(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let found = infohash(&id).and_then(|id| state.catalogue.item(&id).ok_or_else(|| no_item(id)));
    std::future::ready(found).await.map(|item| super::json(StatusCode::OK, &item))
}

/// Removes one item; its data stays in the cache unless `data=purge`.
///
/// # Errors
/// 404 when it is not known, 400 for another value of `data`.
#[utoipa::path(
    delete,
    path = "/api/v1/items/{id}",
    tag = "items",
    params(
        ("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2"),
        ("data" = Option<DataOfItem>, Query, description = "What becomes of its data; it stays unless this says otherwise"),
    ),
    responses(
        (status = NO_CONTENT, description = "It is forgotten"),
        (status = BAD_REQUEST, description = "That is no infohash, or data is something else"),
        (status = NOT_FOUND, description = "It was never added, or was removed"),
    ),
)]
pub async fn remove(State(state): State<GatewayState>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let purge = match parameter(&uri, "data")?.as_deref() {
        None | Some("keep") => false,
        Some("purge") => true,
        Some(_) => return Err(Problem::new(ProblemKind::BadQuery, "data is keep or purge")),
    };
    let id = infohash(&id)?;
    if !state.catalogue.remove(&id, purge).await {
        return Err(no_item(id));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Changes one item as a merge patch (RFC 7396) says, and shows it: its policy for uploading, its priority, which of its files
/// are fetched and held while it is pinned, its labels. What the request does not name stays as it is.
///
/// # Errors
/// 404 when it is not known, 400 for another body, 422 for a selection of none of its files, 507 when it is pinned and the
/// cache is too small for what is selected. Nothing is changed then.
#[utoipa::path(
    patch,
    path = "/api/v1/items/{id}",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    request_body = ChangeRequest,
    responses(
        (status = OK, description = "The item", body = ItemStatus),
        (status = BAD_REQUEST, description = "That is no infohash, or no such change"),
        (status = NOT_FOUND, description = "It was never added, or was removed"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = UNPROCESSABLE_ENTITY, description = "None of the files that are selected is one of its files"),
        (status = INSUFFICIENT_STORAGE, description = "It is pinned, and the cache has no room for what is selected"),
    ),
)]
pub async fn change(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = infohash(&id)?;
    let bytes = read(request.into_body(), MAX_TEXT_BYTES).await?;
    let wanted: ChangeRequest = serde_json::from_slice(&bytes).map_err(|error| bad_body(error.to_string()))?;
    wanted.read()?.grant(&state, &id).await?;
    state.catalogue.item(&id).map(|item| super::json(StatusCode::OK, &item)).ok_or_else(|| no_item(id))
}

/// Hashes all that the cache has of one item again, lets go what is wrong, and tells how many pieces that were.
///
/// # Errors
/// 404 when it is not known, or its metadata is not.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/recheck",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "How many pieces were right, wrong and missing", body = Rechecked),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "It is not known, or its metadata is not"),
    ),
)]
pub async fn recheck(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = infohash(&id)?;
    let found = state.catalogue.recheck(&id).await.ok_or_else(|| no_item(id))?;
    Ok(super::json(StatusCode::OK, &found))
}

pub(super) fn infohash(text: &str) -> Result<InfoHash, Problem> {
    let id = ContentId::parse_torrent(text)?;
    // Items of torrents that are v2 alone are listed by the begin of their infohash, as it is on the wire.
    let wire = id.as_v1().or_else(|| id.as_v2().map(|v2| v2.truncated()));
    wire.ok_or_else(|| Problem::new(ProblemKind::NoSuchItem, "only torrents are items").item(id))
}

pub(super) fn no_item(id: InfoHash) -> Problem {
    Problem::new(ProblemKind::NoSuchItem, "it was never added, or was removed").item(ContentId::BtV1(id))
}

/// A parameter of the query, which may be there once.
pub(super) fn parameter(uri: &Uri, wanted: &str) -> Result<Option<String>, Problem> {
    let parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut found = parameters.filter(|(name, _)| name == wanted).map(|(_, value)| value.into_owned());
    match (found.next(), found.next()) {
        (_, Some(_)) => Err(Problem::new(ProblemKind::BadQuery, format!("{wanted} is there more than once"))),
        (value, None) => Ok(value),
    }
}

pub(super) fn bad_body(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::BadBody, detail)
}

fn invalid(reason: String) -> Problem {
    Problem::new(ProblemKind::InvalidTorrent, reason)
}
