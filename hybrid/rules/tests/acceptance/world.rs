//! Sources in virtual time, from one seed: each with a rate, a path and a fate; and readers that play or take all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_content::FailureClass;
use swarmgate_hybrid_rules::{SourceKey, Unit, Units};

/// How often a player looks at its buffer.
const TICK: Duration = Duration::from_millis(20);

/// Some moment for a story to begin at.
#[expect(clippy::disallowed_methods, reason = "a story needs a first moment; everything after it is arithmetic")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// What happens to a source.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    /// It is gone, and everybody can see it.
    Dies,
    /// It takes requests and never answers.
    Stalls,
    /// It answers every request with a failure.
    Refuses,
    /// It works, as it did at first.
    Returns,
    /// It delivers so many bytes a second from now on.
    Rate(f64),
}

/// A source: what it is like, and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Bytes a second.
    pub(crate) rate: f64,
    /// There and back.
    pub(crate) latency: Duration,
    /// Up to so much longer for each unit, as a share of the latency.
    pub(crate) jitter: f64,
    /// The share of units that are wrong.
    pub(crate) corrupt: f64,
    pub(crate) fates: Vec<(Duration, Fate)>,
}

impl Host {
    pub(crate) fn new(megabytes: f64, latency_ms: u64) -> Self {
        let latency = Duration::from_millis(latency_ms);
        Self { rate: megabytes * 1e6, latency, jitter: 0.2, corrupt: 0.0, fates: Vec::new() }
    }

    pub(crate) fn then(mut self, after_ms: u64, fate: Fate) -> Self {
        self.fates.push((Duration::from_millis(after_ms), fate));
        self
    }
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reading {
    /// Takes whatever is there.
    Greedy,
    /// Plays so many bytes a second once so much is buffered.
    Player { rate: f64, buffer: Duration },
}

/// What somebody who fetches wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Ask(SourceKey, Unit),
    Cancel(SourceKey, Unit),
}

/// Whoever decides what is asked of whom.
pub(crate) trait Fetcher {
    fn open(&mut self, now: Instant);
    fn advance(&mut self, now: Instant, position: u64);
    fn join(&mut self, now: Instant, key: SourceKey);
    fn leave(&mut self, now: Instant, key: SourceKey);
    fn delivered(&mut self, now: Instant, key: SourceKey, unit: Unit);
    fn failed(&mut self, now: Instant, key: SourceKey, unit: Unit, class: FailureClass);
    fn schedule(&mut self, now: Instant) -> Vec<Order>;
    fn wake_at(&self) -> Option<Instant>;
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) first_byte: Option<Duration>,
    /// When the reader had all, or had played all.
    pub(crate) finished: Option<Duration>,
    pub(crate) longest_stall: Duration,
    pub(crate) stalled: Duration,
    /// Good bytes by source.
    pub(crate) bytes: BTreeMap<SourceKey, u64>,
    /// When each source delivered its units, good ones.
    pub(crate) deliveries: Vec<(Duration, SourceKey)>,
    /// Bytes that were sent and not needed: twice, withdrawn half-way.
    pub(crate) wasted: u64,
    pub(crate) corrupt: BTreeMap<SourceKey, u64>,
    /// From first asking for a unit to having it.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) asks: u64,
    /// All that was ordered, and when.
    pub(crate) trace: Vec<(Duration, Order)>,
}

impl Outcome {
    pub(crate) fn total(&self) -> u64 {
        self.bytes.values().sum()
    }

    pub(crate) fn waste_share(&self) -> f64 {
        self.wasted as f64 / (self.total() + self.wasted) as f64
    }

    pub(crate) fn p99_latency(&self) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() * 99 / 100).min(sorted.len() - 1)]
    }
}

#[derive(Debug)]
struct Job {
    unit: Unit,
    serial: u64,
}

/// A source at work: it sends one unit after the other.
#[derive(Debug)]
struct Server {
    host: Host,
    queue: VecDeque<Job>,
    /// What is being sent, since when.
    sending: Option<(Job, Instant)>,
    present: bool,
    answers: bool,
    refuses: bool,
    rate: f64,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Arrives(SourceKey, Unit),
    Withdrawn(SourceKey, Unit),
    Sent(SourceKey, u64),
    Comes(SourceKey, Unit, bool),
    Fails(SourceKey, Unit),
    Turn(SourceKey, Fate),
    Tick,
}

pub(crate) struct World<F> {
    pub(crate) fetcher: F,
    units: Units,
    begin: Instant,
    now: Instant,
    rng: StdRng,
    servers: BTreeMap<SourceKey, Server>,
    events: BTreeMap<(Instant, u64), Event>,
    serial: u64,
    good: BTreeSet<Unit>,
    first_asked: BTreeMap<Unit, Instant>,
    reading: Reading,
    /// What the client has taken, and what it has played.
    taken: u64,
    played: f64,
    playing: bool,
    last_play: Option<Instant>,
    stalled_since: Option<Instant>,
    pub(crate) outcome: Outcome,
}

