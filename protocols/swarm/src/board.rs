//! Where readers and the actor meet: a row for each reader, with its position and what it waits for.
//!
//! Readers write their row and ring; the actor reads the rows when it hears the bell. Neither waits for the other, and
//! the board is as large as there are readers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use swarmgate_bittorrent_proto::picker::ReaderKey;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::VerifiedBytes;
use tokio::sync::Notify;

use crate::reader::ReadFault;

/// What a waiting reader is woken with.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    /// The piece is in the store, or handed over.
    Here,
    /// The piece came and the store had no room for it; `read` when readers were at it and have it. Only for who fetches.
    NotStored { read: bool },
    /// It will not come.
    Fault(ReadFault),
}

/// What the actor must know of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Opened(ReaderKey, Range<u64>),
    Moved(ReaderKey, u64),
    Closed(ReaderKey),
    /// The store does not have this piece, though it was believed to.
    Lost(PieceIndex),
    /// The store has this piece: somebody else put it there.
    Found(PieceIndex),
    /// Somebody who asks for nothing began or ended to read: the store's windows are shared among more or fewer.
    Audience,
}

/// What somebody with a row is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Reads a range, which is asked for.
    Reader,
    /// Reads a range and takes what comes by whatever way; nothing is asked for on its account.
    Follower,
    /// Waits until one piece, which is asked for, is in the store; reads nothing.
    Fetch,
    /// Keeps the torrent from being idle, and no more.
    Stay,
}

impl Role {
    const fn asks(self) -> bool {
        matches!(self, Self::Reader | Self::Fetch)
    }

    const fn reads(self) -> bool {
        matches!(self, Self::Reader | Self::Follower)
    }
}

/// Who was given a piece that the store had no room for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    /// How many read it.
    pub(crate) readers: usize,
    /// Those who had asked for it, and ask for nothing now.
    pub(crate) paused: Vec<ReaderKey>,
}

#[derive(Debug)]
struct Row {
    role: Role,
    rest: Range<u64>,
    told: Told,
    waiting_for: Option<PieceIndex>,
    wake: Option<Wake>,
    /// A verified piece that the store had no room for.
    handed: Option<(PieceIndex, VerifiedBytes)>,
    /// A verified block of a piece that is not whole, and where it begins in the torrent.
    block: Option<(u64, VerifiedBytes)>,
    bell: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Position(u64),
    /// It was handed a piece that ends here, and asks for nothing until it has read it: what would come meanwhile has
    /// no place to wait in.
    Paused(u64),
}

#[derive(Debug)]
struct Rows {
    rows: BTreeMap<ReaderKey, Row>,
    closed: Vec<ReaderKey>,
    lost: Vec<PieceIndex>,
    /// A set, so that it is never longer than the torrent, however much others store meanwhile.
    found: BTreeSet<PieceIndex>,
    /// Whether a follower came or went.
    audience: bool,
    next: u64,
    idle_since: Option<Instant>,
    over: bool,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Board {
    rows: Mutex<Rows>,
    bell: Notify,
}

impl Default for Board {
    fn default() -> Self {
        let rows = Rows {
            rows: BTreeMap::new(),
            closed: Vec::new(),
            lost: Vec::new(),
            found: BTreeSet::new(),
            audience: false,
            next: 0,
            idle_since: Some(Instant::now()),
            over: false,
        };
        Self { rows: Mutex::new(rows), bell: Notify::new() }
    }
}

impl Board {
    /// A row for somebody; its bell rings when what they wait for is there.
    pub(crate) fn open(&self, role: Role, range: Range<u64>) -> (ReaderKey, Arc<Notify>) {
        let mut rows = self.rows.lock();
        let key = ReaderKey(rows.next);
        rows.next += 1;
        rows.idle_since = None;
        rows.audience |= role == Role::Follower;
        let bell = Arc::new(Notify::new());
        let row = Row {
            role,
            rest: range,
            told: Told::Nothing,
            waiting_for: None,
            wake: None,
            handed: None,
            block: None,
            bell: Arc::clone(&bell),
        };
        rows.rows.insert(key, row);
        drop(rows);
        self.bell.notify_one();
        (key, bell)
    }

