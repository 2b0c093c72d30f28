//! Which pieces somebody has: one bit a piece, most significant first, as on the wire (BEP 3).

use bytes::Bytes;

use crate::wire::PieceIndex;

/// A fixed-length set of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

/// A bitfield message does not fit the torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    /// Too short or too long.
    #[error("a bitfield of {got} bytes for {pieces} pieces")]
    Length {
        /// Bytes received.
        got: usize,
        /// Pieces in the torrent.
        pieces: u32,
    },
    /// A bit past the last piece is set.
    #[error("a bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// No pieces of `len`.
    #[must_use]
    pub fn none(len: u32) -> Self {
        Self { bytes: vec![0; len.div_ceil(8) as usize], len, ones: 0 }
    }

    /// All pieces of `len`.
    #[must_use]
    pub fn all(len: u32) -> Self {
        let mut all = Self { bytes: vec![0xff; len.div_ceil(8) as usize], len, ones: len };
        if !len.is_multiple_of(8)
            && let Some(last) = all.bytes.last_mut()
        {
            *last = 0xff << (8 - len % 8);
        }
        all
    }

    /// Reads the payload of a bitfield message for a torrent of `len` pieces.
    ///
    /// # Errors
    /// When its length is wrong or spare bits are set.
    pub fn from_wire(bytes: &[u8], len: u32) -> Result<Self, BitfieldError> {
        if bytes.len() != len.div_ceil(8) as usize {
            return Err(BitfieldError::Length { got: bytes.len(), pieces: len });
        }
        let spare = match (len % 8, bytes.last()) {
            (0, _) | (_, None) => 0,
            (used, Some(last)) => last & (0xff >> used),
        };
        if spare != 0 {
            return Err(BitfieldError::SpareBits);
        }
        Ok(Self { bytes: bytes.to_vec(), len, ones: bytes.iter().map(|byte| byte.count_ones()).sum() })
    }

    /// The payload of a bitfield message.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        Bytes::copy_from_slice(&self.bytes)
    }

    /// Whether `piece` is in the set; false past the end.
    #[must_use]
    pub fn get(&self, piece: PieceIndex) -> bool {
        let byte = self.bytes.get((piece.0 / 8) as usize);
        byte.is_some_and(|byte| byte & (0x80 >> (piece.0 % 8)) != 0)
    }

    /// Puts `piece` in or out of the set and tells whether that changed it; past the end nothing happens.
    pub fn set(&mut self, piece: PieceIndex, member: bool) -> bool {
        if piece.0 >= self.len || self.get(piece) == member {
            return false;
        }
        self.bytes[(piece.0 / 8) as usize] ^= 0x80 >> (piece.0 % 8);
        if member {
            self.ones += 1;
        } else {
            self.ones -= 1;
        }
        true
    }

    /// How many pieces the torrent has.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "`count` tells how many are set; a torrent has pieces")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many pieces are in the set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.ones == self.len
    }

    /// A piece that is in both sets: the first at or after `from`, else the first of all, give or take the seven next
    /// to `from`. Eight are compared at a time.
    pub(crate) fn common(&self, other: &Self, from: PieceIndex) -> Option<PieceIndex> {
        let start = ((from.0 / 8) as usize).min(self.bytes.len());
        let both = |at: usize| self.bytes[at] & other.bytes.get(at).copied().unwrap_or(0);
        let at = (start..self.bytes.len()).chain(0..start).find(|at| both(*at) != 0)?;
        u32::try_from(at).ok().map(|byte| PieceIndex(byte * 8 + both(at).leading_zeros()))
    }

    /// The pieces in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        (0..self.len).map(PieceIndex).filter(|piece| self.get(*piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spare_bits_and_wrong_lengths_are_refused() {
        assert_eq!(Bitfield::from_wire(&[0xff, 0xc0], 10).unwrap(), Bitfield::all(10));
        assert_eq!(Bitfield::from_wire(&[0xff, 0xe0], 10), Err(BitfieldError::SpareBits));
        assert_eq!(Bitfield::from_wire(&[0xff], 10), Err(BitfieldError::Length { got: 1, pieces: 10 }));
    }

    proptest! {
        #[test]
        fn a_bitfield_is_a_set_of_pieces(len in 1..200u32, members in proptest::collection::vec((0..200u32, any::<bool>()), 0..100)) {
            let mut field = Bitfield::none(len);
            let mut model = std::collections::BTreeSet::new();
            for (piece, member) in members {
                let changed = field.set(PieceIndex(piece), member);
                let expected = piece < len && if member { model.insert(piece) } else { model.remove(&piece) };
                prop_assert_eq!(changed, expected);
            }
            prop_assert_eq!(field.iter().map(|piece| piece.0).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(field.count() as usize, model.len());
            let common = |other: &Bitfield| (0..len).map(|from| field.common(other, PieceIndex(from))).collect::<Vec<_>>();
            prop_assert!(common(&Bitfield::all(len)).iter().all(|it| it.map_or(model.is_empty(), |it| model.contains(&it.0))));
            prop_assert!(model.iter().all(|it| field.common(&field, PieceIndex(*it)).is_some_and(|found| found.0 / 8 == it / 8)));
            prop_assert!(common(&Bitfield::none(len)).iter().all(Option::is_none));
            prop_assert_eq!(&Bitfield::from_wire(&field.to_wire(), len).unwrap(), &field);
        }
    }
}
