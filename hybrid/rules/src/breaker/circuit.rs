//! One breaker. It has no lock and no name; the table gives it both.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::window::{Sample, Window};
use super::{BreakerKey, BreakerOptions, BreakerState, BreakerStatus, Refusal, Urgency};
use crate::classify::Verdict;

/// When to ask again while others try the source: they may be done long before their time is up.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A call that was let through, to be reported or released.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a call that is let through is reported or released"]
pub struct Ticket {
    /// The turn of the breaker's state in which the call began.
    turn: u64,
    number: u64,
    probe: bool,
}

impl Ticket {
    /// Whether the call tries a source that failed before.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        self.probe
    }

    #[cfg(test)]
    pub(super) const fn is_of(&self, turn: u64) -> bool {
        self.turn == turn
    }
}

#[derive(Debug)]
enum Circuit {
    Closed,
    Open {
        until: Instant,
    },
    HalfOpen {
        /// The calls that try the source, and when they began.
        probes: BTreeMap<u64, Instant>,
        successes: u32,
    },
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Failures(Sample),
    Corruption(usize),
    ProbeFailed,
    ProbeSilent,
}

/// See the head of the module.
#[derive(Debug)]
pub struct CircuitBreaker {
    options: Arc<BreakerOptions>,
    seed: u64,
    circuit: Circuit,
    since: Instant,
    /// The latest time seen: callers on several threads may come with times that are a little out of order.
    clock: Instant,
    /// Counts changes of state, so that a call's report is not taken for news of another state.
    turn: u64,
    calls: u64,
    window: Window,
    /// When wrong bytes came, as far as that is remembered; at most as many as open the breaker.
    corrupt: VecDeque<Instant>,
    opened_in_row: u32,
    corrupt_in_row: u32,
    closed_at: Option<Instant>,
    /// How many successes there had been when it closed.
    successes_before: u64,
    cause: Option<Cause>,
    successes: u64,
    failures: u64,
    corruptions: u64,
    neutral: u64,
    refused: u64,
}

impl CircuitBreaker {
    /// Makes a closed breaker. `seed` makes the times for which it opens uneven.
    #[must_use]
    pub fn new(now: Instant, options: Arc<BreakerOptions>, seed: u64) -> Self {
        Self {
            options,
            seed,
            circuit: Circuit::Closed,
            since: now,
            clock: now,
            turn: 0,
            calls: 0,
            window: Window::default(),
            corrupt: VecDeque::new(),
            opened_in_row: 0,
            corrupt_in_row: 0,
            closed_at: None,
            successes_before: 0,
            cause: None,
            successes: 0,
            failures: 0,
            corruptions: 0,
            neutral: 0,
            refused: 0,
        }
    }

    /// Lets a call through, or says when to come again.
    ///
    /// # Errors
    /// When the breaker is open, or half open and every place is taken or the call is urgent.
    pub fn try_acquire(&mut self, now: Instant, urgency: Urgency) -> Result<Ticket, Refusal> {
        let now = self.tick(now);
        if let Err(refusal) = self.look(now, urgency) {
            self.refused += 1;
            return Err(refusal);
        }
        if matches!(self.circuit, Circuit::Open { .. }) {
            self.turn_to(now, Circuit::HalfOpen { probes: BTreeMap::new(), successes: 0 });
        }
        self.calls += 1;
        let mut ticket = Ticket { turn: self.turn, number: self.calls, probe: false };
        if let Circuit::HalfOpen { probes, .. } = &mut self.circuit {
            probes.insert(ticket.number, now);
            ticket.probe = true;
        }
        Ok(ticket)
    }

    /// What [`Self::try_acquire`] would say, without taking a place. `Ok` tells whether the call would try the source.
    ///
    /// # Errors
    /// As there.
    pub fn peek(&mut self, now: Instant, urgency: Urgency) -> Result<bool, Refusal> {
        let now = self.tick(now);
        self.look(now, urgency)
    }

