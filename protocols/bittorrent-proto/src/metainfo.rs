//! Metainfo (BEP 3): what a `.torrent` file says.
//!
//! The infohash is a hash of the exact bytes of `info`, whatever their spelling, so those bytes are kept
//! ([`Metainfo::info_bytes`]) and every other view is derived from them. [`Info`] is what of it the gateway uses.
//!
//! # Which torrents are read?
//! v1, v2 (BEP 52), and hybrids of both, whose halves must have the same files in the same places. A hybrid's pieces are
//! checked by SHA-1, as most of its peers know no other name for them.

mod build;
mod error;
mod hybrid;
mod info;
mod path;
mod related;
mod tree;

use aws_lc_rs::digest;
use bytes::Bytes;
use swarmgate_content::{InfoHash, InfoHashV2, TorrentId};

use crate::bencode::{DecodeOptions, Dict, OwnedValue, Value, decode};

pub use build::{TorrentBuilder, hash_pieces};
pub use error::{MetainfoError, PathProblem};
pub use info::{Info, MAX_CONTENT_BYTES, MAX_FILES, MAX_METADATA_BYTES, MAX_PIECE_BYTES};
pub use path::{MAX_COMPONENT_BYTES, MAX_COMPONENTS, display_text};
pub use related::{MAX_COLLECTIONS, MAX_SIMILAR, Related};
pub use tree::{FileTree, MAX_TREE_PIECES, TreeFile};

/// Longest `.torrent` read, in bytes: 32 MiB, twice the longest `info`, as v2 layers and web seeds come on top.
pub const MAX_TORRENT_BYTES: usize = 32 << 20;
/// Trackers read from one torrent; the rest are dropped. Lists of public trackers run to about 100.
pub const MAX_TRACKERS: usize = 200;
/// Web seeds read from one torrent; the rest are dropped.
pub const MAX_WEB_SEEDS: usize = 100;
/// Longest URL of a tracker or web seed, in bytes; longer ones are dropped.
pub const MAX_URL_BYTES: usize = 2048;
/// Longest comment or creator kept, in characters.
const MAX_TEXT_CHARS: usize = 4096;
/// Values in one `.torrent`: six for each of a million files, and room. A count costs time only, no memory.
const MAX_NODES: usize = 8_000_000;

/// What a `.torrent` file says.
#[derive(Clone)]
pub struct Metainfo {
    /// Its infohashes, of [`Self::info_bytes`].
    pub id: TorrentId,
    /// The 20 bytes by which it goes on the wire: the SHA-1, or of a torrent that is v2 alone the begin of the SHA2-256.
    pub infohash: InfoHash,
    /// The exact bytes of the `info` dictionary.
    pub info_bytes: Bytes,
    /// What they say.
    pub info: Info,
    /// Tracker URLs by tier (BEP 12), best first.
    pub announce: Vec<Vec<String>>,
    /// Web seed URLs (BEP 19).
    pub web_seeds: Vec<String>,
    /// What else is said beside `info` to have some of its files (BEP 38); within it, see [`Info::related`].
    pub related: Related,
    /// Free text, untrusted.
    pub comment: Option<String>,
    /// The program that made it, untrusted.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970, untrusted.
    pub creation_date: Option<i64>,
}

