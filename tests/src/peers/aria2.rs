//! aria2: one process a download, which goes on seeding when it has everything. It finds peers by the tracker alone.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Habits, Part, Peer, Wanted};
use crate::ports;
use crate::process::Process;
use crate::wait;

/// Start-up, and for a seeder the hashing of a payload of a few MiB.
const READY_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn start(mut command: Command, part: Part, wanted: &Wanted, habits: Habits, dir: PathBuf) -> Peer {
    let address = ports::free();
    command
        .args(["--no-conf=true", "--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"])
        .args(["--disable-ipv6=true", "--interface=127.0.0.1", "--file-allocation=none"])
        // Seed until ended; an answer of the tracker that names nobody is asked again soon.
        .args(["--seed-ratio=0.0", "--bt-tracker-interval=1", "--bt-stop-timeout=0"])
        .args(["--summary-interval=0", "--console-log-level=notice", "--follow-torrent=mem"])
        .arg(format!("--stop-with-process={}", std::process::id()))
        .arg(format!("--listen-port={}", address.port()))
        .arg(format!("--dir={}", dir.display()));
    if part == Part::Seed {
        command.args(["--check-integrity=true", "--bt-seed-unverified=false"]);
    }
    if habits.rc4 {
        command.args(["--bt-require-crypto=true", "--bt-min-crypto-level=arc4"]);
    }
    command.arg(wanted.argument());
    let mut process = Process::start("aria2", &command, &dir);
    wait::until("aria2 to listen", READY_WITHIN, async || {
        process.assert_running();
        std::net::TcpStream::connect(address).ok()
    })
    .await;
    Peer { process, address, dir, door: None }
}
