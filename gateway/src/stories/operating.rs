//! What an operator does with a running gateway over the API: has its configuration read again, asks what it denies, has
//! it look for what is wrong with it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use swarmgate_config::{Config, Size, Sources};
use swarmgate_content::HealthState;
use tokio::io::AsyncReadExt as _;

use super::control::until;
use crate::live::Live;
use crate::policy::{Admitted, Denylists};
use crate::reload::Reloader;
use crate::state::Parts;
use crate::testing::{Answer, IH, World, world, world_with};

const FILES: &[(&str, u64)] = &[("film.mkv", 1000)];

/// A gateway whose configuration is this file, as it is now.
async fn configured_by(file: &Path) -> (World, Arc<Live>) {
    let explicit = Some(file.to_owned());
    let sources = Sources { explicit, platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let live = Live::new(&Config::load(&sources).unwrap().config);
    let reloader = Reloader::new(Arc::clone(&live), None, sources);
    let followed = Arc::clone(&live);
    let exchange = |parts: &mut Parts| {
        followed.tell_on(parts.manager.events());
        parts.live = Some(followed);
        parts.reloader = Some(Arc::new(reloader));
    };
    (world_with(FILES, exchange).await, live)
}

#[tokio::test]
async fn a_reload_tells_what_has_changed_and_what_needs_a_restart_and_mistakes_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.toml");
    std::fs::write(&file, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    let (world, live) = configured_by(&file).await;
    let reload = async || world.send("POST", "/api/v1/config/reload", &[], b"").await;
    assert_eq!(reload().await.json(), json!({ "changed": [], "restart": [] }));

    std::fs::write(&file, "[limits]\nbandwidth = \"2MB/s\"\n[bittorrent]\nmax_peers = 7\n").unwrap();
    let changed = json!([{ "key": "limits.bandwidth", "before": "1000000/s", "now": "2000000/s" }]);
    assert_eq!(reload().await.json(), json!({ "changed": changed, "restart": ["bittorrent.max_peers"] }));

    let in_force = live.options();
    std::fs::write(&file, "[limits]\nbandwidth = \"fast\"\nitem_bandwith = 7\n").unwrap();
    let refused = reload().await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "bad-configuration"));
    let hints = refused.json()["hints"].to_string();
    for told in ["limits.bandwidth", "fast", "item_bandwith", "swarmgate.toml"] {
        assert!(hints.contains(told), "{told}: {hints}");
    }
    assert_eq!(live.options(), in_force);
}

#[tokio::test]
async fn a_gateway_that_was_started_from_no_configuration_reads_none_again() {
    let answer = world(FILES).await.send("POST", "/api/v1/config/reload", &[], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (501, "unsupported"));
}

