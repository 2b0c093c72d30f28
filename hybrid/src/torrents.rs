//! A torrent as one content over several networks: its pieces, and who has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use swarmgate_content::{
    BoxFuture, ByteRange, ContentId, ContentMeta, ContentReader, DagLender, FetchError, FetchErrorKind, LoanError,
    Stage, TorrentLoan, VerifiedBytes,
};
use swarmgate_hybrid_rules::{Authority, ContentBinding, GiveUpReason, Name, Network, ReaderOptions, Unit};
use url::Url;

use crate::book::BindingBook;
use crate::fetch::{Fetch, Ground, Place};
use crate::given::Given;
use crate::inner::Inner;
use crate::lane::Lane;
use crate::lanes::{Cut, DagFile, FileSource, PieceLane, SwarmLane};
use crate::mirror::{Mirror, host_of, seed_url};

/// Web servers that one torrent is fetched from.
const MAX_SERVERS: usize = 16;
/// How long leaves of IPFS are, as they are commonly cut.
const LEAF_BYTES: u64 = 1 << 20;
/// Files of a torrent that are looked up below a hint that names a folder of IPFS.
const MAX_HINTED_FILES: usize = 256;
/// How long a hint's path may take to be looked up.
const HINT_TIME: Duration = Duration::from_secs(30);

/// A torrent's pieces in the store.
#[derive(Debug)]
struct Pieces {
    loan: Arc<dyn TorrentLoan>,
    cut: Cut,
    book: BindingBook,
}

impl Ground for Pieces {
    fn has(&self, unit: Unit) -> bool {
        self.cut.pieces(unit).all(|piece| self.loan.has(piece))
    }

    fn refuted(&self, used: Name) -> BoxFuture<'static, ()> {
        let (meta, book) = (self.loan.meta().clone(), self.book.clone());
        Box::pin(async move {
            for index in 0..meta.files.len() {
                let asked = torrent_name(meta.id, index);
                if book.others(&asked).iter().any(|(other, _)| *other == used) {
                    book.refute(&asked, &used).await;
                }
            }
        })
    }
}

/// The name of a torrent's file.
fn torrent_name(id: ContentId, index: usize) -> Name {
    Name::Torrent { id, file: u32::try_from(index).unwrap_or(u32::MAX) }
}

/// The fetching of a torrent, if anybody but its swarm may have it.
pub(crate) fn begin(
    inner: &Arc<Inner>,
    loan: &Arc<dyn TorrentLoan>,
    wanted: Option<&BTreeSet<Network>>,
) -> Option<Arc<Fetch>> {
    let (sources, hints) = (sources(inner, loan), ipfs_hints(&**loan));
    // A source that gives whole leaves is not asked for parts of them.
    let leaves = !sources.ipfs.is_empty() || !hints.is_empty() && inner.dags.is_some();
    let cut = Cut::of(&**loan, if leaves { LEAF_BYTES } else { 0 })?;
    let given = Arc::<Given>::default();
    let (policy, lanes) = (inner.policy("bt", wanted), sources.into_lanes(loan, &cut, &given));
    let others = lanes.iter().any(|lane| policy.allows(lane.spec().network));
    if !others && (hints.is_empty() || inner.dags.is_none() || !policy.allows(Network::Ipfs)) {
        return None;
    }
    let ground = Pieces { loan: loan.clone(), cut: cut.clone(), book: inner.book.clone() };
    let (options, outside) = (inner.plan_options("bt", wanted), inner.outside(loan.meta().id, "bt", wanted));
    let fetch = Fetch::new(cut.units.clone(), options, Arc::new(ground), outside);
    fetch.add_lane(Arc::new(SwarmLane { loan: loan.clone(), cut: cut.clone(), given: given.clone() }));
    lanes.into_iter().for_each(|lane| fetch.add_lane(lane));
    if let Some(dags) = inner.dags.clone().filter(|_| !hints.is_empty()) {
        let (fetch, loan, book) = (fetch.clone(), loan.clone(), inner.book.clone());
        inner.spawn(async move { follow_hints(&fetch, &loan, &book, &*dags, &hints, (cut, given)).await });
    }
    Some(fetch)
}

