//! v2 and hybrid torrents (BEP 52) for stories, made by libtorrent: an oracle that shares no code with what it judges.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::payload::Payload;
use crate::programs::Program;
use crate::torrent::Torrent;

/// Which halves a torrent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// v2 alone.
    V2,
    /// Both.
    Hybrid,
}

/// A torrent that has a v2 half.
#[derive(Debug, Clone)]
pub struct TorrentV2 {
    /// The file. Its `info_hash` is what answers bear: of v1 where there is one.
    pub torrent: Torrent,
    /// SHA-256 of the info dictionary, in hex.
    pub v2: String,
}

impl TorrentV2 {
    /// Hashes `payload`, which is laid out below `dir` for that; `None` when the story is to be skipped.
    pub fn of(payload: &Payload, kind: Kind, piece_len: usize, dir: &Path) -> Option<Self> {
        let python = Program::Python.find()?;
        let place = dir.join("made");
        payload.lay_out(&place);
        let out = dir.join("made.torrent");
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/lt_make.py")).arg(place.join(&payload.name)).arg(&out);
        command.args(["--kind", if kind == Kind::V2 { "v2" } else { "hybrid" }]);
        let made = command.args(["--piece-length", &piece_len.to_string()]).output();
        let made = made.unwrap_or_else(|e| panic!("libtorrent makes no torrent: {e}"));
        assert!(made.status.success(), "libtorrent makes no torrent: {}", String::from_utf8_lossy(&made.stderr));
        let ids: Value = serde_json::from_slice(&made.stdout).expect("the program prints JSON");
        let id = |key: &str| ids[key].as_str().expect("both ids are printed").to_owned();
        let bytes = std::fs::read(&out).unwrap_or_else(|e| panic!("cannot read {}: {e}", out.display()));
        let (v1, v2) = (id("v1"), id("v2"));
        let info_hash = if v1.is_empty() { v2.clone() } else { v1 };
        Some(Self { torrent: Torrent { bytes, info_hash, name: payload.name.clone(), tracker: None }, v2 })
    }

    /// A magnet by the v2 infohash alone.
    pub fn magnet(&self) -> String {
        format!("magnet:?xt=urn:btmh:1220{}", self.v2)
    }

    /// The path and query on a gateway of such a magnet, with peers to ask.
    pub fn magnet_path(&self, peers: &[SocketAddr]) -> String {
        format!("/magnet?xt=urn:btmh:1220{}{}", self.v2, hints(peers))
    }
}

/// Peers to ask, as the rest of a query.
pub fn hints(peers: &[SocketAddr]) -> String {
    peers.iter().map(|peer| format!("&x.pe={peer}")).collect()
}
