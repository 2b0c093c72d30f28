//! The project's own commands: `cargo xtask test` is the whole proof, the others are its parts and the benches.
//!
//! ```text
//! cargo xtask check                 format, lints, unit tests of the libraries: seconds
//! cargo xtask test [--only a,b]     everything, with a table at the end
//! cargo xtask interop [NAME]        stories with foreign clients whose name contains NAME
//! cargo xtask conformance           the IPFS gateway specifications' own tests, where their program can be had
//! cargo xtask fuzz [NAME]           one fuzz target, or all
//! cargo xtask sim SEED              one simulated world again
//! cargo xtask bench NAME            download, transports, stream, rtc, http, tracker, ipfs, ipfs-cached, beside what others
//!                                   do; scale, picker, start
//! cargo xtask provision             the programs that the above need, installed ahead of time
//! ```
#![expect(clippy::print_stdout, reason = "a command line tool reports on standard output")]

mod bench;
mod fuzz;
mod pipeline;
mod provision;
mod report;
mod shell;
mod steps;
mod stories;
mod verdict;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::steps::Step;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "swarmgate's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints and the libraries' unit tests: the quick half of `test`
    Check,
    /// Everything that must hold, step by step
    Test {
        /// Only these steps (and what they need), in their usual order
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Step>,
        /// How long each fuzz target runs
        #[arg(long, default_value_t = fuzz::SMOKE_SECONDS)]
        fuzz_seconds: u32,
    },
    /// Stories with foreign clients on loopback
    Interop {
        /// Part of the stories' names: a client, or what happens in them
        name: Option<String>,
    },
    /// The IPFS gateway specifications' own tests. Not a part of `test`: not every module proxy has their program. Set
    /// SWARMGATE_CONFORMANCE to one that is here already
    Conformance,
    /// Coverage-guided fuzzing of the parsers
    Fuzz {
        /// A file name of tests/fuzz/fuzz_targets; all of them when absent
        name: Option<String>,
        /// How long each target runs
        #[arg(long, default_value_t = fuzz::RUN_SECONDS)]
        seconds: u32,
    },
    /// Plays one simulated world again
    Sim {
        /// The seed that a failing simulation printed
        seed: u64,
    },
    /// Measures the release build, beside other programs where there are some that do the same
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Installs what the steps need, into the cache directory and by apt-get
    Provision,
}

fn main() -> ExitCode {
    let report = match Cli::parse().command {
        Command::Check => pipeline::check(),
        Command::Test { only, fuzz_seconds } => pipeline::test(&only, fuzz_seconds),
        Command::Interop { name } => pipeline::interop(name.as_deref()),
        Command::Conformance => pipeline::conformance(),
        Command::Fuzz { name, seconds } => pipeline::fuzz(name.as_deref(), seconds),
        Command::Sim { seed } => pipeline::sim(seed),
        Command::Bench { bench } => pipeline::bench(&bench),
        Command::Provision => pipeline::provision(),
    };
    print!("{report}");
    if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
