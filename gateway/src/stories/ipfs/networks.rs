//! When blocks have to come from somewhere, and when they do not; and what is not served at all.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use swarmgate_ipfs_proto::allowlist::Allowlist;
use swarmgate_ipfs_proto::block;
use swarmgate_ipfs_proto::codec::Codec;

use super::world::{Dag, IpfsWorld, Setting, noise};
use crate::policy::Admitted;
use crate::state::HttpOptions;

async fn with_source(options: HttpOptions) -> IpfsWorld {
    IpfsWorld::start(Setting { options, source: true, ..Setting::default() }).await
}

#[tokio::test]
async fn what_the_store_lacks_comes_from_a_source() {
    let world = with_source(HttpOptions::default()).await;
    let bytes = noise(30_000);
    let dag = Dag::file(&bytes);
    world.source.offer(&dag);
    let answer = world.get(&format!("/ipfs/{}?filename=a.bin", dag.cid())).await;
    assert!(answer.clean && answer.body == bytes);
}

#[tokio::test]
async fn only_if_cached_asks_nobody() {
    let world = with_source(HttpOptions::default()).await;
    let (here, there) = (Dag::file(&noise(3000)), Dag::directory(&[("a", &Dag::file(b"hello\n"))]));
    world.keep(&here).await;
    world.source.offer(&there);
    let cached = [("Cache-Control", "only-if-cached")];
    for method in ["GET", "HEAD"] {
        assert_eq!(world.send(method, &format!("/ipfs/{}", here.cid()), &cached).await.status, 200, "{method}");
        assert_eq!(world.send(method, &format!("/ipfs/{}", there.cid()), &cached).await.status, 412, "{method}");
        let raw = format!("/ipfs/{}?format=raw", there.cid());
        assert_eq!(world.send(method, &raw, &cached).await.status, 412, "{method}");
    }
    assert_eq!(world.source.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_wanted_only_from_the_cache_is_there_to_its_last_block_or_is_a_412() {
    let world = with_source(HttpOptions::default()).await;
    let bytes = noise(40 * 1024);
    let dag = Dag::file(&bytes);
    world.source.offer(&dag);
    let lacking = block::name(Codec::Raw, &bytes[20 * 1024..21 * 1024]);
    assert!(dag.blocks.iter().any(|block| block.cid == lacking), "the leaf of those bytes");
    for kept in dag.blocks.iter().filter(|block| block.cid != lacking) {
        world.keep_block(kept).await;
    }
    let (url, cached) = (format!("/ipfs/{}?filename=a.bin", dag.cid()), ("Cache-Control", "only-if-cached"));
    for (range, status) in [
        ("bytes=0-20479", 206),
        ("bytes=21504-", 206),
        ("bytes=0-9,30000-30009", 206),
        ("bytes=0-20480", 412),
        ("bytes=0-9,20480-20489", 412),
    ] {
        let answer = world.send("GET", &url, &[cached, ("Range", range)]).await;
        assert_eq!((answer.status, answer.clean), (status, true), "{range}");
    }
    for method in ["GET", "HEAD"] {
        assert_eq!(world.send(method, &url, &[cached]).await.status, 412, "{method}");
    }
    let tag = format!("\"{}\"", dag.cid());
    assert_eq!(world.send("GET", &url, &[cached, ("If-None-Match", tag.as_str())]).await.status, 304);
    assert_eq!(world.source.asked.load(Ordering::SeqCst), 0, "nobody was asked");
    world.keep(&dag).await;
    assert_eq!(world.send("HEAD", &url, &[cached]).await.status, 200);
    let whole = world.send("GET", &url, &[cached]).await;
    assert!(whole.status == 200 && whole.clean && whole.body == bytes);
    assert_eq!(world.source.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn blocks_that_do_not_come_are_waited_for_as_long_as_the_client_says() {
    let world = with_source(HttpOptions::default()).await;
    *world.source.silent_after.lock() = Some(0);
    let dag = Dag::directory(&[("a", &Dag::file(b"hello\n"))]);
    let asked = Instant::now();
    let answer = world.accept(&format!("/ipfs/{}/a?wait=1", dag.cid()), "application/json").await;
    assert_eq!((answer.status, answer.problem().as_str()), (504, "timed-out"));
    assert!(answer.header("retry-after").is_some() && asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_stream_whose_blocks_stop_to_come_is_cut() {
    let options = HttpOptions { stall: Duration::from_millis(300), ..HttpOptions::default() };
    let world = with_source(options).await;
    let bytes = noise(4 << 20);
    let dag = Dag::file(&bytes);
    world.source.offer(&dag);
    *world.source.silent_after.lock() = Some(2000);
    for format in ["raw=no", "format=car", "format=tar", "format=zip"] {
        let answer = world.get(&format!("/ipfs/{}?filename=a.bin&{format}", dag.cid())).await;
        assert_eq!((answer.status, answer.clean), (200, false), "{format}: a short body never looks whole");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_sources() {
    let world = with_source(HttpOptions::default()).await;
    let dag = Dag::file(&noise(16 << 20));
    world.source.offer(&dag);
    let path = format!("/ipfs/{}?format=car", dag.cid());
    let idle = crate::testing::request(world.address, "GET", &path, &[], b"").await;
    let asked = || world.source.asked.load(Ordering::SeqCst);
    let mut before = 0;
    while asked() == 0 || asked() != before {
        before = asked();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(asked() < dag.blocks.len() / 2, "{} of {} blocks for nobody", asked(), dag.blocks.len());
    drop(idle);
}

#[tokio::test]
async fn what_the_operator_does_not_serve_is_gone() {
    let (banned, fine) = (Dag::file(b"banned\n"), Dag::file(b"fine\n"));
    let root = Dag::directory(&[("bad.txt", &banned), ("good.txt", &fine)]);
    let denylist = format!("/ipfs/{}\n/ipns/blog.example\n/bt/{}\n", banned.cid(), "ab".repeat(20));
    for (legal, status, problem) in [(false, 410, "blocked"), (true, 451, "blocked-by-law")] {
        let world = IpfsWorld::start(Setting { denylist: denylist.clone(), legal, ..Setting::default() }).await;
        world.keep(&root).await;
        for path in [
            format!("/ipfs/{}", banned.cid()),
            format!("/ipfs/{}/bad.txt", root.cid()),
            format!("/ipfs/{}?format=raw", banned.cid()),
            "/ipns/blog.example/a".to_owned(),
            format!("/bt/{}/", "ab".repeat(20)),
        ] {
            let answer = world.accept(&path, "application/json").await;
            assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{path}");
        }
        assert_eq!(world.get(&format!("/ipfs/{}/good.txt", root.cid())).await.text(), "fine\n");
    }
}

/// Fails unless a path is refused as none of those that are served.
async fn is_not_admitted(world: &IpfsWorld, path: &str) {
    let answer = world.accept(path, "application/json").await;
    assert_eq!((answer.status, answer.problem().as_str()), (403, "not-admitted"), "{path}");
}

#[tokio::test]
async fn with_an_allowlist_what_it_names_is_served_and_nothing_else() {
    let (file, other) = (Dag::file(b"listed\n"), Dag::directory(&[("b.txt", &Dag::file(b"other\n"))]));
    let root = Dag::directory(&[("a.txt", &file)]);
    let mut list = Allowlist::default();
    for line in [root.cid().to_string(), "blog.example".to_owned()] {
        list.add(line.as_bytes()).unwrap();
    }
    let links = ["blog.example", "else.example"].map(|host| (host, format!("/ipfs/{}", other.cid()))).to_vec();
    let admitted = Admitted::listing(list);
    let setting = Setting { admitted, links, denylist: "/ipns/blog.example/x\n".to_owned(), ..Setting::default() };
    let world = IpfsWorld::start(setting).await;
    world.keep(&root).await;
    world.keep(&other).await;
    for _ in 0..2 {
        assert_eq!(world.get(&format!("/ipfs/{}/a.txt", root.cid())).await.text(), "listed\n");
    }
    assert_eq!(world.get(&format!("/ipfs/{}?format=car", root.cid())).await.status, 200);
    assert_eq!(world.get("/ipns/blog.example/b.txt").await.text(), "other\n");
    for path in [
        format!("/ipfs/{}", file.cid()),
        format!("/ipfs/{}/b.txt", other.cid()),
        format!("/ipfs/{}?format=raw", other.cid()),
        "/ipns/else.example/b.txt".to_owned(),
        format!("/bt/{}/", "ab".repeat(20)),
    ] {
        is_not_admitted(&world, &path).await;
    }
    let pin = async |root: &Dag| world.send("PUT", &format!("/api/v1/items/{}/pin", root.cid()), &[]).await;
    assert_eq!(pin(&other).await.problem(), "not-admitted", "nor is it fetched to be kept");
    assert_eq!(pin(&root).await.status, 202);
    assert_eq!(world.get("/ipns/blog.example/x").await.status, 410, "denylists take away from it");
}

#[tokio::test]
async fn where_what_is_pinned_alone_is_served_it_is_until_its_pin_goes() {
    let (file, other) = (Dag::file(b"pinned\n"), Dag::file(b"other\n"));
    let root = Dag::directory(&[("a.txt", &file)]);
    let links =
        vec![("ours.example", format!("/ipfs/{}", root.cid())), ("else.example", format!("/ipfs/{}", other.cid()))];
    let world = IpfsWorld::start(Setting { admitted: Admitted::Kept, links, ..Setting::default() }).await;
    world.keep(&root).await;
    world.keep(&other).await;
    let paths =
        [format!("/ipfs/{}/a.txt", root.cid()), format!("/ipfs/{}", file.cid()), "/ipns/ours.example/a.txt".to_owned()];
    is_not_admitted(&world, &paths[0]).await;
    world.ipfs.pins().keep(&root.cid(), false).await.unwrap();
    for path in paths.iter().chain(&paths) {
        assert_eq!(world.get(path).await.text(), "pinned\n", "{path}");
    }
    is_not_admitted(&world, &format!("/ipfs/{}", other.cid())).await;
    is_not_admitted(&world, "/ipns/else.example").await;
    let name = world.publish(&format!("/ipfs/{}", root.cid()), Duration::from_secs(60)).await;
    is_not_admitted(&world, &format!("/ipns/{name}?format=ipns-record")).await;
    world.ipfs.pins().remove(&root.cid()).await.unwrap();
    for path in &paths {
        is_not_admitted(&world, path).await;
    }
}

#[tokio::test]
async fn one_client_has_its_share_of_streams_and_gives_them_back() {
    let world = with_source(HttpOptions { max_streams: 1, ..HttpOptions::default() }).await;
    *world.source.silent_after.lock() = Some(0);
    let dag = Dag::directory(&[("a", &Dag::file(b"hello\n"))]);
    let path = format!("/ipfs/{}/a?wait=30", dag.cid());
    let waiting = crate::testing::request(world.address, "GET", &path, &[], b"").await;
    let state = world.state.clone();
    crate::testing::eventually("a slot is taken", Duration::from_secs(5), || state.admission.taken() == 1).await;
    let answer = world.get("/ipfs/bafkqabtimvwgy3yk").await;
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    drop(waiting);
    crate::testing::eventually("the slot came back", Duration::from_secs(5), || state.admission.taken() == 0).await;
}
