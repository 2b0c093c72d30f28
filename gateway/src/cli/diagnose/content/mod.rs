//! `swarmgate diagnose URI`: why a content is slow, or does not come at all.
//!
//! A gateway with an empty cache of its own asks for the content's metadata and its first byte, over all networks of the
//! configuration, and tells who was asked and how that went: trackers, the DHT, peers, web seeds, providers. What is made
//! of it in the end is a rule of plain values (`why.rs`).

mod why;

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::json;
use swarmgate_config::{Config, Span};
use swarmgate_content::{
    Attempt, AttemptOutcome, ByteRange, ContentMeta, ContentReader, FetchError, FetchErrorKind, FileRef,
    ResolveRequest, Stage,
};
use swarmgate_ipfs::patience::Patience;
use swarmgate_ipfs::{IpfsProtocol, SessionOptions};
use swarmgate_ipfs_proto::content_path::ContentPath;
use swarmgate_ipfs_proto::path::Target;

use crate::app::App;
use crate::cli::Exit;
use crate::cli::args::Output;
use crate::cli::dags::{is_ipfs, name_failure, read_path};
use crate::cli::ls::printable;
use crate::cli::own_gateway::{own_config, start};
use crate::cli::source::{Failure, Source};
use crate::{playlist, tried};

/// How long it may take all together when nobody says.
const DEADLINE: Duration = Duration::from_secs(30);
/// The longest that can be said. Who has to wait longer has learnt all there is.
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// How long those may take to answer who were asked when the first byte came from others.
const SETTLE: Duration = Duration::from_secs(3);
/// How often it is looked whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the gateway may take to end.
const GOODBYE: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Found {
    /// Untrusted; missing until the metadata came.
    name: Option<String>,
    /// Until it was known what the content is.
    metadata_ms: Option<u64>,
    /// Until its first verified byte.
    first_byte_ms: Option<u64>,
    /// What trackers say of the swarm, where one has.
    swarm: Option<Swarm>,
    /// Peers connected at the end, of a torrent.
    peers: usize,
    /// Those of them that have everything.
    seeds: usize,
    /// Whether it is looked for in the DHT, of a torrent.
    dht: bool,
    /// Who was asked.
    attempts: Vec<Attempt>,
    /// Who delivers besides peers: web seeds, and other networks.
    sources: Vec<Other>,
    /// What ended it, where no byte came.
    error: Option<String>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct Swarm {
    seeds: u32,
    others: u32,
}

#[derive(Debug, Serialize)]
struct Other {
    name: String,
    /// Verified bytes a second; missing until one came.
    rate: Option<f64>,
    late: bool,
}

/// What was typed.
enum Subject {
    Torrent(Box<Source>),
    Ipfs(ContentPath),
}

/// Looks for the content for a while, and tells what came of it.
///
/// # Errors
/// [`Exit::NotFound`] or [`Exit::Timeout`] when no verified byte came; else what kept it from being looked for.
pub(in crate::cli) async fn run(
    config: &Config,
    uri: &str,
    within: Option<Span>,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let within = within.map_or(DEADLINE, Span::duration);
    if within < Duration::from_secs(1) || within > MAX_DEADLINE {
        return Err(Failure::new(Exit::Usage, "--timeout is between 1 second and 10 minutes"));
    }
    let ipfs = is_ipfs(uri).then(|| read_path(uri)).transpose()?;
    let token = HEXLOWER.encode(&rand::random::<[u8; 32]>());
    let mut config = own_config(config, &token, within);
    config.cache.ephemeral = true;
    let app = start(&config).await?;
    let looked = tokio::select! {
        looked = look(&app, uri, ipfs, &config, within) => looked,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    app.shutdown(GOODBYE).await;
    let found = looked?;
    match tell(&found, uri, output, out) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::new(Exit::from(&error), error.to_string()));
        }
        Ok(()) | Err(_) => {}
    }
    match found.exit {
        None => Ok(()),
        Some(exit) => Err(Failure::new(exit, found.error.unwrap_or_default())),
    }
}

