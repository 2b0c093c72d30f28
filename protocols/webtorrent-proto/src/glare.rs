//! Glare: two peers that offer to each other at the same time, and whatever else would give two peers two connections
//! within one swarm.
//!
//! A tracker chooses whom it gives an offer, so a peer learns who it offered to from the answer, and may be answering an
//! offer of the very same peer by then. Both ends then know of two connections and keep the same one without a word: the
//! one whose offerer has the smaller peer id. Whatever both ends have settled on already, an answered offer of ours or an
//! open connection, is kept in any case, since the other end has settled on it as well:
//!
//! * an offer is not answered while there is anything with its maker, open or on its way;
//! * an answer is not accepted while there is, unless it is an offer of theirs that we answer, that is not open yet, and
//!   that loses by the peer ids. That one is given up.
//!
//! Whoever offers or answers though there is an open connection may have lost its end of it, without a word. So the open
//! one is [doubted](Meetings::open_with): if nothing is heard over it for a while, it is over.
//!
//! A peer is named by the id that it announces itself with: a label and no proof. Who takes another's name keeps one
//! torrent from meeting that other over WebRTC for as long as its own connection lasts, and gains no more.

use std::collections::BTreeMap;

use swarmgate_bittorrent_proto::handshake::PeerId;

/// Peers of one torrent that are met or being met at a time; further ones are refused. More than all the places for
/// connections and all the work under way that there can be.
pub const MAX_MEETINGS: usize = 1024;

/// One attempt at a connection with a peer, until it is [over](Meetings::over).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MeetingKey {
    peer: PeerId,
    number: u64,
}

/// How far the connection with a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// We answer its offer.
    Answering,
    /// It has answered ours.
    Settled,
    /// The connection is open.
    Open,
}

#[derive(Debug, Clone, Copy)]
struct Meeting {
    number: u64,
    stage: Stage,
}

/// The peers of one torrent that we have a connection with, or may soon, over all its trackers.
#[derive(Debug)]
pub struct Meetings {
    ours: PeerId,
    with: BTreeMap<PeerId, Meeting>,
    last: u64,
}

impl Meetings {
    /// None yet; `ours` is the id that we announce ourselves with.
    #[must_use]
    pub const fn new(ours: PeerId) -> Self {
        Self { ours, with: BTreeMap::new(), last: 0 }
    }

