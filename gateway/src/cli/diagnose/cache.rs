//! The directory of the cache: whether it takes bytes and keeps them, and how much room there is; and the clock, by
//! the time that its files are given.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use indicatif::BinaryBytes;
use swarmgate_config::Config;
use swarmgate_store::free_bytes_at;

use super::{Check, Verdict};

/// No program of this kind ran before: 2026-01-01. A clock that shows less was never set.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);
/// How far the clock of a volume may be from this machine's. A network file system has one of its own.
const SKEW: Duration = Duration::from_secs(10);
/// A disk that takes longer to keep 64 KiB holds up everything that is fetched.
const SLOW_SYNC: Duration = Duration::from_millis(500);
/// Less room than this is soon used up.
const LITTLE_ROOM: u64 = 1 << 30;

/// What a file that was written and deleted again has shown.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// How long its bytes took to be safe.
    synced: Duration,
    /// The time that the volume gave it.
    stamped: Option<SystemTime>,
}

/// Writes a small file where the cache is or would be made, and deletes it.
pub(super) fn look(config: &Config) -> Vec<Check> {
    let dir = &config.cache.dir;
    let place = existing(dir);
    let now = SystemTime::now();
    let trial = match try_to_keep(&place) {
        Ok(trial) => trial,
        Err(error) => return vec![refused(dir, &place, &error), clock(now, None)],
    };
    let free = free_bytes_at(&place).ok();
    vec![room(dir, free, config.cache.min_free.bytes()), sync(trial.synced), clock(now, trial.stamped)]
}

/// The directory, or the nearest above it that is there.
fn existing(dir: &Path) -> PathBuf {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    dir.ancestors().find(|place| place.exists()).unwrap_or_else(|| Path::new(".")).to_owned()
}

fn try_to_keep(place: &Path) -> io::Result<Trial> {
    let path = place.join(format!(".swarmgate-diagnose-{:016x}", rand::random::<u64>()));
    let mut file = File::create_new(&path)?;
    let begun = Instant::now();
    let kept = file.write_all(&[0; 64 * 1024]).and_then(|()| file.sync_all()).and_then(|()| sync_directory(place));
    let trial = Trial { synced: begun.elapsed(), stamped: file.metadata().and_then(|it| it.modified()).ok() };
    let removed = std::fs::remove_file(&path);
    kept.and(removed).map(|()| trial)
}

#[cfg(unix)]
fn sync_directory(place: &Path) -> io::Result<()> {
    File::open(place)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_place: &Path) -> io::Result<()> {
    Ok(())
}

fn refused(dir: &Path, place: &Path, error: &io::Error) -> Check {
    let found = format!("nothing can be kept in {}: {error}", place.display());
    let advice = match place == dir {
        true => "give the directory to the user that the gateway runs as (chown), or choose another cache.dir",
        false => "make the directory and give it to the user that the gateway runs as, or choose another cache.dir",
    };
    Check::new("cache", Verdict::Fail, found).advice(advice)
}

fn room(dir: &Path, free: Option<u64>, min_free: u64) -> Check {
    let Some(free) = free else {
        return Check::new("cache", Verdict::Warn, format!("how much room {} has is not known", dir.display()));
    };
    let room = free.saturating_sub(min_free);
    let (room_words, keep) = (BinaryBytes(room), BinaryBytes(min_free));
    let found = format!("{} has room for {room_words} more, with {keep} left free", dir.display());
    let advice = "make room on the volume, or lower cache.min_free, or choose another cache.dir";
    match room {
        0 => Check::new("cache", Verdict::Fail, format!("{found}: nothing new is kept")).advice(advice),
        little if little < LITTLE_ROOM => Check::new("cache", Verdict::Warn, found).advice(advice),
        _ => Check::new("cache", Verdict::Ok, found),
    }
}

fn sync(took: Duration) -> Check {
    let found = format!("fsync of 64 KiB took {} ms", took.as_millis());
    match took > SLOW_SYNC {
        true => Check::new("cache", Verdict::Warn, found)
            .advice("the volume is slow or busy; put cache.dir on a local disk"),
        false => Check::new("cache", Verdict::Ok, found),
    }
}

/// Certificates, signed names and announces all go by the clock.
fn clock(now: SystemTime, stamped: Option<SystemTime>) -> Check {
    let advice = "have the clock set by NTP: `timedatectl set-ntp true`";
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if since < EARLIEST {
        let found = "the clock was never set: it shows a time before this program was made";
        return Check::new("clock", Verdict::Fail, found).advice(advice);
    }
    let skew = stamped.map(|stamped| now.duration_since(stamped).unwrap_or_else(|early| early.duration()));
    match skew.filter(|skew| *skew > SKEW) {
        Some(skew) => {
            let found = format!("the clock is {} s from that of the volume of cache.dir", skew.as_secs());
            Check::new("clock", Verdict::Warn, found).advice(advice)
        }
        None => Check::new("clock", Verdict::Ok, "it shows a time that can be"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_not_there_is_tried_where_it_would_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.cache.dir = dir.path().join("a/b");
        config.cache.min_free = swarmgate_config::Size::from_bytes(0);
        let checks = look(&config);
        assert!(checks.iter().all(|check| check.verdict != Verdict::Fail), "{checks:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_volume_fails_and_a_nearly_full_one_warns() {
        let verdict = |free, min_free| room(Path::new("/cache"), free, min_free).verdict;
        assert_eq!(verdict(Some(2 << 30), 2 << 30), Verdict::Fail);
        assert_eq!(verdict(Some((2 << 30) + 1), 2 << 30), Verdict::Warn);
        assert_eq!(verdict(Some(4 << 30), 2 << 30), Verdict::Ok);
        assert_eq!(verdict(None, 0), Verdict::Warn);
    }

    #[test]
    fn a_clock_that_was_never_set_fails_and_one_that_differs_warns() {
        let now = SystemTime::UNIX_EPOCH + EARLIEST + Duration::from_secs(1);
        assert_eq!(clock(now, Some(now)).verdict, Verdict::Ok);
        assert_eq!(clock(now, None).verdict, Verdict::Ok);
        assert_eq!(clock(now, Some(now + SKEW + SKEW)).verdict, Verdict::Warn);
        assert_eq!(clock(now, Some(now - SKEW - SKEW)).verdict, Verdict::Warn);
        assert_eq!(clock(SystemTime::UNIX_EPOCH, None).verdict, Verdict::Fail);
    }

    #[test]
    fn a_slow_disk_is_a_warning() {
        assert_eq!(sync(SLOW_SYNC).verdict, Verdict::Ok);
        assert_eq!(sync(SLOW_SYNC * 2).verdict, Verdict::Warn);
    }
}
