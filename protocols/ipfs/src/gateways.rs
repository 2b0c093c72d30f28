//! Trustless gateways that requests hint at and routers find: one source, in front of as many gateways as there are.
//!
//! They are strangers' words, so each stands for itself: one that fails or lies is left out, and the source as a whole
//! has then only nobody to ask. A gateway is asked for the readings for which it was named, and for no others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_content::{Attempt, BoxFuture, FailureClass, VerifiedBytes};

use crate::life::now;
use crate::source::{BlockSource, Provider, SessionId, SourceError, Want};

/// Gateways of one reading.
const MAX_PER_SESSION: usize = 8;
/// Gateways that are known at a time, those of all readings together.
const MAX_KNOWN: usize = 64;
/// For how long a gateway that lied is not asked, by whoever names it.
const LIAR_REST: Duration = Duration::from_secs(1800);
/// Failures in a row after which a gateway is left out.
const MAX_FAILURES: u32 = 3;
/// For how long, then.
const FAILURE_REST: Duration = Duration::from_secs(60);
/// Longest URL that is looked at, in bytes.
const MAX_URL_BYTES: usize = 1024;

/// Makes the source of a gateway by its URL; `None` when that is none, or may not be asked.
pub type MakeGateway = Box<dyn Fn(&str) -> Option<Arc<dyn BlockSource>> + Send + Sync>;

/// See the module's head.
pub struct FoundGateways {
    make: MakeGateway,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: BTreeMap<String, Known>,
    /// By reading: the URLs of its gateways, the one that gave the last block first.
    sessions: BTreeMap<SessionId, Vec<String>>,
}

#[derive(Debug)]
struct Known {
    source: Arc<dyn BlockSource>,
    failures: u32,
    rests_until: Option<Instant>,
}

impl FoundGateways {
    /// None yet. `make` is called once for each URL, within a runtime.
    #[must_use]
    pub fn new(make: MakeGateway) -> Arc<Self> {
        Arc::new(Self { make, inner: Mutex::default() })
    }

    /// The gateways to ask for a reading's block, in order.
    fn of(&self, session: SessionId) -> Vec<(String, Arc<dyn BlockSource>)> {
        let (inner, now) = (self.inner.lock(), now());
        let Some(urls) = inner.sessions.get(&session) else { return Vec::new() };
        let awake = |url: &String| {
            let known = inner.known.get(url)?;
            known.rests_until.is_none_or(|until| now >= until).then(|| (url.clone(), known.source.clone()))
        };
        urls.iter().filter_map(awake).collect()
    }

    fn note(&self, session: SessionId, url: &str, result: &Result<VerifiedBytes, SourceError>) {
        let (mut inner, now) = (self.inner.lock(), now());
        if result.is_ok()
            && let Some(urls) = inner.sessions.get_mut(&session)
            && let Some(place) = urls.iter().position(|known| known == url)
        {
            urls[..=place].rotate_right(1);
        }
        let Some(known) = inner.known.get_mut(url) else { return };
        match result.as_ref().map_err(|error| error.class) {
            Ok(_) => known.failures = 0,
            Err(FailureClass::Neutral | FailureClass::Local) => {}
            Err(FailureClass::Corruption) => known.rests_until = Some(now + LIAR_REST),
            Err(FailureClass::Source) => {
                known.failures += 1;
                if known.failures >= MAX_FAILURES {
                    known.failures = 0;
                    known.rests_until = Some(now + FAILURE_REST);
                }
            }
        }
    }

    async fn get(&self, want: Want) -> Result<VerifiedBytes, SourceError> {
        let mut said = "no gateway is known that may have it".to_owned();
        for (url, source) in self.of(want.session) {
            let result = source.fetch(want.clone()).await;
            self.note(want.session, &url, &result);
            match result {
                Ok(bytes) => return Ok(bytes),
                Err(error) => said = format!("{}: {}", source.name(), error.detail),
            }
        }
        Err(SourceError { class: FailureClass::Neutral, detail: said })
    }
}

impl Inner {
    /// Makes room by forgetting gateways that no reading uses.
    fn shed(&mut self) {
        let used: Vec<&String> = self.sessions.values().flatten().collect();
        let idle = self.known.iter().find(|(url, known)| !used.contains(url) && known.rests_until.is_none());
        let idle = idle.or_else(|| self.known.iter().find(|(url, _)| !used.contains(url)));
        if let Some(url) = idle.map(|(url, _)| url.clone()) {
            self.known.remove(&url);
        }
    }
}

impl BlockSource for FoundGateways {
    fn name(&self) -> &'static str {
        "found-gateways"
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        Box::pin(self.get(want))
    }

    fn provider(&self, session: SessionId, provider: &Provider) {
        let Provider::Gateway(url) = provider else { return };
        let mut inner = self.inner.lock();
        let full = inner.sessions.get(&session).is_some_and(|urls| urls.len() >= MAX_PER_SESSION || urls.contains(url));
        if full || url.len() > MAX_URL_BYTES {
            return;
        }
        if !inner.known.contains_key(url) {
            if inner.known.len() >= MAX_KNOWN {
                inner.shed();
            }
            let Some(source) = (self.make)(url).filter(|_| inner.known.len() < MAX_KNOWN) else { return };
            inner.known.insert(url.clone(), Known { source, failures: 0, rests_until: None });
        }
        inner.sessions.entry(session).or_default().push(url.clone());
    }

    fn end_session(&self, session: SessionId) {
        let mut inner = self.inner.lock();
        for url in inner.sessions.remove(&session).unwrap_or_default() {
            if let Some(known) = inner.known.get(&url) {
                known.source.end_session(session);
            }
        }
    }

    fn attempts(&self, session: SessionId) -> Vec<Attempt> {
        let inner = self.inner.lock();
        let urls = inner.sessions.get(&session).into_iter().flatten();
        urls.filter_map(|url| inner.known.get(url)).flat_map(|known| known.source.attempts(session)).collect()
    }
}

impl std::fmt::Debug for FoundGateways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FoundGateways").field("inner", &self.inner).finish_non_exhaustive()
    }
}
