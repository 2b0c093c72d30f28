//! Every socket of the application, bound once, at start-up, before anything else runs. The DHT library binds its own
//! UDP socket; [`crate::app::App`] adds it to the declared list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use swarmgate_bittorrent::listener::{BindError, Binding, bind_group, bind_tcp, bind_udp};
use swarmgate_bittorrent::{BitTorrentSockets, LsdSockets};
use swarmgate_bittorrent_proto::lsd;
use swarmgate_config::Config;
use tokio::net::TcpListener;

/// Why a socket could not be bound.
pub type ListenersError = BindError;

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP, one for each of `server.listen`.
    pub http: Vec<TcpListener>,
    /// BitTorrent's, unless it is switched off.
    pub peers: Option<BitTorrentSockets>,
    /// WebRTC's, one for each address of this machine, unless it is switched off.
    pub webrtc: Option<Vec<UdpSocket>>,
}

impl Listeners {
    /// Binds what the configuration names. Must be called within a runtime.
    ///
    /// # Errors
    /// The first socket that cannot be bound, with the option that names it.
    pub fn bind(config: &Config) -> Result<Self, ListenersError> {
        let bind_http = |address: &SocketAddr| bind_tcp(&Binding::new(*address, "server.listen"));
        let http = config.server.listen.iter().map(bind_http).collect::<Result<_, _>>()?;
        let peers = config.bittorrent.enabled.then(|| bind_peers(config)).transpose()?;
        let webrtc = uses_webrtc(config).then(|| bind_webrtc(config)).transpose()?;
        Ok(Self { http, peers, webrtc })
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.http.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Every socket, with its transport.
    #[must_use]
    pub fn declared(&self) -> Vec<(&'static str, SocketAddr)> {
        let http = self.http_addresses().into_iter().map(|address| ("tcp", address));
        let peers = self.peers.iter().flat_map(BitTorrentSockets::addresses);
        let webrtc = self.webrtc.iter().flatten().filter_map(|socket| Some(("udp", socket.local_addr().ok()?)));
        http.chain(peers).chain(webrtc).collect()
    }
}

/// The peers' TCP port, and a UDP port for trackers. `[::]` takes IPv4 as well; a machine without IPv6 gets `0.0.0.0`.
pub(crate) fn bind_peers(config: &Config) -> Result<BitTorrentSockets, BindError> {
    let key = "bittorrent.listen_port";
    let address = SocketAddr::new(config.bittorrent.listen_ip, config.bittorrent.listen_port);
    let unspecified_v6 = address.ip().is_unspecified() && address.is_ipv6();
    let listen = |address| bind_tcp(&Binding::new(address, key).dual_stack());
    let tcp = match listen(address) {
        Err(error) if unspecified_v6 && error.source.kind() != std::io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))?
        }
        outcome => outcome?,
    };
    let mut sockets = BitTorrentSockets { tcp: Some(tcp), ..BitTorrentSockets::default() };
    let any_port = |ip: IpAddr| bind_udp(&Binding::new(SocketAddr::new(ip, 0), "bittorrent.listen_ip"));
    match address.ip() {
        IpAddr::V4(ip) => sockets.udp_v4 = Some(any_port(ip.into())?),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            sockets.udp_v4 = Some(any_port(Ipv4Addr::UNSPECIFIED.into())?);
            // A machine without IPv6 has no such trackers either.
            sockets.udp_v6 = any_port(ip.into()).ok();
        }
        IpAddr::V6(ip) => sockets.udp_v6 = Some(any_port(ip.into())?),
    }
    if config.bittorrent.lsd {
        sockets.lsd = Some(bind_lsd(address.ip())?);
    }
    Ok(sockets)
}

/// The local network's groups, each where its family is listened to.
fn bind_lsd(listen: IpAddr) -> Result<LsdSockets, BindError> {
    let join = |ip: IpAddr, group| bind_group(&Binding::new(SocketAddr::new(ip, lsd::PORT), "bittorrent.lsd"), group);
    Ok(match listen {
        IpAddr::V4(ip) => LsdSockets { v4: Some(join(ip.into(), lsd::GROUP_V4.into())?), v6: None },
        IpAddr::V6(ip) if ip.is_unspecified() => LsdSockets {
            v4: Some(join(Ipv4Addr::UNSPECIFIED.into(), lsd::GROUP_V4.into())?),
            // A machine without IPv6 has no such neighbours either.
            v6: join(ip.into(), lsd::GROUP_V6.into()).ok(),
        },
        IpAddr::V6(ip) => LsdSockets { v4: None, v6: Some(join(ip.into(), lsd::GROUP_V6.into())?) },
    })
}

/// Addresses of this machine that WebRTC is offered at; more would only make descriptions long.
const MAX_WEBRTC_ADDRESSES: usize = 8;

/// Whether WebRTC peers are to be had: their swarms are BitTorrent's.
pub(crate) const fn uses_webrtc(config: &Config) -> bool {
    config.webtorrent.enabled && config.bittorrent.enabled
}

/// WebRTC's UDP port at each address: a peer is told addresses, and a socket on all of them has none to tell.
pub(crate) fn bind_webrtc(config: &Config) -> Result<Vec<UdpSocket>, BindError> {
    let (ip, port) = (config.webtorrent.listen_ip, config.webtorrent.listen_port);
    let bind = |ip: IpAddr| {
        let binding = Binding::new(SocketAddr::new(ip, port), "webtorrent.listen_port");
        bind_udp(&binding)?.into_std().map_err(|source| binding.error("UDP", source))
    };
    if !ip.is_unspecified() {
        return Ok(vec![bind(ip)?]);
    }
    let mut sockets = Vec::new();
    for ip in interface_addresses(ip.is_ipv6(), config.network.allow_private) {
        match bind(ip) {
            Ok(socket) => sockets.push(socket),
            Err(error) if error.source.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
            // An address can go between being listed and being bound.
            Err(error) => tracing::warn!(%error, "WebRTC is not offered at an address"),
        }
    }
    Ok(sockets)
}

/// The addresses of this machine that others may reach; its own loopback where others on it may be peers, or where there
/// is nothing else.
fn interface_addresses(with_v6: bool, with_loopback: bool) -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses of this machine cannot be listed");
        Vec::new()
    });
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => with_v6 && !ip.is_unicast_link_local(),
    };
    let all: Vec<_> = interfaces.iter().map(if_addrs::Interface::ip).filter(usable).collect();
    let (loopback, mut outer): (Vec<_>, Vec<_>) = all.into_iter().partition(IpAddr::is_loopback);
    outer.truncate(MAX_WEBRTC_ADDRESSES - 1);
    if with_loopback || outer.is_empty() {
        let v4 = loopback.iter().find(|ip| ip.is_ipv4()).or_else(|| loopback.first());
        outer.extend(v4);
    }
    outer
}
