//! Announces one torrent to its trackers: waits until one is due, asks, hands the peers it gives to the dialer.
//!
//! What is due when is decided by the rules in [`swarmgate_bittorrent_proto::announce`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::announce::{AnnounceJob, Announcer, LastAnnounce, TrackerKey, TrackerStatus};
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_bittorrent_proto::peer_book::PeerSource;
use swarmgate_bittorrent_proto::tracker::{AnnounceRequest, AnnounceResponse, TrackerError};
use swarmgate_content::{Attempt, AttemptOutcome, InfoHash, ProtocolStats};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::dialer::Found;
use crate::tracker_client::{AnnounceError, TrackerClient};
use crate::wait::until;

mod report;

pub use report::TrackerReport;

/// How long trackers have to hear our goodbye. Who does not hear it forgets us after its interval.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// Peers asked for: what one reply brings at most with many trackers, and enough to choose from.
const NUM_WANT: u32 = 200;
/// What we say is missing while we do not know how long the content is, in bytes: one block, so no seed.
const UNKNOWN_LEFT: u64 = 16 * 1024;

/// What trackers are told of our progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Payload bytes sent to peers.
    pub uploaded: u64,
    /// Payload bytes received from peers.
    pub downloaded: u64,
    /// Bytes of the content that are missing; `None` before its length is known.
    pub left: Option<u64>,
}

/// What an announcer needs.
pub struct AnnouncerSetup {
    /// The torrent.
    pub infohash: InfoHash,
    /// Us.
    pub peer_id: PeerId,
    /// Reads the port that we are reached by, at each announce.
    pub port: Arc<dyn Fn() -> u16 + Send + Sync>,
    /// Trackers by tier (BEP 12).
    pub tiers: Vec<Vec<String>>,
    /// The application's client.
    pub client: Arc<TrackerClient>,
    /// The protocol's counters.
    pub stats: Arc<ProtocolStats>,
    /// Reads our progress, at each announce.
    pub progress: Arc<dyn Fn() -> Progress + Send + Sync>,
    /// Takes the peers found.
    pub found: mpsc::Sender<Found>,
}

/// Announces one torrent. Dropping it stops it without a goodbye; [`Self::shutdown`] says it.
#[derive(Debug)]
pub struct TorrentAnnouncer {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<Announcer>,
    log: Mutex<BTreeMap<Arc<str>, Asked>>,
    /// The rules have changed from outside.
    changed: Notify,
}

/// The latest question to one tracker.
#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Instant,
    took: Option<Duration>,
    timed_out: bool,
}

struct Worker {
    setup: AnnouncerSetup,
    key: u32,
    shared: Arc<Shared>,
}

type Answer = (TrackerKey, Result<AnnounceResponse, TrackerError>);

impl TorrentAnnouncer {
    /// Starts announcing, first with `started`.
    #[must_use]
    pub fn spawn(setup: AnnouncerSetup) -> Self {
        let rules = Announcer::new(Instant::now(), &setup.tiers, rand::random());
        let shared = Arc::new(Shared { rules: Mutex::new(rules), log: Mutex::default(), changed: Notify::new() });
        let worker = Worker { setup, key: rand::random(), shared: shared.clone() };
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker.run(stop.clone()));
        Self { shared, stop, task: AbortOnDropHandle::new(task) }
    }

    /// Adds trackers found later, as in the torrent's own metadata.
    pub fn add_trackers(&self, tiers: &[Vec<String>]) {
        self.change(|rules| rules.add_tiers(Instant::now(), tiers));
    }

    /// Peers are wanted now: asks trackers as soon as they allow.
    pub fn announce_now(&self) {
        self.change(|rules| rules.announce_now(Instant::now()));
    }

    /// All of the content is here: tells the trackers, once.
    pub fn complete(&self) {
        self.change(|rules| rules.complete(Instant::now()));
    }

    fn change(&self, change: impl FnOnce(&mut Announcer)) {
        change(&mut self.shared.rules.lock());
        self.shared.changed.notify_one();
    }

    /// How many peers the trackers know: (those that have everything, the others).
    #[must_use]
    pub fn swarm_size(&self) -> (Option<u32>, Option<u32>) {
        self.shared.rules.lock().swarm_size()
    }

    /// The URLs of its trackers, in the order in which they are asked. Some hold a passkey.
    #[must_use]
    pub fn trackers(&self) -> Vec<String> {
        self.shared.rules.lock().trackers().map(|tracker| tracker.url.to_owned()).collect()
    }

    /// Whether there is a tracker that is asked.
    #[must_use]
    pub fn has_trackers(&self) -> bool {
        self.shared.rules.lock().trackers().next().is_some()
    }

    /// What was tried at each tracker and how it went. Targets name the host alone: the rest may hold a passkey.
    #[must_use]
    pub fn attempts(&self) -> Vec<Attempt> {
        let (rules, log) = (self.shared.rules.lock(), self.shared.log.lock());
        let asked = rules.trackers().map(|tracker| attempt(&tracker, log.get(tracker.url)));
        let unasked = rules.set_aside().iter().map(|url| Attempt {
            source: "tracker",
            target: host_of(url),
            outcome: AttemptOutcome::Skipped("neither an HTTP nor a UDP tracker".to_owned()),
            took: Duration::ZERO,
        });
        asked.chain(unasked).collect()
    }

    /// Ends announces under way, says goodbye to trackers that know us, and returns when they have heard it or
    /// [`GOODBYE_TIMEOUT`] has passed.
    pub async fn shutdown(self) {
        self.stop.cancel();
        // The task is cancelled, not aborted: a join error could only be its panic, already reported.
        let _ = self.task.await;
    }
}

