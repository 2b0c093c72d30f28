//! A child process that ends with its guard, and whose last words are printed when the story fails.
//!
//! The guard kills its own child by handle and nothing else. Should the test process itself be killed, the kernel
//! ends the child (`setpriv --pdeathsig`, where the machine has it), so that an aborted run leaves nothing behind.

use std::fs::File;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// How much of a child's log a failing story shows: enough for a panic or a usage message.
const LOG_TAIL_BYTES: usize = 4096;

/// Where Debian and its relatives keep the tool that ties a child's life to its parent's.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A running child; dropped means ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs in `DIR/NAME.log` and an open standard input.
    ///
    /// Must be called on the thread that runs the test: the kernel's parent-death signal follows that thread.
    pub fn start(name: &str, command: &Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).unwrap_or_else(|e| panic!("cannot create {}: {e}", log.display()));
        let err = out.try_clone().unwrap_or_else(|e| panic!("cannot share {}: {e}", log.display()));
        let child = tied_to_parent(command)
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}"));
        Self { name: name.to_owned(), child, log }
    }

    /// Waits until the child listens at `address`, which is all that a server has to do to be ready.
    pub async fn listening(mut self, address: SocketAddr, within: Duration) -> Self {
        let what = format!("{} to listen", self.name);
        wait::until(&what, within, async || {
            self.assert_running();
            TcpStream::connect(address).ok()
        })
        .await;
        self
    }

    /// The child's process id.
    pub fn id(&self) -> u32 {
        // setpriv replaces itself by the program.
        self.child.id()
    }

    /// Everything the child has said so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The child's exit status, if it has one already.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|e| panic!("cannot ask after {}: {e}", self.name))
    }

    /// Panics with the log when the child is gone though it should be serving.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.exited() {
            panic!("{} ended early with {status}", self.name);
        }
    }

    /// Waits for the child to end by itself.
    pub async fn finished(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} to finish", self.name);
        wait::until(&what, within, async || self.exited()).await
    }

    /// Closes the child's input by handing it over; programs that watch it end in good order.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Does to the child what Ctrl-C does.
    pub fn interrupt(&self) {
        let told = Command::new("kill").args(["-INT", &self.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "{} cannot be interrupted", self.name);
    }

    /// Ends the child now and waits until it is gone, with its sockets closed.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_TAIL_BYTES));
            let mut err = std::io::stderr().lock();
            let _ = writeln!(err, "--- {}, last words:\n{}\n---", self.name, &log[from..]);
        }
    }
}

/// The same command, started so that it dies with the thread that starts it.
fn tied_to_parent(command: &Command) -> Command {
    let mut tied = if Path::new(SETPRIV).exists() {
        let mut c = Command::new(SETPRIV);
        c.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
        c
    } else {
        Command::new(command.get_program())
    };
    tied.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(key, value),
            None => tied.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        tied.current_dir(dir);
    }
    tied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_guard_ends_its_child() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let mut guard = Process::start("sleep", &sleep, dir.path());
        guard.assert_running();
        let proc = PathBuf::from(format!("/proc/{}", guard.child.id()));
        assert!(proc.exists());
        guard.stop();
        assert!(!proc.exists());
    }

    #[tokio::test]
    async fn what_a_child_says_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut echo = Command::new("sh");
        echo.args(["-c", "echo out; echo err >&2"]);
        let mut guard = Process::start("echo", &echo, dir.path());
        assert!(guard.finished(Duration::from_secs(5)).await.success());
        assert_eq!(guard.log(), "out\nerr\n");
    }
}
