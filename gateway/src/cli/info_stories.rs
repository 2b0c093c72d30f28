//! `swarmgate info` where no gateway runs: of torrents by file, by magnet and from peers, and of what IPFS has.

use std::future::pending;
use std::path::Path;

use serde_json::Value;
use swarmgate_bittorrent_proto::metainfo::{TorrentBuilder, hash_pieces};
use swarmgate_config::Config;

use super::Exit;
use super::args::{Info, Output};
use super::info::run;
use super::source::Failure;
use super::testing::{FilmOfIpfs, noise};
use crate::demo::{Seeder, offline};

/// Runs the command; what it says is for people, or for programs.
async fn info(config: &Config, uri: &str, alone: bool, output: Output) -> Result<String, Failure> {
    let command = Info { uri: uri.to_owned(), offline: alone, api: None };
    let mut out = Vec::new();
    run(config, &command, output, pending(), &mut out).await?;
    Ok(String::from_utf8(out).unwrap())
}

async fn document(config: &Config, uri: &str, alone: bool) -> Value {
    serde_json::from_str(&info(config, uri, alone, Output::Json).await.unwrap()).unwrap()
}

/// A configuration by which no gateway runs.
fn nobody(dir: &Path) -> Config {
    let mut config = offline();
    config.cache.dir = dir.join("cache");
    config
}

#[tokio::test]
async fn a_torrent_file_tells_all_that_it_says_and_nobody_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let files = vec![(vec!["a.mkv".to_owned()], 100_000), (vec!["b".to_owned(), "c.txt".to_owned()], 7)];
    let builder = TorrentBuilder::multi_file("films", files, 32768, hash_pieces(&noise(100_007), 32768))
        .with_trackers(vec![vec!["http://t.example/announce".to_owned()]])
        .with_web_seeds(vec!["https://w.example/".to_owned()])
        .with_comment("a comment\nof two lines");
    let metainfo = builder.build().unwrap();
    let path = dir.path().join("films.torrent");
    std::fs::write(&path, metainfo.to_torrent()).unwrap();
    let (config, uri) = (nobody(dir.path()), path.display().to_string());
    for alone in [true, false] {
        let told = document(&config, &uri, alone).await;
        assert_eq!(told["infohash"], metainfo.infohash.to_string());
        assert_eq!((&told["name"], &told["len"], &told["private"]), (&"films".into(), &100_007.into(), &false.into()));
        assert_eq!((&told["piece_len"], &told["pieces"]), (&32768.into(), &4.into()));
        assert_eq!(told["trackers"][0], "http://t.example/announce");
        assert_eq!(told["web_seeds"][0], "https://w.example/");
        assert_eq!(told["files"][0], serde_json::json!({ "index": 0, "path": "a.mkv", "len": 100_000 }));
        let page = info(&config, &uri, alone, Output::Human).await.unwrap();
        for words in
            ["in 2 files", "4 of 32.00 KiB", "private    no", "tracker    http://t.example/announce", "a comment"]
        {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert!(page.contains("b/c.txt") && page.contains("a comment\u{fffd}of two"), "one line each: {page}");
    }
    let failure = info(&config, "https://t.example/films.torrent", true, Output::Human).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
    assert!(!config.cache.dir.exists(), "nothing was opened for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_magnet_tells_what_it_says_and_its_peers_tell_the_rest() {
    let (seeder, dir) = (Seeder::start().await.unwrap(), tempfile::tempdir().unwrap());
    let config = nobody(dir.path());
    let uri = format!("magnet:?{}&dn=a+name&tr=udp%3A%2F%2F127.0.0.1%3A9", seeder.magnet_query());
    let told = document(&config, &uri, true).await;
    assert_eq!((&told["name"], &told["files"]), (&"a name".into(), &Value::Null));
    assert_eq!(told["trackers"][0], "udp://127.0.0.1:9");
    let page = info(&config, &uri, true, Output::Human).await.unwrap();
    assert!(page.contains("not known without its metadata"), "{page}");
    let told = document(&config, &uri, false).await;
    assert_eq!((&told["name"], &told["pieces"]), (&"swarmgate-demo.bin".into(), &97.into()));
    assert_eq!(told["files"][0]["len"], told["len"]);
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_content_of_ipfs_tells_its_codec_its_size_and_its_links() {
    let FilmOfIpfs { root, film, server, .. } = FilmOfIpfs::serve(3_000_000).await;
    let dir = tempfile::tempdir().unwrap();
    let (config, uri) = (server.config(&dir.path().join("cache")), root.to_string());

    let told = document(&config, &uri, true).await;
    assert_eq!((&told["codec"], &told["hash"], &told["kind"]), (&"dag-pb".into(), &"sha2-256".into(), &Value::Null));
    assert!(server.asked().is_empty(), "offline nobody is asked");
    let failure = info(&config, &format!("{uri}/film.mkv"), true, Output::Human).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NotFound, "{failure}");
    let failure = info(&config, "/ipns/site.example", true, Output::Human).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");

    let told = document(&config, &uri, false).await;
    assert_eq!((&told["kind"], &told["links"]), (&"directory".into(), &serde_json::json!([film.to_string()])));
    let page = info(&config, &format!("{uri}/film.mkv"), false, Output::Human).await.unwrap();
    assert!(page.starts_with(&format!("{film}\ncodec      dag-pb\n")), "{page}");
    assert!(
        page.contains("what       file\n") && page.contains("(3000000 bytes)") && page.contains("links      3\n"),
        "{page}"
    );
    assert_eq!(document(&config, &uri, true).await["kind"], "directory", "now it is in the cache");
}
