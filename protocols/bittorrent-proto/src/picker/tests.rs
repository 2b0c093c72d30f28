use super::peer::FIRST_SILENCE;
use super::*;

const PIECE: u32 = 4 * BLOCK_LEN;

fn picker(pieces: u32) -> Picker {
    let geometry = Geometry::new(PIECE, u64::from(PIECE) * u64::from(pieces)).unwrap();
    let limits = PickerLimits { max_partial_bytes: 64 << 20 };
    Picker::new(geometry, Bitfield::none(pieces), limits, 1)
}

fn seed(picker: &mut Picker, now: Instant, key: u64) -> PeerKey {
    let key = PeerKey(key);
    picker.peer_joined(now, key);
    picker.peer_has_bitfield(key, Bitfield::all(picker.geometry().pieces()));
    picker.peer_unchoked(now, key);
    key
}

fn drain(picker: &mut Picker) -> Vec<PickerAction> {
    std::iter::from_fn(|| picker.poll_action()).collect()
}

fn requested(actions: &[PickerAction]) -> Vec<(PeerKey, BlockRequest)> {
    let request = |action: &PickerAction| match action {
        PickerAction::Request(peer, request) => Some((*peer, *request)),
        PickerAction::Cancel(..) => None,
    };
    actions.iter().filter_map(request).collect()
}

fn deliver(picker: &mut Picker, now: Instant, peer: PeerKey, request: BlockRequest) -> BlockOutcome {
    picker.on_block(now, peer, request.piece, request.begin, &vec![0; request.len as usize])
}

#[test]
fn a_blocks_of_a_waited_for_piece_are_spread_over_equal_peers() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let peers: Vec<_> = (0..4).map(|key| seed(&mut picker, now, key)).collect();
    picker.open_reader(now, ReaderKey(1), 0..1000);
    picker.schedule(now);
    let mut asked: Vec<_> = requested(&drain(&mut picker)).into_iter().map(|(peer, _)| peer).collect();
    asked.sort_unstable();
    assert_eq!(asked, peers, "one of the four blocks each");
}

#[test]
fn a_seek_withdraws_the_old_requests_and_asks_for_the_new_piece_in_one_go() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let peer = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..1000);
    picker.schedule(now);
    let first = requested(&drain(&mut picker));
    assert_eq!(first.len(), 4);
    picker.close_reader(ReaderKey(1));
    picker.open_reader(now, ReaderKey(2), u64::from(PIECE) * 50..u64::from(PIECE) * 50 + 10);
    picker.schedule(now);
    let actions = drain(&mut picker);
    for (_, request) in first {
        assert!(actions.contains(&PickerAction::Cancel(peer, request)), "{request:?} stays asked for");
    }
    assert!(requested(&actions).iter().all(|(_, request)| request.piece == PieceIndex(50)));
    assert_eq!(requested(&actions).len(), 4);
}

#[test]
fn a_piece_that_came_another_way_gives_back_its_requests_and_its_memory() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let peer = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..1000);
    picker.schedule(now);
    let asked = requested(&drain(&mut picker));
    assert_eq!(deliver(&mut picker, now, peer, asked[0].1), BlockOutcome::Accepted);
    assert_eq!(picker.partial_bytes(), u64::from(PIECE));
    assert_eq!(picker.on_verified(PieceIndex(0), Some(&[0; PIECE as usize])), []);
    picker.schedule(now);
    let withdrawn: Vec<_> = asked[1..].iter().map(|(peer, request)| PickerAction::Cancel(*peer, *request)).collect();
    assert_eq!(drain(&mut picker), withdrawn);
    assert_eq!((picker.partial_bytes(), picker.outstanding_at(peer)), (0, 0));
}

#[test]
fn a_complete_piece_that_came_another_way_before_its_verdict_is_freed_once() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let peer = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..1000);
    picker.schedule(now);
    let asked = requested(&drain(&mut picker));
    let last = asked.into_iter().map(|(_, request)| deliver(&mut picker, now, peer, request)).last();
    let Some(BlockOutcome::PieceComplete(bytes)) = last else { panic!("{last:?}") };
    picker.on_verified(PieceIndex(0), Some(&[1; PIECE as usize]));
    assert_eq!(picker.on_corrupt(PieceIndex(0), &bytes), []);
    assert_eq!(picker.partial_bytes(), 0);
    assert!(picker.have().get(PieceIndex(0)));
}

