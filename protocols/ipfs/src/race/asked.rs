//! What a source is told of one request, and what is noted of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_content::FailureClass;

use crate::blocks::Blocks;
use crate::life::now;

/// One request to one source, withdrawn unless it is concluded.
pub(super) struct Asked {
    blocks: Arc<Blocks>,
    source: usize,
    since: Instant,
    open: bool,
}

impl Asked {
    pub(super) fn begin(blocks: &Arc<Blocks>, source: usize, now: Instant) -> Self {
        blocks.standings.lock().asked(source, now);
        Self { blocks: blocks.clone(), source, since: now, open: true }
    }

    pub(super) fn took(&self) -> Duration {
        now().saturating_duration_since(self.since)
    }

    pub(super) fn delivered(mut self, bytes: u64) {
        self.open = false;
        self.blocks.standings.lock().delivered(self.source, now(), self.took(), bytes);
    }

    pub(super) fn failed(mut self, class: FailureClass) {
        self.open = false;
        self.blocks.standings.lock().failed(self.source, now(), class);
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.open {
            self.blocks.standings.lock().withdrawn(self.source, now(), self.took());
        }
    }
}
