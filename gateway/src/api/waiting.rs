//! `wait` of `POST /items`: the answer is held until the item's files are known, for as long as the client has said.
//!
//! It is dropped with its request, so a client that goes away ends it.

use std::time::Duration;

use http::Extensions;
use swarmgate_content::{Event, EventReceiver, EventRecvError, InfoHash};

use crate::admission::Slot;
use crate::error::Problem;
use crate::server::Peer;
use crate::state::GatewayState;

/// A request that is going to wait. It counts among those for content.
pub(super) struct Waiting {
    events: EventReceiver,
    time: Duration,
    _slot: Slot,
}

impl Waiting {
    /// Begins to listen, before the item is added: what happens to it from then on is heard. `None` for a client that does
    /// not want to wait; nobody waits for longer than `deadlines.max_wait`.
    ///
    /// # Errors
    /// 429 or 503 when no slot is free.
    pub(super) fn begin(state: &GatewayState, time: Duration, client: &Extensions) -> Result<Option<Self>, Problem> {
        if time.is_zero() {
            return Ok(None);
        }
        let slot = state.admission.admit(client.get::<Peer>().map(|peer| peer.address.ip()))?;
        let events = state.manager.events().subscribe();
        Ok(Some(Self { events, time: time.min(state.options.max_wait), _slot: slot }))
    }

    /// Waits until an item's files are known, and tells whether they are: not when the time is over, the item is gone, or
    /// the gateway stops.
    pub(super) async fn files_known(mut self, state: &GatewayState, id: &InfoHash) -> bool {
        let time = self.time;
        tokio::select! {
            known = tokio::time::timeout(time, self.hears(state, id)) => known.unwrap_or(false),
            () = state.closing.cancelled() => false,
        }
    }

    async fn hears(&mut self, state: &GatewayState, id: &InfoHash) -> bool {
        // Those of an item that is not active may be in the cache.
        if state.catalogue.files(id).await.is_some() {
            return true;
        }
        while let Some(item) = state.catalogue.item(id) {
            if item.files.is_some() {
                return true;
            }
            if !self.news().await {
                return false;
            }
        }
        false
    }

    /// Waits until files of some item have become known or an item is gone; says whether there can be more such news.
    async fn news(&mut self) -> bool {
        loop {
            match self.events.recv().await {
                Ok(told) if matches!(told.event, Event::ItemMetadata { .. } | Event::ItemRemoved { .. }) => {
                    return true;
                }
                Ok(_) => {}
                // It may have been among those that were lost.
                Err(EventRecvError::Lagged(_)) => return true,
                Err(EventRecvError::Closed) => return false,
            }
        }
    }
}
