//! What can be wrong with a torrent.

use crate::bencode::DecodeError;

/// Why a metainfo or an `info` dictionary is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// It is not bencode.
    #[error("not bencode: {0}")]
    Bencode(#[from] DecodeError),
    /// A key that has to be there is not.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key has a value of the wrong kind.
    #[error("`{key}` is not {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The kind it should have.
        expected: &'static str,
    },
    /// A number is out of its range.
    #[error("`{key}` is {value}, not within {min} to {max}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// The number.
        value: i64,
        /// The least allowed.
        min: u64,
        /// The greatest allowed.
        max: u64,
    },
    /// `pieces` is not made of whole hashes.
    #[error("`pieces` has {len} bytes, which is not a multiple of 20")]
    RaggedPieces {
        /// Its length.
        len: usize,
    },
    /// `pieces` and the lengths disagree.
    #[error("`pieces` has {have} hashes, but {total_len} bytes in pieces of {piece_len} need {need}")]
    PieceCount {
        /// Hashes there are.
        have: usize,
        /// Hashes there should be.
        need: u64,
        /// All files together, in bytes.
        total_len: u64,
        /// Bytes in a piece.
        piece_len: u32,
    },
    /// There is not a byte to fetch.
    #[error("all files are empty")]
    Empty,
    /// The files are longer than any real content.
    #[error("the files have over {max} bytes in all")]
    TooLong {
        /// The limit, in bytes.
        max: u64,
    },
    /// There are too many files.
    #[error("there are over {max} files")]
    TooManyFiles {
        /// The limit.
        max: usize,
    },
    /// A file is malformed.
    #[error("file {index}: {problem}")]
    File {
        /// Its place in `files`, from 0.
        index: usize,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// Two files want one place.
    #[error("the path \"{second}\" collides with \"{first}\"")]
    PathConflict {
        /// One of them.
        first: String,
        /// The other, equal to it or inside of it.
        second: String,
    },
    /// A v2 torrent has too many pieces.
    #[error("there are over {max} pieces")]
    TooManyPieces {
        /// The limit.
        max: u32,
    },
    /// A v2 torrent's pieces have a length that no Merkle tree has (BEP 52).
    #[error("`piece length` is {0}, not a power of two from 16384 up")]
    PieceLength(u32),
    /// There are not as many roots as the files have pieces (BEP 52).
    #[error("there are {have} roots of pieces, but the files have {need} pieces")]
    RootCount {
        /// Roots there are.
        have: usize,
        /// Pieces of the files, each of which begins one.
        need: u64,
    },
    /// The two halves of a hybrid torrent have different files (BEP 52).
    #[error("the v1 and v2 halves disagree about the file \"{path}\"")]
    Halves {
        /// The file.
        path: String,
    },
    /// The roots of a file's pieces do not lead to the file's root (BEP 52).
    #[error("`piece layers` are false for the file that begins with piece {first_piece}")]
    Layer {
        /// The file's first piece.
        first_piece: u32,
    },
}

/// What is wrong with one file of a torrent. Names are shown escaped and shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// It is not a dictionary.
    #[error("it is not a dictionary")]
    NotADict,
    /// It has no usable length.
    #[error("`length` is missing or not a number from 0 up")]
    Length,
    /// It has bytes and no root (BEP 52).
    #[error("`pieces root` is missing or not 32 bytes")]
    Root,
    /// It is a file and a folder at once (BEP 52).
    #[error("it is a file and has files in it")]
    FileAndFolder,
    /// It has no path, or one that is not a list of strings.
    #[error("`path` is missing or not a list of strings")]
    Path,
    /// The path goes too deep.
    #[error("the path has over {max} components")]
    TooDeep {
        /// The limit.
        max: usize,
    },
    /// A component is too long.
    #[error("a component of the path has {len} bytes, more than {max}")]
    TooLong {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A component is empty, `.` or `..`.
    #[error("a component of the path is \"{component}\"")]
    Relative {
        /// The component.
        component: String,
    },
    /// A component has a character that no file name has.
    #[error("the component \"{component}\" of the path has the character {character:?}")]
    Character {
        /// The component.
        component: String,
        /// The first such character.
        character: char,
    },
}
