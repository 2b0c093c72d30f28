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

/// How long both handshakes may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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
    let added = swarm.handle.add_peer(stream, PeerOrigin::webrtc(), theirs).await;
    added.map_err(|_| HandshakeError::TurnedAway("the torrent is no longer active"))
}
