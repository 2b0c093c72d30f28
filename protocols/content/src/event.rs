//! What happens, told to whoever listens: typed, bounded, never blocking the teller.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::broadcast;

use crate::{ContentId, ProtocolKind};

/// Events kept for a slow subscriber before it loses the oldest.
pub const EVENT_CAPACITY: usize = 1024;

/// Something that happened to a content, a protocol or the cache.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Event {
    /// A content became known.
    #[serde(rename = "item.added")]
    ItemAdded {
        /// The content.
        item: ContentId,
    },
    /// Its file tree became known.
    #[serde(rename = "item.metadata")]
    ItemMetadata {
        /// The content.
        item: ContentId,
        /// Suggested name, untrusted.
        name: String,
        /// All files together, in bytes.
        total_len: u64,
        /// How many files.
        files: usize,
    },
    /// Blocks of it were verified since the last such event; coalesced by the source.
    #[serde(rename = "item.progress")]
    ItemProgress {
        /// The content.
        item: ContentId,
        /// Bytes of it in the cache; where files of it are selected and it is pinned, of the pieces that those touch.
        have_bytes: u64,
        /// All of it, or of those pieces, in bytes.
        total_len: u64,
    },
    /// It is no longer active; its data may still be in the cache.
    #[serde(rename = "item.removed")]
    ItemRemoved {
        /// The content.
        item: ContentId,
    },
    /// A client began to read.
    #[serde(rename = "stream.open")]
    StreamOpen {
        /// The content.
        item: ContentId,
        /// A number unique in this process.
        stream: u64,
    },
    /// A client's stream goes on, after its client noticeably waited for the networks.
    #[serde(rename = "stream.stall")]
    StreamStall {
        /// The content.
        item: ContentId,
        /// The number given at its opening.
        stream: u64,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// A client's stream ended.
    #[serde(rename = "stream.close")]
    StreamClose {
        /// The content.
        item: ContentId,
        /// The number given at its opening.
        stream: u64,
        /// Bytes handed to the client.
        bytes: u64,
        /// Whether it ended by a fault rather than completion or the client's leave.
        failed: bool,
    },
    /// What was to be fetched ahead of its readers is in the cache.
    #[serde(rename = "prefetch.ready")]
    PrefetchReady {
        /// The content.
        item: ContentId,
        /// The number of its file.
        file: usize,
        /// How many bytes of it.
        bytes: u64,
    },
    /// A peer was banned on evidence.
    #[serde(rename = "peer.banned")]
    PeerBanned {
        /// The content it lied about.
        item: ContentId,
    },
    /// The cache dropped blocks to stay in its budget.
    #[serde(rename = "cache.evicted")]
    CacheEvicted {
        /// How many blocks.
        blocks: usize,
    },
    /// Somebody who has a content that is fetched over several networks can be asked for it.
    #[serde(rename = "source.up")]
    SourceUp {
        /// The content.
        item: ContentId,
        /// The source, under the name that operators know.
        source: String,
        /// By what it delivers: `bt`, `webrtc`, `ipfs` or `http`.
        network: &'static str,
    },
    /// It cannot be asked for it any more: the content is not read, or the source has something else.
    #[serde(rename = "source.down")]
    SourceDown {
        /// The content.
        item: ContentId,
        /// The source.
        source: String,
        /// By what it delivered.
        network: &'static str,
    },
    /// A circuit breaker changed state.
    #[serde(rename = "breaker")]
    BreakerChanged {
        /// What it guards: source, dependency and operation.
        id: String,
        /// `closed`, `open` or `half-open`.
        state: &'static str,
    },
    /// A protocol changed state.
    #[serde(rename = "network")]
    Network {
        /// Which.
        network: ProtocolKind,
        /// The new state's name.
        state: &'static str,
    },
    /// The configuration was changed or read again; or was to be, and all stays as it was. Options are named, and their
    /// values are not: some are secrets.
    #[serde(rename = "config.reloaded")]
    ConfigReloaded {
        /// Options that have another value from now on.
        changed: Vec<String>,
        /// Options that are otherwise than in the running process, and need a restart.
        restart: Vec<String>,
        /// Why all stays as it was, where it does, in a few words.
        error: Option<String>,
    },
}

impl Event {
    /// The content concerned, for subscribers that follow only some.
    #[must_use]
    pub const fn item(&self) -> Option<&ContentId> {
        match self {
            Self::ItemAdded { item }
            | Self::ItemMetadata { item, .. }
            | Self::ItemProgress { item, .. }
            | Self::ItemRemoved { item }
            | Self::StreamOpen { item, .. }
            | Self::StreamStall { item, .. }
            | Self::StreamClose { item, .. }
            | Self::PrefetchReady { item, .. }
            | Self::PeerBanned { item, .. }
            | Self::SourceUp { item, .. }
            | Self::SourceDown { item, .. } => Some(item),
            Self::CacheEvicted { .. }
            | Self::BreakerChanged { .. }
            | Self::Network { .. }
            | Self::ConfigReloaded { .. } => None,
        }
    }

