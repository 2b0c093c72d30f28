//! The files and directories below a directory of IPFS, one after another as it lists them: what is to be made of it on
//! a disk.
//!
//! In memory are the directories that are open, from the first down to where it is, with a few entries each that are
//! looked at ahead; and of the names in them a number each, since two entries may not become one file. However many
//! entries a directory has, it is never held as a list.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use swarmgate_content::Cid;
use swarmgate_ipfs::Session;
use swarmgate_ipfs::at_hand::AtHand;
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::directory::Entry;
use swarmgate_ipfs_proto::leaf;
use swarmgate_ipfs_proto::path::Target;

use super::Exit;
use super::dags::fetch_failure;
use super::names::file_name;
use super::part::{Part, part_path};
use super::source::Failure;

/// How deep a tree of directories may be.
const MAX_DEPTH: usize = 64;
/// Entries of a directory that are looked at at a time, to learn what they are.
const LOOK_AHEAD: usize = 16;
/// Names in all directories that are open, two for each file. Each takes some 12 bytes of memory.
const MAX_NAMES: usize = 1 << 24;

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A directory, before what is in it.
    Directory(PathBuf),
    /// A file.
    File(Cid, PathBuf),
}

/// The walk over a directory.
pub(super) struct Tree {
    session: Arc<Session>,
    hasher: RandomState,
    /// The directories that are open, the first of all first.
    open: Vec<Open>,
    names: usize,
}

struct Open {
    entries: BoxStream<'static, Result<Looked, Failure>>,
    /// What its entries are called, by the hash of each.
    names: BTreeSet<u64>,
}

/// An entry, and what it is.
struct Looked {
    cid: Cid,
    path: PathBuf,
    thing: Thing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thing {
    File,
    Directory,
    /// A symlink, or what is no UnixFS.
    Other,
}

impl Tree {
    /// The directory `root`, which is to be at `to`.
    pub(super) fn new(session: Arc<Session>, root: Cid, to: &Path) -> Self {
        let mut tree = Self { session, hasher: RandomState::new(), open: Vec::new(), names: 0 };
        tree.enter(root, to);
        tree
    }

    /// What is to be made next; `None` when that was all. It may be dropped before its end and called again.
    ///
    /// # Errors
    /// When a directory cannot be had, or an entry's name cannot be that of a file of its own. The tree is then at its
    /// end.
    pub(super) async fn next(&mut self) -> Option<Result<Item, Failure>> {
        while let Some(open) = self.open.last_mut() {
            let Some(looked) = open.entries.next().await else {
                self.leave();
                continue;
            };
            let item = looked.and_then(|looked| self.take(looked));
            if item.is_err() {
                self.open.clear();
            }
            if let Some(item) = item.transpose() {
                return Some(item);
            }
        }
        None
    }

    fn take(&mut self, looked: Looked) -> Result<Option<Item>, Failure> {
        let Looked { cid, path, thing } = looked;
        match thing {
            Thing::File => {
                self.claim(&path)?;
                // Another file of the directory may be called what this one is called while it grows.
                self.claim(&part_path(&path))?;
                Ok(Some(Item::File(cid, path)))
            }
            Thing::Directory => {
                self.claim(&path)?;
                if self.open.len() == MAX_DEPTH {
                    let message = format!("{}: deeper than {MAX_DEPTH} directories", path.display());
                    return Err(Failure::new(Exit::Error, message));
                }
                self.enter(cid, &path);
                Ok(Some(Item::Directory(path)))
            }
            // Symlinks and data have no place among files that other programs open.
            Thing::Other => {
                tracing::warn!(path = %path.display(), "neither a file nor a directory: left out");
                Ok(None)
            }
        }
    }

    /// Notes a name in the directory that was opened last.
    fn claim(&mut self, path: &Path) -> Result<(), Failure> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if self.names == MAX_NAMES {
            let message = format!("{}: more than {MAX_NAMES} names in the directories above it", path.display());
            return Err(Failure::new(Exit::Error, message));
        }
        if !open.names.insert(self.hasher.hash_one(path)) {
            return Err(Failure::new(Exit::Error, format!("two entries would be {}", path.display())));
        }
        self.names += 1;
        Ok(())
    }

    fn enter(&mut self, directory: Cid, to: &Path) {
        let (session, to) = (self.session.clone(), to.to_owned());
        let entries = self.session.entries(directory).map_err(|error| fetch_failure(&error));
        let looked = entries.map_ok(move |entry| look(session.clone(), entry, to.clone())).try_buffered(LOOK_AHEAD);
        self.open.push(Open { entries: looked.boxed(), names: BTreeSet::new() });
    }

    fn leave(&mut self) {
        let names = self.open.pop().map_or(0, |open| open.names.len());
        self.names -= names;
    }
}

/// Learns what an entry is and where it goes.
async fn look(session: Arc<Session>, entry: Entry, to: PathBuf) -> Result<Looked, Failure> {
    let name = file_name(&entry.name);
    let name = name.map_err(|escape| Failure::new(Exit::Integrity, format!("{}: {escape}", to.display())))?;
    let (cid, path) = (entry.cid, to.join(name));
    if is_here(cid, &path).await {
        return Ok(Looked { cid, path, thing: Thing::File });
    }
    let end = session.resolve_path(&ContentPath::new(Root::Ipfs(cid))).await;
    let thing = match end.map_err(|error| fetch_failure(&error))?.target {
        Target::File => Thing::File,
        Target::Directory => Thing::Directory,
        Target::Symlink | Target::Node | Target::Data(_) | Target::Opaque(_) => Thing::Other,
    };
    Ok(Looked { cid, path, thing })
}

/// Whether a file lies there that is all of this block: nobody needs to be asked then what the block is.
pub(super) async fn is_here(cid: Cid, path: &Path) -> bool {
    // A raw block is a file in any case.
    if cid.codec() != Codec::DagPb.code() {
        return false;
    }
    let path = path.to_owned();
    let is_leaf = move |bytes| leaf::recognise(&cid, bytes).is_some();
    let look = move || Part::open(path).is_ok_and(|part| part.read(0, None).into_iter().any(is_leaf));
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}
