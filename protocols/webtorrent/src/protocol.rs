//! WebTorrent as one of the gateway's protocols: brings browsers to the swarms that are active.
//!
//! It has no torrents of its own. It watches which ones are active ([`SwarmDirectory`]), makes each known to its
//! WebSocket trackers, to the operator's and to the one in this process, and leads whoever connects into the same swarm
//! that TCP peers are in. A content is therefore resolved and read through BitTorrent; what comes over WebRTC is counted
//! here.
//!
//! [`SwarmDirectory`]: swarmgate_swarm::directory::SwarmDirectory

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use swarmgate_content::{
    Attempt, BoxFuture, ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, FetchError, FetchErrorKind,
    FileRef, Health, HealthState, InfoHash, Protocol, ProtocolKind, ProtocolStats, ResolveRequest, Stage,
    StatsSnapshot,
};
use swarmgate_swarm::SwarmContext;
use swarmgate_swarm::directory::{ActiveSwarm, PeerWay, SwarmDirectory};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::hub::TrackerHub;
use crate::introduce::Places;
use crate::rtc::{RtcError, RtcManager, RtcOptions};
use crate::tracking::client::ClientSetup;
use crate::tracking::log::TrackerLog;
use crate::tracking::member::Membership;
use crate::tracking::registry::{TrackerId, TrackerRegistry};
use crate::tracking::wire::Opener;

/// The protocol's settings.
#[derive(Debug)]
pub struct WebTorrentOptions {
    /// Its connections.
    pub rtc: RtcOptions,
    /// WebSocket trackers that public torrents are announced to besides their own.
    pub trackers: Vec<String>,
    /// The tracker in this process, unless it is switched off.
    pub hub: Option<Arc<TrackerHub>>,
    /// Hosts with ports under which clients reach the tracker in this process: a torrent that names one of them means it.
    pub own_authorities: Vec<String>,
    /// WebRTC connections of one torrent.
    pub max_connections_per_torrent: usize,
    /// Peers of all kinds connected to one torrent.
    pub max_peers_per_torrent: usize,
    /// Whether peers are wanted for their sake too, to be uploaded to.
    pub uploads: bool,
}

/// Why the protocol did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// WebRTC.
    #[error(transparent)]
    Rtc(#[from] RtcError),
    /// TLS towards trackers.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// See the module's head. Its owner must call [`Protocol::shutdown`].
#[derive(Debug)]
pub struct WebTorrentProtocol {
    inner: Arc<Inner>,
    listen: Vec<SocketAddr>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Inner {
    rtc: RtcManager,
    registry: TrackerRegistry,
    hub: Option<Arc<TrackerHub>>,
    log: Arc<TrackerLog>,
    stats: Arc<ProtocolStats>,
    directory: SwarmDirectory,
    trackers: Vec<String>,
    own_authorities: Vec<String>,
    max_connections_per_torrent: usize,
    max_peers_per_torrent: usize,
    uploads: bool,
    freed: Arc<watch::Sender<u64>>,
    /// Whether anybody is to be met, as the operator says at run time.
    on: watch::Sender<bool>,
}

impl WebTorrentProtocol {
    /// Starts WebRTC and watches the directory of `context`. Must be called within a runtime.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(options: WebTorrentOptions, context: &SwarmContext) -> Result<Arc<Self>, StartError> {
        let opener = Opener::new(options.rtc.egress).map_err(|error| StartError::Tls(error.to_string()))?;
        let listen = options.rtc.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let rtc = RtcManager::start(options.rtc)?;
        let (stats, log) = (context.webrtc_stats.clone(), Arc::<TrackerLog>::default());
        let freed = Arc::new(watch::Sender::new(0));
        let setup = ClientSetup { rtc: rtc.clone(), stats: stats.clone(), log: log.clone(), freed: freed.subscribe() };
        let inner = Arc::new(Inner {
            rtc,
            registry: TrackerRegistry::new(opener, options.hub.clone(), setup),
            hub: options.hub,
            log,
            stats,
            directory: context.directory.clone(),
            trackers: options.trackers,
            own_authorities: options.own_authorities,
            max_connections_per_torrent: options.max_connections_per_torrent,
            max_peers_per_torrent: options.max_peers_per_torrent,
            uploads: options.uploads,
            freed,
            on: watch::Sender::new(true),
        });
        context.directory.add_way(&inner);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(inner.clone().supervise(stop.clone(), tasks.clone()));
        if let Some(hub) = &inner.hub {
            tasks.spawn(hub.clone().keep_time(stop.clone()));
        }
        Ok(Arc::new(Self { inner, listen, stop, tasks }))
    }

    /// The tracker in this process, unless it is switched off.
    #[must_use]
    pub fn hub(&self) -> Option<&Arc<TrackerHub>> {
        self.inner.hub.as_ref()
    }

    /// Lets browsers be met from now on, or not: then each torrent leaves its WebSocket trackers, the one in this process
    /// too, and the connections that there are end. Forgotten with the process.
    pub fn switch(&self, on: bool) {
        self.inner.on.send_if_modified(|now| std::mem::replace(now, on) != on);
    }

    /// Whether browsers may be met.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.inner.is_on()
    }
}

