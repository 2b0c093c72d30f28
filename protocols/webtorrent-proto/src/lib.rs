//! WebTorrent as rules: how two peers that cannot dial each other meet.
//!
//! A browser has no socket to listen on. Its peers exchange an *offer* and an *answer* (SDP, RFC 8829) first, and a tracker
//! carries them: over one WebSocket a client announces itself with a few offers, the tracker relays each to another
//! member of the swarm, and that one's answer comes back the same way. There is no specification; [`message`] is the
//! format as the implementations in use speak it.
//!
//! * [`message`]: the JSON, both ways.
//! * [`signaller`]: the client's part, for one torrent on one tracker; [`backoff`] for the socket they share.
//! * [`glare`]: which connection is kept when two peers would have two.
//! * [`swarm_table`]: the tracker's part; [`classic`] for clients that announce to it over HTTP.
//! * [`sdp`]: the descriptions, read, bounded and written anew.
//! * [`routes`]: whose a datagram on a socket is that many connections share, with the little of [`stun`] that tells it.
//!
//! What is absent here: async, sockets, a clock, WebRTC itself. Time and seeds are arguments, so that one seed replays a whole
//! swarm. No session description is ever printed: it holds addresses of its sender and a password.

pub mod backoff;
pub mod classic;
pub mod glare;
pub mod message;
pub mod pace;
pub mod routes;
pub mod sdp;
pub mod signaller;
pub mod stun;
pub mod swarm_table;

#[cfg(test)]
mod testing;
