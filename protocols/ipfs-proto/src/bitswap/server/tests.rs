use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::{cid_of, identity_cid, keccak_cid, verified};

const P: PeerKey = PeerKey(1);
const Q: PeerKey = PeerKey(2);
const BIG: u64 = 100_000;

/// Blocks named by their content, so long as said; and what has been sent.
struct World {
    server: Server,
    blocks: BTreeMap<Cid, u64>,
    sent: BTreeMap<PeerKey, Vec<Message>>,
    /// Reads that are not answered yet, when the disk is slow.
    reads: VecDeque<(PeerKey, Cid)>,
}

impl World {
    fn new(blocks: &[(&[u8], u64)]) -> Self {
        let blocks = blocks.iter().map(|(name, len)| (cid_of(name), *len)).collect();
        let mut server = Server::new(ServerOptions::default());
        assert!(server.join(P, Version::V1_2) && server.join(Q, Version::V1_2));
        Self { server, blocks, sent: BTreeMap::new(), reads: VecDeque::new() }
    }

    fn want(&mut self, peer: PeerKey, entries: &[Entry]) {
        self.server.handle_message(peer, &Message { wantlist: entries.to_vec(), ..Message::default() });
        self.look_up();
    }

    fn look_up(&mut self) {
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Find { peer, cid } => self.server.on_found(peer, &cid, self.blocks.get(&cid).copied()),
                ServerEvent::Read { peer, cid } => self.reads.push_back((peer, cid)),
            }
        }
    }

    fn read_one(&mut self) -> bool {
        let Some((peer, cid)) = self.reads.pop_front() else { return false };
        let data = self.blocks.get(&cid).map(|len| verified(&vec![0; usize::try_from(*len).unwrap()]));
        self.server.on_read(peer, &cid, data);
        self.look_up();
        true
    }

    fn send(&mut self) -> bool {
        let Some((peer, message)) = self.server.poll_transmit() else { return false };
        assert!(message.encode(Version::V1_2).len() <= crate::bitswap::message::MAX_MESSAGE_BYTES);
        self.sent.entry(peer).or_default().push(message);
        self.server.on_sent(peer);
        self.look_up();
        true
    }

    fn settle(&mut self) {
        while self.read_one() || self.send() {}
    }

    fn blocks_sent(&self, peer: PeerKey) -> Vec<Cid> {
        self.sent.get(&peer).into_iter().flatten().flat_map(|message| &message.blocks).map(|block| block.cid).collect()
    }

    fn presences_sent(&self, peer: PeerKey) -> Vec<(Cid, bool)> {
        let presences = self.sent.get(&peer).into_iter().flatten().flat_map(|message| &message.presences);
        presences.map(|presence| (presence.cid, presence.has)).collect()
    }
}

#[test]
fn who_wants_a_block_gets_it_and_who_asks_is_told() {
    let mut world = World::new(&[(b"big", BIG), (b"small", 1024)]);
    let [big, small, none] = [b"big" as &[u8], b"small", b"none"].map(cid_of);
    world.want(P, &[Entry::want_block(big, 1), Entry::want_block(none, 1)]);
    world.want(Q, &[Entry::want_have(big, 1), Entry::want_have(small, 1), Entry::want_have(none, 1)]);
    world.settle();
    assert_eq!((world.blocks_sent(P), world.presences_sent(P)), (vec![big], vec![(none, false)]));
    assert_eq!((world.blocks_sent(Q), world.presences_sent(Q)), (vec![small], vec![(big, true), (none, false)]));
    assert_eq!((world.server.wanted_by(P), world.server.wanted_by(Q)), (1, 1), "what is missing stays wanted");
}

#[test]
fn dont_have_is_said_only_to_who_asked_for_it() {
    let mut world = World::new(&[]);
    let cid = cid_of(b"none");
    world.want(P, &[Entry::Want { want: Want::Block, cid, priority: 0, send_dont_have: false }]);
    world.settle();
    assert!(world.sent.is_empty());
}

#[test]
fn what_cannot_be_checked_is_not_here() {
    let mut world = World::new(&[]);
    world.want(P, &[Entry::want_block(identity_cid(), 0), Entry::want_have(keccak_cid(), 0)]);
    world.want(P, &[Entry::Cancel(keccak_cid())]);
    world.settle();
    assert_eq!(world.presences_sent(P), [(identity_cid(), false), (keccak_cid(), false)]);
    assert_eq!((world.server.wanted_by(P), world.server.stats().refused), (0, 2));
}

