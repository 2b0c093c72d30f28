//! A Kubo daemon by its RPC: blocks, providers and IPNS records of a node that the operator runs
//! (<https://docs.ipfs.tech/reference/kubo/rpc/>).
//!
//! Every command is a POST. A failure is status 500 with a sentence in JSON, so that only the sentence tells a block that
//! the daemon cannot find from a daemon that is in trouble; any other status says that this is no Kubo, or that it wants
//! a password.

use std::time::{Duration, Instant};

use bytes::Bytes;
use data_encoding::BASE64;
use serde::Deserialize;
use swarmgate_content::{BoxFuture, Cid, VerifiedBytes};
use swarmgate_egress::{HttpClient, HttpMethod};
use swarmgate_ipfs_proto::block::MAX_BLOCK_BYTES;
use swarmgate_ipfs_proto::ipns::{MAX_RECORD_BYTES, Name};
use swarmgate_ipfs_proto::routing::{MAX_ADDRS, MAX_PROVIDERS};

use super::block_server::BlockServer;
use super::delegated::LOOKUP_TIMEOUT;
use super::endpoint::{Answer, Ask, BadEndpoint, Endpoint, EndpointOptions};
use super::fault::{at_fault, checked, inline, neutral};
use super::ledger::Ledger;
use super::lines::Lines;
use crate::source::{Provider, Router, SourceError, Want};

/// Longest sentence of an error, and longest description of a version, in bytes.
const MAX_SMALL_BYTES: usize = 16 << 10;
/// Characters of an error that are told on.
const MAX_DETAIL_CHARS: usize = 200;
/// How long the daemon may take to say which version it is.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);
/// What the sentence of an error has in it when the daemon has not what was asked for.
const ABSENT: [&str; 3] = ["not found", "could not find", "no such block"];

