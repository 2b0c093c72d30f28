//! The two ways to a connection: an offer of ours that somebody answers, and an offer that we answer.

use std::fmt;
use std::time::{Duration, Instant};

use swarmgate_webtorrent_proto::sdp::{RemoteDescription, Role};
use tokio::time::timeout_at;
use webrtc::data_channel::DataChannelEvent;

use super::connection::{Channel, Owner};
use super::error::RtcError;
use super::stream::RtcStream;

/// An offer of ours. Dropping it closes it.
pub struct PendingOffer {
    owner: Owner,
    sdp: String,
    channel: Channel,
    made_at: Instant,
}

/// Our answer to an offer; the connection opens by itself from now on. Dropping it closes it.
pub struct Answered {
    owner: Owner,
    sdp: String,
    remote: RemoteDescription,
    begun: Instant,
}

impl fmt::Debug for PendingOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingOffer").field("key", &self.owner.key).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").field("key", &self.owner.key).finish_non_exhaustive()
    }
}

impl PendingOffer {
    pub(crate) async fn make(owner: Owner) -> Result<Self, RtcError> {
        owner.build().await?;
        let (sdp, channel) = owner.describe_offer().await?;
        Ok(Self { owner, sdp, channel, made_at: Instant::now() })
    }

    /// The description to send to somebody. It is whole: no candidate follows later.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Takes an answer and waits until the channel is open, for the connect timeout at most.
    ///
    /// # Errors
    /// When the answer is of no use or late, there are as many connections as may be, or the channel does not open.
    pub async fn accept_answer(self, answer: &str) -> Result<RtcStream, RtcError> {
        let Self { owner, channel, made_at, .. } = self;
        let options = &owner.shared.options;
        if made_at.elapsed() > options.offer_life {
            return Err(RtcError::OfferExpired(options.offer_life));
        }
        let deadline = Instant::now() + options.connect_timeout;
        let remote = RemoteDescription::parse(answer, Role::Answer, |ip| options.may_dial(ip))?;
        if !owner.lane.doors().is_empty() && owner.shared.is_known_elsewhere(&remote, owner.key) {
            return Err(RtcError::AlreadyConnected);
        }
        owner.shared.promote(owner.key)?;
        let open = async {
            owner.shared.wait_turn().await?;
            owner.lane.set_hurried(true);
            owner.take(&remote).await?;
            opened(&channel).await
        };
        within(deadline, options.connect_timeout, open).await?;
        Ok(RtcStream::new(owner, channel, &remote).await)
    }
}

impl Answered {
    pub(crate) async fn make(owner: Owner, remote: RemoteDescription, begun: Instant) -> Result<Self, RtcError> {
        owner.lane.set_hurried(true);
        owner.build().await?;
        let sdp = owner.describe_answer(&remote).await?;
        Ok(Self { owner, sdp, remote, begun })
    }

    /// The description to send back.
    #[must_use]
    pub fn sdp(&self) -> &str {
        &self.sdp
    }

    /// Waits until the other side's channel is open, for the connect timeout at most, counted from the offer's arrival.
    ///
    /// # Errors
    /// When it does not open.
    pub async fn open(self) -> Result<RtcStream, RtcError> {
        let limit = self.owner.shared.options.connect_timeout;
        let channel = within(self.begun + limit, limit, self.owner.accepted()).await?;
        Ok(RtcStream::new(self.owner, channel, &self.remote).await)
    }
}

/// Waits for a channel of ours to be open.
async fn opened(channel: &Channel) -> Result<(), RtcError> {
    loop {
        match channel.0.poll().await {
            Some(DataChannelEvent::OnOpen) => return Ok(()),
            Some(DataChannelEvent::OnClose) | None => return Err(RtcError::Failed),
            Some(_) => {}
        }
    }
}

async fn within<T>(
    deadline: Instant,
    limit: Duration,
    work: impl Future<Output = Result<T, RtcError>>,
) -> Result<T, RtcError> {
    timeout_at(deadline.into(), work).await.unwrap_or(Err(RtcError::Timeout(limit)))
}
