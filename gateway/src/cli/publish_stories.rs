//! What becomes of a folder that is published: for whoever does it, for clients of the gateway that serves it by either
//! name, and for those who change the folder afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_bittorrent_proto::metainfo::{Metainfo, hash_pieces};
use swarmgate_config::{Config, Size, Span};
use swarmgate_content::ContentId;
use swarmgate_hybrid::BindingBook;
use swarmgate_hybrid::manifest::SignedManifest;
use swarmgate_hybrid_rules::{Authority, Name};
use swarmgate_ipfs_proto::block::hash_of;
use swarmgate_store::{Store, StoreOptions};
use tempfile::TempDir;

use super::args::{Add, Output, Publish, Torrent};
use super::source::Failure;
use super::testing::noise;
use super::{Exit, add, publish};
use crate::app::App;
use crate::demo::offline;
use crate::links::encode_path;
use crate::listeners::Listeners;
use crate::testing::{Answer, send};

const PIECE: usize = 64 << 10;
/// The files, in the torrent's order.
const FILES: [(&str, usize); 6] = [
    ("a film with spaces.mkv", 3 * 1024 * 1024 + 777),
    ("deep/er/ünïcode ☃.txt", 10_000),
    ("empty", 0),
    ("exactly one piece", PIECE),
    ("small 1", 1),
    ("small 2", 2),
];

struct World {
    dir: TempDir,
    config: Config,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, bytes) in Self::files() {
            let path = dir.path().join("folder").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let mut config = offline();
        config.cache.dir = dir.path().join("cache");
        config.deadlines.stall = Span::from_secs(2);
        Self { dir, config }
    }

    /// Each file with its bytes, which are unlike the others'.
    fn files() -> Vec<(&'static str, Vec<u8>)> {
        let all = noise(FILES.iter().map(|(_, len)| len).sum());
        let mut rest = &all[..];
        let cut = |(path, len): (&'static str, usize)| {
            let (file, after) = rest.split_at(len);
            rest = after;
            (path, file.to_vec())
        };
        FILES.map(cut).into()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("folder")
    }

    fn command(&self, path: &Path) -> Publish {
        Publish {
            path: path.to_owned(),
            name: None,
            torrent: Torrent::Hybrid,
            piece_length: Some(Size::from_bytes(PIECE as u64)),
            tracker: vec!["http://127.0.0.1:9/announce".to_owned()],
            web_seed: vec!["https://mirror.example/pub/".to_owned()],
            copy: false,
            json: true,
            api: None,
        }
    }

    async fn publish(&self, command: &Publish) -> Result<serde_json::Value, Failure> {
        let mut out = Vec::new();
        publish::run(&self.config, command, Output::Human, std::future::pending(), &mut out).await?;
        Ok(serde_json::from_slice(&out).unwrap())
    }

    async fn store(&self) -> Store {
        let options = StoreOptions { dir: Some(self.config.cache.dir.clone()), ..StoreOptions::in_memory(64 << 20) };
        Store::open(options).await.unwrap()
    }
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

async fn get(app: &App, path: &str, range: Option<&str>) -> Answer {
    let to = app.addresses()[0];
    let host = to.to_string();
    let mut headers = vec![("Host", host.as_str())];
    headers.extend(range.map(|range| ("Range", range)));
    send(to, "GET", path, &headers, b"").await
}

