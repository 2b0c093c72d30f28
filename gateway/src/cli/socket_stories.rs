//! Commands that ask a running gateway, which listens on a Unix socket and nowhere else.

#![cfg(unix)]

use std::future::{pending, ready};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::Value;
use swarmgate_config::{Config, Listen, Secret};

use super::args::{Health, Output, Rm, Status};
use super::cache::{self, CacheCommand};
use super::running::Running;
use super::running_commands::{rm, status};
use super::source::Failure;
use super::{Exit, health};
use crate::app::App;
use crate::demo::offline;
use crate::listeners::Listeners;
use crate::testing::IH;

/// How long the gateway may take for an answer or its end, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration by which a gateway listens on a socket in this directory alone.
fn on_a_socket(dir: &Path) -> Config {
    let mut config = offline();
    config.cache.dir = dir.join("cache");
    config.server.listen = vec![Listen::Unix(dir.join("gate.sock"))];
    config.auth.token = Secret::new("s3cret");
    config
}

async fn shown(config: &Config, api: Option<&String>, watch: bool) -> Result<String, Failure> {
    let (command, mut out) = (Status { watch, interval: 3600, label: None, api: api.cloned() }, Vec::new());
    status(config, &command, Output::Json, ready(()), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_a_unix_socket_alone_is_asked_by_its_configuration_and_by_its_path() {
    let dir = tempfile::tempdir().unwrap();
    let config = on_a_socket(dir.path());
    let app = App::build(&config, Listeners::bind(&config).unwrap()).await.unwrap();
    assert!(app.addresses().is_empty(), "{:?}", app.addresses());
    let socket = dir.path().join("gate.sock");
    let (api, elsewhere) = (format!("unix:{}", socket.display()), Config { auth: config.auth.clone(), ..offline() });
    for (config, api) in [(&config, None), (&elsewhere, Some(&api))] {
        let running = Running::of(config, api.map(String::as_str)).unwrap();
        assert!(!running.is_for_players());
        let add = Request::post("/api/v1/items").header(CONTENT_TYPE, "text/plain").body(Bytes::from(IH)).unwrap();
        running.send(add, PATIENCE).await.unwrap().accepted().unwrap();
        for watch in [false, true] {
            let document: Value = serde_json::from_str(&shown(config, api, watch).await.unwrap()).unwrap();
            assert_eq!(document["totals"]["items"], 1, "{document}");
        }
        let mut out = Vec::new();
        let well = Health { ready: false, api: api.cloned() };
        health::run(config, &well, Output::Human, &mut out).await.unwrap();
        assert_eq!(out, b"ok\n");
        let account = CacheCommand::Ls { api: api.cloned() };
        cache::run(config, &account, Output::Json, pending(), &mut Vec::new()).await.unwrap();
        let (gone, mut out) = (Rm { uri: IH.to_owned(), purge: false, api: api.cloned() }, Vec::new());
        rm(config, &gone, Output::Human, &mut out).await.unwrap();
        assert!(String::from_utf8(out).unwrap().contains("is forgotten"));
    }
    let stranger = shown(&offline(), Some(&api), false).await.unwrap_err();
    assert_eq!(stranger.exit, Exit::Denied, "{stranger}");

    app.shutdown(PATIENCE).await;
    let nobody = shown(&elsewhere, Some(&api), false).await.unwrap_err();
    assert_eq!(nobody.exit, Exit::NotFound, "{nobody}");
    assert!(nobody.message.contains(&api) && nobody.message.contains("server.listen"), "{nobody}");
}
