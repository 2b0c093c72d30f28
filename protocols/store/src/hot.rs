//! The blocks kept in memory: all of them in a memory store, the recently used ones in front of a disk.

use swarmgate_content::VerifiedBytes;

use crate::eviction::Evictor;
use crate::key::Key;

/// The longest block kept in memory in front of a disk. Longer ones would push everything else out for one reader.
pub(crate) const HOT_BLOCK_BYTES: usize = 8 * 1024 * 1024;

/// A referenced block is kept up to this fraction of the budget, however long: every range of it that is read later
/// would cost reading and hashing all of it again.
const REFERENCED_DIVISOR: u64 = 8;

/// Whole blocks in memory, within a budget of their own.
#[derive(Debug)]
pub(crate) struct Hot {
    blocks: Evictor<Key, VerifiedBytes>,
    max_bytes: u64,
    max_block_bytes: usize,
    max_referenced_bytes: u64,
}

impl Hot {
    /// A cache in front of a disk.
    pub(crate) fn cache(max_bytes: u64) -> Self {
        let max_referenced_bytes = max_bytes / REFERENCED_DIVISOR;
        Self { blocks: Evictor::new(), max_bytes, max_block_bytes: HOT_BLOCK_BYTES, max_referenced_bytes }
    }

    /// The only place of all blocks; the ledger bounds it. Referenced ones are not in the ledger, so none is kept.
    pub(crate) fn store() -> Self {
        Self { blocks: Evictor::new(), max_bytes: u64::MAX, max_block_bytes: usize::MAX, max_referenced_bytes: 0 }
    }

    /// Whether a block of this length would be kept.
    pub(crate) const fn wants(&self, len: usize) -> bool {
        len <= self.max_block_bytes && len as u64 <= self.max_bytes
    }

    /// Whether a referenced block of this length would be kept.
    pub(crate) const fn wants_referenced(&self, len: usize) -> bool {
        len as u64 <= self.max_referenced_bytes
    }

    /// Keeps a block if it fits. Returns what had to go: freeing megabytes takes longer than the caller should hold its
    /// lock, so it drops them afterwards.
    #[must_use = "to be dropped outside the lock"]
    pub(crate) fn insert(&mut self, key: Key, bytes: VerifiedBytes, tick: u64) -> Vec<VerifiedBytes> {
        if self.wants(bytes.len()) { self.keep(key, bytes, tick) } else { vec![bytes] }
    }

    /// Keeps a referenced block if it fits; as [`Self::insert`].
    #[must_use = "to be dropped outside the lock"]
    pub(crate) fn insert_referenced(&mut self, key: Key, bytes: VerifiedBytes, tick: u64) -> Vec<VerifiedBytes> {
        if self.wants_referenced(bytes.len()) { self.keep(key, bytes, tick) } else { vec![bytes] }
    }

    fn keep(&mut self, key: Key, bytes: VerifiedBytes, tick: u64) -> Vec<VerifiedBytes> {
        let mut gone: Vec<_> = self.blocks.insert(key, bytes.len() as u64, tick, bytes).into_iter().collect();
        while self.blocks.bytes() > self.max_bytes {
            let Some((_, _, bytes)) = self.blocks.pop_oldest() else { break };
            gone.push(bytes);
        }
        gone
    }

    /// Uses a block, if it is here.
    pub(crate) fn touch(&mut self, key: &Key, tick: u64) -> Option<VerifiedBytes> {
        self.blocks.touch(key, tick).map(|(_, bytes)| bytes.clone())
    }

    /// Lets a block go.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<VerifiedBytes> {
        self.blocks.remove(key).map(|(_, bytes)| bytes)
    }

    /// Bytes kept.
    pub(crate) const fn bytes(&self) -> u64 {
        self.blocks.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::vouch;
    use swarmgate_content::BlockHash;

    #[test]
    fn the_cache_keeps_the_recently_used_within_its_budget_and_refuses_giants() {
        let key = |number| Key::from(&BlockHash::sha1([number; 20]));
        let block = |len: usize| vouch(vec![0; len].into());
        let mut hot = Hot::cache(100);
        assert!(hot.insert(key(1), block(50), 1).is_empty());
        assert!(hot.insert(key(2), block(50), 2).is_empty());
        assert!(hot.touch(&key(1), 3).is_some());
        assert_eq!(hot.insert(key(3), block(10), 4).len(), 1);
        assert!(hot.touch(&key(2), 5).is_none(), "2 was the least recently used");
        assert_eq!(hot.insert(key(4), block(101), 6).len(), 1);
        assert_eq!(hot.bytes(), 60);
        assert_eq!(hot.insert_referenced(key(5), block(13), 7).len(), 1, "beyond an eighth");
        assert!(hot.insert_referenced(key(6), block(12), 8).is_empty());
        assert_eq!(Hot::store().insert_referenced(key(1), block(1), 1).len(), 1, "nothing would bound it");
    }
}
