//! The `info` dictionary: files, pieces and their hashes.

use std::sync::Arc;

use bytes::Bytes;
use swarmgate_content::{BlockHash, ContentMeta, FileEntry, PieceHashes, PieceRoots, TorrentId, Verification};

use crate::bencode::{DecodeOptions, Dict, Value, decode};

use super::tree::{FileTree, LEAF_LEN};
use super::{MAX_NODES, MetainfoError, PathProblem, Related, display_text, path};
use crate::geometry::Geometry;

/// Longest `info` dictionary, in bytes: 16 MiB. The largest seen in the wild is about 8; a peer chooses, so we do.
pub const MAX_METADATA_BYTES: usize = 16 << 20;
/// Longest piece, in bytes: 256 MiB. Makers stop at 64; a piece is verified whole, so it has to fit the cache.
pub const MAX_PIECE_BYTES: u32 = 256 << 20;
/// Longest content, in bytes: 1 PiB, so that no sum of lengths can overflow.
pub const MAX_CONTENT_BYTES: u64 = 1 << 50;
/// Files in one torrent.
pub const MAX_FILES: usize = 1_000_000;
/// Characters of a content's name.
const MAX_NAME_CHARS: usize = 255;

/// What the gateway uses of an `info` dictionary.
#[derive(Debug, Clone)]
pub struct Info {
    /// Suggested name, untrusted: of the file, or of the folder around all files.
    pub name: String,
    /// Bytes in each piece but the last.
    pub piece_len: u32,
    /// The pieces' SHA-1 hashes; none in a torrent that is v2 alone.
    pub pieces: PieceHashes,
    /// The files' Merkle trees (BEP 52), in a torrent that is v2, or hybrid.
    pub tree: Option<Arc<FileTree>>,
    /// The roots of all pieces, 32 bytes each, once known; they are proven. Of v2 torrents only.
    pub roots: Option<Bytes>,
    /// The files in content order, padding included. In a torrent that is v2 alone each begins a piece, with no padding. Symbolic links (BEP 47) are empty files: what they point to is
    /// found under its own name, and following them would be a way out of the content.
    pub files: Vec<FileEntry>,
    /// All files together, in bytes, padding and what is between files included.
    pub total_len: u64,
    /// Whether only its own trackers may be asked for peers (BEP 27).
    pub private: bool,
    /// Whether it is one file without a folder; then that file's path is [`Self::name`].
    pub single_file: bool,
    /// What else is said to have some of its files (BEP 38).
    pub related: Related,
}

/// The keys of interest, found in one pass, because `files` may be millions of values long.
#[derive(Default)]
struct Keys<'a> {
    name: Option<Value<'a>>,
    name_utf8: Option<Value<'a>>,
    piece_len: Option<Value<'a>>,
    pieces: Option<Value<'a>>,
    length: Option<Value<'a>>,
    files: Option<Value<'a>>,
    private: Option<Value<'a>>,
    meta_version: Option<Value<'a>>,
    file_tree: Option<Value<'a>>,
    similar: Option<Value<'a>>,
    collections: Option<Value<'a>>,
}

impl<'a> Keys<'a> {
    fn of(dict: Dict<'a>) -> Self {
        let mut keys = Self::default();
        for entry in dict.iter() {
            let slot = match entry.key {
                b"name" => &mut keys.name,
                b"name.utf-8" => &mut keys.name_utf8,
                b"piece length" => &mut keys.piece_len,
                b"pieces" => &mut keys.pieces,
                b"length" => &mut keys.length,
                b"files" => &mut keys.files,
                b"private" => &mut keys.private,
                b"meta version" => &mut keys.meta_version,
                b"file tree" => &mut keys.file_tree,
                b"similar" => &mut keys.similar,
                b"collections" => &mut keys.collections,
                _ => continue,
            };
            *slot = Some(entry.value);
        }
        keys
    }

    /// The file tree of a v2 torrent.
    fn tree(&self, piece_len: u32) -> Result<(Vec<FileEntry>, FileTree), MetainfoError> {
        if !piece_len.is_power_of_two() || piece_len < LEAF_LEN {
            return Err(MetainfoError::PieceLength(piece_len));
        }
        FileTree::parse(self.file_tree.ok_or(MetainfoError::Missing { key: "file tree" })?, piece_len)
    }

