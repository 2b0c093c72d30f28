//! A viewer whose own browser joins the swarm, with a webtorrent that the operator has installed.

use swarmgate_tests::http;
use swarmgate_tests::programs::Program;
use swarmgate_tests::visitor::Window;

use super::screening::{PLAYS, Screening, Seat, is_fine};

/// What the browser has by WebRTC when it has sought to four fifths of 8 MB: more than the byte that it asks for by HTTP of
/// each piece.
const MUCH: &str = "const item = await (await fetch('../api/v1/items/HASH')).json(); return item.uploaded > 500000";

#[tokio::test]
async fn a_browser_that_joins_the_swarm_plays_what_the_gateway_gives_it_there() {
    let Some(modules) = Program::NodeModules.find() else { return };
    let script = modules.join("webtorrent/dist/webtorrent.min.js").display().to_string();
    let options = [("SWARMGATE_UI__WEBTORRENT", script.as_str())];
    let Some(screening) = Screening::opened(Window::Desktop, &options).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.clicks("[aria-label='Play A film – 1.webm']").await;
    let offer =
        "return [...document.querySelectorAll('a')].find((it) => it.innerText === 'Watch as a peer')?.href ?? null";
    let page = visitor.sees("the offer to join", offer).await;
    visitor.visits(page.as_str().unwrap_or_default()).await;
    visitor.reads("Your browser is a peer of the swarm").await;
    visitor.sees("the film playing", PLAYS).await;
    let source = visitor.finds("return document.querySelector('video').currentSrc").await;
    assert!(source.as_str().is_some_and(|url| url.contains("/ui/film/")), "{source}");
    let peers = http::get(&gateway.url(&format!("/api/v1/items/{}/peers", torrent.info_hash))).await.json();
    let all = peers["peers"].as_array().cloned().unwrap_or_default();
    assert!(all.iter().any(|peer| peer["transport"] == "webrtc"), "the page is a peer: {peers}");

    visitor.finds("const film = document.querySelector('video'); film.currentTime = film.duration * 0.8").await;
    let on = "const film = document.querySelector('video'); return film.currentTime > film.duration * 0.8 + 1";
    visitor.sees("the film after a seek", on).await;
    visitor.sees("much given by WebRTC", &MUCH.replace("HASH", &torrent.info_hash)).await;
    let here = "return /^[1-9].* is here$/.test(document.querySelector('canvas.pieces').ariaLabel)";
    visitor.sees("the pieces that this browser has", here).await;
    is_fine(visitor, "watching as a peer").await;
}

#[tokio::test]
async fn where_none_is_installed_nobody_is_offered_to_join() {
    let Some(screening) = Screening::opened(Window::Desktop, &[]).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.clicks("[aria-label='Play A film – 1.webm']").await;
    visitor.sees("the film playing", PLAYS).await;
    assert_eq!(visitor.finds("return document.body.innerText.includes('Watch as a peer')").await, false);
    let page = http::get(&gateway.url(&format!("/ui/watch#{}/1", torrent.info_hash))).await;
    assert_eq!(page.status, 404, "{}", page.text());
}
