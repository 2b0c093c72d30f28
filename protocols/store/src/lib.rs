//! One content-addressed store for every network: memory and disk, verified in, bounded.
//!
//! A block is named by its hash ([`swarmgate_content::BlockHash`]): a piece of a v1 torrent is a SHA-1 block, its
//! `info` dictionary too, an IPFS block is whatever its CID says. Two networks that carry the same bytes share them.
//! What comes in is a [`VerifiedBlock`], and only hashing makes one; what goes out is
//! [`VerifiedBytes`](swarmgate_content::VerifiedBytes). A block may also stay where it is, in a file of somebody
//! else's: then the store keeps a [`Reference`].
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use swarmgate_content::BlockHash;
//! use swarmgate_store::{Store, StoreOptions};
//!
//! let store = Store::open(StoreOptions::in_memory(1 << 20)).await?;
//! # use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
//! let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, b"piece");
//! let hash = BlockHash::sha1(sum.as_ref().try_into()?);
//! let block = store.verifier().verify(hash, "piece".into()).await?;
//! store.put(block).await?;
//! assert_eq!(store.read(&hash, 1..3).await?.unwrap().as_ref(), b"ie");
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! # What a crash may lose
//!
//! *A process that is killed* (`kill -9`, out of memory, a panic) loses no block whose [`Store::put`] returned, no
//! reference whose [`Store::refer`] returned, no record whose [`Store::put_record`] returned, and no pin for which
//! [`Store::flush`] returned. What was being written is gone without a trace: a file is written aside and renamed when
//! whole, a row of the index is a transaction.
//!
//! *A machine that loses power* loses no such reference, record, pin or small block either, for the index is synchronised with
//! every commit. It may lose large blocks of the last half minute, or leave files with their names and lengths and not
//! their bytes: files are not synchronised one by one.
//!
//! *Either way nothing false is served.* Without the mark of a clean close, every block found is unproven: the first
//! read hashes all of it before a byte is handed out. A block that fails is deleted and reported as
//! [`StoreEvent::Evicted`], and the read finds nothing. After a clean close a block is trusted if its name, its length
//! and its file's time of change are those sealed at the close; the seal is made after everything is on the disk.
//!
//! Also lost by a kill: the order of use since the last clean close. Times of writing stand in for it.
//!
//! # The parts
//!
//! | file | is |
//! |---|---|
//! | `store` | the handle |
//! | `admission`, `reading`, `records`, `window` | how blocks come in, how bytes go out, what else is kept |
//! | `upkeep` | what an operator asks of it as a whole |
//! | `ledger`, `eviction` | the accounts, and who goes: pure |
//! | `references` | blocks in files that are not the store's |
//! | `verify` | the only maker of a [`VerifiedBlock`] |
//! | `hot` | blocks in memory |
//! | `disk`, `directory`, `files`, `database`, `manifest`, `volume` | blocks on disk |
//!
//! # Why is there no fsync for each block?
//!
//! Because a block can be had again, and its name tells whether it is whole. An fsync for each 256 KiB would cost more
//! than all the rest; hashing again after a power loss costs a second for each 1.5 GiB, spread over the first reads.
//!
//! # Why does the index pay for one, then?
//!
//! A commit that redb does not synchronise lives in the process's memory: a kill would lose it. Those who come at the
//! same time share a commit, so a burst of small blocks pays for one in hundreds.
//!
//! # Why can the budget be exceeded by nothing?
//!
//! A put first claims room in the ledger, which names its victims; it writes when they are off the disk; and only then
//! does it count. The sums that prove it are at the head of `ledger`. The budget counts the lengths of blocks; what the
//! file system and the index add is said at [`StoreOptions::max_bytes`], and bounded by
//! [`StoreOptions::min_free_bytes`]. The index reuses the pages of deleted rows and does not give them back.
//!
//! # Why does a put wait instead of saying "full"?
//!
//! When others' puts hold the room just now, it comes free in a moment: as blocks that may be evicted, or given back.
//! [`PutError::Full`] means that pins and windows hold everything, and only an operator or a reader can change that.
//!
//! # Why files and not one big file?
//!
//! Eviction gives the space back at once, a crash can damage one block only, and the name and length of each are known
//! from the directory alone: there is no index to lose. Small blocks are the exception, for a file costs more than they
//! do.
//!
//! # Why is a referenced block hashed at every read?
//!
//! Its file belongs to somebody who may write to it at any moment, under the same length and the same time of change.
//! So nothing that was proven earlier counts: a read hashes all of the block, and hands out the bytes that it hashed.
//! The length, the time and the inode that are kept beside the path only say why a block was lost. What was read stays
//! in the memory of the store, so that the next range of it costs nothing.
//!
//! # What becomes of a reference?
//!
//! It may end in zeros that are in no file, the padding of a torrent's piece: they are hashed with the rest and lie
//! nowhere. It comes with a root that pins it and goes with the last one: without a pin it would be a promise that nobody asked
//! for, about a file that nobody watches. It is not evicted, for it takes no room. A copy in the store goes before it,
//! and stays as long as it is pinned. A block whose bytes have changed is dropped for good; one whose file is not
//! there, or may not be read, is set aside until the next start, because disks are mounted late and rights are mended.
//! Either way it is not here, so whoever reads may ask the network. References that a crash has left without a pin are
//! dropped at start.

mod admission;
mod database;
mod directory;
mod disk;
mod error;
mod eviction;
mod files;
mod hot;
mod inner;
mod key;
mod ledger;
mod manifest;
mod options;
mod reading;
mod records;
mod references;
mod store;
mod upkeep;
mod verify;
mod volume;
mod window;

pub use error::{OpenError, PutError, ReadError, RecordError, ReferError, StorageFault};
pub use options::{
    Amount, EVENT_CAPACITY, MAX_BLOCK_BYTES, MAX_EVENT_BLOCKS, MAX_ROW_BYTES, StoreEvent, StoreOptions, Usage,
};
pub use records::{MAX_RECORD_BYTES, MAX_RECORD_KEY_BYTES};
pub use references::{MAX_PARTS, MAX_REFERENCES, Origin, Part, Reference};
pub use store::Store;
pub use verify::{HASH_THREADS, NamedBytes, Namer, VerifiedBlock, Verifier};
pub use volume::free_bytes_at;
pub use window::Window;