#[test]
fn readers_are_served_in_the_order_they_began_to_wait() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    picker.open_reader(now, ReaderKey(1), u64::from(PIECE) * 70..u64::from(PIECE) * 70 + 10);
    picker.schedule(now);
    let later = now + Duration::from_millis(10);
    picker.open_reader(later, ReaderKey(2), 0..10);
    seed(&mut picker, later, 1);
    picker.schedule(later);
    let pieces: Vec<_> = requested(&drain(&mut picker)).iter().map(|(_, request)| request.piece.0).collect();
    assert_eq!(pieces, [70, 70, 70, 70, 0, 0, 0, 0]);
}

#[test]
fn a_late_block_that_a_reader_waits_for_is_asked_of_one_other_peer() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let stalled = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..10);
    picker.schedule(now);
    let first = requested(&drain(&mut picker));
    let other = seed(&mut picker, now, 2);
    picker.schedule(now);
    drain(&mut picker);
    let (when, _) = picker.poll_timeout().expect("a late block is looked at in time");
    assert!(when < now + Duration::from_secs(2));
    let late = now + Duration::from_millis(1900);
    picker.schedule(late);
    let again: BTreeSet<_> = requested(&drain(&mut picker)).into_iter().collect();
    for (owner, request) in first {
        assert_eq!(owner, stalled);
        let doubled = again.contains(&(other, request)) || picker.peers[&other].outstanding.contains_key(&request);
        assert!(doubled, "{request:?} waits for the stalled peer alone");
    }
    picker.schedule(late + Duration::from_millis(50));
    assert_eq!(requested(&drain(&mut picker)), [], "never a third time");
}

/// Runs a reader that takes all at once, with two peers of four blocks in 10 ms each, of which one begins late; returns
/// when that one was asked.
fn asked_of_a_late_starter(first_block: Duration, all: Duration) -> Vec<Duration> {
    let (mut picker, start) = (picker(4000), crate::testing::start());
    let (late, prompt) = (seed(&mut picker, start, 1), seed(&mut picker, start, 2));
    picker.open_reader(start, ReaderKey(1), 0..u64::from(PIECE) * 4000);
    let (mut now, mut asked, mut owed) = (start, Vec::new(), VecDeque::new());
    let (mut position, mut free) = (0, BTreeMap::from([(late, start + first_block), (prompt, start)]));
    while now < start + all {
        picker.schedule(now);
        let actions = drain(&mut picker);
        for action in &actions {
            if let PickerAction::Cancel(peer, request) = action {
                owed.retain(|(_, whose, what): &(Instant, PeerKey, BlockRequest)| (whose, what) != (peer, request));
            }
        }
        for (peer, request) in requested(&actions) {
            asked.extend((peer == late).then(|| now - start));
            let free = free.get_mut(&peer).expect("one of the two");
            *free = (*free).max(now) + Duration::from_micros(2500);
            owed.push_back((*free, peer, request));
        }
        now += Duration::from_millis(10);
        let (due, rest): (VecDeque<_>, VecDeque<_>) = owed.into_iter().partition(|(at, ..)| *at <= now);
        owed = rest;
        for (_, peer, request) in due {
            if let BlockOutcome::PieceComplete(bytes) = deliver(&mut picker, now, peer, request) {
                picker.on_verified(request.piece, Some(&bytes));
            }
        }
        while picker.have().get(PieceIndex(position)) {
            position += 1;
            picker.advance_reader(now, ReaderKey(1), u64::from(PIECE) * u64::from(position));
        }
    }
    asked
}

/// One late block makes the peer the worse choice for what a reader waits for, and nothing but asking it again can show that
/// it is better: this is against any rule that would take the first block for a verdict. It holds by `better_wait` alone,
/// which lets what is wanted later go to slower peers.
#[test]
fn a_peer_whose_first_block_was_late_is_tried_again() {
    let asked = asked_of_a_late_starter(Duration::from_millis(1500), Duration::from_secs(12));
    let later = asked.iter().filter(|at| **at > Duration::from_secs(4)).count();
    assert!(later > 10, "asked at {asked:?}");
}

