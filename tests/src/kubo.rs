//! Kubo, IPFS in Go: a daemon with a repository of its own, whose peer, gateway and RPC listen on loopback alone.
//!
//! It knows nobody: no bootstrap list, no DHT, no discovery. Whoever is to meet is connected by a story.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::driver::workplace;
use crate::http::{self, Answer};
use crate::ports;
use crate::process::Process;
use crate::programs::Program;
use crate::torrent::escape;
use crate::wait;

/// Opening a repository and binding three sockets, on a machine that is busy with other stories.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Whatever else a daemon is told to do with nobody else involved.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Length of the leaves of what [`Kubo::add`] adds, in bytes. The last may be shorter.
pub const CHUNK_LEN: usize = 256 << 10;

/// Links of an interior node of what [`Kubo::add`] adds, at most.
pub const MAX_LINKS: usize = 174;

/// A daemon; dropped means ended.
#[derive(Debug)]
pub struct Kubo {
    program: PathBuf,
    dir: PathBuf,
    /// None between its end and its next start.
    process: Option<Process>,
    swarm: SocketAddr,
    gateway: SocketAddr,
    rpc: SocketAddr,
    id: String,
}

/// What its Bitswap has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bitswap {
    /// Blocks sent.
    pub blocks_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Blocks received, those it had already included.
    pub blocks_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Blocks received that it had already.
    pub duplicates_received: u64,
}

