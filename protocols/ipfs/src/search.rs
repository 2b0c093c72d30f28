//! Who may have a DAG: what a request hints at, and what routers find. Each is told to every source once.
//!
//! Routers are asked when nobody who is connected has delivered; the searches of a reading end with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use swarmgate_content::{Attempt, AttemptOutcome, Cid};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::attempts::router_kind;
use crate::source::{BlockSource, Provider, Router, SessionId};

/// Providers that one reading knows.
const MAX_PROVIDERS: usize = 64;
/// Different blocks that one reading searches providers of.
const MAX_SEARCHES: usize = 8;
/// How long one router may search.
const SEARCH_TIME: Duration = Duration::from_secs(60);
/// Searches whose end is remembered for whoever asks what was tried.
const MAX_LOG: usize = 32;

/// The providers of one reading.
#[derive(Debug)]
pub(crate) struct Found {
    session: SessionId,
    sources: Arc<[Arc<dyn BlockSource>]>,
    known: Mutex<Vec<Provider>>,
    running: AtomicUsize,
    /// Counts what is new: a provider, or the end of a search.
    news: watch::Sender<u64>,
    log: Mutex<Vec<Attempt>>,
}

/// The searches of one reading. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) found: Arc<Found>,
    routers: Arc<[Arc<dyn Router>]>,
    begun: Mutex<Begun>,
}

#[derive(Debug, Default)]
struct Begun {
    cids: Vec<Cid>,
    tasks: JoinSet<()>,
}

impl Found {
    /// Somebody may have the DAG.
    pub(crate) fn tell(&self, provider: Provider) {
        let mut known = self.known.lock();
        if known.len() >= MAX_PROVIDERS || known.contains(&provider) {
            return;
        }
        for source in self.sources.iter() {
            source.provider(self.session, &provider);
        }
        known.push(provider);
        drop(known);
        self.news.send_modify(|count| *count += 1);
    }

    /// Tells another reading, which fetches for this one too, of everybody this one knows.
    pub(crate) fn share_with(&self, other: &Self) {
        let known = self.known.lock().clone();
        for provider in known {
            other.tell(provider);
        }
    }

    /// Follows what is new.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Whether a search is under way.
    pub(crate) fn is_searching(&self) -> bool {
        self.running.load(Ordering::Acquire) > 0
    }

    /// How many providers are known.
    pub(crate) fn count(&self) -> usize {
        self.known.lock().len()
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.log.lock().clone()
    }

    async fn search(self: Arc<Self>, router: Arc<dyn Router>, cid: Cid) {
        let ended = SearchEnd(&self);
        let (began, before) = (Instant::now(), self.count());
        let tell = |provider| self.tell(provider);
        let result = tokio::time::timeout(SEARCH_TIME, router.providers(&cid, &tell)).await;
        let outcome = match result {
            Err(_) => AttemptOutcome::Timeout,
            Ok(Err(error)) => AttemptOutcome::Failed(error.detail),
            Ok(Ok(())) => AttemptOutcome::Ok(format!("{} providers", self.count().saturating_sub(before))),
        };
        let source = router_kind(router.name());
        self.note(Attempt { source, target: Some(router.name().to_owned()), outcome, took: began.elapsed() });
        drop(ended);
    }

    fn note(&self, attempt: Attempt) {
        let mut log = self.log.lock();
        if log.len() < MAX_LOG {
            log.push(attempt);
        }
    }
}

/// Counts a search out, however it ends.
struct SearchEnd<'a>(&'a Found);

impl Drop for SearchEnd<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
        self.0.news.send_modify(|count| *count += 1);
    }
}

impl Search {
    pub(crate) fn new(
        session: SessionId,
        sources: Arc<[Arc<dyn BlockSource>]>,
        routers: Arc<[Arc<dyn Router>]>,
    ) -> Self {
        let found = Found {
            session,
            sources,
            known: Mutex::default(),
            running: AtomicUsize::new(0),
            news: watch::Sender::new(0),
            log: Mutex::default(),
        };
        Self { found: Arc::new(found), routers, begun: Mutex::default() }
    }

    /// Has every router search who has a block, once for each block, in the background. Whether that is new.
    pub(crate) fn begin(&self, cid: &Cid) -> bool {
        let mut begun = self.begun.lock();
        if self.routers.is_empty() || begun.cids.len() >= MAX_SEARCHES || begun.cids.contains(cid) {
            return false;
        }
        begun.cids.push(*cid);
        for router in self.routers.iter() {
            self.found.running.fetch_add(1, Ordering::AcqRel);
            begun.tasks.spawn(self.found.clone().search(router.clone(), *cid));
        }
        true
    }
}
