//! The registry of protocols: owned by the application, never global.
//!
//! A protocol is in exactly one state: `ready` from registration, `draining` while it is being unregistered
//! (running requests finish, new ones are refused), then it is gone. What goes wrong in between is its last error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_core::Stream;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::Notify;

use crate::{
    ByteRange, Capabilities, ContentId, ContentMeta, ContentReader, Event, EventBus, FetchError, FetchErrorKind,
    FileRef, Health, Protocol, ProtocolKind, ResolveRequest, Stage, StatsSnapshot,
};

/// Why a protocol could not be registered or unregistered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManagerError {
    /// That kind is registered already.
    #[error("a {0:?} protocol is registered already")]
    Duplicate(ProtocolKind),
    /// That kind is not registered, or is being unregistered by somebody else.
    #[error("no {0:?} protocol is registered")]
    Unknown(ProtocolKind),
    /// The manager is shutting down.
    #[error("the protocol manager is shutting down")]
    ShuttingDown,
}

/// One registered protocol at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ProtocolSnapshot {
    /// Which network.
    pub kind: ProtocolKind,
    /// `ready` or `draining`.
    pub state: &'static str,
    /// Since when, as time passed.
    #[serde(skip)]
    pub since: Instant,
    /// Resolves and readers under way.
    pub in_flight: usize,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Its own verdict.
    pub health: Health,
    /// The last failure that was its fault, in words.
    pub last_error: Option<String>,
    /// Its counters.
    pub stats: StatsSnapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Draining,
}

#[derive(Debug)]
struct Entry {
    protocol: Arc<dyn Protocol>,
    state: State,
    since: Instant,
    flight: Arc<Flight>,
}

/// Requests under way at one protocol.
#[derive(Debug, Default)]
struct Flight {
    count: AtomicUsize,
    landed: Notify,
    last_error: Mutex<Option<String>>,
}

/// One request under way; dropping it lands it.
#[derive(Debug)]
struct Permit(Arc<Flight>);

