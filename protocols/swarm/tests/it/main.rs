//! Stories of whole swarms, over streams in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot set up its story fails")]

mod kit;
mod loan;
mod twins;
mod two_nodes;
mod v2;
