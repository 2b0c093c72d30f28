//! The application for browsers: what it is made of, and what it asks the API for beside what others ask.

use crate::auth::TokenHash;
use crate::pages;
use crate::server::ServeLimits;
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Behaviour, IH, World, world};
use crate::ui::Installed;

const FILES: &[(&str, u64)] = &[("film.mkv", 100_000)];

/// Stands for a compressor: what all files have at most together, before they are compressed to about a third.
const MOST_BYTES: usize = 150 * 1024;

#[tokio::test]
async fn the_start_page_loads_the_application_and_says_what_it_is_for_without_it() {
    let world = world(FILES).await;
    world.send("POST", "/api/v1/items", &[("Content-Type", "text/plain")], IH.as_bytes()).await;
    let home = world.get("/").await;
    let html = home.text();
    assert!(html.contains("<script type=\"module\" src=\"ui/app.js\">"), "{html}");
    assert!(html.contains("<meta name=\"api\" content=\"open\">"), "{html}");
    assert!(html.contains("<meta name=\"links\" content=\"open\">"), "{html}");
    for part in ["action=\"open\"", "name=\"uri\"", &format!("href=\"bt/{IH}/\"")] {
        assert!(html.contains(part), "{part} in {html}");
    }
    let policy = home.header("content-security-policy").unwrap();
    for directive in ["default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(directive), "{directive} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("http:"), "{policy}");
}

#[test]
fn content_with_an_origin_of_its_own_may_be_loaded_from_there() {
    let policy = pages::application_policy(&["dweb.example".to_owned(), "localhost:8420".to_owned()]);
    assert!(policy.contains("media-src 'self' blob: http://*.ipfs.dweb.example:* "), "{policy}");
    assert!(policy.contains(" http://*.ipns.localhost:8420 ") && policy.contains("script-src 'self';"), "{policy}");
}

#[tokio::test]
async fn a_file_of_the_application_is_validated_by_its_tag() {
    let world = world(FILES).await;
    let module = world.get("/ui/app.js").await;
    assert_eq!((module.status, module.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert_eq!(module.header("cache-control"), Some("no-cache"));
    let tag = module.header("etag").unwrap();
    let again = world.send("GET", "/ui/app.js", &[("If-None-Match", tag)], b"").await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)));
    assert_eq!(world.send("GET", "/ui/app.js", &[("If-None-Match", "\"other\"")], b"").await.status, 200);
    assert_eq!(world.get("/ui/none.js").await.problem(), "no-route");
}

#[tokio::test]
async fn it_lies_below_the_base_path_too() {
    let options = HttpOptions { base_path: "/gw".to_owned(), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    for path in ["/ui/app.js", "/gw/ui/app.js", "/gw/", "/gw/api/v1/config"] {
        assert_eq!(world.get(path).await.status, 200, "{path}");
    }
}

#[test]
fn it_is_small() {
    let bytes: usize = crate::ui::ASSETS.iter().map(|asset| asset.text.len()).sum();
    assert!(bytes < MOST_BYTES, "{bytes} bytes");
}

#[tokio::test]
async fn the_pieces_of_an_item_are_told_in_runs() {
    let world = world(FILES).await;
    let pieces = format!("/api/v1/items/{IH}/pieces");
    assert_eq!(world.get(&pieces).await.problem(), "no-such-item");
    world.send("POST", "/api/v1/items", &[("Content-Type", "text/plain")], IH.as_bytes()).await;
    assert_eq!(world.get(&pieces).await.problem(), "no-such-item", "its files are not known");
    world.send("DELETE", &format!("/api/v1/items/{IH}"), &[], b"").await;
    world.send("POST", "/api/v1/items", &[("Content-Type", "application/x-bittorrent")], b"de").await;
    let told = world.get(&pieces).await.json();
    assert_eq!((&told["have"], &told["pieces"]), (&"0-2,4-6".into(), &7.into()));
    assert_eq!(told["piece_len"], 16_384);
}

#[tokio::test]
async fn a_url_is_drawn_as_a_qr_code_for_whoever_may_use_the_api() {
    let world = world(FILES).await;
    let url = format!("http://media.example.org:8420/bt/{IH}/film.mkv?exp=1&sig=ab_-");
    let text: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    let path = format!("/api/v1/qr?text={text}");
    let code = world.get(&path).await;
    assert_eq!((code.status, code.header("content-type")), (200, Some("image/svg+xml")));
    assert_eq!(code.header("cache-control"), Some("private, max-age=3600"));
    assert_eq!(crate::qr::reading::picture(&code.text()), url);
    assert!(!code.text().contains("style") && !code.text().contains("script"), "no policy is broken by it");

    let long = format!("?text=http://a/{}", "x".repeat(crate::qr::MAX_TEXT_BYTES));
    let twice = "?text=http://a/&text=http://b/";
    for query in ["", "?text=", "?text=film.mkv", "?text=javascript:alert(1)", "?text=http://a/%0A", &long, twice] {
        let refused = world.get(&format!("/api/v1/qr{query}")).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "bad-query"), "{query}");
    }
    let options = HttpOptions { token: Some(TokenHash::of("secret")), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    assert_eq!(world.get(&path).await.status, 401);
    assert_eq!(world.send("GET", &path, &[("Authorization", "Bearer secret")], b"").await.status, 200);
}

