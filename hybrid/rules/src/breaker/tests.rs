use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::classify::Verdict;
use crate::testing::start;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn key(source: &str) -> BreakerKey {
    BreakerKey::new(source, "gateway", Operation::Fetch)
}

fn breaker(now: Instant) -> CircuitBreaker {
    CircuitBreaker::new(now, Arc::new(BreakerOptions::default()), 7)
}

fn call(breaker: &mut CircuitBreaker, now: Instant, verdict: Verdict) {
    let ticket = breaker.try_acquire(now, Urgency::Relaxed).unwrap();
    breaker.report(now, ticket, verdict);
}

/// Fails until it opens; how many calls that took, and when it may be tried.
fn fail_until_open(breaker: &mut CircuitBreaker, now: Instant, verdict: Verdict) -> (u32, Instant) {
    for calls in 0.. {
        match breaker.try_acquire(now, Urgency::Relaxed) {
            Ok(ticket) => breaker.report(now, ticket, verdict),
            Err(refusal) => return (calls, refusal.retry_at),
        }
    }
    unreachable!()
}

#[test]
fn it_opens_by_ratio_is_tried_and_closes_after_successes_in_a_row() {
    let mut now = start();
    let mut breaker = breaker(now);
    (0..6).for_each(|_| call(&mut breaker, now, Verdict::Success));
    (0..5).for_each(|_| call(&mut breaker, now, Verdict::Failure));
    assert_eq!(breaker.state(now), BreakerState::Closed, "5 of 11 are fewer than half");
    call(&mut breaker, now, Verdict::Failure);
    assert_eq!(breaker.state(now), BreakerState::Open);
    let until = breaker.try_acquire(now, Urgency::NobodyElse).unwrap_err().retry_at;
    assert!((ms(1500)..=ms(2500)).contains(&(until - now)), "{:?}", until - now);

    now = until;
    assert_eq!(breaker.state(now), BreakerState::HalfOpen);
    assert_eq!(breaker.peek(now, Urgency::Urgent).unwrap_err().state, BreakerState::HalfOpen, "a reader is no tester");
    call(&mut breaker, now, Verdict::Success);
    assert_eq!(breaker.state(now), BreakerState::HalfOpen, "one success is not enough");
    call(&mut breaker, now, Verdict::Success);
    assert_eq!(breaker.state(now), BreakerState::Closed);
    assert_eq!(breaker.peek(now, Urgency::Urgent), Ok(false));
}

#[test]
fn a_failed_probe_opens_it_for_longer_up_to_the_cap() {
    let mut now = start();
    let mut breaker = breaker(now);
    let (_, mut until) = fail_until_open(&mut breaker, now, Verdict::Failure);
    let mut spans = vec![until - now];
    for _ in 0..8 {
        now = until;
        call(&mut breaker, now, Verdict::Failure);
        until = breaker.try_acquire(now, Urgency::Relaxed).unwrap_err().retry_at;
        spans.push(until - now);
    }
    assert!(spans[1] > spans[0] && spans[2] > spans[1] && spans[3] > spans[2], "{spans:?}");
    assert!(spans.iter().all(|span| *span <= ms(75_000)), "{spans:?}");
    assert!(spans[5..].windows(2).any(|two| two[0] != two[1]), "jitter: {spans:?}");
}

#[test]
fn a_relapse_goes_on_with_longer_times_and_a_late_failure_begins_anew() {
    for (pause, successes, again) in [(ms(1000), 0, true), (ms(120_000), 0, false), (ms(1000), 16, false)] {
        let mut now = start();
        let mut breaker = breaker(now);
        for _ in 0..3 {
            now = fail_until_open(&mut breaker, now, Verdict::Failure).1;
        }
        call(&mut breaker, now, Verdict::Success);
        call(&mut breaker, now, Verdict::Success);
        (0..successes).for_each(|_| call(&mut breaker, now, Verdict::Success));
        now += pause;
        let until = fail_until_open(&mut breaker, now, Verdict::Failure).1;
        assert_eq!(until - now > ms(5_000), again, "{:?} after {pause:?} and {successes}", until - now);
    }
}

#[test]
fn half_open_probe_dropped_returns_its_permit() {
    let mut now = start();
    let breakers = Breakers::new(BreakerOptions::default(), 1);
    let key = key("mirror");
    while let Ok(permit) = breakers.try_acquire(now, &key, Urgency::Relaxed) {
        permit.report(now, Verdict::Failure);
    }
    now += ms(7000);
    let probe = breakers.try_acquire(now, &key, Urgency::Relaxed).unwrap();
    assert!(probe.is_probe());
    assert!(breakers.try_acquire(now, &key, Urgency::Relaxed).is_err());
    drop(probe);
    assert!(breakers.try_acquire(now, &key, Urgency::Relaxed).unwrap().is_probe());
    assert_eq!(breakers.state(now, &key), BreakerState::HalfOpen);
}

