//! `swarmgate recheck`: hashes what the cache has of a torrent again.

use std::io::Write;

use swarmgate_bittorrent::recheck;
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_config::Config;
use swarmgate_content::{ContentId, InfoHash};
use swarmgate_store::Store;

use super::Exit;
use super::args::Output;
use super::source::Failure;
use crate::app::store_options;

/// Runs the command to its end, or until `interrupted` resolves.
///
/// # Errors
/// [`Failure`] when the cache cannot be opened, or does not have the torrent's metadata; [`Exit::Integrity`] when pieces
/// were wrong and are gone.
pub async fn run(
    config: &Config,
    uri: &str,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let infohash = infohash(uri)?;
    let fail = |error: &dyn std::error::Error| Failure::new(Exit::Error, error.to_string());
    let (options, _ephemeral) = store_options(config).map_err(|error| fail(&error))?;
    let store = Store::open(options).await.map_err(|error| fail(&error))?;
    let outcome = tokio::select! {
        outcome = recheck(&store, infohash) => Ok(outcome),
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; what was wrong so far is gone")),
    };
    store.close().await;
    let missing = || Failure::new(Exit::NotFound, format!("the cache does not have the metadata of {infohash}"));
    let found = outcome?.ok_or_else(missing)?;
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

fn infohash(uri: &str) -> Result<InfoHash, Failure> {
    let usage = |reason: String| Failure::new(Exit::Usage, reason);
    let named = if uri.starts_with("magnet:") {
        Magnet::parse(uri).map_err(|error| usage(error.to_string()))?.v1
    } else {
        ContentId::parse_torrent(uri).map_err(|error| usage(error.to_string()))?.as_v1()
    };
    named.ok_or_else(|| usage(format!("{uri} names no v1 torrent")))
}
