//! Trackers and peers that are named for an item after it was added, and asking its trackers again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use swarmgate_content::{Hints, InfoHash};
use swarmgate_egress::Way;

use crate::active::ActiveTorrent;
use crate::items::AddItemError;
use crate::protocol::BitTorrentProtocol;
use crate::record::Record;

/// Why nothing was done for an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemRefused {
    /// It is not known.
    #[error("it was never added, or was removed")]
    Unknown,
    /// It keeps to its own trackers.
    #[error("it is private (BEP 27): its own trackers say who its peers are, and nobody else")]
    Private,
    /// It cannot be made active.
    #[error(transparent)]
    Inactive(#[from] AddItemError),
}

impl BitTorrentProtocol {
    /// Gives an item more trackers, each in a tier of its own; those that it has are left as they are. Where they may not be
    /// contacted, the egress policy says so when they are asked.
    ///
    /// # Errors
    /// [`ItemRefused::Unknown`], [`ItemRefused::Private`].
    pub async fn add_trackers(&self, infohash: &InfoHash, urls: Vec<String>) -> Result<(), ItemRefused> {
        let (key, torrent) = self.public(infohash).await?;
        let tiers: Vec<Vec<String>> = {
            let mut items = self.engine.items.lock();
            let record = items.records.get_mut(&key).ok_or(ItemRefused::Unknown)?;
            let new = |url: &String| !record.trackers.iter().flatten().any(|known| known == url);
            let tiers: Vec<_> = urls.into_iter().filter(new).map(|url| vec![url]).collect();
            record.add(Record { trackers: tiers.clone(), ..Record::default() });
            tiers
        };
        if let Some(torrent) = torrent {
            torrent.add_trackers(&tiers);
        }
        self.engine.persist(key).await;
        Ok(())
    }

    /// Has peers of an item dialled, which is made active for it. Gives those back that may not be, each with the reason.
    ///
    /// # Errors
    /// [`ItemRefused`].
    pub async fn add_peers(
        &self,
        infohash: &InfoHash,
        mut peers: Vec<SocketAddr>,
    ) -> Result<Vec<(SocketAddr, String)>, ItemRefused> {
        let (key, _) = self.public(infohash).await?;
        let (now, gate) = (Instant::now(), &self.engine.environment.gate);
        let mut refused = Vec::new();
        peers.retain(|peer| match gate.check_dial(now, *peer, Way::Tcp) {
            Ok(()) => true,
            Err(error) => {
                refused.push((*peer, error.to_string()));
                false
            }
        });
        if !peers.is_empty() {
            let torrent = self.engine.activate_from_store(key).await?;
            torrent.add_hints(&Hints { peers, ..Hints::default() });
        }
        Ok(refused)
    }

    /// Asks an item's trackers now, those of them that allow it: one that was asked just now is asked when its own minimum
    /// is over. The item is made active for it.
    ///
    /// # Errors
    /// [`ItemRefused::Unknown`], [`ItemRefused::Inactive`].
    pub async fn announce(&self, infohash: &InfoHash) -> Result<(), ItemRefused> {
        let key = self.known_key(infohash)?;
        self.engine.activate_from_store(key).await?.announce_now();
        Ok(())
    }

    fn known_key(&self, infohash: &InfoHash) -> Result<InfoHash, ItemRefused> {
        let items = self.engine.items.lock();
        let key = items.key(*infohash);
        if items.records.contains_key(&key) { Ok(key) } else { Err(ItemRefused::Unknown) }
    }

    /// The item, unless it is known to be private, and its torrent while that is active.
    async fn public(&self, infohash: &InfoHash) -> Result<(InfoHash, Option<Arc<ActiveTorrent>>), ItemRefused> {
        let key = self.known_key(infohash)?;
        let (torrent, noted) = {
            let items = self.engine.items.lock();
            (items.active.get(&key).cloned(), items.records.get(&key).is_some_and(|record| record.private))
        };
        let private = match &torrent {
            Some(torrent) => noted || torrent.is_private(),
            None => noted || self.engine.stored_info(key).await.is_some_and(|(info, _)| info.private),
        };
        if private { Err(ItemRefused::Private) } else { Ok((key, torrent)) }
    }
}
