//! The options of the gateway itself. Each doc comment is the option's entry in the manual: what it does, its unit,
//! when an operator changes it. The defaults are in the `Default` impls below the structs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::hybrid::Hybrid;
use crate::ipfs::{Ipfs, Policy};
use crate::limits::Limits;
use crate::listen::Listen;
use crate::networks::{Bittorrent, Network, Webtorrent};
use crate::seeding::Seeding;
use crate::ui::Ui;
use crate::urls::{ServerUrl, optional_server, optional_url, or_empty};
use crate::values::{Secret, Size, Span, networks};

/// The configuration of one swarmgate process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The HTTP server.
    pub server: Server,
    /// Who may do what.
    pub auth: Auth,
    /// The cache of verified content.
    pub cache: Cache,
    /// How long a request may take, stage by stage; a response that goes on delivering is never cut. A length of time is
    /// written as `30s`, `5m` or `6h`.
    pub deadlines: Deadlines,
    /// What the gateway may dial.
    pub network: Network,
    /// The BitTorrent network.
    pub bittorrent: Bittorrent,
    /// The WebTorrent network: browsers as peers of the same swarms, over WebRTC.
    pub webtorrent: Webtorrent,
    /// The IPFS network.
    pub ipfs: Ipfs,
    /// One content over every network that has it.
    pub hybrid: Hybrid,
    /// What is served, and what is not.
    pub policy: Policy,
    /// Giving back: what is uploaded to peers. Only verified pieces that are in the cache are ever uploaded. All of it can be
    /// changed while the gateway runs, by SIGHUP or over the API.
    pub seeding: Seeding,
    /// How fast clients are served, and how often they may ask. All of it can be changed while the gateway runs, by SIGHUP or over the API.
    pub limits: Limits,
    /// Contents the gateway is working on.
    pub items: Items,
    /// What clients of the API may have published.
    pub publish: Publish,
    /// The pages for browsers.
    pub ui: Ui,
    /// When the configuration is read again.
    pub reload: Reload,
    /// What the gateway says about itself.
    pub observe: Observe,
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// IP addresses and ports to listen on. Port 0 lets the system choose. An address that other machines can reach
    /// needs credentials (`auth.token`, `auth.credentials`), or `auth.mode = "none"`. Also `unix:/run/swarmgate.sock`, whose
    /// clients count as this machine, and `systemd`, the sockets that a service manager hands over (LISTEN_FDS).
    #[schemars(with = "Vec<String>")]
    pub listen: Vec<Listen>,
    /// A certificate with its chain, as PEM; with it, and `tls_key`, all IP addresses speak TLS. Read again at SIGHUP.
    /// Empty: no TLS.
    pub tls_cert: PathBuf,
    /// The certificate's private key, as PEM. Read again at SIGHUP.
    pub tls_key: PathBuf,
    /// Networks of reverse proxies, as `127.0.0.1` or `10.0.0.0/8`, that may say for whom they ask: `X-Forwarded-For` or
    /// `Forwarded`, `X-Forwarded-Host` and `X-Forwarded-Proto`. They must send one of the first two with each request, and
    /// count as the client where they do not. A Unix socket's clients are 127.0.0.1.
    #[serde(deserialize_with = "networks")]
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// The address clients know the gateway by, as `https://media.example.org/`; used in playlists and links, and its
    /// host is an allowed one. Empty: the host each request names.
    #[serde(deserialize_with = "optional_url", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("x-url" = true))]
    pub public_url: Option<Url>,
    /// The path all routes live under. Change it when a reverse proxy hands over one folder only.
    pub base_path: String,
    /// Host names, without port, that a request may name; others are refused, which is what stops a web page from
    /// reaching the gateway under a name of its own (DNS rebinding). Loopback IP addresses and the host of `public_url`
    /// are always allowed. `*` allows every name.
    pub allowed_hosts: Vec<String>,
    /// Responses with a body that may run at once. More are answered 503.
    pub max_streams: usize,
    /// The same for one client: an IPv4 address or the /64 of an IPv6 address. The smaller of the two wins, and more are
    /// answered 429. Raise it when many people share one address. Clients on this machine count in the total alone.
    pub max_streams_per_client: usize,
    /// Whether `/torrent?url=` may fetch a .torrent file from a URL that the client chooses.
    pub torrent_url: Switch,
}

