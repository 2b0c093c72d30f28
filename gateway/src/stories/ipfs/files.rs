//! Files and directories by path: every byte asked for, in what it is and as what it is named.

use super::world::{Dag, IpfsWorld, Setting, noise, world};
use crate::auth::TokenHash;
use crate::state::HttpOptions;

#[tokio::test]
async fn a_file_of_many_blocks_is_itself() {
    let world = world().await;
    let bytes = noise(50_000);
    let dag = Dag::directory(&[("film.mkv", &Dag::file(&bytes)), ("empty.txt", &Dag::file(b""))]);
    world.keep(&dag).await;
    let root = dag.cid();
    let answer = world.get(&format!("/ipfs/{root}/film.mkv")).await;
    assert_eq!((answer.status, answer.clean), (200, true));
    assert!(answer.body == bytes);
    let film = Dag::file(&bytes).cid();
    for (name, value) in [
        ("etag", format!("\"{film}\"")),
        ("content-type", "video/x-matroska".to_owned()),
        ("content-length", "50000".to_owned()),
        ("accept-ranges", "bytes".to_owned()),
        ("cache-control", "public, max-age=29030400, immutable".to_owned()),
        ("x-ipfs-path", format!("/ipfs/{root}/film.mkv")),
        ("x-ipfs-roots", format!("{root},{film}")),
        ("x-content-type-options", "nosniff".to_owned()),
    ] {
        assert_eq!(answer.header(name), Some(value.as_str()), "{name}");
    }
    let empty = world.get(&format!("/ipfs/{root}/empty.txt")).await;
    assert_eq!((empty.status, empty.header("content-length"), empty.body.len()), (200, Some("0"), 0));
}

#[tokio::test]
async fn ranges_give_their_bytes_alone_and_need_their_blocks_alone() {
    let world = world().await;
    let bytes = noise(20_000);
    let dag = Dag::file(&bytes);
    // A leaf in the middle is nowhere: the tenth KiB.
    let missing = Dag::file(&bytes[9 * 1024..10 * 1024]).cid();
    for block in dag.blocks.iter().filter(|block| block.cid != missing) {
        world.keep_block(block).await;
    }
    let url = format!("/ipfs/{}?filename=a.bin", dag.cid());
    let range = async |range: &str| world.send("GET", &url, &[("Range", range)]).await;
    for (asked, expected, said) in [
        ("bytes=0-0", &bytes[..1], "bytes 0-0/20000"),
        ("bytes=997-1100", &bytes[997..1101], "bytes 997-1100/20000"),
        ("bytes=-5", &bytes[19_995..], "bytes 19995-19999/20000"),
        ("bytes=10240-", &bytes[10_240..], "bytes 10240-19999/20000"),
    ] {
        let answer = range(asked).await;
        assert_eq!((answer.status, answer.header("content-range")), (206, Some(said)), "{asked}");
        assert!(answer.clean && answer.body == expected, "{asked}");
        assert_eq!(answer.header("etag"), Some(format!("\"{}\"", dag.cid()).as_str()), "it is of the same file");
    }
    let parts = range("bytes=6-16,0-4").await;
    assert_eq!(parts.status, 206);
    assert!(parts.header("content-type").unwrap().starts_with("multipart/byteranges; boundary="));
    for piece in [
        &b"Content-Range: bytes 0-4/20000\r\n\r\n"[..],
        &bytes[0..5],
        b"Content-Range: bytes 6-16/20000",
        &bytes[6..17],
    ] {
        assert!(parts.body.windows(piece.len()).any(|window| window == piece), "{piece:?}");
    }
    let past = range("bytes=20000-").await;
    assert_eq!((past.status, past.header("content-range")), (416, Some("bytes */20000")));
}

#[tokio::test]
async fn a_head_is_the_headers_of_the_whole() {
    let world = world().await;
    let dag = Dag::file(&noise(5000));
    world.keep(&dag).await;
    let answer = world.send("HEAD", &format!("/ipfs/{}", dag.cid()), &[("Range", "bytes=0-1")]).await;
    assert_eq!((answer.status, answer.header("content-length"), answer.body.len()), (200, Some("5000"), 0));
}

