//! The pages of `docs/` say what the program says. Four are generated and compared here; of the others, what they name
//! is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use swarmgate_gateway::cli::manual;
use swarmgate_gateway::{error, telemetry};
use swarmgate_tests::node::{Content, Node, fill};

/// Set to write the generated pages instead of comparing them.
const WRITE: &str = "SWARMGATE_WRITE_DOCS";

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn pages() -> Vec<(String, String)> {
    let listed = fs::read_dir(root().join("docs")).unwrap();
    let names = listed.map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()));
    names.filter(|name| name.ends_with(".md")).map(|name| (name.clone(), read(&name))).collect()
}

/// Texts between backticks that are one word.
fn words(page: &str) -> impl Iterator<Item = &str> {
    page.split('`').skip(1).step_by(2).filter(|word| !word.contains([' ', '\n']))
}

#[test]
fn the_generated_pages_are_what_the_program_says_now() {
    for (name, page) in [
        ("configuration", swarmgate_config::reference()),
        ("command-line", manual::reference()),
        ("metrics", telemetry::reference()),
        ("problems", error::reference()),
    ] {
        let path = format!("docs/{name}.md");
        if std::env::var_os(WRITE).is_some() {
            fs::write(root().join(&path), &page).unwrap();
        }
        assert!(read(&path) == page, "{path} is out of date; this test writes it where {WRITE}=1 is set");
    }
}

#[test]
fn every_option_that_a_page_or_a_file_of_deploy_names_is_one() {
    let schema = swarmgate_config::schema();
    let sections = schema["properties"].as_object().unwrap();
    // `section.begin_…` stands for all options that begin so.
    let is_option = |word: &str| {
        word.split_once('.').is_some_and(|(section, name)| {
            let options = sections[section]["properties"].as_object().unwrap();
            match name.strip_suffix('…') {
                Some(begin) => options.keys().any(|name| name.starts_with(begin)),
                None => options.contains_key(name),
            }
        })
    };
    let of_section = |word: &&str| {
        word.split_once('.').is_some_and(|(section, name)| {
            sections.contains_key(section)
                && name.chars().all(|letter| letter.is_ascii_lowercase() || "_…".contains(letter))
        })
    };
    let mut seen = 0;
    let deployed = ["alerts.yaml", "grafana.json", "nginx.conf", "Caddyfile", "Dockerfile", "swarmgate.service"];
    let deployed = deployed.map(|name| (format!("deploy/{name}"), read(&format!("deploy/{name}"))));
    for (name, page) in pages().into_iter().chain(deployed).chain([("README.md".to_owned(), read("README.md"))]) {
        let all = page.split(|letter: char| !(letter.is_ascii_alphanumeric() || "._…".contains(letter)));
        for word in all.map(|word| word.trim_end_matches(['.', '_'])).filter(of_section) {
            // A file, or the site of a project.
            let is_no_option = ["rs", "toml", "conf", "service", "md", "json", "yaml", "html", "example", "png", "io"]
                .iter()
                .any(|end| word.ends_with(&format!(".{end}")));
            assert!(is_option(word) || is_no_option, "{name}: {word} is no option");
            seen += 1;
        }
    }
    assert!(seen > 200, "{seen}");
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    for (name, page) in pages() {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            let is_there = file.is_empty() || root().join("docs").join(file).exists();
            assert!(is_there && !link.starts_with("http"), "{name}: {link}");
        }
    }
    assert!(read("README.md").contains("](docs/configuration.md)"));
}

#[test]
fn every_error_that_is_explained_is_one_with_its_status() {
    let slugs: BTreeSet<_> =
        error::ProblemKind::ALL.iter().map(|kind| format!("{} {}", kind.status().as_u16(), kind.slug())).collect();
    let page = read("docs/troubleshooting.md");
    let named = page.split('`').skip(1).step_by(2).filter(|words| words.len() > 4 && words[..3].parse::<u16>().is_ok());
    let named: Vec<_> = named.collect();
    assert!(named.len() >= 8, "{named:?}");
    for words in named {
        assert!(slugs.contains(words), "{words}");
    }
}

/// The names in the first column of the table of answers, in small letters.
fn documented_headers() -> BTreeSet<String> {
    let page = read("docs/headers.md");
    let answers = page.split("## How long").next().unwrap();
    let rows = answers.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| words(row.split(" | ").next().unwrap()).map(str::to_lowercase).collect::<Vec<_>>());
    names.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_headers_has_each_header_that_is_sent_and_no_other() {
    let documented = documented_headers();
    let (mut seen, content) = (BTreeSet::new(), Content::single("film.mkv", 91, 100_000, 16 * 1024));
    let node = Node::with(|config| config.auth.token = swarmgate_config::Secret::new("0123456789abcdef")).await;
    fill(node.app.store(), &content).await;
    let mut client = node.connect().await;
    let token = ("authorization", "Bearer 0123456789abcdef");
    let kind = ("content-type", "application/x-bittorrent");
    let added = client.ask("POST", "/api/v1/items", &[token, kind], &content.torrent()).await;
    assert_eq!(added.status, 201, "{}", added.text());
    seen.extend(added.head.names());
    let (film, listing) = (content.path(0), format!("/bt/{}/", content.infohash()));
    // An identity CID: its bytes are in its name.
    let inline = "/ipfs/bafkqabtimvwgy3yk";
    let (range, ranges) = (("range", "bytes=5-9"), ("range", "bytes=0-1,50000-50001"));
    for (method, path, header) in [
        ("GET", film.as_str(), range),
        ("GET", &film, ranges),
        ("HEAD", &film, range),
        ("OPTIONS", &film, range),
        ("GET", &film, ("range", "bytes=100000-")),
        ("GET", &listing, ("accept", "text/html")),
        ("GET", &listing, ("accept", "application/json")),
        ("GET", &format!("{listing}?format=m3u8"), token),
        // By address: `localhost` has a subdomain for each root.
        ("GET", inline, ("host", "127.0.0.1")),
        ("GET", "/ipfs/bafkqabtimvwgy3yk?format=raw", ("host", "127.0.0.1")),
        ("POST", &film, token),
        ("GET", "/api/v1/status", range),
        ("GET", "/metrics", token),
        ("GET", "/readyz", token),
        ("GET", &format!("/bt/{}/film?wait=0", "ab".repeat(20)), range),
        ("GET", "/nothing/here", ("accept", "text/html")),
        ("GET", "/readyz", ("connection", "close")),
    ] {
        let answer = client.ask(method, path, &[header], b"").await;
        eprintln!("{method} {path}: {}", answer.status);
        for name in answer.head.names() {
            assert!(documented.contains(&name), "{method} {path}: {name} is not in docs/headers.md");
            seen.insert(name);
        }
    }
    node.stop().await;
    // A body of unknown length needs a longer road than this story takes.
    let unseen: Vec<_> =
        documented.iter().filter(|name| !seen.contains(*name) && *name != "transfer-encoding").collect();
    assert!(unseen.is_empty(), "{unseen:?} are in docs/headers.md and were not sent");
}
