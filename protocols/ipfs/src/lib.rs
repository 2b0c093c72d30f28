//! `IpfsProtocol`: blocks by CID from peers, gateways and daemons, and what they mean.
//!
//! * [`http`]: sources and routers that are asked over HTTP.
//! * [`source`]: the seam to whatever delivers blocks.
//! * [`node`]: the libp2p node with Bitswap, which is one of them.

pub mod http;
pub mod node;
pub mod source;
