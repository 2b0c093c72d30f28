//! Requests to pin, as the IPFS Pinning Service API knows them: each keeps one DAG, under a name and with notes that mean
//! something to whoever asked.
//!
//! Several may keep the same DAG; the last of them that is removed lets it go, unless it was kept before the first of
//! them came. Requests are written down, so that they are known after a restart, and all of them are in memory, bounded in
//! number and in bytes. Their ids sort by when they came, and no two came at the same millisecond: who pages through them
//! does so by time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use swarmgate_content::Cid;
use swarmgate_ipfs::pins::PinError;
use swarmgate_store::Store;

use super::{Kept, MAX_ORIGINS, Pinning, PinningError};

/// The store's table of requests.
const TABLE: &str = "ipfs-pin-requests";
/// Requests that are kept at most.
pub const MAX_REQUESTS: usize = 10_000;
/// All of them together, as they are written, in bytes: 64 MiB. They are in memory, and one may have 60 KiB.
const MAX_BYTES: usize = 64 << 20;
/// The last millisecond of the year 9999: RFC 3339 has no words for later ones.
const LAST_MS: u64 = 253_402_300_799_999;

/// What a request says beside the DAG.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// A name to find it by.
    pub name: Option<String>,
    /// Multiaddrs of peers that may have it; hints, untrusted.
    pub origins: Vec<String>,
    /// Notes of whoever asked.
    pub meta: BTreeMap<String, String>,
}

/// A request that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its name in URLs: 28 hex digits.
    pub id: String,
    /// When it came, in whole milliseconds; no other came then.
    pub created: SystemTime,
    /// The root of the DAG.
    pub root: Cid,
    /// What else it says.
    pub wish: Wish,
    /// Whether the DAG is kept for another reason too, so that it stays.
    beside: bool,
}

/// A request as it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    cid: String,
    created_ms: u64,
    beside: bool,
    wish: Wish,
}

/// All requests.
#[derive(Debug, Default)]
pub(super) struct Book {
    rows: Mutex<Rows>,
    /// Held while one comes or goes, so that who is the last to keep a DAG is known.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Rows {
    /// By id, each with the bytes that it has where it is written.
    by_id: BTreeMap<String, (Arc<Request>, usize)>,
    bytes: usize,
    last_ms: u64,
}

impl Pinning {
    /// Has a DAG kept for a new request, and says how far that is.
    ///
    /// # Errors
    /// [`PinningError`]; then there is no such request.
    pub async fn request(&self, root: Cid, wish: Wish) -> Result<(Arc<Request>, Kept), PinningError> {
        let _turn = self.0.book.turn.lock().await;
        self.begin(root, wish).await
    }

    /// Puts a new request in the place of one, without letting go what both keep. `None` when there is no such request.
    ///
    /// # Errors
    /// [`PinningError`].
    pub async fn replace(&self, id: &str, root: Cid, wish: Wish) -> Result<Option<(Arc<Request>, Kept)>, PinningError> {
        let _turn = self.0.book.turn.lock().await;
        let Some(old) = self.requested(id) else { return Ok(None) };
        let new = self.begin(root, wish).await?;
        self.end(&old).await?;
        Ok(Some(new))
    }

    /// Removes a request, and lets the DAG go when nothing else keeps it. Whether there was such a request.
    ///
    /// # Errors
    /// [`PinError::Record`]; then it is still there.
    pub async fn withdraw(&self, id: &str) -> Result<bool, PinError> {
        let _turn = self.0.book.turn.lock().await;
        let Some(old) = self.requested(id) else { return Ok(false) };
        self.end(&old).await?;
        Ok(true)
    }

    /// The request of this id.
    #[must_use]
    pub fn requested(&self, id: &str) -> Option<Arc<Request>> {
        self.0.book.rows.lock().by_id.get(id).map(|(request, _)| request.clone())
    }

    /// All requests, the latest first.
    #[must_use]
    pub fn requests(&self) -> Vec<Arc<Request>> {
        self.0.book.rows.lock().by_id.values().rev().map(|(request, _)| request.clone()).collect()
    }

