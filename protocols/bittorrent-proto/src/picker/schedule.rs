//! Who is asked for what: the one place where the picker hands out work.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::demand::Want;
use super::partial::{Block, Partial};
use super::peer::{Outstanding, Peer, Standing};
use super::{PeerKey, Picker, PickerAction};
use crate::wire::PieceIndex;

/// How long the queue at a peer may be while nobody waits.
const QUEUE_TARGET: Duration = Duration::from_millis(1000);
/// How long the queue at a peer may be while a reader waits for a piece, or has nothing in hand.
const URGENT_QUEUE_TARGET: Duration = Duration::from_millis(300);
/// A second peer must beat the first by this much before a block that is not late is asked for twice.
const STEAL_MARGIN: Duration = Duration::from_millis(150);
/// Rare pieces looked at for one that a peer with room has. When it has none of these, any that it has will do: else the
/// peers that have no rare pieces would stand idle until the rare ones have come.
const MAX_RAREST: usize = 256;
/// Times that a peer which lets some pieces rest is tried for another.
const MAX_TRIES: usize = 4;

impl Picker {
    /// Hands out work wherever there is work and room.
    pub fn schedule(&mut self, now: Instant) {
        if self.stale {
            self.stale = false;
            self.rebuild_wants(now);
        }
        self.next_look = None;
        self.peers.values_mut().for_each(|peer| peer.resting.retain(|_, until| now < *until));
        self.mind_overdue_peers(now);
        self.mind_silent_peers(now);
        let target = self.queue_target(now);
        let mut room: BTreeMap<PeerKey, u32> = BTreeMap::new();
        for (key, peer) in &self.peers {
            let free = peer.room(target);
            if peer.may_request && free > 0 {
                room.insert(*key, free);
            }
        }
        let wants = std::mem::take(&mut self.wants);
        for want in &wants {
            if self.have.get(want.piece) || self.verifying.contains_key(&want.piece) {
                continue;
            }
            if room.is_empty() && !want.urgent(now) {
                break;
            }
            self.serve(now, want, &mut room);
        }
        self.wants = wants;
        if self.rarity.is_some() && !room.is_empty() {
            self.serve_unread(now, &mut room);
        }
        let looks = self.peers.values().flat_map(|peer| [peer.overdue_at(), peer.patience_ends(), peer.rest_ends()]);
        if let Some(at) = looks.flatten().min() {
            self.look_at(at);
        }
    }

    /// Asks for what is missing of one wanted piece, and again for what is late of an urgent one.
    fn serve(&mut self, now: Instant, want: &Want, room: &mut BTreeMap<PeerKey, u32>) {
        let piece = want.piece;
        if !self.partials.contains_key(&piece) {
            if room.is_empty() || !self.somebody_has(piece, room) || !self.make_space(piece, want.urgent(now)) {
                return;
            }
            let partial = Partial::new(self.geometry.len_of(piece));
            self.partial_bytes += partial.len() as u64;
            self.partials.insert(piece, partial);
            self.reconsider(piece);
        }
        let disputed = self.evidence.is_open(piece);
        let mut from = self.first_block(piece);
        let mut wrapped = from == 0;
        loop {
            let Some(block) = self.partials.get(&piece).and_then(|partial| partial.next_missing(from)) else {
                if wrapped {
                    break;
                }
                (from, wrapped) = (0, true);
                continue;
            };
            let [Some(peer), _] = self.senders(piece, room) else { break };
            if !disputed && self.better_wait(now, want, peer) {
                break;
            }
            self.ask(now, peer, piece, block, room);
            from = block + 1;
        }
        if want.urgent(now) {
            self.ask_again(now, want, room);
        }
    }

