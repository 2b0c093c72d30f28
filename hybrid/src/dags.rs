//! A file of IPFS as one content over several networks: its leaves, and who has their bytes.
//!
//! The walk over the DAG goes on as ever, and its nodes of links come over IPFS. Each leaf that it comes to is asked of
//! the plan instead: whoever has the file's bytes by another name can deliver it. Units are leaves as long as each
//! other, as all common ways of cutting a file make them but those that look at its bytes; a file that is cut unevenly
//! comes over IPFS alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use swarmgate_content::{
    Account, BoxFuture, ByteRange, Cid, ContentId, ContentReader, DagLoan, FetchError, Leaf, Leaves, SourceMix,
    VerifiedBytes,
};
use swarmgate_hybrid_rules::{Name, Network, Unit, Units};
use url::Url;

use crate::book::BindingBook;
use crate::fetch::{Fetch, Ground, Place};
use crate::inner::Inner;
use crate::lanes::{FileSource, IpfsLane, KnownLeaves, LeafLane, TorrentFile};
use crate::mirror::Mirror;
use crate::torrents::lend;

/// Longer than any block that a DAG may have: what seems longer is no leaf.
const MAX_LEAF_BYTES: u64 = 2 << 20;
/// Shorter leaves are not worth planning for.
const MIN_LEAF_BYTES: u64 = 16 << 10;

/// The leaves that were fetched are with those who waited for them, and in the store, where walks look first.
#[derive(Debug)]
struct Delivered {
    asked: Name,
    book: BindingBook,
}

impl Ground for Delivered {
    fn has(&self, _: Unit) -> bool {
        false
    }

    fn refuted(&self, used: Name) -> BoxFuture<'static, ()> {
        let (asked, book) = (self.asked.clone(), self.book.clone());
        Box::pin(async move { book.refute(&asked, &used).await })
    }
}

/// The fetching of one file's leaves.
#[derive(Debug)]
pub(crate) struct DagFetch {
    pub(crate) fetch: Arc<Fetch>,
    leaves: Arc<KnownLeaves>,
    unit_len: u64,
    len: u64,
}

impl DagFetch {
    /// Begins it, with the sources that are known at once; those that must be found out about join later.
    pub(crate) fn begin(
        inner: &Arc<Inner>,
        root: Cid,
        len: u64,
        unit_len: u64,
        wanted: Option<&BTreeSet<Network>>,
    ) -> Option<Self> {
        let units = Units::equal(len, unit_len)?;
        let asked = Name::Ipfs(ContentId::Ipfs(root));
        let loan = inner.dags.as_ref()?.lend_dag(root);
        let ground = Delivered { asked: asked.clone(), book: inner.book.clone() };
        let (item, options) = (ContentId::Ipfs(root), inner.plan_options("ipfs", wanted));
        let fetch = Fetch::new(units, options, Arc::new(ground), inner.outside(item, "ipfs", wanted));
        let leaves = Arc::new(KnownLeaves::default());
        let received = Arc::new(AtomicU64::new(0));
        fetch.add_lane(Arc::new(IpfsLane { loan: loan.clone(), leaves: leaves.clone(), received }));
        for (name, _) in inner.book.others(&asked) {
            let add = AddLane { fetch: fetch.clone(), loan: loan.clone(), leaves: leaves.clone(), len };
            add.by_name(inner, name);
        }
        Some(Self { fetch, leaves, unit_len, len })
    }

    /// The unit that a leaf is, when it is one.
    fn unit_of(&self, leaf: &Leaf) -> Option<Unit> {
        let whole = leaf.len == self.unit_len || leaf.offset + leaf.len == self.len;
        let aligned = leaf.offset.is_multiple_of(self.unit_len) && leaf.len <= self.unit_len && whole;
        let index = aligned.then(|| leaf.offset / self.unit_len)?;
        u32::try_from(index).ok().map(Unit)
    }
}

/// Adds a source of a file's bytes to its fetching.
struct AddLane {
    fetch: Arc<Fetch>,
    loan: Arc<dyn DagLoan>,
    leaves: Arc<KnownLeaves>,
    len: u64,
}

impl AddLane {
    fn by_name(self, inner: &Arc<Inner>, name: Name) {
        match name {
            Name::Mirror(url) => {
                let mirror = Url::parse(&url).ok().and_then(|url| Mirror::new(inner.mirrors.clone(), &url, self.len));
                if let Some(mirror) = mirror {
                    self.add(Arc::new(mirror));
                }
            }
            Name::Torrent { id, file } => {
                let lending = inner.clone();
                inner.spawn(async move { self.borrow_torrent(&lending, id, file).await });
            }
            Name::Ipfs(_) => {}
        }
    }

