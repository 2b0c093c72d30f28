//! CARs behind single fetches: the blocks of a reading come in one answer, and each fetch takes its own out of it.
//!
//! Whoever fetches a block for a reading, of a server that is far away, has all that the reading needs from there on sent
//! as one CAR. Fetches that come later wait for their blocks to arrive in it. Those who wait read the CAR, a block at a
//! time, and nobody else does: so it is never further ahead than the reader's window, a reader that stands still stops
//! it, and one that leaves closes it.
//!
//! # What if it is not the CAR that was asked for?
//! It is given up, and whoever waits asks for its block alone. If the server is at fault, one of them is told so, the one
//! whose block lies last in the file, that it may count against the server as any other fault; and for a while no CAR is
//! asked of it. One that says that it makes none is not asked again.
//!
//! # Why not of a server that is near?
//! Because what a CAR saves is round trips. Without them single blocks come faster, many at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use swarmgate_content::{BlockHash, ByteRange, Cid, FailureClass, VerifiedBytes};
use swarmgate_ipfs_proto::block::hash_of;
use swarmgate_ipfs_proto::export::{EntityBytes, Scope};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::time::{sleep, timeout, timeout_at};

use super::block_server::BlockServer;
use super::car::{CarBlocks, CarWant, car_budget};
use super::fault::{at_fault, neutral};
use super::gateway::TrustlessGateway;
use crate::source::{Entity, SessionId, SourceError, Want};

/// A server is far when its answers never begin sooner than this.
const FAR: Duration = Duration::from_millis(10);
/// How long fetches of a reading are gathered before its CAR is asked for, that it may begin with the first of them.
const GATHER: Duration = Duration::from_millis(1);
/// How long a CAR may take to begin. The server has given blocks of its own before, so it need not look for them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(3);
/// How long all of a CAR may take, with the time that its reader takes.
const CAR_TIME: Duration = Duration::from_secs(24 * 3600);
/// A CAR of which nobody has read for so long may be closed from the other side too: its reader gets a new one.
const IDLE: Duration = Duration::from_secs(10);
/// For how long no CAR is asked for after one that was given up.
const REST: Duration = Duration::from_secs(60);
/// Bytes that came and nobody waited for: kept for who may want them yet, the latest so many. When as many come in a row,
/// the CAR is not what was asked for.
const MAX_UNASKED_BYTES: usize = 4 << 20;
/// What such a block takes in memory besides its bytes, in bytes.
const UNASKED_OVERHEAD: usize = 256;
/// Longest CAR of a directory, in bytes.
const MAX_LISTING_BYTES: u64 = 256 << 20;

/// The CARs of one server, one a reading.
#[derive(Debug, Default)]
pub(super) struct Feeds(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    by_session: BTreeMap<SessionId, Arc<Feed>>,
    rests_until: Option<Instant>,
    /// The server makes no CARs.
    never: bool,
}

/// One CAR.
#[derive(Debug)]
struct Feed {
    root: Cid,
    session: SessionId,
    state: Mutex<State>,
    /// `None` before it is asked for, and when it is over.
    car: AsyncMutex<Option<CarBlocks>>,
}

#[derive(Debug)]
struct State {
    /// Which bytes of the file; all of a directory.
    bytes: Option<ByteRange>,
    /// It was asked for, so that its bytes are settled.
    asked: bool,
    over: bool,
    used: Instant,
    waiting: BTreeMap<BlockHash, Waiter>,
    unasked: VecDeque<(BlockHash, VerifiedBytes)>,
    unasked_bytes: usize,
    /// Bytes since the last block that somebody took.
    in_row: usize,
}

#[derive(Debug)]
struct Waiter {
    /// Where in the file the block lies.
    at: u64,
    tell: oneshot::Sender<Result<VerifiedBytes, SourceError>>,
}

/// Where a fetch waits; given up when it is dropped.
struct Place<'a> {
    feed: &'a Feed,
    hash: BlockHash,
    /// Closed without a word when the block has to be asked for alone.
    told: oneshot::Receiver<Result<VerifiedBytes, SourceError>>,
}

enum Joined<'a> {
    Here(VerifiedBytes),
    Waits(Place<'a>),
    /// Not in this CAR, as far as is known.
    Elsewhere,
}

