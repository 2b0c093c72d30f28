//! Who may be asked at all: one circuit breaker for each source, what it depends on, and what is done there.
//!
//! A breaker is closed while its source works. When too many of the last calls failed it opens, and nobody asks. After
//! a while, longer each time and never quite the same, it is half open: a bounded number of calls that nobody waits for
//! try the source, and so many successes in a row close it, as one failure opens it again. Wrong bytes weigh more than
//! failures, are counted over a longer time, and open it for longer.
//!
//! Time is monotonic and given. What goes wrong without fault of the source never counts: see [`crate::verdict`].

mod circuit;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

pub use self::circuit::{CircuitBreaker, Ticket};
pub use self::table::{BreakerChange, Breakers, MAX_BREAKERS, MAX_CHANGES, Permit};

/// What is done at a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Learning what a content is.
    Resolve,
    /// Finding who has it.
    Find,
    /// Getting bytes of it.
    Fetch,
    /// Telling others that we have it.
    Announce,
}

/// What a breaker guards: this operation, at this source, by way of what it depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BreakerKey {
    /// The source, as operators know it.
    pub source: Arc<str>,
    /// What the call needs besides: a tracker, a router, an endpoint.
    pub dependency: Arc<str>,
    /// What is done.
    pub operation: Operation,
}

impl BreakerKey {
    /// Names a breaker.
    #[must_use]
    pub fn new(source: &str, dependency: &str, operation: Operation) -> Self {
        Self { source: source.into(), dependency: dependency.into(), operation }
    }
}

impl fmt::Display for BreakerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = match self.operation {
            Operation::Resolve => "resolve",
            Operation::Find => "find",
            Operation::Fetch => "fetch",
            Operation::Announce => "announce",
        };
        write!(f, "{}/{}/{operation}", self.source, self.dependency)
    }
}

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerOptions {
    /// Calls older than this are forgotten.
    pub window: Duration,
    /// Calls that are remembered at most.
    pub window_calls: usize,
    /// Calls without which nothing is concluded.
    pub min_sample: u32,
    /// It opens when this share of the calls failed, from 0 to 1.
    pub failure_ratio: f64,
    /// Wrong bytes count as so many failures.
    pub corruption_weight: u32,
    /// It opens when wrong bytes came so often within [`Self::corruption_memory`], however many calls went well.
    pub corruption_limit: u32,
    /// How long wrong bytes are remembered.
    pub corruption_memory: Duration,
    /// Calls that may try a source at a time when the breaker is half open.
    pub probes: u32,
    /// Successes in a row that close it.
    pub successes_to_close: u32,
    /// A call that tries a source and is not reported for so long has failed.
    pub probe_patience: Duration,
    /// How long it is open the first time.
    pub open_first: Duration,
    /// How long it is open at most.
    pub open_cap: Duration,
    /// How long it is open the first time after wrong bytes.
    pub corrupt_open_first: Duration,
    /// How long it is open at most after wrong bytes.
    pub corrupt_open_cap: Duration,
    /// Opened again within this time after it closed, it goes on with longer times; later it begins anew.
    pub relapse: Duration,
    /// So many successes after it closed let it begin anew too: a source that comes and goes is used while it is there.
    pub redeemed_by: u64,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            window_calls: 20,
            min_sample: 5,
            failure_ratio: 0.5,
            corruption_weight: 4,
            corruption_limit: 3,
            corruption_memory: Duration::from_secs(1800),
            probes: 1,
            successes_to_close: 2,
            probe_patience: Duration::from_secs(10),
            open_first: Duration::from_secs(2),
            open_cap: Duration::from_secs(60),
            corrupt_open_first: Duration::from_secs(30),
            corrupt_open_cap: Duration::from_secs(600),
            relapse: Duration::from_secs(60),
            redeemed_by: 16,
        }
    }
}

/// How badly a call is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Urgency {
    /// Nobody waits for it: it may try a source that may fail.
    Relaxed,
    /// A reader waits, and others can serve it.
    Urgent,
    /// Nobody else can serve it, so trying is better than not trying.
    NobodyElse,
}

/// The state of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Calls go through.
    Closed,
    /// No call goes through.
    Open,
    /// A few calls go through, to try the source.
    HalfOpen,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// Its name: `closed`, `open` or `half-open`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A call that may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Why: the breaker is open, or half open and its places are taken, or for calls that nobody waits for.
    pub state: BreakerState,
    /// When to ask again; a place may become free before.
    pub retry_at: Instant,
}

/// What an operator sees of a breaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// What it guards.
    pub key: BreakerKey,
    /// Its state.
    pub state: BreakerState,
    /// Milliseconds for which it has been in that state.
    pub for_ms: u64,
    /// Why it opened last, if it ever did since it was made or reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Milliseconds until the source is tried again; only while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_probe_ms: Option<u64>,
    /// Times that it opened in a row.
    pub opened_in_row: u32,
    /// Calls that succeeded.
    pub successes: u64,
    /// Calls that failed, wrong bytes apart.
    pub failures: u64,
    /// Calls that brought wrong bytes.
    pub corruptions: u64,
    /// Calls that said nothing of the source.
    pub neutral: u64,
    /// Calls that were refused.
    pub refused: u64,
}