    async fn borrow_torrent(self, inner: &Inner, id: ContentId, file: u32) {
        let Some(loan) = lend(inner, id).await else { return };
        let file = usize::try_from(file).unwrap_or(usize::MAX);
        let len = loan.meta().files.get(file).map(|file| file.len);
        // A private torrent leaks nowhere (BEP 27): nobody is told by way of IPFS what its swarm has.
        if len == Some(self.len) && !loan.meta().private {
            self.add(Arc::new(TorrentFile { loan, file }));
        }
    }

    fn add(self, file: Arc<dyn FileSource>) {
        let Self { fetch, loan, leaves, .. } = self;
        fetch.add_lane(Arc::new(LeafLane { loan, leaves, file, received: Arc::default() }));
    }
}

/// One reading's way to leaves.
#[derive(Debug)]
struct PlannedLeaves {
    inner: Arc<Inner>,
    root: Cid,
    len: u64,
    wanted: Option<BTreeSet<Network>>,
    position: AtomicU64,
    /// Bytes that were handed out before any leaf had to be fetched.
    before: AtomicU64,
    joined: Mutex<Option<(Arc<DagFetch>, Place)>>,
}

impl PlannedLeaves {
    /// Joins the file's fetching with the first leaf that it meets.
    fn join(&self, leaf: &Leaf) -> Option<(Arc<DagFetch>, Place)> {
        // The last leaf is shorter than the others, so it does not say how long these are.
        let says = leaf.offset == 0 || leaf.offset + leaf.len < self.len;
        if !says || leaf.len < MIN_LEAF_BYTES || leaf.len > MAX_LEAF_BYTES {
            return None;
        }
        let shared = match &self.wanted {
            None => self.inner.dag_fetch(self.root, self.len, leaf.len)?,
            wanted => Arc::new(DagFetch::begin(&self.inner, self.root, self.len, leaf.len, wanted.as_ref())?),
        };
        let position = self.position.load(Ordering::Relaxed);
        let place = shared.fetch.open(position..position, self.inner.reader_options())?;
        if self.wanted.is_some() {
            self.inner.run_apart(&shared.fetch);
        }
        Some((shared, place))
    }

    fn moved(&self, len: u64) {
        self.position.fetch_add(len, Ordering::Relaxed);
        match &mut *self.joined.lock() {
            Some((_, place)) => place.moved(len),
            None => {
                self.before.fetch_add(len, Ordering::Relaxed);
            }
        }
    }
}

impl Account for PlannedLeaves {
    fn mix(&self) -> SourceMix {
        let planned = self.joined.lock().as_ref().map(|(_, place)| place.account().mix());
        let mut mix = planned.unwrap_or_default();
        mix.cache += self.before.load(Ordering::Relaxed);
        mix
    }
}

impl Leaves for PlannedLeaves {
    fn leaf(&self, leaf: Leaf) -> Option<BoxFuture<'static, Option<VerifiedBytes>>> {
        let mut joined = self.joined.lock();
        if joined.is_none() {
            *joined = self.join(&leaf);
        }
        let (shared, place) = joined.as_ref()?;
        let unit = shared.unit_of(&leaf)?;
        shared.leaves.put(unit, leaf);
        let end = leaf.offset + leaf.len;
        shared.fetch.with_plan(|plan| plan.extend_reader(place.key(), end));
        let block = shared.fetch.wait_for(unit);
        Some(Box::pin(async move { block.await.ok() }))
    }
}

/// Reads a range of a file over every network that is known to have it.
pub(crate) fn read(
    inner: &Arc<Inner>,
    loan: &dyn DagLoan,
    len: u64,
    range: ByteRange,
    wanted: Option<BTreeSet<Network>>,
) -> ContentReader {
    let leaves = Arc::new(PlannedLeaves {
        inner: inner.clone(),
        root: loan.root(),
        len,
        wanted,
        position: AtomicU64::new(range.start()),
        before: AtomicU64::new(0),
        joined: Mutex::default(),
    });
    let bytes = loan.read(range, leaves.clone());
    let account = leaves.clone();
    let stream = stream::unfold((bytes, leaves), |(mut bytes, leaves)| async move {
        let item: Result<VerifiedBytes, FetchError> = bytes.next().await?;
        if let Ok(bytes) = &item {
            leaves.moved(bytes.len() as u64);
        }
        Some((item, (bytes, leaves)))
    });
    ContentReader::new(stream).with_account(account)
}
