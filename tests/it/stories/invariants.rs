//! Promises about the sources themselves, kept by looking.

use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The crates of the product, by folder, with the crates of ours that each may depend on. Dependencies point down only.
const CRATES: [(&str, &[&str]); 8] = [
    ("protocols/content", &[]),
    ("config", &[]),
    ("protocols/store", &["content"]),
    ("protocols/bittorrent-proto", &["content"]),
    ("protocols/swarm", &["content", "store", "bittorrent-proto"]),
    ("protocols/egress", &[]),
    ("protocols/bittorrent", &["content", "store", "bittorrent-proto", "swarm", "egress"]),
    ("gateway", &["config", "content", "store", "bittorrent-proto", "swarm", "egress", "bittorrent"]),
];

/// Every source file below a crate's `src`, with its text.
fn sources(of: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(of).join("src")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    assert!(!files.is_empty(), "{of} has no sources");
    files
}

/// The lines of a manifest's `[dependencies]`.
fn dependencies(of: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(of).join("Cargo.toml")).unwrap();
    let lines = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with('[')).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{of} depends on nothing");
    lines
}

/// The name that a manifest's line begins with.
fn name(line: &str) -> &str {
    line.split(['.', ' ', '=']).next().unwrap_or_default()
}

/// Whether a line makes something that outlives every application in the process.
fn is_global(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default().trim_start();
    let item = code
        .strip_prefix("pub ")
        .or_else(|| code.split_once(") ").filter(|(it, _)| it.starts_with("pub(")).map(|it| it.1));
    item.unwrap_or(code).starts_with("static ")
        || ["OnceLock", "LazyLock", "OnceCell", "lazy_static!", "thread_local!"].iter().any(|it| code.contains(it))
}

#[test]
fn nothing_is_global_to_the_process() {
    for (of, _) in CRATES {
        for (path, text) in sources(of) {
            for (number, line) in (1..).zip(text.lines()) {
                assert!(!is_global(line), "{}:{number}: {}", path.display(), line.trim());
            }
        }
    }
}

#[test]
fn a_global_would_be_seen() {
    for line in
        ["static A: u8 = 0;", "    pub static B: u8 = 0;", "pub(crate) static C: X = X;", "use std::sync::OnceLock;"]
    {
        assert!(is_global(line), "{line}");
    }
    for line in
        ["fn f(x: &'static str) {}", "// static x", "pub(crate) fn statics() {}", "const X: &'static str = \"\";"]
    {
        assert!(!is_global(line), "{line}");
    }
}

#[test]
fn rules_have_no_runtime_and_the_vocabulary_only_its_channels() {
    for (of, _) in CRATES.iter().filter(|(of, _)| of.ends_with("-proto")) {
        for line in dependencies(of) {
            assert!(
                !["tokio", "tokio-util", "mio", "socket2", "futures", "async-trait"].contains(&name(&line)),
                "{of}: {line}"
            );
        }
    }
    let tokio: Vec<_> =
        dependencies("protocols/content").into_iter().filter(|line| line.starts_with("tokio")).collect();
    assert_eq!(tokio, ["tokio = { workspace = true, features = [\"sync\"] }"]);
}

#[test]
fn dependencies_point_down_only() {
    for (of, below) in CRATES {
        for line in dependencies(of) {
            let Some(ours) = name(&line).strip_prefix("swarmgate-") else { continue };
            assert!(below.contains(&ours), "{of} depends on {ours}");
        }
    }
}

#[test]
fn only_the_verifier_vouches_for_bytes() {
    for (of, _) in CRATES {
        for (path, text) in sources(of) {
            let vouches = text.contains("vouched_for_by_store");
            let may = path.ends_with("store/src/verify.rs") || path.ends_with("content/src/verified.rs");
            assert!(!vouches || may, "{} vouches for bytes", path.display());
        }
    }
}
