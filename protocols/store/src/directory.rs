//! The directory of a store: who owns it, where a block's file lies, and how one comes and goes.
//!
//! ```text
//! lock              held while open; says which layout this is
//! clean             the manifest of a clean close; absent while open
//! index.redb        small blocks, pins, records
//! blocks/3f/1114…   one file a large block, named by its multihash in hex
//! tmp/              files being written; emptied at start
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use swarmgate_content::BlockHash;

use crate::error::{OpenError, StorageFault};
use crate::key::Key;
use crate::manifest::{Manifest, Seal, since_epoch};
use crate::options::MAX_BLOCK_BYTES;

const LOCK: &str = "lock";
const MANIFEST: &str = "clean";
const INDEX: &str = "index.redb";
const BLOCKS: &str = "blocks";
const TMP: &str = "tmp";

/// The content of the lock file: the layout's name and version.
const FORMAT: &str = "swarmgate-store 1\n";

/// How much of a lock file is read; more than any version writes.
const MAX_FORMAT_BYTES: u64 = 64;

/// A file that every new volume has, so a directory with it still counts as empty. So do hidden files.
const VOLUME_DEBRIS: &str = "lost+found";

/// An open directory's paths.
#[derive(Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    next_tmp: AtomicU64,
}

/// A block's file, found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundFile {
    pub(crate) key: Key,
    pub(crate) len: u32,
    pub(crate) changed: Duration,
}

impl Directory {
    /// Creates what is missing, takes the lock and removes leftovers of writes. The lock lasts as long as the file.
    pub(crate) fn open(root: &Path) -> Result<(Self, File), OpenError> {
        match fs::metadata(root) {
            Ok(found) if !found.is_dir() => return Err(OpenError::NotADirectory { path: root.to_owned() }),
            Ok(_) => {}
            Err(_) => make_dir(root)?,
        }
        refuse_foreign(root)?;
        let lock = take_lock(root)?;
        let directory = Self { root: root.to_owned(), next_tmp: AtomicU64::new(0) };
        make_dir(&directory.root.join(BLOCKS))?;
        for spread in 0..=u8::MAX {
            make_dir(&directory.shelf(spread))?;
        }
        let tmp = directory.root.join(TMP);
        make_dir(&tmp)?;
        directory.empty_tmp().map_err(|error| OpenError::from_io("emptying", tmp, error))?;
        Ok((directory, lock))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.root.join(INDEX)
    }

    /// Where a block's file lies.
    pub(crate) fn path_of(&self, key: &Key) -> PathBuf {
        self.shelf(key.spread()).join(HEXLOWER.encode(&key.hash().to_bytes()))
    }

    /// Writes a block aside and moves it into its place. On an error nothing is left.
    pub(crate) fn write_block(&self, key: &Key, bytes: &[u8]) -> io::Result<()> {
        self.write_aside(&self.path_of(key), bytes, Sync::Later)
    }

    /// Deletes a block's file; one that is gone already is fine.
    pub(crate) fn delete_block(&self, key: &Key) -> io::Result<()> {
        ignore_missing(fs::remove_file(self.path_of(key)))
    }

    /// What a block's file looks like now.
    pub(crate) fn seal(&self, key: &Key) -> io::Result<Seal> {
        let found = fs::metadata(self.path_of(key))?;
        Ok(Seal { len: u32::try_from(found.len()).unwrap_or(u32::MAX), changed: since_epoch(found.modified()?) })
    }

    /// Lists all block files. Whatever has no block's name is not ours and stays.
    pub(crate) fn scan(&self) -> io::Result<Vec<FoundFile>> {
        let mut found = Vec::new();
        for spread in 0..=u8::MAX {
            for entry in fs::read_dir(self.shelf(spread))? {
                let entry = entry?;
                let key = entry.file_name().to_str().and_then(|name| read_name(name, spread));
                match key {
                    Some(key) if entry.file_type()?.is_file() => found.extend(found_file(key, &entry.metadata()?)),
                    _ => tracing::debug!(path = %entry.path().display(), "not a block, left alone"),
                }
            }
        }
        Ok(found)
    }

    /// Reads the manifest of the last close and deletes it. Without one, nothing is trusted.
    pub(crate) fn take_manifest(&self) -> io::Result<Manifest> {
        let path = self.root.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(error),
        };
        fs::remove_file(&path)?;
        Ok(Manifest::parse(&bytes).unwrap_or_default())
    }

    /// Writes the manifest, after all it vouches for is on the disk.
    pub(crate) fn write_manifest(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_aside(&self.root.join(MANIFEST), bytes, Sync::Now)?;
        sync_directory(&self.root)
    }

    /// Puts every block's bytes on the disk for good; blocks are not synchronised one by one.
    #[cfg(target_os = "linux")]
    pub(crate) fn sync(&self, _files: &[Key]) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.root)?)?)
    }

    /// Puts the given blocks' bytes on the disk for good; blocks are not synchronised one by one while they come.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn sync(&self, files: &[Key]) -> io::Result<()> {
        files.iter().try_for_each(|key| OpenOptions::new().write(true).open(self.path_of(key))?.sync_all())
    }

    fn shelf(&self, spread: u8) -> PathBuf {
        self.root.join(BLOCKS).join(format!("{spread:02x}"))
    }

    fn write_aside(&self, path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
        let aside = self.root.join(TMP).join(self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string());
        let write = || {
            let mut file = File::create_new(&aside)?;
            file.write_all(bytes)?;
            match sync {
                Sync::Now => file.sync_all()?,
                Sync::Later => {}
            }
            drop(file);
            fs::rename(&aside, path)
        };
        write().inspect_err(|_| {
            // The error that matters is the first one; the next start empties the directory anyway.
            let _ = fs::remove_file(&aside);
        })
    }

    fn empty_tmp(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(TMP))? {
            let entry = entry?;
            let ours = entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
            if ours && entry.file_type()?.is_file() {
                ignore_missing(fs::remove_file(entry.path()))?;
            }
        }
        Ok(())
    }
}

