//! Test kit and the integration stories.
//!
//! The kit gives a story what it needs to be told against real programs on loopback: deterministic payloads and their
//! torrents, a tracker, foreign BitTorrent clients, the gateway itself, and guards that end what they started. A kit
//! function that cannot keep its promise panics with a sentence: inside a test that sentence is the failure.
//!
//! Absent by design: global registries, fixed ports, and anything that ends a process it did not start.

mod driver;
pub mod gateway;
pub mod hostile;
pub mod http;
pub mod measure;
pub mod node;
pub mod payload;
pub mod peers;
pub mod ports;
pub mod process;
pub mod programs;
pub mod raw;
pub mod sim;
pub mod torrent;
pub mod tracker;
pub mod wait;
pub mod webtorrent;
