//! What is asked of servers over HTTP: blocks and ranges of trustless gateways, all of that of a Kubo daemon's RPC,
//! providers and records of delegated routers.
//!
//! * [`TrustlessGateway`]: a block a request, or the blocks of a range as one CAR.
//! * [`KuboRpc`]: blocks, providers and IPNS records of a daemon that the operator runs.
//! * [`DelegatedRouter`]: providers and IPNS records, by the routing API.
//!
//! Each stands on one endpoint: a server's URL, how many requests it gets at a time, how long it is waited for, and
//! until when it asked to be left alone. Servers are strangers: of what they say only a block that has its hash is
//! taken, and every answer has a largest length and an end.

mod block_server;
mod car;
mod delegated;
mod endpoint;
mod fault;
mod feed;
mod gateway;
mod gateway_addr;
mod kubo_rpc;
mod ledger;
mod lines;

pub use car::{CAR_SLACK_BYTES, CarBlocks, CarWant, car_budget};
pub use delegated::DelegatedRouter;
pub use endpoint::{BadEndpoint, EndpointOptions};
pub use gateway::TrustlessGateway;
pub use gateway_addr::gateway_url;
pub use kubo_rpc::KuboRpc;

#[cfg(test)]
mod testing;
