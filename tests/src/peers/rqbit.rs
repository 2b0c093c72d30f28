//! rqbit, its stateless `download`: told peers on the command line, and a seeder when the folder is complete.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::{Habits, Part, Peer, Wanted};
use crate::ports;
use crate::process::Process;
use crate::wait;

/// Start-up. A magnet has it listen at once too, before any metadata.
const READY_WITHIN: Duration = Duration::from_secs(10);

pub(super) async fn start(
    mut command: Command,
    part: Part,
    wanted: &Wanted,
    peers: &[SocketAddr],
    habits: Habits,
    dir: PathBuf,
) -> Peer {
    let address = ports::free();
    command
        .args(["--disable-dht", "--disable-dht-persistence", "--disable-lsd", "--disable-upnp-port-forward"])
        .args(["--ipv4-only", "--listen-ip", "127.0.0.1", "--listen-port", &address.port().to_string()])
        // By default it would tell trackers 4240, whatever it listens on.
        .args(["--announce-port", &address.port().to_string()])
        // It leaves whoever has said nothing for so long, by default just when it would tell of its peers.
        .args(["--tracker-refresh-interval", "1s", "--peer-read-write-timeout", "60s"]);
    if habits.utp {
        command.args(["--experimental-enable-utp-listen", "--disable-tcp-listen", "--disable-tcp-connect"]);
    }
    command.args(["download", "--disable-http-api", "--overwrite", "-o"]).arg(&dir);
    if !peers.is_empty() {
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        command.args(["--initial-peers", &peers.join(",")]);
    }
    command.arg(wanted.argument());
    let mut process = Process::start("rqbit", &command, &dir);
    wait::until("rqbit to listen", READY_WITHIN, async || {
        process.assert_running();
        if habits.utp { udp_is_taken(address) } else { std::net::TcpStream::connect(address).ok().map(drop) }
    })
    .await;
    if part == Part::Seed {
        // It listens before it has hashed what is there, and turns away who asks meanwhile.
        wait::until("rqbit to check its files", READY_WITHIN, async || {
            process.assert_running();
            process.log().contains("Initial check results").then_some(())
        })
        .await;
    }
    Peer { process, address, dir, door: None }
}

/// A port that cannot be bound is one that somebody listens on.
fn udp_is_taken(address: SocketAddr) -> Option<()> {
    std::net::UdpSocket::bind(address).is_err().then_some(())
}
