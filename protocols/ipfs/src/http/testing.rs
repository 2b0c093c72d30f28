//! Servers on loopback that behave as a story has it, and what the stories ask of them.

use std::time::{Duration, Instant};

use axum::Router;
use bytes::Bytes;
use swarmgate_content::{Cid, HashKind};
use swarmgate_egress::{EgressPolicy, HttpClient};
use tokio::task::JoinHandle;

use super::EndpointOptions;
use crate::source::{SessionId, Want};

/// How long a story waits for what must come.
pub(super) const SOON: Duration = Duration::from_secs(5);
/// The reading that a story is about.
pub(super) const READING: SessionId = SessionId(7);
/// Endpoints of stories in which somebody is slow.
pub(super) const BRISK: EndpointOptions = EndpointOptions {
    max_concurrent: 2,
    head_timeout: Duration::from_secs(1),
    stall_timeout: Duration::from_millis(500),
};

/// An HTTP server.
#[derive(Debug)]
pub(super) struct Server {
    base: String,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(app: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { base, task }
    }

    /// Its URL, without a slash at the end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that may talk to loopback.
pub(super) fn http() -> HttpClient {
    HttpClient::keeping(EgressPolicy { allow_private: true }, 16).unwrap()
}

/// The name of a raw block.
pub(super) fn cid_of(data: &[u8]) -> Cid {
    HashKind::Sha2_256.hash(data).to_cid(0x55)
}

/// Bytes of no meaning, other ones for each seed.
pub(super) fn noise(seed: u8, len: usize) -> Bytes {
    (0..len).map(|at| seed.wrapping_add(at.to_le_bytes()[0]).wrapping_mul(at.to_le_bytes()[1] | 1)).collect()
}

/// A want that is of use for so long.
pub(super) fn want(cid: Cid, patience: Duration) -> Want {
    let deadline = Instant::now() + patience;
    Want { cid, session: READING, expected_len: None, priority: 0, deadline, within: None }
}
