//! How one swarm is doing, for people and APIs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::torrent::TorrentTotals;

/// Rates are means over this long.
const WINDOW: Duration = Duration::from_secs(4);
/// Distance of the samples they are made of.
const SAMPLE: Duration = Duration::from_millis(250);

/// Bytes a second, averaged over the last four seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransferRates {
    /// From peers.
    pub download: u64,
    /// To peers.
    pub upload: u64,
}

/// A swarm at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct SwarmStatus {
    /// Peers connected.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
    /// Readers open.
    pub readers: usize,
    /// Bytes of the torrent in the store.
    pub have_bytes: u64,
    /// Totals since the swarm was started.
    pub totals: TorrentTotals,
    /// How fast it goes.
    pub rates: TransferRates,
}

/// Kept by the actor, read by anybody.
#[derive(Debug)]
pub(crate) struct StatusCell {
    status: SwarmStatus,
    samples: VecDeque<(Instant, u64, u64)>,
}

impl StatusCell {
    pub(crate) fn new(now: Instant) -> Self {
        Self { status: SwarmStatus::default(), samples: VecDeque::from([(now, 0, 0)]) }
    }

    pub(crate) fn update(&mut self, now: Instant, peers: usize, seeds: usize, totals: TorrentTotals) {
        self.status.peers = peers;
        self.status.seeds = seeds;
        self.status.totals = totals;
        if self.samples.back().is_none_or(|(at, ..)| now.saturating_duration_since(*at) >= SAMPLE) {
            self.samples.push_back((now, totals.downloaded, totals.uploaded));
        }
        self.trim(now);
    }

    fn trim(&mut self, now: Instant) {
        // One sample older than the window stays: it is where the mean begins.
        while self.samples.get(1).is_some_and(|(at, ..)| now.saturating_duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Block bytes received so far.
    pub(crate) const fn downloaded(&self) -> u64 {
        self.status.totals.downloaded
    }

    pub(crate) fn read(&mut self, now: Instant, have_bytes: u64, readers: usize) -> SwarmStatus {
        self.trim(now);
        let mut status = SwarmStatus { have_bytes, readers, ..self.status };
        if let Some((from, downloaded, uploaded)) = self.samples.front() {
            let millis = u64::try_from(now.saturating_duration_since(*from).as_millis()).unwrap_or(u64::MAX).max(1);
            status.rates = TransferRates {
                download: (status.totals.downloaded - downloaded).saturating_mul(1000) / millis,
                upload: (status.totals.uploaded - uploaded).saturating_mul(1000) / millis,
            };
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_measured_and_an_end_is_noticed() {
        let start = Instant::now();
        let mut cell = StatusCell::new(start);
        let mut now = start;
        for step in 1..=100 {
            now += Duration::from_millis(100);
            cell.update(now, 1, 1, TorrentTotals { downloaded: step * 100_000, ..TorrentTotals::default() });
        }
        let rate = cell.read(now, 0, 0).rates.download;
        assert!((900_000..1_100_000).contains(&rate), "{rate}");
        let later = cell.read(now + Duration::from_secs(60), 0, 0).rates.download;
        assert!(later < 50_000, "{later}");
    }
}