    /// A torrent that is v2 alone: a single file has the torrent's own name (BEP 52).
    fn v2_alone(&self, files: Vec<FileEntry>, tree: FileTree, private: bool) -> Result<Info, MetainfoError> {
        let name = folder_name(self.name()?);
        let single_file = matches!(&files[..], [only] if only.path == [name.as_str()]);
        // Two names may look alike once they are safe to show.
        refuse_collisions(&files)?;
        let ends = files.iter().filter(|file| file.len > 0).map(|file| file.offset + file.len);
        let total_len = ends.max().unwrap_or_default();
        // The empty layers are enough where no file has more than one piece.
        let roots = tree.roots(&std::collections::BTreeMap::new());
        let piece_len = tree.piece_len();
        let pieces = PieceHashes { piece_len, hashes: Bytes::new() };
        let (tree, related) = (Some(Arc::new(tree)), self.related());
        Ok(Info { name, piece_len, pieces, tree, roots, files, total_len, private, single_file, related })
    }

    fn related(&self) -> Related {
        Related::of(self.similar, self.collections)
    }

    /// The name's bytes. Where there is a second, UTF-8 spelling, the first is in some local encoding.
    fn name(&self) -> Result<&'a [u8], MetainfoError> {
        if let Some(name) = self.name_utf8.and_then(|name| name.as_str()) {
            return Ok(name.as_bytes());
        }
        bytes(self.name, "name")
    }
}

impl Info {
    /// Reads an `info` dictionary, as BEP 9 delivers it.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn parse(info_bytes: &Bytes) -> Result<Self, MetainfoError> {
        // The hash names these bytes whatever order their keys have, so order is nothing to refuse them for.
        let options = DecodeOptions::strict(MAX_METADATA_BYTES).in_any_key_order().with_max_nodes(MAX_NODES);
        let dict = decode(info_bytes, options)?.as_dict();
        let keys = Keys::of(dict.ok_or(MetainfoError::WrongType { key: "info", expected: "a dictionary" })?);
        let piece_len = number(keys.piece_len, "piece length", 1, MAX_PIECE_BYTES.into())?;
        let tree = (keys.meta_version == Some(Value::Int(2))).then(|| keys.tree(piece_len)).transpose()?;
        let private = keys.private == Some(Value::Int(1));
        match tree {
            Some((files, tree)) if keys.pieces.is_none() => keys.v2_alone(files, tree, private),
            tree => {
                let single_file = keys.files.is_none();
                let (name, files) = if single_file { single(&keys)? } else { multi(&keys)? };
                if let Some((tree_files, tree)) = &tree {
                    tree.agrees(tree_files, &files)?;
                }
                let total_len = files.last().map_or(0, |last| last.offset + last.len);
                let pieces = pieces(&keys, info_bytes, piece_len, total_len)?;
                let (tree, related) = (tree.map(|(_, tree)| Arc::new(tree)), keys.related());
                Ok(Self { name, piece_len, pieces, tree, roots: None, files, total_len, private, single_file, related })
            }
        }
    }

    /// Takes the roots of all pieces, when they lead to those of the files (BEP 52). Tells whether they do.
    pub fn set_roots(&mut self, roots: Bytes) -> bool {
        let proven = self.tree.as_ref().is_some_and(|tree| tree.accepts(&roots));
        if proven {
            self.roots = Some(roots);
        }
        proven
    }

    /// Whether it is v2 alone, and the roots of its pieces have to be asked of peers.
    #[must_use]
    pub const fn lacks_roots(&self) -> bool {
        self.pieces.hashes.is_empty() && self.roots.is_none()
    }

    /// The torrent's ids; `info_bytes` are what this was read from.
    #[must_use]
    pub fn id(&self, info_bytes: &[u8]) -> TorrentId {
        let v1 = super::infohash_of(info_bytes);
        match &self.tree {
            None => TorrentId::V1(v1),
            Some(_) if self.pieces.hashes.is_empty() => TorrentId::V2(super::infohash_v2_of(info_bytes)),
            Some(_) => TorrentId::Hybrid(v1, super::infohash_v2_of(info_bytes)),
        }
    }

    /// How many pieces.
    #[must_use]
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.total_len.div_ceil(self.piece_len.into())).unwrap_or(u32::MAX)
    }

    /// The name of piece `index` as a block: by its SHA-1 where there is one; `None` past the end, and before
    /// [`Self::roots`] are known.
    #[must_use]
    pub fn piece_hash(&self, index: u32) -> Option<BlockHash> {
        match (&self.tree, &self.roots) {
            (Some(tree), Some(roots)) if self.pieces.hashes.is_empty() => tree.name(roots, index),
            _ => self.pieces.get(index as usize),
        }
    }

    /// Where pieces and blocks lie.
    ///
    /// # Panics
    /// Never: a parsed dictionary has a length and pieces.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let geometry = match &self.tree {
            Some(tree) if self.pieces.hashes.is_empty() => tree.geometry(),
            _ => Geometry::new(self.piece_len, self.total_len),
        };
        geometry.expect("a parsed info dictionary has a length and pieces")
    }

    /// What a reader needs to know of the content.
    #[must_use]
    pub fn to_meta(&self, id: impl Into<TorrentId>) -> ContentMeta {
        let verification = match &self.roots {
            Some(roots) if self.pieces.hashes.is_empty() => {
                Verification::V2(PieceRoots { piece_len: self.piece_len, roots: roots.clone() })
            }
            _ => Verification::V1(self.pieces.clone()),
        };
        ContentMeta {
            id: id.into().content(),
            name: self.name.clone(),
            files: self.files.clone(),
            total_len: self.total_len,
            private: self.private,
            verification,
        }
    }

    /// Bytes in piece `index`: fewer in the last, none past the end.
    #[must_use]
    pub fn piece_size(&self, index: u32) -> u32 {
        if let Some(tree) = self.tree.as_ref().filter(|_| self.pieces.hashes.is_empty()) {
            return tree.len_of(index);
        }
        let left = self.total_len.saturating_sub(u64::from(index) * u64::from(self.piece_len));
        u32::try_from(left).map_or(self.piece_len, |left| left.min(self.piece_len))
    }
}

