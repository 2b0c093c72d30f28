//! Which networks may be asked: what one request allows, and what an operator has switched off for now.
//!
//! Both are part of the policy that a plan stands under. What is here is served whatever they say; a request with a
//! wish of its own has a plan of its own, which ends with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use swarmgate_content::{ContentId, FetchError, FetchErrorKind, Stage};
use swarmgate_hybrid_rules::{Network, Policy};

use crate::fetch::Fetch;
use crate::inner::Inner;
use crate::protocol::HybridProtocol;

/// The routes that have policies.
const ROUTES: [&str; 2] = ["bt", "ipfs"];

impl HybridProtocol {
    /// Whether each network may be asked, as far as the operator says at run time.
    #[must_use]
    pub fn switches(&self) -> BTreeMap<Network, bool> {
        let policy = self.inner.policies.of(ROUTES[0]);
        Network::ALL.into_iter().map(|network| (network, !policy.deny.contains(&network))).collect()
    }

    /// Lets a network be asked, or not, from now on; what it was asked for already goes on. Forgotten with the process.
    pub fn switch(&self, network: Network, on: bool) {
        let inner = &self.inner;
        let _turn = inner.switching.lock();
        let changed = |route: &str| {
            let mut policy = Policy::clone(&inner.policies.of(route));
            if on {
                policy.deny.remove(&network)
            } else {
                policy.deny.insert(network)
            };
            policy
        };
        let routes = ROUTES.map(|route| (route.to_owned(), changed(route))).into();
        inner.policies.swap(routes, changed(""));
        for fetch in inner.ledger.fetches() {
            let policy = inner.policy(fetch.outside().route, fetch.outside().allowed.as_ref());
            fetch.with_plan(|plan| plan.set_policy(policy));
        }
    }

    /// The networks of these that are not switched off; of all when `wanted` says nothing.
    #[must_use]
    pub fn usable(&self, wanted: Option<&BTreeSet<Network>>) -> BTreeSet<Network> {
        let policy = self.inner.policy(ROUTES[0], wanted);
        Network::ALL.into_iter().filter(|network| policy.allows(*network)).collect()
    }
}

impl Inner {
    /// The policy of a route, for a request that wants these networks alone.
    pub(crate) fn policy(&self, route: &str, wanted: Option<&BTreeSet<Network>>) -> Arc<Policy> {
        let policy = self.policies.of(route);
        let Some(wanted) = wanted else { return policy };
        let allowed = wanted.iter().copied().filter(|network| policy.allows(*network)).collect();
        Arc::new(Policy { allow: Some(allowed), ..Policy::clone(&policy) })
    }

    /// Whether a torrent's swarm may be asked: its peers over TCP, uTP and WebRTC are one swarm.
    pub(crate) fn swarm_is_on(&self, wanted: Option<&BTreeSet<Network>>) -> bool {
        self.policy("bt", wanted).allows(Network::BitTorrent)
    }

    /// Whether IPFS may be asked.
    pub(crate) fn ipfs_is_on(&self, wanted: Option<&BTreeSet<Network>>) -> bool {
        self.policy("ipfs", wanted).allows(Network::Ipfs)
    }

    /// Runs a fetch that one request has for itself. It ends with its reader.
    pub(crate) fn run_apart(self: &Arc<Self>, fetch: &Arc<Fetch>) {
        self.ledger.begun(fetch);
        let (inner, running) = (self.clone(), fetch.clone());
        self.tasks.spawn(async move {
            running.clone().run(inner.stop.clone()).await;
            inner.ledger.ended(&running);
        });
    }
}

/// What a client is told when nobody may be asked.
pub(crate) fn nobody_may_be_asked(id: ContentId, wanted: Option<&BTreeSet<Network>>) -> FetchError {
    let network = if id.network() == "ipfs" { "IPFS" } else { "BitTorrent" };
    let (kind, detail) = match wanted {
        None => (FetchErrorKind::NoSource, format!("{network} is switched off, and no other network has it")),
        Some(wanted) if wanted.is_empty() => (FetchErrorKind::NotCached, "it was asked for only if cached".to_owned()),
        Some(_) => (FetchErrorKind::NoSource, "none of the networks that the request allows has it".to_owned()),
    };
    FetchError::new(id, Stage::FirstByte, kind, detail)
}
