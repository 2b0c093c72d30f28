//! BitTorrent as one of the gateway's protocols: sockets, trackers and the DHT around the swarm.
//!
//! [`BitTorrentProtocol`] is all that the application sees. It finds peers (trackers, DHT, hints, whoever dials us) and leads
//! them into [`swarmgate_swarm`], which does the rest. Every outgoing connection passes the guard in [`swarmgate_egress`].

mod active;
pub mod announcer;
mod details;
pub mod dht;
pub mod dialer;
mod finding;
pub mod inbound;
mod items;
mod labels;
mod lending;
pub mod listener;
mod lsd;
pub mod obfuscated;
pub mod outbound;
mod pausing;
mod peer_lists;
pub mod peer_stream;
mod pinning;
mod priority;
mod protocol;
mod queue;
mod recheck;
mod record;
pub mod route;
mod scraper;
mod seeding;
mod selection;
pub mod selection_text;
mod sources;
#[cfg(test)]
mod testing;
mod tips;
pub mod tracker_client;
mod udp_exchange;
mod upkeep;
pub mod utp;
mod wait;

pub use announcer::TrackerReport;
pub use details::{ItemFiles, Trackers};
pub use finding::FindingOptions;
pub use items::{AddItemError, Item, keep_item};
pub use labels::{MAX_LABEL_BYTES, MAX_LABELS, is_label};
pub use lsd::LsdSockets;
pub use peer_lists::ListError;
pub use pinning::PinRefused;
pub use priority::Priority;
pub use protocol::{BitTorrentOptions, BitTorrentProtocol, BitTorrentSockets, StartError};
pub use queue::QueueLimits;
pub use recheck::{Recheck, recheck};
pub use seeding::{UploadPolicy, UploadRules};
pub use selection::{SelectRefused, Selected};
pub use sources::ItemRefused;
