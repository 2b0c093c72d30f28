//! `swarmgate add`: files and directories become UnixFS in the cache, pinned.
//!
//! Where a gateway holds the cache it is sent the blocks, as a CAR, and pins them itself.
//!
//! The bytes are copied into the cache. With `--in-place` those of files stay where they are: the leaves of a file's
//! DAG are its bytes and nothing else, so the cache keeps references to parts of the file, and checks them at every
//! read. What has bytes of its own is in the cache either way: the nodes above the leaves, directories, symlinks.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use swarmgate_config::Config;
use swarmgate_content::{BoxFuture, Cid};
use swarmgate_ipfs::intake::{Intake, Taken};
use swarmgate_ipfs::pins::Pin;
use swarmgate_ipfs_proto::build::{Block, Built, DirectoryBuilder, FileBuilder, Profile, symlink};
use swarmgate_ipfs_proto::car;
use swarmgate_ipfs_proto::codec::Codec;
use swarmgate_store::Origin;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::args::{Add, Output};
use super::dags::{Dags, Reach, pin_failure};
use super::holder::Holder;
use super::import::{Shown, open, tell};
use super::running::Running;
use super::source::Failure;
use super::{Exit, kept};
use crate::api::dags::DagStatus;

/// How much of a file is read at a time.
const READ_BYTES: usize = 256 << 10;
/// Parts of a CAR that wait to be sent; at most 2 MiB each.
const CHUNKS_UNDER_WAY: usize = 4;
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
    if command.path.to_str().is_some_and(|path| path.starts_with("magnet:")) {
        let message = "a magnet is no file; `swarmgate keep MAGNET` has the running gateway fetch and hold a torrent";
        return Err(Failure::new(Exit::Usage, message));
    }
    let profile = profile(command)?;
    let path = place(command).await?;
    let interrupted = async {
        interrupted.await;
        Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")
    };
    let label = command.path.display().to_string();
    let kept = match Dags::open_or_ask(config, command.api.as_deref(), Reach::Cache).await? {
        Holder::Command(dags) => {
            let outcome = tokio::select! {
                outcome = keep(&dags, command, profile, &path, &label) => outcome,
                failure = interrupted => Err(failure),
            };
            dags.shutdown().await;
            outcome?
        }
        Holder::Gateway(_) if command.in_place => {
            let why = "a gateway holds the cache, and takes copies alone; `swarmgate publish` has it serve files from \
                       where they lie, below its publish.dirs";
            return Err(Failure::new(Exit::Usage, format!("{label}: {why}")));
        }
        Holder::Gateway(running) => tokio::select! {
            outcome = hand_over(&running, profile, &path, &label) => outcome?,
            failure = interrupted => return Err(failure),
        },
    };
    tell(&kept, output, out)
}

/// Adds it to the cache.
async fn keep(
    dags: &Dags,
    command: &Add,
    profile: Profile,
    path: &Path,
    label: &str,
) -> Result<Vec<DagStatus>, Failure> {
    let sink = Sink::Cache(Intake::new(dags.pins()));
    let mut adding = Adding { sink, profile, in_place: command.in_place, shown: Shown::new(0, label) };
    let built = adding.thing(path, 0).await?;
    let pins = adding.sink.finish(built.cid).await?;
    adding.shown.finish();
    Ok(pins.iter().map(DagStatus::from).collect())
}

/// Sends it to a gateway, as a CAR. That begins with its root, which is known once all of it was read, so it is read twice.
async fn hand_over(running: &Running, profile: Profile, path: &Path, label: &str) -> Result<Vec<DagStatus>, Failure> {
    let look = Shown::new(0, label);
    let mut looking = Adding { sink: Sink::Nothing(Taken::default()), profile, in_place: false, shown: look };
    let root = looking.thing(path, 0).await?.cid;
    let total = looking.sink.taken().bytes;
    let (sender, chunks) = mpsc::channel(CHUNKS_UNDER_WAY);
    let sending = async {
        // Dropped at the end, so that the CAR ends there.
        let sink = Sink::Gateway { car: sender, taken: Taken::default() };
        let mut adding = Adding { sink, profile, in_place: false, shown: Shown::new(total, label) };
        match adding.whole_car(root, path).await {
            // Who reads no further says why.
            Err(_) if adding.sink.is_unread() => Ok(None),
            Err(failure) => Err(failure),
            Ok(now) => {
                adding.shown.finish();
                Ok(Some(now))
            }
        }
    };
    let body = StreamBody::new(ReceiverStream::new(chunks).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))));
    let (sent, kept) = tokio::join!(sending, kept::send_car(running, body, false));
    match sent {
        Ok(Some(now)) if now != root => {
            Err(Failure::new(Exit::Error, format!("{label}: changed while it was being added; nothing was pinned")))
        }
        Err(failure) => Err(failure),
        Ok(_) => kept,
    }
}

