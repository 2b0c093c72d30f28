//! Asked again: what was answered before is answered from memory, and nobody can tell by the answer.

use std::sync::atomic::Ordering;

use super::world::{Dag, IpfsWorld, Setting, noise, subdomains, world};
use crate::auth::TokenHash;
use crate::policy::Admitted;
use crate::state::HttpOptions;
use crate::testing::send;

/// How many answers are known.
fn known(world: &IpfsWorld) -> usize {
    world.state.known.len()
}

#[tokio::test]
async fn the_second_answer_is_the_first() {
    let world = world().await;
    let (bytes, small) = (noise(20_000), noise(700));
    let dag = Dag::directory(&[("film.mkv", &Dag::file(&bytes)), ("page.html", &Dag::file(b"<html>hi</html>"))]);
    let (leaf, text) = (Dag::file(&small), Dag::file(b"plain words"));
    for dag in [&dag, &leaf, &text] {
        world.keep(dag).await;
    }
    let (root, leaf, text) = (dag.cid(), leaf.cid(), text.cid());
    let range = |value| vec![("Range", value)];
    for (url, rows) in [
        (format!("/ipfs/{root}/film.mkv"), vec![]),
        (format!("/ipfs/{root}/film.mkv"), range("bytes=997-5100")),
        (format!("/ipfs/{root}/film.mkv"), range("bytes=-5")),
        (format!("/ipfs/{root}/film.mkv"), range("bytes=0-1,7-9,99999-")),
        (format!("/ipfs/{root}/film.mkv?download=1&filename=x.bin"), range("bytes=3-")),
        (format!("/ipfs/{root}/page.html"), vec![("Accept", "*/*")]),
        (format!("/ipfs/{leaf}?format=raw"), vec![]),
        (format!("/ipfs/{leaf}?format=raw"), range("bytes=600-")),
        (format!("/ipfs/{leaf}"), range("bytes=600-")),
        (format!("/ipfs/{text}"), vec![]),
        (format!("/ipfs/{text}"), vec![("Accept", "application/vnd.ipld.raw")]),
        (format!("/ipfs/{text}"), vec![("Accept", "application/vnd.ipld.car")]),
        (format!("/ipfs/{text}"), vec![("Cache-Control", "only-if-cached")]),
    ] {
        let first = world.send("GET", &url, &rows).await;
        // Another request to the same target comes between, and what it leaves is not to be seen either.
        let _other = world.get(&url).await;
        let again = world.send("GET", &url, &rows).await;
        assert_eq!(again.clean, first.clean, "{url} {rows:?}");
        let boundary =
            |answer: &crate::testing::Answer| answer.header("content-type").unwrap_or("").contains("boundary");
        if !boundary(&first) {
            assert_eq!(again.head(), first.head(), "{url} {rows:?}");
            assert!(again.body == first.body, "{url} {rows:?}");
        }
    }
    let film = Dag::file(&bytes).cid();
    let url = format!("/ipfs/{root}/film.mkv");
    for (row, status) in [
        (("If-None-Match", format!("\"{film}\"")), 304),
        (("If-Match", "\"other\"".to_owned()), 412),
        (("If-None-Match", "\"other\"".to_owned()), 200),
    ] {
        assert_eq!(world.send("GET", &url, &[(row.0, row.1.as_str())]).await.status, status, "{row:?}");
    }
    let past = world.send("GET", &url, &range("bytes=20000-")).await;
    assert_eq!((past.status, past.header("content-range")), (416, Some("bytes */20000")));
    let rows = [("If-Range", "\"other\""), ("Range", "bytes=0-1")];
    assert_eq!(world.send("GET", &url, &rows).await.body.len(), 20_000);
    assert_eq!(world.send("HEAD", &url, &[]).await.body.len(), 0);
    assert_eq!(world.send("POST", &url, &[]).await.status, 405);
    assert!(known(&world) >= 5, "{} answers are known", known(&world));
}

