//! What an operator wants of the sources, as data: which, how gladly, how many at once, how much twice.
//!
//! There is one policy for each route. All are replaced at once; what is in flight goes on, and the next thing that is
//! asked is asked under the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::source::Network;

/// The largest share of bytes that may be asked twice because a source is late, whatever a policy says.
pub const MAX_HEDGE_SHARE: f64 = 0.05;

/// What is wanted of the sources on one route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How gladly each network is used, 1 where nothing is said: one of weight 2 is used as though it were twice as
    /// fast. Not above 1000 nor below a thousandth.
    pub weights: BTreeMap<Network, f64>,
    /// How much later a unit may come from elsewhere before it is asked of this network, 0 where nothing is said: for
    /// links that cost money. Given up when it would make a reader wait. In seconds.
    #[serde(with = "seconds")]
    pub costs: BTreeMap<Network, Duration>,
    /// The networks that may be used; all when there is no list.
    pub allow: Option<BTreeSet<Network>>,
    /// The networks that may not, whatever is allowed.
    pub deny: BTreeSet<Network>,
    /// Sources that are asked at the same time, at most.
    pub max_sources: usize,
    /// The share of bytes that may be asked of a second source because the first is late: from 0, which means never, to
    /// [`MAX_HEDGE_SHARE`].
    pub hedge_share: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            weights: BTreeMap::new(),
            costs: BTreeMap::new(),
            allow: None,
            deny: BTreeSet::new(),
            max_sources: 8,
            hedge_share: MAX_HEDGE_SHARE,
        }
    }
}

impl Policy {
    /// Whether a network may be used.
    #[must_use]
    pub fn allows(&self, network: Network) -> bool {
        self.allow.as_ref().is_none_or(|allowed| allowed.contains(&network)) && !self.deny.contains(&network)
    }

    pub(crate) fn weight(&self, network: Network) -> f64 {
        let weight = self.weights.get(&network).copied().unwrap_or(1.0);
        if weight.is_finite() { weight.clamp(0.001, 1000.0) } else { 1.0 }
    }

    pub(crate) fn cost(&self, network: Network) -> Duration {
        self.costs.get(&network).copied().unwrap_or_default()
    }

    pub(crate) fn hedge_share(&self) -> f64 {
        if self.hedge_share.is_finite() { self.hedge_share.clamp(0.0, MAX_HEDGE_SHARE) } else { 0.0 }
    }
}

/// The policies of all routes, by the route's name. Cheap to clone; the clones are one.
#[derive(Debug, Clone, Default)]
pub struct Policies(Arc<RwLock<Arc<Table>>>);

#[derive(Debug, Default)]
struct Table {
    routes: BTreeMap<String, Arc<Policy>>,
    other: Arc<Policy>,
}

impl Policies {
    /// Takes the policies of routes, and the one of all others.
    #[must_use]
    pub fn new(routes: BTreeMap<String, Policy>, other: Policy) -> Self {
        Self(Arc::new(RwLock::new(Table::new(routes, other))))
    }

    /// The policy of a route as it is now. What holds it keeps it when all are replaced.
    #[must_use]
    pub fn of(&self, route: &str) -> Arc<Policy> {
        let table = self.0.read();
        table.routes.get(route).unwrap_or(&table.other).clone()
    }

    /// Replaces all policies at once: whoever looks sees all the old ones, or all the new ones.
    pub fn swap(&self, routes: BTreeMap<String, Policy>, other: Policy) {
        let table = Table::new(routes, other);
        *self.0.write() = table;
    }
}

impl Table {
    fn new(routes: BTreeMap<String, Policy>, other: Policy) -> Arc<Self> {
        let routes = routes.into_iter().map(|(route, policy)| (route, Arc::new(policy))).collect();
        Arc::new(Self { routes, other: Arc::new(other) })
    }
}

mod seconds {
    use super::{BTreeMap, Deserialize, Duration, Network};

    pub(super) fn serialize<S: serde::Serializer>(
        costs: &BTreeMap<Network, Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(costs.iter().map(|(network, cost)| (network, cost.as_secs_f64())))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<Network, Duration>, D::Error> {
        let seconds = BTreeMap::<Network, f64>::deserialize(deserializer)?;
        let cost = |(network, cost)| Some((network, Duration::try_from_secs_f64(cost).ok()?));
        let costs: Option<_> = seconds.into_iter().map(cost).collect();
        costs.ok_or_else(|| serde::de::Error::custom("a cost is a number of seconds, not below 0"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_was_written() {
        let policy = Policy {
            weights: BTreeMap::from([(Network::Http, 0.5)]),
            costs: BTreeMap::from([(Network::Ipfs, Duration::from_millis(250))]),
            allow: Some(BTreeSet::from([Network::BitTorrent, Network::Http])),
            deny: BTreeSet::from([Network::WebTorrent]),
            max_sources: 2,
            hedge_share: 0.01,
        };
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
        for wrong in [r#"{"costs":{"http":-1}}"#, r#"{"weight":{}}"#, r#"{"deny":["tcp"]}"#] {
            assert!(serde_json::from_str::<Policy>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn absurd_numbers_do_no_harm() {
        for number in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
            let policy =
                Policy { weights: BTreeMap::from([(Network::Http, number)]), hedge_share: number, ..Policy::default() };
            assert!((0.001..=1000.0).contains(&policy.weight(Network::Http)), "{number}");
            assert!((0.0..=MAX_HEDGE_SHARE).contains(&policy.hedge_share()), "{number}");
        }
    }

    #[test]
    fn a_swap_is_seen_by_whoever_looks_next_and_by_nobody_before() {
        let policies = Policies::new(BTreeMap::new(), Policy::default());
        let before = policies.of("bt");
        let strict = Policy { max_sources: 1, ..Policy::default() };
        policies.clone().swap(BTreeMap::from([("bt".to_owned(), strict)]), Policy::default());
        assert_eq!((before.max_sources, policies.of("bt").max_sources, policies.of("ipfs").max_sources), (8, 1, 8));
    }
}
