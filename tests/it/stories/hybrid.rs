//! One content over several networks: real swarms, real Bitswap and web servers beside the gateway, each as fast as the
//! story has it, cut and mended while a client reads.
//!
//! What is promised of it is judged here on real stacks, and in simulated time by the acceptance tests of
//! `swarmgate-hybrid-rules`. Two things are judged there alone: that a step of the clock on the wall changes nothing, for
//! nobody here reads that clock and none can be set for one process, and how it compares with rules that do not learn,
//! for the gateway has none.
//!
//! * `silence`: who falls silent.
//! * `liars`: who lies now and then.
//! * `costs`: what it costs where one source is all there is.
//! * `probes`: a thousand requests at once, and one source whose breaker is half open.

mod costs;
mod liars;
mod probes;
mod silence;

use std::time::{Duration, Instant};

use swarmgate_config::Config;
use swarmgate_content::ContentId;
use swarmgate_hybrid_rules::{Authority, ContentBinding, Name};
use swarmgate_ipfs_proto::build::Profile;
use swarmgate_tests::dag::DagSeeder;
use swarmgate_tests::http;
use swarmgate_tests::measure::alone;
use swarmgate_tests::node::{Content, Node, Seeder};
use swarmgate_tests::player::{Player, Watched};
use swarmgate_tests::raw::Connection;
use swarmgate_tests::throttle::Throttle;
use swarmgate_tests::web::WebServer;

use super::{KIB, MIB, bulk_mib};

const MB: u64 = 1_000_000;

/// A file that three networks have, each behind a way of its own.
struct World {
    content: Content,
    seeder: Seeder,
    swarm: Throttle,
    dag: DagSeeder,
    ipfs: Throttle,
    server: WebServer,
    web: Throttle,
    node: Node,
}

impl World {
    /// A file of `len` bytes; the swarm, IPFS and the web server give so many MB/s.
    async fn start(seed: u64, len: usize, rates: [u64; 3]) -> Self {
        Self::start_cut(seed, len, (256 * 1024, Profile::V1_2025), rates).await
    }

    /// The same, with pieces of that length and leaves of that profile.
    async fn start_cut(seed: u64, len: usize, (piece, leaves): (u32, Profile), rates: [u64; 3]) -> Self {
        let content = Content::single("film.bin", seed, len, piece);
        let seeder = Seeder::start(&content).await;
        let swarm = Throttle::start(seeder.address(), rates[0] * MB).await;
        let dag = DagSeeder::start_cut(&content.bytes, leaves).await;
        let ipfs = Throttle::start(dag.address(), rates[1] * MB).await;
        let server = WebServer::start([("/film.bin".to_owned(), content.bytes.clone())]).await;
        let web = Throttle::start(server.address(), rates[2] * MB).await;
        let node = Self::client_of(&dag, &ipfs, |_| {}).await;
        Self { content, seeder, swarm, dag, ipfs, server, web, node }
    }

    /// A gateway that knows the IPFS node, by that way.
    async fn client_of(dag: &DagSeeder, way: &Throttle, change: impl FnOnce(&mut Config)) -> Node {
        let provider = dag.multiaddr_at(way.address());
        let with = |config: &mut Config| {
            config.ipfs.bootstrap = vec![provider];
            change(config);
        };
        Node::with(with).await
    }

    fn torrent(&self) -> Name {
        Name::Torrent { id: ContentId::BtV1(self.content.infohash()), file: 0 }
    }

    fn cid(&self) -> Name {
        Name::Ipfs(ContentId::Ipfs(self.dag.cid))
    }

    fn mirror(&self) -> Name {
        Name::Mirror(format!("http://{}/film.bin", self.web.address()))
    }

    /// Tells the gateway that these names are the same bytes.
    async fn bind(&self, names: impl IntoIterator<Item = Name>) {
        self.bind_at(&self.node, names).await;
    }

    async fn bind_at(&self, node: &Node, names: impl IntoIterator<Item = Name>) {
        let binding = ContentBinding {
            names: names.into_iter().collect(),
            len: Some(self.content.bytes.len() as u64),
            path: vec!["film.bin".to_owned()],
            said_by: Authority::Operator,
        };
        node.app.hybrid().unwrap().book().add(binding).await.unwrap();
    }

    /// Plays it by its infohash as long as `goes_on` says so.
    async fn watch(&self, player: Player, goes_on: impl FnMut(usize) -> bool) -> Watched {
        player.watch(self.node.address(), &self.content.path(0), &self.content.bytes, goes_on).await
    }