fn bytes<'a>(value: Option<Value<'a>>, key: &'static str) -> Result<&'a [u8], MetainfoError> {
    let value = value.ok_or(MetainfoError::Missing { key })?;
    value.as_bytes().ok_or(MetainfoError::WrongType { key, expected: "a string" })
}

fn number<T>(value: Option<Value<'_>>, key: &'static str, min: u64, max: u64) -> Result<T, MetainfoError>
where
    T: TryFrom<i64> + Into<u64> + Copy,
{
    let value = value.ok_or(MetainfoError::Missing { key })?;
    let value = value.as_int().ok_or(MetainfoError::WrongType { key, expected: "a number" })?;
    let in_range = T::try_from(value).ok().filter(|&number| (min..=max).contains(&number.into()));
    in_range.ok_or(MetainfoError::OutOfRange { key, value, min, max })
}

fn pieces(keys: &Keys<'_>, info: &Bytes, piece_len: u32, total_len: u64) -> Result<PieceHashes, MetainfoError> {
    let hashes = bytes(keys.pieces, "pieces")?;
    if hashes.len() % 20 != 0 {
        return Err(MetainfoError::RaggedPieces { len: hashes.len() });
    }
    if total_len == 0 {
        return Err(MetainfoError::Empty);
    }
    let (have, need) = (hashes.len() / 20, total_len.div_ceil(piece_len.into()));
    if have as u64 != need {
        return Err(MetainfoError::PieceCount { have, need, total_len, piece_len });
    }
    Ok(PieceHashes { piece_len, hashes: info.slice_ref(hashes) })
}

fn single(keys: &Keys<'_>) -> Result<(String, Vec<FileEntry>), MetainfoError> {
    let len = number(keys.length, "length", 0, MAX_CONTENT_BYTES)?;
    let name = path::component(keys.name()?).map_err(|problem| MetainfoError::File { index: 0, problem })?;
    let file = FileEntry { path: vec![name.clone()], len, offset: 0, padding: false };
    Ok((name, vec![file]))
}

fn multi(keys: &Keys<'_>) -> Result<(String, Vec<FileEntry>), MetainfoError> {
    let list = keys.files.and_then(|files| files.as_list());
    let list = list.ok_or(MetainfoError::WrongType { key: "files", expected: "a list" })?;
    let mut files: Vec<FileEntry> = Vec::new();
    let mut offset = 0;
    for (index, file) in list.iter().enumerate() {
        if index == MAX_FILES {
            return Err(MetainfoError::TooManyFiles { max: MAX_FILES });
        }
        let file = self::file(file, offset).map_err(|problem| MetainfoError::File { index, problem })?;
        offset = file.offset + file.len;
        if offset > MAX_CONTENT_BYTES {
            return Err(MetainfoError::TooLong { max: MAX_CONTENT_BYTES });
        }
        files.push(file);
    }
    refuse_collisions(&files)?;
    Ok((folder_name(keys.name()?), files))
}

