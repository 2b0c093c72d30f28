//! Foreign BitTorrent clients as peers on loopback: real programs, each spoken to in its own way.
//!
//! A client takes three parts in a story: it seeds a payload, it fetches by a `.torrent`, or it fetches by a magnet.
//! What differs is how it hears of others. libtorrent and rqbit are told addresses; aria2 has no such option and asks
//! the torrent's tracker; Transmission refuses loopback addresses that it is told and so only ever accepts.

mod aria2;
pub mod libtorrent;
mod rqbit;
mod transmission;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::payload::Payload;
use crate::process::Process;
use crate::programs::Program;
use crate::torrent::Torrent;
use crate::wait;

/// Reading and hashing some MiB.
const CHECKED_WITHIN: Duration = Duration::from_secs(20);

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
}

impl Client {
    /// The program that plays this client, or `None` when the story is to be skipped.
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Self::Libtorrent => Program::Python.find(),
            Self::Aria2 => Program::Aria2.find(),
            Self::Rqbit => Program::Rqbit.find(),
            Self::Transmission => Program::Transmission.find(),
        }
    }

    /// Whether the client dials peers on loopback; one that does not must be dialled.
    pub fn dials_loopback(self) -> bool {
        match self {
            Self::Libtorrent | Self::Aria2 | Self::Rqbit => true,
            Self::Transmission => false,
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
        self.start(Part::Seed, &Wanted::File(torrent.write_to(&dir)), peers, dir).await
    }

    /// Starts a seeder that reads and hashes what it has before it serves it, as one that fetched it would have. Of a v2
    /// torrent (BEP 52) it has the leaves then.
    pub async fn seed_checked(self, payload: &Payload, torrent: &Torrent, dir: &Path) -> Option<Peer> {
        let dir = workplace(dir, &format!("{self:?}-checked"));
        payload.lay_out(&dir);
        let peer = self.start(Part::Fetch, &Wanted::File(torrent.write_to(&dir)), &[], dir).await?;
        wait::until("the payload to be checked", CHECKED_WITHIN, async || {
            peer.process.log().contains("\"done\"").then_some(())
        })
        .await;
        Some(peer)
    }

    /// Starts fetching `wanted` into the story's folder, from `peers` where the client takes addresses.
    pub async fn fetch(self, wanted: &Wanted, peers: &[SocketAddr], dir: &Path) -> Option<Peer> {
        let dir = workplace(dir, &format!("{self:?}-fetch"));
        self.start(Part::Fetch, wanted, peers, dir).await
    }

    async fn start(self, part: Part, wanted: &Wanted, peers: &[SocketAddr], dir: PathBuf) -> Option<Peer> {
        let program = self.program()?;
        Some(match self {
            Self::Libtorrent => libtorrent::start(&program, part, wanted, peers, &[], dir).await,
            Self::Aria2 => aria2::start(&program, part, wanted, dir).await,
            Self::Rqbit => rqbit::start(&program, part, wanted, peers, dir).await,
            Self::Transmission => transmission::start(&program, part, wanted, dir).await,
        })
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
}

impl Peer {
    /// Where it listens for peers.
    pub fn address(&self) -> SocketAddr {
        self.address
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
