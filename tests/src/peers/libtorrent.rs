//! libtorrent through its Python binding and `peers/lt_peer.py`, which reports in JSON lines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Client, Part, Peer, Setting, Wanted, workplace};
use crate::payload::Payload;
use crate::ports;
use crate::process::Process;
use crate::torrent::Torrent;
use crate::wait;

/// Loading the binding and opening a session.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// As [`Client::seed`], with settings of its session.
pub async fn seed(payload: &Payload, torrent: &Torrent, settings: &[Setting], dir: &Path) -> Option<Peer> {
    let python = Client::Libtorrent.program()?;
    let dir = workplace(dir, "libtorrent-seed");
    payload.lay_out(&dir);
    let wanted = Wanted::File(torrent.write_to(&dir));
    Some(start(&python, Part::Seed, &wanted, &[], settings, dir).await)
}

/// As [`Client::fetch`], with settings of its session.
pub async fn fetch(wanted: &Wanted, peers: &[SocketAddr], settings: &[Setting], dir: &Path) -> Option<Peer> {
    let python = Client::Libtorrent.program()?;
    Some(start(&python, Part::Fetch, wanted, peers, settings, workplace(dir, "libtorrent-fetch")).await)
}

pub(super) async fn start(
    python: &Path,
    part: Part,
    wanted: &Wanted,
    peers: &[SocketAddr],
    settings: &[Setting],
    dir: PathBuf,
) -> Peer {
    let address = ports::free();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/lt_peer.py"));
    match wanted {
        Wanted::File(path) => command.arg("--torrent").arg(path),
        Wanted::Magnet(uri) => command.arg("--magnet").arg(uri),
    };
    command.arg("--save").arg(&dir).args(["--port", &address.port().to_string()]);
    if part == Part::Seed {
        command.arg("--seed");
    }
    for (name, value) in settings {
        command.args(["--set", &format!("{name}={value}")]);
    }
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    let mut process = Process::start("libtorrent", &command, &dir);
    wait::until("libtorrent to listen", READY_WITHIN, async || {
        process.assert_running();
        process.log().contains("\"listening\"").then_some(())
    })
    .await;
    Peer { process, address, dir }
}
