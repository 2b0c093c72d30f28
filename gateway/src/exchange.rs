//! One content request on its way: what was asked, how long it may take, and the slot it holds.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderMap, Method};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{
    ByteRange, ContentId, ContentMeta, FetchError, FetchErrorKind, FileRef, ResolveRequest, Stage,
};

use crate::admission::Slot;
use crate::auth::link::Place;
use crate::auth::{Access, Entry, Scope};
use crate::catalogue::wire;
use crate::error::{Problem, ProblemKind};
use crate::prefetch::Prefetch;
use crate::query::ContentQuery;
use crate::server::Peer;
use crate::state::{GatewayState, HttpOptions};
use crate::{links, rates};

/// What `wait=0` still allows: the time to read what is known from the cache's disk.
const KNOWN_ONLY: Duration = Duration::from_millis(500);

/// How much later than its deadline a protocol's own error may come before the gateway answers without it.
const GRACE: Duration = Duration::from_millis(250);

/// A content request.
#[derive(Debug)]
pub struct Exchange {
    /// The gateway.
    pub state: GatewayState,
    /// Its parameters.
    pub query: ContentQuery,
    /// Which content it is about, with hints and a selection of files.
    pub magnet: Magnet,
    /// Whether it is a HEAD, which never opens a reader.
    pub head: bool,
    /// Its headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: Option<Peer>,
    /// By what right.
    pub entry: Entry,
    /// Whom it counts for, where its client may ask for so many new contents only.
    stranger: Option<IpAddr>,
    /// Its slot.
    pub slot: Slot,
    /// When it came.
    pub asked: Instant,
    /// How long it may take.
    pub patience: Patience,
}

/// How long a request may take until its first byte.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// When all of it must be over, if the client said.
    until: Option<Instant>,
    /// Whether the client wants it from the cache or not at all.
    only_if_cached: bool,
}

impl Exchange {
    /// Takes a request in.
    ///
    /// # Errors
    /// When a parameter cannot be read or no slot is free.
    pub fn begin(state: GatewayState, parts: &Parts, magnet: Magnet) -> Result<Self, Problem> {
        let asked = Instant::now();
        let query = ContentQuery::parse(parts.uri.query())?;
        if query.sources.is_some() || !query.prefetch.is_empty() {
            // Whoever chooses the networks chooses whom the operator's machine talks to; and who has parts fetched that it
            // may never read takes their places from the operator's own.
            Access::of(&parts.extensions).require(Scope::Manage)?;
        }
        let peer = parts.extensions.get::<Peer>().cloned();
        let slot = state.admission.admit(peer.as_ref().map(|peer| peer.address.ip()))?;
        let patience = Patience::of(&state.options, query.wait, &parts.headers, asked);
        let cache_alone = query.sources.as_ref().is_some_and(BTreeSet::is_empty);
        let patience = if cache_alone { Patience::for_the_cache(asked) } else { patience };
        let (head, entry) = (parts.method == Method::HEAD, Entry::of(&parts.extensions));
        let (headers, stranger) = (parts.headers.clone(), rates::stranger_of(&state.options, &parts.extensions));
        Ok(Self { state, query, magnet, head, headers, peer, entry, stranger, slot, asked, patience })
    }

    /// What signs links of an answer that was made for this client: whoever has them reads the content too, for as long as
    /// the client's own link works, or as long as links do. `None` where content is open to it without.
    #[must_use]
    pub fn signature(&self, id: &ContentId) -> Option<String> {
        let options = &self.state.options;
        let expires = match self.entry {
            Entry::Open => return None,
            Entry::Credentials => options.clock.seconds() + options.link_ttl.as_secs(),
            Entry::Link { expires } => expires,
        };
        let place = Place::of(&links::listing_path(id), None)?;
        Some(self.state.link_key.sign(&place.content(), expires))
    }

    /// Counts a torrent that the gateway takes up for this request.
    fn count_if_new(&self, id: &ContentId) -> Result<(), Problem> {
        let Some(stranger) = self.stranger else { return Ok(()) };
        let is_known = wire(id).is_some_and(|wire| self.state.catalogue.item(&wire).is_some());
        if is_known { Ok(()) } else { self.state.rates.new_item(stranger, self.asked) }
    }

