//! When to announce, and as what.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::message::{AnnounceEvent, Announced};

/// The shortest time between two regular announces, whatever the tracker says.
pub const MIN_INTERVAL: Duration = Duration::from_secs(15);
/// The longest time between two announces, whatever the tracker says: swarms change within the hour.
pub const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The time between two announces when the tracker does not say: two minutes, as trackers in use say.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(120);
/// How long an announce may stay without a reply before it counts as refused. Some trackers drop what they dislike.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after the first refusal; doubled with each, give or take a quarter, up to [`MAX_INTERVAL`].
const FIRST_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When to announce, or to give up the announce under way; `None` without a socket.
    next_at: Option<Instant>,
    /// When to announce at the earliest if somebody wishes.
    not_before: Option<Instant>,
    /// The announce that has no reply yet, and whether we had everything then.
    in_flight: Option<bool>,
    /// One was sent through this socket.
    announced: bool,
    /// The tracker has replied to one that came through this socket, so it knows us.
    started: bool,
    /// The tracker knows that we have everything.
    completed: bool,
    /// Somebody wishes for the next announce as soon as the one under way has its reply.
    hurry: bool,
    refusals: u32,
}

impl Schedule {
    /// A new socket: the tracker has forgotten us with the old one.
    pub(super) fn begin(&mut self, now: Instant) {
        *self = Self { next_at: Some(now), not_before: Some(now), ..Self::default() };
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }

    /// Whether the tracker may know us.
    pub(super) const fn has_announced(&self) -> bool {
        self.announced
    }

    pub(super) const fn event(&self, complete: bool) -> AnnounceEvent {
        match (self.started, complete && !self.completed) {
            (false, _) => AnnounceEvent::Started,
            (true, true) => AnnounceEvent::Completed,
            (true, false) => AnnounceEvent::Interval,
        }
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.in_flight.is_none() && self.next_at.is_some_and(|at| at <= now)
    }

    pub(super) fn is_unanswered(&self, now: Instant) -> bool {
        self.in_flight.is_some() && self.next_at.is_some_and(|at| at <= now)
    }

    pub(super) fn sent(&mut self, now: Instant, event: AnnounceEvent, complete: bool) {
        self.announced = true;
        self.in_flight = Some(complete || event == AnnounceEvent::Completed);
        self.next_at = Some(now + ANSWER_TIMEOUT);
        self.not_before = Some(now + MIN_INTERVAL);
    }

    /// A reply came. One that nothing under way asked for, as some trackers send for answers, changes nothing.
    pub(super) fn answered(&mut self, now: Instant, reply: &Announced, complete: bool) {
        let Some(told_complete) = self.in_flight.take() else { return };
        self.refusals = 0;
        self.started = true;
        // Who says `started` with nothing left has no `completed` to say (BEP 3).
        self.completed |= told_complete;
        let sane = |interval: Duration| interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
        let min_interval = sane(reply.min_interval.unwrap_or(MIN_INTERVAL));
        let interval = sane(reply.interval.unwrap_or(DEFAULT_INTERVAL)).max(min_interval);
        self.not_before = Some(now + min_interval);
        self.next_at = Some(now + if std::mem::take(&mut self.hurry) { min_interval } else { interval });
        if complete && !self.completed {
            self.next_at = Some(now);
        }
    }

    /// The announce under way, if there is one, was refused. Wishes do not shorten the pause.
    pub(super) fn failed(&mut self, now: Instant, random: &mut StdRng) {
        if self.in_flight.take().is_none() {
            return;
        }
        let pause = (FIRST_RETRY * 2_u32.pow(self.refusals.min(16))).min(MAX_INTERVAL);
        self.refusals = self.refusals.saturating_add(1);
        self.next_at = Some(now + pause.mul_f64(random.random_range(0.75..=1.25)));
        self.not_before = self.next_at;
        self.hurry = false;
    }

    pub(super) fn hurry(&mut self, now: Instant) {
        if self.in_flight.is_some() {
            self.hurry = true;
        } else if let (Some(next_at), Some(not_before)) = (self.next_at, self.not_before) {
            self.next_at = Some(next_at.min(not_before.max(now)));
        }
    }

    pub(super) const fn complete(&mut self, now: Instant) {
        if self.started && !self.completed && self.in_flight.is_none() {
            self.next_at = Some(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let reason = if self.in_flight.is_some() { "no reply to an announce" } else { "announce" };
        self.next_at.map(|at| (at, reason))
    }
}
