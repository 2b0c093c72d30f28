//! People before a browser: what they paste plays, and every page can be used by everybody.

use swarmgate_ipfs_proto::build::{FileBuilder, Profile};
use swarmgate_ipfs_proto::car;
use swarmgate_tests::nginx::Nginx;
use swarmgate_tests::ports;
use swarmgate_tests::visitor::{Browser, Visitor, Window};

use super::scratch;
use super::screening::{PLAYS, Screening, Seat, add_to_ipfs, film, is_fine};

/// How soon a film plays where somebody has sought to, in milliseconds.
const SOUGHT_WITHIN_MS: f64 = 1500.0;

/// Seeks to four fifths and tells how many milliseconds later the film plays on, and where.
const SEEK: &str = "const film = document.querySelector('video');
    const began = performance.now();
    film.currentTime = film.duration * 0.8;
    await new Promise((done) => film.addEventListener('seeked', done, { once: true }));
    for (const from = film.currentTime; film.currentTime <= from; ) await new Promise((done) => setTimeout(done, 5));
    return { took: performance.now() - began, at: film.currentTime / film.duration };";

async fn sought(visitor: &Visitor) {
    let sought = visitor.finds(SEEK).await;
    let (took, at) = (sought["took"].as_f64().unwrap_or(f64::MAX), sought["at"].as_f64().unwrap_or_default());
    eprintln!("sought to four fifths: plays after {took:.0} ms");
    assert!(took < SOUGHT_WITHIN_MS && (0.79..0.9).contains(&at), "{sought}");
}

#[tokio::test]
async fn a_pasted_magnet_plays_is_sought_in_and_goes_on_where_it_was_left() {
    let Some(screening) = Screening::start(Window::Desktop, &[]).await else { return };
    let Screening { torrent, magnet, seat: Seat { visitor, gateway, .. }, .. } = &screening;
    visitor.visits(&gateway.url("/")).await;
    visitor.sees("the start page", "return document.querySelector('#uri') !== null").await;
    is_fine(visitor, "start").await;

    visitor.opens(magnet).await;
    visitor.reads("read me.txt").await;
    is_fine(visitor, "torrent").await;
    visitor.clicks(".torrent .primary").await;
    visitor.sees("the film playing", PLAYS).await;
    sought(visitor).await;

    visitor
        .finds(
            "const choice = document.querySelector('#subtitles'); choice.value = '0';
                   choice.dispatchEvent(new Event('change'))",
        )
        .await;
    let cue = "return document.querySelector('video').textTracks[0]?.activeCues?.[0]?.text ?? null";
    assert_eq!(visitor.sees("a subtitle", cue).await, "<i>Grüße</i> from SubRip");
    let here = "const words = document.querySelector('canvas.pieces').getAttribute('aria-label');
        return /^[1-9].* is here$/.test(words)";
    visitor.sees("the pieces that are here", here).await;
    is_fine(visitor, "player").await;

    let place = format!(
        "return (JSON.parse(localStorage['swarmgate-places'] ?? '{{}}')['{}/1'] ?? {{}}).at > 40",
        torrent.info_hash
    );
    visitor.sees("the place remembered", &place).await;
    let here = visitor.finds("return location.href").await;
    visitor.visits("about:blank").await;
    visitor.visits(here.as_str().unwrap()).await;
    visitor.sees("the film where it was left", "return document.querySelector('video')?.currentTime > 40").await;
    visitor.reads("Start over").await;

    visitor.visits(&gateway.url("/#/status")).await;
    visitor.reads("From the networks").await;
    visitor.reads("Films & more").await;
    is_fine(visitor, "status").await;
}

#[tokio::test]
async fn a_dropped_torrent_fits_a_phone_and_plays() {
    let Some(screening) = Screening::start(Window::Phone, &[]).await else { return };
    let Screening { torrent, seeder, seat: Seat { visitor, gateway, dir, .. }, .. } = &screening;
    // The file alone names nobody to ask, so the gateway hears of the seeder apart.
    let hint = format!("magnet:?xt=urn:btih:{}&x.pe={}", torrent.info_hash, seeder.address());
    visitor.visits(&gateway.url("/")).await;
    visitor.reads("Paste a link").await;
    visitor.sees("the field", "return document.querySelector('#uri') !== null").await;
    visitor.drops(&torrent.write_to(dir.path())).await;
    visitor.reads("read me.txt").await;
    let added = swarmgate_tests::http::post(&gateway.url("/api/v1/items"), "text/plain", hint.into_bytes()).await;
    assert!(added.status.is_success(), "{}", added.text());
    visitor.clicks("a[aria-label='Play A film – 1.webm']").await;
    visitor.sees("the film playing", PLAYS).await;
    for page in ["/#/", "/#/status", "/#/settings"] {
        visitor.visits(&gateway.url(page)).await;
        visitor.sees(page, "return document.querySelector('main h1') !== null").await;
        let fits = "return document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(visitor.finds(fits).await, true, "{page} is wider than the phone");
        is_fine(visitor, page).await;
    }
}

