//! The rules of the options of the two networks that have swarms: BitTorrent and WebTorrent.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use url::{Host, Url};

use super::{overlap, when};
use crate::options::Config;
use crate::urls::{ServerUrl, shown};

pub(super) fn neighbours_may_be_dialled(config: &Config) -> Vec<String> {
    when(config.bittorrent.lsd && !config.network.allow_private, || {
        "finds peers in the local network, which `network.allow_private = false` forbids to dial".to_owned()
    })
}

pub(super) fn peers_have_their_own_port(config: &Config) -> Vec<String> {
    let peers = SocketAddr::new(config.bittorrent.listen_ip, config.bittorrent.listen_port);
    let taken = config.server.addresses().find(|http| config.bittorrent.enabled && overlap(&peers, http));
    taken.map(|http| format!("peers cannot have {peers}, because server.listen has {http}")).into_iter().collect()
}

pub(super) fn bootstrap_hosts_have_ports(config: &Config) -> Vec<String> {
    let is_host_and_port = |text: &str| {
        let Some((host, port)) = text.rsplit_once(':') else { return false };
        port.parse::<u16>().is_ok_and(|port| port != 0) && Host::parse(host).is_ok()
    };
    let bad = config.bittorrent.dht_bootstrap.iter().filter(|host| !is_host_and_port(host));
    bad.map(|host| format!("`{host}` is not a host with a port, as router.example.org:6881")).collect()
}

pub(super) fn proxy_is_one(config: &Config) -> Vec<String> {
    let fits = |url: &ServerUrl| {
        matches!(url.scheme(), "socks5" | "socks5h") && url.has_host() && matches!(url.path(), "" | "/")
    };
    let bad = config.bittorrent.proxy.iter().find(|url| !fits(url));
    bad.map(|url| format!("`{url:?}` is not socks5://host:port or socks5://user:password@host:port"))
        .into_iter()
        .collect()
}

pub(super) fn dht_and_utp_share_no_port(config: &Config) -> Vec<String> {
    let (listen, dht) = (config.bittorrent.listen_port, config.bittorrent.dht_port);
    let both = config.bittorrent.has_utp() && config.bittorrent.has_dht();
    when(both && dht == listen && dht != 0, || {
        format!("the DHT cannot have UDP {dht}, because uTP has it; 0 lets it have the next one")
    })
}

pub(super) fn trackers_can_be_asked(config: &Config) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let reason = |tracker: &ServerUrl| {
        let spoken = matches!(tracker.scheme(), "http" | "https" | "udp") && tracker.has_host();
        let no_port = tracker.scheme() == "udp" && tracker.port().is_none();
        match (spoken, no_port) {
            (false, _) => Some(format!("`{tracker:?}` is not an http://, https:// or udp:// tracker")),
            (true, true) => Some(format!("`{tracker:?}` needs a port: udp has no usual one")),
            (true, false) => (!seen.insert(tracker.clone())).then(|| format!("`{tracker:?}` is named twice")),
        }
    };
    config.bittorrent.trackers.iter().filter_map(reason).collect()
}

pub(super) fn webrtc_has_its_own_port(config: &Config) -> Vec<String> {
    let webrtc = SocketAddr::new(config.webtorrent.listen_ip, config.webtorrent.listen_port);
    let dht = SocketAddr::new(config.bittorrent.listen_ip, config.bittorrent.effective_dht_port());
    let utp = SocketAddr::new(config.bittorrent.listen_ip, config.bittorrent.listen_port);
    let bittorrent = &config.bittorrent;
    let others = [(bittorrent.has_dht(), "the DHT", dht), (bittorrent.has_utp(), "uTP", utp)];
    let both = config.webtorrent.enabled && bittorrent.lets_webrtc();
    let taken = others.into_iter().find(|(on, _, address)| both && *on && overlap(&webrtc, address));
    taken
        .map(|(_, who, address)| format!("WebRTC cannot have UDP {webrtc}, because {who} has {address}"))
        .into_iter()
        .collect()
}

pub(super) fn websocket_trackers_can_be_asked(config: &Config) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let reason = |tracker: &ServerUrl| match matches!(tracker.scheme(), "ws" | "wss") && tracker.has_host() {
        false => Some(format!("`{tracker:?}` is not a ws:// or wss:// tracker")),
        true => (!seen.insert(tracker.clone())).then(|| format!("`{tracker:?}` is named twice")),
    };
    config.webtorrent.trackers.iter().filter_map(reason).collect()
}

/// RFC 7064 and RFC 7065: `stun:host:port`, `turn:host:port?transport=udp`.
pub(super) fn ice_servers(servers: &[String], schemes: &[&str]) -> Vec<String> {
    let is_server = |text: &str| {
        let Some((scheme, rest)) = text.split_once(':') else { return false };
        let host = rest.split_once('?').map_or(rest, |(host, _)| host);
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port),
            Some(_) | None => (host, "0"),
        };
        schemes.contains(&scheme) && Host::parse(name).is_ok() && port.parse::<u16>().is_ok()
    };
    let bad = servers.iter().filter(|server| !is_server(server));
    bad.map(|server| format!("`{}` is not a server, as {}:server.example.org:3478", shown(server), schemes[0]))
        .collect()
}

