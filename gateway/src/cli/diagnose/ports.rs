//! Whether the sockets can be had that the gateway binds when it starts. Those of one that runs are its own.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use swarmgate_bittorrent::listener::{BindError, Binding, bind_tcp, bind_udp};
use swarmgate_config::{Config, IpfsMode};

use super::{Check, Verdict};
use crate::listeners::uses_webrtc;

/// A socket that will be bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    key: &'static str,
    over_tcp: bool,
    address: SocketAddr,
}

/// Binds each socket for a moment. Must be called within a runtime.
pub(super) fn look(config: &Config, running: bool) -> Vec<Check> {
    if running {
        return vec![Check::new("ports", Verdict::Skipped, "the gateway that runs has them")];
    }
    let wanted = wanted(config);
    let refused: Vec<_> = wanted.iter().filter_map(|socket| bind(*socket).err()).map(|error| refusal(&error)).collect();
    if !refused.is_empty() {
        return refused;
    }
    let ports: Vec<_> =
        wanted.iter().map(|it| format!("{}/{}", it.address.port(), transport(*it).to_lowercase())).collect();
    let found =
        if ports.is_empty() { "all are left to the system".to_owned() } else { format!("free: {}", ports.join(", ")) };
    vec![Check::new("ports", Verdict::Ok, found)]
}

/// The sockets with a number of their own; what the system chooses is always to be had.
fn wanted(config: &Config) -> Vec<Wanted> {
    let http = config.server.addresses().map(|address| Wanted { key: "server.listen", over_tcp: true, address });
    let mut all: Vec<_> = http.collect();
    let mut add =
        |key, over_tcp, ip: IpAddr, port| all.push(Wanted { key, over_tcp, address: SocketAddr::new(ip, port) });
    let (bittorrent, ipfs, webtorrent) = (&config.bittorrent, &config.ipfs, &config.webtorrent);
    if bittorrent.enabled && bittorrent.proxy.is_none() {
        let ip = bittorrent.effective_listen_ip();
        add("bittorrent.listen_port", true, ip, bittorrent.listen_port);
        if bittorrent.has_utp() {
            add("bittorrent.listen_port", false, ip, bittorrent.listen_port);
        }
        if bittorrent.has_dht() {
            add("bittorrent.dht_port", false, ip, bittorrent.effective_dht_port());
        }
    }
    if uses_webrtc(config) {
        add("webtorrent.listen_port", false, webtorrent.listen_ip, webtorrent.listen_port);
    }
    if ipfs.enabled && ipfs.mode != IpfsMode::TrustlessHttp {
        add("ipfs.listen_port", true, ipfs.listen_ip, ipfs.listen_port);
        add("ipfs.listen_port", false, ipfs.listen_ip, ipfs.listen_port);
    }
    all.retain(|socket| socket.address.port() != 0);
    all
}

const fn transport(socket: Wanted) -> &'static str {
    if socket.over_tcp { "TCP" } else { "UDP" }
}

/// As the gateway does it: every address is IPv6's and IPv4's, and IPv4's alone where there is no IPv6.
fn bind(wanted: Wanted) -> Result<(), BindError> {
    let at = |address| {
        let binding = Binding::new(address, wanted.key);
        let binding = if wanted.key == "server.listen" { binding } else { binding.dual_stack() };
        if wanted.over_tcp { bind_tcp(&binding).map(drop) } else { bind_udp(&binding).map(drop) }
    };
    let any_v6 = wanted.address.is_ipv6() && wanted.address.ip().is_unspecified();
    match at(wanted.address) {
        Err(error) if any_v6 && wanted.key != "server.listen" && error.source.kind() != ErrorKind::AddrInUse => {
            at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), wanted.address.port()))
        }
        outcome => outcome,
    }
}

fn refusal(error: &BindError) -> Check {
    let advice = if error.source.kind() == ErrorKind::AddrInUse {
        format!("`ss -lntup` says who has it; stop that, or choose another {}", error.key)
    } else if error.source.kind() == ErrorKind::PermissionDenied {
        format!("ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher {}", error.key)
    } else {
        format!("`ip address` lists the addresses of this machine; correct {}", error.key)
    };
    Check::new("ports", Verdict::Fail, error.to_string()).advice(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_ports_that_the_documents_name() {
        let ports: Vec<_> = wanted(&Config::default()).into_iter().map(|it| (it.address.port(), it.over_tcp)).collect();
        assert_eq!(ports, [(8420, true), (8421, true), (8421, false), (8422, false), (8423, true), (8423, false)]);
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_told_with_its_option() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::default();
        config.server.listen = vec![taken.local_addr().unwrap().into()];
        config.bittorrent.enabled = false;
        config.ipfs.enabled = false;
        let checks = look(&config, false);
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Fail), "{checks:?}");
        assert!(checks[0].found.contains("server.listen") && checks[0].advice.as_ref().unwrap().contains("ss -lntup"));
        assert_eq!(look(&config, true)[0].verdict, Verdict::Skipped);
        drop(taken);
        assert_eq!(look(&config, false)[0].verdict, Verdict::Ok);
    }

    #[tokio::test]
    async fn an_address_of_another_machine_cannot_be_listened_on() {
        let mut config = Config::default();
        config.server.listen = vec!["192.0.2.1:8420".parse().unwrap()];
        config.bittorrent.enabled = false;
        config.ipfs.enabled = false;
        let checks = look(&config, false);
        assert!(
            checks[0].verdict == Verdict::Fail && checks[0].advice.as_ref().unwrap().contains("ip address"),
            "{checks:?}"
        );
    }
}