#[tokio::test]
async fn who_follows_events_is_told_of_each_reload_by_the_names_of_options_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.toml");
    std::fs::write(&file, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    let (world, _live) = configured_by(&file).await;
    let path = "/api/v1/events?types=config.reloaded";
    let (mut socket, mut seen) = (world.request("GET", path, &[], b"").await, String::new());
    until(&mut socket, &mut seen, "event: snapshot").await;

    let with_a_secret = "[limits]\nbandwidth = \"2MB/s\"\n[webtorrent]\nturn_password = \"hunter2hunter2\"\n";
    for (written, status, told) in [
        (with_a_secret, 200, r#""changed":["limits.bandwidth"],"restart":["webtorrent.turn_password"],"error":null"#),
        (
            "[limits]\nbandwidth = \"hunter2hunter2\"\n",
            422,
            r#""changed":[],"restart":[],"error":"the configuration has a mistake""#,
        ),
    ] {
        std::fs::write(&file, written).unwrap();
        assert_eq!(world.send("POST", "/api/v1/config/reload", &[], b"").await.status, status, "{written}");
        until(&mut socket, &mut seen, &format!(r#"{{"type":"config.reloaded",{told}}}"#)).await;
    }
    let json = [("Content-Type", "application/json")];
    let changed = world.send("PATCH", "/api/v1/config", &json, br#"{"limits.item_bandwidth": "3MB/s"}"#).await;
    assert_eq!(changed.status, 200);
    until(&mut socket, &mut seen, r#""changed":["limits.item_bandwidth"],"restart":[],"error":null"#).await;
    assert!(!seen.contains("hunter2"), "{seen}");
}

/// A CID that holds its own bytes.
const CID: &str = "bafkqabtimvwgy3yk";

async fn asked(world: &World, uri: &str) -> Answer {
    let body = json!({ "uri": uri }).to_string();
    world.send("POST", "/api/v1/denylists/check", &[("Content-Type", "application/json")], body.as_bytes()).await
}

#[tokio::test]
async fn what_is_denied_is_told_with_the_list_and_the_line_and_the_routes_agree() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("house.deny");
    let list = format!("version: 1\nname: house rules\n---\n/bt/{IH} reason=x\nwhat is this\n/ipfs/{CID}/a\n");
    std::fs::write(&file, list).unwrap();
    let denylists = Denylists::load(std::slice::from_ref(&file), false).unwrap();
    let world = world_with(FILES, |parts| parts.denylists = denylists).await;

    let document = world.get("/api/v1/denylists").await.json();
    let row = &document["denylists"][0];
    assert_eq!((&row["name"], &row["rules"], &row["skipped"]), (&"house rules".into(), &2.into(), &1.into()));
    assert_eq!(row["file"], file.to_str().unwrap());
    assert!(row["errors"][0].as_str().unwrap().starts_with("line 5: "), "{row}");
    assert!(row["read"].as_u64().unwrap() > 1_700_000_000, "{row}");

    let by =
        |line: u32, hints: Option<&str>| json!({ "list": "house rules", "file": file, "line": line, "hints": hints });
    for (uri, by) in [
        (format!("magnet:?xt=urn:btih:{IH}"), by(4, Some("reason=x"))),
        (format!("/bt/{IH}/film.mkv"), by(4, Some("reason=x"))),
        (format!("ipfs://{CID}/a"), by(6, None)),
    ] {
        let expected = json!({ "denied": true, "status": 410, "by": by });
        assert_eq!(asked(&world, &uri).await.json(), expected, "{uri}");
    }
    let served = json!({ "denied": false, "status": null, "by": null });
    assert_eq!(asked(&world, &format!("/ipfs/{CID}/b")).await.json(), served);
    assert_eq!(world.get(&format!("/bt/{IH}/film.mkv")).await.status, 410);
    for wrong in ["film.mkv", ""] {
        let answer = asked(&world, wrong).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-body"), "{wrong}");
    }
}

async fn put(world: &World, list: &str) -> Answer {
    world.send("PUT", "/api/v1/denylists", &[("Content-Type", "text/plain")], list.as_bytes()).await
}

#[tokio::test]
async fn a_list_that_is_sent_holds_at_once_until_another_takes_its_place_or_none() {
    let (world, film) = (world(FILES).await, format!("/bt/{IH}/film.mkv"));
    assert_eq!(world.get(&film).await.status, 200);
    let list = format!("name: for now\n---\n/ipfs/{CID}\n/bt/{IH} reason=x\n");
    let answer = put(&world, &list).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let lists = answer.json();
    let row = &lists["denylists"][0];
    assert_eq!((&row["name"], &row["rules"], &row["skipped"]), (&"api".into(), &2.into(), &0.into()));
    assert_eq!(world.get("/api/v1/denylists").await.json(), lists);
    assert_eq!(world.get(&film).await.status, 410);
    let by = json!({ "list": "api", "file": null, "line": 4, "hints": "reason=x" });
    assert_eq!(asked(&world, &film).await.json(), json!({ "denied": true, "status": 410, "by": by }));

    let refused = put(&world, &format!("/ipfs/{CID}\nwhat is this\n//nonsense\n")).await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "bad-denylist"));
    let hints = refused.json()["hints"].to_string();
    assert!(hints.contains("line 2: ") && hints.contains("line 3: ") && !hints.contains("line 1: "), "{hints}");
    assert_eq!(world.get("/api/v1/denylists").await.json(), lists);
    assert_eq!(world.get(&film).await.status, 410);

    assert_eq!(put(&world, &format!("/ipfs/{CID}\n")).await.status, 200);
    assert_eq!(world.get(&film).await.status, 200);
    for _ in 0..2 {
        assert_eq!(put(&world, "").await.json(), json!({ "denylists": [] }));
    }
}

#[tokio::test]
async fn what_is_being_sent_goes_on_when_a_list_comes_that_denies_it() {
    const LEN: u64 = 16_000_000;
    let (world, film) = (world(&[("film.mkv", LEN)]).await, format!("/bt/{IH}/film.mkv"));
    let (mut socket, mut answer) = (world.request("GET", &film, &[], b"").await, vec![0_u8; 1024]);
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(put(&world, &format!("/bt/{IH}\n")).await.status, 200);
    assert_eq!(world.get(&film).await.status, 410);
    let orderly = socket.read_to_end(&mut answer).await.is_ok();
    let answer = Answer::parse(&answer, false, orderly);
    assert!(answer.clean && answer.body.len() as u64 == LEN, "{} bytes", answer.body.len());
}

/// A gateway whose configuration is this file, and that serves what these lists say.
async fn with_lists(file: &Path, denylists: Denylists) -> (World, Arc<Live>) {
    let explicit = Some(file.to_owned());
    let sources = Sources { explicit, platform_cache_dir: Some("/cache".into()), ..Sources::default() };
    let live = Live::new(&Config::load(&sources).unwrap().config);
    let reloader = Reloader::new(Arc::clone(&live), None, sources);
    reloader.lead(&denylists);
    let exchange = |parts: &mut Parts| {
        parts.denylists = denylists;
        parts.reloader = Some(Arc::new(reloader));
    };
    (world_with(FILES, exchange).await, live)
}

#[tokio::test]
async fn a_reload_reads_the_files_of_the_denylists_again_and_one_that_is_gone_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [config, list] = ["swarmgate.toml", "house.deny"].map(|name| dir.path().join(name));
    std::fs::write(&config, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    std::fs::write(&list, "# nothing yet\n").unwrap();
    let denylists = Denylists::load(std::slice::from_ref(&list), false).unwrap();
    let ((world, live), film) = (with_lists(&config, denylists).await, format!("/bt/{IH}/film.mkv"));
    let reload = async || world.send("POST", "/api/v1/config/reload", &[], b"").await;
    std::fs::write(&list, format!("/bt/{IH}\n")).unwrap();
    assert_eq!(world.get(&film).await.status, 200, "nobody has said that it be read");
    assert_eq!(reload().await.status, 200);
    assert_eq!(world.get(&film).await.status, 410);

    let in_force = live.options();
    std::fs::write(&config, "[limits]\nbandwidth = \"2MB/s\"\n").unwrap();
    std::fs::remove_file(&list).unwrap();
    let refused = reload().await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "bad-configuration"));
    let hints = refused.json()["hints"].to_string();
    assert!(hints.contains("policy.denylists") && hints.contains("house.deny"), "{hints}");
    assert_eq!((live.options(), world.get(&film).await.status), (in_force, 410));
}

