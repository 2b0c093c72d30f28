//! The files of the configuration are watched: a change is in force within two seconds, on streams that go on, and a
//! mistake changes nothing, however busy the gateway is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarmgate_config::{Rate, Sources};
use swarmgate_content::{Event, EventReceiver};
use swarmgate_gateway::reload::{self, Files, Reloader};
use swarmgate_tests::node::{Content, Node};
use tokio::time::Instant;

use super::MIB;
use super::pace::{full, in_force, read_until};

/// How soon a change has to be in force.
const WITHIN: Duration = Duration::from_secs(2);
/// How long a rate is measured then.
const MEASURED: Duration = Duration::from_secs(3);
const MB: u64 = 1_000_000;

fn write(file: &Path, text: &str) {
    // As careful programs do it: beside, and then in its place.
    let beside = file.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, file).unwrap();
}

fn limit(rate: u64) -> String {
    format!("[limits]\nclient_bandwidth = 0\nitem_bandwidth = \"{rate}/s\"\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_flips_a_limit_in_mid_stream_and_a_wrong_one_changes_nothing_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    write(&file, &limit(MB));
    let sources =
        Sources { explicit: Some(file.clone()), platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let film = Content::single("film.mkv", 301, 96 * MIB, 1 << 20);
    let node = full(&film, |config| config.limits.item_bandwidth = Rate::from_bytes(MB)).await;
    let files = Files::of(&sources);
    let reloader = Reloader::new(Arc::clone(node.app.live()), None, sources);
    let following = tokio::spawn(async move { reload::follow(&reloader, Some(files)).await });

    let mut reader = node.connect().await;
    reader.send("GET", &film.path(0), &[]).await.unwrap();
    assert_eq!(reader.head().await.unwrap().status, 200);
    let mut position = read_until(&mut reader, &film, 0, Instant::now() + WITHIN).await;
    for rate in [6 * MB, 2 * MB] {
        write(&file, &limit(rate));
        position = read_until(&mut reader, &film, position, Instant::now() + WITHIN).await;
        let now = measured(&mut reader, &film, &mut position).await;
        assert!(is_about(now, rate), "{now} bytes a second {WITHIN:?} after {rate} was written");
    }

    // The load: a limit is shared by all that read one content, so these read and read and take nothing from nobody.
    let load: Vec<_> = (0..8).map(|_| tokio::spawn(busy(node.address()))).collect();
    for wrong in ["[limits]\nitem_bandwidth = \"fast\"\n", "[limits\n", "[limits]\nitem_bandwith = 7\n"] {
        write(&file, wrong);
        position = read_until(&mut reader, &film, position, Instant::now() + WITHIN).await;
        let now = measured(&mut reader, &film, &mut position).await;
        assert!(is_about(now, 2 * MB), "{now} bytes a second after {wrong:?}");
        let options = node.connect().await.get("/api/v1/config", &[]).await.json();
        assert_eq!(in_force(&options, "limits.item_bandwidth"), "2000000/s", "after {wrong:?}");
    }
    let answered = futures_util::future::join_all(load.iter().map(|task| async { !task.is_finished() })).await;
    assert!(answered.iter().all(|goes_on| *goes_on), "the load went on all the time");
    load.iter().for_each(tokio::task::JoinHandle::abort);

    write(&file, &limit(0));
    drain_whole(&mut reader, &film, position).await;
    following.abort();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_events_is_told_when_a_file_was_read_again_and_when_it_has_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    write(&file, &limit(MB));
    let sources =
        Sources { explicit: Some(file.clone()), platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let node = Node::with(|config| config.limits.item_bandwidth = Rate::from_bytes(MB)).await;
    let mut events = node.app.manager().events().subscribe();
    let files = Files::of(&sources);
    let reloader = Reloader::new(Arc::clone(node.app.live()), None, sources);
    let following = tokio::spawn(async move { reload::follow(&reloader, Some(files)).await });

    write(&file, &limit(2 * MB));
    let (changed, error) = reloaded(&mut events).await;
    assert!(changed.iter().any(|key| key == "limits.item_bandwidth"), "{changed:?}");
    assert_eq!(error, None);
    write(&file, "[limits\n");
    let (changed, error) = reloaded(&mut events).await;
    assert!(changed.is_empty() && error.is_some(), "{changed:?} {error:?}");
    following.abort();
    node.stop().await;
}

/// What the next event about the configuration tells: options that have changed, and what was wrong.
async fn reloaded(events: &mut EventReceiver) -> (Vec<String>, Option<String>) {
    let told = async {
        loop {
            if let Event::ConfigReloaded { changed, error, .. } = events.recv().await.unwrap().event {
                return (changed, error);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("an event")
}

async fn drain_whole(reader: &mut swarmgate_tests::raw::Connection, film: &Content, position: usize) {
    let end = read_until(reader, film, position, Instant::now() + Duration::from_secs(20)).await;
    assert_eq!(end, film.bytes.len(), "the stream goes on to its end");
}

async fn measured(reader: &mut swarmgate_tests::raw::Connection, film: &Content, position: &mut usize) -> f64 {
    let (before, start) = (*position, Instant::now());
    *position = read_until(reader, film, before, start + MEASURED).await;
    (*position - before) as f64 / start.elapsed().as_secs_f64()
}

/// What the kernel holds back and lets go makes a short measurement rough.
fn is_about(measured: f64, rate: u64) -> bool {
    eprintln!("at {rate}: {measured:.0} bytes a second");
    (measured / rate as f64 - 1.0).abs() < 0.25
}

/// Asks for the status without a pause.
async fn busy(gateway: std::net::SocketAddr) {
    let mut client = swarmgate_tests::raw::Connection::open(gateway).await;
    loop {
        assert_eq!(client.get("/api/v1/status", &[]).await.status, 200);
    }
}
