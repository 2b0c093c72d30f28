//! A tree of files as one: a tar (IPIP-288), or a zip whose entries are stored as they are. Entries are made while they
//! are sent, one block of one file at a time.
//!
//! Symlinks are entries of either. A zip tells all its entries once more at its end, so their names are kept until then,
//! and have a bound; a tar has none. A name of a zip has no `\`, which some programs would take for what is between
//! directories.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use std::sync::Arc;
use swarmgate_content::{ByteRange, Cid, ContentId, FetchError, FetchErrorKind, Stage};
use swarmgate_ipfs::session::Session;
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_ipfs_proto::directory::Entry;
use swarmgate_ipfs_proto::path::MAX_SEGMENTS;
use swarmgate_ipfs_proto::unixfs::{self, Entity};

use crate::archive::zip_entry::{Crc, Special, ZipWriter};
use crate::archive::{Kind, tar_entry};
use crate::error::Problem;
use crate::flow::{Chunks, Flow, Outlet, produce};
use crate::respond;
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};
use crate::traces::Streamed;

/// Bytes that are made before the headers are sent, so that what is wrong near the beginning still has a status.
const PRIMED_BYTES: usize = 16 * 1024;

/// Longest name of an entry of a zip, in bytes: its length has two (APPNOTE §4.4.10).
const MAX_NAME_BYTES: usize = 65_535;

/// Bytes that a zip keeps of its entries until its end, at most: 32 MiB, about two hundred thousand files. Who made the
/// directory chooses their number, so we do.
const MAX_KEPT_BYTES: usize = 32 << 20;

/// Answers with what is at the end of the path and all below it, as one file.
///
/// # Errors
/// When a condition fails, or what is wrong shows early.
pub async fn answer(inquiry: Inquiry, found: &Found, kind: Kind) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    // Weak: another release may write the headers of entries in another way.
    let etag = match kind {
        Kind::Tar => format!("W/\"{cid}.x-tar\""),
        Kind::Zip => format!("W/\"{cid}.zip\""),
    };
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    rows.insert(CONTENT_TYPE, HeaderValue::from_static(kind.media_type()));
    headers::attach(&mut rows, &inquiry, &cid, kind.name());
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    if inquiry.head {
        return Ok(respond::respond(StatusCode::OK, rows, Body::empty()));
    }
    let chunks = chunks(Arc::clone(&inquiry.session), cid, kind);
    let Inquiry { state, slot, peer, asked, patience, shut, .. } = inquiry;
    let deadline = patience.first_byte_deadline(&state.options);
    let flow = Flow::new(&state, ContentId::Ipfs(cid), chunks, slot, peer).prime(PRIMED_BYTES, asked, deadline).await;
    let flow = flow.map_err(|error| shut.problem(patience, error))?;
    Ok(respond::stream(StatusCode::OK, rows, Streamed::of(flow.row()), Body::new(flow)))
}

fn chunks(session: Arc<Session>, root: Cid, kind: Kind) -> Chunks {
    produce(move |outlet| Packer { session, root, outlet, writer: Writer::of(kind), open: Vec::new() }.pack())
}

