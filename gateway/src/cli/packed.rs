//! `swarmgate get --format`: a content as one file, as the gateway makes it: a zip or a tar, or a CAR of what IPFS has.
//!
//! A gateway of the command's own makes it, and its answer is written under a name with `.part` behind it until all of it
//! is there. What was cut begins again from the start, out of the cache as far as that has it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use data_encoding::HEXLOWER;
use swarmgate_config::Config;
use swarmgate_content::ResolveRequest;

use super::dags::{fetch_failure, is_ipfs, read_path};
use super::names::safe;
use super::own_gateway::{own_config, start};
use super::part::part_path;
use super::running::Reply;
use super::source::{Failure, Source};
use super::{Exit, Pick};
use crate::app::App;

/// How long the content is looked for. A person can end it sooner, and cold magnets do take minutes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long the gateway may take to end.
const GOODBYE: Duration = Duration::from_secs(1);
/// Longest list of file numbers that an archive is asked for with, in bytes: a URL has 16 KiB.
const MAX_LIST_BYTES: usize = 12 * 1024;

/// What a content is packed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// All blocks, of a content of IPFS.
    Car,
    /// Files, of either.
    Tar,
    /// Files, of either, for those who have no program for tars.
    Zip,
}

impl Form {
    const fn name(self) -> &'static str {
        match self {
            Self::Car => "car",
            Self::Tar => "tar",
            Self::Zip => "zip",
        }
    }
}

