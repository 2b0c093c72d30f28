//! What people take away from a page: archives, infohashes, and links for players and for others.

use reqwest::header::RANGE;
use swarmgate_tests::http::{self, Answer};
use swarmgate_tests::payload::Payload;
use swarmgate_tests::torrent_v2::{Kind, TorrentV2};
use swarmgate_tests::visitor::{Browser, Visitor, Window};

use super::screening::{SUBTITLES, Screening, Seat, add_to_ipfs, is_fine};
use super::{PIECE_LEN, scratch};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How every WebM begins.
const EBML: [u8; 4] = [0x1a, 0x45, 0xdf, 0xa3];

/// Waits for a link by the name that it has for those who listen.
async fn link(visitor: &Visitor, name: &str) -> String {
    let script = format!("return document.querySelector(\"a[aria-label='{name}']\")?.href ?? null");
    visitor.sees(name, &script).await.as_str().unwrap_or_default().to_owned()
}

/// Asks from another machine, as the proxy says that the gateway trusts; with no credentials.
async fn stranger(url: &str) -> Answer {
    let request = http::client().get(url).header("x-forwarded-for", "203.0.113.9").header(RANGE, "bytes=0-3");
    http::send(request, url).await
}

#[tokio::test]
async fn a_torrent_and_each_of_its_folders_are_had_as_one_file() {
    let Some(screening) = Screening::opened(Window::Desktop, &[]).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.reads(&format!("Infohash {}", torrent.info_hash)).await;
    is_fine(visitor, "torrent").await;

    let folder = http::get(&link(visitor, "Subs as tar").await).await;
    let has = |text: &str| folder.body.windows(text.len()).any(|it| it == text.as_bytes());
    assert_eq!(folder.status, 200, "{}", folder.text());
    assert!(has(SUBTITLES) && !has("A text.\n"), "the folder and nothing else: {} bytes", folder.body.len());
    let whole = http::get(&link(visitor, "Films & more as zip").await).await;
    assert!(whole.status == 200 && whole.body.starts_with(b"PK\x03\x04"), "{}", whole.status);
    let is_in = |name: &str| whole.body.windows(name.len()).any(|it| it == name.as_bytes());
    assert!(is_in("A film – 1.webm") && is_in("read me.txt") && is_in("A film – 1.en.srt"), "all of its files");

    visitor.visits(&gateway.url(&format!("/#/bt/{}/Subs", torrent.info_hash))).await;
    let folder_alone = http::get(&link(visitor, "Subs as zip").await).await;
    assert!(folder_alone.body.starts_with(b"PK\x03\x04") && folder_alone.body.len() < whole.body.len());
}

#[tokio::test]
async fn both_infohashes_of_a_hybrid_are_shown() {
    let Some(seat) = Seat::take(Window::Phone, &[]).await else { return };
    let Seat { visitor, gateway, dir, .. } = &seat;
    let payload = Payload::single("film.mkv", 91, 300_000);
    let Some(hybrid) = TorrentV2::of(&payload, Kind::Hybrid, PIECE_LEN, dir.path()) else { return };
    gateway.add_torrent(&hybrid.torrent.bytes).await;
    visitor.visits(&gateway.url(&format!("/#/bt/{}", hybrid.torrent.info_hash))).await;
    visitor.reads(&format!("v1 {}", hybrid.torrent.info_hash)).await;
    visitor.reads(&format!("v2 {}", hybrid.v2)).await;
    let fits = "return document.documentElement.scrollWidth <= innerWidth";
    assert_eq!(visitor.finds(fits).await, true, "the page is wider than the phone");
    is_fine(visitor, "hybrid").await;
}

#[tokio::test]
async fn where_credentials_are_wanted_what_is_copied_plays_without_until_a_time() {
    let options = [("SWARMGATE_AUTH__TOKEN", TOKEN), ("SWARMGATE_SERVER__TRUSTED_PROXIES", "127.0.0.1")];
    let Some(screening) = Screening::start(Window::Desktop, &options).await else { return };
    let Screening { magnet, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.visits(&gateway.url("/")).await;
    visitor.reads("A valid token is required").await;
    visitor.types("#token", TOKEN).await;
    visitor.presses("Enter").await;
    visitor.reads("Opened here").await;
    visitor.opens(magnet).await;
    visitor.reads("read me.txt").await;
    // A browser without a window has no clipboard, and nowhere to save a playlist to: what it would put there is kept.
    let keep = "navigator.clipboard.writeText = async (text) => void (globalThis.copied = text);
        const make = URL.createObjectURL.bind(URL);
        URL.createObjectURL = (blob) => (blob.text().then((text) => (globalThis.saved = text)), make(blob))";
    visitor.finds(keep).await;

    visitor.clicks("[aria-label='Copy link of read me.txt']").await;
    let copied = visitor.sees("the link", "return globalThis.copied ?? null").await;
    let copied = copied.as_str().unwrap_or_default();
    visitor.reads("Copied, until ").await;
    let answer = stranger(copied).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (206, "A te"), "{copied}");
    let bare = copied.split('?').next().unwrap_or_default();
    assert_eq!(stranger(bare).await.status, 401, "without the signature it does not play");
    assert!(!copied.contains(TOKEN), "{copied}");

    visitor.clicks("[aria-label='Play A film – 1.webm']").await;
    visitor.clicks(".elsewhere summary").await;
    visitor.reads("plays without credentials until").await;
    let line = visitor.finds("return document.querySelector('.elsewhere code').textContent").await;
    let line = line.as_str().unwrap_or_default();
    let url = line.strip_prefix("mpv \"").and_then(|rest| rest.strip_suffix('"')).unwrap_or_else(|| panic!("{line}"));
    let film = stranger(url).await;
    assert_eq!((film.status.as_u16(), film.body.as_slice()), (206, EBML.as_slice()), "{url}");

    visitor.clicks("[aria-label='M3U of A film – 1.webm']").await;
    let list = visitor.sees("the playlist", "return globalThis.saved ?? null").await;
    let list = list.as_str().unwrap_or_default();
    let url = list.lines().find(|line| line.starts_with("http://")).unwrap_or_else(|| panic!("{list}"));
    let film = stranger(url).await;
    assert_eq!((film.status.as_u16(), film.body.as_slice()), (206, EBML.as_slice()), "{list}");
    assert!(!list.contains(TOKEN), "{list}");
    is_fine(visitor, "player").await;
}

