//! What became of each step, and the table at the end.
//!
//! A skip is loud: it has a row and a reason. Under `CI=true` it is a failure, since nobody reads a green run's table.

use std::fmt;
use std::time::{Duration, Instant};

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// Passed, but not at once; with what did not.
    Unsteady(String),
    Failed(String),
    Skipped(String),
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

#[derive(Debug)]
struct Row {
    name: String,
    outcome: Outcome,
    took: Duration,
}

/// The rows of one run, in order.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<Row>,
    skips_fail: bool,
}

impl Report {
    /// An empty report; `skips_fail` turns every skip into a failure.
    pub(crate) fn new(skips_fail: bool) -> Self {
        Self { rows: Vec::new(), skips_fail }
    }

    /// Prints a headline, runs a step and keeps what became of it.
    pub(crate) fn step(&mut self, name: &str, what: &str, run: impl FnOnce() -> Outcome) {
        println!("\n=== {name}: {what}");
        let started = Instant::now();
        let outcome = run();
        self.add(name, outcome, started.elapsed());
    }

    /// Keeps an outcome that needed no headline of its own.
    pub(crate) fn add(&mut self, name: &str, outcome: Outcome, took: Duration) {
        let outcome = match outcome {
            Outcome::Skipped(why) if self.skips_fail => {
                Outcome::Failed(format!("skipped, which CI does not allow: {why}"))
            }
            other @ (Outcome::Passed | Outcome::Unsteady(_) | Outcome::Failed(_) | Outcome::Skipped(_)) => other,
        };
        match &outcome {
            Outcome::Passed => {}
            Outcome::Unsteady(what) => println!("=== {name} UNSTEADY: {what}"),
            Outcome::Failed(why) => println!("=== {name} FAILED: {why}"),
            Outcome::Skipped(why) => println!("=== {name} SKIPPED: {why}"),
        }
        self.rows.push(Row { name: name.to_owned(), outcome, took });
    }

    /// How many steps failed.
    pub(crate) fn failed(&self) -> usize {
        self.count(|o| matches!(o, Outcome::Failed(_)))
    }

    fn count(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.rows.iter().filter(|row| which(&row.outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.name.chars().count()).max().unwrap_or_default();
        writeln!(f)?;
        for Row { name, outcome, took } in &self.rows {
            let (word, why) = match outcome {
                Outcome::Passed => ("passed", None),
                Outcome::Unsteady(what) => ("UNSTEADY", Some(what)),
                Outcome::Failed(why) => ("FAILED", Some(why)),
                Outcome::Skipped(why) => ("SKIPPED", Some(why)),
            };
            write!(f, "{name:width$}  {word:8}  {:6.1} s", took.as_secs_f64())?;
            writeln!(f, "{}", why.map(|w| format!("  {w}")).unwrap_or_default())?;
        }
        let (passed, skipped) = (
            self.count(|o| matches!(o, Outcome::Passed | Outcome::Unsteady(_))),
            self.count(|o| matches!(o, Outcome::Skipped(_))),
        );
        // The form is fixed: whoever runs this unattended reads the last line.
        writeln!(f, "{passed} passed, {} failed, {skipped} skipped", self.failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(skips_fail: bool) -> Report {
        let mut report = Report::new(skips_fail);
        report.add("fmt", Outcome::Passed, Duration::from_millis(1500));
        report.add("interop", Outcome::Failed("exit status 101".into()), Duration::ZERO);
        report.add("peer aria2", Outcome::Skipped("not installed".into()), Duration::ZERO);
        report
    }

    #[test]
    fn the_last_line_counts_the_steps() {
        let text = report(false).to_string();
        assert_eq!(text.lines().last(), Some("1 passed, 1 failed, 1 skipped"));
        assert!(text.contains("fmt         passed       1.5 s\n"));
        assert!(text.contains("peer aria2  SKIPPED      0.0 s  not installed\n"));
    }

    #[test]
    fn a_skip_fails_where_skips_are_not_allowed() {
        let report = report(true);
        assert_eq!(report.failed(), 2);
        assert!(report.to_string().ends_with("1 passed, 2 failed, 0 skipped\n"));
    }
}
