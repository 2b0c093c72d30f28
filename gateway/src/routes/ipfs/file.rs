//! A file, whole or in ranges, with the type that its name or its first bytes promise.

use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::{CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use swarmgate_content::{ByteRange, Cid, FetchError};
use swarmgate_ipfs::session::Session;
use swarmgate_ipfs_proto::unixfs::{Entity, Kind};

use crate::disposition;
use crate::error::{Problem, ProblemKind};
use crate::media;
use crate::range::Selection;
use crate::respond::{SANDBOX, text};
use crate::routes::ipfs::ask::Format;
use crate::routes::ipfs::deliver::{self, Body, Delivery, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};
use crate::routes::ipfs::sniff;

/// What a name that says nothing promises.
const UNKNOWN: &str = "application/octet-stream";

/// What a file has to be for `?format=json`.
const JSON: &str = "application/json";

/// A file, and as what it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its root.
    pub cid: Cid,
    /// What the entity tag names: the directory, where its `index.html` stands for it.
    pub tagged: Cid,
    /// Its name, if the path has one.
    pub name: Option<String>,
    /// The status instead of 200.
    pub status: Option<StatusCode>,
}

/// Answers with the file at the end of the path.
///
/// # Errors
/// 406 when it is not the JSON that was asked for; else as [`send`].
pub async fn answer(mut inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    let file = File { cid, tagged: cid, name: found.name.clone(), status: None };
    if inquiry.ask.format == Some(Format::Json) && !is_json(&inquiry, &file).await? {
        if !inquiry.ask.negotiable {
            let detail = format!("the file {cid} is not JSON");
            return Err(Problem::new(ProblemKind::NotAcceptable, detail).hint("without ?format= it comes as it is"));
        }
        inquiry.ask.format = None;
        inquiry.ask.location_query = None;
    }
    send(inquiry, found, file).await
}

/// Answers with a file.
///
/// # Errors
/// When a condition fails, no range can be satisfied, or its first byte does not come.
pub async fn send(inquiry: Inquiry, found: &Found, file: File) -> Result<Response, Problem> {
    let as_json = inquiry.ask.format == Some(Format::Json);
    let etag = if as_json { format!("\"{}.json\"", file.tagged) } else { format!("\"{}\"", file.tagged) };
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    let ranges = match file.status {
        Some(_) => false,
        None => match deliver::conditions(&inquiry, &etag, &rows)? {
            Verdict::Answered(response) => return Ok(response),
            Verdict::Send { ranges } => ranges,
        },
    };
    let len = inquiry.session.file_len(&file.cid).await.map_err(|error| inquiry.problem(error))?;
    let selection = deliver::select(&inquiry, len, ranges);
    let found = if as_json { Some(JSON.to_owned()) } else { content_type(&inquiry, &file, len, &selection).await? };
    // What is not known of it now may be known the next time.
    let again = found.is_some().then_some(Body::File);
    describe(&mut rows, &inquiry, &file, found.as_deref().unwrap_or(UNKNOWN));
    let open = deliver::of_file(&inquiry, file.cid, len);
    let delivery = Delivery { cid: file.cid, len, open, walks: true, selection, status: file.status, again };
    deliver::send(inquiry, rows, delivery).await
}

/// Answers with where a symlink at the end of a path leads, as text: what is there is for the client to ask for.
///
/// # Errors
/// When a condition fails or the block does not come.
pub async fn symlink(inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    let etag = format!("\"{cid}\"");
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    let ranges = match deliver::conditions(&inquiry, &etag, &rows)? {
        Verdict::Answered(response) => return Ok(response),
        Verdict::Send { ranges } => ranges,
    };
    let block = inquiry.session.block(&cid).await.map_err(|error| inquiry.problem(error))?;
    let target = match Entity::read(&cid, &block) {
        Ok(Entity::UnixFs(_, data)) if data.kind == Kind::Symlink => block.slice_ref(data.data),
        Ok(_) | Err(_) => return Err(Problem::new(ProblemKind::InvalidContent, format!("{cid} is no symlink"))),
    };
    rows.insert(CONTENT_TYPE, HeaderValue::from_static("inode/symlink"));
    let len = target.len() as u64;
    let selection = deliver::select(&inquiry, len, ranges);
    let delivery =
        Delivery { cid, len, open: deliver::of_bytes(target), walks: false, selection, status: None, again: None };
    deliver::send(inquiry, rows, delivery).await
}

/// Whether a file is JSON by its name, or by its first bytes.
async fn is_json(inquiry: &Inquiry, file: &File) -> Result<bool, Problem> {
    if promised(inquiry, file).is_some_and(|promised| promised == JSON) {
        return Ok(true);
    }
    let problem = |error| inquiry.problem(error);
    let len = inquiry.session.file_len(&file.cid).await.map_err(problem)?;
    let head = head(&inquiry.session, file.cid, len).await.map_err(problem)?;
    Ok(sniff::content_type(&head, head.len() as u64 == len) == JSON)
}

/// The type that the name promises, if it promises one.
fn promised(inquiry: &Inquiry, file: &File) -> Option<String> {
    let names = [inquiry.ask.filename.as_ref(), file.name.as_ref()];
    names.into_iter().flatten().map(|name| media::content_type(name)).find(|it| it != UNKNOWN)
}

fn describe(headers: &mut HeaderMap, inquiry: &Inquiry, file: &File, content_type: &str) {
    if media::is_active(content_type) && !inquiry.address.is_isolated() {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX));
    }
    headers.insert(CONTENT_TYPE, text(content_type));
    let name = inquiry.ask.filename.as_ref().or(file.name.as_ref());
    if let Some(name) = name {
        headers.insert(CONTENT_DISPOSITION, disposition::header(name, inquiry.ask.download));
    } else if inquiry.ask.download {
        headers.insert(CONTENT_DISPOSITION, disposition::header(&file.cid.to_string(), true));
    }
}

/// The type that the name promises, else the first bytes; `None` when neither is known.
async fn content_type(inquiry: &Inquiry, file: &File, len: u64, part: &Selection) -> Result<Option<String>, Problem> {
    if let Some(promised) = promised(inquiry, file) {
        return Ok(Some(promised));
    }
    // Who reads the end of a file does not wait for its beginning: what the cache has of that must do.
    let begins_elsewhere = match part {
        Selection::Full => false,
        Selection::Partial(range) => range.start() > 0,
        Selection::Multi(_) | Selection::Unsatisfiable { .. } | Selection::TooManyRanges { .. } => true,
    };
    let head = if begins_elsewhere {
        head(&inquiry.cached(), file.cid, len).await.ok()
    } else {
        Some(head(&inquiry.session, file.cid, len).await.map_err(|error| inquiry.problem(error))?)
    };
    Ok(head.map(|head| sniff::content_type(&head, head.len() as u64 == len).to_owned()))
}

async fn head(session: &Session, cid: Cid, len: u64) -> Result<Vec<u8>, FetchError> {
    let mut head = Vec::new();
    let Some(range) = ByteRange::new(0, len.min(sniff::SNIFFED_BYTES)) else { return Ok(head) };
    let mut reader = session.file(cid, range);
    while let Some(bytes) = reader.next().await {
        head.extend_from_slice(bytes?.as_ref());
    }
    Ok(head)
}
