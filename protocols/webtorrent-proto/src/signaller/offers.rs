//! The offers that we make: being made, ready, or sent. Each is in one place, and leaves the last one once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{OFFER_LIFE, OFFER_MAKING_TIMEOUT};
use crate::message::{ClientOffer, OfferId};

#[derive(Debug, Default)]
pub(super) struct Offers {
    making: BTreeSet<OfferId>,
    /// When those being made are given up; `None` when there are none.
    made_by: Option<Instant>,
    ready: Vec<ClientOffer>,
    /// With the end of their life.
    sent: BTreeMap<OfferId, Instant>,
}

impl Offers {
    /// How many hold a connection.
    pub(super) fn pending(&self) -> usize {
        self.making.len() + self.ready.len() + self.sent.len()
    }

    pub(super) fn is_making(&self) -> bool {
        !self.making.is_empty()
    }

    pub(super) const fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn ask(&mut self, now: Instant, ids: &[OfferId]) {
        self.making.extend(ids.iter().cloned());
        self.made_by = Some(now + OFFER_MAKING_TIMEOUT);
    }

    /// Takes in what was made, and gives back the ids of what was not asked for.
    pub(super) fn made(&mut self, offers: Vec<ClientOffer>) -> Vec<OfferId> {
        let mut not_wanted = Vec::new();
        for offer in offers {
            if self.making.remove(&offer.offer_id) {
                self.ready.push(offer);
            } else {
                not_wanted.push(offer.offer_id);
            }
        }
        self.forget_making();
        not_wanted
    }

    /// What is ready goes out: from now on it can be answered.
    pub(super) fn send(&mut self, now: Instant) -> Vec<ClientOffer> {
        let offers = std::mem::take(&mut self.ready);
        self.sent.extend(offers.iter().map(|offer| (offer.offer_id.clone(), now + OFFER_LIFE)));
        offers
    }

    /// Uses an offer up. Says whether it was there to be answered.
    pub(super) fn take_sent(&mut self, id: &OfferId) -> bool {
        self.sent.remove(id).is_some()
    }

    /// The ids of those whose life has ended.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<OfferId> {
        if self.made_by.is_some_and(|at| at <= now) {
            self.forget_making();
        }
        let ended: Vec<OfferId> = self.sent.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in &ended {
            self.sent.remove(id);
        }
        ended
    }

    /// Forgets everything; gives back the ids of those that hold a connection by now. Those being made are told about
    /// when they are ready.
    pub(super) fn clear(&mut self) -> Vec<OfferId> {
        self.forget_making();
        let ready = std::mem::take(&mut self.ready).into_iter().map(|offer| offer.offer_id);
        ready.chain(std::mem::take(&mut self.sent).into_keys()).collect()
    }

    fn forget_making(&mut self) {
        self.making.clear();
        self.made_by = None;
    }

    pub(super) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let made_by = self.made_by.map(|at| (at, "offers not made"));
        let expires = self.sent.values().min().map(|at| (*at, "an offer expires"));
        [made_by, expires].into_iter().flatten().min()
    }
}
