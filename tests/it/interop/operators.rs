//! What operators do with the program: start it, probe it, have it read its configuration again, put it behind a proxy
//! and into an image.

#![expect(clippy::unwrap_used, reason = "in a story, what fails to be there is the failure, helpers included")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::Client;
use serde_json::Value;
use swarmgate_tests::caddy::Caddy;
use swarmgate_tests::gateway::{self, Gateway};
use swarmgate_tests::http;
use swarmgate_tests::nginx::Nginx;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::ports;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::wait;

use super::{MIB, PIECE_LEN, TRANSFER_WITHIN, film, folder, scratch};
use crate::stories::deploy::enter_image;
use crate::stories::documents::read;

/// From the start of the process to `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(1);
/// How often it is started: the machine does other things too, and what it can is what counts.
const STARTS: usize = 5;
/// What an idle gateway may have in memory.
const IDLE_BYTES: u64 = 40 << 20;
/// How long it rests before its memory is looked at.
const REST: Duration = Duration::from_secs(3);
/// How soon a change of the configuration is in force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);
/// A command that asks a running gateway, or looks at the machine.
const COMMAND_WITHIN: Duration = Duration::from_secs(30);
/// How soon an event comes through a proxy that does not hold it back.
const EVENT_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn it_is_ready_within_a_second_and_rests_in_forty_mebibytes() {
    let dir = scratch();
    let mut fastest = Duration::MAX;
    for round in 0..STARTS {
        let place = folder(dir.path(), &round.to_string());
        let started = Instant::now();
        let Some(gateway) = Gateway::start(&place).await else { return };
        fastest = fastest.min(started.elapsed());
        if fastest <= READY_WITHIN || round + 1 == STARTS {
            tokio::time::sleep(REST).await;
            let resident = resident_bytes(gateway.pid());
            eprintln!("ready after {fastest:?}; {} KiB resident when idle", resident >> 10);
            assert!(resident <= IDLE_BYTES, "{resident} bytes resident when idle");
            break;
        }
    }
    assert!(fastest <= READY_WITHIN, "ready after {fastest:?} at best");
}

/// As proc(5) has it.
fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn probes_and_commands_find_the_gateway_that_runs_by_the_same_configuration() {
    let dir = scratch();
    let token = ("SWARMGATE_AUTH__TOKEN", "0123456789abcdef");
    let options = [token, ("SWARMGATE_SERVER__BASE_PATH", "/gate")];
    let Some(gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let listen = gateway.http_address().to_string();
    let options = [token, options[1], ("SWARMGATE_SERVER__LISTEN", listen.as_str())];
    let run = async |args: &[&str]| gateway::run_with(dir.path(), args, &options, COMMAND_WITHIN).await.unwrap();

    assert_eq!(run(&["health"]).await, (Some(0), "ok\n".to_owned()));
    assert_eq!(run(&["health", "--ready"]).await, (Some(0), "ok\n".to_owned()));
    let (code, said) = run(&["status", "--output", "json"]).await;
    assert!(code == Some(0) && serde_json::from_str::<Value>(&said).unwrap()["ready"] == true, "{said}");
    let (code, said) = run(&["info", &"ab".repeat(20)]).await;
    assert_eq!(code, Some(3), "{said}");
    let (_, said) = run(&["diagnose", "--offline", "--output", "json"]).await;
    let report: Value = serde_json::from_str(said.split("\nswarmgate: ").next().unwrap()).unwrap();
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "gateway").unwrap();
    assert!(found["verdict"] == "ok" && found["found"].as_str().unwrap().contains("/gate/readyz"), "{report}");

    let without = [options[1], options[2]];
    let (code, said) = gateway::run_with(dir.path(), &["status"], &without, COMMAND_WITHIN).await.unwrap();
    assert_eq!(code, Some(6), "{said}");
    drop(gateway);
    let (code, said) = run(&["health"]).await;
    assert!(code == Some(1) && said.contains("no gateway answers"), "{said}");
    assert_eq!(run(&["status"]).await.0, Some(3));
    let wrong = [("SWARMGATE_CACHE__MAX_SIZE", "lots")];
    assert_eq!(gateway::run_with(dir.path(), &["health"], &wrong, COMMAND_WITHIN).await.unwrap().0, Some(1));
    assert_eq!(gateway::run_with(dir.path(), &["diagnose"], &wrong, COMMAND_WITHIN).await.unwrap().0, Some(2));
}