/// The files that each source has, by its place in the metainfo.
type Files = BTreeMap<usize, Arc<dyn FileSource>>;

/// The sources beside the swarm that are known at once.
#[derive(Debug, Default)]
struct Sources {
    /// By host and port.
    servers: BTreeMap<String, Files>,
    ipfs: Files,
}

impl Sources {
    fn into_lanes(self, loan: &Arc<dyn TorrentLoan>, cut: &Cut, given: &Arc<Given>) -> Vec<Arc<dyn Lane>> {
        let sources = self.servers.into_values().chain([self.ipfs]);
        let lane = |files| {
            let lane = PieceLane::new(loan.clone(), cut.clone(), given.clone(), files)?;
            Some(Arc::new(lane) as Arc<dyn Lane>)
        };
        sources.filter_map(lane).collect()
    }
}

fn sources(inner: &Arc<Inner>, loan: &Arc<dyn TorrentLoan>) -> Sources {
    let meta = loan.meta();
    let Sources { mut servers, mut ipfs } = Sources::default();
    let seeds = loan.web_seeds();
    for (index, file) in meta.files.iter().enumerate().filter(|(_, file)| file.len > 0 && !file.padding) {
        let seeded = seeds.iter().filter_map(|seed| seed_url(seed, meta, file));
        let others = inner.book.others(&torrent_name(meta.id, index));
        let mirrors = others.iter().filter_map(|(name, _)| mirror_url(name));
        for url in seeded.chain(mirrors) {
            let Some(host) = host_of(&url) else { continue };
            if servers.len() >= MAX_SERVERS && !servers.contains_key(&host) {
                continue;
            }
            let Some(mirror) = Mirror::new(inner.mirrors.clone(), &url, file.len) else { continue };
            servers.entry(host).or_default().entry(index).or_insert_with(|| Arc::new(mirror));
        }
        let cid = others.iter().find_map(|(name, _)| match name {
            Name::Ipfs(ContentId::Ipfs(cid)) => Some(*cid),
            Name::Ipfs(_) | Name::Torrent { .. } | Name::Mirror(_) => None,
        });
        if let (Some(cid), Some(dags)) = (cid, &inner.dags) {
            ipfs.insert(index, Arc::new(DagFile::new(dags.clone(), cid)));
        }
    }
    Sources { servers, ipfs }
}

fn mirror_url(name: &Name) -> Option<Url> {
    match name {
        Name::Mirror(url) => url.parse().ok(),
        Name::Torrent { .. } | Name::Ipfs(_) => None,
    }
}

/// A folder or a file of IPFS that a hint names: its root and the path below.
type IpfsHint = (swarmgate_content::Cid, Vec<String>, bool);

/// Hints such as `ipfs://CID/path` among a torrent's web seeds. One names the torrent's file or folder itself or, with a
/// `/` at its end, the folder that it lies in, as web seeds do.
fn ipfs_hints(loan: &dyn TorrentLoan) -> Vec<IpfsHint> {
    let read = |seed: &String| {
        let rest = seed.strip_prefix("ipfs://")?;
        let mut parts = rest.split('/').filter(|part| !part.is_empty());
        let ContentId::Ipfs(root) = ContentId::parse_cid(parts.next()?).ok()? else { return None };
        let decoded = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        Some((root, parts.map(decoded).collect(), rest.ends_with('/')))
    };
    loan.web_seeds().iter().filter_map(read).collect()
}

