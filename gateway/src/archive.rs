//! A folder of a torrent as one file: a tar, or a zip whose entries are stored as they are.
//!
//! What stands between the files is known before any of them is read, so both have a length from the begin; and both are
//! made while they are sent, file after file as they lie in the pieces, so neither needs room on a disk. No ranges are
//! served of them: a zip tells the sum of each file behind it, and who goes on in the middle would have us read what is
//! before. Single files have ranges.

pub mod tar_entry;
pub mod zip_entry;

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::StreamExt as _;
use swarmgate_bittorrent_proto::magnet::Selection;
use swarmgate_content::{ByteRange, ContentId, ContentMeta, FetchError, FetchErrorKind, FileRef, Stage};
use swarmgate_hybrid_rules::Network;

use crate::body;
use crate::flow::{Chunks, Outlet, produce};
use crate::playlist;
use crate::state::GatewayState;

use self::zip_entry::{Crc, ZipWriter};

/// Most bytes that the files of an archive have together: 2^62, so that no sum of a length overflows.
const MAX_FILES_BYTES: u64 = 1 << 62;

/// What kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// POSIX.1-2017, pax Interchange Format.
    Tar,
    /// PKWARE's APPNOTE 6.3.10, with ZIP64 where it is needed.
    Zip,
}

/// An archive that is not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    kind: Kind,
    id: ContentId,
    entries: Vec<Entry>,
}

/// A file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    len: u64,
    index: usize,
}

impl Kind {
    /// Its name in `?format=`, and behind file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }

    /// Its content type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Tar => "application/x-tar",
            Self::Zip => "application/zip",
        }
    }
}

impl Archive {
    /// What kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its content type.
    #[must_use]
    pub const fn media_type(&self) -> &'static str {
        self.kind.media_type()
    }

    /// An archive of the files below `folder` and within `select`; `None` when there are none. All names begin with the
    /// content's own, so that unpacking it makes one folder.
    #[must_use]
    pub fn of(kind: Kind, meta: &ContentMeta, folder: &[String], select: Option<&Selection>) -> Option<Self> {
        let files = meta.files.iter().enumerate().filter(|(index, file)| {
            !file.padding && file.path.starts_with(folder) && playlist::is_selected(select, *index)
        });
        let entry = |(index, file): (usize, &swarmgate_content::FileEntry)| {
            let name = std::iter::once(meta.name.as_str()).chain(file.path.iter().map(String::as_str));
            Entry { name: name.collect::<Vec<_>>().join("/"), len: file.len, index }
        };
        let entries: Vec<_> = files.map(entry).collect();
        (!entries.is_empty()).then_some(Self { kind, id: meta.id, entries })
    }

    /// The files that are in it, by their numbers.
    pub fn files(&self) -> impl Iterator<Item = usize> {
        self.entries.iter().map(|entry| entry.index)
    }

    /// How long it will be, in bytes; `None` when that is more than can be counted.
    #[must_use]
    pub fn total_len(&self) -> Option<u64> {
        let files = self.entries.iter().try_fold(0_u64, |sum, entry| sum.checked_add(entry.len))?;
        if files > MAX_FILES_BYTES {
            return None;
        }
        let between: u64 = match self.kind {
            Kind::Tar => self.entries.iter().map(tar_overhead).sum::<u64>() + tar_entry::end().len() as u64,
            Kind::Zip => {
                let mut zip = ZipWriter::default();
                let heads = self
                    .entries
                    .iter()
                    .map(|entry| (zip.begin(&entry.name, entry.len).len() + zip.end(Crc::default()).len()) as u64);
                heads.sum::<u64>() + zip.finish().len() as u64
            }
        };
        Some(files + between)
    }

    /// Its bytes, from these networks alone if the request wants that.
    #[must_use]
    pub fn chunks(self, state: GatewayState, wanted: Option<BTreeSet<Network>>) -> Chunks {
        produce(move |outlet| async move {
            let packer = Packer { state, wanted, outlet, id: self.id };
            match self.kind {
                Kind::Tar => packer.tar(&self.entries).await,
                Kind::Zip => packer.zip(&self.entries).await,
            }
        })
    }
}