    /// Where peers that would bring a DAG reach this gateway; at most [`MAX_ORIGINS`] addresses.
    #[must_use]
    pub fn delegates(&self) -> Vec<String> {
        let mut delegates = (self.0.delegates)();
        delegates.truncate(MAX_ORIGINS);
        delegates
    }

    /// The request is written before the DAG is wanted: one that is cut short between is there to be seen and removed.
    async fn begin(&self, root: Cid, wish: Wish) -> Result<(Arc<Request>, Kept), PinningError> {
        let beside = match self.0.book.another(&root, None) {
            Some(other) => other.beside,
            None => self.is_kept(&root).await?,
        };
        let request = self.0.book.draft(root, wish, beside);
        let row = request.row().map_err(PinError::from)?;
        let len = row.len();
        if !self.0.book.has_room(len) {
            return Err(PinningError::TooManyRequests);
        }
        let store = self.0.ipfs.pins().store();
        store.put_record(TABLE, request.id.as_bytes(), row.into()).await.map_err(PinError::from)?;
        let request = self.0.book.insert(request, len);
        match self.keep_from(root, &request.wish.origins).await {
            Ok(kept) => Ok((request, kept)),
            Err(error) => {
                self.forget(&request.id).await?;
                Err(error)
            }
        }
    }

    /// The DAG is let go first: whoever is cut short between can remove the request again.
    async fn end(&self, request: &Request) -> Result<(), PinError> {
        if !request.beside && self.0.book.another(&request.root, Some(&request.id)).is_none() {
            self.let_go(&request.root).await?;
        }
        self.forget(&request.id).await
    }

    async fn forget(&self, id: &str) -> Result<(), PinError> {
        self.0.ipfs.pins().store().delete_record(TABLE, id.as_bytes()).await?;
        self.0.book.remove(id);
        Ok(())
    }

    /// Whether a DAG is wanted or pinned, with gaps too.
    async fn is_kept(&self, root: &Cid) -> Result<bool, PinError> {
        let is_wanted = self.0.wanted.lock().contains_key(root);
        Ok(is_wanted || self.0.ipfs.pins().contains(root).await?)
    }
}

impl Book {
    /// Reads what was written. To be called once, at the start.
    pub(super) async fn load(&self, store: &Store) -> Result<(), PinError> {
        for (key, row) in store.list_records(TABLE).await? {
            match Request::read(&key, &row) {
                Some(request) => drop(self.insert(request, row.len())),
                None => tracing::warn!("a request to pin makes no sense and is left alone"),
            }
        }
        Ok(())
    }

    /// Where the DAG of this root may be, as its requests say; at most [`MAX_ORIGINS`] addresses.
    pub(super) fn origins(&self, root: &Cid) -> Vec<String> {
        let rows = self.rows.lock();
        let of_root = rows.by_id.values().filter(|(request, _)| request.root == *root);
        of_root.flat_map(|(request, _)| request.wish.origins.iter().cloned()).take(MAX_ORIGINS).collect()
    }

    /// A request for this root, of another id than this.
    fn another(&self, root: &Cid, than: Option<&str>) -> Option<Arc<Request>> {
        let rows = self.rows.lock();
        let mut requests = rows.by_id.values().map(|(request, _)| request);
        requests.find(|request| request.root == *root && than != Some(request.id.as_str())).cloned()
    }

    fn has_room(&self, len: usize) -> bool {
        let rows = self.rows.lock();
        rows.by_id.len() < MAX_REQUESTS && rows.bytes + len <= MAX_BYTES
    }

    /// A request that comes now.
    fn draft(&self, root: Cid, wish: Wish, beside: bool) -> Request {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(LAST_MS);
        let mut rows = self.rows.lock();
        let created_ms = now.max(rows.last_ms + 1).min(LAST_MS);
        rows.last_ms = created_ms;
        let id = format!("{created_ms:012x}{:016x}", rand::random::<u64>());
        Request { id, created: time(created_ms), root, wish, beside }
    }

