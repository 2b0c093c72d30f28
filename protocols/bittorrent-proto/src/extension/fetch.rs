//! Fetches the metadata from one peer (BEP 9).
//!
//! # Why one fetch a peer?
//! Only the whole has a hash. Pieces mixed from several peers that then fail tell nobody who lied; the pieces of one
//! peer do. So each peer asked gets a fetch of its own, and the first that verifies wins.

use bytes::{Bytes, BytesMut};
use swarmgate_content::{BlockHash, HashMismatch, TorrentId, VerifiedBytes};

use super::METADATA_PIECE_LEN;
use crate::metainfo::MAX_METADATA_BYTES;

/// Requests to one peer that wait for an answer: 256 KiB, which is most metadata at once and no flood.
pub const MAX_OUTSTANDING: usize = 16;

/// The metadata, as far as one peer has sent it.
#[derive(Debug)]
pub struct MetadataFetch {
    id: TorrentId,
    size: u32,
    pieces: Vec<Option<Bytes>>,
    /// Pieces below this were asked for.
    asked: usize,
    received: usize,
    failed: bool,
}

/// Why a peer cannot give the metadata. All but [`Self::Unrequested`] end its fetch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The size it claims is none that metadata has.
    #[error("the peer claims {size} bytes of metadata, not 1 to {max}")]
    Size {
        /// The claim.
        size: u32,
        /// The most we accept.
        max: usize,
    },
    /// It contradicts itself.
    #[error("the peer claimed {before} bytes of metadata and now {now}")]
    SizeChanged {
        /// The first claim.
        before: u32,
        /// The second.
        now: u32,
    },
    /// It sent or refused a piece that was not asked for.
    #[error("the peer answered for metadata piece {0}, which was not asked for")]
    Unrequested(u32),
    /// A piece has the wrong length.
    #[error("metadata piece {piece} has {len} bytes, not {want}")]
    Length {
        /// Which piece.
        piece: u32,
        /// Its length.
        len: usize,
        /// The length it should have.
        want: usize,
    },
    /// It refuses.
    #[error("the peer refuses to send metadata piece {0}")]
    Rejected(u32),
    /// Everything came, and it is not what the infohash names.
    #[error("the peer's metadata is false: {0}")]
    Mismatch(#[from] HashMismatch),
}

impl MetadataFetch {
    /// Begins to fetch from a peer that claims `size` bytes of metadata.
    ///
    /// # Errors
    /// When no metadata has such a size.
    pub fn new(id: impl Into<TorrentId>, size: u32) -> Result<Self, MetadataError> {
        let count = usize::try_from(size).ok().filter(|size| (1..=MAX_METADATA_BYTES).contains(size));
        let count = count.ok_or(MetadataError::Size { size, max: MAX_METADATA_BYTES })?.div_ceil(METADATA_PIECE_LEN);
        Ok(Self { id: id.into(), size, pieces: vec![None; count], asked: 0, received: 0, failed: false })
    }

    /// The next piece to ask the peer for, while fewer than [`MAX_OUTSTANDING`] wait.
    pub fn poll_request(&mut self) -> Option<u32> {
        let open = self.asked - self.received < MAX_OUTSTANDING && self.asked < self.pieces.len() && !self.failed;
        let piece = u32::try_from(self.asked).ok().filter(|_| open)?;
        self.asked += 1;
        Some(piece)
    }