impl Feeds {
    /// Gets a block out of its reading's CAR; `None` when it is to be asked for alone.
    pub(super) async fn get(
        &self,
        gateway: &TrustlessGateway,
        want: &Want,
    ) -> Option<Result<VerifiedBytes, SourceError>> {
        let (entity, hash) = (want.within?, hash_of(&want.cid).ok()?);
        let feed = self.of(gateway, want.session, &entity)?;
        let place = match feed.join(hash, start_of(&entity)) {
            Joined::Here(block) => return Some(Ok(block)),
            Joined::Elsewhere => return None,
            Joined::Waits(place) => place,
        };
        let late = || Some(Err(at_fault("its CAR did not come to the block in time")));
        let waits = self.wait(gateway, place);
        timeout_at(want.deadline.into(), waits).await.unwrap_or_else(|_| late())
    }

    /// Waits for a block, and reads the CAR when nobody else does.
    async fn wait(
        &self,
        gateway: &TrustlessGateway,
        mut place: Place<'_>,
    ) -> Option<Result<VerifiedBytes, SourceError>> {
        let feed = place.feed;
        loop {
            tokio::select! {
                biased;
                told = &mut place.told => return told.ok(),
                mut car = feed.car.lock() => {
                    if let Err(error) = feed.read_on(gateway, &mut car).await {
                        *car = None;
                        self.rest();
                        feed.give_up(error);
                    }
                }
            }
        }
    }

    /// The CAR of a reading, begun when the server is one of which CARs are asked.
    fn of(&self, gateway: &TrustlessGateway, session: SessionId, entity: &Entity) -> Option<Arc<Feed>> {
        let (mut inner, now) = (self.0.lock(), Instant::now());
        if let Some(feed) = inner.by_session.get(&session) {
            if feed.serves(entity, now) {
                return Some(feed.clone());
            }
            if feed.is_awaited() {
                return None;
            }
        }
        inner.by_session.remove(&session);
        let rests = inner.rests_until.is_some_and(|until| now < until);
        let is_far = gateway.endpoint().distance().is_some_and(|distance| distance >= FAR);
        // Half of what the server takes at a time, so that readers who stand still never keep others from single blocks.
        if inner.never || rests || !is_far || !inner.has_room(gateway.endpoint().max_concurrent() / 2, now) {
            return None;
        }
        let feed = Arc::new(Feed::new(session, entity, now));
        inner.by_session.insert(session, feed.clone());
        Some(feed)
    }

    /// Closes the CAR of a reading.
    pub(super) fn end(&self, session: SessionId) {
        let closed = self.0.lock().by_session.remove(&session);
        drop(closed);
    }

    /// No CAR is asked for any more.
    pub(super) fn end_for_good(&self) {
        self.0.lock().never = true;
    }

    fn rest(&self) {
        self.0.lock().rests_until = Some(Instant::now() + REST);
    }
}

impl Inner {
    /// Whether another CAR may be open; for it those are closed that nobody reads.
    fn has_room(&mut self, max: usize, now: Instant) -> bool {
        if self.by_session.len() >= max {
            self.by_session.retain(|_, feed| !feed.is_idle(now));
        }
        self.by_session.len() < max
    }
}

fn start_of(entity: &Entity) -> u64 {
    entity.bytes.map_or(0, |bytes| bytes.start())
}

impl Feed {
    fn new(session: SessionId, entity: &Entity, now: Instant) -> Self {
        let state = State {
            bytes: entity.bytes,
            asked: false,
            over: false,
            used: now,
            waiting: BTreeMap::new(),
            unasked: VecDeque::new(),
            unasked_bytes: 0,
            in_row: 0,
        };
        Self { root: entity.root, session, state: Mutex::new(state), car: AsyncMutex::default() }
    }

    /// Whether it is the one for what is read.
    fn serves(&self, entity: &Entity, now: Instant) -> bool {
        let state = self.state.lock();
        self.root == entity.root && state.is_open(now) && state.covers(start_of(entity))
    }

    fn is_awaited(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    fn is_idle(&self, now: Instant) -> bool {
        let state = self.state.lock();
        state.waiting.is_empty() && !state.is_open(now)
    }

    fn join(&self, hash: BlockHash, at: u64) -> Joined<'_> {
        let mut state = self.state.lock();
        state.used = Instant::now();
        if let Some(block) = state.take_unasked(&hash) {
            return Joined::Here(block);
        }
        let taken = state.waiting.get(&hash).is_some_and(|waiter| !waiter.tell.is_closed());
        if taken || state.over || !state.covers(at) {
            return Joined::Elsewhere;
        }
        if let Some(bytes) = state.bytes {
            state.bytes = ByteRange::new(at.min(bytes.start()), bytes.end());
        }
        let (tell, told) = oneshot::channel();
        state.waiting.insert(hash, Waiter { at, tell });
        Joined::Waits(Place { feed: self, hash, told })
    }