#[tokio::test]
async fn a_reload_reads_the_files_of_allow_lists_again_with_those_of_denylists_all_of_them_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let [config, allowed, denied] = ["swarmgate.toml", "films.allow", "house.deny"].map(|name| dir.path().join(name));
    std::fs::write(&config, "[limits]\nbandwidth = \"1MB/s\"\n").unwrap();
    std::fs::write(&allowed, "# nothing yet\n").unwrap();
    std::fs::write(&denied, "# nothing yet\n").unwrap();
    let admitted = Admitted::load(std::slice::from_ref(&allowed)).unwrap();
    let denylists = Denylists::load(std::slice::from_ref(&denied), false).unwrap().taking_away_from(admitted);
    let ((world, live), film) = (with_lists(&config, denylists).await, format!("/bt/{IH}/film.mkv"));
    let reload = async || world.send("POST", "/api/v1/config/reload", &[], b"").await;
    let served = async || world.get(&film).await.status;
    std::fs::write(&allowed, IH).unwrap();
    assert_eq!(served().await, 403, "nobody has said that it be read");
    assert_eq!(reload().await.status, 200);
    assert_eq!(served().await, 200);

    // Whichever of the two is wrong, the other does not hold either, and nor does the configuration.
    let in_force = live.options();
    std::fs::write(&config, "[limits]\nbandwidth = \"2MB/s\"\n").unwrap();
    std::fs::write(&denied, format!("/bt/{IH}\n")).unwrap();
    std::fs::remove_file(&allowed).unwrap();
    let refused = reload().await;
    assert_eq!((refused.status, refused.problem().as_str()), (422, "bad-configuration"));
    let hints = refused.json()["hints"].to_string();
    assert!(hints.contains("policy.allowlists") && hints.contains("films.allow"), "{hints}");
    assert_eq!((live.options(), served().await), (in_force.clone(), 200));
    std::fs::write(&allowed, "# nothing any more\n").unwrap();
    std::fs::remove_file(&denied).unwrap();
    assert_eq!(reload().await.status, 422);
    assert_eq!((live.options(), served().await), (in_force, 200));

    std::fs::write(&denied, "# nothing\n").unwrap();
    assert_eq!(reload().await.status, 200);
    assert_eq!(world.get(&film).await.problem(), "not-admitted");
}

