//! How much of the volume may still be written: asked of the system now and then, estimated in between.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long one answer of the system is good for.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// How many bytes we write before we ask again, however soon: others write to the volume too.
const MEASURE_AFTER_BYTES: u64 = 64 * 1024 * 1024;

/// Asks the system for the free bytes of a volume.
pub(crate) type Probe = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// The volume a store is on.
pub(crate) struct Volume {
    probe: Probe,
    min_free_bytes: u64,
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    at: Instant,
    free_bytes: u64,
    written_bytes: u64,
    deleted_bytes: u64,
}

impl Seen {
    /// The measurement, moved by what we did since: file systems allocate late, so a measurement would miss it.
    const fn estimate(&self) -> u64 {
        (self.free_bytes + self.deleted_bytes).saturating_sub(self.written_bytes)
    }
}

impl Volume {
    pub(crate) fn new(probe: Probe, min_free_bytes: u64) -> Self {
        Self { probe, min_free_bytes, seen: Mutex::new(None) }
    }

    /// How many bytes may be written while the minimum stays free.
    pub(crate) fn room(&self) -> u64 {
        self.free_bytes().map_or(u64::MAX, |free| free.saturating_sub(self.min_free_bytes))
    }

    /// How many bytes are missing from the minimum that stays free.
    pub(crate) fn lack(&self) -> u64 {
        self.free_bytes().map_or(0, |free| self.min_free_bytes.saturating_sub(free))
    }

    /// Free bytes, or `None` when the system does not say.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        let mut seen = self.seen.lock();
        let stale = |seen: &Seen| seen.at.elapsed() >= MEASURE_EVERY || seen.written_bytes >= MEASURE_AFTER_BYTES;
        if seen.as_ref().is_none_or(stale) {
            let measured = (self.probe)().inspect_err(|error| tracing::debug!(%error, "free space is unknown")).ok();
            *seen =
                measured.map(|free_bytes| Seen { at: Instant::now(), free_bytes, written_bytes: 0, deleted_bytes: 0 });
        }
        seen.as_ref().map(Seen::estimate)
    }

    /// Free bytes to keep.
    pub(crate) const fn min_free_bytes(&self) -> u64 {
        self.min_free_bytes
    }

    /// Notes bytes written.
    pub(crate) fn wrote(&self, bytes: u64) {
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.written_bytes += bytes;
        }
    }

    /// Notes bytes deleted.
    pub(crate) fn deleted(&self, bytes: u64) {
        if let Some(seen) = self.seen.lock().as_mut() {
            seen.deleted_bytes += bytes;
        }
    }
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Volume").field("min_free_bytes", &self.min_free_bytes).finish_non_exhaustive()
    }
}

/// Free bytes of the volume that holds `path`, for users without privileges.
///
/// # Errors
/// When the system does not say.
#[cfg(unix)]
pub fn free_bytes_at(path: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Elsewhere nobody is asked, and only the budget limits.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn free_bytes_at(_path: &Path) -> io::Result<u64> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_measurements_our_own_deeds_count() {
        let volume = Volume::new(Box::new(|| Ok(1000)), 100);
        assert_eq!(volume.room(), 900);
        volume.wrote(300);
        volume.deleted(50);
        assert_eq!((volume.room(), volume.free_bytes()), (650, Some(750)));
        volume.wrote(MEASURE_AFTER_BYTES);
        assert_eq!(volume.room(), 900, "so much was written that the system was asked again");
        assert_eq!((volume.lack(), Volume::new(Box::new(|| Ok(1000)), 1200).lack()), (0, 200));
    }

    #[test]
    fn an_unknown_volume_has_room() {
        let volume = Volume::new(Box::new(|| Err(io::Error::from(io::ErrorKind::Unsupported))), 100);
        assert_eq!((volume.room(), volume.free_bytes()), (u64::MAX, None));
    }
}
