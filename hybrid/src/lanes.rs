//! The lanes that there are: a torrent's pieces from its swarm or out of files that others have, and a DAG's leaves
//! over IPFS or out of the same bytes elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use swarmgate_content::{
    BoxFuture, ByteRange, Cid, ContentId, DagLender, DagLoan, FailureClass, Leaf, LoanError, TorrentLoan, Verification,
    VerifiedBytes,
};
use swarmgate_hybrid_rules::{BreakerKey, Domain, Holdings, Name, Network, Operation, SourceSpec, Unit, Units};
use swarmgate_ipfs_proto::codec::Codec;

use crate::crowd::Crowd;
use crate::given::Given;
use crate::lane::{Lane, LaneFault};
use crate::segments::{Segment, segments};

/// The domains in which the swarm and IPFS fail; a web server's is made of its host's name.
const SWARM: Domain = Domain(0);
const IPFS: Domain = Domain(1);

/// What a network may be asked for at a time, in bytes and units.
#[derive(Debug, Clone, Copy)]
struct Load(u64, u32);

const SWARM_LOAD: Load = Load(32 << 20, 256);
const IPFS_LOAD: Load = Load(16 << 20, 64);
/// A web server is asked over so many connections: more of them it would take for an attack.
const HTTP_LOAD: Load = Load(16 << 20, 4);

fn spec(name: &str, network: Network, domain: Domain, breaker: BreakerKey, rank: u32, load: Load) -> SourceSpec {
    SourceSpec {
        name: name.into(),
        network,
        domain,
        breaker,
        can_range: true,
        rank,
        max_in_flight_bytes: load.0,
        max_in_flight_units: load.1,
        prior: None,
    }
}

/// How a torrent is cut into units: pieces, or runs of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) units: Units,
    pieces: u32,
    piece_len: u64,
    /// Pieces of one unit.
    run: u32,
}

impl Cut {
    /// Cuts a torrent into units of whole pieces, as long as `least` bytes if it has so many. `None` when it has no
    /// pieces, or more than a plan can have.
    pub(crate) fn of(loan: &dyn TorrentLoan, least: u64) -> Option<Self> {
        let meta = loan.meta();
        let Verification::V1(hashes) = &meta.verification else { return None };
        let piece_len = u64::from(hashes.piece_len);
        let run = least.checked_div(piece_len)?.clamp(1, u64::from(u32::MAX));
        let units = Units::equal(meta.total_len, piece_len * run)?;
        Some(Self { units, pieces: u32::try_from(hashes.count()).ok()?, piece_len, run: u32::try_from(run).ok()? })
    }

    /// The pieces that a unit is made of.
    pub(crate) fn pieces(&self, unit: Unit) -> std::ops::Range<u32> {
        let first = unit.0.saturating_mul(self.run);
        first..first.saturating_add(self.run).min(self.pieces)
    }

    /// Where a piece lies in its unit.
    fn within(&self, unit: Unit, piece: u32) -> std::ops::Range<usize> {
        let start = u64::from(piece - unit.0.saturating_mul(self.run)) * self.piece_len;
        let end = (start + self.piece_len).min(self.units.len_of(unit));
        narrow(start)..narrow(end)
    }
}

/// A torrent's own swarm: TCP, uTP and WebRTC peers.
#[derive(Debug)]
pub(crate) struct SwarmLane {
    pub(crate) loan: Arc<dyn TorrentLoan>,
    pub(crate) cut: Cut,
    pub(crate) given: Arc<Given>,
}

fn swarm_spec(loan: &dyn TorrentLoan, rank: u32) -> SourceSpec {
    let breaker = BreakerKey::new("swarm", &loan.meta().id.to_string(), Operation::Fetch);
    spec("swarm", Network::BitTorrent, SWARM, breaker, rank, SWARM_LOAD)
}

impl Lane for SwarmLane {
    fn spec(&self) -> SourceSpec {
        // One without peers starts last: it would have the first pieces asked of it, and nobody to ask.
        let rank = if *self.loan.peers().borrow() == 0 { 3 } else { 0 };
        swarm_spec(&*self.loan, rank)
    }

    fn holdings(&self) -> Holdings {
        Holdings::All
    }

