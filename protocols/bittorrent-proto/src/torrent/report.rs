//! What a torrent tells of itself: what the shell must do, why a peer is dropped, and figures for people.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use swarmgate_content::VerifiedBytes;

use crate::bitfield::BitfieldError;
use crate::merkle::HashRequest;
use crate::picker::PeerKey;
use crate::wire::{BlockRequest, PieceIndex, WireError};

/// A peer that says nothing for this long is dropped.
pub(super) const PEER_TIMEOUT: Duration = Duration::from_secs(180);

/// Why a peer is to be dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// It sent what is not the peer protocol.
    #[error("broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// Its bitfield does not fit the torrent.
    #[error("broke the protocol: {0}")]
    Bitfield(#[from] BitfieldError),
    /// It sent a bitfield, or its like, later than first.
    #[error("broke the protocol: a second statement of all it has")]
    LateBitfield,
    /// It sent too much that nobody asked for.
    #[error("sent {0} bytes that nobody asked for")]
    Unasked(u64),
    /// It sent wrong bytes, on evidence.
    #[error("sent wrong bytes for a piece")]
    Guilty,
    /// It said nothing for too long.
    #[error("silent for {} s", PEER_TIMEOUT.as_secs())]
    TimedOut,
    /// It does not read what it is sent.
    #[error("reads nothing: {0} bytes wait for it")]
    NotReading(usize),
    /// It sent hashes that do not lead to the root they were asked under (BEP 52).
    #[error("sent false hashes")]
    FalseHashes,
    /// Its extension messages make no sense.
    #[error("broke the protocol: {0}")]
    Extension(String),
    /// Neither of us wants anything of the other (BEP 21).
    #[error("both sides have everything")]
    Redundant,
}

/// What the shell must do.
#[derive(Debug)]
#[non_exhaustive]
pub enum TorrentEvent {
    /// The `info` dictionary arrived and is the one the infohash names: parse it and call [`super::Torrent::set_info`].
    Metadata(VerifiedBytes),
    /// The roots of all pieces, 32 bytes each, which the metadata lacked ([`super::Torrent::seek_roots`]).
    Roots(Bytes),
    /// A peer asked for hashes below a piece: read it, hash it and call [`super::Torrent::leaves_read`].
    ReadLeaves {
        /// The peer.
        peer: PeerKey,
        /// The piece.
        piece: PieceIndex,
        /// What it asked for.
        request: HashRequest,
    },
    /// A piece is complete: verify and store it, then call [`super::Torrent::piece_verified`],
    /// [`super::Torrent::piece_corrupt`] or [`super::Torrent::piece_not_stored`].
    PieceComplete {
        /// The piece.
        piece: PieceIndex,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A peer is owed this block: read it and call [`super::Torrent::block_read`].
    ReadBlock {
        /// The peer.
        peer: PeerKey,
        /// The block.
        request: BlockRequest,
    },
    /// Close the connection; the peer is already forgotten here.
    Drop {
        /// The peer.
        peer: PeerKey,
        /// Whether it gave us a block, or took one.
        useful: bool,
        /// Why.
        reason: DropReason,
    },
    /// A peer told of others (BEP 11): where they are said to be.
    PeersFound(Vec<SocketAddr>),
    /// A peer that dialled us told where it listens: there it is connected already.
    Listens {
        /// The peer.
        peer: PeerKey,
        /// Where.
        address: SocketAddr,
    },
    /// A peer told at which address it sees us.
    SeenAt {
        /// The peer.
        peer: PeerKey,
        /// The address.
        at: IpAddr,
    },
    /// A peer leads us to another that nobody can dial (BEP 55): dial it by uTP, at once.
    Punch(SocketAddr),
}

/// What carries a peer. The rules treat all alike and count them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// A uTP connection (BEP 29).
    Utp,
    /// A WebRTC data channel.
    WebRtc,
}

/// Totals since the torrent was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TorrentTotals {
    /// Block bytes received, useful or not.
    pub downloaded: u64,
    /// Block bytes received that were not needed or were wrong.
    pub wasted: u64,
    /// Block bytes sent.
    pub uploaded: u64,
    /// Those of `downloaded` that came over WebRTC.
    pub webrtc_downloaded: u64,
    /// Those of `uploaded` that went over WebRTC.
    pub webrtc_uploaded: u64,
    /// Pieces verified.
    pub verified: u64,
    /// Pieces that failed their hash.
    pub corrupt: u64,
}

/// What is known of one peer, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerSummary {
    /// The peer.
    pub key: PeerKey,
    /// What carries it.
    pub transport: Transport,
    /// Block bytes it sent us.
    pub downloaded: u64,
    /// Block bytes we sent it.
    pub uploaded: u64,
    /// Bytes a second it delivers, if measured.
    pub rate: Option<f64>,
    /// Requests outstanding at it.
    pub outstanding: usize,
    /// Whether it has every piece.
    pub seed: bool,
    /// Whether it lets us ask.
    pub unchoked_us: bool,
}
