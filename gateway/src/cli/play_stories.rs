//! `swarmgate play` with players that are programs: curl, which reads a range of the URL and writes it to a file, and sh,
//! which ends as it is told.

#![cfg(unix)]

use std::fs;
use std::future::pending;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use swarmgate_config::{Config, Secret};
use tokio::net::TcpListener;
use url::Url;

use super::Exit;
use super::args::Output;
use super::play::{Play, Surroundings, run};
use super::running::Running;
use super::source::Failure;
use super::testing::{FilmOfIpfs, certificate};
use crate::auth::{LinkKey, TokenHash};
use crate::demo::{Seeder, offline, payload};
use crate::server::{HttpSocket, ServeLimits, Tls, router, serve};
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Behaviour, IH, World, world};

const FILES: &[(&str, u64)] = &[("film.mkv", 100_000), ("more/film 2.mkv", 90_000), ("notes.txt", 500)];
/// A variable that cargo sets for every test.
const VARIABLE: &str = "CARGO_MANIFEST_DIR";

fn surroundings(hidden: &[&str]) -> Surroundings {
    let hidden = hidden.iter().map(|&name| name.to_owned()).collect();
    Surroundings { path: std::env::var_os("PATH"), hidden }
}

/// Runs the command, and says what it printed: the URL.
async fn play(config: &Config, uri: &str, select: Option<&str>, player: &str) -> Result<Url, Failure> {
    let select = select.map(|select| select.parse().unwrap());
    let command = Play { uri: uri.to_owned(), player: Some(player.to_owned()), select };
    let mut out = Vec::new();
    run(config, &command, &surroundings(&[]), Output::Human, pending(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap().trim().parse().unwrap())
}

/// A player that reads some bytes of the film, as far as there are any, and leaves them in a file.
fn reader(range: &str, to: &Path) -> String {
    format!("curl -fsS --noproxy '*' -r {range} -o '{}' {{url}}", to.display())
}

/// A configuration by which no gateway runs, with a cache below a directory.
fn alone(dir: &Path) -> Config {
    let mut config = offline();
    config.cache.dir = dir.join("cache");
    config
}

/// The configuration that a gateway runs by.
fn of(world: &World) -> Config {
    let mut config = Config::default();
    config.server.listen = vec![world.address.into()];
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_is_played_from_a_gateway_that_ends_with_its_player() {
    let (seeder, dir) = (Seeder::start().await.unwrap(), tempfile::tempdir().unwrap());
    let magnet = format!("magnet:?{}", seeder.magnet_query());
    let got = dir.path().join("got");
    // The second finds the cache in use, as by a gateway that cannot be asked.
    for held in [false, true] {
        let config = alone(dir.path());
        let holder = match held {
            true => Some(
                swarmgate_store::Store::open(swarmgate_store::StoreOptions {
                    dir: Some(config.cache.dir.clone()),
                    ..swarmgate_store::StoreOptions::in_memory(1 << 20)
                })
                .await
                .unwrap(),
            ),
            false => None,
        };
        let url = play(&config, &magnet, None, &reader("1000000-1999999", &got)).await.unwrap();
        assert!(fs::read(&got).unwrap() == payload()[1_000_000..2_000_000]);
        let address = (url.host_str().unwrap().to_owned(), url.port().unwrap());
        assert!(TcpStream::connect(address).is_err(), "nobody answers at {url} any more");
        fs::remove_file(&got).unwrap();
        if let Some(holder) = holder {
            holder.close().await;
        }
    }
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_ipfs_is_played_and_a_directory_is_not() {
    let FilmOfIpfs { root, bytes, server, .. } = FilmOfIpfs::serve(3_000_000).await;
    let dir = tempfile::tempdir().unwrap();
    let (mut config, got) = (alone(dir.path()), dir.path().join("got"));
    config.ipfs = server.config(dir.path()).ipfs;
    let uri = format!("ipfs://{root}/film.mkv");
    play(&config, &uri, None, &reader("2500000-2999999", &got)).await.unwrap();
    assert!(fs::read(&got).unwrap() == bytes[2_500_000..]);
    fs::remove_file(&got).unwrap();
    let failure = play(&config, &root.to_string(), None, &reader("0-9", &got)).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
    assert!(failure.message.contains("name one of its files") && !got.exists(), "no player was started: {failure}");
}

#[tokio::test]
async fn the_gateway_that_runs_plays_whichever_file_is_wanted() {
    let (world, dir) = (world(FILES).await, tempfile::tempdir().unwrap());
    let (config, got) = (of(&world), dir.path().join("got"));
    for (uri, select, index) in [
        (IH.to_owned(), None, 0),
        (IH.to_owned(), Some("1"), 1),
        (format!("{IH}/more/film 2.mkv"), None, 1),
        (format!("magnet:?xt=urn:btih:{IH}&so=2"), None, 2),
    ] {
        let url = play(&config, &uri, select, &reader("100-299", &got)).await.unwrap();
        assert_eq!(url.port(), Some(world.address.port()));
        assert!(fs::read(&got).unwrap() == world.protocol.file(index)[100..300], "{url}");
    }
    let opens = world.opens();
    let url = play(&config, IH, Some("0,1"), &reader("0-9999", &got)).await.unwrap();
    let list = fs::read_to_string(&got).unwrap();
    assert!(list.starts_with("#EXTM3U\n") && list.matches("film").count() == 4, "{url}: {list}");
    assert_eq!(world.opens(), opens, "a playlist reads none of its files");
    let failure = play(&config, IH, Some("9"), "true").await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound, "{failure}");
    let failure = play(&config, &format!("{IH}/more"), None, "true").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
}

#[tokio::test]
async fn a_gateway_that_wants_credentials_gives_the_player_a_link_and_no_token() {
    const KEY: &str = "a key of some thirty-two letters.";
    let options = HttpOptions {
        token: Some(TokenHash::of("s3cret")),
        anonymous_content: Anonymous::Never,
        link_key: Some(LinkKey::new(KEY.as_bytes())),
        ..HttpOptions::default()
    };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let got = dir.path().join("got");
    let (mut with_token, mut with_key) = (of(&world), of(&world));
    with_token.auth.token = Secret::new("s3cret");
    with_key.auth.link_key = Secret::new(KEY);
    for config in [&with_token, &with_key] {
        for (select, index) in [(None, 0), (Some("1"), 1)] {
            let url = play(config, IH, select, &reader("0-", &got)).await.unwrap();
            assert!(fs::read(&got).unwrap() == world.protocol.file(index), "{url}");
            assert!(url.as_str().contains("sig=") && !url.as_str().contains("s3cret"), "{url}");
        }
    }
    let stranger = Config {
        auth: swarmgate_config::Auth { link_key: Secret::new(KEY.replace('a', "b")), ..with_key.auth.clone() },
        ..with_key
    };
    assert_eq!(play(&stranger, IH, None, "true").await.unwrap_err().exit, Exit::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_is_given_plain_http_though_the_configuration_has_a_certificate_and_its_gateway_runs() {
    let (seeder, dir, world) = (Seeder::start().await.unwrap(), tempfile::tempdir().unwrap(), world(FILES).await);
    let (cert, key) = certificate(dir.path(), "media");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = HttpSocket::from(listener).with_tls(Some(Tls::load(&cert, &key).unwrap()));
    tokio::spawn(serve(socket, router(world.state.clone()), world.shutdown.clone(), ServeLimits::default()));
    let (mut config, got) = (alone(dir.path()), dir.path().join("got"));
    config.server.listen = vec![address.into()];
    (config.server.tls_cert, config.server.tls_key) = (cert, key);
    let running = Running::of(&config, None).unwrap();
    assert_eq!(running.url("/readyz"), format!("https://{address}/readyz"));
    assert_eq!(running.ask(Method::GET, "/readyz").await.unwrap().status, StatusCode::OK);

    let magnet = format!("magnet:?{}", seeder.magnet_query());
    let url = play(&config, &magnet, None, &reader("1000000-1999999", &got)).await.unwrap();
    assert_eq!((url.scheme(), url.host_str()), ("http", Some("127.0.0.1")), "{url}");
    assert_ne!(url.port(), Some(address.port()), "{url}");
    assert!(fs::read(&got).unwrap() == payload()[1_000_000..2_000_000]);
    seeder.stop().await;
}

#[tokio::test]
async fn how_the_player_ends_is_how_the_command_ends() {
    let world = world(FILES).await;
    let config = of(&world);
    play(&config, IH, None, "sh -c 'exit 0'").await.unwrap();
    for player in ["sh -c 'exit 3'", "sh -c 'kill -9 $$'"] {
        let failure = play(&config, IH, None, player).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Error, "{player}");
        assert!(failure.message.starts_with("the player sh ended with "), "{failure}");
    }
    for player in ["no-such-player-anywhere", "/no/such/player {url}", "sh -c 'x"] {
        assert_eq!(play(&config, IH, None, player).await.unwrap_err().exit, Exit::Usage, "{player}");
    }
}

#[tokio::test]
async fn a_player_is_not_told_what_is_told_to_swarmgate() {
    let (world, dir) = (world(FILES).await, tempfile::tempdir().unwrap());
    let said = dir.path().join("said");
    let player = format!("sh -c 'echo \"${{{VARIABLE}-nothing}} $1\" > {}' sh {{url}}", said.display());
    for (hidden, handed_on) in [(&[][..], true), (&[VARIABLE][..], false)] {
        let command = Play { uri: IH.to_owned(), player: Some(player.clone()), select: None };
        let surroundings = surroundings(hidden);
        let mut out = Vec::new();
        run(&of(&world), &command, &surroundings, Output::Json, pending(), &mut out).await.unwrap();
        let printed: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(printed["player"], "sh");
        let said = fs::read_to_string(&said).unwrap();
        assert_eq!(!said.starts_with("nothing "), handed_on, "{said}");
        assert!(said.trim_end().ends_with(printed["url"].as_str().unwrap()), "{said}");
    }
}

#[tokio::test]
async fn who_interrupts_ends_the_player_too() {
    let (world, dir) = (world(FILES).await, tempfile::tempdir().unwrap());
    let pid_file = dir.path().join("pid");
    let player = format!("sh -c 'echo $$ > {}; exec sleep 600' sh {{url}}", pid_file.display());
    let command = Play { uri: IH.to_owned(), player: Some(player), select: None };
    let playing = async {
        while !fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (config, surroundings, mut said) = (of(&world), surroundings(&[]), Vec::new());
    let played = run(&config, &command, &surroundings, Output::Human, playing, &mut said);
    let failure = tokio::time::timeout(Duration::from_secs(30), played).await.unwrap().unwrap_err();
    assert_eq!(failure.exit, Exit::Interrupted);
    let pid = fs::read_to_string(&pid_file).unwrap();
    let lives = std::process::Command::new("kill").args(["-0", pid.trim()]).output().unwrap().status.success();
    assert!(!lives, "the player goes on");
}
