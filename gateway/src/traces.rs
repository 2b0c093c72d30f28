//! Spans of requests, for a collector of OpenTelemetry: who was asked for what, how it ended and how long it took until
//! there was an answer to send. `observe.otlp_endpoint` names the collector, and the cargo feature `otel` brings what
//! speaks to it; without the feature everything here does nothing.
//!
//! A span names no content: the route and the network of what was asked for, and the path only where the operator lets
//! paths be logged. Queries, which have keys and signatures in them, are in none.

use std::time::Duration;

use http::{Method, StatusCode};

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod otlp;

#[cfg(not(feature = "otel"))]
pub use absent::{Caller, Traces};
#[cfg(feature = "otel")]
pub use otlp::{Caller, Traces};

/// What is told of a request that has its answer.
#[derive(Debug, Clone, Copy)]
pub struct RequestSpan<'a> {
    /// Its name in the log.
    pub id: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its route, as in the metrics.
    pub route: &'static str,
    /// The network that it asks for content of, where its route tells.
    pub item_kind: Option<&'static str>,
    /// Its path without the query, where paths may be told.
    pub path: Option<&'a str>,
    /// How it was answered.
    pub status: StatusCode,
    /// How long that took, without the body.
    pub took: Duration,
}

/// Why the collector cannot be told anything. Never names more of the endpoint than the option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TracesError(String);
