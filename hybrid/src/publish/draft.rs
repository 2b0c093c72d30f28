//! What was made of a file or folder, while it is held and not yet published.

use swarmgate_bittorrent_proto::metainfo::Metainfo;
use swarmgate_content::{BlockHash, Cid, ContentId};
use swarmgate_hybrid_rules::{Authority, ContentBinding, Name};
use swarmgate_store::{Store, VerifiedBlock};

use super::journal::Journal;
use super::{BATCH, PublishError};

/// A file that was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedFile {
    /// Its number in the torrent.
    pub number: u32,
    /// Its path below the torrent's root; of a torrent of one file, its name.
    pub path: Vec<String>,
    /// Its length in bytes.
    pub len: u64,
    /// Its CID.
    pub cid: Cid,
}

/// What was made, while it is held: to be sealed or let go. A draft that is dropped is gone on with by the next run.
#[derive(Debug)]
pub struct Draft {
    /// The torrent.
    pub metainfo: Metainfo,
    /// The root of the DAG.
    pub root: Cid,
    /// The files, in the torrent's order.
    pub files: Vec<PublishedFile>,
    /// Bytes that were read of the files by this run.
    pub read_bytes: u64,
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) pieces: Vec<[u8; 20]>,
    pub(super) extra: Vec<BlockHash>,
}

/// The name under which a torrent's pieces are pinned.
#[must_use]
pub fn root_name(metainfo: &Metainfo) -> String {
    format!("publish:{}", metainfo.infohash)
}

impl Draft {
    /// Stores a block that belongs to what is published, and holds it with the rest.
    ///
    /// # Errors
    /// [`PublishError::Store`], [`PublishError::Record`].
    pub async fn put(&mut self, block: VerifiedBlock) -> Result<(), PublishError> {
        self.extra.push(*block.hash());
        self.store.pin(self.journal.hold(), [*block.hash()]);
        self.store.put(block).await?;
        Ok(self.store.flush().await?)
    }

    /// Which names are the same bytes: each file of the torrent and its CID. Files without bytes are left out: there is
    /// nothing of theirs to fetch.
    pub fn bindings(&self) -> impl Iterator<Item = ContentBinding> {
        let id = self.metainfo.id.content();
        self.files.iter().filter(|file| file.len > 0).map(move |file| ContentBinding {
            names: [Name::Torrent { id, file: file.number }, Name::Ipfs(ContentId::Ipfs(file.cid))].into(),
            len: Some(file.len),
            path: file.path.clone(),
            said_by: Authority::Published,
        })
    }

    /// Pins what the torrent needs as `publish:{infohash}`: its pieces, its `info` dictionary and what was
    /// [`put`](Self::put). The hold, and the notes for a next run, are let go; so the DAG has to be pinned by now.
    ///
    /// # Errors
    /// [`PublishError::Record`]; then it is still held.
    pub async fn seal(self) -> Result<(), PublishError> {
        let name = root_name(&self.metainfo);
        for some in self.pieces.chunks(BATCH) {
            self.store.pin(&name, some.iter().map(|hash| BlockHash::sha1(*hash)));
        }
        self.store.pin(&name, self.extra);
        self.store.flush().await?;
        Ok(self.journal.let_go().await?)
    }

    /// Lets all of it go: nothing is published.
    ///
    /// # Errors
    /// [`PublishError::Record`].
    pub async fn let_go(self) -> Result<(), PublishError> {
        Ok(self.journal.let_go().await?)
    }
}