/// Kinds of events of a query: somebody who has the block, and a record (go-libp2p's `routing.QueryEventType`).
const PROVIDER: i64 = 4;
const VALUE: i64 = 5;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueryEvent {
    #[serde(rename = "Type")]
    kind: i64,
    #[serde(default)]
    extra: Option<String>,
    // `null` stands for none in what Go writes.
    #[serde(default)]
    responses: Option<Vec<AddrInfo>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AddrInfo {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    addrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Complaint {
    message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    version: String,
}

/// One daemon, by the URL of its RPC.
#[derive(Debug)]
pub struct KuboRpc {
    endpoint: Endpoint,
    ledger: Ledger,
}

impl KuboRpc {
    /// The daemon at `base`, with or without `/api/v0` at the end, and with user and password where it wants them. It is
    /// the operator's own, so `http` has to allow private addresses when it is near.
    ///
    /// # Errors
    /// When `base` is no URL of a server.
    pub fn new(http: HttpClient, base: &str, options: EndpointOptions) -> Result<Self, BadEndpoint> {
        Ok(Self { endpoint: Endpoint::new(http, base, "/api/v0", options)?, ledger: Ledger::default() })
    }

    /// Its version: that it says so is how it is known to be well.
    ///
    /// # Errors
    /// When nobody answers within 5 s, or something else than Kubo does.
    pub async fn version(&self) -> Result<String, SourceError> {
        let answer = self.command("/api/v0/version", Instant::now() + VERSION_TIMEOUT).await?;
        let body = answer.body(MAX_SMALL_BYTES).await?;
        let version: Version =
            serde_json::from_slice(&body).map_err(|_| at_fault("it does not answer as Kubo does"))?;
        Ok(excerpt(&version.version))
    }

    /// Gives a command; an answer is one that succeeds.
    async fn command(&self, path: &str, deadline: Instant) -> Result<Answer, SourceError> {
        let answer = self.endpoint.ask(Ask { method: HttpMethod::Post, path, accept: None, deadline }).await?;
        match answer.status() {
            200 if answer.is("text/html") => Err(answer.strange()),
            200 => Ok(answer),
            500 => Err(complaint(answer).await),
            status => Err(at_fault(format!("HTTP status {status}"))),
        }
    }

    async fn find(&self, cid: &Cid, found: &(dyn Fn(Provider) + Send + Sync)) -> Result<(), SourceError> {
        let path = format!("/api/v0/routing/findprovs?arg={cid}&num-providers={MAX_PROVIDERS}");
        let mut lines = Lines::of(self.command(&path, Instant::now() + LOOKUP_TIMEOUT).await?);
        let mut left = MAX_PROVIDERS;
        while left > 0 {
            let Some(line) = lines.next().await? else { break };
            let providers = providers_of(&line);
            left = left.saturating_sub(providers.len());
            providers.into_iter().for_each(found);
        }
        Ok(())
    }

    async fn record(&self, name: &Cid) -> Result<Bytes, SourceError> {
        let name = Name::from_cid(name).map_err(|error| neutral(error.to_string()))?;
        let path = format!("/api/v0/routing/get?arg=/ipns/{name}");
        let mut lines = Lines::of(self.command(&path, Instant::now() + LOOKUP_TIMEOUT).await?);
        while let Some(line) = lines.next().await? {
            if let Some(record) = record_of(&line) {
                return Ok(record);
            }
        }
        Err(neutral("it found no record"))
    }
}

impl BlockServer for KuboRpc {
    const KIND: &'static str = "kubo";

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    async fn get(&self, want: &Want) -> Result<VerifiedBytes, SourceError> {
        if let Some(inline) = inline(&want.cid)? {
            return Ok(inline);
        }
        let answer = self.command(&format!("/api/v0/block/get?arg={}", want.cid), want.deadline).await?;
        checked(&want.cid, answer.body(MAX_BLOCK_BYTES).await?)
    }
}

impl Router for KuboRpc {
    fn name(&self) -> &str {
        self.endpoint.name()
    }

    fn providers<'a>(
        &'a self,
        cid: &'a Cid,
        found: &'a (dyn Fn(Provider) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(self.find(cid, found))
    }

    fn ipns_record<'a>(&'a self, name: &'a Cid) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        Box::pin(self.record(name))
    }
}

async fn complaint(answer: Answer) -> SourceError {
    let body = match answer.body(MAX_SMALL_BYTES).await {
        Ok(body) => body,
        Err(error) => return error,
    };
    let Ok(Complaint { message }) = serde_json::from_slice(&body) else { return at_fault("HTTP status 500") };
    let absent = ABSENT.iter().any(|words| message.contains(words));
    let detail = excerpt(&message);
    if absent { neutral(detail) } else { at_fault(detail) }
}

fn excerpt(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(MAX_DETAIL_CHARS).collect()
}

/// The providers that an event names. What cannot be read is passed over: the list is a hint.
fn providers_of(line: &[u8]) -> Vec<Provider> {
    let Some(event) = event_of(PROVIDER, line) else { return Vec::new() };
    let provider = |info: AddrInfo| {
        let addrs = info.addrs.unwrap_or_default();
        let addrs = addrs.iter().take(MAX_ADDRS).filter_map(|addr| addr.parse().ok()).collect();
        Some(Provider::Peer { id: info.id.parse().ok()?, addrs })
    };
    event.responses.unwrap_or_default().into_iter().filter_map(provider).take(MAX_PROVIDERS).collect()
}

/// The record that an event brings.
fn record_of(line: &[u8]) -> Option<Bytes> {
    let text = event_of(VALUE, line)?.extra?;
    let record = BASE64.decode(text.as_bytes()).ok()?;
    (record.len() <= MAX_RECORD_BYTES).then(|| record.into())
}

fn event_of(kind: i64, line: &[u8]) -> Option<QueryEvent> {
    serde_json::from_slice(line).ok().filter(|event: &QueryEvent| event.kind == kind)
}

#[cfg(test)]
mod tests;
