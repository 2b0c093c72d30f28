//! Sources, routers and DAGs for tests: the seam's other side, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_content::{BlockHash, BoxFuture, Cid, FailureClass, HashKind, VerifiedBytes};
use swarmgate_ipfs_proto::block::check;
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, FileBuilder, Profile};
use swarmgate_store::{Store, StoreOptions};

use crate::blocks::Blocks;
use crate::patience::Patience;
use crate::source::{BlockSource, Provider, Router, SessionId, SourceError, Want};

/// Small chunks, so that small files have many blocks.
pub(crate) const PROFILE: Profile = Profile { chunk_bytes: 1024, links_per_node: 8, ..Profile::V1_2025 };

/// How a [`Shelf`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// With the block, or that it has it not.
    Honest,
    /// Never.
    Silent,
    /// With other bytes than the block's.
    Lying,
    /// With other bytes than the block's, as it has noticed itself.
    Caught,
    /// With a failure, after so many blocks.
    FailingAfter(usize),
    /// As an honest one, once a provider is known.
    Introduced,
}

/// A source that has blocks in memory.
#[derive(Debug)]
pub(crate) struct Shelf {
    name: &'static str,
    blocks: Mutex<BTreeMap<BlockHash, (Cid, Bytes)>>,
    habit: Habit,
    delay: Duration,
    pub(crate) asked: Mutex<Vec<Want>>,
    running: AtomicUsize,
    answered: AtomicUsize,
    pub(crate) providers: Mutex<Vec<Provider>>,
    pub(crate) ended: Mutex<Vec<SessionId>>,
    pub(crate) landed: Mutex<BTreeSet<BlockHash>>,
    pub(crate) kept: Mutex<Vec<Cid>>,
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shelf {
    pub(crate) fn new(name: &'static str, habit: Habit, delay: Duration) -> Arc<Self> {
        Arc::new(Self {
            name,
            blocks: Mutex::default(),
            habit,
            delay,
            asked: Mutex::default(),
            running: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            providers: Mutex::default(),
            ended: Mutex::default(),
            landed: Mutex::default(),
            kept: Mutex::default(),
        })
    }

    pub(crate) fn with(self: Arc<Self>, dag: &Dag) -> Arc<Self> {
        let hash = |block: &Block| BlockHash::from_cid(&block.cid).unwrap();
        self.blocks.lock().extend(dag.blocks.iter().map(|block| (hash(block), (block.cid, block.bytes.clone()))));
        self
    }

    /// How many requests are under way.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn asked_for(&self) -> Vec<Cid> {
        self.asked.lock().iter().map(|want| want.cid).collect()
    }

    fn answer(&self, want: &Want) -> Result<VerifiedBytes, SourceError> {
        let no = |class, detail: &str| Err(SourceError { class, detail: detail.to_owned() });
        match self.habit {
            Habit::Lying => return Ok(VerifiedBytes::name(HashKind::Sha2_256, Bytes::from_static(b"lie")).1),
            Habit::Caught => return no(FailureClass::Corruption, "the bytes do not have the block's hash"),
            Habit::FailingAfter(count) if self.answered.fetch_add(1, Ordering::SeqCst) >= count => {
                return no(FailureClass::Source, "the connection was reset");
            }
            Habit::Introduced if self.providers.lock().is_empty() => return no(FailureClass::Neutral, "nobody known"),
            Habit::Honest | Habit::Silent | Habit::FailingAfter(_) | Habit::Introduced => {}
        }
        let hash = BlockHash::from_cid(&want.cid).unwrap();
        match self.blocks.lock().get(&hash) {
            Some((cid, bytes)) => check(cid, bytes.clone()).or_else(|bad| no(FailureClass::Local, &bad.to_string())),
            None => no(FailureClass::Neutral, "not there"),
        }
    }
}

impl BlockSource for Shelf {
    fn name(&self) -> &str {
        self.name
    }

