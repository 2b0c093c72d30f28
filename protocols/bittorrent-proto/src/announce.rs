//! Decides when to announce one torrent to which tracker.
//!
//! Trackers come in tiers (BEP 12). Within a tier one tracker at a time is used: the order is shuffled once, the next is
//! tried when one fails, and the one that works moves to the front. A tracker that works is asked again after its own
//! interval; one that failed, after a growing and jittered pause.
//!
//! # Why are all tiers used at once?
//! BEP 12 goes to the second tier only when the whole first one fails. A reader waits for peers here, and lists in the
//! wild put unrelated trackers in tiers of one, so each tier's first working tracker is asked at the same time, as most
//! clients do today.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metainfo::{MAX_TRACKERS, MAX_URL_BYTES};
use crate::seed::SplitMix;
use crate::tracker::{AnnounceEvent, AnnounceResponse, DEFAULT_INTERVAL, TrackerError};

/// The shortest time between two regular announces to one tracker, whatever it says.
pub const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time between two announces to a tracker that works, whatever it says: swarms change within the hour.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// Pause after a tracker's first failure; doubled with each, give or take a quarter.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// The longest pause after failures, before jitter.
const MAX_RETRY: Duration = Duration::from_secs(1800);

/// One tracker of one [`Announcer`]; good for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackerKey(usize);

/// An announce to be made now. Each is answered with one [`Announcer::on_reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceJob {
    /// Whom to tell [`Announcer::on_reply`] about.
    pub tracker: TrackerKey,
    /// The tracker's URL: HTTP, HTTPS or UDP.
    pub url: Arc<str>,
    /// What to say.
    pub event: AnnounceEvent,
    /// What the tracker gave us to give back.
    pub tracker_id: Option<Vec<u8>>,
}

/// How the latest announce to a tracker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastAnnounce {
    /// None has ended yet.
    Never,
    /// It was answered.
    Answered {
        /// When.
        at: Instant,
        /// Peers it gave.
        peers: usize,
        /// Peers it knows that have everything.
        complete: Option<u32>,
        /// Peers it knows that have not.
        incomplete: Option<u32>,
        /// Its warning, untrusted text.
        warning: Option<String>,
    },
    /// It failed.
    Failed {
        /// When.
        at: Instant,
        /// Why.
        error: String,
    },
}

/// What there is to know of one tracker.
#[derive(Debug, Clone, Copy)]
pub struct TrackerStatus<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Its tier, from 0.
    pub tier: usize,
    /// Whether an announce is under way.
    pub announcing: bool,
    /// Failures since it last worked.
    pub failures: u32,
    /// How the latest announce ended.
    pub last: &'a LastAnnounce,
    /// When it may be asked again; trackers behind one that works are not.
    pub next_at: Instant,
}

/// When to announce one torrent to which tracker. Give it every reply; drain [`Self::poll_announce`] after each call.
#[derive(Debug)]
pub struct Announcer {
    trackers: Vec<Tracker>,
    tiers: Vec<Tier>,
    set_aside: Vec<String>,
    random: SplitMix,
    completed: bool,
    stopping: bool,
}

#[derive(Debug)]
struct Tier {
    /// Best first.
    order: Vec<TrackerKey>,
    /// The one that worked last, until it fails.
    working: Option<TrackerKey>,
}

#[derive(Debug)]
struct Tracker {
    url: Arc<str>,
    tier: usize,
    in_flight: Option<Sent>,
    /// It has answered our `started`.
    started: bool,
    /// It knows that we have everything.
    completed: bool,
    stop_sent: bool,
    failures: u32,
    /// When to ask by ourselves.
    next_at: Instant,
    /// When to ask at the earliest if somebody wishes.
    not_before: Instant,
    last: LastAnnounce,
    tracker_id: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    event: AnnounceEvent,
    /// Whether we had everything then.
    complete: bool,
}

impl Announcer {
    /// Takes a torrent's trackers by tier. `seed` decides their order within a tier and the jitter of pauses.
    #[must_use]
    pub fn new(now: Instant, tiers: &[Vec<String>], seed: u64) -> Self {
        let mut announcer = Self {
            trackers: Vec::new(),
            tiers: Vec::new(),
            set_aside: Vec::new(),
            random: SplitMix::new(seed),
            completed: false,
            stopping: false,
        };
        announcer.add_tiers(now, tiers);
        announcer
    }

