//! DAGs of IPFS that are kept: `GET /dags` lists them, and a CAR in `POST /items` brings some. One alone is pinned, looked at
//! and let go by `/items/{cid}/pin`.

use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use swarmgate_content::{Cid, ContentId};
use swarmgate_ipfs::intake::Taken;
use swarmgate_ipfs::pins::{Pin, PinError};
use swarmgate_store::PutError;
use tokio_stream::StreamExt as _;
use tokio_util::io::StreamReader;
use utoipa::ToSchema;

use super::items::parameter;
use super::pin;
use crate::error::{Problem, ProblemKind};
use crate::pinning::{Kept, PinningError};
use crate::state::GatewayState;

/// DAGs in one answer, at most.
const MAX_LIMIT: usize = 1000;
/// Longest pause in a CAR that is being sent.
const STALL: Duration = Duration::from_secs(60);

/// How far the keeping of a DAG is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DagState {
    /// All of it is here that will be.
    Pinned,
    /// It is being fetched, or waits for that.
    Pinning,
}

/// A DAG of IPFS that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DagStatus {
    /// The CID of its root.
    pub(crate) root: String,
    /// How far that is.
    pub(crate) state: DagState,
    /// Blocks of it that are here; one that is there twice counts once. Of one that is being fetched, those that this
    /// attempt has brought.
    pub(crate) blocks: u64,
    /// Their lengths, in bytes.
    pub(crate) bytes: u64,
    /// Blocks that were not here when it was pinned, where that was allowed.
    pub(crate) missing: u64,
    /// Why the last attempt to fetch it failed. It is tried again.
    pub(crate) error: Option<String>,
}

/// DAGs that are kept.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct DagList {
    /// In a fixed order.
    pub(crate) dags: Vec<DagStatus>,
    /// The root to go on behind, where there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub(crate) next: Option<String>,
}

impl DagStatus {
    fn of(root: &Cid, kept: Kept) -> Self {
        match kept {
            Kept::Pinned(pin) => Self::from(&pin),
            Kept::Wanted { taken: Taken { blocks, bytes }, error, is_active: _ } => {
                Self { root: root.to_string(), state: DagState::Pinning, blocks, bytes, missing: 0, error }
            }
        }
    }
}

impl From<&Pin> for DagStatus {
    fn from(&Pin { root, blocks, bytes, missing }: &Pin) -> Self {
        Self { root: root.to_string(), state: DagState::Pinned, blocks, bytes, missing, error: None }
    }
}

/// Lists the DAGs that are kept, and those that are being fetched for that.
///
/// # Errors
/// 400 for a parameter that cannot be read, 501 where IPFS is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/dags",
    tag = "items",
    params(
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "How many in one answer; 1000 if this is absent"),
        ("after" = Option<String>, Query, description = "Where to go on: `next` of the answer before"),
    ),
    responses(
        (status = OK, description = "The DAGs, in a fixed order", body = DagList),
        (status = BAD_REQUEST, description = "A parameter cannot be read"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be read"),
    ),
)]
pub async fn list(State(state): State<GatewayState>, uri: Uri) -> Result<Response, Problem> {
    let limit = match parameter(&uri, "limit")?.map(|text| text.parse::<usize>()) {
        None => MAX_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => return Err(bad(format!("limit is a number from 1 to {MAX_LIMIT}"))),
    };
    let after = parameter(&uri, "after")?.map(|text| text.parse::<Cid>()).transpose();
    let after = after.map_err(|_| bad("after is the CID of a root".to_owned()))?;
    let all = pin::pinning(&state)?.all_with_gaps().await.map_err(pin::failed)?;
    let mut rest = all.into_iter().skip_while(|(root, _)| after.is_some_and(|after| *root <= after)).peekable();
    let dags: Vec<_> = rest.by_ref().take(limit).map(|(root, kept)| DagStatus::of(&root, kept)).collect();
    let next = rest.peek().and_then(|_| dags.last()).map(|dag| dag.root.clone());
    Ok(super::json(StatusCode::OK, &DagList { dags, next }))
}