#[tokio::test]
async fn a_folder_of_ipfs_is_listed_and_its_film_plays_in_the_dark() {
    let dir = scratch();
    let Some(browser) = Browser::start(dir.path()).await else { return };
    let payload = film(&browser, dir.path()).await;
    let Some(cid) = add_to_ipfs(&payload, dir.path()).await else { return };
    let Some(seat) = Seat::with(dir, browser, Window::Dark, &[]).await else { return };
    let Seat { visitor, gateway, dir, .. } = &seat;
    // By this name each root has an origin of its own.
    let home = format!("http://localhost:{}/", gateway.http_address().port());
    visitor.visits(&home).await;
    visitor.opens(&format!("ipfs://{cid}")).await;
    visitor.reads("read me.txt").await;
    let dark = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every((part) => part < 60)";
    assert_eq!(visitor.finds(dark).await, true);
    is_fine(visitor, "folder").await;
    visitor.clicks("text=A film – 1.webm").await;
    visitor.sees("the film playing", PLAYS).await;
    sought(visitor).await;
    is_fine(visitor, "film").await;

    let (root, car) = small_car();
    let file = dir.path().join("word.car");
    std::fs::write(&file, car).unwrap();
    visitor.drops(&file).await;
    visitor.sees("what the CAR brought", &format!("return location.hash === '#/ipfs/{root}'")).await;
    visitor.visits(&home).await;
    visitor.reads("Kept from IPFS").await;
    for kept in [cid, root] {
        let listed = format!("return document.querySelector('a[href=\"#/ipfs/{kept}\"]') !== null");
        visitor.sees("what is kept", &listed).await;
    }
    is_fine(visitor, "start").await;
}

/// A CAR of one file, and the file's CID.
fn small_car() -> (String, Vec<u8>) {
    let mut builder = FileBuilder::new(Profile::V1_2025);
    builder.push(b"a word");
    let root = builder.finish().cid;
    let mut bytes = car::header(&[root]);
    while let Some(block) = builder.poll_block() {
        bytes.extend(car::section_head(&block.cid, block.bytes.len()));
        bytes.extend_from_slice(&block.bytes);
    }
    (root.to_string(), bytes)
}

#[tokio::test]
async fn behind_a_proxy_below_a_base_path_everything_is_found_and_switches_work() {
    let options = [("SWARMGATE_SERVER__BASE_PATH", "/gate"), ("SWARMGATE_OBSERVE__LOG", "debug")];
    let Some(screening) = Screening::start(Window::Desktop, &options).await else { return };
    let Screening { magnet, seat: Seat { visitor, gateway, dir, .. }, .. } = &screening;
    let Some(nginx) = Nginx::before(gateway.http_address(), "/gate", dir.path()).await else { return };
    let root = format!("http://{}/gate/", nginx.address());
    visitor.visits(&root).await;
    visitor.opens(magnet).await;
    visitor.clicks("a[aria-label='Play A film – 1.webm']").await;
    visitor.sees("the film playing", PLAYS).await;

    visitor.visits(&format!("{root}#/settings")).await;
    let origin = "return [...document.querySelectorAll('.own')].map((row) => row.innerText).find((row) => \
                  row.includes('base_path')) ?? null";
    let row = visitor.sees("an option's origin", origin).await;
    assert!(
        row.as_str().is_some_and(|row| row.contains("SWARMGATE_SERVER__BASE_PATH") && row.contains("/gate")),
        "{row}"
    );
    is_fine(visitor, "settings").await;

    visitor.visits(&format!("{root}#/status")).await;
    visitor.clicks("[role=switch][aria-label=IPFS]").await;
    visitor
        .sees("the switch", "return document.querySelector('[role=switch][aria-label=IPFS]').ariaChecked === 'false'")
        .await;
    let networks = swarmgate_tests::http::get(&gateway.url("/api/v1/networks")).await.json();
    let ipfs = networks["networks"].as_array().and_then(|all| all.iter().find(|it| it["network"] == "ipfs")).cloned();
    assert_eq!(ipfs.map(|it| it["enabled"].clone()), Some(false.into()));
    visitor.sees("the live connection", "return document.querySelector('.light.up') !== null").await;
    is_fine(visitor, "status").await;
}

