//! Which peers of one torrent are met or being met over WebRTC, whichever tracker introduced them: the rules of
//! [`swarmgate_webtorrent_proto::glare`], with a guard for each attempt.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::handshake::PeerId;
use swarmgate_webtorrent_proto::glare::{MeetingKey, Meetings};
use tokio_util::sync::{CancellationToken, DropGuard};

/// See the module's head. Clones are one list.
#[derive(Debug, Clone)]
pub(crate) struct MeetingList(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rules: Meetings,
    ends: BTreeMap<MeetingKey, Ends>,
}

/// How one attempt hears of its end, and others of it.
#[derive(Debug, Clone)]
struct Ends {
    given_up: CancellationToken,
    gone: CancellationToken,
}

/// One attempt at a connection, and then the connection's name in the list. To be dropped after the connection.
#[derive(Debug)]
pub(crate) struct Meeting {
    list: MeetingList,
    key: MeetingKey,
    given_up: CancellationToken,
    _gone: DropGuard,
}

/// An attempt that another one was preferred to.
#[derive(Debug)]
pub(crate) struct Loser(Option<CancellationToken>);

impl MeetingList {
    /// An empty list; `ours` is the id that we announce ourselves with.
    pub(crate) fn new(ours: PeerId) -> Self {
        Self(Arc::new(Mutex::new(Inner { rules: Meetings::new(ours), ends: BTreeMap::new() })))
    }

    /// As [`Meetings::offered`].
    pub(crate) fn offered(&self, by: PeerId) -> Option<Meeting> {
        let mut inner = self.0.lock();
        let key = inner.rules.offered(by)?;
        Some(self.begin(&mut inner, key))
    }

    /// As [`Meetings::answered`]; who is preferred to goes on when [the loser is gone](Loser::gone).
    pub(crate) fn answered(&self, by: PeerId) -> Option<(Meeting, Loser)> {
        let mut inner = self.0.lock();
        let (key, loser) = inner.rules.answered(by)?;
        let ends = loser.and_then(|loser| inner.ends.get(&loser));
        let loser = Loser(ends.map(|ends| {
            ends.given_up.cancel();
            ends.gone.clone()
        }));
        Some((self.begin(&mut inner, key), loser))
    }

    fn begin(&self, inner: &mut Inner, key: MeetingKey) -> Meeting {
        let ends = Ends { given_up: CancellationToken::new(), gone: CancellationToken::new() };
        inner.ends.insert(key, ends.clone());
        Meeting { list: self.clone(), key, given_up: ends.given_up, _gone: ends.gone.drop_guard() }
    }
}

impl Meeting {
    /// As [`Meetings::opened`].
    pub(crate) fn opened(&self) -> bool {
        self.list.0.lock().rules.opened(self.key)
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

impl Loser {
    /// Waits until the connection that was given up is closed and leaves its addresses to another.
    pub(crate) async fn gone(self) {
        if let Some(gone) = self.0 {
            gone.cancelled().await;
        }
    }
}
