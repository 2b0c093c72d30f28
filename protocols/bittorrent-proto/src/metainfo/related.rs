//! Which torrents are said to have files of this one too (BEP 38): hints of whoever made it, untrusted.
//!
//! Nothing rests on them here: pieces that torrents share are found by their names, whatever is said of them. They are
//! kept for people, and for whoever copies the torrent.

use swarmgate_content::InfoHash;

use super::display_text;
use crate::bencode::{Dict, OwnedValue, Value};

/// Similar torrents kept of one dictionary; the rest are dropped.
pub const MAX_SIMILAR: usize = 100;
/// Collections kept of one dictionary; the rest are dropped.
pub const MAX_COLLECTIONS: usize = 100;
/// Longest name of a collection kept, in characters.
const MAX_COLLECTION_CHARS: usize = 255;

/// See the module's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Related {
    /// Torrents that are said to have some of the same files.
    pub similar: Vec<InfoHash>,
    /// Groups of torrents, by names that their makers agreed on; members may have some of the same files.
    pub collections: Vec<String>,
}

impl Related {
    /// Reads `similar` and `collections`. What is none is left out.
    pub(super) fn of(similar: Option<Value<'_>>, collections: Option<Value<'_>>) -> Self {
        let infohash = |value: Value<'_>| InfoHash::from_slice(value.as_bytes()?);
        let name = |value: Value<'_>| {
            let name = display_text(value.as_str()?, MAX_COLLECTION_CHARS);
            (!name.is_empty()).then_some(name)
        };
        Self { similar: some(similar, MAX_SIMILAR, infohash), collections: some(collections, MAX_COLLECTIONS, name) }
    }

    /// The same of a `.torrent`, where they may stand beside `info`.
    pub(super) fn beside_info(top: Dict<'_>) -> Self {
        Self::of(top.get("similar"), top.get("collections"))
    }

    /// The entries of a dictionary that says this.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'static str, OwnedValue)> + '_ {
        let similar = self.similar.iter().map(|infohash| infohash.as_bytes().to_vec().into());
        let collections = self.collections.iter().map(|name| name.as_str().into());
        let lists = [("similar", similar.collect::<Vec<_>>()), ("collections", collections.collect())];
        lists.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, OwnedValue::List(list)))
    }
}

fn some<T>(list: Option<Value<'_>>, max: usize, read: impl Fn(Value<'_>) -> Option<T>) -> Vec<T> {
    let list = list.and_then(|list| list.as_list());
    list.iter().flat_map(|list| list.iter()).filter_map(read).take(max).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::metainfo::Metainfo;

    fn torrent(top: Vec<(&str, OwnedValue)>, info: Vec<(&str, OwnedValue)>) -> Metainfo {
        let mut all = vec![
            ("length", 3.into()),
            ("name", "n".into()),
            ("piece length", 4.into()),
            ("pieces", vec![7; 20].into()),
        ];
        all.extend(info);
        let mut outer = vec![("info", OwnedValue::dict(all))];
        outer.extend(top);
        Metainfo::parse(&Bytes::from(OwnedValue::dict(outer).encode())).unwrap()
    }

    fn infohashes(count: usize) -> OwnedValue {
        OwnedValue::list((0..count).map(|n| vec![u8::try_from(n % 256).unwrap(); 20]))
    }

    #[test]
    fn relatives_are_read_in_info_and_beside_it_and_written_again() {
        let metainfo = torrent(
            vec![("similar", infohashes(2)), ("collections", OwnedValue::list(["seasons"]))],
            vec![("similar", infohashes(1)), ("collections", OwnedValue::list(["films", "films 2"]))],
        );
        assert_eq!(metainfo.info.related.similar, [InfoHash::new([0; 20])]);
        assert_eq!(metainfo.info.related.collections, ["films", "films 2"]);
        assert_eq!(metainfo.related.similar, [InfoHash::new([0; 20]), InfoHash::new([1; 20])]);
        assert_eq!(metainfo.related.collections, ["seasons"]);
        let again = Metainfo::parse(&Bytes::from(metainfo.to_torrent())).unwrap();
        assert_eq!((&again.related, &again.info.related), (&metainfo.related, &metainfo.info.related));
        assert_eq!(again.infohash, metainfo.infohash);
    }

    #[test]
    fn what_is_no_relative_is_left_out_and_no_list_is_longer_than_its_bound() {
        let odd = OwnedValue::List(vec![vec![1; 19].into(), 7.into(), vec![2; 32].into(), vec![3; 20].into()]);
        let names = OwnedValue::list((0..150).map(|n| format!("{}{n}", "x".repeat(n * 4))));
        let metainfo = torrent(vec![("similar", infohashes(150))], vec![("similar", odd), ("collections", names)]);
        assert_eq!(metainfo.info.related.similar, [InfoHash::new([3; 20])]);
        assert_eq!(metainfo.related.similar.len(), MAX_SIMILAR);
        let names = &metainfo.info.related.collections;
        let longest = names.iter().map(|name| name.chars().count()).max();
        assert!(names.len() == MAX_COLLECTIONS && longest <= Some(MAX_COLLECTION_CHARS), "{longest:?}");
        let none = torrent(vec![("similar", "text".into())], vec![("collections", 1.into())]);
        assert_eq!((none.related, none.info.related), (Related::default(), Related::default()));
    }
}
