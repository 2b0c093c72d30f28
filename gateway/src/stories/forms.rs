//! The address forms: every way to name a content or a file, and where each leads.

use data_encoding::BASE32;

use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Behaviour, IH, World, infohash, world};

const FILES: &[(&str, u64)] =
    &[("a/1 & 2.mkv", 900), ("a/b/notes.txt", 30), (".pad/0", 70), ("@1", 5), ("song.mp3", 50), ("a.iso", 5000)];

#[tokio::test]
async fn other_spellings_of_an_id_lead_to_the_one_canonical() {
    let world = world(FILES).await;
    let base32 = BASE32.encode(infohash().as_bytes());
    for spelling in [IH.to_uppercase(), base32.clone(), base32.to_lowercase(), format!("1114{IH}")] {
        let answer = world.get(&format!("/bt/{spelling}/a/1%20%26%202.mkv?wait=1")).await;
        assert_eq!(answer.status, 301, "{spelling}");
        assert_eq!(answer.header("location").unwrap(), format!("/bt/{IH}/a/1%20%26%202.mkv?wait=1"));
        let answer = world.get(&format!("/bt/{spelling}.torrent")).await;
        assert_eq!(answer.header("location").unwrap(), format!("/bt/{IH}.torrent"));
    }
    let answer = world.get(&format!("/bt/{IH}?format=json")).await;
    assert_eq!((answer.status, answer.header("location")), (301, Some(format!("/bt/{IH}/?format=json").as_str())));
    assert_eq!(world.resolves(), 0);
}

#[tokio::test]
async fn bad_ids_and_paths_are_refused_before_anything_is_looked_up() {
    let world = world(FILES).await;
    for (path, problem) in [
        ("/bt/xyz/".to_owned(), "bad-id"),
        (format!("/bt/{}z/", &IH[1..]), "bad-id"),
        (format!("/bt/1314{IH}/"), "bad-id"),
        (format!("/bt/{IH}/../x"), "bad-path"),
        (format!("/bt/{IH}/%2e%2e/x"), "bad-path"),
        (format!("/bt/{IH}/a//x"), "bad-path"),
        (format!("/bt/{IH}/a%00"), "bad-path"),
        (format!("/bt/{IH}/%ff"), "bad-path"),
        (format!("/bt/{IH}/?so=x"), "bad-query"),
        (format!("/bt/{IH}/?wait=x"), "bad-query"),
        ("/magnet?xt=urn:btih:zz".to_owned(), "bad-magnet"),
        ("/magnet?dn=x".to_owned(), "bad-magnet"),
        ("/torrent".to_owned(), "bad-query"),
    ] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, problem), "{path}");
    }
    assert_eq!(world.resolves(), 0);
}

#[tokio::test]
async fn a_v2_infohash_is_not_served_yet() {
    let world = world(FILES).await;
    for path in [format!("/bt/{}/", "cd".repeat(32)), format!("/magnet?xt=urn:btmh:1220{}", "cd".repeat(32))] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, answer.problem().as_str()), (501, "unsupported"), "{path}");
    }
}

