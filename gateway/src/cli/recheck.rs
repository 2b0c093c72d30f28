//! `swarmgate recheck`: hashes what the cache has of a torrent again. A gateway that holds the cache does that itself.

use std::io::Write;

use http::Request;
use http_body_util::Empty;
use swarmgate_bittorrent::{Recheck as Found, recheck};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_config::Config;
use swarmgate_content::{ContentId, InfoHash};
use swarmgate_store::{OpenError, Store};

use super::Exit;
use super::args::{Output, Recheck};
use super::holder::{self, Holder};
use super::running::Running;
use super::source::Failure;
use crate::app::store_options;

/// Runs the command to its end, or until `interrupted` resolves.
///
/// # Errors
/// [`Failure`] when the cache cannot be opened, or does not have the torrent's metadata; [`Exit::Integrity`] when pieces
/// were wrong and are gone.
pub async fn run(
    config: &Config,
    wanted: &Recheck,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let infohash = infohash(&wanted.uri)?;
    let interrupted = async {
        interrupted.await;
        Failure::new(Exit::Interrupted, "interrupted; what was wrong so far is gone")
    };
    let found = match open_or_ask(config, wanted.api.as_deref()).await? {
        Holder::Command(store) => {
            let outcome = tokio::select! {
                outcome = recheck(&store, infohash) => Ok(outcome),
                failure = interrupted => Err(failure),
            };
            store.close().await;
            let missing =
                || Failure::new(Exit::NotFound, format!("the cache does not have the metadata of {infohash}"));
            outcome?.ok_or_else(missing)?
        }
        Holder::Gateway(running) => tokio::select! {
            found = ask(&running, infohash) => found?,
            failure = interrupted => return Err(failure),
        },
    };
    let written = match output {
        Output::Human => writeln!(
            out,
            "{} pieces: {} right, {} wrong and gone, {} not in the cache",
            found.pieces, found.right, found.dropped, found.missing
        ),
        Output::Json => writeln!(out, "{:#}", serde_json::json!(found)),
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))?;
    if found.dropped > 0 {
        let message = format!("{} pieces were not what their hashes say", found.dropped);
        return Err(Failure::new(Exit::Integrity, message));
    }
    Ok(())
}

/// Opens the cache, or finds the gateway that holds it.
async fn open_or_ask(config: &Config, api: Option<&str>) -> Result<Holder<Store>, Failure> {
    if api.is_some() {
        return Running::of(config, api).map(Holder::Gateway);
    }
    let fail = |error: &dyn std::error::Error| Failure::new(Exit::Error, error.to_string());
    let (options, _ephemeral) = store_options(config).map_err(|error| fail(&error))?;
    match Store::open(options).await {
        Err(OpenError::InUse { path }) => holder::gateway(config, &path).await.map(Holder::Gateway),
        opened => opened.map(Holder::Command).map_err(|error| fail(&error)),
    }
}

/// Has a gateway do it.
async fn ask(running: &Running, infohash: InfoHash) -> Result<Found, Failure> {
    let request = Request::post(format!("/api/v1/items/{infohash}/recheck")).body(Empty::new());
    let request = request.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    // It reads all of the item, which takes as long as it takes.
    running.upload(request).await?.json()
}

fn infohash(uri: &str) -> Result<InfoHash, Failure> {
    let usage = |reason: String| Failure::new(Exit::Usage, reason);
    let named = if uri.starts_with("magnet:") {
        Magnet::parse(uri).map_err(|error| usage(error.to_string()))?.v1
    } else {
        ContentId::parse_torrent(uri).map_err(|error| usage(error.to_string()))?.as_v1()
    };
    named.ok_or_else(|| usage(format!("{uri} names no v1 torrent")))
}
