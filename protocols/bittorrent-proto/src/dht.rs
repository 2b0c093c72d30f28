//! The BitTorrent DHT (BEP 5) as rules: one node, IPv4 and IPv6, without a socket or a clock.
//!
//! [`Node`] is the machine: datagrams and time go in, datagrams and events come out. It answers what others ask, within
//! limits, and does what it is asked by its owner: looks peers up and announces, gets and puts items (BEP 44), and does
//! so again when what was stored is about to be forgotten. Everything a stranger fills is bounded by a constant here.
//!
//! | file | is |
//! |---|---|
//! | `id` | ids and distances, and which ids suit an address (BEP 42) |
//! | `krpc` | the messages |
//! | `item` | what BEP 44 stores, checked |
//! | `table` | the nodes known, a table for each family |
//! | `lookup` | the way to the nodes nearest to an id |
//! | `tokens`, `limiter`, `peers`, `items` | what answering takes: who may store, how often one may ask, what is stored |
//! | `schedule` | what is done again, and when |
//! | `node` | all of it together |
//! | `saved` | what survives a restart |
//! | `random` | numbers that nobody can guess, from one seed |
//!
//! # Why two tables and two ids?
//! A node's id is made of its address (BEP 42), and it has two of those. Each family's table is ordered by its own id.
//!
//! # What can a stranger make this node send?
//! To the address that a query claims to come from, at most [`MAX_ANSWER_FACTOR`] times the query's bytes, and no more
//! queries are answered than [`limiter`] lets through. To addresses that a stranger names: one query of about 100 bytes each,
//! never to a private address that a public one named.

pub mod id;
pub mod item;
pub(crate) mod items;
pub mod krpc;
pub mod limiter;
mod lookup;
mod node;
pub(crate) mod peers;
mod random;
mod saved;
mod schedule;
mod table;
mod tokens;

use std::net::SocketAddr;

pub use id::NodeId;
pub use item::{Item, ItemError, MutableItem, PublicKey};
pub use node::{Counters, Event, Node, NodeOptions, SearchId, Transmit};
pub use saved::{KeptItem, SavedTables};
pub use schedule::JobId;

/// Nodes in a bucket, nodes in an answer, and nodes that store what is announced: the `k` of Kademlia (BEP 5).
pub const K: usize = 8;
/// Bytes of the longest answer: what fits a datagram over common links without being cut up.
pub const MAX_ANSWER_BYTES: usize = 1400;
/// Bytes of an answer for each byte of its query. The shortest query for an item has 80 bytes, the longest item with all
/// that belongs to it 1240.
pub const MAX_ANSWER_FACTOR: usize = 16;

/// A node: its id and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// The id it uses.
    pub id: NodeId,
    /// Its address.
    pub address: SocketAddr,
}

/// The families of addresses, each with a network of its own (BEP 32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Its place in arrays of two.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }
}
