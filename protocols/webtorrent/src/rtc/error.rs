//! Why there is no connection.

use std::io;
use std::time::Duration;

use swarmgate_webtorrent_proto::sdp::SdpError;

/// Why a connection, an offer or the whole manager did not come to be. No text has anything of a description in it.
#[derive(Debug, thiserror::Error)]
pub enum RtcError {
    /// Neither a shared socket nor an address was given.
    #[error("WebRTC has no address to be reached at")]
    NoAddress,
    /// A shared socket is bound to all addresses at once.
    #[error("WebRTC's socket is bound to {0}, which is no address of one interface")]
    Wildcard(std::net::SocketAddr),
    /// The system refused a socket, a thread or an option.
    #[error("WebRTC cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The description of the other side is of no use.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// There are as many connections as there may be.
    #[error("{0} WebRTC connections are open, no more are allowed")]
    TooManyConnections(usize),
    /// There are as many offers out as there may be.
    #[error("{0} WebRTC offers wait for an answer, no more are allowed")]
    TooManyOffers(usize),
    /// More connections begin than are allowed in a second.
    #[error("too many WebRTC connections begin at once")]
    TooFast,
    /// The answer came too late.
    #[error("the offer was answered after its {0:?} were over")]
    OfferExpired(Duration),
    /// The peer shares one port among its connections, and so do we: there can be but one.
    #[error("there is a connection to that peer's port already")]
    AlreadyConnected,
    /// It took too long.
    #[error("no data channel was open within {0:?}")]
    Timeout(Duration),
    /// The other side, or the network, broke it off.
    #[error("the connection failed before its data channel was open")]
    Failed,
    /// The library could not do what it was asked to.
    #[error("WebRTC cannot {what}: {text}")]
    Library {
        /// What was asked.
        what: &'static str,
        /// What it said.
        text: String,
    },
    /// The manager is shut down.
    #[error("WebRTC is shut down")]
    ShutDown,
}
