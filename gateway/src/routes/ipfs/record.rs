//! The signed record of an IPNS name (trustless gateway, "IPNS Record Responses"): the client checks it against the name.

use std::time::SystemTime;

use axum::body::Body;
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, ETAG, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use swarmgate_ipfs_proto::content_path::Root;
use swarmgate_ipfs_proto::ipns::RECORD_MEDIA_TYPE;

use crate::disposition;
use crate::error::{Problem, ProblemKind};
use crate::respond::{self, text};
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Inquiry, Lifetime};

/// Answers with the record.
///
/// # Errors
/// 400 for anything but the name of a key, alone; 502 or 504 when there is no record.
pub async fn answer(inquiry: Inquiry) -> Result<Response, Problem> {
    let Root::Key(name) = &inquiry.address.path.root else {
        return Err(Problem::new(ProblemKind::BadContentPath, "only the name of a key below /ipns/ has a record"));
    };
    if !inquiry.address.is_root() {
        return Err(Problem::new(ProblemKind::BadContentPath, "a record belongs to a name, not to a path below it"));
    }
    let record = inquiry.ipfs.names().record(name).await?;
    let etag = format!("\"{name}.{}\"", headers::fingerprint(record.as_bytes()));
    // The record proves itself, so it is good for as long as its owner says.
    let lifetime = Lifetime::Named(record.cache_for(SystemTime::now()));
    let mut rows = HeaderMap::new();
    rows.insert(ETAG, text(&etag));
    rows.insert(CACHE_CONTROL, text(&headers::cache_control(&inquiry.state.options, lifetime, Author::Content)));
    rows.insert(CONTENT_TYPE, HeaderValue::from_static(RECORD_MEDIA_TYPE));
    rows.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    rows.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(query) = &inquiry.ask.location_query {
        rows.insert(CONTENT_LOCATION, text(&format!("{}?{query}", inquiry.address.location())));
    }
    let own = format!("{name}.ipns-record");
    let offered = inquiry.ask.filename.as_deref().unwrap_or(&own);
    rows.insert(CONTENT_DISPOSITION, disposition::header(offered, true));
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    let bytes = record.as_bytes().clone();
    rows.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok(respond::respond(StatusCode::OK, rows, if inquiry.head { Body::empty() } else { Body::from(bytes) }))
}
