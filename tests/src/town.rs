//! A street of hosts, and houses whose routers let in only what was asked for: network namespaces that the story makes and
//! takes away again, with `ip` and nftables. What runs in one reaches the others and nothing else, under addresses that
//! are anybody's on the Internet, so that programs behave as they do there.
//!
//! A router does what the cheap ones do: it lends its address to who is inside, keeps their port where it can, and drops
//! what comes from where nothing was sent to.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::gateway;
use crate::process::Process;
use crate::programs::{Program, skip};
use crate::wait;

/// Where each gateway serves HTTP, within its own namespace.
const HTTP: &str = "127.0.0.1:8420";
/// Where each gateway's peers reach it: the default.
pub const PEER_PORT: u16 = 8421;
/// Start-up binds sockets and opens a database.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Some namespaces, which go when it is dropped. Whatever runs in them has to end before.
#[derive(Debug)]
pub struct Town {
    name: String,
    nft: std::path::PathBuf,
    places: Vec<String>,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    namespace: String,
    /// Under which address the street knows it.
    pub street: Ipv4Addr,
}

/// A house: a host, behind its router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct House {
    /// The host inside.
    pub host: Place,
    /// The router, with a foot in the street and one in the house.
    pub router: Place,
    /// The router's address within the house.
    pub router_inside: Ipv4Addr,
    /// The host's.
    pub host_inside: Ipv4Addr,
}

/// A gateway at some place; dropped means ended.
#[derive(Debug)]
pub struct Resident {
    place: Place,
    process: Process,
}

/// One answer over HTTP.
#[derive(Debug)]
pub struct Said {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Town {
    /// A street with nobody in it; `None` when the story is to be skipped.
    pub fn build() -> Option<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let nft = Program::Nft.find()?;
        let name = format!("sg{}x{}", std::process::id(), BUILT.fetch_add(1, Ordering::Relaxed));
        let mut town = Self { name, nft, places: Vec::new() };
        let street = town.name_of("street");
        let made = Command::new("ip").args(["netns", "add", &street]).output();
        if !made.is_ok_and(|output| output.status.success()) {
            skip("no network namespace can be made: that takes root and iproute2");
            return None;
        }
        town.places.push(street.clone());
        run(inside(&street, "ip").args(["link", "add", "street", "type", "bridge"]));
        run(inside(&street, "ip").args(["link", "set", "street", "up"]));
        Some(town)
    }

    /// A host in the street, under `8.0.0.number`.
    pub fn host(&mut self, number: u8) -> Place {
        let place = self.place(&format!("h{number}"), number);
        self.to_the_street(&place);
        place
    }