#[tokio::test]
async fn files_are_found_by_path_and_by_number() {
    let world = world(FILES).await;
    for (path, index) in [
        ("a/1%20%26%202.mkv", 0),
        ("a/1 & 2.mkv".replace(' ', "%20").as_str(), 0),
        ("@0", 0),
        ("@0/any%20title.mkv", 0),
        ("@1", 1),
        ("%401", 3),
        ("song.mp3", 4),
    ] {
        let answer = world.get(&format!("/bt/{IH}/{path}")).await;
        assert!(answer.status == 200 && answer.body == world.protocol.file(index), "{path}: {}", answer.status);
    }
    for path in ["@2", "@6", "@99999999999999999999", ".pad/0", "nothing", "a/song.mp3", "song.mp3/", "a/b/c/"] {
        let answer = world.get(&format!("/bt/{IH}/{path}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "no-such-file"), "{path}");
    }
}

#[tokio::test]
async fn a_folder_has_a_listing_at_its_slash() {
    let world = world(FILES).await;
    let answer = world.get(&format!("/bt/{IH}/a/b?format=json")).await;
    assert_eq!((answer.status, answer.header("location")), (301, Some(format!("/bt/{IH}/a/b/?format=json").as_str())));
    let answer = world.get(&format!("/bt/{IH}/a/b/")).await;
    assert_eq!((answer.status, answer.json()["files"][0]["url"].as_str()), (200, Some("notes.txt")));
}

#[tokio::test]
async fn the_root_lists_all_but_padding_in_html_or_json() {
    let world = world(FILES).await;
    let json = world.get(&format!("/bt/{IH}/")).await.json();
    let urls: Vec<_> = json["files"].as_array().unwrap().iter().map(|it| it["url"].as_str().unwrap()).collect();
    assert_eq!(urls, ["a/1%20%26%202.mkv", "a/b/notes.txt", "%401", "song.mp3", "a.iso"]);
    for url in urls {
        assert_eq!(world.get(&format!("/bt/{IH}/{url}")).await.status, 200, "every link leads to its file: {url}");
    }
    let html = world.send("GET", &format!("/bt/{IH}/"), &[("Accept", "text/html")], b"").await.text();
    assert!(html.contains("href=\"a/\"") && html.contains("../../ui/style.css"), "{html}");
    let forced = world.send("GET", &format!("/bt/{IH}/?format=json"), &[("Accept", "text/html")], b"").await;
    assert_eq!(forced.header("content-location"), Some("?format=json"));
    assert_eq!(forced.json()["name"], "Test content");
}

#[tokio::test]
async fn a_listing_that_the_client_has_is_not_sent_again() {
    let world = world(FILES).await;
    let path = format!("/bt/{IH}/");
    let etag = world.get(&path).await.header("etag").unwrap().to_owned();
    assert!(etag.starts_with("W/"));
    assert_eq!(world.send("GET", &path, &[("If-None-Match", &etag)], b"").await.status, 304);
    assert_ne!(world.get(&format!("{path}?format=html")).await.header("etag"), Some(etag.as_str()));
}

#[tokio::test]
async fn playlists_have_links_that_lead_back_wherever_they_are_asked_for() {
    let world = world(FILES).await;
    for (path, link) in [
        (format!("/bt/{IH}.m3u8"), format!("\n{IH}/a/1%20%26%202.mkv\n")),
        (format!("/bt/{IH}.m3u"), format!("\n{IH}/song.mp3\n")),
        (format!("/bt/{IH}/?format=m3u8"), "\n./song.mp3\n".to_owned()),
        (format!("/bt/{IH}/a/?format=m3u8"), "\n../a/1%20%26%202.mkv\n".to_owned()),
        (format!("/bt/{IH}/a/1%20%26%202.mkv?format=m3u8"), "\n../a/1%20%26%202.mkv\n".to_owned()),
        (format!("/bt/{IH}/?format=m3u8&so=5"), "\n./a.iso\n".to_owned()),
    ] {
        let answer = world.get(&path).await;
        assert!(answer.status == 200 && answer.text().contains(&link), "{path}: {}", answer.text());
    }
    assert_eq!(world.get(&format!("/bt/{IH}/song.mp3?format=m3u8")).await.text().lines().count(), 3);
}

#[tokio::test]
async fn other_formats_name_the_whole_content() {
    let world = world(FILES).await;
    assert_eq!(world.get(&format!("/bt/{IH}.torrent")).await.body, b"d4:infod6:lengthi1eee");
    let magnet = world.get(&format!("/bt/{IH}/?format=magnet")).await.text();
    assert_eq!(magnet, format!("magnet:?xt=urn:btih:{IH}&dn=Test%20content\n"));
    assert_eq!(world.get(&format!("/bt/{IH}/song.mp3?format=json")).await.problem(), "not-acceptable");
    assert_eq!(world.get(&format!("/bt/{IH}.rar")).await.status, 406);
}

#[tokio::test]
async fn the_best_file_is_where_a_player_is_sent() {
    let answer = world(FILES).await.get(&format!("/bt/{IH}/@best?wait=2")).await;
    assert_eq!(answer.status, 307);
    assert_eq!(answer.header("location").unwrap(), format!("/bt/{IH}/a/1%20%26%202.mkv?wait=2"));
}

#[tokio::test]
async fn a_magnet_of_one_file_is_that_file_with_ranges() {
    let world = world(&[("only.mkv", 1000), (".pad/0", 24)]).await;
    let path = format!("/magnet?xt=urn:btih:{IH}&tr=http%3A%2F%2Ft.example%2Fa&x.pe=10.0.0.1:7&dn=N");
    let answer = world.range(&path, "bytes=10-19").await;
    assert_eq!((answer.status, answer.header("cache-control")), (206, Some("public, max-age=300")));
    assert!(answer.body == world.protocol.file(0)[10..20]);
    let hints = world.protocol.seen.hints.lock().pop().unwrap();
    assert_eq!(hints.trackers, [["http://t.example/a"]]);
    assert_eq!((hints.peers.len(), hints.name.as_deref()), (1, Some("N")));
}

#[tokio::test]
async fn a_magnet_of_several_files_leads_to_the_listing_or_the_one_selected() {
    let world = world(FILES).await;
    let magnet = format!("/magnet?xt=urn:btih:{}", IH.to_uppercase());
    let location = async |path: String| {
        let answer = world.get(&path).await;
        (answer.status, answer.header("location").unwrap_or_default().to_owned())
    };
    assert_eq!(location(magnet.clone()).await, (303, format!("/bt/{IH}/")));
    assert_eq!(location(format!("{magnet}&so=0,3-4")).await, (303, format!("/bt/{IH}/?so=0%2C3-4")));
    assert_eq!(location(format!("{magnet}&format=m3u8")).await, (303, format!("/bt/{IH}/?format=m3u8")));
    assert!(world.get(&format!("{magnet}&so=4")).await.body == world.protocol.file(4));
    assert_eq!(world.get(&format!("{magnet}&so=77")).await.problem(), "no-such-file");
}

#[tokio::test]
async fn hints_on_a_content_url_reach_the_network() {
    let world = world(FILES).await;
    world.get(&format!("/bt/{IH}/song.mp3?x.pe=10.0.0.1:6881&tr=udp%3A%2F%2Ft%3A1&ws=http%3A%2F%2Fw%2F")).await;
    let hints = world.protocol.seen.hints.lock().pop().unwrap();
    assert_eq!(hints.peers, ["10.0.0.1:6881".parse::<std::net::SocketAddr>().unwrap()]);
    assert_eq!((hints.trackers.len(), hints.web_seeds.len()), (1, 1));
}

#[tokio::test]
async fn a_torrent_url_is_fetched_added_and_listed() {
    let world = world(FILES).await;
    let answer = world.get("/torrent?url=https://files.example/good.torrent").await;
    assert_eq!((answer.status, answer.header("location")), (303, Some(format!("/bt/{IH}/").as_str())));
    assert!(!world.catalogue.items.lock()[&infohash()].kept);
    for (url, status, problem) in [
        ("http://x/private", 403, "torrent-url-refused"),
        ("ftp://x/good.torrent", 403, "torrent-url-refused"),
        ("file:///etc/passwd", 403, "torrent-url-refused"),
        ("http://x/large", 422, "invalid-torrent"),
        ("http://x/page", 422, "invalid-torrent"),
        ("http://x/slow", 504, "timed-out"),
        ("http://x/gone", 502, "torrent-url-failed"),
        ("nonsense", 400, "bad-query"),
    ] {
        let answer = world.get(&format!("/torrent?url={url}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{url}");
    }
}

#[tokio::test]
async fn torrent_urls_can_be_switched_off() {
    let options = HttpOptions { torrent_url_enabled: false, ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let answer = world.get("/torrent?url=https://files.example/good.torrent").await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "torrent-url-disabled"));
}

#[tokio::test]
async fn below_a_base_path_everything_works_whether_the_proxy_strips_it_or_not() {
    let options = HttpOptions { base_path: "gate/".to_owned(), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    for base in ["", "/gate"] {
        assert_eq!(world.get(&format!("{base}/bt/{IH}/song.mp3")).await.status, 200, "{base}");
        let answer = world.get(&format!("{base}/bt/{}/song.mp3", IH.to_uppercase())).await;
        assert_eq!(answer.header("location").unwrap(), format!("/gate/bt/{IH}/song.mp3"), "{base}");
        assert_eq!(world.get(&format!("{base}/")).await.status, 200, "{base}/");
        assert_eq!(world.get(&format!("{base}/ui/style.css")).await.status, 200);
        assert_eq!(world.get(&format!("{base}/api/v1/version")).await.status, 200);
        assert_eq!(world.get(&format!("{base}/nothing")).await.problem(), "no-route");
    }
    let answer = world.get("/gate").await;
    assert_eq!((answer.status, answer.header("location")), (301, Some("/gate/")));
}

#[tokio::test]
async fn what_is_pasted_on_the_start_page_leads_to_its_content() {
    let world = world(FILES).await;
    let page = world.get("/").await;
    assert!(page.status == 200 && page.text().contains("action=\"open\""));
    assert!(page.header("content-security-policy").unwrap().contains("script-src 'self'"));
    for (pasted, location) in [
        (IH.to_owned(), format!("/bt/{IH}/")),
        (format!("%20{}%20", IH.to_uppercase()), format!("/bt/{IH}/")),
        (format!("magnet%3A%3Fxt%3Durn%3Abtih%3A{IH}%26dn%3Da"), format!("/magnet?xt=urn:btih:{IH}&dn=a")),
        (
            "https%3A%2F%2Fx%2Fa.torrent%3Fb%3D1%262".to_owned(),
            "/torrent?url=https%3A%2F%2Fx%2Fa.torrent%3Fb%3D1%262".to_owned(),
        ),
    ] {
        let answer = world.get(&format!("/open?uri={pasted}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(location.as_str())), "{pasted}");
    }
    assert_eq!(world.get("/open?uri=what").await.problem(), "bad-id");
    assert_eq!(world.get("/open?uri=magnet:%3Fa%0d%0aSet-Cookie").await.problem(), "bad-magnet");
    assert_eq!(world.get("/open").await.status, 400);
}

#[tokio::test]
async fn a_folder_is_one_archive_of_a_known_length() {
    let world = world(FILES).await;
    for (path, names) in [
        ("/?format=zip", &["a/1 & 2.mkv", "a/b/notes.txt", "@1", "song.mp3", "a.iso"][..]),
        (".zip", &["a/1 & 2.mkv", "a/b/notes.txt", "@1", "song.mp3", "a.iso"]),
        ("/a/?format=zip", &["a/1 & 2.mkv", "a/b/notes.txt"]),
        ("/?format=zip&so=0,4", &["a/1 & 2.mkv", "song.mp3"]),
    ] {
        let answer = world.get(&format!("/bt/{IH}{path}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/zip")), "{path}");
        assert_eq!(answer.header("content-length").unwrap(), answer.body.len().to_string(), "{path}");
        assert_eq!(answer.header("accept-ranges"), Some("none"));
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(answer.body)).unwrap();
        assert_eq!(zip.len(), names.len(), "{path}");
        for name in names {
            let mut bytes = Vec::new();
            let mut file = zip.by_name(&format!("Test content/{name}")).unwrap();
            std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
            let (index, _) = FILES.iter().enumerate().find(|(_, (path, _))| path == name).unwrap();
            assert_eq!(bytes, world.protocol.file(index), "{name}");
        }
    }
    let tar = world.get(&format!("/bt/{IH}.tar")).await;
    assert_eq!(tar.header("content-length").unwrap(), tar.body.len().to_string());
    assert!(tar.body.windows(900).any(|bytes| bytes == world.protocol.file(0)));
    let head = world.send("HEAD", &format!("/bt/{IH}.zip"), &[], b"").await;
    assert!(head.header("content-disposition").unwrap().contains("Test content.zip"));
    let tag = head.header("etag").unwrap().to_owned();
    assert_eq!(world.send("GET", &format!("/bt/{IH}.zip"), &[("If-None-Match", &tag)], b"").await.status, 304);
    assert_eq!(world.get(&format!("/bt/{IH}/song.mp3?format=zip")).await.problem(), "not-acceptable");
}

#[tokio::test]
async fn an_archive_that_cannot_be_finished_never_looks_whole() {
    for behaviour in [
        Behaviour { fault_after: Some(4_000_000), ..Behaviour::default() },
        Behaviour { end_after: Some(4_000_000), ..Behaviour::default() },
    ] {
        let files = &[("large", 8_000_000)];
        let world = World::start(files, behaviour, HttpOptions::default(), ServeLimits::default()).await;
        let answer = world.get(&format!("/bt/{IH}.tar")).await;
        assert_eq!((answer.status, answer.clean), (200, false), "{} bytes", answer.body.len());
    }
}
