//! Each field of a policy changes what is done; another policy changes nothing that is in flight.

use std::collections::BTreeMap;

use super::*;

/// Who is asked for the first units, by two sources that are alike.
fn asked_under(policy: Policy) -> Vec<SourceKey> {
    let mut rig = Rig::new([known(A, 5.0, 50), known(B, 5.0, 50)]);
    rig.plan.set_policy(Arc::new(policy));
    rig.read(0, 0.1);
    rig.plan.mark_had(Unit(0));
    let mut keys: Vec<_> = rig.asks().into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys
}

fn only<T>(network: Network, value: T) -> BTreeMap<Network, T> {
    BTreeMap::from([(network, value)])
}

#[test]
fn without_a_policy_both_are_asked() {
    assert_eq!(asked_under(Policy::default()), [A, A, B]);
}

#[test]
fn weights_change_who_is_asked() {
    assert_eq!(asked_under(Policy { weights: only(Network::WebTorrent, 1.5), ..Policy::default() }), [A, B, B]);
    assert_eq!(asked_under(Policy { weights: only(Network::WebTorrent, 0.1), ..Policy::default() }), [A, A, A]);
}

#[test]
fn costs_change_who_is_asked_unless_a_reader_would_wait() {
    let costs = only(Network::BitTorrent, Duration::from_secs(1));
    assert_eq!(asked_under(Policy { costs: costs.clone(), ..Policy::default() }), [B, B, B]);

    let mut rig = Rig::new([known(A, 5.0, 50), known(B, 0.2, 50)]);
    rig.plan.set_policy(Arc::new(Policy { costs, ..Policy::default() }));
    rig.read(0, 1.0);
    assert_eq!(rig.asks()[0], (A, 0), "the cheap one would take more than a second, and a reader waits");
}

#[test]
fn what_is_not_allowed_or_denied_is_not_asked() {
    let allow = Some(BTreeSet::from([Network::WebTorrent]));
    assert_eq!(asked_under(Policy { allow, ..Policy::default() }), [B, B, B]);
    let deny = BTreeSet::from([Network::WebTorrent]);
    assert_eq!(asked_under(Policy { deny, ..Policy::default() }), [A, A, A]);
    let neither = Policy { allow: Some(BTreeSet::new()), ..Policy::default() };
    assert_eq!(asked_under(neither), []);
}

#[test]
fn no_more_sources_are_asked_at_a_time_than_allowed() {
    assert_eq!(asked_under(Policy { max_sources: 1, ..Policy::default() }), [A, A, A]);
}

#[test]
fn without_a_share_nothing_is_asked_twice() {
    for (hedge_share, hedged) in [(0.05, 1), (0.0, 0)] {
        let mut rig = Rig::new([known(A, 60.0, 5), known(B, 1.0, 50)]);
        rig.plan.set_policy(Arc::new(Policy { hedge_share, ..Policy::default() }));
        assert!(rig.plan.open_reader(rig.now, READER, 0..UNIT, ReaderOptions::default()));
        assert_eq!(hedges(&rig.pass(ms(390))).len(), hedged);
    }
}

#[test]
fn another_policy_changes_nothing_that_is_in_flight() {
    let mut rig = Rig::new([known(A, 5.0, 50), known(B, 5.0, 50)]);
    rig.read(0, 5.0);
    let asks = rig.asks();
    assert!(asks.iter().any(|(key, _)| *key == A) && asks.iter().any(|(key, _)| *key == B));
    rig.plan.set_policy(Arc::new(Policy { deny: BTreeSet::from([Network::BitTorrent]), ..Policy::default() }));
    assert!(!rig.actions().iter().any(|action| matches!(action, Action::Cancel { .. })));
    for (key, unit) in asks {
        rig.now += ms(10);
        assert_eq!(rig.deliver(key, unit), Delivery::Useful);
        assert!(rig.asks().iter().all(|(key, _)| *key == B), "asked under the new policy");
    }
}
