//! Making a torrent: v1, or a hybrid.

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::bencode::OwnedValue;

use super::hybrid::{PathLen, file_tree, pad_file, padding};
use super::{Metainfo, MetainfoError};

/// Makes a v1 [`Metainfo`], or a hybrid ([`Self::hybrid`]). What it makes has passed the same checks as any other.
///
/// ```
/// use swarmgate_bittorrent_proto::metainfo::{TorrentBuilder, hash_pieces};
/// let data = b"hello world";
/// let torrent = TorrentBuilder::single_file("hello.txt", data.len() as u64, 4, hash_pieces(data, 4)).build()?;
/// assert_eq!(torrent.info.pieces.count(), 3);
/// # Ok::<(), swarmgate_bittorrent_proto::metainfo::MetainfoError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TorrentBuilder {
    name: String,
    layout: Layout,
    piece_len: u32,
    hashes: Bytes,
    /// Of a hybrid.
    roots: Option<Bytes>,
    announce: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    private: bool,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
}

#[derive(Debug, Clone)]
enum Layout {
    Single(u64),
    Multi(Vec<PathLen>),
}

/// A length past `i64` is past what a reader takes too, so it refuses what saturates here.
pub(super) fn int(len: u64) -> OwnedValue {
    OwnedValue::Int(i64::try_from(len).unwrap_or(i64::MAX))
}

/// The SHA-1 hashes of `data` cut into pieces of `piece_len` bytes, end to end.
///
/// # Panics
/// When `piece_len` is 0.
#[must_use]
pub fn hash_pieces(data: &[u8], piece_len: u32) -> Bytes {
    let piece_len = usize::try_from(piece_len).unwrap_or(usize::MAX);
    let hash = |piece| digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, piece).as_ref().to_vec();
    data.chunks(piece_len).flat_map(hash).collect()
}

impl TorrentBuilder {
    /// A torrent of one file of `len` bytes; `hashes` are its pieces' SHA-1 end to end.
    pub fn single_file(name: impl Into<String>, len: u64, piece_len: u32, hashes: impl Into<Bytes>) -> Self {
        Self::new(name.into(), Layout::Single(len), piece_len, hashes.into())
    }

    /// A torrent of a folder `name` with files of (path components, length in bytes).
    pub fn multi_file(
        name: impl Into<String>,
        files: Vec<(Vec<String>, u64)>,
        piece_len: u32,
        hashes: impl Into<Bytes>,
    ) -> Self {
        Self::new(name.into(), Layout::Multi(files), piece_len, hashes.into())
    }

    const fn new(name: String, layout: Layout, piece_len: u32, hashes: Bytes) -> Self {
        Self {
            name,
            layout,
            piece_len,
            hashes,
            roots: None,
            announce: Vec::new(),
            web_seeds: Vec::new(),
            private: false,
            comment: None,
            created_by: None,
            creation_date: None,
        }
    }

    /// Makes a hybrid of it (BEP 52): each file with bytes begins a piece, behind padding (BEP 47), which is among what the
    /// SHA-1 hashes are of. `roots` are those of the pieces' Merkle trees, in the order of the files, 32 bytes each.
    #[must_use]
    pub fn hybrid(mut self, roots: impl Into<Bytes>) -> Self {
        self.roots = Some(roots.into());
        self
    }

    /// Names trackers, by tier.
    #[must_use]
    pub fn with_trackers(mut self, tiers: Vec<Vec<String>>) -> Self {
        self.announce = tiers;
        self
    }

    /// Names web seeds.
    #[must_use]
    pub fn with_web_seeds(mut self, urls: Vec<String>) -> Self {
        self.web_seeds = urls;
        self
    }

    /// Restricts it to its own trackers (BEP 27).
    #[must_use]
    pub const fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Adds a comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// Says what made it, and when, in seconds since 1970.
    #[must_use]
    pub fn with_creator(mut self, created_by: impl Into<String>, creation_date: Option<i64>) -> Self {
        self.created_by = Some(created_by.into());
        self.creation_date = creation_date;
        self
    }

    /// Makes the torrent.
    ///
    /// # Errors
    /// As [`Metainfo::parse`] would refuse it.
    pub fn build(self) -> Result<Metainfo, MetainfoError> {
        let info = Bytes::from(self.info()?.encode());
        let mut made = Metainfo {
            web_seeds: self.web_seeds,
            comment: self.comment,
            created_by: self.created_by,
            creation_date: self.creation_date,
            ..Metainfo::from_info(info, self.announce)?
        };
        if let Some(roots) = self.roots
            && !made.info.set_roots(roots)
        {
            return Err(MetainfoError::Layer { first_piece: 0 });
        }
        Ok(made)
    }

    fn info(&self) -> Result<OwnedValue, MetainfoError> {
        let mut entries = vec![
            ("name", self.name.as_str().into()),
            ("piece length", i64::from(self.piece_len).into()),
            ("pieces", self.hashes[..].into()),
        ];
        entries.push(match &self.layout {
            Layout::Single(len) => ("length", int(*len)),
            Layout::Multi(files) => ("files", OwnedValue::List(self.files(files))),
        });
        if let Some(roots) = &self.roots {
            let tree = match &self.layout {
                Layout::Single(len) => file_tree(&[(vec![self.name.clone()], *len)], self.piece_len, roots),
                Layout::Multi(files) => file_tree(files, self.piece_len, roots),
            };
            entries.extend([("file tree", tree?), ("meta version", 2.into())]);
        }
        if self.private {
            entries.push(("private", 1.into()));
        }
        Ok(OwnedValue::dict(entries))
    }

    /// The entries of `files`, with padding in a hybrid.
    fn files(&self, files: &[PathLen]) -> Vec<OwnedValue> {
        let mut entries = Vec::with_capacity(files.len());
        for ((path, len), behind) in files.iter().zip(padding(files, self.piece_len)) {
            let path = OwnedValue::list(path.iter().map(String::as_str));
            entries.push(OwnedValue::dict([("length", int(*len)), ("path", path)]));
            if self.roots.is_some() && behind > 0 {
                entries.push(pad_file(behind));
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_content::VerifiedBytes;

    #[test]
    fn a_built_torrent_reads_back_and_its_hashes_admit_its_bytes() {
        let data = Bytes::from_static(b"0123456789");
        let files = vec![(vec!["d".to_owned(), "a".to_owned()], 6), (vec!["b".to_owned()], 4)];
        let built = TorrentBuilder::multi_file("folder", files, 4, hash_pieces(&data, 4))
            .with_trackers(vec![vec!["http://t/a".to_owned()], vec!["udp://t:1".to_owned()]])
            .with_web_seeds(vec!["http://w/".to_owned()])
            .with_comment("c")
            .with_creator("swarmgate", Some(1))
            .private()
            .build()
            .unwrap();
        let read = Metainfo::parse(&built.to_torrent().into()).unwrap();
        assert_eq!((read.infohash, &read.announce), (built.infohash, &built.announce));
        assert_eq!(read.info.files, built.info.files);
        assert!(read.info.private && !read.info.single_file);
        for (index, piece) in [data.slice(..4), data.slice(4..8), data.slice(8..)].into_iter().enumerate() {
            assert!(VerifiedBytes::check(&read.info.pieces.get(index).unwrap(), piece).is_ok());
        }
    }

    #[test]
    fn a_builder_cannot_make_what_a_reader_refuses() {
        assert!(TorrentBuilder::single_file("..", 1, 1, vec![0; 20]).build().is_err());
        assert!(TorrentBuilder::single_file("a", u64::MAX, 1, vec![0; 20]).build().is_err());
    }
}
