//! DAGs that a running gateway keeps: listed, pinned and let go of, and brought by a CAR.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use http_body::Body;
use swarmgate_content::Cid;

use super::args::PinCommand;
use super::dags::read_cid;
use super::running::Running;
use super::source::Failure;
use super::{Exit, Progress};
use crate::api::dags::{DagList, DagState, DagStatus};

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Does what `pin` says, and gives what is to be shown.
///
/// # Errors
/// When the gateway does not answer or refuses; [`Exit::NotFound`] when nobody delivers what shall be kept, or what shall
/// not be kept any longer is not.
pub(super) async fn pin(
    running: &Running,
    command: &PinCommand,
    interrupted: impl Future<Output = ()>,
) -> Result<Vec<DagStatus>, Failure> {
    match command {
        PinCommand::Ls { .. } => list(running).await,
        PinCommand::Rm { cid, .. } => {
            let root = read_cid(cid)?;
            let reply = running.ask(Method::DELETE, &path_of(&root)).await?;
            match reply.status {
                StatusCode::NOT_FOUND => Err(Failure::new(Exit::NotFound, format!("{root} is not pinned"))),
                _ => reply.accepted().map(|_| Vec::new()),
            }
        }
        PinCommand::Add { cid, .. } => {
            let root = read_cid(cid)?;
            running.ask(Method::PUT, &path_of(&root)).await?.accepted()?;
            tokio::select! {
                kept = until_kept(running, &root) => Ok(vec![kept?]),
                () = interrupted => {
                    let why = format!("interrupted; the gateway goes on fetching it, until `swarmgate pin rm {root}`");
                    Err(Failure::new(Exit::Interrupted, why))
                }
            }
        }
    }
}

/// Has the gateway take a CAR in, and gives its roots.
///
/// # Errors
/// When the gateway does not answer or refuses, and when the CAR cannot be read.
pub(super) async fn send_car<B>(running: &Running, car: B, may_miss: bool) -> Result<Vec<DagStatus>, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let uri = format!("/api/v1/items?allow_missing={may_miss}");
    let request = Request::post(&uri).header(CONTENT_TYPE, "application/vnd.ipld.car").body(car);
    let request = request.map_err(|error| Failure::new(Exit::Error, format!("{uri}: {error}")))?;
    let taken: DagList = running.upload(request).await?.json()?;
    Ok(taken.dags)
}

async fn list(running: &Running) -> Result<Vec<DagStatus>, Failure> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let path = after.map_or_else(|| "/api/v1/dags".to_owned(), |after| format!("/api/v1/dags?after={after}"));
        let page: DagList = running.ask(Method::GET, &path).await?.json()?;
        all.extend(page.dags);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

async fn until_kept(running: &Running, root: &Cid) -> Result<DagStatus, Failure> {
    let mut progress = Progress::new(0, &root.to_string());
    loop {
        let reply = running.ask(Method::GET, &format!("/api/v1/dags/{root}")).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(Failure::new(Exit::NotFound, format!("somebody has let go of {root} meanwhile")));
        }
        let status: DagStatus = reply.json()?;
        if status.state == DagState::Pinned {
            progress.finish(&format!("{} blocks, {} bytes are kept", status.blocks, status.bytes));
            return Ok(status);
        }
        if let Some(error) = status.error {
            let goes_on = format!("the gateway tries again later, until `swarmgate pin rm {root}`");
            return Err(Failure::new(Exit::NotFound, format!("{error}; {goes_on}")));
        }
        progress.set(status.bytes, None);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn path_of(root: &Cid) -> String {
    format!("/api/v1/items/{root}/pin")
}
