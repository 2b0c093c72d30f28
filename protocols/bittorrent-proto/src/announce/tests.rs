use std::collections::BTreeMap;

use super::*;
use crate::testing::start;
use proptest::prelude::*;

const A: &str = "http://a/announce";
const B: &str = "udp://b:1";
const C: &str = "https://c/announce";

#[test]
fn every_tier_announces_at_once_with_one_tracker_each() {
    let mut world = World::new(&[&[A, B], &[C]]);
    let jobs = world.drain();
    assert_eq!(jobs.len(), 2);
    assert!([A, B].contains(&&*jobs[0].url) && &*jobs[1].url == C);
    assert!(jobs.iter().all(|job| job.event == AnnounceEvent::Started));
    assert!(world.announcer.poll_timeout().is_none(), "both tiers wait for answers");
}

#[test]
fn when_one_fails_the_next_of_its_tier_is_tried_and_moves_to_the_front() {
    let mut world = World::new(&[&[A, B]]);
    let first = world.one();
    world.fail(&first);
    let second = world.one();
    assert_ne!(first.url, second.url);
    world.answer(&second, 1800, 60);
    assert_eq!(world.announcer.poll_timeout(), Some((world.now + Duration::from_secs(1800), "announce")));
    world.pass(1800);
    let again = world.one();
    assert_eq!((&again.url, again.event), (&second.url, AnnounceEvent::Interval));
}

#[test]
fn when_all_of_a_tier_fail_it_waits_longer_each_time() {
    let mut world = World::new(&[&[A]]);
    let mut waits = Vec::new();
    for _ in 0..12 {
        let job = world.one();
        assert_eq!(job.event, AnnounceEvent::Started, "it was never heard");
        world.fail(&job);
        assert!(world.announcer.poll_announce(world.now).is_none());
        let (at, _) = world.announcer.poll_timeout().unwrap();
        waits.push((at - world.now).as_secs_f32());
        world.now = at;
    }
    assert!((11.25..=18.75).contains(&waits[0]) && (22.5..=37.5).contains(&waits[1]), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 2250.0), "{waits:?}");
}

#[test]
fn intervals_are_kept_within_reason() {
    let mut world = World::new(&[&[A]]);
    for (interval, min_interval, want) in [(0, 0, 30), (1_000_000, 0, 3600), (60, 600, 600), (600, 1_000_000, 3600)] {
        let job = world.one();
        world.answer(&job, interval, min_interval);
        assert_eq!(world.announcer.poll_timeout().unwrap().0, world.now + Duration::from_secs(want));
        world.pass(want);
    }
}

#[test]
fn a_wish_for_peers_is_granted_as_soon_as_the_tracker_allows() {
    let mut world = World::new(&[&[A]]);
    let job = world.one();
    world.answer(&job, 1800, 300);
    world.pass(10);
    world.announcer.announce_now(world.now);
    assert!(world.announcer.poll_announce(world.now).is_none());
    assert_eq!(world.announcer.poll_timeout().unwrap().0, world.now + Duration::from_secs(290));
    world.pass(290);
    assert_eq!(world.one().event, AnnounceEvent::Interval);
}

#[test]
fn a_tracker_that_said_when_to_come_back_is_not_bothered_before() {
    let mut world = World::new(&[&[A]]);
    let job = world.one();
    let busy = TrackerError::Refused { reason: "busy".into(), retry_in: Some(Duration::from_secs(7200)) };
    world.announcer.on_reply(world.now, job.tracker, Err(&busy));
    world.announcer.announce_now(world.now);
    assert_eq!(world.announcer.poll_timeout().unwrap().0, world.now + Duration::from_secs(7200));
}

#[test]
fn completion_is_told_once_to_those_who_knew_us_without() {
    let mut world = World::new(&[&[A], &[C]]);
    let (a, c) = (world.one(), world.one());
    world.answer(&a, 1800, 1800);
    world.announcer.complete(world.now);
    let told = world.one();
    assert_eq!((told.tracker, told.event), (a.tracker, AnnounceEvent::Completed), "at once, whatever the interval");
    world.answer(&told, 1800, 0);
    world.answer(&c, 1800, 0);
    let told = world.one();
    assert_eq!((told.tracker, told.event), (c.tracker, AnnounceEvent::Completed), "its `started` was sent before");
    world.answer(&told, 1800, 0);
    world.announcer.complete(world.now);
    assert!(world.drain().is_empty());
    world.pass(1800);
    assert!(world.drain().iter().all(|job| job.event == AnnounceEvent::Interval));
}

#[test]
fn who_starts_complete_never_says_completed() {
    let mut world = World::new(&[&[A]]);
    world.announcer.complete(world.now);
    let job = world.one();
    assert_eq!(job.event, AnnounceEvent::Started);
    world.answer(&job, 60, 60);
    world.pass(60);
    assert_eq!(world.one().event, AnnounceEvent::Interval);
}

