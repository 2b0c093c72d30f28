//! What survives a restart, as bytes: the nodes known, and the items that are kept with their times.
//!
//! Read as a stranger's: who can write the file can write anything.

use std::time::Duration;

use bytes::Bytes;

use super::item::MAX_SALT_BYTES;
use super::{Contact, Family, Item, MutableItem, NodeId, PublicKey};
use crate::bencode::{DecodeOptions, OwnedValue, decode};
use crate::tracker::compact;

/// Nodes kept: 1000 IPv6 nodes are 38 kB.
const MAX_NODES: usize = 1000;
/// Bytes read of saved tables or of a saved item.
const MAX_BYTES: usize = 64 << 10;
const DECODE: DecodeOptions = DecodeOptions::strict(MAX_BYTES).with_max_nodes(64);

/// The nodes known at some time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SavedTables {
    /// Our ids in the IPv4 and in the IPv6 network.
    pub ids: [Option<NodeId>; 2],
    /// The others.
    pub nodes: Vec<Contact>,
}

/// An item that is put again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptItem {
    /// The item.
    pub item: Item,
    /// The time until it is put next.
    pub due: Duration,
}

impl SavedTables {
    /// Writes them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let packed = |family: Family| {
            let nodes = self.nodes.iter().filter(|contact| Family::of(&contact.address) == family).take(MAX_NODES / 2);
            let bytes = nodes.flat_map(|it| [it.id.as_bytes().to_vec(), compact::encode([it.address])].concat());
            OwnedValue::from(bytes.collect::<Vec<u8>>())
        };
        let id = |family: Family| {
            let id = self.ids[family.index()];
            OwnedValue::from(id.map(|id| id.as_bytes().to_vec()).unwrap_or_default())
        };
        OwnedValue::dict([
            ("id", id(Family::V4)),
            ("id6", id(Family::V6)),
            ("nodes", packed(Family::V4)),
            ("nodes6", packed(Family::V6)),
        ])
        .encode()
    }

    /// Reads them, if they can be read.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let saved = decode(bytes, DECODE).ok()?.as_dict()?;
        let id = |key| saved.bytes(key).and_then(NodeId::from_slice);
        let v4 = saved.bytes("nodes").unwrap_or_default().chunks_exact(26).map(|chunk| chunk.split_at(20));
        let v4 = v4.filter_map(|(id, at)| Some((NodeId::from_slice(id)?, compact::parse_v4(at).next()?)));
        let v6 = saved.bytes("nodes6").unwrap_or_default().chunks_exact(38).map(|chunk| chunk.split_at(20));
        let v6 = v6.filter_map(|(id, at)| Some((NodeId::from_slice(id)?, compact::parse_v6(at).next()?)));
        let nodes = v4.chain(v6).filter(|(_, address)| compact::dialable(address)).take(MAX_NODES);
        let nodes = nodes.map(|(id, address)| Contact { id, address }).collect();
        Some(Self { ids: [id("id"), id("id6")], nodes })
    }
}

impl KeptItem {
    /// Writes it. `unix` is the time of day, in seconds since 1970.
    #[must_use]
    pub fn encode(&self, unix: u64) -> Vec<u8> {
        let due = i64::try_from(unix.saturating_add(self.due.as_secs())).unwrap_or(i64::MAX);
        let mut entries = vec![("due", OwnedValue::Int(due)), ("v", OwnedValue::Raw(self.item.value().clone()))];
        if let Item::Mutable(item) = &self.item {
            entries.push(("k", item.key().as_bytes()[..].into()));
            entries.push(("salt", item.salt().into()));
            entries.push(("seq", OwnedValue::Int(item.seq())));
            entries.push(("sig", item.signature()[..].into()));
        }
        OwnedValue::dict(entries).encode()
    }

    /// Reads it, if it is whole and its signature is right. What was due while nobody ran is due now.
    #[must_use]
    pub fn decode(bytes: &[u8], unix: u64) -> Option<Self> {
        let saved = decode(bytes, DecodeOptions::strict(MAX_BYTES).in_any_key_order()).ok()?.as_dict()?;
        let value = Bytes::copy_from_slice(saved.raw("v")?);
        let due = u64::try_from(saved.int("due")?).ok()?.saturating_sub(unix);
        let item = match saved.bytes("k") {
            None => Item::immutable(value).ok()?,
            Some(key) => {
                let key = PublicKey::new(key.try_into().ok()?);
                let salt = saved.bytes("salt").filter(|salt| salt.len() <= MAX_SALT_BYTES)?;
                let signature = saved.bytes("sig")?.try_into().ok()?;
                Item::Mutable(MutableItem::checked(key, salt, saved.int("seq")?, value, signature).ok()?)
            }
        };
        Some(Self { item, due: Duration::from_secs(due) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    #[test]
    fn tables_are_read_back() {
        let contact = |n: u8, address: &str| Contact { id: NodeId::new([n; 20]), address: address.parse().unwrap() };
        let nodes = vec![contact(1, "1.2.3.4:5"), contact(2, "[2001:db8::1]:6")];
        let saved = SavedTables { ids: [Some(NodeId::new([7; 20])), None], nodes };
        assert_eq!(SavedTables::decode(&saved.encode()), Some(saved));
        assert_eq!(SavedTables::decode(b"de").unwrap(), SavedTables::default());
        assert_eq!(SavedTables::decode(b"x"), None);
    }

    #[test]
    fn large_tables_fit_a_record() {
        let address = SocketAddr::from(([1_u16; 8], 1));
        let nodes = vec![Contact { id: NodeId::new([1; 20]), address }; 5000];
        assert!(SavedTables { nodes, ..SavedTables::default() }.encode().len() < MAX_BYTES);
    }

    #[test]
    fn an_item_is_read_back_with_the_time_that_is_left() {
        let value = Bytes::from_static(b"5:hello");
        let mutable = Item::Mutable(MutableItem::sign(&[1; 32], b"s", 4, value.clone()).unwrap());
        for item in [mutable, Item::immutable(value).unwrap()] {
            let kept = KeptItem { item, due: Duration::from_secs(100) };
            let bytes = kept.encode(1000);
            let after = |unix| KeptItem::decode(&bytes, unix).unwrap().due.as_secs();
            assert_eq!((after(1000), after(1060), after(5000)), (100, 40, 0));
            assert_eq!(KeptItem::decode(&bytes, 1000), Some(kept));
        }
    }

    #[test]
    fn a_forged_item_is_none() {
        let item = MutableItem::sign(&[1; 32], b"", 4, Bytes::from_static(b"i1e")).unwrap();
        let bytes = KeptItem { item: Item::Mutable(item), due: Duration::ZERO }.encode(0);
        let at = bytes.windows(3).position(|it| it == b"i1e").unwrap();
        let mut forged = bytes;
        forged[at + 1] = b'2';
        assert_eq!(KeptItem::decode(&forged, 0), None);
    }
}
