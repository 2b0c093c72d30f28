//! Prometheus takes the rules of `deploy/` and the metrics of a gateway, and its rules fire when they should.

#![expect(clippy::unwrap_used, reason = "in a story, what fails to be there is the failure, helpers included")]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use swarmgate_tests::gateway::Gateway;
use swarmgate_tests::http;
use swarmgate_tests::programs::Program;

use super::scratch;
use crate::stories::documents::root;

/// What a network that is down, requests that fail and corrupt blocks look like to Prometheus, and when it says so. A value
/// a minute; a network that is up, and a gateway one in a hundred of whose requests fails, are none of its business.
const SERIES: &str = r#"
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'swarmgate_network_up{instance="a",network="ipfs"}'
        values: '1x4 0x40'
      - series: 'swarmgate_network_up{instance="a",network="bt"}'
        values: '1x44'
    alert_rule_test:
      - { eval_time: 19m, alertname: SwarmgateNetworkDown }
      - eval_time: 21m
        alertname: SwarmgateNetworkDown
        exp_alerts:
          - exp_labels: { severity: warning, instance: a, network: ipfs }
            exp_annotations:
              summary: "ipfs of a does not work"
              description: "/readyz tells why. Behind a firewall: are the ports of docs/deployment.md open?"
  - interval: 1m
    input_series:
      - series: 'swarmgate_http_requests_total{instance="bad",route="bt",class="2xx"}'
        values: '0+90x60'
      - series: 'swarmgate_http_requests_total{instance="bad",route="bt",class="5xx"}'
        values: '0+10x60'
      - series: 'swarmgate_http_requests_total{instance="good",route="bt",class="2xx"}'
        values: '0+99x60'
      - series: 'swarmgate_http_requests_total{instance="good",route="bt",class="5xx"}'
        values: '0+1x60'
    alert_rule_test:
      - { eval_time: 10m, alertname: SwarmgateErrors }
      - eval_time: 30m
        alertname: SwarmgateErrors
        exp_alerts:
          - exp_labels: { severity: warning, instance: bad }
            exp_annotations:
              summary: "More than 5 % of the requests for content fail at bad"
              description: "502 and 504 mean that nobody had it in time, 503 and 507 that the gateway is full. The answers say which."
"#;

#[test]
fn rules_are_right_and_fire_when_they_should() {
    let Some(promtool) = Program::Promtool.find() else { return };
    let dir = scratch();
    let rules = root().join("deploy/alerts.yaml");
    passes(Command::new(&promtool).args(["check", "rules"]).arg(&rules));
    let tests = dir.path().join("tests.yaml");
    std::fs::write(&tests, format!("rule_files: [{}]\n{SERIES}", rules.display())).unwrap();
    passes(Command::new(&promtool).args(["test", "rules"]).arg(&tests));
    // It is told when a rule does not do what is asked of it.
    let wrong = SERIES.replace("eval_time: 19m", "eval_time: 21m");
    std::fs::write(&tests, format!("rule_files: [{}]\n{wrong}", rules.display())).unwrap();
    assert!(!run(Command::new(&promtool).args(["test", "rules"]).arg(&tests)).0);
}

#[tokio::test]
async fn the_metrics_of_a_gateway_are_as_prometheus_wants_them() {
    let Some(promtool) = Program::Promtool.find() else { return };
    let dir = scratch();
    let Some(gateway) = Gateway::start(dir.path()).await else { return };
    let page = http::get(&gateway.url("/metrics")).await;
    assert!(page.text().lines().filter(|line| line.starts_with("# TYPE swarmgate_")).count() > 40);
    passes(Command::new(&promtool).args(["check", "metrics"]).stdin(file_of(dir.path(), &page.text())));
}

fn file_of(dir: &Path, text: &str) -> Stdio {
    let path = dir.join("metrics.txt");
    std::fs::write(&path, text).unwrap();
    File::open(path).unwrap().into()
}

fn passes(command: &mut Command) {
    let (passed, said) = run(command);
    assert!(passed, "{said}");
}

/// Whether it ended well, and what it said.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}
