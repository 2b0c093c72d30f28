//! Promises about the sources themselves, kept by looking.

use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The crates of the product, by folder, with the crates of ours that each may depend on. Dependencies point down only.
const CRATES: [(&str, &[&str]); 16] = [
    ("protocols/content", &[]),
    ("config", &[]),
    ("protocols/pace", &[]),
    ("protocols/store", &["content"]),
    ("protocols/bittorrent-proto", &["content"]),
    ("protocols/ipfs-proto", &["content"]),
    ("protocols/swarm", &["content", "store", "bittorrent-proto", "pace"]),
    ("protocols/egress", &[]),
    ("protocols/portmap", &[]),
    ("protocols/bittorrent", &["content", "store", "bittorrent-proto", "swarm", "egress", "pace"]),
    ("protocols/webtorrent-proto", &["content", "bittorrent-proto"]),
    ("protocols/webtorrent", &["content", "bittorrent-proto", "swarm", "egress", "webtorrent-proto"]),
    ("protocols/ipfs", &["content", "store", "egress", "ipfs-proto"]),
    ("hybrid/rules", &["content"]),
    ("hybrid", &["content", "store", "egress", "hybrid-rules", "bittorrent-proto", "ipfs-proto"]),
    (
        "gateway",
        &[
            "config",
            "content",
            "store",
            "pace",
            "bittorrent-proto",
            "ipfs-proto",
            "swarm",
            "egress",
            "portmap",
            "bittorrent",
            "webtorrent",
            "ipfs",
            "hybrid-rules",
            "hybrid",
        ],
    ),
];

/// Whether a crate is rules alone.
fn is_rules(of: &str) -> bool {
    of.ends_with("-proto") || of == "hybrid/rules"
}

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
    for (of, _) in CRATES.iter().filter(|(of, _)| is_rules(of)) {
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

/// Something that the product does in one place, and how a second place would be known. What goes by other names is for
/// the reviewer to see.
#[derive(Clone, Copy)]
struct Concept {
    what: &'static str,
    /// How the paths of its sources begin; `None` while nothing does it.
    home: Option<&'static str>,
    /// What only code that does it contains.
    signs: &'static [&'static str],
    /// What the names of crates that do it contain.
    words: &'static [&'static str],
    /// The folders whose manifests may name such a crate.
    users: &'static [&'static str],
    /// Such crates in `Cargo.lock`, each in one version.
    locked: &'static [&'static str],
}

const CONCEPTS: [Concept; 6] = [
    Concept {
        what: "bencode",
        home: Some("protocols/bittorrent-proto/src/bencode"),
        signs: &["b'd'"],
        words: &["benc", "bendy"],
        users: &[],
        locked: &[],
    },
    Concept {
        what: "multihashes and CIDs",
        home: Some("protocols/content/src/"),
        signs: &["multihash::", "Multihash<", "cid::"],
        words: &["multihash", "cid"],
        users: &[".", "protocols/content"],
        locked: &["cid", "multihash"],
    },
    Concept {
        what: "a range of bytes",
        home: Some("protocols/content/src/range.rs"),
        signs: &["struct ByteRange"],
        words: &[],
        users: &[],
        locked: &[],
    },
    Concept {
        what: "the Range header",
        home: Some("gateway/src/range.rs"),
        signs: &["case(\"bytes\")", "prefix(\"bytes", "\"bytes=\"", "== \"bytes\""],
        words: &["http-range", "range-header", "range-request", "headers"],
        users: &[],
        locked: &[],
    },
    Concept {
        what: "a circuit breaker",
        home: Some("hybrid/rules/src/breaker"),
        signs: &["Breaker {", "Breaker<", "Breaker("],
        words: &["breaker", "failsafe", "recloser"],
        users: &[],
        locked: &[],
    },
    Concept {
        what: "protobuf",
        home: Some("protocols/ipfs-proto/src/protobuf.rs"),
        signs: &["& 0x7f"],
        words: &["protobuf", "prost"],
        // A test that stands for OpenTelemetry's collector.
        users: &[".", "gateway"],
        // What libp2p reads its keys and messages with.
        locked: &["prost", "prost-codec", "prost-derive"],
    },
];

