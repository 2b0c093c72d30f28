//! The control API against its own description, by a program of others: schemathesis asks every operation what the
//! description allows and what it forbids, and looks at every answer.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;
use swarmgate_tests::torrent::Torrent;

use super::{film, scratch};

/// A thousand requests and more, most of them answered at once.
const ASKED_WITHIN: Duration = Duration::from_secs(180);

/// What a running gateway is asked for below the ids of an item that it has, and with bodies that mean something.
fn configuration(torrent: &Torrent) -> String {
    let id = &torrent.info_hash;
    format!(
        "[[operations]]\ninclude-path-regex = \"/items/{{id}}\"\nparameters = {{ \"path.id\" = \"{id}\" }}\n\n\
         [[operations]]\ninclude-path = \"/api/v1/networks/{{network}}\"\nparameters = {{ \"path.network\" = \"ipfs\" }}\n"
    )
}

async fn asked(program: &Path, gateway: &Gateway, torrent: &Torrent, dir: &Path) -> String {
    std::fs::write(dir.join("schemathesis.toml"), configuration(torrent)).expect("the story's folder can be written");
    let mut command = Command::new(program);
    command.arg("--config-file").arg(dir.join("schemathesis.toml"));
    command.args(["run", &gateway.url("/api/v1/openapi.json"), "--url", &gateway.url("")]);
    command.args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--mode", "all"]);
    // Whether text names a torrent is more than a description can say. The answer to a fitting one is told elsewhere.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    // It has no end: what it says is told in the gateway's own stories.
    command.args(["--exclude-path", "/api/v1/events"]);
    command.args(["--max-examples", "25", "--seed", "8420", "--request-timeout", "10", "--warnings", "off"]);
    command.args(["--suppress-health-check", "all", "--continue-on-failure"]);
    command.current_dir(dir).env("NO_COLOR", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    let mut process = Process::start("schemathesis", &command, dir);
    let status = process.finished(ASKED_WITHIN).await;
    let said = process.log();
    assert!(status.success(), "schemathesis ended with {status}:\n{said}");
    said
}

#[tokio::test]
async fn every_operation_keeps_what_its_description_says() {
    let dir = scratch();
    let Some(program) = Program::Schemathesis.find() else { return };
    // A DHT that knows nobody: what cannot be done here at all is no answer to be judged.
    let options = [("SWARMGATE_BITTORRENT__DHT", "true"), ("SWARMGATE_BITTORRENT__DHT_BOOTSTRAP", "")];
    let Some(mut gateway) = Gateway::start_with(dir.path(), &options).await else { return };
    let (_, torrent) = film(31, None);
    gateway.add_torrent(&torrent.bytes).await;
    let said = asked(&program, &gateway, &torrent, dir.path()).await;
    gateway.assert_running();
    let description = http::get(&gateway.url("/api/v1/openapi.json")).await.json();
    let paths = description["paths"].as_object().expect("it has paths");
    let operations: usize = paths.values().filter_map(|path| path.as_object()).map(serde_json::Map::len).sum();
    // All but the one that is left out.
    assert!(said.contains(&format!("{}", operations - 1)), "{operations} operations, but: {said}");
}
