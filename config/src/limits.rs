//! The options of how fast clients are served, and how often they may ask.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Rate;

/// How fast clients are served, and how often they may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What all clients together are sent of contents, as `20MiB/s`. 0: no limit.
    pub bandwidth: Rate,
    /// What all clients together are sent of one content. 0: no limit.
    pub item_bandwidth: Rate,
    /// What one client is sent of contents: an IPv4 address, or the /64 of an IPv6 address. Behind a reverse proxy all are
    /// one client. 0: no limit.
    pub client_bandwidth: Rate,
    /// How many requests a minute one client may send that is not on this machine and presents no credentials; more are
    /// answered 429. A minute's worth may come at once. Raise it where many people share an address. 0: no limit.
    pub requests_per_minute: u32,
    /// How many torrents a minute that the gateway does not know yet such a client may ask for or add; more are answered
    /// 429. 0: no limit.
    pub new_items_per_minute: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bandwidth: Rate::default(),
            item_bandwidth: Rate::default(),
            client_bandwidth: Rate::default(),
            requests_per_minute: 600,
            new_items_per_minute: 20,
        }
    }
}