    /// Finds out what a content is.
    ///
    /// # Errors
    /// The protocol's error, or one for the deadline; 403, 410 or 451 when it is not served, 429 when the client has asked
    /// for too much that is new.
    pub async fn resolve(&self, id: ContentId) -> Result<Arc<ContentMeta>, Problem> {
        self.state.denylists.admitted().check_torrent(&id, &*self.state.catalogue)?;
        self.state.denylists.check_content(&id, "")?;
        self.count_if_new(&id)?;
        let started = Instant::now();
        let deadline = self.patience.until.unwrap_or(started + self.state.options.resolve);
        let hints = self.magnet.hints.clone();
        let resolve = self.state.manager.resolve(ResolveRequest { id, hints, deadline });
        let resolved = tokio::time::timeout_at((deadline + GRACE).into(), resolve).await;
        let late = || {
            let detail = format!("its metadata did not arrive within {:.1?}", started.elapsed());
            Err(FetchError::new(id, Stage::Resolve, FetchErrorKind::TimedOut, detail))
        };
        resolved.unwrap_or_else(|_| late()).map_err(|error| self.patience.problem(error))
    }

    /// Begins to fetch what the client wants in the cache beside what it is answered. It is a wish: nothing of it is done
    /// where as much is fetched ahead as may be, or nobody may be asked.
    pub fn prefetch(&self, file: FileRef, len: u64) {
        let ranges: Vec<_> = self.query.prefetch.iter().filter_map(|part| part.of(len)).collect();
        if ranges.is_empty() || self.patience.only_if_cached || self.query.sources.is_some() {
            return;
        }
        if !self.state.prefetches.begin(Prefetch::of(&self.state, file, ranges)) {
            tracing::debug!(item = %file.id, file = file.index, "as many files are prefetched as may be at once");
        }
    }

    /// Refuses a torrent's content that was asked for only if cached, unless all of it is here: these ranges, each of the
    /// file with that number. What begins and cannot go on would be cut.
    ///
    /// # Errors
    /// 412.
    pub async fn check_cached(&self, id: &ContentId, ranges: Vec<(usize, ByteRange)>) -> Result<(), Problem> {
        let Some(wire) = wire(id) else { return Ok(()) };
        if self.state.catalogue.has(&wire, ranges).await { Ok(()) } else { Err(not_cached(*id)) }
    }
}

impl Patience {
    /// Reads how long a client wants to wait, and whether for more than the cache.
    #[must_use]
    pub fn of(options: &HttpOptions, wait: Option<Duration>, headers: &HeaderMap, asked: Instant) -> Self {
        let control = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let only_if_cached =
            control.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("only-if-cached"));
        let wait = if only_if_cached { Some(Duration::ZERO) } else { wait };
        let until = wait.map(|wait| asked + wait.min(options.max_wait).max(KNOWN_ONLY));
        Self { until, only_if_cached }
    }

    /// The same for a request that wants it from the cache or not at all, however it says so.
    #[must_use]
    pub(crate) fn for_the_cache(asked: Instant) -> Self {
        Self { until: Some(asked + KNOWN_ONLY), only_if_cached: true }
    }

    /// Whether the client wants it from the cache or not at all.
    #[must_use]
    pub const fn only_if_cached(&self) -> bool {
        self.only_if_cached
    }

    /// When the first byte must be there.
    #[must_use]
    pub fn first_byte_deadline(&self, options: &HttpOptions) -> Instant {
        self.until.unwrap_or_else(|| Instant::now() + options.first_byte)
    }

    /// The problem that a failed fetch is for this client: who wants it cached or not at all is told that it is not.
    #[must_use]
    pub fn problem(&self, error: FetchError) -> Problem {
        let absent = matches!(error.kind, FetchErrorKind::TimedOut | FetchErrorKind::NoSource);
        if self.only_if_cached && absent {
            return not_cached(error.id);
        }
        error.into()
    }
}

/// What a client is told who wants a content from the cache or not at all.
pub(crate) fn not_cached(id: ContentId) -> Problem {
    Problem::new(ProblemKind::NotCached, "it was asked for only if cached").item(id)
}
