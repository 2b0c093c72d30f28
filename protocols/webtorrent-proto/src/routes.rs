//! Decides which connection a datagram on a shared socket is for.
//!
//! A remote address belongs to one connection at a time. It comes to belong to one by a STUN message that is signed
//! with a password which only that connection's description has said: a request to us, or the answer to a request of
//! ours. Until then nothing but such messages gets through, and answers of STUN servers that were asked, so that whoever
//! only knows our port can reach nobody.
//!
//! # Why one connection an address?
//! DTLS packets say nothing about whose they are but their addresses. Two gateways that both share one port can
//! therefore have one connection between the two ports; a second one takes a socket of its own at one end (see
//! [`Routes::is_taken`]).

mod questions;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::stun::{Class, StunMessage, TransactionId, looks_like_stun};
use questions::Questions;

pub use questions::{MAX_QUESTIONS, QUESTION_LIFE};

/// Addresses that one connection may have: a peer's interfaces and what NATs make of them. More would be a peer that
/// signs for addresses of others.
pub const MAX_ADDRESSES: usize = 16;
/// Connectivity checks of one connection that wait for their response; the oldest is forgotten. ICE sends one a pair of
/// addresses at a time, eight times at most.
pub const MAX_TRANSACTIONS: usize = 64;
/// An address that was silent for this long may be taken over by another connection that proves itself: the peer has
/// been restarted on the same port. ICE sends something every two seconds.
pub const STALE_AFTER: Duration = Duration::from_secs(5);

/// A connection, as far as a socket knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// Who is reached at which address.
#[derive(Debug)]
pub struct Routes {
    peers: BTreeMap<PeerKey, Peer>,
    by_ufrag: BTreeMap<String, PeerKey>,
    by_address: BTreeMap<SocketAddr, Bound>,
    /// Connectivity checks, by the ids that the agents chose at random: a message that is signed keeps its id.
    by_transaction: BTreeMap<TransactionId, Sent>,
    questions: Questions,
}

struct Peer {
    ufrag: String,
    password: String,
    remote_password: Option<String>,
    /// Addresses that are bound to it.
    bound: Vec<SocketAddr>,
    /// Where its description says that it is.
    expected: Vec<SocketAddr>,
    /// Oldest first.
    transactions: VecDeque<TransactionId>,
}

