//! What is generated from the command line's own definition: completions for shells, manual pages, and the page of the
//! documentation. There is no second text to keep in step.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Exit;
use super::args::Cli;
use super::source::Failure;

const HEAD: &str = "\
# Command line

Every command and flag, generated from the program's own definition. `swarmgate` alone is `swarmgate serve`;
`swarmgate COMMAND --help` says the same in a terminal, `swarmgate man DIR` writes manual pages, and
`swarmgate completions SHELL` prints completions.

Results go to stdout, everything else to stderr; `--output json` writes results for programs. `NO_COLOR` is obeyed.

";

/// How commands end, as the help and the manual have it.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  all was done
    1  anything without a code of its own; a check that failed
    2  the command line or the configuration is wrong
    3  the content, item or gateway is not there, or nobody has it
    4  a deadline passed
    5  the content does not match its own hashes
    6  the gateway or the system refused
    7  no room for another byte
  130  interrupted";

/// Prints completions for a shell.
///
/// # Errors
/// When nothing can be written.
pub fn completions(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "swarmgate", &mut script);
    written(out.write_all(&script))
}

/// Prints the manual page of the program, or writes it and one for each command into a directory.
///
/// # Errors
/// When nothing can be written.
pub fn man(dir: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    let Some(dir) = dir else { return written(Man::new(built()).render(out)) };
    let complain = |error: io::Error| Failure::new(Exit::from(&error), format!("{}: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(complain)?;
    for (name, command) in pages(built()) {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(complain)?;
        std::fs::write(dir.join(format!("{name}.1")), page).map_err(complain)?;
    }
    written(writeln!(out, "wrote the manual to {}", dir.display()))
}

/// Every command and flag as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (at, (_, command)) in pages(built()).into_iter().enumerate() {
        let name = command.get_bin_name().unwrap_or("swarmgate").to_owned();
        let depth = if name.split(' ').count() > 2 { "###" } else { "##" };
        // The flags of every command are told once, with the program itself.
        let hide = |arg: clap::Arg| if at > 0 && arg.is_global_set() { arg.hide(true) } else { arg };
        let help = command.mut_args(hide).term_width(100).render_long_help().to_string();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        write!(page, "{depth} `{name}`\n\n```text\n{}\n```\n\n", help.trim_end()).expect("a string takes all");
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

/// The whole definition, with the names of all that is in it.
fn built() -> Command {
    let mut command = Cli::command().term_width(100);
    command.build();
    command
}

/// The program and its commands, each by the name of its manual page.
fn pages(command: Command) -> Vec<(String, Command)> {
    let name = command.get_display_name().unwrap_or("swarmgate").to_owned();
    let below = command.get_subcommands().filter(|it| it.get_name() != "help" && !it.is_hide_set());
    let below: Vec<_> = below.cloned().flat_map(pages).collect();
    std::iter::once((name, command)).chain(below).collect()
}

/// A reader that went away is no error.
fn written(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::from(&error), error.to_string()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn completions_for_each_shell_know_the_commands() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            completions(*shell, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for word in ["diagnose", "publish", "data-dir", "reference"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn each_command_has_a_page_in_the_manual_and_the_program_tells_its_exit_codes() {
        let dir = tempfile::tempdir().unwrap();
        man(Some(&dir.path().join("man1")), &mut Vec::new()).unwrap();
        let page = |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
        for name in ["swarmgate.1", "swarmgate-serve.1", "swarmgate-config-show.1", "swarmgate-import-car.1"] {
            assert!(page(name).contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(page("swarmgate.1").contains("no room for another byte"));
        assert!(page("swarmgate-diagnose.1").contains("offline"));
        let mut out = Vec::new();
        man(None, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(".TH swarmgate"));
    }
}
