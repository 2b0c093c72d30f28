//! `swarmgate import-car`, `add`, `pin` and `ipns import-record`: what is put into the cache to stay there. Where a gateway
//! holds the cache, all but the last are its doing (`kept.rs`).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use indicatif::BinaryBytes;
use swarmgate_config::Config;
use swarmgate_content::Cid;
use swarmgate_ipfs::intake::{Taken, import_car, pin_dag};
use swarmgate_ipfs::pins::Pin;
use swarmgate_ipfs_proto::ipns::{MAX_RECORD_BYTES, Name};
use tokio_stream::StreamExt as _;
use tokio_util::io::ReaderStream;

use super::args::{ImportCar, IpnsCommand, Output, PinCommand};
use super::dags::{Dags, Reach, name_failure, pin_failure, read_cid};
use super::holder::Holder;
use super::ls::printable;
use super::running::Running;
use super::source::Failure;
use super::{Exit, Progress, kept};
use crate::api::dags::{DagState, DagStatus};

/// How much of a CAR is sent at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Runs `import-car`.
///
/// # Errors
/// [`Failure`]; nothing is pinned then.
pub async fn run_import(
    config: &Config,
    command: &ImportCar,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (input, len) = car(command).await?;
    let interrupted = async {
        interrupted.await;
        Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")
    };
    let kept = match Dags::open_or_ask(config, command.api.as_deref(), Reach::Cache).await? {
        Holder::Command(dags) => {
            let outcome = tokio::select! {
                outcome = import(&dags, command, input, len) => outcome,
                failure = interrupted => Err(failure),
            };
            dags.shutdown().await;
            outcome?
        }
        Holder::Gateway(running) => tokio::select! {
            outcome = send(&running, command, input, len) => outcome?,
            failure = interrupted => return Err(failure),
        },
    };
    tell(&kept, output, out)
}

/// Opens the CAR; and its length in bytes. A pipe has a length of 0, which is how progress knows none.
async fn car(command: &ImportCar) -> Result<(tokio::fs::File, u64), Failure> {
    let stdin = command.file.as_os_str() == "-";
    let input = open(if stdin { Path::new("/dev/stdin") } else { &command.file }).await?;
    let len = input.metadata().await.map_or(0, |metadata| metadata.len());
    Ok((input, len))
}

async fn import(dags: &Dags, command: &ImportCar, input: tokio::fs::File, len: u64) -> Result<Vec<DagStatus>, Failure> {
    let name = command.file.display().to_string();
    let mut shown = Shown::new(len, &name);
    let imported = import_car(dags.pins(), input, command.allow_missing, |_| true, |taken| shown.set(taken)).await;
    let pins = imported.map_err(|error| {
        let failure = pin_failure(&error);
        Failure::new(failure.exit, format!("{name}: {failure}"))
    })?;
    shown.finish();
    Ok(pins.iter().map(DagStatus::from).collect())
}

/// Has a gateway import it.
async fn send(
    running: &Running,
    command: &ImportCar,
    input: tokio::fs::File,
    len: u64,
) -> Result<Vec<DagStatus>, Failure> {
    let name = command.file.display().to_string();
    let (mut progress, mut sent) = (Progress::new(len, &name), 0);
    let chunks = ReaderStream::with_capacity(input, CHUNK_BYTES).map(move |chunk| {
        sent += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        progress.set(sent, None);
        chunk.map(Frame::data)
    });
    let taken = kept::send_car(running, StreamBody::new(chunks), command.allow_missing).await;
    taken.map_err(|failure| Failure::new(failure.exit, format!("{name}: {failure}")))
}

/// Runs `pin`.
///
/// # Errors
/// [`Failure`].
pub async fn run_pin(
    config: &Config,
    command: &PinCommand,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (reach, api) = match command {
        PinCommand::Add { api, .. } => (Reach::Network, api),
        PinCommand::Rm { api, .. } | PinCommand::Ls { api } => (Reach::Cache, api),
    };
    let kept = match Dags::open_or_ask(config, api.as_deref(), reach).await? {
        Holder::Command(dags) => {
            let outcome = tokio::select! {
                outcome = pin(&dags, command) => outcome,
                () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")),
            };
            dags.shutdown().await;
            outcome?.iter().map(DagStatus::from).collect()
        }
        Holder::Gateway(running) => kept::pin(&running, command, interrupted).await?,
    };
    tell(&kept, output, out)
}

async fn pin(dags: &Dags, command: &PinCommand) -> Result<Vec<Pin>, Failure> {
    let pins = dags.pins();
    match command {
        PinCommand::Ls { .. } => pins.list().await.map_err(|error| pin_failure(&error)),
        PinCommand::Add { cid, .. } => {
            let root = read_cid(cid)?;
            let mut shown = Shown::new(0, cid);
            let pinned = pin_dag(pins, &dags.session(), root, |taken| shown.set(taken)).await;
            let pinned = pinned.map_err(|error| pin_failure(&error))?;
            shown.finish();
            Ok(vec![pinned])
        }
        PinCommand::Rm { cid, .. } => {
            let root = read_cid(cid)?;
            match pins.remove(&root).await.map_err(|error| pin_failure(&error))? {
                true => Ok(Vec::new()),
                false => Err(Failure::new(Exit::NotFound, format!("{root} is not pinned"))),
            }
        }
    }
}