/// When written bytes must be on the disk rather than in the system's memory.
#[derive(Debug, Clone, Copy)]
enum Sync {
    Now,
    Later,
}

fn make_dir(path: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(path).map_err(|error| OpenError::from_io("creating", path.to_owned(), error))
}

/// A mistyped path must not cost anybody their files: `tmp` is emptied and blocks are deleted at will.
fn refuse_foreign(root: &Path) -> Result<(), OpenError> {
    let failed = |error| OpenError::from_io("reading", root.to_owned(), error);
    // The mark in the lock file is written before anything else, so an empty one makes no directory ours.
    if fs::metadata(root.join(LOCK)).is_ok_and(|lock| lock.len() > 0) {
        return Ok(());
    }
    for entry in fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        if name != LOCK && name != VOLUME_DEBRIS && !name.starts_with('.') {
            return Err(OpenError::Foreign { path: root.to_owned(), example: name });
        }
    }
    Ok(())
}

fn take_lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join(LOCK);
    let failed = |error| OpenError::from_io("locking", path.clone(), error);
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let mut found = Vec::new();
    Read::by_ref(&mut lock).take(MAX_FORMAT_BYTES).read_to_end(&mut found).map_err(failed)?;
    if found.is_empty() {
        lock.write_all(FORMAT.as_bytes()).map_err(failed)?;
    } else if found != FORMAT.as_bytes() {
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        return Err(OpenError::Format { path: root.to_owned(), found, expected: FORMAT.trim_ascii_end() });
    }
    Ok(lock)
}

fn read_name(name: &str, spread: u8) -> Option<Key> {
    let hash = BlockHash::from_bytes(&HEXLOWER.decode(name.as_bytes()).ok()?)?;
    let key = Key::from(&hash);
    (key.spread() == spread).then_some(key)
}

fn found_file(key: Key, metadata: &fs::Metadata) -> Option<FoundFile> {
    let len = u32::try_from(metadata.len()).ok().filter(|len| u64::from(*len) <= MAX_BLOCK_BYTES)?;
    Some(FoundFile { key, len, changed: metadata.modified().map(since_epoch).unwrap_or_default() })
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a rename last through a power loss.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Says what failed about which block.
pub(crate) fn block_fault(doing: &'static str, key: &Key, error: io::Error) -> StorageFault {
    StorageFault::new(doing, format!("block {}", key.hash()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Key {
        Key::from(&BlockHash::sha1([number; 20]))
    }

    #[test]
    fn a_block_is_written_aside_found_again_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _lock) = Directory::open(dir.path()).unwrap();
        directory.write_block(&key(0x3f), b"block").unwrap();
        assert!(dir.path().join("blocks/3f").join(format!("1114{}", "3f".repeat(20))).is_file());
        fs::write(dir.path().join("blocks/3f/notes.txt"), b"mine").unwrap();
        let found = directory.scan().unwrap();
        assert_eq!(found.iter().map(|file| (file.key, file.len)).collect::<Vec<_>>(), [(key(0x3f), 5)]);
        assert_eq!(Seal { len: 5, changed: found[0].changed }, directory.seal(&key(0x3f)).unwrap());
        directory.delete_block(&key(0x3f)).unwrap();
        directory.delete_block(&key(0x3f)).unwrap();
        assert!(directory.scan().unwrap().is_empty());
        assert!(dir.path().join("blocks/3f/notes.txt").is_file());
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _lock) = Directory::open(dir.path()).unwrap();
        fs::remove_dir(dir.path().join("blocks/07")).unwrap();
        assert_eq!(directory.write_block(&key(7), b"block").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(dir.path().join(TMP)).unwrap().count(), 0);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed_at_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(dir.path()).unwrap());
        fs::write(dir.path().join("tmp/17"), b"half a block").unwrap();
        let _open = Directory::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join(TMP)).unwrap().count(), 0);
    }

    #[test]
    fn directories_that_cannot_be_a_store_are_refused_in_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let say = |path: &Path| Directory::open(path).unwrap_err().to_string();
        let path = dir.path().join("cache");
        let first = Directory::open(&path).unwrap();
        assert!(say(&path).ends_with("is in use by another running instance: stop it or choose another directory"));
        drop(first);
        fs::write(path.join(LOCK), "swarmgate-store 9\n").unwrap();
        assert!(say(&path).ends_with(r#"(its mark is "swarmgate-store 9", not "swarmgate-store 1")"#));
        assert!(say(&path.join(LOCK)).ends_with("lock is not a directory"));
        assert!(say(&path.join(LOCK).join("below")).ends_with("below is not a directory"));
        let films = dir.path().join("films");
        fs::create_dir(&films).unwrap();
        fs::write(films.join("holiday.mkv"), b"precious").unwrap();
        fs::write(films.join(LOCK), b"").unwrap();
        assert!(say(&films).ends_with("films holds other files (holiday.mkv): choose an empty directory"));
    }

    #[test]
    fn a_manifest_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _lock) = Directory::open(dir.path()).unwrap();
        let seal = Seal { len: 5, changed: Duration::from_secs(9) };
        directory.write_manifest(&crate::manifest::write([(key(1), seal)])).unwrap();
        assert_eq!(directory.take_manifest().unwrap().rank(&key(1), seal), Some(0));
        assert_eq!(directory.take_manifest().unwrap().rank(&key(1), seal), None);
    }
}
