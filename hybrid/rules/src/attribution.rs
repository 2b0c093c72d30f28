//! Who delivered what: each byte is counted once where it came in, and once where it went out.
//!
//! A source is credited with the units that it was the first to deliver verified; what came too late, twice or wrong is
//! waste. A reading is charged with the bytes that it was handed, by the source of their unit, or by the cache when
//! nobody remembers one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use swarmgate_content::SourceMix;

use crate::demand::ReaderKey;
use crate::latencies::Latencies;
use crate::source::{Network, SourceKey};
use crate::units::Unit;

/// Units whose source is remembered; of older ones the cache is said to be the source, which it is.
pub const MAX_ORIGINS: usize = 65_536;
/// Readings that are remembered, of which the oldest go first.
pub const MAX_READINGS: usize = 4096;
/// Sources that are counted one by one; what more of them deliver is counted by network alone.
const MAX_COUNTED: usize = 1024;

/// A reading that waits for less goes on as though nothing had been.
const STALL: Duration = Duration::from_millis(100);

/// What one source has delivered of one content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceShare {
    /// The source.
    pub source: SourceKey,
    /// Its name for operators.
    pub name: Arc<str>,
    /// By what it delivers.
    pub network: Network,
    /// Units that it was the first to deliver.
    pub units: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that came too late, twice, or wrong.
    pub wasted_bytes: u64,
    /// Units that were wrong.
    pub corrupt_units: u64,
    /// Times that it was asked because another source was late.
    pub hedges: u64,
    /// Times that it came first then.
    pub hedge_wins: u64,
    /// From asking to delivery, all units together, in milliseconds.
    pub latency_ms_total: u64,
}

/// What one reading was handed, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reading {
    #[serde(skip)]
    opened: Instant,
    /// Milliseconds from its start to the first byte; `None` before it.
    pub first_byte_ms: Option<u64>,
    /// Times that it stood still in the middle, for a tenth of a second or longer.
    pub stalls: u32,
    /// For how long, all together, in milliseconds.
    pub stalled_ms: u64,
    /// Bytes that were there already, or whose source is forgotten.
    pub cache_bytes: u64,
    /// Bytes by network.
    pub by_network: BTreeMap<Network, u64>,
    /// Bytes by source.
    pub by_source: BTreeMap<SourceKey, u64>,
}

impl Reading {
    /// All bytes that it was handed.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.cache_bytes + self.by_network.values().sum::<u64>()
    }

    /// The value of an `X-Swarmgate-Source` header: shares of the bytes so far, the largest first, as in
    /// `cache;r=0.81, bt;r=0.12`. `None` when it was handed nothing yet.
    #[must_use]
    pub fn header(&self) -> Option<String> {
        let networks = self.by_network.iter().map(|(network, bytes)| (network.word(), *bytes)).collect();
        SourceMix { cache: self.cache_bytes, networks, sources: BTreeMap::new() }.header()
    }

    /// The metric of a `Server-Timing` header, in milliseconds; `None` before the first byte.
    #[must_use]
    pub fn server_timing(&self) -> Option<String> {
        self.first_byte_ms.map(|ms| format!("first-byte;dur={ms}"))
    }
}

/// The ledger of one content.
#[derive(Debug, Default)]
pub struct Attribution {
    sources: BTreeMap<SourceKey, SourceShare>,
    networks: BTreeMap<Network, (u64, u64)>,
    origins: BTreeMap<Unit, (SourceKey, Network)>,
    order: VecDeque<Unit>,
    readings: BTreeMap<ReaderKey, Reading>,
    latencies: Latencies,
}

impl Attribution {
    /// Every source that was counted, departed ones too.
    pub fn sources(&self) -> impl Iterator<Item = &SourceShare> {
        self.sources.values()
    }

    /// Bytes that a network was the first to deliver, and bytes of its that were wasted.
    #[must_use]
    pub fn network(&self, network: Network) -> (u64, u64) {
        self.networks.get(&network).copied().unwrap_or_default()
    }