/// Writes the content as one file below `to`, or to `out` where that is `-`; then prints where it is.
///
/// # Errors
/// [`Exit::Usage`] for a form that such contents do not have; else why it cannot be had.
pub async fn run(
    config: &Config,
    uri: &str,
    form: Form,
    select: Option<&Pick>,
    to: &Path,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match (is_ipfs(uri), form) {
        (false, Form::Car) => return Err(Failure::new(Exit::Usage, "of a torrent there are zip and tar")),
        (true, Form::Car | Form::Tar | Form::Zip) | (false, Form::Tar | Form::Zip) => {}
    }
    let token = HEXLOWER.encode(&rand::random::<[u8; 32]>());
    let app = start(&own_config(config, &token, PATIENCE)).await?;
    let packed = tokio::select! {
        packed = pack(&app, uri, form, select, to, out) => packed,
        () = interrupted => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    app.shutdown(GOODBYE).await;
    packed
}

async fn pack(
    app: &App,
    uri: &str,
    form: Form,
    select: Option<&Pick>,
    to: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let place = if is_ipfs(uri) { of_ipfs(uri, form, select)? } else { of_torrent(app, uri, form, select).await? };
    let address = app.addresses().first().ok_or_else(|| Failure::new(Exit::Error, "the gateway listens nowhere"))?;
    let broke = |error: reqwest::Error| Failure::new(Exit::Error, error.without_url().to_string());
    let client = reqwest::Client::builder().no_proxy().build().map_err(broke)?;
    let url = format!("http://{address}{}", place.path);
    let mut answer = client.get(&url).send().await.map_err(broke)?;
    if !answer.status().is_success() {
        let (status, headers) = (answer.status(), answer.headers().clone());
        Reply { url, status, headers, body: answer.bytes().await.map_err(broke)? }.accepted()?;
        return Err(Failure::new(Exit::Error, format!("the gateway answered {status}")));
    }
    let complain = |error: &std::io::Error| Failure::new(Exit::from(error), error.to_string());
    if to.as_os_str() == "-" {
        while let Some(chunk) = answer.chunk().await.map_err(broke)? {
            out.write_all(&chunk).map_err(|error| complain(&error))?;
        }
        return out.flush().map_err(|error| complain(&error));
    }
    let path = to.join(&place.name);
    let growing = part_path(&path);
    let told = |error: &std::io::Error| Failure::new(Exit::from(error), format!("{}: {error}", path.display()));
    std::fs::create_dir_all(to).map_err(|error| told(&error))?;
    let mut file = std::fs::File::create(&growing).map_err(|error| told(&error))?;
    while let Some(chunk) = answer.chunk().await.map_err(broke)? {
        file.write_all(&chunk).map_err(|error| told(&error))?;
    }
    drop(file);
    std::fs::rename(&growing, &path).map_err(|error| told(&error))?;
    // A closed pipe is the reader's choice.
    let _ = writeln!(out, "{}", path.display());
    Ok(())
}

/// Where the gateway has it, and what the file is to be called.
struct Place {
    path: String,
    name: PathBuf,
}

fn of_ipfs(uri: &str, form: Form, select: Option<&Pick>) -> Result<Place, Failure> {
    if select.is_some() {
        return Err(Failure::new(Exit::Usage, "--select is for torrents; name the path below the CID instead"));
    }
    let path = read_path(uri)?.to_string();
    let path = path.trim_end_matches('/');
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = PathBuf::from(format!("{}.{}", safe(last), form.name()));
    Ok(Place { path: format!("{path}?format={}&wait={}", form.name(), PATIENCE.as_secs()), name })
}

async fn of_torrent(app: &App, uri: &str, form: Form, select: Option<&Pick>) -> Result<Place, Failure> {
    let off = "bittorrent.enabled is false in the configuration; --set bittorrent.enabled=true switches it on";
    let engine = app.bittorrent().ok_or_else(|| Failure::new(Exit::Usage, off))?;
    let source = Source::read(uri, engine.http_client()).await?;
    let id = source.id.content();
    if let Some(metainfo) = source.metainfo {
        let added = engine.add_metainfo(metainfo, false).await;
        added.map_err(|error| Failure::new(Exit::Error, error.to_string()))?;
    }
    let request = ResolveRequest { id, hints: source.hints, deadline: Instant::now() + PATIENCE };
    let meta = app.manager().resolve(request).await.map_err(|error| fetch_failure(&error))?;
    let only = match (select, &source.select) {
        (Some(pick), _) => {
            let numbers: Vec<_> = pick.of(&meta).iter().map(usize::to_string).collect();
            if numbers.is_empty() {
                return Err(Failure::new(Exit::NotFound, Pick::nothing(Some(pick), &meta)));
            }
            Some(numbers.join(","))
        }
        (None, select) => select.as_ref().map(ToString::to_string),
    };
    let only = only.map_or_else(String::new, |list| format!("&so={list}"));
    if only.len() > MAX_LIST_BYTES {
        let message = "too many single files for one archive; select all of it, or a range of numbers as 0-999";
        return Err(Failure::new(Exit::Usage, message));
    }
    let name = PathBuf::from(format!("{}.{}", safe(&meta.name), form.name()));
    Ok(Place { path: format!("/bt/{}.{}?wait={}{only}", meta.id, form.name(), PATIENCE.as_secs()), name })
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{Cursor, Read as _};

    use super::*;
    use crate::cli::args::{ImportCar, Output};
    use crate::cli::import::run_import;
    use crate::cli::testing::FilmOfIpfs;
    use crate::demo::{Seeder, offline, payload};

    async fn packed(config: &Config, uri: &str, form: Form, to: &Path) -> Result<Vec<u8>, Failure> {
        let mut out = Vec::new();
        run(config, uri, form, None, to, pending(), &mut out).await?;
        Ok(out)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_torrent_is_one_zip_that_the_zip_crate_reads() {
        let (seeder, dir) = (Seeder::start().await.unwrap(), tempfile::tempdir().unwrap());
        let mut config = offline();
        config.cache.dir = dir.path().join("cache");
        let uri = format!("magnet:?{}", seeder.magnet_query());
        let said = packed(&config, &uri, Form::Zip, &dir.path().join("out")).await.unwrap();
        let path = dir.path().join("out/swarmgate-demo.bin.zip");
        assert_eq!(String::from_utf8(said).unwrap().trim(), path.display().to_string());
        let to_stdout = packed(&config, &uri, Form::Zip, Path::new("-")).await.unwrap();
        assert!(std::fs::read(&path).unwrap() == to_stdout, "the same each time");
        let mut archive = zip::ZipArchive::new(Cursor::new(to_stdout)).unwrap();
        assert_eq!(archive.len(), 1);
        let mut bytes = Vec::new();
        archive.by_index(0).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes == payload());
        assert_eq!(std::fs::read_dir(dir.path().join("out")).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(packed(&config, &uri, Form::Car, dir.path()).await.unwrap_err().exit, Exit::Usage);
        seeder.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_directory_of_ipfs_is_a_car_with_all_its_blocks_and_a_zip_with_its_files() {
        let FilmOfIpfs { root, bytes, server, .. } = FilmOfIpfs::serve(2_500_000).await;
        let dir = tempfile::tempdir().unwrap();
        let mut config = offline();
        config.cache.dir = dir.path().join("cache");
        config.ipfs = server.config(dir.path()).ipfs;
        let uri = root.to_string();
        packed(&config, &uri, Form::Car, dir.path()).await.unwrap();
        packed(&config, &uri, Form::Zip, dir.path()).await.unwrap();
        let zipped = std::fs::File::open(dir.path().join(format!("{uri}.zip"))).unwrap();
        let mut film = Vec::new();
        let mut archive = zip::ZipArchive::new(zipped).unwrap();
        archive.by_name(&format!("{uri}/film.mkv")).unwrap().read_to_end(&mut film).unwrap();
        assert!(film == bytes);
        let car = ImportCar { file: dir.path().join(format!("{uri}.car")), allow_missing: false, api: None };
        config.cache.dir = dir.path().join("another cache");
        let mut said = Vec::new();
        run_import(&config, &car, Output::Human, pending(), &mut said).await.unwrap();
        assert!(String::from_utf8(said).unwrap().contains(&uri), "its root is pinned, so nothing of it is missing");
    }
}
