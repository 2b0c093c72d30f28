//! The steps of `cargo xtask test`: what each is for, what it needs, what it runs.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::fuzz;
use crate::provision::{Provisioned, Tool};
use crate::report::Outcome;
use crate::shell::{Cmd, root, target_dir};
use crate::verdict;

/// How long the demo may take from start to its own end.
const DEMO_LIMIT_SECONDS: u32 = 120;

/// How long one example may take: each is a matter of seconds.
const EXAMPLE_LIMIT_SECONDS: u32 = 60;

/// One step; they run in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Step {
    Provision,
    Fmt,
    Clippy,
    Doc,
    Deny,
    Build,
    Unit,
    Otel,
    Examples,
    Interop,
    Fuzz,
    Demo,
}

impl Step {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Provision => "provision",
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Doc => "doc",
            Self::Deny => "deny",
            Self::Build => "build",
            Self::Unit => "unit",
            Self::Otel => "otel",
            Self::Examples => "examples",
            Self::Interop => "interop",
            Self::Fuzz => "fuzz",
            Self::Demo => "demo",
        }
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Provision => "programs that the other steps need",
            Self::Fmt => "rustfmt has nothing to say",
            Self::Clippy => "warnings are errors",
            Self::Doc => "documentation builds, its links lead somewhere",
            Self::Deny => "licences, bans, sources; by policy not advisories, whose database is a download",
            Self::Build => "the binary that interop and demo run",
            Self::Unit => "unit tests, integration stories, doctests",
            Self::Otel => "with the feature `otel` a collector hears of requests, and no lint has anything to say",
            Self::Examples => "each example, to its own end",
            Self::Interop => "stories with foreign clients on loopback",
            Self::Fuzz => "each fuzz target for a moment",
            Self::Demo => "`swarmgate demo` shows itself and exits with success",
        }
    }

    /// Steps that must have run before this one.
    pub(crate) fn needs(self) -> &'static [Self] {
        match self {
            Self::Interop => &[Self::Provision, Self::Build],
            Self::Deny => &[Self::Provision],
            Self::Demo => &[Self::Build],
            Self::Provision
            | Self::Fmt
            | Self::Clippy
            | Self::Doc
            | Self::Build
            | Self::Unit
            | Self::Otel
            | Self::Examples
            | Self::Fuzz => &[],
        }
    }

    /// Programs that this step runs.
    pub(crate) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Interop => &Tool::PEERS,
            Self::Deny => &[Tool::CargoDeny],
            Self::Provision
            | Self::Fmt
            | Self::Clippy
            | Self::Doc
            | Self::Build
            | Self::Unit
            | Self::Otel
            | Self::Examples
            | Self::Fuzz
            | Self::Demo => &[],
        }
    }
}

/// The asked-for steps and what they need, in order and once each; nothing asked for means all.
pub(crate) fn selection(only: &[Step]) -> Vec<Step> {
    if only.is_empty() {
        return Step::value_variants().to_vec();
    }
    let mut steps: Vec<Step> = only.iter().flat_map(|s| s.needs().iter().copied().chain([*s])).collect();
    steps.sort();
    steps.dedup();
    steps
}

/// Where the build step puts the gateway's binary, which is built as a release is: linked to nothing.
pub(crate) fn binary() -> PathBuf {
    target_dir().join("interop/swarmgate")
}

pub(crate) fn fmt() -> Outcome {
    let workspace = Cmd::cargo("fmt --all --check").run();
    workspace.and_then(|()| fuzz::fmt_check()).into()
}

/// The lints apply to all targets; warnings become errors here and not by RUSTFLAGS, which would rebuild everything.
pub(crate) fn clippy() -> Outcome {
    Cmd::cargo("clippy --workspace --all-targets -- -D warnings").run().into()
}

pub(crate) fn doc() -> Outcome {
    Cmd::cargo("doc --workspace --no-deps --document-private-items --keep-going")
        .env("RUSTDOCFLAGS", "-D warnings")
        .run()
        .into()
}

pub(crate) fn deny(tools: &[Provisioned]) -> Outcome {
    match found(tools, Tool::CargoDeny) {
        Ok(program) => {
            let deny = Cmd::new(program).args(["--log-level", "error", "check", "--hide-inclusion-graph"]);
            deny.args(["licenses", "bans", "sources"]).run().into()
        }
        Err(why) => Outcome::Skipped(why),
    }
}

