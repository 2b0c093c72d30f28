//! `swarmgate status` and `rm`: what a running gateway does, and what it should forget; and for `info`, what it knows.

use std::io::Write;
use std::time::Duration;

use http::Method;
use indicatif::{BinaryBytes, HumanDuration};
use serde_json::{Value, json};
use swarmgate_bittorrent_proto::magnet::Magnet;
use swarmgate_config::Config;
use swarmgate_content::ContentId;

use super::args::{Output, Rm, Status};
use super::ls::printable;
use super::running::Running;
use super::source::Failure;
use super::{Exit, items};

/// Shows the status once, or again and again until `interrupted` resolves; with `--label` the items that bear it.
///
/// # Errors
/// When no gateway answers, or it refuses.
pub async fn status(
    config: &Config,
    command: &Status,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let running = Running::of(config, command.api.as_deref())?;
    if let Some(label) = &command.label {
        return items::list(&running, label, output, out).await;
    }
    tokio::pin!(interrupted);
    loop {
        let status = running.document("/api/v1/status").await?;
        match (output, command.watch) {
            // A document a line, so that a program can follow.
            (Output::Json, true) => say(out, &status.to_string())?,
            (Output::Json, false) => say(out, &format!("{status:#}"))?,
            (Output::Human, true) => say(out, &line(&status))?,
            (Output::Human, false) => say(out, page(&status).trim_end())?,
        }
        if !command.watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(command.interval)) => {}
            // Who watches ends it so; that is no failure.
            () = &mut interrupted => return Ok(()),
        }
    }
}

/// What the gateway knows of one item; `None` where no gateway runs and `api` does not say that one should.
///
/// # Errors
/// As [`status`]; [`Exit::NotFound`] when it knows no such item.
pub(super) async fn known(config: &Config, uri: &str, api: Option<&str>) -> Result<Option<Value>, Failure> {
    let id = item(uri)?;
    let expected = api.is_some();
    let running = match Running::of(config, api) {
        Ok(running) => running,
        Err(failure) if expected => return Err(failure),
        Err(_) => return Ok(None),
    };
    let path = format!("/api/v1/items/{id}");
    match running.ask(Method::GET, &path).await {
        Err(failure) if !expected && failure.exit == Exit::NotFound => Ok(None),
        Err(failure) => Err(failure),
        Ok(reply) => reply.json().map(Some),
    }
}

/// Has the gateway forget one item, and with `--purge` what it has cached of it.
///
/// # Errors
/// As [`status`]; [`Exit::NotFound`] when it knows no such item.
pub async fn rm(config: &Config, command: &Rm, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let id = item(&command.uri)?;
    let running = Running::of(config, command.api.as_deref())?;
    let data = if command.purge { "purge" } else { "keep" };
    running.ask(Method::DELETE, &format!("/api/v1/items/{id}?data={data}")).await?.accepted()?;
    match output {
        Output::Json => say(out, &format!("{:#}", json!({ "removed": id, "data": data }))),
        Output::Human if command.purge => say(out, &format!("{id} is forgotten, and its data is gone")),
        Output::Human => say(out, &format!("{id} is forgotten; what is cached of it stays until the room is needed")),
    }
}

pub(super) fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

/// The torrent that is meant, as the API names items.
pub(super) fn item(uri: &str) -> Result<String, Failure> {
    let usage = |reason: String| Failure::new(Exit::Usage, format!("{uri}: {reason}"));
    if uri.starts_with("magnet:") {
        let magnet = Magnet::parse(uri).map_err(|error| usage(error.to_string()))?;
        let v2 = || magnet.v2.map(|v2| v2.to_string());
        return magnet.v1.map(|v1| v1.to_string()).or_else(v2).ok_or_else(|| usage("it names no torrent".to_owned()));
    }
    match ContentId::parse_torrent(uri).map_err(|error| usage(error.to_string()))? {
        ContentId::BtV1(v1) => Ok(v1.to_string()),
        ContentId::BtV2(v2) => Ok(v2.to_string()),
        ContentId::Ipfs(_) => Err(usage("only torrents are items; `swarmgate pin rm` lets go of a CID".to_owned())),
    }
}

/// All of a status, a line for each of its parts.
fn page(status: &Value) -> String {
    let (totals, http, cache) = (&status["totals"], &status["http"], &status["cache"]);
    let up = HumanDuration(Duration::from_secs(number(&status["uptime_s"])));
    let ready = if status["ready"] == true { "ready" } else { "not ready" };
    let mut page = format!("swarmgate {}, {ready}, up for {up}\n", status["version"].as_str().unwrap_or("?"));
    for network in status["networks"].as_array().into_iter().flatten() {
        let (kind, health) = (network["kind"].as_str().unwrap_or("?"), &network["health"]);
        let state = health["state"].as_str().unwrap_or("?");
        page += &format!("{kind:<10} {state}: {}\n", printable(health["evidence"].as_str().unwrap_or_default()));
    }
    page += &format!(
        "items      {}, {} of them active; {} peers; {}/s in, {}/s out\n",
        totals["items"],
        totals["active"],
        totals["peers"],
        bytes(&totals["download_rate"]),
        bytes(&totals["upload_rate"])
    );
    page += &format!("streams    {} open, {} sent\n", http["streams_open"], bytes(&http["stream_bytes"]));
    page += &format!(
        "cache      {} of {}, {} of it pinned; {} of the disk are free\n",
        bytes(&cache["bytes"]),
        bytes(&cache["max_bytes"]),
        bytes(&cache["pinned_bytes"]),
        bytes(&cache["free_disk_bytes"])
    );
    page
}

