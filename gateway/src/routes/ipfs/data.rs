//! A block of data, JSON or CBOR with links or without: as it is, or as a page for people.
//!
//! Nothing is converted (IPIP-524), but what is dag-json is JSON as well and what is dag-cbor is CBOR.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use maud::{Markup, html};
use swarmgate_content::{Cid, VerifiedBytes};
use swarmgate_ipfs_proto::codec::{Codec, convert};

use crate::disposition;
use crate::error::Problem;
use crate::respond;
use crate::routes::ipfs::ask::Format;
use crate::routes::ipfs::deliver::{self, Verdict};
use crate::routes::ipfs::headers::{self, Author};
use crate::routes::ipfs::inquiry::{Found, Inquiry};
use crate::routes::ipfs::{block, mismatch, page};

/// Most of a block that a page shows, in bytes.
const MAX_SHOWN_BYTES: usize = 256 * 1024;

/// Answers with the block at the end of the path.
///
/// # Errors
/// 406 when it is none of that format; when a condition fails or the block does not come.
pub async fn answer(
    inquiry: Inquiry,
    found: &Found,
    format: Option<Format>,
    codec: Codec,
) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    let own = own_format(codec);
    let shown = match format {
        None if inquiry.ask.html && matches!(codec, Codec::DagJson | Codec::DagCbor) => {
            return preview(inquiry, found, codec).await;
        }
        None => own,
        Some(format) if represents(format, codec) => format,
        Some(format) => return Err(mismatch(format, found)),
    };
    let etag = format!("\"{cid}.{}\"", shown.name());
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Content);
    rows.insert(CONTENT_TYPE, HeaderValue::from_static(shown.media_type()));
    let is_text = matches!(own, Format::DagJson | Format::Json);
    let extension = if is_text { "json" } else { "cbor" };
    let name = inquiry.ask.filename.clone().unwrap_or_else(|| format!("{cid}.{extension}"));
    rows.insert(CONTENT_DISPOSITION, disposition::header(&name, inquiry.ask.download || !is_text));
    block::send(inquiry, cid, &etag, rows).await
}

/// Whether a block of that codec is one of that format.
#[must_use]
pub const fn represents(format: Format, codec: Codec) -> bool {
    matches!(
        (format, codec),
        (Format::DagJson, Codec::DagJson)
            | (Format::DagCbor, Codec::DagCbor)
            | (Format::Json, Codec::Json | Codec::DagJson)
            | (Format::Cbor, Codec::Cbor | Codec::DagCbor)
    )
}

const fn own_format(codec: Codec) -> Format {
    match codec {
        Codec::DagJson => Format::DagJson,
        Codec::DagCbor => Format::DagCbor,
        Codec::Json => Format::Json,
        Codec::Cbor => Format::Cbor,
        Codec::Raw | Codec::DagPb => Format::Raw,
    }
}

/// A page for people, who can get the block from it.
async fn preview(inquiry: Inquiry, found: &Found, codec: Codec) -> Result<Response, Problem> {
    let cid = found.resolved.cid;
    let etag = format!("\"DagIndex-{}_CID-{cid}\"", page::VERSION);
    let mut rows = headers::validators(&inquiry, found, &etag, Author::Gateway);
    if let Verdict::Answered(response) = deliver::conditions(&inquiry, &etag, &rows)? {
        return Ok(response);
    }
    rows.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    rows.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
    let block = inquiry.session.block(&cid).await.map_err(|error| inquiry.problem(error))?;
    let title = inquiry.address.path.to_plain();
    let page = headers::page(page::page(&title, &body(&title, &cid, codec, &block)));
    rows.insert(CONTENT_LENGTH, HeaderValue::from(page.len()));
    Ok(respond::respond(StatusCode::OK, rows, if inquiry.head { Body::empty() } else { Body::from(page) }))
}

fn body(title: &str, cid: &Cid, codec: Codec, block: &VerifiedBytes) -> Markup {
    let own = own_format(codec).name();
    let text = as_text(cid, block);
    html! {
        h1 { (title) }
        p { span.ipfs-hash { (cid) } ", " (codec.name()) ", " (block.len()) " bytes" }
        p {
            a href={ "?format=" (own) } { (own) } " "
            a href="?format=raw" { "raw block" } " "
            a href="?format=car" { "CAR" }
        }
        @if let Some(text) = text { pre { (text) } } @else { p { "It cannot be shown here." } }
    }
}

/// The block as indented dag-json, if it can be read and is not too long.
fn as_text(cid: &Cid, block: &VerifiedBytes) -> Option<String> {
    let json = convert(cid, block, Codec::DagJson).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&json).ok()?;
    let text = serde_json::to_string_pretty(&value).ok()?;
    (text.len() <= MAX_SHOWN_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_block_is_it_can_be_given_as() {
        for (format, codecs) in [
            (Format::DagJson, &[Codec::DagJson][..]),
            (Format::DagCbor, &[Codec::DagCbor]),
            (Format::Json, &[Codec::Json, Codec::DagJson]),
            (Format::Cbor, &[Codec::Cbor, Codec::DagCbor]),
            (Format::Tar, &[]),
            (Format::Zip, &[]),
        ] {
            for codec in [Codec::Raw, Codec::DagPb, Codec::DagCbor, Codec::DagJson, Codec::Cbor, Codec::Json] {
                assert_eq!(represents(format, codec), codecs.contains(&codec), "{format:?} of {codec:?}");
            }
        }
    }
}
