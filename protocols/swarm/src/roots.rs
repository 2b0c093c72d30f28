//! The roots of a v2 torrent's pieces in the store (BEP 52), so that a restart need not ask peers for them again.
//!
//! They are a block like any other, and a record under the v2 infohash says which. Nobody trusts it: whoever reads them
//! checks them against the roots of the files, which the infohash names.

use bytes::Bytes;
use swarmgate_content::{BlockHash, HashKind, InfoHashV2};
use swarmgate_store::{Store, VerifiedBlock};

/// The store's table of where the roots of pieces are.
const ROOTS_TABLE: &str = "bittorrent-roots";

/// Puts the roots of all pieces of a torrent into the store. What does not fit is asked of peers again after a restart.
pub async fn keep(store: &Store, id: InfoHashV2, roots: Bytes) {
    let block = VerifiedBlock::name(HashKind::Sha2_256, roots);
    let hash = *block.hash();
    let outcome = match store.put(block).await {
        Ok(()) => {
            let record = hash.to_bytes().into();
            store.put_record(ROOTS_TABLE, id.as_bytes(), record).await.map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = outcome {
        tracing::debug!(%id, error, "the roots of pieces are not cached");
    }
}

/// What the store has as the roots of all pieces of a torrent.
pub async fn stored(store: &Store, id: InfoHashV2) -> Option<Bytes> {
    let record = store.get_record(ROOTS_TABLE, id.as_bytes()).await.ok()??;
    let hash = BlockHash::from_bytes(&record)?;
    Some(store.read_all(&hash).await.ok()??.into_bytes())
}