impl Kubo {
    /// Starts one with its repository below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        Self::start_with(dir, |_| {}).await
    }

    /// The same after a change of its configuration, which is Kubo's own JSON.
    pub async fn start_with(dir: &Path, change: impl FnOnce(&mut Value)) -> Option<Self> {
        let program = Program::Kubo.find()?;
        let [swarm, gateway, rpc] = [ports::free(), ports::free(), ports::free()];
        let dir = workplace(dir, "kubo");
        let mut kubo = Self { program, dir, process: None, swarm, gateway, rpc, id: String::new() };
        kubo.cli(&["init", "--profile=test", "--empty-repo"]);
        kubo.configure(change);
        kubo.restart().await;
        Some(kubo)
    }

    /// Loopback alone, and no service that would look for others or be found by them.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let file = self.dir.join("config");
        let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let mut config: Value = serde_json::from_slice(&text).expect("Kubo writes JSON");
        let tcp = |at: SocketAddr| json!(format!("/ip4/{}/tcp/{}", at.ip(), at.port()));
        config["Addresses"]["Swarm"] = json!([tcp(self.swarm)]);
        config["Addresses"]["Gateway"] = tcp(self.gateway);
        config["Addresses"]["API"] = tcp(self.rpc);
        config["Bootstrap"] = json!([]);
        config["Routing"]["Type"] = "none".into();
        config["AutoNAT"]["ServiceMode"] = "disabled".into();
        config["Discovery"]["MDNS"]["Enabled"] = false.into();
        config["Provide"]["Enabled"] = false.into();
        config["Swarm"]["RelayClient"]["Enabled"] = false.into();
        config["Swarm"]["RelayService"]["Enabled"] = false.into();
        config["Swarm"]["EnableHolePunching"] = false.into();
        config["Version"]["SwarmCheckEnabled"] = false.into();
        change(&mut config);
        std::fs::write(&file, config.to_string()).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }

    /// Starts the daemon again, on the same repository and addresses.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs");
        let mut command = self.command();
        command.arg("daemon");
        let mut process = Process::start("kubo", &command, &self.dir);
        let url = format!("{}/api/v0/id", self.rpc_url());
        let id = wait::until("Kubo to answer", READY_WITHIN, async || {
            process.assert_running();
            let answer = http::client().post(&url).send().await.ok()?;
            let id: Value = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
            id["ID"].as_str().map(str::to_owned)
        });
        self.id = id.await;
        // The gateway is bound after the RPC.
        let gateway = self.gateway;
        wait::until("Kubo's gateway", READY_WITHIN, async || std::net::TcpStream::connect(gateway).ok()).await;
        self.process = Some(process);
    }

    /// Ends the daemon from one moment to the next; peers and clients get no word of goodbye. What it had added it
    /// still has after [`Self::restart`].
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").stop();
    }

    /// Its peer id.
    pub fn peer_id(&self) -> &str {
        &self.id
    }

    /// Where libp2p peers reach it, with its peer id.
    pub fn multiaddr(&self) -> String {
        self.multiaddr_at(self.swarm)
    }

    /// The same at an address that leads to it by a detour.
    pub fn multiaddr_at(&self, address: SocketAddr) -> String {
        format!("/ip4/{}/tcp/{}/p2p/{}", address.ip(), address.port(), self.id)
    }

    /// Where libp2p peers reach it over TCP.
    pub fn address(&self) -> SocketAddr {
        self.swarm
    }

    /// The base URL of its gateway.
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway)
    }

    /// The base URL of its RPC.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// Adds a file and returns its CID: version 1, raw leaves of [`CHUNK_LEN`], nodes of [`MAX_LINKS`].
    pub fn add(&self, bytes: &[u8]) -> String {
        let file = self.dir.join("to-add");
        std::fs::write(&file, bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        self.add_path(&file)
    }

    /// Adds a file or a folder with all below it, in the same way. A folder of thousands of entries becomes a HAMT.
    pub fn add_path(&self, path: &Path) -> String {
        let (chunker, links) = (format!("--chunker=size-{CHUNK_LEN}"), format!("--max-file-links={MAX_LINKS}"));
        let path = path.to_string_lossy();
        self.cli(&["add", "-Q", "-r", "--cid-version=1", "--raw-leaves", &chunker, &links, &path])
    }

    /// Everything below a CID as a CAR.
    pub async fn car(&self, cid: &str) -> Vec<u8> {
        self.rpc("dag/export", &[("arg", cid), ("progress", "false")]).await.body
    }

    /// Bytes of one block.
    pub async fn block_len(&self, cid: &str) -> u64 {
        let stat = self.rpc("block/stat", &[("arg", cid)]).await.json();
        stat["Size"].as_u64().unwrap_or_else(|| panic!("{cid}: {stat}"))
    }

    /// The CIDs that a block links to, in order.
    pub async fn links(&self, cid: &str) -> Vec<String> {
        let node = self.rpc("dag/get", &[("arg", cid)]).await.json();
        let links = node["Links"].as_array().unwrap_or_else(|| panic!("{cid} has no links: {node}"));
        links.iter().filter_map(|link| link["Hash"]["/"].as_str()).map(str::to_owned).collect()
    }

    /// What its Bitswap has done.
    pub async fn bitswap(&self) -> Bitswap {
        let stat = self.rpc("bitswap/stat", &[]).await.json();
        let number = |field: &str| stat[field].as_u64().unwrap_or_else(|| panic!("no {field}: {stat}"));
        Bitswap {
            blocks_sent: number("BlocksSent"),
            bytes_sent: number("DataSent"),
            blocks_received: number("BlocksReceived"),
            bytes_received: number("DataReceived"),
            duplicates_received: number("DupBlksReceived"),
        }
    }

    /// Connects to a libp2p peer.
    pub async fn connect(&self, to: &str) {
        self.rpc("swarm/connect", &[("arg", to)]).await;
    }

    /// The peers that it is connected to, by their ids.
    pub async fn peers(&self) -> Vec<String> {
        let told = self.rpc("swarm/peers", &[]).await.json();
        let peers = told["Peers"].as_array().map(Vec::as_slice).unwrap_or_default();
        peers.iter().filter_map(|peer| peer["Peer"].as_str()).map(str::to_owned).collect()
    }

    /// Waits until it is connected to so many peers.
    pub async fn has_peers(&self, count: usize) {
        let what = format!("{count} peers at {}", self.id);
        wait::until(&what, READY_WITHIN, async || (self.peers().await.len() >= count).then_some(())).await;
    }

    /// Asks its RPC.
    ///
    /// # Panics
    /// Unless it answers with success.
    pub async fn rpc(&self, command: &str, arguments: &[(&str, &str)]) -> Answer {
        let query: Vec<_> = arguments.iter().map(|(key, value)| format!("{key}={}", escape(value))).collect();
        let url = format!("{}/api/v0/{command}?{}", self.rpc_url(), query.join("&"));
        let answer = http::send(http::client().post(&url).timeout(ANSWER_WITHIN), &url).await;
        assert!(answer.status.is_success(), "{url}: {}: {}", answer.status, answer.text());
        answer
    }

    /// Runs a command of its command line to the end, which asks the daemon where one runs, and returns what it printed.
    ///
    /// # Panics
    /// Unless it ends with success.
    pub fn run(&self, args: &[&str]) -> String {
        let (succeeds, said) = self.try_run(args);
        assert!(succeeds, "ipfs {args:?}:\n{said}");
        said
    }

    /// The same, and whether it ended with success; where it did not, with its complaints.
    pub fn try_run(&self, args: &[&str]) -> (bool, String) {
        let output = self.command().args(args).stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } = output.unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        let mut said = String::from_utf8_lossy(&stdout).into_owned();
        if !status.success() {
            said.push_str(&String::from_utf8_lossy(&stderr));
        }
        (status.success(), said)
    }

    /// What a command printed last.
    fn cli(&self, args: &[&str]) -> String {
        self.run(args).lines().last().unwrap_or_default().trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env("IPFS_PATH", &self.dir).env("IPFS_TELEMETRY", "off").env("HOME", &self.dir).current_dir(&self.dir);
        command
    }
}
