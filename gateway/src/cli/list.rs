//! `swarmgate ls` for what IPFS has: the entries of a directory, as they come, or a file itself.
//!
//! A row is written as soon as it is known what the entry is, in the order of the directory's blocks, so a directory of
//! any size takes the memory of a few entries. As JSON it is one object whose list grows row by row; where a listing
//! fails on the way, it is not closed.
//!
//! # What is a size?
//! That of a file, in bytes, as its first block says it. A file in one raw block has that size that the directory says
//! it has, so that no file is fetched to be listed. Directories have none.

use std::io::{ErrorKind, Write};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::json;
use swarmgate_config::Config;
use swarmgate_content::Cid;
use swarmgate_ipfs::Session;
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::directory::Entry;
use swarmgate_ipfs_proto::path::Target;

use super::Exit;
use super::args::Output;
use super::dags::{Dags, fetch_failure, read_path};
use super::import::label;
use super::ls::printable;
use super::source::Failure;

/// Entries that are looked at at a time.
const AT_A_TIME: usize = 16;

/// Runs `ls` for a content of IPFS.
///
/// # Errors
/// [`Failure`]; the rows until then were right.
pub(super) async fn run(
    config: &Config,
    uri: &str,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = read_path(uri)?;
    let dags = Dags::open_to_read(config).await?;
    let outcome = tokio::select! {
        outcome = list(&dags, &path, output, out) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    dags.shutdown().await;
    outcome
}

async fn list(dags: &Dags, path: &ContentPath, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let session = Arc::new(dags.session());
    let end = dags.resolve(&session, path).await?;
    let mut sheet = Sheet { output, out, rows: 0, closed: false };
    if end.target == Target::Directory {
        sheet.begin(path, &end.cid, end.target)?;
        let entries = session.entries(end.cid).map_err(|error| fetch_failure(&error));
        let rows = entries.map_ok(|entry| row_of(session.clone(), entry)).try_buffered(AT_A_TIME);
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.next().await {
            sheet.row(&row?)?;
            if sheet.closed {
                return Ok(());
            }
        }
    } else {
        let name = label(path.segments(), &end.cid).to_string_lossy().into_owned();
        let size = size_of(&session, &end.cid, end.target).await?;
        sheet.begin(path, &end.cid, end.target)?;
        sheet.row(&Row { name, kind: kind(end.target), size, cid: end.cid })?;
    }
    sheet.end()
}

/// One entry.
struct Row {
    name: String,
    kind: &'static str,
    size: Option<u64>,
    cid: Cid,
}

async fn row_of(session: Arc<Session>, entry: Entry) -> Result<Row, Failure> {
    let (name, cid) = (String::from_utf8_lossy(&entry.name).into_owned(), entry.cid);
    if cid.codec() == Codec::Raw.code() && entry.tsize.is_some() {
        return Ok(Row { name, kind: kind(Target::File), size: entry.tsize, cid });
    }
    let end = session.resolve_path(&ContentPath::new(Root::Ipfs(cid))).await;
    let target = end.map_err(|error| fetch_failure(&error))?.target;
    let size = size_of(&session, &cid, target).await?;
    Ok(Row { name, kind: kind(target), size, cid })
}

pub(super) async fn size_of(session: &Session, cid: &Cid, target: Target) -> Result<Option<u64>, Failure> {
    match target {
        Target::File => session.file_len(cid).await.map(Some).map_err(|error| fetch_failure(&error)),
        Target::Directory | Target::Symlink | Target::Node | Target::Data(_) | Target::Opaque(_) => Ok(None),
    }
}

/// What to call it: as UnixFS has it, or the codec of what is none.
pub(super) const fn kind(target: Target) -> &'static str {
    match target {
        Target::File => "file",
        Target::Directory => "directory",
        Target::Symlink => "symlink",
        Target::Node => Codec::DagPb.name(),
        Target::Data(codec) => codec.name(),
        Target::Opaque(_) => "unknown",
    }
}

/// Where the rows go.
struct Sheet<'a> {
    output: Output,
    out: &'a mut dyn Write,
    rows: usize,
    /// Whether nobody reads it any more.
    closed: bool,
}

impl Sheet<'_> {
    fn begin(&mut self, path: &ContentPath, cid: &Cid, target: Target) -> Result<(), Failure> {
        let (path, cid, kind) = (json!(path.to_string()), json!(cid.to_string()), json!(kind(target)));
        match self.output {
            Output::Human => Ok(()),
            Output::Json => self
                .write(&format!("{{\n  \"path\": {path},\n  \"cid\": {cid},\n  \"kind\": {kind},\n  \"entries\": [")),
        }
    }

    fn row(&mut self, row: &Row) -> Result<(), Failure> {
        let Row { name, kind, size, cid } = row;
        let cid = cid.to_string();
        self.rows += 1;
        match self.output {
            Output::Human => {
                let size = size.map_or_else(|| "-".to_owned(), |size| size.to_string());
                self.write(&format!("{cid:<59}  {size:>14}  {kind:<9}  {}\n", printable(name)))
            }
            Output::Json => {
                let row = json!({ "name": name, "kind": kind, "size": size, "cid": cid });
                self.write(&format!("{}\n    {row}", if self.rows > 1 { "," } else { "" }))
            }
        }
    }

    fn end(mut self) -> Result<(), Failure> {
        match self.output {
            Output::Human => self.write(""),
            Output::Json if self.rows == 0 => self.write("]\n}\n"),
            Output::Json => self.write("\n  ]\n}\n"),
        }
    }

    /// Writes through, since rows may be long in coming. A closed pipe is the reader's choice.
    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.closed = true,
            Err(error) => return Err(Failure::new(Exit::from(&error), error.to_string())),
            Ok(()) => {}
        }
        Ok(())
    }
}