    pub(crate) fn close(&self, key: ReaderKey) {
        let mut rows = self.rows.lock();
        if let Some(row) = rows.rows.remove(&key) {
            if matches!(row.told, Told::Position(_)) {
                rows.closed.push(key);
            }
            rows.audience |= row.role == Role::Follower;
        }
        if rows.rows.is_empty() {
            rows.idle_since = Some(Instant::now());
        }
        drop(rows);
        self.bell.notify_one();
    }

    /// A reader has read up to `position`; `ring` when the actor should know now rather than at its next look.
    pub(crate) fn moved(&self, key: ReaderKey, position: u64, ring: bool) {
        let asks = self.rows.lock().rows.get_mut(&key).is_some_and(|row| {
            row.rest.start = position;
            row.role.asks()
        });
        if ring && asks {
            self.bell.notify_one();
        }
    }

    /// A reader waits for `piece`; `lost` when the store was believed to have it.
    pub(crate) fn wait_for(&self, key: ReaderKey, piece: PieceIndex, lost: bool) {
        let mut rows = self.rows.lock();
        let over = rows.over;
        if lost {
            rows.lost.push(piece);
        }
        if let Some(row) = rows.rows.get_mut(&key) {
            row.waiting_for = Some(piece);
            let handed = row.handed.as_ref().is_some_and(|(handed, _)| *handed == piece).then_some(Wake::Here);
            // Said between the row's opening and this, and not said again.
            let early = row.wake.take().filter(|wake| matches!(wake, Wake::NotStored { .. }));
            row.wake = if over { Some(Wake::Fault(ReadFault::Gone)) } else { handed.or(early) };
            if row.wake.is_some() {
                row.bell.notify_one();
            }
        }
        drop(rows);
        self.bell.notify_one();
    }

    /// Pieces are in the store that somebody else put there.
    pub(crate) fn find(&self, pieces: Vec<PieceIndex>) {
        if !pieces.is_empty() {
            self.rows.lock().found.extend(pieces);
            self.bell.notify_one();
        }
    }

    /// What a reader was woken with; it waits no longer then.
    pub(crate) fn take_wake(&self, key: ReaderKey) -> Option<Wake> {
        let mut rows = self.rows.lock();
        let row = rows.rows.get_mut(&key)?;
        let wake = row.wake.take();
        if wake.is_some() {
            row.waiting_for = None;
        }
        wake
    }

    /// Wakes everybody who waits for `piece` and tells who that was.
    pub(crate) fn wake(&self, piece: PieceIndex, wake: &Wake) -> Vec<ReaderKey> {
        let mut rows = self.rows.lock();
        let waiting = rows.rows.iter_mut().filter(|(_, row)| row.waiting_for == Some(piece));
        let woken = waiting.map(|(key, row)| {
            row.ring(wake);
            *key
        });
        woken.collect()
    }

    /// Gives a piece that the store had no room for, and that lies at `range`, to every reader that is at it. Who asked
    /// for it is paused until it is read.
    pub(crate) fn hand(&self, piece: PieceIndex, range: &Range<u64>, bytes: &VerifiedBytes) -> Handed {
        let mut rows = self.rows.lock();
        let mut handed = Handed::default();
        let at_it = |row: &Row| !row.rest.is_empty() && range.contains(&row.rest.start);
        for (key, row) in rows.rows.iter_mut().filter(|(_, row)| row.role.reads() && at_it(row)) {
            row.handed = Some((piece, bytes.clone()));
            row.ring(&Wake::Here);
            handed.readers += 1;
            handed.paused.extend(row.pause(*key, range.end));
        }
        let read = handed.readers > 0;
        for (key, row) in rows.rows.iter_mut().filter(|(_, row)| row.role == Role::Fetch && at_it(row)) {
            row.ring(&Wake::NotStored { read });
            handed.paused.extend(row.pause(*key, range.end));
        }
        handed
    }

    /// `piece`, if it was handed to this reader.
    pub(crate) fn take_handed(&self, key: ReaderKey, piece: PieceIndex) -> Option<VerifiedBytes> {
        let handed = self.rows.lock().rows.get_mut(&key)?.handed.take();
        handed.filter(|(handed, _)| *handed == piece).map(|(_, bytes)| bytes)
    }

    /// Who waits for bytes, and from where on.
    pub(crate) fn waiting(&self) -> Vec<(ReaderKey, u64)> {
        let rows = self.rows.lock();
        let waiting = rows.rows.iter().filter(|(_, row)| row.role.reads() && row.waiting_for.is_some());
        waiting.filter(|(_, row)| row.wake.is_none()).map(|(key, row)| (*key, row.rest.start)).collect()
    }

