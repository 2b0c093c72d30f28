//! `swarmgate get -o -`: one file, or a range of it, to stdout, in order and verified.

use std::io::Write;
use std::ops::Range;
use std::str::FromStr;

use futures_util::StreamExt as _;
use swarmgate_config::Config;
use swarmgate_content::ByteRange;
use swarmgate_ipfs_proto::path::Target;

use super::dags::{Dags, fetch_failure, is_ipfs, read_path};
use super::engine::Engine;
use super::get::selected;
use super::source::{Failure, Source};
use super::{Exit, Pick};

/// Bytes of a file, as HTTP writes them: `0-499`, or `500-` for all from there. Both numbers are part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    first: u64,
    last: Option<u64>,
}

impl Stretch {
    /// What of a file of so many bytes that is; `None` when it begins behind its end.
    fn within(self, len: u64) -> Option<Range<u64>> {
        let end = self.last.map_or(len, |last| last.saturating_add(1).min(len));
        (self.first < end).then_some(self.first..end)
    }
}

impl FromStr for Stretch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const HOW: &str = "write the first and the last byte as 0-499, or 500- for all from there";
        let (first, last) = text.split_once('-').ok_or(HOW)?;
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| HOW);
        let (first, last) = (number(first)?, Some(last).filter(|last| !last.is_empty()).map(number).transpose()?);
        if last.is_some_and(|last| last < first) {
            Err("the range ends before it begins")
        } else {
            Ok(Self { first, last })
        }
    }
}

/// Writes the file to `out`, or as much of it as there is time for until `interrupted` resolves.
///
/// # Errors
/// [`Exit::Usage`] when several files are meant, or the range begins behind its end; else as `get`. What was written until
/// then was right.
pub async fn run(
    config: &Config,
    uri: &str,
    select: Option<&Pick>,
    part: Option<Stretch>,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let stopped = || Failure::new(Exit::Interrupted, "interrupted");
    if is_ipfs(uri) {
        if select.is_some() {
            return Err(Failure::new(Exit::Usage, "--select is for torrents; name the path below the CID instead"));
        }
        let dags = Dags::open_to_read(config).await?;
        let poured = tokio::select! {
            poured = of_ipfs(&dags, uri, part, out) => poured,
            () = interrupted => Err(stopped()),
        };
        dags.shutdown().await;
        return poured;
    }
    let engine = Engine::start(config).await?;
    let poured = tokio::select! {
        poured = of_torrent(&engine, uri, select, part, out) => poured,
        () = interrupted => Err(stopped()),
    };
    engine.shutdown().await;
    poured
}

async fn of_ipfs(dags: &Dags, uri: &str, part: Option<Stretch>, out: &mut dyn Write) -> Result<(), Failure> {
    let path = read_path(uri)?;
    let session = dags.session();
    let end = dags.resolve(&session, &path).await?;
    if end.target != Target::File {
        return Err(Failure::new(
            Exit::Usage,
            format!("{path} is no file; -o - takes one, and a directory has several"),
        ));
    }
    let len = session.file_len(&end.cid).await.map_err(|error| fetch_failure(&error))?;
    let wanted = wanted(part, len)?;
    // An empty file has no range.
    if let Some(range) = ByteRange::new(wanted.start, wanted.end) {
        let mut reader = session.file(end.cid, range);
        while let Some(bytes) = reader.next().await {
            write(out, bytes.map_err(|error| fetch_failure(&error))?.as_ref())?;
        }
    }
    flush(out)
}

