//! Who is said to have the DAG that a session reads, and where they are: untrusted, and forgotten with the session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use swarmgate_content::{Attempt, AttemptOutcome};

use crate::source::SessionId;

/// Sessions at a time: as many as the client takes.
pub(super) const MAX_SESSIONS: usize = swarmgate_ipfs_proto::bitswap::client::MAX_SESSIONS;
/// Providers remembered for one session.
const MAX_PROVIDERS: usize = 32;
/// Addresses remembered of one provider.
pub(in crate::node) const MAX_ADDRESSES: usize = 8;
/// A provider that was not reached is dialled again after this.
const REDIAL_AFTER: Duration = Duration::from_secs(15);
/// One that was reached, and lost, after this.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// Attempts remembered for one session.
const MAX_ATTEMPTS: usize = 32;

#[derive(Debug, Default)]
struct Provider {
    addresses: Vec<Multiaddr>,
    dialled: Option<Instant>,
    /// Until when it is not dialled again.
    rests_until: Option<Instant>,
}

/// What was tried for each session, for whoever asks.
#[derive(Debug, Default)]
pub(in crate::node) struct Attempts(Mutex<BTreeMap<SessionId, VecDeque<Attempt>>>);

impl Attempts {
    pub(in crate::node) fn of(&self, session: SessionId) -> Vec<Attempt> {
        self.0.lock().get(&session).into_iter().flatten().cloned().collect()
    }

    fn add(&self, session: SessionId, attempt: Attempt) {
        let mut all = self.0.lock();
        let attempts = all.entry(session).or_default();
        if attempts.len() >= MAX_ATTEMPTS {
            attempts.pop_front();
        }
        attempts.push_back(attempt);
    }
}

#[derive(Debug)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionId, BTreeMap<PeerId, Provider>>,
    attempts: Arc<Attempts>,
}

impl Sessions {
    pub(super) const fn new(attempts: Arc<Attempts>) -> Self {
        Self { sessions: BTreeMap::new(), attempts }
    }

    /// Begins a session, if it has not begun. Gives one that must end for it: the oldest, for nobody ended it.
    pub(super) fn begin(&mut self, session: SessionId) -> Option<SessionId> {
        if self.sessions.contains_key(&session) {
            return None;
        }
        self.sessions.insert(session, BTreeMap::new());
        if self.sessions.len() <= MAX_SESSIONS {
            return None;
        }
        let oldest = *self.sessions.keys().next()?;
        self.end(oldest);
        Some(oldest)
    }

    pub(super) fn end(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.attempts.0.lock().remove(&session);
    }

    /// Remembers a provider; tells whether there was room.
    pub(super) fn add_provider(&mut self, session: SessionId, peer: PeerId, addresses: Vec<Multiaddr>) -> bool {
        let Some(providers) = self.sessions.get_mut(&session) else { return false };
        if providers.len() >= MAX_PROVIDERS && !providers.contains_key(&peer) {
            return false;
        }
        let provider = providers.entry(peer).or_default();
        for address in addresses {
            if provider.addresses.len() < MAX_ADDRESSES && !provider.addresses.contains(&address) {
                provider.addresses.push(address);
                // A new address is worth another dial.
                provider.rests_until = None;
            }
        }
        true
    }

    /// The sessions that a peer is a provider of.
    pub(super) fn of_provider(&self, peer: &PeerId) -> Vec<SessionId> {
        let has = |(_, providers): &(&SessionId, &BTreeMap<PeerId, Provider>)| providers.contains_key(peer);
        self.sessions.iter().filter(has).map(|(session, _)| *session).collect()
    }

    /// The providers of a session that are due to be dialled, unless `is_connected`.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        session: SessionId,
        is_connected: impl Fn(&PeerId) -> bool,
    ) -> Vec<(PeerId, Vec<Multiaddr>)> {
        let Some(providers) = self.sessions.get_mut(&session) else { return Vec::new() };
        let mut due = Vec::new();
        for (peer, provider) in providers {
            if provider.rests_until.is_none_or(|until| until <= now) && !is_connected(peer) {
                provider.dialled = Some(now);
                provider.rests_until = Some(now + REDIAL_AFTER);
                due.push((*peer, provider.addresses.clone()));
            }
        }
        due
    }

    /// Writes down for each session of a peer what came of dialling it.
    pub(super) fn on_dialled(&mut self, now: Instant, peer: &PeerId, outcome: &AttemptOutcome) {
        for (session, providers) in &mut self.sessions {
            let Some(provider) = providers.get_mut(peer) else { continue };
            if matches!(outcome, AttemptOutcome::Ok(_)) {
                provider.rests_until = Some(now + RECONNECT_AFTER);
            }
            let Some(at) = provider.dialled.take() else { continue };
            let (target, outcome) = (Some(peer.to_string()), outcome.clone());
            let took = now.saturating_duration_since(at);
            self.attempts.add(*session, Attempt { source: "peer", target, outcome, took });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn a_provider_is_dialled_once_until_it_has_rested_or_moved() {
        let (mut sessions, start) = (Sessions::new(Arc::default()), Instant::now());
        let (session, peer) = (SessionId(1), PeerId::random());
        sessions.begin(session);
        assert!(sessions.add_provider(session, peer, vec![address(1)]));
        assert_eq!(sessions.take_due(start, session, |_| false), [(peer, vec![address(1)])]);
        assert!(sessions.take_due(start, session, |_| false).is_empty());
        assert_eq!(sessions.take_due(start + REDIAL_AFTER, session, |_| false).len(), 1);
        assert!(sessions.add_provider(session, peer, vec![address(2)]));
        assert!(sessions.take_due(start + REDIAL_AFTER, session, |_| true).is_empty());
        assert_eq!(sessions.take_due(start + REDIAL_AFTER, session, |_| false)[0].1.len(), 2);
        let met = start + 2 * REDIAL_AFTER;
        sessions.on_dialled(met, &peer, &AttemptOutcome::Ok(String::new()));
        assert!(sessions.take_due(met, session, |_| false).is_empty(), "it is lost at once");
        assert_eq!(sessions.take_due(met + RECONNECT_AFTER, session, |_| false).len(), 1, "it is lost later");
    }

    #[test]
    fn strangers_cannot_fill_a_session() {
        let mut sessions = Sessions::new(Arc::default());
        sessions.begin(SessionId(1));
        let taken = (0..100).filter(|_| sessions.add_provider(SessionId(1), PeerId::random(), Vec::new())).count();
        assert_eq!(taken, MAX_PROVIDERS);
        let peer = sessions.take_due(Instant::now(), SessionId(1), |_| false)[0].0;
        sessions.add_provider(SessionId(1), peer, (0..100).map(address).collect());
        assert_eq!(sessions.take_due(Instant::now(), SessionId(1), |_| false)[0].1.len(), MAX_ADDRESSES);
        assert!((2..2000).filter_map(|id| sessions.begin(SessionId(id))).count() > 0);
        assert_eq!(sessions.sessions.len(), MAX_SESSIONS);
    }
}
