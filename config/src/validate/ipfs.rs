//! The rules of the IPFS network's options, and of what is not served.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use url::Host;

use super::{overlap, when};
use crate::ipfs::PolicyMode;
use crate::options::Config;
use crate::urls::ServerUrl;

fn node(config: &Config) -> Option<SocketAddr> {
    let address = SocketAddr::new(config.ipfs.listen_ip, config.ipfs.listen_port);
    (config.ipfs.enabled && config.ipfs.mode != crate::IpfsMode::TrustlessHttp).then_some(address)
}

pub(super) fn node_and_server_share_no_port(config: &Config) -> Vec<String> {
    let Some(node) = node(config) else { return Vec::new() };
    let taken = config.server.addresses().find(|http| overlap(&node, http));
    taken
        .map(|http| format!("the IPFS node cannot have {node}, because server.listen has {http}"))
        .into_iter()
        .collect()
}

pub(super) fn node_and_torrents_share_no_port(config: &Config) -> Vec<String> {
    let Some(node) = node(config) else { return Vec::new() };
    let peers = SocketAddr::new(config.bittorrent.listen_ip, config.bittorrent.listen_port);
    when(config.bittorrent.enabled && overlap(&node, &peers), || {
        format!("the IPFS node cannot have {node}, because bittorrent has {peers}")
    })
}

pub(super) fn node_and_dht_share_no_port(config: &Config) -> Vec<String> {
    let Some(node) = node(config) else { return Vec::new() };
    let bittorrent = &config.bittorrent;
    let dht = SocketAddr::new(bittorrent.effective_listen_ip(), bittorrent.effective_dht_port());
    when(bittorrent.enabled && bittorrent.has_dht() && overlap(&node, &dht), || {
        format!("the IPFS node cannot have UDP {node}, because BitTorrent's DHT has {dht}")
    })
}

/// As far as plain text tells: the node reads them in full.
pub(super) fn bootstrap_peers_are_addresses(config: &Config) -> Vec<String> {
    let is_address = |text: &str| {
        let id = text.rsplit_once("/p2p/").map(|(_, id)| id);
        text.starts_with('/') && id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
    };
    let bad = config.ipfs.bootstrap.iter().filter(|text| !is_address(text));
    bad.map(|text| format!("`{text}` is not a peer's address, as /ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…")).collect()
}

pub(super) fn are_web_servers(urls: &[ServerUrl]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    // A password may be part of the URL, so no more than the host is told.
    let named = |url: &ServerUrl| url.host_str().map_or_else(|| url.scheme().to_owned(), str::to_owned);
    let reason =
        |url: &ServerUrl| match matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none() {
            false => Some(format!("`{}` is not an http:// or https:// server without a query", named(url))),
            true => (!seen.insert(url.clone())).then(|| format!("`{}` is named twice", named(url))),
        };
    urls.iter().filter_map(reason).collect()
}

pub(super) fn dnslinks_lead_somewhere(config: &Config) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let mut reason = |text: &String| {
        let Some((host, link)) = text.split_once(':') else {
            return Some(format!("`{text}` is not a host and its link, as docs.example.org:/ipfs/bafy…"));
        };
        let leads =
            ["/ipfs/", "/ipns/"].iter().any(|root| link.strip_prefix(root).is_some_and(|rest| !rest.is_empty()));
        match host.contains('.') && Host::parse(host).is_ok() && leads {
            false => Some(format!("`{text}` is not a host and its link, as docs.example.org:/ipfs/bafy…")),
            true => seen.insert(host.to_ascii_lowercase(), link.to_owned()).map(|_| format!("`{host}` has two links")),
        }
    };
    config.ipfs.dnslinks.iter().filter_map(&mut reason).collect()
}

pub(super) fn subdomain_hosts_are_names(config: &Config) -> Vec<String> {
    let is_name = |text: &str| {
        let (host, port) = text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        matches!(Host::parse(host), Ok(Host::Domain(_))) && port.is_none_or(|port| port.parse::<u16>().is_ok())
    };
    let bad = config.ipfs.subdomain_hosts.iter().filter(|text| !is_name(text));
    bad.map(|text| format!("`{text}` is not a host name, as dweb.example.org, perhaps with a port")).collect()
}

pub(super) fn legal_status_is_one(config: &Config) -> Vec<String> {
    when(!matches!(config.policy.legal_status, 410 | 451), || "has to be 410 or 451".to_owned())
}

