//! WebTorrent as one of the gateway's protocols: browsers are peers of the same swarms, over WebRTC.
//!
//! [`WebTorrentProtocol`] is all that the application sees. [`rtc`] makes connections, `tracking` finds whom to connect
//! to, [`hub`] is a tracker for others; a connected peer is led into [`swarmgate_swarm`], where it is a peer like any.

pub mod hub;
mod introduce;
mod meeting;
mod protocol;
pub mod rtc;
mod tracking;

pub use protocol::{StartError, WebTorrentOptions, WebTorrentProtocol};
