//! The tests of the IPFS gateway specifications, written by others: their fixtures, their run against a gateway, and
//! what became of each case.
//!
//! The program sends all requests to one address, those for subdomains and DNSLink hosts too, told apart by `Host`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;
use crate::programs::Program;

/// Copying a few hundred KiB.
const EXTRACTED_WITHIN: Duration = Duration::from_secs(60);

/// Some 800 requests, most of them answered at once; linking the tests anew is a part of it.
const TESTED_WITHIN: Duration = Duration::from_secs(300);

/// What a gateway must have before the tests run.
#[derive(Debug)]
pub struct Fixtures {
    dir: PathBuf,
}

impl Fixtures {
    /// Writes them below `dir`; `None` when the story is to be skipped.
    pub async fn extract(dir: &Path) -> Option<Self> {
        let fixtures = Self { dir: dir.join("fixtures") };
        let mut command = Command::new(Program::Conformance.find()?);
        command.arg("extract-fixtures").arg("--directory").arg(&fixtures.dir);
        let mut process = Process::start("extract-fixtures", &command, dir);
        let status = process.finished(EXTRACTED_WITHIN).await;
        assert!(status.success(), "extract-fixtures: {status}\n{}", process.log());
        Some(fixtures)
    }

    /// CARs with all blocks.
    pub fn cars(&self) -> Vec<PathBuf> {
        self.files("car")
    }

    /// IPNS records, each in a file called `NAME.ipns-record`. Not all of them are valid.
    pub fn records(&self) -> Vec<PathBuf> {
        let named = self.dir.join("by-name");
        std::fs::create_dir_all(&named).unwrap_or_else(|e| panic!("cannot create {}: {e}", named.display()));
        let rename = |from: PathBuf| {
            // NAME.ipns-record, or NAME_WHAT_IS_SPECIAL.ipns-record; and a number in any case.
            let stem = from.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = stem.split('_').next().unwrap_or_default();
            let to = named.join(format!("{name}.ipns-record"));
            std::fs::copy(&from, &to).unwrap_or_else(|e| panic!("cannot copy {}: {e}", from.display()));
            to
        };
        self.files("ipns-record").into_iter().map(rename).collect()
    }

    /// Where the links of hosts lead: content paths by host.
    pub fn dnslinks(&self) -> BTreeMap<String, String> {
        let file = self.dir.join("dnslinks.json");
        let text = std::fs::read(&file).unwrap_or_else(|e| panic!("cannot read {}: {e}", file.display()));
        let links: Value = serde_json::from_slice(&text).expect("it is JSON");
        let domains = links["domains"].as_object().expect("it has a map of domains");
        let text = |path: &Value| path.as_str().expect("a path is a text").to_owned();
        domains.iter().map(|(host, path)| (host.clone(), text(path))).collect()
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.dir).unwrap_or_else(|e| panic!("{}: {e}", self.dir.display()));
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
        found.sort();
        assert!(!found.is_empty(), "no fixture ends with .{extension}");
        found
    }
}

/// What became of the cases.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many there were of each group, by what the tests call it.
    pub groups: BTreeMap<String, Tally>,
    /// The failed ones, with what was said of them.
    pub failures: BTreeMap<String, String>,
    /// The skipped ones.
    pub skipped: BTreeSet<String>,
}

/// How many cases.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Passed.
    pub passed: usize,
    /// Failed.
    pub failed: usize,
    /// Skipped.
    pub skipped: usize,
}

/// Tests the gateway at `url`, whose subdomains are those of `subdomain_url`; `None` when the story is to be skipped.
/// Those of all mature specifications are run, but for what `arguments` say.
pub async fn test(url: &str, subdomain_url: &str, arguments: &[&str], dir: &Path) -> Option<Report> {
    let json = dir.join("conformance.json");
    let mut command = Command::new(Program::Conformance.find()?);
    command.args(["test", "--gateway-url", url, "--subdomain-url", subdomain_url]).arg("--json").arg(&json);
    command.args(arguments);
    let mut process = Process::start("gateway-conformance", &command, dir);
    // It fails when a case does; which ones is in the report.
    process.finished(TESTED_WITHIN).await;
    let events = std::fs::read_to_string(&json).unwrap_or_default();
    let report = Report::of(&events);
    assert!(report.is_some(), "the tests did not run to their end:\n{}", process.log());
    report
}

/// One test, by its path of names.
#[derive(Debug, Default)]
struct Case {
    outcome: String,
    said: String,
}

