//! A file or folder becomes a torrent and a DAG of UnixFS, from one read of its bytes.
//!
//! `tree` looks at what there is. `layout` says which pieces lie in which files, and what is to be read. `pipeline`
//! reads: one thread reads, one hashes pieces, one their Merkle trees, one leaves, with a few MiB between them. What they
//! made comes back to `run`, and goes into the store in batches: references to where it lies, or copies. `journal`
//! remembers the files that are done, so that a run that was cut short is gone on with.
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
//! Because then the same folder has the same infohash everywhere, and a directory's files lie beside each other. It is
//! the order of the keys in a v2 torrent's tree, too.
//!
//! # What is a hybrid's padding?
//! In a hybrid (BEP 52) each file begins a piece, so that a piece of either half is the same bytes: those of one file and,
//! where that ends within the piece, zeros (BEP 47), which its SHA-1 is of and its Merkle tree is not. They lie nowhere.
//! The store's reference of such a piece says how many there are, and reads them out behind the file's bytes; so v1
//! peers that ask for padding get it, and what is verified is what is served.
//!
//! With many small files in a folder with large ones, padding may be more than the files. Where the length of pieces is
//! chosen here, it never is.

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
use journal::{Journal, PieceHashes};
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

/// Which torrent is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TorrentKind {
    /// v1 and v2 in one (BEP 52), for peers of both kinds.
    #[default]
    Hybrid,
    /// v1 alone (BEP 3), without padding between the files.
    V1,
}

/// How to publish.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// The file or folder. Followed when it is a symlink.
    pub path: PathBuf,
    /// The torrent's name; the path's last part when not given.
    pub name: Option<String>,
    /// Which torrent.
    pub torrent: TorrentKind,
    /// Length of a piece in bytes: a power of two from [`MIN_PIECE_BYTES`] to [`MAX_PIECE_BYTES`]. Not given, it is the
    /// shortest with which the torrent has at most 2,000 pieces, or of a hybrid as many more as it has files.
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
    let lens = || tree.files.iter().map(|file| file.len);
    let piece_len = piece_len(options, lens)?;
    let layout = Arc::new(Layout::new(options.torrent, piece_len, lens()));
    // What would be refused in the end is refused before it is read.
    try_out(options, &tree, &layout)?;
    let journal = Journal::open(store, &tree, Arc::clone(&layout), options.copy).await?;
    let mut run = Run::new(store, tree, layout, journal);
    let outcome = run.all(options, progress).await;
    if outcome.is_err() {
        run.let_go().await?;
    }
    let (root, extra) = outcome?;
    run.draft(options, root, extra)
}

/// Makes the torrent, but for the hashes.
fn try_out(options: &PublishOptions, tree: &Tree, layout: &Layout) -> Result<(), PublishError> {
    let nothing = PieceHashes { sha1: [0; 20], root: (layout.kind() == TorrentKind::Hybrid).then_some([0; 32]) };
    let tried = torrent(options, tree, layout, &vec![nothing; layout.pieces()]);
    let Err(PublishError::Torrent { path, error }) = tried else { return tried.map(drop) };
    // A hybrid's metadata is some three times as long.
    let plain = Layout::new(TorrentKind::V1, layout.piece_len(), tree.files.iter().map(|file| file.len));
    let v1_too = layout.kind() == TorrentKind::V1 || try_out(options, tree, &plain).is_err();
    Err(if v1_too { PublishError::Torrent { path, error } } else { PublishError::NoHybrid { path, error } })
}

/// The shortest power of two, within bounds, with which there are not too many pieces.
fn piece_len<I: Iterator<Item = u64>>(options: &PublishOptions, lens: impl Fn() -> I) -> Result<u32, PublishError> {
    if let Some(len) = options.piece_len {
        let sound = len.is_power_of_two() && (MIN_PIECE_BYTES..=MAX_PIECE_BYTES).contains(&len);
        return if sound { Ok(len) } else { Err(PublishError::PieceLength(len)) };
    }
    let total = lens().fold(0, u64::saturating_add);
    let longest = options.longest_chosen.clamp(MIN_PIECE_BYTES, MAX_PIECE_BYTES);
    let mut len = MIN_PIECE_BYTES;
    while len * 2 <= longest {
        let (now, longer) = (u64::from(len), u64::from(len) * 2);
        let few = match options.torrent {
            TorrentKind::V1 => total <= now * PIECES,
            // Each file has a piece, however long that is: those beyond count.
            TorrentKind::Hybrid => lens().map(|len| len.div_ceil(now).saturating_sub(1)).sum::<u64>() < PIECES,
        };
        let padding = || lens().map(|len| len.next_multiple_of(longer) - len).fold(0, u64::saturating_add);
        if few || options.torrent == TorrentKind::Hybrid && padding() > total {
            break;
        }
        len *= 2;
    }
    Ok(len)
}

fn torrent(
    options: &PublishOptions,
    tree: &Tree,
    layout: &Layout,
    pieces: &[PieceHashes],
) -> Result<Metainfo, PublishError> {
    let name = options.name.clone().unwrap_or_else(|| tree.name.clone());
    let hashes: Bytes = pieces.iter().flat_map(|piece| piece.sha1).collect();
    let builder = match &tree.top {
        Entry::File(_) => TorrentBuilder::single_file(name, tree.total_len(), layout.piece_len(), hashes),
        Entry::Directory(_) | Entry::Symlink(_) => {
            let files = tree.files.iter().map(|file| (file.names.clone(), file.len)).collect();
            TorrentBuilder::multi_file(name, files, layout.piece_len(), hashes)
        }
    };
    let tiers = options.trackers.iter().map(|tracker| vec![tracker.clone()]).collect();
    let mut builder = builder.with_trackers(tiers).with_web_seeds(options.web_seeds.clone());
    if layout.kind() == TorrentKind::Hybrid {
        builder = builder.hybrid(pieces.iter().filter_map(|piece| piece.root).flatten().collect::<Bytes>());
    }
    builder.build().map_err(|error| PublishError::Torrent { path: tree.path.clone(), error })
}

#[cfg(test)]
mod tests;
