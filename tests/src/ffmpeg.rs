//! ffmpeg: it makes the films of stories, and reads what a gateway serves as every player does that stands on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::programs::Program;

/// Encoding or decoding a minute of a small picture, which takes a second or two on an idle machine.
const DONE_WITHIN: Duration = Duration::from_secs(90);

/// ffmpeg with a folder for its files.
#[derive(Debug)]
pub struct Ffmpeg {
    program: PathBuf,
    dir: PathBuf,
}

/// What a film is wrapped in. In both of them what a player needs for seeking lies at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// VP8 and Opus.
    Webm,
    /// MPEG-4 and AAC. Without its last bytes not even the first picture can be shown.
    Mp4,
}

impl Ffmpeg {
    /// Finds it; `None` when the story is to be skipped.
    pub fn find(dir: &Path) -> Option<Self> {
        Some(Self { program: Program::Ffmpeg.find()?, dir: dir.to_owned() })
    }

    /// Makes a film of so many seconds, of about 100 KB each, with pictures that all differ, and says where it is.
    pub async fn film(&self, wrapping: Wrapping, seconds: u32) -> PathBuf {
        let (name, video, audio) = match wrapping {
            Wrapping::Webm => {
                ("film.webm", ["libvpx", "-deadline", "realtime", "-cpu-used", "8"].as_slice(), "libopus")
            }
            Wrapping::Mp4 => ("film.mp4", ["mpeg4"].as_slice(), "aac"),
        };
        let path = self.dir.join(name);
        let pictures = format!("testsrc2=size=320x180:rate=15:duration={seconds}");
        let sound = format!("sine=frequency=440:duration={seconds}");
        let file = path.display().to_string();
        let inputs = ["-y", "-f", "lavfi", "-i", &pictures, "-f", "lavfi", "-i", &sound, "-c:v"];
        let outputs = ["-b:v", "1M", "-c:a", audio, "-threads", "1", &file];
        self.run(&[&inputs, video, &outputs].concat()).await;
        path
    }

    /// Decodes all pictures and all sound of an input, from `start` seconds on, and returns their digest, with anything
    /// that ffmpeg found wrong.
    pub async fn digest(&self, input: &str, start: u32) -> String {
        self.run(&["-ss", &start.to_string(), "-i", input, "-f", "md5", "-"]).await
    }

    /// Decodes an input from `start` seconds on and drops what comes of it; returns what ffmpeg found wrong.
    pub async fn complaints(&self, input: &str, start: u32) -> String {
        self.run(&["-ss", &start.to_string(), "-i", input, "-f", "null", "-"]).await
    }

    /// Runs it to its end, and returns what it said.
    async fn run(&self, args: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]).args(args);
        by_no_proxy(&mut command);
        let mut process = Process::start("ffmpeg", &command, &self.dir);
        let status = process.finished(DONE_WITHIN).await;
        assert!(status.success(), "ffmpeg {args:?} ended with {status}: {}", process.log());
        process.log()
    }
}

/// A proxy of the machine is for what is not on it.
pub(crate) fn by_no_proxy(command: &mut Command) {
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
}