    /// Peers that are met or being met.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.with.is_empty()
    }

    /// A peer offers. `None` says not to answer.
    pub fn offered(&mut self, by: PeerId) -> Option<MeetingKey> {
        let free = !self.with.contains_key(&by);
        free.then(|| self.begin(by, Stage::Answering)).flatten()
    }

    /// A peer has answered an offer of ours. `None` says not to accept; else the second key is the meeting that has lost
    /// against this one, whose connection is to be closed.
    pub fn answered(&mut self, by: PeerId) -> Option<(MeetingKey, Option<MeetingKey>)> {
        let known = self.with.get(&by).copied();
        let ours_wins = self.ours < by;
        if known.is_some_and(|known| known.stage != Stage::Answering || !ours_wins) {
            return None;
        }
        let loser = known.map(|known| MeetingKey { peer: by, number: known.number });
        self.with.remove(&by);
        Some((self.begin(by, Stage::Settled)?, loser))
    }

    /// A connection is open. `false` says that it has been given up meanwhile, and is to be closed.
    #[must_use]
    pub fn opened(&mut self, key: MeetingKey) -> bool {
        let meeting = self.with.get_mut(&key.peer).filter(|meeting| meeting.number == key.number);
        meeting.is_some_and(|meeting| {
            meeting.stage = Stage::Open;
            true
        })
    }

    /// The open connection with a peer, if there is one.
    #[must_use]
    pub fn open_with(&self, peer: PeerId) -> Option<MeetingKey> {
        let open = self.with.get(&peer).filter(|meeting| meeting.stage == Stage::Open)?;
        Some(MeetingKey { peer, number: open.number })
    }

    /// A connection has ended, or will not come to be.
    pub fn over(&mut self, key: MeetingKey) {
        if self.with.get(&key.peer).is_some_and(|meeting| meeting.number == key.number) {
            self.with.remove(&key.peer);
        }
    }

    fn begin(&mut self, peer: PeerId, stage: Stage) -> Option<MeetingKey> {
        if self.with.len() >= MAX_MEETINGS {
            return None;
        }
        self.last += 1;
        self.with.insert(peer, Meeting { number: self.last, stage });
        Some(MeetingKey { peer, number: self.last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::peer;
    use proptest::prelude::*;

    const SMALL: PeerId = peer(1);
    const GREAT: PeerId = peer(2);

    #[test]
    fn of_two_crossed_offers_both_ends_keep_the_one_of_the_smaller_id() {
        let (mut small, mut great) = (Meetings::new(SMALL), Meetings::new(GREAT));
        let (theirs, _) = (small.offered(GREAT).unwrap(), great.offered(SMALL).unwrap());
        let (kept, lost) = small.answered(GREAT).unwrap();
        assert_eq!(lost, Some(theirs));
        assert_eq!(great.answered(SMALL), None);
        assert!(!small.opened(theirs), "what was given up is not to be used");
        assert!(small.opened(kept));
        small.over(theirs);
        assert_eq!((small.len(), great.len()), (1, 1));
    }

    #[test]
    fn what_is_open_is_kept_whoever_offered_it() {
        let mut small = Meetings::new(SMALL);
        let open = small.offered(GREAT).unwrap();
        assert_eq!(small.open_with(GREAT), None);
        assert!(small.opened(open));
        assert_eq!((small.answered(GREAT), small.offered(GREAT)), (None, None));
        assert_eq!(small.open_with(GREAT), Some(open));
        small.over(open);
        assert!(small.is_empty() && small.offered(GREAT).is_some());
    }

    #[test]
    fn an_offer_that_was_answered_is_settled_until_it_has_failed() {
        let mut great = Meetings::new(GREAT);
        let (settled, lost) = great.answered(SMALL).unwrap();
        assert_eq!((lost, great.offered(SMALL), great.answered(SMALL)), (None, None, None));
        great.over(settled);
        assert!(great.offered(SMALL).is_some());
    }

    #[test]
    fn other_peers_are_another_matter_and_there_is_a_bound() {
        let mut meetings = Meetings::new(SMALL);
        let name = |n: usize| {
            let mut id = [9; 20];
            id[..8].copy_from_slice(&n.to_be_bytes());
            PeerId(id)
        };
        assert!((0..MAX_MEETINGS).all(|n| meetings.offered(name(n)).is_some()));
        assert_eq!((meetings.offered(GREAT), meetings.answered(GREAT)), (None, None));
        assert_eq!(meetings.len(), MAX_MEETINGS);
    }

    /// Where an attempt is, between who offered and the other.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum At {
        Offer,
        /// The answerer makes its answer.
        Making(MeetingKey),
        Answer(MeetingKey),
        /// The offerer has accepted.
        Opening(MeetingKey, MeetingKey),
        Open,
        Over,
    }

    #[derive(Debug, Clone, Copy)]
    struct Attempt {
        offerer: usize,
        at: At,
    }

    impl Attempt {
        const fn theirs(&self) -> Option<MeetingKey> {
            match self.at {
                At::Making(key) | At::Answer(key) | At::Opening(_, key) => Some(key),
                At::Offer | At::Open | At::Over => None,
            }
        }
    }

    struct World {
        ends: [Meetings; 2],
        /// Given up, by end.
        lost: [Vec<MeetingKey>; 2],
        attempts: Vec<Attempt>,
    }

    impl World {
        /// Lets an attempt go one step on; what its end waits for in vain stays there until its time-out, which never comes.
        fn step(&mut self, which: usize) {
            let Attempt { offerer, at } = self.attempts[which];
            let answerer = 1 - offerer;
            let ids = [SMALL, GREAT];
            self.attempts[which].at = match at {
                At::Offer => self.ends[answerer].offered(ids[offerer]).map_or(At::Over, At::Making),
                At::Making(key) if self.lost[answerer].contains(&key) => At::Over,
                At::Making(key) => At::Answer(key),
                At::Answer(theirs) => match self.ends[offerer].answered(ids[answerer]) {
                    Some((ours, loser)) => {
                        self.lost[offerer].extend(loser);
                        At::Opening(ours, theirs)
                    }
                    None => At::Over,
                },
                At::Opening(ours, theirs) if self.lost[answerer].contains(&theirs) => {
                    assert!(!self.ends[answerer].opened(theirs));
                    self.ends[offerer].over(ours);
                    At::Over
                }
                At::Opening(_, theirs) => {
                    assert!(self.ends[answerer].opened(theirs));
                    At::Open
                }
                At::Open | At::Over => at,
            };
        }
    }

    proptest! {
        /// However offers and answers overtake each other, one connection is left, and never are there two.
        #[test]
        fn exactly_one_connection_is_left(
            offerers in proptest::collection::vec(0_usize..2, 1..6),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..60),
        ) {
            let attempts = offerers.iter().map(|offerer| Attempt { offerer: *offerer, at: At::Offer }).collect();
            let ends = [Meetings::new(SMALL), Meetings::new(GREAT)];
            let mut world = World { ends, lost: [Vec::new(), Vec::new()], attempts };
            let in_order = order.iter().map(|index| index.index(offerers.len()));
            for which in in_order.chain((0..offerers.len()).cycle().take(6 * offerers.len())) {
                world.step(which);
                let open = world.attempts.iter().filter(|attempt| attempt.at == At::Open).count();
                prop_assert!(open <= 1);
            }
            prop_assert!(world.attempts.iter().all(|attempt| attempt.theirs().is_none()), "somebody waits");
            prop_assert_eq!(world.attempts.iter().filter(|attempt| attempt.at == At::Open).count(), 1);
        }
    }
}
