//! DAGs of IPFS that a running gateway is asked to keep: each is fetched whole, and then pinned.
//!
//! What is wanted is written down before it is fetched, so that a restart goes on with it. A DAG that nobody delivers is
//! asked for again, later and later, until it is here or wanted no longer. Who asks over the IPFS Pinning Service API has
//! a request of their own beside it ([`requests`]).

pub mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_content::Cid;
use swarmgate_ipfs::intake::{Taken, import_car, pin_dag};
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::pins::{Pin, PinError};
use swarmgate_ipfs::source::Provider;
use swarmgate_ipfs::{IpfsProtocol, SessionOptions};
use tokio::io::AsyncRead;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::requests::{Book, MAX_REQUESTS};
use crate::routes::ipfs::ask;

/// The store's table of DAGs that are wanted and not pinned yet.
const TABLE: &str = "ipfs-pins-wanted";
/// DAGs that may be wanted at once, those that wait included.
const MAX_WANTED: usize = 1000;
/// DAGs that are fetched at once.
const AT_ONCE: usize = 4;
/// CARs that are taken in at once; each has at most 64 MiB of blocks on their way to the disk.
const CARS_AT_ONCE: usize = 2;
/// Addresses of peers that are remembered for one DAG that is wanted: as many as one request may name.
pub const MAX_ORIGINS: usize = 20;
/// All waiting for one DAG together, in one attempt.
const WHOLE_WAIT: Duration = Duration::from_secs(24 * 3600);
/// The pause after the first failed attempt, doubled after each, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));

/// Whether IPFS may be asked at this moment.
pub type MayAsk = Arc<dyn Fn() -> bool + Send + Sync>;

/// Where libp2p peers reach this gateway, at this moment: multiaddrs that end in its peer id; none without a node.
pub type Delegates = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// See the module's head. Clones are one.
#[derive(Debug, Clone)]
pub struct Pinning(Arc<Inner>);

struct Inner {
    ipfs: Arc<IpfsProtocol>,
    patience: Patience,
    may_ask: MayAsk,
    delegates: Delegates,
    places: Semaphore,
    cars: Semaphore,
    tasks: TaskTracker,
    closing: CancellationToken,
    wanted: Mutex<BTreeMap<Cid, Wanted>>,
    book: Book,
}

/// A DAG that is being fetched, or waits for it.
struct Wanted {
    taken: Taken,
    error: Option<String>,
    is_active: bool,
    /// Multiaddrs of peers that may have it, as strangers tell them; at most [`MAX_ORIGINS`].
    origins: Vec<String>,
    /// Told when there is a new origin, so that a pause ends.
    news: Arc<Notify>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Wanted {
    fn kept(&self) -> Kept {
        Kept::Wanted { taken: self.taken, error: self.error.clone(), is_active: self.is_active }
    }

    /// Remembers more peers that may have it, and has it tried at once when that is news.
    fn hear_of(&mut self, origins: &[String]) {
        let known = self.origins.len();
        for origin in origins {
            if self.origins.len() < MAX_ORIGINS && !self.origins.contains(origin) {
                self.origins.push(origin.clone());
            }
        }
        if self.origins.len() > known {
            self.news.notify_one();
        }
    }
}

/// How far the keeping of a DAG is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is pinned, and whole unless blocks of it were allowed to be missing.
    Pinned(Pin),
    /// It is being fetched, or waits for its turn.
    Wanted {
        /// What has come of it in this attempt.
        taken: Taken,
        /// Why the attempt before failed.
        error: Option<String>,
        /// Whether it is being fetched at this moment, and waits neither for its turn nor for the next attempt.
        is_active: bool,
    },
}

impl Kept {
    const fn has_no_gaps(&self) -> bool {
        match self {
            Self::Pinned(pin) => pin.missing == 0,
            Self::Wanted { .. } => true,
        }
    }
}

/// Why a DAG is not going to be kept.
#[derive(Debug, thiserror::Error)]
pub enum PinningError {
    /// As many are wanted as may be.
    #[error("{MAX_WANTED} contents wait to be pinned, the limit")]
    TooMany,
    /// As many CARs are being taken in as may be.
    #[error("{CARS_AT_ONCE} CARs are being taken in, the limit; try again when one has ended")]
    TooManyCars,
    /// As many requests are kept as may be.
    #[error("{MAX_REQUESTS} requests to pin are kept, or 64 MiB of them, the limit; remove some")]
    TooManyRequests,
    /// The list of pins cannot be read or written.
    #[error(transparent)]
    Pins(Box<PinError>),
}

