//! Does choking earn anything? A swarm of 240 peers in simulated time, rate by rate instead of byte by byte: each shares
//! out its line among those it has unchoked. The others choke as libtorrent does (`other.rs`), in a model that shares no
//! code with ours. One node is ours; it is run twice in the same world, from the same seed: with our choker, and giving to
//! everybody at all times. What it downloads is what it earned.
//!
//! `cargo test -p swarmgate-bittorrent-proto --test reciprocity -- --nocapture` prints the results, seed by seed. The
//! choker was made in the worlds 0 to 39; these are others.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are parts of lines, in whole bytes"
)]
#![expect(clippy::print_stdout, reason = "the results are what the README states")]

mod lines;
mod other;
mod world;

use crate::other::Ways;
use crate::world::{Giving, Outcome, Plan, World};

/// The worlds of the main result.
const WORLDS: std::ops::Range<u64> = 100..140;

/// How much more we get by choosing than by giving to everybody, on average and at least, in some worlds on one line.
fn compare(name: &str, plan: Plan, line_kib: f64, seeds: std::ops::Range<u64>) -> (f64, f64) {
    let mut ratios = Vec::new();
    for seed in seeds {
        let [chosen, everybody] = [Giving::Chosen, Giving::Everybody]
            .map(|giving| World::new(plan, seed, giving, line_kib).run().got / 1024.0);
        let ratio = chosen / everybody;
        println!(
            "{name}, {line_kib} KiB/s, seed {seed}: {chosen:.0} KiB/s by choice, {everybody:.0} to all, {ratio:.3}"
        );
        ratios.push(ratio);
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    println!("{name}, {line_kib} KiB/s, {} worlds: mean {mean:.3}, least {least:.3}", ratios.len());
    (mean, least)
}

/// That the mean and the least are at least so much.
fn assert_earns(plan: Plan, line_kib: f64, (mean_of, least_of): (f64, f64)) {
    let (mean, least) = compare("as libtorrent by default", plan, line_kib, WORLDS);
    assert!(mean >= mean_of && least >= least_of, "on a line of {line_kib} KiB/s: mean {mean}, least {least}");
}

#[test]
fn on_a_narrow_line_choosing_earns_more_than_giving_to_everybody() {
    assert_earns(Plan::default(), 128.0, (1.4, 1.0));
}

#[test]
fn on_a_good_line_choosing_earns_more_than_giving_to_everybody() {
    assert_earns(Plan::default(), 512.0, (1.5, 1.1));
}

#[test]
fn on_a_fast_line_choosing_earns_as_much_as_giving_to_everybody_or_more() {
    assert_earns(Plan::default(), 2048.0, (1.0, 0.9));
}

#[test]
fn on_a_line_that_is_enough_for_all_choosing_costs_nothing() {
    // All are given to, so what differs is chance.
    assert_earns(Plan::default(), 8192.0, (0.99, 0.95));
}

#[test]
fn among_others_that_choke_by_rate_little_is_lost() {
    let plan = Plan { ways: Ways::ByRate, ..Plan::default() };
    for line in [128.0, 512.0, 2048.0] {
        let (mean, _) = compare("by rate", plan, line, 100..103);
        assert!(mean > 0.85, "{mean}");
    }
}

#[test]
fn where_others_are_much_faster_or_slower_the_number_of_slots_is_learned() {
    // In the second half of an hour; the rule alone, from which learning begins, is far off here.
    for (scale, line) in [(0.25, 512.0), (4.0, 512.0)] {
        let plan = Plan { scale, run: 3600, warm_up: 1800, ..Plan::default() };
        let (mean, _) = compare(&format!("lines {scale} times"), plan, line, 100..103);
        assert!(mean > 0.9, "{mean}");
    }
}

#[test]
fn where_all_have_everything_we_get_what_seeds_give() {
    let plan = Plan { peers: 200, seeds: 200, run: 900, ..Plan::default() };
    let (mean, _) = compare("seeds only", plan, 512.0, 100..104);
    assert!((0.97..1.03).contains(&mean), "{mean}");
}

#[test]
fn among_few_peers_nothing_is_lost() {
    let plan = Plan { peers: 6, seeds: 1, ..Plan::default() };
    let (mean, _) = compare("six peers", plan, 512.0, 100..110);
    assert!(mean > 0.9, "{mean}");
}

#[test]
fn when_we_have_everything_nobody_starves() {
    for line in [128.0, 2048.0] {
        let plan = Plan { complete: true, run: 1200, ..Plan::default() };
        let Outcome { gave, .. } = World::new(plan, 100, Giving::Chosen, line).run();
        let mut bytes: Vec<_> = gave.values().map(|(bytes, _)| bytes / 1024.0).collect();
        bytes.sort_by(f64::total_cmp);
        let of = bytes.len();
        println!(
            "{line} KiB/s, complete: of {of} the least had {:.0} KiB, the one in the middle {:.0}",
            bytes[0],
            bytes[of / 2]
        );
        assert!(bytes[0] > bytes[bytes.len() / 2] / 5.0, "{bytes:?}");
    }
}

#[test]
fn who_never_gives_gets_no_more_than_turns() {
    for line in [128.0, 512.0] {
        let plan = Plan { free_riders: 30, ..Plan::default() };
        let (mut riders, mut givers) = ((0.0, 0.0), (0.0, 0.0));
        for seed in 100..103 {
            for (bytes, rides) in World::new(plan, seed, Giving::Chosen, line).run().gave.into_values() {
                let (sum, heads) = if rides { &mut riders } else { &mut givers };
                (*sum, *heads) = (*sum + bytes, *heads + 1.0);
            }
        }
        let share = riders.0 / (riders.0 + givers.0);
        let each = (riders.0 / riders.1) / (givers.0 / givers.1);
        println!(
            "{line} KiB/s: {:.1} % of what is given goes to free riders, to each {each:.2} of what a giver gets",
            share * 100.0
        );
        assert!(share < 0.2 && each < 0.5, "{share} {each}");
    }
}

#[test]
fn a_newcomer_gets_its_first_bytes_soon() {
    for line in [128.0, 512.0, 2048.0] {
        let mut waited: Vec<_> =
            (100..102).flat_map(|seed| World::new(Plan::default(), seed, Giving::Chosen, line).run().waited).collect();
        waited.sort_unstable();
        let at = |percent| waited[waited.len() * percent / 100];
        println!(
            "{line} KiB/s: of {} newcomers half waited {} s or less, nine in ten {} s",
            waited.len(),
            at(50),
            at(90)
        );
        assert!(at(50) <= 120, "{waited:?}");
    }
}
