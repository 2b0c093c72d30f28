//! What is remembered of an item: its trackers, its web seeds, peers that were named with it, a name, what is selected of it,
//! its turn.

use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_bittorrent_proto::metainfo::{MAX_URL_BYTES, MAX_WEB_SEEDS};
use swarmgate_content::{InfoHash, InfoHashV2, TorrentId};

use crate::pinning::Pin;
use crate::priority::Priority;
use crate::seeding::UploadPolicy;
use crate::selection_text;

/// Trackers kept of one item's record.
const MAX_TRACKERS: usize = 64;
/// Peers kept of one item's record: the latest that were named.
const MAX_PEERS: usize = 32;
/// Bytes that all web seeds of one record may have: a quarter of the 64 KiB that a record may have in the store.
const MAX_WEB_SEED_BYTES: usize = 16 << 10;

/// See the module's head. Those of items that were asked to stay are in the store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(default)]
    pub(crate) trackers: Vec<Vec<String>>,
    /// URLs of HTTP servers that have it (BEP 19), whoever named them; other networks' names for it among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) web_seeds: Vec<String>,
    /// Peers that magnets named (`x.pe`): whenever it becomes active, they are asked first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) peers: Vec<SocketAddr>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Its v2 infohash (BEP 52), where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) v2: Option<InfoHashV2>,
    /// A policy of its own for uploading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<UploadPolicy>,
    /// Bytes of blocks sent and received in all its life, but for what its swarm counts at the moment.
    #[serde(default)]
    pub(crate) uploaded: u64,
    #[serde(default)]
    pub(crate) downloaded: u64,
    /// When it was added to stay, in seconds since 1970.
    #[serde(default)]
    pub(crate) added: u64,
    /// Whether it has a place before or after others that were added to stay.
    #[serde(default, skip_serializing_if = "Priority::is_normal")]
    pub(crate) priority: Priority,
    /// Whether all of it was in the cache when it was last active; of a pinned one, all that is selected.
    #[serde(default)]
    pub(crate) complete: bool,
    /// Whether all of it, or what is selected, is fetched and held in the cache.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pinned: bool,
    /// Which files that is; `None`: all.
    #[serde(default, with = "selection_text", skip_serializing_if = "Option::is_none")]
    pub(crate) select: Option<Selection>,
    /// What its owner sorts it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) labels: Vec<String>,
    /// Whether it is known to be private (BEP 27): strangers' trackers are not for it, while it is not active either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) private: bool,
    /// Whether it asks nobody and serves nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) paused: bool,
    #[serde(skip)]
    pub(crate) kept: bool,
}

impl Record {
    /// Adds what another record knows, as far as there is room.
    pub(crate) fn add(&mut self, other: Self) {
        if other.kept && self.added == 0 {
            self.added = if other.added > 0 { other.added } else { seconds_since_1970() };
        }
        self.kept |= other.kept;
        self.pinned |= other.pinned;
        self.paused |= other.paused;
        self.private |= other.private;
        self.select = self.select.take().or(other.select);
        if self.priority == Priority::default() {
            self.priority = other.priority;
        }
        if self.labels.is_empty() {
            self.labels = other.labels;
        }
        self.v2 = self.v2.or(other.v2);
        self.policy = other.policy.or(self.policy);
        self.complete |= other.complete;
        self.uploaded = self.uploaded.saturating_add(other.uploaded);
        self.downloaded = self.downloaded.saturating_add(other.downloaded);
        self.name = other.name.or_else(|| self.name.take());
        let room = MAX_TRACKERS.saturating_sub(self.trackers.len());
        let new: Vec<_> = other.trackers.into_iter().filter(|tier| !self.trackers.contains(tier)).take(room).collect();
        self.trackers.extend(new);
        other.web_seeds.into_iter().for_each(|url| self.add_web_seed(url));
        self.peers.retain(|peer| !other.peers.contains(peer));
        self.peers.extend(other.peers);
        self.peers.drain(..self.peers.len().saturating_sub(MAX_PEERS));
    }

    /// What of it is fetched and held, if it is pinned.
    pub(crate) fn pin(&self) -> Option<Pin> {
        self.pinned.then(|| Pin { select: self.select.clone() })
    }

    /// The ids of the torrent whose 20 bytes on the wire are `key`.
    pub(crate) fn id(&self, key: InfoHash) -> TorrentId {
        match self.v2 {
            Some(v2) if v2.truncated() == key => TorrentId::V2(v2),
            Some(v2) => TorrentId::Hybrid(key, v2),
            None => TorrentId::V1(key),
        }
    }

