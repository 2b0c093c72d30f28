//! `IpfsProtocol`: blocks by CID from peers, gateways and daemons, and what they mean.
//!
//! * [`http`]: sources and routers that are asked over HTTP.
//! * [`source`]: the seam to whatever delivers blocks.

pub mod http;
pub mod source;
