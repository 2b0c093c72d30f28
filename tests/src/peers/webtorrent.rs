//! webtorrent in Node through `peers/webtorrent_peer.mjs`, which reports in JSON lines.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Habits, Peer, Wanted};
use crate::driver::source;
use crate::ports;
use crate::process::Process;
use crate::programs::Program;
use crate::wait;

/// Loading it, a second or two on a busy machine. What is in its folder it finds and hashes by itself.
const READY_WITHIN: Duration = Duration::from_secs(20);

pub(super) async fn start(
    mut command: Command,
    wanted: &Wanted,
    peers: &[SocketAddr],
    habits: Habits,
    dir: PathBuf,
) -> Peer {
    let address = ports::free();
    let modules = Program::NodeModules.find().expect("it was looked for with the program");
    command.env("SWARMGATE_NODE_MODULES", modules);
    if habits.rc4 {
        // OpenSSL has moved RC4 there, and a cipher in JavaScript would be what is tested instead.
        command.arg("--openssl-legacy-provider");
    }
    command.arg("--import").arg(source("packages.mjs")).arg(source("webtorrent_peer.mjs"));
    match wanted {
        Wanted::File(path) => command.arg("--torrent").arg(path),
        Wanted::Magnet(uri) => command.arg("--magnet").arg(uri),
    };
    command.arg("--save").arg(&dir).args(["--port", &address.port().to_string()]);
    for peer in peers {
        command.args(["--peer", &peer.to_string()]);
    }
    for (flag, wanted) in [("--utp", habits.utp), ("--rc4", habits.rc4)] {
        if wanted {
            command.arg(flag);
        }
    }
    let mut process = Process::start("webtorrent", &command, &dir);
    wait::until("webtorrent to listen", READY_WITHIN, async || {
        process.assert_running();
        process.log().contains("\"listening\"").then_some(())
    })
    .await;
    let peer = Peer { process, address, dir, door: None };
    if habits.utp { peer.behind_a_door().await } else { peer }
}
