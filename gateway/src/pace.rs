//! How fast clients are sent contents: all together, those of one content, each by itself.
//!
//! A body is cut into small pieces, and each waits for its turn at the gates of its client, its content and everybody. A
//! body that nothing limits is not cut, and knows of no gate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_content::{BoxFuture, ContentId};
use swarmgate_pace::{Gate, Limit, Line};

use crate::admission::household;

/// Gates kept before those that nobody uses any more are looked for.
const GATES_KEPT: usize = 64;

/// The gates of one gateway. Clones are the same.
#[derive(Debug, Clone)]
pub struct ClientPace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    all: Arc<Gate>,
    item: Limit,
    client: Limit,
    items: Mutex<BTreeMap<ContentId, Weak<Gate>>>,
    clients: Mutex<BTreeMap<Option<IpAddr>, Weak<Gate>>>,
}

impl Default for ClientPace {
    /// No limits.
    fn default() -> Self {
        Self::new(Limit::default(), Limit::default(), Limit::default())
    }
}

impl ClientPace {
    /// Limits for all clients, for those of each content, and for each client.
    #[must_use]
    pub fn new(all: Limit, item: Limit, client: Limit) -> Self {
        let (items, clients) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { all: Gate::new(all), item, client, items, clients }))
    }

    fn is_open(&self) -> bool {
        self.0.all.rate() == 0 && self.0.item.get() == 0 && self.0.client.get() == 0
    }

    /// The way of one content's bytes to one client. Gates are shared by whoever has the same, and go with the last.
    fn line(&self, id: ContentId, client: Option<IpAddr>) -> Line {
        let client = gate(&self.0.clients, client, &self.0.client);
        let item = gate(&self.0.items, id, &self.0.item);
        Line::of([client, item, self.0.all.clone()])
    }
}

fn gate<Key: Ord>(gates: &Mutex<BTreeMap<Key, Weak<Gate>>>, key: Key, limit: &Limit) -> Arc<Gate> {
    let mut gates = gates.lock();
    if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
        return gate;
    }
    if gates.len() >= GATES_KEPT {
        gates.retain(|_, gate| gate.strong_count() > 0);
    }
    let gate = Gate::new(limit.clone());
    gates.insert(key, Arc::downgrade(&gate));
    gate
}

/// One body's way through the gates.
pub(crate) struct Pacer {
    pace: ClientPace,
    id: ContentId,
    client: Option<IpAddr>,
    /// Made when something first limits it: most never need it.
    line: Option<Line>,
    /// What has been taken from the source and not been let through.
    held: Option<Bytes>,
    /// The wait of so many bytes at the front of `held`.
    wait: Option<(usize, BoxFuture<'static, ()>)>,
}

impl Pacer {
    pub(crate) fn new(pace: &ClientPace, id: ContentId, client: Option<IpAddr>) -> Self {
        Self { pace: pace.clone(), id, client: client.map(household), line: None, held: None, wait: None }
    }

    /// What was held back; the source is asked for more only when there is nothing.
    pub(crate) fn take_held(&mut self) -> Option<Bytes> {
        self.held.take()
    }

    /// Whether something is held back.
    pub(crate) const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Lets the first of these bytes through and holds the others; while nothing may pass, all.
    pub(crate) fn poll_pass(&mut self, cx: &mut Context<'_>, mut bytes: Bytes) -> Poll<Bytes> {
        let (len, wait) = match self.wait.take() {
            Some(waiting) => waiting,
            None if self.pace.is_open() || bytes.is_empty() => return Poll::Ready(bytes),
            None => {
                let line = self.line.get_or_insert_with(|| self.pace.line(self.id, self.client));
                let Some(piece) = line.piece() else { return Poll::Ready(bytes) };
                let len = usize::try_from(piece).unwrap_or(usize::MAX).min(bytes.len());
                (len, line.wait(len as u64))
            }
        };
        let (len, wait) = self.wait.insert((len, wait));
        let len = *len;
        if wait.as_mut().poll(cx).is_pending() {
            self.held = Some(bytes);
            return Poll::Pending;
        }
        self.wait = None;
        let passed = bytes.split_to(len);
        self.held = Some(bytes).filter(|rest| !rest.is_empty());
        Poll::Ready(passed)
    }

    /// Paces what a source gives when it is asked, text and faults included.
    pub(crate) fn poll_through<Fault>(
        &mut self,
        cx: &mut Context<'_>,
        next: Poll<Option<Result<Bytes, Fault>>>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        match ready!(next) {
            Some(Ok(bytes)) => self.poll_pass(cx, bytes).map(|bytes| Some(Ok(bytes))),
            other => Poll::Ready(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn id(text: &str) -> ContentId {
        ContentId::parse_torrent(&text.repeat(20)).unwrap()
    }

    /// Sends so many bytes to a client, and tells how many milliseconds that took.
    async fn send(pace: &ClientPace, id: ContentId, client: &str, bytes: usize) -> u128 {
        let mut pacer = Pacer::new(pace, id, client.parse().ok());
        let start = Instant::now();
        let mut source = Some(Bytes::from(vec![7; bytes]));
        let mut sent = 0;
        while let Some(chunk) = pacer.take_held().or_else(|| source.take()) {
            let mut chunk = Some(chunk);
            let passed = poll_fn(|cx| {
                let bytes = chunk.take().or_else(|| pacer.take_held()).expect("it is held while it waits");
                pacer.poll_pass(cx, bytes)
            });
            sent += passed.await.len();
        }
        assert_eq!(sent, bytes, "what is held is not lost");
        start.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_its_own_rate_and_shares_that_of_all() {
        let (all, client) = (Limit::default(), Limit::new(100_000));
        let pace = ClientPace::new(all.clone(), Limit::default(), client);
        let (film, song) = (id("ab"), id("cd"));
        let (one, other) =
            tokio::join!(send(&pace, film, "192.0.2.1", 500_000), send(&pace, film, "192.0.2.2", 500_000));
        assert!((4800..5100).contains(&one) && (4800..5100).contains(&other), "{one} {other}");
        let (one, other) =
            tokio::join!(send(&pace, film, "2001:db8::1", 500_000), send(&pace, song, "2001:db8::2", 500_000));
        assert!(one > 9000 && other > 9000, "one household is one client: {one} {other}");
        all.set(100_000);
        let both = tokio::join!(send(&pace, film, "192.0.2.1", 500_000), send(&pace, song, "192.0.2.2", 500_000));
        assert!(both.0 > 9000 && both.1 > 9000, "{both:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nothing_is_cut_and_a_new_one_acts_at_once() {
        let item = Limit::default();
        let pace = ClientPace::new(Limit::default(), item.clone(), Limit::default());
        let mut pacer = Pacer::new(&pace, id("ab"), None);
        let whole = Bytes::from(vec![0; 1 << 20]);
        let passed = poll_fn(|cx| pacer.poll_pass(cx, whole.clone())).await;
        assert_eq!((passed.len(), pacer.take_held()), (1 << 20, None));
        item.set(1000);
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            item.set(0);
        };
        let (took, ()) = tokio::join!(send(&pace, id("ab"), "192.0.2.1", 1 << 20), change);
        assert!((1000..1100).contains(&took), "{took}");
    }
}
