//! `POST /items/{id}/prefetch`: parts of a file come into the cache before anybody reads them.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use swarmgate_content::{ByteRange, ContentMeta, FileRef};
use utoipa::ToSchema;

use super::actions::body;
use super::details;
use super::items::bad_body;
use super::shapes::Prefetching;
use crate::error::{Problem, ProblemKind};
use crate::prefetch::Prefetch;
use crate::query::Ahead;
use crate::range::{self, Selection};
use crate::state::GatewayState;

/// Ranges that one request may name.
const MAX_RANGES: usize = 8;

/// What `POST /items/{id}/prefetch` takes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PrefetchRequest {
    /// The file's number, as `/files` lists it.
    file: u32,
    /// Its parts as in a `Range` header: `0-1048575`, `2097152-`, `-65536` for the last; at most 8. All of it if this and
    /// `percent` are absent.
    #[schema(min_items = 1, max_items = 8)]
    ranges: Option<Vec<String>>,
    /// How much of it from its beginning, instead of `ranges`.
    #[schema(minimum = 1, maximum = 100)]
    percent: Option<u8>,
}

/// Begins to fetch parts of a file into the cache: 202, and how many bytes that are. They are fetched as for a reader, in
/// order, and may be evicted as what a reader has left.
///
/// # Errors
/// 404 when the item or the file is not known, 400 for what the file does not have, 409 while the item is paused, 503 when as
/// much is prefetched as may be.
#[utoipa::path(
    post,
    path = "/api/v1/items/{id}/prefetch",
    tag = "items",
    params(("id" = String, Path, description = "The infohash, in hex or base32, of v1 or v2")),
    request_body = PrefetchRequest,
    responses(
        (status = ACCEPTED, description = "It has begun", body = Prefetching),
        (status = BAD_REQUEST, description = "That is no infohash, or the body names no part of the file"),
        (status = NOT_FOUND, description = "The item is not known, or its files are not, or there is no such file"),
        (status = CONFLICT, description = "The item is paused"),
        (status = GONE, description = "This gateway does not serve it"),
        (status = PAYLOAD_TOO_LARGE, description = "More than 64 KiB"),
        (status = 451, description = "This gateway may not serve it"),
        (status = SERVICE_UNAVAILABLE, description = "As much is prefetched as may be"),
    ),
)]
pub async fn begin(
    State(state): State<GatewayState>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let item = details::item(&state, &id)?;
    let wanted: PrefetchRequest = body(request).await?;
    let found = state.catalogue.files(&item.infohash).await.ok_or_else(|| details::no_files(item.infohash))?;
    let (file, len) = find(&found.meta, wanted.file)?;
    state.denylists.check_content(&found.meta.id, &found.meta.files[file.index].joined_path())?;
    let ranges = ranges(&wanted, len)?;
    if item.state == "paused" {
        return Err(Problem::new(ProblemKind::Paused, "nothing is fetched of it until it is resumed"));
    }
    let bytes: u64 = ranges.iter().map(ByteRange::len).sum();
    if bytes > 0 && !state.prefetches.begin(Prefetch::of(&state, file, ranges)) {
        return Err(Problem::new(ProblemKind::Busy, "as many files are prefetched as may be at once"));
    }
    let document = json!({ "infohash": item.infohash, "file": wanted.file, "bytes": bytes });
    Ok(super::json(StatusCode::ACCEPTED, &document))
}

/// A file by its number, and its length; those that only fill up are nobody's.
fn find(meta: &ContentMeta, number: u32) -> Result<(FileRef, u64), Problem> {
    let index = usize::try_from(number).unwrap_or(usize::MAX);
    let entry = meta.files.get(index).filter(|entry| !entry.padding);
    let none = || Problem::new(ProblemKind::NoSuchFile, format!("there is no file {number}")).item(meta.id);
    entry.map(|entry| (FileRef { id: meta.id, index }, entry.len)).ok_or_else(none)
}

/// The parts of a file of `len` bytes that are wanted.
fn ranges(wanted: &PrefetchRequest, len: u64) -> Result<Vec<ByteRange>, Problem> {
    match (&wanted.ranges, wanted.percent) {
        (Some(_), Some(_)) => Err(bad_body("either ranges or percent")),
        (None, Some(percent)) if !(1..=100).contains(&percent) => Err(bad_body("percent is from 1 to 100")),
        (None, percent) => Ok(Ahead::Percent(percent.unwrap_or(100)).of(len).into_iter().collect()),
        (Some(texts), None) if texts.is_empty() || texts.len() > MAX_RANGES => {
            Err(bad_body(format!("ranges has between 1 and {MAX_RANGES} parts")))
        }
        (Some(texts), None) => texts.iter().map(|text| one_range(text, len)).collect(),
    }
}

fn one_range(text: &str, len: u64) -> Result<ByteRange, Problem> {
    match range::select(Some(&format!("bytes={text}")), len) {
        Selection::Partial(range) if !text.contains(',') => Ok(range),
        Selection::Unsatisfiable { len } => Err(bad_body(format!("a range lies behind the file's {len} bytes"))),
        Selection::Full | Selection::Partial(_) | Selection::Multi(_) | Selection::TooManyRanges { .. } => {
            Err(bad_body("each of ranges is one range of bytes, as 0-1048575, 2097152- or -65536"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(ranges_wanted: Option<&[&str]>, percent: Option<u8>, len: u64) -> Option<Vec<(u64, u64)>> {
        let texts = ranges_wanted.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect());
        let found = ranges(&PrefetchRequest { file: 0, ranges: texts, percent }, len).ok()?;
        Some(found.iter().map(|range| (range.start(), range.end())).collect())
    }

    #[test]
    fn parts_are_named_by_ranges_or_by_a_percentage() {
        assert_eq!(read(None, None, 1000), Some(vec![(0, 1000)]));
        assert_eq!(read(None, Some(1), 1001), Some(vec![(0, 11)]), "a part of a percent counts as one");
        assert_eq!(read(None, Some(100), u64::MAX), Some(vec![(0, u64::MAX)]));
        assert_eq!(read(Some(&["0-9", "-10", "990-"]), None, 1000), Some(vec![(0, 10), (990, 1000), (990, 1000)]));
        assert_eq!(read(None, Some(50), 0), Some(Vec::new()), "there is nothing to fetch of an empty file");
    }

    #[test]
    fn what_is_no_part_of_the_file_is_refused() {
        let none: &[&str] = &[];
        for texts in [none, &["x"], &["9-1"], &["1000-"], &["0-1,500-501"], &["0-1,1-2"], &[""], &["0-1"; 9]] {
            assert_eq!(read(Some(texts), None, 1000), None, "{texts:?}");
        }
        assert_eq!(read(None, Some(0), 1000), None);
        assert_eq!(read(None, Some(101), 1000), None);
        assert_eq!(read(Some(&["0-1"]), Some(5), 1000), None);
    }
}
