//! `/cache`: what takes how much of the cache, and the ways to let go of it.
//!
//! The store keeps its budget by itself at every step, so nobody has to collect for it; collecting is for a volume that
//! others have filled, or that the operator wants some of back.

use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Serialize;
use swarmgate_content::HashKind;
use swarmgate_store::{Amount, Store};
use utoipa::ToSchema;

use super::items::parameter;
use crate::error::{Problem, ProblemKind};
use crate::state::GatewayState;

/// Rows of one list in an answer, the largest first; what is left out is counted.
const MAX_ROWS: usize = 1000;

/// What takes how much of the cache, in bytes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CacheAccount {
    /// The lengths of all blocks.
    bytes: u64,
    /// How many blocks there are.
    blocks: u64,
    /// The budget, `cache.max_size`.
    max_bytes: u64,
    /// Blocks that are kept.
    pinned_bytes: u64,
    /// Blocks that are just being read, and are not kept.
    in_use_bytes: u64,
    /// What `DELETE` would let go.
    evictable_bytes: u64,
    /// Promised to what is just coming in.
    reserved_bytes: u64,
    /// Blocks that are in memory too.
    memory_bytes: u64,
    /// Blocks that lie in files of others, and take nothing of the budget.
    referenced_blocks: u64,
    /// Their lengths.
    referenced_bytes: u64,
    /// What is free on the volume; null where nobody says.
    free_disk_bytes: Option<u64>,
    /// What is to stay free on it, `cache.min_free`.
    min_free_bytes: u64,
    /// The blocks by the hash that names them: torrents' pieces are `sha1` or `bt-piece`, the rest is IPFS's.
    kinds: Vec<KindRow>,
    /// Torrents of which something is here, the largest first, a thousand of them at most. Pieces that two have count
    /// for both.
    torrents: Vec<TorrentRow>,
    /// How many there are.
    torrents_in_all: usize,
    /// What is kept under one name, the largest first, a thousand of them at most.
    pins: Vec<PinRow>,
    /// How many there are.
    pins_in_all: usize,
}

/// The blocks that are named by one kind of hash.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KindRow {
    /// As `sha1`, `bt-piece`, `sha2-256`.
    kind: String,
    /// How many.
    blocks: u64,
    /// Their lengths.
    bytes: u64,
}

/// A torrent of which something is here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TorrentRow {
    /// Its infohash.
    item: String,
    /// Its name, once it is known.
    name: Option<String>,
    /// What is here of it.
    bytes: u64,
    /// Whether it stays when idle. Its bytes go all the same when the room is needed.
    kept: bool,
}

/// What is kept under one name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PinRow {
    /// As `ipfs:` and the CID of a root.
    root: String,
    /// How many blocks.
    blocks: u64,
    /// Their lengths.
    bytes: u64,
}

/// What was let go, and what is left.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Freed {
    /// Blocks that are gone.
    freed_blocks: u64,
    /// Their lengths.
    freed_bytes: u64,
    /// The lengths of the blocks that are left.
    bytes: u64,
    /// The budget, `cache.max_size`.
    max_bytes: u64,
}

/// Tells what takes how much of the cache.
///
/// # Errors
/// Only by a mistake of the gateway's own.
#[utoipa::path(
    get,
    path = "/api/v1/cache",
    tag = "cache",
    responses(
        (status = OK, description = "What takes how much", body = CacheAccount),
    ),
)]
pub async fn show(State(state): State<GatewayState>) -> Result<Response, Problem> {
    // Counting the blocks of all pins may take a while.
    let account = tokio::task::spawn_blocking(move || account(&state)).await;
    let account = account.map_err(|error| Problem::internal(format!("the cache was not counted: {error}")))?;
    Ok(super::json(StatusCode::OK, &account))
}

