//! libtorrent through its Python binding and `peers/lt_peer.py`, which reports in JSON lines.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Part, Peer, Wanted};
use crate::ports;
use crate::process::Process;
use crate::wait;

/// Loading the binding and opening a session.
const READY_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn start(python: &Path, part: Part, wanted: &Wanted, peers: &[SocketAddr], dir: PathBuf) -> Peer {
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
