//! What becomes of files that were added where they are: for whoever adds them, for clients of a gateway on the same
//! cache, for its peers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use swarmgate_config::{Config, IpfsMode, Span};
use swarmgate_content::Cid;
use swarmgate_ipfs::intake::Intake;
use swarmgate_ipfs::pins::Pins;
use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_store::{Origin, Store, StoreOptions};
use tempfile::TempDir;

use super::args::{Add, Output, PinCommand};
use super::source::Failure;
use super::{Exit, add, fetch, import};
use crate::app::App;
use crate::demo::offline;
use crate::ipfs;
use crate::listeners::Listeners;
use crate::policy::Denylists;
use crate::testing::{Answer, send};

const MIB: usize = 1 << 20;

/// Somewhat more than eight blocks.
const FILM_LEN: usize = 8 * MIB + 12_345;

/// A tree with a film in it, and a cache.
struct World {
    dir: TempDir,
    config: Config,
    tree: PathBuf,
    film: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        let noise = (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes());
        let film: Vec<u8> = noise.take(FILM_LEN).collect();
        fs::create_dir_all(tree.join("below")).unwrap();
        fs::write(tree.join("below/film"), &film).unwrap();
        fs::write(tree.join("hello.txt"), "hello world").unwrap();
        fs::write(tree.join("empty"), "").unwrap();
        std::os::unix::fs::symlink("hello.txt", tree.join("link")).unwrap();
        let mut config = offline();
        config.cache.dir = dir.path().join("cache");
        Self { dir, config, tree, film }
    }

    fn film_path(&self) -> PathBuf {
        self.tree.join("below/film")
    }

    /// The same world, where commands ask nobody for what is not here.
    fn alone(mut self) -> Self {
        self.config.ipfs.mode = IpfsMode::TrustlessHttp;
        self.config.deadlines.first_byte = Span::from_secs(2);
        self
    }

    async fn add(&self, path: &Path, in_place: bool) -> Result<String, Failure> {
        let command = Add { path: path.to_owned(), cid_version: 1, chunker: None, in_place, api: None };
        let mut out = Vec::new();
        add::run(&self.config, &command, Output::Human, std::future::pending(), &mut out).await?;
        Ok(String::from_utf8(out).unwrap().trim().to_owned())
    }

    /// What `cat` writes, and how it ends.
    async fn cat(&self, uri: &str) -> (Vec<u8>, Result<(), Failure>) {
        let mut out = Vec::new();
        let ended = fetch::cat(&self.config, uri, std::future::pending(), &mut out).await;
        (out, ended)
    }

    /// Writes one other byte into a block of the film, under the film's old time.
    fn alter(&self, block: usize) {
        let path = self.film_path();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[block * MIB + 77] ^= 1;
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    }

    /// What lies in the cache's directory.
    fn cache_bytes(&self) -> u64 {
        let (mut folders, mut bytes) = (vec![self.config.cache.dir.clone()], 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let (path, found) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
                if found.is_dir() { folders.push(path) } else { bytes += found.len() }
            }
        }
        bytes
    }

    async fn store(&self) -> Store {
        let options = StoreOptions { dir: Some(self.config.cache.dir.clone()), ..StoreOptions::in_memory(64 << 20) };
        Store::open(options).await.unwrap()
    }
}

#[tokio::test]
async fn a_tree_is_added_in_place_under_the_same_name_and_the_cache_does_not_grow() {
    let world = World::new().alone();
    world.add(&world.tree.join("hello.txt"), false).await.unwrap();
    let before = world.cache_bytes();
    let root = world.add(&world.tree, true).await.unwrap();
    let grown = world.cache_bytes().saturating_sub(before);
    assert!(grown < FILM_LEN as u64 / 8, "{grown} bytes more for {FILM_LEN}");
    assert_eq!(root, World::new().add(&world.tree, false).await.unwrap(), "as when it is copied");
}

