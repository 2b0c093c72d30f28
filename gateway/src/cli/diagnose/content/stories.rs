//! Contents that come, that nobody has, and that nobody can be asked for.

use std::future::pending;
use std::path::Path;

use serde_json::Value;
use swarmgate_ipfs_proto::build::Profile;

use super::*;
use crate::cli::testing::{BlockServer, file, noise};
use crate::demo::{Seeder, offline};

/// Runs the command: how it ends, and what it tells programs.
async fn diagnosed(config: &Config, uri: &str, seconds: u64) -> (Option<Exit>, Value) {
    let (within, mut out) = (Some(Span::from_secs(seconds)), Vec::new());
    let ended = run(config, uri, within, Output::Json, pending(), &mut out).await;
    (ended.err().map(|failure| failure.exit), serde_json::from_slice(&out).unwrap())
}

/// A configuration of loopback alone, with a directory for the cache.
fn alone(dir: &Path) -> Config {
    let mut config = offline();
    config.cache.dir = dir.to_owned();
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_torrent_that_comes_it_tells_how_soon_and_from_whom() {
    let (seeder, dir) = (Seeder::start().await.unwrap(), tempfile::tempdir().unwrap());
    let (config, uri) = (alone(dir.path()), format!("magnet:?{}", seeder.magnet_query()));
    let (exit, told) = diagnosed(&config, &uri, 30).await;
    assert_eq!((exit, &told["ok"], &told["found"]["peers"]), (None, &true.into(), &1.into()), "{told}");
    let ms = |key: &str| told["found"][key].as_u64().unwrap();
    assert!(ms("metadata_ms") <= ms("first_byte_ms") && ms("first_byte_ms") < 30_000, "{told}");
    assert_eq!(told["found"]["name"], "swarmgate-demo.bin");
    let mut out = Vec::new();
    run(&config, &uri, None, Output::Human, pending(), &mut out).await.unwrap();
    let page = String::from_utf8(out).unwrap();
    assert!(
        page.starts_with("swarmgate-demo.bin\nmetadata   came after ") && page.contains("\nasked      peer"),
        "{page}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its cache went with it");
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_torrent_that_nobody_has_it_tells_who_was_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, infohash) = (alone(dir.path()), "ab".repeat(20));
    // Over TCP it is known at once that nobody listens.
    config.bittorrent.utp = false;
    let (exit, told) = diagnosed(&config, &infohash, 5).await;
    assert_eq!((exit, &told["ok"]), (Some(Exit::NotFound), &false.into()), "{told}");
    assert!(told["why"].as_str().unwrap().contains("nobody to ask"), "{told}");

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let magnet = format!("magnet:?xt=urn:btih:{infohash}&x.pe={closed}");
    let (exit, told) = diagnosed(&config, &magnet, 2).await;
    assert_eq!(exit, Some(Exit::Timeout), "{told}");
    assert!(told["why"].as_str().unwrap().contains("none can be reached"), "{told}");
    let mut out = Vec::new();
    let interrupted = run(&config, &magnet, None, Output::Human, std::future::ready(()), &mut out).await;
    assert_eq!((interrupted.unwrap_err().exit, out.len()), (Exit::Interrupted, 0));
    let too_long = run(&config, &magnet, Some(Span::from_secs(3600)), Output::Human, pending(), &mut out).await;
    assert_eq!(too_long.unwrap_err().exit, Exit::Usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_content_of_ipfs_it_tells_which_gateway_gave_it() {
    let (blocks, built) = file(Profile::V1_2025, &noise(2_500_000));
    let (here, gone) = (BlockServer::start(&blocks, &[]).await, BlockServer::start(&[], &[]).await);
    let dir = tempfile::tempdir().unwrap();
    let mut config = alone(dir.path());
    for (server, expected) in [(&here, None), (&gone, Some(Exit::NotFound))] {
        config.ipfs = server.config(dir.path()).ipfs;
        let (exit, told) = diagnosed(&config, &built.cid.to_string(), 10).await;
        assert_eq!(exit, expected, "{told}");
        assert_eq!(told["found"]["first_byte_ms"].is_u64(), expected.is_none());
        let attempts = told["found"]["attempts"].as_array().unwrap();
        assert!(attempts.iter().any(|attempt| attempt["source"] == "gateway"), "{told}");
    }
    config.ipfs.enabled = false;
    let failure = run(&config, &built.cid.to_string(), None, Output::Human, pending(), &mut Vec::new()).await;
    assert_eq!(failure.unwrap_err().exit, Exit::Usage);
}