#[test]
fn the_loser_of_a_doubled_block_is_told() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let stalled = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..10);
    picker.schedule(now);
    let other = seed(&mut picker, now, 2);
    picker.schedule(now + Duration::from_millis(1500));
    let actions = drain(&mut picker);
    let (_, request) = *requested(&actions).iter().find(|(peer, _)| *peer == other).expect("a block was doubled");
    assert_eq!(deliver(&mut picker, now + Duration::from_millis(1600), other, request), BlockOutcome::Accepted);
    assert!(drain(&mut picker).contains(&PickerAction::Cancel(stalled, request)));
}

/// Gives each of two peers a measured rate of four blocks in 20 ms, until `pieces` are here; a reader takes all at once.
fn two_working_peers(pieces: u32) -> (Picker, Instant, [PeerKey; 2]) {
    let (mut picker, mut now) = (picker(4000), crate::testing::start());
    let peers = [1, 2].map(|key| seed(&mut picker, now, key));
    picker.open_reader(now, ReaderKey(1), 0..u64::from(PIECE) * 4000);
    let mut owed: VecDeque<(PeerKey, BlockRequest)> = VecDeque::new();
    while picker.have().count() < pieces {
        picker.schedule(now);
        owed.extend(requested(&drain(&mut picker)));
        now += Duration::from_millis(5);
        for peer in peers {
            let Some(at) = owed.iter().position(|(whose, _)| *whose == peer) else { continue };
            let (_, request) = owed.remove(at).expect("it was there a line up");
            if let BlockOutcome::PieceComplete(bytes) = deliver(&mut picker, now, peer, request) {
                picker.on_verified(request.piece, Some(&bytes));
            }
        }
        let read = (0..4000).take_while(|piece| picker.have().get(PieceIndex(*piece))).count() as u64;
        picker.advance_reader(now, ReaderKey(1), u64::from(PIECE) * read);
    }
    (picker, now, peers)
}

#[test]
fn a_peer_that_falls_silent_is_given_nothing_more_and_what_a_reader_waits_for_is_asked_of_the_other() {
    let (mut picker, mut now, [gone, other]) = two_working_peers(40);
    let mut owed: VecDeque<BlockRequest> = picker.peers[&other].outstanding.keys().copied().collect();
    let (mut given, mut again) = (0, BTreeSet::new());
    let lost: BTreeSet<_> = picker.peers[&gone].outstanding.keys().copied().collect();
    for step in 0..300 {
        picker.schedule(now);
        for action in drain(&mut picker) {
            match action {
                PickerAction::Cancel(peer, request) if peer == other => owed.retain(|it| *it != request),
                PickerAction::Request(peer, request) if peer == other => {
                    again.extend(lost.get(&request).copied());
                    owed.push_back(request);
                }
                PickerAction::Request(..) if step >= 40 => given += 1,
                PickerAction::Request(..) | PickerAction::Cancel(..) => {}
            }
        }
        now += Duration::from_millis(5);
        if let Some(request) = owed.pop_front()
            && let BlockOutcome::PieceComplete(bytes) = deliver(&mut picker, now, other, request)
        {
            picker.on_verified(request.piece, Some(&bytes));
        }
        let read = (0..4000).take_while(|piece| picker.have().get(PieceIndex(*piece))).count() as u64;
        picker.advance_reader(now, ReaderKey(1), u64::from(PIECE) * read);
    }
    assert_eq!(again, lost, "all that went with it is asked of the other");
    assert!(given <= 2, "{given} blocks were asked of a peer that is not there; one is a trial");
}

#[test]
fn what_nobody_asked_for_does_not_pass_for_progress() {
    let (mut picker, now, [junk, _]) = two_working_peers(40);
    assert!(picker.outstanding_at(junk) > 1);
    for step in 1..=40 {
        let then = now + Duration::from_millis(100) * step;
        let outcome = picker.on_block(then, junk, PieceIndex(3999), 7, &[0]);
        assert_eq!(outcome, BlockOutcome::Unneeded { requested: false });
        picker.schedule(then);
        drain(&mut picker);
    }
    assert!(picker.outstanding_at(junk) <= 1, "it delivers nothing and keeps what it was asked for");
}

