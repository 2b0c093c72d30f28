//! What goes into and comes out of a [`Signaller`](super::Signaller).

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use crate::message::{OfferId, Sdp};

/// Who announces what.
#[derive(Debug, Clone, Copy)]
pub struct SignallerConfig {
    /// The torrent.
    pub infohash: InfoHash,
    /// Us, by the same id on all trackers and transports.
    pub peer_id: PeerId,
    /// How far we are at the beginning.
    pub progress: Progress,
    /// Decides offer ids and jitter. Offer ids must not be foretold, so it comes from the system's randomness.
    pub seed: u64,
}

/// How far a download is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Payload bytes sent since the start.
    pub uploaded: u64,
    /// Payload bytes received since the start.
    pub downloaded: u64,
    /// Bytes that we lack; `None` while the metadata is not known.
    pub left: Option<u64>,
}

/// An offer made to us, while the shell answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferKey(pub(super) u64);

/// What happened, and what the shell should do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignalEvent {
    /// Make an offer under each of these ids, then call [`Signaller::offers_ready`](super::Signaller::offers_ready) once with those that came to be.
    MakeOffers(Vec<OfferId>),
    /// Nobody will answer this offer any more: close its connection.
    DropOffer {
        /// Which.
        offer_id: OfferId,
        /// Why.
        reason: DropReason,
    },
    /// A peer answers one of our offers, which is now used up.
    Answered {
        /// Which.
        offer_id: OfferId,
        /// Who, by its own word.
        peer_id: PeerId,
        /// What it says.
        sdp: Sdp,
    },
    /// A peer offers: answer with [`Signaller::answer_ready`](super::Signaller::answer_ready), or say [`Signaller::answer_failed`](super::Signaller::answer_failed).
    Offered {
        /// Its name here.
        key: OfferKey,
        /// Who, by its own word.
        peer_id: PeerId,
        /// What it says.
        sdp: Sdp,
    },
    /// The tracker took an announce.
    Announced {
        /// Peers that have everything.
        complete: Option<u32>,
        /// Peers that have not.
        incomplete: Option<u32>,
    },
    /// The tracker refused an announce, with its reason, which is untrusted text; or it did not answer.
    Refused(String),
    /// The tracker has something to tell the operator: untrusted text.
    Warned(String),
}

/// Why an offer of ours will not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// [`OFFER_LIFE`](super::OFFER_LIFE) has passed.
    Expired,
    /// The socket that it was sent on is gone.
    Disconnected,
    /// An answer came when no more peers were wanted.
    NoRoom,
    /// The shell made it too late, or without being asked.
    NotWanted,
    /// We left the swarm.
    Stopped,
}

/// What has happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignalStats {
    /// Announces sent.
    pub announces: u64,
    /// Offers sent.
    pub offers_sent: u64,
    /// Answers to them that were accepted.
    pub answers_accepted: u64,
    /// Answers that were passed over: unknown, second, late, our own, or with no room.
    pub answers_ignored: u64,
    /// Offers to us that were accepted.
    pub offers_accepted: u64,
    /// Offers to us that were passed over: repeated, our own, or with no room.
    pub offers_ignored: u64,
    /// Answers to them that were sent.
    pub answers_sent: u64,
}