/// Where to read. What is referenced is named from the root and without symlinks, so that it can be found from
/// anywhere, whatever a link leads to later.
async fn place(command: &Add) -> Result<Cow<'_, Path>, Failure> {
    if !command.in_place {
        return Ok(Cow::Borrowed(command.path.as_path()));
    }
    let path = tokio::fs::canonicalize(&command.path).await.map_err(|error| complain(&command.path, &error))?;
    Ok(Cow::Owned(path))
}

/// What `--cid-version` and `--chunker` ask for.
fn profile(command: &Add) -> Result<Profile, Failure> {
    if command.in_place && command.cid_version == 0 {
        let why = "--in-place needs CIDs of version 1: those of version 0 wrap a file's bytes in nodes, \
                   so no part of the file is a block";
        return Err(Failure::new(Exit::Usage, why));
    }
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

/// What becomes of the blocks.
enum Sink {
    /// They are stored.
    Cache(Intake),
    /// They are counted.
    Nothing(Taken),
    /// They are sent, as a CAR.
    Gateway {
        /// Its parts.
        car: mpsc::Sender<Bytes>,
        taken: Taken,
    },
}

impl Sink {
    const fn taken(&self) -> Taken {
        match self {
            Self::Cache(intake) => intake.taken(),
            Self::Nothing(taken) | Self::Gateway { taken, .. } => *taken,
        }
    }

    async fn put(&mut self, Block { cid, bytes }: Block) -> Result<(), Failure> {
        match self {
            Self::Cache(intake) => return intake.put(&cid, bytes).await.map_err(|error| pin_failure(&error)),
            Self::Nothing(taken) | Self::Gateway { taken, .. } => {
                taken.blocks += 1;
                taken.bytes += bytes.len() as u64;
            }
        }
        self.send(car::section_head(&cid, bytes.len()).into()).await?;
        self.send(bytes).await
    }

    /// Pins what was stored below a root; what went elsewhere is not for us to pin.
    async fn finish(self, root: Cid) -> Result<Vec<Pin>, Failure> {
        match self {
            Self::Cache(intake) => intake.finish(&[root], false).await.map_err(|error| pin_failure(&error)),
            Self::Nothing(_) | Self::Gateway { .. } => Ok(Vec::new()),
        }
    }

    /// Sends a part of the CAR, where one is wanted.
    async fn send(&mut self, part: Bytes) -> Result<(), Failure> {
        match self {
            Self::Cache(_) | Self::Nothing(_) => Ok(()),
            Self::Gateway { car, .. } => {
                car.send(part).await.map_err(|_| Failure::new(Exit::Error, "the gateway reads no further"))
            }
        }
    }

    /// Whether the CAR is read no further.
    fn is_unread(&self) -> bool {
        matches!(self, Self::Gateway { car, .. } if car.is_closed())
    }
}

struct Adding {
    sink: Sink,
    profile: Profile,
    in_place: bool,
    shown: Shown,
}

impl Adding {
    /// Sends the CAR of what is at `path`, and says what its root is now.
    async fn whole_car(&mut self, root: Cid, path: &Path) -> Result<Cid, Failure> {
        self.sink.send(car::header(&[root]).into()).await?;
        Ok(self.thing(path, 0).await?.cid)
    }

    /// Adds a file, a directory with all below it, or a symlink as what it is.
    fn thing<'a>(&'a mut self, path: &'a Path, depth: usize) -> BoxFuture<'a, Result<Built, Failure>> {
        Box::pin(async move {
            let metadata = tokio::fs::symlink_metadata(path).await.map_err(|error| complain(path, &error))?;
            // What was named on the command line is followed; what lies below is taken as it is.
            if metadata.is_symlink() && depth > 0 {
                return self.link(path).await;
            }
            let metadata = tokio::fs::metadata(path).await.map_err(|error| complain(path, &error))?;
            if metadata.is_dir() {
                return self.directory(path, depth).await;
            }
            // Before it is opened: a pipe would wait for whoever writes to it.
            if self.in_place && !metadata.is_file() {
                let message = format!("{}: no regular file, so it cannot be added in place", path.display());
                return Err(Failure::new(Exit::Usage, message));
            }
            self.file(path).await
        })
    }

    async fn file(&mut self, path: &Path) -> Result<Built, Failure> {
        let (mut file, mut chunk) = (open(path).await?, vec![0; READ_BYTES]);
        let mut leaves = if self.in_place { Some(Leaves::of(path, &file).await?) } else { None };
        let mut builder = FileBuilder::new(self.profile);
        loop {
            let count = file.read(&mut chunk).await.map_err(|error| complain(path, &error))?;
            if count == 0 {
                break;
            }
            builder.push(&chunk[..count]);
            self.take(&mut builder, leaves.as_mut()).await?;
        }
        let built = builder.finish();
        self.take(&mut builder, leaves.as_mut()).await?;
        if let Some(leaves) = leaves {
            leaves.check(&file).await?;
        }
        Ok(built)
    }

    /// Takes what is ready of a file.
    async fn take(&mut self, builder: &mut FileBuilder, mut leaves: Option<&mut Leaves>) -> Result<(), Failure> {
        while let Some(block) = builder.poll_block() {
            match leaves.as_mut().and_then(|leaves| leaves.place(&block)) {
                Some((origin, offset)) => {
                    if let Sink::Cache(intake) = &mut self.sink {
                        let taken = intake.refer(&block.cid, block.bytes, &origin, offset).await;
                        self.shown.set(intake.taken());
                        taken.map_err(|error| pin_failure(&error))?;
                    }
                }
                None => self.put(block).await?,
            }
        }
        Ok(())
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
        let put = self.sink.put(block).await;
        self.shown.set(self.sink.taken());
        put
    }
}

/// Where the leaves of a file lie: one behind the other, from its first byte to its last.
struct Leaves {
    origin: Arc<Origin>,
    offset: u64,
}

impl Leaves {
    async fn of(path: &Path, file: &File) -> Result<Self, Failure> {
        let origin = file.metadata().await.and_then(|metadata| Origin::new(path, &metadata));
        let origin = origin.map_err(|error| complain(path, &error))?;
        Ok(Self { origin: Arc::new(origin), offset: 0 })
    }

    /// Where a block of the file lies, if it is the next leaf. An empty one lies nowhere.
    fn place(&mut self, block: &Block) -> Option<(Arc<Origin>, u64)> {
        let is_leaf = block.cid.codec() == Codec::Raw.code() && !block.bytes.is_empty();
        let offset = self.offset;
        self.offset += if is_leaf { block.bytes.len() as u64 } else { 0 };
        is_leaf.then(|| (Arc::clone(&self.origin), offset))
    }

    /// Whether the file, and what its path leads to, is what it was before it was read, and all of it was.
    async fn check(self, file: &File) -> Result<(), Failure> {
        let path = self.origin.path();
        let now = [file.metadata().await, tokio::fs::metadata(path).await];
        let same = now.iter().all(|now| now.as_ref().is_ok_and(|now| self.origin.is_still(now)));
        if same && self.offset == self.origin.file_len() {
            return Ok(());
        }
        let message = format!("{}: changed while it was being added; nothing was pinned", path.display());
        Err(Failure::new(Exit::Error, message))
    }
}

fn complain(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::from(error), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_file_that_changed_while_it_was_read_is_found_out_by_its_name() {
        type Change = (&'static str, fn(&Path));
        let changes: [Change; 5] = [
            ("nothing", |_| {}),
            ("it grew", |path| fs::File::options().append(true).open(path).unwrap().set_len(9).unwrap()),
            ("it was written to", |path| {
                let file = fs::File::options().write(true).open(path).unwrap();
                file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
            }),
            ("another took its place", |path| {
                let (before, other) = (fs::metadata(path).unwrap().modified().unwrap(), path.with_extension("new"));
                fs::write(&other, "film").unwrap();
                fs::File::options().write(true).open(&other).unwrap().set_modified(before).unwrap();
                fs::rename(&other, path).unwrap();
            }),
            ("it was removed", |path| fs::remove_file(path).unwrap()),
        ];
        for (what, change) in changes {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("film");
            fs::write(&path, "film").unwrap();
            let file = open(&path).await.unwrap();
            let leaves = Leaves { offset: 4, ..Leaves::of(&path, &file).await.unwrap() };
            change(&path);
            let outcome = leaves.check(&file).await;
            assert_eq!(outcome.is_ok(), what == "nothing", "{what}");
            let told = outcome.map_or_else(|failure| failure.message, |()| path.display().to_string());
            assert!(told.starts_with(&path.display().to_string()), "{told}");
        }
    }

    #[tokio::test]
    async fn who_adds_a_magnet_is_told_which_command_takes_it() {
        let magnet = "magnet:?xt=urn:btih:abababababababababababababababababababab".into();
        let command = Add { path: magnet, cid_version: 1, chunker: None, in_place: false, api: None };
        let (config, mut out) = (Config::default(), Vec::new());
        let refused = run(&config, &command, Output::Human, std::future::pending(), &mut out).await;
        let failure = refused.unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("swarmgate keep MAGNET"), "{failure}");
    }

    #[tokio::test]
    async fn a_file_of_which_less_was_read_than_it_had_is_found_out_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("film");
        fs::write(&path, "film").unwrap();
        let file = open(&path).await.unwrap();
        let leaves = Leaves { offset: 3, ..Leaves::of(&path, &file).await.unwrap() };
        assert!(leaves.check(&file).await.is_err());
    }
}
