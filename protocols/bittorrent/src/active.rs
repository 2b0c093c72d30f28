//! One active torrent: its swarm, and whoever finds peers for it. What is started here is stopped in
//! [`ActiveTorrent::shutdown`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use parking_lot::Mutex;
use swarmgate_bittorrent_proto::choker::TurnOrder;
use swarmgate_bittorrent_proto::handshake::{Handshake, PeerId};
use swarmgate_bittorrent_proto::metainfo::Info;
use swarmgate_bittorrent_proto::peer_book::PeerSource;
use swarmgate_bittorrent_proto::torrent::Transport;
use swarmgate_bittorrent_proto::tracker::udp::ScrapeCounts;
use swarmgate_content::{Attempt, AttemptOutcome, Hints, InfoHash, TorrentId};
use swarmgate_store::Store;
use swarmgate_swarm::directory::{Entry, is_websocket_tracker};
use swarmgate_swarm::{Evidence, Held, PeerEnd, PeerOrigin, Swarm, SwarmContext, SwarmHandle, SwarmOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::announcer::{AnnouncerSetup, Progress, TorrentAnnouncer, TrackerReport};
use crate::dht::DhtHandle;
use crate::dialer::{DialLimits, DialerSetup, Found, TorrentDialer};
use crate::lsd::LocalNetwork;
use crate::outbound::Outbound;
use crate::peer_stream::{Carrier, PeerStream};
use crate::pinning::{Pin, PinState};
use crate::scraper::Scraper;
use crate::tips::TipFollower;
use crate::tracker_client::TrackerClient;
use swarmgate_egress::{PeerGate, Way};

/// The port told where nobody can dial us: many trackers refuse 0.
const UNREACHABLE_PORT: u16 = 1;
/// Messages that may wait between the parts of one torrent.
const QUEUE: usize = 64;
/// How long the second stream to a peer is held back: time for the peer to close one of the two.
const SECOND_STREAM_HOLD: Duration = Duration::from_secs(3);

/// What every active torrent of one protocol shares.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) context: SwarmContext,
    pub(crate) swarm: SwarmOptions,
    pub(crate) gate: PeerGate,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) half_open: Arc<Semaphore>,
    /// Places for connected peers of all torrents.
    pub(crate) peer_slots: Arc<Semaphore>,
    pub(crate) tracker_client: Arc<TrackerClient>,
    pub(crate) dht: Option<DhtHandle>,
    pub(crate) lsd: Option<LocalNetwork>,
    /// Trackers that public torrents are announced to besides their own.
    pub(crate) extra_trackers: Vec<String>,
    pub(crate) peer_id: PeerId,
    pub(crate) listen: Option<SocketAddr>,
    /// The port that others are told: the one we listen on, unless a router forwards another.
    pub(crate) outside: watch::Sender<Option<u16>>,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct ActiveTorrent {
    swarm: Mutex<Option<Swarm>>,
    handle: SwarmHandle,
    /// Whether its metadata was there from the start, though the swarm may not have taken it in yet.
    informed: bool,
    /// Whether it was known to be private from the start.
    private: bool,
    announcer: Arc<Mutex<Option<TorrentAnnouncer>>>,
    /// Announces to the operator's own trackers, until the torrent turns out to be private.
    extra: Arc<Mutex<Option<TorrentAnnouncer>>>,
    /// Announces a hybrid by its other name (BEP 52), so that those find us who know no more of it.
    upgrade: Arc<Mutex<Option<TorrentAnnouncer>>>,
    /// Lends the swarm to those who bring peers by other ways.
    entry: Mutex<Option<Entry>>,
    dialer: Arc<TorrentDialer>,
    threshold: Threshold,
    found: mpsc::Sender<Found>,
    /// Ends the DHT's lookups for this torrent, when it turns out to be private.
    public: CancellationToken,
    dht_found: Arc<Mutex<Option<(Instant, usize)>>>,
    scraper: Scraper,
    /// To how many peers it uploads, and by which turns, as its swarm was told.
    uploads: Mutex<(usize, TurnOrder)>,
    was_read: AtomicBool,
    pin: PinState,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl ActiveTorrent {
    /// Starts a torrent. With `info`, nothing is said to anybody before it is known whether the torrent is private.
    pub(crate) fn start(
        environment: &Environment,
        id: TorrentId,
        info: Option<(Info, Bytes)>,
        trackers: &[Vec<String>],
    ) -> Self {
        let (ends_sender, ends) = mpsc::channel(QUEUE);
        let swarm = Swarm::spawn(id, environment.swarm, environment.context.clone(), ends_sender);
        let handle = swarm.handle().clone();
        let (found, found_receiver) = mpsc::channel(QUEUE);
        let (peers, connected) = mpsc::channel(QUEUE);
        let (want_sender, want) = watch::channel(environment.swarm.max_peers);
        let (unreached, unreached_receiver) = mpsc::channel(QUEUE);
        let dialer = Arc::new(TorrentDialer::spawn(DialerSetup {
            ours: ours(id, environment.peer_id),
            upgrade: upgrade_of(id),
            gate: environment.gate.clone(),
            limits: DialLimits::default(),
            outbound: environment.outbound.clone(),
            half_open: environment.half_open.clone(),
            stats: environment.context.stats.clone(),
            found: found_receiver,
            want,
            peers,
            unreached: environment.context.exchange.filter(|exchange| exchange.holepunch).map(|_| unreached),
        }));
        dialer.set_self(environment.listen);
        let private = info.as_ref().is_some_and(|(info, _)| info.private);
        let (public, stop, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let own = |tracker: &String| trackers.iter().flatten().any(|own| own == tracker);
        let extra = environment.extra_trackers.iter().filter(|tracker| !own(tracker));
        let extra: Vec<_> = extra.map(|tracker| vec![tracker.clone()]).collect();
        let announce = |name, trackers: &[Vec<String>]| announcer(environment, &handle, name, trackers, found.clone());
        let extra = (!private && !extra.is_empty()).then(|| announce(id.wire(), &extra));
        let upgrade = upgrade_of(id).map(|other| announce(other, &dialled(trackers)));
        let entry = environment.context.directory.enter(handle.clone(), environment.peer_id, private, trackers);
        let threshold = Threshold {
            handle: handle.clone(),
            dialer: dialer.clone(),
            ours: environment.peer_id,
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let torrent = Self {
            private,
            threshold: threshold.clone(),
            entry: Mutex::new(Some(entry)),
            announcer: Arc::new(Mutex::new(Some(announce(id.wire(), &dialled(trackers))))),
            extra: Arc::new(Mutex::new(extra)),
            upgrade: Arc::new(Mutex::new(upgrade)),
            swarm: Mutex::new(Some(swarm)),
            handle: handle.clone(),
            informed: info.is_some(),
            dialer: dialer.clone(),
            found,
            public,
            dht_found: Arc::default(),
            scraper: Scraper::new(id.wire(), environment.tracker_client.clone(), stop.clone()),
            uploads: Mutex::new((environment.swarm.upload_slots, TurnOrder::default())),
            was_read: AtomicBool::new(false),
            pin: PinState::default(),
            stop: stop.clone(),
            tasks,
        };
        let outside = environment.outside.subscribe();
        torrent.tasks.spawn(TipFollower::new(&handle, dialer.clone(), unreached_receiver, outside).run(stop.clone()));
        let usher = Usher {
            threshold,
            handle: handle.clone(),
            dialer,
            max_peers: environment.swarm.max_peers,
            slots: environment.peer_slots.clone(),
            gate: environment.gate.clone(),
            want: want_sender,
        };
        torrent.tasks.spawn(usher.run(connected, ends, stop));
        torrent.learn(info);
        torrent.tell_completion();
        torrent.tell_port(environment.outside.subscribe());
        if !private {
            [Some(id.wire()), upgrade_of(id)].into_iter().flatten().for_each(|name| torrent.ask_dht(environment, name));
            torrent.call_out(environment);
        }
        torrent.tasks.close();
        torrent
    }

    /// Waits for the metadata; what turns out to be private is taken back from everybody but its own trackers (BEP 27).
    fn learn(&self, info: Option<(Info, Bytes)>) {
        let (handle, extra) = (self.handle.clone(), self.extra.clone());
        let (public, stop) = (self.public.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Some((info, bytes)) = info
                && handle.set_info(info, bytes).await.is_err()
            {
                return;
            }
            let known = tokio::select! {
                known = handle.wait_known() => known,
                () = stop.cancelled() => return,
            };
            if known.is_ok_and(|known| known.is_ok_and(|known| known.info.private)) {
                public.cancel();
                let extra = extra.lock().take();
                if let Some(extra) = extra {
                    extra.shutdown().await;
                }
            }
        });
    }

    /// Tells the trackers once when the last piece has come (BEP 3).
    fn tell_completion(&self) {
        let announcers = [self.announcer.clone(), self.extra.clone(), self.upgrade.clone()];
        let handle = self.handle.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                completed = handle.wait_completed() => if completed.is_err() { return },
                () = stop.cancelled() => return,
            }
            for announcer in announcers {
                if let Some(announcer) = &*announcer.lock() {
                    announcer.complete();
                }
            }
        });
    }

    /// Tells trackers and peers by which port we are reached, when that changes.
    fn tell_port(&self, mut outside: watch::Receiver<Option<u16>>) {
        let (handle, announcers) = (self.handle.clone(), [self.announcer.clone(), self.extra.clone()]);
        let stop = self.stop.clone();
        handle.set_listen_port(*outside.borrow_and_update());
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            while outside.changed().await.is_ok() {
                handle.set_listen_port(*outside.borrow_and_update());
                for announcer in &announcers {
                    if let Some(announcer) = &*announcer.lock() {
                        announcer.announce_now();
                    }
                }
            }
        }));
    }

    /// Whether it is known to be private.
    pub(crate) fn is_private(&self) -> bool {
        self.private || self.handle.known().is_some_and(|known| known.info.private)
    }

    /// Looks peers up in the DHT, by one of its names, until the torrent ends or is known to be private.
    fn ask_dht(&self, environment: &Environment, infohash: InfoHash) {
        let Some(dht) = environment.dht.clone() else { return };
        let mut outside = environment.outside.subscribe();
        let (found, count) = (self.found.clone(), self.dht_found.clone());
        let (public, stop) = (self.public.clone(), self.stop.clone());
        *count.lock() = Some((Instant::now(), 0));
        self.tasks.spawn(async move {
            let mut peers = dht.get_peers(infohash, *outside.borrow_and_update());
            loop {
                let address = tokio::select! {
                    address = peers.next() => address,
                    Ok(()) = outside.changed() => {
                        peers = dht.get_peers(infohash, *outside.borrow_and_update());
                        continue;
                    }
                    () = public.cancelled() => return,
                    () = stop.cancelled() => return,
                };
                let Some(address) = address else { return };
                if let Some((_, count)) = &mut *count.lock() {
                    *count += 1;
                }
                if found.send(Found { source: PeerSource::Dht, addresses: vec![address] }).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Calls out in the local network until the torrent ends or is known to be private.
    fn call_out(&self, environment: &Environment) {
        let Some(lsd) = &environment.lsd else { return };
        let calling = lsd.call_out(self.handle.infohash(), self.found.clone());
        let (public, stop) = (self.public.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = public.cancelled() => {}
                () = stop.cancelled() => {}
            }
            drop(calling);
        });
    }

    /// Says to how many peers it uploads, and by which turns.
    pub(crate) fn set_uploads(&self, slots: usize, turns: TurnOrder) {
        let mut told = self.uploads.lock();
        // What finds no room in the queue is said again the next time.
        if *told != (slots, turns) && self.handle.set_uploads(slots, turns) {
            *told = (slots, turns);
        }
    }

    /// Has it fetched and held in the store, or no longer.
    pub(crate) async fn set_pin(&self, pin: Option<Pin>, store: &Store) {
        if self.pin.tell(pin, &self.handle, store).await {
            let hold = self.pin.clone().hold(self.handle.clone(), store.clone());
            self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(hold));
        }
    }

    /// Notes that somebody reads it.
    pub(crate) fn note_reader(&self) {
        self.was_read.store(true, Ordering::Relaxed);
    }

    /// Whether somebody reads it, or did so less than `grace` ago.
    pub(crate) fn is_read(&self, now: Instant, grace: Duration) -> bool {
        let was_read = self.was_read.load(Ordering::Relaxed);
        self.handle.idle_for(now).is_none_or(|idle| was_read && idle < grace)
    }

    /// A handle to the swarm.
    pub(crate) const fn handle(&self) -> &SwarmHandle {
        &self.handle
    }

    /// Takes what a client says may help.
    pub(crate) fn add_hints(&self, hints: &Hints) {
        if !hints.peers.is_empty() {
            self.dialer.add(&Found { source: PeerSource::Hint, addresses: hints.peers.clone() });
        }
        if !self.is_private() {
            self.add_trackers(&hints.trackers);
        }
    }

    /// Takes trackers of its own.
    pub(crate) fn add_trackers(&self, tiers: &[Vec<String>]) {
        for announcer in [&self.announcer, &self.upgrade] {
            if let Some(announcer) = announcer.lock().as_ref().filter(|_| !tiers.is_empty()) {
                announcer.add_trackers(&dialled(tiers));
            }
        }
        if let Some(entry) = &*self.entry.lock() {
            entry.add_trackers(tiers);
        }
    }

    /// Somebody reads what is not here: without a peer to ask, trackers are asked again as soon as they allow.
    pub(crate) fn seek_peers(&self) {
        self.dialer.wake_resting();
        if *self.handle.peer_count().borrow() == 0 {
            self.announce_now();
        }
    }

    /// Asks its trackers again, as soon as they allow.
    pub(crate) fn announce_now(&self) {
        for announcer in [&self.announcer, &self.extra, &self.upgrade] {
            if let Some(announcer) = &*announcer.lock() {
                announcer.announce_now();
            }
        }
    }

    /// How many peers its trackers know, as far as that is known now.
    pub(crate) fn swarm_size(&self) -> Option<ScrapeCounts> {
        let of = |announcer: &Mutex<Option<TorrentAnnouncer>>| {
            announcer.lock().as_ref().map_or_else(Vec::new, TorrentAnnouncer::trackers)
        };
        self.scraper.look(Instant::now(), &self.tasks, || [of(&self.announcer), of(&self.extra)].concat())
    }

    /// How its own trackers fare, and those that the operator adds.
    pub(crate) fn tracker_reports(&self) -> (Vec<TrackerReport>, Vec<TrackerReport>) {
        let of = |announcer: &Mutex<Option<TorrentAnnouncer>>| {
            announcer.lock().as_ref().map_or_else(Vec::new, TorrentAnnouncer::reports)
        };
        (of(&self.announcer), of(&self.extra))
    }

    /// A peer dialled us.
    pub(crate) fn accept(&self, peer: PeerStream, slots: &Arc<Semaphore>) {
        let Ok(slot) = slots.clone().try_acquire_owned() else { return };
        if let Carrier::Utp(_) = peer.stream.carrier() {
            // Unlike a port that TCP dialled from, this is where others would dial it.
            self.dialer.meet(peer.address);
        }
        let threshold = self.threshold.clone();
        self.tasks.spawn(async move { threshold.lead_in(peer.origin().inbound(), peer, slot).await });
    }

    /// What was tried to find and reach peers.
    pub(crate) fn attempts(&self, environment: &Environment) -> Vec<Attempt> {
        let mut attempts = Vec::new();
        for announcer in [&self.announcer, &self.extra] {
            attempts.extend(announcer.lock().as_ref().map_or_else(Vec::new, TorrentAnnouncer::attempts));
        }
        if let Some((since, count)) = *self.dht_found.lock() {
            let outcome = AttemptOutcome::Ok(format!("{count} peers"));
            attempts.push(Attempt { source: "dht", target: None, outcome, took: since.elapsed() });
        }
        attempts.extend(self.dialer.attempts());
        attempts.extend(environment.context.directory.attempts(&self.handle.infohash()));
        let peers = self.handle.status().peers;
        if peers > 0 {
            let outcome = AttemptOutcome::Ok(format!("{peers} connected now"));
            attempts.push(Attempt { source: "peers", target: None, outcome, took: Duration::ZERO });
        }
        attempts
    }

    /// Whether the metadata is known or about to be, without asking anybody.
    pub(crate) fn is_informed(&self) -> bool {
        self.informed || self.handle.known().is_some()
    }

    /// Whether there is anybody to ask or anything that may still find somebody.
    pub(crate) fn has_sources(&self, environment: &Environment) -> bool {
        let asks = |announcer: &Mutex<Option<TorrentAnnouncer>>| {
            announcer.lock().as_ref().is_some_and(TorrentAnnouncer::has_trackers)
        };
        let trackers = asks(&self.announcer) || asks(&self.extra);
        let others = environment.context.directory.may_find(&self.handle.infohash());
        let asked = environment.dht.is_some() || environment.lsd.is_some();
        trackers || others || asked || self.dialer.known() > 0 || self.handle.status().peers > 0
    }

    /// Stops everything this torrent started, in reverse order, and returns when it has ended.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        drop(self.entry.lock().take());
        let announcers = [&self.announcer, &self.extra, &self.upgrade].map(|announcer| announcer.lock().take());
        join_all(announcers.into_iter().flatten().map(TorrentAnnouncer::shutdown)).await;
        self.dialer.shutdown().await;
        let swarm = self.swarm.lock().take();
        if let Some(swarm) = swarm {
            swarm.shutdown().await;
        }
        self.tasks.wait().await;
    }
}

