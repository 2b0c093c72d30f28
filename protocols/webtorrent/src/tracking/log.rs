//! What was tried at which tracker for which torrent, for whoever asks why nothing comes.

use std::collections::BTreeMap;
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_content::{Attempt, AttemptOutcome, InfoHash};
use url::Url;

/// The latest of each torrent and tracker. It is as large as there are memberships.
#[derive(Debug, Default)]
pub(crate) struct TrackerLog(Mutex<BTreeMap<InfoHash, BTreeMap<String, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    since: Instant,
    outcome: Option<AttemptOutcome>,
    took: std::time::Duration,
}

impl TrackerLog {
    /// A torrent joined a tracker and has not heard from it.
    pub(crate) fn joined(&self, infohash: InfoHash, tracker: &str) {
        let entry = Entry { since: Instant::now(), outcome: None, took: std::time::Duration::ZERO };
        self.0.lock().entry(infohash).or_default().insert(tracker.to_owned(), entry);
    }

    /// Something was heard, or is certain not to be.
    pub(crate) fn heard(&self, infohash: InfoHash, tracker: &str, outcome: AttemptOutcome) {
        let mut log = self.0.lock();
        if let Some(entry) = log.get_mut(&infohash).and_then(|torrent| torrent.get_mut(tracker)) {
            entry.took = if entry.outcome.is_none() { entry.since.elapsed() } else { entry.took };
            entry.outcome = Some(outcome);
        }
    }

    /// A torrent left a tracker.
    pub(crate) fn left(&self, infohash: InfoHash, tracker: &str) {
        let mut log = self.0.lock();
        if let Some(torrent) = log.get_mut(&infohash) {
            torrent.remove(tracker);
            if torrent.is_empty() {
                log.remove(&infohash);
            }
        }
    }

    /// What there is to tell of one torrent.
    pub(crate) fn attempts(&self, infohash: &InfoHash) -> Vec<Attempt> {
        let log = self.0.lock();
        let Some(torrent) = log.get(infohash) else { return Vec::new() };
        let attempt = |(tracker, entry): (&String, &Entry)| Attempt {
            source: "webtorrent-tracker",
            target: Some(tracker.clone()),
            // Asked, and nothing heard so far: for who asks now, that is no answer in time.
            outcome: entry.outcome.clone().unwrap_or(AttemptOutcome::Timeout),
            took: if entry.outcome.is_some() { entry.took } else { entry.since.elapsed() },
        };
        torrent.iter().map(attempt).collect()
    }
}

/// Scheme, host and port of a tracker. Path and query may hold a passkey, and user names are nobody's business.
pub(crate) fn label_of(url: &str) -> String {
    let Some(url) = Url::parse(url).ok().filter(Url::has_host) else { return "not a URL".to_owned() };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}