impl Report {
    /// Reads the events that Go's tests tell, a JSON object a line; `None` unless they go on to the end.
    ///
    /// Only the innermost cases count, and those around them that failed by themselves.
    fn of(events: &str) -> Option<Self> {
        let (mut cases, mut groups, mut ended) = (BTreeMap::<String, Case>::new(), BTreeMap::new(), false);
        for event in events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let action = event["Action"].as_str().unwrap_or_default();
            let Some(test) = event["Test"].as_str() else {
                ended |= matches!(action, "suite_pass" | "suite_fail");
                continue;
            };
            let case = cases.entry(test.to_owned()).or_default();
            match action {
                "pass" | "fail" | "skip" => case.outcome = action.to_owned(),
                "output" => {
                    let line = event["Output"].as_str().unwrap_or_default();
                    if let Some(group) = group_in(line) {
                        groups.insert(outermost(test).to_owned(), group);
                    }
                    case.said.push_str(line);
                }
                _ => {}
            }
        }
        ended.then(|| Self::sum(&cases, &groups))
    }

    fn sum(cases: &BTreeMap<String, Case>, groups: &BTreeMap<String, String>) -> Self {
        let within = |test: &str| test.rsplit_once('/').map(|(outer, _)| outer.to_owned());
        let outer: BTreeSet<_> = cases.keys().filter_map(|test| within(test)).collect();
        let failed = cases.iter().filter(|(_, case)| case.outcome == "fail");
        let failed_within: BTreeSet<_> = failed.filter_map(|(test, _)| within(test)).collect();
        let mut report = Self::default();
        for (test, case) in cases {
            let by_itself = case.outcome == "fail" && !failed_within.contains(test);
            if outer.contains(test) && !by_itself {
                continue;
            }
            let name = outermost(test);
            let tally = report.groups.entry(groups.get(name).map_or(name, String::as_str).to_owned()).or_default();
            match case.outcome.as_str() {
                "pass" => tally.passed += 1,
                "skip" => {
                    tally.skipped += 1;
                    report.skipped.insert(test.clone());
                }
                // No outcome at all: the run ended in it.
                _ => {
                    tally.failed += 1;
                    report.failures.insert(test.clone(), case.said.clone());
                }
            }
        }
        report
    }
}

fn outermost(test: &str) -> &str {
    test.split('/').next().unwrap_or(test)
}

/// The group that a test says it belongs to.
fn group_in(line: &str) -> Option<String> {
    let (_, meta) = line.split_once("--- META: ")?;
    let meta: Value = serde_json::from_str(meta.trim()).ok()?;
    meta["group"].as_str().map(str::to_owned)
}

/// A table of the groups, and the names of the failed.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.groups.keys().map(|name| name.chars().count()).max().unwrap_or_default();
        for (name, Tally { passed, failed, skipped }) in &self.groups {
            writeln!(f, "{name:width$}  {passed:4} passed  {failed:4} failed  {skipped:4} skipped")?;
        }
        self.failures.keys().try_for_each(|test| writeln!(f, "failed: {test}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = r#"
{"Action":"start","Package":"Gateway Tests"}
{"Action":"run","Test":"TestTar"}
{"Action":"output","Test":"TestTar","Output":"    metadata.go:18: --- META: {\"group\":\"Tar\"}\n"}
{"Action":"run","Test":"TestTar/GET_TAR"}
{"Action":"pass","Test":"TestTar/GET_TAR/Status_code"}
{"Action":"output","Test":"TestTar/GET_TAR/Body","Output":"    run.go:1: no such file\n"}
{"Action":"fail","Test":"TestTar/GET_TAR/Body"}
{"Action":"fail","Test":"TestTar/GET_TAR"}
{"Action":"fail","Test":"TestTar/refused"}
{"Action":"pass","Test":"TestTar/refused/Status_code"}
{"Action":"fail","Test":"TestTar"}
{"Action":"skip","Test":"TestOther"}
"#;

    #[test]
    fn a_case_counts_once_and_under_its_group() {
        assert_eq!(Report::of(EVENTS), None, "without its end it is none");
        let report =
            Report::of(&format!("{EVENTS}{}", r#"{"Action":"suite_fail","Package":"Gateway Tests"}"#)).unwrap();
        let tally = |passed, failed, skipped| Tally { passed, failed, skipped };
        assert_eq!(report.groups["Tar"], tally(2, 2, 0));
        assert_eq!(report.groups["TestOther"], tally(0, 0, 1));
        let failures: Vec<_> = report.failures.iter().map(|(test, said)| (test.as_str(), said.as_str())).collect();
        assert_eq!(
            failures,
            [("TestTar/GET_TAR/Body", "    run.go:1: no such file\n"), ("TestTar/refused", "")],
            "the one around a failed case is not counted again"
        );
    }
}