#[test]
fn a_silent_peer_loses_its_requests_but_the_oldest() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    let silent = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..10);
    picker.schedule(now);
    drain(&mut picker);
    picker.schedule(now + FIRST_SILENCE);
    let actions = drain(&mut picker);
    assert_eq!(actions.iter().filter(|action| matches!(action, PickerAction::Cancel(..))).count(), 3);
    assert_eq!(picker.outstanding_at(silent), 1);
}

#[test]
fn a_request_that_was_lost_is_made_again_even_if_there_is_no_other_peer() {
    let (mut picker, mut now) = (picker(100), crate::testing::start());
    let deaf = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..10);
    let mut times_asked = 0;
    for _ in 0..10 {
        picker.schedule(now);
        times_asked += requested(&drain(&mut picker)).iter().filter(|(_, request)| request.begin == 0).count();
        now = picker.poll_timeout().expect("an unanswered request is looked at").0;
    }
    assert!(times_asked > 1, "asked once, never again");
    assert!(picker.outstanding_at(deaf) <= 1);
}

#[test]
fn a_piece_that_failed_is_asked_of_one_peer_and_so_whoever_lied_is_found() {
    let (mut picker, now) = (picker(1), crate::testing::start());
    (0..4).for_each(|key| _ = seed(&mut picker, now, key));
    picker.open_reader(now, ReaderKey(1), 0..1000);
    picker.schedule(now);
    let lie = vec![9; BLOCK_LEN as usize];
    let mut piece = None;
    for (peer, request) in requested(&drain(&mut picker)) {
        let outcome = match peer {
            PeerKey(0) => picker.on_block(now, peer, request.piece, request.begin, &lie),
            _ => deliver(&mut picker, now, peer, request),
        };
        if let BlockOutcome::PieceComplete(bytes) = outcome {
            piece = Some(bytes);
        }
    }
    assert_eq!(picker.on_corrupt(PieceIndex(0), &piece.unwrap()), [], "four peers sent it");
    picker.schedule(now);
    let again = requested(&drain(&mut picker));
    let senders: BTreeSet<_> = again.iter().map(|(peer, _)| *peer).collect();
    assert_eq!((again.len(), senders.len()), (4, 1), "{again:?}");
    let mut guilty = Vec::new();
    for (peer, request) in again {
        if let BlockOutcome::PieceComplete(bytes) = deliver(&mut picker, now, peer, request) {
            guilty = picker.on_verified(PieceIndex(0), Some(&bytes));
        }
    }
    assert_eq!(guilty, [PeerKey(0)]);
}

#[test]
fn an_evicted_piece_that_is_wanted_is_fetched_again() {
    let (mut picker, now) = (picker(10), crate::testing::start());
    seed(&mut picker, now, 1);
    picker.on_verified(PieceIndex(0), None);
    picker.open_reader(now, ReaderKey(1), 0..10);
    picker.schedule(now);
    assert!(requested(&drain(&mut picker)).iter().all(|(_, request)| request.piece != PieceIndex(0)));
    assert!(picker.on_evicted(PieceIndex(0)));
    picker.schedule(now);
    assert_eq!(requested(&drain(&mut picker)).iter().filter(|(_, request)| request.piece == PieceIndex(0)).count(), 4);
}

#[test]
fn a_full_budget_never_costs_a_piece_that_is_wanted() {
    let (mut picker, now) = (picker(100), crate::testing::start());
    picker.limits.max_partial_bytes = 4 * u64::from(PIECE);
    let peer = seed(&mut picker, now, 1);
    picker.open_reader(now, ReaderKey(1), 0..u64::from(PIECE) * 60);
    let mut position = 0;
    for _ in 0..200 {
        picker.schedule(now);
        let actions = drain(&mut picker);
        assert!(!actions.iter().any(|action| matches!(action, PickerAction::Cancel(..))), "{actions:?}");
        let Some(request) = picker.peers[&peer].outstanding.keys().next().copied() else { break };
        if let BlockOutcome::PieceComplete(bytes) = deliver(&mut picker, now, peer, request) {
            picker.on_verified(request.piece, Some(&bytes));
            position += u64::from(PIECE);
            picker.advance_reader(now, ReaderKey(1), position);
        }
        assert!(picker.partial_bytes() <= 4 * u64::from(PIECE));
    }
    assert!(position > 0);
}

