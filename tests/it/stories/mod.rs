//! The product's acceptance stories: the whole gateway in this process, real TCP peers beside it, HTTP in front of it.
//!
//! A file tells one group. What can only be measured where nothing else runs is told in a process of its own
//! ([`swarmgate_tests::measure::alone`]).

#![expect(clippy::unwrap_used, reason = "in a story, what fails to be there is the failure, helpers included")]

mod adding;
mod btpk;
mod cache;
mod coalescing;
mod corruption;
pub(crate) mod deploy;
mod disconnect;
pub(crate) mod documents;
mod finding;
mod get;
mod giving;
mod hostile_input;
mod hybrid;
mod hybrid_view;
mod invariants;
mod items;
mod lifecycle;
mod pace;
mod players;
mod policy;
mod private;
mod ranges;
mod reload;
mod restart;
mod scale;
mod slow_client;
mod statistics;
mod tracker_clients;
mod trackers;
mod transports;
mod twins;
mod webrtc_cycles;
mod webtorrent;

/// How many MiB a story of bulk moves: `usual`, or what `SWARMGATE_STORY_MIB` says for a run at full size.
fn bulk_mib(usual: usize) -> usize {
    std::env::var("SWARMGATE_STORY_MIB").ok().map_or(usual, |mib| mib.parse().unwrap())
}

/// 1 MiB.
const MIB: usize = 1 << 20;
/// 1 KiB.
const KIB: usize = 1 << 10;
