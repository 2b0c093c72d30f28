//! What the embedded tracker allows: numbers with their units, and for which torrents it is a tracker at all.

use std::collections::BTreeSet;
use std::time::Duration;

use swarmgate_content::InfoHash;

/// Classic members of a swarm from one host other than this one: more are ports that somebody wants others to dial.
pub const MAX_PORTS_PER_HOST: usize = 32;
/// Addresses in one reply to a classic client, if it asks for so many.
pub const MAX_CLASSIC_PEERS: usize = 200;
/// Addresses in one reply to a classic client that does not say how many it would like.
pub const DEFAULT_CLASSIC_PEERS: usize = 50;

/// The tracker's limits. A stranger can fill each of these, so each has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableOptions {
    /// How often members are to announce. A member that is silent for two and a half of these is taken to be gone.
    pub interval: Duration,
    /// After how long without a message a socket is closed.
    pub idle_timeout: Duration,
    /// Sockets in all.
    pub max_sockets: usize,
    /// Sockets from one IPv4 address or one IPv6 /64 network.
    pub max_sockets_per_host: usize,
    /// Torrents that one socket may be a member of.
    pub max_hashes_per_socket: usize,
    /// Swarms in all.
    pub max_swarms: usize,
    /// Members of one swarm.
    pub max_members_per_swarm: usize,
    /// Relayed offers that wait for an answer, in all: about 300 bytes each. The oldest gives way.
    pub max_pending_offers: usize,
    /// Relayed offers of one socket that wait for an answer.
    pub max_pending_offers_per_socket: usize,
    /// Messages of one socket a second, in the long run.
    pub messages_per_second: u32,
    /// Messages of one socket at once, after a rest.
    pub message_burst: u32,
}

impl Default for TableOptions {
    /// Enough for a public tracker on a small machine.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(180),
            max_sockets: 10_000,
            max_sockets_per_host: 64,
            max_hashes_per_socket: 1000,
            max_swarms: 50_000,
            max_members_per_swarm: 10_000,
            max_pending_offers: 50_000,
            max_pending_offers_per_socket: 1000,
            messages_per_second: 10,
            message_burst: 40,
        }
    }
}

impl TableOptions {
    /// How long a silent member stays.
    #[must_use]
    pub fn member_timeout(&self) -> Duration {
        self.interval * 5 / 2
    }
}

/// For which torrents the tracker is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// For all: an open tracker, which strangers use for content that this gateway never sees.
    Any,
    /// For these.
    Listed(BTreeSet<InfoHash>),
}

impl Default for Admission {
    /// Nothing yet.
    fn default() -> Self {
        Self::Listed(BTreeSet::new())
    }
}

impl Admission {
    /// Whether a torrent is admitted.
    #[must_use]
    pub fn admits(&self, infohash: &InfoHash) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.contains(infohash),
        }
    }
}