    fn look(&self, now: Instant, urgency: Urgency) -> Result<bool, Refusal> {
        let refusal = |state, retry_at| Err(Refusal { state, retry_at });
        let taken = match &self.circuit {
            Circuit::Closed => return Ok(false),
            Circuit::Open { until } if now < *until => return refusal(BreakerState::Open, *until),
            Circuit::Open { .. } => None,
            Circuit::HalfOpen { probes, .. } if probes.len() < self.options.probes.max(1) as usize => None,
            Circuit::HalfOpen { probes, .. } => probes.values().min().copied(),
        };
        let again = now + LOOK_AGAIN;
        match (taken, urgency) {
            (Some(began), _) => refusal(BreakerState::HalfOpen, again.min(began + self.options.probe_patience)),
            (None, Urgency::Urgent) => refusal(BreakerState::HalfOpen, again),
            (None, Urgency::Relaxed | Urgency::NobodyElse) => Ok(true),
        }
    }

    /// Notes how a call ended.
    pub fn report(&mut self, now: Instant, ticket: Ticket, verdict: Verdict) {
        let now = self.tick(now);
        match verdict {
            Verdict::Success => self.successes += 1,
            Verdict::Failure => self.failures += 1,
            Verdict::Corruption => self.corruptions += 1,
            Verdict::Neutral => self.neutral += 1,
        }
        let of_this_turn = ticket.turn == self.turn;
        let tried = of_this_turn && self.vacate(&ticket);
        drop(ticket);
        match verdict {
            Verdict::Corruption => self.on_corruption(now),
            Verdict::Success if tried => self.on_probe_success(now),
            Verdict::Failure if tried => self.open(now, Cause::ProbeFailed),
            Verdict::Success | Verdict::Failure if of_this_turn => {
                self.window.push(now, &self.options, 1, verdict == Verdict::Failure);
                self.open_if_bad(now);
            }
            // What began in another state is no news of this one.
            Verdict::Success | Verdict::Failure | Verdict::Neutral => {}
        }
    }

    /// Notes that a call ended without an outcome: its place is free again.
    pub fn release(&mut self, ticket: Ticket) {
        if ticket.turn == self.turn {
            self.vacate(&ticket);
        }
        drop(ticket);
    }

    /// Closes it and forgets everything, as an operator asks for.
    pub fn reset(&mut self, now: Instant) {
        let now = self.tick(now);
        self.turn_to(now, Circuit::Closed);
        self.window.clear();
        self.corrupt.clear();
        (self.opened_in_row, self.corrupt_in_row) = (0, 0);
        (self.closed_at, self.cause) = (None, None);
    }

