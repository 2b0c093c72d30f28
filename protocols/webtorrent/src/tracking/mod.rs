//! Trackers as their client: which torrents are members where, over one conversation a tracker.
//!
//! [`registry`] has a [`client`] for each tracker that some torrent wants; a client's torrents are its [`member`]s, whose
//! rules are [`swarmgate_webtorrent_proto::signaller`]. A [`wire`] carries the messages.

pub(crate) mod client;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod registry;
pub(crate) mod wire;
