//! `swarmgate ls`: a torrent's files, by number. What IPFS has is listed in `list.rs`.

use std::io::Write;

use swarmgate_config::Config;
use swarmgate_content::ContentMeta;

use super::args::Output;
use super::dags::is_ipfs;
use super::engine::Engine;
use super::source::{Failure, Source};
use super::{Exit, list};

/// Runs the command to its end, or until `interrupted` resolves.
///
/// # Errors
/// [`Failure`] when nobody has the metadata, or the blocks of a directory.
pub async fn run(
    config: &Config,
    uri: &str,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if is_ipfs(uri) {
        return list::run(config, uri, output, interrupted, out).await;
    }
    let engine = Engine::start(config).await?;
    let listed = async {
        let source = Source::read(uri, engine.bittorrent().http_client()).await?;
        engine.resolve(&source).await
    };
    let outcome = tokio::select! {
        outcome = listed => outcome,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    engine.shutdown().await;
    let meta = outcome?;
    let written = match output {
        Output::Human => human(&meta, out),
        Output::Json => json(&meta, out),
    };
    written.map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

fn human(meta: &ContentMeta, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{}  {}", meta.id, printable(&meta.name))?;
    for (index, file) in meta.files.iter().enumerate().filter(|(_, file)| !file.padding) {
        writeln!(out, "{index:>5}  {:>14}  {}", file.len, printable(&file.joined_path()))?;
    }
    Ok(())
}

fn json(meta: &ContentMeta, out: &mut dyn Write) -> std::io::Result<()> {
    let files = meta.files.iter().enumerate().filter(|(_, file)| !file.padding);
    let files: Vec<_> = files
        .map(|(index, file)| serde_json::json!({ "index": index, "path": file.joined_path(), "len": file.len }))
        .collect();
    let listing = serde_json::json!({ "id": meta.id, "name": meta.name, "total_len": meta.total_len, "files": files });
    writeln!(out, "{listing:#}")
}

/// A stranger chose the name; it must not move the cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