#[tokio::test]
async fn clients_that_have_it_get_no_bytes() {
    let world = world().await;
    let index = Dag::file(b"<p>hello</p>");
    let site = Dag::directory(&[("index.html", &index)]);
    let plain = Dag::directory(&[("a", &index), ("site", &site)]);
    world.keep(&plain).await;
    let has = async |path: &str, tag: &str| world.send("GET", path, &[("If-None-Match", tag)]).await;
    let file = format!("/ipfs/{}/a", plain.cid());
    let tag = format!("\"{}\"", index.cid());
    for tag in [tag.clone(), format!("W/{tag}"), "*".to_owned(), format!("\"x\", \"y\", {tag}")] {
        let answer = has(&file, &tag).await;
        assert_eq!((answer.status, answer.body.len()), (304, 0), "{tag}");
        assert!(answer.header("etag").is_some() && answer.header("cache-control").is_some());
    }
    assert_eq!(has(&file, "\"x\"").await.status, 200);
    // The index stands for its directory, by the directory's tag.
    let site_url = format!("/ipfs/{}/", site.cid());
    assert_eq!(world.get(&site_url).await.header("etag"), Some(format!("\"{}\"", site.cid()).as_str()));
    assert_eq!(has(&site_url, &format!("\"{}\"", site.cid())).await.status, 304);
    let listing = format!("/ipfs/{}/", plain.cid());
    let tag = world.get(&listing).await.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("\"DirIndex-") && tag.ends_with(&format!("_CID-{}\"", plain.cid())), "{tag}");
    assert_eq!(has(&listing, &tag).await.status, 304);
    assert_eq!(has(&listing, &format!("W/{tag}")).await.status, 304);
}

#[tokio::test]
async fn a_directory_gets_its_slash_then_its_index_or_a_listing() {
    let world = world().await;
    let hello = Dag::file(b"hello\n");
    let inner = Dag::directory(&[("file-źł.txt", &hello)]);
    let outer = Dag::directory(&[("ę", &inner)]);
    let root = Dag::directory(&[("ą", &outer), ("site", &Dag::directory(&[("index.html", &hello)]))]);
    world.keep(&root).await;
    let cid = root.cid();
    let answer = world.get(&format!("/ipfs/{cid}/%C4%85/%C4%99?x=1")).await;
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), Some(format!("/ipfs/{cid}/%C4%85/%C4%99/?x=1").as_str()));
    let answer = world.get(&format!("/ipfs/{cid}/%C4%85/%C4%99/")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(answer.text().contains(">file-źł.txt</a>"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=604800, stale-while-revalidate=2678400"));
    let answer = world.get(&format!("/ipfs/{cid}/site/")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("x-ipfs-roots").unwrap().split(',').count(), 2, "roots end at the directory");
    let missing = world.get(&format!("/ipfs/{cid}/%C4%85/none")).await;
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("no link named \"none\""), "{}", missing.text());
}

#[tokio::test]
async fn a_sharded_directory_is_a_directory() {
    let world = world().await;
    let hello = Dag::file(b"hello\n");
    let names: Vec<_> = (0..600).map(|number| format!("{number:03}.txt")).collect();
    let entries: Vec<_> = names.iter().map(|name| (name.as_str(), &hello)).collect();
    let root = Dag::sharded(&entries);
    world.keep(&root).await;
    assert_eq!(world.get(&format!("/ipfs/{}/417.txt", root.cid())).await.text(), "hello\n");
    let listing = world.get(&format!("/ipfs/{}/", root.cid())).await.text();
    let at = |name: &str| listing.find(&format!(">{name}</a>")).unwrap_or_else(|| panic!("{name} is missing"));
    assert!(names.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])), "by name, not by shard");
}

