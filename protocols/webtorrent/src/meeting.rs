//! Which peers of one torrent are met or being met over WebRTC, whichever tracker introduced them: the rules of
//! [`swarmgate_webtorrent_proto::glare`], with a guard for each attempt.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_webtorrent_proto::glare::{MeetingKey, Meetings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::rtc::Line;

/// How long an open connection that is doubted has to show that it lives. Its end asks every 2 s whether the other is there.
const DOUBT: Duration = Duration::from_secs(3);
/// How long a connection that was cut may take to be gone.
const CUT: Duration = Duration::from_secs(5);

/// See the module's head. Clones are one list.
#[derive(Debug, Clone)]
pub(crate) struct MeetingList(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Nobody is to be met, for now.
    shut: bool,
    rules: Meetings,
    ends: BTreeMap<MeetingKey, Ends>,
}

/// How one attempt hears of its end, and others of it.
#[derive(Debug, Clone)]
struct Ends {
    given_up: CancellationToken,
    gone: CancellationToken,
    /// Once it is open.
    line: Option<Line>,
    /// Held while it is doubted: whoever offers again and again would else take all the work that may be under way.
    doubt: Arc<Semaphore>,
}

/// One attempt at a connection, and then the connection's name in the list. To be dropped after the connection.
#[derive(Debug)]
pub(crate) struct Meeting {
    list: MeetingList,
    key: MeetingKey,
    given_up: CancellationToken,
    _gone: DropGuard,
}

/// An open connection with a peer that seeks another one.
#[derive(Debug)]
pub(crate) struct Doubt {
    line: Line,
    gone: CancellationToken,
    _only: OwnedSemaphorePermit,
}

/// An attempt that another one was preferred to.
#[derive(Debug)]
pub(crate) struct Loser(Option<CancellationToken>);

impl MeetingList {
    /// An empty list; `ours` is the id that we announce ourselves with.
    pub(crate) fn new(ours: PeerId) -> Self {
        Self(Arc::new(Mutex::new(Inner { shut: false, rules: Meetings::new(ours), ends: BTreeMap::new() })))
    }

    /// Lets peers be met, or nobody from now on: then what is under way is given up, and open connections are cut.
    pub(crate) fn set_open(&self, open: bool) {
        let cut: Vec<Ends> = {
            let mut inner = self.0.lock();
            inner.shut = !open;
            if open { Vec::new() } else { inner.ends.values().cloned().collect() }
        };
        // Outside of the lock: what ends strikes itself out of the list.
        for Ends { given_up, line, .. } in cut {
            given_up.cancel();
            line.iter().for_each(Line::cut);
        }
    }

    /// As [`Meetings::offered`]; `None` too while nobody is to be met.
    pub(crate) fn offered(&self, by: PeerId) -> Option<Meeting> {
        let mut inner = self.0.lock();
        if inner.shut {
            return None;
        }
        let key = inner.rules.offered(by)?;
        Some(self.begin(&mut inner, key))
    }

    /// As [`Meetings::answered`]; who is preferred to goes on when [the loser is gone](Loser::gone). `None` too while
    /// nobody is to be met.
    pub(crate) fn answered(&self, by: PeerId) -> Option<(Meeting, Loser)> {
        let mut inner = self.0.lock();
        if inner.shut {
            return None;
        }
        let (key, loser) = inner.rules.answered(by)?;
        let ends = loser.and_then(|loser| inner.ends.get(&loser));
        let loser = Loser(ends.map(|ends| {
            ends.given_up.cancel();
            ends.gone.clone()
        }));
        Some((self.begin(&mut inner, key), loser))
    }

    /// A peer with an open connection seeks another one: it may have lost its end. `None` while that is being found out.
    pub(crate) fn doubt(&self, peer: PeerId) -> Option<Doubt> {
        let inner = self.0.lock();
        let ends = inner.ends.get(&inner.rules.open_with(peer)?)?;
        let only = ends.doubt.clone().try_acquire_owned().ok()?;
        Some(Doubt { line: ends.line.clone()?, gone: ends.gone.clone(), _only: only })
    }

