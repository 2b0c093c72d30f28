//! Which files of an item are fetched and held while it is pinned (BEP 53), and what they come to in pieces and bytes.
//!
//! A selection is in the item's record, and says nothing of what may be read: other files are fetched for whoever reads
//! them, and cached as any. A piece that a selected file has a part of is held whole.

use swarmgate_bittorrent_proto::bitfield::Bitfield;
use swarmgate_bittorrent_proto::geometry::Geometry;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_content::{FileEntry, InfoHash};
use swarmgate_swarm::Known;

use crate::details::bytes_of;
use crate::pinning::PinRefused;
use crate::protocol::BitTorrentProtocol;

/// What the files of an item that are selected come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Selected {
    /// All of them, in bytes.
    pub len: u64,
    /// Bytes of them in the cache.
    pub have_bytes: u64,
}

/// Why files were not selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectRefused {
    /// None of the numbers is one of a file.
    #[error("it names none of the {files} files that the torrent has; they are counted from 0, padding included")]
    NoFile {
        /// How many files there are, padding not counted.
        files: usize,
    },
    /// The item is pinned, and the cache cannot hold what is selected.
    #[error(transparent)]
    NoRoom(#[from] PinRefused),
}

impl Selected {
    /// Of those files, what is here by `is_here`.
    pub(crate) fn of(
        files: &[FileEntry],
        geometry: &Geometry,
        select: &Selection,
        is_here: impl Fn(PieceIndex) -> bool,
    ) -> Self {
        chosen(files, select).fold(Self::default(), |sum, file| Self {
            len: sum.len + file.len,
            have_bytes: sum.have_bytes + bytes_of(file, geometry, &is_here),
        })
    }

    /// The same of a torrent whose metadata is known.
    pub(crate) fn of_known(known: &Known, select: &Selection) -> Self {
        let have = known.snapshot();
        Self::of(&known.info.files, &known.geometry, select, |piece| have.has_byte(known.geometry.start_of(piece)))
    }

    /// Whether all of them are here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.have_bytes >= self.len
    }
}

/// The files that a selection names, without padding; a number behind the last file names none.
fn chosen<'a>(files: &'a [FileEntry], select: &'a Selection) -> impl Iterator<Item = &'a FileEntry> {
    let numbered = files.iter().zip(0_u32..);
    numbered.filter(move |(file, number)| !file.padding && select.contains(*number)).map(|(file, _)| file)
}

/// All pieces that selected files have a part of.
pub(crate) fn pieces(files: &[FileEntry], geometry: &Geometry, select: &Selection) -> Bitfield {
    let mut pieces = Bitfield::none(geometry.pieces());
    for file in chosen(files, select).filter(|file| file.len > 0) {
        for piece in geometry.pieces_of(file.offset, file.offset + file.len) {
            pieces.set(PieceIndex(piece), true);
        }
    }
    pieces
}

impl BitTorrentProtocol {
    /// Selects which files of an item are fetched and held while it is pinned; `None`: all. One that is pinned has what is
    /// new fetched from now on, and the rest is held no longer. Tells whether the item is known.
    ///
    /// # Errors
    /// [`SelectRefused`]; nothing is changed then. Before the files are known, numbers that name none are taken and mean
    /// nothing later.
    pub async fn set_selection(&self, infohash: &InfoHash, select: Option<Selection>) -> Result<bool, SelectRefused> {
        let (key, pinned) = {
            let items = self.engine.items.lock();
            let key = items.key(*infohash);
            let Some(record) = items.records.get(&key) else { return Ok(false) };
            (key, record.pinned)
        };
        if let (Some(select), Some(shape)) = (&select, self.shape(&key).await) {
            let files = &shape.meta.files;
            if chosen(files, select).next().is_none() {
                let files = files.iter().filter(|file| !file.padding).count();
                return Err(SelectRefused::NoFile { files });
            }
        }
        if pinned {
            self.check_room(&key, select.as_ref()).await?;
        }
        let pin = {
            let mut items = self.engine.items.lock();
            let Some(record) = items.records.get_mut(&key) else { return Ok(false) };
            if record.select != select {
                // Whether what is selected now is here is found out when it is active.
                record.complete = false;
                record.select = select;
            }
            record.pin()
        };
        self.engine.persist(key).await;
        if let Some(pin) = pin {
            self.engine.apply_pin(key, pin).await;
        }
        // It may have to be given a place, or have its place dealt to another.
        self.engine.house.notify_one();
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(text: &str) -> Selection {
        text.parse().unwrap()
    }

    #[test]
    fn a_selection_is_the_pieces_that_its_files_touch_and_the_bytes_of_its_files() {
        let geometry = Geometry::new(16 * 1024, 80_000).unwrap();
        let file = |offset, len, padding| FileEntry { path: vec!["f".to_owned()], len, offset, padding };
        let files = [
            file(0, 10_000, false),
            file(10_000, 0, false),
            file(10_000, 20_000, false),
            file(30_000, 10_000, true),
            file(40_000, 40_000, false),
        ];
        let touched = |text: &str| pieces(&files, &geometry, &select(text)).iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(touched("0"), [0]);
        assert_eq!(touched("2"), [0, 1]);
        assert!(touched("1,3,9").is_empty(), "an empty file, padding, and none");
        assert_eq!(touched("0,4-1000"), [0, 2, 3, 4]);
        let here = |text: &str| Selected::of(&files, &geometry, &select(text), |piece| piece.0 == 0);
        assert_eq!(here("0"), Selected { len: 10_000, have_bytes: 10_000 });
        assert_eq!(here("2-3"), Selected { len: 20_000, have_bytes: 6_384 });
        assert!(here("0-1").is_whole() && !here("2").is_whole());
        let names = |text: &str| chosen(&files, &select(text)).next().is_some();
        assert!(names("1") && !names("3") && !names("5-9"));
    }
}
