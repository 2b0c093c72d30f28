//! `swarmgate add`: files and directories become UnixFS in the cache, pinned.
//!
//! The bytes are copied into the cache. A file that stays where it is and is served from there would need a store that
//! notices when somebody changes it; this one does not have that.

use std::io::Write;
use std::path::Path;

use swarmgate_config::Config;
use swarmgate_content::BoxFuture;
use swarmgate_ipfs::intake::Intake;
use swarmgate_ipfs::pins::{Pin, PinError};
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, FileBuilder, Profile, symlink};
use tokio::io::AsyncReadExt;

use super::Exit;
use super::args::{Add, Output};
use super::dags::{Dags, Reach, pin_failure};
use super::import::{Shown, open, tell};
use super::source::Failure;

/// How much of a file is read at a time.
const READ_BYTES: usize = 256 << 10;
/// How deep a tree of directories may be.
const MAX_DEPTH: usize = 64;
/// Smallest and largest chunk, in bytes: a block has at most 2 MiB, with its frame.
const CHUNK_BYTES: std::ops::RangeInclusive<usize> = 1024..=2 * 1024 * 1024 - 1024;

/// Runs `add`.
///
/// # Errors
/// [`Failure`]; nothing is pinned then.
pub async fn run(
    config: &Config,
    command: &Add,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let profile = profile(command)?;
    let dags = Dags::open(config, Reach::Cache).await?;
    let adding = async {
        let mut adding = Adding {
            intake: Intake::new(dags.pins()),
            profile,
            shown: Shown::new(0, &command.path.display().to_string()),
        };
        let built = adding.thing(&command.path, 0).await?;
        adding.finish(&built).await
    };
    let outcome = tokio::select! {
        outcome = adding => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")),
    };
    dags.shutdown().await;
    tell(&outcome?, output, out)
}

/// What `--cid-version` and `--chunker` ask for.
fn profile(command: &Add) -> Result<Profile, Failure> {
    let mut profile = if command.cid_version == 0 { Profile::V0_2015 } else { Profile::V1_2025 };
    if let Some(chunker) = &command.chunker {
        let size = chunker.strip_prefix("size-").and_then(|size| size.parse().ok());
        let size = size.filter(|size| CHUNK_BYTES.contains(size));
        profile.chunk_bytes = size.ok_or_else(|| {
            let (least, most) = (CHUNK_BYTES.start(), CHUNK_BYTES.end());
            let message = format!("--chunker {chunker}: has to be size-BYTES, from {least} to {most} bytes");
            Failure::new(Exit::Usage, message)
        })?;
    }
    Ok(profile)
}

struct Adding {
    intake: Intake,
    profile: Profile,
    shown: Shown,
}

impl Adding {
    /// Adds a file, a directory with all below it, or a symlink as what it is.
    fn thing<'a>(&'a mut self, path: &'a Path, depth: usize) -> BoxFuture<'a, Result<Built, Failure>> {
        Box::pin(async move {
            let metadata = tokio::fs::symlink_metadata(path).await.map_err(|error| complain(path, &error))?;
            // What was named on the command line is followed; what lies below is taken as it is.
            if metadata.is_symlink() && depth > 0 {
                return self.link(path).await;
            }
            let is_dir = tokio::fs::metadata(path).await.map_err(|error| complain(path, &error))?.is_dir();
            if is_dir { self.directory(path, depth).await } else { self.file(path).await }
        })
    }

    async fn file(&mut self, path: &Path) -> Result<Built, Failure> {
        let (mut file, mut chunk) = (open(path).await?, vec![0; READ_BYTES]);
        let mut builder = FileBuilder::new(self.profile);
        loop {
            let count = file.read(&mut chunk).await.map_err(|error| complain(path, &error))?;
            if count == 0 {
                break;
            }
            builder.push(&chunk[..count]);
            while let Some(block) = builder.poll_block() {
                self.put(block).await?;
            }
        }
        let built = builder.finish();
        while let Some(block) = builder.poll_block() {
            self.put(block).await?;
        }
        Ok(built)
    }

    async fn directory(&mut self, path: &Path, depth: usize) -> Result<Built, Failure> {
        if depth >= MAX_DEPTH {
            let message = format!("{}: deeper than {MAX_DEPTH} directories", path.display());
            return Err(Failure::new(Exit::Usage, message));
        }
        let mut builder = DirectoryBuilder::new(self.profile);
        let mut entries = tokio::fs::read_dir(path).await.map_err(|error| complain(path, &error))?;
        while let Some(entry) = entries.next_entry().await.map_err(|error| complain(path, &error))? {
            let built = self.thing(&entry.path(), depth + 1).await?;
            let added = builder.add(entry.file_name().into_encoded_bytes(), built);
            added.map_err(|error| Failure::new(Exit::Error, format!("{}: {error}", path.display())))?;
        }
        let finished = builder.finish();
        let (built, blocks) =
            finished.map_err(|error| Failure::new(Exit::Error, format!("{}: {error}", path.display())))?;
        for block in blocks {
            self.put(block).await?;
        }
        Ok(built)
    }

    async fn link(&mut self, path: &Path) -> Result<Built, Failure> {
        let target = tokio::fs::read_link(path).await.map_err(|error| complain(path, &error))?;
        let (built, block) = symlink(&self.profile, target.into_os_string().as_encoded_bytes());
        self.put(block).await?;
        Ok(built)
    }

    async fn put(&mut self, block: Block) -> Result<(), Failure> {
        let put = self.intake.put(&block.cid, block.bytes).await;
        self.shown.set(self.intake.taken());
        put.map_err(|error| pin_failure(&error))
    }

    async fn finish(self, root: &Built) -> Result<Vec<Pin>, Failure> {
        let pinned: Result<Vec<Pin>, PinError> = self.intake.finish(&[root.cid], false).await;
        let pins = pinned.map_err(|error| pin_failure(&error))?;
        self.shown.finish();
        Ok(pins)
    }
}

fn complain(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::from(error), format!("{}: {error}", path.display()))
}