    /// The event's name on the wire, as in its `type` field.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ItemAdded { .. } => "item.added",
            Self::ItemMetadata { .. } => "item.metadata",
            Self::ItemProgress { .. } => "item.progress",
            Self::ItemRemoved { .. } => "item.removed",
            Self::StreamOpen { .. } => "stream.open",
            Self::StreamStall { .. } => "stream.stall",
            Self::StreamClose { .. } => "stream.close",
            Self::PrefetchReady { .. } => "prefetch.ready",
            Self::PeerBanned { .. } => "peer.banned",
            Self::CacheEvicted { .. } => "cache.evicted",
            Self::SourceUp { .. } => "source.up",
            Self::SourceDown { .. } => "source.down",
            Self::BreakerChanged { .. } => "breaker",
            Self::Network { .. } => "network",
            Self::ConfigReloaded { .. } => "config.reloaded",
        }
    }
}

/// An event with its place in the bus's order; numbers only grow.
#[derive(Debug, Clone)]
pub struct NumberedEvent {
    /// Its place, from 1.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// A bounded broadcast of events. Clones share one bus; each application makes its own.
#[derive(Debug, Clone)]
pub struct EventBus {
    sender: broadcast::Sender<NumberedEvent>,
    next: std::sync::Arc<AtomicU64>,
}

/// One subscriber's end of the bus.
#[derive(Debug)]
pub struct EventReceiver(broadcast::Receiver<NumberedEvent>);

/// Why a subscriber got no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventRecvError {
    /// The subscriber was slow and lost this many events; the next call goes on.
    #[error("{0} events were lost to a slow reader")]
    Lagged(u64),
    /// The bus is gone.
    #[error("the event bus is closed")]
    Closed,
}

impl EventBus {
    /// Makes a bus with no subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(EVENT_CAPACITY), next: std::sync::Arc::new(AtomicU64::new(1)) }
    }

    /// Tells all present subscribers. Never blocks; a subscriber that stalls loses its own oldest events only.
    pub fn publish(&self, event: Event) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        // An error means that nobody listens, which is fine.
        let _ = self.sender.send(NumberedEvent { number, event });
    }

    /// Subscribes to what is published from now on.
    #[must_use]
    pub fn subscribe(&self) -> EventReceiver {
        EventReceiver(self.sender.subscribe())
    }
}

impl Default for EventBus {
    fn default() -> Self {
        Self::new()
    }
}

impl EventReceiver {
    /// Waits for the next event.
    ///
    /// # Errors
    /// [`EventRecvError::Lagged`] once after events were lost, [`EventRecvError::Closed`] at the end.
    pub async fn recv(&mut self) -> Result<NumberedEvent, EventRecvError> {
        self.0.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(count) => EventRecvError::Lagged(count),
            broadcast::error::RecvError::Closed => EventRecvError::Closed,
        })
    }

    /// Takes the next event if it is there.
    ///
    /// # Errors
    /// As [`Self::recv`].
    pub fn try_recv(&mut self) -> Result<Option<NumberedEvent>, EventRecvError> {
        match self.0.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(broadcast::error::TryRecvError::Empty) => Ok(None),
            Err(broadcast::error::TryRecvError::Lagged(count)) => Err(EventRecvError::Lagged(count)),
            Err(broadcast::error::TryRecvError::Closed) => Err(EventRecvError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(byte: u8) -> Event {
        Event::ItemAdded { item: ContentId::BtV1(crate::InfoHash::new([byte; 20])) }
    }

    #[test]
    fn a_subscription_made_before_an_event_sees_it_and_numbers_grow() {
        let bus = EventBus::new();
        bus.publish(added(0));
        let mut receiver = bus.subscribe();
        bus.publish(added(1));
        bus.publish(added(2));
        let (first, second) = (receiver.try_recv().unwrap().unwrap(), receiver.try_recv().unwrap().unwrap());
        assert_eq!((first.event, second.event), (added(1), added(2)));
        assert!(first.number < second.number);
        assert!(receiver.try_recv().unwrap().is_none());
    }

    #[test]
    fn a_stalled_subscriber_loses_its_oldest_and_harms_nobody() {
        let bus = EventBus::new();
        let (mut stalled, mut brisk) = (bus.subscribe(), bus.subscribe());
        for _ in 0..EVENT_CAPACITY + 5 {
            bus.publish(added(9));
            assert!(brisk.try_recv().unwrap().is_some());
        }
        assert_eq!(stalled.try_recv().unwrap_err(), EventRecvError::Lagged(5));
        assert!(stalled.try_recv().unwrap().is_some());
    }

    #[test]
    fn the_name_is_the_type_on_the_wire() {
        let event = added(1);
        assert_eq!(serde_json::to_value(&event).unwrap()["type"], event.name());
    }
}