    /// Its state. One that was open for its time is half open, though nobody has tried the source yet.
    #[must_use]
    pub fn state(&mut self, now: Instant) -> BreakerState {
        let now = self.tick(now);
        match &self.circuit {
            Circuit::Closed => BreakerState::Closed,
            Circuit::Open { until } if now < *until => BreakerState::Open,
            Circuit::Open { .. } | Circuit::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// What an operator sees.
    #[must_use]
    pub fn status(&mut self, now: Instant, key: BreakerKey) -> BreakerStatus {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let state = self.state(now);
        let (since, until) = match (&self.circuit, state) {
            (Circuit::Open { until }, BreakerState::HalfOpen) => (*until, None),
            (Circuit::Open { until }, _) => (self.since, Some(*until)),
            (Circuit::Closed | Circuit::HalfOpen { .. }, _) => (self.since, None),
        };
        BreakerStatus {
            key,
            state,
            for_ms: millis(now.saturating_duration_since(since)),
            why: self.cause.map(Cause::sentence),
            next_probe_ms: until.map(|until| millis(until.saturating_duration_since(now))),
            opened_in_row: self.opened_in_row,
            successes: self.successes,
            failures: self.failures,
            corruptions: self.corruptions,
            neutral: self.neutral,
            refused: self.refused,
        }
    }

    /// Whether dropping it would forget nothing that matters.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.circuit, Circuit::Closed)
    }

    pub(super) const fn turn(&self) -> u64 {
        self.turn
    }

    /// Moves the clock, never back, and ends calls that have tried the source for too long.
    fn tick(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        let (now, patience) = (self.clock, self.options.probe_patience);
        if let Circuit::HalfOpen { probes, .. } = &self.circuit
            && probes.values().any(|began| now >= *began + patience)
        {
            self.open(now, Cause::ProbeSilent);
        }
        now
    }

    /// Frees the place of a call that tried the source; tells whether it was one.
    fn vacate(&mut self, ticket: &Ticket) -> bool {
        match &mut self.circuit {
            Circuit::HalfOpen { probes, .. } => probes.remove(&ticket.number).is_some(),
            Circuit::Closed | Circuit::Open { .. } => false,
        }
    }

    fn on_probe_success(&mut self, now: Instant) {
        let Circuit::HalfOpen { successes, .. } = &mut self.circuit else { return };
        *successes += 1;
        if *successes >= self.options.successes_to_close {
            (self.closed_at, self.successes_before) = (Some(now), self.successes);
            self.window.clear();
            self.turn_to(now, Circuit::Closed);
        }
    }

    fn on_corruption(&mut self, now: Instant) {
        self.window.push(now, &self.options, self.options.corruption_weight, true);
        let limit = self.options.corruption_limit.max(1) as usize;
        let memory = self.options.corruption_memory;
        self.corrupt.retain(|at| now.saturating_duration_since(*at) <= memory);
        while self.corrupt.len() >= limit {
            self.corrupt.pop_front();
        }
        self.corrupt.push_back(now);
        let often = self.corrupt.len() >= limit || self.window.sample(now, &self.options).opens(&self.options);
        match self.circuit {
            Circuit::Closed if !often => {}
            Circuit::Closed | Circuit::HalfOpen { .. } => self.open(now, Cause::Corruption(self.corrupt.len())),
            // The call began before it opened.
            Circuit::Open { .. } => {}
        }
    }

    fn open_if_bad(&mut self, now: Instant) {
        let sample = self.window.sample(now, &self.options);
        if matches!(self.circuit, Circuit::Closed) && sample.opens(&self.options) {
            self.open(now, Cause::Failures(sample));
        }
    }

    fn open(&mut self, now: Instant, cause: Cause) {
        let relapse = self.options.relapse;
        let redeemed = self.successes - self.successes_before >= self.options.redeemed_by;
        if self.closed_at.take().is_some_and(|at| redeemed || now.saturating_duration_since(at) > relapse) {
            self.opened_in_row = 0;
        }
        if self.corrupt.is_empty() {
            self.corrupt_in_row = 0;
        }
        let options = &self.options;
        let span = if matches!(cause, Cause::Corruption(_)) {
            self.corrupt_in_row += 1;
            grown(options.corrupt_open_first, self.corrupt_in_row, options.corrupt_open_cap)
        } else {
            grown(options.open_first, self.opened_in_row + 1, options.open_cap)
        };
        self.opened_in_row = self.opened_in_row.saturating_add(1);
        let mut rng = StdRng::seed_from_u64(self.seed.wrapping_add(self.turn));
        let until = now + span.mul_f64(rng.random_range(0.75..1.25));
        self.cause = Some(cause);
        self.window.clear();
        self.turn_to(now, Circuit::Open { until });
    }

    fn turn_to(&mut self, now: Instant, circuit: Circuit) {
        self.turn += 1;
        self.since = now;
        self.circuit = circuit;
    }
}

/// Twice as long every time.
fn grown(first: Duration, time: u32, cap: Duration) -> Duration {
    first.saturating_mul(1 << time.saturating_sub(1).min(16)).min(cap)
}

impl Cause {
    fn sentence(self) -> String {
        match self {
            Self::Failures(Sample { failed, of }) => format!("{failed} of the last {of} calls failed"),
            Self::Corruption(1) => "it sent wrong bytes".to_owned(),
            Self::Corruption(times) => format!("it sent wrong bytes {times} times"),
            Self::ProbeFailed => "it failed again when it was tried".to_owned(),
            Self::ProbeSilent => "it did not answer when it was tried".to_owned(),
        }
    }
}
