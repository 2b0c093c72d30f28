//! `swarmgate cache …`: what takes how much of the cache and the ways to let go of it, asked of the running gateway; and
//! hashing all of it again, which wants the cache for itself.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use futures_util::StreamExt as _;
use futures_util::stream;
use http::Method;
use indicatif::BinaryBytes;
use serde::Serialize;
use serde_json::Value;
use swarmgate_config::{Config, Size};
use swarmgate_content::BlockHash;
use swarmgate_store::{HASH_THREADS, Store};

use super::Exit;
use super::args::Output;
use super::ls::printable;
use super::progress::Progress;
use super::running::Running;
use super::source::Failure;
use crate::app::store_options;

/// How long deleting may take: a hundred thousand files on a slow disk.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Torrents and pins that people are shown, the largest first.
const SHOWN: usize = 20;

/// What to do with the cache.
#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Show what takes how much of the running gateway's cache
    Ls {
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
    /// Have the running gateway let the least recently used go, as far as its bounds or --to want it
    Gc {
        /// How much may stay, as 5GiB; cache.max_size when not given
        #[arg(long, value_name = "SIZE")]
        to: Option<Size>,
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
    /// Have the running gateway let all go that is neither pinned nor being read
    Purge {
        /// The gateway's own address, as http://HOST:PORT or unix:/PATH; that of the configuration when not given
        #[arg(long, value_name = "URL")]
        api: Option<String>,
    },
    /// Hash all blocks again, while no gateway runs, and let go what is wrong
    Verify,
}

/// What hashing all blocks again has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Verified {
    /// All of them.
    blocks: u64,
    /// Their lengths, in bytes.
    bytes: u64,
    /// Those that are what their names say.
    right: u64,
    /// Those that were wrong, or could not be read, and are gone.
    dropped: u64,
}

/// Runs the command to its end, or until `interrupted` resolves.
///
/// # Errors
/// When no gateway answers, or it refuses; for `verify`, when the cache cannot be opened, and [`Exit::Integrity`] when
/// blocks were wrong and are gone.
pub async fn run(
    config: &Config,
    command: &CacheCommand,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match command {
        CacheCommand::Ls { api } => {
            let account = Running::of(config, api.as_deref())?.document("/api/v1/cache").await?;
            match output {
                Output::Json => say(out, &format!("{account:#}")),
                Output::Human => say(out, page(&account).trim_end()),
            }
        }
        CacheCommand::Gc { to, api } => {
            let query = to.map_or_else(String::new, |size| format!("?max_bytes={}", size.bytes()));
            let running = Running::of(config, api.as_deref())?;
            let_go(&running, Method::POST, &format!("/api/v1/cache/gc{query}"), output, out).await
        }
        CacheCommand::Purge { api } => {
            let running = Running::of(config, api.as_deref())?;
            let_go(&running, Method::DELETE, "/api/v1/cache", output, out).await
        }
        CacheCommand::Verify => verify(config, output, interrupted, out).await,
    }
}

async fn let_go(
    running: &Running,
    method: Method,
    path: &str,
    output: Output,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let freed: Value = running.ask_within(PATIENCE, method, path).await?.json()?;
    match output {
        Output::Json => say(out, &format!("{freed:#}")),
        Output::Human => {
            let (gone, left) = (bytes(&freed["freed_bytes"]), bytes(&freed["bytes"]));
            say(out, &format!("{gone} in {} blocks are gone; {left} are left", freed["freed_blocks"]))
        }
    }
}

async fn verify(
    config: &Config,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let fail = |error: &dyn std::error::Error| Failure::new(Exit::Error, error.to_string());
    let (options, _ephemeral) = store_options(config).map_err(|error| fail(&error))?;
    let store = Store::open(options).await.map_err(|error| fail(&error))?;
    let outcome = tokio::select! {
        found = hash_all(&store) => Ok(found),
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted; what was wrong so far is gone")),
    };
    store.close().await;
    let found = outcome?;
    match output {
        Output::Json => say(out, &format!("{:#}", serde_json::json!(found)))?,
        Output::Human => {
            let Verified { blocks, bytes, right, dropped } = found;
            say(out, &format!("{blocks} blocks of {}: {right} right, {dropped} wrong and gone", BinaryBytes(bytes)))?;
        }
    }
    match found.dropped {
        0 => Ok(()),
        wrong => Err(Failure::new(Exit::Integrity, format!("{wrong} blocks were not what their names say"))),
    }
}

