//! A file that is not the store's, as it was when blocks of it were read.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::manifest::since_epoch;

/// The longest path that is kept; longer than any system opens. 32 KiB.
const MAX_PATH_BYTES: usize = 32 * 1024;

/// How many bytes of a row come before the path.
const MARK_BYTES: usize = 8 + 8 + 4 + 8 + 8;

/// A file that blocks lie in: its path, and what tells that it was changed since.
///
/// Two are equal when both are: the same path after a change is another origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    path: PathBuf,
    mark: Mark,
}

/// What is different when a file was changed or replaced. It says why a block is lost; whether it is, its hash says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mark {
    len: u64,
    modified: Duration,
    device: u64,
    inode: u64,
}

impl Origin {
    /// Describes the file at an absolute path by what the system says of it: best of the open file that is then read,
    /// for the path may lead elsewhere by now. A path without symlinks goes on leading to the file when one of them is
    /// moved.
    ///
    /// # Errors
    /// When it is no regular file, its path cannot be kept (relative, beyond 32 KiB), or the system does not say when
    /// it was changed.
    pub fn new(path: impl Into<PathBuf>, metadata: &Metadata) -> io::Result<Self> {
        let path = path.into();
        if !metadata.is_file() {
            return Err(not_regular());
        }
        let keepable = path.is_absolute() && path_bytes(&path).is_some_and(|bytes| bytes.len() <= MAX_PATH_BYTES);
        if !keepable {
            return Err(io::Error::new(ErrorKind::InvalidInput, "its path is not absolute, or cannot be kept"));
        }
        Ok(Self { path, mark: Mark::of(metadata)? })
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long the file is, in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.mark.len
    }

    /// What tells that the file was changed or replaced, as bytes to be kept: when they are the same later, nothing
    /// says that it was. To be compared, not read.
    #[must_use]
    pub fn mark(&self) -> Vec<u8> {
        let mut row = self.to_row();
        row.truncate(MARK_BYTES);
        row
    }

    /// Whether a file of which the system now says this is the same file, with the length and the time of change that
    /// it had.
    #[must_use]
    pub fn is_still(&self, metadata: &Metadata) -> bool {
        metadata.is_file() && Mark::of(metadata).is_ok_and(|mark| mark == self.mark)
    }

    /// Whether the path leads to another file by now, or to none, or the file has another length or time. Blocks.
    pub(super) fn has_changed(&self) -> bool {
        !fs::metadata(&self.path).is_ok_and(|metadata| self.is_still(&metadata))
    }

    /// Opens whatever regular file the path leads to. Blocks, but never for what else it may lead to by now: a pipe
    /// gives its opener nothing for ever, and a device does something.
    pub(super) fn open(&self) -> io::Result<File> {
        if !fs::metadata(&self.path)?.is_file() {
            return Err(not_regular());
        }
        let file = open_at_once(&self.path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
    }

    /// As a row of the index.
    pub(crate) fn to_row(&self) -> Vec<u8> {
        let Mark { len, modified, device, inode } = self.mark;
        let mut row = Vec::new();
        row.extend_from_slice(&len.to_be_bytes());
        row.extend_from_slice(&modified.as_secs().to_be_bytes());
        row.extend_from_slice(&modified.subsec_nanos().to_be_bytes());
        row.extend_from_slice(&device.to_be_bytes());
        row.extend_from_slice(&inode.to_be_bytes());
        row.extend_from_slice(path_bytes(&self.path).unwrap_or_default());
        row
    }

    /// Reads [`Self::to_row`] back, or `None` when it is damaged.
    pub(crate) fn from_row(row: &[u8]) -> Option<Self> {
        let (len, rest) = row.split_first_chunk()?;
        let (secs, rest) = rest.split_first_chunk()?;
        let (nanos, rest) = rest.split_first_chunk()?;
        let (device, rest) = rest.split_first_chunk()?;
        let (inode, path) = rest.split_first_chunk()?;
        let nanos = Duration::from_nanos(u32::from_be_bytes(*nanos).into());
        let mark = Mark {
            len: u64::from_be_bytes(*len),
            modified: Duration::from_secs(u64::from_be_bytes(*secs)).checked_add(nanos)?,
            device: u64::from_be_bytes(*device),
            inode: u64::from_be_bytes(*inode),
        };
        let path = path_from(path).filter(|path| path.is_absolute())?;
        Some(Self { path, mark })
    }
}

impl Mark {
    fn of(metadata: &Metadata) -> io::Result<Self> {
        let (device, inode) = identity(metadata);
        Ok(Self { len: metadata.len(), modified: since_epoch(metadata.modified()?), device, inode })
    }
}

fn not_regular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "it is no regular file")
}

/// Whether an error says that the path leads to no file that may be read, rather than that something has failed.
pub(super) fn leads_nowhere(error: &io::Error) -> bool {
    let kind = matches!(
        error.kind(),
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory
            | ErrorKind::InvalidInput
            | ErrorKind::InvalidFilename
            | ErrorKind::StaleNetworkFileHandle
    );
    kind || is_loop(error)
}

/// Symlinks that lead to each other.
#[cfg(unix)]
fn is_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(not(unix))]
fn is_loop(_error: &io::Error) -> bool {
    false
}

#[cfg(unix)]
fn open_at_once(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(not(unix))]
fn open_at_once(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (u64, u64) {
    (0, 0)
}

#[cfg(unix)]
fn path_bytes(path: &Path) -> Option<&[u8]> {
    Some(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
}

#[cfg(unix)]
fn path_from(bytes: &[u8]) -> Option<PathBuf> {
    let path: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(bytes);
    Some(path.into())
}

/// Elsewhere paths that are no Unicode have no bytes of their own.
#[cfg(not(unix))]
fn path_bytes(path: &Path) -> Option<&[u8]> {
    path.to_str().map(str::as_bytes)
}

#[cfg(not(unix))]
fn path_from(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_its_row_and_knows_its_file_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        fs::write(&path, b"film").unwrap();
        let origin = Origin::new(&path, &fs::metadata(&path).unwrap()).unwrap();
        let row = origin.to_row();
        assert_eq!(Origin::from_row(&row), Some(origin.clone()));
        assert_eq!(Origin::from_row(&row[..30]), None);
        assert_eq!(Origin::from_row(&row[..36]), None, "an empty path is not absolute");
        assert!(!origin.has_changed() && origin.open().is_ok());
        File::options().append(true).open(&path).unwrap().set_len(5).unwrap();
        assert!(origin.has_changed());
    }

    #[test]
    fn only_regular_files_with_a_path_from_the_root_are_origins() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Origin::new(dir.path(), &fs::metadata(dir.path()).unwrap()).is_err());
        let path = dir.path().join("film");
        fs::write(&path, b"film").unwrap();
        assert!(Origin::new("film", &fs::metadata(&path).unwrap()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_path_leads_to_by_now_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let (path, pipe) = (dir.path().join("film"), dir.path().join("pipe"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        fs::write(&path, b"film").unwrap();
        let origin = Origin::new(&path, &fs::metadata(&path).unwrap()).unwrap();
        for lead in ["pipe", "/dev/zero", "/", "film", "nothing", "pipe/below"] {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink(lead, &path).unwrap();
            let error = origin.open().unwrap_err();
            assert!(leads_nowhere(&error) && origin.has_changed(), "{lead}: {error}");
        }
        // Swapped between the look and the opening.
        assert!(!open_at_once(&pipe).unwrap().metadata().unwrap().is_file());
    }
}