#[test]
fn goodbye_is_said_once_to_those_who_know_us_and_to_nobody_else() {
    let mut world = World::new(&[&[A], &[B], &[C]]);
    let (a, b, c) = (world.one(), world.one(), world.one());
    world.answer(&a, 1800, 0);
    world.fail(&b);
    world.announcer.stop();
    let jobs = world.drain();
    assert!(jobs.iter().all(|job| job.event == AnnounceEvent::Stopped));
    assert_eq!(jobs.iter().map(|job| job.tracker).collect::<Vec<_>>(), [a.tracker, c.tracker]);
    assert!(!world.announcer.is_stopped());
    world.fail(&a);
    world.answer(&c, 1800, 0);
    assert!(world.announcer.is_stopped() && world.drain().is_empty());
    world.pass(10_000);
    assert!(world.drain().is_empty() && world.announcer.poll_timeout().is_none());
}

#[test]
fn other_schemes_are_kept_aside_and_repetitions_dropped() {
    let mut world = World::new(&[&["wss://w/", A, A], &["gopher://g", " "], &[A]]);
    assert_eq!(world.announcer.set_aside(), ["wss://w/", "gopher://g"]);
    assert_eq!(world.drain().len(), 1);
    world.announcer.add_tiers(world.now, &[vec![A.to_owned()], vec![B.to_owned()]]);
    assert_eq!(world.one().url.as_ref(), B);
}

#[test]
fn the_status_says_how_it_went() {
    let mut world = World::new(&[&[A], &[B]]);
    let (a, b) = (world.one(), world.one());
    world.fail(&b);
    world.answer(&a, 1800, 0);
    let status: Vec<_> = world.announcer.trackers().collect();
    assert!(matches!(status[0].last, LastAnnounce::Answered { complete: Some(3), .. }));
    assert!(matches!(status[1].last, LastAnnounce::Failed { error, .. } if error == "no route"));
    assert_eq!((status[1].tier, status[1].failures), (1, 1));
    assert_eq!(world.announcer.swarm_size(), (Some(3), None));
}

struct World {
    announcer: Announcer,
    now: Instant,
}

impl World {
    fn new(tiers: &[&[&str]]) -> Self {
        let tiers: Vec<Vec<String>> = tiers.iter().map(|tier| tier.iter().map(ToString::to_string).collect()).collect();
        let now = start();
        Self { announcer: Announcer::new(now, &tiers, 1), now }
    }

    fn one(&mut self) -> AnnounceJob {
        self.announcer.poll_announce(self.now).expect("an announce is due")
    }

    fn drain(&mut self) -> Vec<AnnounceJob> {
        std::iter::from_fn(|| self.announcer.poll_announce(self.now)).collect()
    }

    fn answer(&mut self, job: &AnnounceJob, interval: u64, min_interval: u64) {
        let response = AnnounceResponse {
            interval: Some(Duration::from_secs(interval)),
            min_interval: Some(Duration::from_secs(min_interval)),
            complete: Some(3),
            ..AnnounceResponse::default()
        };
        self.announcer.on_reply(self.now, job.tracker, Ok(&response));
    }

    fn fail(&mut self, job: &AnnounceJob) {
        self.announcer.on_reply(self.now, job.tracker, Err(&TrackerError::Unreachable("no route".into())));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

proptest! {
    /// Any history of answers, failures, wishes and time: no tracker is asked again within its minimum interval, no tier
    /// asks two at a time, `started` comes first and is not said again once heard.
    #[test]
    fn trackers_are_never_pestered(steps in proptest::collection::vec((0..5u8, 0..100u64), 1..200), seed: u64) {
        let now = start();
        let tiers = [vec![A.to_owned(), B.to_owned()], vec![C.to_owned()]];
        let mut world = World { announcer: Announcer::new(now, &tiers, seed), now };
        let mut allowed: BTreeMap<TrackerKey, Instant> = BTreeMap::new();
        let mut heard: BTreeMap<TrackerKey, bool> = BTreeMap::new();
        let mut waiting: Vec<AnnounceJob> = Vec::new();
        for (step, seconds) in steps {
            for job in world.drain() {
                prop_assert!(allowed.get(&job.tracker).is_none_or(|at| *at <= world.now));
                prop_assert_eq!(job.event == AnnounceEvent::Started, !heard.get(&job.tracker).copied().unwrap_or(false));
                waiting.push(job);
            }
            prop_assert!(waiting.len() <= 2);
            prop_assert!(waiting.iter().filter(|job| &*job.url != C).count() <= 1);
            match step {
                0 => world.announcer.announce_now(world.now),
                1 | 2 => world.pass(seconds),
                3 => if let Some(job) = waiting.pop() {
                    world.answer(&job, 60 + seconds, seconds);
                    heard.insert(job.tracker, true);
                    allowed.insert(job.tracker, world.now + Duration::from_secs(seconds.max(30)));
                },
                _ => if let Some(job) = waiting.pop() {
                    world.fail(&job);
                    allowed.insert(job.tracker, world.now + Duration::from_secs(11));
                },
            }
        }
    }
}
