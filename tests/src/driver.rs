//! A program that takes commands and tells events, one JSON object a line each.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use crate::process::Process;
use crate::wait;

/// How long a program has to end in good order when it is not needed any more; then it is ended.
const GOODBYE: Duration = Duration::from_secs(3);

/// How often a program that is to end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running program; dropped means ended.
#[derive(Debug)]
pub(crate) struct Driver {
    name: String,
    input: Mutex<Option<ChildStdin>>,
    /// None once it was killed.
    process: Mutex<Option<Process>>,
    events: Mutex<Events>,
}

/// What it has told, and how far its log has been read.
#[derive(Debug, Default)]
struct Events {
    read: usize,
    told: Vec<Value>,
}

impl Driver {
    /// Starts `command` with its log in `dir`. To be called where [`Process::start`] may be.
    pub(crate) fn start(name: &str, command: &Command, dir: &Path) -> Self {
        let mut process = Process::start(name, command, dir);
        let input = Mutex::new(process.take_stdin());
        Self { name: name.to_owned(), input, process: Mutex::new(Some(process)), events: Mutex::default() }
    }

    /// Tells it something.
    pub(crate) fn tell(&self, command: &Value) {
        let mut input = self.input.lock();
        let told = input.as_mut().map(|input| writeln!(input, "{command}").and_then(|()| input.flush()));
        assert!(matches!(told, Some(Ok(()))), "{} does not listen any more: {told:?}", self.name);
    }

    /// How many events it has told so far.
    pub(crate) fn heard(&self) -> usize {
        self.listen();
        self.events.lock().told.len()
    }

    /// Waits for an event that `concerns` whoever asks, not looking at the first `from`. An error among those is one of
    /// the story too.
    pub(crate) async fn wait_for(
        &self,
        event: &str,
        from: usize,
        within: Duration,
        concerns: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut from = from;
        wait::until(&format!("{event:?} of {}", self.name), within, async || {
            self.listen();
            let events = self.events.lock();
            let mut news = events.told.iter().skip(from).filter(|it| concerns(it));
            let found = news.find(|it| it["event"] == event || it["event"] == "error").cloned();
            from = events.told.len();
            drop(events);
            assert!(found.as_ref().is_none_or(|it| it["event"] == event), "{}: {found:?}", self.name);
            self.assert_running();
            found
        })
        .await
    }

    /// Ends it at once, without a word from it to anybody.
    pub(crate) fn kill(&self) {
        drop(self.process.lock().take());
    }

    fn assert_running(&self) {
        if let Some(process) = self.process.lock().as_mut() {
            process.assert_running();
        }
    }

    /// Reads what is new in the log. A line that is not JSON is somebody's remark on standard error.
    fn listen(&self) {
        let log = self.process.lock().as_ref().map(Process::log).unwrap_or_default();
        let mut events = self.events.lock();
        let Some(fresh) = log.get(events.read..) else { return };
        let whole = fresh.rfind('\n').map_or(0, |end| end + 1);
        let lines = fresh[..whole].lines().filter_map(|line| serde_json::from_str(line).ok());
        events.told.extend(lines);
        events.read += whole;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.input.lock().take());
        let asked = Instant::now();
        while let Some(process) = self.process.lock().as_mut() {
            if process.exited().is_some() || asked.elapsed() > GOODBYE {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Where a program of `tests/peers` is.
pub(crate) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

/// A new folder below `dir`, whose name begins with `name`.
pub(crate) fn workplace(dir: &Path, name: &str) -> PathBuf {
    let place = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in(dir);
    place.unwrap_or_else(|e| panic!("cannot create a folder in {}: {e}", dir.display())).keep()
}
