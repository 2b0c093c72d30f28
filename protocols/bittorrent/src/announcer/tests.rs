use super::*;
use crate::testing::{UdpTrackerManners, UdpTrackerStub, http_ok};
use std::net::SocketAddr;
use swarmgate_egress::testing::HttpStub;
use swarmgate_egress::{EgressPolicy, HttpClient};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(3);
const ONE_PEER: &[u8] = b"d8:completei3e8:intervali1800e12:min intervali60e5:peers6:\x7f\0\0\x07\x10\xe1e";

struct World {
    announcer: TorrentAnnouncer,
    found: mpsc::Receiver<Found>,
    stats: Arc<ProtocolStats>,
}

async fn world(tiers: &[&[String]]) -> World {
    let policy = EgressPolicy { allow_private: true };
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let client = TrackerClient::new(HttpClient::new(policy).unwrap(), policy, Some(socket), None).with_timeout(SOON);
    let (sender, found) = mpsc::channel(4);
    let stats = Arc::new(ProtocolStats::default());
    let announcer = TorrentAnnouncer::spawn(AnnouncerSetup {
        infohash: InfoHash::new([1; 20]),
        peer_id: PeerId([2; 20]),
        port: Arc::new(|| 8421),
        tiers: tiers.iter().map(|tier| tier.to_vec()).collect(),
        client: Arc::new(client),
        stats: stats.clone(),
        progress: Arc::new(|| Progress { uploaded: 11, downloaded: 22, left: None }),
        found: sender,
    });
    World { announcer, found, stats }
}

impl World {
    async fn peers(&mut self) -> Vec<SocketAddr> {
        timeout(SOON, self.found.recv()).await.unwrap().unwrap().addresses
    }

    async fn until(&self, reached: impl Fn(&[Attempt]) -> bool) -> Vec<Attempt> {
        let wait = async {
            loop {
                let attempts = self.announcer.attempts();
                if reached(&attempts) {
                    return attempts;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, wait).await.unwrap()
    }
}

async fn http_tracker() -> HttpStub {
    HttpStub::start_bytes(|_| http_ok(ONE_PEER)).await
}

/// A port where nothing listens.
async fn nobody() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/announce", listener.local_addr().unwrap())
}

#[tokio::test]
async fn peers_of_an_http_tracker_arrive_and_it_hears_start_progress_and_stop() {
    let tracker = http_tracker().await;
    let mut world = world(&[&[tracker.url("/announce")]]).await;
    assert_eq!(world.peers().await, ["127.0.0.7:4321".parse().unwrap()]);
    world.until(|attempts| attempts[0].outcome == AttemptOutcome::Ok("1 peers".to_owned())).await;
    assert_eq!(world.announcer.swarm_size(), (Some(3), None));
    world.announcer.shutdown().await;
    let requests = tracker.requests();
    assert!(requests[0].contains("event=started") && requests[0].contains("uploaded=11&downloaded=22&left=16384"));
    assert!(requests[1].contains("event=stopped"));
    assert_eq!((requests.len(), world.stats.snapshot().announces), (2, 2));
}

#[tokio::test]
async fn a_udp_tracker_hears_start_and_stop_too() {
    let peers = vec!["127.0.0.8:5".parse().unwrap()];
    let tracker = UdpTrackerStub::start(UdpTrackerManners { peers, ..UdpTrackerManners::default() }).await;
    let mut world = world(&[&[tracker.url()]]).await;
    assert_eq!(world.peers().await, ["127.0.0.8:5".parse().unwrap()]);
    world.announcer.shutdown().await;
    assert_eq!(tracker.log().events, [2, 3]);
}

#[tokio::test]
async fn a_dead_tracker_gives_way_to_the_next_of_its_tier() {
    let (dead, alive) = (nobody().await, http_tracker().await);
    // Order within a tier is drawn by lot: the second round, with the dead one alone, makes sure of the failure.
    let mut world = world(&[&[dead.clone(), alive.url("/announce")]]).await;
    assert_eq!(world.peers().await.len(), 1);
    let lone = self::world(&[&[dead]]).await;
    let failed = lone.until(|attempts| matches!(attempts[0].outcome, AttemptOutcome::Failed(_))).await;
    assert!(failed[0].target.as_ref().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(lone.stats.snapshot().announces_failed, 1);
    world.announcer.shutdown().await;
    lone.announcer.shutdown().await;
}

#[tokio::test]
async fn tiers_are_asked_at_the_same_time_and_other_kinds_are_set_aside() {
    let (one, two) = (http_tracker().await, http_tracker().await);
    let tiers: [&[String]; 3] = [&[one.url("/a")], &[two.url("/a?passkey=s3cret")], &["wss://t.example/x".to_owned()]];
    let mut world = world(&tiers).await;
    world.peers().await;
    world.peers().await;
    let attempts = world.announcer.attempts();
    assert_eq!(attempts[2].target.as_deref(), Some("wss://t.example"));
    assert!(matches!(attempts[2].outcome, AttemptOutcome::Skipped(_)));
    assert!(!format!("{attempts:?}").contains("s3cret"));
    world.announcer.shutdown().await;
}

#[tokio::test]
async fn wishing_for_peers_does_not_break_the_minimum_interval() {
    let tracker = http_tracker().await;
    let mut world = world(&[&[tracker.url("/announce")]]).await;
    world.peers().await;
    world.until(|attempts| matches!(attempts[0].outcome, AttemptOutcome::Ok(_))).await;
    for _ in 0..5 {
        world.announcer.announce_now();
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(tracker.requests().len(), 1);
    world.announcer.complete();
    timeout(SOON, async {
        while tracker.requests().len() < 2 {
            sleep(Duration::from_millis(5)).await
        }
    })
    .await
    .unwrap();
    assert!(tracker.requests()[1].contains("event=completed"), "news need not wait");
    world.announcer.shutdown().await;
}

#[tokio::test]
async fn a_tracker_that_never_answers_holds_shutdown_up_for_two_seconds_at_most() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = world(&[&[format!("http://{}/announce", silent.local_addr().unwrap())]]).await;
    silent.accept().await.unwrap();
    assert_eq!(world.announcer.attempts()[0].outcome, AttemptOutcome::Timeout, "nothing heard so far");
    timeout(GOODBYE_TIMEOUT + Duration::from_millis(500), world.announcer.shutdown()).await.unwrap();
}

#[tokio::test]
async fn trackers_learnt_later_are_asked_at_once() {
    let mut world = world(&[]).await;
    let tracker = http_tracker().await;
    world.announcer.add_trackers(&[vec![tracker.url("/announce")]]);
    assert_eq!(world.peers().await.len(), 1);
    world.announcer.shutdown().await;
}
