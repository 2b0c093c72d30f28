//! Every socket of the application, bound once, at start-up, before anything else runs. The DHT node binds its own
//! UDP socket; [`crate::app::App`] adds it to the declared list.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;

use swarmgate_bittorrent::listener::{BindError, Binding, bind_group, bind_tcp, bind_udp};
use swarmgate_bittorrent::route::Outlet;
use swarmgate_bittorrent::{BitTorrentSockets, LsdSockets};
use swarmgate_bittorrent_proto::lsd;
use swarmgate_config::{Config, Listen};
use tokio::net::TcpListener;

#[cfg(unix)]
use crate::server::UnixSocket;
use crate::server::{HttpSocket, Tls, TlsError};

/// Why there are not all sockets.
#[derive(Debug, thiserror::Error)]
pub enum ListenersError {
    /// An address could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A Unix socket could not be made.
    #[error("cannot listen on unix:{} (server.listen): {source}", path.display())]
    Unix {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing was handed over, or what is no socket for clients.
    #[error("server.listen = systemd: {0}")]
    HandedOver(io::Error),
}

/// The bound sockets.
#[derive(Debug)]
pub struct Listeners {
    /// HTTP, for each of `server.listen`.
    pub http: Vec<HttpSocket>,
    /// The certificate that IP addresses of HTTP are served with, if they are.
    pub tls: Option<Tls>,
    /// BitTorrent's, unless it is switched off.
    pub peers: Option<BitTorrentSockets>,
    /// WebRTC's, one for each address of this machine, unless it is switched off.
    pub webrtc: Option<Vec<UdpSocket>>,
    /// For asking the router to forward ports, where it is asked.
    pub mapping: Option<tokio::net::UdpSocket>,
}

impl Listeners {
    /// Binds what the configuration names. Must be called within a runtime.
    ///
    /// # Errors
    /// The first socket that cannot be bound, with the option that names it.
    pub fn bind(config: &Config) -> Result<Self, ListenersError> {
        let (cert, key) = (&config.server.tls_cert, &config.server.tls_key);
        let tls = config.server.has_tls().then(|| Tls::load(cert, key)).transpose()?;
        let bound = config.server.listen.iter().map(bind_http).collect::<Result<Vec<_>, _>>()?;
        let http = bound.into_iter().flatten().map(|socket| socket.with_tls(tls.clone())).collect();
        let peers = config.bittorrent.enabled.then(|| bind_peers(config)).transpose()?;
        let webrtc = uses_webrtc(config).then(|| bind_webrtc(config)).transpose()?;
        let unnumbered = Binding::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), "bittorrent.port_mapping");
        let mapping = config.bittorrent.maps_ports().then(|| bind_udp(&unnumbered)).transpose()?;
        Ok(Self { http, tls, peers, webrtc, mapping })
    }

    /// Where HTTP is served.
    #[must_use]
    pub fn http_addresses(&self) -> Vec<SocketAddr> {
        self.http.iter().filter_map(HttpSocket::address).collect()
    }

    /// Every socket, with its transport.
    #[must_use]
    pub fn declared(&self) -> Vec<(&'static str, SocketAddr)> {
        let http = self.http_addresses().into_iter().map(|address| ("tcp", address));
        let peers = self.peers.iter().flat_map(BitTorrentSockets::addresses);
        let webrtc = self.webrtc.iter().flatten().filter_map(|socket| Some(("udp", socket.local_addr().ok()?)));
        let mapping = self.mapping.iter().filter_map(|socket| Some(("udp", socket.local_addr().ok()?)));
        http.chain(peers).chain(webrtc).chain(mapping).collect()
    }
}

fn bind_http(place: &Listen) -> Result<Vec<HttpSocket>, ListenersError> {
    match place {
        Listen::Tcp(address) => Ok(vec![bind_tcp(&Binding::new(*address, "server.listen"))?.into()]),
        #[cfg(unix)]
        Listen::Unix(path) => {
            let failed = |source| ListenersError::Unix { path: path.clone(), source };
            Ok(vec![HttpSocket::Unix(UnixSocket::bind(path).map_err(failed)?)])
        }
        #[cfg(not(unix))]
        Listen::Unix(path) => {
            Err(ListenersError::Unix { path: path.clone(), source: io::ErrorKind::Unsupported.into() })
        }
        Listen::Systemd => {
            let sockets = HttpSocket::handed_over().map_err(ListenersError::HandedOver)?;
            if sockets.is_empty() {
                let reason = "no sockets were handed over to this process (LISTEN_FDS, LISTEN_PID)";
                return Err(ListenersError::HandedOver(io::Error::new(io::ErrorKind::NotFound, reason)));
            }
            Ok(sockets)
        }
    }
}

/// How often the system is asked for a number that is free over both TCP and UDP.
const PORT_CHANCES: u32 = 16;

/// The peers' port over TCP and uTP, and a UDP port for trackers. `[::]` takes IPv4 as well; a machine without IPv6 gets
/// `0.0.0.0`. With a proxy there is none: whatever came or went there would pass the proxy by.
pub(crate) fn bind_peers(config: &Config) -> Result<BitTorrentSockets, BindError> {
    if config.bittorrent.proxy.is_some() {
        return Ok(BitTorrentSockets::default());
    }
    let address = SocketAddr::new(config.bittorrent.effective_listen_ip(), config.bittorrent.listen_port);
    let (tcp, utp) = bind_peer_port(address, config.bittorrent.has_utp())?;
    let mut sockets = BitTorrentSockets { tcp: Some(tcp), utp, ..BitTorrentSockets::default() };
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
    let held = sockets.hold(&Outlet::named(&config.bittorrent.bind_interface));
    held.map_err(|error| Binding::new(address, "bittorrent.bind_interface").error("TCP and UDP", error))?;
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

/// Peers learn one number, which is both TCP's and uTP's. One that the system chose for TCP may be taken over UDP.
fn bind_peer_port(
    address: SocketAddr,
    with_utp: bool,
) -> Result<(TcpListener, Option<tokio::net::UdpSocket>), BindError> {
    let mut chances = if address.port() == 0 { PORT_CHANCES } else { 1 };
    loop {
        let tcp = listen_for_peers(address)?;
        if !with_utp {
            return Ok((tcp, None));
        }
        chances -= 1;
        let binding = Binding::new(address, "bittorrent.listen_port");
        let bound = tcp.local_addr().map_err(|error| binding.error("TCP", error))?;
        match bind_udp(&Binding { address: bound, ..binding }.dual_stack()) {
            Ok(utp) => return Ok((tcp, Some(utp))),
            Err(error) if chances == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn listen_for_peers(address: SocketAddr) -> Result<TcpListener, BindError> {
    let unspecified_v6 = address.ip().is_unspecified() && address.is_ipv6();
    let listen = |address| bind_tcp(&Binding::new(address, "bittorrent.listen_port").dual_stack());
    match listen(address) {
        Err(error) if unspecified_v6 && error.source.kind() != io::ErrorKind::AddrInUse => {
            listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
        }
        outcome => outcome,
    }
}

/// Addresses of this machine that WebRTC is offered at; more would only make descriptions long.
const MAX_WEBRTC_ADDRESSES: usize = 8;

/// Whether WebRTC peers are to be had: their swarms are BitTorrent's, and so is the way that they must not leave by.
pub(crate) const fn uses_webrtc(config: &Config) -> bool {
    config.webtorrent.enabled && config.bittorrent.lets_webrtc()
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
            Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => return Err(error),
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