    /// Adds trackers found later; those known are left as they are, and past [`MAX_TRACKERS`] the rest is dropped.
    pub fn add_tiers(&mut self, now: Instant, tiers: &[Vec<String>]) {
        for urls in tiers {
            let tier = self.tiers.len();
            let mut order: Vec<TrackerKey> =
                urls.iter().filter_map(|url| self.add_tracker(now, url.trim(), tier)).collect();
            if !order.is_empty() {
                self.random.shuffle(&mut order);
                self.tiers.push(Tier { order, working: None });
            }
        }
    }

    fn add_tracker(&mut self, now: Instant, url: &str, tier: usize) -> Option<TrackerKey> {
        let known = self.trackers.iter().any(|tracker| &*tracker.url == url) || self.set_aside.iter().any(|u| u == url);
        let full = self.trackers.len() + self.set_aside.len() >= MAX_TRACKERS;
        if known || full || url.is_empty() || url.len() > MAX_URL_BYTES {
            return None;
        }
        if !announced_here(url) {
            self.set_aside.push(url.to_owned());
            return None;
        }
        self.trackers.push(Tracker::new(now, url, tier));
        Some(TrackerKey(self.trackers.len() - 1))
    }

    /// Trackers of other kinds, such as `wss:`, which are never polled here.
    #[must_use]
    pub fn set_aside(&self) -> &[String] {
        &self.set_aside
    }

    /// What there is to know of each tracker.
    pub fn trackers(&self) -> impl Iterator<Item = TrackerStatus<'_>> {
        self.trackers.iter().map(|tracker| TrackerStatus {
            url: &tracker.url,
            tier: tracker.tier,
            announcing: tracker.in_flight.is_some(),
            failures: tracker.failures,
            last: &tracker.last,
            next_at: tracker.next_at,
        })
    }

    /// The next announce to make, if one is due. At most one a tier is under way at a time.
    pub fn poll_announce(&mut self, now: Instant) -> Option<AnnounceJob> {
        if self.stopping {
            return self.poll_stop();
        }
        let key = self.tiers.iter().find_map(|tier| self.due_in(tier, now))?;
        let event = self.trackers[key.0].event(self.completed);
        Some(self.send(key, event))
    }

    fn due_in(&self, tier: &Tier, now: Instant) -> Option<TrackerKey> {
        let mut candidates = self.candidates(tier)?.iter();
        candidates.find(|key| self.trackers[key.0].next_at <= now).copied()
    }

    /// Whom a tier may ask next: who works, or else anyone; nobody while it waits for an answer.
    fn candidates<'a>(&self, tier: &'a Tier) -> Option<&'a [TrackerKey]> {
        let waiting = tier.order.iter().any(|key| self.trackers[key.0].in_flight.is_some());
        (!waiting).then(|| tier.working.as_ref().map_or(&tier.order[..], std::slice::from_ref))
    }

    fn send(&mut self, key: TrackerKey, event: AnnounceEvent) -> AnnounceJob {
        let tracker = &mut self.trackers[key.0];
        tracker.in_flight = Some(Sent { event, complete: self.completed });
        AnnounceJob { tracker: key, url: tracker.url.clone(), event, tracker_id: tracker.tracker_id.clone() }
    }

    /// Takes in how an announce ended.
    pub fn on_reply(&mut self, now: Instant, key: TrackerKey, result: Result<&AnnounceResponse, &TrackerError>) {
        let Some(tracker) = self.trackers.get_mut(key.0) else { return };
        let Some(sent) = tracker.in_flight.take() else { return };
        let tier = &mut self.tiers[tracker.tier];
        match result {
            Ok(response) => {
                tracker.on_answer(now, sent, response);
                if self.completed && !tracker.completed {
                    tracker.next_at = now;
                }
                tier.working = Some(key);
                // BEP 12: the one that works moves to the front.
                tier.order.retain(|&other| other != key);
                tier.order.insert(0, key);
            }
            Err(error) => {
                tracker.on_failure(now, error, &mut self.random);
                tier.working = tier.working.filter(|&working| working != key);
            }
        }
    }

    /// Peers are wanted now: trackers are asked as soon as they allow.
    pub fn announce_now(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.next_at = tracker.next_at.min(tracker.not_before.max(now));
        }
    }

    /// Everything is here, as of now: trackers that knew us without are told, once.
    pub fn complete(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.completed, true) {
            for tracker in self.trackers.iter_mut().filter(|tracker| tracker.started && tracker.failures == 0) {
                tracker.next_at = now;
            }
        }
    }

    /// We leave: trackers that know us are told, once, and nothing else is said any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    fn poll_stop(&mut self) -> Option<AnnounceJob> {
        // A `started` under way may have arrived, so its tracker is told too.
        let told = |tracker: &Tracker| (tracker.started || tracker.in_flight.is_some()) && !tracker.stop_sent;
        let index = self.trackers.iter().position(told)?;
        self.trackers[index].stop_sent = true;
        Some(self.send(TrackerKey(index), AnnounceEvent::Stopped))
    }

    /// Whether all goodbyes were said and answered.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopping
            && self
                .trackers
                .iter()
                .all(|tracker| tracker.in_flight.is_none() && (tracker.stop_sent || !tracker.started))
    }

    /// When [`Self::poll_announce`] will have something, if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.stopping {
            return None;
        }
        let candidates = self.tiers.iter().filter_map(|tier| self.candidates(tier)).flatten();
        candidates.map(|key| self.trackers[key.0].next_at).min().map(|at| (at, "announce"))
    }

    /// How many peers the trackers know, by their latest answers: the largest (complete, incomplete).
    #[must_use]
    pub fn swarm_size(&self) -> (Option<u32>, Option<u32>) {
        let answers = || {
            self.trackers.iter().filter_map(|tracker| match tracker.last {
                LastAnnounce::Answered { complete, incomplete, .. } => Some((complete, incomplete)),
                LastAnnounce::Never | LastAnnounce::Failed { .. } => None,
            })
        };
        (answers().filter_map(|answer| answer.0).max(), answers().filter_map(|answer| answer.1).max())
    }
}

