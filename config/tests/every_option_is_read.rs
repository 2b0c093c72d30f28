//! An option that nothing reads is a promise to the operator that nobody keeps. This reads the gateway's sources, tests
//! aside, and looks for each key of the schema as a field access (`cache.max_size`), or as one within a method of this
//! crate (`Config::allows_torrent_url`) that the gateway calls. There are no exceptions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Files of the gateway's sources that are tests from their first line.
const TESTS: [&str; 3] = ["stories", "testing.rs", "tests.rs"];

#[test]
fn every_option_is_read_by_the_gateway() {
    let mut gateway = String::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway/src"), &mut gateway);
    let read_here: BTreeSet<String> =
        methods().into_iter().filter(|(name, _)| is_called(&gateway, name)).flat_map(|(_, keys)| keys).collect();
    let unread: Vec<String> =
        keys().into_iter().filter(|key| !is_accessed(&gateway, key) && !read_here.contains(key)).collect();
    assert!(unread.is_empty(), "nothing reads {unread:?}");
}

#[test]
fn an_option_that_nobody_reads_is_found_out() {
    assert!(is_accessed("max: config.cache.max_size.bytes(),", "cache.max_size"));
    for source in ["cache.max_size_of_all", "the_cache.max_size", "// see `cache.max_size`", "\"cache.max_size\""] {
        assert!(!is_accessed(source, "cache.max_size"), "{source}");
    }
}

/// Every `section.option` of the schema.
fn keys() -> Vec<String> {
    let schema = swarmgate_config::schema();
    let properties = |of: &serde_json::Value| of["properties"].as_object().cloned().unwrap_or_default();
    let of_section = |(section, schema): (String, serde_json::Value)| {
        properties(&schema).into_iter().map(move |(name, _)| format!("{section}.{name}"))
    };
    let keys: Vec<String> = properties(&schema).into_iter().flat_map(of_section).collect();
    assert!(keys.len() > 30, "the schema has its options");
    keys
}

/// This crate's own methods, each with the keys its body reads.
fn methods() -> BTreeMap<String, Vec<String>> {
    let sources = concat!(include_str!("../src/options.rs"), include_str!("../src/networks.rs"));
    let mut methods = BTreeMap::<String, Vec<String>>::new();
    let (mut section, mut method) = (String::new(), None);
    for line in sources.lines() {
        if let Some(of) = line.strip_prefix("impl ").and_then(|rest| rest.strip_suffix(" {")) {
            // `impl Config` reads `self.section.option`, `impl Section` reads `self.option`.
            section = if of == "Config" { String::new() } else { format!("{}.", of.to_lowercase()) };
        } else if let Some(name) = line.trim().split_once("pub fn ").or_else(|| line.trim().split_once("pub const fn "))
        {
            method = name.1.split_once('(').map(|(name, _)| name.to_owned());
        } else if line == "    }" {
            method = None;
        } else if let Some(method) = &method {
            let fields = line.split("self.").skip(1).map(|rest| format!("{section}{}", path_of(rest)));
            methods.entry(method.clone()).or_default().extend(fields);
        }
    }
    methods
}

/// `server.torrent_url` of `server.torrent_url) {`.
fn path_of(text: &str) -> &str {
    text.split(|letter: char| !is_of_name(letter) && letter != '.').next().unwrap_or_default()
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_called(source: &str, method: &str) -> bool {
    source.contains(&format!(".{method}("))
}

/// Whether code, rather than a comment or a text, reads `section.option`.
fn is_accessed(source: &str, key: &str) -> bool {
    source.lines().map(|line| line.split("//").next().unwrap_or_default()).any(|line| {
        line.match_indices(key).any(|(at, _)| {
            let (before, after) = (&line[..at], &line[at + key.len()..]);
            before.ends_with("config.") && !after.starts_with(is_of_name)
        })
    })
}

fn read_sources(path: &Path, all: &mut String) {
    if TESTS.iter().any(|test| path.ends_with(test)) {
        return;
    }
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of sources can be listed") {
            read_sources(&entry.expect("its entries can be read").path(), all);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let text = fs::read_to_string(path).expect("a source can be read");
        all.push_str(text.split("#[cfg(test)]\nmod ").next().unwrap_or_default());
        all.push('\n');
    }
}
