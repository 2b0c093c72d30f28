//! Which pieces lie in which files, and what is to be read. Pure.

use std::ops::Range;

use swarmgate_bittorrent_proto::merkle::height;

use super::TorrentKind;

/// The files of a torrent one behind the other, cut into pieces. In a hybrid each file begins a piece, and what is
/// between the end of one and the begin of the next is padding.
#[derive(Debug)]
pub(super) struct Layout {
    piece_len: u32,
    kind: TorrentKind,
    /// Where each file lies. One without bytes lies where the next one begins.
    files: Vec<Range<u64>>,
    /// Where the last byte ends.
    end: u64,
}

/// A part of a file that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) file: usize,
    pub(super) range: Range<u64>,
    /// All of it, to make its DAG; else a piece that goes over its edge is all that is wanted.
    pub(super) whole: bool,
}

impl Layout {
    pub(super) fn new(kind: TorrentKind, piece_len: u32, lens: impl Iterator<Item = u64>) -> Self {
        let mut layout = Self { piece_len, kind, files: Vec::new(), end: 0 };
        for len in lens {
            let start = match kind {
                TorrentKind::V1 => layout.end,
                TorrentKind::Hybrid => layout.end.checked_next_multiple_of(layout.len()).unwrap_or(u64::MAX),
            };
            let end = start.saturating_add(len);
            layout.files.push(start..end);
            if len > 0 {
                layout.end = end;
            }
        }
        layout
    }

    pub(super) const fn piece_len(&self) -> u32 {
        self.piece_len
    }

    pub(super) const fn kind(&self) -> TorrentKind {
        self.kind
    }

    /// How many pieces there are.
    pub(super) fn pieces(&self) -> usize {
        number(self.end.div_ceil(self.len()))
    }

    /// Where a file lies in the content.
    pub(super) fn range_of(&self, file: usize) -> Range<u64> {
        self.files[file].clone()
    }

    pub(super) fn len_of(&self, file: usize) -> u64 {
        let range = self.range_of(file);
        range.end - range.start
    }

    /// Whether the content ends with this file.
    pub(super) fn ends_with(&self, file: usize) -> bool {
        self.range_of(file).end >= self.end
    }

    /// Which piece a byte of the content is in.
    pub(super) fn piece_at(&self, offset: u64) -> usize {
        number(offset / self.len())
    }

    /// Where a piece lies in the content.
    pub(super) fn range_of_piece(&self, piece: usize) -> Range<u64> {
        let start = piece as u64 * self.len();
        start..start.saturating_add(self.len()).min(self.end)
    }

    /// What of a piece is in files; the rest is padding.
    pub(super) fn bytes_of_piece(&self, piece: usize) -> Range<u64> {
        let range = self.range_of_piece(piece);
        let last = self.files_of(piece).next_back().map_or(range.end, |file| self.files[file].end);
        range.start..range.end.min(last)
    }

    /// The files that a piece lies in; empty ones between them too. The last has bytes in it.
    pub(super) fn files_of(&self, piece: usize) -> Range<usize> {
        let range = self.range_of_piece(piece);
        let first = self.files.partition_point(|file| file.end <= range.start);
        first..self.files.partition_point(|file| file.start < range.end)
    }

    /// How many layers a piece's root is above its leaves (BEP 52): all pieces of a file with several are alike, one that
    /// is alone is as its file.
    pub(super) fn layers_of_piece(&self, piece: usize) -> u32 {
        let file = self.files_of(piece).start;
        let several = self.files.get(file).is_some_and(|file| file.end - file.start > self.len());
        if several { height(self.len()) } else { 0 }
    }

    /// The pieces whose last byte is in a file.
    pub(super) fn pieces_ending_in(&self, file: usize) -> Range<usize> {
        let range = self.range_of(file);
        if range.is_empty() {
            return 0..0;
        }
        let last_too = self.kind == TorrentKind::Hybrid || self.ends_with(file);
        let end = if last_too { number(range.end.div_ceil(self.len())) } else { self.piece_at(range.end) };
        self.piece_at(range.start)..end
    }

    /// What is to be read, in order: all of the files that are not kept, and of the others the parts in pieces that are
    /// not there.
    pub(super) fn steps(&self, kept: &[bool], has: impl Fn(usize) -> bool) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for (file, kept) in kept.iter().enumerate() {
            let all = self.range_of(file);
            if !kept {
                steps.push(Step { file, range: 0..all.end - all.start, whole: true });
                continue;
            }
            if all.is_empty() {
                continue;
            }
            for piece in (self.piece_at(all.start)..=self.piece_at(all.end - 1)).filter(|piece| !has(*piece)) {
                let piece = self.range_of_piece(piece);
                let range = piece.start.max(all.start) - all.start..piece.end.min(all.end) - all.start;
                match steps.last_mut() {
                    Some(last) if last.file == file && last.range.end == range.start => last.range.end = range.end,
                    Some(_) | None => steps.push(Step { file, range, whole: false }),
                }
            }
        }
        steps
    }

    fn len(&self) -> u64 {
        u64::from(self.piece_len.max(1))
    }
}