#[tokio::test]
async fn what_was_added_in_place_is_read_from_its_file_until_that_changes() {
    let world = World::new().alone();
    let root = world.add(&world.tree, true).await.unwrap();
    let film = format!("{root}/below/film");
    for (path, expected) in [("below/film", &world.film[..]), ("hello.txt", b"hello world"), ("empty", b"")] {
        let (read, ended) = world.cat(&format!("{root}/{path}")).await;
        assert!(ended.is_ok() && read == expected, "{path}: {ended:?}");
    }

    world.alter(5);
    let (read, ended) = world.cat(&film).await;
    let failure = ended.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound, "{failure}");
    assert!(read.len() <= 5 * MIB && world.film.starts_with(&read), "nothing from where it was changed on");
    assert!(world.cat(&format!("{root}/hello.txt")).await.1.is_ok(), "another file is none the worse");

    fs::write(world.film_path(), &world.film).unwrap();
    assert!(world.cat(&film).await.1.is_err(), "its block was dropped");
    assert_eq!(world.add(&world.tree, true).await.unwrap(), root, "the same bytes have the same name");
    let (read, ended) = world.cat(&film).await;
    assert!(ended.is_ok() && read == world.film);

    fs::remove_file(world.film_path()).unwrap();
    let (read, ended) = world.cat(&film).await;
    assert!(read.is_empty() && ended.unwrap_err().exit == Exit::NotFound);
}

#[tokio::test]
async fn a_link_that_led_to_the_tree_may_lead_elsewhere_later() {
    let world = World::new().alone();
    let way = world.dir.path().join("way");
    std::os::unix::fs::symlink("tree", &way).unwrap();
    let root = world.add(&way, true).await.unwrap();
    fs::remove_file(&way).unwrap();
    std::os::unix::fs::symlink("cache", &way).unwrap();
    let (read, ended) = world.cat(&format!("{root}/below/film")).await;
    assert!(ended.is_ok() && read == world.film);
}

#[tokio::test]
async fn a_pin_that_is_removed_takes_its_references_along_and_leaves_the_files() {
    let world = World::new();
    let root = world.add(&world.tree, true).await.unwrap();
    let store = world.store().await;
    // The film's nine leaves and the greeting; what is empty lies nowhere.
    assert_eq!((store.usage().referenced_blocks, store.usage().referenced_bytes), (10, FILM_LEN as u64 + 11));
    store.close().await;
    let unpin = PinCommand::Rm { cid: root.clone(), api: None };
    import::run_pin(&world.config, &unpin, Output::Human, std::future::pending(), &mut Vec::new()).await.unwrap();
    assert_eq!(world.store().await.usage().referenced_blocks, 0);
    assert!(fs::read(world.film_path()).unwrap() == world.film);
}

#[tokio::test]
async fn what_cannot_be_added_in_place_is_refused_in_plain_words() {
    let world = World::new();
    let command = Add { path: world.tree.clone(), cid_version: 0, chunker: None, in_place: true, api: None };
    let refused = add::run(&world.config, &command, Output::Human, std::future::pending(), &mut Vec::new()).await;
    let failure = refused.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.message.starts_with("--in-place needs CIDs of version 1"), "{failure}");
    let failure = world.add(Path::new("/dev/null"), true).await.unwrap_err();
    assert!(failure.exit == Exit::Usage && failure.message.starts_with("/dev/null: no regular file"), "{failure}");
    assert_eq!(world.add(&world.dir.path().join("nothing"), true).await.unwrap_err().exit, Exit::NotFound);
    assert_eq!(world.store().await.usage().referenced_blocks, 0);
}

/// Begins to add a file in small blocks, and says how it is called in the end.
async fn begin(pins: &Pins, path: &Path) -> (Intake, Cid) {
    let mut intake = Intake::new(pins);
    let mut builder = FileBuilder::new(Profile { chunk_bytes: 4096, ..Profile::V1_2025 });
    let origin = Arc::new(Origin::new(path, &fs::metadata(path).unwrap()).unwrap());
    builder.push(&fs::read(path).unwrap());
    let (built, mut offset) = (builder.finish(), 0);
    let blocks = std::iter::from_fn(|| builder.poll_block());
    for block in blocks.filter(|block| block.cid.codec() == Codec::Raw.code()) {
        let len = block.bytes.len() as u64;
        intake.refer(&block.cid, block.bytes, &origin, offset).await.unwrap();
        offset += len;
    }
    (intake, built.cid)
}