impl From<PinError> for PinningError {
    fn from(error: PinError) -> Self {
        Self::Pins(Box::new(error))
    }
}

impl Pinning {
    /// Keeps DAGs by `ipfs`, each of whose waits is as long as `patience` says. Its attempts run as `tasks`, until
    /// `closing`, and ask the network when it may be; `delegates` are for those who would bring a DAG themselves.
    #[must_use]
    pub fn new(
        ipfs: Arc<IpfsProtocol>,
        patience: Patience,
        may_ask: MayAsk,
        delegates: Delegates,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Self {
        let patience = Patience { total: WHOLE_WAIT, ..patience };
        let (places, cars) = (Semaphore::new(AT_ONCE), Semaphore::new(CARS_AT_ONCE));
        let (wanted, book) = (Mutex::default(), Book::default());
        Self(Arc::new(Inner { ipfs, patience, may_ask, delegates, places, cars, tasks, closing, wanted, book }))
    }

    /// Goes on with what was wanted when the gateway stopped. To be called once, at the start.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn resume(&self) -> Result<(), PinError> {
        let store = self.0.ipfs.pins().store();
        self.0.book.load(store).await?;
        for (key, _) in store.list_records(TABLE).await? {
            match Cid::try_from(&key[..]) {
                Ok(root) => self.want(root, self.0.book.origins(&root)),
                Err(_) => tracing::warn!("a wanted pin's name makes no sense and is left alone"),
            }
        }
        Ok(())
    }

    /// Has a DAG kept, and says how far that is.
    ///
    /// # Errors
    /// [`PinningError`].
    pub async fn keep(&self, root: Cid) -> Result<Kept, PinningError> {
        self.keep_from(root, &[]).await
    }

    /// The same, where these multiaddrs of peers may lead to it. They are hints: what cannot be read of them, or may not
    /// be dialled, is not.
    async fn keep_from(&self, root: Cid, origins: &[String]) -> Result<Kept, PinningError> {
        if let Some(kept) = self.get(&root).await? {
            self.0.note(&root, |wanted| wanted.hear_of(origins));
            return Ok(kept);
        }
        if self.0.wanted.lock().len() >= MAX_WANTED {
            return Err(PinningError::TooMany);
        }
        let store = self.0.ipfs.pins().store();
        store.put_record(TABLE, &root.to_bytes(), Bytes::from_static(b"{}")).await.map_err(PinError::from)?;
        self.want(root, origins.iter().take(MAX_ORIGINS).cloned().collect());
        Ok(Kept::Wanted { taken: Taken::default(), error: None, is_active: false })
    }

