//! What there is to know of one item: its files, its trackers, and who has it.

use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Serialize;
use serde_json::json;
use swarmgate_bittorrent::TrackerReport;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_content::{ContentId, ContentMeta, InfoHash};
use utoipa::ToSchema;

use super::items::{infohash, no_item, parameter};
use super::shapes::{Files, Sources, TrackerList};
use crate::catalogue::ItemStatus;
use crate::error::{Problem, ProblemKind};
use crate::links;
use crate::state::GatewayState;

/// Files in one answer. A torrent may have a million; the next answer begins where this one ends.
const MAX_FILES_TOLD: usize = 10_000;

/// A file of an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileRow {
    /// Its number, as in `/bt/{id}/@7`: files that only fill up are counted, and not listed.
    number: usize,
    /// Its path below the item's root, with `/` between its parts; untrusted text.
    path: String,
    /// Its length, in bytes.
    len: u64,
    /// Bytes of it in the cache.
    have_bytes: u64,
    /// Whether it is fetched though nobody reads it, and held: all files of a pinned item are, or those that are selected.
    selected: bool,
    /// Where it is read.
    links: FileLinks,
}

/// Where a file is read, from the root of this host.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileLinks {
    /// To play it.
    content: String,
    /// To save it.
    download: String,
}

/// A tracker of an item.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrackerRow {
    /// Its URL without user, query and any path but `/announce`: those may hold a passkey.
    url: String,
    /// Its tier (BEP 12), from 0.
    tier: usize,
    /// `item`, or `operator` where the configuration adds it.
    named_by: &'static str,
    /// `working`, `failing`, `asking` for the first time, `waiting` for its turn, `spare` behind one of its tier that works,
    /// `websocket` (it introduces browsers' peers), or `idle` while the item is.
    state: &'static str,
    /// Failures since it last worked.
    failures: u32,
    /// Seconds since it last answered or failed.
    heard_s: Option<u64>,
    /// Seconds until it is asked next, as far as it is; its own interval decides.
    next_s: Option<u64>,
    /// Peers that it gave the last time.
    peers: Option<usize>,
    /// Peers that it knows to have everything.
    seeds: Option<u32>,
    /// Peers that it knows to have less.
    leeches: Option<u32>,
    /// Why it failed, or its warning; untrusted text.
    said: Option<String>,
}

/// Lists an item's files in their order, with what the cache has of each; at most 10,000 in one answer.
///
/// # Errors
/// 404 when the item is not known, or its metadata is not; 400 when `after` is no number.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/files",
    tag = "items",
    params(
        ("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2"),
        ("after" = Option<i32>, Query, minimum = 0, description = "The number behind which to begin: `next` of the answer before"),
    ),
    responses(
        (status = OK, description = "The files", body = Files),
        (status = BAD_REQUEST, description = "That is no infohash, or after is no number"),
        (status = NOT_FOUND, description = "The item is not known, or its metadata is not yet"),
    ),
)]
pub async fn files(State(state): State<GatewayState>, Path(id): Path<String>, uri: Uri) -> Result<Response, Problem> {
    let item = item(&state, &id)?;
    // The type that the description has.
    let from = match parameter(&uri, "after")?.map(|text| text.parse::<i32>().map(usize::try_from)) {
        None => 0,
        Some(Ok(Ok(after))) => after.saturating_add(1),
        Some(_) => return Err(Problem::new(ProblemKind::BadQuery, "after is the number of a file")),
    };
    let found = state.catalogue.files(&item.infohash).await.ok_or_else(|| no_files(item.infohash))?;
    let root = links::listing(&state.options, &found.meta.id);
    let (mut rows, next) = file_rows(&found.meta, &found.have_bytes, &root, from);
    rows.iter_mut().for_each(|row| row.selected = item.pinned && is_selected(item.select.as_ref(), row.number));
    Ok(super::json(StatusCode::OK, &json!({ "infohash": item.infohash, "files": rows, "next": next })))
}

fn is_selected(select: Option<&Selection>, number: usize) -> bool {
    select.is_none_or(|select| u32::try_from(number).is_ok_and(|number| select.contains(number)))
}

/// The rows from a number on, and the number to go on behind, where there are more.
fn file_rows(meta: &ContentMeta, have: &[u64], root: &str, from: usize) -> (Vec<FileRow>, Option<usize>) {
    let mut files = meta.files.iter().enumerate().skip(from).filter(|(_, file)| !file.padding);
    let rows: Vec<FileRow> = files
        .by_ref()
        .take(MAX_FILES_TOLD)
        .map(|(number, file)| {
            let content = format!("{root}{}", links::file(number, file));
            let download = format!("{content}?download=true");
            let have_bytes = have.get(number).copied().unwrap_or_default();
            let links = FileLinks { content, download };
            FileRow { number, path: file.joined_path(), len: file.len, have_bytes, selected: false, links }
        })
        .collect();
    let next = files.next().and_then(|_| rows.last()).map(|row| row.number);
    (rows, next)
}