/// A choice that has a sensible answer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// While the server listens on loopback addresses only.
    Auto,
    /// For every client.
    On,
    /// For nobody.
    Off,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// What the control API asks for.
    pub mode: AuthMode,
    /// The bearer token of the control API, and of content where `anonymous_content` does not cover the client.
    /// Best given as a file: SWARMGATE_AUTH__TOKEN_FILE. It may do everything; for tokens that may do less, and for people
    /// with passwords, see `credentials`.
    pub token: Secret,
    /// The file with tokens and users of their own scopes, which `swarmgate token` writes: hashes alone, as TOML. The gateway
    /// reads it again when it changes, so that a token that is revoked is one within seconds. Empty: none.
    pub credentials: PathBuf,
    /// The key that signed links are made with, at least 32 characters. Empty: the file `link-key` in `cache.dir`, which the
    /// gateway makes at its first start. Gateways that stand for each other need the same. With another key, links that
    /// were given away no longer work. Best given as a file: SWARMGATE_AUTH__LINK_KEY_FILE.
    pub link_key: Secret,
    /// How long a signed link works when nobody says: those in playlists, and those that are asked for without a time.
    pub link_ttl: Span,
    /// Who may read content without the token, where there is one. Behind a reverse proxy on the same machine every
    /// client looks like loopback: say `never` there unless the proxy asks for credentials itself.
    pub anonymous_content: AnonymousContent,
}

/// What the control API asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Credentials when there are any: a token, or a file with some. Without, the server listens on loopback addresses only.
    Auto,
    /// Nothing, not even on a public address.
    None,
    /// Credentials, always.
    Token,
}

/// Who may read content without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnonymousContent {
    /// Clients on this machine.
    Loopback,
    /// Everybody.
    Always,
    /// Nobody.
    Never,
}

/// The cache of verified content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// Where cached content and the index lie. Empty: `swarmgate` in the platform's cache directory.
    pub dir: PathBuf,
    /// Size the cached content never exceeds; the least recently used goes first.
    pub max_size: Size,
    /// Free space to leave on the volume, whatever `max_size` says. 0: none.
    pub min_free: Size,
    /// Memory for blocks in front of the disk. The pieces of one torrent that are still arriving may take a quarter of
    /// it besides. Lower it on small boards.
    pub memory: Size,
    /// Keep nothing: the cache lies in a fresh directory below `dir` and is deleted at exit.
    pub ephemeral: bool,
}

/// How long a request may take, stage by stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Deadlines {
    /// To learn what the content is: its files and hashes. Raise it for magnets with few peers.
    pub resolve: Span,
    /// From then to the first verified byte.
    pub first_byte: Span,
    /// Between two bytes of a running response.
    pub stall: Span,
    /// The longest `?wait=` a client may ask for, which then stands in for `resolve` and `first_byte` together.
    pub max_wait: Span,
}

/// Contents the gateway is working on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Items {
    /// How long a content that somebody only read stays active after its last reader left. What is cached stays.
    pub idle_grace: Span,
    /// Contents active at once. Readers come first: for one more, a content that nobody reads waits or is dropped, and when
    /// all are being read the request is answered 503.
    pub max_active: usize,
    /// Of the contents added to stay that nobody reads: how many that are not complete are active at once. The rest wait, by
    /// their priority and in the order in which they were added.
    pub max_active_downloads: usize,
    /// Of the contents added to stay that nobody reads: how many that are complete are active at once. The rest wait, by their
    /// priority and in the order in which they were added.
    pub max_active_seeds: usize,
}

/// What clients of the API may have published.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Publish {
    /// Directories below which everything may be published over the API, and so be read by everybody. Symlinks in a
    /// path are followed before it is compared. None: `swarmgate publish` alone publishes.
    pub dirs: Vec<PathBuf>,
}

/// When the configuration is read again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Whether the configuration files are read again within two seconds of a change, as SIGHUP has them read at once. What
    /// needs a restart is named in the log, and a file with a mistake in it changes nothing. Say true where nobody can
    /// send a signal, as with a ConfigMap that is mounted into a container.
    pub watch: bool,
}

