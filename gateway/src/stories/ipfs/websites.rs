//! `_redirects`: what a website does with paths that it does not have.

use super::world::{Dag, IpfsWorld, Setting, subdomains};

const RULES: &str = "/one /one.html\n/two /two.html 302\n/posts/:year/:title /articles/:year/:title 301\n\
                     /splat/* /other/:splat 301\n/not-found/* /404.html 404\n/gone/* /410.html 410\n\
                     /law/* /451.html 451\n/* /index.html 200\n";

fn site(rules: &str) -> Dag {
    let page = |text: &str| Dag::file(format!("<p>{text}</p>").as_bytes());
    Dag::directory(&[
        ("_redirects", &Dag::file(rules.as_bytes())),
        ("index.html", &page("my index")),
        ("404.html", &page("my 404")),
        ("410.html", &page("my 410")),
        ("451.html", &page("my 451")),
        ("found.html", &page("my found")),
    ])
}

async fn world(site: &Dag) -> (IpfsWorld, String) {
    let links = vec![("blog.example", format!("/ipfs/{}", site.cid()))];
    let world = IpfsWorld::start(Setting { options: subdomains(), links, ..Setting::default() }).await;
    world.keep(site).await;
    (world, format!("{}.ipfs.dweb.example", site.cid()))
}

#[tokio::test]
async fn rules_decide_about_what_is_missing() {
    let (world, host) = world(&site(RULES)).await;
    for host in [host.as_str(), "blog.example"] {
        for (path, status, location) in [
            ("/one", 301, "/one.html"),
            ("/two?q=1", 302, "/two.html?q=1"),
            ("/posts/2022/hello-world", 301, "/articles/2022/hello-world"),
            ("/splat/a/b.html", 301, "/other/a/b.html"),
        ] {
            let answer = world.at(host, path).await;
            assert_eq!((answer.status, answer.header("location")), (status, Some(location)), "{host}{path}");
        }
        for (path, status, text) in [
            ("/not-found/x", 404, "my 404"),
            ("/gone/x", 410, "my 410"),
            ("/law/x", 451, "my 451"),
            ("/anything/else", 200, "my index"),
            ("/found.html", 200, "my found"),
        ] {
            let answer = world.at(host, path).await;
            assert_eq!(answer.status, status, "{host}{path}");
            assert!(answer.text().contains(text), "{host}{path}");
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        }
    }
}

#[tokio::test]
async fn a_sites_own_error_pages_are_kept_as_its_files_are() {
    let site = site(RULES);
    let (world, host) = world(&site).await;
    let page = Dag::file(b"<p>my 404</p>").cid();
    let fixed = world.at(&host, "/not-found/x").await;
    assert_eq!(fixed.header("etag"), Some(format!("\"{page}\"").as_str()));
    assert_eq!(fixed.header("cache-control"), Some("public, max-age=29030400, immutable"));
    let named = world.at("blog.example", "/not-found/x").await;
    assert!(!named.header("cache-control").unwrap().contains("immutable"), "tomorrow the name may lead elsewhere");
}

#[tokio::test]
async fn a_page_in_place_of_another_has_its_tag() {
    let (world, host) = world(&site(RULES)).await;
    let tag = world.at(&host, "/missing").await.header("etag").unwrap().to_owned();
    let again = world.send("GET", "/missing", &[("Host", &host), ("If-None-Match", &tag)]).await;
    assert_eq!(again.status, 304);
}

#[tokio::test]
async fn rules_that_cannot_be_read_are_their_authors_to_mend() {
    let (world, host) = world(&site("/a /b 301!\n")).await;
    let answer = world.at(&host, "/not-found").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("could not parse _redirects:"), "{}", answer.text());
    assert_eq!(world.at(&host, "/found.html").await.status, 200, "what is there needs no rules");
}

#[tokio::test]
async fn rules_have_64_kib() {
    let (world, host) = world(&site(&"#".repeat(65_537))).await;
    let answer = world.at(&host, "/not-found").await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("could not parse _redirects: redirects file size cannot exceed"));
}

#[tokio::test]
async fn where_content_shares_an_origin_nobodys_rules_count() {
    let site = site(RULES);
    let (world, host) = world(&site).await;
    assert_eq!(world.get(&format!("/ipfs/{}/one", site.cid())).await.status, 404);
    let raw = world.at(&host, "/one?format=raw").await;
    assert_eq!(raw.status, 404, "proofs are not redirected");
}

#[tokio::test]
async fn a_website_without_rules_has_what_it_has() {
    let site = Dag::directory(&[("index.html", &Dag::file(b"<p>1</p>"))]);
    let (world, host) = world(&site).await;
    assert_eq!(world.at(&host, "/missing").await.status, 404);
}
