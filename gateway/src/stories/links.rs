//! Links that need no credentials, from being asked for to their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::auth::{Clock, TokenHash};
use crate::server::ServeLimits;
use crate::state::{Anonymous, HttpOptions};
use crate::testing::{Behaviour, IH, World};

const FILES: &[(&str, u64)] = &[("Season 1/a.mkv", 100), ("Season 1/b.mkv", 100), ("notes.txt", 7)];
const OPERATOR: (&str, &str) = ("Authorization", "Bearer secret");

/// A gateway that is shut, and its clock.
async fn shut(options: HttpOptions) -> (World, Arc<AtomicU64>) {
    let time = Arc::new(AtomicU64::new(1_780_000_000));
    let clock = Arc::clone(&time);
    let options = HttpOptions {
        token: Some(TokenHash::of("secret")),
        anonymous_content: Anonymous::Never,
        clock: Clock::new(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst))),
        ..options
    };
    (World::start(FILES, Behaviour::default(), options, ServeLimits::default()).await, time)
}

async fn link(world: &World, body: &str) -> serde_json::Value {
    let answer = world.send("POST", "/api/v1/links", &[OPERATOR], body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The lines of a playlist that are URLs.
fn urls(playlist: &str) -> Vec<String> {
    playlist.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_link_plays_until_its_time_is_over() {
    let (world, time) = shut(HttpOptions::default()).await;
    let film = format!("/bt/{IH}/Season%201/a.mkv");
    assert_eq!(world.get(&film).await.status, 401);
    let made = link(&world, &format!("{{\"path\": \"{film}\", \"ttl_s\": 60}}")).await;
    let path = made["path"].as_str().unwrap();
    assert_eq!(made["expires"], 1_780_000_060);
    assert_eq!(made["url"], format!("http://localhost{path}"));
    let answer = world.range(path, "bytes=10-19").await;
    assert_eq!((answer.status, answer.body.as_slice()), (206, &world.protocol.file(0)[10..20]));
    assert!(answer.header("cache-control").unwrap().starts_with("private"));
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(world.send("HEAD", path, &[], b"").await.status, 200);
    assert_eq!(world.get(&path.replace("a.mkv", "b.mkv")).await.status, 403, "it is of one file");
    time.fetch_add(59, Ordering::SeqCst);
    assert_eq!(world.get(path).await.status, 200);
    time.fetch_add(1, Ordering::SeqCst);
    let over = world.get(path).await;
    assert_eq!((over.status, over.problem().as_str()), (403, "link-refused"));
    let with_credentials = world.send("GET", path, &[OPERATOR], b"").await;
    assert_eq!(with_credentials.status, 200, "who may read anyhow is not kept out by an old link");
}

#[tokio::test]
async fn a_playlist_that_was_asked_for_with_credentials_plays_without() {
    let (world, time) = shut(HttpOptions::default()).await;
    let list = world.send("GET", &format!("/bt/{IH}.m3u8"), &[OPERATOR], b"").await;
    assert_eq!(list.header("cache-control"), Some("private, no-store"));
    assert!(!list.text().contains("secret"));
    let urls = urls(&list.text());
    assert_eq!(urls.len(), 2);
    for (index, url) in urls.iter().enumerate() {
        // The list lies beside the content's folder.
        let answer = world.get(&format!("/bt/{url}")).await;
        assert_eq!((answer.status, answer.body.as_slice()), (200, world.protocol.file(index)), "{url}");
    }
    time.fetch_add(6 * 60 * 60, Ordering::SeqCst);
    assert_eq!(world.get(&format!("/bt/{}", urls[0])).await.status, 403);
}

#[tokio::test]
async fn a_link_that_is_copied_from_a_listing_plays_without_credentials() {
    let (world, time) = shut(HttpOptions::default()).await;
    let page = world.send("GET", &format!("/bt/{IH}/?format=html"), &[OPERATOR], b"").await;
    assert_eq!((page.status, page.header("cache-control")), (200, Some("private, no-store")));
    let text = page.text();
    let copied = text.split("data-copy=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let path = format!("/bt/{IH}/{}", copied.replace("&amp;", "&"));
    assert!(path.starts_with(&format!("/bt/{IH}/notes.txt?exp=")), "{path}");
    let answer = world.get(&path).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, world.protocol.file(2)));
    time.fetch_add(6 * 60 * 60, Ordering::SeqCst);
    assert_eq!(world.get(&path).await.status, 403);
}

#[tokio::test]
async fn a_link_to_a_playlist_is_one_to_what_it_lists_and_no_longer_than_itself() {
    let (world, time) = shut(HttpOptions::default()).await;
    let made = link(&world, &format!("{{\"path\": \"/bt/{IH}.m3u8\", \"ttl_s\": 60}}")).await;
    let list = world.get(made["path"].as_str().unwrap()).await;
    assert_eq!(list.status, 200);
    let film = format!("/bt/{}", urls(&list.text())[0]);
    assert_eq!(world.get(&film).await.status, 200);
    time.fetch_add(60, Ordering::SeqCst);
    assert_eq!(world.get(&film).await.status, 403, "a list does not make its link last longer");
}

#[tokio::test]
async fn a_link_survives_the_redirects_that_content_has() {
    let (world, _) = shut(HttpOptions { base_path: "/gate".to_owned(), ..HttpOptions::default() }).await;
    let made =
        link(&world, &format!("{{\"path\": \"/gate/bt/{}/@best\", \"kind\": \"content\"}}", IH.to_uppercase())).await;
    let mut path = made["path"].as_str().unwrap().to_owned();
    assert!(path.starts_with("/gate/bt/"), "{path}");
    for expected in [301, 307, 200] {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, expected, "{path}");
        path = answer.header("location").unwrap_or(&path).to_owned();
    }
}

#[tokio::test]
async fn below_a_public_address_lists_and_links_name_it() {
    let public_url = "https://media.example/gate/".parse().ok();
    let options = HttpOptions { public_url, base_path: "/gate".to_owned(), ..HttpOptions::default() };
    let (world, _) = shut(options).await;
    let made = link(&world, &format!("{{\"path\": \"/bt/{IH}/notes.txt\"}}")).await;
    assert!(made["url"].as_str().unwrap().starts_with("https://media.example/gate/bt/"), "{made}");
    let list = world.send("GET", &format!("/gate/bt/{IH}.m3u8"), &[OPERATOR], b"").await.text();
    for url in urls(&list) {
        let path = url.strip_prefix("https://media.example").unwrap();
        assert_eq!(world.get(path).await.status, 200, "{url}");
    }
}

#[tokio::test]
async fn what_no_link_can_be_made_to_is_refused() {
    let (world, _) = shut(HttpOptions::default()).await;
    for body in [
        "{\"path\": \"/api/v1/items\"}".to_owned(),
        "{\"path\": \"/torrent?url=https://example.org/a.torrent\"}".to_owned(),
        "{\"path\": \"https://example.org/\"}".to_owned(),
        format!("{{\"path\": \"/bt/{IH}/a\", \"ttl_s\": 0}}"),
        format!("{{\"path\": \"/bt/{IH}/a\", \"ttl_s\": 99999999999}}"),
        format!("{{\"path\": \"/bt/{IH}/a#b\"}}"),
        format!("{{\"path\": \"/bt/{IH}/a\", \"kind\": \"all\"}}"),
        "x".to_owned(),
    ] {
        let answer = world.send("POST", "/api/v1/links", &[OPERATOR], body.as_bytes()).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-body"), "{body}");
    }
    assert_eq!(world.send("POST", "/api/v1/links", &[], b"{}").await.status, 401);
}

#[tokio::test]
async fn where_nobody_is_asked_lists_carry_no_signatures() {
    let world = crate::testing::world(FILES).await;
    let list = world.get(&format!("/bt/{IH}.m3u8")).await;
    assert!(!list.text().contains("sig="));
    assert!(list.header("cache-control").unwrap().starts_with("public"));
}
