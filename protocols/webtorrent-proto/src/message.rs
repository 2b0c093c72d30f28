//! What clients and WebTorrent trackers say to each other: JSON, one object a WebSocket message.
//!
//! 20-byte values are strings of 20 characters, U+0000 to U+00FF, one for each byte. A message is a text frame; a binary
//! frame with the same bytes is as good. An SDP is whole: candidates never follow later.
//!
//! Reading is tolerant where implementations in use are loose (numbers as text, fields that are missing, null or
//! unknown) and strict in its bounds. Writing is the form that all of them read.
//!
//! | field | client | tracker |
//! |---|---|---|
//! | `action` | `announce`, `scrape` | the same; some leave it out when they refuse |
//! | `info_hash` | one; a list in a scrape | of the message it replies to, or that it relays |
//! | `peer_id` | the sender | of the peer whose offer or answer is relayed |
//! | `offers` | up to [`MAX_OFFERS`] × `offer_id`, `offer` | – |
//! | `offer`, `offer_id` | – | one relayed offer |
//! | `answer`, `offer_id` | with `to_peer_id` | one relayed answer |
//! | `left` | bytes; null or missing when unknown | – |
//! | `interval`, `complete`, `incomplete` | – | the reply to an announce |
//! | `files` | – | the reply to a scrape, by infohash |
//! | `failure reason`, `warning message` | – | text |

mod error;
mod fields;
mod ids;
mod json;
mod parse_client;
mod parse_server;
mod write;

use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

pub use error::{MessageError, Place, Problem};
pub use ids::{IdTooLong, OfferId, Sdp, SdpTooLong};
pub use swarmgate_bittorrent_proto::tracker::AnnounceEvent;

/// Longest message read, in bytes: 64 KiB. Ten offers of a browser with many interfaces have about 30 KiB.
pub const MAX_MESSAGE_BYTES: usize = 64 << 10;
/// Longest session description, in bytes: 8 KiB. A data channel's has 400 to 2000.
pub const MAX_SDP_BYTES: usize = 8 << 10;
/// Offers in one announce: 10, which is what libtorrent sends; browsers send 5.
pub const MAX_OFFERS: usize = 10;
/// Infohashes in one scrape, and in its reply.
pub const MAX_SCRAPE_HASHES: usize = 128;
/// Longest offer id, in bytes of UTF-8: room for 64 bytes as latin1. Clients in use send 20.
pub const MAX_OFFER_ID_BYTES: usize = 128;
/// Longest tracker id that is kept and given back, in bytes; a longer one is passed over.
pub const MAX_TRACKER_ID_BYTES: usize = 256;
/// Longest text of a tracker kept, in characters.
pub const MAX_TEXT_CHARS: usize = 300;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientMessage {
    /// It is there, and has offers to relay.
    Announce(Announce),
    /// It answers an offer that it was sent.
    Answer(ClientAnswer),
    /// It asks for the sizes of swarms.
    Scrape(Vec<InfoHash>),
}

/// A client's announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub infohash: InfoHash,
    /// The client.
    pub peer_id: PeerId,
    /// Why.
    pub event: AnnounceEvent,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes of the content it lacks; `None` while its metadata is not known.
    pub left: Option<u64>,
    /// How many peers it would like. Offers say it better: no peer can be had without one.
    pub numwant: Option<u32>,
    /// Offers, each for another peer: [`MAX_OFFERS`] at most.
    pub offers: Vec<ClientOffer>,
    /// What the tracker gave it to give back.
    pub tracker_id: Option<String>,
}

/// An offer to whom it may concern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOffer {
    /// Its name, by which the answer will be known.
    pub offer_id: OfferId,
    /// The session description.
    pub sdp: Sdp,
}

/// A client's answer to an offer that the tracker relayed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAnswer {
    /// The torrent.
    pub infohash: InfoHash,
    /// The client. Some take a new id for each answer, so it need not be the one they announce.
    pub peer_id: PeerId,
    /// Whose offer it was.
    pub to_peer_id: PeerId,
    /// Which one.
    pub offer_id: OfferId,
    /// The session description.
    pub sdp: Sdp,
    /// What the tracker gave it to give back.
    pub tracker_id: Option<String>,
}

/// What a tracker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// An announce was taken.
    Announced(Announced),
    /// Somebody offers.
    Offer(Relayed),
    /// Somebody answers an offer.
    Answer(Relayed),
    /// The sizes of swarms.
    Scraped(Vec<(InfoHash, SwarmSize)>),
    /// Something was refused.
    Failure {
        /// Why: untrusted text.
        reason: String,
        /// The torrent concerned, if it says so.
        infohash: Option<InfoHash>,
    },
    /// Something to tell the operator.
    Warning {
        /// Untrusted text.
        message: String,
        /// The torrent concerned.
        infohash: InfoHash,
    },
}

/// A tracker's reply to an announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The torrent.
    pub infohash: InfoHash,
    /// When it wants to hear from us again.
    pub interval: Option<Duration>,
    /// When it wants to hear from us at the earliest.
    pub min_interval: Option<Duration>,
    /// Peers that have everything.
    pub complete: Option<u32>,
    /// Peers that have not.
    pub incomplete: Option<u32>,
    /// A warning for the operator, untrusted text.
    pub warning: Option<String>,
    /// What to give back the next time.
    pub tracker_id: Option<String>,
}

impl Announced {
    /// The least a tracker can say: the torrent.
    #[must_use]
    pub const fn new(infohash: InfoHash) -> Self {
        Self {
            infohash,
            interval: None,
            min_interval: None,
            complete: None,
            incomplete: None,
            warning: None,
            tracker_id: None,
        }
    }
}

/// An offer or an answer of another peer, relayed by the tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The torrent.
    pub infohash: InfoHash,
    /// Who offers or answers.
    pub peer_id: PeerId,
    /// The offer concerned.
    pub offer_id: OfferId,
    /// The session description.
    pub sdp: Sdp,
}

/// How many are in a swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmSize {
    /// Peers that have everything.
    pub complete: u32,
    /// Peers that have not.
    pub incomplete: u32,
    /// Peers that came to have everything while they were there.
    pub downloaded: u32,
}

impl ClientMessage {
    /// The torrent concerned, when it is one.
    #[must_use]
    pub const fn infohash(&self) -> Option<InfoHash> {
        match self {
            Self::Announce(announce) => Some(announce.infohash),
            Self::Answer(answer) => Some(answer.infohash),
            Self::Scrape(_) => None,
        }
    }
}

impl ServerMessage {
    /// The torrent concerned, when it is one.
    #[must_use]
    pub const fn infohash(&self) -> Option<InfoHash> {
        match self {
            Self::Announced(announced) => Some(announced.infohash),
            Self::Offer(relayed) | Self::Answer(relayed) => Some(relayed.infohash),
            Self::Failure { infohash, .. } => *infohash,
            Self::Warning { infohash, .. } => Some(*infohash),
            Self::Scraped(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