    /// How far the keeping of a DAG is; `None` when nobody asked for it.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn get(&self, root: &Cid) -> Result<Option<Kept>, PinError> {
        // One that was pinned with gaps is not whole, and can be asked for.
        Ok(self.get_with_gaps(root).await?.filter(Kept::has_no_gaps))
    }

    /// The same, and of what was pinned though blocks of it were missing.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn get_with_gaps(&self, root: &Cid) -> Result<Option<Kept>, PinError> {
        if let Some(kept) = self.0.wanted.lock().get(root).map(Wanted::kept) {
            return Ok(Some(kept));
        }
        Ok(self.0.ipfs.pins().get(root).await?.map(Kept::Pinned))
    }

    /// How far the keeping of each DAG is that anybody asked for.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn all(&self) -> Result<BTreeMap<Cid, Kept>, PinError> {
        let mut all = self.all_with_gaps().await?;
        all.retain(|_, kept| kept.has_no_gaps());
        Ok(all)
    }

    /// The same, and of what was pinned though blocks of it were missing.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn all_with_gaps(&self) -> Result<BTreeMap<Cid, Kept>, PinError> {
        // First what is wanted: what becomes whole in between is in the list of pins by then.
        let wanted: Vec<_> = self.0.wanted.lock().iter().map(|(root, wanted)| (*root, wanted.kept())).collect();
        let pins = self.0.ipfs.pins().list().await?;
        Ok(pins.into_iter().map(|pin| (pin.root, Kept::Pinned(pin))).chain(wanted).collect())
    }

    /// Takes the blocks of a CAR in and keeps its roots, if `admits` lets each of them pass. Whole DAGs alone are kept,
    /// unless blocks may be missing.
    ///
    /// # Errors
    /// [`PinningError::TooManyCars`], and as [`import_car`]; then nothing of it is kept.
    pub async fn import(
        &self,
        car: impl AsyncRead + Unpin + Send,
        may_miss: bool,
        admits: impl FnMut(&Cid) -> bool + Send,
    ) -> Result<Vec<Pin>, PinningError> {
        let _place = self.0.cars.try_acquire().map_err(|_| PinningError::TooManyCars)?;
        let kept = import_car(self.0.ipfs.pins(), car, may_miss, admits, |_| {}).await?;
        for pin in kept.iter().filter(|pin| pin.missing == 0) {
            // Nobody need fetch it any more.
            self.stop_wanting(&pin.root).await?;
        }
        Ok(kept)
    }

    /// Keeps a DAG no longer; what is cached of it stays until the room is needed. Whether it was kept or wanted.
    ///
    /// # Errors
    /// [`PinError::Record`].
    pub async fn let_go(&self, root: &Cid) -> Result<bool, PinError> {
        let was_wanted = self.stop_wanting(root).await?;
        // With what an attempt had pinned by then.
        let was_pinned = self.0.ipfs.pins().remove(root).await?;
        Ok(was_wanted || was_pinned)
    }

    /// Fetches a DAG no longer. Whether it was wanted.
    async fn stop_wanting(&self, root: &Cid) -> Result<bool, PinError> {
        let wanted = self.0.wanted.lock().remove(root);
        let was_wanted = wanted.is_some();
        if let Some(wanted) = wanted {
            wanted.cancel.cancel();
            // It ends at once.
            let _ = wanted.task.await;
        }
        self.0.ipfs.pins().store().delete_record(TABLE, &root.to_bytes()).await?;
        Ok(was_wanted)
    }

    /// Begins to fetch a DAG, unless it has begun.
    fn want(&self, root: Cid, origins: Vec<String>) {
        let mut wanted = self.0.wanted.lock();
        if wanted.contains_key(&root) {
            return;
        }
        let (cancel, news) = (CancellationToken::new(), Arc::new(Notify::new()));
        let task = self.0.tasks.spawn(run(self.0.clone(), root, news.clone(), cancel.clone()));
        let (taken, error, is_active) = (Taken::default(), None, false);
        wanted.insert(root, Wanted { taken, error, is_active, origins, news, cancel, task });
    }
}

/// The peers that multiaddrs name.
fn peers(origins: &[String]) -> Vec<Provider> {
    origins.iter().filter_map(|origin| ask::peer(origin)).collect()
}

/// Tries until it is pinned, wanted no longer, or the gateway stops.
async fn run(inner: Arc<Inner>, root: Cid, news: Arc<Notify>, cancel: CancellationToken) {
    let attempts = async {
        let mut pause = PAUSE.0;
        while let Err(error) = inner.attempt(root).await {
            tracing::debug!(%root, %error, "a wanted pin is tried again later");
            inner.note(&root, |wanted| (wanted.error, wanted.is_active) = (Some(error.to_string()), false));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = news.notified() => {}
            }
            pause = (pause * 2).min(PAUSE.1);
        }
    };
    tokio::select! {
        () = attempts => {}
        () = cancel.cancelled() => {}
        () = inner.closing.cancelled() => {}
    }
}

impl Inner {
    async fn attempt(&self, root: Cid) -> Result<(), PinError> {
        // Nobody closes it.
        let _place = self.places.acquire().await;
        let mut hints = Vec::new();
        self.note(&root, |wanted| {
            wanted.is_active = true;
            hints = peers(&wanted.origins);
        });
        let options = SessionOptions { patience: Some(self.patience), only_local: !(self.may_ask)(), hints };
        let session = self.ipfs.session(options);
        pin_dag(self.ipfs.pins(), &session, root, |taken| self.note(&root, |wanted| wanted.taken = taken)).await?;
        self.ipfs.pins().store().delete_record(TABLE, &root.to_bytes()).await?;
        self.wanted.lock().remove(&root);
        Ok(())
    }

    fn note(&self, root: &Cid, change: impl FnOnce(&mut Wanted)) {
        if let Some(wanted) = self.wanted.lock().get_mut(root) {
            change(wanted);
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("wanted", &self.wanted.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_request_names_peers_alone_are_asked() {
        let peer = "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK";
        let named = peers(&[peer, "https://gateway.example", "/ip4/192.0.2.7/tcp/1", "?"].map(str::to_owned));
        assert!(matches!(&named[..], [Provider::Peer { addrs, .. }] if addrs.len() == 1), "{named:?}");
    }
}