/// Runs `ipns`.
///
/// # Errors
/// [`Failure`] when the record is broken, expired, or not of that name.
pub async fn run_ipns(config: &Config, command: &IpnsCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let IpnsCommand::ImportRecord { file, name } = command;
    let name = name_of(file, name.as_deref())?;
    let complain = |error: std::io::Error| Failure::new(Exit::from(&error), format!("{}: {error}", file.display()));
    let len = tokio::fs::metadata(file).await.map_err(complain)?.len();
    if len > MAX_RECORD_BYTES as u64 {
        let message = format!("{}: {len} bytes are more than the {MAX_RECORD_BYTES} of a record", file.display());
        return Err(Failure::new(Exit::Integrity, message));
    }
    let bytes = Bytes::from(tokio::fs::read(file).await.map_err(complain)?);
    let dags = Dags::open(config, Reach::Cache).await?;
    let imported = dags.protocol().names().import(&name, bytes).await;
    dags.shutdown().await;
    let record = imported.map_err(|error| name_failure(&error))?;
    let value = String::from_utf8_lossy(record.value());
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "/ipns/{name} {value} (record {})", record.sequence());
    Ok(())
}

/// The name as it was given, or as the file has it: up to the first `_` or `.`.
fn name_of(file: &Path, given: Option<&str>) -> Result<Name, Failure> {
    let stem = || file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = given.map_or_else(
        || stem().split(['_', '.']).next().unwrap_or_default().to_owned(),
        |given| given.trim_start_matches("/ipns/").to_owned(),
    );
    text.parse().map_err(|error: swarmgate_ipfs_proto::ipns::NameError| {
        Failure::new(Exit::Usage, format!("{text:?}: {error}; say it with --name"))
    })
}

/// Opens a file to read.
pub(super) async fn open(path: &Path) -> Result<tokio::fs::File, Failure> {
    let opened = tokio::fs::File::open(path).await;
    opened.map_err(|error| Failure::new(Exit::from(&error), format!("{}: {error}", path.display())))
}

/// Prints DAGs that are kept: one root a line, or a JSON list.
pub(super) fn tell(kept: &[DagStatus], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let written = match output {
        Output::Human => kept.iter().try_for_each(|dag| writeln!(out, "{}", line(dag))),
        Output::Json => writeln!(out, "{:#}", serde_json::json!(kept)),
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

fn line(DagStatus { root, state, bytes, missing, error, .. }: &DagStatus) -> String {
    let root = printable(root);
    match (state, missing, error) {
        (DagState::Pinned, 0, _) => root,
        (DagState::Pinned, missing, _) => format!("{root} ({missing} blocks missing)"),
        (DagState::Pinning, _, None) => format!("{root} (being fetched, {} so far)", BinaryBytes(*bytes)),
        (DagState::Pinning, _, Some(error)) => format!("{root} (not here yet: {})", printable(error)),
    }
}

/// Progress that is shown now and then, for it is told of every block.
pub(super) struct Shown {
    progress: Progress,
    last: Instant,
    taken: Taken,
}

impl Shown {
    pub(super) fn new(total_bytes: u64, label: &str) -> Self {
        Self { progress: Progress::new(total_bytes, label), last: Instant::now(), taken: Taken::default() }
    }

    pub(super) fn set(&mut self, taken: Taken) {
        self.taken = taken;
        if self.last.elapsed() >= SHOW_EVERY {
            self.last = Instant::now();
            self.progress.set(taken.bytes, None);
        }
    }

    pub(super) fn finish(self) {
        let Taken { blocks, bytes } = self.taken;
        self.progress.finish(&format!("{blocks} blocks, {bytes} bytes verified"));
    }
}

/// A path's last component, or a root, as the name of what is made from it.
pub(super) fn label(segments: &[String], root: &Cid) -> PathBuf {
    segments.last().map_or_else(|| root.to_string(), Clone::clone).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_name_is_the_head_of_its_files_name() {
        let key = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
        for (file, given) in [
            (format!("dir.d/{key}.ipns-record"), None),
            (format!("{key}_v1-v2.ipns-record"), None),
            ("x".to_owned(), Some(key.to_owned())),
            ("x".to_owned(), Some(format!("/ipns/{key}"))),
        ] {
            assert_eq!(name_of(Path::new(&file), given.as_deref()).unwrap().to_string(), key, "{file}");
        }
        let failure = name_of(Path::new("record.bin"), None).unwrap_err();
        assert!(failure.exit == Exit::Usage && failure.message.contains("--name"), "{failure}");
    }
}
