//! Foreign peers of WebTorrent swarms: webtorrent in Chromium and in Node, and libtorrent, which speaks WebRTC too.
//!
//! Each is a program of `tests/peers` that is told what to do while it runs, since what matters here is the order in
//! which peers join: whoever comes second makes the offer. They hear of each other through trackers and not otherwise.
//! A [`Browser`]'s pages are peers of their own, each with its own profile, and so are the clients in one [`Node`]. There
//! is one browser at a time in a process of tests: that is what a small machine can bear.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::driver::{Driver, source, workplace};
use crate::payload::{Payload, hex};
use crate::programs::Program;
use crate::torrent::Torrent;
use crate::wait;

/// Starting a program, a browser even, on a machine that is busy with other stories.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Reading and hashing a payload of some 100 MiB, making offers, and the trackers' answers.
const SEEDING_WITHIN: Duration = Duration::from_secs(30);

/// The answer to a question that needs nobody else.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Held as long as a browser runs. A story that starts a second one while it has a first would wait for itself.
static ONE_BROWSER: Semaphore = Semaphore::const_new(1);

/// A kind of foreign WebRTC peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// webtorrent in a page of Chromium.
    Chromium,
    /// webtorrent in Node.
    Node,
    /// libtorrent-rasterbar.
    Libtorrent,
}

impl Client {
    /// Starts one with its files below `dir`; `None` when the story is to be skipped. A page comes with a browser of
    /// its own, which ends with it: a story of two pages takes a [`Browser`].
    pub async fn start(self, dir: &Path) -> Option<Peer> {
        match self {
            Self::Chromium => Some(Browser::start(dir).await?.page().await),
            Self::Node => Some(Node::start(dir).await?.open(json!({})).await),
            Self::Libtorrent => libtorrent(dir).await,
        }
    }
}

async fn libtorrent(dir: &Path) -> Option<Peer> {
    let mut command = Command::new(Program::Python.find()?);
    command.arg(source("libtorrent_webrtc.py"));
    let (running, ready) = Running::start("libtorrent-webrtc", command, dir, None).await;
    let port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let tcp = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    Some(Peer { running: Arc::new(running), part: Part::All, tcp })
}

/// Chromium without a window.
#[derive(Debug)]
pub struct Browser {
    running: Arc<Running>,
    pages: AtomicU64,
}

impl Browser {
    /// Starts one with its profile below `dir`, when no other story of this process has one; `None` when the story is
    /// to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let running = Running::browser("chromium.mjs", dir).await?;
        Some(Self { running: Arc::new(running), pages: AtomicU64::new(0) })
    }

    /// Opens a page that tells peers its addresses, as one that may use a microphone does.
    pub async fn page(&self) -> Peer {
        self.open(json!({})).await
    }

    /// Opens a page as a visitor has it, who has allowed nothing: mDNS names stand for its addresses.
    pub async fn page_that_hides_its_addresses(&self) -> Peer {
        self.open(json!({ "hidden": true })).await
    }

    /// Opens a page that no answer to its offers reaches, as if each came a moment after its end.
    pub async fn page_that_hears_no_answer(&self) -> Peer {
        self.open(json!({ "deaf": true })).await
    }

    async fn open(&self, how: Value) -> Peer {
        let page = self.pages.fetch_add(1, Ordering::Relaxed);
        Peer::open(&self.running, Part::Page(page), how).await
    }
}

/// Node without a client in it so far.
#[derive(Debug)]
pub struct Node {
    running: Arc<Running>,
    clients: AtomicU64,
}

impl Node {
    /// Starts one with its files below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let (running, _) = Running::start("webtorrent-node", node_program("webtorrent_node.mjs")?, dir, None).await;
        Some(Self { running: Arc::new(running), clients: AtomicU64::new(0) })
    }

    /// Starts a client of webtorrent in it that makes one offer an announce. Each offer costs this WebRTC stack dozens of
    /// sockets, and with five of each, a dozen clients do nothing else for a minute.
    pub async fn client(&self) -> Peer {
        self.open(json!({ "offers": 1 })).await
    }

    async fn open(&self, how: Value) -> Peer {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        Peer::open(&self.running, Part::Client(client), how).await
    }
}

/// One foreign peer. Its process ends with the last of what refers to it; a page stays open as long as its browser.
#[derive(Debug, Clone)]
pub struct Peer {
    running: Arc<Running>,
    part: Part,
    tcp: Option<SocketAddr>,
}

/// What a peer is of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// A browser's page, with a process behind it.
    Page(u64),
    /// A client among others.
    Client(u64),
}

impl Part {
    const fn number(self) -> Option<u64> {
        match self {
            Self::All => None,
            Self::Page(number) | Self::Client(number) => Some(number),
        }
    }
}