#[test]
fn a_probe_that_is_never_reported_fails_in_time() {
    let mut now = start();
    let mut breaker = breaker(now);
    now = fail_until_open(&mut breaker, now, Verdict::Failure).1;
    let lost = breaker.try_acquire(now, Urgency::Relaxed).unwrap();
    now += BreakerOptions::default().probe_patience;
    assert_eq!(breaker.state(now), BreakerState::Open);
    breaker.report(now, lost, Verdict::Success);
    assert_eq!(breaker.state(now), BreakerState::Open, "late news are no news");
}

#[test]
fn corruption_weighs_more_than_failure() {
    let now = start();
    let (failures, soon) = fail_until_open(&mut breaker(now), now, Verdict::Failure);
    let (corruptions, late) = fail_until_open(&mut breaker(now), now, Verdict::Corruption);
    assert!(corruptions < failures, "{corruptions} against {failures}");
    assert!(late - now > 2 * (soon - now), "{:?} against {:?}", late - now, soon - now);

    // One in a hundred: no ratio would ever see it.
    let mut breaker = breaker(now);
    let mut corrupt = 0;
    while breaker.state(now) == BreakerState::Closed {
        (0..99).for_each(|_| call(&mut breaker, now, Verdict::Success));
        call(&mut breaker, now, Verdict::Corruption);
        corrupt += 1;
    }
    assert!(corrupt <= 20, "{corrupt} corrupt blocks before it opened");
}

#[test]
fn what_is_old_is_forgotten() {
    let mut now = start();
    let mut breaker = breaker(now);
    for _ in 0..100 {
        call(&mut breaker, now, Verdict::Failure);
        now += ms(16_000);
    }
    assert_eq!(breaker.state(now), BreakerState::Closed, "four failures a minute are no sample");
}

#[test]
fn an_operator_sees_why_and_may_reset() {
    let now = start();
    let breakers = Breakers::new(BreakerOptions::default(), 1);
    let key = key("mirror");
    while let Ok(permit) = breakers.try_acquire(now, &key, Urgency::Relaxed) {
        permit.report(now, Verdict::Failure);
    }
    let status = &breakers.status(now + ms(500))[0];
    assert_eq!((status.state, status.for_ms, status.failures), (BreakerState::Open, 500, 5));
    assert_eq!(status.why.as_deref(), Some("5 of the last 5 calls failed"));
    assert!(status.next_probe_ms.is_some_and(|ms| (1000..2001).contains(&ms)), "{status:?}");
    assert_eq!(breakers.poll_change().map(|change| change.state), Some(BreakerState::Open));

    assert!(breakers.reset(now, &key));
    assert_eq!(breakers.state(now, &key), BreakerState::Closed);
    assert_eq!(breakers.poll_change().map(|change| change.state), Some(BreakerState::Closed));
    assert_eq!(breakers.poll_change(), None);
    assert!(!breakers.reset(now, &self::key("nobody")));
    assert_eq!(key.to_string(), "mirror/gateway/fetch");
}

#[test]
fn the_table_is_bounded_and_keeps_what_is_open() {
    let mut now = start();
    let breakers = Breakers::new(BreakerOptions::default(), 1);
    let bad = key("bad");
    while let Ok(permit) = breakers.try_acquire(now, &bad, Urgency::Relaxed) {
        permit.report(now, Verdict::Failure);
    }
    for n in 0..MAX_BREAKERS + 100 {
        now += ms(1);
        drop(breakers.try_acquire(now, &key(&n.to_string()), Urgency::Relaxed).unwrap());
    }
    assert_eq!(breakers.status(now).len(), MAX_BREAKERS);
    assert_ne!(breakers.state(now, &bad), BreakerState::Closed);
}

