//! What a fetch has to do with the rest of the application: for whom it fetches, and whom it tells what it does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use swarmgate_content::{ContentId, Event, EventBus};
use swarmgate_hybrid_rules::{Breakers, Network, SourceSpec};
use tokio::sync::Notify;

/// See the module's head.
#[derive(Debug, Clone)]
pub(crate) struct Outside {
    /// The content.
    pub(crate) item: ContentId,
    /// The name of the policy that it stands under.
    pub(crate) route: &'static str,
    /// The networks that its only request allows; `None` when it is everybody's.
    pub(crate) allowed: Option<BTreeSet<Network>>,
    pub(crate) events: EventBus,
    pub(crate) breakers: Breakers,
    /// Rung when a breaker has changed its state.
    pub(crate) changed: Arc<Notify>,
}

impl Outside {
    /// Tells that a source can be asked, or cannot any more.
    pub(crate) fn source(&self, spec: &SourceSpec, up: bool) {
        let (item, source, network) = (self.item, spec.name.to_string(), spec.network.word());
        self.events.publish(match up {
            true => Event::SourceUp { item, source, network },
            false => Event::SourceDown { item, source, network },
        });
    }

    /// Has somebody tell of breakers that have changed.
    pub(crate) fn look_at_breakers(&self) {
        if self.breakers.has_changes() {
            self.changed.notify_one();
        }
    }

    /// How long the fetch stays when nobody reads: what one request has for itself ends with it.
    pub(crate) const fn linger(&self, shared: Duration) -> Duration {
        if self.allowed.is_some() { Duration::ZERO } else { shared }
    }
}