async fn look(
    app: &App,
    uri: &str,
    ipfs: Option<ContentPath>,
    config: &Config,
    within: Duration,
) -> Result<Found, Failure> {
    let subject = match (ipfs, app.bittorrent()) {
        (Some(path), _) => Subject::Ipfs(path),
        (None, Some(engine)) => Subject::Torrent(Box::new(Source::read(uri, engine.http_client()).await?)),
        (None, None) => return Err(switched_off("bittorrent.enabled")),
    };
    let until = Instant::now() + within;
    match subject {
        Subject::Torrent(source) => of_torrent(app, *source, config, until).await,
        Subject::Ipfs(path) => {
            let protocol = app.ipfs().ok_or_else(|| switched_off("ipfs.enabled"))?;
            of_ipfs(protocol, &path, until).await
        }
    }
}

fn switched_off(option: &str) -> Failure {
    let message = format!("{option} is false in the configuration; --set {option}=true switches it on");
    Failure::new(Exit::Usage, message)
}

async fn of_torrent(app: &App, source: Source, config: &Config, until: Instant) -> Result<Found, Failure> {
    let Some(engine) = app.bittorrent() else { return Err(switched_off("bittorrent.enabled")) };
    let (id, wire, begun) = (source.id.content(), source.id.wire(), Instant::now());
    if let Some(metainfo) = source.metainfo {
        let added = engine.add_metainfo(metainfo, false).await;
        added.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    }
    let mut found = Found { dht: config.bittorrent.has_dht(), ..Found::default() };
    let request = ResolveRequest { id, hints: source.hints, deadline: until };
    // What is kept open until the end goes on being fetched, so that the sources are there to be told of.
    let mut reading = None;
    let fetched = match app.manager().resolve(request).await {
        Ok(meta) => {
            found.name = Some(meta.name.clone());
            found.metadata_ms = Some(millis(begun));
            first_byte(app, &meta, until, &mut reading).await
        }
        Err(error) => Err(error),
    };
    found.settle(fetched, begun);
    let mut attempts = app.manager().attempts(&id);
    while found.exit.is_none() && Instant::now() < until.min(begun + SETTLE) && attempts.iter().any(is_awaited) {
        tokio::time::sleep(LOOK_EVERY).await;
        attempts = app.manager().attempts(&id);
    }
    if !attempts.is_empty() {
        found.attempts = attempts;
    }
    if let Some(status) = engine.status(&wire) {
        (found.peers, found.seeds) = (status.peers, status.seeds);
    }
    let counts = engine.item(&wire).and_then(|item| item.swarm_size);
    found.swarm = counts.map(|counts| Swarm { seeds: counts.complete, others: counts.incomplete });
    let fetches = app.hybrid().map(|hybrid| hybrid.fetches()).unwrap_or_default();
    let others = fetches.into_iter().filter(|fetch| fetch.item == id).flat_map(|fetch| fetch.sources);
    found.sources = others
        .map(|source| Other { name: source.name.to_string(), rate: source.goodput, late: source.overdue })
        .collect();
    drop(reading);
    Ok(found)
}

/// Reads the first byte of the file that a player would get.
async fn first_byte(
    app: &App,
    meta: &Arc<ContentMeta>,
    until: Instant,
    reading: &mut Option<ContentReader>,
) -> Result<(), FetchError> {
    let fail = |kind, detail: &str| FetchError::new(meta.id, Stage::FirstByte, kind, detail);
    let best = playlist::best(meta).filter(|(_, file)| file.len > 0);
    let (index, file) = best.ok_or_else(|| fail(FetchErrorKind::NotFound, "it has no file with a byte in it"))?;
    let range = ByteRange::full(file.len).ok_or_else(|| fail(FetchErrorKind::Internal, "an empty range"))?;
    let read = async {
        let reader = reading.insert(app.manager().open(FileRef { id: meta.id, index }, range).await?);
        reader.next().await.unwrap_or_else(|| Err(fail(FetchErrorKind::Internal, "it ended before its first byte")))
    };
    let read = tokio::time::timeout_at(until.into(), read).await;
    read.unwrap_or_else(|_| Err(fail(FetchErrorKind::TimedOut, "no source sent its first byte in time"))).map(drop)
}

