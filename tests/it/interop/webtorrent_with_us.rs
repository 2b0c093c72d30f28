//! Browsers, Node and libtorrent over WebRTC, and the gateway as one more peer of their swarms.
//!
//! Whoever joins a swarm second makes the offer, so the order of joining is told apart in every story: a peer that can
//! only ask, or only answer, would look well in half of them. They meet at the gateway's own tracker, or at npm's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::torrent::{Torrent, escape};
use swarmgate_tests::wait;
use swarmgate_tests::webtorrent::{Browser, Client, NpmTracker, Peer, Share};

use super::{PIECE_LEN, film, report, scratch};

/// Some MiB between two peers of one small machine, or 64 MiB at a third of their usual rate.
const TRANSFER_WITHIN: Duration = Duration::from_secs(60);

/// From the request to the first byte, when all there is to know is that a tab seeds.
const FIRST_BYTE_WITHIN: Duration = Duration::from_millis(1500);

/// A viewer's player has that much in hand.
const LONGEST_STALL: Duration = Duration::from_secs(1);

/// A tab that is killed says nothing: it is known by its silence. That takes half a second, or one more when the other
/// seeder, which sends twice a second, has just sent; and half a second for a machine that does other things too.
const LONGEST_STALL_BY_SILENCE: Duration = Duration::from_millis(1500);

const MIB: usize = 1 << 20;

/// Defines one test a client that plays `story`.
macro_rules! played_by_each_webrtc_client {
    ($story:path) => {
        #[tokio::test]
        async fn chromium() {
            $story(swarmgate_tests::webtorrent::Client::Chromium).await;
        }

        #[tokio::test]
        async fn node() {
            $story(swarmgate_tests::webtorrent::Client::Node).await;
        }

        #[tokio::test]
        async fn libtorrent() {
            $story(swarmgate_tests::webtorrent::Client::Libtorrent).await;
        }
    };
}

/// Where they meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tracker {
    Ours,
    Npm,
}

/// Who is in the swarm when the other joins it, and so gets the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    We,
    They,
}

/// Defines a module for each row, in which every client plays the row's story.
macro_rules! meetings {
    ($($name:ident: $story:ident at $tracker:ident, first $first:ident;)*) => {
        $(mod $name {
            use super::*;

            played_by_each_webrtc_client!(story);

            async fn story(client: Client) {
                $story(client, Tracker::$tracker, First::$first).await;
            }
        })*
    };
}

meetings! {
    we_offer_and_send_through_our_tracker_to: they_fetch at Ours, first They;
    we_answer_and_send_through_our_tracker_to: they_fetch at Ours, first We;
    we_offer_and_send_through_npms_tracker_to: they_fetch at Npm, first They;
    we_answer_and_send_through_npms_tracker_to: they_fetch at Npm, first We;
    we_offer_and_fetch_through_our_tracker_from: we_fetch at Ours, first They;
    we_answer_and_fetch_through_our_tracker_from: we_fetch at Ours, first We;
    we_offer_and_fetch_through_npms_tracker_from: we_fetch at Npm, first They;
    we_answer_and_fetch_through_npms_tracker_from: we_fetch at Npm, first We;
}

/// The gateway has the film from a TCP peer; the client, who knows an infohash and a tracker, gets all of it.
async fn they_fetch(client: Client, tracker: Tracker, first: First) {
    let dir = scratch();
    let Some(meeting) = Meeting::arrange(tracker, 61, dir.path()).await else { return };
    let Some(source) = Client::Libtorrent.start(dir.path()).await else { return };
    let Some(client) = client.start(dir.path()).await else { return };
    let by_tcp = over_tcp(&source, &meeting.payload, &meeting.torrent).await;

    let fetching = match first {
        First::They => {
            let fetching = client.download(&meeting.torrent, &[&meeting.url]);
            fetching.announced().await;
            meeting.we_join().await;
            meeting.fill_from(by_tcp).await;
            fetching
        }
        First::We => {
            meeting.we_join().await;
            meeting.fill_from(by_tcp).await;
            source.crash().await;
            meeting.has_a_member().await;
            client.download(&meeting.torrent, &[&meeting.url])
        }
    };
    fetching.has(&meeting.payload, TRANSFER_WITHIN).await;
}

