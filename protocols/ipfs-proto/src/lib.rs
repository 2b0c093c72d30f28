//! IPFS as rules. What comes in from peers, servers, clients and operators is read here, and what to do about it is
//! decided here:
//!
//! * [`block`], [`codec`], [`dag_pb`], [`unixfs`]: a block, and what it says.
//! * [`walk`], [`directory`], [`hamt`], [`path`], [`export`]: from a name to its blocks, and to what they mean;
//!   [`leaf`]: from bytes back to their block.
//! * [`build`]: from files to blocks; [`car`]: blocks in a file or a stream.
//! * [`bitswap`]: blocks by their CID from peers, and for peers.
//! * [`content_path`]: what a client asks for, in every spelling.
//! * [`ipns`] and [`dnslink`]: where a name points.
//! * [`routing`]: who has a block, as HTTP servers tell it.
//! * [`denylist`]: what is not served; [`allowlist`]: what alone is.
//!
//! What is absent here: async, sockets, files, a clock, randomness. Time is an argument, and nothing depends on the
//! order of a hash map, so a history replays as it was.
//!
//! Three verbs are common to the machines over a DAG: `poll_want` gives the next CID to fetch, each once; `provide`
//! takes a block; the third yields: bytes, entries, an answer, blocks. After every `provide` and every yield there may
//! be new wants.
//!
//! # Who checks hashes?
//! [`block::check`] where a block came under a name, [`block::identify`] where it came without one, and nobody else:
//! machines take [`swarmgate_content::VerifiedBytes`] alone, so a block that nobody checked cannot get in, and what
//! [`walk::FileWalk`] yields can go to a client as it is.
//!
//! # Why are sizes believed, then?
//! They are not. `blocksizes` say where to look, before anything is fetched; a block that turns out shorter or longer
//! than its parent said ends the walk with an error that names it. A DAG that contradicts itself has no right bytes.

pub mod allowlist;
pub mod bitswap;
pub mod block;
pub mod build;
pub mod car;
pub mod codec;
pub mod content_path;
pub mod dag_pb;
pub mod denylist;
pub mod directory;
pub mod dnslink;
pub mod export;
pub mod hamt;
pub mod ipns;
pub mod leaf;
pub mod path;
mod protobuf;
pub mod routing;
pub mod unixfs;
pub mod walk;

#[cfg(test)]
mod testing;
