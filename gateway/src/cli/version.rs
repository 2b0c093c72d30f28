//! `swarmgate version`: what this program was built of and for, to put into a report.
//!
//! No build script looks for a repository, so the same sources give the same bytes wherever they are built. Who builds
//! from a commit and wants it told sets `BUILD_COMMIT` for the compiler; it is a fact of that build then, as any other.

use std::env::consts::{ARCH, OS};
use std::io::Write;

use serde_json::{Value, json};

use super::Exit;
use super::args::Output;
use super::source::Failure;

/// What all builds have, and what this system adds.
const FEATURES: &[&str] = if cfg!(unix) {
    &["bittorrent", "webtorrent", "ipfs", "hybrid", "tls", "http2", "unix-sockets"]
} else {
    &["bittorrent", "webtorrent", "ipfs", "hybrid", "tls", "http2"]
};
/// The C library that a build is linked with, where the target's name has one.
const LIBRARY: &str = if cfg!(target_env = "musl") {
    "-musl"
} else if cfg!(target_env = "gnu") {
    "-gnu"
} else if cfg!(target_env = "msvc") {
    "-msvc"
} else {
    ""
};
/// Digits of a commit that are shown, at most: those of a SHA-256.
const MAX_COMMIT_DIGITS: usize = 64;

/// Prints it.
///
/// # Errors
/// When it cannot be written.
pub fn run(output: Output, out: &mut dyn Write) -> Result<(), Failure> {
    let facts = facts(option_env!("BUILD_COMMIT"));
    let text = match output {
        Output::Json => format!("{facts:#}"),
        Output::Human => page(&facts),
    };
    writeln!(out, "{text}").map_err(|error| Failure::new(Exit::from(&error), error.to_string()))
}

fn facts(commit: Option<&str>) -> Value {
    let is_commit =
        |text: &&str| (7..=MAX_COMMIT_DIGITS).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
    json!({
        "name": "swarmgate",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit.filter(is_commit),
        "target": format!("{ARCH}-{OS}{LIBRARY}"),
        "optimised": !cfg!(debug_assertions),
        "api": "v1",
        "features": FEATURES,
    })
}

fn page(facts: &Value) -> String {
    let text = |key: &str| facts[key].as_str().unwrap_or("not known");
    let optimised = if facts["optimised"] == true { "" } else { ", with debug assertions" };
    format!(
        "swarmgate {}\ncommit     {}\ntarget     {}{optimised}\nAPI        {}\nfeatures   {}",
        text("version"),
        text("commit"),
        text("target"),
        text("api"),
        FEATURES.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_tells_its_version_its_target_and_its_commit_where_it_was_told_one() {
        let mut out = Vec::new();
        run(Output::Json, &mut out).unwrap();
        let told: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
        assert!(told["target"].as_str().unwrap().starts_with(&format!("{ARCH}-{OS}")), "{told}");
        assert_eq!(facts(Some("0123456789abcdef"))["commit"], "0123456789abcdef");
        for none in [None, Some(""), Some("dirty"), Some("$(git rev-parse)")] {
            assert_eq!(facts(none)["commit"], Value::Null, "{none:?}");
        }
        let page = page(&facts(None));
        assert!(
            page.starts_with(&format!("swarmgate {}\ncommit     not known\n", env!("CARGO_PKG_VERSION"))),
            "{page}"
        );
    }
}
