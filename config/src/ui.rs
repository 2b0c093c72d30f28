//! The options of the pages for browsers.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pages for browsers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ui {
    /// The file `webtorrent.min.js` of a webtorrent that you installed (`npm install webtorrent`, then
    /// `node_modules/webtorrent/dist/webtorrent.min.js`), at most 8 MiB. With it the page of a torrent offers to watch as a
    /// peer: the viewer's browser joins the swarm over WebRTC. It is read at the start. Empty: none is offered, and no code
    /// of others is ever loaded.
    pub webtorrent: PathBuf,
}