impl Inner {
    fn is_on(&self) -> bool {
        *self.on.borrow()
    }

    /// Has a follower for each active torrent.
    async fn supervise(self: Arc<Self>, stop: CancellationToken, tasks: TaskTracker) {
        let mut changed = self.directory.changed();
        let mut followed: BTreeMap<InfoHash, (u64, CancellationToken)> = BTreeMap::new();
        loop {
            changed.mark_unchanged();
            let active = self.directory.active();
            followed.retain(|infohash, (serial, token)| {
                let goes_on = active.get(infohash).is_some_and(|swarm| swarm.serial() == *serial);
                if !goes_on {
                    token.cancel();
                }
                goes_on
            });
            for (infohash, swarm) in active {
                followed.entry(infohash).or_insert_with(|| {
                    let token = stop.child_token();
                    let serial = swarm.serial();
                    tasks.spawn(self.clone().follow(swarm, token.clone()));
                    (serial, token)
                });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = changed.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Keeps one torrent known to its trackers and to no others, until it ends.
    async fn follow(self: Arc<Self>, swarm: ActiveSwarm, stop: CancellationToken) {
        let (infohash, serial) = (swarm.handle.infohash(), swarm.serial());
        let membership = Membership {
            places: Places::new(self.max_connections_per_torrent, self.freed.clone(), swarm.peer_id),
            max_peers: self.max_peers_per_torrent,
            uploads: self.uploads,
            swarm,
        };
        let (mut own, mut switch) = (membership.swarm.trackers(), self.on.subscribe());
        let (mut joined, mut learnt, mut completed) = (BTreeSet::new(), false, false);
        loop {
            let is_on = *switch.borrow_and_update();
            membership.places.meetings.set_open(is_on);
            let mut wanted = self.trackers_of(&membership.swarm, &own.borrow_and_update());
            if !is_on {
                wanted.clear();
            }
            for tracker in joined.difference(&wanted) {
                self.leave(tracker, infohash, serial).await;
            }
            for tracker in wanted.difference(&joined) {
                self.join(tracker, membership.clone()).await;
            }
            joined = wanted;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = own.changed() => if changed.is_err() { break },
                changed = switch.changed() => if changed.is_err() { break },
                _ = membership.swarm.handle.wait_known(), if !learnt => learnt = true,
                // Trackers are told at once, not when their clients next have something else to do.
                _ = membership.swarm.handle.wait_completed(), if !completed => {
                    completed = true;
                    self.freed.send_modify(|count| *count += 1);
                }
            }
        }
        for tracker in &joined {
            self.leave(tracker, infohash, serial).await;
        }
    }

    async fn join(&self, tracker: &TrackerId, membership: Membership) {
        if let (TrackerId::InProcess, Some(hub)) = (tracker, &self.hub) {
            hub.allow(membership.swarm.handle.infohash(), membership.swarm.serial());
        }
        self.registry.join(tracker, membership).await;
    }

    async fn leave(&self, tracker: &TrackerId, infohash: InfoHash, serial: u64) {
        self.registry.leave(tracker, infohash, serial).await;
        if let (TrackerId::InProcess, Some(hub)) = (tracker, &self.hub) {
            hub.disallow(infohash, serial);
        }
    }

    /// The trackers that a torrent may be made known to: its own, and if it is not private ours and the operator's (BEP 27).
    fn trackers_of(&self, swarm: &ActiveSwarm, own: &[String]) -> BTreeSet<TrackerId> {
        let mut trackers: BTreeSet<_> = own.iter().map(|url| self.tracker_at(url)).collect();
        if !swarm.is_private() {
            trackers.extend(self.trackers.iter().map(|url| self.tracker_at(url)));
            trackers.insert(TrackerId::InProcess);
        }
        if self.hub.is_none() {
            trackers.remove(&TrackerId::InProcess);
        }
        trackers
    }

    /// The tracker that a URL means: a torrent may name the one in this process as clients see it.
    fn tracker_at(&self, url: &str) -> TrackerId {
        let authority = Url::parse(url).ok().and_then(|url| {
            let (host, port) = (url.host_str()?.to_owned(), url.port_or_known_default()?);
            url.path().ends_with("/announce").then(|| format!("{host}:{port}"))
        });
        match authority {
            Some(authority) if self.own_authorities.contains(&authority) => TrackerId::InProcess,
            Some(_) | None => TrackerId::Url(url.to_owned()),
        }
    }
}

impl PeerWay for Inner {
    fn may_find(&self, torrent: &ActiveSwarm) -> bool {
        // Who names a tracker, ours among them, says that somebody will come there.
        let named = !torrent.trackers().borrow().is_empty();
        let infohash = torrent.handle.infohash();
        let known = || self.hub.as_ref().is_some_and(|hub| hub.knows_others(&infohash));
        if !self.is_on() {
            return false;
        }
        named || !torrent.is_private() && (!self.trackers.is_empty() || known())
    }

    fn attempts(&self, infohash: &InfoHash) -> Vec<Attempt> {
        self.log.attempts(infohash)
    }
}

fn unsupported(id: ContentId) -> FetchError {
    let detail = "WebTorrent brings peers; the content is read through BitTorrent";
    FetchError::new(id, Stage::Resolve, FetchErrorKind::Unsupported, detail)
}

impl Protocol for WebTorrentProtocol {
    fn kind(&self) -> ProtocolKind {
        ProtocolKind::WebTorrent
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { infohash_v1: false, infohash_v2: false, cid: false, ranges: true }
    }

    fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
        Box::pin(std::future::ready(Err(unsupported(request.id))))
    }

    fn open(&self, file: FileRef, _range: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
        Box::pin(std::future::ready(Err(unsupported(file.id))))
    }

    fn attempts(&self, id: &ContentId) -> Vec<Attempt> {
        id.as_v1().map_or_else(Vec::new, |infohash| self.inner.log.attempts(&infohash))
    }

    fn health(&self) -> Health {
        let rtc = self.inner.rtc.stats();
        let listen: Vec<_> = self.listen.iter().map(ToString::to_string).collect();
        let listen = if listen.is_empty() { "a port for each connection".to_owned() } else { listen.join(", ") };
        let tracker = self.inner.hub.as_ref().map_or_else(
            || "no tracker of its own".to_owned(),
            |hub| format!("{} clients at its own tracker", hub.sockets()),
        );
        let switched = if self.is_on() { "" } else { "switched off by the operator; " };
        let evidence = format!("{switched}WebRTC on {listen}, {} connections, {tracker}", rtc.connections);
        Health { state: HealthState::Ok, evidence }
    }

    fn stats(&self) -> StatsSnapshot {
        self.inner.stats.snapshot()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.stop.cancel();
            self.tasks.close();
            let gone = async {
                self.tasks.wait().await;
                self.inner.registry.shutdown().await;
                self.inner.rtc.shutdown().await;
            };
            if tokio::time::timeout_at(deadline.into(), gone).await.is_err() {
                tracing::warn!("WebTorrent did not stop in time");
            }
        })
    }
}