impl Peer {
    async fn open(running: &Arc<Running>, part: Part, mut how: Value) -> Self {
        let peer = Self { running: Arc::clone(running), part, tcp: None };
        how["do"] = "open".into();
        peer.ask(how, "opened", READY_WITHIN).await;
        peer
    }

    /// Where it accepts TCP peers; only libtorrent does.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// Seeds a payload; returns when it waits for others, known to each of the trackers.
    pub async fn seed(&self, payload: &Payload, torrent: &Torrent, trackers: &[&str]) -> Share {
        let dir = workplace(&self.running.dir, "seed");
        payload.lay_out(&dir);
        let paths =
            payload.files.iter().map(|file| file.path.iter().fold(dir.join(&payload.name), |p, part| p.join(part)));
        let command = json!({
            "do": "seed",
            "key": torrent.info_hash,
            "torrent": torrent.write_to(&dir),
            "files": paths.collect::<Vec<_>>(),
            "save": dir,
            "trackers": trackers,
        });
        let share = self.share(torrent);
        self.ask(command, "seeding", SEEDING_WITHIN).await;
        share
    }

    /// Begins to fetch a torrent of which it knows the infohash alone.
    pub fn download(&self, torrent: &Torrent, trackers: &[&str]) -> Share {
        let magnet = format!("magnet:?xt=urn:btih:{}", torrent.info_hash);
        self.fetch(torrent, trackers, json!({ "magnet": magnet }))
    }

    /// Begins to fetch a torrent whose `.torrent` it has.
    pub fn download_by_file(&self, torrent: &Torrent, trackers: &[&str]) -> Share {
        let dir = workplace(&self.running.dir, "torrent");
        self.fetch(torrent, trackers, json!({ "torrent": torrent.write_to(&dir) }))
    }

    fn fetch(&self, torrent: &Torrent, trackers: &[&str], mut command: Value) -> Share {
        command["do"] = "download".into();
        command["key"] = torrent.info_hash.as_str().into();
        command["save"] = json!(workplace(&self.running.dir, "fetch"));
        command["trackers"] = json!(trackers);
        let share = self.share(torrent);
        self.tell(command);
        share
    }

    /// Sends at most so much from now on.
    pub async fn limit_upload(&self, bytes_per_second: u64) {
        self.ask(json!({ "do": "limit", "upload": bytes_per_second }), "limited", ANSWER_WITHIN).await;
    }

    /// Ends it from one moment to the next: no peer and no tracker gets a word of goodbye. A client in Node takes the others
    /// there with it.
    pub async fn crash(&self) {
        match self.part {
            Part::Page(_) => drop(self.ask(json!({ "do": "crash" }), "closed", ANSWER_WITHIN).await),
            Part::All | Part::Client(_) => self.running.driver.kill(),
        }
    }

    fn share(&self, torrent: &Torrent) -> Share {
        Share { peer: self.clone(), key: torrent.info_hash.clone(), since: self.running.driver.heard() }
    }

    fn tell(&self, mut command: Value) {
        if let Some(number) = self.part.number() {
            command["peer"] = number.into();
        }
        self.running.driver.tell(&command);
    }

    /// Tells a command and waits for the event that answers it.
    async fn ask(&self, command: Value, event: &str, within: Duration) -> Value {
        let from = self.running.driver.heard();
        let key = command["key"].clone();
        self.tell(command);
        self.hears(from, event, &key, within).await
    }

    /// Waits for an event of this peer, and of the torrent `key` unless that is null.
    async fn hears(&self, from: usize, event: &str, key: &Value, within: Duration) -> Value {
        let number = self.part.number().map_or(Value::Null, Value::from);
        let concerns = |it: &Value| it["peer"] == number && (key.is_null() || it["key"].is_null() || it["key"] == *key);
        self.running.driver.wait_for(event, from, within, concerns).await
    }
}

/// One torrent at one peer.
#[derive(Debug, Clone)]
pub struct Share {
    peer: Peer,
    key: String,
    /// What was told before is of another time with the same torrent.
    since: usize,
}

impl Share {
    /// The peer.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Waits until a tracker has answered the peer's announce, so that whoever comes now is the second.
    pub async fn announced(&self) {
        self.hears("announced", SEEDING_WITHIN).await;
    }

    /// Waits until the peer has everything, and insists on it being `payload`.
    pub async fn has(&self, payload: &Payload, within: Duration) -> Fetched {
        let done = self.hears("done", within).await;
        assert_eq!(done["sha256"], sha256(payload), "what arrived is not {}: {done}", payload.name);
        let milliseconds = |field: &str| Duration::from_millis(done[field].as_u64().unwrap_or_default());
        Fetched {
            bytes: done["bytes"].as_u64().unwrap_or_default(),
            first_byte: milliseconds("first_byte_ms"),
            total: milliseconds("total_ms"),
        }
    }

