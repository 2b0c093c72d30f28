//! What the commands for IPFS do one after another on one cache directory.

use std::path::Path;

use swarmgate_config::{Config, Size};
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_ipfs_proto::car;
use swarmgate_store::{Store, StoreOptions};

use super::args::{Add, ImportCar, IpnsCommand, Output, PinCommand};
use super::get::{self, GetOptions};
use super::source::Failure;
use super::{Exit, add, fetch, import};

fn config(dir: &Path) -> Config {
    let mut config = Config::default();
    config.cache.dir = dir.join("cache");
    config.cache.max_size = Size::mib(64);
    config.cache.min_free = Size::from_bytes(0);
    config.ipfs.listen_ip = std::net::Ipv4Addr::LOCALHOST.into();
    config
}

fn never() -> std::future::Pending<()> {
    std::future::pending()
}

async fn added(config: &Config, path: &Path, cid_version: u8) -> Result<String, Failure> {
    let (command, mut out) =
        (Add { path: path.to_owned(), cid_version, chunker: None, in_place: false, api: None }, Vec::new());
    add::run(config, &command, Output::Human, never(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap().trim().to_owned())
}

async fn pins(config: &Config, command: PinCommand) -> Result<String, Failure> {
    let mut out = Vec::new();
    import::run_pin(config, &command, Output::Human, never(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn shown(config: &Config, uri: &str) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    fetch::cat(config, uri, never(), &mut out).await?;
    Ok(out)
}

#[tokio::test]
async fn what_was_added_is_pinned_and_can_be_had_again() {
    let dir = tempfile::tempdir().unwrap();
    let (config, tree) = (config(dir.path()), dir.path().join("tree"));
    let film: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(7919).to_le_bytes()[1]).collect();
    std::fs::create_dir_all(tree.join("below")).unwrap();
    std::fs::write(tree.join("hello.txt"), "hello world").unwrap();
    std::fs::write(tree.join("below/film"), &film).unwrap();
    std::os::unix::fs::symlink("hello.txt", tree.join("link")).unwrap();

    let hello = added(&config, &tree.join("hello.txt"), 1).await.unwrap();
    assert_eq!(hello, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e", "as everybody names it");
    let old = added(&config, &tree.join("hello.txt"), 0).await.unwrap();
    assert_eq!(old, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD", "as everybody named it");
    let root = added(&config, &tree, 1).await.unwrap();
    assert_eq!(shown(&config, &format!("{root}/below/film")).await.unwrap(), film);
    assert_eq!(shown(&config, &format!("/ipfs/{root}/link")).await.unwrap(), b"hello world");
    assert_eq!(shown(&config, &root).await.unwrap_err().exit, Exit::Usage, "it is a directory");
    assert_eq!(shown(&config, &format!("{root}/nothing")).await.unwrap_err().exit, Exit::NotFound);

    let options = GetOptions { uri: root.clone(), out: dir.path().join("got"), select: None };
    get::run(&config, options, never(), &mut Vec::new()).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("got").join(&root).join("below/film")).unwrap(), film);

    let listed = pins(&config, PinCommand::Ls { api: None }).await.unwrap();
    assert!([&hello, &old, &root].iter().all(|root| listed.lines().any(|line| line == **root)), "{listed}");
    pins(&config, PinCommand::Rm { cid: root.clone(), api: None }).await.unwrap();
    assert!(!pins(&config, PinCommand::Ls { api: None }).await.unwrap().contains(&root));
    assert_eq!(pins(&config, PinCommand::Rm { cid: root.clone(), api: None }).await.unwrap_err().exit, Exit::NotFound);
    pins(&config, PinCommand::Add { cid: root.clone(), api: None }).await.unwrap();
    assert!(pins(&config, PinCommand::Ls { api: None }).await.unwrap().contains(&root), "all of it was still cached");
}

#[tokio::test]
async fn a_car_is_imported_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let mut builder = FileBuilder::new(Profile { chunk_bytes: 1024, ..Profile::V1_2025 });
    builder.push(&(0..10_000_u16).flat_map(u16::to_be_bytes).collect::<Vec<u8>>());
    let root = builder.finish().cid;
    let blocks: Vec<_> = std::iter::from_fn(|| builder.poll_block()).collect();
    let write = |name: &str, skip: usize| {
        let mut bytes = car::header(&[root]);
        for block in blocks.iter().skip(skip) {
            bytes.extend(car::section_head(&block.cid, block.bytes.len()));
            bytes.extend_from_slice(&block.bytes);
        }
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        file
    };
    let run = async |file, allow_missing| {
        let mut out = Vec::new();
        let command = ImportCar { file, allow_missing, api: None };
        import::run_import(&config, &command, Output::Json, never(), &mut out).await?;
        Ok::<_, Failure>(serde_json::from_slice::<serde_json::Value>(&out).unwrap())
    };
    let failure = run(write("holed.car", 1), false).await.unwrap_err();
    assert!(failure.exit == Exit::Integrity && failure.message.contains("is missing"), "{failure}");
    assert_eq!(pins(&config, PinCommand::Ls { api: None }).await.unwrap(), "");
    let told = run(write("holed.car", 1), true).await.unwrap();
    assert_eq!((&told[0]["root"], &told[0]["missing"]), (&root.to_string().into(), &1.into()));
    let told = run(write("whole.car", 0), false).await.unwrap();
    assert_eq!((&told[0]["blocks"], &told[0]["missing"]), (&blocks.len().into(), &0.into()));
    assert_eq!(run(dir.path().join("absent.car"), false).await.unwrap_err().exit, Exit::NotFound);
}

#[tokio::test]
async fn while_a_gateway_has_the_cache_nothing_is_changed_and_reading_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    config.server.listen = vec![free.into()];
    let options = StoreOptions { dir: Some(config.cache.dir.clone()), ..StoreOptions::in_memory(1 << 20) };
    let gateway = Store::open(options).await.unwrap();
    let failure = pins(&config, PinCommand::Ls { api: None }).await.unwrap_err();
    assert!(failure.message.contains("holds the cache"), "{failure}");
    let inline = shown(&config, "bafkqac3imvwgy3zao5xxe3de").await.unwrap();
    assert_eq!(inline, b"hello world", "a content in its own CID needs no cache");
    gateway.close().await;
}

#[tokio::test]
async fn a_broken_record_is_refused_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8.ipns-record");
    std::fs::write(&file, b"no record").unwrap();
    let command = IpnsCommand::ImportRecord { file, name: None };
    let failure = import::run_ipns(&config(dir.path()), &command, &mut Vec::new()).await.unwrap_err();
    assert!(failure.exit == Exit::Integrity && failure.message.contains("not an IPNS record"), "{failure}");
}
