//! What is in `deploy/` is held against the program: ports, options, flags, paths and metrics that it names are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use clap::Parser as _;
use serde::Deserialize as _;
use serde_json::Value;
use swarmgate_config::{Config, ConfigErrors, IpfsMode, Loaded, Sources};
use swarmgate_gateway::cli::{Cli, args};
use swarmgate_tests::node::Node;
use swarmgate_tests::programs::skip;

use super::documents::{read, root};

/// The ports of a gateway with no configuration, as Docker writes them.
fn default_ports() -> BTreeSet<String> {
    let config = Config::default();
    let mut ports: BTreeSet<_> = config.server.addresses().map(|address| format!("{}/tcp", address.port())).collect();
    let peers = config.bittorrent.listen_port;
    ports.extend([
        format!("{peers}/tcp"),
        format!("{peers}/udp"),
        format!("{}/udp", config.bittorrent.effective_dht_port()),
    ]);
    assert_ne!(config.ipfs.mode, IpfsMode::TrustlessHttp);
    ports.extend([format!("{}/tcp", config.ipfs.listen_port), format!("{}/udp", config.ipfs.listen_port)]);
    ports
}

/// What a command line means; it has to be one.
fn parsed<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> args::Command {
    let words: Vec<_> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
    Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}")).command_or_serve()
}

/// The configuration of a file and an environment.
fn load(file: Option<PathBuf>, env: &BTreeMap<String, String>) -> Result<Loaded, ConfigErrors> {
    let env = env.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    Config::load(&Sources { explicit: file, env, platform_cache_dir: Some("/cache".into()), ..Sources::default() })
}

/// Documents of YAML, as JSON.
fn yaml(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// A Dockerfile's instructions, with continued lines joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(word, rest)| (word.to_owned(), rest.trim().to_owned()))
        .collect()
}

fn words_of_json(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_image_exposes_the_default_ports_and_runs_the_program_as_nobody_in_particular() {
    let all = instructions(&read("deploy/Dockerfile"));
    let of =
        |word: &str| all.iter().filter(|(name, _)| name == word).map(|(_, rest)| rest.as_str()).collect::<Vec<_>>();
    let exposed: BTreeSet<_> = of("EXPOSE").concat().split_whitespace().map(str::to_owned).collect();
    assert_eq!(exposed, default_ports());

    let entry = words_of_json(of("ENTRYPOINT")[0]);
    assert!(matches!(parsed([entry.clone(), words_of_json(of("CMD")[0])].concat()), args::Command::Serve(_)));
    let (_, health) = of("HEALTHCHECK")[0].split_once("CMD ").unwrap();
    assert!(matches!(parsed(words_of_json(health)), args::Command::Health(_)));
    let user: Vec<u32> = of("USER")[0].split(':').map(|id| id.parse().unwrap()).collect();
    assert!(user.iter().all(|id| *id >= 10_000), "{user:?}");
    for base in of("FROM") {
        let name = base.split_whitespace().next().unwrap();
        assert!(!name.contains('/'), "{name}: a base image is named without a host");
    }

    let variables = of("ENV").join(" ");
    let mut env: BTreeMap<_, _> = variables
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    let refused = load(None, &env).unwrap_err().to_string();
    assert!(refused.contains("auth.token"), "a container that all can reach needs a token: {refused}");
    env.insert("SWARMGATE_AUTH__TOKEN".to_owned(), "0123456789abcdef".to_owned());
    let config = load(None, &env).unwrap().config;
    assert_eq!(Some(config.cache.dir.as_path()), of("VOLUME").first().map(|volume| volume.as_ref()));
    let port = |config: &Config| config.server.addresses().next().map(|address| address.port());
    assert_eq!(port(&config), port(&Config::default()));
}

#[test]
fn the_unit_starts_and_reloads_the_program_and_lets_it_do_little_else() {
    let unit = read("deploy/swarmgate.service");
    let of = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default();
    let words = |name| of(name).replace("%S", "/var/lib").split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches!(parsed(words("ExecStart")), args::Command::Serve(_)));
    assert!(matches!(parsed(words("ExecStartPre")), args::Command::Config(args::ConfigCommand::Check)));
    assert!(of("ExecReload").ends_with("-HUP $MAINPID"));
    let state = format!("%S/{}", of("StateDirectory"));
    assert!(of("ExecStart").contains(&format!("--data-dir {state} ")), "it may write to {state} alone");
    let token = unit.lines().find_map(|line| line.strip_prefix("#Environment=")).unwrap().split('=').next().unwrap();
    assert_eq!(token, "SWARMGATE_AUTH__TOKEN_FILE");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("swarmgate.service");
    // The program is not installed here.
    std::fs::write(&file, unit.replace("/usr/bin/swarmgate", "/bin/true")).unwrap();
    let analyze = |args: &[&str]| Command::new("systemd-analyze").args(args).arg(&file).output();
    let Ok(verified) = analyze(&["verify", "--man=no"]) else { return eprintln!("there is no systemd-analyze here") };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("swarmgate.service:"), "{said}");
    // 0 is a unit that may do nothing, 10 one that may do all; 2 is where systemd says that it is fine.
    let exposed = analyze(&["security", "--offline=true", "--threshold=20"]).unwrap();
    assert!(exposed.status.success(), "{}", String::from_utf8_lossy(&exposed.stdout));
}