impl Permit {
    fn new(flight: &Arc<Flight>) -> Self {
        flight.count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(flight))
    }

    fn note<T>(&self, result: &Result<T, FetchError>) {
        if let Err(error) = result
            && error.class() != crate::FailureClass::Neutral
        {
            *self.0.last_error.lock() = Some(error.to_string());
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.landed.notify_waiters();
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    /// In the reverse of the order that ids are offered to them: what stands on the others is asked first.
    entries: BTreeMap<ProtocolKind, Entry>,
    closed: bool,
}

/// The protocols of one application.
#[derive(Debug)]
pub struct ProtocolManager {
    registry: Mutex<Registry>,
    events: EventBus,
}

impl ProtocolManager {
    /// Makes an empty manager that tells state changes to `events`.
    #[must_use]
    pub fn new(events: EventBus) -> Self {
        Self { registry: Mutex::default(), events }
    }

    /// The application's event bus.
    #[must_use]
    pub const fn events(&self) -> &EventBus {
        &self.events
    }

    /// Registers a started protocol.
    ///
    /// # Errors
    /// When its kind is registered already or the manager is shutting down; the running one stays untouched.
    pub fn register(&self, protocol: Arc<dyn Protocol>, now: Instant) -> Result<(), ManagerError> {
        let kind = protocol.kind();
        let mut registry = self.registry.lock();
        if registry.closed {
            return Err(ManagerError::ShuttingDown);
        }
        if registry.entries.contains_key(&kind) {
            return Err(ManagerError::Duplicate(kind));
        }
        registry.entries.insert(kind, Entry { protocol, state: State::Ready, since: now, flight: Arc::default() });
        drop(registry);
        self.events.publish(Event::Network { network: kind, state: "ready" });
        Ok(())
    }

    /// Drains a protocol (new requests are refused, running ones may finish until `drained` resolves), stops it and
    /// removes it. The caller supplies the clock: `drained` is usually a sleep until some deadline.
    ///
    /// # Errors
    /// When the kind is not registered or is being unregistered already.
    pub async fn unregister(
        &self,
        kind: ProtocolKind,
        now: Instant,
        drained: impl Future<Output = ()> + Send,
        deadline: Instant,
    ) -> Result<(), ManagerError> {
        let (protocol, flight) = {
            let mut registry = self.registry.lock();
            let entry = registry.entries.get_mut(&kind).ok_or(ManagerError::Unknown(kind))?;
            if entry.state == State::Draining {
                return Err(ManagerError::Unknown(kind));
            }
            entry.state = State::Draining;
            entry.since = now;
            (Arc::clone(&entry.protocol), Arc::clone(&entry.flight))
        };
        self.events.publish(Event::Network { network: kind, state: "draining" });
        landed_or(&flight, drained).await;
        protocol.shutdown(deadline).await;
        self.registry.lock().entries.remove(&kind);
        self.events.publish(Event::Network { network: kind, state: "stopped" });
        Ok(())
    }

    /// Refuses new registrations and requests, then unregisters everything in reverse order of kind, without waiting for
    /// requests under way: their readers end with an error.
    pub async fn shutdown(&self, now: Instant, deadline: Instant) {
        let kinds: Vec<_> = {
            let mut registry = self.registry.lock();
            registry.closed = true;
            registry.entries.keys().rev().copied().collect()
        };
        for kind in kinds {
            // Unknown means that somebody else is unregistering it already.
            let _ = self.unregister(kind, now, std::future::ready(()), deadline).await;
        }
    }

    /// Every registered protocol, in order.
    #[must_use]
    pub fn list(&self) -> Vec<ProtocolSnapshot> {
        let registry = self.registry.lock();
        let snapshot = |(kind, entry): (&ProtocolKind, &Entry)| ProtocolSnapshot {
            kind: *kind,
            state: match entry.state {
                State::Ready => "ready",
                State::Draining => "draining",
            },
            since: entry.since,
            in_flight: entry.flight.count.load(Ordering::Acquire),
            capabilities: entry.protocol.capabilities(),
            health: entry.protocol.health(),
            last_error: entry.flight.last_error.lock().clone(),
            stats: entry.protocol.stats(),
        };
        registry.entries.iter().map(snapshot).collect()
    }

    /// Finds out what a content is.
    ///
    /// # Errors
    /// [`FetchErrorKind::Unsupported`] when no protocol serves such ids, else the protocol's own error.
    pub async fn resolve(&self, request: ResolveRequest) -> Result<Arc<ContentMeta>, FetchError> {
        let (protocol, permit) = self.admit(&request.id, Stage::Resolve)?;
        let result = protocol.resolve(request).await;
        permit.note(&result);
        result
    }

    /// Begins to read a range of a file.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn open(&self, file: FileRef, range: ByteRange) -> Result<ContentReader, FetchError> {
        let (protocol, permit) = self.admit(&file.id, Stage::FirstByte)?;
        let result = protocol.open(file, range).await;
        permit.note(&result);
        result.map(|inner| {
            let account = inner.account().cloned();
            let reader = ContentReader::new(Admitted { inner, permit });
            account.into_iter().fold(reader, ContentReader::with_account)
        })
    }

    /// What every protocol has tried so far to get a content.
    #[must_use]
    pub fn attempts(&self, id: &ContentId) -> Vec<crate::Attempt> {
        let registry = self.registry.lock();
        registry.entries.values().flat_map(|entry| entry.protocol.attempts(id)).collect()
    }

    fn admit(&self, id: &ContentId, stage: Stage) -> Result<(Arc<dyn Protocol>, Permit), FetchError> {
        let registry = self.registry.lock();
        let mut supporting = registry.entries.values().rev().filter(|entry| entry.protocol.supports(id)).peekable();
        if supporting.peek().is_none() {
            let detail = "no enabled network serves such an id";
            return Err(FetchError::new(*id, stage, FetchErrorKind::Unsupported, detail));
        }
        match supporting.find(|entry| entry.state == State::Ready && !registry.closed) {
            Some(entry) => Ok((Arc::clone(&entry.protocol), Permit::new(&entry.flight))),
            None => Err(FetchError::new(*id, stage, FetchErrorKind::ShuttingDown, "the network is shutting down")),
        }
    }
}

/// Waits until nothing is under way or the caller's patience ends.
async fn landed_or(flight: &Flight, patience: impl Future<Output = ()> + Send) {
    let mut patience = std::pin::pin!(patience);
    loop {
        let mut landed = std::pin::pin!(flight.landed.notified());
        landed.as_mut().enable();
        if flight.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let out_of_patience = std::future::poll_fn(|cx| {
            if patience.as_mut().poll(cx).is_ready() {
                return std::task::Poll::Ready(true);
            }
            landed.as_mut().poll(cx).map(|()| false)
        });
        if out_of_patience.await {
            return;
        }
    }
}

/// A reader that counts as under way until it is dropped.
struct Admitted {
    inner: ContentReader,
    permit: Permit,
}

