//! Transmission, driven through its JSON RPC. It treats loopback addresses that a tracker names as bogus, so it never
//! dials here; it accepts whoever comes.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Habits, Part, Peer, Wanted};
use crate::process::Process;
use crate::{http, ports, wait};

/// Start-up, and for a seeder the hashing of a payload of a few MiB.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The header that guards the RPC against forged requests; its value comes with the first refusal.
const SESSION_HEADER: &str = "x-transmission-session-id";

pub(super) async fn start(mut command: Command, part: Part, wanted: &Wanted, habits: Habits, dir: PathBuf) -> Peer {
    let (address, rpc) = (ports::free(), ports::free());
    let settings = dir.join("settings");
    std::fs::create_dir_all(&settings).unwrap_or_else(|e| panic!("cannot create {}: {e}", settings.display()));
    command
        .args(["--foreground", "--no-dht", "--no-lpd", "--no-portmap", "--no-auth", "--no-global-seedratio"])
        .arg(if habits.utp { "--utp" } else { "--no-utp" })
        .arg(if habits.rc4 { "--encryption-required" } else { "--encryption-preferred" })
        .args(["--bind-address-ipv4", "127.0.0.1", "--bind-address-ipv6", "::1", "--rpc-bind-address", "127.0.0.1"])
        .args(["--port", &rpc.port().to_string(), "--peerport", &address.port().to_string()])
        .arg("--config-dir")
        .arg(&settings)
        .arg("--download-dir")
        .arg(&dir);
    let mut process = Process::start("transmission", &command, &dir);
    let mut rpc = Rpc { url: format!("http://{rpc}/transmission/rpc"), session: String::new() };
    wait::until("transmission's RPC", READY_WITHIN, async || {
        process.assert_running();
        rpc.call("session-get", json!({})).await
    })
    .await;
    rpc.must("torrent-add", json!({ "filename": wanted.argument(), "download-dir": dir })).await;
    if part == Part::Seed {
        // It hashes what it finds in its folder by itself.
        wait::until("transmission to verify its files", READY_WITHIN, async || rpc.is_seeding().await.then_some(()))
            .await;
    }
    let peer = Peer { process, address, dir, door: None };
    if habits.utp { peer.behind_a_door().await } else { peer }
}

struct Rpc {
    url: String,
    session: String,
}

impl Rpc {
    /// One call; `None` while the daemon does not answer or wants its session id first, which is then kept.
    async fn call(&mut self, method: &str, arguments: Value) -> Option<Value> {
        let request = http::client()
            .post(&self.url)
            .header(SESSION_HEADER, &self.session)
            .body(json!({ "method": method, "arguments": arguments }).to_string());
        let response = request.send().await.ok()?;
        if let Some(session) = response.headers().get(SESSION_HEADER).and_then(|v| v.to_str().ok()) {
            session.clone_into(&mut self.session);
        }
        let answer: Value = serde_json::from_slice(&response.bytes().await.ok()?).ok()?;
        (answer["result"] == "success").then(|| answer["arguments"].clone())
    }

    async fn must(&mut self, method: &str, arguments: Value) -> Value {
        let answer = self.call(method, arguments).await;
        answer.unwrap_or_else(|| panic!("transmission refused {method}"))
    }

    /// Status 6 is "seeding" in the RPC's list of states.
    async fn is_seeding(&mut self) -> bool {
        let answer = self.must("torrent-get", json!({ "ids": [1], "fields": ["status", "percentDone"] })).await;
        let torrent = &answer["torrents"][0];
        torrent["status"] == 6 && torrent["percentDone"] == 1
    }
}