#[test]
fn the_sample_of_a_server_is_a_configuration() {
    let loaded = load(Some(root().join("deploy/config.toml")), &BTreeMap::new()).unwrap();
    assert!(loaded.config.server.is_loopback_only());
    assert_eq!(loaded.config.server.listen, Config::default().server.listen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_name_ports_paths_and_options_that_there_are() {
    let documents = yaml(&read("deploy/kubernetes.yaml"));
    let of_kind = |kind: &str| documents.iter().filter(|it| it["kind"] == kind).cloned().collect::<Vec<_>>();
    let set = &of_kind("StatefulSet")[0]["spec"];
    let pod = &set["template"]["spec"];
    let container = &pod["containers"][0];
    let rows = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let port =
        |row: &Value, field: &str| format!("{}/{}", row[field], row["protocol"].as_str().unwrap().to_lowercase());
    let ports: BTreeMap<_, _> = rows(&container["ports"])
        .iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), port(row, "containerPort")))
        .collect();
    assert_eq!(ports.values().cloned().collect::<BTreeSet<_>>(), default_ports());
    for row in of_kind("Service").iter().flat_map(|service| rows(&service["spec"]["ports"])) {
        assert_eq!(ports[row["targetPort"].as_str().unwrap()], port(&row, "port"), "{row}");
    }
    for service in of_kind("Service") {
        assert_eq!(service["spec"]["selector"], set["selector"]["matchLabels"]);
    }
    assert_eq!(set["template"]["metadata"]["labels"], set["selector"]["matchLabels"]);

    let words: Vec<_> = rows(&container["args"]).iter().map(|word| word.as_str().unwrap().to_owned()).collect();
    assert!(matches!(parsed([vec!["swarmgate".to_owned()], words.clone()].concat()), args::Command::Serve(_)));
    let mounts: Vec<_> =
        rows(&container["volumeMounts"]).iter().map(|it| it["mountPath"].as_str().unwrap().to_owned()).collect();
    assert!(mounts.iter().any(|mount| words[1].starts_with(&format!("{mount}/"))), "{words:?} in {mounts:?}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    std::fs::write(&file, of_kind("ConfigMap")[0]["data"]["config.toml"].as_str().unwrap()).unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "0123456789abcdef").unwrap();
    let env = rows(&container["env"])
        .into_iter()
        .map(|row| (row["name"].as_str().unwrap().to_owned(), row["value"].as_str().unwrap().to_owned()));
    let mut env: BTreeMap<_, _> = env.collect();
    let mounted = env.insert("SWARMGATE_AUTH__TOKEN_FILE".to_owned(), token.display().to_string()).unwrap();
    assert!(mounts.iter().any(|mount| mounted.starts_with(&format!("{mount}/"))), "{mounted} in {mounts:?}");
    let config = load(Some(file), &env).unwrap().config;
    assert!(config.reload.watch && mounts.contains(&config.cache.dir.display().to_string()));

    let node = Node::fresh().await;
    let scraped = &set["template"]["metadata"]["annotations"]["prometheus.io/path"];
    for path in
        [&container["livenessProbe"]["httpGet"]["path"], &container["readinessProbe"]["httpGet"]["path"], scraped]
    {
        let answer = node.connect().await.get(path.as_str().unwrap(), &[]).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    node.stop().await;
}

#[test]
fn the_package_has_files_that_are_here_or_are_made_by_its_script() {
    let manifest: toml::Table = read("gateway/Cargo.toml").parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let script = read("deploy/deb.sh");
    let list = |value: &toml::Value| {
        value.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut installed = BTreeSet::new();
    for asset in deb["assets"].as_array().unwrap() {
        let asset = list(asset);
        let [source, target, mode] = &asset[..] else { panic!("{asset:?}") };
        assert!(["755", "644"].contains(&mode.as_str()) && !target.starts_with('/'), "{asset:?}");
        let name = source.rsplit('/').next().unwrap();
        let is_made = if source.contains("target/") { script.contains(name) || name == "*.1.gz" } else { false };
        let folder = root().join("gateway").join(source.trim_end_matches(name));
        let is_here = if name.starts_with('*') { folder.exists() } else { folder.join(name).exists() };
        assert!(is_made || (is_here && !source.contains("target/")), "{source}");
        installed.insert(if target.ends_with('/') { format!("/{target}{name}") } else { format!("/{target}") });
    }
    for file in list(&deb["conf-files"]) {
        assert!(installed.contains(&file), "{file} in {installed:?}");
    }
    let unit = read("deploy/swarmgate.service");
    let program = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")?.split(' ').next()).unwrap();
    assert!(installed.contains(program), "the unit starts {program}");
    for line in script.lines().filter_map(|line| line.strip_prefix("\"$program\" ")) {
        let words = line.split(" > ").next().unwrap().replace('"', "");
        parsed(std::iter::once("swarmgate").chain(words.split_whitespace()));
    }
    for script in ["deploy/build.sh", "deploy/deb.sh", "deploy/image.sh"] {
        assert!(Command::new("sh").arg("-n").arg(root().join(script)).status().unwrap().success(), "{script}");
    }
}

/// A metric with what its samples are labelled by, each label with its values.
type Families = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn families(page: &str) -> Families {
    let mut families = Families::new();
    for sample in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = sample.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let family = families.entry(name.to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter_map(|label| label.split_once("=\"")) {
            family.entry(label.0.to_owned()).or_default().insert(label.1.trim_end_matches('"').to_owned());
        }
    }
    families
}

/// What Prometheus adds to each sample.
const ADDED: [&str; 2] = ["instance", "job"];

/// Holds an expression of PromQL against what there is: each metric, label, and value of a label.
fn check(expression: &str, families: &Families) {
    let metrics = metrics_of(expression);
    assert!(!metrics.is_empty(), "{expression}: no metric of ours");
    for (open, close) in ["()", "[]", "{}"].map(|pair| pair.split_at(1)) {
        assert_eq!(expression.matches(open).count(), expression.matches(close).count(), "{expression}");
    }
    let mut labels: BTreeSet<&str> = ADDED.into();
    for (name, matchers) in &metrics {
        if *name == "up" {
            continue;
        }
        let family = families.get(*name).unwrap_or_else(|| panic!("{expression}: there is no {name}"));
        labels.extend(family.keys().map(String::as_str));
        for matcher in matchers.split(',').filter(|matcher| !matcher.is_empty()) {
            let (label, value) = matcher.split_once(['=', '!']).unwrap_or_else(|| panic!("{expression}: {matcher}"));
            if ADDED.contains(&label) {
                continue;
            }
            let known = family.get(label).unwrap_or_else(|| panic!("{expression}: {name} has no {label}"));
            for value in value.trim_start_matches(['=', '~']).trim_matches('"').split('|') {
                assert!(known.contains(value), "{expression}: {label} is never {value}, but {known:?}");
            }
        }
    }
    for by in expression.split(" by (").skip(1) {
        for label in by.split(')').next().unwrap().split(',').map(str::trim) {
            assert!(labels.contains(label), "{expression}: nothing is labelled by {label}");
        }
    }
}

/// The metrics in an expression, each with its matchers.
fn metrics_of(expression: &str) -> Vec<(&str, &str)> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find(is_name) {
        let len = rest[at..].find(|letter| !is_name(letter)).unwrap_or(rest.len() - at);
        let (name, after) = rest[at..].split_at(len);
        let matchers = after.strip_prefix('{').and_then(|after| after.split('}').next()).unwrap_or_default();
        if name.starts_with("swarmgate_") || (name == "up" && after.starts_with('{')) {
            found.push((name, matchers));
        }
        rest = if matchers.is_empty() { after } else { &after[matchers.len() + 1..] };
    }
    found
}

/// Every `expr` in a dashboard.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(expressions)).collect()
        }
        Value::Array(rows) => rows.iter().flat_map(expressions).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dashboards_and_alerts_ask_for_metrics_and_labels_that_there_are() {
    let node = Node::fresh().await;
    let families = families(&node.connect().await.get("/metrics", &[]).await.text());
    node.stop().await;

    let dashboard: Value = serde_json::from_str(&read("deploy/grafana.json")).unwrap();
    let asked = expressions(&dashboard);
    assert!(asked.len() > 30, "{}", asked.len());
    asked.iter().for_each(|expression| check(expression, &families));
    let ids: BTreeSet<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), dashboard["panels"].as_array().unwrap().len(), "each panel has an id of its own");
    let variable = dashboard["templating"]["list"][1]["definition"].as_str().unwrap();
    assert!(variable.contains("swarmgate_build_info") && families.contains_key("swarmgate_build_info"));

    let alerts = yaml(&read("deploy/alerts.yaml"));
    let rules = alerts[0]["groups"][0]["rules"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for rule in rules {
        check(rule["expr"].as_str().unwrap(), &families);
        let annotations = &rule["annotations"];
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{rule}");
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{rule}");
        assert!(names.insert(rule["alert"].as_str().unwrap()), "{rule}: twice");
    }
    assert!(names.len() >= 10);
}

