//! The plan beside rules that do not learn, in a thousand worlds drawn by chance.
//!
//! `cargo test -p swarmgate-hybrid-rules --test acceptance baseline -- --show-output` prints this, with the seeds of the
//! worlds in which the plan does worse. In milliseconds, median / 95 % / 99 % / worst; a player that plays once 5 s are
//! buffered, or a reader that takes all that comes, each in about half of the worlds:
//!
//! | | first byte | stood still |
//! |---|---|---|
//! | the plan | 326 / 702 / 912 / 1383 | 0 / 0 / 0 / 16540 |
//! | best-ranked | 580 / 3299 / 5628 / 33297 | 0 / 0 / 5060 / 16200 |
//! | fixed shares | 568 / 3288 / 6077 / 21039 | 0 / 0 / 0 / 42340 |
//!
//! Until its first byte and all the time that it stands still, or until it has all, a reader of the plan waits
//!
//! | beside | less | as long | longer | longer by |
//! |---|---|---|---|---|
//! | best-ranked | 85.6 % | 12.6 % | 1.8 % | 320 / 7419 / 7419 / 16133 |
//! | fixed shares | 82.2 % | 12.1 % | 5.7 % | 770 / 4479 / 5257 / 5949 |

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use swarmgate_hybrid_rules::Units;

use super::fetchers::{Hybrid, Rule, Static};
use super::world::{Fate, Fetcher, Host, Outcome, Reading, World, start};
use super::{UNIT, ms};

const WORLDS: u64 = 1000;
/// What a run costs that does not end.
const LIMIT: Duration = Duration::from_secs(600);

struct Scenario {
    bytes: u64,
    hosts: Vec<Host>,
    reading: Reading,
}

/// Sources of all kinds; some die, fall silent, lie, refuse or become slow, some come back.
fn scenario(seed: u64) -> Scenario {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5ca1_ab1e);
    let mut hosts = Vec::new();
    for _ in 0..rng.random_range(1..=5) {
        let rate = 10_f64.powf(rng.random_range(-0.5..1.3));
        let mut host = Host::new(rate, rng.random_range(2..300));
        host.jitter = rng.random_range(0.0..1.0);
        let at = rng.random_range(0..6000);
        host = match rng.random_range(0..10) {
            0 => host.then(at, Fate::Dies),
            1 => host.then(at, Fate::Stalls),
            2 => host.then(at, Fate::Refuses),
            3 => host.then(at, Fate::Rate(rate * 1e5)),
            4 => Host { corrupt: rng.random_range(0.005..0.2), ..host },
            _ => host,
        };
        if rng.random_bool(0.5) && !host.fates.is_empty() {
            host = host.then(at + rng.random_range(1000..10_000), Fate::Returns);
        }
        hosts.push(host);
    }
    // One that stays as it is, so that there is an end.
    let rate = rng.random_range(0.5..6.0);
    hosts.insert(rng.random_range(0..=hosts.len()), Host::new(rate, rng.random_range(2..200)));
    let sum: f64 = hosts.iter().map(|host| host.rate).sum();
    let reading = if rng.random_bool(0.5) {
        Reading::Greedy
    } else {
        Reading::Player { rate: (sum * rng.random_range(0.1..0.7)).clamp(5e5, 6e6), buffer: Duration::from_secs(5) }
    };
    Scenario { bytes: rng.random_range(8..40) * 1_000_000, hosts, reading }
}

fn run(seed: u64, scenario: &Scenario, fetcher: impl Fetcher) -> Outcome {
    let units = Units::equal(scenario.bytes, UNIT).unwrap();
    World::new(start(), seed, units, &scenario.hosts, scenario.reading, fetcher).run(LIMIT).0
}

/// What a reader suffers: until its first byte, and the time that it stands still, or until it has all.
fn suffering(scenario: &Scenario, outcome: &Outcome) -> Duration {
    let first = outcome.first_byte.unwrap_or(LIMIT);
    match scenario.reading {
        Reading::Greedy => outcome.finished.unwrap_or(LIMIT),
        Reading::Player { .. } if outcome.finished.is_none() => LIMIT,
        Reading::Player { .. } => first + outcome.stalled,
    }
}

fn quantiles(mut values: Vec<Duration>) -> String {
    values.sort_unstable();
    let at = |hundredths: usize| values[(values.len() - 1) * hundredths / 100].as_millis();
    format!("{} / {} / {} / {}", at(50), at(95), at(99), at(100))
}

/// How often the plan does better, worse, or as well: within a twentieth and 30 ms.
#[derive(Debug, Default)]
struct Score {
    wins: u32,
    losses: Vec<u64>,
    lost_by: Vec<Duration>,
    ties: u32,
}

impl Score {
    fn note(&mut self, seed: u64, ours: Duration, theirs: Duration) {
        if ours > theirs + theirs / 20 + ms(30) {
            self.losses.push(seed);
            self.lost_by.push(ours - theirs);
        } else if theirs > ours + ours / 20 + ms(30) {
            self.wins += 1;
        } else {
            self.ties += 1;
        }
    }
}

#[test]
fn the_plan_beside_static_rules_in_a_thousand_worlds() {
    let named: Option<u64> = std::env::var("SWARMGATE_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = named.map_or(0..WORLDS, |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let (mut scores, mut first, mut stalled) =
        (<[Score; 2]>::default(), <[Vec<Duration>; 3]>::default(), <[Vec<Duration>; 3]>::default());
    for seed in seeds {
        let scenario = scenario(seed);
        let units = || Units::equal(scenario.bytes, UNIT).unwrap();
        let ours = run(seed, &scenario, Hybrid::new(units(), seed));
        assert!(
            ours.finished.is_some(),
            "not finished; replay it with \
             `SWARMGATE_SIM_SEED={seed} cargo test -p swarmgate-hybrid-rules --test acceptance baseline`"
        );
        let theirs = [Rule::BestRanked, Rule::FixedShares].map(|rule| run(seed, &scenario, Static::new(rule, units())));
        for (score, theirs) in scores.iter_mut().zip(&theirs) {
            score.note(seed, suffering(&scenario, &ours), suffering(&scenario, theirs));
        }
        for (place, outcome) in [&ours].into_iter().chain(&theirs).enumerate() {
            first[place].push(outcome.first_byte.unwrap_or(LIMIT));
            stalled[place].push(if outcome.finished.is_some() { outcome.stalled } else { LIMIT });
        }
    }
    println!("{count} worlds; first byte and time stood still in ms, median / 95 % / 99 % / worst");
    for (name, (first, stalled)) in ["plan", "best-ranked", "fixed shares"].iter().zip(first.into_iter().zip(stalled)) {
        println!("  {name:<12}  {:<28}  {}", quantiles(first), quantiles(stalled));
    }
    for (name, score) in ["best-ranked", "fixed shares"].iter().zip(&scores) {
        let Score { wins, losses, ties, lost_by } = score;
        let share = |worlds: usize| worlds as f64 * 100.0 / count as f64;
        println!(
            "  against {name}: better in {:.1} %, as well in {:.1} %, worse in {:.1} % (seeds {losses:?})",
            share(*wins as usize),
            share(*ties as usize),
            share(losses.len())
        );
        if !lost_by.is_empty() {
            println!("    worse by {} ms", quantiles(lost_by.clone()));
        }
    }
    if named.is_none() {
        for score in &scores {
            assert!(score.wins as usize > 4 * score.losses.len(), "{score:?}");
        }
    }
}
