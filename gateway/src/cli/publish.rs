//! `swarmgate publish`: a file or folder becomes a torrent and a DAG, served from where it lies.
//!
//! The next `serve` on the same cache seeds it on every network; a gateway that holds the cache publishes and seeds it
//! itself. Interrupted, the same command goes on after the files that were done.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use swarmgate_config::Config;
use swarmgate_hybrid::BindingBook;
use swarmgate_hybrid::publish::{self as reading, PublishError, PublishOptions};

use super::args::{Output, Publish};
use super::dags::{Dags, Reach, pin_failure};
use super::holder::Holder;
use super::ls::printable;
use super::running::Running;
use super::source::Failure;
use super::{Exit, Progress};
use crate::publish::{PublishFailure, Published, Publisher, base, check_urls};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How long a gateway may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let told = match Dags::open_or_ask(config, command.api.as_deref(), Reach::Cache).await? {
        Holder::Command(dags) => {
            let outcome = tokio::select! {
                outcome = publish(config, &dags, command, options) => outcome,
                () = interrupted => {
                    let why = "interrupted; nothing was published, and the same command goes on after the files that are done";
                    Err(Failure::new(Exit::Interrupted, why))
                }
            };
            dags.shutdown().await;
            outcome?.to_json(&base(config))
        }
        Holder::Gateway(running) => {
            let id = begin(&running, &options).await?;
            tokio::select! {
                told = follow(&running, id, &command.path) => told?,
                () = interrupted => {
                    let why = format!("interrupted; the gateway goes on: {}", running.url(&job(id)));
                    return Err(Failure::new(Exit::Interrupted, why));
                }
            }
        }
    };
    let output = if command.json { Output::Json } else { output };
    tell(&told, output, out)
}

/// Has a gateway begin, and gives the job's number.
async fn begin(running: &Running, options: &PublishOptions) -> Result<u64, Failure> {
    // It was started in another directory. On another machine the path may not be there at all.
    let path = std::path::absolute(&options.path);
    let path =
        path.map_err(|error| Failure::new(Exit::from(&error), format!("{}: {error}", options.path.display())))?;
    let PublishOptions { name, torrent, piece_len, trackers, web_seeds, copy, .. } = options;
    let wanted = json!({
        "path": path, "name": name, "torrent": torrent, "piece_len": piece_len,
        "trackers": trackers, "web_seeds": web_seeds, "copy": copy,
    });
    let request = Request::post("/api/v1/publish").header(CONTENT_TYPE, "application/json");
    let request = request.body(Bytes::from(wanted.to_string()));
    let request = request.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    let reply = running.send(request, PATIENCE).await?.accepted()?;
    let begun: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    begun["id"].as_u64().ok_or_else(|| Failure::new(Exit::Error, "the answer names no job; is it a swarmgate?"))
}

/// Shows how far a gateway's job is until it has ended, and gives what has come of it.
async fn follow(running: &Running, id: u64, path: &Path) -> Result<Value, Failure> {
    let mut shown: Option<Progress> = None;
    loop {
        let mut now = running.document(&job(id)).await?;
        match now["state"].as_str() {
            Some("done") => {
                let told = now["result"].take();
                let files = told["files"].as_array().map_or(0, Vec::len);
                if let Some(bar) = shown {
                    bar.finish(&format!(
                        "{files} files, {} bytes published, {} bytes read",
                        told["len"], told["read_bytes"]
                    ));
                }
                return Ok(told);
            }
            Some("running") => {
                let count = |what: &str| now[what].as_u64().unwrap_or_default();
                if count("total_bytes") > 0 {
                    let bar = || Progress::new(count("total_bytes"), &path.display().to_string());
                    shown.get_or_insert_with(bar).set(count("done_bytes"), None);
                }
            }
            _ => {
                let why = now["error"].as_str().map_or_else(|| "it is no job of a swarmgate".to_owned(), printable);
                return Err(Failure::new(Exit::Error, why));
            }
        }
        tokio::time::sleep(SHOW_EVERY).await;
    }
}

fn job(id: u64) -> String {
    format!("/api/v1/publish/{id}")
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

/// Shows what was published; a gateway's word for it is printed as what it is.
fn tell(told: &Value, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let word = |name: &str| told[name].as_str().map_or_else(|| "none".to_owned(), printable);
    let link = |network: &str| told["links"][network].as_str().map(printable).unwrap_or_default();
    let written = match output {
        Output::Json => writeln!(out, "{told:#}"),
        Output::Human => {
            let v2 = told["infohash_v2"].as_str().map(|v2| format!("v2       {}\n", printable(v2))).unwrap_or_default();
            writeln!(
                out,
                "infohash {}\n{v2}cid      {}\nmanifest {}\n{}\n{}\n{}\n{}",
                word("infohash"),
                word("cid"),
                word("manifest"),
                word("magnet"),
                link("bt"),
                link("ipfs"),
                link("x")
            )
        }
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}