/// Looks up which CIDs the files have that hints speak of, and adds them as a source.
async fn follow_hints(
    fetch: &Fetch,
    loan: &Arc<dyn TorrentLoan>,
    book: &BindingBook,
    dags: &dyn DagLender,
    hints: &[IpfsHint],
    (cut, given): (Cut, Arc<Given>),
) {
    let meta = loan.meta();
    for hint in hints {
        let mut sources = Files::new();
        for index in hinted_files(meta) {
            let found = tokio::time::timeout(HINT_TIME, find(dags, hint, meta, index)).await;
            let Ok(Ok(cid)) = found else { continue };
            let names = [torrent_name(meta.id, index), Name::Ipfs(ContentId::Ipfs(cid))].into();
            let path = meta.files.get(index).map(|file| file.path.clone()).unwrap_or_default();
            let len = meta.files.get(index).map(|file| file.len);
            if let Err(error) = book.add(ContentBinding { names, len, path, said_by: Authority::Hint }).await {
                tracing::debug!(%error, "a hint was not kept");
            }
            sources.insert(index, Arc::new(DagFile::lent(dags.lend_dag(cid))));
        }
        if let Some(lane) = PieceLane::new(loan.clone(), cut.clone(), given.clone(), sources) {
            fetch.add_lane(Arc::new(lane));
        }
    }
}

/// The files that are looked up below a hint.
fn hinted_files(meta: &ContentMeta) -> Vec<usize> {
    let files = meta.files.iter().enumerate().filter(|(_, file)| file.len > 0 && !file.padding);
    files.map(|(index, _)| index).take(MAX_HINTED_FILES).collect()
}

async fn find(
    dags: &dyn DagLender,
    hint: &IpfsHint,
    meta: &ContentMeta,
    index: usize,
) -> Result<swarmgate_content::Cid, LoanError> {
    let (root, path, is_folder) = hint;
    let single = meta.files.len() == 1;
    let mut path = path.clone();
    if *is_folder {
        path.push(meta.name.clone());
    }
    if !single && let Some(file) = meta.files.get(index) {
        path.extend(file.path.iter().cloned());
    }
    dags.find(*root, path).await
}

/// A client's reading of a torrent that several networks deliver.
pub(crate) struct TorrentReading {
    id: ContentId,
    place: Place,
    bytes: ContentReader,
    ended: bool,
}

impl TorrentReading {
    /// Begins to read bytes of the torrent. `None` when it has too many readers.
    pub(crate) fn open(
        loan: &dyn TorrentLoan,
        fetch: &Arc<Fetch>,
        range: ByteRange,
        options: ReaderOptions,
    ) -> Option<ContentReader> {
        let place = fetch.open(range.start()..range.end(), options)?;
        let account = place.account();
        let reading = Self { id: loan.meta().id, place, bytes: loan.read(range), ended: false };
        let stream = stream::unfold(reading, |mut reading| async move { Some((reading.next().await?, reading)) });
        Some(ContentReader::new(stream).with_account(account))
    }

    async fn next(&mut self) -> Option<Result<VerifiedBytes, FetchError>> {
        if self.ended {
            return None;
        }
        if !self.place.is_served() {
            self.place.lost();
        }
        let item = tokio::select! {
            biased;
            item = self.bytes.next() => item,
            why = self.place.given_up() => Some(Err(given_up(self.id, why))),
        };
        if let Some(Ok(bytes)) = &item {
            self.place.moved(bytes.len() as u64);
        }
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

/// What a client is told when nobody delivers.
pub(crate) fn given_up(id: ContentId, why: GiveUpReason) -> FetchError {
    let (kind, detail) = match why {
        GiveUpReason::NobodyHasIt => (FetchErrorKind::NoSource, "no network that may be asked has it"),
        GiveUpReason::Failed => (FetchErrorKind::NoSource, "every source that was asked has failed"),
        GiveUpReason::TooLate => (FetchErrorKind::TimedOut, "no source delivered it in time"),
    };
    FetchError::new(id, Stage::Stream, kind, detail)
}

/// Waits for a torrent's metadata, and lends it.
pub(crate) fn lend<'a>(inner: &'a Inner, id: ContentId) -> BoxFuture<'a, Option<Arc<dyn TorrentLoan>>> {
    Box::pin(async move {
        let (lender, infohash) = (inner.torrents.as_ref()?, id.as_v1()?);
        inner.resolve_quietly(id).await?;
        lender.lend_torrent(infohash).await.ok()
    })
}