impl Concept {
    /// Whether code, tests apart, does it.
    fn is_done_in(&self, text: &str) -> bool {
        let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
        lines.any(|line| self.signs.iter().any(|sign| line.contains(sign)))
    }

    /// The crates for it among these.
    fn crates<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        names.into_iter().filter(|name| self.words.iter().any(|word| name.contains(word))).collect()
    }
}

/// Every word of a manifest's dependencies of all kinds: names, and with them features and what renamed crates are called.
fn words_of_dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut words = Vec::new();
    for line in manifest.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        }
        if inside {
            words.extend(line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_'));
        }
    }
    words
}

/// The folders that have a manifest: the workspace, its members, and the fuzz targets beside it.
fn manifests() -> Vec<(String, String)> {
    let read = |of: &str| std::fs::read_to_string(root().join(of).join("Cargo.toml")).unwrap();
    let workspace = read(".");
    let members = workspace.lines().skip_while(|line| *line != "members = [").skip(1).take_while(|line| *line != "]");
    let members = members.map(|line| line.trim_matches([' ', '"', ',']));
    let folders: Vec<&str> = [".", "tests/fuzz"].into_iter().chain(members).collect();
    assert!(folders.len() > CRATES.len(), "the members were not found");
    folders.into_iter().map(|of| (of.to_owned(), read(of))).collect()
}

fn is_test_file(path: &Path) -> bool {
    path.components().any(|part| ["tests.rs", "testing.rs", "stories"].iter().any(|it| part.as_os_str() == *it))
}

#[test]
fn each_concept_is_implemented_once() {
    for concept in CONCEPTS {
        let files = CRATES.iter().flat_map(|(of, _)| sources(of)).filter(|(path, _)| !is_test_file(path));
        let doing = files.filter(|(_, text)| concept.is_done_in(text)).map(|(path, _)| path);
        let places: Vec<_> =
            doing.map(|path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned()).collect();
        for place in &places {
            assert!(concept.home.is_some_and(|home| place.starts_with(home)), "{} in {place}", concept.what);
        }
        assert_eq!(concept.home.is_some(), !places.is_empty(), "{} has moved", concept.what);
    }
}

#[test]
fn no_crate_brings_a_concept_a_second_time() {
    for concept in CONCEPTS {
        for (of, manifest) in manifests() {
            let named = concept.crates(words_of_dependencies(&manifest));
            assert!(named.is_empty() || concept.users.contains(&of.as_str()), "{}: {of} uses {named:?}", concept.what);
        }
        let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
        let packages = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        assert_eq!(concept.crates(packages), concept.locked, "{}", concept.what);
    }
}

#[test]
fn a_second_implementation_would_be_seen() {
    for (concept, code) in CONCEPTS.iter().zip([
        "match byte {\n    b'd' => self.dict(),",
        "use multihash::Multihash;",
        "pub(crate) struct ByteRange {",
        "let specs = header.strip_prefix(\"bytes=\")?;",
        "struct Breaker { failures: u32 }",
        "let bits = byte & 0x7f;",
    ]) {
        assert!(concept.is_done_in(code), "{}", concept.what);
        assert!(!concept.is_done_in(&format!("// {code}\n").replace("\n ", "\n// ")), "{}: a comment", concept.what);
        assert!(!concept.is_done_in(&format!("fn f() {{}}\n\n#[cfg(test)]\nmod tests {{\n{code}")));
    }
    for (manifest, seen) in [
        ("[dev-dependencies]\nserde_bencode = \"0.2\"\n", true),
        ("[target.'cfg(unix)'.dependencies]\nours = { package = \"bendy\", version = \"0.3\" }\n", true),
        ("[dependencies.bt_bencode]\nversion = \"0.8\"\n", true),
        ("[package]\ndescription = \"bencode\"\n\n[dependencies]\nbytes = \"1\" # bencode\n", false),
    ] {
        assert_eq!(!CONCEPTS[0].crates(words_of_dependencies(manifest)).is_empty(), seen, "{manifest}");
    }
}