async fn of_ipfs(protocol: &Arc<IpfsProtocol>, path: &ContentPath, until: Instant) -> Result<Found, Failure> {
    let begun = Instant::now();
    let within = until - begun;
    let patience = Patience { first_byte: within, stall: within, total: within };
    let session = protocol.session(SessionOptions { patience: Some(patience), ..SessionOptions::default() });
    let named = tokio::time::timeout_at(until.into(), protocol.names().resolve(path)).await;
    let named =
        named.map_err(|_| Failure::new(Exit::Timeout, format!("{path}: nobody said in time where it leads")))?;
    let named = named.map_err(|error| name_failure(&error))?;
    let mut found = Found::default();
    let fetched = match session.follow_path(&named.path).await {
        Ok(end) => {
            found.name = path.segments().last().cloned();
            found.metadata_ms = Some(millis(begun));
            match (end.target, ByteRange::full(1)) {
                (Target::File, Some(first)) => {
                    // An empty file is here with its first block.
                    session.file(end.cid, first).next().await.map_or(Ok(()), |read| read.map(drop))
                }
                (_, _) => session.block(&end.cid).await.map(drop),
            }
        }
        Err(error) => Err(error),
    };
    found.settle(fetched, begun);
    let attempts = session.attempts();
    if !attempts.is_empty() {
        found.attempts = attempts;
    }
    Ok(found)
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Whether somebody was asked, and has not answered so far.
fn is_awaited(attempt: &Attempt) -> bool {
    attempt.outcome == AttemptOutcome::Timeout
}

impl Found {
    fn settle(&mut self, fetched: Result<(), FetchError>, begun: Instant) {
        match fetched {
            Ok(()) => self.first_byte_ms = Some(millis(begun)),
            Err(error) => {
                let exit = Exit::from(&error);
                let told = matches!(exit, Exit::Timeout | Exit::Integrity | Exit::DiskFull);
                self.exit = Some(if told { exit } else { Exit::NotFound });
                self.error = Some(error.to_string());
                self.attempts = error.attempts;
            }
        }
    }
}

fn tell(found: &Found, uri: &str, output: Output, out: &mut dyn Write) -> std::io::Result<()> {
    let why = why::why(found);
    if output == Output::Json {
        let document = json!({ "ok": found.exit.is_none(), "uri": uri, "found": found, "why": why });
        return writeln!(out, "{document:#}");
    }
    writeln!(out, "{}", found.name.as_deref().map_or_else(|| printable(uri), printable))?;
    let mut row = |label: &str, text: &str| writeln!(out, "{label:<10} {}", printable(text));
    let after = |ms: Option<u64>| ms.map_or_else(|| "never came".to_owned(), |ms| format!("came after {ms} ms"));
    row("metadata", &after(found.metadata_ms))?;
    row("first byte", &after(found.first_byte_ms))?;
    if let Some(Swarm { seeds, others }) = &found.swarm {
        row("swarm", &format!("{seeds} have everything, {others} do not, as its trackers say"))?;
    }
    for attempt in &found.attempts {
        row("asked", &tried::sentence(attempt))?;
    }
    for Other { name, rate, late } in &found.sources {
        let rate = rate.map_or_else(|| "nothing so far".to_owned(), |rate| format!("{:.0} KiB/s", rate / 1024.0));
        row("source", &format!("{name}: {rate}{}", if *late { ", late" } else { "" }))?;
    }
    row("so", &why)
}

#[cfg(test)]
mod stories;
