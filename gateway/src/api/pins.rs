//! `/pins`: the IPFS Pinning Service API (<https://ipfs.github.io/pinning-services-api-spec/>), by which Kubo and others
//! have a DAG kept elsewhere. Its endpoint, to which clients add `/pins`, is `/api/v1`.
//!
//! A request is one of [`requests`](crate::pinning::requests); the DAG is kept as by `PUT /items/{id}/pin`. Errors are told
//! in that API's words and in ours, as one document.

mod filter;

use std::collections::BTreeMap;

use axum::extract::{self, Path, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use swarmgate_content::{Cid, ContentId};
use utoipa::ToSchema;

use self::filter::{Filter, Status};
use super::items::{bad_body, read};
use super::pin::{failed, pinning, refused};
use crate::error::{Problem, ProblemKind};
use crate::pinning::requests::{Request, Wish};
use crate::pinning::{Kept, MAX_ORIGINS, Pinning};
use crate::state::GatewayState;

/// The path of all requests.
const PATH: &str = "/api/v1/pins";
/// Largest body taken, in bytes: 60 KiB. What is kept of it has to fit into a record of 64 KiB.
const MAX_BODY_BYTES: usize = 60 * 1024;
/// Longest name, in characters.
const MAX_NAME_CHARS: usize = 255;
/// Notes of one request, at most.
const MAX_META: usize = 1000;

/// What is to be pinned.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(super) struct PinObject {
    /// The root of the DAG; all below it is pinned.
    cid: String,
    /// A name to find it by; at most 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Multiaddrs of peers that may have it; at most 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20)]
    origins: Option<Vec<String>>,
    /// Notes of whoever asks, at most 1000, given back as they came.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<BTreeMap<String, String>>,
}

/// A request to pin, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PinRequest {
    /// Its name.
    requestid: String,
    /// `queued`, `pinning`, `pinned`, or `failed` when nobody delivered it; then it is tried again later.
    status: &'static str,
    /// When it came.
    created: String,
    /// What is pinned.
    pin: PinObject,
    /// Multiaddrs of this gateway, for those who would bring it; none without a node of libp2p.
    delegates: Vec<String>,
    /// More about its status, for people: `status_details`; and `dag_size`, in bytes, once all of it is here.
    info: BTreeMap<String, String>,
}

/// Requests to pin.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PinResults {
    /// How many there are that were asked for.
    count: usize,
    /// The latest of them.
    results: Vec<PinRequest>,
}

/// Why a request was not done; beside what is here it has all that other errors have.
#[derive(Debug, ToSchema)]
pub struct Failure {
    /// The same in two words.
    pub error: FailureReason,
}

/// Why a request was not done.
#[derive(Debug, ToSchema)]
pub struct FailureReason {
    /// Which of a closed list, as `BAD_BODY`.
    pub reason: String,
    /// What is the matter with this request.
    pub details: String,
}

/// Whether errors at this path are told in the words of the IPFS Pinning Service API.
pub(crate) fn answers(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Lists requests of the IPFS Pinning Service API: those that are pinned, or of other statuses, the latest first. More than
/// fit into an answer are had by `before`, with the time of its last.
///
/// # Errors
/// 400 for a parameter that cannot be read, 501 where IPFS is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/pins",
    tag = "pins",
    params(
        ("cid" = Option<String>, Query, description = "Only those for this CID, or for one of up to 10 with commas between them"),
        ("name" = Option<String>, Query, description = "Only those of this name; at most 255 characters"),
        ("match" = Option<String>, Query, description = "How the name is compared: exact, iexact in any case, partial for a part of it, ipartial for a part in any case; exact if this is absent"),
        ("status" = Option<String>, Query, description = "Only those of these statuses, with commas between them: queued, pinning, pinned, failed; pinned if this is absent"),
        ("before" = Option<String>, Query, description = "Only those that came before this time (RFC 3339)"),
        ("after" = Option<String>, Query, description = "Only those that came after this time (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "How many in one answer, from 1 to 1000; 10 if this is absent"),
        ("meta" = Option<String>, Query, description = "Only those with these notes: a JSON object whose values are text"),
    ),
    responses(
        (status = OK, description = "How many there are, and the first of them", body = PinResults),
        (status = BAD_REQUEST, description = "A parameter cannot be read"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be read"),
    ),
)]
pub async fn list(State(state): State<GatewayState>, uri: Uri) -> Result<Response, Problem> {
    let (filter, pinning) = (Filter::parse(&uri)?, pinning(&state)?);
    let kept = pinning.all().await.map_err(failed)?;
    let standing = |request: &Request| Standing::of(kept.get(&request.root));
    let (count, found) = filter.select(pinning.requests(), |request| standing(request).status);
    let results = found.iter().map(|request| told(pinning, request, standing(request))).collect();
    Ok(super::json(StatusCode::OK, &PinResults { count, results }))
}

/// Pins a DAG for a request of the IPFS Pinning Service API: all of it is fetched and held, over restarts too.
///
/// # Errors
/// 400 for what cannot be read, 413 for more than 60 KiB, 403, 410 or 451 for what is not served here, 501 where IPFS is
/// switched off, 503 when there are too many.
#[utoipa::path(
    post,
    path = "/api/v1/pins",
    tag = "pins",
    request_body = PinObject,
    responses(
        (status = ACCEPTED, description = "It is kept from now on", body = PinRequest),
        (status = BAD_REQUEST, description = "It cannot be read, or has no CID"),
        (status = GONE, description = "This gateway does not serve it"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 60 KiB"),
        (status = 451, description = "This gateway may not serve it"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "Too many are kept or wait to be pinned, or the list cannot be written"),
    ),
)]
pub async fn add(State(state): State<GatewayState>, request: extract::Request) -> Result<Response, Problem> {
    let pinning = pinning(&state)?;
    let (root, wish) = wanted(&state, request).await?;
    let (request, kept) = pinning.request(root, wish).await.map_err(refused)?;
    Ok(super::json(StatusCode::ACCEPTED, &told(pinning, &request, Standing::of(Some(&kept)))))
}

