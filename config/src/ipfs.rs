//! The options of the IPFS network. Each doc comment is the option's entry in the manual.

use std::net::{IpAddr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::urls::{ServerUrl, optional_server, or_empty, urls};
use crate::values::Span;

/// The IPFS network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ipfs {
    /// Whether the gateway serves IPFS at all.
    pub enabled: bool,
    /// Where blocks may come from, besides the cache.
    pub mode: IpfsMode,
    /// Whether to use what the IPFS network offers to everybody: the DHT by its public bootstrap nodes, the public
    /// delegated routing server, and DNS for the links of hosts. Without it nobody is contacted but those named below
    /// and by requests. What public trustless gateways there are has to be named in `gateways` either way.
    pub public: bool,
    /// IP address of the libp2p node. `::` is every address, IPv6 and IPv4 alike.
    pub listen_ip: IpAddr,
    /// TCP and UDP (QUIC) port of the libp2p node. Open or forward it for more peers. 0 lets the system choose.
    pub listen_port: u16,
    /// Peers to begin with, as `/dns4/node.example.org/tcp/4001/p2p/12D3Koo…`. They also introduce the gateway to the
    /// DHT.
    pub bootstrap: Vec<String>,
    /// Trustless gateways to ask for blocks, as `https://gateway.example.org`. Every block is checked, so none of them
    /// has to be trusted.
    #[serde(deserialize_with = "urls")]
    #[schemars(with = "Vec<String>", extend("x-url" = true))]
    pub gateways: Vec<ServerUrl>,
    /// Delegated routing servers to ask who has a content, as `https://router.example.org`.
    #[serde(deserialize_with = "urls")]
    #[schemars(with = "Vec<String>", extend("x-url" = true))]
    pub routers: Vec<ServerUrl>,
    /// The RPC API of a Kubo daemon to ask for blocks, as `http://127.0.0.1:5001`. Empty: none.
    #[serde(deserialize_with = "optional_server", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("x-url" = true))]
    pub kubo_api: Option<ServerUrl>,
    /// Whether DNS is asked for the links of hosts (DNSLink). `public` asks it too.
    pub dns: bool,
    /// Links of hosts that DNS is not asked about, as `docs.example.org:/ipfs/bafy…` or `docs.example.org:/ipns/k51…`.
    pub dnslinks: Vec<String>,
    /// Hosts, perhaps with a port, below which every content has an origin of its own, as `{cid}.ipfs.localhost`. A
    /// name in `server.allowed_hosts` is not needed for these.
    pub subdomain_hosts: Vec<String>,
    /// How long the target of an IPNS name or DNSLink is kept at most, whatever its own time to live says.
    pub ipns_max_ttl: Span,
    /// How long one request may wait for blocks in all. What its client takes to read is not counted;
    /// `deadlines.first_byte` and `deadlines.stall` bound every single wait.
    pub total_wait: Span,
}

/// Where blocks may come from, besides the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IpfsMode {
    /// From peers, gateways and daemons.
    Both,
    /// From peers and daemons, never over HTTP from gateways.
    P2p,
    /// From gateways and daemons: no libp2p node is started.
    TrustlessHttp,
}

impl Default for Ipfs {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: IpfsMode::Both,
            public: false,
            listen_ip: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            listen_port: 8423,
            bootstrap: Vec::new(),
            gateways: Vec::new(),
            routers: Vec::new(),
            kubo_api: None,
            dns: false,
            dnslinks: Vec::new(),
            subdomain_hosts: vec!["localhost".to_owned()],
            ipns_max_ttl: Span::from_secs(300),
            total_wait: Span::from_secs(3600),
        }
    }
}

/// What is served and what is not, whatever its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What is served and fetched at all. Denylists take away from it, whatever it is.
    pub mode: PolicyMode,
    /// Files that list what is served in the mode `allowlist`: an infohash, a CID or a name of IPNS a line. They are read
    /// again at each reload; which files they are changes at a restart. What is off the lists then is refused to whoever
    /// asks this gateway for it; a torrent that runs goes on among its peers until it is idle, or until the next start.
    pub allowlists: Vec<std::path::PathBuf>,
    /// Files that list what is not served, in the compact denylist format. They are read again at each reload; which files
    /// they are changes at a restart.
    pub denylists: Vec<std::path::PathBuf>,
    /// The status of an answer for it: 410, gone, or 451, unavailable for legal reasons (RFC 7725).
    pub legal_status: u16,
}

impl Default for Policy {
    fn default() -> Self {
        Self { mode: PolicyMode::Open, allowlists: Vec::new(), denylists: Vec::new(), legal_status: 451 }
    }
}

/// What is served and fetched at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyMode {
    /// Whatever is asked for.
    Open,
    /// What the files in `allowlists` name, by the id that they name, and nothing else.
    Allowlist,
    /// Blocks that are pinned and torrents that were added to stay.
    PinnedOnly,
}
