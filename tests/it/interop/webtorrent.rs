//! The harness of WebTorrent's peers proves itself: they exchange data with each other, without the gateway. When one of
//! these is red, the fault is not the gateway's.

use std::time::Duration;

use swarmgate_tests::payload::Payload;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::webtorrent::{Client, Fetched, NpmTracker};

use super::{film, scratch};

/// Two peers in one small machine, at a tenth of their usual rate.
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);

/// Enough for a connection to reach its pace.
const LONG: usize = 64 << 20;

/// As large as clients make them for so long a payload.
const LONG_PIECE: usize = 256 << 10;

#[tokio::test]
async fn node_fetches_from_node() {
    fetches_from(Client::Node, Client::Node).await;
}

#[tokio::test]
async fn libtorrent_fetches_64_mib_from_libtorrent() {
    let dir = scratch();
    let (payload, torrent) = long_film();
    let Some(tracker) = NpmTracker::start(dir.path()).await else { return };
    let Some(seeder) = Client::Libtorrent.start(dir.path()).await else { return };
    let Some(leech) = Client::Libtorrent.start(dir.path()).await else { return };
    seeder.seed(&payload, &torrent, &[tracker.url()]).await;
    let fetched = leech.download(&torrent, &[tracker.url()]).has(&payload, TRANSFER_WITHIN).await;
    report("libtorrent to libtorrent", fetched);
}

mod libtorrent_and {
    use super::*;

    #[tokio::test]
    async fn node_fetch_from_each_other() {
        fetches_from(Client::Libtorrent, Client::Node).await;
        fetches_from(Client::Node, Client::Libtorrent).await;
    }
}

mod chromium {
    use std::path::Path;

    use swarmgate_tests::wait;
    use swarmgate_tests::webtorrent::Browser;

    use super::*;

    #[tokio::test]
    async fn pages_exchange_64_mib() {
        let dir = scratch();
        let (payload, torrent) = long_film();
        let Some(tracker) = NpmTracker::start(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        let (seeder, leech) = (browser.page().await, browser.page().await);
        seeder.seed(&payload, &torrent, &[tracker.url()]).await;
        let fetched = leech.download(&torrent, &[tracker.url()]).has(&payload, TRANSFER_WITHIN).await;
        report("page to page", fetched);
    }

    #[tokio::test]
    async fn node_fetches_from_a_page_and_a_page_from_it() {
        exchange(Client::Node).await;
    }

    #[tokio::test]
    async fn libtorrent_fetches_from_a_page_and_a_page_from_it() {
        exchange(Client::Libtorrent).await;
    }

    /// A page whose addresses are hidden behind mDNS names dials those of the other side, and is reached as it dials.
    async fn exchange(other: Client) {
        let dir = scratch();
        let Some(tracker) = NpmTracker::start(dir.path()).await else { return };
        let Some(other) = other.start(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        let (page, visitor) = (browser.page().await, browser.page_that_hides_its_addresses().await);
        let (payload, torrent) = film(51, None);
        let seeding = page.seed(&payload, &torrent, &[tracker.url()]).await;
        other.download(&torrent, &[tracker.url()]).has(&payload, TRANSFER_WITHIN).await;
        seeding.peer().crash().await;
        visitor.download(&torrent, &[tracker.url()]).has(&payload, TRANSFER_WITHIN).await;
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn leaves_no_process_behind() {
        let dir = scratch();
        let Some(browser) = Browser::start(dir.path()).await else { return };
        browser.page().await;
        assert!(processes_that_name(dir.path()) > 2, "a browser is more than one process");
        drop(browser);
        wait::until("the browser's processes to end", TRANSFER_WITHIN, async || {
            (processes_that_name(dir.path()) == 0).then_some(())
        })
        .await;
    }

    /// How many processes have a folder in their command line. A browser's have its profile's.
    #[cfg(target_os = "linux")]
    fn processes_that_name(dir: &Path) -> usize {
        let entries = std::fs::read_dir("/proc").expect("Linux has it");
        let lines = entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
        lines.filter(|line| String::from_utf8_lossy(line).contains(&*dir.to_string_lossy())).count()
    }
}

/// By infohash alone, so that the metadata travels too. The one that fetches comes second: it makes the offer.
async fn fetches_from(leech: Client, seeder: Client) {
    let dir = scratch();
    let (payload, torrent) = film(50, None);
    let Some(tracker) = NpmTracker::start(dir.path()).await else { return };
    let Some(seeder) = seeder.start(dir.path()).await else { return };
    let Some(leech) = leech.start(dir.path()).await else { return };
    seeder.seed(&payload, &torrent, &[tracker.url()]).await;
    tracker.knows(&torrent, 1).await;
    leech.download(&torrent, &[tracker.url()]).has(&payload, TRANSFER_WITHIN).await;
}

fn long_film() -> (Payload, Torrent) {
    let payload = Payload::single("film.mkv", 52, LONG);
    let torrent = Torrent::of(&payload, LONG_PIECE, None);
    (payload, torrent)
}

/// What `--nocapture` shows: a figure beside which ours can be seen, and no claim.
fn report(what: &str, fetched: Fetched) {
    eprintln!("{what}: first byte {:?}, {:.1} MB/s", fetched.first_byte, fetched.megabytes_per_second());
}
