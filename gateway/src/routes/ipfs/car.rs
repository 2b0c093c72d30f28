//! Blocks that prove the answer, as a CAR (trustless gateway, "CAR Responses"): those of the way, then what the scope
//! says. They are sent as they come; what is held is what the export looks ahead, whatever the DAG's size.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::CONTENT_TYPE;
use swarmgate_content::{ContentId, FetchError};
use swarmgate_ipfs_proto::car;

use crate::error::Problem;
use crate::flow::{Chunks, Flow};
use crate::respond::{self, SERVER_TIMING, text};
use crate::routes::ipfs::ask::{CarAsk, Format};
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};
use crate::traces::Streamed;

/// Answers with the CAR.
///
/// # Errors
/// When a condition fails or the first block does not come.
pub async fn answer(inquiry: Inquiry, found: &Found) -> Result<Response, Problem> {
    let (cid, ask) = (found.resolved.cid, inquiry.ask.car);
    let etag = etag(&inquiry, found, ask);
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    let duplicates = if ask.duplicates { "y" } else { "n" };
    let content_type = format!("{}; version=1; order=dfs; dups={duplicates}", Format::Car.media_type());
    rows.insert(CONTENT_TYPE, text(&content_type));
    headers::attach(&mut rows, &inquiry, &cid, "car");
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    rows.insert(SERVER_TIMING, respond::timing(inquiry.asked.elapsed(), None));
    if inquiry.head {
        return Ok(respond::respond(http::StatusCode::OK, rows, Body::empty()));
    }
    let header = Bytes::from(car::header(&[cid]));
    let enough = header.len() + 1;
    let chunks = chunks(&inquiry, found, header);
    let Inquiry { state, slot, peer, asked, patience, shut, .. } = inquiry;
    let deadline = patience.first_byte_deadline(&state.options);
    let flow = Flow::new(&state, ContentId::Ipfs(cid), chunks, slot, peer).prime(enough, asked, deadline).await;
    let flow = flow.map_err(|error| shut.problem(patience, error))?;
    Ok(respond::stream(http::StatusCode::OK, rows, Streamed::of(flow.row()), Body::new(flow)))
}

/// Weak, since another release may put the blocks into another order. It has to differ when anything does that was asked
/// for, so it names all of that by a hash.
fn etag(inquiry: &Inquiry, found: &Found, ask: CarAsk) -> String {
    let asked = format!("{} {:?} {}", inquiry.address.content_path(), ask.scope, ask.duplicates);
    format!("W/\"{}.car.{}\"", found.resolved.cid, headers::fingerprint(asked.as_bytes()))
}

/// The header, then each block behind its name. Blocks are not copied.
fn chunks(inquiry: &Inquiry, found: &Found, header: Bytes) -> Chunks {
    let CarAsk { scope, duplicates } = inquiry.ask.car;
    let blocks = inquiry.session.export(&found.resolved.way, found.resolved.cid, scope, duplicates);
    let sections = blocks.flat_map(|block| {
        stream::iter(match block {
            Ok((cid, block)) => {
                let head = Bytes::from(car::section_head(&cid, block.len()));
                vec![Ok(head), Ok(block.into_bytes())]
            }
            Err(error) => vec![Err::<_, FetchError>(error)],
        })
    });
    stream::iter([Ok(header)]).chain(sections).boxed()
}
