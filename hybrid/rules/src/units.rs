//! How a content is cut into what can be verified by itself: the pieces of a torrent, or the leaves of a DAG.

use std::ops::Range;

use serde::Serialize;
use swarmgate_content::ByteRange;

/// Most units of one content. A torrent of 4 TiB in pieces of 1 MiB has so many; metadata that strangers made choose
/// this number, so we do.
pub const MAX_UNITS: u32 = 1 << 22;

/// The place of a unit in its content, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Unit(pub u32);

/// The units of one content, laid end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(Shape);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// All but the last are as long as each other.
    Equal { total_len: u64, unit_len: u64 },
    /// Each with its own end.
    Cut(Vec<u64>),
}

impl Units {
    /// Cuts `total_len` bytes into units of `unit_len`, the last perhaps shorter. `None` when either is 0, or when that
    /// makes more than [`MAX_UNITS`].
    #[must_use]
    pub fn equal(total_len: u64, unit_len: u64) -> Option<Self> {
        let fits = total_len > 0 && unit_len > 0 && total_len.div_ceil(unit_len) <= u64::from(MAX_UNITS);
        fits.then_some(Self(Shape::Equal { total_len, unit_len }))
    }

    /// Cuts at these ends, in bytes from the start. `None` when they do not ascend, or are none or more than
    /// [`MAX_UNITS`].
    #[must_use]
    pub fn cut(ends: Vec<u64>) -> Option<Self> {
        let ascend = ends.first().is_some_and(|first| *first > 0) && ends.windows(2).all(|two| two[0] < two[1]);
        (ascend && ends.len() <= MAX_UNITS as usize).then_some(Self(Shape::Cut(ends)))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        let count = match &self.0 {
            Shape::Equal { total_len, unit_len } => total_len.div_ceil(*unit_len),
            Shape::Cut(ends) => ends.len() as u64,
        };
        u32::try_from(count).expect("both constructors bound it by MAX_UNITS")
    }

    /// All of them together, in bytes.
    #[must_use]
    pub fn total_len(&self) -> u64 {
        match &self.0 {
            Shape::Equal { total_len, .. } => *total_len,
            Shape::Cut(ends) => ends.last().copied().unwrap_or(0),
        }
    }

    /// The bytes of a unit, or `None` past the last.
    #[must_use]
    pub fn range(&self, unit: Unit) -> Option<ByteRange> {
        let index = unit.0 as usize;
        match &self.0 {
            Shape::Equal { total_len, unit_len } => {
                let start = u64::from(unit.0).checked_mul(*unit_len)?;
                ByteRange::new(start, start.saturating_add(*unit_len).min(*total_len))
            }
            Shape::Cut(ends) => {
                let start = index.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
                ByteRange::new(start, *ends.get(index)?)
            }
        }
    }

    /// The length of a unit in bytes; 0 past the last.
    #[must_use]
    pub fn len_of(&self, unit: Unit) -> u64 {
        self.range(unit).map_or(0, |range| range.len())
    }

    /// The unit that has the byte at `offset`, or `None` past the end.
    #[must_use]
    pub fn at(&self, offset: u64) -> Option<Unit> {
        let index = match &self.0 {
            Shape::Equal { total_len, unit_len } => (offset < *total_len).then(|| offset / unit_len)?,
            Shape::Cut(ends) => ends.partition_point(|end| *end <= offset) as u64,
        };
        u32::try_from(index).ok().filter(|index| *index < self.count()).map(Unit)
    }

    /// The units that have any of these bytes.
    pub fn touching(&self, bytes: &Range<u64>) -> impl Iterator<Item = Unit> + use<> {
        let last = bytes.end.min(self.total_len()).checked_sub(1).filter(|last| *last >= bytes.start);
        let span = last.and_then(|last| Some((self.at(bytes.start)?.0, self.at(last)?.0)));
        span.into_iter().flat_map(|(first, last)| first..=last).map(Unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_that_are_none_are_refused() {
        assert_eq!(Units::equal(0, 5), None);
        assert_eq!(Units::equal(5, 0), None);
        assert_eq!(Units::equal(u64::MAX, 1), None);
        assert_eq!(Units::cut(vec![]), None);
        assert_eq!(Units::cut(vec![0, 5]), None);
        assert_eq!(Units::cut(vec![5, 5]), None);
    }

    proptest! {
        #[test]
        fn every_byte_is_in_the_one_unit_that_says_so(
            lens in proptest::collection::vec(1_u64..50, 1..30), equal: bool
        ) {
            let ends: Vec<u64> = lens.iter().scan(0, |sum, len| { *sum += len; Some(*sum) }).collect();
            let total = *ends.last().unwrap();
            let units = if equal { Units::equal(total, lens[0]) } else { Units::cut(ends) }.unwrap();
            let sum: u64 = (0..units.count()).map(|unit| units.len_of(Unit(unit))).sum();
            prop_assert_eq!(sum, units.total_len());
            for offset in 0..total {
                let range = units.range(units.at(offset).unwrap()).unwrap();
                prop_assert!(range.start() <= offset && offset < range.end());
            }
            prop_assert_eq!(units.at(total), None);
            prop_assert_eq!(units.len_of(Unit(units.count())), 0);
            prop_assert_eq!(units.touching(&(0..total + 9)).count(), units.count() as usize);
            prop_assert_eq!(units.touching(&(total..total + 9)).count(), 0);
            prop_assert_eq!(units.touching(&(0..0)).count(), 0);
        }
    }
}