#[tokio::test]
async fn what_is_not_found_is_told_by_source_and_what_is_no_link_at_once() {
    let Some(seat) = Seat::take(Window::Desktop, &[]).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url("/")).await;
    visitor.opens("a shopping list").await;
    visitor.reads("This cannot be opened").await;
    assert_eq!(visitor.finds("return document.activeElement.id").await, "uri");

    let nobody = ports::free();
    let magnet = format!("magnet:?xt=urn:btih:{}&tr=http%3A%2F%2F{nobody}%2Fannounce", "cd".repeat(20));
    visitor.opens(&magnet).await;
    visitor.reads("What was tried").await;
    let failed = visitor
        .sees("the source that failed", "return document.querySelector('.attempts .bad')?.innerText ?? null")
        .await;
    assert!(failed.as_str().is_some_and(|text| text.contains(&nobody.to_string())), "{failed}");
    is_fine(visitor, "problem").await;
}

#[tokio::test]
async fn where_a_token_is_wanted_the_page_asks_for_it() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let options = [("SWARMGATE_AUTH__TOKEN", TOKEN), ("SWARMGATE_AUTH__MODE", "token")];
    let Some(seat) = Seat::take(Window::Desktop, &options).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url("/")).await;
    visitor.reads("A valid token is required").await;
    is_fine(visitor, "token").await;
    visitor.types("#token", TOKEN).await;
    visitor.presses("Enter").await;
    visitor.reads("Opened here").await;
    visitor.sees("the live connection", "return document.querySelector('.light.up') !== null").await;
}

/// The rules that are functions of a text, asked of the modules as they are served.
#[tokio::test]
async fn what_is_pasted_is_told_apart_and_subrip_is_read() {
    let Some(seat) = Seat::take(Window::Desktop, &[]).await else { return };
    let Seat { visitor, gateway, .. } = &seat;
    visitor.visits(&gateway.url("/")).await;
    let (hash, cid) = ("AB".repeat(20), "bafybeig6ka5mlwkl4subqhaiatalkcleo4jgnr3hqwvpmsqfca27cijp3i");
    let (torrent, folder) = (format!("#/bt/{}", hash.to_lowercase()), format!("#/ipfs/{cid}"));
    let old = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn";
    for (pasted, page, added) in [
        (hash.clone(), torrent.clone(), false),
        (format!("  {hash}\n"), torrent.clone(), false),
        (format!("magnet:?dn=x&xt=urn:btih:{hash}&tr=y"), torrent.clone(), true),
        (cid.to_owned(), folder.clone(), false),
        (format!("ipfs://{cid}"), folder.clone(), false),
        (format!("/ipfs/{cid}/"), folder.clone(), false),
        (format!("{cid}/a b/c.txt"), format!("{folder}/a%20b/c.txt"), false),
        (format!("https://gateway.example/ipfs/{cid}/a%20b?download=true"), format!("{folder}/a%20b"), false),
        (format!("https://{cid}.ipfs.dweb.example/a"), format!("{folder}/a"), false),
        (old.to_owned(), format!("#/ipfs/{old}"), false),
        ("docs.ipfs.tech".to_owned(), "#/ipns/docs.ipfs.tech".to_owned(), false),
        ("ipns://docs.ipfs.tech/install".to_owned(), "#/ipns/docs.ipfs.tech/install".to_owned(), false),
    ] {
        let script = format!("return (await import('/ui/pasted.js')).read({})", serde_json::json!(pasted));
        let read = visitor.finds(&script).await;
        assert_eq!((read["page"].as_str(), read["add"].is_string()), (Some(page.as_str()), added), "{pasted}: {read}");
    }
    let url = "return (await import('/ui/pasted.js')).read('https://x.example/a.torrent').add";
    assert_eq!(visitor.finds(url).await, "https://x.example/a.torrent");
    for nothing in ["", "what is this", "magnet", "../../etc", "javascript:alert(1)"] {
        let script = format!("return (await import('/ui/pasted.js')).read({})", serde_json::json!(nothing));
        assert!(visitor.finds(&script).await.is_null(), "{nothing}");
    }
    let vtt = "const { toVtt } = await import('/ui/subtitles.js');
        const old = Uint8Array.from('1\\r\\n0:00:01,5 --> 00:00:04,000  X1:0\\r\\n<font color=red>Gr\\u00fc\\u00dfe</font>\\r\\n', (it) => it.charCodeAt(0));
        return [toVtt(old.buffer), toVtt(new TextEncoder().encode('\\uFEFFWEBVTT\\n\\n00:01.000 --> 00:02.000\\nx').buffer)]";
    let read = visitor.finds(vtt).await;
    assert_eq!(read[0], "WEBVTT\n\n1\n00:00:01.500 --> 00:00:04.000\nGrüße\n");
    assert_eq!(read[1], "WEBVTT\n\n00:01.000 --> 00:02.000\nx");
}