/// Shows a request of the IPFS Pinning Service API.
///
/// # Errors
/// 404 when there is none of this id, 501 where IPFS is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/pins/{requestid}",
    tag = "pins",
    params(("requestid" = String, Path, description = "The request, by its name")),
    responses(
        (status = OK, description = "The request, and how far it is", body = PinRequest),
        (status = BAD_REQUEST, description = "That cannot be read"),
        (status = NOT_FOUND, description = "There is no such request"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be read"),
    ),
)]
pub async fn one(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let pinning = pinning(&state)?;
    let request = pinning.requested(&id).ok_or_else(unknown)?;
    let kept = pinning.get(&request.root).await.map_err(failed)?;
    Ok(super::json(StatusCode::OK, &told(pinning, &request, Standing::of(kept.as_ref()))))
}

/// Puts a new request in the place of one of the IPFS Pinning Service API; what both keep is not fetched again. The new one
/// has an id of its own.
///
/// # Errors
/// As [`add`], and 404 when there is none of this id.
#[utoipa::path(
    post,
    path = "/api/v1/pins/{requestid}",
    tag = "pins",
    params(("requestid" = String, Path, description = "The request that is replaced, by its name")),
    request_body = PinObject,
    responses(
        (status = ACCEPTED, description = "The new request; the other is gone", body = PinRequest),
        (status = BAD_REQUEST, description = "It cannot be read, or has no CID"),
        (status = NOT_FOUND, description = "There is no such request"),
        (status = GONE, description = "This gateway does not serve it"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 60 KiB"),
        (status = 451, description = "This gateway may not serve it"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "Too many are kept or wait to be pinned, or the list cannot be written"),
    ),
)]
pub async fn replace(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    request: extract::Request,
) -> Result<Response, Problem> {
    let pinning = pinning(&state)?;
    let (root, wish) = wanted(&state, request).await?;
    let replaced = pinning.replace(&id, root, wish).await.map_err(refused)?;
    let (request, kept) = replaced.ok_or_else(unknown)?;
    Ok(super::json(StatusCode::ACCEPTED, &told(pinning, &request, Standing::of(Some(&kept)))))
}

/// Removes a request of the IPFS Pinning Service API. What it kept, and nothing else keeps, may be evicted.
///
/// # Errors
/// 404 when there is none of this id, 501 where IPFS is switched off.
#[utoipa::path(
    delete,
    path = "/api/v1/pins/{requestid}",
    tag = "pins",
    params(("requestid" = String, Path, description = "The request, by its name")),
    responses(
        (status = ACCEPTED, description = "It is gone"),
        (status = BAD_REQUEST, description = "That cannot be read"),
        (status = NOT_FOUND, description = "There is no such request"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be written"),
    ),
)]
pub async fn remove(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let was_there = pinning(&state)?.withdraw(&id).await.map_err(failed)?;
    if was_there { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(unknown()) }
}

/// Reads what is to be pinned, and looks whether it may be.
async fn wanted(state: &GatewayState, request: extract::Request) -> Result<(Cid, Wish), Problem> {
    let body = read(request.into_body(), MAX_BODY_BYTES).await?;
    let object = serde_json::from_slice(&body).map_err(|error| bad_body(format!("send {{\"cid\": …}}: {error}")))?;
    let (root, wish) = understand(object)?;
    state.denylists.admitted().check_pin(&root, &state.store)?;
    state.denylists.check_content(&ContentId::Ipfs(root), "")?;
    Ok((root, wish))
}