async fn of_torrent(
    engine: &Engine,
    uri: &str,
    select: Option<&Pick>,
    part: Option<Stretch>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let gone = || Failure::new(Exit::Error, "the download was stopped");
    let source = Source::read(uri, engine.bittorrent().http_client()).await?;
    let meta = engine.resolve(&source).await?;
    let picked = selected(select, &source, &meta);
    if picked.is_empty() {
        return Err(Failure::new(Exit::NotFound, Pick::nothing(select, &meta)));
    }
    let [index] = picked.as_slice() else {
        let message = format!("{} files are meant, and -o - takes one: say which with --select", picked.len());
        return Err(Failure::new(Exit::Usage, message));
    };
    let file = &meta.files[*index];
    let wanted = wanted(part, file.len)?;
    let known = engine.bittorrent().known(&source.id.wire()).ok_or_else(gone)?;
    if !wanted.is_empty() {
        let range = file.offset + wanted.start..file.offset + wanted.end;
        let mut reader = engine.bittorrent().reader(&source.id.wire(), &known, range).ok_or_else(gone)?;
        while let Some(bytes) = reader.next().await {
            write(out, bytes.map_err(|fault| Failure::new(Exit::Error, fault.to_string()))?.as_ref())?;
        }
    }
    flush(out)
}

fn wanted(part: Option<Stretch>, len: u64) -> Result<Range<u64>, Failure> {
    let Some(part) = part else { return Ok(0..len) };
    part.within(len)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("--range begins behind the end: it has {len} bytes")))
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Failure> {
    out.write_all(bytes).map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

fn flush(out: &mut dyn Write) -> Result<(), Failure> {
    out.flush().map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::cli::testing::FilmOfIpfs;
    use crate::demo::{Seeder, offline, payload};

    async fn poured(config: &Config, uri: &str, select: Option<&str>, part: Option<&str>) -> Result<Vec<u8>, Exit> {
        let (select, part) = (select.map(|text| text.parse().unwrap()), part.map(|text| text.parse().unwrap()));
        let mut out = Vec::new();
        let run = run(config, uri, select.as_ref(), part, pending(), &mut out).await;
        run.map(|()| out).map_err(|failure| failure.exit)
    }

    #[test]
    fn a_range_is_what_of_it_is_there() {
        let within = |text: &str, len| text.parse::<Stretch>().unwrap().within(len);
        assert_eq!(within("0-499", 1000), Some(0..500));
        assert_eq!(within("500-", 1000), Some(500..1000));
        assert_eq!(within("999-5000", 1000), Some(999..1000));
        assert_eq!(within(&format!("0-{}", u64::MAX), 7), Some(0..7));
        assert_eq!((within("1000-", 1000), within("0-", 0)), (None, None));
        for text in ["", "-", "-5", "5", "a-b", "5-4", "0-1,3-4", "99999999999999999999-"] {
            assert!(text.parse::<Stretch>().is_err(), "{text}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_file_of_a_torrent_or_a_range_of_it_comes_out_in_order() {
        let (seeder, config, all) = (Seeder::start().await.unwrap(), offline(), payload());
        let uri = format!("magnet:?{}", seeder.magnet_query());
        assert!(poured(&config, &uri, Some("*.bin"), None).await.unwrap() == all);
        let part = poured(&config, &uri, None, Some("1000000-1999999")).await.unwrap();
        assert!(part == all[1_000_000..2_000_000]);
        let tail = poured(&config, &uri, Some("0"), Some(&format!("{}-", all.len() - 5))).await.unwrap();
        assert_eq!(tail, all[all.len() - 5..]);
        assert_eq!(poured(&config, &uri, Some("*.mkv"), None).await, Err(Exit::NotFound), "no file is one");
        assert_eq!(poured(&config, &uri, None, Some(&format!("{}-", all.len()))).await, Err(Exit::Usage));
        seeder.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn so_does_a_file_of_ipfs_and_a_directory_does_not() {
        let FilmOfIpfs { root, bytes, server, .. } = FilmOfIpfs::serve(2_500_000).await;
        let dir = tempfile::tempdir().unwrap();
        let config = server.config(dir.path());
        let uri = format!("{root}/film.mkv");
        assert!(poured(&config, &uri, None, None).await.unwrap() == bytes);
        assert_eq!(poured(&config, &uri, None, Some("2000000-2000009")).await.unwrap(), bytes[2_000_000..2_000_010]);
        assert_eq!(poured(&config, &root.to_string(), None, None).await, Err(Exit::Usage));
        assert_eq!(poured(&config, &uri, Some("0"), None).await, Err(Exit::Usage));
    }
}
