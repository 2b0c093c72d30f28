//! One request for IPFS content on its way: what was asked, how long it may take, and the way to what it names.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, Method};
use swarmgate_content::{Cid, ContentId, FetchError, FetchErrorKind, Stage};
use swarmgate_hybrid_rules::Network;
use swarmgate_ipfs::patience::Patience as Waits;
use swarmgate_ipfs::protocol::IpfsProtocol;
use swarmgate_ipfs::session::{Session, SessionOptions};
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::path::Resolved;

use crate::admission::Slot;
use crate::auth::{Access, Scope};
use crate::error::{Problem, ProblemKind};
use crate::exchange::Patience;
use crate::routes::ipfs::address::Address;
use crate::routes::ipfs::ask::{Ask, Format};
use crate::server::Peer;
use crate::state::{GatewayState, HttpOptions};

/// How much later than its deadline the protocol's own error may come before the gateway answers without it.
const GRACE: Duration = Duration::from_millis(250);

/// A request.
#[derive(Debug)]
pub struct Inquiry {
    /// The gateway.
    pub state: GatewayState,
    /// What it is about.
    pub address: Address,
    /// What it wants of that.
    pub ask: Ask,
    /// Whether it is a HEAD.
    pub head: bool,
    /// Its headers.
    pub headers: HeaderMap,
    /// Who asks.
    pub peer: Option<Peer>,
    /// Its slot.
    pub slot: Slot,
    /// When it came.
    pub asked: Instant,
    /// How often the denylists had changed then.
    pub lists: u64,
    /// How long it may take.
    pub patience: Patience,
    /// The reading of the DAG.
    pub session: Arc<Session>,
    /// Where readings begin.
    pub ipfs: Arc<IpfsProtocol>,
    /// Whether IPFS is not asked, though more than the cache is wanted.
    pub shut: Shut,
}

/// Whether IPFS is not asked for what the cache has not, by whose wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It is asked.
    No,
    /// The client's, who names other networks.
    ByClient,
    /// The operator's, who has switched it off for now.
    ByOperator,
}

impl Shut {
    fn of(state: &GatewayState, sources: Option<&BTreeSet<Network>>) -> Self {
        let switched_on = state.hybrid.as_ref().is_none_or(|hybrid| hybrid.usable(None).contains(&Network::Ipfs));
        match sources {
            Some(sources) if !sources.contains(&Network::Ipfs) => Self::ByClient,
            _ if !switched_on => Self::ByOperator,
            _ => Self::No,
        }
    }

    /// The problem that a failed fetch is.
    #[must_use]
    pub fn problem(self, patience: Patience, error: FetchError) -> Problem {
        let detail = match self {
            Self::ByClient => "it is not in the cache, and the request does not allow IPFS",
            Self::ByOperator => "it is not in the cache, and IPFS is switched off",
            Self::No => return patience.problem(error),
        };
        if patience.only_if_cached() || error.kind != FetchErrorKind::NotCached {
            return patience.problem(error);
        }
        Problem::new(ProblemKind::NoSource, detail).item(error.id)
    }
}

/// How long an address stays what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// For ever: it is named by its hash.
    Immutable,
    /// As long as the names that led there say.
    Named(Duration),
}

/// An immutable path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where the address as a whole leads.
    pub path: ContentPath,
    /// Where its root alone leads.
    pub root: ContentPath,
    /// How long it does.
    pub lifetime: Lifetime,
}

/// What an address leads to.
#[derive(Debug, Clone)]
pub struct Found {
    /// The end of the path.
    pub resolved: Resolved,
    /// Its name, if the path has one.
    pub name: Option<String>,
    /// How long it is that.
    pub lifetime: Lifetime,
}

