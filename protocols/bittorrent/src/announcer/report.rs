//! What is told of each tracker of a torrent: what it said last, when it is asked next. URLs lose what may be a passkey.

use std::time::{Duration, Instant};

use swarmgate_bittorrent_proto::announce::{LastAnnounce, TrackerStatus};
use url::Url;

use super::{TorrentAnnouncer, host_of};

/// Longest text of a tracker that is told, in characters.
const MAX_TEXT_CHARS: usize = 300;
/// Shortest part of a URL that may be a secret, in bytes: shorter ones are words such as `key`, or numbers.
const MIN_SECRET_BYTES: usize = 6;

/// What there is to know of one tracker of a torrent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackerReport {
    /// Its URL without user, query and any path but `/announce`: those may hold a passkey.
    pub url: String,
    /// Its tier (BEP 12), from 0.
    pub tier: usize,
    /// `working`, `failing`, `asking` for the first time, `waiting` for its turn, `spare` behind one of its tier that works,
    /// `websocket` (for browsers' peers, asked by another way), or `idle` while the item is.
    pub state: &'static str,
    /// Failures since it last worked.
    pub failures: u32,
    /// How long ago it last answered or failed.
    pub heard: Option<Duration>,
    /// In how long it is asked next; none while it is being asked, or when others are asked in its place.
    pub next: Option<Duration>,
    /// Peers that it gave the last time.
    pub peers: Option<usize>,
    /// Peers that it knows to have everything.
    pub seeds: Option<u32>,
    /// Peers that it knows to have less.
    pub leeches: Option<u32>,
    /// Why it failed, or its warning: untrusted text, without the parts of its URL that may be secret.
    pub said: Option<String>,
}

impl TrackerReport {
    /// A tracker that is not asked here, or not now.
    #[must_use]
    pub fn unasked(url: &str, tier: usize, state: &'static str) -> Self {
        Self { url: shown(url), tier, state, ..Self::default() }
    }
}

impl TorrentAnnouncer {
    /// What there is to know of each tracker, in the order in which they were named.
    #[must_use]
    pub fn reports(&self) -> Vec<TrackerReport> {
        let (now, rules) = (Instant::now(), self.shared.rules.lock());
        let works = |tracker: &TrackerStatus<'_>| matches!(tracker.last, LastAnnounce::Answered { .. });
        let working: Vec<usize> = rules.trackers().filter(works).map(|tracker| tracker.tier).collect();
        rules.trackers().map(|tracker| report(now, &tracker, working.contains(&tracker.tier))).collect()
    }
}

fn report(now: Instant, tracker: &TrackerStatus<'_>, tier_works: bool) -> TrackerReport {
    let ago = |at: &Instant| Some(now.saturating_duration_since(*at));
    let said = |text: &str| Some(without_secrets(text, tracker.url));
    let known = TrackerReport { failures: tracker.failures, ..TrackerReport::unasked(tracker.url, tracker.tier, "") };
    let mut report = match tracker.last {
        LastAnnounce::Never if tracker.announcing => TrackerReport { state: "asking", ..known },
        LastAnnounce::Never if tier_works => TrackerReport { state: "spare", ..known },
        LastAnnounce::Never => TrackerReport { state: "waiting", ..known },
        LastAnnounce::Answered { at, peers, complete, incomplete, warning } => TrackerReport {
            state: "working",
            heard: ago(at),
            peers: Some(*peers),
            seeds: *complete,
            leeches: *incomplete,
            said: warning.as_deref().and_then(said),
            ..known
        },
        LastAnnounce::Failed { at, error } => {
            TrackerReport { state: "failing", heard: ago(at), said: said(error), ..known }
        }
    };
    let behind = tier_works && report.state != "working";
    report.next = (!tracker.announcing && !behind).then(|| tracker.next_at.saturating_duration_since(now));
    report
}

/// A URL as others may see it.
fn shown(url: &str) -> String {
    let Some((host, parsed)) = host_of(url).zip(Url::parse(url).ok()) else { return "…".to_owned() };
    match parsed.path() {
        path @ ("" | "/" | "/announce") if parsed.query().is_none() => format!("{host}{path}"),
        _ => format!("{host}/…"),
    }
}

/// What a tracker says may repeat what it was asked with.
fn without_secrets(text: &str, url: &str) -> String {
    let mut told: String = text.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT_CHARS).collect();
    let Ok(url) = Url::parse(url) else { return told };
    let mut secrets = vec![url.username().to_owned(), url.password().unwrap_or_default().to_owned()];
    secrets.extend(url.path().split('/').map(str::to_owned));
    secrets.extend(url.query().map(str::to_owned));
    secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    secrets.retain(|part| part.len() >= MIN_SECRET_BYTES && part != "announce");
    // The longest first: a short one may be a part of it.
    secrets.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
    for secret in secrets {
        told = told.replace(&secret, "…");
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_what_may_be_a_passkey() {
        for (url, told) in [
            ("udp://tracker.example:1337/announce", "udp://tracker.example:1337/announce"),
            ("http://tracker.example/", "http://tracker.example/"),
            ("https://tracker.example/0123456789abcdef/announce", "https://tracker.example/…"),
            ("https://tracker.example/announce?passkey=0123456789", "https://tracker.example/…"),
            ("http://anna:secret1@tracker.example/announce", "http://tracker.example/announce"),
            ("no url", "…"),
        ] {
            assert_eq!(shown(url), told, "{url}");
        }
    }

    #[test]
    fn what_a_tracker_says_is_told_without_what_it_was_asked_with() {
        let url = "https://anna:secret1@tracker.example/0123456789abcdef/announce?pk=fedcba987&n=1";
        let said = "0123456789abcdef is not known, nor fedcba987 of secret1\u{7}; announce 1 time";
        assert_eq!(without_secrets(said, url), "… is not known, nor … of …; announce 1 time");
        assert_eq!(without_secrets(&"x".repeat(1000), url).chars().count(), MAX_TEXT_CHARS);
    }

    #[test]
    fn who_stands_behind_a_tracker_that_works_is_a_spare() {
        let (now, never) = (Instant::now(), LastAnnounce::Never);
        let (url, next_at) = ("udp://t.example/announce", now + Duration::from_secs(7));
        let tracker = TrackerStatus { url, tier: 2, announcing: false, failures: 0, last: &never, next_at };
        let (spare, waiting) = (report(now, &tracker, true), report(now, &tracker, false));
        assert_eq!((spare.state, spare.next), ("spare", None));
        assert_eq!((waiting.state, waiting.next, waiting.tier), ("waiting", Some(Duration::from_secs(7)), 2));
        let failed = LastAnnounce::Failed { at: now, error: "down".to_owned() };
        let failing =
            report(now + Duration::from_secs(3), &TrackerStatus { last: &failed, failures: 2, ..tracker }, false);
        assert_eq!((failing.state, failing.failures, failing.said.as_deref()), ("failing", 2, Some("down")));
        assert_eq!((failing.heard, failing.next), (Some(Duration::from_secs(3)), Some(Duration::from_secs(4))));
    }
}
