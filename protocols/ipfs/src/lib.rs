//! `IpfsProtocol`: blocks by CID from peers, gateways and daemons, and what they mean.
//!
//! * [`source`]: the seam to whatever delivers blocks.
//! * [`node`]: the libp2p node with Bitswap.
//! * [`http`]: sources and routers that are asked over HTTP.
//! * [`gateways`]: the gateways that requests and routers name, as one source.
//! * [`delivery`]: all of these, started as the operator wants them.
//! * [`blocks`]: the one way to a block: the store, then a race of the sources.
//! * [`session`], [`patience`]: one reading of one DAG, and how long it waits; [`at_hand`]: what it needs not ask for;
//!   what of it is lent to who fetches over several networks (loan).
//! * [`names`]: IPNS and DNSLink.
//! * [`pins`], [`intake`]: DAGs that are kept, and how they come in.
//! * [`protocol`]: all of it as one of the gateway's protocols.
//!
//! ```text
//! Session ── path, file, listing, export (walking) ── Blocks ── store
//!    └ Life: providers, attempts                        └ a flight a block ── Race ── sources, by their standing
//! ```

mod arrivals;
pub mod at_hand;
mod attempts;
pub mod blocks;
pub mod delivery;
mod fault;
mod flights;
pub mod gateways;
pub mod http;
pub mod intake;
mod life;
mod loan;
pub mod names;
mod near;
pub mod node;
pub mod patience;
pub mod pins;
pub mod protocol;
mod race;
mod search;
pub mod session;
pub mod source;
mod standing;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tree;
mod waiting;
mod walking;
mod whole;

pub use blocks::{Blocks, SourceStatus};
pub use protocol::{IpfsParts, IpfsProtocol};
pub use session::{Session, SessionOptions};
pub use standing::SourceStats;
pub use tree::MAX_TREE_ENTRIES;