#[tokio::test]
async fn symlinks_on_the_way_are_followed_within_the_dag() {
    let world = world().await;
    let file = Dag::file(b"content\n");
    let (built, block) = swarmgate_ipfs_proto::build::symlink(&super::world::PROFILE, b"foo");
    let link = Dag { blocks: vec![block], built };
    let (built, block) = swarmgate_ipfs_proto::build::symlink(&super::world::PROFILE, b"../../etc/passwd");
    let out = Dag { blocks: vec![block], built };
    let (built, block) = swarmgate_ipfs_proto::build::symlink(&super::world::PROFILE, b"dir");
    let up = Dag { blocks: vec![block], built };
    let dir = Dag::directory(&[("foo", &file)]);
    let root = Dag::directory(&[("dir", &dir), ("bar", &link), ("out", &out), ("up", &up)]);
    world.keep(&root).await;
    assert_eq!(world.get(&format!("/ipfs/{}/up/foo", root.cid())).await.text(), "content\n");
    assert_eq!(world.get(&format!("/ipfs/{}/out/x", root.cid())).await.status, 404);
    let own = world.get(&format!("/ipfs/{}/bar", root.cid())).await;
    assert_eq!((own.status, own.text().as_str()), (200, "foo"), "at the end of a path it is itself");
    assert_eq!(own.header("content-type"), Some("inode/symlink"));
}

#[tokio::test]
async fn names_are_decoded_once() {
    let world = world().await;
    let file = Dag::file(b"hello\n");
    let root = Dag::directory(&[("Portugal%2C+España=Peninsula Ibérica.txt", &file)]);
    world.keep(&root).await;
    let path = format!("/ipfs/{}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt", root.cid());
    assert_eq!(world.get(&path).await.text(), "hello\n");
}

#[tokio::test]
async fn files_without_a_telling_name_are_known_by_their_first_bytes() {
    let world = world().await;
    for (bytes, expected) in [
        (&b"{ \"test\": \"i am a plain json file\" }\n"[..], "application/json"),
        (b"hello\n", "text/plain; charset=utf-8"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\0\x01", "application/octet-stream"),
    ] {
        let dag = Dag::file(bytes);
        world.keep(&dag).await;
        let answer = world.get(&format!("/ipfs/{}", dag.cid())).await;
        assert_eq!(answer.header("content-type"), Some(expected));
        let named = world.get(&format!("/ipfs/{}?filename=x.mp4&download=true", dag.cid())).await;
        assert_eq!(named.header("content-type"), Some("video/mp4"), "a name outranks bytes");
        assert!(named.header("content-disposition").unwrap().starts_with("attachment; filename=\"x.mp4\""));
    }
}

#[tokio::test]
async fn documents_that_share_an_origin_are_put_into_a_sandbox() {
    let world = world().await;
    let dag = Dag::directory(&[("page.html", &Dag::file(b"<script>alert(1)</script>"))]);
    world.keep(&dag).await;
    let answer = world.get(&format!("/ipfs/{}/page.html", dag.cid())).await;
    assert!(answer.header("content-security-policy").unwrap().starts_with("sandbox"));
}

#[tokio::test]
async fn identity_cids_need_no_block() {
    let world = world().await;
    assert_eq!(world.get("/ipfs/bafkqabtimvwgy3yk").await.text(), "hello\n");
    let probe = world.get("/ipfs/bafkqaaa?format=raw").await;
    assert_eq!((probe.status, probe.body.len()), (200, 0));
    assert_eq!(world.send("HEAD", "/ipfs/bafkqaaa", &[]).await.status, 200);
}

#[tokio::test]
async fn what_is_no_path_is_refused_before_anything_is_looked_up() {
    let world = world().await;
    let dag = Dag::file(b"x");
    for (path, problem) in [
        ("/ipfs/QmInvalidCID".to_owned(), "bad-content-path"),
        ("/ipns/nodots".to_owned(), "bad-content-path"),
        ("/ipfs/".to_owned(), "bad-content-path"),
        ("/ipfs/?uri=https://x.example".to_owned(), "bad-content-path"),
        (format!("/ipfs/{}/..", dag.cid()), "bad-path"),
        (format!("/ipfs/{}?wait=x", dag.cid()), "bad-query"),
    ] {
        let answer = world.accept(&path, "application/json").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, problem), "{path}");
    }
    let words = world.get("/ipfs/QmInvalidCID").await;
    assert_eq!(words.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(words.text().contains("invalid path \"/ipfs/QmInvalidCID\""));
}

