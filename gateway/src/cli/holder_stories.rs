//! Commands that change what is kept, while a gateway holds the cache: it does what they say.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use swarmgate_config::{Config, Size};
use swarmgate_ipfs_proto::build::{Block, Profile};
use swarmgate_ipfs_proto::car;
use swarmgate_store::{Store, StoreOptions};
use tempfile::TempDir;

use super::args::{Add, ImportCar, Output, PinCommand, Publish, Recheck, Torrent};
use super::source::Failure;
use super::testing::{file, noise};
use super::{Exit, add, fetch, import, publish, recheck};
use crate::app::App;
use crate::demo::offline;
use crate::listeners::Listeners;
use crate::testing::send;

const GOODBYE: Duration = Duration::from_secs(1);

/// A gateway and its configuration, by which commands find both it and its cache.
struct World {
    dir: TempDir,
    config: Config,
    app: App,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = offline();
        config.cache.dir = dir.path().join("cache");
        config.publish.dirs = vec![dir.path().join("films")];
        fs::create_dir(dir.path().join("films")).unwrap();
        let app = App::build(&config, Listeners::bind(&config).unwrap()).await.unwrap();
        config.server.listen = vec![app.addresses()[0].into()];
        Self { dir, config, app }
    }

    fn write(&self, path: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn pins(&self, command: PinCommand) -> Result<String, Failure> {
        let mut out = Vec::new();
        import::run_pin(&self.config, &command, Output::Human, std::future::pending(), &mut out).await?;
        Ok(String::from_utf8(out).unwrap())
    }

    async fn import(&self, file: &Path, allow_missing: bool) -> Result<Value, Failure> {
        let command = ImportCar { file: file.to_owned(), allow_missing, api: None };
        let mut out = Vec::new();
        import::run_import(&self.config, &command, Output::Json, std::future::pending(), &mut out).await?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        let to = self.app.addresses()[0];
        let host = to.to_string();
        send(to, "GET", path, &[("Host", host.as_str())], b"").await.body
    }
}

async fn published(config: &Config, path: &Path) -> Result<Value, Failure> {
    let command = Publish {
        path: path.to_owned(),
        name: None,
        torrent: Torrent::Hybrid,
        piece_length: Some(Size::from_bytes(64 << 10)),
        tracker: vec!["http://127.0.0.1:9/announce".to_owned()],
        web_seed: Vec::new(),
        copy: false,
        json: true,
        api: None,
    };
    let mut out = Vec::new();
    publish::run(config, &command, Output::Human, std::future::pending(), &mut out).await?;
    Ok(serde_json::from_slice(&out).unwrap())
}