impl Metainfo {
    /// Reads a `.torrent` file.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn parse(bytes: &Bytes) -> Result<Self, MetainfoError> {
        let options = DecodeOptions::strict(MAX_TORRENT_BYTES).in_any_key_order().with_max_nodes(MAX_NODES);
        let top = decode(bytes, options)?
            .as_dict()
            .ok_or(MetainfoError::WrongType { key: "the top level", expected: "a dictionary" })?;
        let raw_info = top.raw("info").ok_or(MetainfoError::Missing { key: "info" })?;
        let mut metainfo = Self::from_info(bytes.slice_ref(raw_info), announce_tiers(top))?;
        if let (Some(tree), Some(layers)) = (&metainfo.info.tree, top.get("piece layers").and_then(|it| it.as_dict()))
            && let Some(roots) = tree.read_layers(layers)?
        {
            metainfo.info.roots = Some(roots);
        }
        metainfo.web_seeds = web_seeds(top);
        metainfo.related = Related::beside_info(top);
        metainfo.comment = text(top, "comment.utf-8").or_else(|| text(top, "comment"));
        metainfo.created_by = text(top, "created by");
        metainfo.creation_date = top.int("creation date");
        Ok(metainfo)
    }

    /// Makes a metainfo of an `info` dictionary that came from peers (BEP 9), and the trackers it was found by.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn from_info(info_bytes: Bytes, announce: Vec<Vec<String>>) -> Result<Self, MetainfoError> {
        let info = Info::parse(&info_bytes)?;
        let id = info.id(&info_bytes);
        Ok(Self {
            id,
            infohash: id.wire(),
            info_bytes,
            info,
            announce,
            web_seeds: Vec::new(),
            related: Related::default(),
            comment: None,
            created_by: None,
            creation_date: None,
        })
    }

    /// Writes a `.torrent` file with the same infohash.
    #[must_use]
    pub fn to_torrent(&self) -> Vec<u8> {
        let mut entries = vec![("info", OwnedValue::Raw(self.info_bytes.clone()))];
        let trackers: Vec<&String> = self.announce.iter().flatten().collect();
        if let Some(first) = trackers.first() {
            entries.push(("announce", first.as_str().into()));
        }
        if trackers.len() > 1 {
            let tiers = self.announce.iter().map(|tier| OwnedValue::list(tier.iter().map(String::as_str)));
            entries.push(("announce-list", OwnedValue::List(tiers.collect())));
        }
        if !self.web_seeds.is_empty() {
            entries.push(("url-list", OwnedValue::list(self.web_seeds.iter().map(String::as_str))));
        }
        if let (Some(tree), Some(roots)) = (&self.info.tree, &self.info.roots) {
            entries.push(("piece layers", tree.write_layers(roots)));
        }
        entries.extend(self.related.entries());
        entries.extend(self.comment.as_deref().map(|comment| ("comment", comment.into())));
        entries.extend(self.created_by.as_deref().map(|by| ("created by", by.into())));
        entries.extend(self.creation_date.map(|date| ("creation date", date.into())));
        OwnedValue::dict(entries).encode()
    }
}

impl std::fmt::Debug for Metainfo {
    /// Leaves out the raw bytes, which may be megabytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metainfo")
            .field("infohash", &self.infohash)
            .field("info", &self.info)
            .field("announce", &self.announce)
            .field("web_seeds", &self.web_seeds)
            .finish_non_exhaustive()
    }
}

/// The v1 infohash of the exact bytes of an `info` dictionary.
#[must_use]
pub fn infohash_of(info_bytes: &[u8]) -> InfoHash {
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, info_bytes);
    InfoHash::from_slice(digest.as_ref()).expect("SHA-1 has 20 bytes")
}

/// The v2 infohash of the exact bytes of an `info` dictionary (BEP 52).
#[must_use]
pub fn infohash_v2_of(info_bytes: &[u8]) -> InfoHashV2 {
    let digest = digest::digest(&digest::SHA256, info_bytes);
    InfoHashV2::new(digest.as_ref().try_into().expect("SHA2-256 has 32 bytes"))
}

