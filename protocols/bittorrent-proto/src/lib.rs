//! BitTorrent as rules: codecs and state machines.
//!
//! What is absent here: async, sockets, files, a clock, randomness. Time and seeds are arguments, so that one seed
//! replays a whole swarm.

pub mod announce;
pub mod bencode;
pub mod bitfield;
pub mod choker;
pub mod dht;
pub mod exchange;
pub mod extension;
pub mod geometry;
pub mod handshake;
pub mod holepunch;
pub mod lsd;
pub mod magnet;
pub mod merkle;
pub mod metainfo;
pub mod mse;
pub mod peer_book;
pub mod peer_priority;
pub mod picker;
mod seed;
pub mod torrent;
pub mod tracker;
pub mod wire;

#[cfg(test)]
mod testing;
