//! Publications that were asked of a running gateway: one at a time, each with its progress and its end.
//!
//! A job ends with the gateway, and what it has done by then is gone on with when it is asked for again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use swarmgate_hybrid::publish::PublishOptions;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Published, Publisher};
use crate::catalogue::Catalogue;

/// Jobs that are remembered; the oldest that have ended go first.
const MAX_JOBS: usize = 64;

/// Publishing over the API. Clones are one.
#[derive(Debug, Clone)]
pub struct Jobs {
    publisher: Publisher,
    catalogue: Arc<dyn Catalogue>,
    dirs: Arc<[PathBuf]>,
    tasks: TaskTracker,
    closing: CancellationToken,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    jobs: BTreeMap<u64, Job>,
}

#[derive(Debug)]
struct Job {
    path: PathBuf,
    done: u64,
    total: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Running,
    Done(Box<Published>),
    Failed(String),
}

/// Why a job was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The path is not below a directory that the operator has named, or not there.
    #[error("publish.dirs names no directory that this path is in, or there is nothing at it")]
    Elsewhere,
    /// Another job is running.
    #[error("another publication is running; one at a time is made")]
    Busy,
}

impl Jobs {
    /// Jobs of a gateway whose operator lets it publish what lies below `dirs`. They run as `tasks`, until `closing`.
    #[must_use]
    pub fn new(
        publisher: Publisher,
        catalogue: Arc<dyn Catalogue>,
        dirs: &[PathBuf],
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        Self { publisher, catalogue, dirs: dirs.into(), tasks, closing, table: Arc::default() }
    }

    /// What publishes.
    #[must_use]
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Begins a job, and gives its number.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn begin(&self, mut options: PublishOptions) -> Result<u64, Refusal> {
        options.path = self.allowed(&options.path).await.ok_or(Refusal::Elsewhere)?;
        let id = self.enter(options.path.clone())?;
        let jobs = self.clone();
        self.tasks.spawn(async move {
            let state = tokio::select! {
                state = jobs.run(id, options) => state,
                () = jobs.closing.cancelled() => State::Failed("the gateway was stopped".to_owned()),
            };
            if let Some(job) = jobs.table.lock().jobs.get_mut(&id) {
                job.state = state;
            }
        });
        Ok(id)
    }

    /// A job as the API shows it, or `None` when there is none of that number (any more).
    #[must_use]
    pub fn one(&self, id: u64, base: &str) -> Option<Value> {
        self.table.lock().jobs.get(&id).map(|job| job.to_json(id, base))
    }

    /// Every job, by number.
    #[must_use]
    pub fn all(&self, base: &str) -> Vec<Value> {
        self.table.lock().jobs.iter().map(|(id, job)| job.to_json(*id, base)).collect()
    }

    /// The path without symlinks, if it lies below a directory that the operator has named.
    async fn allowed(&self, path: &Path) -> Option<PathBuf> {
        if !path.is_absolute() {
            return None;
        }
        let path = tokio::fs::canonicalize(path).await.ok()?;
        for dir in self.dirs.iter() {
            if tokio::fs::canonicalize(dir).await.is_ok_and(|dir| path.starts_with(dir)) {
                return Some(path);
            }
        }
        None
    }

    fn enter(&self, path: PathBuf) -> Result<u64, Refusal> {
        let mut table = self.table.lock();
        if table.jobs.values().any(|job| matches!(job.state, State::Running)) {
            return Err(Refusal::Busy);
        }
        while table.jobs.len() >= MAX_JOBS {
            table.jobs.pop_first();
        }
        let id = table.next;
        table.next += 1;
        table.jobs.insert(id, Job { path, done: 0, total: 0, state: State::Running });
        Ok(id)
    }

    async fn run(&self, id: u64, options: PublishOptions) -> State {
        let published = self.publisher.publish(options, |now| {
            if let Some(job) = self.table.lock().jobs.get_mut(&id) {
                (job.done, job.total) = (now.done, now.total);
            }
        });
        let published = match published.await {
            Ok(published) => published,
            Err(failure) => return State::Failed(failure.to_string()),
        };
        // It is kept already; the engine that runs does not know of it yet.
        match self.catalogue.add_torrent(published.metainfo.to_torrent().into(), true).await {
            Ok(_) => State::Done(Box::new(published)),
            Err(error) => State::Failed(format!("published, but not seeded until the next start: {error}")),
        }
    }
}

impl Job {
    fn to_json(&self, id: u64, base: &str) -> Value {
        let (state, result, error) = match &self.state {
            State::Running => ("running", None, None),
            State::Done(published) => ("done", Some(published.to_json(base)), None),
            State::Failed(why) => ("failed", None, Some(why)),
        };
        json!({
            "id": id,
            "path": self.path.display().to_string(),
            "state": state,
            "done_bytes": self.done,
            "total_bytes": self.total,
            "result": result,
            "error": error,
        })
    }
}
