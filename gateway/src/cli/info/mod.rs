//! `swarmgate info`: what a gateway knows of an item, or where none runs, what a torrent or a content of IPFS is.
//!
//! A magnet or an infohash is asked of the gateway first. Where nobody answers, the metadata comes from the swarm, as for
//! `ls`. A `.torrent` file says all itself, and a content of IPFS is read from the cache and the network. With `--offline`
//! nobody is asked at all: then it is what the name, the file or the cache says.

mod dag;
mod torrent;

use std::io::Write;
use std::pin::{Pin, pin};

use serde_json::Value;
use swarmgate_config::Config;

use super::Exit;
use super::args::{Info, Output};
use super::dags::is_ipfs;
use super::engine::Engine;
use super::running_commands::{about, known};
use super::source::{Failure, Source};
use torrent::Torrent;

/// Shows it, or ends when `interrupted` resolves.
///
/// # Errors
/// [`Exit::NotFound`] when the gateway that runs has no such item, or nobody has the content; else as `ls`.
pub async fn run(
    config: &Config,
    command: &Info,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let told = find_out(config, command, pin!(interrupted)).await?;
    let text = match output {
        Output::Json => format!("{:#}", told.document),
        Output::Human => told.page.trim_end().to_owned(),
    };
    writeln!(out, "{text}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

/// The same for people and for programs.
struct Told {
    page: String,
    document: Value,
}

async fn find_out(
    config: &Config,
    command: &Info,
    interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Told, Failure> {
    let uri = command.uri.as_str();
    if is_ipfs(uri) {
        return dag::look(config, uri, command.offline, interrupted).await;
    }
    if is_url(uri) {
        return from_url(config, uri, command.offline, interrupted).await;
    }
    let source = Source::read_here(uri).await?;
    if source.metainfo.is_none()
        && !command.offline
        && let Some(item) = known(config, uri, command.api.as_deref()).await?
    {
        return Ok(Told { page: about(&item), document: item });
    }
    let torrent = match &source.metainfo {
        Some(metainfo) => Torrent::of_file(metainfo),
        None if command.offline => Torrent::of_name(&source),
        None => from_swarm(config, &source, interrupted).await?,
    };
    torrent.told()
}

fn is_url(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://")
}

/// Work that ends with `interrupted`, and leaves what was started for it to be stopped.
async fn unless<T>(
    interrupted: Pin<&mut impl Future<Output = ()>>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    }
}

async fn from_url(
    config: &Config,
    uri: &str,
    offline: bool,
    interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Told, Failure> {
    if offline {
        return Err(Failure::new(Exit::Usage, "--offline asks nobody for a URL; name the .torrent file itself"));
    }
    let engine = Engine::start(config).await?;
    let source = unless(interrupted, Source::read(uri, engine.bittorrent().http_client())).await;
    engine.shutdown().await;
    let metainfo = source?.metainfo.ok_or_else(|| Failure::new(Exit::Error, format!("{uri}: no .torrent file")))?;
    Torrent::of_file(&metainfo).told()
}

async fn from_swarm(
    config: &Config,
    source: &Source,
    interrupted: Pin<&mut impl Future<Output = ()>>,
) -> Result<Torrent, Failure> {
    let engine = Engine::start(config).await?;
    let resolved = unless(interrupted, engine.resolve(source)).await;
    let known = engine.bittorrent().known(&source.id.wire());
    engine.shutdown().await;
    resolved?;
    let known = known.ok_or_else(|| Failure::new(Exit::Error, "the torrent is gone"))?;
    Ok(Torrent::of_info(known.id, &known.info, source))
}
