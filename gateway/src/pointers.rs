//! Torrents that are named by keys (BEP 46): what a key's item in the DHT says now.
//!
//! An answer is believed for [`FRESH`], also that there is none. After that the DHT is asked again, and what it says
//! replaces what is known only with a higher sequence number: nodes that missed a version cannot turn time back. When
//! nobody has the item any more, its last version is good for [`MEMORY`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use swarmgate_bittorrent::dht::{DhtHandle, LookupError, Stored};
use swarmgate_bittorrent_proto::dht::{MutableItem, PublicKey};
use swarmgate_content::InfoHash;

/// How long what the DHT said is believed without asking again.
pub const FRESH: Duration = Duration::from_secs(60);
/// How long a version is remembered that nobody has any more.
pub const MEMORY: Duration = Duration::from_secs(3600);
/// Items remembered; the one asked for longest ago gives way.
pub const MAX_KNOWN: usize = 1000;

/// See the module's head.
#[derive(Debug)]
pub struct Pointers {
    dht: DhtHandle,
    known: Mutex<BTreeMap<(PublicKey, Vec<u8>), Known>>,
}

/// A torrent that a key names, for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer {
    /// The torrent.
    pub infohash: InfoHash,
    /// The version of the item that names it.
    pub seq: i64,
    /// How long this is believed from now on.
    pub fresh: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    /// The version, its torrent, and when a node had it last.
    version: Option<(i64, InfoHash, Instant)>,
    asked: Instant,
}

impl Known {
    fn pointer(&self, now: Instant) -> Option<Pointer> {
        let (seq, infohash, seen) = self.version.filter(|(_, _, seen)| now.duration_since(*seen) < MEMORY)?;
        debug_assert!(seen <= now, "it was seen before");
        Some(Pointer { infohash, seq, fresh: FRESH.saturating_sub(now.duration_since(self.asked)) })
    }

    /// Takes what the DHT said at `now`.
    fn learn(&mut self, now: Instant, said: Option<(i64, InfoHash)>) {
        self.asked = now;
        if let Some((seq, infohash)) = said
            && self.version.is_none_or(|(known, ..)| seq >= known)
        {
            self.version = Some((seq, infohash, now));
        }
    }
}

impl Pointers {
    /// Asks this DHT.
    #[must_use]
    pub const fn new(dht: DhtHandle) -> Self {
        Self { dht, known: Mutex::new(BTreeMap::new()) }
    }

    /// Finds out which torrent a key's item names; `None` when there is no such item, or it names none.
    ///
    /// # Errors
    /// When the DHT cannot be asked.
    pub async fn resolve(&self, key: &PublicKey, salt: &[u8]) -> Result<Option<Pointer>, LookupError> {
        let name = (*key, salt.to_vec());
        let now = Instant::now();
        let known = self.known.lock().get(&name).copied().filter(|known| now.duration_since(known.asked) < FRESH);
        if let Some(known) = known {
            return Ok(known.pointer(now));
        }
        let item = self.dht.get_mutable(key, salt).await?;
        let said = item.and_then(|item| Some((item.seq(), item.infohash()?)));
        Ok(self.learn(name, said))
    }

    /// Puts a version into the DHT and keeps it there.
    ///
    /// # Errors
    /// When the DHT cannot be asked.
    pub async fn publish(&self, item: MutableItem, cas: Option<i64>) -> Result<Stored, LookupError> {
        let name = (*item.key(), item.salt().to_vec());
        let said = item.infohash().map(|infohash| (item.seq(), infohash));
        let stored = self.dht.put_mutable(item, cas, true).await?;
        if stored.nodes > 0 {
            self.learn(name, said);
        }
        Ok(stored)
    }

    fn learn(&self, name: (PublicKey, Vec<u8>), said: Option<(i64, InfoHash)>) -> Option<Pointer> {
        let now = Instant::now();
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN && !known.contains_key(&name) {
            let oldest = known.iter().min_by_key(|(_, known)| known.asked).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                known.remove(&oldest);
            }
        }
        let entry = known.entry(name).or_insert(Known { version: None, asked: now });
        entry.learn(now, said);
        entry.pointer(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_replaces_and_an_earlier_one_does_not() {
        let (now, torrents) = (Instant::now(), [InfoHash::new([1; 20]), InfoHash::new([2; 20])]);
        let mut known = Known { version: None, asked: now };
        let mut after = |secs, said| {
            let now = now + Duration::from_secs(secs);
            known.learn(now, said);
            known.pointer(now).map(|pointer| (pointer.seq, pointer.infohash))
        };
        assert_eq!(after(0, None), None);
        assert_eq!(after(60, Some((4, torrents[0]))), Some((4, torrents[0])));
        assert_eq!(after(120, Some((5, torrents[1]))), Some((5, torrents[1])));
        assert_eq!(after(180, Some((4, torrents[0]))), Some((5, torrents[1])));
        assert_eq!(after(240, None), Some((5, torrents[1])), "a node that is away does not unsay it");
        assert_eq!(after(120 + 3600, None), None);
    }
}