    fn fetch(&self, unit: Unit) -> BoxFuture<'static, Result<Option<VerifiedBytes>, LaneFault>> {
        let (asked_at, pieces, given) = (Instant::now(), self.cut.pieces(unit), self.given.clone());
        let fetches: Vec<_> = pieces.clone().map(|piece| self.loan.fetch(piece)).collect();
        Box::pin(async move {
            try_join_all(fetches).await?;
            if given.any_since(asked_at, pieces) { Err(LaneFault::Elsewhere) } else { Ok(None) }
        })
    }

    fn crowd(&self) -> Option<Crowd> {
        Some(self.loan.peers())
    }

    fn seek(&self) {
        self.loan.seek_peers();
    }

    fn received_bytes(&self) -> u64 {
        self.loan.received_bytes()
    }
}

/// Somebody who has whole files, or some of them: a web server, a DAG, a torrent's swarm.
pub(crate) trait FileSource: Send + Sync + fmt::Debug {
    /// Who it is, for the plan.
    fn spec(&self) -> SourceSpec;

    /// Gets bytes of a file. Whether they are right is for the caller to find out.
    fn read(&self, range: ByteRange, received: Arc<AtomicU64>) -> BoxFuture<'static, Result<Bytes, LaneFault>>;

    /// The name by which this source has verified what it gives; `None` when it has verified nothing.
    fn vouches_for(&self) -> Option<Name>;

    /// As [`Lane::crowd`].
    fn crowd(&self) -> Option<Crowd> {
        None
    }

    /// As [`Lane::seek`].
    fn seek(&self) {}
}

/// A torrent's pieces out of files that one source has.
#[derive(Debug)]
pub(crate) struct PieceLane {
    loan: Arc<dyn TorrentLoan>,
    cut: Cut,
    given: Arc<Given>,
    spec: SourceSpec,
    files: Arc<BTreeMap<usize, Arc<dyn FileSource>>>,
    received: Arc<AtomicU64>,
}

impl PieceLane {
    /// Takes the files that one source has, by their places in the metainfo. `None` when these are none.
    pub(crate) fn new(
        loan: Arc<dyn TorrentLoan>,
        cut: Cut,
        given: Arc<Given>,
        files: BTreeMap<usize, Arc<dyn FileSource>>,
    ) -> Option<Self> {
        let spec = files.values().next()?.spec();
        Some(Self { loan, cut, given, spec, files: Arc::new(files), received: Arc::default() })
    }

    /// Whether it has all files that a unit is made of.
    fn covers(&self, unit: Unit) -> bool {
        let Some(range) = self.cut.units.range(unit) else { return false };
        segments(self.loan.meta(), range).iter().all(|part| part.padding || self.files.contains_key(&part.file))
    }
}

impl Lane for PieceLane {
    fn spec(&self) -> SourceSpec {
        self.spec.clone()
    }

    fn holdings(&self) -> Holdings {
        let files = self.loan.meta().files.iter().enumerate();
        let mut missing =
            files.filter(|(index, file)| file.len > 0 && !file.padding && !self.files.contains_key(index));
        if missing.next().is_none() {
            return Holdings::All;
        }
        Holdings::Only((0..self.cut.units.count()).map(Unit).filter(|unit| self.covers(*unit)).collect())
    }

    fn fetch(&self, unit: Unit) -> BoxFuture<'static, Result<Option<VerifiedBytes>, LaneFault>> {
        let Some(range) = self.cut.units.range(unit) else {
            return Box::pin(std::future::ready(Err(LaneFault::new(FailureClass::Neutral, "there is no such piece"))));
        };
        let (loan, cut, given) = (self.loan.clone(), self.cut.clone(), self.given.clone());
        let (files, received) = (self.files.clone(), self.received.clone());
        Box::pin(async move {
            let parts = segments(loan.meta(), range);
            let bytes = gather(&parts, &files, &received).await?;
            // All of it is from one file, or it is not known whose fault it is.
            let from = if let [part] = &parts[..] { files.get(&part.file) } else { None };
            for piece in cut.pieces(unit).filter(|piece| !loan.has(*piece)) {
                let bytes = bytes.slice(cut.within(unit, piece));
                given.note(piece);
                if let Err(error) = loan.admit(piece, bytes).await {
                    given.forget(piece);
                    return Err(refuted_or(error, from.and_then(|source| source.vouches_for())));
                }
            }
            Ok(None)
        })
    }

    fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Puts a unit together out of the files that it is made of.
