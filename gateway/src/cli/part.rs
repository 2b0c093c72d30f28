//! One file of a download: it grows with `.part` behind its name, and gets its name when every byte of it is right. A
//! file that has its name and turns out to be wrong loses it until it is repaired.
//!
//! What is on the disk is a hint, whoever wrote it: it is read to be hashed ([`AtHand`]), and what was fetched is
//! compared with it, so that a file that is right is not written to.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use swarmgate_ipfs::at_hand::AtHand;
use swarmgate_ipfs_proto::block::MAX_BLOCK_BYTES;

/// One file to make. Its methods wait for the disk, all but [`AtHand::reaches`].
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    files: Mutex<Files>,
    /// How many bytes the longest of its files has.
    reach: AtomicU64,
}

/// What there is of it.
#[derive(Debug, Default)]
struct Files {
    /// The one that grows.
    part: Option<File>,
    /// The one that has the name, from an earlier run.
    named: Option<File>,
}

impl Part {
    /// Opens what there is of the file at `path`, and makes nothing.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let files = Files {
            part: existing(&part_path(&path), OpenOptions::new().read(true).write(true))?,
            named: existing(&path, OpenOptions::new().read(true))?,
        };
        let mut reach = 0;
        for file in [&files.part, &files.named].into_iter().flatten() {
            reach = reach.max(file.metadata()?.len());
        }
        Ok(Self { path, files: Mutex::new(files), reach: AtomicU64::new(reach) })
    }

    /// Writes bytes to their place, unless they are there; says whether they were.
    pub(super) fn put(&self, offset: u64, bytes: &[u8]) -> io::Result<bool> {
        let mut files = self.files.lock();
        if files.current().is_some_and(|file| holds(file, offset, bytes)) {
            return Ok(true);
        }
        let file = files.growing(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        self.reach.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        Ok(false)
    }

    /// Gives the file its name. All of its `len` bytes were put; what is behind them is cut off.
    pub(super) fn finish(&self, len: u64) -> io::Result<()> {
        let mut files = self.files.lock();
        if files.part.is_none()
            && let Some(named) = &files.named
            && named.metadata()?.len() == len
        {
            return Ok(());
        }
        let file = files.growing(&self.path)?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        // Some systems rename no file that is open.
        *files = Files::default();
        std::fs::rename(part_path(&self.path), &self.path)
    }
}

impl Files {
    /// The one that is to become right.
    const fn current(&self) -> Option<&File> {
        if self.part.is_some() { self.part.as_ref() } else { self.named.as_ref() }
    }

    /// The one that grows; where there is none, it is what has the name, or new.
    fn growing(&mut self, path: &Path) -> io::Result<&mut File> {
        if self.part.is_none() {
            let part = part_path(path);
            if self.named.take().is_some() {
                std::fs::rename(path, &part)?;
            } else if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part)?;
            self.part = Some(options);
        }
        self.part.as_mut().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl AtHand for Part {
    fn reaches(&self, offset: u64) -> bool {
        offset <= self.reach.load(Ordering::Relaxed)
    }

    fn read(&self, offset: u64, len: Option<u64>) -> Vec<Bytes> {
        let files = self.files.lock();
        let here = [&files.part, &files.named].into_iter().flatten();
        here.filter_map(|file| read_at(file, offset, len)).collect()
    }
}

/// What a file is called until it is complete.
pub(super) fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// Opens a file, where there is one. What is something else stands in the way: nothing is written through a link.
fn existing(path: &Path, options: &OpenOptions) -> io::Result<Option<File>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => options.open(path).map(Some),
        Ok(_) => Err(io::Error::new(ErrorKind::AlreadyExists, "something that is no file stands there")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// So many bytes, or all that there are; `None` when they are not there or more than a block has.
fn read_at(mut file: &File, offset: u64, len: Option<u64>) -> Option<Bytes> {
    let there = file.metadata().ok()?.len().checked_sub(offset)?;
    let len = len.unwrap_or(there);
    if len > there || len > MAX_BLOCK_BYTES as u64 {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(bytes.into())
}

fn holds(file: &File, offset: u64, bytes: &[u8]) -> bool {
    read_at(file, offset, Some(bytes.len() as u64)).is_some_and(|there| there == bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/film");
        let part = Part::open(path.clone()).unwrap();
        assert!(names(dir.path()).is_empty(), "looking makes nothing");
        assert!(!part.put(0, b"hello ").unwrap());
        assert!(!part.put(6, b"world").unwrap());
        assert!(part.put(6, b"world").unwrap());
        assert_eq!(names(&dir.path().join("a")), ["film.part"]);
        part.finish(11).unwrap();
        assert_eq!(names(&dir.path().join("a")), ["film"]);
        assert_eq!(std::fs::read(path).unwrap(), b"hello world");
    }

    #[test]
    fn a_right_file_is_not_written_to_and_a_wrong_one_loses_its_name_until_it_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        std::fs::write(&path, "hello world, and more").unwrap();
        let mut permissions = std::fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&path, permissions).unwrap();
        let part = Part::open(path.clone()).unwrap();
        assert!(part.put(0, b"hello world").unwrap());
        part.finish(21).unwrap();
        assert_eq!(names(dir.path()), ["film"]);
        std::fs::remove_file(&path).unwrap();

        std::fs::write(&path, "hullo world, and more").unwrap();
        let part = Part::open(path.clone()).unwrap();
        assert!(!part.put(0, b"hello ").unwrap());
        assert_eq!(names(dir.path()), ["film.part"]);
        assert!(part.put(6, b"world").unwrap());
        part.finish(11).unwrap();
        assert_eq!(
            (names(dir.path()), std::fs::read(&path).unwrap()),
            (vec!["film".to_owned()], b"hello world".to_vec())
        );
    }

    #[test]
    fn what_lies_there_is_read_in_both_versions_and_no_further_than_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        std::fs::write(&path, "hello").unwrap();
        std::fs::write(part_path(&path), "hel").unwrap();
        let part = Part::open(path).unwrap();
        assert_eq!(part.read(0, None), ["hel", "hello"]);
        assert_eq!(part.read(2, Some(3)), ["llo"]);
        assert!(part.read(6, Some(1)).is_empty() && !part.reaches(6) && part.reaches(5));
    }

    #[cfg(unix)]
    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        for (link, path) in [("film", "film"), ("show.part", "show")] {
            std::os::unix::fs::symlink("elsewhere", dir.path().join(link)).unwrap();
            let error = Part::open(dir.path().join(path)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{link}");
        }
    }
}
