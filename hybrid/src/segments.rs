//! Which parts of which files a range of a torrent is made of (BEP 3: files are laid end to end).

use swarmgate_content::{ByteRange, ContentMeta};

/// A part of one file, or of the padding between two (BEP 47).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The file's place in the metainfo.
    pub(crate) file: usize,
    /// The part, counted from the file's start.
    pub(crate) range: ByteRange,
    /// Whether it is padding, which is all zeros.
    pub(crate) padding: bool,
}

/// The parts that `range` is made of, in order. Empty files have none.
pub(crate) fn segments(meta: &ContentMeta, range: ByteRange) -> Vec<Segment> {
    let first = meta.files.partition_point(|file| file.offset + file.len <= range.start());
    let files = meta.files.iter().enumerate().skip(first).take_while(|(_, file)| file.offset < range.end());
    let segment = |(index, file): (usize, &swarmgate_content::FileEntry)| {
        let part = file.range()?.intersect(&range)?;
        let range = ByteRange::new(part.start() - file.offset, part.end() - file.offset)?;
        Some(Segment { file: index, range, padding: file.padding })
    };
    files.filter_map(segment).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use swarmgate_content::{ContentId, FileEntry, InfoHash, PieceHashes, Verification};

    use super::*;

    fn meta(lens: &[u64]) -> ContentMeta {
        let mut offset = 0;
        let file = |(index, len): (usize, &u64)| {
            let entry = FileEntry { path: vec![index.to_string()], len: *len, offset, padding: index % 3 == 2 };
            offset += len;
            entry
        };
        let files: Vec<_> = lens.iter().enumerate().map(file).collect();
        ContentMeta {
            id: ContentId::BtV1(InfoHash::new([1; 20])),
            name: "a".to_owned(),
            total_len: offset,
            files,
            private: false,
            verification: Verification::V1(PieceHashes { piece_len: 16, hashes: bytes::Bytes::new() }),
        }
    }

    proptest! {
        #[test]
        fn every_byte_of_a_range_is_in_one_segment_in_order(
            lens in proptest::collection::vec(0_u64..40, 1..20), start in 0_u64..500, len in 1_u64..200
        ) {
            let meta = meta(&lens);
            let range = ByteRange::new(start, start + len).unwrap();
            let mut at = start;
            for segment in segments(&meta, range) {
                let file = &meta.files[segment.file];
                prop_assert_eq!(file.offset + segment.range.start(), at);
                prop_assert!(segment.range.end() <= file.len);
                prop_assert_eq!(segment.padding, file.padding);
                at += segment.range.len();
            }
            prop_assert_eq!(at, range.end().min(meta.total_len.max(start)));
        }
    }
}
