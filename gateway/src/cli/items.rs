//! `swarmgate keep`, `select` and `label`: which torrents, and which files of them, a running gateway fetches and holds,
//! and the words that they are found by. `status --label` lists those that bear one.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::CONTENT_TYPE;
use http::{Method, Request};
use serde_json::{Value, json};
use swarmgate_config::Config;
use swarmgate_content::ContentId;
use url::form_urlencoded;

use super::args::Output;
use super::dags::is_ipfs;
use super::ls::printable;
use super::running::Running;
use super::running_commands::{bytes, item, say};
use super::source::{Failure, read_file};
use super::{Exit, Pick};

/// How long a change may take. A `.torrent` that is named by its URL is fetched meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the gateway looks for a torrent's files where a pattern has to be compared with them.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

const JSON: &str = "application/json";
const TORRENT: &str = "application/x-bittorrent";

/// `keep`.
#[derive(Debug, Clone, Args)]
pub struct Keep {
    /// Magnet, infohash, .torrent file or the URL of one
    pub uri: String,
    /// Only these files: numbers as `ls` shows them, as 0,2-4, or a pattern as '*.mkv'; all, or what the magnet or an
    /// earlier choice says, when not given
    #[arg(long, value_name = "FILES")]
    pub select: Option<Pick>,
    /// A word to find it by; repeatable
    #[arg(long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `select`.
#[derive(Debug, Clone, Args)]
pub struct Select {
    /// Magnet or infohash
    pub uri: String,
    /// File numbers as `ls` shows them, as 0,2-4, or a pattern as '*.mkv'
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub files: Option<Pick>,
    /// All of its files
    #[arg(long)]
    pub all: bool,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// `label`.
#[derive(Debug, Clone, Args)]
pub struct Label {
    /// Magnet or infohash
    pub uri: String,
    /// Give it this label; repeatable
    #[arg(long, value_name = "LABEL")]
    pub add: Vec<String>,
    /// Take this label from it; repeatable
    #[arg(long, value_name = "LABEL")]
    pub remove: Vec<String>,
    /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
    #[arg(long, value_name = "URL")]
    pub api: Option<String>,
}

/// Has the gateway fetch a torrent, or some of its files, and hold it.
///
/// # Errors
/// When no gateway answers, or it refuses; [`Exit::NotFound`] when none of its files is meant, [`Exit::DiskFull`] when the
/// cache is too small for those that are. Where no file has the pattern it is added all the same, and not pinned.
pub async fn keep(config: &Config, command: &Keep, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    if is_ipfs(&command.uri) {
        return Err(Failure::new(Exit::Usage, "only torrents are items; `swarmgate pin add` keeps a CID"));
    }
    let running = Running::of(config, command.api.as_deref())?;
    // Which files have a pattern is known once the files are; until then nothing is pinned.
    let (select, pattern) = match &command.select {
        Some(Pick::Numbers(numbers)) => (Some(numbers.to_string()), None),
        Some(pick @ Pick::Pattern(_)) => (None, Some(pick)),
        None => (None, None),
    };
    let mut kept = add(&running, &command.uri, select.as_deref(), pattern.is_none()).await?;
    let no_item = || Failure::new(Exit::Error, "the answer names no item; is it a swarmgate?");
    let id = kept["infohash"].as_str().ok_or_else(no_item)?.to_owned();
    if !command.label.is_empty() {
        let labels = labelled(&kept, &command.label, &[]);
        kept = change(&running, &id, &json!({ "labels": labels })).await?;
    }
    if let Some(pick) = pattern {
        let select = numbers(&running, &id, pick).await?;
        change(&running, &id, &json!({ "select": select })).await?;
        running.ask_within(PATIENCE, Method::PUT, &format!("/api/v1/items/{id}/pin")).await?.accepted()?;
        kept = running.document(&format!("/api/v1/items/{id}")).await?;
    }
    match output {
        Output::Json => say(out, &format!("{kept:#}")),
        Output::Human => say(out, &format!("{id} is pinned: {}", selection(&kept))),
    }
}

/// Selects which files of an item are fetched and held.
///
/// # Errors
/// As [`keep`]; [`Exit::NotFound`] when the gateway knows no such item, too.
pub async fn select(config: &Config, command: &Select, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let id = item(&command.uri)?;
    let running = Running::of(config, command.api.as_deref())?;
    let select = match &command.files {
        Some(pick) => Value::from(numbers(&running, &id, pick).await?),
        None => Value::Null,
    };
    let changed = change(&running, &id, &json!({ "select": select })).await?;
    match output {
        Output::Json => say(out, &format!("{changed:#}")),
        Output::Human => say(out, &format!("{id}: {}", selection(&changed))),
    }
}

/// Changes an item's labels, and shows them.
///
/// # Errors
/// When no gateway answers, or it refuses; [`Exit::NotFound`] when it knows no such item.
pub async fn label(config: &Config, command: &Label, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let id = item(&command.uri)?;
    let running = Running::of(config, command.api.as_deref())?;
    let mut found = running.document(&format!("/api/v1/items/{id}")).await?;
    if !(command.add.is_empty() && command.remove.is_empty()) {
        let labels = labelled(&found, &command.add, &command.remove);
        found = change(&running, &id, &json!({ "labels": labels })).await?;
    }
    match output {
        Output::Json => say(out, &format!("{found:#}")),
        Output::Human => {
            let words = labels(&found).unwrap_or_else(|| "no labels".to_owned());
            say(out, &format!("{id}: {words}"))
        }
    }
}

/// Lists the items that bear a label.
///
/// # Errors
/// When no gateway answers, or it refuses.
pub(super) async fn list(running: &Running, label: &str, output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let wanted: String = form_urlencoded::byte_serialize(label.as_bytes()).collect();
    let found = running.document(&format!("/api/v1/items?sort=name&label={wanted}")).await?;
    let items = found["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    match output {
        Output::Json => say(out, &format!("{found:#}")),
        Output::Human if items.is_empty() => say(out, &format!("no item bears the label {}", printable(label))),
        Output::Human => items.iter().try_for_each(|item| say(out, &line(item))),
    }
}

/// One item of a list; its name is a stranger's.
fn line(item: &Value) -> String {
    let name = item["name"].as_str().map_or_else(|| "name not known yet".to_owned(), printable);
    let state = item["state"].as_str().unwrap_or("?");
    let pinned = if item["pinned"] == true { ", pinned" } else { "" };
    let cached = format!("{} of {} cached", bytes(&item["have_bytes"]), bytes(&item["total_len"]));
    let labels = labels(item).unwrap_or_default();
    format!("{}  {name}  {state}{pinned}, {cached}  {labels}", item["infohash"].as_str().unwrap_or("?"))
}

/// Which files of an item are selected, in words.
pub(super) fn selection(item: &Value) -> String {
    let (select, of_them) = (item["select"].as_str().map(printable), &item["selected"]);
    let files = match select {
        None => "all files are selected".to_owned(),
        Some(select) if of_them.is_null() => format!("files {select} are selected"),
        Some(select) => {
            let (have, len) = (bytes(&of_them["have_bytes"]), bytes(&of_them["len"]));
            format!("files {select} are selected, {have} of {len} cached")
        }
    };
    match item["pinned"] == true {
        true => files,
        false => format!("{files}; nobody fetches them before `swarmgate keep`, or a reader"),
    }
}

/// An item's labels with commas between them; `None` where it bears none.
pub(super) fn labels(item: &Value) -> Option<String> {
    let words: Vec<_> = item["labels"].as_array()?.iter().filter_map(Value::as_str).map(printable).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// The labels that an item bears with some more and without others, each once.
fn labelled(item: &Value, add: &[String], remove: &[String]) -> Vec<String> {
    let had = item["labels"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    let mut labels = Vec::new();
    for label in had.chain(add.iter().cloned()) {
        if !labels.contains(&label) && !remove.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

/// Adds what a URI names, pinned or not yet, and shows it.
async fn add(running: &Running, uri: &str, select: Option<&str>, pin: bool) -> Result<Value, Failure> {
    let is_link = ["magnet:", "http://", "https://"].iter().any(|scheme| uri.starts_with(scheme));
    let request = if is_link || ContentId::parse_torrent(uri).is_ok() {
        let mut wanted = json!({ "uri": uri });
        if pin {
            wanted["pin"] = true.into();
        }
        if let Some(select) = select {
            wanted["select"] = select.into();
        }
        request(Method::POST, "/api/v1/items", JSON, wanted.to_string())?
    } else {
        let read = read_file(uri, "").await.map_err(|failure| match failure.exit == Exit::NotFound {
            true => Failure::new(Exit::Usage, format!("{uri:?} is no magnet, infohash, URL or file")),
            false => failure,
        })?;
        let query = match (pin, select) {
            (true, Some(select)) => format!("?pin=true&select={select}"),
            (true, None) => "?pin=true".to_owned(),
            (false, _) => String::new(),
        };
        request(Method::POST, &format!("/api/v1/items{query}"), TORRENT, read)?
    };
    running.send(request, PATIENCE).await?.json()
}

/// Changes an item by a merge patch, and shows it.
async fn change(running: &Running, id: &str, patch: &Value) -> Result<Value, Failure> {
    let request = request(Method::PATCH, &format!("/api/v1/items/{id}"), JSON, patch.to_string())?;
    running.send(request, PATIENCE).await?.json()
}

/// The numbers of the files that are picked, as the API takes them. For a pattern the gateway is asked for the files, and
/// looks for them where it does not know them yet.
async fn numbers(running: &Running, id: &str, pick: &Pick) -> Result<String, Failure> {
    let pattern = match pick {
        Pick::Numbers(numbers) => return Ok(numbers.to_string()),
        Pick::Pattern(pattern) => pattern,
    };
    let path = format!("/bt/{id}/?format=json&wait={}", FOUND_WITHIN.as_secs());
    let listing: Value = running.ask_within(FOUND_WITHIN + PATIENCE, Method::GET, &path).await?.json()?;
    let files: Vec<_> = listing["files"].as_array().into_iter().flatten().filter_map(numbered).collect();
    let runs = runs(files.iter().map(|(number, path)| (*number, pick.has(*number, path))));
    if runs.is_empty() {
        let message = format!(
            "none of the {} files has the pattern {}; `swarmgate ls` lists them",
            files.len(),
            printable(pattern)
        );
        return Err(Failure::new(Exit::NotFound, message));
    }
    Ok(runs)
}

/// The number and the path of a listing's row.
fn numbered(row: &Value) -> Option<(usize, &str)> {
    Some((usize::try_from(row["index"].as_u64()?).ok()?, row["path"].as_str()?))
}

/// Files by number, each with whether it is picked, as `0,2-4`. What only fills up between two files is in no listing, and
/// does not part a run.
fn runs(files: impl Iterator<Item = (usize, bool)>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut goes_on = false;
    for (number, is_picked) in files {
        match runs.last_mut() {
            Some(run) if is_picked && goes_on => run.1 = number,
            Some(_) | None if is_picked => runs.push((number, number)),
            Some(_) | None => {}
        }
        goes_on = is_picked;
    }
    let words = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(",")
}

fn request(method: Method, path: &str, content_type: &str, body: impl Into<Bytes>) -> Result<Request<Bytes>, Failure> {
    let request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, content_type).body(body.into());
    request.map_err(|error| Failure::new(Exit::Error, format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Status;
    use crate::cli::running_commands::status;
    use crate::testing::{IH, World, infohash, item as an_item, world};

    /// As in the catalogue of tests: the one between is padding.
    const FILES: &[(&str, u64)] = &[("film.mkv", 100_000), (".pad/1", 8), ("extra/notes & more.txt", 500)];

    async fn gateway() -> (World, Config) {
        let world = world(FILES).await;
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        (world, config)
    }

    fn keeping(uri: &str, select: Option<&str>, label: &[&str]) -> Keep {
        let label = label.iter().map(|label| (*label).to_owned()).collect();
        Keep { uri: uri.to_owned(), select: select.map(|select| select.parse().unwrap()), label, api: None }
    }

    fn selecting(files: Option<&str>) -> Select {
        let files: Option<Pick> = files.map(|files| files.parse().unwrap());
        Select { uri: IH.to_owned(), all: files.is_none(), files, api: None }
    }

    fn labelling(add: &[&str], remove: &[&str]) -> Label {
        let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        Label { uri: IH.to_owned(), add: owned(add), remove: owned(remove), api: None }
    }

    fn text(out: Vec<u8>) -> String {
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_magnet_is_kept_with_the_files_and_labels_that_were_named() {
        let (world, config) = gateway().await;
        let magnet = format!("magnet:?xt=urn:btih:{IH}");
        let mut out = Vec::new();
        let command = keeping(&magnet, Some("0,2"), &["film", "new", "film"]);
        keep(&config, &command, Output::Human, &mut out).await.unwrap();
        assert_eq!(text(out), format!("{IH} is pinned: files 0,2 are selected\n"));
        let item = world.catalogue.items.lock()[&infohash()].clone();
        assert!(item.pinned);
        assert_eq!(item.select.map(|select| select.to_string()).as_deref(), Some("0,2"));
        assert_eq!(item.labels, ["film", "new"]);
    }

    #[tokio::test]
    async fn a_torrent_file_is_kept_with_the_files_that_have_a_pattern() {
        let (world, config) = gateway().await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.torrent");
        std::fs::write(&path, "de").unwrap();
        let path = path.display().to_string();
        let missed = keep(&config, &keeping(&path, Some("*.avi"), &[]), Output::Human, &mut Vec::new()).await;
        let missed = missed.unwrap_err();
        assert_eq!(missed.exit, Exit::NotFound);
        assert_eq!(missed.message, "none of the 2 files has the pattern *.avi; `swarmgate ls` lists them");
        assert!(!world.catalogue.items.lock()[&infohash()].pinned, "nothing is fetched in its place");

        let mut out = Vec::new();
        keep(&config, &keeping(&path, Some("*.txt"), &["text"]), Output::Json, &mut out).await.unwrap();
        let kept: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&kept["select"], &kept["pinned"]), (&"2".into(), &true.into()), "{kept}");
        assert_eq!(kept["labels"], json!(["text"]));
    }

    #[tokio::test]
    async fn what_is_no_torrent_is_not_kept() {
        let (_world, config) = gateway().await;
        let cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy";
        for uri in [cid, "/nowhere/film.torrent", "magnet:?dn=x"] {
            let failure = keep(&config, &keeping(uri, None, &[]), Output::Human, &mut Vec::new()).await.unwrap_err();
            assert_ne!(failure.exit, Exit::Ok, "{uri}");
            assert!(uri == "magnet:?dn=x" || failure.exit == Exit::Usage, "{uri}: {failure}");
        }
    }

    #[tokio::test]
    async fn files_are_selected_later_by_number_by_pattern_and_all_of_them() {
        let (world, config) = gateway().await;
        let unknown = select(&config, &selecting(Some("0")), Output::Human, &mut Vec::new()).await.unwrap_err();
        assert_eq!(unknown.exit, Exit::NotFound, "{unknown}");
        world.catalogue.items.lock().insert(infohash(), an_item(infohash(), true, true));
        for (files, selected) in
            [(Some("2"), Some("2")), (Some("film*"), Some("0")), (Some("*"), Some("0-2")), (None, None)]
        {
            select(&config, &selecting(files), Output::Human, &mut Vec::new()).await.unwrap();
            let item = world.catalogue.items.lock()[&infohash()].clone();
            assert_eq!(item.select.map(|select| select.to_string()).as_deref(), selected, "{files:?}");
        }
        let mut out = Vec::new();
        select(&config, &selecting(Some("2")), Output::Human, &mut out).await.unwrap();
        let shown = text(out);
        assert!(shown.starts_with(&format!("{IH}: files 2 are selected; nobody fetches them before")), "{shown}");
        for none in ["1", "7-9", "*.avi"] {
            let refused = select(&config, &selecting(Some(none)), Output::Human, &mut Vec::new()).await.unwrap_err();
            assert_eq!(refused.exit, Exit::NotFound, "{none}: {refused}");
        }
        let item = world.catalogue.items.lock()[&infohash()].clone();
        assert_eq!(item.select.map(|select| select.to_string()).as_deref(), Some("2"), "it is as it was");
    }

    #[tokio::test]
    async fn labels_are_given_and_taken_and_the_status_lists_who_bears_one() {
        let (world, config) = gateway().await;
        world.catalogue.items.lock().insert(infohash(), an_item(infohash(), true, true));
        let said = async |command: Label| {
            let mut out = Vec::new();
            label(&config, &command, Output::Human, &mut out).await.unwrap();
            text(out)
        };
        assert_eq!(said(labelling(&[], &[])).await, format!("{IH}: no labels\n"));
        assert_eq!(said(labelling(&["film", "linux iso", "film"], &[])).await, format!("{IH}: film, linux iso\n"));
        assert_eq!(said(labelling(&["seen"], &["film"])).await, format!("{IH}: linux iso, seen\n"));
        let listed = async |label: &str| {
            let mut out = Vec::new();
            let command = Status { label: Some(label.to_owned()), ..Status::default() };
            status(&config, &command, Output::Human, std::future::pending(), &mut out).await.unwrap();
            text(out)
        };
        let row = format!("{IH}  Test content  idle, 0 B of 1000 B cached  linux iso, seen\n");
        assert_eq!(listed("linux iso").await, row);
        assert_eq!(listed("film").await, "no item bears the label film\n");
        let refused = label(&config, &labelling(&["a\tb"], &[]), Output::Human, &mut Vec::new()).await.unwrap_err();
        assert_eq!(refused.exit, Exit::Usage, "{refused}");
    }

    #[test]
    fn runs_go_on_over_what_is_in_no_listing() {
        let of = |files: &[(usize, bool)]| runs(files.iter().copied());
        assert_eq!(of(&[(0, true), (2, true), (4, false), (5, true), (6, true)]), "0-2,5-6");
        assert_eq!(of(&[(0, false), (1, true), (2, false)]), "1");
        assert_eq!(of(&[(0, false)]), "");
    }
}