impl Inquiry {
    /// Takes a request in.
    ///
    /// # Errors
    /// 501 when IPFS is switched off, 429 or 503 when no slot is free, 403, 410 or 451 when the address is not served.
    pub fn begin(state: GatewayState, parts: &Parts, address: Address, ask: Ask) -> Result<Self, Problem> {
        let asked = Instant::now();
        let Some(ipfs) = state.ipfs.clone() else {
            return Err(Problem::new(ProblemKind::Unsupported, "IPFS is switched off at this gateway"));
        };
        // Read before they are asked: a list that comes in between makes what is found out now old.
        let lists = state.denylists.changes();
        let admitted = state.denylists.admitted();
        admitted.check_root(&address.path.root, ipfs.pins().store())?;
        if admitted.may_change() && ask.format == Some(Format::IpnsRecord) {
            // A record is no content, and would be fetched for whoever asks.
            return Err(admitted.refusal());
        }
        // What is blocked is blocked with all below it.
        state.denylists.check_path(&ContentPath::new(address.path.root.clone()))?;
        state.denylists.check_path(&address.path)?;
        if ask.sources.is_some() {
            Access::of(&parts.extensions).require(Scope::Manage)?;
        }
        let peer = parts.extensions.get::<Peer>().cloned();
        let slot = state.admission.admit(peer.as_ref().map(|peer| peer.address.ip()))?;
        let cache_alone = ask.sources.as_ref().is_some_and(BTreeSet::is_empty);
        let patience = match cache_alone {
            true => Patience::for_the_cache(asked),
            false => Patience::of(&state.options, ask.wait, &parts.headers, asked),
        };
        let shut = Shut::of(&state, ask.sources.as_ref());
        let options = SessionOptions {
            patience: Some(waits(&state.options, patience)),
            only_local: patience.only_if_cached() || shut != Shut::No,
            hints: ask.hints.clone(),
        };
        let session = Arc::new(ipfs.session(options));
        let (head, headers) = (parts.method == Method::HEAD, parts.headers.clone());
        Ok(Self { state, address, ask, head, headers, peer, slot, asked, lists, patience, session, ipfs, shut })
    }

    /// Follows the names of the address.
    ///
    /// # Errors
    /// When one of them leads nowhere, or what they lead to is not served.
    pub async fn place(&self) -> Result<Place, Problem> {
        let path = &self.address.path;
        if let Root::Ipfs(_) = path.root {
            let root = ContentPath::new(path.root.clone());
            return Ok(Place { path: path.clone(), root, lifetime: Lifetime::Immutable });
        }
        let named = self.ipfs.names().resolve(&ContentPath::new(path.root.clone())).await?;
        let whole = path.onto(&named.path);
        let whole = whole.map_err(|error| Problem::new(ProblemKind::BadPath, error.to_string()))?;
        self.state.denylists.admitted().check_target(&whole.root, self.ipfs.pins().store())?;
        self.state.denylists.check_path(&whole)?;
        Ok(Place { path: whole, root: named.path, lifetime: Lifetime::Named(named.valid_for) })
    }

    /// Follows an immutable path.
    ///
    /// # Errors
    /// When it names nothing, a block on the way does not come, or what is there is not served.
    pub async fn follow(&self, path: &ContentPath) -> Result<Resolved, Problem> {
        self.within_patience(path, self.session.resolve_path(path)).await
    }

    /// The same, and on through a symlink at its end.
    ///
    /// # Errors
    /// As [`Self::follow`].
    pub async fn follow_through(&self, path: &ContentPath) -> Result<Resolved, Problem> {
        self.within_patience(path, self.session.follow_path(path)).await
    }

    async fn within_patience(
        &self,
        path: &ContentPath,
        walk: impl Future<Output = Result<Resolved, FetchError>>,
    ) -> Result<Resolved, Problem> {
        let started = Instant::now();
        let deadline = self.patience.first_byte_deadline(&self.state.options);
        let resolved = tokio::time::timeout_at((deadline + GRACE).into(), walk).await;
        let late = |_| {
            let detail = format!("the blocks on its path did not arrive within {:.1?}", started.elapsed());
            let error = FetchError::new(id(path), Stage::Resolve, FetchErrorKind::TimedOut, detail);
            Err(error.with_attempts(self.session.attempts()))
        };
        let resolved = resolved.unwrap_or_else(late).map_err(|error| self.problem(error))?;
        for cid in &resolved.roots {
            self.state.denylists.check_cid(cid)?;
        }
        Ok(resolved)
    }

    /// A reading of the same DAG that asks nobody but the cache.
    #[must_use]
    pub fn cached(&self) -> Session {
        self.ipfs.session(SessionOptions { only_local: true, ..SessionOptions::default() })
    }

    /// The problem that a failed fetch is for this client.
    #[must_use]
    pub fn problem(&self, error: FetchError) -> Problem {
        self.shut.problem(self.patience, error)
    }
}

/// Whether a problem says that a path names nothing.
#[must_use]
pub fn is_absent(problem: &Problem) -> bool {
    problem.kind() == ProblemKind::NoSuchFile
}

fn id(path: &ContentPath) -> ContentId {
    match &path.root {
        Root::Ipfs(cid) => ContentId::Ipfs(*cid),
        Root::Key(name) => ContentId::Ipfs(name.to_cid()),
        Root::Host(_) => ContentId::Ipfs(Cid::default()),
    }
}

/// What the client's patience is to a reading. Waiting is all that ends one: a stream that goes on is never cut.
pub(super) fn waits(options: &HttpOptions, patience: Patience) -> Waits {
    let first_byte = patience.first_byte_deadline(options).saturating_duration_since(Instant::now());
    Waits { first_byte, stall: options.stall, ..Waits::default() }
}
