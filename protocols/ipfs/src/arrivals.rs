//! News of what is here: whoever gives blocks to others hears of each that has come into the store, by whatever way, and
//! of the DAGs that are kept.

use std::sync::Arc;

use swarmgate_content::{BlockHash, Cid};

use crate::source::BlockSource;

/// Who is told. Clones tell the same; the default tells nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals(Arc<[Arc<dyn BlockSource>]>);

impl Arrivals {
    /// Tells these sources.
    pub(crate) const fn told_to(sources: Arc<[Arc<dyn BlockSource>]>) -> Self {
        Self(sources)
    }

    /// A block is in the store.
    pub(crate) fn tell(&self, hash: &BlockHash) {
        self.0.iter().for_each(|source| source.landed(hash));
    }

    /// A DAG is kept.
    pub(crate) fn kept(&self, root: &Cid) {
        self.0.iter().for_each(|source| source.kept(root));
    }

    /// A DAG is not kept any more.
    pub(crate) fn let_go(&self, root: &Cid) {
        self.0.iter().for_each(|source| source.let_go(root));
    }
}