impl<F: Fetcher> World<F> {
    pub(crate) fn new(begin: Instant, seed: u64, units: Units, hosts: &[Host], reading: Reading, fetcher: F) -> Self {
        let mut world = Self {
            fetcher,
            units,
            begin,
            now: begin,
            rng: StdRng::seed_from_u64(seed),
            servers: BTreeMap::new(),
            events: BTreeMap::new(),
            serial: 0,
            good: BTreeSet::new(),
            first_asked: BTreeMap::new(),
            reading,
            taken: 0,
            played: 0.0,
            playing: false,
            last_play: None,
            stalled_since: None,
            outcome: Outcome::default(),
        };
        for (key, host) in (0..).map(SourceKey).zip(hosts) {
            for (after, fate) in &host.fates {
                world.at(begin + *after, Event::Turn(key, *fate));
            }
            let server = Server {
                rate: host.rate,
                host: host.clone(),
                queue: VecDeque::new(),
                sending: None,
                present: true,
                answers: true,
                refuses: false,
            };
            world.servers.insert(key, server);
            world.fetcher.join(begin, key);
        }
        world.fetcher.open(begin);
        world.at(begin, Event::Tick);
        world
    }

    /// Runs until the reader has all, or this much time has passed.
    pub(crate) fn run(mut self, limit: Duration) -> (Outcome, F) {
        let mut steps = 0_u64;
        while self.outcome.finished.is_none() && self.now < self.begin + limit {
            let wake = self.fetcher.wake_at().map(|at| at.max(self.now));
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = [wake, event].into_iter().flatten().min() else { break };
            self.now = next;
            if event == Some(next) {
                let (_, event) = self.events.pop_first().expect("it was there four lines up");
                self.happen(event);
            }
            for order in self.fetcher.schedule(self.now) {
                self.obey(order);
            }
            assert!(self.fetcher.wake_at().is_none_or(|at| at > self.now), "a busy timer");
            steps += 1;
            assert!(steps < 5_000_000, "at {:?} after {steps} steps", self.now - self.begin);
        }
        (self.outcome, self.fetcher)
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial), event);
    }

    fn path(&mut self, key: SourceKey) -> Duration {
        let host = &self.servers[&key].host;
        let (half, jitter) = (host.latency / 2, host.jitter);
        half.mul_f64(1.0 + jitter * self.rng.random_range(0.0..1.0))
    }

    fn obey(&mut self, order: Order) {
        self.outcome.trace.push((self.now - self.begin, order));
        match order {
            Order::Ask(key, unit) => {
                self.outcome.asks += 1;
                self.first_asked.entry(unit).or_insert(self.now);
                let path = self.path(key);
                self.at(self.now + path, Event::Arrives(key, unit));
            }
            Order::Cancel(key, unit) => {
                let path = self.servers[&key].host.latency / 2;
                // Not before the request that it withdraws.
                let path = path.mul_f64(1.0 + self.servers[&key].host.jitter);
                self.at(self.now + path, Event::Withdrawn(key, unit));
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(key, unit) => self.arrives(key, unit),
            Event::Withdrawn(key, unit) => self.withdrawn(key, unit),
            Event::Sent(key, serial) => self.sent(key, serial),
            Event::Comes(key, unit, good) => self.comes(key, unit, good),
            Event::Fails(key, unit) => {
                if self.servers[&key].present {
                    self.fetcher.failed(self.now, key, unit, FailureClass::Source);
                }
            }
            Event::Turn(key, fate) => self.turn(key, fate),
            Event::Tick => {
                self.play();
                if self.outcome.finished.is_none() {
                    self.at(self.now + TICK, Event::Tick);
                }
            }
        }
    }

    fn arrives(&mut self, key: SourceKey, unit: Unit) {
        self.serial += 1;
        let serial = self.serial;
        let server = self.servers.get_mut(&key).expect("only known sources are asked");
        if !server.present {
            return;
        }
        if server.refuses {
            let path = self.path(key);
            return self.at(self.now + path, Event::Fails(key, unit));
        }
        server.queue.push_back(Job { unit, serial });
        self.send_next(key);
    }

    fn send_next(&mut self, key: SourceKey) {
        let now = self.now;
        let server = self.servers.get_mut(&key).expect("only known sources send");
        if server.sending.is_some() || !server.answers {
            return;
        }
        let Some(job) = server.queue.pop_front() else { return };
        let takes = Duration::from_secs_f64(self.units.len_of(job.unit) as f64 / server.rate);
        let serial = job.serial;
        server.sending = Some((job, now));
        self.at(now + takes, Event::Sent(key, serial));
    }

    fn sent(&mut self, key: SourceKey, serial: u64) {
        let server = self.servers.get_mut(&key).expect("only known sources send");
        if !server.answers || server.sending.as_ref().is_none_or(|(job, _)| job.serial != serial) {
            return;
        }
        let Some((job, _)) = server.sending.take() else { return };
        let corrupt = server.host.corrupt;
        let good = !self.rng.random_bool(corrupt);
        let path = self.path(key);
        self.at(self.now + path, Event::Comes(key, job.unit, good));
        self.send_next(key);
    }

    fn withdrawn(&mut self, key: SourceKey, unit: Unit) {
        let now = self.now;
        let server = self.servers.get_mut(&key).expect("only known sources are asked");
        if let Some(place) = server.queue.iter().position(|job| job.unit == unit) {
            server.queue.remove(place);
        }
        if let Some((_, since)) = server.sending.take_if(|(job, _)| job.unit == unit) {
            let sent = if server.answers { server.rate * now.duration_since(since).as_secs_f64() } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "a part of a unit")]
            let sent = sent as u64;
            self.outcome.wasted += sent;
            self.send_next(key);
        }
    }

    fn comes(&mut self, key: SourceKey, unit: Unit, good: bool) {
        // What was on its way when the source died has come.
        let (len, since) = (self.units.len_of(unit), self.now - self.begin);
        if !good {
            *self.outcome.corrupt.entry(key).or_default() += 1;
            return self.fetcher.failed(self.now, key, unit, FailureClass::Corruption);
        }
        if self.good.insert(unit) {
            *self.outcome.bytes.entry(key).or_default() += len;
            self.outcome.deliveries.push((since, key));
            self.outcome.latencies.push(self.now - self.first_asked[&unit]);
        } else {
            self.outcome.wasted += len;
        }
        self.fetcher.delivered(self.now, key, unit);
        self.play();
    }

    fn turn(&mut self, key: SourceKey, fate: Fate) {
        let server = self.servers.get_mut(&key).expect("only known sources have a fate");
        match fate {
            Fate::Dies => {
                server.present = false;
                server.queue.clear();
                server.sending = None;
                self.fetcher.leave(self.now, key);
            }
            Fate::Stalls => server.answers = false,
            Fate::Refuses => {
                server.refuses = true;
                let jobs: Vec<_> = server.queue.drain(..).chain(server.sending.take().map(|(job, _)| job)).collect();
                for job in jobs {
                    let path = self.path(key);
                    self.at(self.now + path, Event::Fails(key, job.unit));
                }
            }
            Fate::Returns => {
                let was_gone = !server.present;
                (server.present, server.answers, server.refuses) = (true, true, false);
                server.rate = server.host.rate;
                if let Some((job, _)) = server.sending.take() {
                    server.queue.push_front(job);
                }
                if was_gone {
                    self.fetcher.join(self.now, key);
                }
                self.send_next(key);
            }
            Fate::Rate(rate) => server.rate = rate,
        }
    }

    /// The end of what is had without a gap.
    fn frontier(&self) -> u64 {
        let mut unit = self.units.at(self.taken);
        while let Some(next) = unit.filter(|unit| self.good.contains(unit)) {
            unit = Some(Unit(next.0 + 1)).filter(|unit| unit.0 < self.units.count());
        }
        unit.and_then(|unit| self.units.range(unit)).map_or_else(|| self.units.total_len(), |range| range.start())
    }

    fn play(&mut self) {
        let (frontier, total, since) = (self.frontier().max(self.taken), self.units.total_len(), self.now - self.begin);
        if frontier > 0 {
            self.outcome.first_byte.get_or_insert(since);
        }
        match self.reading {
            Reading::Greedy => {
                self.take(frontier);
                if frontier == total {
                    self.outcome.finished.get_or_insert(since);
                }
            }
            Reading::Player { rate, buffer } => {
                let room = self.played + rate * buffer.as_secs_f64();
                #[expect(clippy::cast_possible_truncation, reason = "a position within a content")]
                let room = room as u64;
                self.take(frontier.min(room));
                self.playing |= self.taken == room.min(total) || self.taken == total;
                self.play_on(rate);
            }
        }
    }

    fn take(&mut self, position: u64) {
        if position > self.taken {
            self.taken = position;
            self.fetcher.advance(self.now, position);
        }
    }

    /// Plays since the last look. A player that stands still goes on with the next byte.
    fn play_on(&mut self, rate: f64) {
        if !self.playing {
            return;
        }
        let now = self.now;
        let last = self.last_play.replace(now).unwrap_or(now);
        let (wanted, span) = (self.played + rate * now.duration_since(last).as_secs_f64(), now - self.begin);
        self.played = wanted.min(self.taken as f64);
        if self.taken == self.units.total_len() && self.played >= self.taken as f64 {
            self.outcome.finished.get_or_insert(span);
            return;
        }
        if wanted > self.taken as f64 {
            let since = *self.stalled_since.get_or_insert(last);
            self.outcome.longest_stall = self.outcome.longest_stall.max(now - since);
            self.outcome.stalled += now - last;
        } else {
            self.stalled_since = None;
        }
    }
}
