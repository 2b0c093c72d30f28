//! What plans share: the breakers, and the budget for what is asked twice.

use std::sync::Arc;
use std::time::Duration;

use swarmgate_content::FailureClass;
use swarmgate_hybrid_rules::{
    Action, BreakerOptions, BreakerState, Breakers, Budget, BudgetOptions, FetchPlan, Holdings, PlanOptions, Policy,
    ReaderKey, ReaderOptions, SourceKey, Units, Urgency, Verdict,
};

use super::fetchers::spec;
use super::world::start;

fn plan(breakers: &Breakers, budget: &Budget) -> FetchPlan {
    let options = PlanOptions {
        policy: Arc::new(Policy::default()),
        breakers: breakers.clone(),
        budget: budget.clone(),
        patience: Duration::from_secs(30),
    };
    FetchPlan::new(Units::equal(64 << 20, 256 << 10).unwrap(), options)
}

#[test]
fn a_thousand_plans_try_a_half_open_source_with_one_unit() {
    let mut now = start();
    let (breakers, budget) = (Breakers::new(BreakerOptions::default(), 1), Budget::new(BudgetOptions::default()));
    let source = SourceKey(0);
    let key = spec(source).breaker;
    while let Ok(permit) = breakers.try_acquire(now, &key, Urgency::Relaxed) {
        permit.report(now, Verdict::Failure);
    }
    now += Duration::from_secs(7);
    let mut plans: Vec<_> = (0..1000).map(|_| plan(&breakers, &budget)).collect();
    let mut asked = Vec::new();
    for (index, plan) in plans.iter_mut().enumerate() {
        assert!(plan.join(source, spec(source), Holdings::All));
        assert!(plan.open_reader(now, ReaderKey(1), 0..64 << 20, ReaderOptions::default()));
        plan.schedule(now);
        while let Some(action) = plan.poll_action() {
            let Action::Ask { unit, .. } = action else { panic!("{action:?}") };
            asked.push((index, unit));
        }
    }
    let [(index, unit)] = asked[..] else { panic!("{} units to try one source", asked.len()) };
    // Its reader leaves: the place is free for another's.
    plans[index].close_reader(ReaderKey(1));
    plans[index].schedule(now);
    assert!(matches!(plans[index].poll_action(), Some(Action::Cancel { unit: other, .. }) if other == unit));
    let other = (index + 1) % plans.len();
    plans[other].schedule(now);
    assert!(matches!(plans[other].poll_action(), Some(Action::Ask { .. })));
    assert_eq!(breakers.state(now, &key), BreakerState::HalfOpen);
}

#[test]
fn where_everything_fails_breaker_retry_and_hedge_do_not_multiply() {
    let begin = start();
    let mut now = begin;
    let (breakers, budget) = (Breakers::new(BreakerOptions::default(), 1), Budget::new(BudgetOptions::default()));
    let mut plans: Vec<_> = (0..20).map(|_| plan(&breakers, &budget)).collect();
    for plan in &mut plans {
        for source in (0..3).map(SourceKey) {
            assert!(plan.join(source, spec(source), Holdings::All));
        }
        assert!(plan.open_reader(now, ReaderKey(1), 0..64 << 20, ReaderOptions::default()));
    }
    while now < begin + Duration::from_secs(60) {
        for plan in &mut plans {
            plan.schedule(now);
            while let Some(action) = plan.poll_action() {
                if let Action::Ask { source, unit, .. } = action {
                    plan.on_failed(now, source, unit, FailureClass::Source);
                }
            }
        }
        now += Duration::from_millis(10);
    }
    let status = budget.status();
    let asked = status.requests + status.retries + status.hedges;
    // Each plan may ask once for each of the few units that a reader wants first; all together may retry a little.
    assert!(status.requests <= 20 * 16, "{status:?}");
    assert!(status.retries <= status.requests / 10 + 8 + 2 * 60 + 1, "{status:?}");
    println!("20 plans, 3 dead sources, 60 s: {asked} requests, {status:?}");
}