/// `announce-list` where it names any tracker, else `announce` (BEP 12).
fn announce_tiers(top: Dict<'_>) -> Vec<Vec<String>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut fresh = |value: Value<'_>| url(value).filter(|url| seen.len() < MAX_TRACKERS && seen.insert(url.clone()));
    let mut tiers: Vec<Vec<String>> = Vec::new();
    for tier in top.get("announce-list").and_then(|value| value.as_list()).iter().flat_map(|list| list.iter()) {
        // Some writers flatten the list: then each tracker is a tier of its own.
        let urls: Vec<String> = match tier {
            Value::List(urls) => urls.iter().filter_map(&mut fresh).collect(),
            Value::Bytes(_) => fresh(tier).into_iter().collect(),
            Value::Int(_) | Value::Dict(_) => continue,
        };
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if tiers.is_empty() {
        tiers.extend(top.get("announce").and_then(fresh).map(|url| vec![url]));
    }
    tiers
}

fn web_seeds(top: Dict<'_>) -> Vec<String> {
    match top.get("url-list") {
        Some(Value::List(urls)) => urls.iter().filter_map(url).take(MAX_WEB_SEEDS).collect(),
        Some(single @ Value::Bytes(_)) => url(single).into_iter().collect(),
        Some(Value::Int(_) | Value::Dict(_)) | None => Vec::new(),
    }
}

fn url(value: Value<'_>) -> Option<String> {
    let url = value.as_str()?.trim();
    let usable = !url.is_empty() && url.len() <= MAX_URL_BYTES && !url.contains(char::is_control);
    usable.then(|| url.to_owned())
}

fn text(top: Dict<'_>, key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(top.bytes(key)?);
    Some(display_text(&text, MAX_TEXT_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn torrent(top: &str, info: &str) -> Bytes {
        Bytes::from(format!("d{top}4:infod{info}ee"))
    }

    const INFO: &str = "6:lengthi3e4:name5:a.bin12:piece lengthi2e6:pieces40:0123456789012345678901234567890123456789";

    #[test]
    fn the_infohash_is_that_of_the_exact_bytes_in_whatever_order_they_are() {
        let unsorted = "4:name5:a.bin6:lengthi3e12:piece lengthi2e6:pieces40:0123456789012345678901234567890123456789";
        let (sorted, unsorted) =
            (Metainfo::parse(&torrent("", INFO)).unwrap(), Metainfo::parse(&torrent("", unsorted)).unwrap());
        assert_eq!(sorted.infohash, infohash_of(format!("d{INFO}e").as_bytes()));
        assert_eq!(&sorted.info_bytes[..], format!("d{INFO}e").as_bytes());
        assert_ne!(sorted.infohash, unsorted.infohash);
        assert_eq!(sorted.info.files, unsorted.info.files);
    }

    #[test]
    fn announce_list_wins_over_announce_and_empty_tiers_vanish() {
        let one = "8:announce12:http://one/a";
        assert_eq!(Metainfo::parse(&torrent(one, INFO)).unwrap().announce, [["http://one/a"]]);
        let both = format!("{one}13:announce-listll12:http://two/a1: elel11:udp://t:1/a12:http://two/aee");
        let tiers = Metainfo::parse(&torrent(&both, INFO)).unwrap().announce;
        assert_eq!(tiers, [["http://two/a"], ["udp://t:1/a"]]);
        let empty = format!("{one}13:announce-listllee");
        assert_eq!(Metainfo::parse(&torrent(&empty, INFO)).unwrap().announce, [["http://one/a"]]);
    }

    #[test]
    fn web_seeds_come_alone_or_in_a_list() {
        let alone = Metainfo::parse(&torrent("8:url-list10:http://w/1", INFO)).unwrap();
        assert_eq!(alone.web_seeds, ["http://w/1"]);
        let listed = Metainfo::parse(&torrent("8:url-listl10:http://w/110:http://w/2e", INFO)).unwrap();
        assert_eq!(listed.web_seeds, ["http://w/1", "http://w/2"]);
    }

    #[test]
    fn a_torrent_written_again_has_the_same_infohash_and_says_the_same() {
        let top = "13:announce-listll12:http://two/ael11:udp://t:1/aee7:comment2:hi10:created by1:x13:creation datei7e8:url-list10:http://w/1";
        let first = Metainfo::parse(&torrent(top, INFO)).unwrap();
        let again = Metainfo::parse(&Bytes::from(first.to_torrent())).unwrap();
        assert_eq!((again.infohash, &again.announce), (first.infohash, &first.announce));
        assert_eq!((again.web_seeds, again.comment), (first.web_seeds, first.comment));
        assert_eq!((again.created_by.as_deref(), again.creation_date), (Some("x"), Some(7)));
    }

    #[test]
    fn a_torrent_without_info_says_so() {
        let error = Metainfo::parse(&Bytes::from_static(b"d8:announce1:xe")).unwrap_err();
        assert_eq!(error.to_string(), "`info` is missing");
        let error = Metainfo::parse(&Bytes::from_static(b"<html>")).unwrap_err();
        assert_eq!(error.to_string(), "not bencode: byte 0: found '<' where a value should be");
    }

    proptest! {
        #[test]
        fn arbitrary_info_never_panics(
            length in any::<i64>(), piece in any::<i64>(), pieces in 0..100usize, name in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let info = OwnedValue::dict([
                ("length", length.into()), ("piece length", piece.into()), ("name", name.into()), ("pieces", vec![0_u8; pieces].into()),
            ]);
            let _ = Info::parse(&Bytes::from(info.encode()));
        }

        #[test]
        fn one_changed_byte_never_panics(at: prop::sample::Index, byte: u8) {
            let mut bytes = torrent("13:announce-listll12:http://two/aee", INFO).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Metainfo::parse(&Bytes::from(bytes));
        }
    }
}
