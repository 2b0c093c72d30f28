//! `swarmgate diagnose`: what an operator gets wrong, looked for one thing after the other, each with what to do about
//! it. Nothing is changed, and with `--offline` nobody outside of this machine is asked.
//!
//! Of a content it looks for what keeps that from coming (`content`).
//!
//! What was found is judged by functions of plain values; the looking itself is beside them in each file.

mod access;
mod cache;
mod content;
mod dht;
mod gateway;
mod here;
mod machine;
mod ports;

use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use serde_json::json;
use swarmgate_config::{Config, ConfigErrors, Loaded};
use utoipa::ToSchema;

pub(crate) use self::here::Step;
use super::Exit;
use super::args::{Diagnose, Output};
use super::source::Failure;

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better or safer.
    Warn,
    /// It does not work.
    Fail,
    /// Nobody looked: it is switched off, or cannot be known now.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// How it was found.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; left out where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { name, verdict, found: found.into(), advice: None }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Runs the command to its end: some seconds at most, each check with a bound of its own; of a content as long as the
/// command says.
///
/// # Errors
/// [`Exit::Usage`] when the configuration is wrong, [`Exit::Error`] when something else does not work. Warnings are none.
/// Of a content, [`Exit::NotFound`] or [`Exit::Timeout`] when no byte of it came.
pub async fn run(
    loaded: &Result<Loaded, ConfigErrors>,
    command: &Diagnose,
    output: Output,
    interrupted: impl Future<Output = ()>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if let (Some(uri), Ok(loaded)) = (&command.uri, loaded) {
        return content::run(&loaded.config, uri, command.timeout, output, interrupted, out).await;
    }
    let checks = match loaded {
        Ok(loaded) => of_configuration(&loaded.config, command).await,
        Err(errors) => wrong_configuration(errors).into_iter().chain(machine::checks(&Config::default())).collect(),
    };
    match tell(&checks, output, out) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(Failure::new(Exit::from(&error), error.to_string()));
        }
        Ok(()) | Err(_) => {}
    }
    let failed = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    if failed == 0 {
        return Ok(());
    }
    let exit = if loaded.is_err() { Exit::Usage } else { Exit::Error };
    Err(Failure::new(exit, format!("{failed} of {} checks failed", checks.len())))
}

/// All there is to look at, in the order in which one thing spoils the next.
async fn of_configuration(config: &Config, command: &Diagnose) -> Vec<Check> {
    let mut checks = vec![Check::new("configuration", Verdict::Ok, "it is valid")];
    checks.extend(access::checks(config));
    let (running, gateway) = gateway::look(config).await;
    checks.extend(gateway);
    checks.extend(ports::look(config, running));
    checks.extend(cache::look(config));
    checks.extend(machine::checks(config));
    checks.push(dht::look(config, command.offline).await);
    checks
}

fn wrong_configuration(errors: &ConfigErrors) -> Vec<Check> {
    let check = |mistake: &swarmgate_config::Mistake| {
        let advice = "correct it; `swarmgate config reference` tells what each option takes";
        Check::new("configuration", Verdict::Fail, mistake.to_string()).advice(advice)
    };
    errors.mistakes.iter().map(check).collect()
}

fn tell(checks: &[Check], output: Output, out: &mut dyn Write) -> io::Result<()> {
    match output {
        Output::Json => {
            let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
            writeln!(out, "{:#}", json!({ "ok": !failed, "checks": checks }))
        }
        Output::Human => checks.iter().try_for_each(|check| tell_one(check, out)),
    }
}

fn tell_one(check: &Check, out: &mut dyn Write) -> io::Result<()> {
    let word = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
        Verdict::Skipped => "-",
    };
    writeln!(out, "{word:<5} {:<14} {}", check.name, check.found)?;
    match &check.advice {
        Some(advice) => writeln!(out, "{:<21}{advice}", ""),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use swarmgate_config::{Flag, Sources};

    async fn told(sources: &Sources, output: Output) -> (Option<Exit>, String) {
        let mut out = Vec::new();
        let command = Diagnose { offline: true, ..Diagnose::default() };
        let result = run(&Config::load(sources), &command, output, std::future::pending(), &mut out).await;
        (result.err().map(|failure| failure.exit), String::from_utf8(out).unwrap())
    }

    /// A configuration that is fine on loopback, with ports that the system chooses.
    fn sources(dir: &std::path::Path, more: &[(&str, &str)]) -> Sources {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut flags = vec![
            Flag::new("--set", "server.listen", free),
            Flag::new("--set", "bittorrent.listen_ip", "127.0.0.1"),
            Flag::new("--set", "bittorrent.listen_port", "0"),
            Flag::new("--set", "ipfs.listen_ip", "127.0.0.1"),
            Flag::new("--set", "ipfs.listen_port", "0"),
            Flag::new("--set", "cache.min_free", "0"),
        ];
        flags.extend(more.iter().map(|(key, value)| Flag::new("--set", *key, *value)));
        Sources { flags, platform_cache_dir: Some(dir.join("cache")), ..Sources::default() }
    }

    #[tokio::test]
    async fn where_all_is_well_it_ends_with_success_and_has_looked_at_everything() {
        let dir = tempfile::tempdir().unwrap();
        let (exit, text) = told(&sources(dir.path(), &[]), Output::Human).await;
        assert_eq!(exit, None, "{text}");
        for name in ["configuration", "gateway", "ports", "cache", "clock", "udp buffers", "open files", "ipv6", "dht"]
        {
            assert!(
                text.lines().any(|line| line.get(6..).is_some_and(|rest| rest.starts_with(name))),
                "{name}: {text}"
            );
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn what_does_not_work_is_told_to_people_and_programs_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cache"), "a file where the cache should be").unwrap();
        let sources = sources(dir.path(), &[]);
        let (exit, text) = told(&sources, Output::Human).await;
        assert_eq!(exit, Some(Exit::Error));
        assert!(text.contains("FAIL  cache "), "{text}");
        let (_, text) = told(&sources, Output::Json).await;
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["ok"], false);
        let cache = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "cache").unwrap();
        assert_eq!(cache["verdict"], "fail");
        assert!(cache["advice"].as_str().unwrap().contains("cache.dir"), "{cache}");
    }

    #[tokio::test]
    async fn mistakes_in_the_configuration_are_told_each_and_end_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let wrong = [("cache.memory", "lots"), ("server.max_streams", "many")];
        let (exit, text) = told(&sources(dir.path(), &wrong), Output::Human).await;
        assert_eq!(exit, Some(Exit::Usage));
        assert_eq!(text.matches("FAIL  configuration ").count(), 2, "{text}");
        assert!(text.contains("cache.memory") && text.contains("open files"), "{text}");
    }
}
