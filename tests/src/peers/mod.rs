//! Foreign BitTorrent clients as peers on loopback: real programs, each spoken to in its own way.
//!
//! A client takes three parts in a story: it seeds a payload, it fetches by a `.torrent`, or it fetches by a magnet.
//! What differs is how it hears of others. libtorrent, rqbit and webtorrent are told addresses; aria2 has no such option
//! and asks the torrent's tracker; Transmission refuses loopback addresses that it is told and so only ever accepts.

mod aria2;
pub mod libtorrent;
mod rqbit;
mod transmission;
mod webtorrent;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::payload::Payload;
use crate::process::Process;
use crate::programs::Program;
use crate::torrent::Torrent;
use crate::udp_door::UdpDoor;
use crate::wait;

/// A foreign client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// libtorrent-rasterbar, under qBittorrent, Deluge and many others.
    Libtorrent,
    /// aria2.
    Aria2,
    /// rqbit.
    Rqbit,
    /// Transmission.
    Transmission,
    /// webtorrent in Node, over TCP and uTP; [`crate::webtorrent`] has it over WebRTC.
    Webtorrent,
}

impl Client {
    /// The program that plays this client, or `None` when the story is to be skipped.
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Self::Libtorrent => Program::Python.find(),
            Self::Aria2 => Program::Aria2.find(),
            Self::Rqbit => Program::Rqbit.find(),
            Self::Transmission => Program::Transmission.find(),
            Self::Webtorrent => Program::Node.find().filter(|_| Program::NodeModules.find().is_some()),
        }
    }

    /// Whether the client dials peers on loopback; one that does not must be dialled.
    pub fn dials_loopback(self) -> bool {
        match self {
            Self::Libtorrent | Self::Aria2 | Self::Rqbit | Self::Webtorrent => true,
            Self::Transmission => false,
        }
    }

    /// Whether the client takes no addresses, and hears of peers by trackers alone.
    pub fn asks_trackers_alone(self) -> bool {
        match self {
            Self::Aria2 => true,
            Self::Libtorrent | Self::Rqbit | Self::Transmission | Self::Webtorrent => false,
        }
    }

    /// Starts a seeder of `payload`, which is laid out in the story's folder first.
    pub async fn seed(self, payload: &Payload, torrent: &Torrent, dir: &Path) -> Option<Peer> {
        self.seed_to(payload, torrent, &[], dir).await
    }

    /// Starts a seeder that dials `peers`, where the client takes addresses.
    pub async fn seed_to(self, payload: &Payload, torrent: &Torrent, peers: &[SocketAddr], dir: &Path) -> Option<Peer> {
        let dir = workplace(dir, &format!("{self:?}-seed"));
        payload.lay_out(&dir);
        self.start(Part::Seed, &Wanted::File(torrent.write_to(&dir)), peers, Habits::default(), dir).await
    }

    /// As [`Self::seed`], held to some habits.
    pub async fn seed_as(self, habits: Habits, payload: &Payload, torrent: &Torrent, dir: &Path) -> Option<Peer> {
        let dir = workplace(dir, &format!("{self:?}-seed"));
        payload.lay_out(&dir);
        self.start(Part::Seed, &Wanted::File(torrent.write_to(&dir)), &[], habits, dir).await
    }

    /// Starts fetching `wanted` into the story's folder, from `peers` where the client takes addresses.
    pub async fn fetch(self, wanted: &Wanted, peers: &[SocketAddr], dir: &Path) -> Option<Peer> {
        self.fetch_as(Habits::default(), wanted, peers, dir).await
    }

    /// As [`Self::fetch`], held to some habits.
    pub async fn fetch_as(self, habits: Habits, wanted: &Wanted, peers: &[SocketAddr], dir: &Path) -> Option<Peer> {
        let dir = workplace(dir, &format!("{self:?}-fetch"));
        self.start(Part::Fetch, wanted, peers, habits, dir).await
    }

    async fn start(
        self,
        part: Part,
        wanted: &Wanted,
        peers: &[SocketAddr],
        habits: Habits,
        dir: PathBuf,
    ) -> Option<Peer> {
        let command = Command::new(self.program()?);
        Some(match self {
            Self::Libtorrent => libtorrent::start(command, part, wanted, peers, &habits.settings(), dir).await,
            Self::Aria2 => aria2::start(command, part, wanted, habits, dir).await,
            Self::Rqbit => rqbit::start(command, part, wanted, peers, habits, dir).await,
            Self::Transmission => transmission::start(command, part, wanted, habits, dir).await,
            Self::Webtorrent => webtorrent::start(command, wanted, peers, habits, dir).await,
        })
    }
}

/// What a client is held to in a story. By default each speaks TCP, encrypted or not as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Habits {
    /// It is reached over uTP alone, and dials over uTP.
    pub utp: bool,
    /// Nothing but RC4.
    pub rc4: bool,
}

impl Habits {
    /// As settings of libtorrent's session under which nothing else is possible.
    fn settings(self) -> Vec<Setting> {
        let mut settings = if self == Self::default() { Vec::new() } else { vec![libtorrent::STAYS_CONNECTED] };
        if self.utp {
            settings.extend(libtorrent::transport("utp"));
        }
        if self.rc4 {
            settings.extend(libtorrent::encryption("rc4"));
        }
        settings
    }
}

/// A setting of a client's own, by its name there; switches are 0 and 1.
pub type Setting = (&'static str, i32);

/// What a client does in a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Seed,
    Fetch,
}

/// What a client is told to fetch.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// A `.torrent` file on disk.
    File(PathBuf),
    /// A magnet link: the metadata must come from a peer (BEP 9).
    Magnet(String),
}

impl Wanted {
    /// The spelling that command lines take.
    fn argument(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Magnet(uri) => uri.clone(),
        }
    }
}

/// A running foreign client; dropped means ended.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    address: SocketAddr,
    dir: PathBuf,
    door: Option<UdpDoor>,
}

impl Peer {
    /// Leaves it reachable over UDP alone, for one that has no option to take no TCP.
    async fn behind_a_door(self) -> Self {
        Self { door: Some(UdpDoor::start(self.address).await), ..self }
    }

    /// Where it listens for peers.
    pub fn address(&self) -> SocketAddr {
        self.door.as_ref().map_or(self.address, UdpDoor::address)
    }

    /// Waits until the client's folder holds every byte of `payload`.
    pub async fn has(&mut self, payload: &Payload, within: Duration) {
        let what = format!("{} in {}", payload.name, self.dir.display());
        wait::until(&what, within, async || payload.bytes_are_in(&self.dir).then_some(())).await;
    }

    /// Ends the client.
    pub fn stop(self) {
        self.process.stop();
    }
}

fn workplace(dir: &Path, name: &str) -> PathBuf {
    let place = dir.join(name.to_lowercase());
    std::fs::create_dir_all(&place).unwrap_or_else(|e| panic!("cannot create {}: {e}", place.display()));
    place
}