#[tokio::test]
async fn the_options_in_force_are_told_to_whoever_may_use_the_api() {
    let world = world(FILES).await;
    assert_eq!(world.get("/api/v1/config").await.json()["options"][0]["key"], "cache.max_size");
    let token = Some(TokenHash::of("secret"));
    let options = HttpOptions { token, ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    assert_eq!(world.get("/api/v1/config").await.status, 401);
    let home = world.get("/").await.text();
    assert!(home.contains("<meta name=\"api\" content=\"token\">"), "the application asks for the token: {home}");
}

#[tokio::test]
async fn links_are_signed_where_others_would_be_asked_for_credentials() {
    for (anonymous_content, said) in [(Anonymous::Loopback, "signed"), (Anonymous::Always, "open")] {
        let options = HttpOptions { token: Some(TokenHash::of("secret")), anonymous_content, ..HttpOptions::default() };
        let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
        let home = world.get("/").await.text();
        assert!(home.contains(&format!("<meta name=\"links\" content=\"{said}\">")), "{anonymous_content:?}: {home}");
    }
}

#[tokio::test]
async fn an_installed_webtorrent_is_served_and_the_page_that_loads_it_may_load_nothing_else() {
    const SCRIPT: &str = "export default class {}";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("webtorrent.min.js");
    std::fs::write(&path, SCRIPT).unwrap();
    let options = HttpOptions { webtorrent: Some(Installed::read(&path).unwrap()), ..HttpOptions::default() };
    let world = World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await;
    let script = world.get("/ui/webtorrent.min.js").await;
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert_eq!(script.text(), SCRIPT);
    let tag = script.header("etag").unwrap();
    assert_eq!(world.send("GET", "/ui/webtorrent.min.js", &[("If-None-Match", tag)], b"").await.status, 304);
    let page = world.get("/ui/watch").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("src=\"watch.js\""), "{}", page.text());
    let policy = page.header("content-security-policy").unwrap();
    for directive in [
        "default-src 'none';",
        "script-src 'self';",
        "worker-src 'self';",
        "connect-src 'self';",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(directive), "{directive} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("blob:") && !policy.contains('*'), "{policy}");
    let home = world.get("/").await.text();
    assert!(!home.contains("name=\"peers\""), "this gateway is no tracker, so nobody can be met there: {home}");
}

#[tokio::test]
async fn where_none_is_installed_the_answer_says_how() {
    let world = world(FILES).await;
    for path in ["/ui/webtorrent.min.js", "/ui/watch"] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "no-route"), "{path}");
        assert!(answer.text().contains("ui.webtorrent"), "{}", answer.text());
    }
}
