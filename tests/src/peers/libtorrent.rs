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

/// Reading and hashing some MiB.
const CHECKED_WITHIN: Duration = Duration::from_secs(20);

/// No setting of the session's own: this peer tells nobody of others, and listens to nobody who does (BEP 11).
pub const WITHOUT_PEX: Setting = ("pex", 0);

/// As [`Client::seed`], with settings of its session.
pub async fn seed(payload: &Payload, torrent: &Torrent, settings: &[Setting], dir: &Path) -> Option<Peer> {
    let python = Command::new(Client::Libtorrent.program()?);
    let dir = workplace(dir, "libtorrent-seed");
    payload.lay_out(&dir);
    let wanted = Wanted::File(torrent.write_to(&dir));
    Some(start(python, Part::Seed, &wanted, &[], settings, dir).await)
}

/// Starts a seeder that reads and hashes what it has before it serves it, as one that fetched it would have. Of a v2
/// torrent (BEP 52) it has the leaves then.
pub async fn seed_checked(payload: &Payload, torrent: &Torrent, settings: &[Setting], dir: &Path) -> Option<Peer> {
    let python = Command::new(Client::Libtorrent.program()?);
    let dir = workplace(dir, "libtorrent-checked");
    payload.lay_out(&dir);
    let peer = start(python, Part::Fetch, &Wanted::File(torrent.write_to(&dir)), &[], settings, dir).await;
    wait::until("the payload to be checked", CHECKED_WITHIN, async || {
        peer.process.log().contains("\"done\"").then_some(())
    })
    .await;
    Some(peer)
}

/// As [`Client::fetch`], with settings of its session.
pub async fn fetch(wanted: &Wanted, peers: &[SocketAddr], settings: &[Setting], dir: &Path) -> Option<Peer> {
    let python = Command::new(Client::Libtorrent.program()?);
    Some(start(python, Part::Fetch, wanted, peers, settings, workplace(dir, "libtorrent-fetch")).await)
}

/// Settings of its session under which it knows one transport, `tcp` or `utp`.
#[must_use]
pub fn transport(name: &str) -> [Setting; 4] {
    let (tcp, utp) = (i32::from(name == "tcp"), i32::from(name == "utp"));
    [
        ("enable_outgoing_tcp", tcp),
        ("enable_incoming_tcp", tcp),
        ("enable_outgoing_utp", utp),
        ("enable_incoming_utp", utp),
    ]
}

/// Two who have all stay connected, so that the way between them can be looked at, however soon they had it.
pub const STAYS_CONNECTED: Setting = ("close_redundant_connections", 0);

/// The same for one kind of encryption: `none`, `handshake` for that alone, or `rc4` for all.
#[must_use]
pub fn encryption(name: &str) -> [Setting; 3] {
    // Policies: 0 forced, 1 enabled, 2 disabled. Levels: 1 the clear, 2 RC4, 3 both.
    let (policy, level) = match name {
        "none" => (2, 3),
        "handshake" => (0, 1),
        _ => (0, 2),
    };
    [("out_enc_policy", policy), ("in_enc_policy", policy), ("allowed_enc_level", level)]
}

pub(super) async fn start(
    mut command: Command,
    part: Part,
    wanted: &Wanted,
    peers: &[SocketAddr],
    settings: &[Setting],
    dir: PathBuf,
) -> Peer {
    let address = ports::free();
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
    Peer { process, address, dir, door: None }
}
