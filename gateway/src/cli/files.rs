//! The files of a download: which bytes of the torrent go where.
//!
//! Names come from strangers. Each component was checked when the metainfo was parsed; here it is also made one that
//! any filesystem takes ([`safe`]).

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use swarmgate_swarm::Known;

use super::Exit;
use super::names::safe;
use super::source::Failure;

/// One file to make.
#[derive(Debug)]
struct OutFile {
    path: PathBuf,
    /// Its bytes in the torrent.
    range: Range<u64>,
    open: Option<File>,
    /// Whether it had its final name before we began.
    complete: bool,
}

/// The files of one download, in torrent order.
#[derive(Debug)]
pub(super) struct Files(Vec<OutFile>);

impl Files {
    /// Lays out the selected files below `out`: a torrent of several files in a folder of its name.
    ///
    /// # Errors
    /// When two files would have one path.
    pub(super) fn plan(out: &Path, known: &Known, selected: &[usize]) -> Result<Self, Failure> {
        let root = if known.info.single_file { out.to_owned() } else { out.join(safe(&known.meta.name)) };
        let mut files = Vec::new();
        for index in selected {
            let Some(entry) = known.meta.files.get(*index).filter(|entry| !entry.padding) else { continue };
            let path = entry.path.iter().fold(root.clone(), |path, component| path.join(safe(component)));
            files.push(OutFile { path, range: entry.offset..entry.offset + entry.len, open: None, complete: false });
        }
        let mut paths: Vec<_> = files.iter().map(|file| &file.path).collect();
        paths.sort_unstable();
        match paths.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twins) => Err(Failure::new(Exit::Error, format!("two files would be {}", twins[0].display()))),
            None => Ok(Self(files)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.0.iter().map(|file| file.range.end - file.range.start).sum()
    }

    /// The bytes of the torrent that are wanted, neighbours merged.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        let mut merged: Vec<Range<u64>> = Vec::new();
        for file in self.0.iter().filter(|file| !file.range.is_empty()) {
            match merged.last_mut() {
                Some(last) if last.end == file.range.start => last.end = file.range.end,
                Some(_) | None => merged.push(file.range.clone()),
            }
        }
        merged
    }

    /// What is on disk of a range, if all of it is and belongs to wanted files.
    pub(super) fn read(&mut self, range: Range<u64>) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
        let mut covered = 0;
        for file in &mut self.0 {
            let (start, end) = (file.range.start.max(range.start), file.range.end.min(range.end));
            if start >= end {
                continue;
            }
            let part = usize::try_from(start - range.start).ok()?..usize::try_from(end - range.start).ok()?;
            covered += part.len();
            file.read_at(start, bytes.get_mut(part)?)?;
        }
        (covered == bytes.len()).then_some(bytes)
    }

    /// Makes the files that are not there.
    pub(super) fn create(&mut self) -> Result<(), Failure> {
        self.0.iter_mut().try_for_each(|file| file.create().map_err(|error| file.complain(&error)))
    }

    /// Writes bytes that begin at `position` of the torrent; what belongs to no wanted file is dropped.
    pub(super) fn write(&mut self, position: u64, bytes: &[u8]) -> Result<(), Failure> {
        let end = position + bytes.len() as u64;
        // Files are in torrent order, so the first concerned is found by bisection.
        let first = self.0.partition_point(|file| file.range.end <= position);
        for file in self.0[first..].iter_mut().take_while(|file| file.range.start < end) {
            let (from, to) = (file.range.start.max(position), file.range.end.min(end));
            let part = offset(from - position)..offset(to - position);
            file.write_at(from, &bytes[part]).map_err(|error| file.complain(&error))?;
        }
        Ok(())
    }

    /// Gives every file its name.
    pub(super) fn finish(self) -> Result<Vec<PathBuf>, Failure> {
        let named =
            self.0.into_iter().map(|mut file| file.finish().map_err(|error| file.complain(&error)).map(|()| file.path));
        named.collect()
    }
}

impl OutFile {
    fn part_path(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".part");
        name.into()
    }

    fn opened(&mut self) -> std::io::Result<&mut File> {
        if self.open.is_none() {
            let existing = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
            let file = match existing(&self.part_path()) {
                Ok(file) => file,
                Err(_) => {
                    let file = existing(&self.path)?;
                    self.complete = true;
                    file
                }
            };
            self.open = Some(file);
        }
        self.open.as_mut().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    fn read_at(&mut self, position: u64, bytes: &mut [u8]) -> Option<()> {
        let within = position - self.range.start;
        let file = self.opened().ok()?;
        file.seek(SeekFrom::Start(within)).ok()?;
        file.read_exact(bytes).ok()
    }

    fn create(&mut self) -> std::io::Result<()> {
        if self.opened().is_ok() {
            return Ok(());
        }
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.part_path())?;
        self.open = Some(options);
        Ok(())
    }

    fn write_at(&mut self, position: u64, bytes: &[u8]) -> std::io::Result<()> {
        let within = position - self.range.start;
        let file = self.opened()?;
        file.seek(SeekFrom::Start(within))?;
        file.write_all(bytes)
    }

    fn finish(&mut self) -> std::io::Result<()> {
        let len = self.range.end - self.range.start;
        self.create()?;
        let file = self.opened()?;
        if file.metadata()?.len() != len {
            file.set_len(len)?;
        }
        self.open = None;
        if self.complete { Ok(()) } else { std::fs::rename(self.part_path(), &self.path) }
    }

    fn complain(&self, error: &std::io::Error) -> Failure {
        Failure::new(Exit::from(error), format!("{}: {error}", self.path.display()))
    }
}

fn offset(distance: u64) -> usize {
    usize::try_from(distance).expect("within a buffer in memory")
}