    /// Reads the head of the CAR, if that is not read, and the next block.
    async fn read_on(&self, gateway: &TrustlessGateway, car: &mut Option<CarBlocks>) -> Result<(), SourceError> {
        if self.state.lock().over {
            return Ok(());
        }
        if car.is_none() {
            *car = Some(self.open(gateway).await?);
        }
        let Some(blocks) = car else { return Ok(()) };
        let next = blocks.next().await;
        self.take(next)?;
        if self.is_awaited() {
            return Ok(());
        }
        // The end is read with the last block, so that the connection may serve again.
        let more = blocks.next().now_or_never();
        match more {
            None => Ok(()),
            Some(None) => {
                self.state.lock().over = true;
                *car = None;
                Ok(())
            }
            Some(next) => self.take(next),
        }
    }

    async fn open(&self, gateway: &TrustlessGateway) -> Result<CarBlocks, SourceError> {
        sleep(GATHER).await;
        let want = self.state.lock().settle(self.root, self.session);
        let late = |_| neutral(format!("its CAR did not begin within {HEAD_TIMEOUT:?}"));
        timeout(HEAD_TIMEOUT, gateway.fetch_car(&want)).await.map_err(late)?
    }

    /// Hands on what came.
    fn take(&self, next: Option<Result<(Cid, VerifiedBytes), SourceError>>) -> Result<(), SourceError> {
        let Some(next) = next else { return Err(at_fault("its CAR lacks blocks of what was asked for")) };
        let (cid, block) = next?;
        let Ok(hash) = hash_of(&cid) else { return Ok(()) };
        let mut state = self.state.lock();
        state.used = Instant::now();
        let waiter = state.waiting.remove(&hash);
        if waiter.is_some_and(|waiter| waiter.tell.send(Ok(block.clone())).is_ok()) {
            state.in_row = 0;
        } else {
            state.keep(hash, block);
        }
        if state.in_row > MAX_UNASKED_BYTES {
            return Err(at_fault(format!("its CAR has {MAX_UNASKED_BYTES} bytes in a row that nobody asked for")));
        }
        Ok(())
    }

    /// It is of no use any more. One of those who wait is told if that is the server's fault.
    fn give_up(&self, error: SourceError) {
        let mut state = self.state.lock();
        state.over = true;
        state.unasked.clear();
        state.unasked_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        tracing::debug!(root = %self.root, class = ?error.class, detail = error.detail, "a CAR is given up");
        let is_fault = matches!(error.class, FailureClass::Source | FailureClass::Corruption);
        if let Some(last) = waiting.into_values().max_by_key(|waiter| waiter.at).filter(|_| is_fault) {
            let _gone = last.tell.send(Err(error));
        }
    }
}

impl State {
    /// Whether blocks may be had of it yet.
    fn is_open(&self, now: Instant) -> bool {
        now < self.used + IDLE && (!self.over || !self.unasked.is_empty())
    }

    /// Whether what lies there is, or is going to be, in the CAR.
    fn covers(&self, at: u64) -> bool {
        self.bytes.is_none_or(|bytes| at < bytes.end() && (at >= bytes.start() || !self.asked))
    }

    /// Settles what is asked for.
    fn settle(&mut self, root: Cid, session: SessionId) -> CarWant {
        self.asked = true;
        let max_bytes = self.bytes.map_or(MAX_LISTING_BYTES, |bytes| car_budget(bytes.len()));
        let scope = Scope::Entity(self.bytes.and_then(EntityBytes::of));
        CarWant { root, path: Vec::new(), scope, max_bytes, session, deadline: Instant::now() + CAR_TIME }
    }

    fn take_unasked(&mut self, hash: &BlockHash) -> Option<VerifiedBytes> {
        let place = self.unasked.iter().position(|(kept, _)| kept == hash)?;
        let (_, block) = self.unasked.remove(place)?;
        self.unasked_bytes -= cost(&block);
        self.in_row = 0;
        Some(block)
    }

    fn keep(&mut self, hash: BlockHash, block: VerifiedBytes) {
        self.in_row += cost(&block);
        self.unasked_bytes += cost(&block);
        self.unasked.push_back((hash, block));
        while self.unasked_bytes > MAX_UNASKED_BYTES
            && let Some((_, oldest)) = self.unasked.pop_front()
        {
            self.unasked_bytes -= cost(&oldest);
        }
    }
}

fn cost(block: &VerifiedBytes) -> usize {
    block.len() + UNASKED_OVERHEAD
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.told.close();
        let mut state = self.feed.state.lock();
        // Somebody else may wait for the same block by now.
        if state.waiting.get(&self.hash).is_some_and(|waiter| waiter.tell.is_closed()) {
            state.waiting.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests;
