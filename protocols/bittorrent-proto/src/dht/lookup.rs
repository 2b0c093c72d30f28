//! The way to the [`K`] nodes nearest to an id: ask the nearest known for nearer ones, until the nearest have answered.
//!
//! [`ALPHA`] are asked at a time. A node that takes longer than a moment is passed over: its answer still counts, but
//! nothing waits for it. A lookup asks [`MAX_ASKED`] nodes at most, whoever invents new ones on the way.

use std::collections::BTreeMap;

use super::id::{Distance, is_local};
use super::{Contact, K, NodeId};

/// Queries of one lookup that wait for an answer (BEP 5's `alpha`).
const ALPHA: usize = 4;
/// Nodes asked by one lookup. Lookups in the public network ask about 40.
const MAX_ASKED: usize = 120;
/// Nodes that one lookup has heard of, the nearest of them.
const MAX_HEARD: usize = 128;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Lookup {
    target: NodeId,
    heard: BTreeMap<Distance, Candidate>,
    asked: usize,
}

#[derive(Debug)]
struct Candidate {
    contact: Contact,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    Slow,
    Failed,
    Answered(Option<Vec<u8>>),
}

impl Lookup {
    pub(super) fn new(target: NodeId, known: impl IntoIterator<Item = Contact>) -> Self {
        let mut lookup = Self { target, heard: BTreeMap::new(), asked: 0 };
        known.into_iter().for_each(|contact| lookup.hear(contact));
        lookup
    }

    /// Somebody named a node.
    pub(super) fn hear(&mut self, contact: Contact) {
        let apart = self.target.distance(&contact.id);
        let ip = contact.address.ip();
        // Many ids at one public address are one host that wants to be asked by everybody.
        let crowded = !is_local(ip) && self.heard.values().any(|known| known.contact.address.ip() == ip);
        if crowded || self.heard.contains_key(&apart) {
            return;
        }
        self.heard.insert(apart, Candidate { contact, state: State::Fresh });
        if self.heard.len() > MAX_HEARD {
            self.heard.pop_last();
        }
    }

    /// The nearest that have not failed: whose answers the lookup is for.
    fn nearest(&self) -> impl Iterator<Item = &Candidate> {
        self.heard.values().filter(|it| !matches!(it.state, State::Failed | State::Slow)).take(K)
    }

    /// The node to be asked next, if one may be.
    pub(super) fn next(&mut self) -> Option<Contact> {
        let waiting = self.heard.values().filter(|it| it.state == State::Asked).count();
        if waiting >= ALPHA || self.asked >= MAX_ASKED {
            return None;
        }
        let contact = self.nearest().find(|it| it.state == State::Fresh)?.contact;
        self.asked += 1;
        self.set(&contact, State::Asked);
        Some(contact)
    }

    fn set(&mut self, contact: &Contact, state: State) {
        let candidate = self.heard.get_mut(&self.target.distance(&contact.id));
        if let Some(candidate) = candidate.filter(|it| it.contact == *contact) {
            candidate.state = state;
        }
    }

    pub(super) fn answered(&mut self, contact: &Contact, token: Option<Vec<u8>>) {
        self.set(contact, State::Answered(token));
    }

    pub(super) fn slow(&mut self, contact: &Contact) {
        self.set(contact, State::Slow);
    }

    pub(super) fn failed(&mut self, contact: &Contact) {
        self.set(contact, State::Failed);
    }

    /// Whether nothing nearer can come: the nearest have answered, or the lookup has asked enough.
    pub(super) fn is_over(&self) -> bool {
        let spent = self.asked >= MAX_ASKED;
        !self.nearest().any(|it| it.state == State::Asked || (!spent && it.state == State::Fresh))
    }

    /// The nearest that answered and gave a token, with it.
    pub(super) fn holders(&self) -> Vec<(Contact, Vec<u8>)> {
        let answered = self.heard.values().filter_map(|it| match &it.state {
            State::Answered(Some(token)) => Some((it.contact, token.clone())),
            State::Answered(None) | State::Fresh | State::Asked | State::Slow | State::Failed => None,
        });
        answered.take(K).collect()
    }

    /// Nodes that answered.
    pub(super) fn answers(&self) -> usize {
        self.heard.values().filter(|it| matches!(it.state, State::Answered(_))).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    fn node(n: u16, id: [u8; 20]) -> Contact {
        let [high, low] = n.to_be_bytes();
        Contact { id: NodeId::new(id), address: SocketAddr::from(([10, 0, high, low], 1)) }
    }

    fn numbered(n: u8) -> Contact {
        node(n.into(), [n; 20])
    }

    #[test]
    fn four_are_asked_at_a_time_and_a_slow_one_makes_room() {
        let mut lookup = Lookup::new(NodeId::new([0; 20]), (1..20).map(numbered));
        let asked: Vec<_> = std::iter::from_fn(|| lookup.next()).collect();
        assert_eq!(asked, [1, 2, 3, 4].map(numbered));
        lookup.slow(&asked[0]);
        assert_eq!(lookup.next(), Some(numbered(5)));
        assert_eq!(lookup.next(), None);
    }

    #[test]
    fn it_is_over_when_the_nearest_that_are_alive_have_answered() {
        let mut lookup = Lookup::new(NodeId::new([0; 20]), (1..20).map(numbered));
        while let Some(contact) = lookup.next() {
            assert!(!lookup.is_over());
            if contact == numbered(2) { lookup.failed(&contact) } else { lookup.answered(&contact, Some(vec![1])) }
        }
        assert!(lookup.is_over());
        let holders: Vec<_> = lookup.holders().into_iter().map(|(contact, _)| contact).collect();
        assert_eq!(holders, [1, 3, 4, 5, 6, 7, 8, 9].map(numbered));
    }

    #[test]
    fn nobody_to_ask_is_over_at_once() {
        assert!(Lookup::new(NodeId::new([0; 20]), []).is_over());
    }

    proptest! {
        #[test]
        fn whoever_invents_nearer_nodes_is_asked_no_more_than_enough(seed: [u8; 20]) {
            let mut lookup = Lookup::new(NodeId::new([0; 20]), [node(0, [0xff; 20])]);
            let mut asked = 0_u16;
            while let Some(contact) = lookup.next() {
                asked += 1;
                let mut id = seed;
                id[0] = 0xff - u8::try_from(asked).unwrap();
                lookup.hear(node(asked, id));
                lookup.answered(&contact, None);
            }
            prop_assert!(lookup.is_over());
            prop_assert!(usize::from(asked) <= MAX_ASKED);
        }
    }
}