#[test]
fn a_block_that_comes_later_goes_to_who_still_wants_it() {
    let mut world = World::new(&[]);
    let cid = cid_of(b"late");
    world.want(P, &[Entry::want_block(cid, 1)]);
    world.want(Q, &[Entry::want_block(cid, 1)]);
    world.want(Q, &[Entry::Cancel(cid)]);
    world.settle();
    world.blocks.insert(cid, BIG);
    assert!(world.server.is_awaited());
    world.server.on_block_added(BlockHash::from_cid(&cid).unwrap());
    world.look_up();
    world.settle();
    assert_eq!((world.blocks_sent(P), world.blocks_sent(Q)), (vec![cid], vec![]));
    assert!(!world.server.is_awaited());
}

#[test]
fn a_block_that_comes_and_may_not_be_served_stays_missing() {
    let mut world = World::new(&[]);
    let cid = cid_of(b"denied");
    world.want(P, &[Entry::want_block(cid, 1)]);
    world.settle();
    // The shell says that it is not here, whatever the store has.
    world.server.on_block_added(BlockHash::from_cid(&cid).unwrap());
    world.look_up();
    world.settle();
    assert_eq!((world.blocks_sent(P), world.server.wanted_by(P)), (vec![], 1));
}

#[test]
fn a_cancel_while_a_block_is_read_keeps_it_back_and_frees_the_budget() {
    let mut world = World::new(&[(b"x", BIG)]);
    let cid = cid_of(b"x");
    world.want(P, &[Entry::want_block(cid, 1)]);
    world.want(P, &[Entry::Cancel(cid)]);
    assert_eq!(world.server.held_bytes(), BIG);
    world.settle();
    assert_eq!((world.server.held_bytes(), world.blocks_sent(P)), (0, vec![]));
    world.want(P, &[Entry::want_block(cid, 1)]);
    world.want(P, &[Entry::Cancel(cid), Entry::want_block(cid, 1)]);
    world.settle();
    assert_eq!((world.server.held_bytes(), world.blocks_sent(P)), (0, vec![cid]));
}

#[test]
fn a_peer_that_asks_for_much_does_not_keep_another_waiting() {
    let names: Vec<_> = (0..200_u32).map(|n| n.to_le_bytes()).collect();
    let blocks: Vec<_> = names.iter().map(|name| (&name[..], 1 << 20)).collect();
    let mut world = World::new(&blocks);
    let all: Vec<_> = names[..199].iter().map(|name| Entry::want_block(cid_of(name), 9)).collect();
    world.want(P, &all);
    for _ in 0..20 {
        world.read_one();
        world.send();
    }
    let one = cid_of(&names[199]);
    world.want(Q, &[Entry::want_block(one, 0)]);
    let before = world.blocks_sent(P).len();
    while world.blocks_sent(Q).is_empty() {
        assert!(world.read_one() | world.send());
    }
    assert!(world.blocks_sent(P).len() - before <= 4, "{} blocks came first", world.blocks_sent(P).len() - before);
}

#[test]
fn a_peer_that_reads_nothing_holds_only_its_own_budget() {
    let names: Vec<_> = (0..50_u32).map(|n| n.to_le_bytes()).collect();
    let blocks: Vec<_> = names.iter().map(|name| (&name[..], 1 << 20)).collect();
    let mut world = World::new(&blocks);
    world.want(P, &names.iter().map(|name| Entry::want_block(cid_of(name), 0)).collect::<Vec<_>>());
    while world.read_one() {}
    let stuck = world.server.poll_transmit();
    assert!(stuck.is_some_and(|(peer, message)| peer == P && message.pending_bytes > 40 << 20));
    while world.read_one() {}
    assert_eq!(world.server.held_bytes(), 2 << 20);
    assert_eq!(world.server.poll_transmit(), None, "one message at a time");
    world.want(Q, &[Entry::want_block(cid_of(&names[0]), 0)]);
    world.settle();
    assert_eq!(world.blocks_sent(Q).len(), 1);
    world.server.leave(P);
    assert_eq!(world.server.held_bytes(), 0);
}