async fn hash_all(store: &Store) -> Verified {
    let mut found = Verified::default();
    let mut progress = Progress::new(store.usage().bytes, "cache");
    for first in 0..=u8::MAX {
        let blocks = stream::iter(store.blocks_at(first));
        let checks = blocks.map(|(hash, len)| async move { (len, check(store, &hash).await) });
        let mut checks = std::pin::pin!(checks.buffer_unordered(HASH_THREADS));
        while let Some((len, is_right)) = checks.next().await {
            found.blocks += 1;
            found.bytes += len;
            let same = if is_right { &mut found.right } else { &mut found.dropped };
            *same += 1;
            progress.set(found.bytes, None);
        }
    }
    progress.finish(&format!("{} blocks were hashed", found.blocks));
    found
}

/// Whether a block is right; it is gone if not.
async fn check(store: &Store, hash: &BlockHash) -> bool {
    match store.recheck(hash).await {
        Ok(is_right) => is_right,
        Err(error) => {
            tracing::warn!(%error, "a block cannot be read and is let go");
            store.remove(hash).await;
            false
        }
    }
}

/// All of an account for people; names are strangers'.
fn page(account: &Value) -> String {
    let mut page = format!(
        "{} of {} in {} blocks; {} pinned, {} being read\n",
        bytes(&account["bytes"]),
        bytes(&account["max_bytes"]),
        account["blocks"],
        bytes(&account["pinned_bytes"]),
        bytes(&account["in_use_bytes"])
    );
    page += &format!(
        "{} of the disk are free, {} are to stay so\n",
        bytes(&account["free_disk_bytes"]),
        bytes(&account["min_free_bytes"])
    );
    for kind in rows(account, "kinds") {
        page += &format!("{:>12}  {} in {} blocks\n", bytes(&kind["bytes"]), text(&kind["kind"]), kind["blocks"]);
    }
    for (list, what, name) in [("torrents", "torrents", "item"), ("pins", "names that are kept", "root")] {
        let all = account[format!("{list}_in_all")].as_u64().unwrap_or_default();
        if all > 0 {
            page += &format!("{all} {what}, the largest first\n");
        }
        for row in rows(account, list).take(SHOWN) {
            page += &format!("{:>12}  {}", bytes(&row["bytes"]), text(&row[name]));
            page += &row["name"].as_str().map_or_else(String::new, |name| format!("  {}", printable(name)));
            page.push('\n');
        }
    }
    page
}

fn rows<'a>(account: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    account[list].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or("?"))
}

fn bytes(value: &Value) -> String {
    value.as_u64().map_or_else(|| "?".to_owned(), |bytes| BinaryBytes(bytes).to_string())
}

