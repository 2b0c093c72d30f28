//! A program that was built without the feature `otel`: nobody is told of requests.

use std::future::ready;
use std::sync::Arc;

use axum::response::Response;
use http::HeaderMap;
use swarmgate_config::Config;

use super::{RequestSpan, TracesError};
use crate::streams::StreamRow;

/// Who is told of requests: nobody.
#[derive(Debug, Clone, Default)]
pub struct Traces(());

/// What a request says of the trace that it is part of, which nobody reads.
#[derive(Debug)]
pub struct Caller;

/// A stream's row on the way to whoever tells of its request, which is nobody.
#[derive(Debug, Clone, Copy)]
pub struct Streamed;

impl Streamed {
    /// Remembers nothing.
    #[must_use]
    pub const fn of(_row: &Arc<StreamRow>) -> Self {
        Self
    }

    /// Leaves the answer as it is.
    pub const fn go_with(self, _response: &mut Response) {}
}

impl Traces {
    /// Starts nothing.
    ///
    /// # Errors
    /// A collector is named. The configuration's own check says so first; this is for those who make theirs by hand.
    pub fn start(config: &Config) -> Result<Self, TracesError> {
        match config.observe.otlp_endpoint {
            None => Ok(Self(())),
            Some(_) => Err(TracesError("this program was built without the cargo feature `otel`".to_owned())),
        }
    }

    /// Reads nothing.
    #[must_use]
    pub const fn caller(&self, _headers: &HeaderMap) -> Caller {
        Caller
    }

    /// Tells nobody.
    pub const fn note(&self, _caller: &Caller, _request: &RequestSpan<'_>, _response: &mut Response) {}

    /// Has nothing to stop.
    pub fn shutdown(&self) -> impl Future<Output = ()> + use<> {
        ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_nobody_can_tell_fails_the_start() {
        let mut config = Config::default();
        assert!(Traces::start(&config).is_ok());
        config.observe.otlp_endpoint = "http://127.0.0.1:4318".parse().ok();
        assert!(Traces::start(&config).unwrap_err().to_string().contains("`otel`"));
    }
}
