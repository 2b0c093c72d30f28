//! What the tests of this crate share.

use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;

use crate::message::{OfferId, Sdp};

/// Some moment for a story to begin at.
#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) const fn hash(n: u8) -> InfoHash {
    InfoHash::new([n; 20])
}

pub(crate) const fn peer(n: u8) -> PeerId {
    PeerId([n; 20])
}

pub(crate) fn offer_id(n: u8) -> OfferId {
    OfferId::from_bytes([n; 20])
}

pub(crate) fn sdp(text: &str) -> Sdp {
    Sdp::new(text.to_owned()).unwrap()
}