/// The same in one line, for who watches.
fn line(status: &Value) -> String {
    let (totals, http, cache) = (&status["totals"], &status["http"], &status["cache"]);
    format!(
        "{} items, {} peers, {}/s in, {}/s out, {} streams, cache {} of {}{}",
        totals["items"],
        totals["peers"],
        bytes(&totals["download_rate"]),
        bytes(&totals["upload_rate"]),
        http["streams_open"],
        bytes(&cache["bytes"]),
        bytes(&cache["max_bytes"]),
        if status["ready"] == true { "" } else { ", not ready" }
    )
}

/// One item; its name is a stranger's.
pub(super) fn about(item: &Value) -> String {
    let name = item["name"].as_str().map_or_else(|| "name not known yet".to_owned(), printable);
    let mut page = format!("{}  {name}\n", item["infohash"].as_str().unwrap_or("?"));
    page += &format!(
        "state      {}{}\n",
        item["state"].as_str().unwrap_or("?"),
        if item["pinned"] == true {
            ", pinned"
        } else if item["kept"] == true {
            ", kept"
        } else {
            ""
        }
    );
    let total = item["total_len"]
        .as_u64()
        .map_or_else(|| "an unknown length".to_owned(), |total| BinaryBytes(total).to_string());
    page += &format!("cached     {} of {total}\n", bytes(&item["have_bytes"]));
    if item["select"].is_string() {
        page += &format!("selected   {}\n", items::selection(item));
    }
    if let Some(labels) = items::labels(item) {
        page += &format!("labels     {labels}\n");
    }
    page += &format!(
        "peers      {}, {} of them have all; {} readers here\n",
        item["peers"], item["seeds"], item["readers"]
    );
    page += &format!("rates      {}/s in, {}/s out\n", bytes(&item["download_rate"]), bytes(&item["upload_rate"]));
    page +=
        &format!("in all     {} received, {} sent\n", bytes(&item["total_downloaded"]), bytes(&item["total_uploaded"]));
    if let Some(error) = item["last_error"].as_str() {
        page += &format!("last error {}\n", printable(error));
    }
    page
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(super) fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |bytes| BinaryBytes(bytes).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Info;
    use crate::cli::info;
    use crate::testing::{IH, World, infohash, item as an_item, world};

    async fn with_an_item() -> (World, Config) {
        let world = world(&[("a", 1)]).await;
        world.catalogue.items.lock().insert(infohash(), an_item(infohash(), true, true));
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        (world, config)
    }

    fn text(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn status_is_a_page_for_people_and_a_document_for_programs() {
        let (_world, config) = with_an_item().await;
        let shown = async |output| {
            let mut out = Vec::new();
            status(&config, &Status::default(), output, std::future::pending(), &mut out).await.unwrap();
            text(out)
        };
        let page = shown(Output::Human).await;
        assert!(page.starts_with("swarmgate ") && page.contains(", ready, up for "), "{page}");
        assert!(page.contains("bittorrent ok: in memory\nitems      1, 0 of them active; 0 peers"), "{page}");
        let document: Value = serde_json::from_str(&shown(Output::Json).await).unwrap();
        assert_eq!(document["totals"]["items"], 1);
    }

    #[tokio::test]
    async fn watching_tells_a_line_each_time_and_ends_well_when_interrupted() {
        let (_world, config) = with_an_item().await;
        let mut out = Vec::new();
        let watch = Status { watch: true, interval: 1, ..Status::default() };
        let interrupted = tokio::time::sleep(Duration::from_millis(1500));
        status(&config, &watch, Output::Human, interrupted, &mut out).await.unwrap();
        let text = text(out);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.starts_with("1 items, 0 peers, 0 B/s in")), "{text}");
    }

    #[tokio::test]
    async fn an_item_is_shown_and_forgotten_and_then_not_found() {
        let (world, config) = with_an_item().await;
        let mut out = Vec::new();
        let which = Info { uri: format!("magnet:?xt=urn:btih:{IH}"), offline: false, api: None };
        info::run(&config, &which, Output::Human, std::future::pending(), &mut out).await.unwrap();
        let shown = text(out);
        assert!(
            shown.starts_with(&format!("{IH}  Test content\nstate      idle, kept\ncached     0 B of 1000 B\n")),
            "{shown}"
        );
        let gone = Rm { uri: IH.to_owned(), purge: true, api: None };
        rm(&config, &gone, Output::Human, &mut Vec::new()).await.unwrap();
        assert_eq!(*world.catalogue.purged.lock(), [(infohash(), true)]);
        let again = rm(&config, &gone, Output::Json, &mut Vec::new()).await.unwrap_err();
        assert_eq!(again.exit, Exit::NotFound, "{again}");
        let unknown = info::run(&config, &which, Output::Json, std::future::pending(), &mut Vec::new()).await;
        let unknown = unknown.unwrap_err();
        assert_eq!(unknown.exit, Exit::NotFound, "{unknown}");
    }

    #[test]
    fn only_torrents_are_items() {
        assert_eq!(item(&IH.to_uppercase()).unwrap(), IH);
        assert_eq!(item(&format!("1220{}", "ab".repeat(32))).unwrap(), "ab".repeat(32));
        for wrong in ["magnet:?dn=x", "film.mkv", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"] {
            assert_eq!(item(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