    fn insert(&self, request: Request, len: usize) -> Arc<Request> {
        let request = Arc::new(request);
        let mut rows = self.rows.lock();
        rows.last_ms = rows.last_ms.max(request.created_ms());
        rows.bytes += len;
        rows.by_id.insert(request.id.clone(), (request.clone(), len));
        request
    }

    fn remove(&self, id: &str) {
        let mut rows = self.rows.lock();
        if let Some((_, len)) = rows.by_id.remove(id) {
            rows.bytes -= len;
        }
    }
}

impl Request {
    fn created_ms(&self) -> u64 {
        let since = self.created.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(LAST_MS)
    }

    fn row(&self) -> std::io::Result<Vec<u8>> {
        let (cid, created_ms, wish) = (self.root.to_string(), self.created_ms(), self.wish.clone());
        let row = Row { cid, created_ms, beside: self.beside, wish };
        serde_json::to_vec(&row).map_err(std::io::Error::other)
    }

    fn read(key: &[u8], row: &[u8]) -> Option<Self> {
        let Row { cid, created_ms, beside, wish } = serde_json::from_slice(row).ok()?;
        let created = Some(created_ms).filter(|created_ms| *created_ms <= LAST_MS).map(time)?;
        Some(Self { id: String::from_utf8(key.to_vec()).ok()?, created, root: cid.parse().ok()?, wish, beside })
    }
}

fn time(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";

    fn wish(name: &str) -> Wish {
        let meta = [("app".to_owned(), "player".to_owned())].into();
        Wish { name: Some(name.to_owned()), origins: vec!["/ip4/192.0.2.7".to_owned()], meta }
    }

    #[test]
    fn requests_that_come_at_once_have_times_of_their_own_and_ids_in_that_order() {
        let book = Book::default();
        let drafts: Vec<_> = (0..50).map(|_| book.draft(CID.parse().unwrap(), wish("a"), false)).collect();
        assert!(drafts.windows(2).all(|pair| pair[0].created < pair[1].created && pair[0].id < pair[1].id));
        assert!(drafts.iter().all(|request| request.id.len() == 28));
    }

    #[test]
    fn what_is_written_of_a_request_is_all_that_it_says() {
        let book = Book::default();
        for beside in [false, true] {
            let request = book.draft(CID.parse().unwrap(), wish("a film"), beside);
            assert_eq!(Request::read(request.id.as_bytes(), &request.row().unwrap()), Some(request));
        }
        assert_eq!(Request::read(b"x", b"{}"), None);
        let late = format!(
            r#"{{"cid":"{CID}","created_ms":{},"beside":false,"wish":{{"name":null,"origins":[],"meta":{{}}}}}}"#,
            LAST_MS + 1
        );
        assert_eq!(Request::read(b"x", late.as_bytes()), None, "there is no way to tell that time");
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let book = Book::default();
        let root = CID.parse().unwrap();
        let large = book.insert(book.draft(root, wish("large"), false), MAX_BYTES - 10);
        assert!(book.has_room(10) && !book.has_room(11));
        book.remove(&large.id);
        assert!(book.has_room(MAX_BYTES));
        for _ in 0..MAX_REQUESTS {
            book.insert(book.draft(root, Wish::default(), false), 1);
        }
        assert!(!book.has_room(0));
    }

    #[test]
    fn who_else_keeps_a_dag_is_known_and_where_it_may_be() {
        let (book, root) = (Book::default(), CID.parse().unwrap());
        let one = book.insert(book.draft(root, wish("one"), false), 1);
        assert_eq!((book.another(&root, None), book.another(&root, Some(&one.id))), (Some(one.clone()), None));
        let other = book.insert(book.draft(root, wish("other"), false), 1);
        assert_eq!(book.another(&root, Some(&one.id)), Some(other));
        assert_eq!(book.origins(&root), ["/ip4/192.0.2.7", "/ip4/192.0.2.7"]);
        assert!(book.origins(&Cid::default()).is_empty());
    }
}