pub(crate) fn build() -> Outcome {
    Cmd::new("sh").arg(root().join("deploy/build.sh")).arg("interop").run().into()
}

/// Interop stories are left to their own step, which knows where the programs are. Most stories wait for timers rather than
/// for a core, so that there are more threads than cores.
pub(crate) fn unit() -> Outcome {
    let test = Cmd::cargo("test --workspace --no-fail-fast -- --skip interop::");
    verdict::hear(&test, &["--test-threads=3".to_owned()])
}

/// With `--workspace`, so that all below the gateway is as the steps before have built it. The lints are for what they have
/// not seen, which is the library alone; of its own tests those are run that the feature brings.
pub(crate) fn otel() -> Outcome {
    let feature = "--workspace --features swarmgate-gateway/otel";
    let lints = Cmd::cargo(&format!("clippy {feature} --lib --test otel -- -D warnings")).run();
    let rules = || Cmd::cargo(&format!("test {feature} --no-fail-fast --lib -- traces::")).run();
    match lints.and_then(|()| rules()) {
        Ok(()) => verdict::hear(&Cmd::cargo(&format!("test {feature} --no-fail-fast --test otel --")), &[]),
        Err(why) => Outcome::Failed(why),
    }
}

/// Each is a file of `examples/`. With `--workspace`, so that what the unit step has built is not built twice.
pub(crate) fn examples() -> Outcome {
    let run =
        |name: &String| Cmd::new(target_dir().join("debug/examples").join(name)).limit(EXAMPLE_LIMIT_SECONDS).run();
    let built = Cmd::cargo("build --workspace --examples").run();
    built.and_then(|()| example_names()).and_then(|names| names.iter().try_for_each(run)).into()
}

fn example_names() -> Result<Vec<String>, String> {
    let dir = root().join("examples");
    let listed = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let files = listed.filter_map(|entry| Some(entry.ok()?.path()));
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<_> = rust.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    if names.is_empty() { Err(format!("{}: no example", dir.display())) } else { Ok(names) }
}

/// `--workspace` although one package is meant: the same features as the unit step, so nothing is built twice.
///
/// The gateway specifications' own tests are left to their own command, which looks for their program.
pub(crate) fn interop(stories: &[String], tools: &[Provisioned]) -> Outcome {
    let mut test = Cmd::cargo("test --workspace --test it --").env("SWARMGATE_BIN", binary());
    for Provisioned { tool, program } in tools {
        if let (Some(variable), Ok(path)) = (tool.variable(), program) {
            test = test.env(variable, path);
        } else if tool.variable().is_some() {
            test = test.arg("--skip").arg(format!("::{}", tool.name()));
        }
    }
    if tools.iter().all(|it| it.tool != Tool::Conformance) {
        let theirs = format!("::{}", Tool::Conformance.name());
        if stories.iter().all(|story| story.contains(&theirs)) {
            return Outcome::Failed("`cargo xtask conformance` runs these".to_owned());
        }
        test = test.arg("--skip").arg(theirs);
    }
    verdict::hear(&test, &[&["--test-threads=4".to_owned()], stories].concat())
}

pub(crate) fn sim(seed: u64) -> Outcome {
    let test = Cmd::cargo("test --workspace --test it -- --nocapture sim").env("SWARMGATE_SIM_SEED", seed.to_string());
    test.run().into()
}

pub(crate) fn demo() -> Outcome {
    Cmd::new(binary()).arg("demo").limit(DEMO_LIMIT_SECONDS).run().into()
}

fn found(tools: &[Provisioned], wanted: Tool) -> Result<&PathBuf, String> {
    let tool =
        tools.iter().find(|p| p.tool == wanted).ok_or_else(|| format!("{} was not looked for", wanted.name()))?;
    tool.program.as_ref().map_err(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selected_step_brings_what_it_needs_in_order() {
        assert_eq!(selection(&[Step::Interop, Step::Fmt]), [Step::Provision, Step::Fmt, Step::Build, Step::Interop]);
        assert_eq!(selection(&[]).len(), Step::value_variants().len());
    }

    #[test]
    fn every_example_of_the_manifest_is_run() {
        let manifest = std::fs::read_to_string(root().join("examples/Cargo.toml")).unwrap();
        let names = example_names().unwrap();
        assert_eq!(names.len(), manifest.matches("[[example]]").count());
        assert!(names.iter().all(|name| manifest.contains(&format!("name = \"{name}\""))), "{names:?}");
    }
}
