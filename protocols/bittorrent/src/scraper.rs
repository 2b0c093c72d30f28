//! What trackers say of a swarm's size (BEP 48): asked for when somebody looks at the torrent, and kept for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::tracker::udp::ScrapeCounts;
use swarmgate_content::InfoHash;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::tracker_client::TrackerClient;

/// How long an answer is kept, and how long nobody is asked after a question that gave none.
const KEEP: Duration = Duration::from_secs(15 * 60);
/// Trackers of one torrent that are asked; the first ones, which are in use.
const MAX_TRACKERS: usize = 4;

/// The counters of one torrent.
#[derive(Debug)]
pub(crate) struct Scraper {
    infohash: InfoHash,
    client: Arc<TrackerClient>,
    kept: Arc<Mutex<Kept>>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Kept {
    asked: Option<Instant>,
    counts: Option<ScrapeCounts>,
}

impl Scraper {
    /// Knows nothing yet, and asks nobody unless told to.
    pub(crate) fn new(infohash: InfoHash, client: Arc<TrackerClient>, stop: CancellationToken) -> Self {
        Self { infohash, client, kept: Arc::default(), stop }
    }

    /// What is known. When that is old, the trackers are asked meanwhile, and whoever looks again sees what they say.
    pub(crate) fn look(
        &self,
        now: Instant,
        tasks: &TaskTracker,
        trackers: impl FnOnce() -> Vec<String>,
    ) -> Option<ScrapeCounts> {
        let mut kept = self.kept.lock();
        let fresh = kept.asked.is_some_and(|asked| now.saturating_duration_since(asked) < KEEP);
        if !fresh && !self.stop.is_cancelled() {
            kept.asked = Some(now);
            let mut trackers = trackers();
            trackers.truncate(MAX_TRACKERS);
            tasks.spawn(self.stop.clone().run_until_cancelled_owned(self.ask(trackers)));
        }
        kept.counts
    }

    fn ask(&self, trackers: Vec<String>) -> impl Future<Output = ()> + use<> {
        let (infohash, client, kept) = (self.infohash, self.client.clone(), self.kept.clone());
        async move {
            let answers = join_all(trackers.iter().map(|tracker| client.scrape(tracker, infohash))).await;
            let counts = answers.into_iter().filter_map(|answer| match answer {
                Ok(counts) => counts,
                Err(error) => {
                    tracing::debug!(%infohash, %error, "scrape failed");
                    None
                }
            });
            // Trackers count the same peers more or less: the largest swarm is the nearest to the truth.
            if let Some(counts) = counts.reduce(largest) {
                kept.lock().counts = Some(counts);
            }
        }
    }
}

fn largest(a: ScrapeCounts, b: ScrapeCounts) -> ScrapeCounts {
    ScrapeCounts {
        complete: a.complete.max(b.complete),
        downloaded: a.downloaded.max(b.downloaded),
        incomplete: a.incomplete.max(b.incomplete),
    }
}