/// The handshake that we open connections with.
fn ours(id: TorrentId, peer_id: PeerId) -> Handshake {
    let ours = Handshake::ours(id.wire(), peer_id);
    if id.v2().is_some() { ours.or_v2() } else { ours }
}

/// The other name of a hybrid torrent, by which peers may answer who speaks of its v1 half (BEP 52).
pub(crate) fn upgrade_of(id: TorrentId) -> Option<InfoHash> {
    match id {
        TorrentId::Hybrid(_, v2) => Some(v2.truncated()),
        TorrentId::V1(_) | TorrentId::V2(_) => None,
    }
}

/// The trackers that are asked over HTTP or UDP; those of browsers are for another way.
fn dialled(tiers: &[Vec<String>]) -> Vec<Vec<String>> {
    let tiers = tiers.iter().map(|tier| tier.iter().filter(|url| !is_websocket_tracker(url)).cloned().collect());
    tiers.filter(|tier: &Vec<_>| !tier.is_empty()).collect()
}

fn announcer(
    environment: &Environment,
    handle: &SwarmHandle,
    infohash: InfoHash,
    trackers: &[Vec<String>],
    found: mpsc::Sender<Found>,
) -> TorrentAnnouncer {
    let handle = handle.clone();
    TorrentAnnouncer::spawn(AnnouncerSetup {
        infohash,
        peer_id: environment.peer_id,
        port: outside_port(environment.outside.subscribe()),
        tiers: trackers.to_vec(),
        client: environment.tracker_client.clone(),
        stats: environment.context.stats.clone(),
        progress: Arc::new(move || progress(&handle)),
        found,
    })
}

