//! Which steps each command runs, and what their report says.

use std::time::{Duration, Instant};

use crate::bench::{self, Bench};
use crate::fuzz;
use crate::provision::{self, Provisioned, Tool};
use crate::report::{Outcome, Report};
use crate::shell::{Cmd, in_ci};
use crate::steps::{self, Step};
use crate::stories;

/// `cargo xtask check`.
pub(crate) fn check() -> Report {
    let mut report = Report::new(false);
    report.step("fmt", Step::Fmt.what(), steps::fmt);
    report.step("clippy", Step::Clippy.what(), steps::clippy);
    report.step("unit", "unit tests of the libraries", || Cmd::cargo("test --workspace --lib").run().into());
    report
}

/// `cargo xtask test`.
pub(crate) fn test(only: &[Step], fuzz_seconds: u32) -> Report {
    run(&steps::selection(only), None, fuzz_seconds)
}

/// `cargo xtask interop`.
pub(crate) fn interop(name: Option<&str>) -> Report {
    run(&steps::selection(&[Step::Interop]), name, fuzz::SMOKE_SECONDS)
}

/// `cargo xtask conformance`.
pub(crate) fn conformance() -> Report {
    let mut report = Report::new(true);
    let tools = provision::provide(&[Tool::Conformance]);
    for tool in tools.iter().filter(|t| t.program.is_err()) {
        add_tool(&mut report, tool, Duration::ZERO);
    }
    if report.failed() == 0 {
        report.step(Step::Build.name(), Step::Build.what(), steps::build);
    }
    if report.failed() == 0 {
        report.step("conformance", "the IPFS gateway specifications' own tests", || {
            stories::named(Some(Tool::Conformance.name()))
                .map_or_else(Outcome::Failed, |it| steps::interop(&it, &tools))
        });
    }
    report
}

/// `cargo xtask fuzz`.
pub(crate) fn fuzz(name: Option<&str>, seconds: u32) -> Report {
    single("fuzz", Step::Fuzz.what(), || fuzz::run(name, seconds))
}

/// `cargo xtask sim`.
pub(crate) fn sim(seed: u64) -> Report {
    single("sim", "one simulated world again", || steps::sim(seed))
}

/// `cargo xtask bench`.
pub(crate) fn bench(bench: &Bench) -> Report {
    single("bench", "the release build beside other programs", || bench::run(bench).into())
}

/// `cargo xtask provision`.
pub(crate) fn provision() -> Report {
    let mut report = Report::new(in_ci());
    let tools = provision::provide(&[Tool::PEERS.as_slice(), &[Tool::CargoDeny, Tool::Wrk]].concat());
    for tool in &tools {
        add_tool(&mut report, tool, Duration::ZERO);
    }
    report
}

fn single(name: &str, what: &str, run: impl FnOnce() -> Outcome) -> Report {
    let mut report = Report::new(in_ci());
    report.step(name, what, run);
    report
}

fn run(selected: &[Step], story: Option<&str>, fuzz_seconds: u32) -> Report {
    let mut report = Report::new(in_ci());
    let mut tools = Vec::new();
    let mut built = Ok(());
    for &step in selected {
        if step == Step::Provision {
            tools = provision_for(selected, &mut report);
            continue;
        }
        if step.needs().contains(&Step::Build) && built.is_err() {
            report.add(step.name(), Outcome::Failed("there is no binary to run".into()), Duration::ZERO);
            continue;
        }
        let failed_before = report.failed();
        report.step(step.name(), step.what(), || play(step, &tools, story, fuzz_seconds));
        if step == Step::Build && report.failed() > failed_before {
            built = Err(());
        }
    }
    report
}

fn play(step: Step, tools: &[Provisioned], story: Option<&str>, fuzz_seconds: u32) -> Outcome {
    match step {
        Step::Provision => Outcome::Passed,
        Step::Fmt => steps::fmt(),
        Step::Clippy => steps::clippy(),
        Step::Doc => steps::doc(),
        Step::Deny => steps::deny(tools),
        Step::Build => steps::build(),
        Step::Unit => steps::unit(),
        Step::Otel => steps::otel(),
        Step::Examples => steps::examples(),
        Step::Interop => match stories::named(story) {
            Ok(stories) => steps::interop(&stories, tools),
            Err(why) => Outcome::Failed(why),
        },
        Step::Fuzz => fuzz::run(None, fuzz_seconds),
        Step::Demo => steps::demo(),
    }
}

/// Installs what the selected steps need; a tool that cannot be had has a row of its own in the table.
fn provision_for(selected: &[Step], report: &mut Report) -> Vec<Provisioned> {
    println!("\n=== {}: {}", Step::Provision.name(), Step::Provision.what());
    let started = Instant::now();
    let wanted: Vec<Tool> = selected.iter().flat_map(|s| s.tools().iter().copied()).collect();
    let tools = provision::provide(&wanted);
    report.add(Step::Provision.name(), Outcome::Passed, started.elapsed());
    for tool in tools.iter().filter(|t| t.program.is_err()) {
        add_tool(report, tool, Duration::ZERO);
    }
    tools
}

fn add_tool(report: &mut Report, tool: &Provisioned, took: Duration) {
    let outcome = match &tool.program {
        Ok(_) => Outcome::Passed,
        Err(why) => Outcome::Skipped(why.clone()),
    };
    report.add(&format!("tool {}", tool.tool.name()), outcome, took);
}
