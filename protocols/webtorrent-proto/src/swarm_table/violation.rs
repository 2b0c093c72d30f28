//! What the tracker refuses, by the name of the limit.

use swarmgate_content::InfoHash;

use super::MAX_PORTS_PER_HOST;
use crate::message::MessageError;

/// A limit was reached, or a rule broken. What it says is fit for the client, which is told where it can do something
/// about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The socket was never opened here, or is closed.
    #[error("no such socket")]
    UnknownSocket,
    /// The tracker has all the sockets it may have.
    #[error("more than {max} sockets")]
    Sockets {
        /// The limit.
        max: usize,
    },
    /// A host has all the sockets it may have.
    #[error("more than {max} sockets from one host")]
    SocketsPerHost {
        /// The limit.
        max: usize,
    },
    /// The socket sends too much.
    #[error("more than {per_second} messages a second")]
    Rate {
        /// The limit, in the long run.
        per_second: u32,
        /// Whether it does not even slow down.
        relentless: bool,
    },
    /// The message cannot be read, or is larger than one may be.
    #[error("{0}")]
    Message(#[from] MessageError),
    /// The tracker is none for this torrent.
    #[error("this tracker does not serve this torrent")]
    NotAdmitted {
        /// The torrent.
        infohash: InfoHash,
    },
    /// The socket is a member of as many swarms as it may be.
    #[error("more than {max} torrents on one socket")]
    HashesPerSocket {
        /// The limit.
        max: usize,
    },
    /// The tracker has all the swarms it may have.
    #[error("more than {max} torrents")]
    Swarms {
        /// The limit.
        max: usize,
    },
    /// The swarm has all the members it may have.
    #[error("more than {max} members of one torrent")]
    Members {
        /// The limit.
        max: usize,
    },
    /// A host announces too many ports to one swarm.
    #[error("more than {MAX_PORTS_PER_HOST} members of one torrent from one host")]
    PortsPerHost,
    /// The socket has all the offers out that it may have: the rest of the announce was taken.
    #[error("more than {max} offers without an answer")]
    PendingOffers {
        /// The limit.
        max: usize,
    },
    /// An answer to an offer that was not relayed to this socket, is answered already, is older than a minute, or whose
    /// maker is gone.
    #[error("no such offer, or not any more")]
    UnknownOffer,
}

impl Violation {
    /// Whether the socket should be closed: its other end is no client, or a hostile one.
    #[must_use]
    pub const fn closes(&self) -> bool {
        match self {
            Self::UnknownSocket | Self::Sockets { .. } | Self::SocketsPerHost { .. } => true,
            Self::Rate { relentless, .. } => *relentless,
            Self::Message(error) => error.problem.is_garbage(),
            Self::NotAdmitted { .. }
            | Self::HashesPerSocket { .. }
            | Self::Swarms { .. }
            | Self::Members { .. }
            | Self::PortsPerHost
            | Self::PendingOffers { .. }
            | Self::UnknownOffer => false,
        }
    }

    /// The limit's name, for counters.
    #[must_use]
    pub const fn limit(&self) -> &'static str {
        match self {
            Self::UnknownSocket => "socket",
            Self::Sockets { .. } => "sockets",
            Self::SocketsPerHost { .. } => "sockets_per_host",
            Self::Rate { .. } => "messages_per_second",
            Self::Message(_) => "message",
            Self::NotAdmitted { .. } => "admission",
            Self::HashesPerSocket { .. } => "hashes_per_socket",
            Self::Swarms { .. } => "swarms",
            Self::Members { .. } => "members_per_swarm",
            Self::PortsPerHost => "ports_per_host",
            Self::PendingOffers { .. } => "pending_offers_per_socket",
            Self::UnknownOffer => "offer",
        }
    }

    /// Whether the client is told: not what costs more to say than to receive, nor what is nobody's fault.
    pub(super) const fn is_told(&self) -> bool {
        match self {
            Self::UnknownSocket | Self::Rate { .. } | Self::UnknownOffer => false,
            Self::Sockets { .. }
            | Self::SocketsPerHost { .. }
            | Self::Message(_)
            | Self::NotAdmitted { .. }
            | Self::HashesPerSocket { .. }
            | Self::Swarms { .. }
            | Self::Members { .. }
            | Self::PortsPerHost
            | Self::PendingOffers { .. } => true,
        }
    }
}