/// A gateway whose cache is in this directory.
async fn caching_in(dir: &Path) -> World {
    let mut config = Config::default();
    config.cache.dir = dir.to_owned();
    config.cache.min_free = Size::from_bytes(0);
    let live = Live::new(&config);
    world_with(FILES, |parts| parts.live = Some(live)).await
}

fn of<'a>(diagnosis: &'a Value, name: &str) -> Vec<&'a Value> {
    diagnosis["checks"].as_array().unwrap().iter().filter(|check| check["name"] == name).collect()
}

#[tokio::test]
async fn a_gateway_looks_for_what_is_wrong_with_it_and_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let world = caching_in(dir.path()).await;
    let diagnosis = world.send("POST", "/api/v1/diagnose", &[], b"").await.json();
    assert_eq!(diagnosis["ok"], true, "{diagnosis}");
    for name in ["configuration", "access", "gateway", "network", "router", "cache", "clock", "open files"] {
        assert!(!of(&diagnosis, name).is_empty(), "{name}: {diagnosis}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");

    world.protocol.set_health(HealthState::Down);
    let diagnosis = world.send("POST", "/api/v1/diagnose", &[], b"").await.json();
    assert_eq!((&diagnosis["ok"], &of(&diagnosis, "gateway")[0]["verdict"]), (&false.into(), &"fail".into()));

    std::fs::write(dir.path().join("file"), "where a directory should be").unwrap();
    let world = caching_in(&dir.path().join("file/cache")).await;
    let diagnosis = world.send("POST", "/api/v1/diagnose", &[], b"").await.json();
    assert_eq!(of(&diagnosis, "cache")[0]["verdict"], "fail");
    assert!(of(&diagnosis, "cache")[0]["advice"].as_str().unwrap().contains("cache.dir"), "{diagnosis}");
}

#[tokio::test]
async fn who_takes_events_is_told_each_thing_as_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let world = caching_in(dir.path()).await;
    let whole = world.send("POST", "/api/v1/diagnose", &[], b"").await.json();
    let answer = world.send("POST", "/api/v1/diagnose", &[("Accept", "text/event-stream")], b"").await;
    assert!(answer.clean && answer.header("content-type").unwrap().starts_with("text/event-stream"));
    let (text, checks) = (answer.text(), whole["checks"].as_array().unwrap().len());
    assert_eq!(text.matches("event: check\n").count(), checks, "{text}");
    let (_, end) = text.split_once("event: done\ndata: ").unwrap();
    assert_eq!(serde_json::from_str::<Value>(end.trim()).unwrap(), json!({ "ok": true, "failed": 0 }));
}

#[tokio::test]
async fn a_gateway_that_was_started_from_no_configuration_is_not_diagnosed() {
    let answer = world(FILES).await.send("POST", "/api/v1/diagnose", &[], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (501, "unsupported"));
}