/// A peer that has these pieces.
fn leecher(picker: &mut Picker, now: Instant, key: u64, pieces: Range<u32>) -> PeerKey {
    let key = PeerKey(key);
    picker.peer_joined(now, key);
    let mut has = Bitfield::none(picker.geometry().pieces());
    pieces.for_each(|piece| _ = has.set(PieceIndex(piece), true));
    picker.peer_has_bitfield(key, has);
    picker.peer_unchoked(now, key);
    key
}

#[test]
fn the_rarest_pieces_are_begun_first() {
    let (mut picker, now) = (picker(2000), crate::testing::start());
    picker.want_everything(true);
    seed(&mut picker, now, 1);
    leecher(&mut picker, now, 2, 0..1990);
    picker.peer_has(PeerKey(2), PieceIndex(1995), true);
    picker.schedule(now);
    let asked = requested(&drain(&mut picker));
    let seeds: BTreeSet<_> = asked.iter().filter(|(peer, _)| peer.0 == 1).map(|(_, request)| request.piece.0).collect();
    assert!(!seeds.is_empty() && seeds.iter().all(|piece| *piece >= 1990 && *piece != 1995), "{seeds:?}");
}

#[test]
fn peers_that_have_none_of_the_rarest_pieces_are_not_idle() {
    let (mut picker, now) = (picker(2000), crate::testing::start());
    let all = seed(&mut picker, now, 1);
    picker.peer_choked(all);
    let leechers: Vec<_> = (2..6).map(|key| leecher(&mut picker, now, key, 1900..2000)).collect();
    picker.want_everything(true);
    picker.schedule(now);
    let busy: BTreeSet<_> = requested(&drain(&mut picker)).into_iter().map(|(peer, _)| peer).collect();
    assert!(leechers.iter().all(|peer| busy.contains(peer)), "only {busy:?} were asked");
}

#[test]
fn a_peer_that_had_nothing_to_offer_is_asked_as_soon_as_it_has() {
    let (mut picker, now) = (picker(10), crate::testing::start());
    (0..10).for_each(|piece| _ = picker.on_verified(PieceIndex(piece), None));
    picker.want_everything(true);
    let peer = leecher(&mut picker, now, 1, 0..5);
    let asked = |picker: &mut Picker| {
        picker.schedule(now);
        requested(&drain(picker)).into_iter().map(|(_, request)| request.piece.0).collect::<BTreeSet<_>>()
    };
    assert_eq!(asked(&mut picker), BTreeSet::new());
    picker.on_evicted(PieceIndex(7));
    assert_eq!(asked(&mut picker), BTreeSet::new(), "it has none of it");
    picker.on_evicted(PieceIndex(3));
    assert_eq!(asked(&mut picker), BTreeSet::from([3]), "an eviction makes work possible");
    picker.peer_has(peer, PieceIndex(7), true);
    assert_eq!(asked(&mut picker), BTreeSet::from([7]), "and so does what a peer gets");
}

fn pieces(of: impl IntoIterator<Item = u32>) -> Bitfield {
    let mut pieces = Bitfield::none(20);
    of.into_iter().for_each(|piece| _ = pieces.set(PieceIndex(piece), true));
    pieces
}

/// Lets a peer deliver until it is asked for nothing more, and tells which pieces came.
fn fetch_all(picker: &mut Picker, now: &mut Instant, peer: PeerKey) -> BTreeSet<u32> {
    let mut came = BTreeSet::new();
    loop {
        *now += Duration::from_millis(5);
        picker.schedule(*now);
        drain(picker);
        let Some(request) = picker.peers[&peer].outstanding.keys().next().copied() else { return came };
        if let BlockOutcome::PieceComplete(bytes) = deliver(picker, *now, peer, request) {
            picker.on_verified(request.piece, Some(&bytes));
            came.insert(request.piece.0);
        }
    }
}