    /// Gives a verified block, which begins at `start` of the torrent, to a reader that waits within it.
    pub(crate) fn hand_block(&self, key: ReaderKey, start: u64, bytes: VerifiedBytes) {
        if let Some(row) = self.rows.lock().rows.get_mut(&key) {
            row.block = Some((start, bytes));
            row.ring(&Wake::Here);
        }
    }

    /// What a reader at `position` was handed of a block that holds it.
    pub(crate) fn take_block(&self, key: ReaderKey, position: u64) -> Option<VerifiedBytes> {
        let (start, bytes) = self.rows.lock().rows.get_mut(&key)?.block.take()?;
        let from = usize::try_from(position.checked_sub(start)?).ok()?;
        (from < bytes.len()).then(|| bytes.slice(from..bytes.len()))
    }

    /// Ends every reader's wait, now and later.
    pub(crate) fn end(&self, fault: ReadFault) {
        let mut rows = self.rows.lock();
        rows.over = true;
        rows.rows.values_mut().for_each(|row| row.ring(&Wake::Fault(fault)));
    }

    /// Pieces that somebody waits for.
    pub(crate) fn awaited(&self) -> Vec<PieceIndex> {
        self.rows.lock().rows.values().filter_map(|row| row.waiting_for).collect()
    }

    pub(crate) fn readers(&self) -> usize {
        self.rows.lock().rows.values().filter(|row| row.role.reads()).count()
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.rows.lock().idle_since
    }

    /// Waits until somebody whose bell this is, and who waits, is woken.
    pub(crate) async fn woken(&self, key: ReaderKey, bell: &Notify) -> Wake {
        loop {
            if let Some(wake) = self.take_wake(key) {
                return wake;
            }
            bell.notified().await;
        }
    }

    /// Waits until a reader has changed something.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// What has changed since the last call.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        let mut rows = self.rows.lock();
        let mut changes: Vec<_> = std::mem::take(&mut rows.closed).into_iter().map(Change::Closed).collect();
        changes.extend(std::mem::take(&mut rows.lost).into_iter().map(Change::Lost));
        changes.extend(std::mem::take(&mut rows.found).into_iter().map(Change::Found));
        changes.extend(std::mem::take(&mut rows.audience).then_some(Change::Audience));
        for (key, row) in rows.rows.iter_mut().filter(|(_, row)| row.role.asks()) {
            match row.told {
                Told::Nothing => changes.push(Change::Opened(*key, row.rest.clone())),
                Told::Position(told) if told == row.rest.start => continue,
                Told::Paused(until) if row.rest.start < until => continue,
                Told::Paused(_) => changes.push(Change::Opened(*key, row.rest.clone())),
                Told::Position(_) => changes.push(Change::Moved(*key, row.rest.start)),
            }
            row.told = Told::Position(row.rest.start);
        }
        changes
    }
}

impl Row {
    /// Has it ask for nothing until it has read up to `until`; gives its key when it had asked.
    fn pause(&mut self, key: ReaderKey, until: u64) -> Option<ReaderKey> {
        self.told = Told::Paused(until);
        self.role.asks().then_some(key)
    }