    /// Waits until so many bytes have been received.
    pub async fn has_received(&self, bytes: u64, within: Duration) {
        let what = format!("{bytes} bytes of {}", self.key);
        wait::until(&what, within, async || (self.status().await.received >= bytes).then_some(())).await;
    }

    /// What the peer says of it now.
    pub async fn status(&self) -> Status {
        let status = self.ask("status", "status").await;
        let number = |field: &str| status[field].as_u64().unwrap_or_default();
        Status {
            have: number("have"),
            received: number("received"),
            uploaded: number("uploaded"),
            peers: status["peers"].as_array().map_or(0, Vec::len),
        }
    }

    /// Has the peer dial somebody over TCP; only libtorrent can.
    pub fn connect(&self, to: SocketAddr) {
        self.peer.tell(json!({ "do": "connect", "key": self.key, "to": to.to_string() }));
    }

    /// Has the peer leave the torrent in good order.
    pub async fn remove(self) {
        self.ask("remove", "removed").await;
    }

    async fn ask(&self, command: &str, event: &str) -> Value {
        self.peer.ask(json!({ "do": command, "key": self.key }), event, ANSWER_WITHIN).await
    }

    async fn hears(&self, event: &str, within: Duration) -> Value {
        self.peer.hears(self.since, event, &self.key.as_str().into(), within).await
    }
}

/// How a download went, by the peer's own clock from the moment it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// Length of the content.
    pub bytes: u64,
    /// Until the first block came.
    pub first_byte: Duration,
    /// Until the last piece was verified.
    pub total: Duration,
}

impl Fetched {
    /// Megabytes (10⁶) a second over the whole time.
    pub fn megabytes_per_second(&self) -> f64 {
        Duration::from_micros(self.bytes).as_secs_f64() / self.total.as_secs_f64()
    }
}

/// Where a torrent stands at a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Bytes it has.
    pub have: u64,
    /// Bytes of content that others sent.
    pub received: u64,
    /// Bytes of content sent to others; webtorrent counts its other messages too.
    pub uploaded: u64,
    /// Connections.
    pub peers: usize,
}

/// npm's `bittorrent-tracker`, over WebSocket alone.
#[derive(Debug)]
pub struct NpmTracker {
    running: Running,
    url: String,
}

impl NpmTracker {
    /// Starts one with its log below `dir`; `None` when the story is to be skipped.
    pub async fn start(dir: &Path) -> Option<Self> {
        let (running, ready) = Running::start("bittorrent-tracker", node_program("tracker.mjs")?, dir, None).await;
        let url = ready["url"].as_str().expect("it says so when it is ready").to_owned();
        Some(Self { running, url })
    }

    /// The announce URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until a torrent's swarm has so many members here.
    pub async fn knows(&self, torrent: &Torrent, members: u64) {
        let enough = |it: &Value| {
            let count = |field: &str| it[field].as_u64().unwrap_or_default();
            it["key"] == torrent.info_hash && count("complete") + count("incomplete") >= members
        };
        self.running.driver.wait_for("peers", 0, SEEDING_WITHIN, enough).await;
    }
}

/// A program that has said it is ready.
#[derive(Debug)]
pub(crate) struct Running {
    // Ends before the next browser may start.
    pub(crate) driver: Driver,
    dir: PathBuf,
    _browser: Option<SemaphorePermit<'static>>,
}

impl Running {
    /// Starts a program that drives Chromium, when no other story of this process has one; `None` when the story is to
    /// be skipped.
    pub(crate) async fn browser(program: &str, dir: &Path) -> Option<Self> {
        let mut command = node_program(program)?;
        command.env("SWARMGATE_CHROMIUM", Program::Chromium.find()?);
        let permit = ONE_BROWSER.acquire().await.expect("nobody closes it");
        Some(Self::start("chromium", command, dir, Some(permit)).await.0)
    }

    async fn start(
        name: &str,
        mut command: Command,
        dir: &Path,
        browser: Option<SemaphorePermit<'static>>,
    ) -> (Self, Value) {
        let dir = workplace(dir, name);
        command.env("TMPDIR", &dir);
        let running = Self { driver: Driver::start(name, &command, &dir), dir, _browser: browser };
        let ready = running.driver.wait_for("ready", 0, READY_WITHIN, |_| true).await;
        (running, ready)
    }
}

/// A program for Node, with packages to find; `None` when either is missing.
fn node_program(name: &str) -> Option<Command> {
    let mut command = Command::new(Program::Node.find()?);
    command.env("SWARMGATE_NODE_MODULES", Program::NodeModules.find()?);
    command.arg("--import").arg(source("packages.mjs")).arg(source(name));
    Some(command)
}

/// Of all files end to end, in lower-case hex.
fn sha256(payload: &Payload) -> String {
    let mut whole = digest::Context::new(&digest::SHA256);
    payload.files.iter().for_each(|file| whole.update(&file.bytes));
    hex(whole.finish().as_ref())
}
