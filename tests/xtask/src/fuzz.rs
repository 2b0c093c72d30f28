//! Fuzz targets on the stable toolchain: LLVM's coverage instrumentation is a stable code generation flag, so
//! libFuzzer needs neither a nightly compiler nor a cargo plugin.
//!
//! What a run finds new goes below the target directory; the seeds in `tests/fuzz/corpus` are read only. An input that
//! breaks a target is kept as an artifact, and its path is in the output.

use std::iter;
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::report::Outcome;
use crate::shell::{Cmd, root, target_dir};

/// How long a target runs as a step of `cargo xtask test`: enough to replay its corpus and try a few 100,000 inputs.
pub(crate) const SMOKE_SECONDS: u32 = 10;

/// How long a target runs when it is asked for by name.
pub(crate) const RUN_SECONDS: u32 = 60;

/// Above this an input is a hang; libFuzzer's own 1,200 s would outlast the run.
const INPUT_TIMEOUT_SECONDS: u32 = 5;

/// Beyond its own time a target may need this for start-up and its last input.
const GRACE_SECONDS: u32 = 60;

/// Edge coverage by inline counters, and comparisons traced so that magic words are found.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

/// Runs the named target, or every one, for so many seconds each.
pub(crate) fn run(name: Option<&str>, seconds: u32) -> Outcome {
    let targets = match targets() {
        Ok(targets) => targets,
        Err(why) => return Outcome::Skipped(why),
    };
    let wanted: Vec<&String> = targets.iter().filter(|t| name.is_none_or(|n| n == *t)).collect();
    if wanted.is_empty() {
        return Outcome::Failed(format!("no such target; there are: {}", targets.join(", ")));
    }
    let binaries = match build() {
        Ok(binaries) => binaries,
        Err(why) => return Outcome::Failed(why),
    };
    let broken = broken(&binaries, &wanted, seconds);
    if broken.is_empty() { Outcome::Passed } else { Outcome::Failed(broken.join(", ")) }
}

/// Runs all targets, one a core at a time, and returns those that failed: a broken one must not hide the next.
fn broken(binaries: &Path, wanted: &[&String], seconds: u32) -> Vec<String> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let begun = AtomicUsize::new(0);
    let one_after_another = || {
        let next = || wanted.get(begun.fetch_add(1, Ordering::Relaxed));
        let broken = iter::from_fn(next).filter(|target| failed(binaries, target, seconds));
        broken.map(|target| (*target).clone()).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(one_after_another)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// The fuzz crate is no member of the workspace, so `cargo fmt --all` passes it by.
pub(crate) fn fmt_check() -> Result<(), String> {
    let manifest = manifest();
    if !manifest.is_file() {
        return Ok(());
    }
    Cmd::cargo("fmt --check --manifest-path").arg(manifest).run()
}

fn dir() -> PathBuf {
    root().join("tests/fuzz")
}

fn manifest() -> PathBuf {
    dir().join("Cargo.toml")
}

fn targets() -> Result<Vec<String>, String> {
    let folder = dir().join("fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("no fuzz targets: {}: {e}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let sources = paths.filter(|p| p.extension().is_some_and(|e| e == "rs"));
    let mut names: Vec<String> = sources.filter_map(|p| Some(p.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Builds all targets and returns the folder they are in. Naming the target triple keeps the instrumentation away
/// from build scripts and procedural macros.
fn build() -> Result<PathBuf, String> {
    let version = Cmd::new("rustc").arg("-vV").quiet()?;
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).ok_or("rustc names no host")?;
    let target = target_dir().join("fuzz");
    Cmd::cargo("build --release --bins --target")
        .arg(host)
        .arg("--manifest-path")
        .arg(manifest())
        .arg("--target-dir")
        .arg(&target)
        .env("RUSTFLAGS", INSTRUMENTATION)
        .run()?;
    Ok(target.join(host).join("release"))
}

fn failed(binaries: &Path, target: &str, seconds: u32) -> bool {
    let result = fuzz(binaries, target, seconds);
    if let Err(why) = &result {
        println!("{target}: {why}");
    }
    result.is_err()
}

fn fuzz(binaries: &Path, target: &str, seconds: u32) -> Result<(), String> {
    let found = target_dir().join("fuzz/corpus").join(target);
    let artifacts = target_dir().join("fuzz/artifacts").join(target);
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).map_err(|e| format!("cannot create {}: {e}", folder.display()))?;
    }
    let mut run = Cmd::new(binaries.join(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-timeout={INPUT_TIMEOUT_SECONDS}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-verbosity=0"])
        .arg(found);
    let seeds = dir().join("corpus").join(target);
    if seeds.is_dir() {
        run = run.arg(seeds);
    }
    run.limit(seconds + GRACE_SECONDS).run_showing("stat::number_of_executed_units")
}
