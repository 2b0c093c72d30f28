//! A network of one's own: the [`Protocol`] trait over a table in memory, registered in a [`ProtocolManager`].
//!
//! In this network an id is the SHA-1 of the bytes it names, so every content is one file of one piece. The manager finds
//! the protocol by the ids it supports, counts what is under way, and stops it; the reader yields [`VerifiedBytes`],
//! which can only be had by hashing.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use swarmgate_content::{
    BlockHash, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, EventBus, FetchError,
    FetchErrorKind, FileEntry, FileRef, Health, HealthState, Hints, InfoHash, PieceHashes, Protocol, ProtocolKind,
    ProtocolManager, ProtocolStats, ResolveRequest, Stage, StatsSnapshot, Verification, VerifiedBytes,
};

/// Contents by the hash of their bytes.
#[derive(Debug, Default)]
struct Table {
    contents: HashMap<InfoHash, Bytes>,
    stats: ProtocolStats,
}

impl Table {
    /// Takes a content in and returns its id.
    fn insert(&mut self, bytes: &'static [u8]) -> ContentId {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let id = InfoHash::from_slice(hash.as_ref()).expect("a SHA-1 has 20 bytes");
        self.contents.insert(id, Bytes::from_static(bytes));
        ContentId::BtV1(id)
    }

    fn get(&self, id: ContentId, stage: Stage) -> Result<(InfoHash, Bytes), FetchError> {
        let found = id.as_v1().and_then(|hash| Some((hash, self.contents.get(&hash)?.clone())));
        found.ok_or_else(|| FetchError::new(id, stage, FetchErrorKind::NoSource, "the table does not have it"))
    }
}

impl Protocol for Table {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::BitTorrent
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: true, infohash_v2: false, cid: false, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(async move {
            let (hash, bytes) = self.get(request.id, Stage::Resolve)?;
            self.stats.resolved(1);
            let len = bytes.len() as u64;
            let path = vec!["greeting.txt".to_owned()];
            let hashes = Bytes::copy_from_slice(hash.as_bytes());
            Ok(Arc::new(ContentMeta {
                id: request.id,
                name: "greeting.txt".to_owned(),
                files: vec![FileEntry { path, len, offset: 0, padding: false }],
                total_len: len,
                private: false,
                verification: Verification::V1(PieceHashes { piece_len: 1 << 14, hashes }),
            }))
        })
    }

    fn open(&self, file: FileRef, range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(async move {
            let (hash, bytes) = self.get(file.id, Stage::FirstByte)?;
            self.stats.opened(1);
            // The one way for a network to make such bytes: hash the whole block, then cut.
            let checked = VerifiedBytes::check(&BlockHash::from(hash), bytes)
                .map_err(|error| FetchError::new(file.id, Stage::Stream, FetchErrorKind::Invalid, error.to_string()));
            let part = checked.and_then(|block| cut(&block, file.id, range));
            Ok(ContentReader::new(stream::iter([part])))
        })
    }

    fn health(&self) -> Health {
        Health { state: HealthState::Ok, evidence: format!("contents in the table: {}", self.contents.len()) }
    }

    fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    fn shutdown(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        // It started nothing.
        Box::pin(std::future::ready(()))
    }
}

fn cut(block: &VerifiedBytes, id: ContentId, range: ByteRange) -> Result<VerifiedBytes, FetchError> {
    let outside = || FetchError::new(id, Stage::Stream, FetchErrorKind::NotFound, "the range leaves the file");
    let (start, end) = (usize::try_from(range.start()), usize::try_from(range.end()));
    match (start, end) {
        (Ok(start), Ok(end)) if end <= block.len() => Ok(block.slice(start..end)),
        _ => Err(outside()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut table = Table::default();
    let id = table.insert(b"hello from a network of one's own\n");
    let manager = ProtocolManager::new(EventBus::new());
    manager.register(Arc::new(table), Instant::now())?;

    let deadline = Instant::now() + Duration::from_secs(1);
    let meta = manager.resolve(ResolveRequest { id, hints: Hints::default(), deadline }).await?;
    println!("{id} is {} of {} bytes", meta.files[0].joined_path(), meta.files[0].len);

    let range = ByteRange::new(6, 33).ok_or("a range is not empty")?;
    let mut reader = manager.open(FileRef { id, index: 0 }, range).await?;
    while let Some(bytes) = reader.next().await {
        println!("bytes {range}: {}", String::from_utf8_lossy(bytes?.as_ref()));
    }
    drop(reader);

    let unknown = ContentId::BtV1(InfoHash::new([0; 20]));
    let refused = manager.resolve(ResolveRequest { id: unknown, hints: Hints::default(), deadline }).await;
    println!("another id: {}", refused.err().ok_or("nobody has it")?);
    for protocol in manager.list() {
        println!("{:?}: {}, resolved {}", protocol.kind, protocol.health.evidence, protocol.stats.resolved);
    }
    manager.shutdown(Instant::now(), deadline).await;
    Ok(())
}
