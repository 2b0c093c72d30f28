//! `swarmgate publish`: a file or folder becomes a torrent and a DAG, served from where it lies.
//!
//! The next `serve` on the same cache seeds it on every network. Interrupted, the same command goes on after the files
//! that were done.

use std::io::Write;
use std::time::{Duration, Instant};

use swarmgate_config::Config;
use swarmgate_hybrid::BindingBook;
use swarmgate_hybrid::publish::{self as reading, PublishError, PublishOptions};

use super::args::{Output, Publish};
use super::dags::{Dags, Reach, pin_failure};
use super::source::Failure;
use super::{Exit, Progress};
use crate::publish::{PublishFailure, Published, Publisher, base, check_urls};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Runs `publish`.
///
/// # Errors
/// [`Failure`]; nothing is published then.
pub async fn run(
    config: &Config,
    command: &Publish,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !config.bittorrent.enabled {
        let off = "bittorrent.enabled is false in the configuration, and this command uses BitTorrent";
        return Err(Failure::new(Exit::Usage, format!("{off}; --set bittorrent.enabled=true switches it on")));
    }
    let options = options(command)?;
    let dags = Dags::open(config, Reach::Cache).await?;
    let outcome = tokio::select! {
        outcome = publish(config, &dags, command, options) => outcome,
        () = interrupted => {
            let why = "interrupted; nothing was published, and the same command goes on after the files that are done";
            Err(Failure::new(Exit::Interrupted, why))
        }
    };
    dags.shutdown().await;
    let output = if command.json { Output::Json } else { output };
    tell(&outcome?, &base(config), output, out)
}

async fn publish(
    config: &Config,
    dags: &Dags,
    command: &Publish,
    options: PublishOptions,
) -> Result<Published, Failure> {
    let book = BindingBook::open(dags.pins().store().clone()).await;
    let book = book.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    let publisher = Publisher::new(config, dags.pins().clone(), book);
    let label = command.path.display().to_string();
    let mut shown: Option<Progress> = None;
    let mut last = Instant::now();
    let published = publisher.publish(options, |now: reading::Progress| {
        let bar = shown.get_or_insert_with(|| Progress::new(now.total, &label));
        if last.elapsed() >= SHOW_EVERY {
            last = Instant::now();
            bar.set(now.done, None);
        }
    });
    let published = published.await.map_err(|error| failure(&error))?;
    if let Some(bar) = shown {
        let (files, bytes) = (published.files.len(), published.total_len());
        bar.finish(&format!("{files} files, {bytes} bytes published, {} bytes read", published.read_bytes));
    }
    Ok(published)
}

/// What the flags ask for.
fn options(command: &Publish) -> Result<PublishOptions, Failure> {
    let piece_len = command.piece_length.map(|size| {
        // What is too long for the type is too long for a piece too.
        u32::try_from(size.bytes()).unwrap_or(u32::MAX)
    });
    check_urls(&command.tracker, &command.web_seed).map_err(|why| Failure::new(Exit::Usage, why))?;
    Ok(PublishOptions {
        path: command.path.clone(),
        name: command.name.clone(),
        torrent: command.torrent.into(),
        piece_len,
        longest_chosen: reading::MAX_PIECE_BYTES,
        trackers: command.tracker.clone(),
        web_seeds: command.web_seed.clone(),
        copy: command.copy,
    })
}

fn failure(failure: &PublishFailure) -> Failure {
    let exit = match failure {
        PublishFailure::Publish(error) => exit(error),
        PublishFailure::Pin(error) => return pin_failure(error),
        PublishFailure::Key { error, .. } => Exit::from(error),
        PublishFailure::Book(_) | PublishFailure::Record(_) => Exit::Error,
    };
    Failure::new(exit, failure.to_string())
}

fn exit(error: &PublishError) -> Exit {
    match error {
        PublishError::Read { error, .. } => Exit::from(error),
        PublishError::NotRegular(_)
        | PublishError::NotUtf8(_)
        | PublishError::TooDeep(_)
        | PublishError::TooMany(_)
        | PublishError::Empty(_)
        | PublishError::PieceLength(_)
        | PublishError::Torrent { .. }
        | PublishError::NoHybrid { .. } => Exit::Usage,
        PublishError::Store(_) => Exit::DiskFull,
        PublishError::Changed(_)
        | PublishError::Directory { .. }
        | PublishError::StoreRead(_)
        | PublishError::Refer(_)
        | PublishError::Record(_)
        | PublishError::CutShort(_) => Exit::Error,
    }
}

fn tell(published: &Published, base: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let written = match output {
        Output::Json => writeln!(out, "{:#}", published.to_json(base)),
        Output::Human => {
            let manifest = published.manifest.map_or_else(|| "none".to_owned(), |cid| cid.to_string());
            let v2 = published.metainfo.id.v2().map(|v2| format!("v2       {v2}\n")).unwrap_or_default();
            writeln!(
                out,
                "infohash {}\n{v2}cid      {}\nmanifest {manifest}\n{}\n{}",
                published.metainfo.infohash,
                published.root,
                published.magnet(),
                published.links(base)
            )
        }
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}