fn split(path: &str) -> Vec<String> {
    path.split('/').map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_folder_is_served_by_every_name_from_where_it_lies() {
    served_by_every_name(Torrent::Hybrid).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_published_as_a_v1_torrent_is_served_by_either_name_too() {
    served_by_every_name(Torrent::V1).await;
}

/// What the pieces are of.
fn content(torrent: Torrent) -> Vec<u8> {
    let mut all: Vec<u8> = Vec::new();
    for (_, bytes) in World::files().into_iter().filter(|(_, bytes)| !bytes.is_empty()) {
        if torrent == Torrent::Hybrid {
            all.resize(all.len().next_multiple_of(PIECE), 0);
        }
        all.extend(bytes);
    }
    all
}

async fn served_by_every_name(torrent: Torrent) {
    let world = World::new();
    let published = world.publish(&Publish { torrent, ..world.command(&world.folder()) }).await.unwrap();
    let (infohash, v2, cid) =
        (text(&published["infohash"]), published["infohash_v2"].as_str(), text(&published["cid"]));
    let total: usize = FILES.iter().map(|(_, len)| len).sum();
    assert_eq!((&published["read_bytes"], &published["len"]), (&total.into(), &total.into()), "each byte once");
    assert_eq!(v2.is_some(), torrent == Torrent::Hybrid);

    let copied = World::new();
    let command = Add { path: copied.folder(), cid_version: 1, chunker: None, in_place: false, api: None };
    let mut added = Vec::new();
    add::run(&copied.config, &command, Output::Human, std::future::pending(), &mut added).await.unwrap();
    assert_eq!(cid, String::from_utf8(added).unwrap().trim(), "the CID is the one that `add` gives");

    let magnet = Magnet::parse(text(&published["magnet"])).unwrap();
    let ids = (magnet.v1.map(|id| id.to_string()), magnet.v2.map(|id| id.to_string()));
    assert_eq!(ids, (Some(infohash.to_owned()), v2.map(str::to_owned)), "it names both");
    assert_eq!(magnet.hints.trackers, [["http://127.0.0.1:9/announce"]]);
    assert_eq!(magnet.hints.web_seeds, ["https://mirror.example/pub/".to_owned(), format!("ipfs://{cid}")]);

    let store = world.store().await;
    let usage = store.usage();
    assert!(usage.bytes < 40_000, "{} bytes of {total} were copied", usage.bytes);
    store.close().await;

    let app = App::build(&world.config, Listeners::bind(&world.config).unwrap()).await.unwrap();
    let content = content(torrent);
    let ids: Vec<&str> = [infohash].into_iter().chain(v2).collect();
    for id in &ids {
        let file = get(&app, &format!("/bt/{id}.torrent"), None).await;
        let metainfo = Metainfo::parse(&file.body.into()).unwrap();
        let pieces: Vec<u8> = (0..metainfo.info.pieces.count())
            .flat_map(|index| metainfo.info.pieces.get(index).unwrap().digest().to_vec())
            .collect();
        assert_eq!(pieces, hash_pieces(&content, u32::try_from(PIECE).unwrap()));
        assert_eq!(metainfo.id.v2().map(|v2| v2.to_string()).as_deref(), v2);
        assert_eq!(metainfo.info.roots.is_some(), v2.is_some(), "with its layers");
        let item = get(&app, &format!("/api/v1/items/{id}"), None).await.json();
        assert_eq!((&item["infohash"], item["infohash_v2"].as_str()), (&published["infohash"], v2), "{item}");
        assert_eq!((&item["kept"], &item["have_bytes"]), (&true.into(), &content.len().into()), "it is seeded: {item}");
    }
    let items = get(&app, "/api/v1/items", None).await.json();
    assert_eq!(items["items"].as_array().unwrap().len(), 1, "one content: {items}");

    for (path, bytes) in World::files() {
        let path = encode_path(&split(path));
        let by_torrent = ids.iter().map(|id| format!("/bt/{id}/{path}"));
        for url in by_torrent.chain([format!("/ipfs/{cid}/{path}")]) {
            let answer = get(&app, &url, None).await;
            assert!(answer.status == 200 && answer.clean && answer.body == bytes, "{url}: {}", answer.status);
        }
    }
    let film = &World::files()[0].1;
    for root in [format!("/bt/{infohash}"), format!("/ipfs/{cid}")] {
        let answer = get(&app, &format!("{root}/a%20film%20with%20spaces.mkv"), Some("bytes=65535-1100000")).await;
        assert!(answer.status == 206 && answer.body == film[65_535..=1_100_000], "{root}");
    }
    app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_afterwards_is_not_served_wrongly() {
    let world = World::new();
    let published = world.publish(&world.command(&world.folder())).await.unwrap();
    let (infohash, cid) = (text(&published["infohash"]), text(&published["cid"]));
    let path = world.folder().join(FILES[0].0);
    let film = World::files().remove(0).1;
    let (mut other, at) = (film.clone(), 1_500_000);
    other[at] ^= 1;
    fs::write(&path, other).unwrap();
    let app = App::build(&world.config, Listeners::bind(&world.config).unwrap()).await.unwrap();
    for root in [format!("/bt/{infohash}"), format!("/ipfs/{cid}")] {
        let url = format!("{root}/a%20film%20with%20spaces.mkv?wait=1");
        let answer = get(&app, &url, Some("bytes=1500000-1500010")).await;
        assert!(answer.status >= 500, "{url}: {}", answer.status);
        let answer = get(&app, &url, None).await;
        assert!(!answer.clean && film.starts_with(&answer.body), "{url}");
        let answer = get(&app, &url, Some("bytes=0-9999")).await;
        assert!(answer.status == 206 && answer.body == film[..10_000], "{url}: its neighbours are as they were");
    }
    app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_bindings_and_the_signed_manifest_say_which_names_are_the_same_bytes() {
    let world = World::new();
    let published = world.publish(&world.command(&world.folder())).await.unwrap();
    let store = world.store().await;
    let book = BindingBook::open(store.clone()).await.unwrap();
    let id: ContentId = text(&published["infohash"]).parse().unwrap();
    let film: ContentId = text(&published["files"][0]["cid"]).parse().unwrap();
    let mirror = "https://mirror.example/pub/folder/a%20film%20with%20spaces.mkv".to_owned();
    let others = book.others(&Name::Torrent { id, file: 0 });
    let expected = [(Name::Ipfs(film), Authority::Published), (Name::Mirror(mirror.clone()), Authority::Operator)];
    assert_eq!(others, expected);
    assert_eq!(book.others(&Name::Torrent { id, file: 1 }), [], "the padding behind it");
    let small = &published["files"][4];
    let (small, cid) =
        (u32::try_from(small["number"].as_u64().unwrap()).unwrap(), text(&small["cid"]).parse().unwrap());
    assert!(book.others(&Name::Torrent { id, file: small }).iter().any(|(name, _)| *name == Name::Ipfs(cid)));

    let manifest = text(&published["manifest"]).parse().unwrap();
    let block = store.read_all(&hash_of(&manifest).unwrap()).await.unwrap().unwrap();
    let signed = SignedManifest::read(block.as_ref()).unwrap();
    let imported: Vec<_> = signed.bindings().collect();
    assert_eq!(imported.len(), 5);
    assert!(imported.iter().all(|binding| binding.said_by == signed.authority() && binding.check().is_ok()));
    assert_eq!(signed.manifest.files[0].mirrors, [mirror]);
    let paths: Vec<String> = signed.manifest.files.iter().map(|file| file.path.join("/")).collect();
    assert_eq!(paths, FILES.map(|(path, _)| path));
}

#[tokio::test]
async fn what_cannot_be_published_is_refused_in_plain_words() {
    let world = World::new();
    let refuse = async |command: &Publish, exit: Exit, what: &str| {
        let failure = world.publish(command).await.unwrap_err();
        assert!(failure.exit == exit && failure.message.contains(what), "{failure}");
    };
    let sound = world.command(&world.folder());
    let odd = Publish { piece_length: Some(Size::from_bytes(100_000)), ..sound.clone() };
    refuse(&odd, Exit::Usage, "pieces have a power of two").await;
    let tracker = Publish { tracker: vec!["tracker.example".to_owned()], ..sound.clone() };
    refuse(&tracker, Exit::Usage, "tracker tracker.example: has to be a URL of http").await;
    let seed = Publish { web_seed: vec!["ftp://mirror.example/".to_owned()], ..sound.clone() };
    refuse(&seed, Exit::Usage, "web seed ftp://mirror.example/: has to be a URL of http").await;
    let missing = Publish { path: world.dir.path().join("nothing"), ..sound.clone() };
    refuse(&missing, Exit::NotFound, "nothing: ").await;
    let device = Publish { path: "/dev/null".into(), ..sound };
    refuse(&device, Exit::Usage, "/dev/null: no regular file").await;
    let store = world.store().await;
    assert_eq!((store.usage().referenced_blocks, store.pinned_roots()), (0, vec![]));
}

#[tokio::test]
async fn ctrl_c_publishes_nothing_and_the_same_command_goes_on() {
    let world = World::new();
    let command = world.command(&world.folder());
    let ended = publish::run(&world.config, &command, Output::Human, std::future::ready(()), &mut Vec::new()).await;
    let failure = ended.unwrap_err();
    assert!(failure.exit == Exit::Interrupted && failure.message.contains("the same command goes on"), "{failure}");
    let store = world.store().await;
    let roots = store.pinned_roots();
    assert!(roots.iter().all(|root| root.starts_with("publish-hold:")), "{roots:?}");
    store.close().await;
    let published = world.publish(&command).await.unwrap();
    let store = world.store().await;
    let mut roots = store.pinned_roots();
    roots.sort();
    let [manifest, cid] = ["manifest", "cid"].map(|key| format!("ipfs:{}", text(&published[key])));
    let mut expected = vec![manifest, cid, format!("publish:{}", text(&published["infohash"]))];
    expected.sort();
    assert_eq!(roots, expected, "nothing is held any more");
}

#[tokio::test]
async fn people_are_told_the_names_and_where_to_find_them() {
    let world = World::new();
    let path = world.folder().join("small 2");
    let command = Publish { json: false, web_seed: Vec::new(), tracker: Vec::new(), ..world.command(&path) };
    let mut out = Vec::new();
    publish::run(&world.config, &command, Output::Human, std::future::pending(), &mut out).await.unwrap();
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let [infohash, v2, cid, manifest, magnet, bt, ipfs, x] = lines[..] else { panic!("{out}") };
    let v2 = v2.strip_prefix("v2       ").unwrap();
    let (infohash, cid) = (infohash.strip_prefix("infohash ").unwrap(), cid.strip_prefix("cid      ").unwrap());
    let manifest = manifest.strip_prefix("manifest ").unwrap();
    assert_eq!(magnet, format!("magnet:?xt=urn:btih:{infohash}&xt=urn:btmh:1220{v2}&dn=small%202&xs=ipfs://{cid}"));
    assert!(bt.ends_with(&format!("/bt/{infohash}/small%202")), "{bt}");
    assert!(ipfs.ends_with(&format!("/ipfs/{cid}?filename=small%202")), "{ipfs}");
    assert!(x.ends_with(&format!("/x/{manifest}/")), "{x}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gateway_publishes_what_lies_in_the_directories_that_it_may() {
    let mut world = World::new();
    fs::create_dir(world.dir.path().join("private")).unwrap();
    fs::write(world.dir.path().join("private/key"), "secret").unwrap();
    std::os::unix::fs::symlink(world.dir.path().join("private"), world.folder().join("way")).unwrap();
    world.config.publish.dirs = vec![world.folder()];
    let app = App::build(&world.config, Listeners::bind(&world.config).unwrap()).await.unwrap();
    let to = app.addresses()[0];
    let host = to.to_string();
    let headers = [("Host", host.as_str()), ("Content-Type", "application/json")];
    let post = async |path: &Path| {
        let body = serde_json::json!({ "path": path, "piece_len": PIECE }).to_string();
        send(to, "POST", "/api/v1/publish", &headers, body.as_bytes()).await
    };
    for outside in ["private", "private/key", "folder/way/key", "folder/../private/key", "nothing"] {
        let answer = post(&world.dir.path().join(outside)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (403, "publish-refused"), "{outside}");
    }
    let odd = serde_json::json!({ "path": world.folder(), "torrent": "v3" }).to_string();
    let odd = send(to, "POST", "/api/v1/publish", &headers, odd.as_bytes()).await;
    assert!(odd.status == 400 && odd.text().contains("hybrid"), "{}", odd.text());
    let begun = post(&world.folder()).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let job = begun.header("location").unwrap().to_owned();
    let done = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let now = get(&app, &job, None).await.json();
            if now["state"] != "running" {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let done = done.await.unwrap();
    assert_eq!((&done["state"], &done["done_bytes"]), (&"done".into(), &done["total_bytes"]), "{done}");
    let result = &done["result"];
    let (infohash, manifest) = (text(&result["infohash"]), text(&result["manifest"]));
    let item = get(&app, &format!("/api/v1/items/{infohash}"), None).await.json();
    assert_eq!((&item["kept"], &item["have_bytes"]), (&true.into(), &item["total_len"]), "it is seeded: {item}");

    // By the manifest, and by the torrent, to the same bytes.
    for object in [manifest, infohash, text(&result["infohash_v2"])] {
        let answer = get(&app, &format!("/x/{object}/exactly%20one%20piece"), None).await;
        assert_eq!(answer.status, 307);
        let location = answer.header("location").unwrap();
        assert!(location.starts_with(&format!("/bt/{infohash}/exactly%20one%20piece")), "{location}");
        assert!(get(&app, location, None).await.body == World::files()[3].1);
    }
    let shown = get(&app, &format!("/x/{manifest}/?format=json"), None).await.json();
    assert_eq!((&shown["infohash"], &shown["cid"]), (&result["infohash"], &result["cid"]));
    let stranger = "ab".repeat(20);
    let film = text(&result["files"][0]["cid"]);
    for (object, status) in [(stranger.as_str(), 404), (film, 422), ("nothing", 400)] {
        assert_eq!(get(&app, &format!("/x/{object}/"), None).await.status, status, "{object}");
    }
    app.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_may_be_published_over_the_api_unless_the_operator_says_where() {
    let world = World::new();
    let app = App::build(&world.config, Listeners::bind(&world.config).unwrap()).await.unwrap();
    let host = app.addresses()[0].to_string();
    let headers = [("Host", host.as_str()), ("Content-Type", "application/json")];
    let body = serde_json::json!({ "path": world.folder() }).to_string();
    let answer = send(app.addresses()[0], "POST", "/api/v1/publish", &headers, body.as_bytes()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "publish-refused"));
    app.shutdown(Duration::from_secs(1)).await;
}
