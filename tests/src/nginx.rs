//! nginx as a web seed or a mirror, which serves files of a folder, with ranges, each answer no faster than a story wants
//! it; and as the proxy that stands before a gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::driver::workplace;
use crate::ports;
use crate::process::Process;
use crate::programs::Program;

/// One process that binds one socket.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running server; dropped means ended.
#[derive(Debug)]
pub struct Nginx {
    _process: Process,
    address: SocketAddr,
}

impl Nginx {
    /// Serves what is in `files`, each answer at so many bytes a second, with its own files below `dir`; `None` when the
    /// story is to be skipped.
    pub async fn start(dir: &Path, files: &Path, bytes_per_second: u64) -> Option<Self> {
        let place = format!("root {}; limit_rate {bytes_per_second};", files.display());
        Self::start_with(dir, &place).await
    }

    /// Publishes a gateway below a base path, which the gateway does not get to see; `None` when the story is to be
    /// skipped.
    pub async fn before(gateway: SocketAddr, base: &str, dir: &Path) -> Option<Self> {
        let place = format!(
            "location {base}/ {{ proxy_pass http://{gateway}/; proxy_set_header Host $http_host; \
             proxy_http_version 1.1; proxy_read_timeout 1h; client_max_body_size 40m; }}"
        );
        Self::start_with(dir, &place).await
    }

    /// Runs a configuration of a server as operators have it, for whatever address it is given, with its own files below
    /// `dir`; `None` when the story is to be skipped.
    pub async fn deployed(dir: &Path, server: impl FnOnce(SocketAddr) -> String) -> Option<Self> {
        let address = ports::free();
        Self::run(dir, &server(address), address).await
    }

    async fn start_with(dir: &Path, place: &str) -> Option<Self> {
        let address = ports::free();
        Self::run(dir, &format!("server {{ listen {address}; {place} }}"), address).await
    }

    async fn run(dir: &Path, servers: &str, address: SocketAddr) -> Option<Self> {
        let program = Program::Nginx.find()?;
        let dir = workplace(dir, "nginx");
        let conf = dir.join("nginx.conf");
        std::fs::write(&conf, configuration(&dir, servers))
            .unwrap_or_else(|e| panic!("cannot write {}: {e}", conf.display()));
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(&dir).arg("-c").arg(&conf);
        let process = Process::start("nginx", &command, &dir).listening(address, READY_WITHIN).await;
        Some(Self { _process: process, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One process in the foreground, which ends with its guard and writes nowhere but below `dir`.
fn configuration(dir: &Path, servers: &str) -> String {
    let dir = dir.display();
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr warn;
         events {{}}
         http {{
             access_log off; default_type application/octet-stream;
             client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
             uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
             {servers}
         }}\n"
    )
}
