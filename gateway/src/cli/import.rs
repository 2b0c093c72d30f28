//! `swarmgate import-car`, `add`, `pin` and `ipns import-record`: what is put into the cache to stay there.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use swarmgate_config::Config;
use swarmgate_content::Cid;
use swarmgate_ipfs::intake::{Taken, import_car, pin_dag};
use swarmgate_ipfs::pins::Pin;
use swarmgate_ipfs_proto::ipns::{MAX_RECORD_BYTES, Name};

use super::args::{ImportCar, IpnsCommand, Output, PinCommand};
use super::dags::{Dags, Reach, name_failure, pin_failure, read_cid};
use super::source::Failure;
use super::{Exit, Progress};

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
    let dags = Dags::open(config, Reach::Cache).await?;
    let outcome = tokio::select! {
        outcome = import(&dags, command) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")),
    };
    dags.shutdown().await;
    tell(&outcome?, output, out)
}

async fn import(dags: &Dags, command: &ImportCar) -> Result<Vec<Pin>, Failure> {
    let name = command.file.display().to_string();
    let stdin = command.file.as_os_str() == "-";
    let input = open(if stdin { Path::new("/dev/stdin") } else { &command.file }).await?;
    // A pipe has a length of 0, which is how progress knows none.
    let len = input.metadata().await.map_or(0, |metadata| metadata.len());
    let mut shown = Shown::new(len, &name);
    let imported = import_car(dags.pins(), input, command.allow_missing, |taken| shown.set(taken)).await;
    let pins = imported.map_err(|error| {
        let failure = pin_failure(&error);
        Failure::new(failure.exit, format!("{name}: {failure}"))
    })?;
    shown.finish();
    Ok(pins)
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
    let reach = if matches!(command, PinCommand::Add { .. }) { Reach::Network } else { Reach::Cache };
    let dags = Dags::open(config, reach).await?;
    let outcome = tokio::select! {
        outcome = pin(&dags, command) => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; nothing was pinned")),
    };
    dags.shutdown().await;
    tell(&outcome?, output, out)
}

async fn pin(dags: &Dags, command: &PinCommand) -> Result<Vec<Pin>, Failure> {
    let pins = dags.pins();
    match command {
        PinCommand::Ls => pins.list().await.map_err(|error| pin_failure(&error)),
        PinCommand::Add { cid } => {
            let root = read_cid(cid)?;
            let mut shown = Shown::new(0, cid);
            let pinned = pin_dag(pins, &dags.session(), root, |taken| shown.set(taken)).await;
            let pinned = pinned.map_err(|error| pin_failure(&error))?;
            shown.finish();
            Ok(vec![pinned])
        }
        PinCommand::Rm { cid } => {
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

/// Prints pins: one root a line, or a JSON list.
pub(super) fn tell(pins: &[Pin], output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let written = match output {
        Output::Human => pins.iter().try_for_each(|pin| match pin.missing {
            0 => writeln!(out, "{}", pin.root),
            missing => writeln!(out, "{} ({missing} blocks missing)", pin.root),
        }),
        Output::Json => {
            let pin = |pin: &Pin| {
                let Pin { root, blocks, bytes, missing } = pin;
                serde_json::json!({ "root": root.to_string(), "blocks": blocks, "bytes": bytes, "missing": missing })
            };
            writeln!(out, "{:#}", serde_json::Value::Array(pins.iter().map(pin).collect()))
        }
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
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