/// What a tar has of a file besides its bytes.
fn tar_overhead(entry: &Entry) -> u64 {
    (tar_entry::head(&entry.name, tar_entry::Kind::File(entry.len)).len() + tar_entry::padding(entry.len).len()) as u64
}

/// Writes an archive.
struct Packer {
    state: GatewayState,
    wanted: Option<BTreeSet<Network>>,
    outlet: Outlet,
    id: ContentId,
}

impl Packer {
    async fn tar(self, entries: &[Entry]) -> Result<(), FetchError> {
        for entry in entries {
            self.outlet.send(tar_entry::head(&entry.name, tar_entry::Kind::File(entry.len))).await;
            self.send(entry, |_| {}).await?;
            self.outlet.send(Bytes::from_static(tar_entry::padding(entry.len))).await;
        }
        self.outlet.send(Bytes::from_static(tar_entry::end())).await;
        Ok(())
    }

    async fn zip(self, entries: &[Entry]) -> Result<(), FetchError> {
        let mut zip = ZipWriter::default();
        for entry in entries {
            self.outlet.send(zip.begin(&entry.name, entry.len).into()).await;
            let mut crc = Crc::default();
            self.send(entry, |chunk| crc.update(chunk)).await?;
            self.outlet.send(zip.end(crc).into()).await;
        }
        self.outlet.send(zip.finish().into()).await;
        Ok(())
    }

    /// Sends a file's bytes, and shows them to `look` before.
    async fn send(&self, entry: &Entry, mut look: impl FnMut(&[u8]) + Send) -> Result<(), FetchError> {
        let Some(range) = ByteRange::full(entry.len) else { return Ok(()) };
        let file = FileRef { id: self.id, index: entry.index };
        let mut reader = body::open(&self.state, file, range, self.wanted.as_ref()).await?;
        let mut left = entry.len;
        while let Some(chunk) = reader.next().await {
            let chunk = chunk?.into_bytes();
            left = left.checked_sub(chunk.len() as u64).ok_or_else(|| self.broken("more bytes than it has"))?;
            look(&chunk);
            self.outlet.send(chunk).await;
        }
        if left == 0 { Ok(()) } else { Err(self.broken("fewer bytes than it has")) }
    }

    /// A reader broke its promise to give exactly what was asked for.
    fn broken(&self, detail: &str) -> FetchError {
        FetchError::new(self.id, Stage::Stream, FetchErrorKind::Internal, format!("a file was read with {detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::meta;

    fn names(archive: &Archive) -> Vec<&str> {
        archive.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    #[test]
    fn an_archive_has_the_files_below_a_folder_that_are_selected_and_no_padding() {
        let meta = meta(&[("a/1", 10), (".pad/0", 6), ("a/b/2", 7), ("c", 1)]);
        let of = |folder: &[&str], select: Option<&str>| {
            let folder: Vec<_> = folder.iter().map(|&part| part.to_owned()).collect();
            let select: Option<Selection> = select.map(|select| select.parse().unwrap());
            Archive::of(Kind::Zip, &meta, &folder, select.as_ref())
        };
        let all = of(&[], None).unwrap();
        assert_eq!(names(&all), ["Test content/a/1", "Test content/a/b/2", "Test content/c"]);
        assert_eq!(names(&of(&["a"], None).unwrap()), ["Test content/a/1", "Test content/a/b/2"]);
        assert_eq!(names(&of(&["a"], Some("2-3")).unwrap()), ["Test content/a/b/2"]);
        assert_eq!(of(&["d"], None), None);
        assert_eq!(of(&["c"], Some("0")), None);
    }

    #[test]
    fn a_length_that_cannot_be_counted_is_none() {
        let meta = meta(&[("a", 1)]);
        let mut archive = Archive::of(Kind::Tar, &meta, &[], None).unwrap();
        assert_eq!(archive.total_len(), Some(512 + 512 + 1024));
        archive.entries[0].len = u64::MAX;
        assert_eq!(archive.total_len(), None);
    }
}