#[tokio::test]
async fn a_film_has_a_qr_code_in_a_dialog_that_the_keyboard_opens_and_closes() {
    let Some(screening) = Screening::opened(Window::Phone, &[]).await else { return };
    let visitor = &screening.seat.visitor;
    visitor.clicks("[aria-label='Play A film – 1.webm']").await;
    let focused = "const button = document.querySelector(\"[aria-label='QR code of A film – 1.webm']\");
        button?.focus(); return button !== null";
    visitor.sees("the button", focused).await;
    visitor.presses("Enter").await;
    let shown =
        "const [dialog, code] = ['dialog[open]', 'dialog svg[role=img] path'].map((it) => document.querySelector(it));
        return dialog !== null && code !== null && dialog.contains(document.activeElement)";
    visitor.sees("the code", shown).await;
    // The gateway of this story listens on loopback.
    visitor.reads("good on this machine alone").await;
    let fits = "return document.querySelector('dialog').getBoundingClientRect().right <= innerWidth";
    assert_eq!(visitor.finds(fits).await, true, "the dialog is wider than the phone");
    is_fine(visitor, "code").await;
    visitor.presses("Escape").await;
    let closed = "return document.querySelector('dialog') === null
        && document.activeElement.getAttribute('aria-label') === 'QR code of A film – 1.webm'";
    visitor.sees("the button with the focus again", closed).await;
    is_fine(visitor, "player").await;
}

#[tokio::test]
async fn what_is_kept_is_pinned_until_it_is_let_go() {
    let Some(screening) = Screening::opened(Window::Desktop, &[]).await else { return };
    let Screening { torrent, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    for kept in [true, false] {
        visitor.clicks(".torrent button[aria-pressed]").await;
        let pressed = format!("return document.querySelector('.torrent button[aria-pressed={kept}]') !== null");
        visitor.sees("the button", &pressed).await;
        let item = http::get(&gateway.url(&format!("/api/v1/items/{}", torrent.info_hash))).await.json();
        assert_eq!(item["pinned"], kept, "{item}");
    }
    is_fine(visitor, "torrent").await;
}

#[tokio::test]
async fn what_is_kept_of_ipfs_is_let_go_and_kept_again() {
    let dir = scratch();
    let Some(browser) = Browser::start(dir.path()).await else { return };
    let payload = Payload::tree("folder", 92);
    let Some(cid) = add_to_ipfs(&payload, dir.path()).await else { return };
    let Some(seat) = Seat::with(dir, browser, Window::Desktop, &[]).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url(&format!("/#/ipfs/{cid}"))).await;
    let pin = gateway.url(&format!("/api/v1/items/{cid}/pin"));
    // What was added is pinned.
    visitor.sees("that it is kept", "return document.querySelector('button[aria-pressed=true]') !== null").await;
    for (kept, status) in [(false, 404_u16), (true, 200)] {
        visitor.clicks(".dag button[aria-pressed]").await;
        let pressed = format!("return document.querySelector('.dag button[aria-pressed={kept}]') !== null");
        visitor.sees("the button", &pressed).await;
        assert_eq!(http::get(&pin).await.status, status);
    }
    let zip =
        "return [...document.querySelectorAll('.dag .actions a')].find((it) => it.textContent === 'zip')?.href ?? null";
    let zip = visitor.sees("the folder as a zip", zip).await;
    let whole = http::get(zip.as_str().unwrap_or_default()).await;
    assert!(whole.status == 200 && whole.body.starts_with(b"PK\x03\x04"), "{}", whole.status);
    is_fine(visitor, "folder").await;
}

/// The rules that are functions of their arguments, asked of the module as it is served.
#[tokio::test]
async fn times_and_ways_are_told_in_words() {
    let Some(seat) = Seat::take(Window::Desktop, &[]).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url("/")).await;
    let asked = "const { moment, reached } = await import('/ui/words.js');
        const now = new Date(2026, 10, 24, 9, 0);
        return [moment(new Date(2026, 10, 24, 14, 5), now), moment(new Date(2026, 10, 25, 1, 2), now),
            reached({ transport: 'utp', encryption: 'rc4' }), reached({ transport: 'tcp', encryption: 'none' }),
            reached({ transport: 'webrtc', encryption: 'none' })]";
    let told = visitor.finds(asked).await;
    let expected = ["14:05", "25 Nov, 01:02", "uTP, encrypted", "TCP, not encrypted", "WebRTC, encrypted"];
    assert_eq!(told, serde_json::json!(expected));
}
