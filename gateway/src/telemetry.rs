//! The gateway's own counters, and `/metrics` in Prometheus text form.
//!
//! Each metric is named once, here. Nothing is labelled by content or client, so the number of series is fixed. The
//! registry is a field of the gateway rather than a process-wide recorder: two gateways in a process count apart.

mod reference;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::Value;
use swarmgate_content::{HealthState, ProtocolKind, ProtocolSnapshot, StatsSnapshot};
use swarmgate_hybrid::{HybridProtocol, HybridTotals};
use swarmgate_hybrid_rules::{BreakerState, BudgetStatus, Network};

pub use reference::reference;

/// What is not counted here but read from others when somebody asks.
#[derive(Debug, Clone, Copy)]
pub struct Readings<'a> {
    /// The networks, with their counters.
    pub protocols: &'a [ProtocolSnapshot],
    /// Items known.
    pub items: usize,
    /// What was fetched over several networks, where that is done.
    pub hybrid: Option<&'a HybridCounts>,
    /// As `/readyz` says.
    pub ready: bool,
    /// How long the gateway has run.
    pub uptime: Duration,
    /// Facts about the cache, as `/api/v1/status` has them.
    pub cache: &'a Value,
}

/// Facts about the cache, by their names there, with what they mean.
const CACHE: [(&str, &str); 6] = [
    ("bytes", "Bytes of content in the cache."),
    ("max_bytes", "The most that may be in it: cache.max_size."),
    ("pinned_bytes", "Bytes in it that are pinned and so never evicted."),
    ("memory_bytes", "Bytes of it that are in memory too."),
    ("referenced_bytes", "Bytes of content that lie in files of others, where they were published from."),
    ("free_disk_bytes", "Free bytes of the volume that the cache is on."),
];

/// The kinds of request that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/bt/…`
    Bt,
    /// `/ipfs/…` and `/ipns/…`, and hosts that stand for these.
    Ipfs,
    /// `/magnet`
    Magnet,
    /// `/torrent`
    Torrent,
    /// `/announce`
    Announce,
    /// `/api/…`
    Api,
    /// Pages for people.
    Page,
    /// Health and metrics.
    Ops,
}

const ROUTES: [(Route, &str); 8] = [
    (Route::Bt, "bt"),
    (Route::Ipfs, "ipfs"),
    (Route::Magnet, "magnet"),
    (Route::Torrent, "torrent"),
    (Route::Announce, "announce"),
    (Route::Api, "api"),
    (Route::Page, "page"),
    (Route::Ops, "ops"),
];

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Upper bounds of the first-byte histogram, in milliseconds: from a cached answer to the default deadline.
const FIRST_BYTE_MS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000];

/// The counters of one gateway.
#[derive(Debug, Default)]
pub struct Telemetry {
    requests: [[AtomicU64; CLASSES.len()]; ROUTES.len()],
    stream_bytes: AtomicU64,
    streams_open: AtomicU64,
    streams_failed: AtomicU64,
    stream_stalls: AtomicU64,
    stream_stall_micros: AtomicU64,
    /// One more than the bounds: what took longer than all.
    first_byte: [AtomicU64; FIRST_BYTE_MS.len() + 1],
    first_byte_micros: AtomicU64,
}

impl Route {
    /// Tells a request's route by its path, without the base path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        match path.split('/').nth(1).unwrap_or_default() {
            "bt" => Self::Bt,
            "ipfs" | "ipns" => Self::Ipfs,
            "magnet" => Self::Magnet,
            "torrent" => Self::Torrent,
            "announce" => Self::Announce,
            "api" => Self::Api,
            "healthz" | "readyz" | "metrics" => Self::Ops,
            _ => Self::Page,
        }
    }

    /// Its name in metrics and spans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        ROUTES[self.index()].1
    }

    /// The network that its content is of, where the route alone tells it.
    #[must_use]
    pub const fn network(self) -> Option<&'static str> {
        match self {
            Self::Bt | Self::Magnet | Self::Torrent => Some("bt"),
            Self::Ipfs => Some("ipfs"),
            Self::Announce | Self::Api | Self::Page | Self::Ops => None,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Bt => 0,
            Self::Ipfs => 1,
            Self::Magnet => 2,
            Self::Torrent => 3,
            Self::Announce => 4,
            Self::Api => 5,
            Self::Page => 6,
            Self::Ops => 7,
        }
    }
}

