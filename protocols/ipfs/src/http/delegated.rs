//! A delegated router: providers and IPNS records over HTTP (<https://specs.ipfs.tech/routing/http-routing-v1/>).

use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_content::{BoxFuture, Cid, FailureClass};
use swarmgate_egress::{HttpClient, HttpMethod};
use swarmgate_ipfs_proto::ipns::{MAX_RECORD_BYTES, Name, RECORD_MEDIA_TYPE};
use swarmgate_ipfs_proto::routing::{
    self, JSON, MAX_BODY_BYTES, NDJSON, ProviderLines, RoutingError, Transfer, parse_providers, providers_path,
    record_path,
};

use super::endpoint::{Answer, Ask, BadEndpoint, Endpoint, EndpointOptions};
use super::fault::{at_fault, neutral};
use super::gateway::check_status;
use super::gateway_addr::{gateway_url, is_http};
use crate::source::{Provider, Router, SourceError};

/// How long a look-up may take. A router that asks the DHT streams what it finds for up to a minute.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Lists as they arrive, or else at once.
const ACCEPT: &str = "application/x-ndjson, application/json";
/// Gateways taken of one provider's addresses.
const MAX_GATEWAYS: usize = 2;

/// One router, by its base URL.
#[derive(Debug)]
pub struct DelegatedRouter {
    endpoint: Endpoint,
}

impl DelegatedRouter {
    /// The router at `base`, with or without `/routing/v1` at the end.
    ///
    /// # Errors
    /// When `base` is no URL of a server.
    pub fn new(http: HttpClient, base: &str, options: EndpointOptions) -> Result<Self, BadEndpoint> {
        Ok(Self { endpoint: Endpoint::new(http, base, "/routing/v1", options)? })
    }

    async fn ask(&self, path: &str, accept: &str) -> Result<Answer, SourceError> {
        let deadline = Instant::now() + LOOKUP_TIMEOUT;
        self.endpoint.ask(Ask { method: HttpMethod::Get, path, accept: Some(accept), deadline }).await
    }

    async fn find(&self, cid: &Cid, found: &(dyn Fn(Provider) + Send + Sync)) -> Result<(), SourceError> {
        let mut answer = self.ask(&providers_path(cid), ACCEPT).await?;
        match check_status(answer.status()) {
            Err(error) if error.class == FailureClass::Neutral => return Ok(()),
            other => other?,
        }
        if answer.is(JSON) {
            let body = answer.body(MAX_BODY_BYTES).await?;
            let providers = parse_providers(&body).map_err(|error| misread(&error))?;
            providers.into_iter().for_each(|provider| tell(provider, found));
            return Ok(());
        }
        answer.expect(NDJSON)?;
        let mut lines = ProviderLines::default();
        while let Some(chunk) = answer.chunk().await? {
            let providers = lines.push(&chunk).map_err(|error| misread(&error))?;
            providers.into_iter().for_each(|provider| tell(provider, found));
        }
        lines.finish().into_iter().for_each(|provider| tell(provider, found));
        Ok(())
    }

    async fn record(&self, name: &Cid) -> Result<Bytes, SourceError> {
        let name = Name::from_cid(name).map_err(|error| neutral(error.to_string()))?;
        let answer = self.ask(&record_path(&name), RECORD_MEDIA_TYPE).await?;
        check_status(answer.status())?;
        // A router that knows no record may say so as text, with the status of a success (IPIP-513).
        if answer.is("text/plain") {
            return Err(neutral("it knows no record"));
        }
        answer.expect(RECORD_MEDIA_TYPE)?;
        answer.body(MAX_RECORD_BYTES).await
    }
}

impl Router for DelegatedRouter {
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

fn misread(error: &RoutingError) -> SourceError {
    at_fault(error.to_string())
}

/// Tells of a provider as whatever it can be asked as: a peer, gateways, or both.
fn tell(provider: routing::Provider, found: &(dyn Fn(Provider) + Send + Sync)) {
    let (web, addrs): (Vec<_>, Vec<_>) = provider.addrs.into_iter().partition(is_http);
    if provider.transfers.contains(&Transfer::GatewayHttp) {
        web.iter().filter_map(gateway_url).take(MAX_GATEWAYS).for_each(|url| found(Provider::Gateway(url)));
    }
    if provider.transfers.is_empty() || provider.transfers.contains(&Transfer::Bitswap) {
        found(Provider::Peer { id: provider.id, addrs });
    }
}

#[cfg(test)]
mod tests;
