//! What belongs to one reading and ends with it: its number, its providers, and what it has tried.
//!
//! The session, everything opened from it or lent by it, and every fetch that it began hold the same [`Life`]; when the
//! last of them is gone, sources forget the reading.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_content::{Attempt, Cid, FetchError, Stage, VerifiedBytes};

use crate::attempts::Tried;
use crate::blocks::Blocks;
use crate::fault::Fault;
use crate::patience::Patience;
use crate::search::Search;
use crate::session::{MAX_HINTS, SessionOptions};
use crate::source::SessionId;
use crate::waiting::Waiting;

/// Blocks that a reading remembers, since the end of a path is read again as the head of its file: so many, of so many
/// bytes together.
const MAX_RECENT: usize = 8;
const MAX_RECENT_BYTES: usize = 2 << 20;
/// Blocks of which a reading remembers that they had to be fetched: a path, and the head of the file at its end.
const MAX_FETCHED: usize = 64;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) id: SessionId,
    pub(crate) blocks: Arc<Blocks>,
    pub(crate) only_local: bool,
    pub(crate) search: Search,
    /// Whether any source has heard of the reading, and has to hear of its end.
    met_sources: AtomicBool,
    /// The first block that was asked for.
    root: Mutex<Option<Cid>>,
    patience: Patience,
    /// By the source's place in the list.
    tried: Mutex<Vec<Tried>>,
    recent: Mutex<VecDeque<(Cid, VerifiedBytes)>>,
    /// The last blocks that were not in the store when they were wanted.
    fetched: Mutex<VecDeque<Cid>>,
}

/// Now, by the clock that tests can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Life {
    pub(crate) fn new(blocks: Arc<Blocks>, id: SessionId, patience: Patience, options: SessionOptions) -> Arc<Self> {
        let search = Search::new(id, blocks.sources.clone(), blocks.routers.clone());
        let hints = !options.only_local && !options.hints.is_empty();
        if hints {
            options.hints.into_iter().take(MAX_HINTS).for_each(|hint| search.found.tell(hint));
        }
        Arc::new(Self {
            id,
            only_local: options.only_local,
            search,
            met_sources: AtomicBool::new(hints),
            root: Mutex::default(),
            patience: options.patience.unwrap_or(patience),
            tried: Mutex::new(vec![Tried::default(); blocks.sources.len()]),
            recent: Mutex::default(),
            fetched: Mutex::default(),
            blocks,
        })
    }

    /// Sources are about to be asked. A reading that needs none of them is never told to them: most do not.
    pub(crate) fn meet_sources(&self) {
        self.met_sources.store(true, Ordering::Relaxed);
    }

    /// The clock of one reading more.
    pub(crate) fn waiting(&self) -> Arc<Waiting> {
        Waiting::new(self.patience, self.blocks.stop.clone())
    }

    /// The first block that was asked for: providers of a DAG are those of its root.
    pub(crate) fn root_or(&self, cid: Cid) -> Cid {
        *self.root.lock().get_or_insert(cid)
    }

    pub(crate) fn try_at(&self, source: usize, change: impl FnOnce(&mut Tried)) {
        if let Some(tried) = self.tried.lock().get_mut(source) {
            change(tried);
        }
    }

    /// When any of these sources last gave a block of this DAG.
    pub(crate) fn delivered_at(&self, sources: &[usize]) -> Option<Instant> {
        let tried = self.tried.lock();
        sources.iter().filter_map(|source| tried.get(*source)?.delivered_at).max()
    }

    /// The source that gave the last block of this DAG.
    pub(crate) fn favourite(&self) -> Option<usize> {
        let tried = self.tried.lock();
        let given = tried.iter().enumerate().filter_map(|(index, tried)| Some((tried.delivered_at?, index)));
        given.max().map(|(_, index)| index)
    }

    pub(crate) fn recall(&self, cid: &Cid) -> Option<VerifiedBytes> {
        self.recent.lock().iter().find(|(have, _)| have == cid).map(|(_, block)| block.clone())
    }

    pub(crate) fn remember(&self, cid: &Cid, block: &VerifiedBytes) {
        let mut recent = self.recent.lock();
        recent.push_back((*cid, block.clone()));
        let bytes =
            |recent: &VecDeque<(Cid, VerifiedBytes)>| recent.iter().map(|(_, block)| block.len()).sum::<usize>();
        while recent.len() > MAX_RECENT || recent.len() > 1 && bytes(&recent) > MAX_RECENT_BYTES {
            recent.pop_front();
        }
    }

    /// A block has to be fetched.
    pub(crate) fn note_fetch(&self, cid: Cid) {
        let mut fetched = self.fetched.lock();
        fetched.push_back(cid);
        if fetched.len() > MAX_FETCHED {
            fetched.pop_front();
        }
    }

    /// Whether a block had to be fetched of late.
    pub(crate) fn has_fetched(&self, cid: &Cid) -> bool {
        self.fetched.lock().contains(cid)
    }

    /// What was tried: at each source, as it tells it itself where it does, and where providers were searched.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let (tried, now) = (self.tried.lock().clone(), now());
        let mut attempts = Vec::new();
        for (source, tried) in self.blocks.sources.iter().zip(&tried) {
            let theirs = source.attempts(self.id);
            if theirs.is_empty() {
                attempts.extend(tried.attempt(source.name(), now));
            } else {
                attempts.extend(theirs);
            }
        }
        attempts.extend(self.search.found.attempts());
        attempts
    }

    pub(crate) fn tell(&self, fault: &Fault, root: &Cid, stage: Stage) -> FetchError {
        fault.tell(root, stage, self.attempts())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if !*self.met_sources.get_mut() {
            return;
        }
        for source in self.blocks.sources.iter() {
            source.end_session(self.id);
        }
    }
}

/// How long a duration is, for people.
pub(crate) fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
