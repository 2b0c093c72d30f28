//! Whether the hosts that introduce to the DHT can be reached: over UDP, which many a firewall swallows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use swarmgate_bittorrent::dht::{DhtNode, DhtOptions};
use swarmgate_config::Config;

use super::{Check, Verdict};
use crate::app::dht_options;

/// How long names and an answer may take. A datagram that was lost is sent again in this time.
const PATIENCE: Duration = Duration::from_secs(8);
/// How often it is looked whether somebody has answered.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks them for a sign of life, from a port that the system chooses.
pub(super) async fn look(config: &Config, offline: bool) -> Check {
    let skipped = |why: &str| Check::new("dht", Verdict::Skipped, why);
    if !config.bittorrent.enabled || !config.bittorrent.has_dht() {
        return skipped("it is switched off");
    }
    if config.bittorrent.dht_bootstrap.is_empty() {
        let found = "bittorrent.dht_bootstrap is empty: only nodes that peers name are known";
        return Check::new("dht", Verdict::Warn, found)
            .advice("name a host, or leave the option out for the built-in ones");
    }
    if offline {
        return skipped("nobody outside is asked, as --offline says");
    }
    let mut unknown = Vec::new();
    for host in &config.bittorrent.dht_bootstrap {
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(host.as_str())).await;
        if !found.is_ok_and(|found| found.is_ok_and(|mut addresses| addresses.next().is_some())) {
            unknown.push(host.as_str());
        }
    }
    if unknown.len() == config.bittorrent.dht_bootstrap.len() {
        let found = format!("no address is known of {}", unknown.join(", "));
        return Check::new("dht", Verdict::Warn, found)
            .advice("see to DNS (/etc/resolv.conf), or to the spelling of bittorrent.dht_bootstrap");
    }
    judge(answers(config).await, &unknown)
}

/// How many nodes are known in the end.
async fn answers(config: &Config) -> Result<usize, String> {
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let options = DhtOptions { address, read_only: true, ..dht_options(config) };
    let node = DhtNode::start(options).await.map_err(|error| error.to_string())?;
    let handle = node.handle();
    let known = async {
        loop {
            let nodes = handle.stats().map_or(0, |stats| stats.nodes_v4 + stats.nodes_v6);
            if nodes > 0 {
                return nodes;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let nodes = tokio::time::timeout(PATIENCE, known).await.unwrap_or(0);
    node.shutdown().await;
    Ok(nodes)
}

fn judge(nodes: Result<usize, String>, unknown: &[&str]) -> Check {
    let but =
        if unknown.is_empty() { String::new() } else { format!(", though {} has no address", unknown.join(", ")) };
    match nodes {
        Ok(0) => {
            let advice = "have the firewall let UDP out and its answers in; without it peers come from trackers alone";
            Check::new(
                "dht",
                Verdict::Warn,
                format!("no answer from bittorrent.dht_bootstrap within {PATIENCE:?}{but}"),
            )
            .advice(advice)
        }
        Ok(nodes) => Check::new("dht", Verdict::Ok, format!("it answers: {nodes} nodes are known{but}")),
        Err(why) => Check::new("dht", Verdict::Warn, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bootstrap: &str) -> Config {
        let mut config = Config::default();
        config.bittorrent.dht_bootstrap = vec![bootstrap.to_owned()];
        config
    }

    #[tokio::test]
    async fn a_node_that_answers_is_a_dht_that_can_be_reached() {
        let options = DhtOptions {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bootstrap: Vec::new(),
            ..dht_options(&Config::default())
        };
        let node = DhtNode::start(options).await.unwrap();
        let check = look(&config(&node.address().to_string()), false).await;
        assert_eq!(check.verdict, Verdict::Ok, "{check:?}");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_host_that_is_silent_is_a_warning_that_speaks_of_the_firewall() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let check = look(&config(&silent.local_addr().unwrap().to_string()), false).await;
        assert_eq!(check.verdict, Verdict::Warn, "{check:?}");
        assert!(check.advice.unwrap().contains("firewall"));
    }

    #[tokio::test]
    async fn offline_nobody_is_asked_and_without_hosts_there_is_nobody_to_ask() {
        assert_eq!(look(&config("192.0.2.1:6881"), true).await.verdict, Verdict::Skipped);
        let mut nobody = config("x");
        nobody.bittorrent.dht_bootstrap.clear();
        assert_eq!(look(&nobody, true).await.verdict, Verdict::Warn);
        nobody.bittorrent.dht = false;
        assert_eq!(look(&nobody, false).await.verdict, Verdict::Skipped);
    }
}
