//! What outlives the process: the nodes known, and the items that are put again and again. Both are records of the
//! store.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use swarmgate_bittorrent_proto::dht::{KeptItem, Node, NodeId, SavedTables};
use swarmgate_store::Store;

use super::shared::Shared;

/// The store's table for what there is one of.
const TABLE: &str = "dht";
/// The key of the nodes known.
const NODES_KEY: &[u8] = b"nodes";
/// The store's table for kept items, by where they are stored in the network.
const ITEMS_TABLE: &str = "dht-items";
/// Items kept; more are put once.
pub(super) const MAX_KEPT: usize = 1000;
/// How often everything is saved.
const SAVE_INTERVAL: Duration = Duration::from_secs(15 * 60);

pub(super) async fn load_tables(store: Option<&Store>) -> Option<SavedTables> {
    match store?.get_record(TABLE, NODES_KEY).await {
        Ok(bytes) => bytes.and_then(|bytes| SavedTables::decode(&bytes)),
        Err(error) => {
            tracing::warn!(%error, "the DHT's nodes cannot be read; it begins with its bootstrap hosts");
            None
        }
    }
}

pub(super) async fn load_items(store: Option<&Store>, node: &mut Node) {
    let Some(store) = store else { return };
    let records = match store.list_records(ITEMS_TABLE).await {
        Ok(records) => records,
        Err(error) => {
            tracing::warn!(%error, "items that are kept in the DHT cannot be read");
            return;
        }
    };
    let unix = unix_now();
    for (_, bytes) in records.into_iter().take(MAX_KEPT) {
        match KeptItem::decode(&bytes, unix) {
            Some(kept) => drop(node.keep(Instant::now(), kept.item, kept.due)),
            None => tracing::warn!("an item that is kept in the DHT makes no sense and is left alone"),
        }
    }
}

/// Saves now and then, and at once what has changed in a way that cannot be found again, until the node stops.
pub(super) async fn save_regularly(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(SAVE_INTERVAL) => {}
        }
        save(&shared).await;
    }
}

/// Saves everything.
pub(super) async fn save(shared: &Shared) {
    let Some(store) = &shared.store else { return };
    let tables = shared.read(Node::tables);
    if !tables.nodes.is_empty()
        && let Err(error) = store.put_record(TABLE, NODES_KEY, tables.encode().into()).await
    {
        tracing::warn!(%error, "the DHT's nodes were not saved");
    }
    let kept = shared.read(|node| node.kept(Instant::now()));
    // Together, so that they share the store's commits.
    join_all(kept.iter().map(|kept| save_item(store, kept))).await;
}

pub(super) async fn save_item(store: &Store, kept: &KeptItem) {
    let (target, bytes) = (kept.item.target(), kept.encode(unix_now()));
    if let Err(error) = store.put_record(ITEMS_TABLE, target.as_bytes(), bytes.into()).await {
        tracing::warn!(%target, %error, "an item that is kept in the DHT was not saved");
    }
}

pub(super) async fn forget_item(store: &Store, target: &NodeId) {
    if let Err(error) = store.delete_record(ITEMS_TABLE, target.as_bytes()).await {
        tracing::warn!(%target, %error, "an item that is kept in the DHT no longer is still saved");
    }
}

/// The time of day, in seconds since 1970.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
