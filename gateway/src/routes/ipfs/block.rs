//! One block as it is (trustless gateway, "Block Responses"): the client checks it against its CID.

use axum::response::Response;
use http::HeaderMap;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use swarmgate_content::Cid;

use crate::error::Problem;
use crate::routes::ipfs::ask::Format;
use crate::routes::ipfs::deliver::{self, Body, Delivery, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};

/// Answers with the block at the end of the path.
///
/// # Errors
/// When a condition fails or the block does not come.
pub async fn answer(inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    let etag = format!("\"{cid}.raw\"");
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    rows.insert(CONTENT_TYPE, HeaderValue::from_static(Format::Raw.media_type()));
    headers::attach(&mut rows, &inquiry, &cid, "bin");
    send(inquiry, cid, &etag, rows).await
}

/// Answers with a block, described by `headers`.
///
/// # Errors
/// As [`answer`].
pub async fn send(inquiry: Inquiry, cid: Cid, etag: &str, headers: HeaderMap) -> Result<Response, Problem> {
    let ranges = match deliver::conditions(&inquiry, etag, &headers)? {
        Verdict::Answered(response) => return Ok(response),
        Verdict::Send { ranges } => ranges,
    };
    let block = inquiry.session.block(&cid).await.map_err(|error| inquiry.problem(error))?;
    let len = block.len() as u64;
    let selection = deliver::select(&inquiry, len, ranges);
    let open = deliver::of_bytes(block);
    let delivery = Delivery { cid, len, open, walks: false, selection, status: None, again: Some(Body::Block) };
    deliver::send(inquiry, headers, delivery).await
}