impl Stream for Admitted {
    type Item = <ContentReader as Stream>::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        let polled = std::pin::Pin::new(&mut self.inner).poll_next(cx);
        if let std::task::Poll::Ready(Some(result)) = &polled {
            self.permit.note(result);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt;

    use super::*;
    use crate::{BlockHash, BoxFuture, HealthState, Hints, InfoHash, ProtocolStats, VerifiedBytes};

    const ID: ContentId = ContentId::BtV1(InfoHash::new([7; 20]));

    /// A protocol that has the three letters `abc` and nothing else. It fails to resolve once it was told to.
    #[derive(Debug, Default)]
    struct Abc {
        stats: ProtocolStats,
        broken: AtomicBool,
        stopped: AtomicBool,
    }

    impl Protocol for Abc {
        fn kind(&self) -> ProtocolKind {
            ProtocolKind::BitTorrent
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities { infohash_v1: true, infohash_v2: false, cid: false, ranges: true }
        }

        fn resolve(&self, request: ResolveRequest) -> BoxFuture<'_, Result<Arc<ContentMeta>, FetchError>> {
            let kind =
                if self.broken.load(Ordering::Relaxed) { FetchErrorKind::TimedOut } else { FetchErrorKind::NotFound };
            Box::pin(async move { Err(FetchError::new(request.id, Stage::Resolve, kind, "no such thing")) })
        }

        fn open(&self, _: FileRef, _: ByteRange) -> BoxFuture<'_, Result<ContentReader, FetchError>> {
            let name =
                BlockHash::sha1(*b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d");
            let bytes = VerifiedBytes::check(&name, Bytes::from_static(b"abc")).unwrap();
            let stream = futures_util::stream::once(async { Ok(bytes) }).chain(futures_util::stream::pending());
            Box::pin(async move { Ok(ContentReader::new(stream)) })
        }

        fn health(&self) -> Health {
            Health { state: HealthState::Ok, evidence: "a test".to_owned() }
        }

        fn stats(&self) -> StatsSnapshot {
            self.stats.snapshot()
        }

        fn shutdown(&self, _: Instant) -> BoxFuture<'_, ()> {
            self.stopped.store(true, Ordering::Relaxed);
            Box::pin(async {})
        }
    }

    fn manager() -> (ProtocolManager, Arc<Abc>) {
        let (manager, abc) = (ProtocolManager::new(EventBus::new()), Arc::new(Abc::default()));
        manager.register(abc.clone(), Instant::now()).unwrap();
        (manager, abc)
    }

    fn ask() -> ResolveRequest {
        ResolveRequest { id: ID, hints: Hints::default(), deadline: Instant::now() }
    }

    async fn open(manager: &ProtocolManager) -> Result<ContentReader, FetchError> {
        manager.open(FileRef { id: ID, index: 0 }, ByteRange::full(3).unwrap()).await
    }

    #[tokio::test]
    async fn a_second_protocol_of_a_kind_is_refused_and_the_first_goes_on() {
        let (manager, _) = manager();
        let again = manager.register(Arc::new(Abc::default()), Instant::now());
        assert_eq!(again, Err(ManagerError::Duplicate(ProtocolKind::BitTorrent)));
        assert!(open(&manager).await.is_ok());
        assert_eq!(manager.list().len(), 1);
    }

    #[tokio::test]
    async fn unregistering_waits_for_readers_refuses_new_ones_and_removes() {
        let (manager, abc) = manager();
        let manager = Arc::new(manager);
        let mut events = manager.events().subscribe();
        let mut reader = open(&manager).await.unwrap();
        assert_eq!(reader.next().await.unwrap().unwrap().as_ref(), b"abc");
        let (now, patience) = (Instant::now(), tokio::time::sleep(Duration::from_secs(20)));
        let leaving = {
            let manager = manager.clone();
            tokio::spawn(async move { manager.unregister(ProtocolKind::BitTorrent, now, patience, now).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(manager.list()[0].state, "draining");
        assert_eq!(open(&manager).await.unwrap_err().kind, FetchErrorKind::ShuttingDown);
        let twice = manager.unregister(ProtocolKind::BitTorrent, now, std::future::ready(()), now).await;
        assert_eq!(twice, Err(ManagerError::Unknown(ProtocolKind::BitTorrent)), "it is leaving already");
        assert!(!abc.stopped.load(Ordering::Relaxed), "a reader is still open");
        drop(reader);
        leaving.await.unwrap().unwrap();
        assert!(abc.stopped.load(Ordering::Relaxed) && manager.list().is_empty());
        assert_eq!(open(&manager).await.unwrap_err().kind, FetchErrorKind::Unsupported);
        let states: Vec<_> = std::iter::from_fn(|| events.try_recv().unwrap()).map(|event| event.event).collect();
        let network = ProtocolKind::BitTorrent;
        assert_eq!(states, ["draining", "stopped"].map(|state| Event::Network { network, state }));
    }

    #[tokio::test]
    async fn patience_ends_though_a_reader_stays() {
        let (manager, abc) = manager();
        let _reader = open(&manager).await.unwrap();
        let now = Instant::now();
        manager.unregister(ProtocolKind::BitTorrent, now, std::future::ready(()), now).await.unwrap();
        assert!(abc.stopped.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn only_a_protocols_own_faults_become_its_last_error() {
        let (manager, abc) = manager();
        assert!(manager.resolve(ask()).await.is_err());
        assert_eq!(manager.list()[0].last_error, None, "not found is nobody's fault");
        abc.broken.store(true, Ordering::Relaxed);
        assert!(manager.resolve(ask()).await.is_err());
        assert!(manager.list()[0].last_error.as_ref().is_some_and(|error| error.contains("no such thing")));
        assert_eq!(manager.list()[0].in_flight, 0);
    }

    #[tokio::test]
    async fn after_shutdown_nothing_can_be_registered() {
        let (manager, abc) = manager();
        manager.shutdown(Instant::now(), Instant::now()).await;
        assert!(abc.stopped.load(Ordering::Relaxed));
        let late = manager.register(Arc::new(Abc::default()), Instant::now());
        assert_eq!(late, Err(ManagerError::ShuttingDown));
    }
}
