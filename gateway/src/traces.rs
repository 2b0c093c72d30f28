//! Spans of requests, for a collector of OpenTelemetry: what was asked for, how it was answered, and how its body ended,
//! which may be an hour later. `observe.otlp_endpoint` names the collector, and the cargo feature `otel` brings what
//! speaks to it; without the feature everything here does nothing.
//!
//! A span names no content: the route and the network of what was asked for, and the path only where the operator lets
//! paths be logged. Queries, which have keys and signatures in them, are in none.

use std::time::Instant;

use http::Method;

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod otlp;
#[cfg(feature = "otel")]
mod told;

#[cfg(not(feature = "otel"))]
pub use absent::{Caller, Streamed, Traces};
#[cfg(feature = "otel")]
pub use otlp::{Caller, Traces};
#[cfg(feature = "otel")]
pub use told::Streamed;

/// What is told of a request that has its answer; its status is the answer's.
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
    /// When it came.
    pub arrived: Instant,
}

/// Why the collector cannot be told anything. Never names more of the endpoint than the option.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TracesError(String);
