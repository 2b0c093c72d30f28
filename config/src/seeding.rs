//! The options of giving and taking: what is uploaded to peers, to whom, how fast, and which contents have their turn.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::{Rate, Span};

/// What is uploaded to peers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Seeding {
    /// When to upload. An item may have a policy of its own, which the API sets.
    pub policy: SeedingPolicy,
    /// How much to upload of what was downloaded, with `policy = "ratio"`. 1.0 gives back what was taken.
    pub ratio: f64,
    /// The longest time that a content is uploaded for after its last reader left, with `policy = "ratio"`.
    pub max_time: Span,
    /// Peers of one torrent that are uploaded to at once, to begin with; fewer where `upload_limit` is narrow. While others
    /// give something in return, the number that earns most is found by trial: two at least, sixteen times as many at most.
    /// While nobody does, as when the torrent is complete, it is this number, and up to sixteen times as many while uploads
    /// are fast.
    pub upload_slots: usize,
    /// Who is uploaded to of those that give nothing in return.
    pub turns: Turns,
    /// What is sent to all peers together, as `2MiB/s`. 0: no limit.
    pub upload_limit: Rate,
    /// What all peers together send, as `2MiB/s`. 0: no limit.
    pub download_limit: Rate,
    /// What is sent to the peers of one torrent. The smaller of the two wins. 0: no limit.
    pub item_upload_limit: Rate,
    /// What the peers of one torrent send. The smaller of the two wins. 0: no limit.
    pub item_download_limit: Rate,
}

/// When to upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeedingPolicy {
    /// Never.
    Off,
    /// While the content is active: being read, within its grace, or added to stay.
    WhileActive,
    /// While it is being read, and then until `ratio` or `max_time` is reached.
    Ratio,
    /// Always. A content that was read once stays active, as long as there is a place for it.
    Forever,
}

/// Who is uploaded to of those that give nothing in return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Turns {
    /// Whoever has waited longest.
    RoundRobin,
    /// Those who take fastest: more is given, to fewer.
    Fastest,
}

impl Default for Seeding {
    fn default() -> Self {
        Self {
            policy: SeedingPolicy::WhileActive,
            ratio: 1.0,
            max_time: Span::from_secs(24 * 3600),
            upload_slots: 8,
            turns: Turns::RoundRobin,
            upload_limit: Rate::default(),
            download_limit: Rate::default(),
            item_upload_limit: Rate::default(),
            item_download_limit: Rate::default(),
        }
    }
}
