//! The program under test, as its users run it: a process with flags and environment, spoken to over HTTP alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::http::{self, Answer};
use crate::ports;
use crate::process::Process;
use crate::programs::Program;
use crate::torrent::escape;
use crate::wait;

/// Start-up binds sockets and opens a database; anything slower than this is a defect.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Variables of the options by which stories tell it of IPFS. Lists have commas.
pub mod ipfs {
    /// Peers that it connects to when it starts: multiaddrs with a peer id.
    pub const BOOTSTRAP: &str = "SWARMGATE_IPFS__BOOTSTRAP";
    /// Trustless gateways: base URLs.
    pub const GATEWAYS: &str = "SWARMGATE_IPFS__GATEWAYS";
    /// RPC of a Kubo daemon: a base URL.
    pub const KUBO_API: &str = "SWARMGATE_IPFS__KUBO_API";
    /// Where the links of hosts lead, instead of DNS: `HOST:PATH`.
    pub const DNSLINKS: &str = "SWARMGATE_IPFS__DNSLINKS";
    /// Hosts below which each root has a subdomain of its own.
    pub const SUBDOMAIN_HOSTS: &str = "SWARMGATE_IPFS__SUBDOMAIN_HOSTS";
}

/// A running `swarmgate serve` with nothing but loopback around it.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    http: SocketAddr,
    bittorrent: SocketAddr,
}

impl Gateway {
    /// Starts a gateway whose data live below `dir`; `None` when there is no binary to start.
    pub async fn start(dir: &Path) -> Option<Self> {
        Self::start_with(dir, &[]).await
    }