#[tokio::test]
async fn it_takes_the_descriptors_that_it_may_have_where_it_was_lent_few() {
    let dir = scratch();
    let Some(plain) = gateway::command(ports::free(), &dir.path().join("data")) else { return };
    let mut lent_few = Command::new("sh");
    lent_few.args(["-c", "ulimit -S -n 512; exec \"$0\" \"$@\""]).arg(plain.get_program());
    lent_few.args(["diagnose", "--offline", "--output", "json"]);
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => lent_few.env(name, value),
            None => lent_few.env_remove(name),
        };
    }
    let mut process = Process::start("swarmgate-diagnose", &lent_few, dir.path());
    process.finished(COMMAND_WITHIN).await;
    let said = process.log();
    let report: Value = serde_json::from_str(said.split("\nswarmgate: ").next().unwrap()).unwrap();
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "open files").unwrap();
    let limit = found["found"].as_str().unwrap().split(' ').next().unwrap().parse::<u64>().unwrap();
    assert!(limit > 512, "{found}");
}

#[tokio::test]
async fn sighup_has_the_file_read_again_and_a_watched_file_needs_none() {
    for watch in [false, true] {
        let dir = scratch();
        let file = dir.path().join("config.toml");
        let write = |limit: &str| {
            std::fs::write(&file, format!("[reload]\nwatch = {watch}\n[limits]\nbandwidth = \"{limit}\"\n")).unwrap();
        };
        write("1MiB/s");
        let options = [("SWARMGATE_CONFIG", file.to_str().unwrap())];
        let Some(mut gateway) = Gateway::start_with(dir.path(), &options).await else { return };
        let in_force = async |limit: &str| {
            let options = http::get(&gateway.url("/api/v1/config")).await.json();
            let row = options["options"].as_array().unwrap().iter().find(|row| row["key"] == "limits.bandwidth");
            (row.unwrap()["value"] == limit).then_some(())
        };
        assert!(in_force("1MiB/s").await.is_some());
        for (written, expected) in [("2MiB/s", "2MiB/s"), ("fast", "2MiB/s"), ("3MiB/s", "3MiB/s")] {
            write(written);
            if !watch {
                tokio::time::sleep(IN_FORCE_WITHIN / 2).await;
                let before = if written == "2MiB/s" { "1MiB/s" } else { "2MiB/s" };
                assert!(in_force(before).await.is_some(), "nobody has asked for {written}");
                gateway.hang_up();
            }
            if written == "fast" {
                tokio::time::sleep(IN_FORCE_WITHIN).await;
            }
            wait::until(&format!("{expected} after {written}"), IN_FORCE_WITHIN, async || in_force(expected).await)
                .await;
        }
        gateway.assert_running();
    }
}

/// A gateway that has a film, and knows its public name.
async fn behind_a_proxy(dir: &Path) -> Option<(Gateway, Payload, String)> {
    let (payload, torrent): (Payload, Torrent) = film(95, None);
    let client = swarmgate_tests::peers::Client::Libtorrent;
    let seeder = client.seed(&payload, &torrent, dir).await?;
    let options = [("SWARMGATE_SERVER__PUBLIC_URL", "https://media.example.org/")];
    let gateway = Gateway::start_with(dir, &options).await?;
    let url = gateway.magnet_url(&torrent.info_hash, &[seeder.address()]);
    let whole = http::get(&url).await;
    assert!(whole.body == payload.joined(), "{}: {}", whole.status, whole.body.len());
    Some((gateway, payload, format!("/bt/{}/@0", torrent.info_hash)))
}