#[test]
fn a_thousand_concurrent_calls_take_no_more_places_than_there_are() {
    for probes in [1, 3] {
        let mut now = start();
        let breakers = Breakers::new(BreakerOptions { probes, ..BreakerOptions::default() }, 1);
        let key = key("mirror");
        while let Ok(permit) = breakers.try_acquire(now, &key, Urgency::Relaxed) {
            permit.report(now, Verdict::Failure);
        }
        now += ms(7000);
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..125 {
                        let Ok(permit) = breakers.try_acquire(now, &key, Urgency::NobodyElse) else { continue };
                        most.fetch_max(1 + held.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                        admitted.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        // Given back before the place is free again, so that the count is never too high.
                        held.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= probes as usize, "{most:?} at a time");
        assert!(admitted.load(Ordering::SeqCst) >= 1, "nobody was let through");
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Pass(u64),
    Acquire(Urgency),
    Report(usize, Verdict),
    Drop(usize),
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Success), Just(Verdict::Failure), Just(Verdict::Corruption), Just(Verdict::Neutral)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let urgency = prop_oneof![Just(Urgency::Relaxed), Just(Urgency::Urgent), Just(Urgency::NobodyElse)];
    let step = prop_oneof![
        2 => (0_u64..20_000).prop_map(Step::Pass),
        6 => urgency.prop_map(Step::Acquire),
        6 => (any::<usize>(), verdicts()).prop_map(|(n, verdict)| Step::Report(n, verdict)),
        1 => any::<usize>().prop_map(Step::Drop),
    ];
    proptest::collection::vec(step, 1..300)
}

/// Runs a schedule; `times` says what time a caller believes it is. Returns all that was decided.
fn run(begin: Instant, steps: &[Step], probes: u32, times: impl Fn(Instant, usize) -> Instant) -> Vec<String> {
    let options = Arc::new(BreakerOptions { probes, ..BreakerOptions::default() });
    let mut breaker = CircuitBreaker::new(begin, options, 3);
    let (mut now, mut held, mut trace) = (begin, BTreeMap::new(), Vec::new());
    for (index, step) in steps.iter().enumerate() {
        let seen = times(now, index);
        let nth = |held: &BTreeMap<usize, Ticket>, n: usize| held.keys().nth(n % held.len().max(1)).copied();
        match *step {
            Step::Pass(millis) => now += ms(millis),
            Step::Acquire(urgency) => match breaker.try_acquire(seen, urgency) {
                Ok(ticket) => {
                    assert!(!ticket.is_probe() || urgency != Urgency::Urgent, "a reader was made to try a source");
                    assert_ne!(breaker.state(seen), BreakerState::Open, "let through while open");
                    trace.push(format!("let through, {}", ticket.is_probe()));
                    held.insert(index, ticket);
                }
                Err(refusal) => {
                    trace.push(format!(
                        "{:?} for {:?}",
                        refusal.state,
                        refusal.retry_at.saturating_duration_since(now)
                    ));
                }
            },
            Step::Report(n, verdict) => {
                if let Some(ticket) = nth(&held, n).and_then(|index| held.remove(&index)) {
                    breaker.report(seen, ticket, verdict);
                }
            }
            Step::Drop(n) => {
                if let Some(ticket) = nth(&held, n).and_then(|index| held.remove(&index)) {
                    breaker.release(ticket);
                }
            }
        }
        let turn = breaker.turn();
        let trying = held.values().filter(|ticket| ticket.is_probe() && ticket.is_of(turn)).count();
        assert!(trying <= probes as usize, "{trying} try the source, {probes} may");
        trace.push(format!("{:?}", breaker.state(times(now, index))));
    }
    // Whatever happened, and though some calls are never reported: in the end somebody may try.
    now += BreakerOptions::default().corrupt_open_cap * 2;
    let _state = breaker.state(now);
    now += BreakerOptions::default().corrupt_open_cap * 2;
    assert!(breaker.peek(now, Urgency::Relaxed).is_ok(), "starved");
    trace
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_probes_are_bounded_and_nobody_starves(steps in steps(), probes in 1_u32..4) {
        run(start(), &steps, probes, |now, _| now);
    }

    #[test]
    fn when_it_happens_changes_nothing(steps in steps()) {
        let (begin, hour) = (start(), Duration::from_secs(3600));
        let trace = run(begin, &steps, 1, |now, _| now);
        prop_assert_eq!(&run(begin + hour, &steps, 1, |now, _| now), &trace);
        // Some callers have looked at the clock long ago: their times are passed over.
        run(begin, &steps, 1, |now, index| if index % 3 == 0 { begin } else { now });
    }

    #[test]
    fn what_says_nothing_of_the_source_never_counts(
        steps in proptest::collection::vec((0_u64..5000, any::<bool>()), 1..200)
    ) {
        let mut now = start();
        let mut breaker = breaker(now);
        for (pause, neutral) in steps {
            now += ms(pause);
            call(&mut breaker, now, if neutral { Verdict::Neutral } else { Verdict::Success });
            prop_assert_eq!(breaker.state(now), BreakerState::Closed);
        }
    }
}