impl Tracker {
    fn new(now: Instant, url: &str, tier: usize) -> Self {
        Self {
            url: url.into(),
            tier,
            in_flight: None,
            started: false,
            completed: false,
            stop_sent: false,
            failures: 0,
            next_at: now,
            not_before: now,
            last: LastAnnounce::Never,
            tracker_id: None,
        }
    }

    const fn event(&self, completed: bool) -> AnnounceEvent {
        match (self.started, completed && !self.completed) {
            (false, _) => AnnounceEvent::Started,
            (true, true) => AnnounceEvent::Completed,
            (true, false) => AnnounceEvent::Interval,
        }
    }

    fn on_answer(&mut self, now: Instant, sent: Sent, response: &AnnounceResponse) {
        self.failures = 0;
        self.started |= sent.event != AnnounceEvent::Stopped;
        // Who says `started` with nothing left has no `completed` to say (BEP 3).
        self.completed |= sent.complete;
        let sane = |interval: Duration| interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let min_interval = sane(response.min_interval.unwrap_or(MIN_INTERVAL));
        self.not_before = now + min_interval;
        self.next_at = now + sane(response.interval.unwrap_or(DEFAULT_INTERVAL)).max(min_interval);
        self.tracker_id = response.tracker_id.clone().or_else(|| self.tracker_id.take());
        self.last = LastAnnounce::Answered {
            at: now,
            peers: response.peers.len(),
            complete: response.complete,
            incomplete: response.incomplete,
            warning: response.warning.clone(),
        };
    }

    fn on_failure(&mut self, now: Instant, error: &TrackerError, random: &mut SplitMix) {
        let doubled = FIRST_RETRY * 2_u32.pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.last = LastAnnounce::Failed { at: now, error: error.to_string() };
        if let TrackerError::Refused { retry_in: Some(pause), .. } = error {
            // BEP 31: the tracker knows, so wishes do not shorten it.
            self.not_before = now + (*pause).max(MIN_INTERVAL);
            self.next_at = self.not_before;
        } else {
            self.next_at = now + random.jitter(doubled.min(MAX_RETRY));
            self.not_before = self.next_at.min(now + MIN_INTERVAL);
        }
    }
}

fn announced_here(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https" | "udp"))
}

#[cfg(test)]
mod tests;
