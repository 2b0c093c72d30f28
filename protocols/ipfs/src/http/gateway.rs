//! A trustless gateway: blocks as they are, one by one or many in one answer
//! (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>).
//!
//! What is wanted is said twice, in the query and in `Accept`: some servers look at the one, some at the other. An
//! answer of another type is a web page or an error that calls itself a success. Its ETag and its caching are nothing to
//! us: the hash alone says what the bytes are.

use std::time::Instant;

use swarmgate_content::{FailureClass, VerifiedBytes};
use swarmgate_egress::{HttpClient, HttpMethod};
use swarmgate_ipfs_proto::block::MAX_BLOCK_BYTES;

use super::block_server::BlockServer;
use super::car::{CarBlocks, CarWant, NoCar};
use super::endpoint::{Ask, BadEndpoint, Endpoint, EndpointOptions};
use super::fault::{checked, inline, neutral};
use super::feed::Feeds;
use super::ledger::Ledger;
use crate::source::{SessionId, SourceError, Want};

/// Media type of a block.
const RAW: &str = "application/vnd.ipld.raw";

/// One gateway, by its base URL.
#[derive(Debug)]
pub struct TrustlessGateway {
    endpoint: Endpoint,
    ledger: Ledger,
    feeds: Feeds,
}

impl TrustlessGateway {
    /// The gateway at `base`, whose blocks are below `/ipfs/` there. `http` decides which addresses it may have: a
    /// stranger's gateway is asked by a client that refuses private ones.
    ///
    /// # Errors
    /// When `base` is no URL of a server.
    pub fn new(http: HttpClient, base: &str, options: EndpointOptions) -> Result<Self, BadEndpoint> {
        let endpoint = Endpoint::new(http, base, "/ipfs", options)?;
        Ok(Self { endpoint, ledger: Ledger::default(), feeds: Feeds::default() })
    }

    /// Asks for the blocks of a DAG in one answer, in reading order, and waits for its beginning. Takes one of the
    /// gateway's slots for as long as the blocks are read; dropping them closes the connection.
    ///
    /// # Errors
    /// As [`BlockSource::fetch`](crate::source::BlockSource::fetch). `Neutral` too when the gateway makes no CARs, and when
    /// the path cannot be written as a URL.
    pub async fn fetch_car(&self, want: &CarWant) -> Result<CarBlocks, SourceError> {
        let begun = Instant::now();
        let blocks = CarBlocks::ask(&self.endpoint, want).await.map_err(|why| match why {
            NoCar::Failed(error) => error,
            NoCar::Never(status) => {
                self.feeds.end_for_good();
                neutral(format!("it makes no CARs: HTTP status {status}"))
            }
        });
        if blocks.is_err() {
            self.ledger.note(want.session, begun.elapsed(), &blocks);
        }
        blocks
    }

    async fn get_alone(&self, want: &Want) -> Result<VerifiedBytes, SourceError> {
        let path = format!("/ipfs/{}?format=raw", want.cid);
        let ask = Ask { method: HttpMethod::Get, path: &path, accept: Some(RAW), deadline: want.deadline };
        let answer = self.endpoint.ask(ask).await?;
        check_status(answer.status())?;
        answer.expect(RAW)?;
        checked(&want.cid, answer.body(MAX_BLOCK_BYTES).await?)
    }
}

impl BlockServer for TrustlessGateway {
    const KIND: &'static str = "gateway";

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
        match self.feeds.get(self, want).await {
            Some(came) => came,
            None => self.get_alone(want).await,
        }
    }

    fn forget(&self, session: SessionId) {
        self.feeds.end(session);
    }
}

/// Takes 200. A gateway that has not the block, or may not serve it, says 404, 410 or 451, and 412 when it was asked
/// not to look for it; all else is its failure.
pub(super) fn check_status(status: u16) -> Result<(), SourceError> {
    let class = match status {
        200 => return Ok(()),
        404 | 410 | 412 | 451 => FailureClass::Neutral,
        _ => FailureClass::Source,
    };
    Err(SourceError { class, detail: format!("HTTP status {status}") })
}

#[cfg(test)]
mod tests;
