//! Caddy as the proxy that stands before a gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::driver::workplace;
use crate::ports;
use crate::process::Process;
use crate::programs::Program;

/// One process that binds one socket.
const READY_WITHIN: Duration = Duration::from_secs(15);

/// A running server; dropped means ended.
#[derive(Debug)]
pub struct Caddy {
    _process: Process,
    address: SocketAddr,
}

impl Caddy {
    /// Runs a Caddyfile as operators have it, for whatever address it is given, with its own files below `dir`; `None`
    /// when the story is to be skipped.
    pub async fn deployed(dir: &Path, caddyfile: impl FnOnce(SocketAddr) -> String) -> Option<Self> {
        let program = Program::Caddy.find()?;
        let (dir, address) = (workplace(dir, "caddy"), ports::free());
        let file = dir.join("Caddyfile");
        let text = format!("{{\n\tadmin off\n\tauto_https off\n}}\n{}", caddyfile(address));
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        let mut command = Command::new(program);
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
        // It keeps certificates and its last configuration below these.
        command.env("HOME", &dir).env("XDG_CONFIG_HOME", &dir).env("XDG_DATA_HOME", &dir);
        let process = Process::start("caddy", &command, &dir).listening(address, READY_WITHIN).await;
        Some(Self { _process: process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