    /// Whether the peer owes an answer.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.asked > self.received && !self.failed
    }

    /// Takes in a piece; with the last one, gives the whole, which is verified.
    ///
    /// # Errors
    /// When the peer answers amiss or, at the end, has lied.
    pub fn on_data(
        &mut self,
        piece: u32,
        total_size: u32,
        data: Bytes,
    ) -> Result<Option<VerifiedBytes>, MetadataError> {
        let index = self.awaited(piece)?;
        let want = self.len_of(index);
        if total_size != self.size {
            return self.fail(MetadataError::SizeChanged { before: self.size, now: total_size });
        }
        if data.len() != want {
            return self.fail(MetadataError::Length { piece, len: data.len(), want });
        }
        self.pieces[index] = Some(data);
        self.received += 1;
        if self.received < self.pieces.len() {
            return Ok(None);
        }
        let whole = self.pieces.iter().flatten().fold(BytesMut::new(), |mut whole, piece| {
            whole.extend_from_slice(piece);
            whole
        });
        match VerifiedBytes::check(&BlockHash::from(self.id), whole.freeze()) {
            Ok(info) => Ok(Some(info)),
            Err(mismatch) => self.fail(mismatch.into()),
        }
    }

    /// Takes in a refusal, which ends the fetch: BEP 9 sends it for what the peer has not, or to stop a flood.
    ///
    /// # Errors
    /// Always: [`MetadataError::Rejected`], or that the piece was not asked for.
    pub fn on_reject(&mut self, piece: u32) -> Result<(), MetadataError> {
        self.awaited(piece)?;
        self.fail(MetadataError::Rejected(piece))
    }

    fn awaited(&self, piece: u32) -> Result<usize, MetadataError> {
        let index = usize::try_from(piece).ok().filter(|&index| index < self.asked && !self.failed);
        index.filter(|&index| self.pieces[index].is_none()).ok_or(MetadataError::Unrequested(piece))
    }

    fn len_of(&self, index: usize) -> usize {
        let size = usize::try_from(self.size).expect("the constructor made it a usize");
        METADATA_PIECE_LEN.min(size - index * METADATA_PIECE_LEN)
    }

    /// Ends the fetch and frees what was kept.
    fn fail<T>(&mut self, error: MetadataError) -> Result<T, MetadataError> {
        self.failed = true;
        self.pieces.fill(None);
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extension::MetadataMessage;
    use crate::metainfo::infohash_of;
    use proptest::prelude::*;

    fn info(len: usize) -> (Bytes, MetadataFetch) {
        let info: Bytes = (0..len).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect();
        let fetch = MetadataFetch::new(infohash_of(&info), u32::try_from(len).unwrap()).unwrap();
        (info, fetch)
    }

    fn answer(fetch: &mut MetadataFetch, info: &Bytes, piece: u32) -> Result<Option<VerifiedBytes>, MetadataError> {
        let MetadataMessage::Data { piece, total_size, data } = MetadataMessage::answer(info, piece) else {
            return fetch.on_reject(piece).map(|()| None);
        };
        fetch.on_data(piece, total_size, data)
    }

    #[test]
    fn sixteen_pieces_are_asked_for_at_once_and_one_more_for_each_that_comes() {
        let (info, mut fetch) = info(20 * METADATA_PIECE_LEN);
        let asked: Vec<_> = std::iter::from_fn(|| fetch.poll_request()).collect();
        assert_eq!(asked, (0..16).collect::<Vec<_>>());
        assert!(fetch.is_waiting());
        assert_eq!(answer(&mut fetch, &info, 5), Ok(None));
        assert_eq!((fetch.poll_request(), fetch.poll_request()), (Some(16), None));
    }

    #[test]
    fn a_peer_that_lied_is_found_out_at_the_end_and_its_bytes_are_dropped() {
        let (info, mut fetch) = info(METADATA_PIECE_LEN + 5);
        while fetch.poll_request().is_some() {}
        assert_eq!(fetch.on_data(1, 16_389, Bytes::from_static(b"false")), Ok(None));
        assert!(matches!(answer(&mut fetch, &info, 0), Err(MetadataError::Mismatch(_))));
        assert_eq!(fetch.poll_request(), None);
        assert!(!fetch.is_waiting());
    }

    #[test]
    fn absurd_sizes_are_refused_before_anything_is_asked() {
        for size in [0, (16 << 20) + 1, u32::MAX] {
            assert!(matches!(
                MetadataFetch::new(swarmgate_content::InfoHash::new([0; 20]), size),
                Err(MetadataError::Size { .. })
            ));
        }
    }

    #[test]
    fn an_answer_amiss_says_what_is_wrong() {
        let fresh = || {
            let (info, mut fetch) = info(100);
            assert_eq!(fetch.poll_request(), Some(0));
            (info, fetch)
        };
        let (info, mut fetch) = fresh();
        assert_eq!(fetch.on_data(1, 100, info.clone()), Err(MetadataError::Unrequested(1)));
        assert_eq!(fetch.on_data(0, 101, info.clone()), Err(MetadataError::SizeChanged { before: 100, now: 101 }));
        assert_eq!(fetch.on_data(0, 100, info.clone()), Err(MetadataError::Unrequested(0)), "the fetch has ended");
        let (info, mut fetch) = fresh();
        assert_eq!(fetch.on_data(0, 100, info.slice(1..)), Err(MetadataError::Length { piece: 0, len: 99, want: 100 }));
        let (_, mut fetch) = fresh();
        assert_eq!(fetch.on_reject(0), Err(MetadataError::Rejected(0)));
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_make_the_whole(len in 1..100_000usize, picks in proptest::collection::vec(any::<prop::sample::Index>(), 8)) {
            let (info, mut fetch) = info(len);
            let mut waiting = Vec::new();
            for pick in picks.iter().cycle() {
                waiting.extend(std::iter::from_fn(|| fetch.poll_request()));
                let piece = waiting.swap_remove(pick.index(waiting.len()));
                if let Some(whole) = answer(&mut fetch, &info, piece).unwrap() {
                    prop_assert_eq!(whole.as_ref(), &info[..]);
                    break;
                }
            }
            prop_assert!(!fetch.is_waiting());
        }
    }
}
