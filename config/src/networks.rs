//! The options of the networks. Each doc comment is the option's entry in the manual.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::urls::{ServerUrl, optional_server, or_empty, urls};
use crate::values::{Secret, Span, optional_ip, or_no_ip};

/// What the gateway may dial.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Whether peers, trackers and web seeds on loopback, private and link-local addresses may be dialled. They are
    /// named by strangers, so the default keeps the gateway from being led into its own network. Say true for a swarm
    /// inside a LAN.
    pub allow_private: bool,
}

/// The BitTorrent network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bittorrent {
    /// Whether the gateway is a BitTorrent peer at all.
    pub enabled: bool,
    /// IP address to listen on for peers and the DHT. `::` is every address, IPv6 and IPv4 alike.
    pub listen_ip: IpAddr,
    /// TCP port for incoming peers, and UDP port of uTP. Open or forward it for more peers. 0 lets the system choose.
    pub listen_port: u16,
    /// Whether to reach peers, and be reached, over uTP (BEP 29) as well: a stream over UDP, which gets through many a
    /// NAT that TCP does not. TCP is preferred. Say false where UDP is slow or unwanted. Takes effect at a restart.
    pub utp: bool,
    /// Whether connections to peers are encrypted. It hides what they are from those who sort traffic by its looks, and
    /// keeps no secret from anybody else. Takes effect at a restart.
    pub encryption: PeerEncryption,
    /// SOCKS5 proxy that all BitTorrent goes through, as `socks5://host:port` or `socks5://user:password@host:port`.
    /// What cannot go through it is off: incoming peers, uTP, the DHT, UDP trackers, WebRTC. While it is down there are
    /// no peers. Empty: none. Takes effect at a restart.
    #[serde(deserialize_with = "optional_server", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("x-url" = true))]
    pub proxy: Option<ServerUrl>,
    /// Network interface by name, or an address of this machine, that all BitTorrent leaves by, as a VPN's `tun0`. While
    /// it is gone there are no peers. WebRTC is off then, and with a name, which is for Linux alone, the DHT: neither can
    /// be held to it. An address stands in for `listen_ip`. Empty: whatever the system's routes say. Takes effect at a
    /// restart.
    pub bind_interface: String,
    /// Whether to find peers through the distributed hash table (BEP 5). Private torrents never use it.
    pub dht: bool,
    /// UDP port of the DHT. 0: the number of `listen_port`, or the next one where uTP has that.
    pub dht_port: u16,
    /// Hosts with ports that introduce the gateway to the DHT. Empty: only nodes that peers name.
    pub dht_bootstrap: Vec<String>,
    /// Trackers to ask besides the torrent's own, as `udp://host:port/announce` or `https://host/announce`. Private
    /// torrents never use them.
    #[serde(deserialize_with = "urls")]
    #[schemars(with = "Vec<String>", extend("x-url" = true))]
    pub trackers: Vec<ServerUrl>,
    /// Connected peers of one torrent.
    pub max_peers_per_torrent: usize,
    /// Connected peers of all torrents. The smaller of the two wins.
    pub max_peers: usize,
    /// Connections being dialled at once. Lower it when a home router drops out.
    pub max_half_open: usize,
    /// Whether peers of public torrents are told of each other, and tell of others (BEP 11).
    pub pex: bool,
    /// Whether to call out for peers in the local network (BEP 14). Everybody there can then see what is fetched. Private
    /// torrents never do. Peers in there are dialled only where `network.allow_private` lets them be.
    pub lsd: bool,
    /// Whether to ask the router of the house, by PCP, NAT-PMP or UPnP, to forward the ports of peers and of the DHT, those of
    /// WebRTC where `listen_port` names one, and those of IPFS where it is public. Switch it on where peers cannot dial in. It
    /// is for IPv4 and Linux, off with a proxy or an interface named, and never waited for. Takes effect at a restart.
    pub port_mapping: bool,
    /// Files of addresses that are neither dialled nor let in, in the P2P, DAT or CIDR form. They are read again within 10
    /// seconds of a change.
    pub peer_blocklists: Vec<PathBuf>,
    /// Files of addresses, in the same forms, that are let in though a block list names them.
    pub peer_allowlists: Vec<PathBuf>,
    /// How long a peer stays banned that is proven to have sent wrong bytes or to have broken the protocol. `0s`: bans nobody.
    pub ban_time: Span,
}

/// Whether connections to peers are encrypted (message stream encryption).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PeerEncryption {
    /// Never.
    Off,
    /// Asked for first, and done without where the peer does not know it.
    Prefer,
    /// Always: peers without it are turned away.
    Require,
}