impl Worker {
    async fn run(self, stop: CancellationToken) {
        let mut announces = JoinSet::new();
        loop {
            let next = self.announce_due(&mut announces);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(answer) = announces.join_next() => self.take(answer.ok()),
                () = self.shared.changed.notified() => {}
                () = until(next) => {}
            }
        }
        announces.shutdown().await;
        self.shared.rules.lock().stop();
        self.announce_due(&mut announces);
        let goodbyes = async { while announces.join_next().await.is_some() {} };
        if tokio::time::timeout(GOODBYE_TIMEOUT, goodbyes).await.is_err() {
            tracing::debug!(infohash = %self.setup.infohash, "some trackers did not hear our goodbye");
        }
        announces.shutdown().await;
    }

    /// Starts what is due and says when to look again.
    fn announce_due(&self, announces: &mut JoinSet<Answer>) -> Option<Instant> {
        let mut rules = self.shared.rules.lock();
        while let Some(job) = rules.poll_announce(Instant::now()) {
            announces.spawn(self.announce(job));
        }
        rules.poll_timeout().map(|(at, _)| at)
    }

    /// One announce, all through: its peers are with the dialer when it ends.
    fn announce(&self, job: AnnounceJob) -> impl Future<Output = Answer> + use<> {
        let request = self.request(&job);
        let (client, shared) = (self.setup.client.clone(), self.shared.clone());
        let (stats, found) = (self.setup.stats.clone(), self.setup.found.clone());
        async move {
            let asked = shared.note_asked(&job.url);
            let result = client.announce(&job.url, &request).await;
            shared.note_heard(&job.url, asked, result.as_ref().err());
            match &result {
                Ok(response) => {
                    stats.announces(1);
                    let addresses = response.peers.clone();
                    if !addresses.is_empty() {
                        // Nobody to take them means that the torrent is stopping.
                        let _ = found.send(Found { source: PeerSource::Tracker, addresses }).await;
                    }
                }
                Err(error) => {
                    stats.announces_failed(1);
                    tracing::debug!(tracker = host_of(&job.url), %error, "announce failed");
                }
            }
            (job.tracker, result.map_err(TrackerError::from))
        }
    }

    fn request(&self, job: &AnnounceJob) -> AnnounceRequest {
        let progress = (self.setup.progress)();
        AnnounceRequest {
            infohash: self.setup.infohash,
            peer_id: self.setup.peer_id,
            port: (self.setup.port)(),
            uploaded: progress.uploaded,
            downloaded: progress.downloaded,
            left: progress.left.unwrap_or(UNKNOWN_LEFT),
            event: job.event,
            numwant: Some(NUM_WANT),
            key: self.key,
            tracker_id: job.tracker_id.clone(),
        }
    }

    fn take(&self, answer: Option<Answer>) {
        if let Some((tracker, result)) = answer {
            self.shared.rules.lock().on_reply(Instant::now(), tracker, result.as_ref());
        }
    }
}

impl Shared {
    fn note_asked(&self, url: &Arc<str>) -> Instant {
        let at = Instant::now();
        self.log.lock().insert(url.clone(), Asked { at, took: None, timed_out: false });
        at
    }

    fn note_heard(&self, url: &Arc<str>, at: Instant, error: Option<&AnnounceError>) {
        let timed_out = error.is_some_and(AnnounceError::is_timeout);
        self.log.lock().insert(url.clone(), Asked { at, took: Some(at.elapsed()), timed_out });
    }
}

fn attempt(tracker: &TrackerStatus<'_>, asked: Option<&Asked>) -> Attempt {
    let outcome = match (tracker.last, asked) {
        (LastAnnounce::Answered { peers, .. }, _) => AttemptOutcome::Ok(format!("{peers} peers")),
        (LastAnnounce::Failed { .. }, Some(asked)) if asked.timed_out => AttemptOutcome::Timeout,
        (LastAnnounce::Failed { error, .. }, _) => AttemptOutcome::Failed(error.clone()),
        // Asked, and nothing heard so far: for who asks now, that is no answer in time.
        (LastAnnounce::Never, Some(_)) => AttemptOutcome::Timeout,
        (LastAnnounce::Never, None) => AttemptOutcome::Skipped("another tracker of its tier is asked".to_owned()),
    };
    let took = asked.map_or(Duration::ZERO, |asked| asked.took.unwrap_or_else(|| asked.at.elapsed()));
    Attempt { source: "tracker", target: host_of(tracker.url), outcome, took }
}

/// Scheme, host and port. Path and query may hold a passkey, and user names are nobody's business.
fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
}

impl std::fmt::Debug for AnnouncerSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnnouncerSetup").field("infohash", &self.infohash).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
