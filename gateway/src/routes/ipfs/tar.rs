//! A tree of files as a tar (IPIP-288): entries are made while they are sent, one block of one file at a time.

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
use swarmgate_ipfs_proto::unixfs::{Entity, Kind};

use crate::archive::tar_entry;
use crate::error::Problem;
use crate::flow::{Chunks, Flow, Outlet, produce};
use crate::respond;
use crate::routes::ipfs::ask::Format;
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};

/// Bytes that are made before the headers are sent, so that what is wrong near the beginning still has a status.
const PRIMED_BYTES: usize = 16 * 1024;

/// Answers with what is at the end of the path and all below it.
///
/// # Errors
/// When a condition fails, or what is wrong shows early.
pub async fn answer(inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    // Weak: another release may write the headers of entries in another way.
    let etag = format!("W/\"{cid}.x-tar\"");
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    rows.insert(CONTENT_TYPE, HeaderValue::from_static(Format::Tar.media_type()));
    headers::attach(&mut rows, &inquiry, &cid, "tar");
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    if inquiry.head {
        return Ok(respond::respond(StatusCode::OK, rows, Body::empty()));
    }
    let chunks = chunks(Arc::clone(&inquiry.session), cid);
    let Inquiry { state, slot, peer, asked, patience, shut, .. } = inquiry;
    let deadline = patience.first_byte_deadline(&state.options);
    let flow = Flow::new(&state, ContentId::Ipfs(cid), chunks, slot, peer).prime(PRIMED_BYTES, asked, deadline).await;
    let flow = flow.map_err(|error| shut.problem(patience, error))?;
    Ok(respond::respond(StatusCode::OK, rows, Body::new(flow)))
}

fn chunks(session: Arc<Session>, root: Cid) -> Chunks {
    produce(move |outlet| Packer { session, root, outlet, open: Vec::new() }.pack())
}

/// A directory's path, and what is left of it.
type OpenDirectory = (Vec<String>, BoxStream<'static, Result<Entry, FetchError>>);

/// Writes a tree, depth first.
struct Packer {
    session: Arc<Session>,
    root: Cid,
    outlet: Outlet,
    /// The directories on the way to where it is.
    open: Vec<OpenDirectory>,
}

/// What a block is to a tar.
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
        self.outlet.send(Bytes::from_static(tar_entry::end())).await;
        Ok(())
    }

    async fn add(&mut self, cid: Cid, path: Vec<String>) -> Result<(), FetchError> {
        let name = path.join("/");
        match self.shape(&cid).await? {
            Shape::File(len) => self.add_file(cid, &name, len).await,
            Shape::Symlink(target) => {
                self.outlet.send(tar_entry::head(&name, tar_entry::Kind::Symlink(&target))).await;
                Ok(())
            }
            Shape::Directory if path.len() > MAX_SEGMENTS => Err(self.invalid("directories are nested too deep")),
            Shape::Directory => {
                self.outlet.send(tar_entry::head(&name, tar_entry::Kind::Directory)).await;
                self.open.push((path, self.session.entries(cid).boxed()));
                Ok(())
            }
        }
    }

    async fn add_file(&mut self, cid: Cid, name: &str, len: u64) -> Result<(), FetchError> {
        self.outlet.send(tar_entry::head(name, tar_entry::Kind::File(len))).await;
        let Some(range) = ByteRange::full(len) else { return Ok(()) };
        let mut bytes = self.session.file(cid, range);
        while let Some(chunk) = bytes.next().await {
            self.outlet.send(chunk?.into_bytes()).await;
        }
        self.outlet.send(Bytes::from_static(tar_entry::padding(len))).await;
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
                Kind::File | Kind::Raw => {
                    let len = data.total().ok_or_else(|| self.invalid("the sizes of a file have no sum"))?;
                    Ok(Shape::File(len))
                }
                Kind::Directory | Kind::HamtShard => Ok(Shape::Directory),
                Kind::Symlink => Ok(Shape::Symlink(Bytes::copy_from_slice(data.data))),
                Kind::Metadata => Err(self.invalid(format!("{cid} is metadata, which a tar has no entry for"))),
            },
            Entity::Node(node) if node.data().is_none_or(<[u8]>::is_empty) => Ok(Shape::Directory),
            Entity::Bytes(_) | Entity::Node(_) | Entity::Value(_) => {
                Err(self.invalid(format!("{cid} is {}, which a tar has no entry for", entity.noun())))
            }
        }
    }

    fn invalid(&self, detail: impl Into<String>) -> FetchError {
        FetchError::new(ContentId::Ipfs(self.root), Stage::Stream, FetchErrorKind::Invalid, detail)
    }
}
