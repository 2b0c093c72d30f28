//! From an open data channel to a peer of a swarm.

use std::sync::Arc;
use std::time::Duration;

use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_swarm::directory::ActiveSwarm;
use swarmgate_swarm::greeting::{HandshakeError, check_handshake, read_handshake, within, write_handshake};
use swarmgate_swarm::{Held, PeerOrigin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::meeting::{Meeting, MeetingList};
use crate::rtc::RtcStream;
use crate::rtc::limits::FarEnd;

/// How long both handshakes may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How the ids of webtorrent.js begin, in a page or in Node (BEP 20): the client of nearly all pages.
const PAGE_CLIENT: &[u8] = b"-WW";

/// Places for WebRTC connections of one torrent, over all its trackers.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    /// Changes when a place has become free, anywhere.
    freed: Arc<watch::Sender<u64>>,
    /// Whom they are for.
    pub(crate) meetings: MeetingList,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    freed: Arc<watch::Sender<u64>>,
}

impl Places {
    /// Free places of a torrent in which we go by `ours`.
    pub(crate) fn new(max: usize, freed: Arc<watch::Sender<u64>>, ours: PeerId) -> Self {
        Self { free: Arc::new(Semaphore::new(max)), freed, meetings: MeetingList::new(ours) }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    pub(crate) fn take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        Some(Place { permit: Some(permit), freed: self.freed.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.freed.send_modify(|count| *count += 1);
    }
}

/// Exchanges handshakes and gives the peer to the swarm, with what its connection holds.
pub(crate) async fn lead_in(
    mut stream: Held<RtcStream, (Place, Meeting)>,
    swarm: &ActiveSwarm,
) -> Result<(), HandshakeError> {
    let ours = Handshake::ours(swarm.handle.infohash(), swarm.peer_id);
    let exchange = async {
        write_handshake(&mut stream, &ours).await?;
        read_handshake(&mut stream).await
    };
    let theirs = within(HANDSHAKE_TIMEOUT, exchange).await?;
    check_handshake(&ours, &theirs)?;
    stream.stream().peer_is(far_end(theirs.peer_id));
    let added = swarm.handle.add_peer(stream, PeerOrigin::webrtc(), theirs).await;
    added.map_err(|_| HandshakeError::TurnedAway("the torrent is no longer active"))
}

/// What a peer says that it is. It is believed: whoever lies loses datagrams, or is sent less at once.
fn far_end(id: PeerId) -> FarEnd {
    if id.is_ours() {
        FarEnd::Ours
    } else if id.0.starts_with(PAGE_CLIENT) {
        FarEnd::Page
    } else {
        FarEnd::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webtorrent_is_taken_for_a_page_and_libtorrent_for_neither_that_nor_us() {
        assert_eq!(far_end(PeerId(*b"-WW0208-abcdefghijkl")), FarEnd::Page);
        assert_eq!(far_end(PeerId(*b"-LT2110-abcdefghijkl")), FarEnd::Other);
        assert_eq!(far_end(PeerId::ours([7; 12])), FarEnd::Ours);
    }
}
