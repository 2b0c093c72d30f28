//! Test kit and the integration stories.
//!
//! The kit gives a story what it needs to be told against real programs on loopback: deterministic payloads and their
//! torrents, a tracker, foreign clients of every network, the gateway itself, and guards that end what they started. A
//! kit function that cannot keep its promise panics with a sentence: inside a test that sentence is the failure.
//!
//! Absent by design: global registries, fixed ports, and anything that ends a process it did not start.

pub mod caddy;
pub mod capture;
pub mod conformance;
pub mod dag;
pub mod dht_stub;
mod driver;
pub mod ffmpeg;
pub mod gateway;
pub mod helia;
pub mod hostile;
pub mod http;
pub mod kubo;
pub mod measure;
pub mod mpv;
pub mod namespace;
pub mod nginx;
pub mod node;
pub mod payload;
pub mod peers;
pub mod player;
pub mod ports;
pub mod process;
pub mod programs;
pub mod raw;
pub mod sim;
pub mod socks;
pub mod spoiler;
pub mod throttle;
pub mod torrent;
pub mod torrent_v2;
pub mod town;
pub mod tracker;
pub mod udp_door;
pub mod visitor;
pub mod wait;
pub mod web;
pub mod webtorrent;