impl fmt::Debug for Peer {
    /// Without the passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("ufrag", &self.ufrag).field("bound", &self.bound).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
struct Bound {
    key: PeerKey,
    heard_at: Instant,
}

/// A connectivity check of ours that has no response yet.
#[derive(Debug, Clone, Copy)]
struct Sent {
    key: PeerKey,
    to: SocketAddr,
}

impl Routes {
    /// Nobody is reachable yet. The seed decides the ids of questions to STUN servers, which must not be foretold, so it
    /// comes from the system's randomness.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            by_ufrag: BTreeMap::new(),
            by_address: BTreeMap::new(),
            by_transaction: BTreeMap::new(),
            questions: Questions::new(seed),
        }
    }

    /// Makes a connection reachable by its username fragment and password. A fragment that is already there is
    /// replaced; fragments are random, so that does not happen.
    pub fn insert(&mut self, key: PeerKey, ufrag: &str, password: &str) {
        self.remove(key);
        let (ufrag, password) = (ufrag.to_owned(), password.to_owned());
        self.by_ufrag.insert(ufrag.clone(), key);
        let peer = Peer {
            ufrag,
            password,
            remote_password: None,
            bound: Vec::new(),
            expected: Vec::new(),
            transactions: VecDeque::new(),
        };
        self.peers.insert(key, peer);
    }

    /// Takes down what the other side's description says: its password, and where it may be found.
    pub fn expect(&mut self, key: PeerKey, remote_password: &str, addresses: impl Iterator<Item = SocketAddr>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.remote_password = Some(remote_password.to_owned());
            peer.expected = addresses.collect();
        }
    }

    /// Forgets a connection and all that belonged to it.
    pub fn remove(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else { return };
        self.by_ufrag.remove(&peer.ufrag);
        for address in peer.bound {
            self.by_address.remove(&address);
        }
        for transaction in peer.transactions {
            self.by_transaction.remove(&transaction);
        }
        self.questions.forget(key);
    }

    /// Whether an address belongs to another connection than `key`, or is where another one expects its peer, so that
    /// `key` cannot share the socket with it.
    #[must_use]
    pub fn is_taken(&self, address: SocketAddr, key: Option<PeerKey>) -> bool {
        let bound = self.by_address.get(&address).is_some_and(|bound| Some(bound.key) != key);
        let mut others = self.peers.iter().filter(|(other, _)| Some(**other) != key);
        bound || others.any(|(_, peer)| peer.expected.contains(&address))
    }

    /// Connections that are reachable.
    #[must_use]
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Questions to STUN servers, and connectivity checks, that wait for a response.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (self.questions.len(), self.by_transaction.len())
    }

    /// Says whom a datagram is for, and what it looks like there: a STUN server's answer bears the id that the connection
    /// asked under. `None` is nobody: it is dropped.
    pub fn deliver<'d>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &'d [u8],
    ) -> Option<(PeerKey, Cow<'d, [u8]>)> {
        if !looks_like_stun(datagram) {
            return Some((self.heard(now, from)?, Cow::Borrowed(datagram)));
        }
        let message = StunMessage::parse(datagram)?;
        let key = match message.class {
            Class::Request => self.request(now, from, &message),
            Class::Response => {
                if let Some((key, answer)) = self.questions.answer(now, from, &message) {
                    return Some((key, Cow::Owned(answer)));
                }
                self.response(now, from, &message)
            }
            Class::Indication => self.heard(now, from),
        }?;
        Some((key, Cow::Borrowed(datagram)))
    }

    /// Takes note of a datagram that a connection is about to send, so that the response finds its way back, and says what
    /// is to go out: a question to a STUN server (a request that says no USERNAME) goes out under an id of its own.
    pub fn sent<'d>(&mut self, now: Instant, key: PeerKey, to: SocketAddr, datagram: &'d [u8]) -> Cow<'d, [u8]> {
        let request = || StunMessage::parse(datagram).filter(|message| message.class == Class::Request);
        if !looks_like_stun(datagram) || !self.peers.contains_key(&key) {
            return Cow::Borrowed(datagram);
        }
        match request() {
            Some(message) if message.username.is_none() => {
                Cow::Owned(message.renamed(self.questions.ask(now, key, to, message.transaction)))
            }
            Some(message) => {
                self.checked(key, to, &message);
                Cow::Borrowed(datagram)
            }
            None => Cow::Borrowed(datagram),
        }
    }

    fn checked(&mut self, key: PeerKey, to: SocketAddr, message: &StunMessage<'_>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let sent = Sent { key, to };
        if let Some(known) = self.by_transaction.get_mut(&message.transaction) {
            // Sent again. Ids are random, so that it is the same connection's; if not, the first one keeps it.
            if known.key == key {
                *known = sent;
            }
            return;
        }
        if peer.transactions.len() == MAX_TRANSACTIONS
            && let Some(oldest) = peer.transactions.pop_front()
        {
            self.by_transaction.remove(&oldest);
        }
        self.by_transaction.insert(message.transaction, sent);
        peer.transactions.push_back(message.transaction);
    }

    fn heard(&mut self, now: Instant, from: SocketAddr) -> Option<PeerKey> {
        let bound = self.by_address.get_mut(&from)?;
        bound.heard_at = now;
        Some(bound.key)
    }

    fn request(&mut self, now: Instant, from: SocketAddr, message: &StunMessage<'_>) -> Option<PeerKey> {
        let key = *self.by_ufrag.get(message.wanted()?)?;
        // Bound already: the agent checks the signature itself, and once is enough.
        if self.by_address.get(&from).is_some_and(|bound| bound.key == key) {
            return self.heard(now, from);
        }
        let signed = message.is_signed_with(&self.peers.get(&key)?.password);
        (signed && self.bind(now, from, key)).then_some(key)
    }

    fn response(&mut self, now: Instant, from: SocketAddr, message: &StunMessage<'_>) -> Option<PeerKey> {
        let sent = self.by_transaction.get(&message.transaction).filter(|sent| sent.to == from).copied()?;
        self.by_transaction.remove(&message.transaction);
        let peer = self.peers.get_mut(&sent.key)?;
        peer.transactions.retain(|transaction| *transaction != message.transaction);
        let signed = peer.remote_password.as_deref().is_some_and(|password| message.is_signed_with(password));
        (signed && self.bind(now, from, sent.key)).then_some(sent.key)
    }

    /// Gives an address to a connection that has proved itself, unless another one is using it. What has no description of
    /// its peer yet cannot use an address, and gives way to what has: of two offers that crossed, one is not taken up.
    fn bind(&mut self, now: Instant, address: SocketAddr, key: PeerKey) -> bool {
        if let Some(bound) = self.by_address.get_mut(&address) {
            if bound.key == key {
                bound.heard_at = now;
                return true;
            }
            let is_described = |key| self.peers.get(key).is_some_and(|peer| peer.remote_password.is_some());
            let in_use = is_described(&bound.key) || !is_described(&key);
            if in_use && now.saturating_duration_since(bound.heard_at) < STALE_AFTER {
                return false;
            }
        }
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.bound.len() < MAX_ADDRESSES) else { return false };
        peer.bound.push(address);
        if let Some(stale) = self.by_address.insert(address, Bound { key, heard_at: now })
            && let Some(loser) = self.peers.get_mut(&stale.key)
        {
            loser.bound.retain(|bound| *bound != address);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::tests::message;
    use crate::testing::start;

    const REQUEST: u16 = 0x0001;
    const SUCCESS: u16 = 0x0101;
    const DTLS: &[u8] = &[22, 254, 253, 0];
    const ALICE: PeerKey = PeerKey(1);
    const BOB: PeerKey = PeerKey(2);

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn routes() -> Routes {
        let mut routes = Routes::new(1);
        routes.insert(ALICE, "alice", "password of alice");
        routes.insert(BOB, "bob", "password of bob");
        routes
    }

    fn deliver(routes: &mut Routes, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<PeerKey> {
        routes.deliver(now, from, datagram).map(|(key, _)| key)
    }

    /// Sends a check, which goes out as it is.
    fn sent(routes: &mut Routes, key: PeerKey, to: SocketAddr, datagram: &[u8]) {
        assert_eq!(routes.sent(start(), key, to, datagram), datagram);
    }

    fn check(name: &str, password: &str) -> Vec<u8> {
        message(REQUEST, [9; 12], Some(&format!("{name}:theirs")), Some(password))
    }

    #[test]
    fn an_address_belongs_to_whom_it_has_signed_for() {
        let (mut routes, now) = (routes(), start());
        assert_eq!(deliver(&mut routes, now, at(1), DTLS), None);
        assert_eq!(deliver(&mut routes, now, at(1), &check("alice", "password of alice")), Some(ALICE));
        assert_eq!(deliver(&mut routes, now, at(1), DTLS), Some(ALICE));
        assert_eq!(deliver(&mut routes, now, at(2), DTLS), None, "another port is another peer");
    }

    #[test]
    fn a_wrong_or_missing_signature_binds_nothing() {
        let (mut routes, now) = (routes(), start());
        for datagram in [
            check("alice", "password of bob"),
            message(REQUEST, [9; 12], Some("alice:theirs"), None),
            check("nobody", "password of alice"),
            message(REQUEST, [9; 12], None, Some("password of alice")),
            message(SUCCESS, [9; 12], None, Some("password of alice")),
        ] {
            assert_eq!(deliver(&mut routes, now, at(1), &datagram), None);
            assert_eq!(deliver(&mut routes, now, at(1), DTLS), None);
        }
    }

    #[test]
    fn the_signed_response_to_our_check_binds_and_nothing_else_does() {
        let (mut routes, now) = (routes(), start());
        routes.expect(ALICE, "remote password", std::iter::once(at(1)));
        sent(&mut routes, ALICE, at(1), &message(REQUEST, [5; 12], Some("theirs:alice"), Some("remote password")));
        let response = message(SUCCESS, [5; 12], None, Some("remote password"));
        assert_eq!(deliver(&mut routes, now, at(2), &response), None, "from elsewhere");
        assert_eq!(deliver(&mut routes, now, at(1), &response), Some(ALICE));
        assert_eq!(deliver(&mut routes, now, at(1), DTLS), Some(ALICE));
        assert_eq!(deliver(&mut routes, now, at(3), &response), None, "a response is used once");
    }

    #[test]
    fn a_forged_response_is_dropped() {
        let (mut routes, now) = (routes(), start());
        routes.expect(ALICE, "remote password", std::iter::once(at(1)));
        sent(&mut routes, ALICE, at(1), &message(REQUEST, [5; 12], Some("theirs:alice"), Some("remote password")));
        assert_eq!(deliver(&mut routes, now, at(1), &message(SUCCESS, [5; 12], None, Some("guess"))), None);
        assert_eq!(deliver(&mut routes, now, at(1), DTLS), None);
    }

    #[test]
    fn a_stun_servers_answer_reaches_who_asked_and_binds_nothing() {
        let (mut routes, now) = (routes(), start());
        let question = message(REQUEST, [0; 12], None, None);
        let asked = [ALICE, BOB].map(|key| routes.sent(now, key, at(3478), &question).into_owned());
        let ids = asked.map(|bytes| StunMessage::parse(&bytes).unwrap().transaction);
        for (key, id) in [(BOB, ids[1]), (ALICE, ids[0])] {
            let answer = message(SUCCESS, id, None, None);
            let known_as = message(SUCCESS, [0; 12], None, None);
            assert_eq!(routes.deliver(now, at(3478), &answer), Some((key, Cow::Owned(known_as))));
        }
        assert_eq!(deliver(&mut routes, now, at(3478), DTLS), None);
        assert!(!routes.is_taken(at(3478), None));
        assert_eq!(routes.waiting(), (0, 0));
    }

    #[test]
    fn an_id_that_two_check_under_stays_with_the_first() {
        let (mut routes, now) = (routes(), start());
        routes.expect(ALICE, "remote password", std::iter::empty());
        for key in [ALICE, BOB] {
            sent(&mut routes, key, at(1), &message(REQUEST, [1; 12], Some("theirs:ours"), None));
        }
        routes.remove(BOB);
        let answer = message(SUCCESS, [1; 12], None, Some("remote password"));
        assert_eq!(deliver(&mut routes, now, at(1), &answer), Some(ALICE));
    }

    #[test]
    fn a_live_address_is_not_given_away_and_a_silent_one_is() {
        let (mut routes, now) = (routes(), start());
        deliver(&mut routes, now, at(1), &check("alice", "password of alice"));
        let soon = now + STALE_AFTER / 2;
        assert_eq!(deliver(&mut routes, soon, at(1), DTLS), Some(ALICE));
        assert_eq!(deliver(&mut routes, soon, at(1), &check("bob", "password of bob")), None);
        let later = soon + STALE_AFTER;
        assert_eq!(deliver(&mut routes, later, at(1), &check("bob", "password of bob")), Some(BOB));
        assert_eq!(deliver(&mut routes, later, at(1), DTLS), Some(BOB));
        routes.remove(ALICE);
        assert_eq!(deliver(&mut routes, later, at(1), DTLS), Some(BOB), "what Alice lost is not taken from Bob");
    }

    #[test]
    fn what_knows_nothing_of_its_peer_gives_way_to_what_does() {
        let (mut routes, now) = (routes(), start());
        assert_eq!(deliver(&mut routes, now, at(1), &check("alice", "password of alice")), Some(ALICE));
        assert_eq!(deliver(&mut routes, now, at(1), &check("bob", "password of bob")), None);
        routes.expect(BOB, "remote password", std::iter::once(at(1)));
        assert_eq!(deliver(&mut routes, now, at(1), &check("bob", "password of bob")), Some(BOB));
        assert_eq!(deliver(&mut routes, now, at(1), DTLS), Some(BOB));
        routes.expect(ALICE, "remote password", std::iter::once(at(1)));
        assert_eq!(deliver(&mut routes, now, at(1), &check("alice", "password of alice")), None);
    }

    #[test]
    fn a_removed_connection_leaves_nothing() {
        let (mut routes, now) = (routes(), start());
        routes.expect(ALICE, "remote password", std::iter::once(at(8)));
        deliver(&mut routes, now, at(1), &check("alice", "password of alice"));
        sent(&mut routes, ALICE, at(2), &message(REQUEST, [5; 12], Some("theirs:alice"), None));
        assert!(routes.is_taken(at(1), None) && routes.is_taken(at(8), Some(BOB)));
        assert!(!routes.is_taken(at(1), Some(ALICE)) && !routes.is_taken(at(8), Some(ALICE)));
        routes.sent(now, ALICE, at(3478), &message(REQUEST, [0; 12], None, None));
        assert_eq!(routes.waiting(), (1, 1));
        routes.remove(ALICE);
        routes.remove(BOB);
        assert_eq!(routes.waiting(), (0, 0));
        assert!(routes.is_empty() && routes.by_ufrag.is_empty());
        assert!(routes.by_address.is_empty() && routes.by_transaction.is_empty());
    }

    #[test]
    fn addresses_and_open_requests_of_one_connection_are_bounded() {
        let (mut routes, now) = (routes(), start());
        let bound = (1..=100)
            .filter(|port| deliver(&mut routes, now, at(*port), &check("alice", "password of alice")).is_some());
        assert_eq!(bound.count(), MAX_ADDRESSES);
        for id in 0..=255 {
            sent(&mut routes, ALICE, at(1), &message(REQUEST, [id; 12], Some("theirs:alice"), None));
        }
        assert_eq!(routes.by_transaction.len(), MAX_TRANSACTIONS);
        assert_eq!(routes.peers[&ALICE].transactions.len(), MAX_TRANSACTIONS);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64),
        Remove(u64),
        Check(u64, u16),
        Dtls(u16),
        Sent(u64, u16, u8),
        Answer(u16, u8),
        Ask(u64, u16),
        Told(u64, u16),
        Pass(u64),
    }

    fn step() -> impl proptest::strategy::Strategy<Value = Step> {
        use proptest::prelude::{Strategy as _, any, prop_oneof};
        let (key, port, id) = (0..3u64, 1..4u16, 0..3u8);
        prop_oneof![
            key.clone().prop_map(Step::Insert),
            key.clone().prop_map(Step::Remove),
            (key.clone(), port.clone()).prop_map(|(key, port)| Step::Check(key, port)),
            port.clone().prop_map(Step::Dtls),
            (key.clone(), port.clone(), id.clone()).prop_map(|(key, port, id)| Step::Sent(key, port, id)),
            (key.clone(), port.clone()).prop_map(|(key, port)| Step::Ask(key, port)),
            (key, port.clone()).prop_map(|(key, port)| Step::Told(key, port)),
            (port, id).prop_map(|(port, id)| Step::Answer(port, id)),
            any::<u8>().prop_map(|seconds| Step::Pass(u64::from(seconds % 8))),
        ]
    }

    proptest::proptest! {
        /// Whatever happens, each table says the same as the others, and nobody hears what is not for him.
        #[test]
        fn the_tables_agree(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut routes, mut now) = (Routes::new(1), start());
            // What was asked of whom, under which id, and when last.
            let mut asked = BTreeMap::new();
            let question = message(REQUEST, [0; 12], None, None);
            for step in steps {
                let heard = match step {
                    Step::Insert(key) => {
                        asked.retain(|(asker, _), _| *asker != key);
                        routes.insert(PeerKey(key), &format!("ufrag{key}"), &format!("password{key}"));
                        routes.expect(PeerKey(key), &format!("remote{key}"), std::iter::empty());
                        None
                    }
                    Step::Remove(key) => {
                        asked.retain(|(asker, _), _| *asker != key);
                        routes.remove(PeerKey(key));
                        None
                    }
                    Step::Check(key, port) => {
                        let heard = deliver(&mut routes, now, at(port), &check(&format!("ufrag{key}"), &format!("password{key}")));
                        proptest::prop_assert!(heard.is_none_or(|heard| heard == PeerKey(key)));
                        heard
                    }
                    Step::Dtls(port) => {
                        let owner = routes.by_address.get(&at(port)).map(|bound| bound.key);
                        proptest::prop_assert_eq!(deliver(&mut routes, now, at(port), DTLS), owner);
                        owner
                    }
                    Step::Sent(key, port, id) => {
                        let name = format!("theirs:ufrag{key}");
                        sent(&mut routes, PeerKey(key), at(port), &message(REQUEST, [id; 12], Some(&name), None));
                        None
                    }
                    Step::Answer(port, id) => {
                        let to = routes.by_transaction.get(&[id; 12]).map_or(PeerKey(0), |sent| sent.key);
                        let answer = message(SUCCESS, [id; 12], None, Some(&format!("remote{}", to.0)));
                        deliver(&mut routes, now, at(port), &answer)
                    }
                    Step::Ask(key, port) => {
                        let out = routes.sent(now, PeerKey(key), at(port), &question).into_owned();
                        let id = StunMessage::parse(&out).unwrap().transaction;
                        if routes.peers.contains_key(&PeerKey(key)) {
                            proptest::prop_assert_ne!(id, [0; 12]);
                            asked.insert((key, port), (id, now));
                        }
                        None
                    }
                    Step::Told(key, port) => {
                        let (id, sent_at) = asked.remove(&(key, port)).unwrap_or(([9; 12], now));
                        let in_time = id != [9; 12] && now < sent_at + QUESTION_LIFE;
                        let answer = message(SUCCESS, id, None, None);
                        let heard = routes.deliver(now, at(port), &answer);
                        let expected = in_time.then(|| (PeerKey(key), message(SUCCESS, [0; 12], None, None)));
                        proptest::prop_assert_eq!(heard.map(|(key, bytes)| (key, bytes.into_owned())), expected);
                        None
                    }
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        None
                    }
                };
                proptest::prop_assert!(heard.is_none_or(|key| routes.peers.contains_key(&key)));
                let bound: usize = routes.peers.values().map(|peer| peer.bound.len()).sum();
                let asked: usize = routes.peers.values().map(|peer| peer.transactions.len()).sum();
                proptest::prop_assert_eq!(bound, routes.by_address.len());
                proptest::prop_assert_eq!(asked, routes.by_transaction.len());
                proptest::prop_assert_eq!(routes.by_ufrag.len(), routes.peers.len());
                for (address, bound) in &routes.by_address {
                    proptest::prop_assert!(routes.peers[&bound.key].bound.contains(address));
                }
            }
        }
    }
}