/// Lists an item's trackers: what each said last, and when it is asked next.
///
/// # Errors
/// 404 when the item is not known.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/trackers",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "Its own trackers, then those that the configuration adds", body = TrackerList),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
    ),
)]
pub async fn trackers(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = std::future::ready(item(&state, &id)).await?;
    Ok(super::json(StatusCode::OK, &tracker_list(&state, item.infohash)))
}

/// The trackers of an item as a document.
pub(super) fn tracker_list(state: &GatewayState, id: InfoHash) -> serde_json::Value {
    let found = state.catalogue.trackers(&id).unwrap_or_default();
    let own = found.own.into_iter().map(|tracker| tracker_row(tracker, "item"));
    let rows: Vec<_> = own.chain(found.operators.into_iter().map(|tracker| tracker_row(tracker, "operator"))).collect();
    json!({ "infohash": id, "trackers": rows })
}

fn tracker_row(tracker: TrackerReport, named_by: &'static str) -> TrackerRow {
    TrackerRow {
        url: tracker.url,
        tier: tracker.tier,
        named_by,
        state: tracker.state,
        failures: tracker.failures,
        heard_s: tracker.heard.map(|heard| heard.as_secs()),
        next_s: tracker.next.map(|next| next.as_secs()),
        peers: tracker.peers,
        seeds: tracker.seeds,
        leeches: tracker.leeches,
        said: tracker.said,
    }
}

/// Tells who has an item and how they fare: its swarm, what is fetched of it over several networks, and what was tried.
///
/// # Errors
/// 404 when the item is not known.
#[utoipa::path(
    get,
    path = "/api/v1/items/{id}/sources",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    responses(
        (status = OK, description = "Who has it", body = Sources),
        (status = BAD_REQUEST, description = "That is no infohash"),
        (status = NOT_FOUND, description = "The item is not known"),
    ),
)]
pub async fn sources(State(state): State<GatewayState>, Path(id): Path<String>) -> Result<Response, Problem> {
    let item = std::future::ready(item(&state, &id)).await?;
    let v2 = item.infohash_v2.map(ContentId::BtV2);
    let names: Vec<ContentId> = [ContentId::BtV1(item.infohash)].into_iter().chain(v2).collect();
    let mut fetches = state.hybrid.as_ref().map(|hybrid| hybrid.fetches()).unwrap_or_default();
    fetches.retain(|fetch| names.contains(&fetch.item));
    let attempts = state.manager.attempts(&ContentId::BtV1(item.infohash));
    let swarm = json!({
        "peers": item.peers,
        "seeds": item.seeds,
        "download_rate": item.download_rate,
        "downloaded": item.downloaded,
        "told": item.swarm,
    });
    let document = json!({ "infohash": item.infohash, "swarm": swarm, "fetches": fetches, "attempts": attempts });
    Ok(super::json(StatusCode::OK, &document))
}

/// The item that a path names.
pub(super) fn item(state: &GatewayState, id: &str) -> Result<ItemStatus, Problem> {
    let id = infohash(id)?;
    state.catalogue.item(&id).ok_or_else(|| no_item(id))
}

pub(super) fn no_files(id: InfoHash) -> Problem {
    Problem::new(ProblemKind::NoSuchItem, "its files are not known: its metadata has not come yet")
        .item(ContentId::BtV1(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meta;

    #[test]
    fn many_files_are_told_in_parts_and_padding_is_not() {
        let name = |number: usize| if number == 2 { ".pad/2".to_owned() } else { format!("f{number}") };
        let names: Vec<String> = (0..=MAX_FILES_TOLD + 1).map(name).collect();
        let files: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 10)).collect();
        let (meta, have) = (meta(&files), vec![5; files.len()]);
        let (rows, next) = file_rows(&meta, &have, "/bt/x/", 0);
        assert_eq!((rows.len(), rows[2].number, next), (MAX_FILES_TOLD, 3, Some(MAX_FILES_TOLD)));
        assert_eq!((rows[0].path.as_str(), rows[0].have_bytes, rows[0].links.content.as_str()), ("f0", 5, "/bt/x/f0"));
        let (rows, next) = file_rows(&meta, &have, "/bt/x/", MAX_FILES_TOLD + 1);
        assert_eq!((rows.len(), rows[0].number, next), (1, MAX_FILES_TOLD + 1, None));
        assert!(file_rows(&meta, &have, "/bt/x/", usize::MAX).0.is_empty());
    }
}
