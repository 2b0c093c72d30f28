//! One peer as the picker sees it: what it has, what it was asked for, and how long its silence is borne.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::pipeline::Pipeline;
use super::rarity::Counted;
use crate::bitfield::Bitfield;
use crate::wire::{BLOCK_LEN, BlockRequest, PieceIndex};

/// A peer with requests outstanding that delivers nothing for this long is silent, if its rate promised a block by then.
const SILENCE: Duration = Duration::from_secs(2);
/// The same for a peer that has never delivered.
pub(super) const FIRST_SILENCE: Duration = Duration::from_secs(5);
/// What a silent peer still owes is given up after this long; then it gets one request at a time to prove itself.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Outstanding {
    pub(super) sent: Instant,
    pub(super) expected: Instant,
}

/// How far a peer is to be relied on. Orders by who is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// It delivers.
    Prompt,
    /// Its next block should have been here: it is asked for nothing more, and what is urgent is asked of others too. A
    /// peer that has gone without a word would else be given what another has just delivered in its place.
    Overdue,
    /// It has delivered nothing for so long that what it owes is taken from it.
    Silent,
}

/// What a peer has, and what it was asked for.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) has: Bitfield,
    /// How rarity counts what it has.
    pub(super) counted: Counted,
    /// Nothing that could be begun is at it. Only kept while something is wanted that nobody reads.
    pub(super) exhausted: bool,
    pub(super) may_request: bool,
    pub(super) standing: Standing,
    pub(super) pipeline: Pipeline,
    pub(super) outstanding: BTreeMap<BlockRequest, Outstanding>,
    pub(super) last_progress: Instant,
    /// Pieces it refused to send, and until when it is not asked for them again.
    pub(super) resting: BTreeMap<PieceIndex, Instant>,
}

impl Peer {
    /// A peer that has nothing yet and must not be asked.
    pub(super) fn new(now: Instant, pieces: u32) -> Self {
        Self {
            has: Bitfield::none(pieces),
            counted: Counted::ByPiece,
            exhausted: true,
            may_request: false,
            standing: Standing::Prompt,
            pipeline: Pipeline::new(),
            outstanding: BTreeMap::new(),
            last_progress: now,
            resting: BTreeMap::new(),
        }
    }

    pub(super) fn offers(&self, piece: PieceIndex) -> bool {
        self.has.get(piece) && !self.resting.contains_key(&piece)
    }

    pub(super) fn is_prompt(&self) -> bool {
        self.standing == Standing::Prompt
    }

    /// How many more blocks may be asked of it, when the queue there shall be `target` long; one as a trial, when it does
    /// not deliver.
    pub(super) fn room(&self, target: Duration) -> u32 {
        if self.is_prompt() { self.pipeline.room(target) } else { u32::from(self.outstanding.is_empty()) }
    }

    /// When its next block will be overdue; `None` while it owes nothing, or is not relied on.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let owes = self.is_prompt() && !self.outstanding.is_empty();
        Some(self.last_progress + self.pipeline.longest_pause().filter(|_| owes)?)
    }

    pub(super) fn rest_ends(&self) -> Option<Instant> {
        self.resting.values().min().copied()
    }

    /// When its silence will have lasted too long; `None` while it owes nothing.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        if self.outstanding.is_empty() {
            return None;
        }
        if self.standing == Standing::Silent {
            let oldest = self.outstanding.values().map(|outstanding| outstanding.sent).min()?;
            return Some((oldest + PROBE_PATIENCE).max(self.last_progress + SILENCE));
        }
        let patience = self.pipeline.measured_rate().map_or(FIRST_SILENCE, |rate| {
            let three_blocks = 3.0 * f64::from(BLOCK_LEN) / rate.max(1.0);
            SILENCE.max(Duration::from_secs_f64(three_blocks.min(60.0)))
        });
        Some(self.last_progress + patience)
    }
}
