//! What test binaries say of their tests, and a second hearing for the few that failed among others.
//!
//! Tests that run side by side share the machine: one that judges by time can fail for want of a core alone. It is run
//! again by itself, and the table names it whether it passes then or not. Many failures at once get no second hearing.

use crate::report::Outcome;
use crate::shell::Cmd;

/// No more failed tests than these are run again.
const SECOND_HEARINGS: usize = 3;

/// Runs tests: `program` up to the `--` and what it wants of the binaries, `selection` the arguments that pick tests.
pub(crate) fn hear(program: &Cmd, selection: &[String]) -> Outcome {
    let (ended, said) = program.clone().args(selection).run_heard();
    let Err(why) = ended else { return Outcome::Passed };
    let failed = match failed(&said) {
        Some(failed) if (1..=SECOND_HEARINGS).contains(&failed.len()) => failed,
        Some(failed) => return Outcome::Failed(format!("{why}; {} tests failed", failed.len())),
        None => return Outcome::Failed(why),
    };
    let names = failed.join(", ");
    println!("=== FAILED among the others, each by itself now: {names}");
    match program.clone().args(["--exact", "--test-threads=1"]).args(&failed).run_heard().0 {
        Ok(()) => Outcome::Unsteady(format!("failed among the others, passed by itself: {names}")),
        Err(again) => Outcome::Failed(format!("{again}, twice: {names}")),
    }
}

/// The tests that failed, by what the binaries printed; nothing unless each binary came to its end, and each failure has
/// a name.
fn failed(said: &str) -> Option<Vec<String>> {
    let (mut running, mut heard, mut counted): (Option<usize>, Vec<String>, usize) = (None, Vec::new(), 0);
    // Within the output of failed tests, which a binary prints after all have run, another binary may speak.
    let mut quoting = false;
    for line in said.lines() {
        match running {
            None => running = begun(line),
            Some(tests) => match ended(line) {
                Some((all, failures)) if all == tests => {
                    counted += failures;
                    (running, quoting) = (None, false);
                }
                Some(_) | None if quoting => {}
                Some(_) | None if line == "failures:" => quoting = true,
                Some(_) | None => heard.extend(failure(line).map(str::to_owned)),
            },
        }
    }
    (running.is_none() && counted == heard.len()).then_some(heard)
}

/// `running 12 tests`
fn begun(line: &str) -> Option<usize> {
    let count = line.strip_prefix("running ")?;
    count.strip_suffix(" tests").or_else(|| count.strip_suffix(" test"))?.parse().ok()
}

/// `test result: FAILED. 1 passed; 1 failed; 0 ignored; …`: how many there were, and how many failed.
fn ended(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?;
    let of = |what: &str| -> Option<usize> {
        counts.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok())
    };
    let failed = of(" failed")?;
    Some((of(" passed")? + failed + of(" ignored")? + of(" measured")?, failed))
}

/// `test a::b ... FAILED`
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTED: &str = "running 1 test\ntest get::alone ... FAILED\n\nfailures:\n    get::alone\n\n\
                          test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out\n";

    fn said() -> String {
        format!(
            "\nrunning 2 tests\ntest a::b ... ok\ntest c ... ok\n\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n\
             \nrunning 3 tests\ntest get::fine ... ok\ntest get::alone ... FAILED\ntest get::big ... ignored\n\nfailures:\n\n\
             ---- get::alone stdout ----\n{QUOTED}\n\nfailures:\n    get::alone\n\n\
             test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
             \nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n"
        )
    }

    #[test]
    fn failures_are_those_of_the_binaries_and_not_what_they_quote() {
        assert_eq!(failed(&said()), Some(vec!["get::alone".to_owned()]));
        assert_eq!(failed(QUOTED), Some(vec!["get::alone".to_owned()]));
    }

    #[test]
    fn where_a_binary_did_not_come_to_its_end_nothing_is_known() {
        let cut = said().replace("test result: FAILED. 1 passed", "it was killed");
        assert_eq!(failed(&cut), None);
        assert_eq!(failed("running 1 test\ntest a ... FAILED\n"), None);
        assert_eq!(failed(&said().replace("test get::alone ... FAILED", "")), None, "a failure without a name");
    }

    #[test]
    fn a_test_that_fails_by_itself_too_has_failed_and_another_is_told() {
        let shell = |script: &str| Cmd::new("sh").args(["-c", script, "--"]).limit(10);
        let all = "echo running 1 test; echo 'test a ... FAILED'; echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured'";
        let twice = hear(&shell(&format!("{all}; exit 1")), &[]);
        assert!(matches!(&twice, Outcome::Failed(why) if why.ends_with("twice: a")), "{twice:?}");
        let once = hear(&shell(&format!("{all}; [ \"$1\" = --exact ]")), &[]);
        assert!(matches!(&once, Outcome::Unsteady(why) if why.ends_with(": a")), "{once:?}");
        let silent = hear(&shell("exit 1"), &[]);
        assert_eq!(silent, Outcome::Failed("sh -c: exit status: 1; 0 tests failed".to_owned()));
    }
}
