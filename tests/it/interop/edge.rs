//! What an operator puts in front of the program: a certificate, a service manager's socket, a Unix socket. Asked by curl.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::generate_simple_self_signed;
use swarmgate_tests::process::Process;
use swarmgate_tests::{gateway, ports, wait};

const READY_WITHIN: Duration = Duration::from_secs(10);

/// What curl says of a URL: the version of HTTP, the status, and whether it ended well.
fn curl(args: &[&str]) -> String {
    let options = ["--silent", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code} %{exitcode}"];
    let done = Command::new("curl").args(options).args(args).output().expect("curl is there");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

async fn until_ready(args: &[&str]) {
    wait::until("the gateway to be ready", READY_WITHIN, async || curl(args).contains(" 200 0").then_some(())).await;
}

fn certificate(dir: &Path) -> (String, String) {
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    (cert.display().to_string(), key.display().to_string())
}

#[tokio::test]
async fn curl_speaks_both_kinds_of_http_with_and_without_tls_and_sees_a_new_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path());
    let address = ports::free();
    let Some(mut command) = gateway::command(ports::free(), &dir.path().join("data")) else { return };
    command.arg("serve").args(["--listen", &address.to_string()]);
    let plain = format!("http://localhost:{}/readyz", address.port());
    let mut process = Process::start("plain", &command, dir.path());
    until_ready(&[&plain]).await;
    assert_eq!(curl(&["--http1.1", &plain]), "1.1 200 0");
    assert_eq!(curl(&["--http2-prior-knowledge", &plain]), "2 200 0");
    process.interrupt();
    process.finished(Duration::from_secs(20)).await;

    command.env("SWARMGATE_SERVER__TLS_CERT", &cert).env("SWARMGATE_SERVER__TLS_KEY", &key);
    let process = Process::start("tls", &command, dir.path());
    let url = format!("https://localhost:{}/readyz", address.port());
    until_ready(&["--cacert", &cert, &url]).await;
    assert_eq!(curl(&["--cacert", &cert, "--http2", &url]), "2 200 0");
    assert_eq!(curl(&["--cacert", &cert, "--http1.1", &url]), "1.1 200 0");
    assert!(!curl(&[&plain]).contains("200"), "no plain HTTP beside it");

    let old = dir.path().join("old.pem");
    std::fs::copy(&cert, &old).unwrap();
    certificate(dir.path());
    let hangup = Command::new("kill").args(["-HUP", &process.id().to_string()]).status().unwrap();
    assert!(hangup.success());
    until_ready(&["--cacert", &cert, &url]).await;
    assert!(!curl(&["--cacert", &old.display().to_string(), &url]).contains("200"));
}

/// A child that ends with its guard.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_service_manager_hands_over_the_socket_that_it_listens_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(serve) = gateway::command(ports::free(), &dir.path().join("data")) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/readyz", listener.local_addr().unwrap());
    // As a service manager does it: the third descriptor, and whom it is for.
    let mut shell = Command::new("sh");
    shell.args(["-c", "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 0</dev/null"]);
    shell.arg(serve.get_program()).args(serve.get_args()).args(["serve", "--listen", "systemd"]);
    for (name, value) in serve.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    // Nobody but the service manager knows who reaches it.
    shell.env("SWARMGATE_AUTH__TOKEN", "sesame");
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let child = shell.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let _ends = Ends(child);
    until_ready(&[&url]).await;
    let status = url.replace("readyz", "api/v1/status");
    assert_eq!(curl(&[&status]), "1.1 401 0");
    assert_eq!(curl(&["--header", "Authorization: Bearer sesame", &status]), "1.1 200 0");
}

#[tokio::test]
async fn over_a_unix_socket_curl_is_on_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut command) = gateway::command(ports::free(), &dir.path().join("data")) else { return };
    let path = dir.path().join("gate.sock").display().to_string();
    command.arg("serve").args(["--listen", &format!("unix:{path}")]);
    let mut process = Process::start("unix", &command, dir.path());
    until_ready(&["--unix-socket", &path, "http://localhost/readyz"]).await;
    assert_eq!(curl(&["--unix-socket", &path, "--http2-prior-knowledge", "http://localhost/api/v1/status"]), "2 200 0");
    process.interrupt();
    process.finished(Duration::from_secs(20)).await;
    assert!(!Path::new(&path).exists());
}