/// The client has the film; a viewer asks the gateway for a part of it and for all.
async fn we_fetch(client: Client, tracker: Tracker, first: First) {
    let dir = scratch();
    let Some(meeting) = Meeting::arrange(tracker, 62, dir.path()).await else { return };
    let Some(client) = client.start(dir.path()).await else { return };

    let whole = meeting.payload.joined();
    let url = meeting.film_url();
    let seed = async || client.seed(&meeting.payload, &meeting.torrent, &[&meeting.url]).await;
    match first {
        First::They => {
            seed().await;
            meeting.we_join().await;
        }
        First::We => {
            meeting.gateway.add_torrent(&meeting.torrent.bytes).await;
            meeting.has_a_member().await;
            seed().await;
        }
    }
    http::assert_range(&url, &whole, 1_234_567, 1_500_000).await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.body == whole, "{url}: {} bytes, not those of the payload", answer.body.len());
}

mod we_fetch_64_mib_from_and_send_them_to {
    use super::*;

    played_by_each_webrtc_client!(story);

    async fn story(client: Client) {
        let dir = scratch();
        let Some(gateway) = open_gateway(dir.path()).await else { return };
        let Some(giver) = client.start(dir.path()).await else { return };
        let payload = Payload::single("film.mkv", 63, 64 * MIB);
        let torrent = Torrent::of(&payload, 4 * PIECE_LEN, None);
        let tracker = announce_url(&gateway);

        giver.seed(&payload, &torrent, &[&tracker]).await;
        let asked = Instant::now();
        let answer = http::get(&gateway.magnet_url(&torrent.info_hash, &[])).await;
        report(&format!("{client:?} to us"), payload.files[0].bytes.len(), asked.elapsed());
        assert!(answer.body == payload.files[0].bytes, "{}: {} bytes", answer.status, answer.body.len());

        giver.crash().await;
        // With it goes its browser: there is one at a time.
        drop(giver);
        let Some(taker) = client.start(dir.path()).await else { return };
        let fetched = taker.download(&torrent, &[&tracker]).has(&payload, TRANSFER_WITHIN).await;
        report(&format!("us to {client:?}"), payload.files[0].bytes.len(), fetched.total);
    }
}

mod chromium {
    use super::*;

