//! Where the programs of the interop stories are, told by the environment; and what happens when one is not there.
//!
//! `cargo xtask` installs the programs and sets these variables. Run without it, a story that misses its program says
//! so on standard error and passes; under `CI=true` it fails, because a skipped proof is no proof.

use std::path::PathBuf;

/// A program that stories need and this repository does not build from its own sources, or not for tests alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The gateway itself.
    Swarmgate,
    /// A Python with libtorrent.
    Python,
    /// aria2c.
    Aria2,
    /// rqbit.
    Rqbit,
    /// transmission-daemon.
    Transmission,
    /// Node.
    Node,
    /// A folder of packages for Node, webtorrent among them.
    NodeModules,
    /// Chromium.
    Chromium,
    /// coturn.
    Turnserver,
    /// nginx.
    Nginx,
    /// Caddy.
    Caddy,
    /// Kubo's `ipfs`.
    Kubo,
    /// A folder of packages for Node, Helia among them, and the Node that runs them.
    HeliaModules,
    /// schemathesis, which holds an API against its description.
    Schemathesis,
    /// The tests of the IPFS gateway specifications.
    Conformance,
    /// nftables' `nft`, with which routers are made.
    Nft,
    /// miniupnpd, which forwards ports by nftables.
    Miniupnpd,
    /// tcpdump.
    Tcpdump,
    /// promtool, of Prometheus.
    Promtool,
    /// cargo-deb.
    CargoDeb,
    /// mpv.
    Mpv,
    /// ffmpeg.
    Ffmpeg,
}

impl Program {
    /// The variable that holds the program's path.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Swarmgate => "SWARMGATE_BIN",
            Self::Python => "SWARMGATE_PYTHON",
            Self::Aria2 => "SWARMGATE_ARIA2",
            Self::Rqbit => "SWARMGATE_RQBIT",
            Self::Transmission => "SWARMGATE_TRANSMISSION",
            Self::Node => "SWARMGATE_NODE",
            Self::NodeModules => "SWARMGATE_NODE_MODULES",
            Self::Chromium => "SWARMGATE_CHROMIUM",
            Self::Turnserver => "SWARMGATE_TURNSERVER",
            Self::Nginx => "SWARMGATE_NGINX",
            Self::Caddy => "SWARMGATE_CADDY",
            Self::Kubo => "SWARMGATE_KUBO",
            Self::HeliaModules => "SWARMGATE_HELIA_MODULES",
            Self::Schemathesis => "SWARMGATE_SCHEMATHESIS",
            Self::Conformance => "SWARMGATE_CONFORMANCE",
            Self::Nft => "SWARMGATE_NFT",
            Self::Miniupnpd => "SWARMGATE_MINIUPNPD",
            Self::Tcpdump => "SWARMGATE_TCPDUMP",
            Self::Promtool => "SWARMGATE_PROMTOOL",
            Self::CargoDeb => "SWARMGATE_CARGO_DEB",
            Self::Mpv => "SWARMGATE_MPV",
            Self::Ffmpeg => "SWARMGATE_FFMPEG",
        }
    }

    /// The program's path, or `None` after saying that the story is skipped.
    pub fn find(self) -> Option<PathBuf> {
        let variable = self.variable();
        if let Some(path) = std::env::var_os(variable).filter(|v| !v.is_empty()) {
            return Some(PathBuf::from(path));
        }
        skip(&format!("{variable} is not set; `cargo xtask interop` sets it"));
        None
    }
}

/// Says that a story is skipped, and why.
///
/// # Panics
/// Under CI.
pub fn skip(why: &str) {
    assert!(!in_ci(), "{why}: under CI a story must not be skipped");
    eprintln!("SKIPPED: {why}");
}

/// Whether a skip counts as a failure.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}
