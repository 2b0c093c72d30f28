//! `swarmgate get`: downloads a torrent's files into a directory, verified, and goes on where an earlier run stopped.
//! What IPFS has is got in [`super::fetch`], and goes on likewise.
//!
//! Files grow under their name with `.part` behind it and get their name when they are complete. What an earlier run
//! left is hashed piece by piece and kept where it is right.

use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use swarmgate_bittorrent_proto::wire::PieceIndex;
use swarmgate_config::Config;
use swarmgate_content::{ContentMeta, VerifiedBytes};
use swarmgate_swarm::Known;
use tokio::sync::mpsc;

use super::dags::is_ipfs;
use super::engine::Engine;
use super::files::Files;
use super::source::{Failure, Source};
use super::{Exit, Pick, Progress, fetch};

/// Chunks that may wait for the disk: 16 of 256 KiB.
const WRITE_QUEUE: usize = 16;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// What is said at Ctrl-C.
pub(super) const INTERRUPTED: &str = "interrupted; the same command goes on from here";

/// What to get and where to put it.
#[derive(Debug)]
pub struct GetOptions {
    /// What was typed.
    pub uri: String,
    /// The directory.
    pub out: PathBuf,
    /// The files; all when `None`.
    pub select: Option<Pick>,
}

/// Runs the command to its end, or until `interrupted` resolves.
///
/// # Errors
/// [`Failure`]; what was downloaded stays for the next run.
pub async fn run(
    config: &Config,
    options: GetOptions,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if is_ipfs(&options.uri) {
        return fetch::get(config, &options, interrupted, out).await;
    }
    let engine = Engine::start(config).await?;
    let outcome = tokio::select! {
        outcome = download(&engine, &options) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, INTERRUPTED)),
    };
    engine.shutdown().await;
    for path in outcome? {
        // A closed pipe is the reader's choice.
        let _ = writeln!(out, "{}", path.display());
    }
    Ok(())
}

async fn download(engine: &Engine, options: &GetOptions) -> Result<Vec<PathBuf>, Failure> {
    let source = Source::read(&options.uri, engine.bittorrent().http_client()).await?;
    let meta = engine.resolve(&source).await?;
    let selected = selected(options.select.as_ref(), &source, &meta);
    let known = engine.bittorrent().known(&source.id.wire());
    let known = known.ok_or_else(|| Failure::new(Exit::Error, "the torrent is gone"))?;
    let files = Files::plan(&options.out, &known, &selected)?;
    if files.is_empty() {
        return Err(Failure::new(Exit::NotFound, Pick::nothing(options.select.as_ref(), &meta)));
    }
    let mut progress = Progress::new(files.total_bytes(), &meta.name);
    let (files, missing) = check_existing(files, known.clone()).await?;
    let mut done = files.total_bytes() - missing.iter().map(|range| range.end - range.start).sum::<u64>();
    progress.set(done, 0);
    let (writer, chunks) = Writer::start(files);
    for range in missing {
        done = fetch(engine, &source, &known, range, &chunks, &mut progress, done).await?;
    }
    drop(chunks);
    let paths = writer.finish().await?;
    progress.finish(&format!("{} bytes verified", done));
    Ok(paths)
}

/// The files that are meant, by number: what was picked, or what the magnet selects, or all.
pub(super) fn selected(pick: Option<&Pick>, source: &Source, meta: &ContentMeta) -> Vec<usize> {
    let files = meta.files.iter().enumerate().filter(|(_, file)| !file.padding).map(|(index, _)| index);
    match (pick, &source.select) {
        (Some(pick), _) => pick.of(meta),
        (None, Some(select)) => {
            files.filter(|index| u32::try_from(*index).is_ok_and(|index| select.contains(index))).collect()
        }
        (None, None) => files.collect(),
    }
}

/// Reads one missing range and hands it to the writer.
async fn fetch(
    engine: &Engine,
    source: &Source,
    known: &Arc<Known>,
    range: Range<u64>,
    chunks: &mpsc::Sender<(u64, VerifiedBytes)>,
    progress: &mut Progress,
    mut done: u64,
) -> Result<u64, Failure> {
    let gone = || Failure::new(Exit::Error, "the download was stopped");
    let mut reader = engine.bittorrent().reader(&source.id.wire(), known, range.clone()).ok_or_else(gone)?;
    let mut position = range.start;
    let mut show = tokio::time::interval(SHOW_EVERY);
    loop {
        let next = tokio::select! {
            next = reader.next() => next,
            _ = show.tick() => {
                let peers = engine.bittorrent().status(&source.id.wire()).map_or(0, |status| status.peers);
                progress.set(done, peers);
                continue;
            }
        };
        let Some(next) = next else { return Ok(done) };
        let bytes = next.map_err(|fault| Failure::new(Exit::Error, fault.to_string()))?;
        let len = bytes.len() as u64;
        // The writer ends early only by an error, which `Writer::finish` reports.
        if chunks.send((position, bytes)).await.is_err() {
            return Ok(done);
        }
        position += len;
        done += len;
    }
}

/// Hashes what an earlier run left and returns what is missing, in order, merged.
async fn check_existing(files: Files, known: Arc<Known>) -> Result<(Files, Vec<Range<u64>>), Failure> {
    let check = move || {
        let mut files = files;
        let mut missing: Vec<Range<u64>> = Vec::new();
        for wanted in files.ranges() {
            for piece in known.geometry.pieces_of(wanted.start, wanted.end).map(PieceIndex) {
                let start = known.geometry.start_of(piece);
                let whole = start..start + u64::from(known.geometry.len_of(piece));
                let hash = known.info.piece_hash(piece.0);
                let bytes = files.read(whole.clone());
                let right = hash
                    .zip(bytes)
                    .is_some_and(|(hash, bytes)| VerifiedBytes::check(&hash, Bytes::from(bytes)).is_ok());
                let part = whole.start.max(wanted.start)..whole.end.min(wanted.end);
                match missing.last_mut() {
                    _ if right => {}
                    Some(last) if last.end == part.start => last.end = part.end,
                    Some(_) | None => missing.push(part),
                }
            }
        }
        files.create()?;
        Ok((files, missing))
    };
    tokio::task::spawn_blocking(check).await.map_err(|error| Failure::new(Exit::Error, error.to_string()))?
}

/// The thread that writes files: downloads never wait for more than [`WRITE_QUEUE`] chunks. Dropping it leaves the files
/// as they are, under the names of incomplete ones.
struct Writer(tokio::task::JoinHandle<Result<Files, Failure>>);

impl Writer {
    fn start(mut files: Files) -> (Self, mpsc::Sender<(u64, VerifiedBytes)>) {
        let (sender, mut chunks) = mpsc::channel::<(u64, VerifiedBytes)>(WRITE_QUEUE);
        let task = tokio::task::spawn_blocking(move || {
            while let Some((position, bytes)) = chunks.blocking_recv() {
                files.write(position, bytes.as_ref())?;
            }
            Ok(files)
        });
        (Self(task), sender)
    }

    /// Waits for the last chunk to be written and gives the files, complete now, their names.
    async fn finish(self) -> Result<Vec<PathBuf>, Failure> {
        let gone = |error: tokio::task::JoinError| Failure::new(Exit::Error, error.to_string());
        let files = self.0.await.map_err(gone)??;
        tokio::task::spawn_blocking(|| files.finish()).await.map_err(gone)?
    }
}