#[tokio::test]
async fn what_was_evicted_meanwhile_is_fetched_again() {
    let world = IpfsWorld::start(Setting { source: true, ..Setting::default() }).await;
    let bytes = noise(20_000);
    let dag = Dag::file(&bytes);
    world.source.offer(&dag);
    world.keep(&dag).await;
    let url = format!("/ipfs/{}?filename=a.mkv", dag.cid());
    for _ in 0..2 {
        assert!(world.get(&url).await.body == bytes);
    }
    assert_eq!(world.source.asked.load(Ordering::SeqCst), 0, "all of it was here");
    world.store.clear().await;
    let answer = world.get(&url).await;
    assert!((answer.status, answer.clean) == (200, true) && answer.body == bytes);
    assert!(world.source.asked.load(Ordering::SeqCst) >= 20, "every block of it was fetched");
}

#[tokio::test]
async fn who_may_not_have_it_is_not_given_what_others_were() {
    let options = HttpOptions {
        token: Some(TokenHash::of("secret")),
        anonymous_content: crate::state::Anonymous::Never,
        ..subdomains()
    };
    let world = IpfsWorld::start(Setting { options, ..Setting::default() }).await;
    let dag = Dag::file(b"for those who know");
    world.keep(&dag).await;
    let url = format!("/ipfs/{}", dag.cid());
    let bearer = ("Authorization", "Bearer secret");
    for _ in 0..2 {
        assert_eq!(world.send("GET", &url, &[bearer]).await.status, 200);
        assert_eq!(world.get(&url).await.status, 401);
        let parent = world.send("GET", &url, &[bearer, ("Host", "dweb.example")]).await;
        assert_eq!(parent.status, 301, "content has an origin of its own there");
    }
    assert_eq!(known(&world), 1);
}

#[tokio::test]
async fn what_a_list_denies_that_came_meanwhile_is_not_given_again() {
    let world = world().await;
    let dag = Dag::file(b"for a while");
    world.keep(&dag).await;
    let url = format!("/ipfs/{}", dag.cid());
    let put = async |list: &str| {
        send(world.address, "PUT", "/api/v1/denylists", &[("Content-Type", "text/plain")], list.as_bytes()).await.status
    };
    for (list, status) in [(String::new(), 200), (format!("{url}\n"), 410), (String::new(), 200)] {
        assert_eq!(put(&list).await, 200);
        for _ in 0..2 {
            assert_eq!(world.get(&url).await.status, status, "with the list {list:?}");
        }
    }
    assert_eq!(known(&world), 1);
}

#[tokio::test]
async fn what_was_taken_off_the_allow_list_meanwhile_is_not_given_again() {
    let (dir, dag) = (tempfile::tempdir().unwrap(), Dag::file(b"for a while"));
    let (list, cid) = (dir.path().join("list"), dag.cid().to_string());
    std::fs::write(&list, &cid).unwrap();
    let admitted = Admitted::load(std::slice::from_ref(&list)).unwrap();
    let world = IpfsWorld::start(Setting { admitted, ..Setting::default() }).await;
    world.keep(&dag).await;
    let lists = &world.state.denylists;
    for (listed, status) in [(cid.as_str(), 200), ("# nothing", 403), (cid.as_str(), 200)] {
        std::fs::write(&list, listed).unwrap();
        lists.take_over(lists.read_again().unwrap());
        for _ in 0..2 {
            assert_eq!(world.get(&format!("/ipfs/{cid}")).await.status, status, "with {listed} on the list");
        }
    }
    assert_eq!(known(&world), 1);
}

#[tokio::test]
async fn names_are_looked_up_each_time() {
    let world = world().await;
    let (one, two) = (Dag::file(b"one"), Dag::file(b"two"));
    for dag in [&one, &two] {
        world.keep(dag).await;
    }
    let name = world.publish(&format!("/ipfs/{}", one.cid()), std::time::Duration::from_secs(60)).await;
    for _ in 0..2 {
        assert_eq!(world.get(&format!("/ipns/{name}")).await.text(), "one");
    }
    assert_eq!(known(&world), 0, "what a name leads to may be another tomorrow");
}