    fn add_web_seed(&mut self, url: String) {
        let usable = !url.is_empty() && url.len() <= MAX_URL_BYTES && !url.contains(char::is_control);
        let bytes: usize = self.web_seeds.iter().map(String::len).sum();
        let fits = self.web_seeds.len() < MAX_WEB_SEEDS && bytes + url.len() <= MAX_WEB_SEED_BYTES;
        if usable && fits && !self.web_seeds.contains(&url) {
            self.web_seeds.push(url);
        }
    }
}

fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(urls: impl IntoIterator<Item = String>) -> Record {
        Record { web_seeds: urls.into_iter().collect(), ..Record::default() }
    }

    #[test]
    fn web_seeds_are_kept_once_each_and_within_their_bounds() {
        let mut record = Record::default();
        record.add(named(["http://a/", "", "http://b/\n", "http://a/"].map(str::to_owned)));
        record.add(named(["http://a/".to_owned(), "x".repeat(MAX_URL_BYTES + 1), "ipfs://c/f".to_owned()]));
        assert_eq!(record.web_seeds, ["http://a/", "ipfs://c/f"]);
        record.add(named((0..1000).map(|n| format!("http://{n}/"))));
        assert_eq!(record.web_seeds.len(), MAX_WEB_SEEDS);
        let mut long = Record::default();
        long.add(named((0..100).map(|n| format!("http://{n}/{}", "x".repeat(2000)))));
        assert_eq!(long.web_seeds.len(), 8);
    }

    #[test]
    fn a_record_is_read_back_and_one_from_before_web_seeds_still_reads() {
        let mut record = named(["http://a/".to_owned()]);
        record.trackers = vec![vec!["udp://t:1".to_owned()]];
        let json = serde_json::to_vec(&record).unwrap();
        let read: Record = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.web_seeds, read.trackers), (record.web_seeds, record.trackers));
        let old: Record = serde_json::from_str(r#"{"trackers":[["udp://t:1"]],"name":"n"}"#).unwrap();
        assert_eq!((old.web_seeds.len(), old.name.as_deref(), old.pinned, old.paused), (0, Some("n"), false, false));
        let both = serde_json::to_vec(&Record { pinned: true, paused: true, ..Record::default() }).unwrap();
        let both: Record = serde_json::from_slice(&both).unwrap();
        assert!(both.pinned && both.paused);
    }

    #[test]
    fn what_is_selected_and_the_labels_are_read_back_and_are_not_those_of_another() {
        let old: Record = serde_json::from_str(r#"{"trackers":[],"pinned":true}"#).unwrap();
        assert_eq!((old.pin(), old.labels.len()), (Some(Pin { select: None }), 0), "from before there were such");
        let some = |select: &str| Record {
            select: Some(select.parse().unwrap()),
            labels: vec![select.to_owned()],
            pinned: true,
            ..Record::default()
        };
        let json = serde_json::to_string(&some("0,4-7")).unwrap();
        assert!(json.contains(r#""select":"0,4-7""#), "{json}");
        let mut read = Record::default();
        read.add(serde_json::from_str(&json).unwrap());
        assert_eq!(read.pin(), some("0,4-7").pin());
        read.add(some("1"));
        assert_eq!((read.pin(), read.labels), (some("0,4-7").pin(), vec!["0,4-7".to_owned()]));
        assert!(serde_json::from_str::<Record>(r#"{"select":"x"}"#).is_err());
    }

    #[test]
    fn the_peers_that_were_named_last_are_kept_and_read_back() {
        let peer = |port: u16| SocketAddr::from(([192, 0, 2, 7], port));
        let named = |ports: std::ops::Range<u16>| Record { peers: ports.map(peer).collect(), ..Record::default() };
        let mut record = named(1..4);
        record.add(named(2..3));
        assert_eq!(record.peers, [peer(1), peer(3), peer(2)]);
        record.add(named(10..41));
        assert_eq!((record.peers.len(), record.peers[0], record.peers[31]), (MAX_PEERS, peer(2), peer(40)));
        let read: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!(read.peers, record.peers);
    }

    #[test]
    fn a_priority_is_read_back_and_is_not_taken_away_by_another_record() {
        let json = serde_json::to_string(&Record { priority: Priority::Low, ..Record::default() }).unwrap();
        assert!(json.contains(r#""priority":"low""#), "{json}");
        let mut read = Record::default();
        read.add(serde_json::from_str(&json).unwrap());
        read.add(Record::default());
        assert_eq!(read.priority, Priority::Low);
        assert!(!serde_json::to_string(&Record::default()).unwrap().contains("priority"), "as before there were such");
    }
}
