//! `/bt/…`: content by infohash.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use http::request::Parts;
use swarmgate_content::{ContentId, ContentMeta};

use crate::error::{Problem, ProblemKind};
use crate::exchange::Exchange;
use crate::query::{self, Format};
use crate::respond::{self, Freshness};
use crate::routes::bt_path::{BtPath, Target};
use crate::routes::represent;
use crate::state::GatewayState;
use crate::{links, playlist};

/// Answers a GET or HEAD.
///
/// # Errors
/// 400 for a bad id or path before anything is looked up; else whatever resolving and reading meet.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let path = BtPath::parse(parts.uri.path().strip_prefix("/bt/").unwrap_or_default())?;
    let id = ContentId::parse_torrent(path.id)?;
    if let Some(elsewhere) = canonical(&state, &parts, &path, &id) {
        return Ok(links::redirect(StatusCode::MOVED_PERMANENTLY, &elsewhere));
    }
    let magnet = query::magnet_of(&id, parts.uri.query())?;
    let exchange = Exchange::begin(state, &parts, magnet)?;
    let meta = exchange.resolve(id).await?;
    match path.target {
        Target::Whole(format) => represent::folder(exchange, &meta, &[], format, &format!("{id}/")).await,
        Target::Bare => represent::listing(exchange, &meta, &[]).await,
        Target::Folder(folder) => represent::listing(exchange, &meta, &folder).await,
        Target::Index(index) => file(exchange, &meta, index, 0).await,
        Target::Best => best(&exchange, &meta, parts.uri.query()),
        Target::Path(wanted) => match meta.find(&wanted) {
            Some((index, _)) => file(exchange, &meta, index, wanted.len() - 1).await,
            None => no_file(&exchange, &meta, &wanted, &parts),
        },
    }
}

/// Where the canonical spelling of a URL is, if this is another: the id in lower-case hex, the root with its slash.
fn canonical(state: &GatewayState, parts: &Parts, path: &BtPath<'_>, id: &ContentId) -> Option<String> {
    let spelt = id.to_string();
    let rest = if path.target == Target::Bare { "/" } else { path.rest };
    if spelt == path.id && rest == path.rest {
        return None;
    }
    let location = format!("{}/bt/{spelt}{rest}", state.options.base_path);
    Some(links::with_query(location, parts.uri.query()))
}

/// Answers for a file that lies `depth` folders deep in the URL.
async fn file(exchange: Exchange, meta: &ContentMeta, index: usize, depth: usize) -> Result<Response, Problem> {
    match exchange.query.format {
        None => respond::file(exchange, meta, index, Freshness::Immutable).await,
        Some(format) => represent::file(&exchange, meta, index, format, &up(depth)),
    }
}

/// The way from a document `depth` folders deep to the content's root.
fn up(depth: usize) -> String {
    if depth == 0 { "./".to_owned() } else { "../".repeat(depth) }
}

/// A path without a file: a folder that lacks its slash, or nothing.
fn no_file(exchange: &Exchange, meta: &ContentMeta, wanted: &[String], parts: &Parts) -> Result<Response, Problem> {
    let is_folder = meta.files.iter().any(|file| file.path.len() > wanted.len() && file.path.starts_with(wanted));
    if !is_folder {
        let detail = "the content is known and has no file at this path";
        return Err(Problem::new(ProblemKind::NoSuchFile, detail).item(meta.id).hint("its listing is at the root"));
    }
    let location = format!("{}{}/", links::listing(&exchange.state.options, &meta.id), links::encode_path(wanted));
    Ok(links::redirect(StatusCode::MOVED_PERMANENTLY, &links::with_query(location, parts.uri.query())))
}

fn best(exchange: &Exchange, meta: &ContentMeta, query: Option<&str>) -> Result<Response, Problem> {
    let Some((index, file)) = playlist::best(meta) else {
        return Err(Problem::new(ProblemKind::NoSuchFile, "the content has no files").item(meta.id));
    };
    let location = links::listing(&exchange.state.options, &meta.id) + &links::file(index, file);
    Ok(links::redirect(StatusCode::TEMPORARY_REDIRECT, &links::with_query(location, query)))
}

impl Format {
    /// Which representation of a folder a client gets who named none.
    #[must_use]
    pub fn negotiated(headers: &http::HeaderMap) -> Self {
        if crate::guard::prefers_html(headers) { Self::Html } else { Self::Json }
    }
}
