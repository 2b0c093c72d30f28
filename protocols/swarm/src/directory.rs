//! Which torrents are active, for those who bring peers to them by other ways than the engine's own.
//!
//! The engine enters each torrent that it starts and strikes it out when it stops. Another network's shell watches the
//! list and gives its peers to the swarms in it; it can neither start nor stop one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::{Attempt, InfoHash};
use tokio::sync::watch;

use crate::SwarmHandle;

/// Trackers of one torrent that are kept for the other ways. Strangers' magnets name them.
const MAX_TRACKERS: usize = 20;

/// Somebody who brings peers to active torrents.
pub trait PeerWay: Send + Sync + std::fmt::Debug {
    /// Whether there is anybody whom this way could ask for peers of `torrent`.
    fn may_find(&self, torrent: &ActiveSwarm) -> bool;
    /// What it tried for a torrent, and how that went.
    fn attempts(&self, infohash: &InfoHash) -> Vec<Attempt>;
}

/// An active torrent, as it is lent to those who bring peers.
#[derive(Debug, Clone)]
pub struct ActiveSwarm {
    /// Its swarm.
    pub handle: SwarmHandle,
    /// Who we are in it, over every transport.
    pub peer_id: PeerId,
    trackers: watch::Receiver<Vec<String>>,
    private: bool,
    serial: u64,
}

impl ActiveSwarm {
    /// Whether it is known to be private (BEP 27): then it may be announced to its own trackers alone.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.private || self.handle.known().is_some_and(|known| known.info.private)
    }

    /// Its own `ws:` and `wss:` trackers, as more are learnt.
    #[must_use]
    pub fn trackers(&self) -> watch::Receiver<Vec<String>> {
        self.trackers.clone()
    }

    /// Tells one activation of a torrent from the next.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }
}

/// See the module's head. Clones are one list.
#[derive(Debug, Clone, Default)]
pub struct SwarmDirectory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    torrents: Mutex<(u64, BTreeMap<InfoHash, ActiveSwarm>)>,
    ways: Mutex<Vec<Weak<dyn PeerWay>>>,
    changed: watch::Sender<u64>,
}

/// A torrent's place in the list; dropping it strikes it out.
#[derive(Debug)]
pub struct Entry {
    directory: SwarmDirectory,
    infohash: InfoHash,
    serial: u64,
    trackers: watch::Sender<Vec<String>>,
}

/// Whether a tracker is asked over a WebSocket, where it introduces WebRTC peers to each other.
#[must_use]
pub fn is_websocket_tracker(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("ws" | "wss"))
}

impl SwarmDirectory {
    /// Enters a torrent that was started; `private` when it is known from the start to be so.
    #[must_use]
    pub fn enter(&self, handle: SwarmHandle, peer_id: PeerId, private: bool, trackers: &[Vec<String>]) -> Entry {
        let infohash = handle.infohash();
        let (sender, receiver) = watch::channel(Vec::new());
        let serial = {
            let mut torrents = self.0.torrents.lock();
            torrents.0 += 1;
            let serial = torrents.0;
            torrents.1.insert(infohash, ActiveSwarm { handle, peer_id, trackers: receiver, private, serial });
            serial
        };
        let entry = Entry { directory: self.clone(), infohash, serial, trackers: sender };
        entry.add_trackers(trackers);
        self.ring();
        entry
    }

    /// Every active torrent.
    #[must_use]
    pub fn active(&self) -> BTreeMap<InfoHash, ActiveSwarm> {
        self.0.torrents.lock().1.clone()
    }

    /// One torrent, while it is active.
    #[must_use]
    pub fn get(&self, infohash: &InfoHash) -> Option<ActiveSwarm> {
        self.0.torrents.lock().1.get(infohash).cloned()
    }

    /// Changes when a torrent is entered or struck out.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Adds somebody who brings peers, for as long as they live.
    pub fn add_way(&self, way: &Arc<impl PeerWay + 'static>) {
        let way = Arc::downgrade(way);
        self.0.ways.lock().push(way);
    }

    /// Whether anybody who brings peers has somebody to ask for those of this torrent.
    #[must_use]
    pub fn may_find(&self, infohash: &InfoHash) -> bool {
        let Some(torrent) = self.get(infohash) else { return false };
        self.ways().iter().any(|way| way.may_find(&torrent))
    }

    /// What those who bring peers tried for a torrent.
    #[must_use]
    pub fn attempts(&self, infohash: &InfoHash) -> Vec<Attempt> {
        self.ways().iter().flat_map(|way| way.attempts(infohash)).collect()
    }

    fn ways(&self) -> Vec<Arc<dyn PeerWay>> {
        self.0.ways.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn ring(&self) {
        self.0.changed.send_modify(|count| *count += 1);
    }
}

impl Entry {
    /// Takes the WebSocket trackers among those of a torrent.
    pub fn add_trackers(&self, tiers: &[Vec<String>]) {
        let mine = tiers.iter().flatten().filter(|url| is_websocket_tracker(url));
        self.trackers.send_if_modified(|known| {
            let before = known.len();
            for url in mine {
                if known.len() < MAX_TRACKERS && !known.contains(url) {
                    known.push(url.clone());
                }
            }
            known.len() > before
        });
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        {
            let mut torrents = self.directory.0.torrents.lock();
            // The torrent may have been started anew before this end of it.
            if torrents.1.get(&self.infohash).is_some_and(|torrent| torrent.serial == self.serial) {
                torrents.1.remove(&self.infohash);
            }
        }
        self.directory.ring();
    }
}
