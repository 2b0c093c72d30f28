//! Starting and stopping: what is bound, what is left, what an operator is told when it cannot be.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use swarmgate_config::Config;
use swarmgate_content::Event;
use swarmgate_tests::measure::{alone, descriptors, listening, threads};
use swarmgate_tests::node::{self, Content, Node, Seeder};
use swarmgate_tests::raw::Connection;
use swarmgate_tests::{ports, wait};
use tokio::runtime::Handle;

use super::KIB;

/// Starts and stops, and how many of them may pass before what is left is counted.
const CYCLES: usize = 100;
const WARM_UP: usize = 5;
/// Threads for blocking work come when several pieces of it meet, and stay for a while: how many is chance, but not a
/// matter of how often the gateway was started.
const THREADS_BY_CHANCE: usize = 8;
/// What others of this process hold of a gateway that is gone (a seeder's end of a connection) is gone after this.
const SETTLE: Duration = Duration::from_secs(5);

/// A gateway on ports that do not change, with every part that has sockets.
fn fixed(dir: &Path, ports: [SocketAddr; 3]) -> Config {
    let mut config = node::config(dir);
    config.server.listen = vec![ports[0].into()];
    config.bittorrent.listen_port = ports[1].port();
    config.bittorrent.dht = true;
    config.bittorrent.dht_port = ports[2].port();
    config
}