async fn gather(
    parts: &[Segment],
    files: &BTreeMap<usize, Arc<dyn FileSource>>,
    received: &Arc<AtomicU64>,
) -> Result<Bytes, LaneFault> {
    let mut unit = BytesMut::new();
    for part in parts {
        if part.padding {
            unit.resize(unit.len() + narrow(part.range.len()), 0);
            continue;
        }
        let absent = || LaneFault::new(FailureClass::Neutral, "a file of the piece is not there");
        let bytes = files.get(&part.file).ok_or_else(absent)?.read(part.range, received.clone()).await?;
        // The usual unit lies in one file, and is not copied.
        if parts.len() == 1 {
            return Ok(bytes);
        }
        unit.extend_from_slice(&bytes);
    }
    Ok(unit.freeze())
}

/// Wrong bytes of who has verified them by a name of its own are not that one's fault.
fn refuted_or(error: LoanError, vouched: Option<Name>) -> LaneFault {
    match vouched {
        Some(name) if error.class == FailureClass::Corruption => LaneFault::Refuted(name),
        _ => error.into(),
    }
}

/// What it says of a source that its bytes did not make a leaf. A leaf without a frame is its bytes. One in dag-pb may
/// have a frame that is not known here, or be no leaf at all, so right bytes may make another block.
fn not_a_leaf(leaf: &Leaf, error: LoanError, vouched: Option<Name>) -> LaneFault {
    if leaf.cid.codec() == Codec::Raw.code() || error.class != FailureClass::Corruption {
        return refuted_or(error, vouched);
    }
    let class = if vouched.is_some() { FailureClass::Neutral } else { FailureClass::Source };
    LaneFault::new(class, error.detail)
}

/// Bytes of a torrent's piece, at most 16 MiB, fit.
fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The leaves of a DAG's file, as far as its nodes were read: units are leaves as long as each other.
#[derive(Debug, Default)]
pub(crate) struct KnownLeaves {
    leaves: Mutex<BTreeMap<Unit, Leaf>>,
    given: Given,
}

impl KnownLeaves {
    pub(crate) fn put(&self, unit: Unit, leaf: Leaf) {
        self.leaves.lock().insert(unit, leaf);
    }

    fn get(&self, unit: Unit) -> Result<Leaf, LaneFault> {
        let unknown = || LaneFault::new(FailureClass::Neutral, "the leaf's name is not known yet");
        self.leaves.lock().get(&unit).copied().ok_or_else(unknown)
    }
}

/// A file's leaves over IPFS.
#[derive(Debug)]
pub(crate) struct IpfsLane {
    pub(crate) loan: Arc<dyn DagLoan>,
    pub(crate) leaves: Arc<KnownLeaves>,
    pub(crate) received: Arc<AtomicU64>,
}

impl Lane for IpfsLane {
    fn spec(&self) -> SourceSpec {
        ipfs_spec(self.loan.root(), 0)
    }

    fn holdings(&self) -> Holdings {
        Holdings::All
    }

    fn fetch(&self, unit: Unit) -> BoxFuture<'static, Result<Option<VerifiedBytes>, LaneFault>> {
        let (loan, leaf, received) = (self.loan.clone(), self.leaves.get(unit), self.received.clone());
        let (asked_at, leaves) = (Instant::now(), self.leaves.clone());
        Box::pin(async move {
            let block = loan.fetch(leaf?).await?;
            if leaves.given.any_since(asked_at, [unit.0]) {
                return Err(LaneFault::Elsewhere);
            }
            received.fetch_add(block.len() as u64, Ordering::Relaxed);
            Ok(Some(block))
        })
    }

    fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

fn ipfs_spec(root: Cid, rank: u32) -> SourceSpec {
    let breaker = BreakerKey::new("ipfs", &root.to_string(), Operation::Fetch);
    spec("ipfs", Network::Ipfs, IPFS, breaker, rank, IPFS_LOAD)
}

/// A file's leaves out of bytes that another source has.
#[derive(Debug)]
pub(crate) struct LeafLane {
    pub(crate) loan: Arc<dyn DagLoan>,
    pub(crate) leaves: Arc<KnownLeaves>,
    pub(crate) file: Arc<dyn FileSource>,
    pub(crate) received: Arc<AtomicU64>,
}

impl Lane for LeafLane {
    fn spec(&self) -> SourceSpec {
        self.file.spec()
    }

    fn holdings(&self) -> Holdings {
        Holdings::All
    }