    /// How long units took to come from when each was first asked for, wherever it was queued, taken from and asked for
    /// again.
    #[must_use]
    pub const fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// What a reading was handed.
    #[must_use]
    pub fn reading(&self, reader: ReaderKey) -> Option<&Reading> {
        self.readings.get(&reader)
    }

    /// The same by the words and names that clients and operators read. Nothing when there is no such reading.
    #[must_use]
    pub fn mix(&self, reader: ReaderKey) -> SourceMix {
        let Some(reading) = self.readings.get(&reader) else { return SourceMix::default() };
        let mut sources = BTreeMap::<_, u64>::new();
        for (source, bytes) in &reading.by_source {
            let name = self.sources.get(source).map_or("other", |share| &*share.name);
            *sources.entry(name.to_owned()).or_default() += bytes;
        }
        let networks = reading.by_network.iter().map(|(network, bytes)| (network.word(), *bytes)).collect();
        SourceMix { cache: reading.cache_bytes, networks, sources }
    }

    /// By what a source delivers, or delivered before it left.
    pub(crate) fn network_of(&self, source: SourceKey) -> Option<Network> {
        self.sources.get(&source).map(|share| share.network)
    }

    pub(crate) fn open(&mut self, now: Instant, reader: ReaderKey) {
        if self.readings.len() >= MAX_READINGS && !self.readings.contains_key(&reader) {
            self.readings.pop_first();
        }
        let reading = Reading {
            opened: now,
            first_byte_ms: None,
            stalls: 0,
            stalled_ms: 0,
            cache_bytes: 0,
            by_network: BTreeMap::new(),
            by_source: BTreeMap::new(),
        };
        self.readings.insert(reader, reading);
    }

    pub(crate) fn close(&mut self, reader: ReaderKey) -> Option<Reading> {
        self.readings.remove(&reader)
    }

    pub(crate) fn joined(&mut self, source: SourceKey, name: &Arc<str>, network: Network) {
        if self.sources.len() >= MAX_COUNTED {
            return;
        }
        self.sources.entry(source).or_insert_with(|| SourceShare {
            source,
            name: name.clone(),
            network,
            units: 0,
            bytes: 0,
            wasted_bytes: 0,
            corrupt_units: 0,
            hedges: 0,
            hedge_wins: 0,
            latency_ms_total: 0,
        });
    }

    /// A source was the first to deliver a unit.
    pub(crate) fn delivered(
        &mut self,
        unit: Unit,
        from: (SourceKey, Network),
        bytes: u64,
        took: Duration,
        hedge: bool,
    ) {
        self.networks.entry(from.1).or_default().0 += bytes;
        if let Some(share) = self.sources.get_mut(&from.0) {
            share.units += 1;
            share.bytes += bytes;
            share.hedge_wins += u64::from(hedge);
            share.latency_ms_total = share.latency_ms_total.saturating_add(millis(took));
        }
        if self.origins.insert(unit, from).is_none() {
            self.order.push_back(unit);
        }
        if self.order.len() > MAX_ORIGINS
            && let Some(oldest) = self.order.pop_front()
        {
            self.origins.remove(&oldest);
        }
    }

    /// A unit has come, so long after somebody was first asked for it.
    pub(crate) fn came_after(&mut self, took: Duration) {
        self.latencies.count(took);
    }

    pub(crate) fn wasted(&mut self, from: (SourceKey, Network), bytes: u64, corrupt: bool) {
        self.networks.entry(from.1).or_default().1 += bytes;
        if let Some(share) = self.sources.get_mut(&from.0) {
            share.wasted_bytes += bytes;
            share.corrupt_units += u64::from(corrupt);
        }
    }

    pub(crate) fn hedged(&mut self, source: SourceKey) {
        if let Some(share) = self.sources.get_mut(&source) {
            share.hedges += 1;
        }
    }

    /// A reading stood still for so long.
    pub(crate) fn stood_still(&mut self, reader: ReaderKey, span: Duration) {
        if let Some(reading) = self.readings.get_mut(&reader).filter(|_| span >= STALL) {
            reading.stalls = reading.stalls.saturating_add(1);
            reading.stalled_ms = reading.stalled_ms.saturating_add(millis(span));
        }
    }

