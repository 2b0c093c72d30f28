//! One client for each tracker that some torrent wants, made with its first member and ended after its last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use swarmgate_content::InfoHash;
use tokio::sync::Mutex;

use super::client::{Carrier, ClientSetup, TrackerClient};
use super::log::label_of;
use super::member::Membership;
use super::wire::Opener;
use crate::hub::TrackerHub;

/// Trackers that are clients of at a time. Strangers' magnets name them; each holds a socket.
const MAX_CLIENTS: usize = 100;

/// A tracker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TrackerId {
    /// The one in this process.
    InProcess,
    /// One on the network, by its URL.
    Url(String),
}

impl TrackerId {
    /// What may be told of it.
    fn label(&self) -> String {
        match self {
            Self::InProcess => "our own".to_owned(),
            Self::Url(url) => label_of(url),
        }
    }
}

#[derive(Debug)]
struct Entry {
    client: TrackerClient,
    members: BTreeSet<(InfoHash, u64)>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct TrackerRegistry {
    opener: Opener,
    hub: Option<Arc<TrackerHub>>,
    setup: ClientSetup,
    clients: Mutex<BTreeMap<TrackerId, Entry>>,
}

impl TrackerRegistry {
    pub(crate) fn new(opener: Opener, hub: Option<Arc<TrackerHub>>, setup: ClientSetup) -> Self {
        Self { opener, hub, setup, clients: Mutex::default() }
    }

    /// Makes a torrent known to a tracker; tells whether there was room for the tracker.
    pub(crate) async fn join(&self, tracker: &TrackerId, membership: Membership) -> bool {
        let mut clients = self.clients.lock().await;
        if !clients.contains_key(tracker) {
            let Some(client) = self.start(tracker).filter(|_| clients.len() < MAX_CLIENTS) else {
                tracing::debug!(tracker = tracker.label(), "a tracker is passed over: too many");
                return false;
            };
            clients.insert(tracker.clone(), Entry { client, members: BTreeSet::new() });
        }
        if let Some(entry) = clients.get_mut(tracker) {
            entry.members.insert((membership.swarm.handle.infohash(), membership.swarm.serial()));
            entry.client.join(membership).await;
        }
        true
    }

    /// Ends a membership, and the client with its last one.
    pub(crate) async fn leave(&self, tracker: &TrackerId, infohash: InfoHash, serial: u64) {
        let last = {
            let mut clients = self.clients.lock().await;
            let Some(entry) = clients.get_mut(tracker) else { return };
            entry.members.remove(&(infohash, serial));
            if entry.members.is_empty() {
                clients.remove(tracker)
            } else {
                entry.client.leave(infohash, serial).await;
                None
            }
        };
        if let Some(entry) = last {
            entry.client.shutdown().await;
        }
    }

    /// Ends every client.
    pub(crate) async fn shutdown(&self) {
        let clients = std::mem::take(&mut *self.clients.lock().await);
        futures_util::future::join_all(clients.into_values().map(|entry| entry.client.shutdown())).await;
    }

    fn start(&self, tracker: &TrackerId) -> Option<TrackerClient> {
        let (label, carrier) = match tracker {
            TrackerId::InProcess => ("built-in".to_owned(), Carrier::InProcess(self.hub.clone()?)),
            TrackerId::Url(url) => (label_of(url), Carrier::WebSocket(self.opener.clone(), url.clone())),
        };
        Some(TrackerClient::spawn(label, carrier, self.setup.clone()))
    }
}