    /// The same with some options, as variables of its environment.
    pub async fn start_with(dir: &Path, options: &[(&str, &str)]) -> Option<Self> {
        let (http, bittorrent) = (ports::free(), ports::free());
        let mut command = command(bittorrent, &dir.join("gateway-data"))?;
        command.arg("serve").args(["--listen", &http.to_string()]).envs(options.iter().copied());
        let mut process = Process::start("swarmgate", &command, dir);
        let ready = format!("http://{http}/readyz");
        wait::until("the gateway to be ready", READY_WITHIN, async || {
            process.assert_running();
            let answer = http::client().get(&ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        Some(Self { process, http, bittorrent })
    }

    /// Where BitTorrent peers reach the gateway.
    pub fn peer_address(&self) -> SocketAddr {
        self.bittorrent
    }

    /// Has it read its configuration again, as `systemctl reload` does.
    pub fn hang_up(&self) {
        let told = Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "the gateway cannot be told");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it says of itself at `/api/v1/status`.
    pub async fn status(&self) -> Value {
        http::get(&self.url("/api/v1/status")).await.json()
    }

    /// WebRTC connections that are open, being opened or being closed.
    pub async fn webrtc_connections(&self) -> usize {
        let status = self.status().await;
        let networks = status["networks"].as_array().expect("there are networks");
        let mut evidence = networks.iter().filter_map(|network| network["health"]["evidence"].as_str());
        let count = evidence.find_map(|text| text.split(", ").find_map(|part| part.strip_suffix(" connections")));
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count of connections: {status}"))
    }

    /// Peers in all its swarms.
    pub async fn peers(&self) -> u64 {
        self.status().await["totals"]["peers"].as_u64().expect("peers are counted")
    }

    /// The absolute URL of a path on this gateway.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Adds a torrent by its file.
    pub async fn add_torrent(&self, torrent: &[u8]) -> Answer {
        let url = self.url("/api/v1/items");
        let answer = http::post(&url, "application/x-bittorrent", torrent.to_vec()).await;
        assert!(answer.status.is_success(), "{url}: {}: {}", answer.status, answer.text());
        answer
    }

    /// The URL of a magnet whose metadata and content must come from `peers`.
    pub fn magnet_url(&self, info_hash: &str, peers: &[SocketAddr]) -> String {
        let hints: String = peers.iter().map(|p| format!("&x.pe={p}")).collect();
        self.url(&format!("/magnet?xt=urn:btih:{info_hash}{hints}"))
    }

    /// The URL of what lies at `/ipfs/PATH`, which may come from `providers`: multiaddrs with a peer id, or base URLs
    /// of gateways.
    pub fn ipfs_url(&self, path: &str, providers: &[&str]) -> String {
        let hints: Vec<_> = providers.iter().map(|it| format!("provider={}", escape(it))).collect();
        let query = if hints.is_empty() { String::new() } else { format!("?{}", hints.join("&")) };
        self.url(&format!("/ipfs/{path}{query}"))
    }

    /// Where the gateway takes requests.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Panics with the gateway's log when it has ended.
    pub fn assert_running(&mut self) {
        self.process.assert_running();
    }
}

/// Runs `swarmgate get URI -o OUT` to its end; `None` when there is no binary.
/// Panics unless it ends with success.
pub async fn get(uri: &str, out: &Path, dir: &Path, within: Duration) -> Option<()> {
    let mut command = command(ports::free(), &dir.join("get-data"))?;
    command.arg("get").arg(uri).arg("-o").arg(out);
    let mut process = Process::start("swarmgate-get", &command, dir);
    let status = process.finished(within).await;
    assert!(status.success(), "`swarmgate get {uri}` ended with {status}:\n{}", process.log());
    Some(())
}

/// Starts `swarmgate get URI -o OUT` with some options, as variables of its environment, and a cache of its own below
/// `dir`; `None` when there is no binary.
pub fn start_get(uri: &str, out: &Path, dir: &Path, options: &[(&str, &str)]) -> Option<Process> {
    let mut command = command(ports::free(), &dir.join("get-data"))?;
    command.arg("get").arg(uri).arg("-o").arg(out).envs(options.iter().copied());
    Some(Process::start("swarmgate-get", &command, dir))
}

/// Runs a command of `swarmgate` to its end with some options, as variables of its environment, and a cache of its own below
/// `dir`; `None` when there is no binary. What comes back is its exit code, and what it said.
pub async fn run_with(
    dir: &Path,
    args: &[&str],
    options: &[(&str, &str)],
    within: Duration,
) -> Option<(Option<i32>, String)> {
    let mut command = command(ports::free(), &dir.join("run-data"))?;
    command.args(args).envs(options.iter().copied());
    let mut process = Process::start("swarmgate-run-with", &command, dir);
    let status = process.finished(within).await;
    Some((status.code(), process.log()))
}

/// Runs a command of `swarmgate` to its end, on the data of the gateway that [`Gateway::start`] starts for the same
/// `dir` before or after; `None` when there is no binary. What comes back is whether it ended with success, and what it
/// said.
pub async fn run(dir: &Path, args: &[&str], within: Duration) -> Option<(bool, String)> {
    let mut command = command(ports::free(), &dir.join("gateway-data"))?;
    command.args(args);
    let mut process = Process::start("swarmgate-run", &command, dir);
    let status = process.finished(within).await;
    Some((status.success(), process.log()))
}

/// The binary with the configuration of a machine that has only loopback. Variables of the caller's environment that
/// would configure it are taken away, the harness's own among them.
pub fn command(bittorrent: SocketAddr, data: &Path) -> Option<Command> {
    let binary: PathBuf = Program::Swarmgate.find()?;
    let mut command = Command::new(binary);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("SWARMGATE_") {
            command.env_remove(key);
        }
    }
    command
        .env("SWARMGATE_BITTORRENT__LISTEN_PORT", bittorrent.port().to_string())
        .env("SWARMGATE_BITTORRENT__DHT", "false")
        .env("SWARMGATE_WEBTORRENT__LISTEN_IP", "127.0.0.1")
        .env("SWARMGATE_IPFS__LISTEN_IP", "127.0.0.1")
        .env("SWARMGATE_IPFS__LISTEN_PORT", "0")
        .env("SWARMGATE_NETWORK__ALLOW_PRIVATE", "true")
        .env("SWARMGATE_CACHE__MAX_SIZE", "1GiB")
        .env("SWARMGATE_CACHE__MIN_FREE", "0")
        .env("NO_COLOR", "1")
        .arg("--data-dir")
        .arg(data);
    Some(command)
}