/// What a viewer and the application for browsers do through a proxy, by the public name.
async fn serves_ranges_and_events(client: &Client, base: &str, path: &str, payload: &Payload) {
    let (whole, url) = (payload.joined(), format!("{base}{path}"));
    for (first, last) in [(0, 0), (PIECE_LEN - 1, PIECE_LEN), (MIB, 2 * MIB), (whole.len() - 7, whole.len() - 1)] {
        let range = client.get(&url).header("range", format!("bytes={first}-{last}"));
        let answer = http::send(range, &url).await;
        assert_eq!(answer.status, 206, "{}", answer.text());
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/{}", whole.len()));
        assert!(answer.body == whole[first..=last], "{first}-{last}");
    }
    let answer = http::send(client.get(&url), &url).await;
    assert!(answer.status == 200 && answer.body == whole, "{}", answer.status);
    let stranger = http::send(client.get(&url).header("host", "evil.example"), &url).await;
    assert!(stranger.status.is_client_error() || stranger.body.is_empty(), "{}", stranger.status);

    let url = format!("{base}/api/v1/events");
    let mut events = client.get(&url).send().await.unwrap();
    assert_eq!(events.status(), 200);
    // A stream makes an event, which comes while the answer goes on.
    let next = async {
        let mut heard = String::new();
        while !heard.contains("stream") {
            heard += &String::from_utf8_lossy(&events.chunk().await.unwrap().expect("events go on"));
        }
    };
    let read = client.get(format!("{base}{path}")).header("range", "bytes=0-9").send();
    let (heard, read) = tokio::join!(tokio::time::timeout(EVENT_WITHIN, next), read);
    assert_eq!(read.unwrap().status(), 206);
    heard.expect("an event comes at once");
}

/// A client that takes the public name to be `address`, as DNS would say.
fn visitor(address: SocketAddr, certificate: Option<&[u8]>) -> Client {
    let client = Client::builder().no_proxy().timeout(TRANSFER_WITHIN).resolve("media.example.org", address);
    match certificate {
        Some(pem) => client.tls_certs_only([reqwest::Certificate::from_pem(pem).unwrap()]),
        None => client,
    }
    .build()
    .unwrap()
}

/// The text with something in it replaced, which has to be there.
fn replaced(text: &str, what: &str, by: &str) -> String {
    assert!(text.contains(what), "{what} is not in {text}");
    text.replace(what, by)
}

#[tokio::test]
async fn nginx_passes_films_and_events_on_as_it_is_configured_in_deploy() {
    let dir = scratch();
    let Some((gateway, payload, path)) = behind_a_proxy(dir.path()).await else { return };
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["media.example.org".to_owned()]).unwrap();
    let (cert_file, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert_file, cert.pem()).unwrap();
    std::fs::write(&key_file, signing_key.serialize_pem()).unwrap();
    let nginx = Nginx::deployed(dir.path(), |address| {
        let conf = replaced(&read("deploy/nginx.conf"), "127.0.0.1:8420", &gateway.http_address().to_string());
        let conf = replaced(&conf, "listen 443 ssl", &format!("listen {address} ssl"));
        let conf = replaced(&conf, "/etc/ssl/certs/media.example.org.pem", cert_file.to_str().unwrap());
        replaced(&conf, "/etc/ssl/private/media.example.org.key", key_file.to_str().unwrap())
    });
    let Some(nginx) = nginx.await else { return };
    let client = visitor(nginx.address(), Some(cert.pem().as_bytes()));
    let base = format!("https://media.example.org:{}", nginx.address().port());
    serves_ranges_and_events(&client, &base, &path, &payload).await;
}

#[tokio::test]
async fn caddy_passes_films_and_events_on_as_it_is_configured_in_deploy() {
    let dir = scratch();
    let Some((gateway, payload, path)) = behind_a_proxy(dir.path()).await else { return };
    let caddy = Caddy::deployed(dir.path(), |address| {
        let file = replaced(&read("deploy/Caddyfile"), "127.0.0.1:8420", &gateway.http_address().to_string());
        // Without TLS: it would ask an authority for a certificate.
        replaced(
            &file,
            "\nmedia.example.org {",
            &format!("\nhttp://media.example.org:{} {{\n\tbind 127.0.0.1", address.port()),
        )
    });
    let Some(caddy) = caddy.await else { return };
    let client = visitor(caddy.address(), None);
    let base = format!("http://media.example.org:{}", caddy.address().port());
    serves_ranges_and_events(&client, &base, &path, &payload).await;
}

#[test]
fn the_image_has_all_that_the_program_needs() {
    let Some(binary) = Program::Swarmgate.find() else { return };
    enter_image(&binary);
}