#[test]
fn of_a_torrent_that_is_wanted_in_part_nothing_else_is_fetched_until_that_changes() {
    let (mut picker, mut now) = (picker(20), crate::testing::start());
    let peer = seed(&mut picker, now, 1);
    picker.want_pieces(Some(pieces([3, 7])));
    assert_eq!(fetch_all(&mut picker, &mut now, peer), BTreeSet::from([3, 7]));
    picker.want_pieces(Some(pieces([3, 7, 8])));
    assert_eq!(fetch_all(&mut picker, &mut now, peer), BTreeSet::from([8]), "what is here is not fetched again");
    picker.on_evicted(PieceIndex(5));
    picker.on_evicted(PieceIndex(7));
    assert_eq!(fetch_all(&mut picker, &mut now, peer), BTreeSet::from([7]));
    picker.want_everything(true);
    assert_eq!(fetch_all(&mut picker, &mut now, peer).len(), 17);
}

#[test]
fn a_reader_has_what_is_not_wanted_otherwise_and_it_is_withdrawn_when_the_reader_is_gone() {
    let (mut picker, now) = (picker(20), crate::testing::start());
    let peer = seed(&mut picker, now, 1);
    picker.want_pieces(Some(pieces([])));
    picker.open_reader(now, ReaderKey(1), u64::from(PIECE) * 5..u64::from(PIECE) * 6);
    picker.schedule(now);
    let asked = requested(&drain(&mut picker));
    assert!(asked.len() == 4 && asked.iter().all(|(_, request)| request.piece == PieceIndex(5)), "{asked:?}");
    assert_eq!(deliver(&mut picker, now, peer, asked[0].1), BlockOutcome::Accepted);
    picker.close_reader(ReaderKey(1));
    picker.schedule(now);
    let withdrawn = drain(&mut picker);
    assert!(withdrawn.len() == 3 && withdrawn.iter().all(|it| matches!(it, PickerAction::Cancel(..))), "{withdrawn:?}");
    picker.schedule(now);
    assert_eq!(drain(&mut picker), [], "nobody goes on with it");
}

mod model {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Join(u64),
        Leave(u64),
        Choke(u64),
        Unchoke(u64),
        Open(u64, u64, u64),
        Advance(u64, u64),
        Close(u64),
        Deliver(usize),
        Reject(usize),
        Judge { good: bool },
        Evict(u32),
        Wait(u64),
        WantAll(bool),
        Has(u64, u32, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let peer = || 0..5u64;
        prop_oneof![
            2 => peer().prop_map(Step::Join),
            1 => peer().prop_map(Step::Leave),
            1 => peer().prop_map(Step::Choke),
            2 => peer().prop_map(Step::Unchoke),
            2 => (0..4u64, 0..1_000_000u64, 1..1_000_000u64).prop_map(|(key, start, len)| Step::Open(key, start, len)),
            2 => (0..4u64, 0..1_000_000u64).prop_map(|(key, to)| Step::Advance(key, to)),
            1 => (0..4u64).prop_map(Step::Close),
            12 => any::<usize>().prop_map(Step::Deliver),
            1 => any::<usize>().prop_map(Step::Reject),
            3 => any::<bool>().prop_map(|good| Step::Judge { good }),
            1 => (0..20u32).prop_map(Step::Evict),
            2 => (1..4000u64).prop_map(Step::Wait),
            1 => any::<bool>().prop_map(Step::WantAll),
            2 => (peer(), 0..20u32, any::<bool>()).prop_map(|(key, piece, has)| Step::Has(key, piece, has)),
        ]
    }

    /// What the peers have been asked for, as they see it.
    #[derive(Default)]
    struct World {
        asked: BTreeSet<(PeerKey, BlockRequest)>,
        judging: Vec<(PieceIndex, Bytes)>,
    }

    impl World {
        fn obey(&mut self, picker: &mut Picker) {
            while let Some(action) = picker.poll_action() {
                match action {
                    PickerAction::Request(peer, request) => {
                        assert!(picker.geometry().contains(&request));
                        assert!(self.asked.insert((peer, request)), "asked twice: {request:?}");
                        let owners = self.asked.iter().filter(|(_, other)| *other == request).count();
                        assert!(owners <= 2, "{owners} peers owe {request:?}");
                    }
                    PickerAction::Cancel(peer, request) => {
                        assert!(self.asked.remove(&(peer, request)), "cancelled what was not asked");
                    }
                }
            }
        }

