//! Names: signed records and DNSLinks, by path and by host.

use std::time::Duration;

use swarmgate_ipfs_proto::ipns::Record;

use super::world::{Dag, IpfsWorld, Setting, subdomains, world};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_name_leads_to_content_for_as_long_as_it_says() {
    let world = world().await;
    let hello = Dag::file(b"hello\n");
    let root = Dag::directory(&[("root2", &Dag::directory(&[("a.txt", &hello)]))]);
    world.keep(&root).await;
    let name = world.publish(&format!("/ipfs/{}", root.cid()), Duration::from_secs(60)).await;
    let answer = world.get(&format!("/ipns/{name}/root2/a.txt")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"));
    let cache = answer.header("cache-control").unwrap().to_owned();
    let age: u64 = cache.strip_prefix("public, max-age=").unwrap().parse().unwrap();
    assert!((58..=60).contains(&age), "{cache}");
    assert_eq!(answer.header("x-ipfs-path"), Some(format!("/ipns/{name}/root2/a.txt").as_str()));
    assert!(answer.header("x-ipfs-roots").unwrap().starts_with(&root.cid().to_string()));
    let listing = world.get(&format!("/ipns/{name}/")).await;
    assert!(listing.text().contains(&format!("<a href=\"/ipns/{name}/root2\">root2</a>")));
    assert!(!listing.header("cache-control").unwrap().contains("stale"));
}

#[tokio::test]
async fn a_name_may_lead_below_a_root() {
    let world = world().await;
    let root = Dag::directory(&[("root2", &Dag::directory(&[("a.txt", &Dag::file(b"hello\n"))]))]);
    world.keep(&root).await;
    let name = world.publish(&format!("/ipfs/{}/root2", root.cid()), HOUR).await;
    assert_eq!(world.get(&format!("/ipns/{name}/a.txt")).await.text(), "hello\n");
}

#[tokio::test]
async fn a_record_proves_itself() {
    let world = world().await;
    let name = world.publish("/ipfs/bafkqabtimvwgy3yk", Duration::from_secs(1800)).await;
    for answer in [
        world.get(&format!("/ipns/{name}?format=ipns-record")).await,
        world.accept(&format!("/ipns/{name}"), "application/vnd.ipfs.ipns-record").await,
    ] {
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/vnd.ipfs.ipns-record")));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=1800"));
        assert!(answer.header("content-disposition").unwrap().starts_with("attachment;"));
        let record = Record::parse(&name, answer.body.into()).unwrap();
        assert_eq!(record.value(), b"/ipfs/bafkqabtimvwgy3yk");
    }
    for path in [format!("/ipns/{name}/a?format=ipns-record"), "/ipfs/bafkqaaa?format=ipns-record".to_owned()] {
        assert_eq!(world.get(&path).await.status, 400, "{path}");
    }
}

#[tokio::test]
async fn a_name_without_a_record_leads_nowhere() {
    let world = world().await;
    let name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    let answer = world.accept(&format!("/ipns/{name}/"), "application/json").await;
    assert_eq!((answer.status, answer.problem().as_str()), (502, "name-unresolved"));
    assert!(answer.header("retry-after").is_some() && answer.json()["detail"].as_str().unwrap().contains(name));
}

#[tokio::test]
async fn keys_have_one_spelling_in_urls() {
    let world = world().await;
    for (spelt, canonical) in [
        (
            "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK",
            "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
        ),
        ("QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2", "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger"),
    ] {
        let answer = world.get(&format!("/ipns/{spelt}/root2/")).await;
        assert_eq!(answer.status, 302);
        assert_eq!(answer.header("location"), Some(format!("/ipns/{canonical}/root2/").as_str()));
    }
}

#[tokio::test]
async fn names_have_origins_of_their_own() {
    let root = Dag::directory(&[("a.txt", &Dag::file(b"hello\n"))]);
    let links = vec![("en.wiki-x.example", format!("/ipfs/{}", root.cid()))];
    let world = IpfsWorld::start(Setting { options: subdomains(), links, ..Setting::default() }).await;
    world.keep(&root).await;
    let name = world.publish(&format!("/ipfs/{}", root.cid()), HOUR).await;
    for host in [format!("{name}.ipns"), "en-wiki--x-example.ipns".to_owned(), "en.wiki-x.example.ipns".to_owned()] {
        let answer = world.at(&format!("{host}.dweb.example"), "/a.txt").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello\n"), "{host}");
    }
    let peer = name.peer_id().to_string();
    let answer = world.at(&format!("{peer}.ipns.dweb.example"), "/a.txt").await;
    let expected = format!("http://{name}.ipns.dweb.example/a.txt");
    assert_eq!((answer.status, answer.header("location")), (301, Some(expected.as_str())));
}

#[tokio::test]
async fn a_websites_host_is_the_website() {
    let root = Dag::directory(&[("a", &Dag::directory(&[("b.txt", &Dag::file(b"hello\n"))]))]);
    let links = vec![
        ("blog.example", format!("/ipfs/{}", root.cid())),
        ("deep.example", format!("/ipfs/{}/a", root.cid())),
        ("chain.example", "/ipns/deep.example".to_owned()),
        ("loop.example", "/ipns/pool.example".to_owned()),
        ("pool.example", "/ipns/loop.example".to_owned()),
    ];
    let world = IpfsWorld::start(Setting { options: subdomains(), links, ..Setting::default() }).await;
    world.keep(&root).await;
    assert_eq!(world.at("blog.example", "/a/b.txt").await.text(), "hello\n");
    assert_eq!(world.at("deep.example", "/b.txt").await.text(), "hello\n");
    assert_eq!(world.at("chain.example", "/b.txt").await.text(), "hello\n");
    let listing = world.at("blog.example", "/a/").await;
    assert!(
        listing
            .text()
            .contains("/ipns/<a href=\"//blog.example/\">blog.example</a>/<a href=\"//blog.example/a\">a</a>")
    );
    assert!(listing.header("etag").unwrap().starts_with("\"DirIndex-"));
    let slash = world.at("blog.example", "/a").await;
    assert_eq!((slash.status, slash.header("location")), (301, Some("/a/")));
    assert_eq!(world.at("loop.example", "/").await.status, 400);
    // A name without a link is one more name of the gateway, where that is allowed.
    assert_eq!(world.at("other.example", "/healthz").await.text(), "ok\n");
    assert_eq!(world.at("other.example", "/ipfs/bafkqabtimvwgy3yk").await.text(), "hello\n");
}
