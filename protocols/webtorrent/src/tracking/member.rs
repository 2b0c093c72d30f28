//! One torrent on one tracker: its rules, and the offers that wait for an answer.

use std::collections::BTreeMap;
use std::time::Instant;

use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_content::InfoHash;
use swarmgate_swarm::directory::ActiveSwarm;
use swarmgate_webtorrent_proto::message::{ClientOffer, OfferId, Sdp};
use swarmgate_webtorrent_proto::signaller::{OfferKey, Progress, Signaller, SignallerConfig};

use crate::introduce::Places;
use crate::meeting::Meeting;
use crate::rtc::{Answered, PendingOffer, RtcError};

/// Peers that one tracker is asked for at a time: each costs a connection that waits for its answer.
const MAX_WANTED: usize = 10;

/// A torrent that is to be known to a tracker.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) swarm: ActiveSwarm,
    pub(crate) places: Places,
    /// Peers of all kinds that the swarm takes.
    pub(crate) max_peers: usize,
    /// Whether peers are wanted for their sake, once everything is here.
    pub(crate) uploads: bool,
}

/// What came of a piece of work.
#[derive(Debug)]
pub(crate) enum Done {
    /// Offers were made.
    Offers(InfoHash, u64, Vec<(OfferId, PendingOffer)>),
    /// An offer was answered, or not.
    Answer(InfoHash, u64, OfferKey, Result<Box<Answered>, RtcError>, Meeting),
    /// A peer with an open connection sought another one; whether that one is gone, so that it can be met.
    Doubted(InfoHash, u64, bool, Again),
    /// A connection became a peer, or not.
    Connected(Result<(), String>),
}

/// What a peer said that is met again.
#[derive(Debug)]
pub(crate) enum Again {
    /// It offers.
    Offered(OfferKey, PeerId, Sdp),
    /// It has answered an offer of ours.
    Answered(Box<PendingOffer>, PeerId, Sdp),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) membership: Membership,
    pub(crate) signaller: Signaller,
    offers: BTreeMap<OfferId, PendingOffer>,
    told_complete: bool,
}

impl Member {
    pub(crate) fn new(membership: Membership) -> Self {
        let swarm = &membership.swarm;
        let config = SignallerConfig {
            infohash: swarm.handle.infohash(),
            peer_id: swarm.peer_id,
            progress: progress(swarm),
            seed: rand::random(),
        };
        let signaller = Signaller::new(config);
        Self { membership, signaller, offers: BTreeMap::new(), told_complete: false }
    }

    /// Tells the rules how things stand.
    pub(crate) fn refresh(&mut self, now: Instant) {
        let now_at = progress(&self.membership.swarm);
        self.signaller.set_progress(now_at);
        let complete = now_at.left == Some(0);
        if complete && !std::mem::replace(&mut self.told_complete, true) && now_at.downloaded > 0 {
            self.signaller.complete(now);
        }
        let count = *self.membership.swarm.handle.peer_count().borrow();
        let room = self.membership.max_peers.saturating_sub(count).min(self.membership.places.free());
        let wanted = if complete && !self.membership.uploads { 0 } else { room.min(MAX_WANTED) };
        self.signaller.set_wanted(now, wanted);
    }

    /// Keeps offers until they are answered, and gives their descriptions to the rules.
    pub(crate) fn offers_made(&mut self, now: Instant, offers: Vec<(OfferId, PendingOffer)>) {
        let mut described = Vec::new();
        for (offer_id, offer) in offers {
            if let Ok(sdp) = Sdp::new(offer.sdp().to_owned()) {
                described.push(ClientOffer { offer_id: offer_id.clone(), sdp });
                self.offers.insert(offer_id, offer);
            }
        }
        self.signaller.offers_ready(now, described);
    }

    /// An offer's connection, to be used or dropped.
    pub(crate) fn take_offer(&mut self, offer_id: &OfferId) -> Option<PendingOffer> {
        self.offers.remove(offer_id)
    }
}

fn progress(swarm: &ActiveSwarm) -> Progress {
    let status = swarm.handle.status();
    Progress {
        uploaded: status.totals.uploaded,
        downloaded: status.totals.downloaded,
        left: swarm.handle.known().map(|known| known.geometry.total_len() - status.have_bytes),
    }
}
