//! Every socket of the application, bound once, at start-up, before anything else runs. The DHT library binds its own
//! UDP socket; [`crate::app::App`] adds it to the declared list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use swarmgate_bittorrent::BitTorrentSockets;
use swarmgate_bittorrent::listener::{BindError, Binding, bind_tcp, bind_udp};
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
        Ok(Self { http, peers })
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
        http.chain(peers).collect()
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
    Ok(sockets)
}
