//! mpv: a player that people have. It plays without a window and a loudspeaker, and puts the pictures that it would show
//! into files, so that a story sees what a viewer does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::ffmpeg::by_no_proxy;
use crate::process::Process;
use crate::programs::Program;

/// Playing a second or two, seeking there included.
const PLAYED_WITHIN: Duration = Duration::from_secs(60);

/// mpv with a folder for its files.
#[derive(Debug)]
pub struct Mpv {
    program: PathBuf,
    dir: PathBuf,
}

impl Mpv {
    /// Finds it; `None` when the story is to be skipped.
    pub fn find(dir: &Path) -> Option<Self> {
        Some(Self { program: Program::Mpv.find()?, dir: dir.to_owned() })
    }

    /// Plays `count` pictures of what `arguments` name, a URL, a file or an option, and returns them in order, as PNG.
    ///
    /// # Panics
    /// When mpv ends with another code than success.
    pub async fn pictures(&self, arguments: &[&str], count: usize) -> Vec<Vec<u8>> {
        let shown = tempfile::tempdir_in(&self.dir).unwrap_or_else(|e| panic!("a folder for pictures: {e}"));
        let mut command = Command::new(&self.program);
        command
            .args(["--no-config", "--ytdl=no", "--msg-level=all=warn", "--ao=null", "--vo=image", "--framedrop=no"])
            .args(["--vo-image-format=png", "--vo-image-png-compression=1"])
            .arg(format!("--vo-image-outdir={}", shown.path().display()))
            .arg(format!("--frames={count}"))
            .args(arguments);
        by_no_proxy(&mut command);
        let mut process = Process::start("mpv", &command, &self.dir);
        let status = process.finished(PLAYED_WITHIN).await;
        assert!(status.success(), "mpv {arguments:?} ended with {status}: {}", process.log());
        pictures_in(shown.path())
    }
}

/// The files of a folder in the order of their names, which are numbers with leading zeros.
fn pictures_in(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}