/// Reads the port that trackers are told.
fn outside_port(outside: watch::Receiver<Option<u16>>) -> Arc<dyn Fn() -> u16 + Send + Sync> {
    Arc::new(move || outside.borrow().unwrap_or(UNREACHABLE_PORT))
}

fn progress(handle: &SwarmHandle) -> Progress {
    let status = handle.status();
    Progress {
        uploaded: status.totals.uploaded,
        downloaded: status.totals.downloaded,
        left: handle.known().map(|known| known.geometry.total_len() - status.have_bytes),
    }
}

/// What every connected peer crosses into the swarm.
#[derive(Debug, Clone)]
struct Threshold {
    handle: SwarmHandle,
    dialer: Arc<TorrentDialer>,
    ours: PeerId,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Threshold {
    /// Two that dial each other at once, as they do where a hole is punched, have two streams and need one. Whose id is
    /// greater lets the later one go, so that each side does not close another; some clients have a rule of their own, so
    /// it is held back until they have followed that.
    async fn lead_in(&self, origin: PeerOrigin, peer: PeerStream, slot: OwnedSemaphorePermit) {
        if !self.is_here(&origin) || self.ours < peer.handshake.peer_id {
            return self.give(origin, peer, slot).await;
        }
        let threshold = self.clone();
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            tokio::time::sleep(SECOND_STREAM_HOLD).await;
            if !threshold.is_here(&origin) {
                threshold.dialer.meet(peer.address);
                threshold.give(origin, peer, slot).await;
            }
        }));
    }

    async fn give(&self, origin: PeerOrigin, peer: PeerStream, slot: OwnedSemaphorePermit) {
        // The swarm is gone when this fails, and the peer with it.
        let _ = self.handle.add_peer(Held::new(peer.stream, slot), origin, peer.handshake).await;
    }

    /// Whether there is a stream to this peer already. Over uTP it has one address, whoever dialled.
    fn is_here(&self, origin: &PeerOrigin) -> bool {
        let same = |other: &PeerOrigin| other.transport == Transport::Utp && other.addr == origin.addr;
        origin.transport == Transport::Utp && self.handle.peers().iter().any(same)
    }
}