#[test]
#[should_panic(expected = "there is no swarmgate_itmes")]
fn a_metric_that_there_is_not_is_found_out() {
    check("sum(swarmgate_itmes) > 3", &families("swarmgate_items 3\n"));
}

#[test]
#[should_panic(expected = "class is never 6xx")]
fn a_label_that_never_has_the_value_is_found_out() {
    check("rate(swarmgate_r{class=\"6xx\"}[5m])", &families("swarmgate_r{class=\"5xx\"} 3\n"));
}

#[test]
#[should_panic(expected = "nothing is labelled by network")]
fn a_sum_by_a_label_that_there_is_not_is_found_out() {
    check("sum by (network) (swarmgate_items)", &families("swarmgate_items 3\n"));
}

/// Lays out an image's root by its script, enters it and runs the program: no library, and no file, is from outside.
pub(crate) fn enter_image(binary: &std::path::Path) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let laid = Command::new("sh").arg(root().join("deploy/image.sh")).arg(binary).arg(&image).output().unwrap();
    assert!(laid.status.success(), "{}", String::from_utf8_lossy(&laid.stderr));
    let size = std::fs::metadata(image.join("usr/bin/swarmgate")).unwrap().len();
    eprintln!("the program has {size} bytes without symbols");
    // A release has a sixth less, by LTO.
    assert!(size < 46 << 20, "the program has {size} bytes without symbols");
    let entered = Command::new("chroot")
        .arg(&image)
        .args(["/usr/bin/swarmgate", "config", "show"])
        .env_clear()
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("SWARMGATE_CACHE__DIR", "/data")])
        .output();
    let Some(entered) = entered.ok().filter(|it| it.status.code() != Some(125)) else {
        return skip("only root enters an image");
    };
    let said = String::from_utf8_lossy(&entered.stdout).into_owned();
    assert!(
        entered.status.success() && said.contains("cache.max_size = \"10GiB\""),
        "{said}{}",
        String::from_utf8_lossy(&entered.stderr)
    );
}
