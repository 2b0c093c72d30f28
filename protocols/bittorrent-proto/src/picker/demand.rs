//! What is wanted, in order: the part of the picker that reads the readers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{MAX_ORPHANS, Picker, URGENT_HORIZON};
use crate::wire::PieceIndex;

/// Most pieces in the list of wants. More readers than this still get their first piece each, in turn.
const MAX_WANTS: usize = 1024;
/// Most pieces that one reader adds to it.
const MAX_WANTS_OF_ONE: usize = 256;

/// One wanted piece. Orders by who should be served first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Want {
    when: When,
    pub(super) piece: PieceIndex,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    /// A reader has been waiting for it since then.
    Since(Instant),
    /// A reader will want it then.
    By(Instant),
    /// A reader of unknown speed is this many pieces away.
    Ahead(u32),
    /// Nobody waits for it.
    Whenever,
}

impl Want {
    pub(super) const fn whenever(piece: PieceIndex) -> Self {
        Self { when: When::Whenever, piece }
    }

    /// Whether a reader waits for it or soon will.
    pub(super) fn urgent(&self, now: Instant) -> bool {
        match self.when {
            When::Since(_) => true,
            When::By(deadline) => deadline < now + URGENT_HORIZON,
            When::Ahead(_) | When::Whenever => false,
        }
    }

    /// Whether a reader waits for it.
    pub(super) const fn is_awaited(&self) -> bool {
        matches!(self.when, When::Since(_))
    }

    /// Whether it is wanted at `then` or before.
    pub(super) fn wanted_by(&self, then: Instant) -> bool {
        match self.when {
            When::Since(_) => true,
            When::By(deadline) => deadline <= then,
            When::Ahead(_) | When::Whenever => false,
        }
    }
}

impl Picker {
    /// Lists the wants anew, and withdraws what nobody wants any more.
    pub(super) fn rebuild_wants(&mut self, now: Instant) {
        let mut best: BTreeMap<PieceIndex, When> = BTreeMap::new();
        for reader in self.readers.values_mut() {
            if reader.is_done() {
                reader.set_blocked(now, false);
                continue;
            }
            let head = self.geometry.piece_at(reader.position());
            reader.set_blocked(now, !self.have.get(head));
            let window = reader.window(self.read_ahead);
            for (distance, piece) in (0..).zip(self.geometry.pieces_of(window.start, window.end)).take(MAX_WANTS_OF_ONE)
            {
                let piece = PieceIndex(piece);
                if self.have.get(piece) {
                    continue;
                }
                let when = match (piece == head, reader.blocked_since) {
                    (true, Some(since)) => When::Since(since),
                    _ => match reader.deadline(now, self.geometry.start_of(piece)) {
                        Some(deadline) => When::By(deadline),
                        None => When::Ahead(distance),
                    },
                };
                best.entry(piece).and_modify(|best| *best = when.min(*best)).or_insert(when);
            }
        }
        self.wants.clear();
        self.wants.extend(best.into_iter().map(|(piece, when)| Want { when, piece }));
        self.wants.sort_unstable();
        self.wants.truncate(MAX_WANTS);
        self.orphans.clear();
        if !self.rarity.as_ref().is_some_and(|rarity| rarity.wanted().is_all()) {
            self.drop_unwanted();
        }
    }

    /// Withdraws requests for pieces that nobody wants; keeps the bytes of a few in case somebody comes back.
    fn drop_unwanted(&mut self) {
        let read: BTreeSet<_> = self.wants.iter().map(|want| want.piece).collect();
        let unread = self.partials.keys().filter(|piece| !read.contains(piece)).copied();
        let unwanted: Vec<_> = match &self.rarity {
            Some(rarity) => unread.filter(|piece| !rarity.wanted().get(*piece)).collect(),
            None => unread.collect(),
        };
        for piece in unwanted {
            let worth_keeping = self.partials.get(&piece).is_some_and(|partial| partial.received() > 0);
            if !worth_keeping || self.orphans.len() == MAX_ORPHANS {
                drop(self.drop_partial(piece));
                continue;
            }
            self.orphans.insert(piece);
            if let Some(partial) = self.partials.get(&piece) {
                let requests: Vec<_> = partial.outstanding(piece, &self.geometry).collect();
                requests.into_iter().for_each(|(owner, request)| self.cancel(owner, request));
            }
        }
    }
}
