//! When to upload, and for how long: the policy of all items, and those that items have of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarmgate_bittorrent_proto::choker::TurnOrder;

/// When to upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UploadPolicy {
    /// Never.
    Off,
    /// While the content is active: being read, within its grace, or added to stay.
    #[default]
    WhileActive,
    /// While it is being read, and then until as much was uploaded as was downloaded, so many times over.
    Ratio {
        /// How many times.
        ratio: f64,
        /// The longest time after the last reader, in seconds.
        max_secs: u64,
    },
    /// Always.
    Forever,
}

/// How uploading is done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UploadRules {
    /// When, where an item has no policy of its own.
    pub policy: UploadPolicy,
    /// To how many peers of one torrent at once, to begin with.
    pub slots: usize,
    /// To whom of those that give nothing in return.
    pub turns: TurnOrder,
}

impl Default for UploadRules {
    fn default() -> Self {
        Self { policy: UploadPolicy::default(), slots: 8, turns: TurnOrder::default() }
    }
}

/// What a policy is applied to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Standing {
    /// How long nobody has read it; `None` while somebody does.
    pub(crate) idle_for: Option<Duration>,
    /// Bytes of blocks sent and received in all its life.
    pub(crate) uploaded: u64,
    pub(crate) downloaded: u64,
    /// All of it, once known.
    pub(crate) total_len: Option<u64>,
}

impl UploadPolicy {
    /// The word that the API and the configuration say it by.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::WhileActive => "while-active",
            Self::Ratio { .. } => "ratio",
            Self::Forever => "forever",
        }
    }

    /// Whether an item in this standing is uploaded, while it is active.
    pub(crate) fn uploads(self, standing: &Standing) -> bool {
        match self {
            Self::Off => false,
            Self::WhileActive | Self::Forever => true,
            Self::Ratio { .. } => standing.idle_for.is_none() || self.is_owed(standing),
        }
    }

    /// Whether an item that nobody reads stays active for the sake of its swarm alone.
    pub(crate) fn stays(self, standing: &Standing) -> bool {
        match self {
            Self::Off | Self::WhileActive => false,
            Self::Ratio { .. } => self.is_owed(standing),
            Self::Forever => true,
        }
    }

    /// Whether the swarm has not had back yet what it is to have.
    fn is_owed(self, standing: &Standing) -> bool {
        let Self::Ratio { ratio, max_secs } = self else { return false };
        // What came from elsewhere is given as if the swarm had given it.
        let taken = if standing.downloaded > 0 { standing.downloaded } else { standing.total_len.unwrap_or(u64::MAX) };
        let in_time = standing.idle_for.is_none_or(|idle| idle < Duration::from_secs(max_secs));
        in_time && (standing.uploaded as f64) < ratio * taken as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const RATIO: UploadPolicy = UploadPolicy::Ratio { ratio: 1.5, max_secs: 7200 };

    fn standing(idle_for: Option<Duration>, uploaded: u64, downloaded: u64) -> Standing {
        Standing { idle_for, uploaded, downloaded, total_len: Some(1000) }
    }

    #[test]
    fn each_policy_does_as_its_name_says() {
        let (read, idle) = (standing(None, 0, 100), standing(Some(HOUR), 0, 100));
        let does = |policy: UploadPolicy| (policy.uploads(&read), policy.uploads(&idle), policy.stays(&idle));
        assert_eq!(does(UploadPolicy::Off), (false, false, false));
        assert_eq!(does(UploadPolicy::WhileActive), (true, true, false));
        assert_eq!(does(UploadPolicy::Forever), (true, true, true));
        assert_eq!(does(RATIO), (true, true, true));
    }

    #[test]
    fn a_ratio_ends_when_it_is_reached_or_its_time_is_over() {
        assert!(RATIO.stays(&standing(Some(HOUR), 149, 100)));
        assert!(!RATIO.stays(&standing(Some(HOUR), 150, 100)));
        assert!(!RATIO.uploads(&standing(Some(HOUR), 150, 100)));
        assert!(RATIO.uploads(&standing(None, 150, 100)), "who reads is the better known for giving");
        assert!(!RATIO.stays(&standing(Some(3 * HOUR), 0, 100)));
        assert!(RATIO.stays(&standing(Some(HOUR), 1400, 0)), "of what came from elsewhere its length counts");
        assert!(!RATIO.stays(&standing(Some(HOUR), 1500, 0)));
    }
}
