//! `/magnet?xt=…`: a magnet link pasted as a query.
//!
//! Its trackers and peers are hints for finding the content. If it means one file, this URL is that file, ranges and all;
//! if it means several, the client is sent to the listing. Of a magnet that names a key instead (BEP 46), the DHT says
//! which torrent it means now.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_content::{ContentId, ContentMeta};

use crate::error::{Problem, ProblemKind};
use crate::exchange::Exchange;
use crate::respond::{self, Freshness};
use crate::routes::btpk;
use crate::state::GatewayState;
use crate::{links, query};

/// Answers a GET or HEAD.
///
/// # Errors
/// 400 for a magnet that cannot be read; else whatever resolving and reading meet.
pub async fn get(State(state): State<GatewayState>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let mut magnet = query::magnet(parts.uri.query())?;
    if let Some(key) = magnet.public_key.filter(|_| magnet.v1.is_none() && magnet.v2.is_none()) {
        magnet.v1 = Some(btpk::follow(&state, &parts, &key, &magnet.salt).await?);
    }
    let id = id(&magnet)?;
    let exchange = Exchange::begin(state, &parts, magnet)?;
    let meta = exchange.resolve(id).await?;
    match (exchange.query.format, one_file(&exchange, &meta)) {
        (None, Some(index)) => respond::file(exchange, &meta, index, Freshness::Brief).await,
        (None | Some(_), _) => Ok(elsewhere(&exchange, &meta)),
    }
}

/// The id by which a magnet's content is served: v1 before v2, since a hybrid torrent has the same files under both.
///
/// # Errors
/// 400 for a magnet with neither.
pub fn id(magnet: &Magnet) -> Result<ContentId, Problem> {
    let v1 = magnet.v1.map(ContentId::BtV1);
    let v2 = magnet.v2.map(ContentId::BtV2);
    v1.or(v2).ok_or_else(|| Problem::new(ProblemKind::BadMagnet, "the magnet has no xt=urn:btih: or urn:btmh:"))
}

/// The file that is meant, if it is one: the only one selected, or the only one there is.
fn one_file(exchange: &Exchange, meta: &ContentMeta) -> Option<usize> {
    if let Some(selected) = &exchange.magnet.select {
        return selected.single().and_then(|index| usize::try_from(index).ok());
    }
    let mut files = meta.files.iter().enumerate().filter(|(_, file)| !file.padding);
    let (first, _) = files.next()?;
    files.next().is_none().then_some(first)
}

/// Sends the client to the listing, with what of the query means something there.
fn elsewhere(exchange: &Exchange, meta: &ContentMeta) -> Response {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if let Some(format) = exchange.query.format {
        query.append_pair("format", format.name());
    }
    if let Some(selected) = &exchange.magnet.select {
        query.append_pair("so", &selected.to_string());
    }
    let location = links::with_query(links::listing(&exchange.state.options, &meta.id), Some(&query.finish()));
    links::redirect(StatusCode::SEE_OTHER, &location)
}
