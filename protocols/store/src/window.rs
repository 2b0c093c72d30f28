//! What one reader protects from eviction while it reads.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use swarmgate_content::BlockHash;

use crate::inner::Inner;
use crate::key::Key;

/// One reader's window: the blocks around its position, here already or still to come. Dropping it lets them go.
///
/// Windows of several readers may overlap; a block is spared until the last one has left it.
#[derive(Debug)]
pub struct Window {
    inner: Arc<Inner>,
    keys: Mutex<Vec<Key>>,
}

impl Window {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        inner.windows.fetch_add(1, Ordering::Relaxed);
        Self { inner, keys: Mutex::new(Vec::new()) }
    }

    /// Replaces what this reader protects. Costs O(log n) for each block old and new, so windows are kept to what is
    /// read soon or was read just now.
    pub fn set(&self, hashes: Vec<BlockHash>) {
        let mut new: Vec<Key> = hashes.into_iter().map(|hash| Key::from(&hash)).collect();
        new.sort_unstable();
        new.dedup();
        let mut keys = self.keys.lock();
        self.inner.state.lock().ledger.move_window(&keys, &new);
        *keys = new;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let keys = self.keys.get_mut();
        self.inner.state.lock().ledger.move_window(keys, &[]);
        self.inner.windows.fetch_sub(1, Ordering::Relaxed);
    }
}
