//! What lies at a path: files in the torrent's order, and all else that the DAG has.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use swarmgate_bittorrent_proto::metainfo::MAX_FILES;
use swarmgate_store::Origin;

use super::PublishError;

/// How deep a tree of directories may be; as `add` has it.
pub(super) const MAX_DEPTH: usize = 64;

/// What was found, and how it was then.
#[derive(Debug)]
pub(super) struct Tree {
    /// Where it is, from the root and without symlinks: so its files are found whatever a link leads to later.
    pub(super) path: PathBuf,
    /// The last part of the path as it was given.
    pub(super) name: String,
    pub(super) top: Entry,
    /// By path, so that a directory's files lie together.
    pub(super) files: Vec<SourceFile>,
}

/// One thing of a directory.
#[derive(Debug)]
pub(super) enum Entry {
    /// By its number.
    File(usize),
    /// By name.
    Directory(Vec<(String, Self)>),
    /// With the bytes of its target.
    Symlink(Vec<u8>),
}

/// A file to be read.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// The path below the top; empty when it is the top.
    pub(super) names: Vec<String>,
    pub(super) len: u64,
    /// What it was when it was found.
    pub(super) origin: Arc<Origin>,
}

impl Tree {
    /// Looks at what a path leads to. Blocks.
    pub(super) fn look(given: &Path) -> Result<Self, PublishError> {
        let path = fs::canonicalize(given).map_err(|error| read(given, error))?;
        let name = given.file_name().or_else(|| path.file_name()).map_or_else(OsString::new, ToOwned::to_owned);
        let name = name.into_string().map_err(|_| PublishError::NotUtf8(path.clone()))?;
        let mut files = Vec::new();
        let top = look(&path, &mut Vec::new(), &mut files)?;
        let tree = Self { path, name, top, files };
        if tree.total_len() == 0 { Err(PublishError::Empty(tree.path)) } else { Ok(tree) }
    }

    /// All files together, in bytes.
    pub(super) fn total_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).fold(0, u64::saturating_add)
    }

    /// Whether every file is still what it was. Blocks.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        self.files.iter().try_for_each(SourceFile::check)
    }
}

impl SourceFile {
    /// Whether the path still leads to what was found there. Blocks.
    pub(super) fn check(&self) -> Result<(), PublishError> {
        let path = self.origin.path();
        let same = fs::metadata(path).is_ok_and(|metadata| self.origin.is_still(&metadata));
        if same { Ok(()) } else { Err(PublishError::Changed(path.to_owned())) }
    }
}

pub(super) fn read(path: &Path, error: std::io::Error) -> PublishError {
    PublishError::Read { path: path.to_owned(), error }
}

fn look(path: &Path, names: &mut Vec<String>, files: &mut Vec<SourceFile>) -> Result<Entry, PublishError> {
    let metadata = fs::symlink_metadata(path).map_err(|error| read(path, error))?;
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(|error| read(path, error))?;
        return Ok(Entry::Symlink(target.into_os_string().into_encoded_bytes()));
    }
    if metadata.is_dir() {
        return directory(path, names, files);
    }
    if !metadata.is_file() {
        return Err(PublishError::NotRegular(path.to_owned()));
    }
    if files.len() >= MAX_FILES {
        return Err(PublishError::TooMany(path.to_owned()));
    }
    let origin = Origin::new(path, &metadata).map_err(|error| read(path, error))?;
    files.push(SourceFile { names: names.clone(), len: metadata.len(), origin: Arc::new(origin) });
    Ok(Entry::File(files.len() - 1))
}

fn directory(path: &Path, names: &mut Vec<String>, files: &mut Vec<SourceFile>) -> Result<Entry, PublishError> {
    if names.len() >= MAX_DEPTH {
        return Err(PublishError::TooDeep(path.to_owned()));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| read(path, error))? {
        let entry = entry.map_err(|error| read(path, error))?;
        let name = entry.file_name().into_string().map_err(|_| PublishError::NotUtf8(entry.path()))?;
        found.push(name);
    }
    found.sort_unstable();
    let mut entries = Vec::with_capacity(found.len());
    for name in found {
        names.push(name.clone());
        let entry = look(&path.join(&name), names, files)?;
        names.pop();
        entries.push((name, entry));
    }
    Ok(Entry::Directory(entries))
}