    /// Whom to ask for the next block of a piece, of those with room: the best, and the one to ask if that is not to be.
    fn senders(&mut self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> [Option<PeerKey>; 2] {
        if self.evidence.is_open(piece) { [self.sole_sender(piece, room), None] } else { self.soonest(piece, room) }
    }

    /// Whom to ask for a piece that failed: one peer and, while it delivers, no other. `None` while that one has no room.
    fn sole_sender(&mut self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> Option<PeerKey> {
        let able = |peer: &Peer| peer.may_request && peer.standing != Standing::Silent && peer.offers(piece);
        let partial = self.partials.get_mut(&piece)?;
        let chosen = partial.sole.filter(|key| self.peers.get(key).is_some_and(able));
        let soonest = || {
            let able = self.peers.iter().filter(|(_, peer)| able(peer));
            able.min_by_key(|(key, peer)| (peer.pipeline.completion(), **key)).map(|(key, _)| *key)
        };
        partial.sole = chosen.or_else(soonest);
        partial.sole.filter(|key| room.contains_key(key))
    }

    fn somebody_has(&self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> bool {
        room.keys().any(|key| self.peers.get(key).is_some_and(|peer| peer.offers(piece)))
    }

    /// The two peers with room that would deliver a block of `piece` soonest.
    fn soonest(&self, piece: PieceIndex, room: &BTreeMap<PeerKey, u32>) -> [Option<PeerKey>; 2] {
        let able = room.keys().filter_map(|key| {
            let peer = self.peers.get(key)?;
            peer.offers(piece).then(|| (peer.standing, peer.pipeline.completion(), *key))
        });
        let (mut first, mut second) = (None, None);
        for sender in able {
            if first.is_none_or(|first| sender < first) {
                second = first.replace(sender);
            } else if second.is_none_or(|second| sender < second) {
                second = Some(sender);
            }
        }
        [first, second].map(|sender| sender.map(|(_, _, key)| key))
    }

    /// Whether an urgent block is better kept for a faster peer that has no room just now.
    fn better_wait(&self, now: Instant, want: &Want, candidate: PeerKey) -> bool {
        let Some(candidate) = self.peers.get(&candidate) else { return true };
        let completion = candidate.pipeline.completion();
        if !want.wanted_by(now + completion) {
            return false;
        }
        let able = self.peers.values().filter(|peer| peer.may_request && peer.is_prompt() && peer.offers(want.piece));
        let best = able.map(|peer| peer.pipeline.completion()).min();
        !candidate.is_prompt() && best.is_some() || best.is_some_and(|best| completion > 2 * best + STEAL_MARGIN)
    }

    fn ask(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, block: usize, room: &mut BTreeMap<PeerKey, u32>) {
        let request = self.geometry.block(piece, u32::try_from(block).expect("blocks of a piece are counted in u32"));
        let peer = self.peers.get_mut(&key).expect("only peers in `room` are asked, and they are all known");
        let expected = now + peer.pipeline.completion();
        if peer.outstanding.is_empty() {
            peer.last_progress = now;
        }
        peer.pipeline.on_request(now, request.len);
        peer.outstanding.insert(request, Outstanding { sent: now, expected });
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.request(block, key);
        }
        self.actions.push_back(PickerAction::Request(key, request));
        if let Some(free) = room.get_mut(&key) {
            *free -= 1;
            if *free == 0 {
                room.remove(&key);
            }
        }
    }

    /// Asks a second peer for those blocks of an urgent piece that are late or that it would deliver much sooner.
    fn ask_again(&mut self, now: Instant, want: &Want, room: &mut BTreeMap<PeerKey, u32>) {
        let piece = want.piece;
        // Nobody to ask a second time.
        if self.peers.len() < 2 {
            return;
        }
        let Some(partial) = self.partials.get(&piece) else { return };
        let asked_once = |(block, state): (usize, &Block)| match state {
            Block::Requested([Some(owner), None] | [None, Some(owner)]) => Some((block, *owner)),
            Block::Requested(_) | Block::Missing | Block::Received(_) => None,
        };
        let candidates: Vec<_> = partial.blocks().iter().enumerate().filter_map(asked_once).collect();
        // Worked out once for all blocks, and anew when somebody was asked.
        let mut senders = None;
        for (block, owner) in candidates {
            let Some(peer) = self.peers.get(&owner) else { continue };
            let request =
                self.geometry.block(piece, u32::try_from(block).expect("blocks of a piece are counted in u32"));
            let Some(outstanding) = peer.outstanding.get(&request) else { continue };
            let late_at = if peer.is_prompt() { outstanding.expected + peer.pipeline.slack() } else { now };
            let remaining = outstanding.expected.saturating_duration_since(now);
            if now < late_at && remaining <= STEAL_MARGIN {
                self.look_at(late_at);
                continue;
            }
            let senders_now = *senders.get_or_insert_with(|| self.senders(piece, room));
            let Some(second) = senders_now.into_iter().flatten().find(|key| *key != owner) else { continue };
            let completion = self.peers.get(&second).map_or(Duration::MAX, |peer| peer.pipeline.completion());
            let much_sooner = remaining > completion.saturating_mul(2) + STEAL_MARGIN;
            if now >= late_at || much_sooner {
                self.ask(now, second, piece, block, room);
                senders = None;
            } else {
                self.look_at(late_at);
            }
        }
    }

    /// Goes on with what was begun and is wanted, then begins the rarest of what is wanted though nobody reads it.
    fn serve_unread(&mut self, now: Instant, room: &mut BTreeMap<PeerKey, u32>) {
        let wanted = self.partials.iter().filter(|(piece, _)| !self.orphans.contains(*piece));
        let unasked = wanted.filter(|(_, partial)| partial.next_missing(0).is_some());
        for piece in unasked.map(|(piece, _)| *piece).collect::<Vec<_>>() {
            if room.is_empty() {
                return;
            }
            self.serve(now, &Want::whenever(piece), room);
        }
        room.retain(|key, _| self.peers.get(key).is_some_and(|peer| !peer.exhausted));
        // Any piece but the last is as long as the first.
        while !room.is_empty() && self.make_space(PieceIndex(0), false) {
            let Some(piece) = self.rarest_for(room) else { return };
            self.serve(now, &Want::whenever(piece), room);
            if !self.partials.contains_key(&piece) {
                return;
            }
        }
    }

    /// The piece to begin for peers that have room: of the rarest, if one of them has one, else any. Peers that have
    /// nothing to offer lose their room.
    fn rarest_for(&mut self, room: &mut BTreeMap<PeerKey, u32>) -> Option<PieceIndex> {
        let rarity = self.rarity.as_mut()?;
        let offers = |piece| room.keys().any(|key| self.peers.get(key).is_some_and(|peer| peer.offers(piece)));
        if let Some(piece) = rarity.rarest().take(MAX_RAREST).find(|piece| offers(*piece)) {
            return Some(piece);
        }
        while let Some(entry) = room.first_entry() {
            let peer = self.peers.get_mut(entry.key())?;
            for _ in 0..MAX_TRIES {
                match rarity.any_of(&peer.has) {
                    Some(piece) if peer.offers(piece) => return Some(piece),
                    Some(_) => {}
                    None => {
                        peer.exhausted = true;
                        break;
                    }
                }
            }
            entry.remove();
        }
        None
    }

    /// Notes whose next block should have been here, and makes haste with what a reader waits for and they, or peers that
    /// have gone, were to deliver.
    fn mind_overdue_peers(&mut self, now: Instant) {
        let mut lost = std::mem::take(&mut self.lost);
        for peer in self.peers.values_mut().filter(|peer| peer.overdue_at().is_some_and(|at| now >= at)) {
            peer.standing = Standing::Overdue;
            lost.extend(peer.outstanding.keys());
        }
        if lost.is_empty() {
            return;
        }
        let awaited: BTreeSet<_> = self.wants.iter().filter(|want| want.is_awaited()).map(|want| want.piece).collect();
        let lost = lost.iter().filter(|request| awaited.contains(&request.piece)).count();
        if lost > 0 {
            self.make_haste(lost, &awaited);
        }
    }

    /// Withdraws so many of the requests for later pieces, the last ones first, from those that would deliver soonest:
    /// what a reader waits for would else come behind them.
    fn make_haste(&mut self, mut blocks: usize, awaited: &BTreeSet<PieceIndex>) {
        let prompt = self.peers.iter().filter(|(_, peer)| peer.may_request && peer.is_prompt());
        let mut soonest: Vec<_> = prompt.map(|(key, peer)| (peer.pipeline.completion(), *key)).collect();
        soonest.sort_unstable();
        for (_, key) in soonest {
            if blocks == 0 {
                return;
            }
            let asked = self.peers.get(&key).into_iter().flat_map(|peer| &peer.outstanding);
            let later = asked.filter(|(request, _)| !awaited.contains(&request.piece));
            let mut later: Vec<_> = later.map(|(request, asked)| (asked.sent, *request)).collect();
            later.sort_unstable();
            for (_, request) in later.into_iter().rev().take(blocks) {
                self.cancel(key, request);
                blocks -= 1;
            }
        }
    }

    /// How long a queue at a peer may be now.
    pub(super) fn queue_target(&self, now: Instant) -> Duration {
        let waiting = self.readers.values().any(|reader| reader.lives_from_hand_to_mouth(now));
        if waiting { URGENT_QUEUE_TARGET } else { QUEUE_TARGET }
    }

    fn look_at(&mut self, at: Instant) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }

    /// Takes from silent peers what they were asked for: first all but the oldest request, which may yet be answered,
    /// and in the end that one too.
    fn mind_silent_peers(&mut self, now: Instant) {
        let due: Vec<_> = self.peers.iter().filter_map(|(key, peer)| Some((*key, peer.patience_ends()?))).collect();
        for (key, until) in due {
            let Some(peer) = self.peers.get_mut(&key).filter(|_| now >= until) else { continue };
            let keep = usize::from(peer.standing != Standing::Silent);
            peer.standing = Standing::Silent;
            peer.pipeline.on_silence();
            let mut requests: Vec<_> = peer.outstanding.iter().map(|(request, at)| (at.sent, *request)).collect();
            requests.sort_unstable();
            for (_, request) in requests.into_iter().skip(keep) {
                self.cancel(key, request);
            }
        }
    }
}