#[tokio::test]
async fn what_was_interrupted_or_broken_off_leaves_no_reference() {
    let world = World::new();
    let store = world.store().await;
    let pins = Pins::new(store.clone());
    let (interrupted, _) = begin(&pins, &world.film_path()).await;
    assert!(store.usage().referenced_blocks > 1000);
    drop(interrupted);
    assert_eq!((store.usage().referenced_blocks, store.pinned_roots()), (0, vec![]));

    // Its nodes were never put, so the DAG is not whole.
    let (unfinished, root) = begin(&pins, &world.film_path()).await;
    assert!(unfinished.finish(&[root], false).await.is_err());
    assert_eq!((store.usage().referenced_blocks, store.pinned_roots()), (0, vec![]));
    store.close().await;
    assert_eq!(world.store().await.usage().referenced_blocks, 0);
}

async fn started(config: &Config) -> App {
    App::build(config, Listeners::bind(config).unwrap()).await.unwrap()
}

/// Asks a gateway by its address, which is an origin of nobody's.
async fn get(app: &App, path: &str, range: Option<(usize, usize)>) -> Answer {
    let (to, range) = (app.addresses()[0], range.map(|(first, last)| format!("bytes={first}-{last}")));
    let host = to.to_string();
    let mut headers = vec![("Host", host.as_str())];
    headers.extend(range.as_deref().map(|range| ("Range", range)));
    send(to, "GET", path, &headers, b"").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_on_the_same_cache_serves_ranges_of_it_and_no_wrong_byte() {
    let mut world = World::new();
    world.config.deadlines.stall = Span::from_secs(2);
    let root = world.add(&world.tree, true).await.unwrap();
    let app = started(&world.config).await;
    let film = format!("/ipfs/{root}/below/film");
    for (first, last) in [(0, 0), (MIB - 1, MIB), (100, 3 * MIB), (FILM_LEN - 5, FILM_LEN - 1)] {
        let answer = get(&app, &film, Some((first, last))).await;
        assert_eq!((answer.status, answer.clean), (206, true), "{first}-{last}");
        assert!(answer.body == world.film[first..=last], "{first}-{last}");
    }
    world.alter(5);
    let answer = get(&app, &format!("{film}?wait=1"), Some((5 * MIB + 500, 5 * MIB + 600))).await;
    assert!(answer.status >= 500, "a block that changed is not served: {}", answer.status);
    let answer = get(&app, &format!("{film}?wait=1"), None).await;
    assert!(!answer.clean && world.film.starts_with(&answer.body), "the stream is cut before it");
    let answer = get(&app, &film, Some((6 * MIB, 7 * MIB))).await;
    assert!(answer.status == 206 && answer.body == world.film[6 * MIB..=7 * MIB], "its neighbours are as they were");
    app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_fetch_what_was_added_in_place() {
    let world = World::new();
    let root = world.add(&world.tree, true).await.unwrap();
    let store = world.store().await;
    let giving = ipfs::start_delivery(&world.config, &store, &Denylists::default()).await.unwrap();
    let node = giving.node().unwrap();
    let provider = format!("{}/p2p/{}", node.listeners()[0], node.peer_id());

    let mut config = offline();
    config.cache.dir = world.dir.path().join("another-cache");
    let app = started(&config).await;
    let film = format!("/ipfs/{root}/below/film?provider={provider}");
    let answer = get(&app, &film, Some((MIB + 1, 3 * MIB))).await;
    assert!(answer.status == 206 && answer.body == world.film[MIB + 1..=3 * MIB], "{}", answer.status);
    world.alter(5);
    let answer = get(&app, &format!("{film}&wait=2"), Some((5 * MIB, 5 * MIB + 10))).await;
    assert!(answer.status >= 500, "{}", answer.status);
    let answer = get(&app, &film, Some((7 * MIB, FILM_LEN - 1))).await;
    assert!(answer.status == 206 && answer.body == world.film[7 * MIB..], "{}", answer.status);
    app.shutdown(Duration::from_secs(1)).await;
    giving.shutdown(Instant::now() + Duration::from_secs(2)).await;
    store.close().await;
}
