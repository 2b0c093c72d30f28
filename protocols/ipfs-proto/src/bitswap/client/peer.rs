//! One peer: what it was asked for, and what is to be said to it next.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use swarmgate_content::{BlockHash, Cid};

use super::flow::Flow;
use super::want::WantId;
use crate::bitswap::{Version, Want};

/// Something counts as late this long after it was expected, within bounds about two round trips.
const LATE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];
/// A want is lost when the peer has delivered this much of what was asked for later.
const SKIPPED_BYTES: u64 = 1 << 20;
/// How many of the oldest requests at a peer are looked at for being late: it serves about in their order.
const OLDEST: usize = 4;
/// A peer that went silent rests for a second, and twice as long each further time, up to this.
const MAX_REST: Duration = Duration::from_secs(32);

/// A want-block at a peer.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) sent: Instant,
    pub(super) expected: Instant,
    /// Estimated length, as counted in [`Flow`].
    pub(super) len: u64,
    /// How much the peer will have delivered, in all, when this one has come.
    pub(super) due_after: u64,
    pub(super) late: bool,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) version: Version,
    pub(super) flow: Flow,
    pub(super) asked: BTreeMap<WantId, Asked>,
    /// Said before [`Self::wants`], as a message of its own.
    pub(super) cancels: BTreeMap<BlockHash, Cid>,
    /// What it is yet to hear of. Each of these wants lists the peer as told, and not yet sent.
    pub(super) wants: BTreeMap<WantId, Want>,
    /// When it last sent something that was asked for.
    pub(super) last_progress: Instant,
    /// Times in a row that it fell silent.
    pub(super) silences: u32,
    /// Until when others are preferred.
    pub(super) resting: Option<Instant>,
    /// It sent what nobody asked for: nothing is asked of it any more.
    pub(super) banned: bool,
}

impl Peer {
    pub(super) const fn new(now: Instant, version: Version, max_budget_bytes: u64) -> Self {
        Self {
            version,
            flow: Flow::new(max_budget_bytes),
            asked: BTreeMap::new(),
            cancels: BTreeMap::new(),
            wants: BTreeMap::new(),
            last_progress: now,
            silences: 0,
            resting: None,
            banned: false,
        }
    }

    pub(super) fn ask(&mut self, now: Instant, id: WantId, len: u64) {
        if self.asked.is_empty() {
            self.last_progress = now;
        }
        let expected = now + self.flow.completion(len);
        let due_after = self.flow.delivered() + self.flow.outstanding_bytes() + len;
        self.flow.on_request(now, len);
        self.asked.insert(id, Asked { sent: now, expected, len, due_after, late: false });
    }

    /// Forgets that it was asked; tells when and what for, if it was.
    pub(super) fn unask(&mut self, id: WantId) -> Option<Asked> {
        let asked = self.asked.remove(&id)?;
        self.flow.on_withdrawn(asked.len);
        Some(asked)
    }

    /// It sent something that was asked for.
    pub(super) const fn on_progress(&mut self, now: Instant) {
        self.last_progress = now;
        self.silences = 0;
        self.resting = None;
    }

    pub(super) fn on_silence(&mut self, now: Instant) {
        self.flow.on_silence();
        let rest = Duration::from_secs(1 << self.silences.min(5)).min(MAX_REST);
        self.silences += 1;
        self.resting = Some(now + rest);
    }

    /// When its silence will have lasted too long; `None` while it owes nothing.
    pub(super) fn patience_ends(&self) -> Option<Instant> {
        (!self.asked.is_empty()).then(|| self.last_progress + self.flow.patience())
    }

    fn late_after(&self) -> Duration {
        (2 * self.flow.rtt()).clamp(LATE[0], LATE[1])
    }

    /// When the next request will be late.
    pub(super) fn next_late(&self) -> Option<Instant> {
        let waiting = self.asked.values().filter(|asked| !asked.late).take(OLDEST);
        waiting.map(|asked| asked.expected + self.late_after()).min()
    }

    /// Marks what is late by now: all of it, for what is among the oldest changes with everything that is withdrawn.
    pub(super) fn mark_late(&mut self, now: Instant) {
        let late_after = self.late_after();
        for asked in self.asked.values_mut() {
            asked.late |= asked.expected + late_after <= now;
        }
    }

    /// What it passed over: it has delivered what was asked for long after.
    pub(super) fn skipped(&self, now: Instant) -> Vec<WantId> {
        let (retry, delivered) = (self.flow.retry_after(), self.flow.delivered());
        let lost = |asked: &Asked| asked.due_after + SKIPPED_BYTES <= delivered && asked.sent + retry <= now;
        self.asked.iter().take(OLDEST).filter(|(_, asked)| lost(asked)).map(|(id, _)| *id).collect()
    }

    /// How long until a request of this peer is met, as things are now.
    pub(super) fn remaining(&self, now: Instant, asked: &Asked) -> Duration {
        let ahead = self.flow.span(asked.due_after.saturating_sub(self.flow.delivered()));
        // What is overdue has no reason to come soon: as long again.
        ahead.max(now.saturating_duration_since(asked.expected))
    }
}