/// A torrent has far fewer pieces than memory has bytes.
fn number(piece: u64) -> usize {
    usize::try_from(piece).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of 4: aabb bbbb bc|dd d.
    fn layout() -> Layout {
        Layout::new(TorrentKind::V1, 4, [2, 7, 0, 1, 3].into_iter())
    }

    /// The same as a hybrid, aa.. bbbb bbb. d... eee, and an empty file behind it.
    fn hybrid() -> Layout {
        Layout::new(TorrentKind::Hybrid, 4, [2, 7, 0, 1, 3, 0].into_iter())
    }

    #[test]
    fn each_piece_knows_its_files_and_ends_in_one() {
        let layout = layout();
        assert_eq!((layout.end, layout.pieces()), (13, 4));
        let files: Vec<_> = (0..4).map(|piece| layout.files_of(piece)).collect();
        assert_eq!(files, [0..2, 1..2, 1..5, 4..5]);
        let ends: Vec<_> = (0..5).map(|file| layout.pieces_ending_in(file)).collect();
        assert_eq!(ends, [0..0, 0..2, 0..0, 2..2, 2..4]);
        let aligned = Layout::new(TorrentKind::V1, 4, [4, 4, 0].into_iter());
        assert_eq!([0, 1, 2].map(|file| aligned.pieces_ending_in(file)), [0..1, 1..2, 0..0]);
        assert_eq!([0, 1].map(|piece| aligned.files_of(piece)), [0..1, 1..2]);
    }

    #[test]
    fn in_a_hybrid_each_piece_is_of_one_file_and_ends_in_it() {
        let layout = hybrid();
        assert_eq!((layout.end, layout.pieces()), (19, 5));
        let files: Vec<_> = (0..5).map(|piece| layout.files_of(piece)).collect();
        assert_eq!(files, [0..1, 1..2, 1..2, 3..4, 4..5]);
        let ends: Vec<_> = (0..6).map(|file| layout.pieces_ending_in(file)).collect();
        assert_eq!(ends, [0..1, 1..3, 0..0, 3..4, 4..5, 0..0]);
        let bytes: Vec<_> = (0..5).map(|piece| layout.bytes_of_piece(piece)).collect();
        assert_eq!(bytes, [0..2, 4..8, 8..11, 12..13, 16..19]);
        assert_eq!((layout.range_of_piece(2), layout.range_of_piece(4)), (8..12, 16..19), "none behind the last");
        assert_eq!([0, 3, 4, 5].map(|file| layout.ends_with(file)), [false, false, true, true]);
    }

    #[test]
    fn the_root_of_a_piece_is_as_high_as_its_files_have_it() {
        let len = 64 << 10;
        let layout = Layout::new(TorrentKind::Hybrid, len, [1, 65_536, 65_537].into_iter());
        assert_eq!((0..4).map(|piece| layout.layers_of_piece(piece)).collect::<Vec<_>>(), [0, 0, 2, 2]);
    }

    #[test]
    fn of_a_hybrid_only_pieces_that_are_not_there_are_read_again() {
        let layout = hybrid();
        let kept = [true, true, true, false, true, true];
        let part = |file, range| Step { file, range, whole: false };
        let steps = layout.steps(&kept, |piece| !matches!(piece, 2 | 3));
        assert_eq!(steps, [part(1, 4..7), Step { file: 3, range: 0..1, whole: true }]);
    }

    #[test]
    fn all_is_read_the_first_time_and_nothing_when_all_is_there() {
        let layout = layout();
        let steps = layout.steps(&[false; 5], |_| false);
        assert!(steps.iter().all(|step| step.whole));
        let lens: Vec<_> = steps.iter().map(|step| step.range.end).collect();
        assert_eq!(lens, [2, 7, 0, 1, 3]);
        assert_eq!(layout.steps(&[true; 5], |_| true), []);
    }

    #[test]
    fn of_a_file_that_is_done_what_its_neighbours_pieces_need_is_read_again() {
        let layout = layout();
        let part = |file, range| Step { file, range, whole: false };
        // The third file with bytes is to be read, so the piece that it is in is, and of what is done no other.
        let steps = layout.steps(&[true, true, true, false, true], |piece| piece != 2);
        assert_eq!(steps, [part(1, 6..7), Step { file: 3, range: 0..1, whole: true }, part(4, 0..2)]);
        assert_eq!(layout.steps(&[true; 5], |piece| piece > 1), [part(0, 0..2), part(1, 0..6)]);
    }
}