    fn fetch(&self, unit: Unit) -> BoxFuture<'static, Result<Option<VerifiedBytes>, LaneFault>> {
        let (loan, leaf, file, received) =
            (self.loan.clone(), self.leaves.get(unit), self.file.clone(), self.received.clone());
        let leaves = self.leaves.clone();
        Box::pin(async move {
            let leaf = leaf?;
            let none = || LaneFault::new(FailureClass::Neutral, "the leaf is empty");
            let range = ByteRange::new(leaf.offset, leaf.offset.saturating_add(leaf.len)).ok_or_else(none)?;
            let bytes = file.read(range, received).await?;
            leaves.given.note(unit.0);
            loan.admit(leaf, bytes).await.map(Some).map_err(|error| {
                leaves.given.forget(unit.0);
                not_a_leaf(&leaf, error, file.vouches_for())
            })
        })
    }

    fn crowd(&self) -> Option<Crowd> {
        self.file.crowd()
    }

    fn seek(&self) {
        self.file.seek();
    }

    fn received_bytes(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// A file of IPFS, as a source of bytes for others. Borrowed when it is first read: a torrent may have many.
#[derive(Debug)]
pub(crate) struct DagFile {
    root: Cid,
    lender: Option<Arc<dyn DagLender>>,
    loan: Mutex<Option<Arc<dyn DagLoan>>>,
}

impl DagFile {
    pub(crate) fn new(lender: Arc<dyn DagLender>, root: Cid) -> Self {
        Self { root, lender: Some(lender), loan: Mutex::default() }
    }

    pub(crate) fn lent(loan: Arc<dyn DagLoan>) -> Self {
        Self { root: loan.root(), lender: None, loan: Mutex::new(Some(loan)) }
    }

    fn loan(&self) -> Option<Arc<dyn DagLoan>> {
        let mut loan = self.loan.lock();
        if loan.is_none() {
            *loan = self.lender.as_ref().map(|lender| lender.lend_dag(self.root));
        }
        loan.clone()
    }
}

impl FileSource for DagFile {
    fn spec(&self) -> SourceSpec {
        ipfs_spec(self.root, 2)
    }

    fn read(&self, range: ByteRange, received: Arc<AtomicU64>) -> BoxFuture<'static, Result<Bytes, LaneFault>> {
        let bytes = self.loan().map(|loan| loan.bytes(range));
        Box::pin(async move {
            let absent = || LaneFault::new(FailureClass::Neutral, "there is nobody to lend it");
            counted(bytes.ok_or_else(absent)?.await?, range, &received)
        })
    }

    fn vouches_for(&self) -> Option<Name> {
        Some(Name::Ipfs(ContentId::Ipfs(self.root)))
    }
}

/// A file of a torrent, as a source of bytes for others.
#[derive(Debug)]
pub(crate) struct TorrentFile {
    pub(crate) loan: Arc<dyn TorrentLoan>,
    pub(crate) file: usize,
}

impl FileSource for TorrentFile {
    fn spec(&self) -> SourceSpec {
        swarm_spec(&*self.loan, 2)
    }

    fn read(&self, range: ByteRange, received: Arc<AtomicU64>) -> BoxFuture<'static, Result<Bytes, LaneFault>> {
        let entry = self.loan.meta().files.get(self.file);
        let inside = entry.and_then(|entry| range.shift(entry.offset)?.intersect(&entry.range()?));
        let bytes = inside.map(|inside| self.loan.bytes(inside));
        Box::pin(async move {
            let absent = || LaneFault::new(FailureClass::Neutral, "the torrent's file is shorter");
            counted(bytes.ok_or_else(absent)?.await?, range, &received)
        })
    }

    fn vouches_for(&self) -> Option<Name> {
        let file = u32::try_from(self.file).ok()?;
        Some(Name::Torrent { id: self.loan.meta().id, file })
    }

    fn crowd(&self) -> Option<Crowd> {
        Some(self.loan.peers())
    }

    fn seek(&self) {
        self.loan.seek_peers();
    }
}

/// Bytes that came, if they are as many as were asked for.
fn counted(bytes: Bytes, range: ByteRange, received: &AtomicU64) -> Result<Bytes, LaneFault> {
    received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    if bytes.len() as u64 == range.len() {
        return Ok(bytes);
    }
    Err(LaneFault::new(FailureClass::Neutral, "the file is shorter there"))
}

/// What a web server's lane is known by.
pub(crate) fn http_spec(host: &str) -> SourceSpec {
    let domain = Domain(host.bytes().fold(2, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into())).max(2));
    spec(host, Network::Http, domain, BreakerKey::new(host, "http", Operation::Fetch), 1, HTTP_LOAD)
}
