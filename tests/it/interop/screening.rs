//! What the stories of people before a browser begin with: somebody with a window, a gateway, and a film that a seeder
//! has.

use std::path::Path;

use swarmgate_tests::gateway::{self, Gateway};
use swarmgate_tests::payload::{Payload, PayloadFile};
use swarmgate_tests::peers::{Client, Peer};
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::visitor::{Browser, Visitor, Window};
use tempfile::TempDir;

use super::{PIECE_LEN, TRANSFER_WITHIN, scratch};

/// A film of 60 s that has 8 MB.
const SECONDS: u32 = 60;

pub(super) const SUBTITLES: &str = "1\r\n00:00:00,500 --> 00:00:59,000\r\n<i>Grüße</i> from SubRip\r\n";

/// Whether the film plays.
pub(super) const PLAYS: &str = "return document.querySelector('video')?.currentTime > 1";

/// Somebody with a window, and a gateway to look at. What began last ends first.
pub(super) struct Seat {
    pub(super) visitor: Visitor,
    pub(super) gateway: Gateway,
    _browser: Browser,
    pub(super) dir: TempDir,
}

/// The same with a film that a seeder has, and of which the gateway has not heard.
pub(super) struct Screening {
    pub(super) torrent: Torrent,
    pub(super) seeder: Peer,
    /// Names the seeder.
    pub(super) magnet: String,
    pub(super) seat: Seat,
}

impl Seat {
    /// Starts a gateway with some options, and opens a window that shows nothing yet; `None` when the story is to be
    /// skipped.
    pub(super) async fn take(window: Window, options: &[(&str, &str)]) -> Option<Self> {
        let dir = scratch();
        let browser = Browser::start(dir.path()).await?;
        Self::with(dir, browser, window, options).await
    }

    /// The same with a browser that runs already, and with what the story's folder has.
    pub(super) async fn with(dir: TempDir, browser: Browser, window: Window, options: &[(&str, &str)]) -> Option<Self> {
        let gateway = Gateway::start_with(dir.path(), options).await?;
        let visitor = browser.visitor(window).await;
        Some(Self { visitor, gateway, _browser: browser, dir })
    }
}

impl Screening {
    /// Films, seeds, and goes on as [`Seat::take`].
    pub(super) async fn start(window: Window, options: &[(&str, &str)]) -> Option<Self> {
        let dir = scratch();
        let browser = Browser::start(dir.path()).await?;
        let payload = film(&browser, dir.path()).await;
        let torrent = Torrent::of(&payload, PIECE_LEN, None);
        let seeder = Client::Libtorrent.seed(&payload, &torrent, dir.path()).await?;
        let magnet = format!("{}&x.pe={}", torrent.magnet(), seeder.address());
        let seat = Seat::with(dir, browser, window, options).await?;
        Some(Self { torrent, seeder, magnet, seat })
    }

    /// The same, where the magnet is pasted on the start page already, and its files are shown.
    pub(super) async fn opened(window: Window, options: &[(&str, &str)]) -> Option<Self> {
        let screening = Self::start(window, options).await?;
        let Seat { visitor, gateway, .. } = &screening.seat;
        visitor.visits(&gateway.url("/")).await;
        visitor.opens(&screening.magnet).await;
        visitor.reads("read me.txt").await;
        Some(screening)
    }
}

/// A film with subtitles and a text.
pub(super) async fn film(browser: &Browser, dir: &Path) -> Payload {
    let text = |path: &[&str], text: &str| PayloadFile {
        path: path.iter().map(|&part| part.to_owned()).collect(),
        bytes: text.as_bytes().to_vec(),
    };
    let files = vec![
        text(&["Subs", "A film – 1.en.srt"], SUBTITLES),
        browser.film(dir, "A film – 1.webm", SECONDS).await,
        text(&["read me.txt"], "A text.\n"),
    ];
    Payload { name: "Films & more".to_owned(), files }
}

/// Adds a payload as a folder of IPFS to what the gateway of a story's folder will have, and tells its CID; `None` when
/// the story is to be skipped.
pub(super) async fn add_to_ipfs(payload: &Payload, dir: &Path) -> Option<String> {
    payload.lay_out(dir);
    let folder = dir.join(&payload.name).display().to_string();
    let args = ["--output", "json", "add", &folder];
    let (added, log) = gateway::run(dir, &args, TRANSFER_WITHIN).await?;
    let cid = log.split('"').find(|word| word.starts_with("bafy")).unwrap_or_else(|| panic!("{added}: {log}"));
    Some(cid.to_owned())
}

/// Nobody is kept out by a page, and the browser has nothing to complain of.
pub(super) async fn is_fine(visitor: &Visitor, page: &str) {
    assert_eq!(visitor.barriers().await, Vec::<String>::new(), "{page}");
    assert_eq!(visitor.complaints().await, Vec::<String>::new(), "{page}");
}
