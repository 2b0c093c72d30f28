//! `IpfsProtocol`: blocks by CID from peers, gateways and daemons, and what they mean.
//!
//! * [`source`]: the seam to whatever delivers blocks.

pub mod source;
