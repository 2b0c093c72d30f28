//! `swarmgate cat`, and `swarmgate get` for what IPFS has: out of the DAG, verified, to a stream or into files.

use std::io::Write;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt, TryStreamExt};
use swarmgate_config::Config;
use swarmgate_content::{BoxFuture, ByteRange, Cid, ContentReader};
use swarmgate_ipfs::Session;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::path::Target;

use super::dags::{Dags, fetch_failure, read_path};
use super::get::GetOptions;
use super::import::label;
use super::names::safe;
use super::source::Failure;
use super::{Exit, Progress};

/// How deep a tree of directories may be.
const MAX_DEPTH: usize = 64;

/// Runs `cat`.
///
/// # Errors
/// [`Failure`]; what was written until then was right.
pub async fn cat(
    config: &Config,
    uri: &str,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = read_path(uri)?;
    let dags = Dags::open_to_read(config).await?;
    let outcome = tokio::select! {
        outcome = print(&dags, &path, out) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    dags.shutdown().await;
    outcome
}

async fn print(dags: &Dags, path: &ContentPath, out: &mut dyn Write) -> Result<(), Failure> {
    let session = dags.session();
    let end = dags.resolve(&session, path).await?;
    let mut reader = match end.target {
        Target::File => whole(&session, end.cid),
        Target::Directory => {
            let message = format!("{path} is a directory; `swarmgate get` takes all that is in it");
            return Err(Failure::new(Exit::Usage, message));
        }
        Target::Symlink | Target::Node | Target::Data(_) | Target::Opaque(_) => {
            let block = session.block(&end.cid).await.map_err(|error| fetch_failure(&error))?;
            ContentReader::new(futures_util::stream::once(async move { Ok(block) }))
        }
    };
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.map_err(|error| fetch_failure(&error))?;
        out.write_all(bytes.as_ref()).map_err(|error| Failure::new(Exit::from(&error), error.to_string()))?;
    }
    out.flush().map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

/// Runs `get` for a content of IPFS.
///
/// # Errors
/// [`Failure`]; files that are not whole have `.part` behind their names.
pub(super) async fn get(
    config: &Config,
    options: &GetOptions,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if options.select.is_some() {
        return Err(Failure::new(Exit::Usage, "--select is for torrents; name the path below the CID instead"));
    }
    let path = read_path(&options.uri)?;
    let dags = Dags::open_to_read(config).await?;
    let outcome = tokio::select! {
        outcome = download(&dags, &path, &options.out) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    dags.shutdown().await;
    for path in outcome? {
        // A closed pipe is the reader's choice.
        let _ = writeln!(out, "{}", path.display());
    }
    Ok(())
}

async fn download(dags: &Dags, path: &ContentPath, out: &Path) -> Result<Vec<PathBuf>, Failure> {
    let session = dags.session();
    let end = dags.resolve(&session, path).await?;
    let root = match &path.root {
        Root::Ipfs(cid) => *cid,
        Root::Key(_) | Root::Host(_) => end.cid,
    };
    let name = label(path.segments(), &root);
    let mut writing =
        Writing { session, progress: Progress::new(0, &name.display().to_string()), bytes: 0, made: Vec::new() };
    let to = out.join(safe(&name.to_string_lossy()));
    match end.target {
        Target::File => writing.file(end.cid, &to).await?,
        Target::Directory => writing.directory(end.cid, &to, 0).await?,
        Target::Symlink | Target::Node | Target::Data(_) | Target::Opaque(_) => {
            return Err(Failure::new(Exit::Usage, format!("{path} is neither a file nor a directory; `cat` shows it")));
        }
    }
    writing.progress.finish(&format!("{} bytes verified", writing.bytes));
    Ok(writing.made)
}

fn whole(session: &Session, cid: Cid) -> ContentReader {
    let all = ByteRange::full(u64::MAX).expect("a range of 2^64 - 1 bytes is not empty");
    session.file(cid, all)
}

struct Writing {
    session: Session,
    progress: Progress,
    bytes: u64,
    made: Vec<PathBuf>,
}

impl Writing {
    fn directory<'a>(&'a mut self, cid: Cid, to: &'a Path, depth: usize) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if depth >= MAX_DEPTH {
                return Err(Failure::new(Exit::Error, format!("{}: deeper than {MAX_DEPTH}", to.display())));
            }
            tokio::fs::create_dir_all(to).await.map_err(|error| complain(to, &error))?;
            let entries: Vec<_> =
                self.session.entries(cid).try_collect().await.map_err(|error| fetch_failure(&error))?;
            for entry in entries {
                let below = to.join(safe(&String::from_utf8_lossy(&entry.name)));
                if self.made.contains(&below) {
                    let message = format!("two entries would be {}", below.display());
                    return Err(Failure::new(Exit::Error, message));
                }
                let path = ContentPath::new(Root::Ipfs(entry.cid));
                match self.session.resolve_path(&path).await {
                    Ok(end) if end.target == Target::Directory => self.directory(entry.cid, &below, depth + 1).await?,
                    Ok(end) if end.target == Target::File => self.file(entry.cid, &below).await?,
                    // Symlinks and data have no place among files that other programs open.
                    Ok(_) => tracing::warn!(path = %below.display(), "neither a file nor a directory: left out"),
                    Err(error) => return Err(fetch_failure(&error)),
                }
            }
            Ok(())
        })
    }

    async fn file(&mut self, cid: Cid, to: &Path) -> Result<(), Failure> {
        if let Some(folder) = to.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(|error| complain(folder, &error))?;
        }
        let mut part = to.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut file = tokio::fs::File::create(&part).await.map_err(|error| complain(&part, &error))?;
        let mut reader = whole(&self.session, cid);
        while let Some(bytes) = reader.next().await {
            let bytes = bytes.map_err(|error| fetch_failure(&error))?;
            let written = tokio::io::AsyncWriteExt::write_all(&mut file, bytes.as_ref()).await;
            written.map_err(|error| complain(&part, &error))?;
            self.bytes += bytes.len() as u64;
            self.progress.set(self.bytes, None);
        }
        tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(|error| complain(&part, &error))?;
        tokio::fs::rename(&part, to).await.map_err(|error| complain(to, &error))?;
        self.made.push(to.to_owned());
        Ok(())
    }
}

fn complain(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::from(error), format!("{}: {error}", path.display()))
}
