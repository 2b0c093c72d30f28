//! A directory: its `index.html`, or a page that lists it.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use swarmgate_content::Cid;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::directory::Entry;
use swarmgate_ipfs_proto::path::Target;

use crate::error::Problem;
use crate::links;
use crate::respond;
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::file::{self, File};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry, is_absent};
use crate::routes::ipfs::listing::Listing;
use crate::routes::ipfs::page;

/// The file that stands for its directory.
const INDEX: &str = "index.html";

/// Most entries of one page, at some 200 bytes of memory each. A browser chokes on more; `?format=car` has them all.
const MAX_ROWS: usize = 10_000;

/// Answers with the directory at the end of the path, whose URL has to end in a slash for its links to work.
///
/// # Errors
/// When a condition fails or a block does not come.
pub async fn answer(inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    if let Some(location) = inquiry.address.with_slash() {
        return Ok(links::redirect(StatusCode::MOVED_PERMANENTLY, &location));
    }
    let cid = found.resolved.cid;
    if let Some(index) = index(&inquiry, cid).await? {
        let file = File { cid: index, tagged: cid, name: Some(INDEX.to_owned()), status: None };
        return file::send(inquiry, found, file).await;
    }
    let etag = format!("\"DirIndex-{}_CID-{cid}\"", page::VERSION);
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Gateway);
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    rows.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    rows.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    if inquiry.head {
        return Ok(respond::respond(StatusCode::OK, rows, Body::empty()));
    }
    let (entries, more) = entries(&inquiry, cid).await?;
    let page: Bytes = headers::page(Listing { address: &inquiry.address, cid, entries: &entries, more }.page());
    rows.insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
    Ok(respond::respond(StatusCode::OK, rows, Body::from(page)))
}

/// The file that stands for a directory, if it has one.
async fn index(inquiry: &Inquiry, cid: Cid) -> Result<Option<Cid>, Problem> {
    let below = format!("/ipfs/{cid}/{INDEX}");
    let path = ContentPath::from_url_path(&below).unwrap_or_else(|_| ContentPath::new(Root::Ipfs(cid)));
    match inquiry.follow_through(&path).await {
        Ok(resolved) => Ok((resolved.target == Target::File).then_some(resolved.cid)),
        Err(problem) if is_absent(&problem) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// The first entries, by name, and whether there are more.
async fn entries(inquiry: &Inquiry, cid: Cid) -> Result<(Vec<Entry>, bool), Problem> {
    let mut stream = std::pin::pin!(inquiry.session.entries(cid));
    let mut entries = Vec::new();
    while let Some(entry) = stream.next().await {
        let entry = entry.map_err(|error| inquiry.problem(error))?;
        if entries.len() == MAX_ROWS {
            return Ok((entries, true));
        }
        entries.push(entry);
    }
    entries.sort_by(|one: &Entry, other| one.name.cmp(&other.name));
    Ok((entries, false))
}