/// Leads connected peers into the swarm, and tells the dialer how they ended and how many more are wanted.
struct Usher {
    threshold: Threshold,
    handle: SwarmHandle,
    dialer: Arc<TorrentDialer>,
    max_peers: usize,
    slots: Arc<Semaphore>,
    gate: PeerGate,
    want: watch::Sender<usize>,
}

impl Usher {
    async fn run(
        self,
        mut connected: mpsc::Receiver<PeerStream>,
        mut ends: mpsc::Receiver<PeerEnd>,
        stop: CancellationToken,
    ) {
        let mut count = self.handle.peer_count();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(peer) = connected.recv() => self.lead_in(peer).await,
                Some(end) = ends.recv() => self.see_out(&end),
                Ok(()) = count.changed() => {}
                else => return,
            }
            let here = *count.borrow_and_update();
            self.want.send_replace(self.max_peers.saturating_sub(here).min(self.slots.available_permits()));
        }
    }

    async fn lead_in(&self, peer: PeerStream) {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            return self.dialer.on_disconnected(peer.address, false);
        };
        self.threshold.lead_in(peer.origin(), peer, slot).await;
    }

    fn see_out(&self, end: &PeerEnd) {
        let Some(address) = end.addr else { return };
        if end.evidence.is_none()
            && end.transport == Transport::Utp
            && self.threshold.is_here(&PeerOrigin::utp(address))
        {
            // One of two streams to it.
            return;
        }
        if end.redundant {
            return self.dialer.on_redundant(address);
        }
        self.dialer.on_disconnected(address, end.useful && end.evidence.is_none());
        if let Some(evidence) = end.evidence {
            tracing::warn!(infohash = %self.handle.infohash(), "a peer is banned: {}", end.reason);
            self.gate.ban(Instant::now(), address, way(end.transport), reason(evidence));
        }
    }
}

const fn way(transport: Transport) -> Way {
    match transport {
        Transport::Tcp => Way::Tcp,
        Transport::Utp => Way::Utp,
        Transport::WebRtc => Way::WebRtc,
    }
}

const fn reason(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::WrongBytes => "sent wrong bytes",
        Evidence::Violation => "broke the protocol",
    }
}