/// What the gateway says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Observe {
    /// Log level: `off`, `error`, `warn`, `info`, `debug` or `trace`. Parts can have their own, after a comma:
    /// `info,swarmgate_swarm=debug`.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Whether log lines at `info` and above may name files of contents. With it every request is a line at `info`, with
    /// its path; without it those lines are at `debug`.
    pub log_names: bool,
    /// A collector of OpenTelemetry that is told of requests, as `http://127.0.0.1:4318`: each is a span, sent to
    /// `/v1/traces` below that URL by OTLP (protobuf over HTTP), a batch every second. What was asked for is named by
    /// its network alone; with `log_names` by its path too. Empty: nobody is told. A program that was built without the
    /// cargo feature `otel` takes no other value.
    #[serde(deserialize_with = "optional_server", serialize_with = "or_empty")]
    #[schemars(with = "String", extend("x-url" = true))]
    pub otlp_endpoint: Option<ServerUrl>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `human` on a terminal, else `json`.
    Auto,
    /// One readable line an event.
    Human,
    /// One JSON object an event.
    Json,
}

impl Config {
    /// Whether `/torrent?url=` is open.
    #[must_use]
    pub fn allows_torrent_url(&self) -> bool {
        match self.server.torrent_url {
            Switch::Auto => self.server.is_loopback_only(),
            Switch::On => true,
            Switch::Off => false,
        }
    }
}

impl Server {
    /// Whether only this machine can reach the server.
    #[must_use]
    pub fn is_loopback_only(&self) -> bool {
        self.listen.iter().all(Listen::is_local)
    }

    /// The IP addresses that are listened on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.iter().filter_map(Listen::tcp)
    }

    /// Whether IP addresses speak TLS.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        !self.tls_cert.as_os_str().is_empty()
    }
}

impl Auth {
    /// The token that the control API asks for, or `None` when it asks for nothing.
    #[must_use]
    pub fn required_token(&self) -> Option<&Secret> {
        match self.mode {
            AuthMode::Auto | AuthMode::Token => Some(&self.token).filter(|token| token.is_set()),
            AuthMode::None => None,
        }
    }

    /// The file with tokens and users, or `None` when there is none or the control API asks for nothing.
    #[must_use]
    pub fn required_credentials(&self) -> Option<&Path> {
        let named = !self.credentials.as_os_str().is_empty() && self.mode != AuthMode::None;
        named.then_some(self.credentials.as_path())
    }

    /// Whether anything is named that a client could be asked for.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.token.is_set() || !self.credentials.as_os_str().is_empty()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 8420)))],
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
            trusted_proxies: Vec::new(),
            public_url: None,
            base_path: "/".to_owned(),
            allowed_hosts: vec!["localhost".to_owned()],
            max_streams: 1024,
            max_streams_per_client: 64,
            torrent_url: Switch::Auto,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            mode: AuthMode::Auto,
            token: Secret::default(),
            credentials: PathBuf::new(),
            link_key: Secret::default(),
            link_ttl: Span::from_secs(6 * 60 * 60),
            anonymous_content: AnonymousContent::Loopback,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            max_size: Size::gib(10),
            min_free: Size::gib(2),
            memory: Size::mib(256),
            ephemeral: false,
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            resolve: Span::from_secs(10),
            first_byte: Span::from_secs(30),
            stall: Span::from_secs(30),
            max_wait: Span::from_secs(120),
        }
    }
}

impl Default for Items {
    fn default() -> Self {
        Self { idle_grace: Span::from_secs(300), max_active: 500, max_active_downloads: 200, max_active_seeds: 200 }
    }
}

impl Default for Observe {
    fn default() -> Self {
        Self { log: "info".to_owned(), log_format: LogFormat::Auto, log_names: false, otlp_endpoint: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_by_url_is_open_on_loopback_alone_unless_said() {
        let mut config = Config::default();
        assert!(config.allows_torrent_url());
        config.server.listen.push("0.0.0.0:8420".parse().unwrap());
        assert!(!config.allows_torrent_url());
        config.server.torrent_url = Switch::On;
        assert!(config.allows_torrent_url());
    }

    #[test]
    fn an_ipv4_loopback_address_written_as_ipv6_is_loopback() {
        let listen = vec!["[::1]:1".parse().unwrap(), "[::ffff:127.0.0.1]:1".parse().unwrap()];
        assert!(Server { listen, ..Server::default() }.is_loopback_only());
    }
}