/// The WebTorrent network: browsers as peers of the same swarms, over WebRTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webtorrent {
    /// Whether the gateway is a WebRTC peer at all. Its swarms are those of `bittorrent`, which has to be on as well.
    pub enabled: bool,
    /// IP address for WebRTC. `::` is every address that this machine has at its start.
    pub listen_ip: IpAddr,
    /// UDP port of all WebRTC connections. 0 lets the system choose, which is fine wherever a firewall lets answers in;
    /// say a number to open or forward it.
    pub listen_port: u16,
    /// The address that the world knows this machine by, behind a one-to-one NAT as clouds have it. Empty: none.
    #[serde(deserialize_with = "optional_ip", serialize_with = "or_no_ip")]
    #[schemars(with = "String")]
    pub external_ip: Option<IpAddr>,
    /// Trackers to ask besides the torrent's own, as `wss://host/announce`. Private torrents never use them.
    #[serde(deserialize_with = "urls")]
    #[schemars(with = "Vec<String>", extend("x-url" = true))]
    pub trackers: Vec<ServerUrl>,
    /// STUN servers that tell the gateway its public address, as `stun:host:port`. Not needed on a LAN or with
    /// `external_ip`.
    #[schemars(extend("x-url" = true))]
    pub stun: Vec<String>,
    /// TURN servers that relay where nothing else gets through, as `turn:host:port`.
    #[schemars(extend("x-url" = true))]
    pub turn: Vec<String>,
    /// User name at the TURN servers.
    pub turn_username: String,
    /// Password at the TURN servers.
    pub turn_password: Secret,
    /// WebRTC connections of all torrents. Each holds about 300 KiB.
    pub max_connections: usize,
    /// WebRTC connections of one torrent. The smaller of the two wins.
    pub max_connections_per_torrent: usize,
    /// Whether the gateway is a tracker too, at `/announce` of its HTTP address. Its swarms cost no port.
    pub builtin_tracker: bool,
    /// Whose swarms the built-in tracker keeps.
    pub tracker_allow: TrackerAllow,
    /// Web sites whose pages may use the built-in tracker, as `https://player.example.org`. `*` is every site.
    #[schemars(extend("x-url" = true))]
    pub tracker_origins: Vec<String>,
    /// WebSockets that one IP address may hold open at the built-in tracker. Raise it when many people share one.
    pub tracker_sockets_per_ip: usize,
    /// Messages a second that one WebSocket may send to the built-in tracker, in the long run.
    pub tracker_messages_per_second: u32,
    /// WebSockets that the built-in tracker holds open in all.
    pub tracker_sockets: usize,
}

/// Whose swarms the built-in tracker keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrackerAllow {
    /// Those of the contents that the gateway itself is working on.
    Listed,
    /// Any. Strangers may then use the gateway to find each other.
    Any,
}

impl Default for Bittorrent {
    fn default() -> Self {
        Self {
            enabled: true,
            listen_ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            listen_port: 8421,
            utp: true,
            encryption: PeerEncryption::Prefer,
            proxy: None,
            bind_interface: String::new(),
            dht: true,
            dht_port: 0,
            dht_bootstrap: ["router.bittorrent.com:6881", "dht.transmissionbt.com:6881", "dht.libtorrent.org:25401"]
                .map(str::to_owned)
                .to_vec(),
            trackers: Vec::new(),
            max_peers_per_torrent: 80,
            max_peers: 400,
            max_half_open: 40,
            pex: true,
            lsd: false,
            port_mapping: false,
            peer_blocklists: Vec::new(),
            peer_allowlists: Vec::new(),
            ban_time: Span::from_secs(3600),
        }
    }
}

impl Default for Webtorrent {
    fn default() -> Self {
        Self {
            enabled: true,
            listen_ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            listen_port: 0,
            external_ip: None,
            trackers: Vec::new(),
            stun: Vec::new(),
            turn: Vec::new(),
            turn_username: String::new(),
            turn_password: Secret::default(),
            max_connections: 200,
            max_connections_per_torrent: 30,
            builtin_tracker: true,
            tracker_allow: TrackerAllow::Listed,
            tracker_origins: vec!["*".to_owned()],
            tracker_sockets_per_ip: 64,
            tracker_messages_per_second: 10,
            tracker_sockets: 10_000,
        }
    }
}

impl Bittorrent {
    /// The UDP port the DHT is to use, which may be 0 for any.
    #[must_use]
    pub const fn effective_dht_port(&self) -> u16 {
        match (self.dht_port, self.listen_port) {
            (0, 0) => 0,
            (0, u16::MAX) if self.has_utp() => u16::MAX - 1,
            (0, port) if self.has_utp() => port + 1,
            (0, port) => port,
            (port, _) => port,
        }
    }

    /// Whether there is uTP: not through a proxy.
    #[must_use]
    pub const fn has_utp(&self) -> bool {
        self.utp && self.proxy.is_none()
    }

    /// Whether there is a DHT node: not through a proxy, and not where it could not be held to an interface.
    #[must_use]
    pub fn has_dht(&self) -> bool {
        let held = !self.bind_interface.is_empty() && self.outlet_ip().is_none();
        self.dht && self.proxy.is_none() && !held
    }

    /// Whether the router is asked for ports: not for what no peer may reach.
    #[must_use]
    pub const fn maps_ports(&self) -> bool {
        self.port_mapping && self.lets_webrtc()
    }

    /// Whether WebRTC peers may be had: they know neither the proxy nor the outlet.
    #[must_use]
    pub const fn lets_webrtc(&self) -> bool {
        self.enabled && self.proxy.is_none() && self.bind_interface.is_empty()
    }

    /// The address of this machine that all of it leaves by, if one is named.
    #[must_use]
    pub fn outlet_ip(&self) -> Option<IpAddr> {
        self.bind_interface.parse().ok()
    }

    /// Where to listen, and so what datagrams leave by: the outlet's address, if one is named.
    #[must_use]
    pub fn effective_listen_ip(&self) -> IpAddr {
        self.outlet_ip().unwrap_or(self.listen_ip)
    }
}