    fn fetch(&self, want: Want) -> BoxFuture<'_, Result<VerifiedBytes, SourceError>> {
        Box::pin(async move {
            self.running.fetch_add(1, Ordering::SeqCst);
            let _running = Running(&self.running);
            self.asked.lock().push(want.clone());
            if self.habit == Habit::Silent {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.delay).await;
            self.answer(&want)
        })
    }

    fn provider(&self, _session: SessionId, provider: &Provider) {
        self.providers.lock().push(provider.clone());
    }

    fn end_session(&self, session: SessionId) {
        self.ended.lock().push(session);
    }

    fn landed(&self, hash: &BlockHash) {
        self.landed.lock().insert(*hash);
    }

    fn kept(&self, root: &Cid) {
        self.kept.lock().push(*root);
    }

    fn let_go(&self, root: &Cid) {
        self.kept.lock().retain(|kept| kept != root);
    }
}

/// A router that knows one gateway, and records.
#[derive(Debug, Default)]
pub(crate) struct Signpost {
    pub(crate) gateway: Option<&'static str>,
    pub(crate) record: Option<Bytes>,
    pub(crate) asked: Mutex<Vec<Cid>>,
}

impl Router for Signpost {
    fn name(&self) -> &'static str {
        "dht"
    }

    fn providers<'a>(
        &'a self,
        cid: &'a Cid,
        found: &'a (dyn Fn(Provider) + Send + Sync),
    ) -> BoxFuture<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.asked.lock().push(*cid);
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Some(gateway) = self.gateway {
                found(Provider::Gateway(gateway.to_owned()));
            }
            Ok(())
        })
    }

    fn ipns_record<'a>(&'a self, _name: &'a Cid) -> BoxFuture<'a, Result<Bytes, SourceError>> {
        Box::pin(async move {
            self.record.clone().ok_or_else(|| SourceError { class: FailureClass::Neutral, detail: "none".to_owned() })
        })
    }
}

/// Blocks, the root last.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dag {
    pub(crate) blocks: Vec<Block>,
    pub(crate) built: Vec<Built>,
}

impl Dag {
    /// A file of these bytes.
    pub(crate) fn file(bytes: &[u8]) -> Self {
        Self::of(PROFILE, bytes)
    }

    /// A file of these bytes, laid out in that way.
    pub(crate) fn of(profile: Profile, bytes: &[u8]) -> Self {
        let mut builder = FileBuilder::new(profile);
        builder.push(bytes);
        let built = builder.finish();
        Self { blocks: std::iter::from_fn(|| builder.poll_block()).collect(), built: vec![built] }
    }

    /// A directory of these.
    pub(crate) fn directory(entries: &[(&str, &Self)]) -> Self {
        let mut builder = DirectoryBuilder::new(PROFILE);
        let mut all = Self::default();
        for (name, dag) in entries {
            builder.add(*name, *dag.built.last().unwrap()).unwrap();
            all.blocks.extend(dag.blocks.iter().cloned());
        }
        let (built, blocks) = builder.finish().unwrap();
        all.blocks.extend(blocks);
        all.built.push(built);
        all
    }

    /// The names of its blocks in a store.
    pub(crate) fn hashes(&self) -> BTreeSet<BlockHash> {
        self.blocks.iter().map(|block| BlockHash::from_cid(&block.cid).unwrap()).collect()
    }

    pub(crate) fn root(&self) -> Cid {
        self.built.last().unwrap().cid
    }
}

/// Bytes of which no two KiB are the same.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).take(len).collect()
}

pub(crate) async fn store(max_bytes: u64) -> Store {
    Store::open(StoreOptions::in_memory(max_bytes)).await.unwrap()
}

pub(crate) const PATIENCE: Patience =
    Patience { first_byte: Duration::from_secs(30), stall: Duration::from_secs(30), total: Duration::from_secs(3600) };

pub(crate) async fn blocks<const N: usize>(sources: [Arc<Shelf>; N]) -> Arc<Blocks> {
    let sources = sources.map(|source| source as Arc<dyn BlockSource>).to_vec();
    Blocks::new(store(64 << 20).await, sources, Vec::new(), PATIENCE)
}
