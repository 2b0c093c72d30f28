//! Bitswap: asking peers for blocks by their CID, and answering those who ask.
//!
//! The protocol is one message, sent either way at any time over streams that nobody answers on: what the sender wants
//! (*wantlist*: want-have, want-block, cancel), what it has or has not (*presences*), and blocks
//! (<https://specs.ipfs.tech/bitswap-protocol/>).
//!
//! * [`message`]: the message, as 1.2, 1.1 and 1.0 spell it, and its frames.
//! * [`Client`]: whom to ask for which block, and when to ask another.
//! * [`Server`]: what others want of us, and what to send whom next.
//!
//! The two know nothing of each other; a message that came in goes to both. Neither owns a stream: the shell keeps one
//! to send on for each peer, and gives each peer a [`PeerKey`].
//!
//! # Who hashes?
//! A block names no CID on the wire, only the way to compute it, so reading a message means hashing its blocks: the shell
//! reads in the task of each connection, where that keeps nobody waiting. The machines get blocks that have their name
//! by right. So a forged block is one that nobody asked for, whatever it was meant to pass for.

pub mod client;
pub mod message;
pub mod server;

use std::fmt;

pub use client::{Client, ClientEvent, ClientOptions, ClientStats, SessionKey};
pub use message::{Entry, Message, MessageError, Presence, Want, WireBlock};
pub use server::{Server, ServerEvent, ServerOptions, ServerStats};

/// A peer: an opaque number that the shell chose, never an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// What a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Blocks are bare, and are taken for CIDv0.
    V1_0,
    /// Blocks say how to compute their CID.
    V1_1,
    /// want-have, have and dont-have.
    V1_2,
}

impl Version {
    /// All, the best first: the order to offer them in.
    pub const ALL: [Self; 3] = [Self::V1_2, Self::V1_1, Self::V1_0];

    /// The libp2p protocol id.
    #[must_use]
    pub const fn protocol(self) -> &'static str {
        match self {
            Self::V1_0 => "/ipfs/bitswap/1.0.0",
            Self::V1_1 => "/ipfs/bitswap/1.1.0",
            Self::V1_2 => "/ipfs/bitswap/1.2.0",
        }
    }

    /// The version that a libp2p protocol id names, if it is one of these.
    #[must_use]
    pub fn from_protocol(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.protocol() == id)
    }

    /// Whether such a peer understands want-have and answers have and dont-have.
    #[must_use]
    pub const fn knows_presence(self) -> bool {
        matches!(self, Self::V1_2)
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}
