//! Paths that a website does not have: its `_redirects` file decides, if it has one.

use axum::response::Response;
use futures_util::StreamExt as _;
use http::StatusCode;
use swarmgate_content::ByteRange;
use swarmgate_ipfs_proto::content_path::{ContentPath, Root};
use swarmgate_ipfs_proto::path::{Resolved, Target};

use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::routes::ipfs::ask::Format;
use crate::routes::ipfs::by_kind;
use crate::routes::ipfs::file::{self, File};
use crate::routes::ipfs::inquiry::{Found, Inquiry, Place, is_absent};
use crate::routes::ipfs::site_rules::{FILE_NAME, MAX_FILE_BYTES, RulesError, SiteRules, Verdict};

/// Whether a website's rules may decide about a request: it has an origin for itself, and whoever asks wants pages and
/// not proofs.
#[must_use]
pub fn may_decide(inquiry: &Inquiry) -> bool {
    inquiry.address.is_isolated() && matches!(inquiry.ask.format, None | Some(Format::Json | Format::Cbor))
}

/// Answers for a path that names nothing; `absent` is the answer of a website without rules for it.
///
/// # Errors
/// `absent`, or 500 when the rules cannot be read.
pub async fn absent(inquiry: Inquiry, place: &Place, absent: Problem) -> Result<Response, Problem> {
    let Some(rules) = rules(&inquiry, place).await? else { return Err(absent) };
    match rules.decide(&inquiry.address.url_path, inquiry.address.query.as_deref()) {
        None => Err(absent),
        Some(Verdict::Redirect(to, status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::MOVED_PERMANENTLY);
            Ok(links::redirect(status, &to))
        }
        Some(Verdict::Serve(path, 200)) => {
            let found = follow(&inquiry, place, &path).await?;
            by_kind(inquiry, found).await
        }
        Some(Verdict::Serve(path, status)) => {
            let found = follow(&inquiry, place, &path).await?;
            page(inquiry, &found, status).await
        }
    }
}

/// A page of the website's own that says why there is nothing else.
async fn page(mut inquiry: Inquiry, found: &Found, status: u16) -> Result<Response, Problem> {
    if found.resolved.target != Target::File {
        return Err(broken(&format!("what it serves with status {status} is no file")));
    }
    inquiry.ask.format = None;
    let cid = found.resolved.cid;
    let file = File { cid, tagged: cid, name: found.name.clone(), status: StatusCode::from_u16(status).ok() };
    file::send(inquiry, found, file).await
}

/// Follows a path of the website, percent-encoded, from its root.
async fn follow(inquiry: &Inquiry, place: &Place, path: &str) -> Result<Found, Problem> {
    let below = below(place, path).ok_or_else(|| broken("a rule leads to what is no path"))?;
    inquiry.state.denylists.check_path(&below)?;
    let resolved = inquiry.follow_through(&below).await?;
    Ok(Found { resolved, name: below.segments().last().cloned(), lifetime: place.lifetime })
}

fn below(place: &Place, path: &str) -> Option<ContentPath> {
    let Root::Ipfs(cid) = &place.root.root else { return None };
    ContentPath::from_url_path(&format!("/ipfs/{cid}{path}")).ok()?.onto(&place.root).ok()
}

/// The website's rules, if it has any.
async fn rules(inquiry: &Inquiry, place: &Place) -> Result<Option<SiteRules>, Problem> {
    let Some(path) = below(place, &format!("/{FILE_NAME}")) else { return Ok(None) };
    let resolved = match inquiry.follow_through(&path).await {
        Ok(resolved) if resolved.target == Target::File => resolved,
        Ok(_) => return Ok(None),
        Err(problem) if is_absent(&problem) => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let file = read(inquiry, &resolved).await?;
    SiteRules::parse(&file).map(Some).map_err(|error| broken(&error.to_string()))
}

async fn read(inquiry: &Inquiry, resolved: &Resolved) -> Result<Vec<u8>, Problem> {
    let len = inquiry.session.file_len(&resolved.cid).await.map_err(|error| inquiry.problem(error))?;
    if len > MAX_FILE_BYTES {
        return Err(broken(&RulesError::TooLong.to_string()));
    }
    let mut file = Vec::new();
    let Some(range) = ByteRange::full(len) else { return Ok(file) };
    let mut reader = inquiry.session.file(resolved.cid, range);
    while let Some(bytes) = reader.next().await {
        file.extend_from_slice(bytes.map_err(|error| inquiry.problem(error))?.as_ref());
    }
    Ok(file)
}

fn broken(why: &str) -> Problem {
    Problem::new(ProblemKind::SiteRules, format!("could not parse {FILE_NAME}: {why}"))
}