/// The folder's name is shown and suggested, never part of a path here, so it is mended rather than refused.
fn folder_name(bytes: &[u8]) -> String {
    let name = display_text(&String::from_utf8_lossy(bytes), MAX_NAME_CHARS);
    let name = name.replace(['/', '\\', '\n'], "\u{fffd}");
    if matches!(name.as_str(), "" | "." | "..") { "unnamed".to_owned() } else { name }
}

fn file(value: Value<'_>, offset: u64) -> Result<FileEntry, PathProblem> {
    let dict = value.as_dict().ok_or(PathProblem::NotADict)?;
    let attr = dict.bytes("attr").unwrap_or_default();
    let (padding, symlink) = (attr.contains(&b'p'), attr.contains(&b'l'));
    let len = match dict.int("length").map(u64::try_from) {
        // BEP 47: a link has no bytes of its own, whatever it says.
        _ if symlink => 0,
        Some(Ok(len)) if len <= MAX_CONTENT_BYTES => len,
        Some(_) | None => return Err(PathProblem::Length),
    };
    // BEP 47: nobody reads the path of padding, so nothing about it can be wrong.
    let path = if padding { vec![".pad".to_owned(), len.to_string()] } else { file_path(dict)? };
    Ok(FileEntry { path, len, offset, padding })
}

fn file_path(dict: Dict<'_>) -> Result<Vec<String>, PathProblem> {
    let list = |key| dict.get(key).and_then(|path| path.as_list());
    let utf8 =
        list("path.utf-8").filter(|path| path.iter().all(|part| part.as_str().is_some()) && path.iter().count() > 0);
    path::parse(utf8.or_else(|| list("path")).ok_or(PathProblem::Path)?)
}

