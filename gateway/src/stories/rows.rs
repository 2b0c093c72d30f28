//! The headers of each kind of answer, as reviewed snapshots.

use crate::server::ServeLimits;
use crate::state::HttpOptions;
use crate::testing::{Answer, Behaviour, IH, World, world};
use swarmgate_content::FetchErrorKind;

const FILES: &[(&str, u64)] = &[("film.mkv", 5000), ("page.html", 100), ("Größe.txt", 10)];

macro_rules! row {
    ($answer:expr) => {
        insta::assert_snapshot!($answer.head())
    };
}

#[tokio::test]
async fn a_whole_file() {
    row!(world(FILES).await.get(&format!("/bt/{IH}/film.mkv")).await);
}

#[tokio::test]
async fn a_part_of_a_file() {
    row!(world(FILES).await.range(&format!("/bt/{IH}/film.mkv"), "bytes=0-99").await);
}

#[tokio::test]
async fn parts_of_a_file() {
    row!(world(FILES).await.range(&format!("/bt/{IH}/film.mkv"), "bytes=0-1,5-6").await);
}

#[tokio::test]
async fn a_head_has_the_headers_of_the_whole_and_opens_nothing() {
    let world = world(FILES).await;
    let answer = world.send("HEAD", &format!("/bt/{IH}/film.mkv"), &[("Range", "bytes=0-1")], b"").await;
    assert!(answer.body.is_empty());
    assert_eq!(world.opens(), 0);
    row!(answer);
}

#[tokio::test]
async fn a_file_that_the_client_has() {
    let world = world(FILES).await;
    let tag = format!("\"bt1-{IH}-0\"");
    row!(world.send("GET", &format!("/bt/{IH}/film.mkv"), &[("If-None-Match", &tag)], b"").await);
    assert_eq!(world.opens(), 0);
}

#[tokio::test]
async fn another_file_than_the_client_means() {
    row!(world(FILES).await.send("GET", &format!("/bt/{IH}/film.mkv"), &[("If-Match", "\"x\"")], b"").await);
}

#[tokio::test]
async fn a_range_outside() {
    row!(world(FILES).await.range(&format!("/bt/{IH}/film.mkv"), "bytes=5000-").await);
}

#[tokio::test]
async fn a_document_that_could_run_scripts() {
    row!(world(FILES).await.get(&format!("/bt/{IH}/page.html")).await);
}

#[tokio::test]
async fn a_file_to_save_under_another_name() {
    row!(world(FILES).await.get(&format!("/bt/{IH}/film.mkv?download=true&filename=%C3%9Cber.mkv")).await);
}

#[tokio::test]
async fn a_file_of_a_magnet() {
    row!(world(FILES).await.get(&format!("/magnet?xt=urn:btih:{IH}&so=2")).await);
}

#[tokio::test]
async fn a_listing_for_people() {
    row!(world(FILES).await.send("GET", &format!("/bt/{IH}/"), &[("Accept", "text/html")], b"").await);
}

#[tokio::test]
async fn a_listing_for_programs() {
    row!(world(FILES).await.get(&format!("/bt/{IH}/")).await);
}

#[tokio::test]
async fn a_torrent_file() {
    row!(world(FILES).await.get(&format!("/bt/{IH}.torrent")).await);
}

#[tokio::test]
async fn a_playlist() {
    row!(world(FILES).await.get(&format!("/bt/{IH}.m3u8")).await);
}

#[tokio::test]
async fn a_question_what_is_allowed() {
    let headers = [("Origin", "http://player.example"), ("Access-Control-Request-Headers", "range")];
    row!(world(FILES).await.send("OPTIONS", &format!("/bt/{IH}/film.mkv"), &headers, b"").await);
}

#[tokio::test]
async fn a_method_that_content_does_not_have() {
    row!(world(FILES).await.send("PUT", &format!("/bt/{IH}/film.mkv"), &[], b"x").await);
}

#[tokio::test]
async fn a_redirect_to_the_canonical_spelling() {
    row!(world(FILES).await.get(&format!("/bt/{}/film.mkv?wait=3", IH.to_uppercase())).await);
}

#[tokio::test]
async fn an_id_that_is_none() {
    let world = world(FILES).await;
    row!(world.get("/bt/xyz/film.mkv").await);
    assert_eq!(world.resolves(), 0, "nothing is looked up");
}

#[tokio::test]
async fn a_deadline_that_passed() {
    row!(failing(FetchErrorKind::TimedOut).await);
}

#[tokio::test]
async fn each_way_to_fail_has_its_status_and_type() {
    for (kind, status, problem) in [
        (FetchErrorKind::NotFound, 404, "no-such-file"),
        (FetchErrorKind::NotCached, 412, "not-cached"),
        (FetchErrorKind::NoSource, 502, "no-source"),
        (FetchErrorKind::Invalid, 502, "invalid-content"),
        (FetchErrorKind::StoreFull, 507, "cache-full"),
        (FetchErrorKind::StoreIo, 503, "cache-failed"),
        (FetchErrorKind::Busy, 503, "busy"),
        (FetchErrorKind::ShuttingDown, 503, "shutting-down"),
        (FetchErrorKind::Removed, 503, "item-removed"),
        (FetchErrorKind::Internal, 500, "internal"),
    ] {
        let answer = failing(kind).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem));
        assert_eq!(answer.json()["item"]["id"], IH);
    }
}

#[tokio::test]
async fn a_browser_gets_errors_as_a_page() {
    let world = world(FILES).await;
    let answer = world.send("GET", &format!("/bt/{IH}/%3Cscript%3E"), &[("Accept", "text/html,*/*")], b"").await;
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(answer.text().contains("The content has no such file") && !answer.text().contains("<script>"));
}

async fn failing(kind: FetchErrorKind) -> Answer {
    let behaviour = Behaviour { resolve: Err(kind), ..Behaviour::default() };
    let world = World::start(FILES, behaviour, HttpOptions::default(), ServeLimits::default()).await;
    world.get(&format!("/bt/{IH}/film.mkv")).await
}
