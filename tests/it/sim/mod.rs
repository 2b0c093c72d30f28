//! Whole swarms in simulated time. Every story runs from many seeds; a failing one prints the command that replays it.

use std::time::Duration;

use swarmgate_tests::sim::{Character, LinkSpec, NodeId, NodeSpec, SimWorld};

const MIB: u64 = 1 << 20;
const MIB_LEN: usize = 1 << 20;
const PIECE: u32 = 256 * 1024;
const LARGE_PIECE: u32 = 1 << 20;

/// The seeds to run: one, when it is named, else a fixed number of them.
fn for_each_seed(story: &str, count: u64, run: impl Fn(u64)) {
    let named = std::env::var("SWARMGATE_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = named.map_or_else(|| (0..count).collect(), |seed| vec![seed]);
    for seed in seeds {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        if let Err(panic) = outcome {
            eprintln!("{story}: seed {seed} failed; replay it with `cargo xtask sim {seed}`");
            std::panic::resume_unwind(panic);
        }
    }
}

fn seeder(rate: f64) -> NodeSpec {
    NodeSpec { seed: true, knows_metadata: true, upload_rate: rate, character: Character::Honest }
}

fn cold() -> NodeSpec {
    NodeSpec { seed: false, knows_metadata: false, upload_rate: 1e6, character: Character::Honest }
}

fn link(ms: u64) -> LinkSpec {
    LinkSpec { latency: Duration::from_millis(ms), loss: 0.0 }
}

fn swarm(world: &mut SimWorld, seeders: impl IntoIterator<Item = (NodeSpec, LinkSpec)>) -> NodeId {
    let us = world.add_node(cold());
    for (spec, link) in seeders {
        let seeder = world.add_node(spec);
        world.connect(us, seeder, link);
    }
    us
}

#[test]
fn a_cold_infohash_is_read_from_one_seeder() {
    for_each_seed("cold read", 20, |seed| {
        let mut world = SimWorld::new(seed, 4 * MIB_LEN + 12_345, PIECE);
        let us = swarm(&mut world, [(seeder(4e6), link(10))]);
        let reader = world.read(us, MIB + 7, 2 * MIB, 1e9);
        assert!(world.run_until(Duration::from_secs(10), |world| world.all_finished(&[reader])));
        let first = world.viewing(reader).first_byte.expect("it finished");
        assert!(first < Duration::from_millis(250), "first byte after {first:?}");
    });
}

#[test]
fn a_seek_takes_about_as_long_as_the_swarm_needs_for_one_piece() {
    for_each_seed("seek", 20, |seed| {
        let mut world = SimWorld::new(seed, 64 * MIB_LEN, LARGE_PIECE);
        let us = swarm(&mut world, (0..8).map(|_| (seeder(512.0 * 1024.0), link(2))));
        let first = world.read(us, 0, 64 * MIB, 1e6);
        world.run_until(Duration::from_secs(5), |_| false);
        world.close(first);
        let mut total = Duration::ZERO;
        for seek in 1..8 {
            let start = seek * 7 * MIB + seed * 1000;
            let reader = world.read(us, start, start + 65536, 1e9);
            assert!(world.run_until(Duration::from_secs(5), |world| world.all_finished(&[reader])));
            total += world.viewing(reader).first_byte.expect("it finished");
            world.close(reader);
            world.run_until(Duration::from_millis(200), |_| false);
        }
        // 1 MiB at 4 MiB/s is 250 ms.
        assert!(total / 7 < Duration::from_millis(500), "{:?} a seek", total / 7);
    });
}

#[test]
fn playback_at_half_the_swarms_rate_never_stalls_though_a_peer_goes_silent() {
    for_each_seed("playback", 20, |seed| {
        let mut world = SimWorld::new(seed, 48 * MIB_LEN, LARGE_PIECE);
        let uneven = [96.0, 192.0, 256.0, 384.0, 512.0, 768.0, 960.0].map(|kib| (seeder(kib * 1024.0), link(15)));
        let silent = NodeSpec { character: Character::Staller(3 * MIB), ..seeder(900.0 * 1024.0) };
        let us = swarm(&mut world, uneven.into_iter().chain([(silent, link(15))]));
        let reader = world.read(us, 0, 40 * MIB, 1.9e6);
        assert!(world.run_until(Duration::from_secs(60), |world| world.all_finished(&[reader])));
        let viewing = world.viewing(reader);
        // A player buffers a second before it starts; this reader does not.
        assert!(viewing.longest_stall < Duration::from_millis(900), "{viewing:?}");
    });
}

/// The longest that a reader who takes all at once stands still, when one of two peers goes in mid-stream.
fn longest_stall_when_one_of_two_goes(seed: u64, goes: Character, other: f64) -> Duration {
    let mut world = SimWorld::new(seed, 8 * MIB_LEN, PIECE);
    let goner = NodeSpec { character: goes, ..seeder(3.0 * 1024.0 * 1024.0 - other) };
    let stays = match goes {
        Character::Bursts(every, _) => Character::Bursts(every, u64::MAX),
        Character::Honest | Character::Liar(_) | Character::Staller(_) | Character::Leaver(_) => Character::Honest,
    };
    let us = swarm(&mut world, [(goner, link(2)), (NodeSpec { character: stays, ..seeder(other) }, link(2))]);
    let reader = world.read(us, 0, 8 * MIB, 1e9);
    assert!(world.run_until(Duration::from_secs(60), |world| world.all_finished(&[reader])));
    world.viewing(reader).longest_stall
}

#[test]
fn a_stream_without_a_buffer_goes_on_within_a_second_when_one_of_two_peers_goes() {
    for_each_seed("goes", 20, |seed| {
        for other in [1.0, 2.0].map(|mib| mib * 1024.0 * 1024.0) {
            for goes in [Character::Staller(2 * MIB + seed * 20_000), Character::Leaver(2 * MIB + seed * 20_000)] {
                let stall = longest_stall_when_one_of_two_goes(seed, goes, other);
                assert!(stall < Duration::from_millis(900), "{stall:?} with {goes:?}, {other} B/s left");
            }
        }
    });
}

/// As clients with a rate limit do, both send in bursts; nothing less than the pause between two tells that one has gone.
#[test]
fn a_stream_from_two_peers_that_send_in_bursts_goes_on_soon_after_one_went() {
    for_each_seed("bursts", 5, |seed| {
        for (every, longest) in [(100, 900), (250, 1250), (500, 1750)] {
            let every = Duration::from_millis(every);
            let stall =
                longest_stall_when_one_of_two_goes(seed, Character::Bursts(every, 2 * MIB + seed * 20_000), 1e6);
            assert!(stall < Duration::from_millis(longest), "{stall:?} with bursts every {every:?}");
        }
    });
}

#[test]
fn peers_that_send_once_a_second_are_asked_for_as_much_as_they_send() {
    for_each_seed("once a second", 5, |seed| {
        let mut world = SimWorld::new(seed, 16 * MIB_LEN, PIECE);
        let bursts = NodeSpec { character: Character::Bursts(Duration::from_secs(1), u64::MAX), ..seeder(1e6) };
        let us = swarm(&mut world, [(bursts, link(2)), (bursts, link(2))]);
        let reader = world.read(us, 0, 16 * MIB, 1e9);
        assert!(world.run_until(Duration::from_secs(60), |world| world.all_finished(&[reader])));
        // 8.4 s at their rate, and some seconds to get to know them.
        let took = world.viewing(reader).finished.expect("it finished");
        assert!(took < Duration::from_secs(24), "{took:?}");
    });
}

#[test]
fn liars_are_banned_and_no_wrong_byte_reaches_a_reader() {
    for_each_seed("liars", 20, |seed| {
        let mut world = SimWorld::new(seed, 24 * MIB_LEN, PIECE);
        let honest = (0..if std::env::var("TRACE").is_ok() { 4 } else { 6 }).map(|_| (seeder(1e6), link(5)));
        let liar = NodeSpec { character: Character::Liar(0.05), ..seeder(1e6) };
        let us = swarm(&mut world, honest.chain([(liar, link(5))]));
        let reader = world.read(us, 0, 24 * MIB, 1e9);
        assert!(world.run_until(Duration::from_secs(60), |world| world.all_finished(&[reader])));
        assert_eq!(world.banned_by(us), [NodeId(7)], "the liar and nobody else");
    });
}

#[test]
fn peers_that_leave_and_lossy_paths_cost_time_but_no_data() {
    for_each_seed("leavers", 20, |seed| {
        let mut world = SimWorld::new(seed, 24 * MIB_LEN, PIECE);
        let lossy = LinkSpec { latency: Duration::from_millis(60), loss: 0.02 };
        let leavers = (1..4).map(|n| (NodeSpec { character: Character::Leaver(n * 2 * MIB), ..seeder(2e6) }, lossy));
        let us = swarm(&mut world, leavers.chain([(seeder(1e6), lossy)]));
        let readers = [world.read(us, 0, 24 * MIB, 1e9), world.read(us, 12 * MIB, 13 * MIB, 1e9)];
        assert!(world.run_until(Duration::from_secs(120), |world| world.all_finished(&readers)));
    });
}

#[test]
fn leechers_serve_each_other_so_that_a_slow_seeder_is_not_the_limit() {
    for_each_seed("leechers", 4, |seed| {
        let mut world = SimWorld::new(seed, 8 * MIB_LEN, PIECE);
        let source = world.add_node(seeder(1e6));
        let leechers: Vec<_> = (0..5).map(|_| world.add_node(NodeSpec { upload_rate: 2e6, ..cold() })).collect();
        for (at, leecher) in leechers.iter().enumerate() {
            world.connect(source, *leecher, link(5));
            leechers[..at].iter().for_each(|other| world.connect(*leecher, *other, link(5)));
            world.want_everything(*leecher);
        }
        let complete = |world: &SimWorld| {
            leechers.iter().all(|leecher| world.torrent(*leecher).have().is_some_and(|have| have.is_all()))
        };
        // Alone, the seeder would need 42 s to send everybody a copy.
        assert!(world.run_until(Duration::from_secs(26), complete), "not complete after {:?}", world.elapsed());
    });
}

#[test]
fn sixty_four_readers_at_random_places_are_all_served() {
    for_each_seed("many readers", 4, |seed| {
        let mut world = SimWorld::new(seed, 128 * MIB_LEN, LARGE_PIECE);
        let us = swarm(&mut world, (0..8).map(|_| (seeder(512.0 * 1024.0), link(2))));
        let place = |n: u64| (n * 7_919_003 + seed * 104_729) % (127 * MIB);
        let readers: Vec<_> = (0..64).map(|n| world.read(us, place(n), place(n) + 65536, 1e9)).collect();
        assert!(world.run_until(Duration::from_secs(40), |world| world.all_finished(&readers)));
        let mut waits: Vec<_> = readers.iter().filter_map(|reader| world.viewing(*reader).first_byte).collect();
        waits.sort_unstable();
        assert!(waits[0] < Duration::from_secs(1), "readers are served in turn, not all at the end: {:?}", waits[0]);
    });
}

#[test]
fn a_dropped_reader_costs_no_further_upload() {
    for_each_seed("dropped reader", 10, |seed| {
        let mut world = SimWorld::new(seed, 64 * MIB_LEN, LARGE_PIECE);
        let us = swarm(&mut world, (0..4).map(|_| (seeder(1e6), link(5))));
        let reader = world.read(us, 0, 64 * MIB, 1e9);
        world.run_until(Duration::from_secs(5), |_| false);
        world.close(reader);
        // What is on its way already arrives.
        world.run_until(Duration::from_secs(2), |_| false);
        let before = world.torrent(us).totals().downloaded;
        world.run_until(Duration::from_secs(20), |_| false);
        assert_eq!(world.torrent(us).totals().downloaded, before, "nobody reads and yet blocks come");
    });
}

#[test]
fn doubled_requests_waste_little() {
    for_each_seed("waste", 10, |seed| {
        let mut world = SimWorld::new(seed, 100 * MIB_LEN, LARGE_PIECE);
        let us = swarm(&mut world, (0..20_u32).map(|n| (seeder(200e3 + 50e3 * f64::from(n)), link(10 + u64::from(n)))));
        let reader = world.read(us, 0, 100 * MIB, 1e9);
        assert!(world.run_until(Duration::from_secs(120), |world| world.all_finished(&[reader])));
        let totals = world.torrent(us).totals();
        assert!(totals.wasted * 50 <= totals.downloaded, "{} of {} bytes wasted", totals.wasted, totals.downloaded);
        let ideal = 100.0 * MIB as f64 / (0..20_u32).map(|n| 200e3 + 50e3 * f64::from(n)).sum::<f64>();
        let took = world.viewing(reader).finished.expect("it finished").as_secs_f64();
        assert!(took < ideal * 1.25, "{took:.1} s where {ideal:.1} s would do");
    });
}