pub(super) fn turn_servers_know_us(config: &Config) -> Vec<String> {
    let webtorrent = &config.webtorrent;
    let nameless = webtorrent.turn_username.is_empty() || !webtorrent.turn_password.is_set();
    when(!webtorrent.turn.is_empty() && nameless, || {
        "TURN servers serve who has an account: set webtorrent.turn_username and webtorrent.turn_password".to_owned()
    })
}

pub(super) fn tracker_origins_are_sites(config: &Config) -> Vec<String> {
    let is_site = |text: &str| {
        let site = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        site.is_some_and(|url| url.origin().ascii_serialization() == text)
    };
    let bad = config.webtorrent.tracker_origins.iter().filter(|text| *text != "*" && !is_site(text));
    bad.map(|text| format!("`{}` is not a site, as https://player.example.org, or `*`", shown(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::reasons;
    use super::*;

    #[test]
    fn a_websocket_tracker_is_one_and_named_once() {
        let trackers = ["wss://t.example/", "wss://t.example/", "https://t.example/announce"];
        let found = reasons(websocket_trackers_can_be_asked, |config| {
            config.webtorrent.trackers = trackers.map(|tracker| tracker.parse().unwrap()).to_vec();
        });
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn ice_servers_are_hosts_without_slashes() {
        for (server, fits) in [
            ("stun:stun.example.org:3478", true),
            ("stun:192.0.2.1", true),
            ("stun:[2001:db8::1]", true),
            ("stun:[2001:db8::1]:3478", true),
            ("stun://stun.example.org", false),
            ("stun:me:hunter2@stun.example.org", false),
            ("stun:me@stun.example.org:3478", false),
            ("turn:stun.example.org", false),
            ("stun.example.org:3478", false),
        ] {
            assert_eq!(ice_servers(&[server.to_owned()], &["stun"]).is_empty(), fits, "{server}");
        }
    }

    #[test]
    fn turn_servers_want_an_account() {
        let found = reasons(turn_servers_know_us, |config| config.webtorrent.turn = vec!["turn:t.example".to_owned()]);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn webrtc_and_the_dht_cannot_share_a_port() {
        assert_eq!(reasons(webrtc_has_its_own_port, |_| {}).len(), 0);
        for (port, who) in [(8421, "uTP"), (8422, "the DHT")] {
            let found = reasons(webrtc_has_its_own_port, |config| config.webtorrent.listen_port = port);
            assert_eq!(found, [format!("WebRTC cannot have UDP [::]:{port}, because {who} has [::]:{port}")]);
        }
        let found = reasons(webrtc_has_its_own_port, |config| {
            config.webtorrent.listen_port = 8421;
            config.bittorrent.dht = false;
            config.bittorrent.utp = false;
        });
        assert_eq!(found.len(), 0);
    }

    #[test]
    fn a_proxy_speaks_socks5_and_is_shown_without_its_password() {
        for (url, fits) in [
            ("socks5://127.0.0.1:9050", true),
            ("socks5://me:hunter2@proxy.example", true),
            ("http://me:hunter2@proxy.example:3128", false),
            ("socks5://proxy.example/way", false),
        ] {
            let found = reasons(proxy_is_one, |config| config.bittorrent.proxy = url.parse().ok());
            assert_eq!(found.is_empty(), fits, "{url}");
            assert!(!found.concat().contains("hunter2"));
        }
    }

    #[test]
    fn the_dht_gives_way_to_utp_and_cannot_have_its_port() {
        let found = |port: u16| reasons(dht_and_utp_share_no_port, |config| config.bittorrent.dht_port = port);
        assert_eq!((found(0).len(), found(8421).len(), found(8422).len()), (0, 1, 0));
        let ports = [(true, 8421, 8422), (false, 8421, 8421), (true, 0, 0), (true, u16::MAX, u16::MAX - 1)];
        for (utp, listen_port, dht) in ports {
            let bittorrent = crate::Bittorrent { utp, listen_port, ..crate::Bittorrent::default() };
            assert_eq!(bittorrent.effective_dht_port(), dht);
        }
    }

    #[test]
    fn a_site_is_an_origin_and_no_more() {
        for (text, fits) in
            [("*", true), ("https://a.example", true), ("https://a.example/", false), ("a.example", false)]
        {
            let found =
                reasons(tracker_origins_are_sites, |config| config.webtorrent.tracker_origins = vec![text.to_owned()]);
            assert_eq!(found.is_empty(), fits, "{text}");
        }
    }
}