    /// A unit is not in the cache any more. Whoever delivers it next is its source.
    pub(crate) fn forgot(&mut self, unit: Unit) {
        if self.origins.remove(&unit).is_some() {
            self.order.retain(|other| *other != unit);
        }
    }

    /// A reading was handed so many bytes of a unit, which is asked of that source if nobody has delivered it.
    pub(crate) fn handed(
        &mut self,
        now: Instant,
        reader: ReaderKey,
        unit: Unit,
        bytes: u64,
        asked: Option<(SourceKey, Network)>,
    ) {
        let Some(reading) = self.readings.get_mut(&reader) else { return };
        let since = now.saturating_duration_since(reading.opened);
        reading.first_byte_ms.get_or_insert_with(|| millis(since));
        match self.origins.get(&unit).or(asked.as_ref()) {
            Some((source, network)) => {
                *reading.by_network.entry(*network).or_default() += bytes;
                *reading.by_source.entry(*source).or_default() += bytes;
            }
            None => reading.cache_bytes += bytes,
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::start;

    const READER: ReaderKey = ReaderKey(1);

    #[test]
    fn a_header_names_the_shares_the_largest_first() {
        let now = start();
        let mut ledger = Attribution::default();
        ledger.open(now, READER);
        assert_eq!(ledger.reading(READER).unwrap().header(), None);
        for (unit, network) in [(0, Network::BitTorrent), (1, Network::Ipfs)] {
            let source = SourceKey(unit.into());
            ledger.joined(source, &"x".into(), network);
            ledger.delivered(Unit(unit), (source, network), 1000, Duration::from_millis(20), false);
        }
        ledger.handed(now + Duration::from_millis(35), READER, Unit(0), 120, None);
        ledger.handed(now + Duration::from_millis(99), READER, Unit(1), 70, None);
        ledger.handed(now + Duration::from_millis(99), READER, Unit(2), 810, None);
        let reading = ledger.reading(READER).unwrap();
        assert_eq!(reading.header().unwrap(), "cache;r=0.81, bt;r=0.12, ipfs;r=0.07");
        assert_eq!(reading.server_timing().unwrap(), "first-byte;dur=35");
        let json = serde_json::to_value(reading).unwrap();
        assert_eq!(json["by_network"]["bt"], 120);
        assert_eq!(ledger.close(READER).map(|reading| reading.bytes()), Some(1000));
    }

    proptest! {
        #[test]
        fn every_byte_is_counted_once(
            deliveries in proptest::collection::vec((0_u32..40, 0_u8..4, 1_u64..100, any::<bool>()), 0..200)
        ) {
            let now = start();
            let mut ledger = Attribution::default();
            ledger.open(now, READER);
            let (mut first, mut again, mut handed) = (BTreeMap::new(), 0, 0);
            for (unit, source, bytes, evicted) in deliveries {
                let from = (SourceKey(source.into()), Network::ALL[usize::from(source)]);
                ledger.joined(from.0, &"x".into(), from.1);
                if evicted {
                    ledger.forgot(Unit(unit));
                    first.remove(&unit);
                }
                if first.insert(unit, ()).is_none() {
                    ledger.delivered(Unit(unit), from, bytes, Duration::ZERO, false);
                } else {
                    ledger.wasted(from, bytes, false);
                    again += bytes;
                }
                handed += bytes;
                ledger.handed(now, READER, Unit(unit), bytes, None);
            }
            let networks = || Network::ALL.into_iter().map(|network| ledger.network(network));
            let sources = |what: fn(&SourceShare) -> u64| ledger.sources().map(what).sum::<u64>();
            prop_assert_eq!(networks().map(|(useful, _)| useful).sum::<u64>(), sources(|share| share.bytes));
            prop_assert_eq!(networks().map(|(_, wasted)| wasted).sum::<u64>(), again);
            prop_assert_eq!(sources(|share| share.wasted_bytes), again);
            let reading = ledger.reading(READER).unwrap();
            prop_assert_eq!(reading.bytes(), handed);
            prop_assert_eq!(reading.by_source.values().sum::<u64>() + reading.cache_bytes, handed);
        }
    }
}