#[derive(Debug)]
struct Held {
    descriptors: usize,
    tasks: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        Self { descriptors: descriptors(), tasks: Handle::current().metrics().num_alive_tasks(), threads: threads() }
    }

    fn is_within(&self, other: &Self) -> bool {
        self.descriptors <= other.descriptors
            && self.tasks <= other.tasks
            && self.threads <= other.threads + THREADS_BY_CHANCE
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_starts_and_stops_on_fixed_ports_leave_nothing_behind() {
    if !alone("stories::lifecycle::a_hundred_starts_and_stops_on_fixed_ports_leave_nothing_behind") {
        return;
    }
    let content = Content::single("film.mkv", 41, 512 * KIB, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let dir = tempfile::tempdir().unwrap();
    let config = fixed(dir.path(), [ports::free(), ports::free(), ports::free()]);
    let mut base = Held::now();
    for cycle in 0..CYCLES {
        let node = Node::start(&config).await.unwrap_or_else(|e| panic!("cycle {cycle}: {e}"));
        node.learn(&content, &[seeder.address()]).await;
        let range = cycle * KIB..(cycle + 64) * KIB;
        let answer = node.connect().await.get_range(&content.path(0), range.start, range.end).await;
        assert!(answer.body == content.bytes[range], "cycle {cycle}");
        node.stop().await;
        if cycle < WARM_UP {
            tokio::time::sleep(Duration::from_millis(200)).await;
            base = Held::now();
        }
    }
    let settled = async || Held::now().is_within(&base).then_some(());
    wait::until(&format!("{:?} to fall to {base:?}", Held::now()), SETTLE, settled).await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sockets_of_the_process_are_those_declared_before_and_after_the_first_request() {
    if !alone("stories::lifecycle::the_sockets_of_the_process_are_those_declared_before_and_after_the_first_request") {
        return;
    }
    let content = Content::single("film.mkv", 42, 512 * KIB, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let foreign = listening();
    let node = Node::with(|config| {
        config.bittorrent.dht = true;
        config.server.listen.push("[::1]:0".parse().unwrap());
    })
    .await;
    let ours = || listening().difference(&foreign).copied().collect::<BTreeSet<_>>();
    let declared: BTreeSet<_> = node.app.sockets().iter().copied().collect();
    assert_eq!(declared.len(), 9, "HTTP twice, peers, uTP, trackers, DHT, WebRTC, IPFS twice: {declared:?}");
    assert_eq!(ours(), declared);
    node.learn(&content, &[seeder.address()]).await;
    let answer = node.connect().await.get(&content.path(0), &[]).await;
    assert!(answer.body == content.bytes);
    assert_eq!(ours(), declared, "nothing is bound later");
    node.stop().await;
    assert_eq!(ours(), BTreeSet::new());
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_in_one_process_do_not_meet() {
    let content = Content::single("film.mkv", 43, 512 * KIB, 64 * 1024);
    let seeder = Seeder::start(&content).await;
    let (one, other) = (Node::fresh().await, Node::fresh().await);
    let mut events = other.app.manager().events().subscribe();
    one.learn(&content, &[seeder.address()]).await;
    assert!(one.connect().await.get(&content.path(0), &[]).await.body == content.bytes);
    let mut client = other.connect().await;
    let status = client.get("/api/v1/status", &[]).await.json();
    assert_eq!(status["totals"]["items"], 0, "{status}");
    assert_eq!(status["http"]["stream_bytes"], 0, "{status}");
    assert_eq!(status["cache"]["bytes"], 0, "{status}");
    assert_eq!(other.stats(), swarmgate_content::StatsSnapshot::default());
    assert!(events.try_recv().unwrap().is_none(), "no event of one is heard at the other");
    let answer = client.get(&content.path(0), &[]).await;
    assert_eq!(answer.status, 502, "the other has nobody to ask: {}", answer.text());
    assert!(matches!(events.try_recv().unwrap().map(|it| it.event), Some(Event::ItemAdded { .. })));
    one.stop().await;
    let answer = client.get("/readyz", &[]).await;
    assert_eq!(answer.status, 200, "the other goes on: {}", answer.text());
    other.stop().await;
    seeder.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_fails_the_start_with_its_option_and_frees_the_others() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tcp, udp) = (taken.local_addr().unwrap(), taken_udp.local_addr().unwrap());
    type Change = fn(&mut Config, SocketAddr);
    let rows: [(&str, SocketAddr, Change); 3] = [
        ("server.listen", tcp, |config, taken| config.server.listen.push(taken.into())),
        ("bittorrent.listen_port", tcp, |config, taken| config.bittorrent.listen_port = taken.port()),
        ("bittorrent.dht_port", udp, |config, taken| {
            config.bittorrent.dht = true;
            config.bittorrent.dht_port = taken.port();
        }),
    ];
    for (option, taken, change) in rows {
        let dir = tempfile::tempdir().unwrap();
        let mut config = node::config(dir.path());
        config.server.listen = vec![ports::free().into()];
        let first = config.server.listen[0].tcp().expect("an address");
        change(&mut config, taken);
        let error = Node::start(&config).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
        assert!(error.contains(&taken.to_string()) && error.contains("in use"), "{error}");
        std::net::TcpListener::bind(first).unwrap_or_else(|e| panic!("{option}: {first} is still bound: {e}"));
        // Nor is the cache still locked.
        let again = Node::start(&node::config(dir.path())).await.unwrap_or_else(|e| panic!("{option}: {e}"));
        again.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_cannot_be_used_fails_the_start_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("file"), b"x").unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full").join("thesis.tex"), b"x").unwrap();
    let running = Node::start(&node::config(&path("taken"))).await.unwrap();
    let rows = [
        (path("file"), "is not a directory"),
        (path("file").join("below"), "is not a directory"),
        (path("full"), "thesis.tex"),
        (path("taken"), "in use by another running instance"),
    ];
    for (dir, reason) in rows {
        let error = Node::start(&node::config(&dir)).await.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("the cache cannot be opened: ") && error.contains(reason), "{error}");
        assert!(error.contains(&dir.display().to_string()), "{error}");
    }
    let answer = running.connect().await.get("/readyz", &[]).await;
    assert_eq!(answer.status, 200, "the one that has it is not disturbed");
    running.stop().await;
    assert!(path("full").join("thesis.tex").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_running_streams_with_a_reset_and_idle_connections_in_order() {
    use swarmgate_tests::hostile::{HostilePeer, Manners};
    let content = Content::single("film.mkv", 44, 4096 * KIB, 64 * 1024);
    let peer = HostilePeer::start(Manners::honest(&content).paced(Duration::from_millis(20))).await;
    let node = Node::fresh().await;
    node.learn(&content, &[peer.address()]).await;
    let mut reading = node.connect().await;
    reading.send("GET", &content.path(0), &[]).await.unwrap();
    assert_eq!(reading.head().await.unwrap().status, 200);
    let mut idle = node.connect().await;
    assert_eq!(idle.get("/healthz", &[]).await.status, 200);
    let address = node.address();
    let stopping = tokio::spawn(async move { node.app.shutdown(Duration::from_millis(300)).await });
    let mut read = 0;
    let ended = loop {
        match reading.some(KIB * KIB).await {
            Ok(some) => {
                assert!(some == content.bytes[read..read + some.len()]);
                read += some.len();
            }
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(ended, std::io::ErrorKind::ConnectionReset, "after {read} bytes");
    assert!(read < content.bytes.len());
    assert_eq!(idle.some(1).await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    stopping.await.unwrap();
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    drop::<Connection>(idle);
}
