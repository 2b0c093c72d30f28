//! WebRTC connections on loopback: real sockets, ICE, DTLS and SCTP, two managers in one process or a foreign peer.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod buffers;
mod foreign;
mod gather;
mod guard;
mod kit;
mod leaks;
mod limits;
mod transfer;
