//! What an operator asks of a store as a whole: what takes how much, to let go, and what to hash again.

use swarmgate_content::{BlockHash, HashKind};

use crate::options::Amount;
use crate::store::Store;

/// Names that are looked at, or leave the index, in one go, so that readers wait a millisecond and not a second.
const AT_ONCE: usize = 1024;

impl Store {
    /// Deletes everything that is neither pinned nor in a window, and says what that was. Blocks put meanwhile may stay.
    pub async fn clear(&self) -> Amount {
        self.let_go(u64::MAX).await
    }

    /// Deletes the least recently used, but nothing that is pinned or in a window, until all blocks are at most
    /// `most_bytes` and the volume has the free bytes that it is to keep ([`StoreOptions::min_free_bytes`]), and says
    /// what that was. Puts keep both bounds by themselves; others may have filled the volume since.
    ///
    /// [`StoreOptions::min_free_bytes`]: crate::StoreOptions::min_free_bytes
    pub async fn collect(&self, most_bytes: u64) -> Amount {
        // Asked before the lock is taken: it may have to ask the system.
        let lack = self.inner().disk().map_or(0, |disk| disk.volume.lack());
        let need = self.inner().state.lock().ledger.surplus(most_bytes, lack);
        self.let_go(need).await
    }

    /// What is here by the hash that names it, those of which nothing is here left out.
    #[must_use]
    pub fn kinds(&self) -> Vec<(HashKind, Amount)> {
        self.inner().state.lock().ledger.kinds()
    }

    /// What is here of a pinned root; nothing of one that is not pinned. Blocks that are referenced do not count.
    #[must_use]
    pub fn amount_of_root(&self, root: &str) -> Amount {
        let (mut all, mut after) = (Amount::default(), None);
        loop {
            // A root may have a million names: in between, others get the lock.
            let (some, last) = self.inner().state.lock().ledger.part_of_root(root, after, AT_ONCE);
            all = Amount { blocks: all.blocks + some.blocks, bytes: all.bytes + some.bytes };
            if last.is_none() {
                return all;
            }
            after = last;
        }
    }

    /// The blocks whose digest begins with this byte, with their lengths, in order; those of all 256 bytes are all that
    /// the store has itself. A look at all names: for who has the store for itself.
    #[must_use]
    pub fn blocks_at(&self, first: u8) -> Vec<(BlockHash, u64)> {
        let names = self.inner().state.lock().ledger.names_at(first);
        names.into_iter().map(|(key, len)| (key.hash(), len)).collect()
    }

    /// Deletes the least recently used that nobody holds until they are `need` bytes.
    async fn let_go(&self, need: u64) -> Amount {
        let mut gone = Amount::default();
        let Some(active) = self.inner().enter() else { return gone };
        // Who puts blocks meanwhile is not raced.
        let mut left = usize::try_from(self.usage().blocks).unwrap_or(usize::MAX);
        while gone.bytes < need && left > 0 {
            let count = left.min(AT_ONCE);
            let victims = self.inner().state.lock().ledger.take_oldest(need - gone.bytes, count);
            if victims.is_empty() {
                break;
            }
            left -= victims.len();
            gone = victims.iter().fold(gone, |gone, victim| gone.and(victim.len));
            self.destroy_and_wait(&active, victims).await;
        }
        gone
    }
}
