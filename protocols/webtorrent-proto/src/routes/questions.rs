//! Questions to STUN servers, and whose each answer is (RFC 8489 §6.3.3).
//!
//! All connections behind one socket ask the same server from the same address, so that the transaction id alone tells
//! their answers apart. The id that a connection chose is not relied upon: the library behind gives every question of
//! every connection the same one, all zeros. A question therefore goes out under an id of ours, as a NAT gives it a port
//! of its own, and its answer comes back to the connection under the id that it knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::PeerKey;
use crate::stun::{StunMessage, TransactionId};

/// Questions of all connections that wait for their answer at a time; the one that would be forgotten next gives way.
/// An offer asks each server once for each of our addresses, so that it is a few for each of 240 connections.
pub const MAX_QUESTIONS: usize = 1024;
/// How long an answer is waited for after the question was last sent. Whoever gathers addresses waits for 3 s.
pub const QUESTION_LIFE: Duration = Duration::from_secs(10);

/// A question as its connection knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Asked {
    key: PeerKey,
    to: SocketAddr,
    id: TransactionId,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Questions {
    /// By the id that went out, with when it is forgotten.
    open: BTreeMap<TransactionId, (Asked, Instant)>,
    /// The id that went out, so that what is sent again goes out under the same.
    sent_as: BTreeMap<Asked, TransactionId>,
    random: StdRng,
}

impl Questions {
    pub(super) fn new(seed: u64) -> Self {
        Self { open: BTreeMap::new(), sent_as: BTreeMap::new(), random: StdRng::seed_from_u64(seed) }
    }

    /// Takes note of a question, and says under which id it goes out.
    pub(super) fn ask(&mut self, now: Instant, key: PeerKey, to: SocketAddr, id: TransactionId) -> TransactionId {
        let asked = Asked { key, to, id };
        let known = self.sent_as.get(&asked).copied();
        let outer = known.unwrap_or_else(|| self.fresh_id(now));
        self.open.insert(outer, (asked, now + QUESTION_LIFE));
        self.sent_as.insert(asked, outer);
        outer
    }

    /// Whose an answer is, and what it has to look like there. Each question has one answer.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: &StunMessage<'_>,
    ) -> Option<(PeerKey, Vec<u8>)> {
        let (asked, expires) = *self.open.get(&message.transaction)?;
        if asked.to != from {
            return None;
        }
        self.forget_question(message.transaction);
        (now < expires).then(|| (asked.key, message.renamed(asked.id)))
    }

    /// A connection is gone, and with it whoever would want the answers.
    pub(super) fn forget(&mut self, key: PeerKey) {
        self.open.retain(|_, (asked, _)| asked.key != key);
        self.sent_as.retain(|asked, _| asked.key != key);
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn fresh_id(&mut self, now: Instant) -> TransactionId {
        self.make_room(now);
        let mut id = TransactionId::default();
        self.random.fill_bytes(&mut id);
        id
    }

    fn make_room(&mut self, now: Instant) {
        if self.open.len() < MAX_QUESTIONS {
            return;
        }
        self.open.retain(|_, (_, expires)| now < *expires);
        let open = &self.open;
        self.sent_as.retain(|_, outer| open.contains_key(outer));
        let next = self.open.iter().min_by_key(|(_, (_, expires))| *expires).map(|(outer, _)| *outer);
        if let Some(outer) = next.filter(|_| self.open.len() >= MAX_QUESTIONS) {
            self.forget_question(outer);
        }
    }

    fn forget_question(&mut self, outer: TransactionId) {
        if let Some((asked, _)) = self.open.remove(&outer) {
            self.sent_as.remove(&asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::tests::message;
    use crate::testing::{secs, start};

    const SUCCESS: u16 = 0x0101;
    const ERROR: u16 = 0x0111;
    const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3478);
    const OTHER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3479);
    const SAME: TransactionId = [0; 12];

    fn answer(
        questions: &mut Questions,
        now: Instant,
        from: SocketAddr,
        kind: u16,
        id: TransactionId,
    ) -> Option<PeerKey> {
        let bytes = message(kind, id, None, None);
        let (key, inner) = questions.answer(now, from, &StunMessage::parse(&bytes)?)?;
        let known_as = StunMessage::parse(&inner).map(|message| message.transaction);
        assert_eq!(known_as, Some(SAME), "the connection does not know this id");
        Some(key)
    }

    #[test]
    fn questions_of_one_id_to_one_server_are_told_apart() {
        let (mut questions, now) = (Questions::new(1), start());
        let ids: Vec<_> = (0..20).map(|key| questions.ask(now, PeerKey(key), SERVER, SAME)).collect();
        for (key, id) in (0..20).zip(&ids).collect::<Vec<_>>().into_iter().rev() {
            let kind = if key % 2 == 0 { SUCCESS } else { ERROR };
            assert_eq!(answer(&mut questions, now, SERVER, kind, *id), Some(PeerKey(key)));
            assert_eq!(answer(&mut questions, now, SERVER, SUCCESS, *id), None, "answered twice");
        }
        assert!(questions.open.is_empty() && questions.sent_as.is_empty());
    }

    #[test]
    fn two_servers_answers_to_one_connection_are_told_apart_too() {
        let (mut questions, now) = (Questions::new(1), start());
        let [one, two] = [SERVER, OTHER].map(|server| questions.ask(now, PeerKey(1), server, SAME));
        assert_ne!(one, two);
        assert_eq!(answer(&mut questions, now, OTHER, SUCCESS, one), None, "an answer from elsewhere");
        assert_eq!(answer(&mut questions, now, OTHER, SUCCESS, two), Some(PeerKey(1)));
        assert_eq!(answer(&mut questions, now, SERVER, SUCCESS, one), Some(PeerKey(1)));
    }

    #[test]
    fn what_is_sent_again_goes_out_under_the_same_id_and_is_waited_for_anew() {
        let (mut questions, now) = (Questions::new(1), start());
        let id = questions.ask(now, PeerKey(1), SERVER, SAME);
        assert_eq!(questions.ask(now + secs(9), PeerKey(1), SERVER, SAME), id);
        assert_eq!(answer(&mut questions, now + secs(18), SERVER, SUCCESS, id), Some(PeerKey(1)));
    }

    #[test]
    fn a_late_answer_is_nobodys() {
        let (mut questions, now) = (Questions::new(1), start());
        let id = questions.ask(now, PeerKey(1), SERVER, SAME);
        assert_eq!(answer(&mut questions, now + QUESTION_LIFE, SERVER, SUCCESS, id), None);
        assert_eq!(questions.len(), 0);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_gives_way() {
        let (mut questions, now) = (Questions::new(1), start());
        let ask =
            |questions: &mut Questions, n: u64| questions.ask(now + Duration::from_millis(n), PeerKey(n), SERVER, SAME);
        let most = u64::try_from(MAX_QUESTIONS).unwrap();
        let ids: Vec<_> = (0..most + 2).map(|n| ask(&mut questions, n)).collect();
        assert_eq!((questions.len(), questions.sent_as.len()), (MAX_QUESTIONS, MAX_QUESTIONS));
        assert_eq!(answer(&mut questions, now, SERVER, SUCCESS, ids[1]), None);
        assert_eq!(answer(&mut questions, now, SERVER, SUCCESS, ids[2]), Some(PeerKey(2)));
        questions.ask(now + secs(60), PeerKey(0), SERVER, SAME);
        questions.ask(now + secs(60), PeerKey(1), SERVER, SAME);
        assert_eq!((questions.len(), questions.sent_as.len()), (2, 2), "what is over has gone");
    }
}
