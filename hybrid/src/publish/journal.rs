//! What a run that is cut short leaves to the next: which files are done, and their blocks, held in the store.
//!
//! A job is known by its path, the kind of its torrent, the length of its pieces, and whether it copies. Its records are
//! one for the job (when it began) and some for each file that is done: what the file was, the root of its DAG, and the
//! hashes of the pieces that end in it. They are written when the blocks are in the store, so what they say is true at
//! every moment. What was noted for a v1 torrent, by any release, is no word about a hybrid: its pieces are others.
//!
//! They are dropped, and the blocks let go, when the job is sealed, when it fails, and when nobody has gone on with it
//! for a week.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use swarmgate_content::merkle::Root;
use swarmgate_content::{BlockHash, Cid, HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::build::Built;
use swarmgate_ipfs_proto::codec::{Codec, links};
use swarmgate_store::{ReadError, RecordError, Store};

use super::TorrentKind;
use super::layout::Layout;
use super::tree::{SourceFile, Tree};

/// The store's table.
const TABLE: &str = "publish-journal";
/// What the names begin with under which blocks are held.
const HOLD: &str = "publish-hold:";
/// Bytes of hashes in one record: 54 KB of text, in a record of at most 64 KiB.
const HASH_BYTES_A_ROW: usize = 40_000;
/// Records that are written or deleted at a time.
const AT_ONCE: usize = 256;
/// How long an unfinished job is held that nobody goes on with.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Bytes of a job's name.
const JOB_BYTES: usize = 32;

/// The journal of one job.
#[derive(Debug)]
pub(super) struct Journal {
    store: Store,
    job: Vec<u8>,
    hold: String,
    done: BTreeMap<usize, Rows>,
    layout: Arc<Layout>,
}

/// The names of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PieceHashes {
    pub(super) sha1: [u8; 20],
    /// In a hybrid.
    pub(super) root: Option<Root>,
}

/// A file that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) built: Built,
    /// Of the pieces that end in it.
    pub(super) pieces: Vec<(usize, PieceHashes)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    /// Seconds since 1970.
    at: u64,
}

/// A record of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    /// The file: a hash of its path in the torrent, of what tells that it was changed, and of its place.
    file: String,
    root: Cid,
    file_bytes: u64,
    dag_bytes: u64,
    /// How many records the file has.
    rows: u32,
    /// The first of its pieces that stand here, and the hashes of that and of those that follow, end to end in base64.
    first: usize,
    hashes: String,
    /// In a hybrid, the roots of the same pieces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    roots: String,
}

#[derive(Debug)]
struct Rows {
    file: String,
    expected: u32,
    found: u32,
    done: Done,
}

impl Journal {
    /// Takes up a job, or begins it.
    pub(super) async fn open(store: &Store, tree: &Tree, layout: Arc<Layout>, copy: bool) -> Result<Self, RecordError> {
        let mut spelled = tree.path.as_os_str().as_encoded_bytes().to_vec();
        spelled.extend_from_slice(&layout.piece_len().to_be_bytes());
        spelled.push(copy.into());
        if layout.kind() == TorrentKind::Hybrid {
            spelled.push(2);
        }
        let job = HashKind::Sha2_256.hash(&spelled).digest().to_vec();
        let hold = hold_of(&job);
        let mut journal = Self { store: store.clone(), job, hold, done: BTreeMap::new(), layout };
        for (key, value) in store.list_records(TABLE).await? {
            journal.take(&key, &value);
        }
        let begun = serde_json::to_vec(&Begun { at: now() }).unwrap_or_default();
        store.put_record(TABLE, &journal.job, begun.into()).await?;
        Ok(journal)
    }

    /// Lets jobs go that nobody has gone on with, and holds that no job has.
    pub(super) async fn forget_old(store: &Store) -> Result<(), RecordError> {
        let mut kept = BTreeSet::new();
        let mut old = Vec::new();
        for (key, value) in store.list_records(TABLE).await? {
            let job = key.slice(..JOB_BYTES.min(key.len()));
            if key.len() > JOB_BYTES && kept.contains(&job) {
                continue;
            }
            let begun: Option<Begun> = serde_json::from_slice(&value).ok().filter(|_| key.len() == JOB_BYTES);
            let fresh = begun.is_some_and(|begun| now().saturating_sub(begun.at) < PATIENCE.as_secs());
            if fresh {
                kept.insert(job);
            } else {
                old.push(key);
            }
        }
        delete(store, &old).await?;
        let kept: BTreeSet<String> = kept.iter().map(|job| hold_of(job)).collect();
        for name in store.pinned_roots().into_iter().filter(|name| name.starts_with(HOLD) && !kept.contains(name)) {
            tracing::info!(name, "what an unfinished publication held is let go");
            store.unpin(&name);
        }
        Ok(())
    }

    /// The name under which the job's blocks are held.
    pub(super) fn hold(&self) -> &str {
        &self.hold
    }

    /// What an earlier run has made of a file, if the file is what it was then, where it was in the content.
    pub(super) fn done(&self, number: usize, file: &SourceFile) -> Option<Done> {
        let rows = self.done.get(&number)?;
        let same = rows.found == rows.expected && rows.file == self.fingerprint(number, file);
        same.then(|| rows.done.clone())
    }