/// A directory's path, and what is left of it.
type OpenDirectory = (Vec<String>, BoxStream<'static, Result<Entry, FetchError>>);

/// Writes a tree, depth first.
struct Packer {
    session: Arc<Session>,
    root: Cid,
    outlet: Outlet,
    writer: Writer,
    /// The directories on the way to where it is.
    open: Vec<OpenDirectory>,
}

/// What a block is to an archive.
enum Shape {
    File(u64),
    Directory,
    Symlink(Bytes),
}

impl Packer {
    async fn pack(mut self) -> Result<(), FetchError> {
        self.add(self.root, vec![self.root.to_string()]).await?;
        while let Some((directory, entries)) = self.open.last_mut() {
            let Some(entry) = entries.next().await else {
                self.open.pop();
                continue;
            };
            let entry = entry?;
            let path = entry.text().and_then(|name| tar_entry::join(directory, name));
            let path = path.ok_or_else(|| self.invalid("an entry's name leads out of the archive, or is no text"))?;
            self.add(entry.cid, path).await?;
        }
        let Self { outlet, writer, .. } = self;
        outlet.send(writer.finish()).await;
        Ok(())
    }

    async fn add(&mut self, cid: Cid, path: Vec<String>) -> Result<(), FetchError> {
        let name = self.writer.name(&path);
        if let Some(why) = self.writer.refusal(&name) {
            return Err(self.invalid(why));
        }
        match self.shape(&cid).await? {
            Shape::File(len) => self.add_file(cid, &name, len).await,
            Shape::Symlink(target) => {
                self.outlet.send(self.writer.symlink(&name, &target)).await;
                Ok(())
            }
            Shape::Directory if path.len() > MAX_SEGMENTS => Err(self.invalid("directories are nested too deep")),
            Shape::Directory => {
                self.outlet.send(self.writer.directory(&name)).await;
                self.open.push((path, self.session.entries(cid).boxed()));
                Ok(())
            }
        }
    }

    async fn add_file(&mut self, cid: Cid, name: &str, len: u64) -> Result<(), FetchError> {
        self.outlet.send(self.writer.begin(name, len)).await;
        let mut left = len;
        if let Some(range) = ByteRange::full(len) {
            let mut bytes = self.session.file(cid, range);
            while let Some(chunk) = bytes.next().await {
                let chunk = chunk?.into_bytes();
                left = left.checked_sub(chunk.len() as u64).ok_or_else(|| self.broken("more bytes than it has"))?;
                self.writer.look(&chunk);
                self.outlet.send(chunk).await;
            }
        }
        if left > 0 {
            return Err(self.broken("fewer bytes than it has"));
        }
        self.outlet.send(self.writer.end(len)).await;
        Ok(())
    }

    async fn shape(&mut self, cid: &Cid) -> Result<Shape, FetchError> {
        if cid.codec() == Codec::Raw.code() {
            return Ok(Shape::File(self.session.file_len(cid).await?));
        }
        let block = self.session.block(cid).await?;
        let entity = Entity::read(cid, &block).map_err(|bad| self.invalid(bad.to_string()))?;
        match &entity {
            Entity::UnixFs(_, data) => match data.kind {
                unixfs::Kind::File | unixfs::Kind::Raw => {
                    let len = data.total().ok_or_else(|| self.invalid("the sizes of a file have no sum"))?;
                    Ok(Shape::File(len))
                }
                unixfs::Kind::Directory | unixfs::Kind::HamtShard => Ok(Shape::Directory),
                unixfs::Kind::Symlink => Ok(Shape::Symlink(Bytes::copy_from_slice(data.data))),
                unixfs::Kind::Metadata => {
                    Err(self.invalid(format!("{cid} is metadata, which an archive has no entry for")))
                }
            },
            Entity::Node(node) if node.data().is_none_or(<[u8]>::is_empty) => Ok(Shape::Directory),
            Entity::Bytes(_) | Entity::Node(_) | Entity::Value(_) => {
                Err(self.invalid(format!("{cid} is {}, which an archive has no entry for", entity.noun())))
            }
        }
    }

    fn invalid(&self, detail: impl Into<String>) -> FetchError {
        FetchError::new(ContentId::Ipfs(self.root), Stage::Stream, FetchErrorKind::Invalid, detail)
    }

    /// A reader broke its promise to give exactly what was asked for.
    fn broken(&self, detail: &str) -> FetchError {
        let detail = format!("a file was read with {detail}");
        FetchError::new(ContentId::Ipfs(self.root), Stage::Stream, FetchErrorKind::Internal, detail)
    }
}

/// What writes entries, one behind the other: a file is begun, looked at as it passes, and ended.
enum Writer {
    Tar,
    Zip { zip: ZipWriter, crc: Crc },
}

impl Writer {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Tar => Self::Tar,
            Kind::Zip => Self::Zip { zip: ZipWriter::default(), crc: Crc::default() },
        }
    }

    /// What an entry with this path is called.
    fn name(&self, path: &[String]) -> String {
        let name = path.join("/");
        match self {
            Self::Tar => name,
            Self::Zip { .. } => name.replace('\\', "_"),
        }
    }

    /// Why there can be no entry of that name, if so.
    fn refusal(&self, name: &str) -> Option<&'static str> {
        match self {
            // With the slash that a directory's has.
            Self::Zip { .. } if name.len() >= MAX_NAME_BYTES => Some("a path is longer than a zip can say; a tar can"),
            Self::Zip { zip, .. } if zip.directory_bytes() > MAX_KEPT_BYTES => {
                Some("it has more entries than a zip is made of here; a tar is made of any number")
            }
            Self::Tar | Self::Zip { .. } => None,
        }
    }

    /// What stands before a file of so many bytes.
    fn begin(&mut self, name: &str, len: u64) -> Bytes {
        match self {
            Self::Tar => tar_entry::head(name, tar_entry::Kind::File(len)),
            Self::Zip { zip, .. } => zip.begin(name, len).into(),
        }
    }

    /// Sees bytes of the file that was begun last.
    fn look(&mut self, chunk: &[u8]) {
        match self {
            Self::Tar => {}
            Self::Zip { crc, .. } => crc.update(chunk),
        }
    }

    /// What stands behind a file of so many bytes.
    fn end(&mut self, len: u64) -> Bytes {
        match self {
            Self::Tar => Bytes::from_static(tar_entry::padding(len)),
            Self::Zip { zip, crc } => zip.end(std::mem::take(crc)).into(),
        }
    }

    fn directory(&mut self, name: &str) -> Bytes {
        match self {
            Self::Tar => tar_entry::head(name, tar_entry::Kind::Directory),
            Self::Zip { zip, .. } => zip.special(name, Special::Directory).into(),
        }
    }

    fn symlink(&mut self, name: &str, target: &[u8]) -> Bytes {
        match self {
            Self::Tar => tar_entry::head(name, tar_entry::Kind::Symlink(target)),
            Self::Zip { zip, .. } => zip.special(name, Special::Symlink(target)).into(),
        }
    }

    /// What stands behind all entries.
    fn finish(self) -> Bytes {
        match self {
            Self::Tar => Bytes::from_static(tar_entry::end()),
            Self::Zip { zip, .. } => zip.finish().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zip_has_bounds_where_a_tar_has_none() {
        let (mut zip, tar) = (Writer::of(Kind::Zip), Writer::of(Kind::Tar));
        let long = "x".repeat(MAX_NAME_BYTES);
        assert!(zip.refusal(&long).is_some() && tar.refusal(&long).is_none());
        assert_eq!(zip.refusal(&long[1..]), None);
        let mut made = 0;
        while zip.refusal("a").is_none() {
            zip.directory(&long[1..]);
            made += 1;
        }
        assert_eq!(made, MAX_KEPT_BYTES / (46 + MAX_NAME_BYTES) + 1);
    }

    #[test]
    fn a_name_of_a_zip_has_one_kind_of_slash() {
        let path = ["r", r"..\..\a"].map(str::to_owned);
        assert_eq!(Writer::of(Kind::Zip).name(&path), "r/.._.._a");
        assert_eq!(Writer::of(Kind::Tar).name(&path), r"r/..\..\a");
    }
}