/// Shows one of them.
///
/// # Errors
/// 404 when it is not kept, 501 where IPFS is switched off.
#[utoipa::path(
    get,
    path = "/api/v1/dags/{root}",
    tag = "items",
    params(("root" = String, Path, description = "The CID of its root")),
    responses(
        (status = OK, description = "The DAG", body = DagStatus),
        (status = BAD_REQUEST, description = "That is no CID"),
        (status = NOT_FOUND, description = "It is not kept"),
        (status = NOT_IMPLEMENTED, description = "IPFS is switched off"),
        (status = SERVICE_UNAVAILABLE, description = "The list of pins cannot be read"),
    ),
)]
pub async fn one(State(state): State<GatewayState>, Path(root): Path<String>) -> Result<Response, Problem> {
    let no_cid = |_| Problem::new(ProblemKind::BadContentPath, "that is no CID");
    let root: Cid = root.parse().map_err(no_cid)?;
    let kept = pin::pinning(&state)?.get_with_gaps(&root).await.map_err(pin::failed)?;
    let found = kept.map(|kept| super::json(StatusCode::OK, &DagStatus::of(&root, kept)));
    found.ok_or_else(pin::not_pinned)
}

/// Takes the blocks of a CAR in as they come, and keeps its roots.
pub(super) async fn take_car(state: &GatewayState, uri: &Uri, body: Body) -> Result<Response, Problem> {
    if parameter(uri, "pin")?.is_some_and(|pin| pin != "true") {
        return Err(bad("the roots of a CAR are pinned; DELETE /items/{cid}/pin lets go of one".to_owned()));
    }
    let may_miss = match parameter(uri, "allow_missing")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(bad("allow_missing is true or false".to_owned())),
    };
    let pinning = pin::pinning(state)?;
    let mut refused = None;
    let admits = |root: &Cid| {
        let listed = state.denylists.admitted().check_pin(root, &state.store);
        let verdict = listed.and_then(|()| state.denylists.check_content(&ContentId::Ipfs(*root), ""));
        verdict.map_err(|problem| refused = Some(problem)).is_ok()
    };
    let chunks = body.into_data_stream().map(|chunk| chunk.map_err(io::Error::other));
    let chunks = pin!(chunks.timeout(STALL).map(|chunk| match chunk {
        Ok(chunk) => chunk,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came of it for {STALL:?}"))),
    }));
    let kept = pinning.import(StreamReader::new(chunks), may_miss, admits).await;
    match (kept, refused) {
        (Ok(pins), _) => {
            let dags = pins.iter().map(DagStatus::from).collect();
            Ok(super::json(StatusCode::CREATED, &DagList { dags, next: None }))
        }
        (Err(_), Some(problem)) => Err(problem),
        (Err(PinningError::Pins(error)), None) => Err(not_taken(*error)),
        (Err(busy), None) => Err(pin::refused(busy)),
    }
}

fn not_taken(error: PinError) -> Problem {
    use PinError::{Block, Car, Missing, NoRoots, Read, Store, TooLarge};
    if matches!(error, Car(_) | Block(_) | NoRoots | Missing { .. } | TooLarge(_)) {
        return Problem::new(ProblemKind::InvalidCar, error.to_string());
    }
    if matches!(error, Store(PutError::Full { .. } | PutError::LowDisk { .. } | PutError::TooLarge { .. })) {
        return Problem::new(ProblemKind::CacheFull, error.to_string());
    }
    if let Read(why) = &error {
        return Problem::new(ProblemKind::BadBody, format!("it ended early: {why}"));
    }
    pin::failed(error)
}

fn bad(detail: String) -> Problem {
    Problem::new(ProblemKind::BadQuery, detail)
}
