//! `swarmgate cat`, and `swarmgate get` for what IPFS has: out of the DAG, verified, to a stream or into files.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use swarmgate_config::Config;
use swarmgate_content::{ByteRange, Cid, ContentReader};
use swarmgate_ipfs::Session;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::path::Target;

use super::Exit;
use super::dags::{Dags, fetch_failure, read_path};
use super::download::{Download, tell};
use super::get::{GetOptions, INTERRUPTED};
use super::import::label;
use super::names::safe;
use super::source::Failure;
use super::tree::is_here;

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
/// [`Failure`]; files that are not whole have `.part` behind their names, and the next run goes on with them.
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
        outcome = download(&dags, &path, &options.out, out) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, INTERRUPTED)),
    };
    dags.shutdown().await;
    outcome
}

async fn download(dags: &Dags, path: &ContentPath, to: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let session = Arc::new(dags.session());
    // What a name leads to has a name of its own only when it is known.
    let known = match &path.root {
        Root::Ipfs(cid) => Some(*cid),
        Root::Key(_) | Root::Host(_) => None,
    };
    let whole = known.filter(|_| path.segments().is_empty());
    if let Some(cid) = whole
        && is_here(cid, &to.join(cid.to_string())).await
    {
        return one_file(session, cid, to.join(cid.to_string()), out).await;
    }
    let end = dags.resolve(&session, path).await?;
    let name = label(path.segments(), &known.unwrap_or(end.cid));
    let to = to.join(safe(&name.to_string_lossy()));
    match end.target {
        Target::File => one_file(session, end.cid, to, out).await,
        Target::Directory => {
            let run = Download::new(session, &name.display().to_string());
            run.tree(end.cid, to, out).await?;
            run.finish();
            Ok(())
        }
        Target::Symlink | Target::Node | Target::Data(_) | Target::Opaque(_) => {
            Err(Failure::new(Exit::Usage, format!("{path} is neither a file nor a directory; `cat` shows it")))
        }
    }
}

async fn one_file(session: Arc<Session>, cid: Cid, to: PathBuf, out: &mut dyn Write) -> Result<(), Failure> {
    let label = to.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let run = Download::new(session, &label);
    let made = run.file(cid, to).await?;
    tell(out, Some(&made));
    run.finish();
    Ok(())
}

fn whole(session: &Session, cid: Cid) -> ContentReader {
    let all = ByteRange::full(u64::MAX).expect("a range of 2^64 - 1 bytes is not empty");
    session.file(cid, all)
}
