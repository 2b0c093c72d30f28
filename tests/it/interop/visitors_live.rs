//! What people watch while the gateway works: peers, rates, streams, the cache.

use swarmgate_tests::http;
use swarmgate_tests::visitor::Window;

use super::screening::{Screening, Seat, is_fine};

/// So slow that a film of 8 MB is still being read when somebody looks.
const SLOW: &str = "300KiB/s";

/// Whether the page is told of what happens from now on.
const CONNECTED: &str = "return document.querySelector('.light.up') !== null";

#[tokio::test]
async fn while_a_film_is_read_its_peers_its_stream_and_the_rates_are_seen() {
    let options = [("SWARMGATE_LIMITS__CLIENT_BANDWIDTH", SLOW)];
    let Some(screening) = Screening::start(Window::Desktop, &options).await else { return };
    let Screening { torrent, seeder, magnet, seat: Seat { visitor, gateway, .. } } = &screening;
    visitor.visits(&gateway.url("/#/status")).await;
    visitor.sees("that it is told what happens", CONNECTED).await;
    let added = http::post(&gateway.url("/api/v1/items"), "text/plain", magnet.clone().into_bytes()).await;
    assert!(added.status.is_success(), "{}", added.text());
    let url = gateway.url(&format!("/bt/{}/@1", torrent.info_hash));
    let reader = tokio::spawn(async move { http::client().get(&url).send().await?.bytes().await });

    visitor.reads("Films & more: 3 files found").await;
    let stream = "const row = [...document.querySelectorAll('.rows li')].find((it) => it.innerText.includes('first byte after'));
        return row && /(BitTorrent|Cache) \\d+ %/.test(row.innerText) && /stall/.test(row.innerText) ? row.innerText : null";
    let row = visitor.sees("the stream, with its mix and its stalls", stream).await;
    assert!(row.as_str().is_some_and(|row| row.contains("Films & more")), "{row}");
    let plot = "const points = document.querySelector('.plot polyline.out')?.getAttribute('points')?.split(' ') ?? [];
        return points.length > 2 && /To clients [1-9]/.test(document.querySelector('.plot figcaption').innerText)";
    visitor.sees("the rates over time", plot).await;
    let budget =
        "const bar = [...document.querySelectorAll('.bar')].find((it) => / of 1\\.00 GiB$/.test(it.ariaLabel ?? ''));
        return bar?.children.length > 0";
    visitor.sees("the cache's budget", budget).await;
    visitor.reads("Breakers").await;
    is_fine(visitor, "status").await;

    visitor.visits(&gateway.url(&format!("/#/bt/{}", torrent.info_hash))).await;
    visitor.clicks(".peers summary").await;
    visitor.reads(&seeder.address().to_string()).await;
    let how = "return /(TCP|uTP), (not encrypted|handshake encrypted|encrypted)/.test(document.querySelector('.peers').innerText)";
    visitor.sees("how it is reached", how).await;
    let number = "return /^Peers: [1-9]/.test(document.querySelector('.peers summary').innerText)";
    visitor.sees("how many they are", number).await;
    is_fine(visitor, "peers").await;
    reader.abort();
}
