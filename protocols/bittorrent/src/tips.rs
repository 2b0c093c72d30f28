//! Follows what a torrent's peers tell of where peers are, and hands it to the dialler.

use std::net::SocketAddr;
use std::sync::Arc;

use swarmgate_bittorrent_proto::peer_book::PeerSource;
use swarmgate_bittorrent_proto::peer_priority::{OwnAddresses, Sightings};
use swarmgate_egress::is_public;
use swarmgate_swarm::{SwarmHandle, Tip};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::dialer::{Found, TorrentDialer};

/// One torrent's follower.
#[derive(Debug)]
pub(crate) struct TipFollower {
    handle: SwarmHandle,
    tips: Receiver<Tip>,
    /// Addresses that no dial reached.
    unreached: mpsc::Receiver<SocketAddr>,
    dialer: Arc<TorrentDialer>,
    /// The port that peers know us by.
    outside: watch::Receiver<Option<u16>>,
    sightings: Sightings,
    own: OwnAddresses,
}

impl TipFollower {
    /// Begins to listen; what is told from now on is heard.
    pub(crate) fn new(
        handle: &SwarmHandle,
        dialer: Arc<TorrentDialer>,
        unreached: mpsc::Receiver<SocketAddr>,
        outside: watch::Receiver<Option<u16>>,
    ) -> Self {
        let (sightings, own) = (Sightings::default(), OwnAddresses::default());
        Self { tips: handle.tips(), unreached, handle: handle.clone(), dialer, outside, sightings, own }
    }

    /// Follows until the torrent ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let tip = tokio::select! {
                () = stop.cancelled() => return,
                tip = self.tips.recv() => tip,
                Some(address) = self.unreached.recv() => {
                    self.handle.seek_introduction(address);
                    continue;
                }
            };
            match tip {
                Ok(tip) => self.take(tip),
                // Some were told faster than they were heard: peers tell of them again.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, tip: Tip) {
        match tip {
            // Between the message and now the torrent may have turned out private.
            Tip::Told(_) | Tip::Punch(_) if self.handle.known().is_some_and(|known| known.info.private) => {}
            Tip::Told(addresses) => {
                // Whoever tells of them may lead us to those that no dial reaches.
                self.dialer.unreached(&addresses).into_iter().for_each(|it| self.handle.seek_introduction(it));
                self.dialer.add(&Found { source: PeerSource::Pex, addresses });
            }
            Tip::Punch(address) => self.dialer.punch(address),
            Tip::Listens(address) => self.dialer.meet(address),
            Tip::SeenAt { by, at } => {
                if let Some(at) = is_public(at).then(|| self.sightings.note(by, at)).flatten() {
                    let port = self.outside.borrow().unwrap_or_default();
                    self.know(SocketAddr::new(at, port));
                }
            }
        }
    }

    /// Peers agree on where we are: from now on they are ranked by it (BEP 40).
    fn know(&mut self, own: SocketAddr) {
        let known = if own.is_ipv4() { &mut self.own.v4 } else { &mut self.own.v6 };
        *known = Some(own);
        self.dialer.set_known_by(self.own);
        self.handle.set_own(self.own);
    }
}