async fn added(config: &Config, path: &Path, in_place: bool) -> Result<String, Failure> {
    let (command, mut out) =
        (Add { path: path.to_owned(), cid_version: 1, chunker: None, in_place, api: None }, Vec::new());
    add::run(config, &command, Output::Human, std::future::pending(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap().trim().to_owned())
}

fn car(blocks: &[Block], root: swarmgate_content::Cid) -> Vec<u8> {
    let mut bytes = car::header(&[root]);
    for block in blocks {
        bytes.extend(car::section_head(&block.cid, block.bytes.len()));
        bytes.extend_from_slice(&block.bytes);
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_and_pinned_is_kept_by_the_gateway_that_holds_the_cache() {
    let world = World::start().await;
    let film = noise(5_000_000);
    world.write("tree/below/film", &film);
    world.write("tree/hello.txt", b"hello world");
    let tree = world.dir.path().join("tree");

    let root = added(&world.config, &tree, false).await.unwrap();
    let mut alone = offline();
    alone.cache.dir = world.dir.path().join("another");
    assert_eq!(root, added(&alone, &tree, false).await.unwrap(), "as it is named without a gateway");
    assert_eq!(world.get(&format!("/ipfs/{root}/below/film")).await, film);
    assert_eq!(world.pins(PinCommand::Ls { api: None }).await.unwrap(), format!("{root}\n"));

    let mut read = Vec::new();
    let named = format!("{root}/below/film");
    fetch::cat(&world.config, &named, std::future::pending(), &mut read).await.unwrap();
    assert!(read == film, "who reads has it from that gateway, {} bytes", read.len());

    let rm = || PinCommand::Rm { cid: format!("/ipfs/{root}"), api: None };
    assert_eq!(world.pins(rm()).await.unwrap(), "");
    assert_eq!(world.pins(PinCommand::Ls { api: None }).await.unwrap(), "");
    assert_eq!(world.pins(rm()).await.unwrap_err().exit, Exit::NotFound);
    let again = world.pins(PinCommand::Add { cid: root.clone(), api: None }).await.unwrap();
    assert_eq!(again, format!("{root}\n"), "all of it was still cached");

    let refused = added(&world.config, &tree, true).await.unwrap_err();
    assert!(refused.exit == Exit::Usage && refused.message.contains("swarmgate publish"), "{refused}");
    world.app.shutdown(GOODBYE).await;
    let mut out = Vec::new();
    let ls = PinCommand::Ls { api: None };
    import::run_pin(&world.config, &ls, Output::Human, std::future::pending(), &mut out).await.unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{root}\n"), "and is so without it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_car_is_sent_whole_and_what_is_wrong_with_it_is_told() {
    let world = World::start().await;
    let profile = Profile { chunk_bytes: 1 << 20, ..Profile::V1_2025 };
    let (blocks, built) = file(profile, &noise(24 << 20));
    let root = built.cid;
    let whole = world.write("whole.car", &car(&blocks, root));
    let holed = world.write("holed.car", &car(&blocks[1..], root));
    // It is found out at the first block, and the rest is long.
    let mut bytes = car(&blocks, root);
    bytes[1000] ^= 1;
    let wrong = world.write("wrong.car", &bytes);

    for (path, what) in [(&holed, "is missing"), (&wrong, "wrong.car")] {
        let failure = world.import(path, false).await.unwrap_err();
        assert!(failure.exit == Exit::Integrity && failure.message.contains(what), "{failure}");
    }
    assert_eq!(world.pins(PinCommand::Ls { api: None }).await.unwrap(), "");
    let told = world.import(&holed, true).await.unwrap();
    assert_eq!((&told[0]["root"], &told[0]["missing"]), (&root.to_string().into(), &1.into()));
    let listed = world.pins(PinCommand::Ls { api: None }).await.unwrap();
    assert_eq!(listed, format!("{root} (1 blocks missing)\n"));
    let told = world.import(&whole, false).await.unwrap();
    assert_eq!((&told[0]["blocks"], &told[0]["missing"]), (&blocks.len().into(), &0.into()));
    assert_eq!(world.get(&format!("/ipfs/{root}")).await, noise(24 << 20));
    world.app.shutdown(GOODBYE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_is_published_and_hashed_again_by_the_gateway_that_holds_the_cache() {
    let world = World::start().await;
    let film = noise(1_000_000);
    let folder = world.write("films/one/film.mkv", &film).parent().unwrap().to_owned();
    let told = published(&world.config, &folder).await.unwrap();
    let infohash = told["infohash"].as_str().unwrap();
    assert_eq!(world.get(&format!("/bt/{infohash}/film.mkv")).await, film, "it serves it at once");

    let command = Recheck { uri: infohash.to_owned(), api: None };
    let mut out = Vec::new();
    recheck::run(&world.config, &command, Output::Json, std::future::pending(), &mut out).await.unwrap();
    let found: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&found["pieces"], &found["right"], &found["dropped"]), (&16.into(), &16.into(), &0.into()));

    let elsewhere = world.write("elsewhere/film.mkv", &film);
    let refused = published(&world.config, &elsewhere).await.unwrap_err();
    assert!(refused.exit == Exit::Denied && refused.message.contains("publish.dirs"), "{refused}");
    assert!(!refused.message.contains("auth.token"), "{refused}");

    let mut alone = world.config.clone();
    alone.cache.dir = world.dir.path().join("another");
    let same = published(&alone, &folder).await.unwrap();
    world.app.shutdown(GOODBYE).await;
    // All but the manifest, which another key has signed.
    for name in ["infohash", "infohash_v2", "cid", "magnet", "piece_len", "files"] {
        assert_eq!(told[name], same[name], "{name} is as without a gateway");
    }
    assert_eq!(told["links"]["bt"], same["links"]["bt"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_with_another_cache_is_not_asked() {
    let world = World::start().await;
    let mut config = world.config.clone();
    config.cache.dir = world.dir.path().join("another");
    let options = StoreOptions { dir: Some(config.cache.dir.clone()), ..StoreOptions::in_memory(1 << 20) };
    let holder = Store::open(options).await.unwrap();
    let hello = world.write("hello.txt", b"hello world");
    let failure = added(&config, &hello, false).await.unwrap_err();
    assert!(failure.message.contains("has its own in") && failure.message.contains("--api"), "{failure}");
    assert_eq!(world.pins(PinCommand::Ls { api: None }).await.unwrap(), "");

    let by_name = PinCommand::Ls { api: Some(format!("http://{}", world.app.addresses()[0])) };
    import::run_pin(&config, &by_name, Output::Human, std::future::pending(), &mut Vec::new()).await.unwrap();
    world.app.shutdown(GOODBYE).await;
    let failure = added(&config, &hello, false).await.unwrap_err();
    assert!(failure.message.contains("holds the cache") && failure.message.contains("no gateway answers"), "{failure}");
    holder.close().await;
}
