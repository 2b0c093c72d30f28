//! What is said to and heard from trackers, over HTTP (BEP 3, 7, 23) and UDP (BEP 15). Codecs only: when to announce is
//! decided in [`crate::announce`], and the shell owns sockets and the clock.

pub mod compact;
pub mod http;
pub mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use swarmgate_content::InfoHash;
use url::Url;

use crate::bencode::DecodeError;
use crate::handshake::PeerId;
use crate::metainfo::display_text;

/// Peers read from one reply; the rest are dropped. Trackers send 50 to 200.
pub const MAX_PEERS: usize = 2000;
/// How long to wait for the next announce when a tracker does not say: half an hour, as most do.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Longest text of a tracker kept, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// Why a tracker is told something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnnounceEvent {
    /// It is time again.
    #[default]
    Interval,
    /// We begin.
    Started,
    /// We have everything, as of now.
    Completed,
    /// We leave.
    Stopped,
}

/// What a tracker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub infohash: InfoHash,
    /// Us.
    pub peer_id: PeerId,
    /// The port we listen on.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes of the content we do not have. Unknown before the metadata is: then anything above 0, so that we are not
    /// taken for a seed.
    pub left: u64,
    /// Why.
    pub event: AnnounceEvent,
    /// How many peers we would like; the tracker decides when `None`.
    pub numwant: Option<u32>,
    /// A random number that names us to the tracker across changes of address, and to nobody else.
    pub key: u32,
    /// What the tracker gave us to give back, if it did (BEP 3, HTTP only).
    pub tracker_id: Option<Vec<u8>>,
}

/// What a tracker answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When it wants to hear from us again.
    pub interval: Option<Duration>,
    /// When it wants to hear from us at the earliest.
    pub min_interval: Option<Duration>,
    /// Peers that have everything.
    pub complete: Option<u32>,
    /// Peers that have not.
    pub incomplete: Option<u32>,
    /// Peers to dial; those that nobody can dial are left out.
    pub peers: Vec<SocketAddr>,
    /// A warning for the operator, untrusted text.
    pub warning: Option<String>,
    /// What to give back the next time.
    pub tracker_id: Option<Vec<u8>>,
}

/// How an announce failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The URL is not one that this build announces to.
    #[error("not the URL of an HTTP or UDP tracker: {0}")]
    Url(String),
    /// The tracker refuses, with its reason, which is untrusted text.
    #[error("the tracker refuses: {reason}")]
    Refused {
        /// Its reason.
        reason: String,
        /// When to try again, if it says so (BEP 31).
        retry_in: Option<Duration>,
    },
    /// The reply is not bencode.
    #[error("the tracker's reply is not bencode: {0}")]
    Bencode(#[from] DecodeError),
    /// The reply lacks what it should have.
    #[error("the tracker's reply has no usable {0}")]
    Lacks(&'static str),
    /// A packet is too short for its kind.
    #[error("the tracker's {kind} packet has {len} bytes, fewer than {min}")]
    Short {
        /// Which packet.
        kind: &'static str,
        /// Its length.
        len: usize,
        /// The least it should have.
        min: usize,
    },
    /// A packet of unknown kind.
    #[error("the tracker's packet has the unknown action {0}")]
    Action(u32),
    /// The tracker could not be reached or did not answer: the text says how.
    #[error("{0}")]
    Unreachable(String),
}

impl TrackerError {
    /// That a text is no URL that is announced to. No more of it is told than scheme and host: the rest may be a key.
    #[must_use]
    pub fn not_a_tracker(text: &str) -> Self {
        let url = Url::parse(text.trim()).ok();
        let shown = url.and_then(|url| Some(format!("{}://{}", url.scheme(), url.host_str()?)));
        Self::Url(shown.map_or_else(|| "no URL at all".to_owned(), |shown| tracker_text(shown.as_bytes())))
    }
}

/// Makes text from a tracker safe to log.
fn tracker_text(bytes: &[u8]) -> String {
    display_text(&String::from_utf8_lossy(bytes), MAX_TEXT_CHARS)
}
