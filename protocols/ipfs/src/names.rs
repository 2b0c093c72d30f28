//! IPNS and DNSLink: from a name to an immutable path.
//!
//! A key's record comes from those imported here or from routers, a host's link from the operator's map or from DNS. A
//! name may lead to a name; the chain is bounded. What was found is kept for its TTL, at most
//! [`NamesOptions::max_ttl`].
//!
//! # Why are the routers' records not kept on disk?
//! An imported record stays until a better one is imported: somebody wanted it here. What routers tell is asked for
//! again when its time is over, and a stranger who asks for many names must not fill the disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use swarmgate_content::Attempt;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::dnslink::{Chain, HostName};
use swarmgate_ipfs_proto::ipns::{Name, Record};
use swarmgate_store::Store;

use crate::life::now;
use crate::source::Router;

mod dns;
mod kept;
mod memory;
mod records;

use dns::Dns;
use kept::KeptRecords;
use memory::Memory;

/// How names are looked up.
#[derive(Debug, Clone)]
pub struct NamesOptions {
    /// The longest that anything found is kept, whatever it says.
    pub max_ttl: Duration,
    /// Links of hosts that the operator has set; DNS is not asked about these.
    pub dnslinks: BTreeMap<HostName, ContentPath>,
    /// Whether DNS is asked at all.
    pub dns: bool,
    /// How long one name of a chain may take.
    pub timeout: Duration,
}

impl Default for NamesOptions {
    /// Five minutes, no links, no DNS, ten seconds.
    fn default() -> Self {
        let (max_ttl, timeout) = (Duration::from_secs(300), Duration::from_secs(10));
        Self { max_ttl, dnslinks: BTreeMap::new(), dns: false, timeout }
    }
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// An immutable path: its root is a CID.
    pub path: ContentPath,
    /// How long it may be cached from now on.
    pub valid_for: Duration,
    /// The record of the name that was asked for, when that is a key: what `format=ipns-record` serves.
    pub record: Option<Record>,
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, thiserror::Error)]
#[error("/ipns/{name}: {detail}")]
pub struct NameError {
    /// The name of the chain at which it ended.
    pub name: Root,
    /// What to make of it.
    pub kind: NameErrorKind,
    /// Why, for people.
    pub detail: String,
    /// What was tried.
    pub attempts: Vec<Attempt>,
}

/// What to make of a name that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameErrorKind {
    /// Nobody asked knows a record or a link.
    NotFound,
    /// There are records, and the best is expired.
    Expired,
    /// What was found is malformed, wrongly signed, or no content path.
    Invalid,
    /// The chain leads back to itself, or is too long.
    Loop,
    /// No answer in time.
    TimedOut,
    /// A host is not in the operator's map, and DNS is switched off.
    Disabled,
    /// Records cannot be read from disk or written to it.
    StoreIo,
}

impl NameError {
    fn new(name: Root, kind: NameErrorKind, detail: impl Into<String>) -> Self {
        Self { name, kind, detail: detail.into(), attempts: Vec::new() }
    }

    fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.attempts = attempts;
        self
    }
}

/// How long it is remembered that a name leads nowhere. Any request may name any host, so asking for one twice has to be
/// cheap; a key's record may be imported at any time, and asking for it costs a look at the disk.
const fn nowhere_for(error: &NameError) -> Duration {
    match (&error.name, error.kind) {
        (Root::Host(_), NameErrorKind::NotFound) => Duration::from_secs(60),
        (Root::Host(_), NameErrorKind::TimedOut) => Duration::from_secs(30),
        (Root::Ipfs(_) | Root::Key(_) | Root::Host(_), _) => Duration::ZERO,
    }
}

/// Where one name leads, and for how long.
#[derive(Debug, Clone)]
struct Step {
    target: ContentPath,
    valid_for: Duration,
    record: Option<Record>,
}

/// Looks names up. One for an application.
#[derive(Debug)]
pub struct Names {
    options: NamesOptions,
    kept: KeptRecords,
    routers: Arc<[Arc<dyn Router>]>,
    dns: Option<Dns>,
    memory: Memory,
}