fn say(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use bytes::Bytes;
    use swarmgate_content::HashKind;

    use super::*;
    use crate::catalogue::ItemStatus;
    use crate::testing::{IH, World, infohash, item, world};

    async fn put(store: &Store, bytes: Vec<u8>) -> BlockHash {
        let hash = HashKind::Sha1.hash(&bytes);
        let block = store.verifier().verify(hash, Bytes::from(bytes)).await.unwrap();
        store.put(block).await.unwrap();
        hash
    }

    async fn told(config: &Config, command: CacheCommand, output: Output) -> (Option<Exit>, String) {
        let mut out = Vec::new();
        let outcome = run(config, &command, output, std::future::pending(), &mut out).await;
        (outcome.err().map(|failure| failure.exit), String::from_utf8(out).unwrap())
    }

    async fn running() -> (World, Config) {
        let world = world(&[("a", 1)]).await;
        let kept = put(&world.state.store, vec![1; 1024]).await;
        put(&world.state.store, vec![2; 2048]).await;
        put(&world.state.store, vec![3; 3072]).await;
        world.state.store.pin("ipfs:root", [kept]);
        let film = ItemStatus { have_bytes: 2048, ..item(infohash(), true, true) };
        world.catalogue.items.lock().insert(infohash(), film);
        let mut config = Config::default();
        config.server.listen = vec![world.address.into()];
        (world, config)
    }

    #[tokio::test]
    async fn the_running_gateways_cache_is_shown_to_people_and_to_programs() {
        let (_world, config) = running().await;
        let (exit, page) = told(&config, CacheCommand::Ls { api: None }, Output::Human).await;
        assert_eq!(exit, None);
        assert_eq!(
            page,
            format!(
                "6.00 KiB of 1.00 MiB in 3 blocks; 1.00 KiB pinned, 0 B being read\n\
                 ? of the disk are free, 0 B are to stay so\n    \
                 6.00 KiB  sha1 in 3 blocks\n\
                 1 torrents, the largest first\n    \
                 2.00 KiB  {IH}  Test content\n\
                 1 names that are kept, the largest first\n    \
                 1.00 KiB  ipfs:root\n"
            )
        );
        let (_, document) = told(&config, CacheCommand::Ls { api: None }, Output::Json).await;
        assert_eq!(serde_json::from_str::<Value>(&document).unwrap()["bytes"], 6144);
    }

    #[tokio::test]
    async fn it_is_collected_to_a_size_and_purged() {
        let (world, config) = running().await;
        let gc = |to: &str| CacheCommand::Gc { to: Some(to.parse().unwrap()), api: None };
        let (exit, said) = told(&config, gc("4KiB"), Output::Human).await;
        assert_eq!((exit, said.as_str()), (None, "2.00 KiB in 1 blocks are gone; 4.00 KiB are left\n"));
        let (_, freed) = told(&config, CacheCommand::Purge { api: None }, Output::Json).await;
        assert_eq!(serde_json::from_str::<Value>(&freed).unwrap()["freed_bytes"], 3072);
        assert_eq!(world.state.store.usage().bytes, 1024, "what is pinned stays");
    }

    /// A cache on disk with a block in the index and two in files.
    async fn on_disk(dir: &Path) -> Config {
        let mut config = Config::default();
        config.cache.dir = dir.to_owned();
        config.cache.max_size = Size::mib(64);
        config.cache.min_free = Size::from_bytes(0);
        let store = Store::open(store_options(&config).unwrap().0).await.unwrap();
        for (byte, len) in [(1, 100), (2, 100_000), (3, 200_000)] {
            put(&store, vec![byte; len]).await;
        }
        store.close().await;
        config
    }

    /// The file below a directory that is so long.
    fn file_of(dir: &Path, len: u64) -> Option<PathBuf> {
        let mut paths = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
        paths.find_map(|path| match path.is_dir() {
            true => file_of(&path, len),
            false => (path.metadata().unwrap().len() == len).then_some(path),
        })
    }

    #[tokio::test]
    async fn verifying_finds_the_block_that_was_damaged_in_secret_and_lets_go_of_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = on_disk(dir.path()).await;
        let (exit, said) = told(&config, CacheCommand::Verify, Output::Human).await;
        assert_eq!((exit, said.as_str()), (None, "3 blocks of 293.07 KiB: 3 right, 0 wrong and gone\n"));

        let file = file_of(dir.path(), 100_000).unwrap();
        let times = file.metadata().unwrap().modified().unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[50_000] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(times).unwrap();
        let (exit, said) = told(&config, CacheCommand::Verify, Output::Json).await;
        assert_eq!(exit, Some(Exit::Integrity));
        let found: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(found, serde_json::json!({ "blocks": 3, "bytes": 300_100, "right": 2, "dropped": 1 }));
        assert!(!file.exists());

        let (exit, said) = told(&config, CacheCommand::Verify, Output::Human).await;
        assert_eq!((exit, said.as_str()), (None, "2 blocks of 195.41 KiB: 2 right, 0 wrong and gone\n"));
    }

    #[tokio::test]
    async fn a_cache_that_is_in_use_is_not_verified() {
        let dir = tempfile::tempdir().unwrap();
        let config = on_disk(dir.path()).await;
        let store = Store::open(store_options(&config).unwrap().0).await.unwrap();
        let (exit, said) = told(&config, CacheCommand::Verify, Output::Human).await;
        assert_eq!((exit, said.as_str()), (Some(Exit::Error), ""));
        store.close().await;
    }
}
