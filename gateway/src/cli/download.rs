//! What `swarmgate get` does with a file or directory of IPFS: it goes over what lies on the disk already, fetches
//! what of it is missing or wrong, and gives every file its name when all of it is right.
//!
//! What an earlier run wrote is hashed, leaf by leaf, against the DAG, of which only the nodes of links are fetched for
//! that. So a run that was cut goes on where it stopped, a damaged file is repaired, and one that is right costs no
//! more than reading it. Raw leaves and leaves in dag-pb are known by their bytes alike
//! ([`swarmgate_ipfs_proto::leaf`]); those few that say more than their bytes are fetched again.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use swarmgate_content::{ByteRange, Cid};
use swarmgate_ipfs::Session;

use super::dags::fetch_failure;
use super::part::Part;
use super::source::Failure;
use super::tree::{Item, Tree};
use super::{Exit, Progress};

/// Files that are made at a time, since small ones cost a round trip each. Each holds up to 16 MiB in memory.
const FILES_AT_A_TIME: usize = 8;

/// One run.
pub(super) struct Download {
    session: Arc<Session>,
    shown: Mutex<Shown>,
}

/// How far it is.
struct Shown {
    progress: Progress,
    bytes: u64,
    /// Of these, what lay on the disk and was right.
    kept: u64,
}

impl Download {
    /// Begins; what is shown of it is called `label`.
    pub(super) fn new(session: Arc<Session>, label: &str) -> Self {
        Self { session, shown: Mutex::new(Shown { progress: Progress::new(0, label), bytes: 0, kept: 0 }) }
    }

    /// Makes the file `cid` at `to`.
    ///
    /// # Errors
    /// [`Failure`]; what was written until then is right, and a run that begins anew keeps it.
    pub(super) async fn file(&self, cid: Cid, to: PathBuf) -> Result<PathBuf, Failure> {
        let path = to.clone();
        let part = Arc::new(on_disk(&to, move || Part::open(path)).await?);
        let all = ByteRange::full(u64::MAX).expect("a range of 2^64 - 1 bytes is not empty");
        let mut reader = self.session.file_over(cid, all, part.clone());
        let mut position = 0;
        while let Some(bytes) = reader.next().await {
            let bytes = bytes.map_err(|error| fetch_failure(&error))?;
            let (part, offset, len) = (part.clone(), position, bytes.len() as u64);
            let kept = on_disk(&to, move || part.put(offset, bytes.as_ref())).await?;
            position += len;
            self.shown.lock().add(len, kept);
        }
        on_disk(&to, move || part.finish(position)).await?;
        Ok(to)
    }

    /// Makes the directory `root` at `to` with all that is below it, and tells `out` of each file that is complete.
    ///
    /// # Errors
    /// As [`Self::file`], and as [`Tree::next`].
    pub(super) async fn tree(&self, root: Cid, to: PathBuf, out: &mut dyn Write) -> Result<(), Failure> {
        let mut tree = Tree::new(self.session.clone(), root, &to);
        self.make(Item::Directory(to)).await?;
        let (mut making, mut all_known) = (FuturesUnordered::new(), false);
        loop {
            tokio::select! {
                biased;
                Some(made) = making.next() => {
                    let made: Result<Option<PathBuf>, Failure> = made;
                    tell(out, made?.as_deref());
                }
                item = tree.next(), if !all_known && making.len() < FILES_AT_A_TIME => match item {
                    Some(item) => making.push(self.make(item?)),
                    None => all_known = true,
                },
                else => return Ok(()),
            }
        }
    }

    async fn make(&self, item: Item) -> Result<Option<PathBuf>, Failure> {
        match item {
            Item::File(cid, to) => self.file(cid, to).await.map(Some),
            Item::Directory(to) => {
                let path = to.clone();
                on_disk(&to, move || std::fs::create_dir_all(path)).await?;
                Ok(None)
            }
        }
    }

    /// Says how much it was.
    pub(super) fn finish(self) {
        let Shown { progress, bytes, kept } = self.shown.into_inner();
        let before = if kept > 0 { format!(", {kept} of them were here") } else { String::new() };
        progress.finish(&format!("{bytes} bytes verified{before}"));
    }
}

impl Shown {
    fn add(&mut self, len: u64, kept: bool) {
        self.bytes += len;
        self.kept += if kept { len } else { 0 };
        self.progress.set(self.bytes, None);
    }
}

/// Tells of a file that is complete.
pub(super) fn tell(out: &mut dyn Write, made: Option<&Path>) {
    if let Some(path) = made {
        // A closed pipe is the reader's choice.
        let _ = writeln!(out, "{}", path.display());
    }
}

/// Does something where waiting for the disk holds up nobody.
async fn on_disk<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    done.map_err(|error| Failure::new(Exit::from(&error), format!("{}: {error}", path.display())))
}