pub(super) fn allowlists_fit_the_mode(config: &Config) -> Vec<String> {
    let (listed, has_lists) = (config.policy.mode == PolicyMode::Allowlist, !config.policy.allowlists.is_empty());
    let reason = match (listed, has_lists) {
        (true, false) => "names no file, so that nothing would be served; name one, or set `policy.mode` to `open`",
        (false, true) => "is read in one mode alone; set `policy.mode` to `allowlist`, or leave this out",
        (true, true) | (false, false) => return Vec::new(),
    };
    vec![reason.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(check: fn(&Config) -> Vec<String>, change: impl FnOnce(&mut Config)) -> usize {
        let mut config = Config::default();
        change(&mut config);
        check(&config).len()
    }

    #[test]
    fn the_node_has_a_port_of_its_own_where_there_is_a_node() {
        let on_http = |config: &mut Config| config.ipfs.listen_port = 8420;
        assert_eq!(reasons(node_and_server_share_no_port, on_http), 1);
        assert_eq!(reasons(node_and_torrents_share_no_port, |config| config.ipfs.listen_port = 8421), 1);
        assert_eq!(reasons(node_and_torrents_share_no_port, |_| {}), 0);
        let on_the_dht = |config: &mut Config| config.ipfs.listen_port = 8422;
        assert_eq!(
            (reasons(node_and_dht_share_no_port, on_the_dht), reasons(node_and_dht_share_no_port, |_| {})),
            (1, 0)
        );
        let with_no_dht = |config: &mut Config| {
            on_the_dht(config);
            config.bittorrent.dht = false;
        };
        assert_eq!(reasons(node_and_dht_share_no_port, with_no_dht), 0);
        let without = |config: &mut Config| {
            on_http(config);
            config.ipfs.mode = crate::IpfsMode::TrustlessHttp;
        };
        assert_eq!(reasons(node_and_server_share_no_port, without), 0);
    }

    #[test]
    fn bootstrap_peers_say_who_they_are() {
        let peers = ["/dns4/a.example/tcp/4001/p2p/12D3KooX", "/ip4/192.0.2.1/tcp/4001", "a.example:4001", "/p2p/"];
        let set = |config: &mut Config| config.ipfs.bootstrap = peers.map(str::to_owned).to_vec();
        assert_eq!(reasons(bootstrap_peers_are_addresses, set), 3);
    }

    #[test]
    fn servers_are_http_and_named_once() {
        let urls: Vec<ServerUrl> =
            ["https://a.example", "https://a.example", "ftp://a.example", "https://a.example/?x"]
                .map(|url| url.parse().unwrap())
                .to_vec();
        assert_eq!(are_web_servers(&urls).len(), 3);
        let secret = are_web_servers(&["ftp://me:hunter2@a.example".parse().unwrap()]);
        assert!(!secret[0].contains("hunter2"), "{secret:?}");
    }

    #[test]
    fn a_dnslink_is_a_host_and_where_it_leads_once_each() {
        let links = [
            "a.example:/ipfs/bafy",
            "b.example:/ipns/k51",
            "A.example:/ipfs/x",
            "nodot:/ipfs/x",
            "c.example:/ipfs/",
            "d",
        ];
        let set = |config: &mut Config| config.ipfs.dnslinks = links.map(str::to_owned).to_vec();
        assert_eq!(reasons(dnslinks_lead_somewhere, set), 4);
    }

    #[test]
    fn subdomains_lie_below_names() {
        let hosts = ["localhost", "localhost:8420", "dweb.example.org", "127.0.0.1", "http://x", "x:y"];
        let set = |config: &mut Config| config.ipfs.subdomain_hosts = hosts.map(str::to_owned).to_vec();
        assert_eq!(reasons(subdomain_hosts_are_names, set), 3);
    }

    #[test]
    fn a_refusal_is_gone_or_unavailable() {
        assert_eq!(reasons(legal_status_is_one, |_| {}), 0);
        assert_eq!(reasons(legal_status_is_one, |config| config.policy.legal_status = 404), 1);
    }

    #[test]
    fn an_allowlist_is_named_where_one_is_read() {
        let name = |config: &mut Config| config.policy.allowlists = vec!["/etc/list".into()];
        let list = |config: &mut Config| config.policy.mode = PolicyMode::Allowlist;
        assert_eq!(reasons(allowlists_fit_the_mode, |_| {}), 0);
        assert_eq!(reasons(allowlists_fit_the_mode, list), 1);
        assert_eq!(reasons(allowlists_fit_the_mode, name), 1);
        assert_eq!(reasons(allowlists_fit_the_mode, |config| (name(config), list(config)).0), 0);
    }
}