        fn deliver(&mut self, picker: &mut Picker, now: Instant, peer: PeerKey, request: BlockRequest) {
            self.asked.remove(&(peer, request));
            match deliver(picker, now, peer, request) {
                BlockOutcome::PieceComplete(bytes) => self.judging.push((request.piece, bytes)),
                BlockOutcome::Accepted => {}
                BlockOutcome::Unneeded { requested } => panic!("unneeded (asked for: {requested}): {request:?}"),
            }
        }

        fn judge(&mut self, picker: &mut Picker, good: bool) {
            if let Some((piece, bytes)) = self.judging.pop() {
                if good {
                    picker.on_verified(piece, Some(&bytes));
                } else {
                    picker.on_corrupt(piece, &bytes);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn whatever_happens_every_reader_is_served_in_the_end(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut picker, mut now, mut world) = (picker(20), crate::testing::start(), World::default());
            for step in steps {
                now += Duration::from_millis(5);
                let nth = |n: usize| world.asked.iter().nth(n % world.asked.len().max(1)).copied();
                match step {
                    Step::Join(key) if picker.peers.contains_key(&PeerKey(key)) => {}
                    Step::Join(key) => { seed(&mut picker, now, key); }
                    Step::Leave(key) => {
                        picker.peer_left(PeerKey(key));
                        world.asked.retain(|(peer, _)| *peer != PeerKey(key));
                    }
                    Step::Choke(key) => {
                        picker.peer_choked(PeerKey(key));
                        world.asked.retain(|(peer, _)| *peer != PeerKey(key));
                    }
                    Step::Unchoke(key) => picker.peer_unchoked(now, PeerKey(key)),
                    Step::Open(key, start, len) => picker.open_reader(now, ReaderKey(key), start..start + len),
                    Step::Advance(key, to) => picker.advance_reader(now, ReaderKey(key), to),
                    Step::Close(key) => picker.close_reader(ReaderKey(key)),
                    Step::Deliver(n) => if let Some((peer, request)) = nth(n) { world.deliver(&mut picker, now, peer, request) },
                    Step::Reject(n) => if let Some((peer, request)) = nth(n) {
                        world.asked.remove(&(peer, request));
                        picker.on_reject(now, peer, request);
                    },
                    Step::Judge { good } => world.judge(&mut picker, good),
                    Step::Evict(piece) => { picker.on_evicted(PieceIndex(piece)); }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::WantAll(all) => picker.want_everything(all),
                    Step::Has(key, piece, has) => picker.peer_has(PeerKey(key), PieceIndex(piece), has),
                }
                picker.schedule(now);
                world.obey(&mut picker);
            }
            seed_all_is_well(&mut picker, &mut now, &mut world);
        }
    }

    /// From any state, one honest peer is enough: all windows get verified, and nothing stays outstanding.
    fn seed_all_is_well(picker: &mut Picker, now: &mut Instant, world: &mut World) {
        seed(picker, *now, 99);
        for _ in 0..10_000 {
            *now += Duration::from_millis(20);
            picker.schedule(*now);
            world.obey(picker);
            match world.asked.iter().next_back().copied() {
                Some((peer, request)) => world.deliver(picker, *now, peer, request),
                None if world.judging.is_empty() => break,
                None => {}
            }
            world.judge(picker, true);
        }
        for reader in picker.readers.values_mut().filter(|reader| !reader.is_done()) {
            let window = reader.window(u64::MAX);
            for piece in picker.geometry.pieces_of(window.start, window.end) {
                assert!(picker.have.get(PieceIndex(piece)), "piece {piece} of {window:?} never came");
            }
        }
        assert!(picker.rarity.is_none() || picker.have.is_all(), "all was wanted, and there is {:?}", picker.have);
        assert!(world.asked.is_empty() && world.judging.is_empty());
        let orphans: u64 = picker.partials.values().map(|partial| partial.len() as u64).sum();
        assert_eq!(picker.partial_bytes, orphans, "bytes in flight are counted right");
        assert!(picker.partials.len() <= MAX_ORPHANS);
    }
}