/// Lets the least recently used go, but nothing that is pinned or being read, until `max_bytes` are left and
/// `cache.min_free` is free on the volume. Without `max_bytes` that is `cache.max_size`, which is kept anyway.
///
/// # Errors
/// 400 for a number that is none.
#[utoipa::path(
    post,
    path = "/api/v1/cache/gc",
    tag = "cache",
    params(("max_bytes" = Option<i64>, Query, minimum = 0, description = "How much may stay, in bytes; cache.max_size when not given")),
    responses(
        (status = OK, description = "What was let go", body = Freed),
        (status = BAD_REQUEST, description = "max_bytes is no number of bytes"),
    ),
)]
pub async fn collect(State(state): State<GatewayState>, uri: Uri) -> Result<Response, Problem> {
    // The type that the description has.
    let most_bytes = match parameter(&uri, "max_bytes")?.map(|text| text.parse::<i64>().map(u64::try_from)) {
        None => u64::MAX,
        Some(Ok(Ok(bytes))) => bytes,
        Some(_) => return Err(Problem::new(ProblemKind::BadQuery, "max_bytes is a number of bytes, as 5368709120")),
    };
    let gone = state.store.collect(most_bytes).await;
    tracing::info!(gone.blocks, gone.bytes, "the cache was collected by the operator");
    Ok(freed(&state.store, gone))
}

/// Lets all go that is neither pinned nor being read; what comes in meanwhile may stay.
#[utoipa::path(
    delete,
    path = "/api/v1/cache",
    tag = "cache",
    responses(
        (status = OK, description = "What was let go", body = Freed),
    ),
)]
pub async fn purge(State(state): State<GatewayState>) -> Response {
    let gone = state.store.clear().await;
    tracing::info!(gone.blocks, gone.bytes, "the cache was purged by the operator");
    freed(&state.store, gone)
}

fn freed(store: &Store, gone: Amount) -> Response {
    let left = store.usage();
    let freed =
        Freed { freed_blocks: gone.blocks, freed_bytes: gone.bytes, bytes: left.bytes, max_bytes: left.max_bytes };
    super::json(StatusCode::OK, &freed)
}

fn account(state: &GatewayState) -> CacheAccount {
    let usage = state.store.usage();
    let kinds = state.store.kinds().into_iter().map(|(kind, amount)| kind_row(kind, amount)).collect();
    let (torrents, torrents_in_all) = largest(torrents(state), |row| row.bytes);
    let (pins, pins_in_all) = largest(pins(&state.store), |row| row.bytes);
    CacheAccount {
        bytes: usage.bytes,
        blocks: usage.blocks,
        max_bytes: usage.max_bytes,
        pinned_bytes: usage.pinned_bytes,
        in_use_bytes: usage.protected_bytes,
        evictable_bytes: usage.bytes.saturating_sub(usage.pinned_bytes + usage.protected_bytes),
        reserved_bytes: usage.reserved_bytes,
        memory_bytes: usage.memory_bytes,
        referenced_blocks: usage.referenced_blocks,
        referenced_bytes: usage.referenced_bytes,
        free_disk_bytes: usage.free_disk_bytes,
        min_free_bytes: usage.min_free_bytes,
        kinds,
        torrents,
        torrents_in_all,
        pins,
        pins_in_all,
    }
}

fn kind_row(kind: HashKind, amount: Amount) -> KindRow {
    KindRow { kind: kind.to_string(), blocks: amount.blocks, bytes: amount.bytes }
}

fn torrents(state: &GatewayState) -> Vec<TorrentRow> {
    let items = state.catalogue.items().into_iter().filter(|item| item.have_bytes > 0);
    items
        .map(|item| TorrentRow {
            item: item.infohash.to_string(),
            name: item.name,
            bytes: item.have_bytes,
            kept: item.kept,
        })
        .collect()
}

fn pins(store: &Store) -> Vec<PinRow> {
    let row = |root: String| {
        let Amount { blocks, bytes } = store.amount_of_root(&root);
        PinRow { root, blocks, bytes }
    };
    store.pinned_roots().into_iter().map(row).collect()
}

/// The first rows by size, those of the same size in their order; and how many there were.
fn largest<Row>(mut rows: Vec<Row>, bytes: fn(&Row) -> u64) -> (Vec<Row>, usize) {
    let in_all = rows.len();
    rows.sort_by_key(|row| std::cmp::Reverse(bytes(row)));
    rows.truncate(MAX_ROWS);
    (rows, in_all)
}
