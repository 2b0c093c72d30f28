//! Telling the DHT which roots are kept here, for whoever looks for them.

use std::time::Instant;

use libp2p::kad::{AddProviderResult, RecordKey};
use swarmgate_content::Cid;

use super::Actor;

impl Actor {
    /// A root is kept: it is announced, if others may have it and there is a DHT to tell.
    pub(super) fn on_kept(&mut self, root: &Cid) {
        let may_serve = (self.shelf.may_serve)(root);
        if !may_serve || !self.swarm.behaviour().kad.is_enabled() {
            return;
        }
        if !self.announcer.add(Instant::now(), root.hash().to_bytes()) {
            tracing::debug!(%root, "too many roots are kept for all to be announced in the DHT");
        }
    }

    /// It is not kept any more.
    pub(super) fn on_let_go(&mut self, root: &Cid) {
        let key = root.hash().to_bytes();
        self.announcer.remove(&key);
        if let Some(dht) = self.swarm.behaviour_mut().kad.as_mut() {
            dht.stop_providing(&RecordKey::new(&key));
        }
    }

    /// Announces what is due.
    pub(super) fn announce(&mut self, now: Instant) {
        let Some(dht) = self.swarm.behaviour_mut().kad.as_mut() else { return };
        while let Some(key) = self.announcer.poll(now) {
            if let Err(error) = dht.start_providing(RecordKey::new(&key)) {
                tracing::debug!(%error, "a root cannot be announced");
                self.announcer.on_ended(now, &key, false);
            }
        }
    }

    /// An announcement has ended.
    pub(super) fn on_announced(&mut self, said: &AddProviderResult) {
        let key = match said {
            Ok(announced) => &announced.key,
            Err(error) => error.key(),
        };
        // With an empty routing table nobody was told.
        let kad = self.swarm.behaviour_mut().kad.as_mut();
        let well = said.is_ok() && kad.is_some_and(|dht| dht.kbuckets().next().is_some());
        self.announcer.on_ended(Instant::now(), key.as_ref(), well);
    }
}
