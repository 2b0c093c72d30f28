//! Reads parts of block files: a bounded number of them stays open, each read names its offset, and no lock is held
//! while the disk works.
//!
//! What the system has in its page cache is read at once, without going to another thread and back: for the 64 KiB of a
//! random range that trip would cost more than the copy. Where the system cannot promise not to block, or the range is
//! long, a blocking thread reads.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::eviction::Evictor;

/// How many files stay open. Well below the usual limit of 1024 descriptors a process.
const MAX_OPEN_FILES: u64 = 256;

/// The longest range read without leaving the calling thread: 30 µs of copying.
const INLINE_READ_BYTES: usize = 256 * 1024;

/// The open files, by the generation of their block: a name may be deleted and written again, a generation never.
#[derive(Debug)]
pub(crate) struct Files {
    open: Mutex<(u64, Evictor<u64, Arc<File>>)>,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { open: Mutex::new((0, Evictor::new())) }
    }

    /// The open file of a block, if there is one.
    pub(crate) fn get(&self, generation: u64) -> Option<Arc<File>> {
        let mut open = self.open.lock();
        open.0 += 1;
        let tick = open.0;
        open.1.touch(&generation, tick).map(|(_, file)| Arc::clone(file))
    }

    /// Opens a block's file and keeps it open. Blocks.
    pub(crate) fn open(&self, generation: u64, path: &Path) -> io::Result<Arc<File>> {
        let file = Arc::new(File::open(path)?);
        let closed = {
            let mut open = self.open.lock();
            open.0 += 1;
            let tick = open.0;
            let replaced = open.1.insert(generation, 1, tick, Arc::clone(&file));
            if open.1.bytes() > MAX_OPEN_FILES { open.1.pop_oldest().map(|(_, _, file)| file) } else { replaced }
        };
        drop(closed);
        Ok(file)
    }

    /// Closes a block's file; a deleted file frees its space only then.
    pub(crate) fn close(&self, generation: u64) {
        let closed = self.open.lock().1.remove(&generation);
        drop(closed);
    }

    /// Closes all.
    pub(crate) fn close_all(&self) {
        let closed = std::mem::replace(&mut self.open.lock().1, Evictor::new());
        drop(closed);
    }
}

/// Reads `len` bytes at `offset` if the system has all of them in memory, else `None`. Does not block.
#[cfg(target_os = "linux")]
pub(crate) fn read_cached(file: &File, offset: u64, len: usize) -> Option<Bytes> {
    use rustix::io::ReadWriteFlags;
    if len > INLINE_READ_BYTES {
        return None;
    }
    let mut bytes = vec![0; len];
    let count = rustix::io::preadv2(file, &mut [io::IoSliceMut::new(&mut bytes)], offset, ReadWriteFlags::NOWAIT);
    // Less than all means that the rest is on the disk; an error, that the file system cannot promise not to block.
    count.is_ok_and(|count| count == len).then(|| bytes.into())
}

/// Elsewhere no read promises not to block.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_cached(_file: &File, _offset: u64, _len: usize) -> Option<Bytes> {
    None
}

/// Reads exactly `len` bytes at `offset`. Blocks.
pub(crate) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        match read_more(file, offset + bytes.len() as u64, &mut bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(len);
    Ok(bytes.into())
}

/// Reads into the spare capacity, which spares zeroing it first.
#[cfg(unix)]
fn read_more(file: &File, offset: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
    Ok(rustix::io::pread(file, rustix::buffer::spare_capacity(bytes), offset)?)
}

#[cfg(windows)]
fn read_more(file: &File, offset: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
    use std::os::windows::fs::FileExt;
    let filled = bytes.len();
    bytes.resize(bytes.capacity(), 0);
    let count = file.seek_read(&mut bytes[filled..], offset);
    bytes.truncate(filled + count.as_ref().copied().unwrap_or(0));
    count
}

/// Reads a file from its start to its end, by position, so that others may read it meanwhile.
#[derive(Debug)]
pub(crate) struct Sequential<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
}

impl io::Read for Sequential<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_into(self.file, self.offset, buffer)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// Reads some bytes at `offset`; none at the file's end. Blocks.
#[cfg(unix)]
pub(crate) fn read_into(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Reads some bytes at `offset`; none at the file's end. Blocks.
#[cfg(windows)]
pub(crate) fn read_into(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_read_gives_exactly_its_range_or_says_that_the_file_is_short() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("block");
        let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        std::fs::write(&path, &data).unwrap();
        let files = Files::new();
        let file = files.open(1, &path).unwrap();
        for (offset, len) in [(0, 100_000), (1, 70_000), (99_999, 1), (5, 0)] {
            let at = usize::try_from(offset).unwrap();
            assert_eq!(read_at(&file, offset, len).unwrap(), data[at..at + len]);
            if let Some(cached) = read_cached(&file, offset, len) {
                assert_eq!(cached, data[at..at + len]);
            }
        }
        assert_eq!(read_at(&file, 99_999, 2).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(read_cached(&file, 99_999, 2).is_none());
        let mut all = Vec::new();
        Sequential { file: &file, offset: 0 }.read_to_end(&mut all).unwrap();
        assert_eq!(all, data);
    }

    #[test]
    fn only_the_recently_used_files_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("block");
        std::fs::write(&path, b"x").unwrap();
        let files = Files::new();
        for generation in 0..=MAX_OPEN_FILES {
            files.open(generation, &path).unwrap();
            assert!(files.get(0).is_some(), "0 is used all the time");
        }
        assert!(files.get(1).is_none());
        files.close(0);
        assert!(files.get(0).is_none());
    }
}
