//! Items of the DHT (BEP 44) for borrowers of the node: got, put, and kept there.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use swarmgate_bittorrent_proto::dht::{Item, ItemError, KeptItem, MutableItem, NodeId, PublicKey, SearchId};
use tokio::sync::oneshot;

use super::DhtHandle;
use super::records::{self, MAX_KEPT};
use super::shared::Shared;

/// How a put went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Nodes that took the item: 8, fewer in a small network.
    pub nodes: usize,
    /// The later version that was there, in which case nothing was put.
    pub newer: Option<i64>,
}

/// Why a lookup or a put was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The node has stopped.
    #[error("the DHT node has stopped")]
    Stopped,
    /// Too much is looked up already.
    #[error("too many lookups are under way in the DHT")]
    Busy,
    /// It cannot be stored.
    #[error(transparent)]
    Item(#[from] ItemError),
}

/// Ends a lookup whose result nobody waits for any more.
struct Guard {
    shared: Weak<Shared>,
    search: SearchId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.cancel(self.search);
        }
    }
}

impl DhtHandle {
    /// Gets the value with this hash, bencoded, if a node has it. Ends within seconds.
    ///
    /// # Errors
    /// When the lookup cannot be made.
    pub async fn get_immutable(&self, target: [u8; 20]) -> Result<Option<Bytes>, LookupError> {
        let item = self.get(NodeId::new(target), &[]).await?;
        Ok(item.map(|item| item.value().clone()))
    }

    /// Gets the latest version of a key's item that the nodes have, if they have one. Ends within seconds.
    ///
    /// # Errors
    /// As [`Self::get_immutable`].
    pub async fn get_mutable(&self, key: &PublicKey, salt: &[u8]) -> Result<Option<MutableItem>, LookupError> {
        Ok(match self.get(key.target(salt), salt).await? {
            Some(Item::Mutable(item)) => Some(item),
            Some(Item::Immutable(_)) | None => None,
        })
    }

    /// Puts a bencoded value of at most 1000 bytes. With `keep` it is put again each hour, restarts included.
    ///
    /// # Errors
    /// When the value cannot be stored, or the put cannot be made.
    pub async fn put_immutable(&self, value: Bytes, keep: bool) -> Result<Stored, LookupError> {
        self.put(Item::immutable(value)?, None, keep).await
    }

    /// Puts a version of a key's item; with `cas`, only in place of that version. With `keep` as above.
    ///
    /// # Errors
    /// As [`Self::put_immutable`].
    pub async fn put_mutable(&self, item: MutableItem, cas: Option<i64>, keep: bool) -> Result<Stored, LookupError> {
        self.put(Item::Mutable(item), cas, keep).await
    }

    /// Puts what is stored under `target` no more; nodes forget it within two hours.
    pub async fn forget(&self, target: [u8; 20]) {
        let Some(shared) = self.shared() else { return };
        let target = NodeId::new(target);
        shared.tell(|node, _| node.forget(&target));
        if let Some(store) = &shared.store {
            records::forget_item(store, &target).await;
        }
    }

    async fn get(&self, target: NodeId, salt: &[u8]) -> Result<Option<Item>, LookupError> {
        let (sender, receiver) = oneshot::channel();
        let shared = self.shared().ok_or(LookupError::Stopped)?;
        let search = shared.get(|node, now| node.get(now, target, salt), sender).ok_or(LookupError::Busy)?;
        let _guard = Guard { shared: Arc::downgrade(&shared), search };
        drop(shared);
        receiver.await.map_err(|_| LookupError::Stopped)
    }

    async fn put(&self, item: Item, cas: Option<i64>, keep: bool) -> Result<Stored, LookupError> {
        let (sender, receiver) = oneshot::channel();
        let shared = self.shared().ok_or(LookupError::Stopped)?;
        let search = shared.put(item.clone(), cas, sender).ok_or(LookupError::Busy)?;
        let _guard = Guard { shared: Arc::downgrade(&shared), search };
        drop(shared);
        let stored = receiver.await.map_err(|_| LookupError::Stopped)?;
        if keep && stored.newer.is_none() {
            self.keep(item).await;
        }
        Ok(stored)
    }

    async fn keep(&self, item: Item) {
        let Some(shared) = self.shared() else { return };
        let kept = KeptItem { item, due: HOUR };
        let room = shared.read(|node| node.kept(std::time::Instant::now()).len()) < MAX_KEPT;
        if room
            && shared.tell(|node, now| node.keep(now, kept.item.clone(), kept.due))
            && let Some(store) = &shared.store
        {
            records::save_item(store, &kept).await;
        }
    }
}

/// An item that was just put is put again in an hour.
const HOUR: Duration = Duration::from_secs(3600);