    /// Notes files whose blocks are in the store.
    pub(super) async fn note(&self, tree: &Tree, done: Vec<(usize, Done)>) -> Result<(), RecordError> {
        let rows: Vec<(Vec<u8>, Bytes)> =
            done.into_iter().flat_map(|(number, done)| self.rows(number, &tree.files[number], &done)).collect();
        for some in rows.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|(key, value)| self.store.put_record(TABLE, key, value.clone()))).await?;
        }
        Ok(())
    }

    /// Drops the job, and lets go what it held.
    pub(super) async fn let_go(&self) -> Result<(), RecordError> {
        let records = self.store.list_records(TABLE).await?;
        let ours: Vec<Bytes> =
            records.into_iter().map(|(key, _)| key).filter(|key| key.starts_with(&self.job)).collect();
        delete(&self.store, &ours).await?;
        self.store.unpin(&self.hold);
        self.store.flush().await
    }

    fn rows(&self, number: usize, file: &SourceFile, done: &Done) -> Vec<(Vec<u8>, Bytes)> {
        let runs = done.pieces.chunk_by(|(one, _), (next, _)| one + 1 == *next);
        let each = 20 + if self.layout.kind() == TorrentKind::Hybrid { 32 } else { 0 };
        let mut chunks: Vec<&[_]> = runs.flat_map(|run| run.chunks(HASH_BYTES_A_ROW / each)).collect();
        if chunks.is_empty() {
            chunks.push(&[]);
        }
        let rows = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        let fingerprint = self.fingerprint(number, file);
        let row = |(part, some): (u32, &&[(usize, PieceHashes)])| {
            let hashes: Vec<u8> = some.iter().flat_map(|(_, hashes)| hashes.sha1).collect();
            let roots: Vec<u8> = some.iter().filter_map(|(_, hashes)| hashes.root).flatten().collect();
            let row = Row {
                file: fingerprint.clone(),
                root: done.built.cid,
                file_bytes: done.built.file_bytes,
                dag_bytes: done.built.dag_bytes,
                rows,
                first: some.first().map_or(0, |(first, _)| *first),
                hashes: BASE64.encode(&hashes),
                roots: BASE64.encode(&roots),
            };
            (self.key(number, part), Bytes::from(serde_json::to_vec(&row).unwrap_or_default()))
        };
        (0..).zip(&chunks).map(row).collect()
    }

    fn key(&self, number: usize, part: u32) -> Vec<u8> {
        let mut key = self.job.clone();
        key.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
        key.extend_from_slice(&part.to_be_bytes());
        key
    }

    /// Takes up a record. One that makes no sense is a file that is not done.
    fn take(&mut self, key: &[u8], value: &[u8]) {
        let Some(rest) = key.strip_prefix(&self.job[..]).and_then(|rest| <[u8; 8]>::try_from(rest).ok()) else {
            return;
        };
        let Ok(row) = serde_json::from_slice::<Row>(value) else { return };
        let number = u64::from_be_bytes(rest) >> 32;
        let Ok(number) = usize::try_from(number) else { return };
        let Some(hashes) = self.read_hashes(&row) else { return };
        let built = Built { cid: row.root, file_bytes: row.file_bytes, dag_bytes: row.dag_bytes };
        let rows = self.done.entry(number).or_insert_with(|| Rows {
            file: row.file.clone(),
            expected: row.rows,
            found: 0,
            done: Done { built, pieces: Vec::new() },
        });
        if rows.file != row.file || rows.expected != row.rows || rows.done.built != built {
            return;
        }
        rows.found += 1;
        rows.done.pieces.extend((row.first..self.layout.pieces()).zip(hashes));
    }

    /// The names of the pieces in a record; in a hybrid, each has a root.
    fn read_hashes(&self, row: &Row) -> Option<Vec<PieceHashes>> {
        let (hashes, roots) = (BASE64.decode(row.hashes.as_bytes()).ok()?, BASE64.decode(row.roots.as_bytes()).ok()?);
        let hashes: &[[u8; 20]] = hashes.as_chunks().0;
        let roots: &[Root] = roots.as_chunks().0;
        let expected = if self.layout.kind() == TorrentKind::Hybrid { hashes.len() } else { 0 };
        let roots_of = roots.iter().copied().map(Some).chain(std::iter::repeat(None));
        let named = hashes.iter().zip(roots_of).map(|(sha1, root)| PieceHashes { sha1: *sha1, root });
        (roots.len() == expected).then(|| named.collect())
    }

    fn fingerprint(&self, number: usize, file: &SourceFile) -> String {
        let mut spelled = file.origin.mark();
        let range = self.layout.range_of(number);
        spelled.extend_from_slice(&range.start.to_be_bytes());
        // The last piece is shorter than the others, and is not the last when files have been added.
        spelled.push(self.layout.ends_with(number).into());
        spelled.extend_from_slice(file.names.join("/").as_bytes());
        HEXLOWER.encode(HashKind::Sha2_256.hash(&spelled).digest())
    }
}

fn hold_of(job: &[u8]) -> String {
    format!("{HOLD}{}", HEXLOWER.encode(job))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn delete(store: &Store, keys: &[Bytes]) -> Result<(), RecordError> {
    for some in keys.chunks(AT_ONCE) {
        try_join_all(some.iter().map(|key| store.delete_record(TABLE, key))).await?;
    }
    Ok(())
}

/// Whether every block of a file's DAG is in the store.
pub(super) async fn is_here(store: &Store, root: &Cid) -> Result<bool, ReadError> {
    let mut stack = vec![*root];
    while let Some(cid) = stack.pop() {
        if VerifiedBytes::inline(&cid).is_some() {
            continue;
        }
        let Some(hash) = BlockHash::from_cid(&cid) else { return Ok(false) };
        if cid.codec() == Codec::Raw.code() {
            if !store.contains(&hash) {
                return Ok(false);
            }
            continue;
        }
        let Some(block) = store.read_all(&hash).await? else { return Ok(false) };
        let Ok(below) = links(&cid, &block) else { return Ok(false) };
        stack.extend(below);
    }
    Ok(true)
}
