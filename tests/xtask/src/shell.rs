//! Running other programs: each echoed before it starts, each bounded where nobody could interrupt it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// No step of an unattended run takes longer; one that hangs is then named by the table instead of by nobody.
const STEP_LIMIT_SECONDS: u32 = 30 * 60;

/// Whether nobody is watching: skips fail and steps have a limit.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}

/// The checkout this command was built from.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

/// Where cargo puts what it builds for this checkout.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The first program of this name on the PATH, or in the folders that only root's PATH has.
pub(crate) fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

/// A program with its arguments and environment, run in the checkout's root.
#[derive(Debug, Clone)]
pub(crate) struct Cmd {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, OsString)>,
    limit_seconds: Option<u32>,
}

impl Cmd {
    pub(crate) fn new(program: impl Into<PathBuf>) -> Self {
        let limit_seconds = in_ci().then_some(STEP_LIMIT_SECONDS);
        Self { program: program.into(), args: Vec::new(), env: Vec::new(), limit_seconds }
    }

    /// The cargo that runs this command, with arguments split at spaces.
    pub(crate) fn cargo(args: &str) -> Self {
        let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        Self::new(cargo).args(args.split_whitespace())
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Ends the program and all that it started after so long, watched or not.
    pub(crate) fn limit(mut self, seconds: u32) -> Self {
        self.limit_seconds = Some(seconds);
        self
    }

    /// Runs to the end, echoed first, its output passing through.
    pub(crate) fn run(&self) -> Result<(), String> {
        println!("$ {self}");
        let status = self.command().status().map_err(|e| format!("{self}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{}: {status}", self.short())) }
    }

    /// Runs to the end, echoed first, its output passing through; what it said on standard output comes back too.
    pub(crate) fn run_heard(&self) -> (Result<(), String>, String) {
        println!("$ {self}");
        let mut said = String::new();
        let ended = self.command().stdout(Stdio::piped()).spawn().and_then(|mut child| {
            for line in child.stdout.take().into_iter().flat_map(|out| BufReader::new(out).split(b'\n')) {
                let line = line?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                said.extend([&*line, "\n"]);
            }
            child.wait()
        });
        let ended = match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{}: {status}", self.short())),
            Err(error) => Err(format!("{self}: {error}")),
        };
        (ended, said)
    }

    /// Runs to the end, echoed first; of its output shows the lines that contain `of_interest`, or all if it fails.
    pub(crate) fn run_showing(&self, of_interest: &str) -> Result<(), String> {
        println!("$ {self}");
        let output = self.command().output().map_err(|e| format!("{self}: {e}"))?;
        let failed = !output.status.success();
        for stream in [output.stdout, output.stderr] {
            let text = String::from_utf8_lossy(&stream);
            let told = text.lines().filter(|line| failed || line.contains(of_interest));
            told.for_each(|line| println!("{}: {line}", self.name()));
        }
        if failed { Err(format!("{}: {}", self.short(), output.status)) } else { Ok(()) }
    }

    /// Runs to the end without a word; what it said on standard output comes back when it succeeds.
    pub(crate) fn quiet(&self) -> Result<String, String> {
        let output = self.command().output().map_err(|e| format!("{self}: {e}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}: {}", self.short(), output.status, said.lines().last().unwrap_or_default()))
    }

    /// `timeout` makes a process group of what it runs and ends all of it, test binaries included.
    fn command(&self) -> Command {
        let mut command = match self.limit_seconds {
            Some(seconds) => {
                let mut timeout = Command::new("timeout");
                timeout.arg("--kill-after=10").arg(seconds.to_string()).arg(&self.program);
                timeout
            }
            None => Command::new(&self.program),
        };
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v))).current_dir(root()).stdin(Stdio::null());
        command
    }

    fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn short(&self) -> String {
        let first = self.args.first().map(|a| format!(" {}", a.to_string_lossy())).unwrap_or_default();
        format!("{}{first}", self.name())
    }
}

/// As one would type it.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.env {
            write!(f, "{key}={} ", value.to_string_lossy())?;
        }
        write!(f, "{}", self.name())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.to_string_lossy()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_echoed_as_one_would_type_it() {
        let doc = Cmd::new("/usr/bin/cargo").args(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(doc.to_string(), "RUSTDOCFLAGS=-D warnings cargo doc --no-deps");
    }

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        let failed = Cmd::new("sh").args(["-c", "echo no >&2; exit 3"]).limit(10).quiet();
        assert_eq!(failed, Err("sh -c: exit status: 3: no".to_owned()));
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_limit() {
        assert!(Cmd::new("sleep").arg("30").limit(1).quiet().is_err());
    }
}
