//! The page of the documentation about `/metrics`: made from what is rendered there, so that it names each metric and no
//! other.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use swarmgate_content::{Capabilities, Health, HealthState, ProtocolKind, ProtocolSnapshot, StatsSnapshot};
use swarmgate_hybrid::HybridTotals;
use swarmgate_hybrid_rules::BudgetStatus;

use super::{CACHE, HybridCounts, Readings, Telemetry};

const HEAD: &str = "\
# Metrics

`GET /metrics` answers in the text form of Prometheus. Where a token is set, it is asked for here too:

```yaml
scrape_configs:
  - job_name: swarmgate
    authorization: { credentials_file: /etc/prometheus/swarmgate-token }
    static_configs: [{ targets: [\"127.0.0.1:8420\"] }]
```

Nothing is labelled by content or client, so the number of series is fixed, and they tell nobody what was read.
[deploy/grafana.json](../deploy/grafana.json) is a dashboard of them, [deploy/alerts.yaml](../deploy/alerts.yaml) are rules
for alerts. Those of networks that are switched off are missing, and those of `swarmgate_hybrid_` where
`hybrid.enabled` is false.

| metric | type | labels | means |
|---|---|---|---|
";

/// The reference of all metrics, as Markdown.
#[must_use]
pub fn reference() -> String {
    let text = everything();
    let mut page = HEAD.to_owned();
    let mut families = text.lines().filter_map(|line| line.strip_prefix("# HELP "));
    while let Some((name, help)) = families.next().and_then(|line| line.split_once(' ')) {
        let kind = format!("# TYPE {name} ");
        let kind = text.lines().find_map(|line| line.strip_prefix(&kind)).unwrap_or("untyped");
        let labels: Vec<_> = labels(&text, name).into_iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{name}` | {kind} | {} | {help} |", labels.join(", ")).expect("a string takes all");
    }
    page
}

/// A page of a gateway that has each network and each fact.
fn everything() -> String {
    let snapshot = |kind| ProtocolSnapshot {
        kind,
        state: "ready",
        since: Instant::now(),
        in_flight: 0,
        capabilities: Capabilities { infohash_v1: true, infohash_v2: true, cid: true, ranges: true },
        health: Health { state: HealthState::Ok, evidence: String::new() },
        last_error: None,
        stats: StatsSnapshot::default(),
    };
    let protocols =
        [ProtocolKind::BitTorrent, ProtocolKind::WebTorrent, ProtocolKind::Ipfs, ProtocolKind::Hybrid].map(snapshot);
    let (totals, budget) = (HybridTotals::default(), BudgetStatus::default());
    let hybrid = HybridCounts { totals, budget, breakers: Vec::new(), fetches: 0 };
    let cache: Map<String, Value> = CACHE.iter().map(|(name, _)| ((*name).to_owned(), 0.into())).collect();
    Telemetry::default().render(&Readings {
        protocols: &protocols,
        items: 0,
        hybrid: Some(&hybrid),
        ready: true,
        uptime: Duration::ZERO,
        cache: &cache.into(),
    })
}

/// The labels of a family's samples.
fn labels<'a>(text: &'a str, family: &str) -> BTreeSet<&'a str> {
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('{'));
    let of_family =
        samples.filter(|(name, _)| name.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest == "_bucket"));
    of_family.flat_map(|(_, labels)| labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_has_a_row_with_its_type_labels_and_meaning() {
        let page = reference();
        for row in [
            "| `swarmgate_http_requests_total` | counter | `class`, `route` | Requests answered, by route and class of status. |\n",
            "| `swarmgate_http_first_byte_seconds` | histogram | `le` | Time from the request to the first verified byte. |\n",
            "| `swarmgate_cache_free_disk_bytes` | gauge |  | Free bytes of the volume that the cache is on. |\n",
            "| `swarmgate_blocks_corrupt_total` | counter | `network` | By network: Blocks (pieces) that failed their hash. |\n",
            "| `swarmgate_hybrid_breakers` | gauge | `state` | Circuit breakers by state. |\n",
        ] {
            assert!(page.contains(row), "{row} in {page}");
        }
        assert_eq!(page.matches("| `swarmgate_").count(), everything().matches("# TYPE ").count());
    }
}
