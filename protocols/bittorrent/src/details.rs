//! What is told of one item beyond [`crate::Item`]: its files and how much of each is here, its trackers and what they said.

use std::sync::Arc;

use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{ByteRange, ContentMeta, FileEntry, InfoHash};
use swarmgate_swarm::directory::is_websocket_tracker;

use crate::announcer::TrackerReport;
use crate::protocol::BitTorrentProtocol;
use crate::selection;

/// The files of an item.
#[derive(Debug, Clone)]
pub struct ItemFiles {
    /// The tree, padding included.
    pub meta: Arc<ContentMeta>,
    /// Bytes of each that are in the cache, in the order of the tree.
    pub have_bytes: Vec<u64>,
}

/// An item's files, how it is cut into pieces, and which of those are in the cache.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) meta: Arc<ContentMeta>,
    geometry: Geometry,
    have: Bitfield,
}

impl Shape {
    fn new(meta: Arc<ContentMeta>, geometry: Geometry, is_here: impl Fn(PieceIndex) -> bool) -> Self {
        let mut have = Bitfield::none(geometry.pieces());
        for piece in (0..geometry.pieces()).map(PieceIndex).filter(|piece| is_here(*piece)) {
            have.set(piece, true);
        }
        Self { meta, geometry, have }
    }

    /// Whether all pieces are here that a range of a file touches. What leaves its file is not here.
    fn has(&self, file: usize, range: ByteRange) -> bool {
        let entry = self.meta.files.get(file).and_then(FileEntry::range);
        let inside = entry.and_then(|entry| range.shift(entry.start())?.intersect(&entry));
        inside.filter(|inside| inside.len() == range.len()).is_some_and(|inside| {
            self.geometry.pieces_of(inside.start(), inside.end()).all(|piece| self.have.get(PieceIndex(piece)))
        })
    }

    /// Bytes of the pieces that are not here, of all or of those that a selection touches.
    pub(crate) fn missing_bytes(&self, select: Option<&Selection>) -> u64 {
        let wanted = select.map(|select| selection::pieces(&self.meta.files, &self.geometry, select));
        let is_wanted = |piece: &PieceIndex| wanted.as_ref().is_none_or(|wanted| wanted.get(*piece));
        let missing = (0..self.geometry.pieces()).map(PieceIndex).filter(|piece| !self.have.get(*piece));
        missing.filter(is_wanted).map(|piece| u64::from(self.geometry.len_of(piece))).sum()
    }
}

impl BitTorrentProtocol {
    /// An item's files, whether it is active or not; `None` when it is not known, or its metadata is not.
    pub async fn files(&self, infohash: &InfoHash) -> Option<ItemFiles> {
        let Shape { meta, geometry, have } = self.shape(infohash).await?;
        let have_bytes = bytes_here(&meta.files, &geometry, |piece| have.get(piece));
        Some(ItemFiles { meta, have_bytes })
    }

    /// Whether all of these ranges are in the cache, each of the file with that number. Asks nobody, and is false when the
    /// item or its metadata is not known.
    pub async fn has(&self, infohash: &InfoHash, ranges: &[(usize, ByteRange)]) -> bool {
        let Some(shape) = self.shape(infohash).await else { return false };
        ranges.iter().all(|(file, range)| shape.has(*file, *range))
    }

    /// An item's files, how it is cut into pieces, and which of those are here.
    pub(crate) async fn shape(&self, infohash: &InfoHash) -> Option<Shape> {
        let (key, torrent) = {
            let items = self.engine.items.lock();
            let key = items.key(*infohash);
            items.records.get(&key)?;
            (key, items.active.get(&key).cloned())
        };
        if let Some(known) = torrent.and_then(|torrent| torrent.handle().known()) {
            let have = known.snapshot();
            let is_here = |piece| have.has_byte(known.geometry.start_of(piece));
            return Some(Shape::new(known.meta.clone(), known.geometry.clone(), is_here));
        }
        let (info, bytes) = self.engine.stored_info(key).await?;
        let (meta, geometry) = (Arc::new(info.to_meta(info.id(&bytes))), info.geometry());
        let store = &self.engine.environment.context.store;
        let is_here = |piece: PieceIndex| info.piece_hash(piece.0).is_some_and(|hash| store.contains(&hash));
        Some(Shape::new(meta, geometry, is_here))
    }

    /// An item's own trackers, each with how it fares, and those of the operator's that it is announced to besides; `None`
    /// when it is not known.
    #[must_use]
    pub fn trackers(&self, infohash: &InfoHash) -> Option<Trackers> {
        let items = self.engine.items.lock();
        let key = items.key(*infohash);
        let record = items.records.get(&key)?;
        let named = record.trackers.iter().enumerate().flat_map(|(tier, urls)| urls.iter().map(move |url| (tier, url)));
        let Some(torrent) = items.active.get(&key) else {
            let own = named.map(|(tier, url)| TrackerReport::unasked(url, tier, "idle")).collect();
            return Some(Trackers { own, operators: Vec::new() });
        };
        let (mut own, operators) = torrent.tracker_reports();
        let browsers = named.filter(|(_, url)| is_websocket_tracker(url));
        own.extend(browsers.map(|(tier, url)| TrackerReport::unasked(url, tier, "websocket")));
        Some(Trackers { own, operators })
    }
}

/// The trackers of an item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trackers {
    /// Its own.
    pub own: Vec<TrackerReport>,
    /// Those of the operator's that it is announced to besides, unless it is private.
    pub operators: Vec<TrackerReport>,
}

/// How many bytes of each file are in pieces that are here.
fn bytes_here(files: &[FileEntry], geometry: &Geometry, is_here: impl Fn(PieceIndex) -> bool) -> Vec<u64> {
    files.iter().map(|file| bytes_of(file, geometry, &is_here)).collect()
}

/// How many bytes of one file are in pieces that are here.
pub(crate) fn bytes_of(file: &FileEntry, geometry: &Geometry, is_here: impl Fn(PieceIndex) -> bool) -> u64 {
    if file.len == 0 {
        return 0;
    }
    let end = file.offset + file.len;
    let pieces = geometry.pieces_of(file.offset, end).map(PieceIndex).filter(|piece| is_here(*piece));
    let inside = pieces.map(|piece| {
        let start = geometry.start_of(piece);
        (start + u64::from(geometry.len_of(piece))).min(end).saturating_sub(start.max(file.offset))
    });
    inside.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_counts_for_each_file_that_has_a_part_of_it() {
        let geometry = Geometry::new(16 * 1024, 40_000).unwrap();
        let file = |offset, len| FileEntry { path: vec!["f".to_owned()], len, offset, padding: false };
        let files = [file(0, 10_000), file(10_000, 0), file(10_000, 20_000), file(30_000, 10_000)];
        let here = |have: &'static [u32]| bytes_here(&files, &geometry, move |piece| have.contains(&piece.0));
        assert_eq!(here(&[]), [0, 0, 0, 0]);
        assert_eq!(here(&[0]), [10_000, 0, 6_384, 0]);
        assert_eq!(here(&[1, 2]), [0, 0, 13_616, 10_000]);
        assert_eq!(here(&[0, 1, 2]), [10_000, 0, 20_000, 10_000]);
    }
}