/// Refuses two files of one path, and a file inside of a file. Sorted, either pair is adjacent.
fn refuse_collisions(files: &[FileEntry]) -> Result<(), MetainfoError> {
    let mut paths: Vec<&[String]> = files.iter().filter(|file| !file.padding).map(|file| &*file.path).collect();
    paths.sort_unstable();
    match paths.windows(2).find(|pair| pair[1].starts_with(pair[0])) {
        Some(pair) => Err(MetainfoError::PathConflict {
            first: pair[0].join("/").escape_debug().to_string(),
            second: pair[1].join("/").escape_debug().to_string(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bencode::OwnedValue;

    const NO_HASHES: &[u8] = b"";

    fn info(entries: Vec<(&str, OwnedValue)>) -> Result<Info, MetainfoError> {
        let mut all = vec![("name", OwnedValue::from("n")), ("piece length", 4.into()), ("pieces", vec![7; 40].into())];
        all.extend(entries);
        Info::parse(&OwnedValue::dict(all).encode().into())
    }

    fn file(path: &[&str], len: i64, attr: &str) -> OwnedValue {
        let path = OwnedValue::list(path.iter().copied());
        OwnedValue::dict([("length", len.into()), ("path", path), ("attr", attr.into())])
    }

    fn files(files: Vec<OwnedValue>) -> Result<Info, MetainfoError> {
        info(vec![("files", OwnedValue::List(files))])
    }

    #[test]
    fn a_single_file_is_its_own_name() {
        let info = info(vec![("length", 7.into()), ("private", 1.into())]).unwrap();
        assert!(info.single_file && info.private);
        assert_eq!(info.files, [FileEntry { path: vec!["n".into()], len: 7, offset: 0, padding: false }]);
        assert_eq!((info.piece_size(0), info.piece_size(1), info.piece_size(2)), (4, 3, 0));
        let meta = info.to_meta(swarmgate_content::InfoHash::new([1; 20]));
        assert_eq!((meta.total_len, meta.private, meta.name.as_str()), (7, true, "n"));
    }

    #[test]
    fn files_lie_end_to_end_with_their_padding() {
        let pad = || file(&[".pad", "2"], 1, "p");
        let info =
            files(vec![file(&["a"], 2, ""), pad(), file(&["d", "b"], 3, "x"), pad(), file(&["ln"], 9, "l")]).unwrap();
        let got: Vec<_> = info.files.iter().map(|f| (f.joined_path(), f.offset, f.len, f.padding)).collect();
        let want = [
            ("a", 0, 2, false),
            (".pad/1", 2, 1, true),
            ("d/b", 3, 3, false),
            (".pad/1", 6, 1, true),
            ("ln", 7, 0, false),
        ];
        assert_eq!(got, want.map(|(path, offset, len, padding)| (path.to_owned(), offset, len, padding)));
        assert_eq!(info.total_len, 7);
    }

    #[test]
    fn a_refusal_names_the_key_and_the_file() {
        let cases = [
            (info(vec![]), "`length` is missing"),
            (info(vec![("length", (-1).into())]), "`length` is -1, not within 0 to 1125899906842624"),
            (info(vec![("length", "7".into())]), "`length` is not a number"),
            (info(vec![("length", 0.into())]), "all files are empty"),
            (info(vec![("length", 9.into())]), "`pieces` has 2 hashes, but 9 bytes in pieces of 4 need 3"),
            (
                info(vec![("length", 7.into()), ("pieces", vec![0; 39].into())]),
                "`pieces` has 39 bytes, which is not a multiple of 20",
            ),
            (
                info(vec![("length", 7.into()), ("piece length", 0.into())]),
                "`piece length` is 0, not within 1 to 268435456",
            ),
            (
                info(vec![("length", 7.into()), ("name", "../x".into())]),
                "file 0: the component \"../x\" of the path has the character '/'",
            ),
            (files(vec![file(&["a"], 1, ""), file(&["b", ".."], 1, "")]), "file 1: a component of the path is \"..\""),
            (files(vec![file(&["a"], 1, ""), file(&[], 1, "")]), "file 1: `path` is missing or not a list of strings"),
            (files(vec![file(&["a"], -1, "")]), "file 0: `length` is missing or not a number from 0 up"),
            (files(vec![file(&["a"; 129], 1, "")]), "file 0: the path has over 128 components"),
            (files(vec![1.into()]), "file 0: it is not a dictionary"),
            (files(vec![]), "all files are empty"),
            (info(vec![("files", 1.into())]), "`files` is not a list"),
        ];
        for (result, message) in cases {
            assert_eq!(result.unwrap_err().to_string(), message);
        }
        let enormous = i64::try_from(MAX_CONTENT_BYTES).unwrap();
        let sum = files(vec![file(&["a"], enormous, ""), file(&["b"], 1, "")]);
        assert_eq!(sum.unwrap_err(), MetainfoError::TooLong { max: MAX_CONTENT_BYTES });
    }

    #[test]
    fn two_files_never_share_a_path_nor_lie_in_each_other() {
        let twice = files(vec![file(&["a", "b"], 4, ""), file(&["z"], 1, ""), file(&["a", "b"], 3, "")]);
        assert_eq!(twice.unwrap_err().to_string(), "the path \"a/b\" collides with \"a/b\"");
        let inside = files(vec![file(&["a", "b", "c"], 4, ""), file(&["a!"], 1, ""), file(&["a", "b"], 3, "")]);
        assert_eq!(inside.unwrap_err().to_string(), "the path \"a/b/c\" collides with \"a/b\"");
    }

    #[test]
    fn the_utf8_spelling_wins_and_other_encodings_are_replaced() {
        let mut both = vec![("length", OwnedValue::from(4)), ("path", OwnedValue::list([&b"caf\xe9"[..]]))];
        let plain = OwnedValue::dict(both.clone());
        both.push(("path.utf-8", OwnedValue::list(["café"])));
        let info = files(vec![OwnedValue::dict(both), plain]).unwrap();
        assert_eq!((&*info.files[0].path[0], &*info.files[1].path[0]), ("café", "caf\u{fffd}"));
        let named = self::info(vec![("length", 7.into()), ("name", vec![0xe9].into()), ("name.utf-8", "é".into())]);
        assert_eq!(named.unwrap().name, "é");
    }

    #[test]
    fn a_folder_name_is_mended_rather_than_refused() {
        let named = |name: &str| {
            info(vec![("files", OwnedValue::List(vec![file(&["a"], 7, "")])), ("name", name.into())]).unwrap().name
        };
        assert_eq!(named("AC/DC\n"), "AC\u{fffd}DC\u{fffd}");
        assert_eq!(named(".."), "unnamed");
    }

    #[test]
    fn a_hybrid_whose_halves_disagree_is_refused() {
        let hybrid =
            info(vec![("meta version", 2.into()), ("file tree", OwnedValue::dict::<&str>([])), ("length", 7.into())]);
        assert_eq!(hybrid.unwrap_err(), MetainfoError::PieceLength(4));
        assert_eq!(
            info(vec![("pieces", NO_HASHES.into()), ("length", 7.into())]).unwrap_err().to_string(),
            "`pieces` has 0 hashes, but 7 bytes in pieces of 4 need 2"
        );
    }
}
