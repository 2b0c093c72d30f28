//! One film that four networks have, each by a program of others: libtorrent over TCP, a page of Chromium over WebRTC,
//! Kubo over Bitswap, nginx as a web seed. They are killed and revived while somebody watches.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use swarmgate_config::TrackerAllow;
use swarmgate_content::ContentId;
use swarmgate_hybrid_rules::{Authority, ContentBinding, Name, Network};
use swarmgate_tests::http;
use swarmgate_tests::kubo::Kubo;
use swarmgate_tests::nginx::Nginx;
use swarmgate_tests::node::Node;
use swarmgate_tests::payload::Payload;
use swarmgate_tests::player::Player;
use swarmgate_tests::throttle::Throttle;
use swarmgate_tests::torrent::Torrent;
use swarmgate_tests::webtorrent::{Browser, Client, Share};

use super::{MIB, folder, scratch};

/// What each network gives at most, in bytes a second.
const RATE: u64 = 3_000_000;
/// How long each of them is gone before the next one is.
const TURN: Duration = Duration::from_millis(1500);
/// What is borne: libtorrent, when it was cut off, takes some seconds until it sends again.
const LONGEST_STALL: Duration = Duration::from_secs(2);

const PLAYER: Player = Player { bytes_per_second: 4_000_000, buffer: Duration::from_secs(5) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_is_watched_while_libtorrent_chromium_kubo_and_nginx_are_killed_and_revived_in_turn() {
    let dir = scratch();
    let Some(world) = World::start(401, 40 * MIB, dir.path()).await else { return };
    let Some(browser) = Browser::start(dir.path()).await else { return };
    let page = world.page(&browser).await;
    world.bind([world.torrent_name(), world.cid_name()]).await;
    world.learn().await;
    let whole = &world.payload.files[0].bytes;
    let path = world.path();
    let watched = tokio::select! {
        watched = PLAYER.watch(world.node.address(), &path, whole, |_| true) => watched,
        () = trouble(&world, &browser, page.clone()) => unreachable!("there is no end to it"),
    };
    eprintln!("{watched:?}");
    let delivered = world.delivered();
    assert!(watched.stood <= LONGEST_STALL, "the player stood still for {:?}", watched.stood);
    for network in [Network::BitTorrent, Network::Ipfs, Network::Http] {
        let share = delivered.get(&network).copied().unwrap_or_default();
        assert!(share >= MIB as u64, "{network:?} brought {share} bytes: {delivered:?}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_asked_for_by_cid_goes_on_over_libtorrent_and_nginx_when_kubo_is_killed() {
    let dir = scratch();
    // As long as one node of links names all leaves.
    let Some(mut world) = World::start(402, 40 * MIB, dir.path()).await else { return };
    let mirror = Name::Mirror(world.mirror_url());
    world.bind([world.torrent_name(), world.cid_name(), mirror]).await;
    world.learn().await;
    let (whole, path) = (&world.payload.files[0].bytes, format!("/ipfs/{}", world.cid));
    let (kubo, mut alive) = (&mut world.kubo, true);
    let watched = PLAYER.watch(world.node.address(), &path, whole, |come| {
        if alive && come >= whole.len() / 3 {
            kubo.kill();
            alive = false;
        }
        true
    });
    let watched = watched.await;
    eprintln!("{watched:?}");
    let delivered = world.delivered();
    assert!(watched.stood <= LONGEST_STALL, "the player stood still for {:?}", watched.stood);
    for network in [Network::BitTorrent, Network::Http] {
        let share = delivered.get(&network).copied().unwrap_or_default();
        assert!(share >= MIB as u64, "{network:?} brought {share} bytes: {delivered:?}");
    }
    world.stop().await;
}

/// A film at libtorrent, Kubo and nginx, each behind a way of its own, and the gateway.
struct World {
    payload: Payload,
    torrent: Torrent,
    cid: String,
    _seeder: Share,
    swarm: Throttle,
    kubo: Kubo,
    ipfs: Throttle,
    _nginx: Nginx,
    web: Throttle,
    node: Node,
}

impl World {
    async fn start(seed: u64, len: usize, dir: &Path) -> Option<Self> {
        let payload = Payload::single("film.mkv", seed, len);
        // Its peers shall know no other way to it.
        let kubo = Kubo::start_with(dir, |config| {
            config["Addresses"]["NoAnnounce"] = config["Addresses"]["Swarm"].clone();
        });
        let kubo = kubo.await?;
        let cid = kubo.add(&payload.files[0].bytes);
        let ipfs = Throttle::start(kubo.address(), RATE).await;

        let files = folder(dir, "served");
        payload.lay_out(&files);
        let nginx = Nginx::start(dir, &files, RATE).await?;
        let web = Throttle::start(nginx.address(), RATE).await;

        let torrent = Torrent::of(&payload, 256 << 10, None).with_web_seed(&format!("http://{}/", web.address()));
        let seeder = Client::Libtorrent.start(dir).await?;
        let seeder = seeder.seed(&payload, &torrent, &[]).await;
        let address = seeder.peer().tcp_address().expect("libtorrent listens");
        let swarm = Throttle::start(address, RATE).await;

        let provider = kubo.multiaddr_at(ipfs.address());
        let node = Node::with(|config| {
            config.ipfs.bootstrap = vec![provider];
            config.webtorrent.tracker_allow = TrackerAllow::Any;
        });
        let node = node.await;
        Some(Self { payload, torrent, cid, _seeder: seeder, swarm, kubo, ipfs, _nginx: nginx, web, node })
    }

    fn id(&self) -> ContentId {
        ContentId::parse_torrent(&self.torrent.info_hash).expect("the kit's own infohash")
    }

    fn torrent_name(&self) -> Name {
        Name::Torrent { id: self.id(), file: 0 }
    }

    fn cid_name(&self) -> Name {
        Name::Ipfs(ContentId::parse_cid(&self.cid).expect("Kubo's CID"))
    }

    fn mirror_url(&self) -> String {
        format!("http://{}/{}", self.web.address(), self.payload.name)
    }

    fn path(&self) -> String {
        format!("/bt/{}/{}", self.torrent.info_hash, self.payload.name)
    }

    /// Opens a page that seeds the film, and waits until the gateway's tracker knows it.
    async fn page(&self, browser: &Browser) -> Share {
        let page = browser.page().await;
        page.limit_upload(RATE).await;
        let tracker = self.node.url("/announce").replacen("http", "ws", 1);
        page.seed(&self.payload, &self.torrent, &[&tracker]).await
    }

    /// Tells the gateway that these names are the same bytes.
    async fn bind(&self, names: impl IntoIterator<Item = Name>) {
        let binding = ContentBinding {
            names: names.into_iter().collect(),
            len: Some(self.payload.files[0].bytes.len() as u64),
            path: vec![self.payload.name.clone()],
            said_by: Authority::Operator,
        };
        let hybrid = self.node.app.hybrid().expect("it is on unless a story says otherwise");
        hybrid.book().add(binding).await.expect("the index takes it");
    }

    /// Gives the gateway the torrent's file, and the address of the seeder.
    async fn learn(&self) {
        let url = self.node.url("/api/v1/items");
        let added = http::post(&url, "application/x-bittorrent", self.torrent.bytes.clone()).await;
        assert!(added.status.is_success(), "{}", added.text());
        let hash = &self.torrent.info_hash;
        let peer = self.swarm.address();
        let url = self.node.url(&format!("/bt/{hash}/?format=json&xt=urn:btih:{hash}&x.pe={peer}"));
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What each network was the first to deliver, in verified bytes. Says it too.
    fn delivered(&self) -> BTreeMap<Network, u64> {
        let hybrid = self.node.app.hybrid().expect("it is on unless a story says otherwise");
        let mut delivered = BTreeMap::new();
        for share in hybrid.fetches().into_iter().flat_map(|fetch| fetch.shares) {
            eprintln!("{share:?}");
            *delivered.entry(share.network).or_default() += share.bytes;
        }
        let passed = [&self.swarm, &self.ipfs, &self.web].map(Throttle::passed);
        eprintln!("{delivered:?}; libtorrent, Kubo and nginx sent {passed:?}");
        delivered
    }

    async fn stop(self) {
        self.node.stop().await;
    }
}

/// Has one after the other go and come back: libtorrent's and nginx's connections are cut, Kubo's fall silent, and the
/// page is killed from one moment to the next. A new one takes some seconds until it seeds.
async fn trouble(world: &World, browser: &Browser, page: Share) {
    let ways = async {
        loop {
            // The page's turn.
            tokio::time::sleep(TURN).await;
            for way in [&world.swarm, &world.ipfs, &world.web] {
                if std::ptr::eq(way, &world.ipfs) {
                    way.clog()
                } else {
                    way.cut()
                }
                tokio::time::sleep(TURN).await;
                way.mend();
            }
        }
    };
    let pages = async {
        let mut page = page;
        loop {
            tokio::time::sleep(4 * TURN).await;
            eprintln!("the page has sent {}", page.status().await.uploaded);
            page.peer().crash().await;
            page = world.page(browser).await;
        }
    };
    tokio::join!(ways, pages);
}