impl Names {
    /// Looks names up in the records of this store, at these routers, and as the options say.
    #[must_use]
    pub fn new(store: Store, routers: Vec<Arc<dyn Router>>, options: NamesOptions) -> Self {
        let dns = options.dns.then(Dns::of_the_system).transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "DNS cannot be used: no DNSLink is looked up");
            None
        });
        Self { options, kept: KeptRecords::new(store), routers: routers.into(), dns, memory: Memory::default() }
    }

    /// Follows a name to an immutable path; what is immutable already is returned as it is, valid for ever.
    ///
    /// # Errors
    /// [`NameError`].
    pub async fn resolve(&self, path: &ContentPath) -> Result<Named, NameError> {
        let mut chain = Chain::default();
        let mut named = Named { path: path.clone(), valid_for: Duration::MAX, record: None };
        loop {
            let name = named.path.root.clone();
            let end = |kind, error: &dyn std::error::Error| NameError::new(name.clone(), kind, error.to_string());
            chain.follow(&name).map_err(|error| end(NameErrorKind::Loop, &error))?;
            let step = match &name {
                Root::Ipfs(_) => return Ok(named),
                Root::Key(key) => self.step(&name, self.follow_key(key)).await?,
                Root::Host(host) => self.step(&name, self.follow_host(host)).await?,
            };
            if named.path.root == path.root {
                named.record = step.record;
            }
            named.valid_for = named.valid_for.min(step.valid_for);
            named.path = named.path.onto(&step.target).map_err(|error| end(NameErrorKind::Invalid, &error))?;
        }
    }

    /// The record of a key, unexpired: the best of those imported here and those that routers have.
    ///
    /// # Errors
    /// [`NameError`].
    pub async fn record(&self, name: &Name) -> Result<Record, NameError> {
        let root = Root::Key(*name);
        let step = self.step(&root, self.follow_key(name)).await?;
        step.record.ok_or_else(|| NameError::new(root, NameErrorKind::NotFound, "it has no record"))
    }

    /// Keeps a record on disk, unless a better one is there. Returns the one that is kept.
    ///
    /// # Errors
    /// `Invalid` when the name has not signed it, `Expired` when its time is over, `StoreIo`.
    pub async fn import(&self, name: &Name, bytes: Bytes) -> Result<Record, NameError> {
        let record = self.kept.import(name, bytes, SystemTime::now()).await?;
        self.memory.forget(&Root::Key(*name));
        Ok(record)
    }

    /// One name, from memory if it was looked up lately.
    async fn step(
        &self,
        name: &Root,
        look_up: impl Future<Output = Result<Step, NameError>>,
    ) -> Result<Step, NameError> {
        if let Some(known) = self.memory.get(name, now()) {
            return known;
        }
        let late = || NameError::new(name.clone(), NameErrorKind::TimedOut, "nobody answered in time");
        // Whoever is asked has a limit of its own; this one is for all of them together.
        let looked_up = tokio::time::timeout(self.options.timeout * 2, look_up).await;
        let mut known = looked_up.unwrap_or_else(|_| Err(late()));
        let lasts = match &mut known {
            Ok(step) => {
                step.valid_for = step.valid_for.min(self.options.max_ttl);
                step.valid_for
            }
            Err(error) => nowhere_for(error).min(self.options.max_ttl),
        };
        self.memory.put(name.clone(), known.clone(), lasts, now());
        known
    }

    async fn follow_key(&self, name: &Name) -> Result<Step, NameError> {
        let record = self.find_record(name).await?;
        let invalid = |error: &dyn std::error::Error| {
            NameError::new(Root::Key(*name), NameErrorKind::Invalid, format!("its record leads nowhere: {error}"))
        };
        let target = record.path().map_err(|error| invalid(&error))?;
        Ok(Step { target, valid_for: record.cache_for(SystemTime::now()), record: Some(record) })
    }

    async fn follow_host(&self, host: &HostName) -> Result<Step, NameError> {
        if let Some(target) = self.options.dnslinks.get(host) {
            return Ok(Step { target: target.clone(), valid_for: self.options.max_ttl, record: None });
        }
        let Some(dns) = &self.dns else {
            let detail = "the host is not in ipfs.dnslinks, and DNS is not asked";
            return Err(NameError::new(Root::Host(host.clone()), NameErrorKind::Disabled, detail));
        };
        let (target, valid_for) = dns.link_of(host, self.options.timeout).await?;
        Ok(Step { target, valid_for, record: None })
    }
}

#[cfg(test)]
mod tests;
