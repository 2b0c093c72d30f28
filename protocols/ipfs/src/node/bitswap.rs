//! Bitswap on libp2p streams.
//!
//! * [`handler`]: one connection, in that connection's own task: reads and hashes what comes, writes what goes.
//! * [`inbound`] and [`outbound`]: its streams.
//! * [`behaviour`]: the handlers of all connections, by peer.
//!
//! Messages do not pass through the swarm. Each handler has a bounded *outbox* of its own, and all share one bounded
//! *inbox*: when the node does not keep up, handlers stop reading and the peers' windows close; when a peer does not
//! read, its outbox fills and it is let go, whatever the others do.

pub(super) mod behaviour;
mod handler;
mod inbound;
mod outbound;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade};
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Stream, StreamProtocol};
use swarmgate_ipfs_proto::bitswap::{Message, MessageError, Version};

/// Messages that wait to be sent on one connection. The client says little and the server one thing at a time, so a
/// peer behind which this many wait has not read for long.
pub(super) const OUTBOX_MESSAGES: usize = 256;
/// Messages that wait for the node, of all connections; each has 4 MiB at most.
pub(super) const INBOX_MESSAGES: usize = 16;

/// After how long without traffic a stream to send on is no longer kept for its own sake, at most.
pub(super) const MAX_STREAM_IDLE: Duration = Duration::from_secs(10);

/// What a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Streams of the peer.
    pub(super) max_inbound: usize,
    /// After how long without traffic nothing is kept for its own sake; also how often that is looked at.
    pub(super) idle: Duration,
    /// How long a message may stand still on its way.
    pub(super) stall: Duration,
}

/// What a handler tells the node.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) peer: PeerId,
    pub(super) connection: ConnectionId,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// The peer speaks this.
    Speaks(Version),
    /// It sent a message, whose blocks were hashed.
    Message(Message),
    /// It sends a message that is not whole yet.
    Progress,
    /// A message of the server was written.
    Served,
    /// The stream to it broke: what it was told before may never have been read.
    Lost,
    /// It does not speak Bitswap, or opens no stream for it.
    Unwilling,
    /// It sent something else than Bitswap.
    Malformed(MessageError),
}

/// What the node gives a handler to do.
#[derive(Debug)]
pub(super) enum Errand {
    /// Have a stream ready.
    Open,
    /// Send this for the client.
    Ask(Message),
    /// Send this for the server, and say when it was written.
    Serve(Message),
}

/// Whether the node wants some block, of whomever: then every connection is kept.
///
/// What peers want of us is no reason: a busy Kubo always wants something, of everybody, and would stay for ever.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanting(Arc<AtomicBool>);

impl Wanting {
    fn set(&self, wanting: bool) {
        self.0.store(wanting, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Agrees on a version and does nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Negotiate;

impl UpgradeInfo for Negotiate {
    type Info = StreamProtocol;
    type InfoIter = [StreamProtocol; 3];

    fn protocol_info(&self) -> Self::InfoIter {
        Version::ALL.map(|version| StreamProtocol::new(version.protocol()))
    }
}

impl Negotiate {
    fn agreed(stream: Stream, info: &StreamProtocol) -> Ready<Result<(Stream, Version), Infallible>> {
        ready(Ok((stream, Version::from_protocol(info.as_ref()).expect("one of those that were offered"))))
    }
}

impl InboundUpgrade<Stream> for Negotiate {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        Self::agreed(stream, &info)
    }
}

impl OutboundUpgrade<Stream> for Negotiate {
    type Output = (Stream, Version);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, info: Self::Info) -> Self::Future {
        Self::agreed(stream, &info)
    }
}