    fn ring(&mut self, wake: &Wake) {
        self.wake = Some(wake.clone());
        self.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use swarmgate_content::BlockHash;

    use super::*;

    #[test]
    fn the_actor_hears_each_change_once() {
        let board = Board::default();
        let (key, _) = board.open(Role::Reader, 10..90);
        assert_eq!(board.take_changes(), [Change::Opened(key, 10..90)]);
        assert_eq!(board.take_changes(), []);
        board.moved(key, 20, true);
        board.moved(key, 30, true);
        assert_eq!(board.take_changes(), [Change::Moved(key, 30)]);
        board.close(key);
        assert_eq!(board.take_changes(), [Change::Closed(key)]);
        assert_eq!(board.take_changes(), []);
    }

    #[test]
    fn a_piece_that_is_found_again_and_again_is_told_once() {
        let board = Board::default();
        (0..1000).for_each(|_| board.find(vec![PieceIndex(7), PieceIndex(3)]));
        assert_eq!(board.take_changes(), [Change::Found(PieceIndex(3)), Change::Found(PieceIndex(7))]);
        assert_eq!(board.take_changes(), []);
    }

    #[test]
    fn a_reader_that_came_and_went_unseen_leaves_no_trace() {
        let board = Board::default();
        let (key, _) = board.open(Role::Reader, 0..90);
        board.close(key);
        assert_eq!(board.take_changes(), []);
        assert!(board.idle_since().is_some());
    }

    #[test]
    fn who_is_handed_a_piece_asks_for_nothing_until_it_is_read() {
        let board = Board::default();
        let (at_it, _) = board.open(Role::Reader, 0..90);
        let (elsewhere, _) = board.open(Role::Reader, 40..90);
        board.take_changes();
        let bytes = nothing();
        assert_eq!(board.hand(PieceIndex(0), &(0..16), &bytes), Handed { readers: 1, paused: vec![at_it] });
        board.moved(at_it, 8, true);
        assert_eq!(board.take_changes(), []);
        assert!(board.take_handed(at_it, PieceIndex(0)).is_some());
        assert!(board.take_handed(elsewhere, PieceIndex(0)).is_none());
        board.moved(at_it, 16, true);
        assert_eq!(board.take_changes(), [Change::Opened(at_it, 16..90)]);
    }

    #[test]
    fn only_those_who_wait_for_a_piece_are_woken_by_it() {
        let board = Board::default();
        let (one, _) = board.open(Role::Reader, 0..90);
        let (other, _) = board.open(Role::Reader, 0..90);
        board.wait_for(one, PieceIndex(1), false);
        board.wait_for(other, PieceIndex(2), false);
        assert_eq!(board.wake(PieceIndex(1), &Wake::Here), [one]);
        assert!(matches!(board.take_wake(one), Some(Wake::Here)));
        assert!(board.take_wake(other).is_none());
        board.end(ReadFault::Gone);
        assert!(matches!(board.take_wake(other), Some(Wake::Fault(ReadFault::Gone))));
    }

    #[test]
    fn who_follows_is_seen_by_the_store_and_never_asks() {
        let board = Board::default();
        let (follower, _) = board.open(Role::Follower, 0..90);
        assert_eq!(board.take_changes(), [Change::Audience]);
        board.wait_for(follower, PieceIndex(0), false);
        board.moved(follower, 20, true);
        assert_eq!(board.take_changes(), []);
        assert_eq!(board.hand(PieceIndex(1), &(16..32), &nothing()), Handed { readers: 1, paused: Vec::new() });
        assert!(matches!(board.take_wake(follower), Some(Wake::Here)));
        assert!(board.take_handed(follower, PieceIndex(1)).is_some());
        board.close(follower);
        assert_eq!(board.take_changes(), [Change::Audience]);
    }

    #[test]
    fn who_fetches_learns_whether_what_was_not_stored_was_read() {
        for readers in [0, 1] {
            let board = Board::default();
            let (fetch, _) = board.open(Role::Fetch, 0..16);
            board.wait_for(fetch, PieceIndex(0), false);
            assert_eq!(board.take_changes(), [Change::Opened(fetch, 0..16)]);
            let _follower = (readers == 1).then(|| board.open(Role::Follower, 8..90));
            assert_eq!(board.hand(PieceIndex(0), &(0..16), &nothing()), Handed { readers, paused: vec![fetch] });
            let wake = board.take_wake(fetch);
            assert!(matches!(wake, Some(Wake::NotStored { read }) if read == (readers == 1)), "{wake:?}");
            board.take_changes();
            board.close(fetch);
            assert_eq!(board.take_changes(), [], "its demand ended when the piece was handed over");
        }
    }

    #[test]
    fn who_stays_keeps_the_torrent_from_being_idle_and_does_nothing_else() {
        let board = Board::default();
        let (stay, _) = board.open(Role::Stay, 0..0);
        assert!(board.idle_since().is_none());
        assert_eq!((board.readers(), board.take_changes()), (0, Vec::new()));
        assert_eq!(board.hand(PieceIndex(0), &(0..16), &nothing()), Handed::default());
        board.close(stay);
        assert!(board.idle_since().is_some());
    }

    /// The block of no bytes.
    fn nothing() -> VerifiedBytes {
        let digest = [
            0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf, 0xd8,
            0x07, 0x09,
        ];
        VerifiedBytes::check(&BlockHash::sha1(digest), Bytes::new()).expect("the digest of nothing")
    }
}
