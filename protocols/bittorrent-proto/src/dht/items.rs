//! Items that were put here (BEP 44), each for [`LIFE`].
//!
//! Bounded by number, and by what one address may put. When it is full, the items nearest to this node's id are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::krpc::KrpcError;
use super::{Item, NodeId};

/// How long an item is kept that is not put again (BEP 44).
pub(super) const LIFE: Duration = Duration::from_secs(2 * 3600);
/// Items kept, of about 1.2 KiB each at most: 2.4 MiB.
pub(super) const MAX_ITEMS: usize = 2000;
/// Items that one address other than this machine may have put.
pub(super) const MAX_PER_IP: usize = 100;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct ItemStore {
    items: BTreeMap<NodeId, Stored>,
    ends: BTreeSet<(Instant, NodeId)>,
    by_ip: BTreeMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Stored {
    item: Item,
    end: Instant,
    from: IpAddr,
}

impl ItemStore {
    pub(super) fn get(&self, target: &NodeId) -> Option<&Item> {
        self.items.get(target).map(|stored| &stored.item)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Stores an item for `from`, unless what is there is newer, or is not the version `cas` that it is to replace.
    pub(super) fn put(
        &mut self,
        now: Instant,
        own: &NodeId,
        item: Item,
        cas: Option<i64>,
        from: IpAddr,
    ) -> Result<(), KrpcError> {
        self.expire(now);
        let target = item.target();
        if let Some(before) = self.get(&target) {
            if cas.is_some() && cas != before.seq() {
                return Err(KrpcError::item(301, "the item has another sequence number than cas"));
            }
            let same = item == *before;
            if !same && !item.replaces(Some(before)) {
                return Err(KrpcError::item(302, "the item's sequence number is not above the one stored"));
            }
        }
        self.remove(&target);
        if !from.is_loopback() && self.by_ip.get(&from).is_some_and(|used| *used >= MAX_PER_IP) {
            return Err(KrpcError::server("this address has put too many items"));
        }
        if !self.make_room(own, &target) {
            return Err(KrpcError::server("no room for an item so far from this node"));
        }
        let end = now + LIFE;
        self.ends.insert((end, target));
        *self.by_ip.entry(from).or_default() += 1;
        self.items.insert(target, Stored { item, end, from });
        Ok(())
    }

    fn make_room(&mut self, own: &NodeId, target: &NodeId) -> bool {
        if self.items.len() < MAX_ITEMS {
            return true;
        }
        let farthest = self.items.keys().copied().max_by_key(|target| own.distance(target));
        let Some(farthest) = farthest.filter(|it| own.distance(it) > own.distance(target)) else { return false };
        self.remove(&farthest);
        true
    }

    fn remove(&mut self, target: &NodeId) {
        let Some(stored) = self.items.remove(target) else { return };
        self.ends.remove(&(stored.end, *target));
        if let Some(used) = self.by_ip.get_mut(&stored.from) {
            *used -= 1;
            if *used == 0 {
                self.by_ip.remove(&stored.from);
            }
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((end, target)) = self.ends.first().copied()
            && end <= now
        {
            self.remove(&target);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::OwnedValue;
    use crate::dht::MutableItem;
    use crate::testing::start;
    use bytes::Bytes;

    const OWN: NodeId = NodeId::new([0; 20]);
    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 2, 3, 4));

    fn version(seq: i64, value: &'static [u8]) -> Item {
        Item::Mutable(MutableItem::sign(&[1; 32], b"", seq, Bytes::from_static(value)).unwrap())
    }

    fn number(n: i64) -> Item {
        Item::immutable(OwnedValue::Int(n).encode().into()).unwrap()
    }

    #[test]
    fn a_later_version_replaces_and_an_earlier_or_a_second_of_the_same_number_does_not() {
        let (now, mut store) = (start(), ItemStore::default());
        let mut put = |item: Item, cas| store.put(now, &OWN, item, cas, FROM).map_err(|error| error.code);
        assert_eq!(put(version(3, b"i1e"), None), Ok(()));
        assert_eq!(put(version(3, b"i1e"), None), Ok(()), "the same again is a renewal");
        assert_eq!(put(version(3, b"i2e"), None), Err(302));
        assert_eq!(put(version(2, b"i2e"), None), Err(302));
        assert_eq!(put(version(4, b"i2e"), Some(2)), Err(301));
        assert_eq!(put(version(4, b"i2e"), Some(3)), Ok(()));
        assert_eq!(store.get(&version(4, b"i2e").target()), Some(&version(4, b"i2e")));
    }

    #[test]
    fn an_item_ends_two_hours_after_it_was_put_last() {
        let (now, mut store) = (start(), ItemStore::default());
        store.put(now, &OWN, number(1), None, FROM).unwrap();
        store.put(now + LIFE / 2, &OWN, number(1), None, FROM).unwrap();
        store.expire(now + LIFE);
        assert_eq!(store.len(), 1);
        store.expire(now + LIFE * 3 / 2);
        assert_eq!((store.len(), store.ends.len(), store.by_ip.len()), (0, 0, 0));
    }

    #[test]
    fn one_address_cannot_fill_it_and_it_has_an_end() {
        let (now, mut store) = (start(), ItemStore::default());
        let put = (0..500).filter(|n| store.put(now, &OWN, number(*n), None, FROM).is_ok()).count();
        assert_eq!(put, MAX_PER_IP);
        for n in 0..4000_u16 {
            let [high, low] = n.to_be_bytes();
            let _ = store.put(now, &OWN, number(i64::from(n)), None, IpAddr::from([9, 9, high, low]));
        }
        assert_eq!(store.len(), MAX_ITEMS);
    }
}