    fn begin(&self, inner: &mut Inner, key: MeetingKey) -> Meeting {
        let ends = Ends {
            given_up: CancellationToken::new(),
            gone: CancellationToken::new(),
            line: None,
            doubt: Arc::new(Semaphore::new(1)),
        };
        inner.ends.insert(key, ends.clone());
        Meeting { list: self.clone(), key, given_up: ends.given_up, _gone: ends.gone.drop_guard() }
    }
}

impl Meeting {
    /// As [`Meetings::opened`]; `line` is the connection. It is not wanted either while nobody is to be met.
    pub(crate) fn opened(&self, line: Line) -> bool {
        let mut inner = self.list.0.lock();
        if inner.shut {
            return false;
        }
        if let Some(ends) = inner.ends.get_mut(&self.key) {
            ends.line = Some(line);
        }
        inner.rules.opened(self.key)
    }

    /// Whether another attempt was preferred.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.is_cancelled()
    }

    /// Waits until another attempt is preferred.
    pub(crate) async fn given_up(&self) {
        self.given_up.cancelled().await;
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let mut inner = self.list.0.lock();
        inner.rules.over(self.key);
        inner.ends.remove(&self.key);
    }
}

impl Doubt {
    /// Waits for a sign of life. Without one the connection is cut, and `true` says that the peer can be met again.
    pub(crate) async fn was_right(self) -> bool {
        let heard = self.line.heard();
        let gone = self.gone.cancelled();
        tokio::pin!(gone);
        tokio::select! {
            () = &mut gone => return true,
            () = sleep(DOUBT) => {}
        }
        if self.line.heard() != heard {
            return false;
        }
        self.line.cut();
        timeout(CUT, gone).await.is_ok()
    }
}

impl Loser {
    /// Waits until the connection that was given up is closed and leaves its addresses to another.
    pub(crate) async fn gone(self) {
        if let Some(gone) = self.0 {
            gone.cancelled().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtc::{RtcManager, RtcOptions};
    use swarmgate_egress::EgressPolicy;

    fn manager() -> RtcManager {
        let egress = EgressPolicy { allow_private: true };
        RtcManager::start(RtcOptions { addresses: vec![[127, 0, 0, 1].into()], egress, ..RtcOptions::default() })
            .unwrap()
    }

    #[test]
    fn while_nobody_is_to_be_met_attempts_are_given_up_and_none_begins() {
        let list = MeetingList::new(PeerId([0; 20]));
        let (one, two) = (PeerId([1; 20]), PeerId([2; 20]));
        let meeting = list.offered(one).unwrap();
        list.set_open(false);
        assert!(meeting.is_given_up());
        assert!(list.offered(two).is_none() && list.answered(two).is_none());
        drop(meeting);
        list.set_open(true);
        let again = list.offered(one).unwrap();
        assert!(!again.is_given_up());
        assert!(list.answered(two).is_some());
    }

    /// Two ends that say nothing to each other, as a seed and a peer that wants nothing do.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_idle_connection_shows_that_it_lives_within_the_time_of_a_doubt() {
        let (a, b) = (manager(), manager());
        let offer = a.offer().await.unwrap();
        let answered = b.answer(offer.sdp()).await.unwrap();
        let answer = answered.sdp().to_owned();
        let (near, far) = tokio::join!(offer.accept_answer(&answer), answered.open());
        let (near, _far) = (near.unwrap(), far.unwrap());
        sleep(Duration::from_secs(1)).await;
        for _ in 0..2 {
            let _only = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
            let doubt = Doubt { line: near.line(), gone: CancellationToken::new(), _only };
            assert!(!doubt.was_right().await);
        }
    }
}
