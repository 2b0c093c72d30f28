//! `HybridProtocol`: one content over every network that has it, each byte verified by the name that it was asked for.
//!
//! * [`protocol`]: what the application registers; which contents are worth a plan.
//! * [`book`]: which names are the same bytes, kept in the index.
//! * [`publish`]: a file or folder becomes a torrent and a DAG, from one read.
//! * [`manifest`]: one publisher's signed word on which names are the same bytes.
//! * `fetch`: one content's plan (`swarmgate-hybrid-rules`) and the task that does what it says.
//! * `torrents`, `dags`: a content by its infohash, and by its CID: what its units are and who may have them.
//! * `inner`: what fetches share, and which are under way.
//! * `steer`: which networks may be asked; `totals`: what they have delivered; `outside`: whom a fetch tells.
//! * `lane`, `lanes`, `mirror`: the sources: a swarm, IPFS, web servers; `segments`: pieces out of files;
//!   `given`: what came from elsewhere; `crowd`: whether anybody is there.
//!
//! ```text
//! client ── reader ── Place ─┐                        ┌─ SwarmLane ── TorrentLoan ── BitTorrent's swarm
//!                            ├─ Fetch: FetchPlan, task ├─ PieceLane ── files of IPFS, of web servers ── admit
//! client ── reader ── Place ─┘                        └─ LeafLane, IpfsLane ── the same for leaves of a DAG
//! ```
//!
//! # Why is it a protocol, when it speaks none?
//! Because then nobody above knows of it: the manager asks whoever stands highest and supports an id. Unregister it, and
//! each network serves its own contents as before.
//!
//! # Why does a content with one source not go through a plan?
//! Because a plan of one has nothing to decide, and its reader would pay for the detour.

pub mod book;
mod crowd;
mod dags;
mod fetch;
mod given;
mod inner;
mod lane;
mod lanes;
pub mod manifest;
mod mirror;
mod outside;
pub mod protocol;
pub mod publish;
mod segments;
mod steer;
mod torrents;
mod totals;

pub use book::BindingBook;
pub use protocol::{FetchStatus, HybridParts, HybridProtocol};
pub use totals::HybridTotals;
