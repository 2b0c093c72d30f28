//! What can go wrong while content is fetched, said once for people and once for breakers.

use std::time::Duration;

use serde::Serialize;

use crate::ContentId;

/// How far a fetch had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Finding out what the content is: its file tree and hashes.
    Resolve,
    /// Waiting for the first verified byte.
    FirstByte,
    /// Between two bytes of a running stream.
    Stream,
}

/// What a circuit breaker should think of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureClass {
    /// The source is at fault: time-outs, refused dials, broken protocol.
    Source,
    /// The source sent bytes that do not match their hash; hits harder.
    Corruption,
    /// Nobody is at fault: not found, client gone, bad request.
    Neutral,
    /// This machine is at fault: disk full, I/O errors.
    Local,
}

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchErrorKind {
    /// The content is known and does not have that file or range.
    NotFound,
    /// No registered protocol serves such ids.
    Unsupported,
    /// Only the cache was to be asked, and it has not all that is needed.
    NotCached,
    /// Nobody to ask: no peers or providers were found.
    NoSource,
    /// The stage's deadline passed.
    TimedOut,
    /// The content's metadata is malformed.
    Invalid,
    /// Everything is pinned or in use: the cache cannot take another byte.
    StoreFull,
    /// Reading or writing the cache failed.
    StoreIo,
    /// The operator's limit on concurrent contents is reached.
    Busy,
    /// The protocol is starting, draining or stopped.
    ShuttingDown,
    /// The item was removed while it was being read.
    Removed,
    /// A bug of ours, caught.
    Internal,
}

/// How one attempt at one source ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttemptOutcome {
    /// It worked as far as asked; the text says what it gave.
    Ok(String),
    /// No answer in time.
    Timeout,
    /// Refused or broken; the text says how.
    Failed(String),
    /// Not tried; the text says why.
    Skipped(String),
}

/// One thing that was tried: what an operator needs to know why content did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// The kind of source: `tracker`, `dht`, `peer`, `hint`.
    pub source: &'static str,
    /// Which one, when there is more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// How long it took.
    #[serde(serialize_with = "as_millis", rename = "ms")]
    pub took: Duration,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A failed fetch: of what, at which stage, why, and what was tried.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{id}: {detail}")]
pub struct FetchError {
    /// The content.
    pub id: ContentId,
    /// How far it came.
    pub stage: Stage,
    /// Why, for the code that decides.
    pub kind: FetchErrorKind,
    /// Why, for the person who asked: one sentence, lower-case, no full stop, no addresses.
    pub detail: String,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

impl FetchError {
    /// Makes an error with no attempts.
    pub fn new(id: ContentId, stage: Stage, kind: FetchErrorKind, detail: impl Into<String>) -> Self {
        Self { id, stage, kind, detail: detail.into(), attempts: Vec::new() }
    }

    /// Adds what was tried.
    #[must_use]
    pub fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.attempts = attempts;
        self
    }

    /// What a breaker should think of it.
    #[must_use]
    pub const fn class(&self) -> FailureClass {
        match self.kind {
            FetchErrorKind::NoSource | FetchErrorKind::TimedOut => FailureClass::Source,
            FetchErrorKind::Invalid => FailureClass::Corruption,
            FetchErrorKind::StoreFull | FetchErrorKind::StoreIo | FetchErrorKind::Internal => FailureClass::Local,
            FetchErrorKind::NotFound
            | FetchErrorKind::NotCached
            | FetchErrorKind::Unsupported
            | FetchErrorKind::Busy
            | FetchErrorKind::ShuttingDown
            | FetchErrorKind::Removed => FailureClass::Neutral,
        }
    }
}