    /// A house whose router is `8.0.0.number` in the street.
    pub fn house(&mut self, number: u8) -> House {
        let router = self.place(&format!("r{number}"), number);
        self.to_the_street(&router);
        let host = self.place(&format!("i{number}"), number);
        let [router_inside, host_inside] = [1, 2].map(|last| Ipv4Addr::new(10, 0, number, last));
        run(inside(&router.namespace, "ip")
            .args(["link", "add", "in", "type", "veth", "peer", "name", "eth0", "netns"])
            .arg(&host.namespace));
        for (place, link, address) in [(&router, "in", router_inside), (&host, "eth0", host_inside)] {
            run(place.ip().args(["address", "add", &format!("{address}/24"), "dev", link]));
            run(place.ip().args(["link", "set", link, "up"]));
        }
        run(host.ip().args(["route", "add", "default", "via", &router_inside.to_string()]));
        run(router.command("sh").args(["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]));
        let house = House { host, router, router_inside, host_inside };
        self.rules(&house.router, ROUTER);
        house
    }

    /// Gives a place rules of nftables.
    pub fn rules(&self, place: &Place, rules: &str) {
        let mut nft = place.command(&self.nft.display().to_string());
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap_or_else(|e| panic!("nft: {e}"));
        let mut input = child.stdin.take().expect("it was asked for two lines up");
        input.write_all(rules.as_bytes()).unwrap_or_else(|e| panic!("nft: {e}"));
        drop(input);
        assert!(child.wait().is_ok_and(|status| status.success()), "nft refuses {rules}");
    }

    /// What rules a place has now.
    pub fn ruleset(&self, place: &Place) -> String {
        let output = place.command(&self.nft.display().to_string()).args(["list", "ruleset"]).output();
        String::from_utf8_lossy(&output.unwrap_or_else(|e| panic!("nft: {e}")).stdout).into_owned()
    }

    fn place(&mut self, name: &str, number: u8) -> Place {
        let namespace = self.name_of(name);
        run(Command::new("ip").args(["netns", "add", &namespace]));
        self.places.push(namespace.clone());
        let place = Place { namespace, street: Ipv4Addr::new(8, 0, 0, number) };
        run(place.ip().args(["link", "set", "lo", "up"]));
        place
    }

    fn to_the_street(&self, place: &Place) {
        let (street, number) = (self.name_of("street"), place.street.octets()[3]);
        let gate = format!("gate{number}");
        run(place.ip().args(["link", "add", "out", "type", "veth", "peer", "name", &gate, "netns", &street]));
        run(place.ip().args(["address", "add", &format!("{}/24", place.street), "dev", "out"]));
        run(place.ip().args(["link", "set", "out", "up"]));
        run(inside(&street, "ip").args(["link", "set", &gate, "master", "street", "up"]));
    }

    fn name_of(&self, place: &str) -> String {
        format!("{}-{place}", self.name)
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for place in &self.places {
            // What is left of it goes with the machine.
            let _ = Command::new("ip").args(["netns", "del", place]).output();
        }
    }
}

/// What comes from the street to the router itself is dropped before it leaves a trace: else the port would count as
/// taken, and whoever is inside would be lent another.
const ROUTER: &str = "
    table ip town {
        chain lend { type nat hook postrouting priority 100; oifname \"out\" masquerade; }
        chain pass {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            ct status dnat accept
            iifname \"in\" accept
        }
        chain keep { type filter hook input priority 0; iifname \"out\" ct state new drop; }
    }";

impl Place {
    /// A command that runs there.
    pub fn command(&self, program: &str) -> Command {
        inside(&self.namespace, program)
    }

    /// Where its peers reach it, as far as the street is concerned.
    pub fn peer_address(&self) -> SocketAddr {
        SocketAddr::from((self.street, PEER_PORT))
    }

    /// Starts a program there.
    pub fn start(&self, name: &str, command: &Command, dir: &Path) -> Process {
        let mut there = self.command(&command.get_program().to_string_lossy());
        there.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => there.env(key, value),
                None => there.env_remove(key),
            };
        }
        Process::start(name, &there, dir)
    }

    /// Starts a gateway there, with its data below `dir`, that knows nobody; `None` when there is no binary.
    pub async fn gateway(&self, dir: &Path, options: &[(&str, &str)]) -> Option<Resident> {
        let peers = SocketAddr::from(([0, 0, 0, 0], PEER_PORT));
        let mut command = gateway::command(peers, &dir.join("gateway-data"))?;
        command.args(["serve", "--listen", HTTP]).env("SWARMGATE_NETWORK__ALLOW_PRIVATE", "false");
        command.envs(options.iter().copied());
        let mut resident = Resident { place: self.clone(), process: self.start("swarmgate", &command, dir) };
        wait::until("the gateway to be ready", READY_WITHIN, async || {
            resident.process.assert_running();
            let ready = self.ask("GET", "/readyz", "", &[]).await;
            ready.is_some_and(|said| said.status == 200).then_some(())
        })
        .await;
        Some(resident)
    }

    fn ip(&self) -> Command {
        self.command("ip")
    }

    /// Asks what serves HTTP there. The shell knows TCP, and nothing else has to be there.
    async fn ask(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Option<Said> {
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {HTTP}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n"
        );
        let (host, port) = HTTP.split_once(':').expect("it has a port");
        let script = format!("exec 3<>/dev/tcp/{host}/{port} && cat >&3 && cat <&3");
        let mut command = self.command("timeout");
        command.args(["60", "bash", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let request = [head.as_bytes(), body].concat();
        let exchange = move || -> std::io::Result<Output> {
            let mut child = command.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                input.write_all(&request)?;
            }
            child.wait_with_output()
        };
        let output = tokio::task::spawn_blocking(exchange).await.ok()?.ok()?;
        Said::read(&output.stdout)
    }
}

impl Resident {
    /// Asks it for something over HTTP.
    pub async fn get(&self, path: &str) -> Said {
        self.place.ask("GET", path, "", &[]).await.unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// Adds a torrent by its file.
    pub async fn add_torrent(&self, torrent: &[u8]) {
        let said = self.place.ask("POST", "/api/v1/items", "application/x-bittorrent", torrent).await;
        let said = said.unwrap_or_else(|| panic!("no answer to a torrent"));
        assert!(said.status < 300, "{}: {}", said.status, said.text());
    }

    /// The peers of a torrent: address and transport of each.
    pub async fn peers(&self, info_hash: &str) -> Vec<(SocketAddr, String)> {
        let said = self.get(&format!("/api/v1/items/{info_hash}/peers")).await;
        if said.status != 200 {
            return Vec::new();
        }
        let list = said.json();
        let text = |peer: &Value, key: &str| peer[key].as_str().unwrap_or_default().to_owned();
        let of = |peer: &Value| Some((text(peer, "address").parse().ok()?, text(peer, "transport")));
        list["peers"].as_array().into_iter().flatten().filter_map(of).collect()
    }

    /// Does to it what Ctrl-C does, and waits for its end.
    pub async fn stop(mut self) {
        self.process.interrupt();
        self.process.finished(READY_WITHIN).await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Said {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The answer, if it is whole; the gateway knows the length of all that stories ask for.
    fn read(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        assert!(!head.contains("transfer-encoding"), "of unknown length: {head}");
        let body = raw[end + 4..].to_vec();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        (len.parse() == Ok(body.len())).then_some(Self { status, body })
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
