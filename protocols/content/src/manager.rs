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
    /// In the order that ids are offered to them.
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
        result.map(|inner| ContentReader::new(Admitted { inner, permit }))
    }

    /// What every protocol has tried so far to get a content.
    #[must_use]
    pub fn attempts(&self, id: &ContentId) -> Vec<crate::Attempt> {
        let registry = self.registry.lock();
        registry.entries.values().flat_map(|entry| entry.protocol.attempts(id)).collect()
    }

    fn admit(&self, id: &ContentId, stage: Stage) -> Result<(Arc<dyn Protocol>, Permit), FetchError> {
        let registry = self.registry.lock();
        let mut supporting = registry.entries.values().filter(|entry| entry.protocol.supports(id)).peekable();
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