#[test]
fn a_ledger_is_bounded_and_prefers_what_is_urgent() {
    let mut world = World::new(&[]);
    let name = |n: u32| cid_of(&n.to_le_bytes());
    let many: Vec<_> = (0..3000).map(|n| Entry::want_block(name(n), 0)).collect();
    world.server.handle_message(P, &Message { wantlist: many, ..Message::default() });
    assert_eq!(world.server.wanted_by(P), MAX_LEDGER);
    assert_eq!(world.server.stats().refused, 3000 - MAX_LEDGER as u64);
    world.want(P, &[Entry::want_block(name(9999), 5)]);
    assert_eq!(world.server.wanted_by(P), MAX_LEDGER);
    world.settle();
    assert!(world.presences_sent(P).contains(&(name(9999), false)));
}

#[test]
fn a_full_wantlist_replaces_what_was_wanted() {
    let mut world = World::new(&[]);
    let [a, b] = [b"a", b"b"].map(|name| cid_of(name));
    world.want(P, &[Entry::want_block(a, 0), Entry::want_block(b, 0)]);
    world.server.handle_message(P, &Message { full: true, ..Message::default() });
    assert_eq!(world.server.wanted_by(P), 0);
}

#[test]
fn old_peers_get_blocks_and_never_a_presence() {
    let mut world = World::new(&[(b"x", BIG)]);
    let old = PeerKey(3);
    assert!(world.server.join(old, Version::V1_0));
    world.want(old, &[Entry::want_block(cid_of(b"x"), 0), Entry::want_block(cid_of(b"none"), 0)]);
    world.settle();
    assert_eq!((world.blocks_sent(old).len(), world.presences_sent(old).len()), (1, 0));
}

#[derive(Debug, Clone)]
enum Step {
    Want(u8, u8, bool, i32),
    Cancel(u8, u8),
    Read,
    Send,
    Leave(u8),
    Join(u8),
    Added(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step =
        (0..7_u8, 0..3_u8, 0..12_u8, any::<bool>(), 0..3_i32).prop_map(
            |(kind, peer, block, have, priority)| match kind {
                0 | 1 => Step::Want(peer, block, have, priority),
                2 => Step::Cancel(peer, block),
                3 => Step::Read,
                4 => Step::Send,
                5 if have => Step::Leave(peer),
                5 => Step::Join(peer),
                _ => Step::Added(block),
            },
        );
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_budgets_hold_and_nothing_is_left_in_the_end(steps in steps()) {
        let options = ServerOptions { max_peer_bytes: 3 << 20, max_bytes: 5 << 20, message_bytes: 1 << 20 };
        // The first half is there from the start.
        let blocks: BTreeMap<_, _> = (0..6_u8).map(|n| (cid_of(&[n]), u64::from(n) * 300_000)).collect();
        let mut world = World { server: Server::new(options), blocks, sent: BTreeMap::new(), reads: VecDeque::new() };
        for step in steps {
            match step {
                Step::Want(peer, block, true, priority) => {
                    world.want(PeerKey(peer.into()), &[Entry::want_have(cid_of(&[block]), priority)]);
                }
                Step::Want(peer, block, false, priority) => {
                    world.want(PeerKey(peer.into()), &[Entry::want_block(cid_of(&[block]), priority)]);
                }
                Step::Cancel(peer, block) => world.want(PeerKey(peer.into()), &[Entry::Cancel(cid_of(&[block]))]),
                Step::Read => {
                    world.read_one();
                }
                Step::Send => {
world.send();
}
                Step::Leave(peer) => world.server.leave(PeerKey(peer.into())),
                Step::Join(peer) => {
world.server.join(PeerKey(peer.into()), Version::V1_2);
}
                Step::Added(block) => {
                    world.blocks.entry(cid_of(&[block])).or_insert(500_000);
                    world.server.on_block_added(BlockHash::from_cid(&cid_of(&[block])).unwrap());
                }
            }
            world.look_up();
            prop_assert!(world.server.held_bytes() <= 5 << 20);
        }
        world.settle();
        prop_assert_eq!(world.server.held_bytes(), 0);
        for peer in (0..3).map(PeerKey) {
            let wanted = world.server.wanted_by(peer);
            prop_assert!(wanted <= 6, "{} still wants {wanted}, of which 6 may be missing", peer);
        }
    }
}
