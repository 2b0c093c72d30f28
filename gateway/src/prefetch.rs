//! Prefetching: ranges of a file are read into the cache ahead of whoever will want them, as a reader would, and thrown
//! away here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use swarmgate_content::{ByteRange, Event, FileRef, ProtocolManager};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::state::GatewayState;

/// Files that are prefetched at once.
const AT_ONCE: usize = 16;

/// What is prefetched at this moment. Clones are one.
#[derive(Debug, Clone)]
pub struct Prefetches(Arc<Semaphore>);

/// What is to be prefetched, and how.
#[derive(Debug)]
pub struct Prefetch {
    /// Who reads it.
    manager: Arc<ProtocolManager>,
    file: FileRef,
    ranges: Vec<ByteRange>,
    /// The longest wait for the next bytes; when it is over, so is the prefetching.
    patience: Duration,
    /// Ends it.
    closing: CancellationToken,
}

impl Default for Prefetches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Prefetches {
    /// Begins to prefetch, without waiting for it; says whether there is room for one more.
    #[must_use]
    pub fn begin(&self, prefetch: Prefetch) -> bool {
        let Ok(place) = Arc::clone(&self.0).try_acquire_owned() else { return false };
        let closing = prefetch.closing.clone();
        tokio::spawn(closing.run_until_cancelled_owned(async move {
            prefetch.run().await;
            drop(place);
        }));
        true
    }
}

impl Prefetch {
    /// Parts of a file, in this order, for as long as the gateway serves and with a reader's patience.
    #[must_use]
    pub fn of(state: &GatewayState, file: FileRef, ranges: Vec<ByteRange>) -> Self {
        Self {
            manager: state.manager.clone(),
            file,
            ranges,
            patience: state.options.first_byte.max(state.options.stall),
            closing: state.closing.clone(),
        }
    }

    async fn run(self) {
        let FileRef { id: item, index: file } = self.file;
        for range in &self.ranges {
            if let Err(why) = self.read(*range).await {
                tracing::debug!(%item, file, why, "prefetching ends");
                return;
            }
        }
        let bytes = self.ranges.iter().map(ByteRange::len).sum();
        self.manager.events().publish(Event::PrefetchReady { item, file, bytes });
    }

    async fn read(&self, range: ByteRange) -> Result<(), String> {
        let late = |_| format!("nothing came for {:?}", self.patience);
        let opened = timeout(self.patience, self.manager.open(self.file, range)).await.map_err(late)?;
        let mut reader = opened.map_err(|error| error.to_string())?;
        while let Some(bytes) = timeout(self.patience, reader.next()).await.map_err(late)? {
            bytes.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}
