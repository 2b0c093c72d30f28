//! How fast peers may give and take: all of them together, and those of each torrent.
//!
//! What peers send is counted as it is read, whatever carries it, everything that they say included: who reads slower is
//! sent less. What they are sent is counted by blocks, before these are read from the store; what else we say is little, and
//! a request that waited behind blocks would cost more than it weighs.

use std::sync::Arc;

use swarmgate_pace::{Gate, Limit, Line};

/// See the module's head. Clones are the same limits.
#[derive(Debug, Clone)]
pub struct Pace {
    /// For what is sent to all peers.
    pub upload: Arc<Gate>,
    /// For what all peers send.
    pub download: Arc<Gate>,
    /// For what is sent to the peers of one torrent, each torrent by itself.
    pub item_upload: Limit,
    /// For what the peers of one torrent send, each torrent by itself.
    pub item_download: Limit,
}

impl Pace {
    /// Limits for all peers, and for those of each torrent.
    #[must_use]
    pub fn new(upload: Limit, download: Limit, item_upload: Limit, item_download: Limit) -> Self {
        Self { upload: Gate::new(upload), download: Gate::new(download), item_upload, item_download }
    }

    /// The way of one torrent's blocks to its peers.
    pub(crate) fn uploads(&self) -> Line {
        Line::of([Gate::new(self.item_upload.clone()), self.upload.clone()])
    }

    /// The way of what one torrent's peers send.
    pub(crate) fn downloads(&self) -> Line {
        Line::of([Gate::new(self.item_download.clone()), self.download.clone()])
    }
}

impl Default for Pace {
    /// No limits.
    fn default() -> Self {
        Self::new(Limit::default(), Limit::default(), Limit::default(), Limit::default())
    }
}