fn understand(object: PinObject) -> Result<(Cid, Wish), Problem> {
    let PinObject { cid, name, origins, meta } = object;
    let root = cid.parse::<Cid>().map_err(|_| bad_body("`cid` is no CID"))?;
    let name = name.filter(|name| !name.is_empty());
    if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME_CHARS) {
        return Err(bad_body(format!("`name` has at most {MAX_NAME_CHARS} characters")));
    }
    let (origins, meta) = (origins.unwrap_or_default(), meta.unwrap_or_default());
    if origins.len() > MAX_ORIGINS {
        return Err(bad_body(format!("`origins` are at most {MAX_ORIGINS}")));
    }
    if meta.len() > MAX_META {
        return Err(bad_body(format!("`meta` has at most {MAX_META} entries")));
    }
    Ok((root, Wish { name, origins, meta }))
}

/// How far a request is, in that API's words.
#[derive(Debug)]
struct Standing {
    status: Status,
    details: Option<String>,
    dag_bytes: Option<u64>,
}

impl Standing {
    fn of(kept: Option<&Kept>) -> Self {
        let (status, details, dag_bytes) = match kept {
            None => (Status::Failed, Some("it was let go by other means than this request".to_owned()), None),
            Some(Kept::Pinned(pin)) => (Status::Pinned, None, Some(pin.bytes)),
            Some(Kept::Wanted { taken, is_active: true, .. }) => {
                (Status::Pinning, Some(format!("{} bytes of it are here", taken.bytes)), None)
            }
            Some(Kept::Wanted { error: Some(error), .. }) => {
                (Status::Failed, Some(format!("{error}; it is tried again later")), None)
            }
            Some(Kept::Wanted { error: None, .. }) => (Status::Queued, None, None),
        };
        Self { status, details, dag_bytes }
    }
}

fn told(pinning: &Pinning, request: &Request, standing: Standing) -> PinRequest {
    let Wish { name, origins, meta } = request.wish.clone();
    let details = standing.details.map(|details| ("status_details".to_owned(), details));
    let size = standing.dag_bytes.map(|bytes| ("dag_size".to_owned(), bytes.to_string()));
    PinRequest {
        requestid: request.id.clone(),
        status: standing.status.word(),
        created: humantime::format_rfc3339_millis(request.created).to_string(),
        pin: PinObject {
            cid: request.root.to_string(),
            name,
            origins: Some(origins).filter(|origins| !origins.is_empty()),
            meta: Some(meta).filter(|meta| !meta.is_empty()),
        },
        delegates: pinning.delegates(),
        info: details.into_iter().chain(size).collect(),
    }
}

fn unknown() -> Problem {
    Problem::new(ProblemKind::NoSuchPin, "there is no such request to pin")
}

#[cfg(test)]
mod tests {
    use swarmgate_ipfs::intake::Taken;
    use swarmgate_ipfs::pins::Pin;

    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    #[test]
    fn a_status_is_that_of_the_dag() {
        let wanted = |error: Option<&str>, is_active| {
            let error = error.map(str::to_owned);
            Standing::of(Some(&Kept::Wanted { taken: Taken { blocks: 1, bytes: 7 }, error, is_active }))
        };
        assert_eq!(wanted(None, false).status, Status::Queued);
        assert_eq!(wanted(Some("nobody has it"), true).status, Status::Pinning);
        let failed = wanted(Some("nobody has it"), false);
        assert_eq!(failed.status, Status::Failed);
        assert_eq!(failed.details.unwrap(), "nobody has it; it is tried again later");
        let whole = Kept::Pinned(Pin { root: CID.parse().unwrap(), blocks: 1, bytes: 7, missing: 0 });
        let whole = Standing::of(Some(&whole));
        assert_eq!((whole.status, whole.dag_bytes), (Status::Pinned, Some(7)));
        assert_eq!(Standing::of(None).status, Status::Failed);
    }

    #[test]
    fn what_a_request_says_is_bounded() {
        let object = |name: &str, origins: usize, meta: usize| PinObject {
            cid: CID.to_owned(),
            name: Some(name.to_owned()),
            origins: Some(vec!["/ip4/192.0.2.7".to_owned(); origins]),
            meta: Some((0..meta).map(|number| (number.to_string(), String::new())).collect()),
        };
        let (root, wish) = understand(object(&"ä".repeat(MAX_NAME_CHARS), MAX_ORIGINS, MAX_META)).unwrap();
        assert_eq!((root.to_string().as_str(), wish.origins.len(), wish.meta.len()), (CID, MAX_ORIGINS, MAX_META));
        assert_eq!(understand(object("", 0, 0)).unwrap().1, Wish::default(), "no name is none");
        for bad in [
            object(&"x".repeat(MAX_NAME_CHARS + 1), 0, 0),
            object("", MAX_ORIGINS + 1, 0),
            object("", 0, MAX_META + 1),
            PinObject { cid: "nocid".to_owned(), ..object("", 0, 0) },
        ] {
            assert_eq!(understand(bad).unwrap_err().kind(), ProblemKind::BadBody);
        }
    }

    #[test]
    fn its_paths_are_known_from_others() {
        assert!(answers("/api/v1/pins") && answers("/api/v1/pins/1") && answers("/api/v1/pins/{requestid}"));
        assert!(!answers("/api/v1/pinsx") && !answers("/api/v1/items/1/pin") && !answers("/"));
    }
}