impl Telemetry {
    /// Counts an answered request.
    pub fn request(&self, route: Route, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[route.index()][class].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a stream whose first byte came after `took`.
    pub fn stream_opened(&self, took: Duration) {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = FIRST_BYTE_MS.partition_point(|bound| *bound < millis);
        self.first_byte[bucket].fetch_add(1, Ordering::Relaxed);
        self.first_byte_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.streams_open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts bytes handed to a client.
    pub fn stream_sent(&self, bytes: u64) {
        self.stream_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a time for which a client waited for us in the middle of a stream.
    pub fn stream_stalled(&self, waited: Duration) {
        self.stream_stalls.fetch_add(1, Ordering::Relaxed);
        self.stream_stall_micros.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Counts the end of a stream.
    pub fn stream_closed(&self, failed: bool) {
        self.streams_open.fetch_sub(1, Ordering::Relaxed);
        self.streams_failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// How many streams are running.
    #[must_use]
    pub fn streams_open(&self) -> u64 {
        self.streams_open.load(Ordering::Relaxed)
    }

    /// How many bytes of content went to clients.
    #[must_use]
    pub fn stream_bytes(&self) -> u64 {
        self.stream_bytes.load(Ordering::Relaxed)
    }

    /// All of it, with what others count, in Prometheus text form.
    #[must_use]
    pub fn render(&self, readings: &Readings<'_>) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        readings.render(&mut page);
        page.family("swarmgate_http_requests_total", "counter", "Requests answered, by route and class of status.");
        for (route, name) in ROUTES {
            for (class, count) in CLASSES.iter().zip(&self.requests[route.index()]) {
                let labels = format!("route=\"{name}\",class=\"{class}\"");
                page.sample("swarmgate_http_requests_total", &labels, count.load(Ordering::Relaxed));
            }
        }
        page.single("swarmgate_http_streams_open", "gauge", "Content streams running.", self.streams_open());
        let failed = self.streams_failed.load(Ordering::Relaxed);
        page.single("swarmgate_http_streams_failed_total", "counter", "Content streams cut by a fault.", failed);
        page.single("swarmgate_http_stream_bytes_total", "counter", "Content bytes sent.", self.stream_bytes());
        let stalls = self.stream_stalls.load(Ordering::Relaxed);
        page.single("swarmgate_http_stream_stalls_total", "counter", "Times that clients waited in a stream.", stalls);
        let (name, micros) = ("swarmgate_http_stream_stall_seconds_total", &self.stream_stall_micros);
        page.family(name, "counter", "Time that clients waited in streams.");
        let micros = micros.load(Ordering::Relaxed);
        let _ = writeln!(page.0, "{name} {}.{:06}", micros / 1_000_000, micros % 1_000_000);
        self.render_first_byte(&mut page);
        render_protocols(&mut page, readings.protocols);
        if let Some(hybrid) = readings.hybrid {
            hybrid.render(&mut page);
        }
        page.0
    }

    fn render_first_byte(&self, page: &mut Page) {
        let name = "swarmgate_http_first_byte_seconds";
        page.family(name, "histogram", "Time from the request to the first verified byte.");
        let mut count = 0;
        for (bound, bucket) in FIRST_BYTE_MS.iter().zip(&self.first_byte) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(page.0, "{name}_bucket{{le=\"{}.{:03}\"}} {count}", bound / 1000, bound % 1000);
        }
        count += self.first_byte[FIRST_BYTE_MS.len()].load(Ordering::Relaxed);
        let micros = self.first_byte_micros.load(Ordering::Relaxed);
        let _ = writeln!(page.0, "{name}_bucket{{le=\"+Inf\"}} {count}");
        let _ = writeln!(page.0, "{name}_sum {}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let _ = writeln!(page.0, "{name}_count {count}");
    }
}

impl Readings<'_> {
    fn render(&self, page: &mut Page) {
        page.family("swarmgate_build_info", "gauge", "Always 1; which version this is.");
        page.sample("swarmgate_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        page.single(
            "swarmgate_ready",
            "gauge",
            "1 while /readyz says so: a network works, and it is not stopping.",
            self.ready.into(),
        );
        page.single("swarmgate_uptime_seconds", "gauge", "How long it has run.", self.uptime.as_secs());
        page.single("swarmgate_items", "gauge", "Items known.", self.items as u64);
        for (name, help) in CACHE {
            if let Some(value) = self.cache[name].as_u64() {
                page.single(&format!("swarmgate_cache_{name}"), "gauge", help, value);
            }
        }
    }
}

/// What contents that several networks have were fetched with.
#[derive(Debug)]
pub struct HybridCounts {
    /// By network.
    pub totals: HybridTotals,
    /// What was asked, and asked again.
    pub budget: BudgetStatus,
    /// The states of all breakers.
    pub breakers: Vec<BreakerState>,
    /// Contents that are being fetched.
    pub fetches: usize,
}

impl HybridCounts {
    /// Takes them from where they are counted.
    #[must_use]
    pub fn of(hybrid: &HybridProtocol) -> Self {
        let breakers = hybrid.breakers().status(Instant::now()).iter().map(|breaker| breaker.state).collect();
        let (totals, budget) = (hybrid.totals(), hybrid.budget().status());
        Self { totals, budget, breakers, fetches: hybrid.fetches().len() }
    }

    fn render(&self, page: &mut Page) {
        let name = "swarmgate_hybrid_bytes_total";
        page.family(name, "counter", "Bytes by network: the first to come, or too late, twice or wrong.");
        for network in Network::ALL {
            for (outcome, bytes) in [("useful", &self.totals.useful), ("wasted", &self.totals.wasted)] {
                let labels = format!("network=\"{}\",outcome=\"{outcome}\"", network.word());
                page.sample(name, &labels, bytes.get(&network).copied().unwrap_or_default());
            }
        }
        let budget = &self.budget;
        for (name, help, count) in [
            ("requests", "First requests for units.", budget.requests),
            ("retries", "Requests made again because a source had failed.", budget.retries),
            ("hedges", "Requests to a second source because the first was late.", budget.hedges),
            ("hedged_bytes", "Their bytes.", budget.hedged_bytes),
            ("hedge_wins", "Times that the second source came first.", self.totals.hedge_wins),
        ] {
            page.single(&format!("swarmgate_hybrid_{name}_total"), "counter", help, count);
        }
        let name = "swarmgate_hybrid_refused_total";
        page.family(name, "counter", "What was not asked again because too much had been.");
        page.sample(name, "what=\"retry\"", budget.retries_refused);
        page.sample(name, "what=\"hedge\"", budget.hedges_refused);
        let name = "swarmgate_hybrid_breakers";
        page.family(name, "gauge", "Circuit breakers by state.");
        for state in BreakerState::ALL {
            let count = self.breakers.iter().filter(|other| **other == state).count();
            page.sample(name, &format!("state=\"{}\"", state.word()), count as u64);
        }
        let fetches = self.fetches as u64;
        page.single("swarmgate_hybrid_fetches", "gauge", "Contents that are fetched over several networks.", fetches);
    }
}

fn render_protocols(page: &mut Page, protocols: &[ProtocolSnapshot]) {
    let network = |kind: ProtocolKind| match kind {
        ProtocolKind::BitTorrent => "network=\"bittorrent\"",
        ProtocolKind::WebTorrent => "network=\"webtorrent\"",
        ProtocolKind::Ipfs => "network=\"ipfs\"",
        ProtocolKind::Hybrid => "network=\"hybrid\"",
    };
    page.family("swarmgate_network_up", "gauge", "Whether the network works: 1 for ok or degraded, 0 for down.");
    for protocol in protocols {
        let up = u64::from(protocol.health.state != HealthState::Down);
        page.sample("swarmgate_network_up", network(protocol.kind), up);
    }
    page.family("swarmgate_network_in_flight", "gauge", "Resolves and readers under way.");
    for protocol in protocols {
        page.sample("swarmgate_network_in_flight", network(protocol.kind), protocol.in_flight as u64);
    }
    let names = protocols.first().map(|first| first.stats.entries().map(|(name, _)| name)).unwrap_or_default();
    for (at, name) in names.into_iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let metric = format!("swarmgate_{name}_total");
        page.family(&metric, "counter", &format!("By network: {}", StatsSnapshot::MEANINGS[at]));
        for protocol in protocols {
            page.sample(&metric, network(protocol.kind), protocol.stats.entries()[at].1);
        }
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(telemetry: &Telemetry) -> String {
        let cache = serde_json::json!({ "bytes": 5, "free_disk_bytes": null });
        let uptime = Duration::from_secs(61);
        telemetry.render(&Readings { protocols: &[], items: 3, hybrid: None, ready: true, uptime, cache: &cache })
    }

    #[test]
    fn what_others_know_is_read_when_somebody_asks() {
        let text = rendered(&Telemetry::default());
        for line in
            ["swarmgate_ready 1\n", "swarmgate_uptime_seconds 61\n", "swarmgate_items 3\n", "swarmgate_cache_bytes 5\n"]
        {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("free_disk"), "what is not known is not told: {text}");
    }

    #[test]
    fn requests_are_counted_by_route_and_class() {
        let telemetry = Telemetry::default();
        telemetry.request(Route::of("/bt/08ad/film.mkv"), StatusCode::PARTIAL_CONTENT);
        telemetry.request(Route::of("/bt/08ad/"), StatusCode::OK);
        telemetry.request(Route::of("/nonsense"), StatusCode::NOT_FOUND);
        let text = rendered(&telemetry);
        assert!(text.contains("swarmgate_http_requests_total{route=\"bt\",class=\"2xx\"} 2\n"), "{text}");
        assert!(text.contains("swarmgate_http_requests_total{route=\"page\",class=\"4xx\"} 1\n"));
    }

    #[test]
    fn the_histogram_is_cumulative_and_ends_in_its_count() {
        let telemetry = Telemetry::default();
        for millis in [1, 5, 40, 60_000] {
            telemetry.stream_opened(Duration::from_millis(millis));
        }
        telemetry.stream_closed(true);
        let text = rendered(&telemetry);
        for line in [
            "swarmgate_http_first_byte_seconds_bucket{le=\"0.005\"} 2\n",
            "swarmgate_http_first_byte_seconds_bucket{le=\"0.050\"} 3\n",
            "swarmgate_http_first_byte_seconds_bucket{le=\"30.000\"} 3\n",
            "swarmgate_http_first_byte_seconds_bucket{le=\"+Inf\"} 4\n",
            "swarmgate_http_first_byte_seconds_sum 60.046000\n",
            "swarmgate_http_first_byte_seconds_count 4\n",
            "swarmgate_http_streams_open 3\n",
            "swarmgate_http_streams_failed_total 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
