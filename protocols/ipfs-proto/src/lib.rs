//! IPFS as rules: blocks and links, UnixFS, the walk from bytes to blocks, CAR, Bitswap, IPNS records.
//!
//! What is absent here: async, sockets, files, a clock, randomness. A machine says which blocks it wants next, is given
//! them in any order, and yields what it was made for; who fetches them, from where and when is not its matter.
//!
//! Three verbs are common to the machines over a DAG: `poll_want` gives the next CID to fetch, each once; `provide`
//! takes a block; the third yields: bytes, entries, an answer, blocks. After every `provide` and every yield there may
//! be new wants.
//!
//! # Who checks hashes?
//! [`block::check`], and nobody else: machines take [`swarmgate_content::VerifiedBytes`] alone, so a block that nobody
//! checked cannot get in, and what [`walk::FileWalk`] yields can go to a client as it is.
//!
//! # Why are sizes believed, then?
//! They are not. `blocksizes` say where to look, before anything is fetched; a block that turns out shorter or longer
//! than its parent said ends the walk with an error that names it. A DAG that contradicts itself has no right bytes.

pub mod block;
pub mod build;
pub mod car;
pub mod codec;
pub mod dag_pb;
pub mod directory;
pub mod export;
pub mod hamt;
pub mod path;
mod protobuf;
pub mod unixfs;
pub mod walk;

#[cfg(test)]
mod testing;
