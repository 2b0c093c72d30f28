//! What the plan is told of a source: who it is, what it can do, what it has, and with whom it would fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::breaker::BreakerKey;
use crate::units::Unit;

/// A source of one content: an opaque number that its owner chose. Two sources behind one address are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SourceKey(pub u64);

/// By what a source delivers. Policies speak of these, and clients are told by which of them their bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// BitTorrent over TCP and uTP.
    #[serde(rename = "bt")]
    BitTorrent,
    /// BitTorrent over WebRTC.
    #[serde(rename = "webrtc")]
    WebTorrent,
    /// IPFS, by Bitswap or from a trustless gateway.
    Ipfs,
    /// Web seeds (BEP 19) and mirrors.
    Http,
}

impl Network {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BitTorrent, Self::WebTorrent, Self::Ipfs, Self::Http];

    /// A short word for it: `bt`, `webrtc`, `ipfs` or `http`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::BitTorrent => "bt",
            Self::WebTorrent => "webrtc",
            Self::Ipfs => "ipfs",
            Self::Http => "http",
        }
    }
}

/// What fails together: a host, an uplink, a network. A second source is worth asking when it is in another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Domain(pub u64);

/// What earlier readings have shown of a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prior {
    /// Verified bytes a second.
    pub goodput: f64,
    /// From asking to the first byte.
    pub latency: Duration,
}

/// A source of one content.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// Its name for operators.
    pub name: Arc<str>,
    /// By what it delivers.
    pub network: Network,
    /// With whom it fails.
    pub domain: Domain,
    /// The breaker that says whether it may be asked.
    pub breaker: BreakerKey,
    /// Whether it can start in the middle of the content. One that cannot is only given units in order from the first.
    pub can_range: bool,
    /// Its place when nothing is known of any: the lowest starts first.
    pub rank: u32,
    /// Bytes that it may be asked for at a time. One unit is always allowed.
    pub max_in_flight_bytes: u64,
    /// Units that it may be asked for at a time.
    pub max_in_flight_units: u32,
    /// What earlier readings have shown of it.
    pub prior: Option<Prior>,
}

/// Which units a source has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holdings {
    /// The whole content.
    All,
    /// These.
    Only(BTreeSet<Unit>),
    /// All but these.
    AllBut(BTreeSet<Unit>),
}

impl Holdings {
    pub(crate) fn has(&self, unit: Unit) -> bool {
        match self {
            Self::All => true,
            Self::Only(units) => units.contains(&unit),
            Self::AllBut(units) => !units.contains(&unit),
        }
    }

    pub(crate) fn set(&mut self, unit: Unit, has: bool) {
        match self {
            Self::All if has => {}
            Self::All => *self = Self::AllBut(BTreeSet::from([unit])),
            Self::Only(units) if has => {
                units.insert(unit);
            }
            Self::Only(units) => {
                units.remove(&unit);
            }
            Self::AllBut(units) if has => {
                units.remove(&unit);
            }
            Self::AllBut(units) => {
                units.insert(unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_has_comes_and_goes() {
        for mut holdings in [Holdings::All, Holdings::Only(BTreeSet::new()), Holdings::AllBut(BTreeSet::new())] {
            for has in [true, false, false, true, true] {
                holdings.set(Unit(7), has);
                assert_eq!(holdings.has(Unit(7)), has, "{holdings:?}");
            }
        }
    }
}