    /// Reads all of it at `path`, comparing as it comes; `at` is called with how much has come. Returns the time it
    /// took, and the longest time in which nothing came.
    async fn read(&self, path: &str, mut at: impl FnMut(usize)) -> (Duration, Duration) {
        let mut connection = Connection::open(self.node.address()).await;
        let begun = Instant::now();
        // By a name, IPFS content would have an origin of its own.
        let host = self.node.address().to_string();
        connection.send("GET", path, &[("host", &host)]).await.unwrap();
        let head = connection.head().await.unwrap();
        assert_eq!((head.status, head.content_length()), (200, self.content.bytes.len()));
        let (mut come, mut last, mut longest) = (0, Instant::now(), Duration::ZERO);
        while come < self.content.bytes.len() {
            let some = connection.some(self.content.bytes.len() - come).await.unwrap();
            assert!(some == self.content.bytes[come..come + some.len()], "other bytes after {come}");
            longest = longest.max(last.elapsed());
            last = Instant::now();
            come += some.len();
            at(come);
        }
        (begun.elapsed(), longest)
    }

    fn cid_path(&self) -> String {
        format!("/ipfs/{}", self.dag.cid)
    }

    async fn stop(self) {
        self.node.stop().await;
        self.seeder.stop().await;
        self.dag.stop().await;
    }
}

/// Who has delivered what, for whoever reads the story's output.
fn shares(node: &Node) -> String {
    let hybrid = node.app.hybrid().unwrap();
    let fetches = serde_json::to_string_pretty(&hybrid.fetches()).unwrap();
    format!("{fetches}\n{:?}", hybrid.budget().status())
}

