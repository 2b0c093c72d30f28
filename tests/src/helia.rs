//! Helia, IPFS in JavaScript: a peer of Bitswap, and with verified-fetch a gateway of somebody else's making.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::driver::{Driver, source, workplace};
use crate::programs::Program;

/// Starting Node and loading a thousand modules, from a disk that is cold and on a machine that is busy: a minute was
/// seen.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Reading, cutting and hashing some 10 MiB in JavaScript.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A running Helia with nothing but loopback around it. Its blocks are in memory and end with it.
#[derive(Debug)]
pub struct Helia {
    driver: Driver,
    dir: PathBuf,
    multiaddr: String,
    gateway: String,
}

/// What it fetched over Bitswap, by its own clock from the moment it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// How many bytes the file has.
    pub bytes: u64,
    /// Their SHA-256, in lower-case hex.
    pub sha256: String,
    /// Until the first bytes were there.
    pub first_byte: Duration,
    /// Until the last were.
    pub total: Duration,
}

impl Helia {
    /// Starts one with its files below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let modules = Program::HeliaModules.find()?;
        let dir = workplace(dir, "helia");
        let mut command = Command::new(node(&modules));
        command.arg("--import").arg(source("packages.mjs")).arg(source("helia.mjs"));
        command.env("SWARMGATE_NODE_MODULES", &modules).env("TMPDIR", &dir);
        let driver = Driver::start("helia", &command, &dir);
        let ready = driver.wait_for("ready", 0, READY_WITHIN, |_| true).await;
        let told = |field: &str| ready[field].as_str().expect("it says so when it is ready").to_owned();
        Some(Self { driver, dir, multiaddr: told("multiaddr"), gateway: told("gateway") })
    }

    /// Where libp2p peers reach it, with its peer id.
    pub fn multiaddr(&self) -> &str {
        &self.multiaddr
    }

    /// The base URL of its HTTP side.
    pub fn gateway_url(&self) -> &str {
        &self.gateway
    }

    /// Adds a file and returns its CID. The leaves are raw blocks, of Helia's own choice of size.
    pub async fn add(&self, bytes: &[u8]) -> String {
        let file = self.dir.join("to-add");
        std::fs::write(&file, bytes).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        let added = self.ask(json!({ "do": "add", "key": "add", "file": file }), "added", ANSWER_WITHIN).await;
        added["cid"].as_str().unwrap_or_else(|| panic!("it has no CID: {added}")).to_owned()
    }

    /// Connects to a libp2p peer.
    pub async fn connect(&self, to: &str) {
        self.ask(json!({ "do": "connect", "key": to, "to": to }), "connected", ANSWER_WITHIN).await;
    }

    /// Fetches a file from the peers that it is connected to.
    pub async fn fetch(&self, cid: &str, within: Duration) -> Fetched {
        let fetched = self.ask(json!({ "do": "fetch", "key": cid, "cid": cid }), "fetched", within).await;
        let number = |field: &str| fetched[field].as_u64().unwrap_or_default();
        Fetched {
            bytes: number("bytes"),
            sha256: fetched["sha256"].as_str().unwrap_or_default().to_owned(),
            first_byte: Duration::from_millis(number("first_byte_ms")),
            total: Duration::from_millis(number("total_ms")),
        }
    }

    /// How many requests its HTTP side has had.
    pub async fn requests(&self) -> u64 {
        let told = self.ask(json!({ "do": "requests", "key": "requests" }), "requests", ANSWER_WITHIN).await;
        told["count"].as_u64().unwrap_or_else(|| panic!("it has no count: {told}"))
    }

    /// Ends it from one moment to the next.
    pub fn kill(&self) {
        self.driver.kill();
    }

    async fn ask(&self, command: Value, event: &str, within: Duration) -> Value {
        let from = self.driver.heard();
        self.driver.tell(&command);
        self.driver.wait_for(event, from, within, |it| it["key"] == command["key"]).await
    }
}

/// The Node that came with the packages: they take a newer one than other stories.
fn node(modules: &Path) -> PathBuf {
    let found = std::fs::read_dir(modules).ok().and_then(|mut entries| {
        entries.find_map(|entry| {
            let entry = entry.ok()?;
            entry.file_name().to_string_lossy().starts_with("node-linux-").then(|| entry.path().join("bin/node"))
        })
    });
    found.unwrap_or_else(|| panic!("no Node in {}", modules.display()))
}