    /// Its candidates are names that only its own machine's multicast could resolve: it dials, and we see from where.
    #[tokio::test]
    async fn exchanges_a_film_with_us_while_it_hides_its_addresses() {
        let dir = scratch();
        let Some(gateway) = open_gateway(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        let (payload, torrent) = film(64, None);
        let tracker = announce_url(&gateway);

        let giver = browser.page_that_hides_its_addresses().await;
        giver.seed(&payload, &torrent, &[&tracker]).await;
        let answer = http::get(&gateway.magnet_url(&torrent.info_hash, &[])).await;
        assert!(answer.body == payload.joined(), "{}: {} bytes", answer.status, answer.body.len());
        giver.crash().await;
        let taker = browser.page_that_hides_its_addresses().await;
        taker.download(&torrent, &[&tracker]).has(&payload, TRANSFER_WITHIN).await;
    }

    #[tokio::test]
    async fn pages_that_know_only_our_tracker_exchange_a_film_of_which_we_hold_nothing() {
        let dir = scratch();
        let Some(gateway) = open_gateway(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        let (payload, torrent) = film(65, None);
        let tracker = announce_url(&gateway);
        let (giver, taker) = (browser.page().await, browser.page().await);
        giver.seed(&payload, &torrent, &[&tracker]).await;
        taker.download(&torrent, &[&tracker]).has(&payload, TRANSFER_WITHIN).await;
        let ours = http::get(&gateway.url(&format!("/api/v1/items/{}", torrent.info_hash))).await;
        assert_eq!(ours.status, 404, "the gateway took part: {}", ours.text());
    }

    #[tokio::test]
    async fn pages_fetch_from_us_five_at_once() {
        let dir = scratch();
        let Some(meeting) = Meeting::arrange(Tracker::Ours, 66, dir.path()).await else { return };
        let Some(source) = Client::Libtorrent.start(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        meeting.fill_from(over_tcp(&source, &meeting.payload, &meeting.torrent).await).await;
        source.crash().await;
        let mut fetching = Vec::new();
        for _ in 0..5 {
            fetching.push(browser.page().await.download(&meeting.torrent, &[&meeting.url]));
        }
        for share in fetching {
            share.has(&meeting.payload, TRANSFER_WITHIN).await;
        }
    }

    /// The gateway has never heard of the infohash when the viewer asks.
    #[tokio::test]
    async fn alone_has_a_film_that_is_streamed_over_http_at_once() {
        let dir = scratch();
        let Some(gateway) = open_gateway(dir.path()).await else { return };
        let Some(browser) = Browser::start(dir.path()).await else { return };
        let (payload, torrent) = film(67, None);
        browser.page().await.seed(&payload, &torrent, &[&announce_url(&gateway)]).await;

        let whole = payload.joined();
        let url = gateway.magnet_url(&torrent.info_hash, &[]);
        let request = http::client().get(&url).header("range", "bytes=1000000-1999999");
        let asked = Instant::now();
        let mut response = request.send().await.expect("the gateway answers");
        let first = response.chunk().await.expect("the body begins").expect("it is not empty");
        let first_byte = asked.elapsed();
        eprintln!("a tab alone: first byte after {first_byte:?}");
        assert_eq!(response.status(), 206);
        assert!(first[..] == whole[1_000_000..1_000_000 + first.len()], "the first bytes differ");
        assert!(first_byte <= FIRST_BYTE_WITHIN, "the first byte took {first_byte:?}");
        http::assert_range(&url, &whole, 1_000_000, 1_999_999).await;
        http::assert_range(&url, &whole, whole.len() - 1000, whole.len() - 1).await;
    }

    #[tokio::test]
    async fn and_a_tcp_seeder_both_contribute() {
        let dir = scratch();
        let Some(mixed) = Mixed::arrange(dir.path()).await else { return };
        let longest = mixed.stream(async || {}).await;
        let (page, tcp) = (mixed.page.status().await.uploaded, mixed.tcp.status().await.uploaded);
        eprintln!("of {} bytes, {page} came from the page and {tcp} by TCP; longest stall {longest:?}", Mixed::LEN);
        // A page's own limit comes in bursts, and libtorrent begins late: how much of it each gives is theirs to say.
        let share = Mixed::LEN as u64 / 64;
        assert!(page >= share && tcp >= share, "{page} bytes from the page, {tcp} by TCP");
    }

    #[tokio::test]
    async fn is_killed_in_mid_stream_and_a_tcp_seeder_goes_on() {
        let dir = scratch();
        let Some(mixed) = Mixed::arrange(dir.path()).await else { return };
        let longest = mixed.stream(async || mixed.page.peer().crash().await).await;
        eprintln!("longest stall {longest:?}");
        assert!(longest <= LONGEST_STALL_BY_SILENCE, "the stream stood still for {longest:?}");
    }

    #[tokio::test]
    async fn goes_on_when_a_tcp_seeder_is_killed_in_mid_stream() {
        let dir = scratch();
        let Some(mixed) = Mixed::arrange(dir.path()).await else { return };
        let longest = mixed.stream(async || mixed.tcp.peer().crash().await).await;
        eprintln!("longest stall {longest:?}");
        assert!(longest <= LONGEST_STALL, "the stream stood still for {longest:?}");
    }

    /// A film at two seeders of 1 MiB/s each: one by TCP, which thinks for a second or two before it serves anybody, and
    /// a page.
    struct Mixed {
        gateway: Gateway,
        payload: Payload,
        torrent: Torrent,
        tcp: Share,
        address: SocketAddr,
        page: Share,
        // Lives as long as its page.
        _browser: Browser,
    }

    impl Mixed {
        const LEN: usize = 8 * MIB;

        async fn arrange(dir: &Path) -> Option<Self> {
            let gateway = open_gateway(dir).await?;
            let seeder = Client::Libtorrent.start(dir).await?;
            let browser = Browser::start(dir).await?;
            let page = browser.page().await;
            let payload = Payload::single("film.mkv", 68, Self::LEN);
            let torrent = Torrent::of(&payload, PIECE_LEN, None);
            seeder.limit_upload(MIB as u64).await;
            page.limit_upload(MIB as u64).await;
            let tcp = seeder.seed(&payload, &torrent, &[]).await;
            let page = page.seed(&payload, &torrent, &[&announce_url(&gateway)]).await;
            let address = seeder.tcp_address().expect("libtorrent listens");
            Some(Self { gateway, payload, torrent, tcp, address, page, _browser: browser })
        }

        /// Reads the whole film, does something after the first quarter, and returns the longest wait for more.
        async fn stream(&self, in_the_middle: impl AsyncFnOnce()) -> Duration {
            let whole = &self.payload.files[0].bytes;
            let url = self.gateway.magnet_url(&self.torrent.info_hash, &[self.address]);
            let mut response = http::client().get(&url).send().await.expect("the gateway answers");
            assert_eq!(response.status(), 200);
            let (mut read, mut longest) = (0, Duration::ZERO);
            let mut in_the_middle = Some(in_the_middle);
            loop {
                let asked = Instant::now();
                let Some(chunk) = response.chunk().await.expect("the stream is not broken off") else { break };
                // Getting going is another story.
                if read > 0 {
                    longest = longest.max(asked.elapsed());
                }
                assert!(whole[read..].starts_with(&chunk), "wrong bytes after {read}");
                read += chunk.len();
                if read >= whole.len() / 4
                    && let Some(act) = in_the_middle.take()
                {
                    act().await;
                }
            }
            assert_eq!(read, whole.len(), "the stream ended early");
            longest
        }
    }
}

/// The gateway, a film, and the tracker at which they meet.
struct Meeting {
    gateway: Gateway,
    npm: Option<NpmTracker>,
    /// The tracker's announce URL.
    url: String,
    payload: Payload,
    torrent: Torrent,
}

impl Meeting {
    async fn arrange(tracker: Tracker, film_seed: u64, dir: &Path) -> Option<Self> {
        let gateway = open_gateway(dir).await?;
        let npm = match tracker {
            Tracker::Ours => None,
            Tracker::Npm => Some(NpmTracker::start(dir).await?),
        };
        let url = npm.as_ref().map_or_else(|| announce_url(&gateway), |npm| npm.url().to_owned());
        let (payload, torrent) = film(film_seed, npm.as_ref().map(NpmTracker::url));
        Some(Self { gateway, npm, url, payload, torrent })
    }

    /// Tells the gateway of the tracker, by the `.torrent` that names it. Its own needs no naming: there it is a member
    /// of the swarms that it is asked for.
    async fn we_join(&self) {
        if self.npm.is_some() {
            self.gateway.add_torrent(&self.torrent.bytes).await;
        }
    }

    fn film_url(&self) -> String {
        format!("{}&tr={}", self.gateway.magnet_url(&self.torrent.info_hash, &[]), escape(&self.url))
    }

    /// Has a viewer read the whole film, so that the gateway holds all of it.
    async fn fill_from(&self, peer: SocketAddr) {
        let answer = http::get(&self.gateway.magnet_url(&self.torrent.info_hash, &[peer])).await;
        let whole = self.payload.joined();
        assert!(answer.body == whole, "{}: {} bytes, not those of the payload", answer.status, answer.body.len());
    }

    /// Waits until the tracker knows somebody, who can be nobody but the gateway.
    async fn has_a_member(&self) {
        if let Some(npm) = &self.npm {
            return npm.knows(&self.torrent, 1).await;
        }
        // As a client of the old kind asks that goes away at once: it is not counted itself.
        let hash: String =
            self.torrent.info_hash.as_bytes().chunks(2).map(|h| format!("%{}", String::from_utf8_lossy(h))).collect();
        let ask = "peer_id=-XX0000-000000000000&port=1&left=1&uploaded=0&downloaded=0&compact=1&event=stopped";
        let url = self.gateway.url(&format!("/announce?info_hash={hash}&{ask}"));
        wait::until("the gateway to join its own tracker's swarm", TRANSFER_WITHIN, async || {
            let answer = http::get(&url).await.text();
            let count = |key: &str| {
                let (_, rest) = answer.split_once(key)?;
                rest.split_once('e')?.0.parse::<u32>().ok()
            };
            let members = count("8:completei").unwrap_or_default() + count("10:incompletei").unwrap_or_default();
            (members > 0).then_some(())
        })
        .await;
    }
}

/// A gateway whose tracker serves swarms that it has no part in, so that others can be there first.
async fn open_gateway(dir: &Path) -> Option<Gateway> {
    Gateway::start_with(dir, &[("SWARMGATE_WEBTORRENT__TRACKER_ALLOW", "any")]).await
}

pub(super) fn announce_url(gateway: &Gateway) -> String {
    gateway.url("/announce").replacen("http", "ws", 1)
}

/// Seeds over TCP, unknown to any tracker, and returns where.
pub(super) async fn over_tcp(source: &Peer, payload: &Payload, torrent: &Torrent) -> SocketAddr {
    let untracked = Torrent::of(payload, PIECE_LEN, None);
    assert_eq!(untracked.info_hash, torrent.info_hash, "the tracker is no part of the infohash");
    source.seed(payload, &untracked, &[]).await;
    source.tcp_address().expect("libtorrent listens")
}