#[tokio::test]
async fn pasted_paths_and_registered_handlers_lead_to_content() {
    let world = world().await;
    let cid = Dag::file(b"x").cid();
    for (path, location) in [
        (format!("/ipfs/ipfs/{cid}/a?x=1"), format!("/ipfs/{cid}/a?x=1")),
        ("/ipfs/ipns/x.example/".to_owned(), "/ipns/x.example/".to_owned()),
        (format!("/ipfs/?uri=ipfs%3A%2F%2F{cid}%2Fwiki%2Fx.html"), format!("/ipfs/{cid}/wiki/x.html")),
        ("/ipns/?uri=ipns://x.example".to_owned(), "/ipns/x.example".to_owned()),
    ] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, answer.header("location")), (301, Some(location.as_str())), "{path}");
    }
}

#[tokio::test]
async fn what_is_pasted_on_the_start_page_leads_there() {
    let world = world().await;
    for (pasted, location) in [
        ("bafkqabtimvwgy3yk", "/ipfs/bafkqabtimvwgy3yk"),
        ("ipfs://bafkqabtimvwgy3yk/a%20b", "/ipfs/bafkqabtimvwgy3yk/a%20b"),
        ("/ipns/x.example/", "/ipns/x.example/"),
    ] {
        let answer = world.get(&format!("/open?uri={}", crate::links::encode(pasted))).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(location)), "{pasted}");
    }
}

#[tokio::test]
async fn scripts_of_any_origin_may_read_and_ask() {
    let world = world().await;
    for method in ["GET", "OPTIONS"] {
        let answer = world.send(method, "/ipfs/bafkqabtimvwgy3yk", &[("Origin", "http://x.example")]).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{method}");
        let has = |name: &str, words: &[&str]| {
            let list = answer.header(name).unwrap();
            words.iter().all(|word| list.split(", ").any(|it| it == *word))
        };
        assert!(has("access-control-allow-methods", &["GET", "HEAD", "OPTIONS"]), "{method}");
        assert!(has("access-control-allow-headers", &["Content-Type", "Range", "User-Agent", "X-Requested-With"]));
        assert!(has(
            "access-control-expose-headers",
            &["Content-Range", "X-Ipfs-Path", "X-Ipfs-Roots", "X-Stream-Output"]
        ));
    }
    let wrong = world.send("POST", "/ipfs/bafkqabtimvwgy3yk", &[]).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[tokio::test]
async fn a_service_worker_cannot_take_over_the_gateway() {
    let world = world().await;
    let script = [("Service-Worker", "script")];
    assert_eq!(world.send("GET", "/ipfs/bafkqabtimvwgy3yk", &script).await.status, 400);
    assert_eq!(world.send("GET", "/ipfs/bafkqabtimvwgy3yk/", &script).await.status, 200);
}

#[tokio::test]
async fn a_token_guards_ipfs_as_all_content() {
    let options = HttpOptions {
        token: Some(TokenHash::of("secret")),
        anonymous_content: crate::state::Anonymous::Never,
        ..HttpOptions::default()
    };
    let world = IpfsWorld::start(Setting { options, ..Setting::default() }).await;
    let refused = world.get("/ipfs/bafkqabtimvwgy3yk").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some("*")));
    let answer = world.send("GET", "/ipfs/bafkqabtimvwgy3yk", &[("Authorization", "Bearer secret")]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("cache-control").unwrap().starts_with("private"), "no shared cache may give it to others");
}