/// Adds a torrent as its file.
async fn add(node: &Node, torrent: Vec<u8>) {
    let added = http::post(&node.url("/api/v1/items"), "application/x-bittorrent", torrent).await;
    assert!(added.status.is_success(), "{}", added.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_networks_together_give_nine_tenths_of_their_sum_by_infohash() {
    let mib = bulk_mib(60);
    // What it takes to get going weighs little at full size, and is left out of account at a smaller one.
    let (least, most, first) = if mib >= 190 { (18.0, 1.05, 0) } else { (16.0, 1.10, 16 * MIB) };
    let world = World::start(1, mib * MIB, [6, 4, 10]).await;
    world.bind([world.torrent(), world.cid(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let mut begun = (Instant::now(), 0);
    let note = |come| {
        if begun.1 < first && come >= first {
            begun = (Instant::now(), come);
        }
    };
    world.read(&world.content.path(0), note).await;
    let (since, before) = begun;
    let rate = (world.content.bytes.len() - before) as f64 / since.elapsed().as_secs_f64() / 1e6;
    let passed = [&world.swarm, &world.ipfs, &world.web].map(Throttle::passed);
    println!("{rate:.1} MB/s, of which passed {passed:?}");
    println!("{}", shares(&world.node));
    let twice = passed.iter().sum::<u64>() as f64 / world.content.bytes.len() as f64;
    assert!(rate >= least, "{rate:.1} MB/s where the three have 20: {passed:?}");
    assert!(twice <= most, "{twice:.2} times its bytes: {passed:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_does_not_notice_that_the_fastest_network_is_killed() {
    let world = World::start(12, 60 * MIB, [10, 6, 4]).await;
    world.bind([world.torrent(), world.cid(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let player = Player { bytes_per_second: 8 * MB, buffer: Duration::from_secs(5) };
    let third = world.content.bytes.len() * 3 / 10;
    let watched = world.watch(player, |come| {
        if come >= third {
            world.swarm.cut();
        }
        true
    });
    let watched = watched.await;
    println!("{watched:?}");
    assert!(watched.stood <= Duration::from_millis(500), "it stood still for {:?}", watched.stood);
    world.stop().await;
}

/// The fastest is gone for ten seconds, in which its breaker opens three times: for 2 s, for about 4, and for about 8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_comes_back_is_used_again_when_its_breaker_has_been_open_once_more() {
    const GONE: Duration = Duration::from_secs(10);
    /// A probe, and what a busy machine adds to it.
    const PROBE: Duration = Duration::from_secs(5);
    // Long enough that there is something left to ask for when the breaker lets a probe through.
    let world = World::start(13, 112 * MIB, [2, 2, 8]).await;
    world.bind([world.torrent(), world.cid(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let player = Player { bytes_per_second: 2 * MB, buffer: Duration::from_secs(1) };
    let breakers = world.node.app.hybrid().unwrap().breakers().clone();
    let host = world.web.address().to_string();
    let mut cut = None;
    let mut back: Option<(Instant, Duration, u64)> = None;
    let mut again = None;
    let watched = world.watch(player, |come| {
        // All three are known by then.
        if come < 4 * MIB {
            return true;
        }
        let cut = *cut.get_or_insert_with(Instant::now);
        match back {
            None if cut.elapsed() < GONE => world.web.cut(),
            None => {
                let status = breakers.status(Instant::now()).into_iter().find(|it| *it.key.source == *host).unwrap();
                println!("{status:?}");
                world.web.mend();
                let open = Duration::from_millis(status.next_probe_ms.unwrap_or_default());
                back = Some((Instant::now(), open, world.web.passed()));
            }
            Some((since, _, before)) if world.web.passed() > before + MB => again = Some(since.elapsed()),
            Some(_) => {}
        }
        again.is_none()
    });
    let watched = watched.await;
    println!("{watched:?}");
    let (_, open, before) = back.unwrap();
    let again = again.unwrap_or_else(|| panic!("it was never used again: {} bytes", world.web.passed() - before));
    println!("used again after {again:?}; its breaker was to be open for {open:?}");
    assert!(again <= open + PROBE, "used again after {again:?}, though its breaker was open for {open:?} only");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_asked_for_by_infohash_goes_on_over_ipfs_when_its_swarm_is_killed() {
    let world = World::start(2, 24 * MIB, [8, 8, 1]).await;
    world.bind([world.torrent(), world.cid()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let half = world.content.bytes.len() / 2;
    let (_, longest) = world
        .read(&world.content.path(0), |come| {
            if come >= half {
                world.swarm.cut()
            }
        })
        .await;
    println!("longest pause {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?} without a byte");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_film_asked_for_by_cid_goes_on_over_its_swarm_when_ipfs_is_killed() {
    let world = World::start(3, 24 * MIB, [8, 8, 1]).await;
    world.bind([world.torrent(), world.cid()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let half = world.content.bytes.len() / 2;
    let (_, longest) = world
        .read(&world.cid_path(), |come| {
            if come >= half {
                world.ipfs.cut()
            }
        })
        .await;
    println!("longest pause {longest:?}, {} bytes over the swarm", world.swarm.passed());
    assert!(longest < Duration::from_secs(2), "{longest:?} without a byte");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_falls_silent_is_passed_by() {
    let world = World::start(4, 24 * MIB, [6, 1, 6]).await;
    world.bind([world.torrent(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let third = world.content.bytes.len() / 3;
    let (_, longest) = world
        .read(&world.content.path(0), |come| {
            if come >= third {
                world.web.clog()
            }
        })
        .await;
    println!("longest pause {longest:?}");
    assert!(longest < Duration::from_millis(2500), "{longest:?} without a byte");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_is_not_believed_and_asked_no_more() {
    let world = World::start(5, 24 * MIB, [6, 1, 20]).await;
    world.bind([world.torrent(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    world.server.lie();
    world.read(&world.content.path(0), |_| {}).await;
    assert!(world.server.requests() <= 20, "{} requests to one who always lies", world.server.requests());
    assert!(world.server.requests() > 0, "nobody asked it");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_to_something_else_is_dropped_and_harms_nobody() {
    let world = World::start(6, 16 * MIB, [6, 20, 1]).await;
    let other = DagSeeder::start(&Content::single("other.bin", 7, 16 * MIB, 256 * 1024).bytes).await;
    let node = &world.node;
    let peer = format!("/ipfs/{}?provider={}", other.cid, other.multiaddr_at(other.address()));
    // The gateway is a client of the other node from now on.
    let mut connection = node.connect().await;
    let host = node.address().to_string();
    assert_eq!(connection.get(&peer, &[("host", &host), ("range", "bytes=0-0")]).await.status, 206);
    let wrong = Name::Ipfs(ContentId::Ipfs(other.cid));
    world.bind([world.torrent(), wrong.clone()]).await;
    node.learn(&world.content, &[world.swarm.address()]).await;
    world.read(&world.content.path(0), |_| {}).await;
    println!("{}", shares(node));
    assert_eq!(node.app.hybrid().unwrap().book().others(&world.torrent()), [], "what was refuted is believed");
    other.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn web_seeds_are_right_across_file_boundaries_and_for_the_last_piece() {
    // Files that end within pieces, one that is empty, padding, and a last piece of some bytes.
    let files: [(&[&str], usize); 6] = [
        (&["a b.bin"], 300 * KIB + 17),
        (&["empty"], 0),
        (&["deep", "ü.bin"], 5),
        (&[".pad", "1"], 211 * KIB + 1002),
        (&["deep", "c.bin"], 700 * KIB),
        (&["d.bin"], 3 * MIB + 1),
    ];
    let content = Content::folder("a set", 8, &files, 128 * 1024);
    let served = [0, 2, 4, 5].map(|index| {
        let path = content.metainfo.info.to_meta(content.infohash()).files[index].path.join("/");
        let path = path.replace(' ', "%20").replace('ü', "%C3%BC");
        (format!("/seeds/a%20set/{path}"), content.file(index))
    });
    let server = WebServer::start(served).await;
    let node = Node::fresh().await;
    let mut metainfo = content.metainfo.clone();
    metainfo.web_seeds = vec![format!("http://{}/seeds/", server.address())];
    add(&node, metainfo.to_torrent()).await;
    for index in [0, 2, 4, 5] {
        let answer = node.connect().await.get(&content.path(index), &[]).await;
        assert_eq!(answer.status, 200, "{index}: {}", answer.text());
        assert!(answer.body == content.file(index), "file {index} is another");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_from_a_web_server_is_served_to_peers() {
    let world = World::start(9, 4 * MIB, [6, 6, 20]).await;
    world.bind([world.torrent(), world.mirror()]).await;
    add(&world.node, world.content.torrent()).await;
    // No peer has it: all comes from the web server.
    world.read(&world.content.path(0), |_| {}).await;
    let leecher = Node::fresh().await;
    let door = world.node.app.bittorrent().unwrap().listen_address().unwrap();
    let answer = leecher.connect().await.get(&format!("/magnet?{}", world.content.magnet_query(&[door])), &[]).await;
    assert!(answer.status == 200 && answer.body == world.content.bytes, "{}", answer.status);
    assert_eq!(world.server.requests(), world.content.pieces() as u64, "each piece was asked for once");
    leecher.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_is_nobodys_but_its_swarms() {
    let content = Content::private("secret.bin", 10, 4 * MIB, 256 * 1024);
    let server = WebServer::start([("/secret.bin".to_owned(), content.bytes.clone())]).await;
    let seeder = Seeder::start(&content).await;
    let node = Node::fresh().await;
    let names = [
        Name::Torrent { id: ContentId::BtV1(content.infohash()), file: 0 },
        Name::Mirror(format!("http://{}/secret.bin", server.address())),
    ];
    let binding = ContentBinding { names: names.into(), len: None, path: Vec::new(), said_by: Authority::Operator };
    node.app.hybrid().unwrap().book().add(binding).await.unwrap();
    node.learn(&content, &[seeder.address()]).await;
    let answer = node.connect().await.get(&content.path(0), &[]).await;
    assert!(answer.status == 200 && answer.body == content.bytes);
    assert_eq!(server.requests(), 0, "a stranger was asked for a private torrent");
    node.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hybrid_the_networks_serve_on_and_nothing_is_bound_anew() {
    if !alone("stories::hybrid::without_hybrid_the_networks_serve_on_and_nothing_is_bound_anew") {
        return;
    }
    let world = World::start(11, 4 * MIB, [20, 20, 20]).await;
    world.bind([world.torrent(), world.cid(), world.mirror()]).await;
    world.node.learn(&world.content, &[world.swarm.address()]).await;
    let (manager, sockets) = (world.node.app.manager(), swarmgate_tests::measure::listening());
    let kinds: Vec<_> = manager.list().into_iter().map(|protocol| protocol.kind).collect();
    assert_eq!(kinds.len(), 4, "one of each kind: {kinds:?}");
    let now = Instant::now();
    let gone = manager.unregister(swarmgate_content::ProtocolKind::Hybrid, now, std::future::ready(()), now).await;
    gone.unwrap();
    world.read(&world.content.path(0), |_| {}).await;
    world.read(&world.cid_path(), |_| {}).await;
    assert_eq!(swarmgate_tests::measure::listening(), sockets);
    assert_eq!(world.server.requests(), 0, "the web server is Hybrid's alone");
    world.stop().await;
}
