//! The files below a CID, with their lengths: what the other networks know as a content's file tree.

use std::collections::VecDeque;

use futures_util::{StreamExt, TryStreamExt};
use swarmgate_content::{Cid, ContentId, ContentMeta, FetchError, FetchErrorKind, FileEntry, Stage, Verification};
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::unixfs::{Entity, Kind};

use crate::session::Session;

/// The most files and directories of one tree. Larger ones are read path by path, not as a tree.
pub const MAX_TREE_ENTRIES: usize = 4096;
/// How deep a tree may be.
const MAX_TREE_DEPTH: usize = 64;
/// Entries that are looked at at a time.
const AT_A_TIME: usize = 16;

/// What an entry of a directory is.
enum Thing {
    File(u64),
    Directory,
    /// A symlink, or what is no UnixFS.
    Other,
}

/// Learns the files of a DAG: of a directory all below it, of a file that file alone.
///
/// # Errors
/// [`FetchError`]; `Unsupported` when it is neither, or more than [`MAX_TREE_ENTRIES`].
pub(crate) async fn tree(session: &Session, root: Cid) -> Result<ContentMeta, FetchError> {
    let mut found = Found { root, files: Vec::new(), roots: Vec::new(), offset: 0 };
    match look(session, &root).await? {
        Thing::File(len) => found.add(vec![root.to_string()], root, len),
        Thing::Directory => walk(session, &mut found).await?,
        Thing::Other => return Err(found.refuse("it is neither a file nor a directory")),
    }
    Ok(ContentMeta {
        id: ContentId::Ipfs(root),
        name: root.to_string(),
        total_len: found.offset,
        files: found.files,
        private: false,
        verification: Verification::Dag(found.roots),
    })
}

struct Found {
    root: Cid,
    files: Vec<FileEntry>,
    roots: Vec<Cid>,
    offset: u64,
}

impl Found {
    fn add(&mut self, path: Vec<String>, cid: Cid, len: u64) {
        self.files.push(FileEntry { path, len, offset: self.offset, padding: false });
        self.roots.push(cid);
        self.offset = self.offset.saturating_add(len);
    }

    fn refuse(&self, why: &str) -> FetchError {
        FetchError::new(ContentId::Ipfs(self.root), Stage::Resolve, FetchErrorKind::Unsupported, why)
    }
}

async fn walk(session: &Session, found: &mut Found) -> Result<(), FetchError> {
    let mut directories = VecDeque::from([(Vec::new(), found.root)]);
    let mut seen = 0;
    while let Some((path, cid)) = directories.pop_front() {
        let entries = session.entries(cid).map_ok(|entry| async move {
            let thing = look(session, &entry.cid).await?;
            Ok::<_, FetchError>((String::from_utf8_lossy(&entry.name).into_owned(), entry.cid, thing))
        });
        let mut things = std::pin::pin!(entries.try_buffered(AT_A_TIME));
        while let Some(thing) = things.next().await {
            let (name, cid, thing) = thing?;
            seen += 1;
            if seen > MAX_TREE_ENTRIES || path.len() >= MAX_TREE_DEPTH {
                return Err(found.refuse("its tree is too large to be read as a whole"));
            }
            let path: Vec<String> = path.iter().cloned().chain([name]).collect();
            match thing {
                Thing::File(len) => found.add(path, cid, len),
                Thing::Directory => directories.push_back((path, cid)),
                Thing::Other => {}
            }
        }
    }
    Ok(())
}

async fn look(session: &Session, cid: &Cid) -> Result<Thing, FetchError> {
    if !matches!(Codec::new(cid.codec()), Some(Codec::Raw | Codec::DagPb)) {
        return Ok(Thing::Other);
    }
    let block = session.block(cid).await?;
    let kind = match Entity::read(cid, &block) {
        Ok(Entity::Bytes(bytes)) => return Ok(Thing::File(bytes.len() as u64)),
        Ok(Entity::UnixFs(_, data)) => data.kind,
        Ok(Entity::Node(node)) if node.data().is_none_or(<[u8]>::is_empty) => Kind::Directory,
        Ok(Entity::Node(_) | Entity::Value(_)) | Err(_) => return Ok(Thing::Other),
    };
    match kind {
        Kind::File | Kind::Raw => session.file_len(cid).await.map(Thing::File),
        Kind::Directory | Kind::HamtShard => Ok(Thing::Directory),
        Kind::Symlink | Kind::Metadata => Ok(Thing::Other),
    }
}
