//! The options of how fast clients are served.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Rate;

/// How fast clients are served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What all clients together are sent of contents, as `20MiB/s`. 0: no limit.
    pub bandwidth: Rate,
    /// What all clients together are sent of one content. 0: no limit.
    pub item_bandwidth: Rate,
    /// What one client is sent of contents: an IPv4 address, or the /64 of an IPv6 address. Behind a reverse proxy all are
    /// one client. 0: no limit.
    pub client_bandwidth: Rate,
}
