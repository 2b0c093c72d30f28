//! The options of fetching one content over several networks. Each doc comment is the option's entry in the manual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Span;

/// One content over every network that has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hybrid {
    /// Whether a content is fetched over several networks at all. Without it each network serves its own contents.
    pub enabled: bool,
    /// Sources of one content that are asked at the same time: swarms, IPFS, and each web server by itself.
    pub max_sources: usize,
    /// Bytes that may be asked of a second source because the first is late, in percent of all. 0: never. At most 5.
    pub hedge_percent: u32,
    /// How much of its time is fetched ahead of a reader, as far as that is known. Raise it for links that stumble.
    pub buffer: Span,
    /// How gladly swarms are asked, in percent: at 200 they are used as though they were twice as fast. From 1 to
    /// 100000. WebRTC peers are in the swarms.
    pub weight_bt: u32,
    /// How gladly IPFS is asked, in percent as `weight_bt`.
    pub weight_ipfs: u32,
    /// How gladly web seeds and mirrors are asked, in percent as `weight_bt`.
    pub weight_http: u32,
    /// How much later a block may come from elsewhere before it is asked of swarms: for links that cost money. Given up
    /// when a reader would have to wait. `0s`: swarms cost nothing.
    pub cost_bt: Span,
    /// The same for IPFS.
    pub cost_ipfs: Span,
    /// The same for web seeds and mirrors.
    pub cost_http: Span,
}

impl Default for Hybrid {
    fn default() -> Self {
        Self {
            enabled: true,
            max_sources: 8,
            hedge_percent: 5,
            buffer: Span::from_secs(12),
            weight_bt: 100,
            weight_ipfs: 100,
            weight_http: 100,
            cost_bt: Span::from_secs(0),
            cost_ipfs: Span::from_secs(0),
            cost_http: Span::from_secs(0),
        }
    }
}
