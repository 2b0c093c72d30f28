//! Reading the configuration again while the gateway runs: at SIGHUP, when the API is told to, and when one of its files
//! changes, where `reload.watch` says so.
//!
//! The files are looked at now and then rather than subscribed to: a mounted ConfigMap changes by a symlink two folders
//! up, and a network file system tells nobody. A change counts once two looks in a row saw the same, so that a file that
//! is just being written is not read half.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use swarmgate_config::{Config, ConfigErrors, Sources};
use swarmgate_content::Event;
use tokio::time::MissedTickBehavior;

use crate::live::{Live, Taken};
use crate::policy::{Denylists, ListError};
use crate::server::{Tls, TlsError};

/// How often the files are looked at. Two looks and the reading are well within the two seconds that are promised.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What one look at a file saw: when it was written, its length, and which file it is.
type Print = Option<(Option<SystemTime>, u64, u64)>;

/// The files of a configuration, and what was seen of them.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    watch: Watch<Vec<Print>>,
}

/// Tells when something that is looked at again and again has changed and come to rest.
#[derive(Debug)]
struct Watch<T> {
    /// As it was read.
    taken: T,
    /// As the last look saw it.
    seen: T,
}

impl<T: PartialEq + Clone> Watch<T> {
    fn new(now: T) -> Self {
        Self { taken: now.clone(), seen: now }
    }

    /// Takes a look; says whether it is otherwise than it was read, and at rest. Says so once.
    fn look(&mut self, now: T) -> bool {
        let rests = now == self.seen;
        self.seen = now;
        if !rests || self.seen == self.taken {
            return false;
        }
        self.taken = self.seen.clone();
        true
    }
}

impl Files {
    /// Begins with the files as they are now, which is best done before they are read.
    #[must_use]
    pub fn of(sources: &Sources) -> Self {
        let paths = sources.files();
        let prints = paths.iter().map(|path| print(std::fs::metadata(path).ok())).collect();
        Self { paths, watch: Watch::new(prints) }
    }

    /// Resolves when a file was changed and is at rest. May be dropped and called again.
    async fn changed(&mut self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let mut prints = Vec::with_capacity(self.paths.len());
            for path in &self.paths {
                prints.push(print(tokio::fs::metadata(path).await.ok()));
            }
            if self.watch.look(prints) {
                return;
            }
        }
    }
}

fn print(file: Option<std::fs::Metadata>) -> Print {
    let file = file?;
    #[cfg(unix)]
    let which = std::os::unix::fs::MetadataExt::ino(&file);
    #[cfg(not(unix))]
    let which = 0;
    Some((file.modified().ok(), file.len(), which))
}

/// Reads the configuration again, for whoever asks.
pub struct Reloader {
    live: Arc<Live>,
    tls: Option<Tls>,
    /// The environment and the flags as they were at the start; the files are read anew.
    sources: Sources,
    /// The lists whose files are read again too.
    denylists: Mutex<Option<Denylists>>,
    /// One at a time, so that what is read last is what holds.
    turn: Mutex<()>,
}

/// Why all stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration has mistakes.
    #[error(transparent)]
    Configuration(#[from] ConfigErrors),
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] TlsError),
    /// A list of what is not served, or of what alone is, cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
}

impl ReloadError {
    /// What is wrong as a whole, without a word of what is written there: that may be a secret in the wrong place.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Configuration(errors) => match errors.mistakes.len() {
                1 => "the configuration has a mistake".to_owned(),
                many => format!("the configuration has {many} mistakes"),
            },
            Self::Certificate(_) => "the certificate cannot be read".to_owned(),
            Self::List(error) => format!("a file of {} cannot be read", error.option()),
        }
    }
}

impl Reloader {
    /// Reads from these sources, for what follows `live`, and `tls` where HTTP is served with a certificate.
    #[must_use]
    pub fn new(live: Arc<Live>, tls: Option<Tls>, sources: Sources) -> Self {
        Self { live, tls, sources, denylists: Mutex::new(None), turn: Mutex::new(()) }
    }

    /// Has the files of these lists read again too.
    pub fn lead(&self, denylists: &Denylists) {
        *self.denylists.lock() = Some(denylists.clone());
    }

    /// Reads all again and takes over what can be changed; reads files, so for no longer than these take. Says what was
    /// changed, and what is otherwise and needs a restart; whoever follows events is told too.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing is changed.
    pub fn reload(&self) -> Result<Taken, ReloadError> {
        let _turn = self.turn.lock();
        let reloaded = self.read_again();
        if let Err(error) = &reloaded {
            let error = Some(error.summary());
            self.live.tell(Event::ConfigReloaded { changed: Vec::new(), restart: Vec::new(), error });
        }
        reloaded
    }

    fn read_again(&self) -> Result<Taken, ReloadError> {
        let loaded = Config::load(&self.sources)?;
        let denylists = self.denylists.lock().clone();
        let reread = denylists.as_ref().map(Denylists::read_again).transpose()?;
        if let Some(tls) = &self.tls {
            tls.reload()?;
        }
        // From here on nothing fails.
        if let Some((denylists, reread)) = denylists.zip(reread) {
            denylists.take_over(reread);
        }
        Ok(self.live.take(&loaded.config))
    }
}

/// The sources hold secrets, so they are left out.
impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").field("tls", &self.tls).finish_non_exhaustive()
    }
}

/// Follows the configuration: at each SIGHUP, and at each change of `files` where there are some. A configuration with a
/// mistake in it changes nothing, and so does a certificate that cannot be read. Never returns.
pub async fn follow(reloader: &Reloader, mut files: Option<Files>) {
    let mut hangups = Hangups::listen();
    loop {
        tokio::select! {
            () = hangups.next() => {}
            () = changed(&mut files) => tracing::info!("a file of the configuration has changed"),
        }
        match reloader.reload() {
            // It has told the log itself.
            Ok(_taken) => {}
            Err(error) => tracing::error!(%error, "the configuration stays as it was"),
        }
    }
}

async fn changed(files: &mut Option<Files>) {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

/// The signals that ask for it, where the system has such.
struct Hangups {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangups {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self { signal: signal(SignalKind::hangup()).ok() }
    }

    #[cfg(not(unix))]
    const fn listen() -> Self {
        Self {}
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_it_rests_and_only_once() {
        let mut watch = Watch::new("as at the start");
        assert!(!watch.look("as at the start"));
        assert!(!watch.look("half written"));
        assert!(!watch.look("written"));
        assert!(watch.look("written"));
        assert!(!watch.look("written"));
    }

    #[test]
    fn what_is_taken_back_before_it_was_read_is_no_change() {
        let mut watch = Watch::new(1);
        assert!(!watch.look(2));
        assert!(!watch.look(1));
        assert!(!watch.look(1));
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_length_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "a = 1").unwrap();
        let before = print(std::fs::metadata(&path).ok());
        let other = dir.path().join("other.toml");
        std::fs::write(&other, "a = 2").unwrap();
        std::fs::File::open(&other).unwrap().set_modified(before.unwrap().0.unwrap()).unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(print(std::fs::metadata(&path).ok()), before);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(print(std::fs::metadata(&path).ok()), None);
    }
}
