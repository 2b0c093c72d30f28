//! A file or folder becomes a torrent and a DAG of UnixFS, from one read of its bytes.
//!
//! `tree` looks at what there is. `layout` says which pieces lie in which files, and what is to be read. `pipeline`
//! reads: one thread reads, one hashes pieces, one hashes leaves, with a few MiB between them. What they made comes
//! back to `run`, and goes into the store in batches: references to where it lies, or copies. `journal` remembers the
//! files that are done, so that a run that was cut short is gone on with.
//!
//! Until the end everything is held under a name of its own in the store; then [`Draft::seal`] pins what the torrent
//! needs as `publish:{infohash}` and lets the hold go. The DAG has the pin that `add` gives one, from whoever called.
//!
//! # What becomes of what?
//! * Hidden files are files, and empty ones too. Both are in the torrent and in the DAG.
//! * Symlinks below the path are links in the DAG, as `add` makes them, and are not in the torrent (BEP 3 has none); the
//!   path itself is followed. Empty directories are in the DAG alone too.
//! * Sockets, pipes and devices, what may not be read, and names that are not UTF-8 (BEP 3), or that torrents may not
//!   have, are errors that name the file. So is a folder without a single byte: it has no piece.
//! * A file that changes before all is done is an error that names it, and nothing is published.
//!
//! So the CID is the one that `add` gives for the same path.
//!
//! # Why is the torrent's order that of sorted paths?
//! Because then the same folder has the same infohash everywhere, and a directory's files lie beside each other.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use swarmgate_bittorrent_proto::metainfo::{Metainfo, TorrentBuilder};
use swarmgate_store::Store;

mod draft;
mod fault;
mod journal;
mod layout;
mod pipeline;
mod run;
mod tree;

pub use draft::{Draft, PublishedFile, root_name};
pub use fault::PublishError;
use journal::Journal;
use layout::Layout;
use run::Run;
use tree::{Entry, Tree};

/// Shortest piece, in bytes: a block, which is what peers ask for.
pub const MIN_PIECE_BYTES: u32 = 16 << 10;
/// Longest piece, in bytes. Many clients refuse longer ones, and a piece is verified whole.
pub const MAX_PIECE_BYTES: u32 = 16 << 20;
/// How many pieces a torrent should have at most, where its pieces' length is chosen here.
const PIECES: u64 = 2_000;
/// References or blocks that go into the store in one batch.
const BATCH: usize = 512;

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The file or folder. Followed when it is a symlink.
    pub path: PathBuf,
    /// The torrent's name; the path's last part when not given.
    pub name: Option<String>,
    /// Length of a piece in bytes: a power of two from [`MIN_PIECE_BYTES`] to [`MAX_PIECE_BYTES`]. Not given, it is the
    /// shortest with which the torrent has at most 2,000 pieces.
    pub piece_len: Option<u32>,
    /// The longest piece that is chosen when none is given, in bytes: what the store keeps in memory of a reference.
    pub longest_chosen: u32,
    /// Trackers, each a tier of its own.
    pub trackers: Vec<String>,
    /// Web seeds (BEP 19).
    pub web_seeds: Vec<String>,
    /// Copy the bytes into the store, once as pieces and once as leaves, rather than refer to where they lie.
    pub copy: bool,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done, those of an earlier run too.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Reads what lies at a path and makes a torrent and a DAG of it; `progress` is told now and then. Interrupted (dropped,
/// killed) and called again with the same options, it goes on after the files that were done and have not changed.
///
/// # Errors
/// [`PublishError`]; nothing of it is held any more then.
pub async fn publish(
    store: &Store,
    options: &PublishOptions,
    progress: impl FnMut(Progress) + Send,
) -> Result<Draft, PublishError> {
    Journal::forget_old(store).await?;
    let path = options.path.clone();
    let looked = tokio::task::spawn_blocking(move || Tree::look(&path)).await;
    let tree = Arc::new(looked.map_err(|_| PublishError::CutShort("the runtime is stopping"))??);
    let piece_len = piece_len(options, tree.total_len())?;
    let layout = Arc::new(Layout::new(piece_len, tree.files.iter().map(|file| file.len)));
    // What would be refused in the end is refused before it is read.
    let nothing = vec![[0; 20]; layout.pieces()];
    torrent(options, &tree, &layout, &nothing)?;
    let journal = Journal::open(store, &tree, piece_len, options.copy).await?;
    let mut run = Run::new(store, tree, layout, journal);
    let outcome = run.all(options, progress).await;
    if outcome.is_err() {
        run.let_go().await?;
    }
    let (root, extra) = outcome?;
    run.draft(options, root, extra)
}

/// The shortest power of two with which there are at most [`PIECES`], within bounds.
fn piece_len(options: &PublishOptions, total: u64) -> Result<u32, PublishError> {
    if let Some(len) = options.piece_len {
        let sound = len.is_power_of_two() && (MIN_PIECE_BYTES..=MAX_PIECE_BYTES).contains(&len);
        return if sound { Ok(len) } else { Err(PublishError::PieceLength(len)) };
    }
    let longest = options.longest_chosen.clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES);
    let mut len = MIN_PIECE_BYTES;
    while len * 2 <= longest && u64::from(len) * PIECES < total {
        len *= 2;
    }
    Ok(len)
}

fn torrent(
    options: &PublishOptions,
    tree: &Tree,
    layout: &Layout,
    pieces: &[[u8; 20]],
) -> Result<Metainfo, PublishError> {
    let name = options.name.clone().unwrap_or_else(|| tree.name.clone());
    let hashes: Bytes = pieces.concat().into();
    let builder = match &tree.top {
        Entry::File(_) => TorrentBuilder::single_file(name, tree.total_len(), layout.piece_len(), hashes),
        Entry::Directory(_) | Entry::Symlink(_) => {
            let files = tree.files.iter().map(|file| (file.names.clone(), file.len)).collect();
            TorrentBuilder::multi_file(name, files, layout.piece_len(), hashes)
        }
    };
    let tiers = options.trackers.iter().map(|tracker| vec![tracker.clone()]).collect();
    let builder = builder.with_trackers(tiers).with_web_seeds(options.web_seeds.clone());
    builder.build().map_err(|error| PublishError::Torrent { path: tree.path.clone(), error })
}

#[cfg(test)]
mod tests;
